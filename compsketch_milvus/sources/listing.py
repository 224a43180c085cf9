"""Folders and whole files on other machines: the photos below a prefix, and archives and manifests to be read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.facts import facts_of
from compsketch_milvus.sources.naming import refused
from compsketch_milvus.sources.remote import HTTP, again, check_url, file_system, named, run, translated, url_record

__all__ = ["find", "is_listed", "open_url"]

T = TypeVar("T")
SECONDS = 60  # for one answer
MAX_PAGE = 16 * 1024 * 1024  # bytes of a web page that lists photos
MAX_DEPTH = 32  # folders in folders; a page may link to itself under ever longer names
BUFFER, BLOCK = 1024 * 1024, 4 * 1024 * 1024  # bytes of a file that is read in pieces


def is_listed(url: str, access: Access) -> bool:
    """Whether a URL names a folder or a prefix: it ends in a slash, or its storage says so."""
    scheme = check_url(url)
    if url.endswith("/") or not urlsplit(url).path.strip("/"):
        return True
    if scheme in HTTP:
        return False
    return bool(named(url, lambda: file_system(scheme, access.allow_private).isdir(url)))


def find(url: str, wanted: Callable[[str], bool], access: Access) -> Iterator[ImageRecord]:
    """The photos below a prefix, folder by folder, each by name. Memory: the names of one folder and of those to come.

    A web server's folder is its page: the links on it that lie below it.

    Args:
        url: of the folder.
        wanted: which URLs to take.
        access: what the source is allowed.

    Raises:
        SourceError: the first folder cannot be listed.
    """
    scheme = check_url(url)
    pending = [(url.rstrip("/") + "/", 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            entries = named(folder, partial(again, partial(_listed, scheme, folder, access)))
        except SourceError as error:
            if not depth:
                raise
            yield refused(folder, str(error).removeprefix(f"{folder}: "))
            continue
        folders = []
        for name, info in sorted(entries.items()):
            if info.get("type") == "directory" and depth == MAX_DEPTH:
                yield refused(name, f"more than {MAX_DEPTH} folders deep; ingest it as a source of its own")
            elif info.get("type") == "directory":
                folders.append((name.rstrip("/") + "/", depth + 1))
            elif wanted(name):
                yield url_record(name, facts_of(info), access)
        pending.extend(reversed(folders))


def _listed(scheme: str, folder: str, access: Access) -> dict[str, dict[str, Any]]:
    """What lies directly in a folder, by URL."""
    system = file_system(scheme, access.allow_private)
    if scheme in HTTP:
        from compsketch_milvus.sources.web_session import body, links

        page = run(system, body(system, folder, MAX_PAGE + 1), SECONDS)
        if len(page) > MAX_PAGE:
            raise SourceError(f"{folder}: its page has more than {MAX_PAGE} bytes; list the photos in a manifest")
        return {name: {"type": "directory" if name.endswith("/") else "file"} for name in links(page, folder)}
    entries = system.ls(folder, detail=True)
    listed = {f"{scheme}://{entry['name'].strip('/')}": entry for entry in entries}
    return {name: entry for name, entry in listed.items() if name.startswith(folder) and name != folder}


def open_url(url: str, access: Access) -> BinaryIO:
    """A file at a URL, read as it is needed. Raises SourceError; reading it raises OSError."""
    scheme = check_url(url)
    system = file_system(scheme, access.allow_private)
    more: dict[str, Any] = {}
    if scheme in HTTP:
        from compsketch_milvus.sources.web_session import head

        # In pieces, which can seek and go on after a broken connection, where the server says that it gives pieces.
        told = named(url, lambda: again(lambda: run(system, head(system, url), SECONDS)))
        size = facts_of(told).get("bytes", 0)
        more = {"size": size, "block_size": BLOCK if told.get("Accept-Ranges") == "bytes" else 0} if size else {}
    file = named(url, lambda: again(lambda: system.open(url, "rb", **more)))
    pieces = scheme not in HTTP or bool(more.get("block_size"))
    return cast(BinaryIO, io.BufferedReader(_RemoteFile(file, pieces), BUFFER))


class _RemoteFile(io.RawIOBase):
    """A remote file whose libraries' errors are OSErrors with a way out."""

    def __init__(self, file: Any, seeks: bool) -> None:
        self.file, self.seeks = file, seeks

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.seeks

    def readinto(self, buffer: Any) -> int:
        data = self._translated(self.file.read, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._translated(self.file.seek, offset, whence))

    def tell(self) -> int:
        return int(self.file.tell())

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()

    def _translated(self, call: Callable[..., T], *arguments: Any) -> T:
        try:
            return call(*arguments)
        except Exception as error:
            raise OSError(translated(error)) from error
