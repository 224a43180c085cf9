"""Photos on other machines: HTTP(S), S3 and Google Cloud Storage, through fsspec; bounded in bytes and time.

A photo is fetched when it is decoded, in that thread. What is transient is tried again a few times. HTTP connects to
public addresses alone unless `Access.allow_private` is set; a bucket is reached by its library at the endpoint and with
the credentials that the environment names for it.
"""

from __future__ import annotations

import asyncio
import io
import posixpath
import random
import re
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from compsketch_milvus.access import Access, PrivateAddressError
from compsketch_milvus.errors import SourceError
from compsketch_milvus.naming import checked, printable, refused, source_id
from compsketch_milvus.records import ImageRecord
from encoders.errors import ImageError

__all__ = ["find", "is_listed", "is_url", "joined", "open_url", "public_url", "url_record", "with_facts"]

T = TypeVar("T")
HTTP = ("http", "https")
# In full, not whatever fsspec knows: a row of a manifest must not name ssh://, or a URL inside a URL.
SCHEMES = (*HTTP, "s3", "gs", "gcs", "memory")
FETCH_SECONDS, FACTS_SECONDS = 60, 10  # for one photo, all tries together; for what is known of it
MAX_PAGE = 16 * 1024 * 1024  # bytes of a web page that lists photos
BUFFER, BLOCK = 1024 * 1024, 4 * 1024 * 1024  # bytes of a file read in pieces
WAITS = (0.5, 2.0)  # seconds before each further try, give or take a half
AHEAD = 32  # questions about the size and version of what a manifest names, under way at once
MAX_DEPTH = 32  # folders in folders; a page may link to itself under ever longer names
_CHANGED = ("lastmodified", "last-modified", "updated", "created")  # S3, HTTP, Google, memory
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: str) -> bool:
    """Whether a text begins like a URL."""
    return _URL.match(text) is not None


def public_url(url: str) -> str:
    """A URL for messages: without user and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", printable(url))


def joined(base: str, path: str) -> str:
    """A path relative to a URL that ends in a slash."""
    parts = urlsplit(base)
    return f"{parts.scheme}://{parts.netloc}{posixpath.normpath(posixpath.join(parts.path or '/', path))}"


def url_record(url: str, fields: dict[str, Any], access: Access) -> ImageRecord:
    """A photo at a URL, to be fetched when it is decoded; one refused where the URL is no good."""
    try:
        _check(url)
    except SourceError as error:
        return refused(public_url(url), str(error).removeprefix(f"{public_url(url)}: "))
    return checked(ImageRecord(source_id(url), url, fields=fields, fetch=partial(_fetched, url, access)))


def _check(url: str) -> str:
    """The scheme of a URL that may be read. Raises SourceError."""
    name = public_url(url)
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname, parts.username or parts.password
    except ValueError as error:
        raise SourceError(f"{name}: not a URL ({error}); correct it") from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES or "::" in url.partition("://")[0]:
        known = ", ".join(f"{one}://" for one in SCHEMES if one != "memory")
        raise SourceError(f"{name}: of no known kind; give a path, or a URL that begins with file://, {known}")
    if secret:
        raise SourceError(f"{name}: holds a password, which would be stored with the photo; give a signed URL instead")
    if not host or not url.isprintable():
        raise SourceError(f"{name}: not a URL; give {scheme}://HOST/PATH")
    return scheme


# --- the file systems ---


@lru_cache(maxsize=8)
def _system(scheme: str, allow_private: bool) -> Any:
    """The file system of a scheme, one a program, with one pool of connections."""
    library = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}.get(scheme, "fsspec")
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    try:
        import fsspec

        if scheme in HTTP:
            from compsketch_milvus.web_session import session

            options["get_client"] = partial(session, allow_private)
        return fsspec.filesystem(scheme, **options)
    except ImportError:
        raise SourceError(f'{scheme}:// needs {library}: pip install "compsketch-milvus[remote]"') from None


def _run(system: Any, work: Coroutine[Any, Any, T], seconds: float) -> T:
    """What a coroutine gives that runs in the file system's own thread. Raises TimeoutError."""
    future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), system.loop)
    try:
        return future.result()
    except asyncio.TimeoutError:
        raise TimeoutError("no whole answer in time") from None
    finally:
        future.cancel()


def _is_transient(error: BaseException) -> bool:
    if _private(error):
        return False
    # aiohttp's broken connections by name: it is not there for those who only read from buckets.
    broken = type(error).__name__ in ("ClientConnectorError", "ClientOSError", "ClientPayloadError")
    return broken or isinstance(error, (TimeoutError, ConnectionError)) or getattr(error, "transient", False)


def _private(error: BaseException | None) -> bool:
    """Whether a private address is what an error is about."""
    while error is not None:
        if isinstance(error, PrivateAddressError) or "is a private address" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _explained(error: BaseException) -> str:
    """An error of a library as one line with a way out."""
    if _private(error):
        return "leads to a private address; if you trust the source, allow that with --allow-private"
    if isinstance(error, FileNotFoundError):
        return "not found; check the URL"
    if isinstance(error, PermissionError):
        return "access denied; check the credentials in the environment"
    words = printable(str(error) or type(error).__name__).splitlines()[0]
    return f"cannot be fetched ({words}); check the URL and the network, and try again"


# --- one photo ---


def _fetched(url: str, access: Access, max_bytes: int) -> bytes:
    """The bytes at a URL. Raises ImageError."""
    end = time.monotonic() + FETCH_SECONDS
    try:
        return _again(lambda: _bytes(url, access, max_bytes, end - time.monotonic()))
    except ImageError:
        raise
    except Exception as error:  # a library's own classes, from s3fs' to aiohttp's
        raise ImageError(f"{url}: {_explained(error)}") from error


def _again(work: Callable[[], T]) -> T:
    """Work that is tried again, after a wait, where it fails by something transient."""
    for wait in WAITS:
        try:
            return work()
        except Exception as error:
            if not _is_transient(error):
                raise
        time.sleep(wait * random.uniform(0.5, 1.5))
    return work()


def _bytes(url: str, access: Access, max_bytes: int, seconds: float) -> bytes:
    scheme = _check(url)
    system = _system(scheme, access.allow_private)
    if scheme in HTTP:
        from compsketch_milvus.web_session import body

        data: bytes = _run(system, body(system, url, max_bytes + 1), seconds)
    elif system.async_impl:
        data = _run(system, system._cat_file(system._strip_protocol(url), start=0, end=max_bytes + 1), seconds)
    else:
        data = system.cat_file(url, start=0, end=max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageError(f"{url}: more than the limit of {max_bytes} bytes; save it smaller or raise max_bytes")
    return data


# --- facts: size, time of modification, version ---


def with_facts(records: Iterator[ImageRecord], access: Access) -> Iterator[ImageRecord]:
    """The records in their order, those at URLs with the facts by which a later ingest sees that they have changed.

    Some are asked about ahead of the one that is given out, so that a manifest does not wait for each. Where a server
    tells none, there are none: its photo is indexed once, and again with `force`.
    """
    waiting: deque[tuple[ImageRecord, Future[dict[str, Any]] | None]] = deque()
    try:
        for record in records:
            waiting.append((record, _asked(record, access)))
            while len(waiting) > AHEAD or (waiting and waiting[0][1] is None):
                yield _informed(*waiting.popleft())
        while waiting:
            yield _informed(*waiting.popleft())
    finally:
        for _, future in waiting:
            if future is not None:
                future.cancel()


def _asked(record: ImageRecord, access: Access) -> Future[dict[str, Any]] | None:
    if record.error is not None or record.fetch is None or not is_url(record.source):
        return None
    scheme = _check(record.source)
    system = _system(scheme, access.allow_private)
    if not system.async_impl:
        done: Future[dict[str, Any]] = Future()
        try:
            done.set_result(system.info(record.source))
        except OSError as error:
            done.set_exception(error)
        return done
    if scheme in HTTP:
        from compsketch_milvus.web_session import head

        question = head(system, record.source)
    else:
        question = system._info(system._strip_protocol(record.source))
    return asyncio.run_coroutine_threadsafe(asyncio.wait_for(question, FACTS_SECONDS), system.loop)


def _informed(record: ImageRecord, future: Future[dict[str, Any]] | None) -> ImageRecord:
    if future is None:
        return record
    try:
        facts = _facts(future.result())
    except Exception:  # what is wrong with it is told when it is fetched
        return record
    return checked(replace(record, fields={**record.fields, **facts}))


def _facts(info: dict[str, Any]) -> dict[str, Any]:
    """What a file system tells about a file, by the names of the collection; each has names of its own."""
    told = {key.lower(): value for key, value in info.items()}
    facts: dict[str, Any] = {}
    size = str(told.get("size", told.get("content-length", "")))
    if size.isdecimal() and len(size) < 18:
        facts["bytes"] = int(size)
    etag = told.get("etag")
    if isinstance(etag, str) and etag.isprintable():
        facts["etag"] = etag.strip('"')[:256]
    changed = next((told[key] for key in _CHANGED if told.get(key)), None)
    try:
        if isinstance(changed, str):
            iso = changed[:4].isdecimal()
            changed = datetime.fromisoformat(changed.replace("Z", "+00:00")) if iso else parsedate_to_datetime(changed)
        if isinstance(changed, datetime):
            facts["mtime"] = int(changed.timestamp() * 1000)
    except (ValueError, OverflowError):
        pass
    return facts


# --- many photos, and other files ---


def is_listed(url: str, access: Access) -> bool:
    """Whether a URL names a folder or a prefix: it ends in a slash, or its storage says so."""
    scheme = _check(url)
    if url.endswith("/") or not urlsplit(url).path.strip("/"):
        return True
    if scheme in HTTP:
        return False
    return bool(_told(url, lambda: _system(scheme, access.allow_private).isdir(url)))


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
    scheme = _check(url)
    pending = [(url.rstrip("/") + "/", 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            entries = _told(folder, partial(_again, partial(_listed, scheme, folder, access)))
        except SourceError as error:
            if not depth:
                raise
            yield refused(folder, str(error).removeprefix(f"{folder}: "))
            continue
        folders = []
        for name, info in sorted(entries.items()):
            if info.get("type") == "directory":
                folders.append((name.rstrip("/") + "/", depth + 1))
            elif wanted(name):
                record = url_record(name, _facts(info), access)
                yield next(with_facts(iter([record]), access)) if scheme in HTTP else record
        pending.extend(reversed(folders if depth < MAX_DEPTH else []))


def _listed(scheme: str, folder: str, access: Access) -> dict[str, dict[str, Any]]:
    """What lies directly in a folder, by URL."""
    system = _system(scheme, access.allow_private)
    if scheme in HTTP:
        from compsketch_milvus.web_session import body, links

        found = links(_run(system, body(system, folder, MAX_PAGE), FETCH_SECONDS), folder)
        return {name: {"type": "directory" if name.endswith("/") else "file"} for name in found}
    entries = system.ls(folder, detail=True)
    listed = {f"{scheme}://{entry['name'].strip('/')}": entry for entry in entries}
    return {name: entry for name, entry in listed.items() if name.startswith(folder) and name != folder}


def open_url(url: str, access: Access) -> BinaryIO:
    """A file at a URL, read as it is needed. Raises SourceError; reading it raises OSError."""
    scheme = _check(url)
    system = _system(scheme, access.allow_private)
    more: dict[str, Any] = {}
    if scheme in HTTP:
        from compsketch_milvus.web_session import head

        # In pieces, which can seek and go on after a broken connection, where the server says that it gives pieces.
        told = _told(url, lambda: _again(lambda: _run(system, head(system, url), FACTS_SECONDS)))
        size = _facts(told).get("bytes", 0)
        more = {"size": size, "block_size": BLOCK if told.get("Accept-Ranges") == "bytes" else 0} if size else {}
    file = _told(url, lambda: _again(lambda: system.open(url, "rb", **more)))
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
            raise OSError(_explained(error)) from error


def _told(url: str, work: Callable[[], T]) -> T:
    """What work gives, or its error as a SourceError that names the URL."""
    try:
        return work()
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{public_url(url)}: {_explained(error)}") from error
