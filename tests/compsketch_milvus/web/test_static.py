"""The page's own files."""

from __future__ import annotations

import re

from compsketch_milvus.web.app import STATIC


def test_the_page_comes_packed_and_is_not_sent_twice(page) -> None:
    answer = page.get("/")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Content-Encoding"] == "gzip"
    again = page.get("/", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_scripts_have_the_type_that_browsers_take_as_modules(page) -> None:
    scripts = [path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js")]
    assert scripts
    kinds = {page.get(f"/{script}").headers["Content-Type"] for script in scripts}
    assert kinds == {"text/javascript; charset=utf-8"}


def test_nothing_of_it_comes_from_elsewhere_or_is_inline(page) -> None:
    text = page.get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"\s(style|on[a-z]+)=", text)
    for path in STATIC.rglob("*.*"):
        if path.suffix in (".html", ".css", ".js"):
            text = path.read_text("utf-8")
            assert not re.search(r"""(?:src|href|from|import|url\()\s*[=(]?\s*["']?(?:https?:)?//""", text), path
