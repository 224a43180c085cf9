"""Searches: by a drawing, by a photo's own layout, and why a photo was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.explain import check_explains
from compsketch_milvus.search import SearchResult, by_sketches, by_vectors
from compsketch_milvus.terms import Terms
from compsketch_milvus.web import models
from compsketch_milvus.web.boxes import known_boxes
from compsketch_milvus.web.models import ExplainAnswer, ExplainRequest, SearchAnswer, SearchRequest, SimilarRequest
from compsketch_milvus.web.originals import Stored, last_part, look_up, printed
from compsketch_milvus.web.refusals import Refusal
from compsketch_milvus.web.site import Site
from compsketch_milvus.web.turns import SUPERSEDED

__all__ = ["routes"]

WEAK = 0.2  # confidence below which the best photo is no good match
T = TypeVar("T")


def routes(site: Site) -> APIRouter:
    """`/api/search`, `/api/similar`, `/api/explain`."""
    router = APIRouter()

    @router.post("/api/search")
    async def search(asked: SearchRequest, request: Request) -> SearchAnswer:
        """The photos that hold a drawing's objects in its layout, best first."""
        start, sketch = time.perf_counter(), asked.sketch.sketch()
        more: dict[str, Any] = {"words": asked.words, "min_confidence": asked.min_confidence}

        def work(collection: SketchCollection) -> SearchResult:
            return collection.carry_out(by_sketches(collection, [sketch], _terms(asked), **more))[0]

        result = await _in_turn(site, request, "search", asked.collection, work)
        message = _message(result, asked)
        return _answer(site, asked, result, message, sketch.boxes.tolist(), time.perf_counter() - start)

    @router.post("/api/similar")
    async def similar(asked: SimilarRequest, request: Request) -> SearchAnswer:
        """The photos whose layout is most like a photo's, which itself is not among them."""
        start = time.perf_counter()

        def work(collection: SketchCollection) -> SearchResult:
            vector = look_up(collection, asked.id, vector=True).fields["vector"]
            terms = replace(_terms(asked), limit=asked.limit + 1)
            found = collection.carry_out(by_vectors(collection, np.array([vector], np.float32), terms))[0]
            others = [hit for hit in found.hits if hit.id != asked.id][: asked.limit]
            return replace(found, hits=others)

        result = await _in_turn(site, request, "similar", asked.collection, work)
        return _answer(site, asked, result, _message(result, asked), [], time.perf_counter() - start)

    @router.post("/api/explain")
    async def explain(asked: ExplainRequest, request: Request) -> ExplainAnswer:
        """What each object of a drawing adds to a photo's score, cell by cell."""
        sketch = asked.sketch.sketch()

        def work(collection: SketchCollection) -> ExplainAnswer:
            encoder = check_explains(collection)
            vector = look_up(collection, asked.id, vector=True).fields["vector"]
            parts = encoder.explain(sketch, np.array([vector], np.float32), words=asked.words)[0]
            told = [
                models.ExplainedObject(label=item.label, total=float(total), cells=cells.tolist())
                for item, total, cells in zip(sketch.objects, parts.totals, parts.objects, strict=True)
            ]
            return ExplainAnswer(
                score=parts.score, bias=parts.bias, canvas=parts.canvas.tolist(), objects=told, loudest=parts.loudest
            )

        return await _in_turn(site, request, "explain", asked.collection, work)

    return router


async def _in_turn(
    site: Site, request: Request, kind: str, name: str | None, work: Callable[[SketchCollection], T]
) -> T:
    """Work with a collection, when it is this client's turn. A page's newer request of a kind supersedes its older."""
    page = f"{kind} {request.headers.get('x-compsketch-page', '')[:64]}"
    async with site.turns.turn(request.state.client, page):
        if await request.is_disconnected():
            raise Refusal(409, SUPERSEDED)
        return await site.search(site.opened.use, name, work)


def _terms(asked: SearchRequest | SimilarRequest) -> Terms:
    return Terms(
        asked.limit,
        asked.filter,
        threshold=asked.threshold,
        rerank=asked.rerank,
        hide_duplicates=asked.hide_duplicates,
    )


def _answer(
    site: Site,
    asked: SearchRequest | SimilarRequest,
    result: SearchResult,
    message: str | None,
    boxes: list[list[float]],
    total: float,
) -> SearchAnswer:
    name = asked.collection or site.opened.where.collection
    hits = []
    for hit in result.hits:
        site.known.remember(name, Stored(hit.id, hit.source, hit.fields))
        fields = {key: printed(value) for key, value in hit.fields.items()}
        objects = known_boxes(fields)
        width, height = fields.pop("width"), fields.pop("height")
        one: dict[str, Any] = {
            "id": hit.id,
            "score": hit.score,
            "confidence": hit.confidence,
            "duplicates": list(hit.duplicates),
        }
        hits.append(
            models.Hit(**one, name=last_part(hit.source), width=width, height=height, fields=fields, objects=objects)
        )
    seconds = models.Seconds(**result.seconds, total=total)
    return SearchAnswer(hits=hits, best=result.best, short=result.short, message=message, boxes=boxes, seconds=seconds)


def _message(result: SearchResult, asked: SearchRequest | SimilarRequest) -> str | None:
    """What a person should know about an answer, or None."""
    if result.best is not None and (not result.hits or result.best < WEAK):
        return f"No good match: the best photo is {result.best:.0%} likely to hold this layout."
    if result.hits:
        return None
    if asked.threshold is not None:
        return f"No good match: no photo has a score of {asked.threshold:g} or more."
    if asked.filter:
        return "No photo passes the filter."
    return "No photos yet: the collection is empty."
