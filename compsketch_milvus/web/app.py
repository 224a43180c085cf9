"""The app: the routes put together, the page's files, and the protection around both.

app.py          this
requests.py     each request's id, and its span in traces
protection.py   what every request passes first: hosts, origins, login, rates, sizes, headers
login.py        visits and their cookies            rates.py     how often a client may ask
about.py        session, login, fields, health      searching.py search, similar, explain
photos.py       thumbnails, photos, details         sketches.py  convert, examples, words
originals.py    from an id to a photo's bytes       boxes.py     boxes that a collection knows
opened.py       the collections                     turns.py     whose search is next
models.py       what is sent and answered           refusals.py  errors
cache.py        thumbnails on disk                  site.py      what the routes share
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from compsketch_milvus.sources.access import Access
from compsketch_milvus.web import about, photos, searching, sketches
from compsketch_milvus.web.cache import DiskCache
from compsketch_milvus.web.login import Login
from compsketch_milvus.web.models import Problem
from compsketch_milvus.web.opened import Opened, Where
from compsketch_milvus.web.originals import Known
from compsketch_milvus.web.protection import Protection
from compsketch_milvus.web.rates import RATES, Rate, Rates
from compsketch_milvus.web.refusals import install
from compsketch_milvus.web.requests import UNTRACED, Requests
from compsketch_milvus.web.site import Site
from compsketch_milvus.web.turns import Turns
from encoders.images import Limits

if TYPE_CHECKING:
    from compsketch_milvus.encoder import Encoder

__all__ = ["CACHE_BYTES", "Options", "create_app"]

CACHE_BYTES = 512 * 2**20
ASKERS, FETCHERS = 4, 4  # threads: most of their time is waiting, for Milvus, a disk or a network
PHOTO_LIMITS = Limits(max_bytes=64 * 2**20, max_pixels=64_000_000)
STATIC = Path(__file__).parent / "static"


@dataclass(frozen=True)
class Options:
    """How the page is served.

    Args:
        where: the collections are.
        token: that a visitor has to know; None: whoever reaches this machine's loopback may search.
        secure: whether it is served by TLS alone.
        cache: folder for thumbnails; None takes one in the user's cache folder.
        cache_bytes: that they may take.
        allow_private: whether photos' URLs may lead to addresses that are not of the public internet.
        at_once: searches at the same time; None: one a CPU.
        rates: how often a client may ask, by kind of request.
    """

    where: Where
    token: str | None = None
    secure: bool = False
    cache: Path | None = None
    cache_bytes: int = CACHE_BYTES
    allow_private: bool = False
    at_once: int | None = None
    rates: Mapping[str, Rate] = field(default_factory=lambda: RATES)


def create_app(encoder: Encoder, options: Options) -> FastAPI:
    """The app, whose `state.site` has what its routes share. Nothing is opened until it is asked for."""
    site = _site(encoder, options)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            site.close()

    app = FastAPI(
        title="compsketch",
        summary="Draw a layout of objects, find the photos that hold it",
        openapi_url="/api/openapi.json",
        docs_url=None,  # these pages are made of scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses={"default": {"model": Problem, "description": "Why there is no result"}, 422: {"model": Problem}},
        telemetry=UNTRACED,
        middleware=[
            Middleware(Requests),
            Middleware(Protection, login=site.login, rates=Rates(options.rates)),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
        ],
    )
    app.state.site = site
    install(app)
    for module in (about, searching, photos, sketches):
        app.include_router(module.routes(site))
    if STATIC.is_dir():
        app.mount("/", _Page(directory=STATIC, html=True))
    return app


def _site(encoder: Encoder, options: Options) -> Site:
    at_once = options.at_once or os.cpu_count() or 1
    folder = options.cache or Path(platformdirs.user_cache_dir("compsketch")) / "thumbnails"
    return Site(
        encoder=encoder,
        opened=Opened(encoder, options.where),
        turns=Turns(at_once),
        searching=ThreadPoolExecutor(at_once, thread_name_prefix="search"),
        asking=ThreadPoolExecutor(ASKERS, thread_name_prefix="ask"),
        fetching=ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch"),
        cache=DiskCache(folder, options.cache_bytes),
        login=Login(options.token, secure=options.secure),
        access=Access(PHOTO_LIMITS, options.allow_private),
        known=Known(),
    )


class _Page(StaticFiles):
    """The page's own files. A browser asks each time whether one has changed, and mostly hears that it has not."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.endswith((".js", ".mjs")):
            mimetypes.add_type("text/javascript", Path(path).suffix)  # whatever this machine's tables say
        return await super().get_response(path, scope)
