"""The rating page and its endpoints: a FastAPI app around a study's `Store`, behind the sketch page's `Protection`.

A rater is a cookie. Nothing that is sent to one says which method brought a photo, at which rank, or what is a check.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookies import CookieError, SimpleCookie
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.types import ASGIApp

from compsketch_milvus.study.store import Progress, Store, StudyError
from compsketch_milvus.web import refusals
from compsketch_milvus.web.login import Login, Visit
from compsketch_milvus.web.protection import Protection
from compsketch_milvus.web.rates import RATES, Rate, Rates
from compsketch_milvus.web.refusals import Refusal
from compsketch_milvus.web.requests import UNTRACED, Requests

__all__ = ["create_app"]

STATIC = Path(__file__).with_name("static")
COOKIE_SECONDS = 90 * 24 * 3600
KEPT = "private, max-age=604800, immutable"  # a name's picture never changes
LOGIN = Rate(1, 50)  # a class of raters behind one address


class Consent(BaseModel):
    """What one agrees to before rating."""

    agree: Literal[True]
    invitation: str = Field("", max_length=100)


class Scores(BaseModel):
    """What a rater says of a task."""

    task: str = Field(max_length=64)
    scores: list[Annotated[int, Field(ge=1, le=5, strict=True)]] = Field(min_length=1, max_length=64)
    revision: int = Field(1, ge=1, le=2**31)


class Raters(Login):
    """Raters instead of visitors: their cookie outlives this process, for it is their name in the store.

    Args:
        store: the ratings.
        invited: whether one has to know the study's invitation.
    """

    def __init__(self, store: Store, *, invited: bool) -> None:
        super().__init__(store.invitation if invited else None, secure=False)
        self._store = store
        self._known: set[str] = set()  # so that a request need not wait for a rating that is being written

    @property
    def cookie(self) -> str:
        """One a study: cookies do not tell ports apart."""
        return f"compsketch-study-{self._store.plan.fingerprint}"

    def visit(self, cookie_header: str) -> Visit | None:
        """The rater of a request."""
        try:
            morsel = SimpleCookie(cookie_header).get(self.cookie)
        except CookieError:
            return None
        if morsel is None or not (morsel.value in self._known or self._store.knows(morsel.value)):
            return None
        self._known.add(morsel.value)
        return Visit(morsel.value, inf, user=True)

    def begin(self, response: Response, *, user: bool) -> None:
        """A new rater."""
        rater = self._store.join()
        response.set_cookie(
            self.cookie, rater, max_age=COOKIE_SECONDS, path="/", httponly=True, samesite="strict"
        )  # fmt: skip


def create_app(folder: Path, store: Store, *, invited: bool = False, contact: str = "") -> ASGIApp:
    """The app of one study.

    Args:
        folder: of the study.
        store: its ratings; closed with the app.
        invited: whether raters need the invitation, as they do wherever others than this machine's users come.
        contact: who runs the study, for the page.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    raters = Raters(store, invited=invited)
    bare: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None, "telemetry": UNTRACED}
    app = FastAPI(title="compsketch user study", lifespan=lifespan, **bare)
    refusals.install(app)
    app.add_exception_handler(StudyError, _mistaken)
    _add_session(app, raters, store, invited, contact)
    _add_rating(app, store)
    _add_pictures(app, folder, store)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return Requests(Protection(app, raters, Rates({**RATES, "login": LOGIN})))


async def _mistaken(_: Request, error: Exception) -> Response:
    assert isinstance(error, StudyError)
    return refusals.answer(Refusal(error.status, str(error)))


def _add_session(app: FastAPI, raters: Raters, store: Store, invited: bool, contact: str) -> None:
    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/session")
    def session(request: Request) -> dict[str, Any]:
        study = store.plan.fingerprint
        return {"rater": request.state.known, "invited": invited, "contact": contact, "study": study}

    @app.post("/api/login")
    def join(consent: Consent, request: Request, response: Response) -> dict[str, bool]:
        if raters.visit(request.headers.get("cookie", "")) is None:
            raters.enter(consent.invitation, response)
        return {"rater": True}

    @app.post("/api/logout")
    def leave(request: Request) -> dict[str, bool]:
        store.leave(_rater(request))
        return {"rater": True}


def _add_rating(app: FastAPI, store: Store) -> None:
    @app.post("/api/work")
    def work(request: Request) -> dict[str, Any]:
        return _shown(store.work(_rater(request)), store)

    @app.post("/api/ratings")
    def rate(said: Scores, request: Request) -> dict[str, Any]:
        return _shown(store.rate(_rater(request), said.task, said.scores, said.revision), store)


def _add_pictures(app: FastAPI, folder: Path, store: Store) -> None:
    drawings = {query.picture for query in store.plan.queries}

    @app.get("/api/sketch/{name}")
    def sketch(name: str, request: Request) -> FileResponse:
        _rater(request)
        return _picture(folder / "sketches" / f"{name}.png", name in drawings)

    @app.get("/api/photo/{name}")
    def photo(name: str, request: Request) -> FileResponse:
        _rater(request)
        return _picture(folder / "photos" / f"{name}.jpg", name in store.plan.photos)


def _picture(path: Path, known: bool) -> FileResponse:
    """A file whose name is one of the study's; no other is looked for."""
    if not known or not path.is_file():
        raise Refusal(404, "there is no such picture")
    return FileResponse(path, headers={"Cache-Control": KEPT})


def _rater(request: Request) -> str:
    if not request.state.known:
        raise Refusal(401, "load the page again and agree to take part first")
    return str(request.state.client)


def _shown(progress: Progress, store: Store) -> dict[str, Any]:
    """What the page is told."""
    queries = store.plan.queries
    tasks = [
        {
            "id": task.id,
            "sketch": f"/api/sketch/{queries[task.query].picture}",
            "photos": [f"/api/photo/{photo}" for photo in task.photos],
        }
        for task in progress.tasks
    ]
    return {"tasks": tasks, "done": progress.done, "left": progress.left}
