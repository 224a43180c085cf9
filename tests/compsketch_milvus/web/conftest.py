"""The sketch page over one Milvus Lite file of forty photos, asked as a browser asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from compsketch_milvus.encoder import Encoder
from compsketch_milvus.web.app import Options, create_app
from compsketch_milvus.web.opened import Where
from tests.web.serving import fill, judging_encoder

TOKEN = "a secret that is long enough"


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The path of a Milvus Lite file with the photos of `tests/web/serving.py`."""
    from milvus_lite.server_manager import server_manager_instance

    uri = fill(tmp_path_factory.mktemp("filled"), judging_encoder())
    yield uri
    server_manager_instance.release_server(uri)


@pytest.fixture
def open_page(filled: str, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """A browser of this machine's at the page; keywords are those of `Options`, and `encoder`, `uri`, `base_url`."""
    with ExitStack() as stack:

        def open_(encoder: Encoder | None = None, uri: str = filled, base_url="http://localhost", **options: Any):
            given = Options(Where(uri), **{"cache": tmp_path / "cache", **options})
            browser = TestClient(create_app(encoder or judging_encoder(), given), base_url=base_url)
            browser.headers["X-Compsketch"] = "1"
            return stack.enter_context(browser)

        yield open_


@pytest.fixture
def page(open_page) -> TestClient:
    return open_page()


@pytest.fixture
def public_page(open_page) -> TestClient:
    """The page where it takes a login."""
    return open_page(token=TOKEN, base_url="http://photos.example")
