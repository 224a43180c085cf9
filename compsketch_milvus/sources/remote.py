"""Photos on other machines: HTTP(S), S3 and Google Cloud Storage, through fsspec; bounded in bytes and time.

A photo is fetched when it is decoded, in that thread. What is transient is tried again a few times. HTTP connects to
public addresses alone unless `Access.allow_private` is set; a bucket is reached by its library at the endpoint and with
the credentials that the environment names for it.
"""

from __future__ import annotations

import asyncio
import posixpath
import random
import re
import time
from collections.abc import Callable, Coroutine
from functools import lru_cache, partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources.access import Access, PrivateAddressError
from compsketch_milvus.sources.naming import checked, printable, refused, source_id
from encoders.errors import ImageError

__all__ = [
    "HTTP",
    "again",
    "check_url",
    "file_system",
    "is_url",
    "joined",
    "named",
    "public_url",
    "run",
    "translated",
    "url_record",
]

T = TypeVar("T")
HTTP = ("http", "https")
# In full, not whatever fsspec knows: a row of a manifest must not name ssh://, or a URL inside a URL.
SCHEMES = (*HTTP, "s3", "gs", "gcs", "memory")
FETCH_SECONDS = 60  # for one photo, all tries together
WAITS = (0.5, 2.0)  # seconds before each further try, give or take a half
_BROKEN = ("ClientConnectorError", "ClientOSError", "ClientPayloadError", "ServerDisconnectedError")
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
        check_url(url)
    except SourceError as error:
        return refused(public_url(url), str(error).removeprefix(f"{public_url(url)}: "))
    return checked(ImageRecord(source_id(url), url, fields=fields, fetch=partial(_fetched, url, access)))


def check_url(url: str) -> str:
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
def file_system(scheme: str, allow_private: bool) -> Any:
    """The file system of a scheme, one a program, with one pool of connections."""
    library = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}.get(scheme, "fsspec")
    options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
    try:
        import fsspec

        if scheme in HTTP:
            from compsketch_milvus.sources.web_session import session

            options["get_client"] = partial(session, allow_private)
        return fsspec.filesystem(scheme, **options)
    except ImportError:
        raise SourceError(f'{scheme}:// needs {library}: pip install "compsketch-milvus[remote]"') from None


def run(system: Any, work: Coroutine[Any, Any, T], seconds: float) -> T:
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
    broken = type(error).__name__ in _BROKEN
    return broken or isinstance(error, (TimeoutError, ConnectionError)) or getattr(error, "transient", False)


def _private(error: BaseException | None) -> bool:
    """Whether a private address is what an error is about."""
    while error is not None:
        if isinstance(error, PrivateAddressError) or "is a private address" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def translated(error: BaseException) -> str:
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
        return again(lambda: _bytes(url, access, max_bytes, end - time.monotonic()))
    except ImageError:
        raise
    except Exception as error:  # a library's own classes, from s3fs' to aiohttp's
        raise ImageError(f"{url}: {translated(error)}") from error


def again(work: Callable[[], T]) -> T:
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
    scheme = check_url(url)
    system = file_system(scheme, access.allow_private)
    if scheme in HTTP:
        from compsketch_milvus.sources.web_session import body

        data: bytes = run(system, body(system, url, max_bytes + 1), seconds)
    elif system.async_impl:
        data = run(system, system._cat_file(system._strip_protocol(url), start=0, end=max_bytes + 1), seconds)
    else:
        data = system.cat_file(url, start=0, end=max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageError(f"{url}: more than the limit of {max_bytes} bytes; save it smaller or raise max_bytes")
    return data


def named(url: str, work: Callable[[], T]) -> T:
    """What work gives, or its error as a SourceError that names the URL."""
    try:
        return work()
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{public_url(url)}: {translated(error)}") from error
