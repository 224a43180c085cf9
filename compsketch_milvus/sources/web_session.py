"""What is asked of web servers: one session for all, which connects only where it may, and reads only so much.

This module imports aiohttp; `remote` imports it once an HTTP address is named.
"""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urldefrag, urljoin

import aiohttp
import yarl

from compsketch_milvus.sources.access import public_socket

__all__ = ["AnswerError", "body", "head", "links", "session"]

CONNECT_SECONDS, SILENCE_SECONDS = 10, 30  # for a connection; between two pieces of an answer
PIECE = 64 * 1024
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


class AnswerError(OSError):
    """An answer that is not what was asked for; `transient` where asking again may help."""

    def __init__(self, words: str, *, transient: bool = False) -> None:
        super().__init__(words)
        self.transient = transient


async def session(allow_private: bool, **options: Any) -> aiohttp.ClientSession:
    """A session as fsspec's HTTPFileSystem wants it, made in its loop.

    Every connection passes `public_socket`, those of redirects too. No proxy is taken from the environment: it would
    connect in this machine's place, and nobody would look at the address.
    """
    factory = None if allow_private else public_socket
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=factory),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS),
        # A page of a few bytes may unpack to gigabytes: nothing is unpacked, and servers are asked not to pack.
        headers={"Accept-Encoding": "identity", "User-Agent": "compsketch"},
        auto_decompress=False,
        **options,
    )


async def body(system: Any, url: str, most: int) -> bytes:
    """The first `most` bytes at a URL. Raises OSError, aiohttp.ClientError, asyncio.TimeoutError."""
    opened: aiohttp.ClientSession = await system.set_session()
    data = bytearray()
    async with opened.get(_quoted(url)) as answer:
        _check(answer)
        async for piece in answer.content.iter_chunked(PIECE):
            data += piece
            if len(data) >= most:
                break
    return bytes(data[:most])


async def head(system: Any, url: str) -> dict[str, str]:
    """The headers at a URL. Raises as `body` does."""
    opened: aiohttp.ClientSession = await system.set_session()
    async with opened.head(_quoted(url), allow_redirects=True) as answer:
        _check(answer)
        return dict(answer.headers)


def _quoted(url: str) -> yarl.URL:
    """The URL as it stands, since a signature covers its very letters; quoted where some of them may not be sent."""
    return yarl.URL(url, encoded=url.isascii() and " " not in url)


def _check(answer: aiohttp.ClientResponse) -> None:
    status = answer.status
    if status in (404, 410):
        raise FileNotFoundError(status, "not found")
    if status in (401, 403, 407):
        raise PermissionError(status, "access denied")
    if status not in (200, 206):
        raise AnswerError(f"the server answers {status} {answer.reason}", transient=status in _TRANSIENT)
    packed = answer.headers.get("Content-Encoding", "identity")
    if packed not in ("identity", ""):
        raise AnswerError(f"the server packs its answer as {packed} although it was asked not to")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def links(page: bytes, folder: str) -> set[str]:
    """The URLs on a page that lie directly in its folder, files and folders; parents and sorted views are not."""
    parser = _Links()
    parser.feed(page.decode("utf-8", "replace"))
    found = set()
    for link in parser.found:
        try:
            url = urldefrag(urljoin(folder, link)).url
        except ValueError:
            continue
        name = url.removeprefix(folder)
        if url.startswith(folder) and name and "/" not in name.rstrip("/").split("?")[0] and not name.startswith("?"):
            found.add(url)
    return found
