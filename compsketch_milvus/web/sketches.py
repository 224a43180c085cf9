"""Sketches for the page: files turned into stroke JSON, three to begin with, and the words that the encoder knows."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any

from fastapi import APIRouter, File, Request, UploadFile

from compsketch_milvus.web.models import Example
from compsketch_milvus.web.site import Site
from encoders.sketch import Sketch

__all__ = ["routes", "vocabulary"]

EXAMPLES = {
    "A cat left of a cup": "cat-left-cup-right",
    "A dog beside a bicycle": "dog-beside-bicycle",
    "An airplane in the sky": "airplane-in-the-sky",
}


def vocabulary(encoder: Any) -> list[str]:
    """The class names that an encoder knows; none where it does not say."""
    return [str(word) for word in getattr(encoder, "vocabulary", None) or ()]


def routes(site: Site) -> APIRouter:
    """`/api/convert`, `/api/examples`, `/api/words`."""
    router = APIRouter()

    @router.post("/api/convert")
    async def convert(file: Annotated[UploadFile, File()], request: Request) -> dict[str, Any]:
        """An SVG, a PNG or stroke JSON as stroke JSON."""
        data = await file.read()
        async with site.turns.turn(request.state.client):
            return await site.search(lambda: Sketch.from_bytes(data, name="the file").to_dict())

    @router.get("/api/examples")
    async def examples() -> list[Example]:
        """Three sketches to begin with."""
        return _examples()

    @router.get("/api/words")
    async def words() -> list[str]:
        """The labels that the encoder knows."""
        return vocabulary(site.encoder)

    return router


@lru_cache(maxsize=1)
def _examples() -> list[Example]:
    folder = resources.files("compsketch_milvus.demo") / "sketches"
    texts = {title: (folder / f"{name}.json").read_text("utf-8") for title, name in EXAMPLES.items()}
    return [Example(title=title, sketch=json.loads(text)) for title, text in texts.items()]
