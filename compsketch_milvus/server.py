"""The connection to Milvus: opened here, and every failure of it turned into one line for people, here.

Two habits of pymilvus are kept from the user. It reads `MILVUS_URI` while it is being imported, and refuses to be
imported where that names a Milvus Lite file; and it logs a traceback for each refused call, next to the exception.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.reach import Place, fault
from compsketch_milvus.settings import load_settings
from compsketch_milvus.tls import Tls

__all__ = [
    "WAIT",
    "DiskFullError",
    "LoginError",
    "RefusedError",
    "client_arguments",
    "connect_server",
    "guard",
    "lite_path",
    "place_of",
    "public_uri",
    "pymilvus",
    "remove_index_files",
]

WAIT = 10  # seconds for a short call; an int, because pymilvus ignores a float
_SCHEMES = ("http", "https", "tcp", "unix")
_FULL = (
    "No space left",
    "File too large",
    "Errno 28",
    "Errno 27",
    "Disk quota exceeded",
    "disk quota exceeded",
    "disk limit exceeded",
)
_ABSENT = ("Fail connecting", "UNAVAILABLE", "DEADLINE_EXCEEDED", "Deadline Exceeded", "closed channel")
_DENIED = ("auth check failure", "UNAUTHENTICATED", "PERMISSION_DENIED", "permission deny")
# Milvus' codes of what passes: not ready or unavailable (of pymilvus: cannot connect), too many requests, rate limit,
# late clock, no resources; a collection or partition that is not loaded (a server that starts loads anew what was), is
# being loaded or recovers; a replica, shard, segment or node of a server that starts or moves its data; cancelled,
# timed out. Code 1: Milvus' "not ready", pymilvus' unknown.
_PASSING = {2, 4, 8, 11, 12, 101, 103, 106, 202, 305, 401, 500, 501, 503, 504, 600, 601, 602}
_PASSING |= {901, 902, 903, 904, 905, 906, 1002, 1807, 10000, 10001}
_PASSING_STATES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED")
_PASSING_WORDS = (
    "not ready",
    "not healthy",
    "collection not loaded",
    "closed channel",
    "Deadline Exceeded",
    "deadline exceeded",
)
_LIMITS = ("quota exceeded", "reached the limit", "exceeded the limit", "OOM if load", "insufficient memory")
_TOO_LARGE = "larger than max"  # a message's RESOURCE_EXHAUSTED, and does not pass
# Of Milvus' codes: memory, disk or quota used up, not implemented, no such collection, no privilege.
_NOT_THE_ROWS = {3, 7, 9, 10, 100, 102, 1400, 1401}
_TALKATIVE = (
    "grpc._server",  # Milvus Lite runs one in this process, and does not know every call that pymilvus tries
    "pymilvus.decorators",
    "pymilvus.client.connection_manager",
    "pymilvus.client.grpc_handler",
    "pymilvus.milvus_client.milvus_client",
    "milvus_lite.server_manager",
    "milvus_lite.adapter.grpc.servicer",
)
_log = logging.getLogger(__name__)
_importing = threading.Lock()


def pymilvus() -> Any:
    """The module pymilvus, imported at the first call; it takes most of a second."""
    with _importing:
        address = os.environ.get("MILVUS_URI")
        os.environ["MILVUS_URI"] = ""
        try:
            import pymilvus as module
        finally:
            if address is None:
                del os.environ["MILVUS_URI"]
            else:
                os.environ["MILVUS_URI"] = address
    return module


def lite_path(uri: str) -> Path | None:
    """The file of a Milvus Lite address, absolute and with `~` expanded; None for a server's address."""
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    if scheme in _SCHEMES:
        return None
    if "://" in uri or not uri.endswith(".db"):
        raise ServerError(
            f"{public_uri(uri)!r} is no address of Milvus: give http://HOST:PORT for a server, "
            "or a file whose name ends in .db for Milvus Lite"
        )
    return Path(uri).expanduser().absolute()


def public_uri(uri: str) -> str:
    """The address without its credentials, for messages."""
    if "://" not in uri:
        return uri
    try:
        parts = urlsplit(uri)
    except ValueError:  # half of a number of IPv6
        scheme, _, rest = uri.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def connect_server(
    uri: str, *, token: str | None = None, db_name: str | None = None, client: str = "MilvusClient"
) -> Any:
    """Connect, making the parent folder of a Milvus Lite file where it is missing; by an AsyncMilvusClient if named.

    An https address is spoken to with the certificates that the settings name.

    Raises:
        SettingsError: a certificate or key that the settings name is missing or damaged.
        LoginError: the server does not accept the login.
        ServerError: no such address, nobody answers, TLS fails, a file of something else, a file that another process
            has open, or a folder that cannot be written.
    """
    module, path = pymilvus(), lite_path(uri)
    if path is not None:
        _check_lite(path)
        with guard("open", uri):
            return getattr(module, client)(str(path), timeout=WAIT, **({"db_name": db_name} if db_name else {}))
    arguments = client_arguments(uri, token=token, db_name=db_name)
    try:
        with guard("connect", uri):
            return getattr(module, client)(**arguments)
    except ServerError as error:
        place = place_of(uri)
        found = fault(place, Tls.named(load_settings(token=token))) if place else None
        if found is None:
            raise
        raise found from error


def client_arguments(uri: str, *, token: str | None = None, db_name: str | None = None) -> dict[str, Any]:
    """What to make a client of a server with, MilvusClient or AsyncMilvusClient.

    Raises:
        SettingsError: a certificate or key that the settings name is missing or damaged.
        ServerError: no such address.
    """
    place, tls = place_of(uri), Tls.named(load_settings(token=token))
    more: dict[str, Any] = {"db_name": db_name} if db_name else {}
    if place is not None and place.secure:
        more |= tls.arguments()
    elif tls != Tls():
        _log.warning("%s is not encrypted, the certificates that are set are not used; write https://", public_uri(uri))
    login = urlsplit(uri).netloc.rpartition("@")[0]  # pymilvus logs the address that it is given
    return {"uri": public_uri(uri), "token": token or login, "timeout": WAIT, **more}


def place_of(uri: str) -> Place | None:
    """Host and port of a server's address; None of a socket of Unix.

    Raises:
        ServerError: no such address.
    """
    try:
        place = Place.of(uri)
    except ValueError:  # of a port that is no number, or half of a number of IPv6
        place = None
    if place is None and not uri.startswith("unix:"):
        raise ServerError(f"{public_uri(uri)!r} is no address of Milvus: give http://HOST:PORT")
    return place


def _check_lite(path: Path) -> None:
    try:
        if path.exists() and not path.is_dir():
            raise ServerError(
                f"{path}: this file was not made by this version of Milvus Lite, which keeps a folder of that name; "
                "give another name with --uri, or move the file away"
            )
        if path.is_dir() and any(path.iterdir()) and not (path / "LOCK").exists():
            raise ServerError(f"{path}: this folder holds something else than Milvus Lite's data; give another name")
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(f"{path}: cannot be used for Milvus Lite ({error.strerror}); give another --uri") from error


def remove_index_files(path: Path, collection: str) -> int:
    """Remove a collection's index files from a Milvus Lite folder; it builds them again from the rows.

    Returns:
        How many there were.
    """
    files = list(path.glob(f"**/collections/{collection}/partitions/*/indexes/*.idx"))
    for file in files:
        file.unlink()
    return len(files)


class LoginError(ServerError):
    """Milvus answers, and does not accept the token, or the user and the password."""


class DiskFullError(ServerError):
    """Milvus could not write. What it stored before is kept."""


class RefusedError(ServerError):
    """Milvus answers, and does not take what it was sent; the next call may well succeed."""


@contextmanager
def guard(doing: str, uri: str, *, expression: str = "") -> Iterator[None]:
    """Turn what Milvus raises inside into a ServerError, or into a CollectionError for a refused filter.

    The ServerError is `transient` where the same call may succeed in a while, and a RefusedError where Milvus answers
    and finds fault with what it was sent.

    Args:
        doing: the verb for the message, such as "search".
        uri: address, for the message.
        expression: the user's filter, where one is sent.
    """
    import grpc

    module = pymilvus()
    heard: list[BaseException] = []
    try:
        with _listening(heard):
            yield
    except (module.MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
        cause = heard[-1] if heard else error
        raise _translated(error, cause, doing, uri, expression) from error


def _translated(error: Exception, cause: BaseException, doing: str, uri: str, expression: str) -> Exception:
    place, words = public_uri(uri), _words(error, expression)
    everything = f"{words} {cause!r} {error!r} {error.__cause__!r}"
    if "DataDirLocked" in everything:
        return ServerError(
            f"{place}: another process has this Milvus Lite file open, and only one can; "
            "close that program, or run a Milvus server for several at once"
        )
    if any(sign in everything for sign in _FULL):
        return DiskFullError(
            f"{place}: the disk is full, could not {doing}; what was stored before is kept: "
            "free some space, open the collection again and repeat"
        )
    if "milvus-lite is required" in everything:
        return ServerError(f'{place}: needs Milvus Lite: pip install "compsketch-milvus[lite]"')
    if any(sign in everything for sign in _DENIED):
        return LoginError(
            f"{place}: Milvus does not accept the login: the token, or user and password, is wrong or missing, or has "
            f"no right to {doing}; set MILVUS_TOKEN, or MILVUS_USER and MILVUS_PASSWORD"
        )
    passing = _passes(error, everything)
    if any(sign in everything for sign in _LIMITS) and not passing:
        return ServerError(
            f"{place}: Milvus has reached a limit and could not {doing}: {words}; drop or release collections that "
            "nobody needs, or give the server more"
        )
    if any(sign in everything for sign in _ABSENT):
        return ServerError(
            f"{place}: no Milvus answers (could not {doing}); is it running, and are address and token right? "
            "Set --uri, or MILVUS_URI; a file ending in .db needs no server",
            transient=passing,
        )
    if "Open local milvus failed" in words:
        return ServerError(f"{place}: Milvus Lite cannot open it ({cause}); give another --uri")
    code = getattr(error, "code", None)
    if expression and code in (1, 6, 1100, 65535):
        return CollectionError(f"filter {expression!r} was refused by Milvus: {words}")
    message = f"{place}: Milvus refused to {doing}: {words}"
    refused = _TOO_LARGE in everything or (isinstance(code, int) and code not in _NOT_THE_ROWS)
    return RefusedError(message) if refused and not passing else ServerError(message, transient=passing)


def _passes(error: Exception, everything: str) -> bool:
    """Whether an error of Milvus or gRPC is of the kind that passes by itself."""
    code: Any = getattr(error, "code", None)
    code = code() if callable(code) else code
    if _TOO_LARGE in everything:
        return False
    if getattr(code, "name", None) in _PASSING_STATES or code in _PASSING or getattr(error, "retriable", False):
        return True
    return code == 1 and any(words in everything for words in _PASSING_WORDS)


def _words(error: Exception, expression: str) -> str:
    """Milvus' own words in one line, without its drawing of an arrow below the filter."""
    text = str(getattr(error, "message", "") or error)
    lines = [line.strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line.strip("^ ") and line != expression.strip())


class _Listener(logging.Filter):
    """Passes errors of Milvus' libraries on at DEBUG while a guarded call runs, and keeps their exceptions."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[BaseException]] = []  # one list a guarded call that is running
        self.lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if not self.calls or record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        if record.name == "grpc._server" and not isinstance(error, NotImplementedError):
            return True  # of some other server in this process
        if error is not None:
            for heard in tuple(self.calls):
                heard.append(error)
        _log.debug("%s: %s", record.name, record.getMessage())
        return False


_listener = _Listener()


@contextmanager
def _listening(heard: list[BaseException]) -> Iterator[None]:
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_listener)  # adding it twice is once
    with _listener.lock:
        _listener.calls.append(heard)
    try:
        yield
    finally:
        with _listener.lock:
            _listener.calls = [call for call in _listener.calls if call is not heard]
