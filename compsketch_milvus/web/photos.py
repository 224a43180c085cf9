"""Photos for the page: thumbnails, made once and kept on disk, and photos of full size.

Whatever a source holds is decoded by `encoders.images` before anything of it is sent. A thumbnail is a JPEG made here.
Of full size, a format that browsers show safely is sent as it is, under the type of what was decoded; any other one
becomes a JPEG.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Query, Request, Response
from PIL import Image

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CompsketchError, ServerError
from compsketch_milvus.sources.access import Access
from compsketch_milvus.web.boxes import known_boxes
from compsketch_milvus.web.models import Details
from compsketch_milvus.web.originals import Stored, last_part, look_up, original, printed
from compsketch_milvus.web.refusals import Refusal
from compsketch_milvus.web.site import CollectionName, Site
from encoders.errors import ImageError
from encoders.images import read_image

__all__ = ["routes"]

QUALITY = 82
FAILED_SECONDS, MOST_FAILED = 60.0, 1000  # a photo that cannot be had is not tried again for so long
MAX_AGE = 300  # seconds for which a browser does not ask again
SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png", b"GIF8": "image/gif"}
T = TypeVar("T")
_log = logging.getLogger(__name__)

Size = Annotated[Literal["256", "512"], Query(description="of the longer side, in pixels")]


def routes(site: Site) -> APIRouter:
    """`/api/thumbnail`, `/api/photo`, `/api/details`."""
    router, pictures = APIRouter(), Pictures(site)

    @router.get("/api/thumbnail/{id:path}", response_class=Response, responses=_told("image/jpeg"))
    async def thumbnail(id: str, request: Request, collection: CollectionName = None, size: Size = "256") -> Response:
        """A small picture of a photo of the collection."""
        stored = await pictures.stored(collection, id)
        key = _key(size, stored)
        if request.headers.get("if-none-match") == f'"{key}"':
            return Response(status_code=304, headers=_cached(key))
        data = await pictures.thumbnail(collection, stored, key, int(size))
        return Response(data, media_type="image/jpeg", headers=_cached(key))

    @router.get("/api/photo/{id:path}", response_class=Response, responses=_told("image/webp", *SIGNATURES.values()))
    async def photo(id: str, request: Request, collection: CollectionName = None) -> Response:
        """A photo of the collection, in full size."""
        stored = await pictures.stored(collection, id)
        key = _key("full", stored)
        if request.headers.get("if-none-match") == f'"{key}"':
            return Response(status_code=304, headers=_cached(key))
        data, kind = await pictures.full(collection, stored, key)
        return Response(data, media_type=kind, headers=_cached(key))

    @router.get("/api/details/{id:path}")
    async def details(id: str, collection: CollectionName = None) -> Details:
        """All that the collection has of a photo."""
        found = await site.ask(site.opened.use, collection, lambda opened: look_up(opened, id))
        fields = {name: printed(value) for name, value in found.fields.items()}
        source = None if site.login.needed else found.source
        sides = {"width": fields.pop("width"), "height": fields.pop("height")}
        boxes = known_boxes({**fields, **sides})
        return Details(id=found.id, name=last_part(found.source), source=source, fields=fields, objects=boxes, **sides)

    return router


def _told(*types: str) -> dict[int | str, dict[str, Any]]:
    """What the document of the API says of a route that answers with a picture."""
    picture = {"schema": {"type": "string", "format": "binary"}}
    return {200: {"content": dict.fromkeys(types, picture)}, 304: {"description": "As it was"}}


class Pictures:
    """Gets pictures, each once however many ask for it at the same time."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()  # keys, and until when

    async def stored(self, collection: str | None, id: str) -> Stored:
        """What the collection has of the photo."""
        site, name = self._site, collection or self._site.opened.where.collection
        known = site.known.get(name, id)
        if known is not None:
            return known
        found: Stored = await site.ask(site.opened.use, collection, lambda opened: look_up(opened, id))
        site.known.remember(name, found)
        return found

    async def thumbnail(self, collection: str | None, stored: Stored, key: str, size: int) -> bytes:
        """A JPEG that fits into a square of `size` pixels."""
        task = self._making.get(key)
        if task is None:
            task = asyncio.ensure_future(self._thumbnail(collection, stored, key, size))
            self._making[key] = task
            task.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(task)

    async def _thumbnail(self, collection: str | None, stored: Stored, key: str, size: int) -> bytes:
        cache = self._site.cache
        kept = await self._site.ask(cache.get, key)
        if kept is not None:
            return kept
        data = await self._made(collection, stored, key, partial(_thumbnail, size=size))
        await self._site.ask(cache.put, key, data)
        return data

    async def full(self, collection: str | None, stored: Stored, key: str) -> tuple[bytes, str]:
        """The photo and its type."""
        return await self._made(collection, stored, key, _full)

    async def _made(
        self, collection: str | None, stored: Stored, key: str, make: Callable[[bytes | Path, Access], T]
    ) -> T:
        if self._failed.get(key, 0.0) > time.monotonic():
            raise _unreadable()

        def work(opened: SketchCollection) -> T:
            return make(original(opened, stored, self._site.access), self._site.access)

        try:
            made: T = await self._site.fetch(self._site.opened.use, collection, work)
            return made
        except ServerError:
            raise
        except (CompsketchError, OSError) as error:
            _log.info("photo %r: %s", stored.id, error)
            self._failed[key] = time.monotonic() + FAILED_SECONDS
            if len(self._failed) > MOST_FAILED:
                self._failed.popitem(last=False)
            raise _unreadable() from error


def _thumbnail(content: bytes | Path, access: Access, size: int) -> bytes:
    image = read_image(content, limits=access.limits, draft=size)
    image.thumbnail((size, size), Image.Resampling.BICUBIC)
    return _jpeg(image)


def _full(content: bytes | Path, access: Access) -> tuple[bytes, str]:
    if isinstance(content, Path):
        content = _read(content, access.limits.max_bytes)
    kind = _type_of(content)
    image = read_image(content, limits=access.limits, draft=1 if kind else None)  # at any scale it is read to its end
    return (content, kind) if kind is not None else (_jpeg(image), "image/jpeg")


def _read(path: Path, most: int) -> bytes:
    """A file's bytes; more than it may have, by one, where it has more."""
    if not path.is_file():  # a pipe, or a device that never ends
        raise ImageError(f"{path}: not a regular file")
    with open(path, "rb") as file:
        return file.read(most + 1)


def _type_of(data: bytes) -> str | None:
    """What browsers show, by the signature that the decoder went by."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), None)


def _jpeg(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _key(what: str, stored: Stored) -> str:
    return hashlib.sha256(f"{what}\0{stored.version}".encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _cached(key: str) -> dict[str, str]:
    return {"Cache-Control": f"private, max-age={MAX_AGE}", "ETag": f'"{key}"'}


def _unreadable() -> Refusal:
    return Refusal(404, "this photo cannot be read now: it was moved, or it is damaged")
