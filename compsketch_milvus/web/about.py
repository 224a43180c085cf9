"""What the page has to know before it searches: who asks, what there is, which fields filters can name; and logins."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.encoder import Calibrated, Explaining
from compsketch_milvus.errors import ServerError
from compsketch_milvus.web import models
from compsketch_milvus.web.models import FieldInfo, Health, LoginRequest, Session
from compsketch_milvus.web.refusals import Refusal
from compsketch_milvus.web.site import CollectionName, Site
from encoders.query import MAX_OBJECTS
from encoders.sketch import MAX_LABEL, MAX_POINTS

__all__ = ["routes"]

LIMITS = models.Limits(objects=MAX_OBJECTS, points=MAX_POINTS, label=MAX_LABEL, limit=models.MAX_HITS)
SAMPLE, EXAMPLES, EXAMPLE_LENGTH = 200, 8, 80  # rows that are looked at; values told of a field; letters of one
HEALTH_SECONDS = 2.0  # for which an answer about health is good


def routes(site: Site) -> APIRouter:
    """`/api/session`, `/api/login`, `/api/logout`, `/api/fields`, `/healthz`."""
    router = APIRouter()
    checked: dict[str, Any] = {"at": -HEALTH_SECONDS, "ok": False}

    @router.get("/api/session")
    async def session(request: Request, response: Response, collection: CollectionName = None) -> Session:
        """Who asks, and what can be searched."""
        login = site.login.needed
        if not request.state.user:
            return Session(login=login, user=False, limits=LIMITS)
        if not request.state.known:  # so that people behind one address are not taken for one
            site.login.begin(response, user=True)
        names, facts = await site.ask(lambda: (site.opened.names(), site.opened.use(collection, _facts)))
        return Session(
            login=login, user=True, collections=names, limits=LIMITS, encoder=_encoder_info(site.encoder), **facts
        )

    @router.post("/api/login")
    async def login(asked: LoginRequest, response: Response) -> dict[str, bool]:
        """Begin a visit with the token."""
        site.login.enter(asked.token, response)
        return {"user": True}

    @router.post("/api/logout")
    async def logout(request: Request, response: Response) -> dict[str, bool]:
        """End the visit."""
        site.login.leave(request.headers.get("cookie", ""), response)
        return {"user": not site.login.needed}

    @router.get("/api/fields")
    async def fields(collection: CollectionName = None) -> list[FieldInfo]:
        """The fields that filters can name, as the photos that are looked at have them."""
        return await site.ask(site.opened.use, collection, _fields)

    @router.get("/healthz")
    async def healthz() -> Health:
        """Whether searches can be answered."""
        if time.monotonic() - checked["at"] >= HEALTH_SECONDS:
            checked["at"] = time.monotonic()
            try:
                await site.ask(site.opened.use, None, _reached)
                checked["ok"] = True
            except (ServerError, Refusal):
                checked["ok"] = False
        if not checked["ok"]:
            raise Refusal(503, "away: Milvus or the collection cannot be reached", retry_after=HEALTH_SECONDS)
        return Health(status="ok")

    return router


def _facts(collection: SketchCollection) -> dict[str, Any]:
    index = models.IndexInfo(type=collection.index.type, reason=collection.index.reason)
    return {"collection": collection.name, "count": collection.count(), "index": index}


def _reached(collection: SketchCollection) -> None:
    collection.call("look up a photo", "query", filter='id == "-"', output_fields=["id"])


def _encoder_info(encoder: Any) -> models.EncoderInfo:
    calibrated = isinstance(encoder, Calibrated) and getattr(encoder, "calibration", True) is not None
    return models.EncoderInfo(
        name=encoder.name,
        fingerprint=encoder.fingerprint,
        dim=encoder.dim,
        words=getattr(encoder, "vocabulary", None) != [],
        explains=isinstance(encoder, Explaining) and getattr(encoder, "explains", True),
        calibrated=calibrated,
    )


def _fields(collection: SketchCollection) -> list[FieldInfo]:
    columns = [name for name in collection.columns if name != "source"]
    rows = collection.call("look at photos", "query", filter="", output_fields=columns, limit=SAMPLE)
    values: dict[str, dict[Any, None]] = {}  # those of each field, in their order, each once
    for row in rows:
        for name, value in row.items():
            if isinstance(value, (bool, int, float, str)) and name not in ("id", "key", "digest", "etag"):
                values.setdefault(name, {})[value] = None
    return [told for name, seen in sorted(values.items()) if (told := _told(name, list(seen))) is not None]


def _told(name: str, seen: list[Any]) -> FieldInfo | None:
    if all(isinstance(value, bool) for value in seen):
        return FieldInfo(name=name, type="boolean", examples=sorted(seen))
    if all(isinstance(value, (int, float)) for value in seen):
        return FieldInfo(name=name, type="number", examples=sorted({min(seen), max(seen)}))
    short: list[Any] = [value for value in seen if isinstance(value, str) and len(value) <= EXAMPLE_LENGTH]
    return FieldInfo(name=name, type="text", examples=short[:EXAMPLES]) if short else None
