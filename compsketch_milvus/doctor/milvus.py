"""What is checked of Milvus: from the address to the collection. Everything is asked, nothing is changed."""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Generator, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from compsketch_milvus.doctor.checks import Check, State, reported
from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.identity import Identity
from compsketch_milvus.index import choose
from compsketch_milvus.probing import TEMPORARY, probe
from compsketch_milvus.reach import Place, knock, shake_hands
from compsketch_milvus.server import WAIT, LoginError, connect_server, guard, lite_path, place_of, public_uri
from compsketch_milvus.tls import Tls

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from compsketch_milvus.encoder import Encoder
    from compsketch_milvus.settings import Settings

__all__ = ["check_collection", "check_milvus"]

OLDEST = (2, 3)  # Milvus, whose answers the tests know
SOON = 30  # days before a certificate expires
APART = 5.0  # seconds between two clocks
PHYSICAL = 18  # bits of a timestamp of Milvus below its milliseconds


def check_milvus(settings: Settings) -> Generator[Check, None, MilvusClient | None]:
    """Address, TLS, login, version, database, GPU and clock; returns an open client, None where there is none."""
    failures: list[Check] = []
    with reported("address", failures):
        path = lite_path(settings.uri)
        if path is not None and not path.exists():
            yield Check("milvus", State.OK, f"Milvus Lite; there is no file {path} yet, the first ingest makes it")
            return None
        place = place_of(settings.uri) if path is None else None
        if place is not None:
            knock(place)
            yield Check("address", State.OK, f"something listens at {place}")
            with reported("tls", failures):
                yield _checked_tls(place, settings)
    if failures:
        yield from failures
        yield Check("login", State.SKIPPED, "the server has to be reached first")
        return None
    client = yield from _check_login(settings, place)
    if client is None:
        return None
    yield from _check_version(client, settings)
    if place is not None:
        yield from _check_database(client, settings)
        yield from _check_clock(client)
        yield from _check_leftovers(client, settings)
    return client


def _checked_tls(place: Place, settings: Settings) -> Check:
    tls = Tls.named(settings)
    if not place.secure:
        if _is_loopback(place.host):
            return Check("tls", State.OK, "none; the server is on this machine")
        return Check(
            "tls",
            State.WARNING,
            "none; passwords and vectors can be read on the way",
            "give the server a certificate, and write https:// in its address",
        )
    until = shake_hands(place, tls)
    left = (until - datetime.now(timezone.utc)).days
    message = f"the server's certificate is valid until {until:%Y-%m-%d}, {left} days"
    if left >= SOON:
        return Check("tls", State.OK, message)
    return Check("tls", State.WARNING, message, "give the server a new one before that")


def _is_loopback(host: str) -> bool:
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
        return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
    except (OSError, ValueError):
        return False


def _answered(settings: Settings) -> MilvusClient:
    """An open client, which the server has answered once."""
    secret = settings.token.get_secret_value() if settings.token else None
    client: MilvusClient = connect_server(settings.uri, token=secret, db_name=settings.db_name)
    try:
        with guard("ask for the version", settings.uri):
            client.get_server_version(timeout=WAIT)
    except BaseException:
        client.close()
        raise
    return client


def _check_login(settings: Settings, place: Place | None) -> Generator[Check, None, MilvusClient | None]:
    try:
        client = _answered(settings)
    except LoginError as error:
        yield Check("login", State.FAILED, str(error))
        return None
    except (CompsketchError, OSError) as error:
        yield Check("milvus", State.FAILED, str(error))
        return None
    if place is None:
        return client
    if settings.token or "@" in settings.uri:
        yield Check("login", State.OK, "the server takes it; one that asks for no login takes any")
    elif _is_loopback(place.host):
        yield Check("login", State.OK, "none is set, and the server, on this machine, asks for none")
    else:
        yield Check(
            "login",
            State.WARNING,
            "the server asks for none: whoever reaches it can read and delete everything",
            "set common.security.authorizationEnabled on the server, and change root's password",
        )
    return client


def _check_version(client: MilvusClient, settings: Settings) -> Iterator[Check]:
    failures: list[Check] = []
    with reported("version", failures):
        path = lite_path(settings.uri)
        with guard("ask for the version", settings.uri):
            facts = probe(client, settings.uri if path is None else str(path))
        if facts.kind == "lite":
            yield Check("version", State.OK, f"Milvus Lite {facts.version}")
            return
        found = re.match(r"v?(\d+)\.(\d+)", facts.version)
        if found is None:
            yield Check("version", State.WARNING, f"{facts.version!r} is no version that is known here")
        elif (int(found[1]), int(found[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            yield Check(
                "version", State.FAILED, f"Milvus {facts.version}", f"update the server: {oldest} is the oldest"
            )
        else:
            yield Check("version", State.OK, f"Milvus {facts.version}")
        said = {"yes": "it builds GPU indexes", "no": f"it builds none on a GPU, but {choose(facts).type} on the CPU"}
        message = said.get(facts.gpu, "its version does not tell; it is asked when a collection is made or indexed")
        yield Check("gpu index", State.OK, f"{message}{f': {facts.gpu_reason}' if facts.gpu_reason else ''}")
    yield from failures


def _check_database(client: MilvusClient, settings: Settings) -> Iterator[Check]:
    wanted = settings.db_name or "default"
    failures: list[Check] = []
    with reported("database", failures), guard("list the databases", settings.uri):
        there = sorted(client.list_databases(timeout=WAIT))
        if wanted in there:
            yield Check("database", State.OK, f"{wanted!r} is there")
        else:
            yield Check(
                "database",
                State.FAILED,
                f"there is no database {wanted!r}; there: {', '.join(there)}",
                "set MILVUS_DB_NAME to one of them, or make it on the server",
            )
    yield from failures


def _check_clock(client: MilvusClient) -> Iterator[Check]:
    try:
        # Not in pymilvus' public interface; a timestamp is what the server's own clock says.
        stamp = int(client._get_connection().alloc_timestamp(timeout=WAIT))
    except Exception as error:  # whatever another version of pymilvus, or a server that does not let us, raises
        yield Check("clock", State.OK, f"the server does not tell its time ({type(error).__name__})")
        return
    ahead = (stamp >> PHYSICAL) / 1000 - time.time()
    words = f"the server's clock is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) <= APART:
        yield Check("clock", State.OK, words)
    else:
        yield Check("clock", State.WARNING, words, "set both by NTP: certificates and logs go by the clock")


def _check_leftovers(client: MilvusClient, settings: Settings) -> Iterator[Check]:
    """Temporary collections of programs that were killed; one that is at work right now has one, too."""
    failures: list[Check] = []
    with reported("leftovers", failures), guard("list the collections", settings.uri):
        left = sorted(name for name in client.list_collections(timeout=WAIT) if name.startswith(TEMPORARY))
        if left:
            remedy = "if no program is making or indexing a collection now, drop them"
            yield Check("leftovers", State.WARNING, f"temporary collections: {', '.join(left)}", remedy)
    yield from failures


def check_collection(client: MilvusClient, settings: Settings, encoder: Encoder | None) -> Iterator[Check]:
    """Whether the collection is there and the encoder's, and its index built and loaded."""
    name, uri, failures = settings.collection, settings.uri, list[Check]()
    with reported("collection", failures):
        with guard("look up the collection", uri):
            there = client.has_collection(name, timeout=WAIT)
        if not there:
            message = f"{public_uri(uri)} has no collection {name!r} yet"
            yield Check("collection", State.WARNING, message, "make it: compsketch ingest PHOTOS")
            return
        with guard("describe the collection", uri):
            described = client.describe_collection(name, timeout=WAIT)
            rows = int(client.get_collection_stats(name, timeout=WAIT)["row_count"])
        identity = Identity.read(described, name)
        asked = identity.index.get("gpu")  # when the collection was made
        gpu = f"; GPU indexes there: {asked}, {identity.index.get('gpu_reason')}" if asked else ""
        yield Check("collection", State.OK, f"{name!r}, some {rows} photos, made by encoder {identity.encoder!r}{gpu}")
        if encoder is None:
            yield Check("fingerprint", State.SKIPPED, "the encoder has to load first")
        else:
            mismatch: list[Check] = []
            with reported("fingerprint", mismatch):
                identity.check(encoder, str(described.get("collection_name", name)), name)
                yield Check("fingerprint", State.OK, f"the collection's is the encoder's, {encoder.fingerprint}")
            yield from mismatch
        yield from _check_index(client, uri, name, rows)
    yield from failures


def _check_index(client: MilvusClient, uri: str, name: str, rows: int) -> Iterator[Check]:
    with guard("describe the index", uri):
        there = "vector" in client.list_indexes(name, field_name="vector", timeout=WAIT)
        index: dict[str, Any] = dict(client.describe_index(name, "vector", timeout=WAIT) or {}) if there else {}
        loaded = str(client.get_load_state(name, timeout=WAIT).get("state", "")).rpartition(".")[2]
    if not index:
        yield Check("index", State.FAILED, "the vectors have none", "open the collection to build it: compsketch info")
    else:
        state, indexed = str(index.get("state", "Finished")), index.get("indexed_rows")
        counted = "" if indexed is None else f", {indexed} of {index.get('total_rows', rows)} rows"
        message = f"{index.get('index_type')}, {state}{counted}"
        if state == "Failed":
            reason = index.get("index_state_fail_reason") or "no reason given"
            yield Check("index", State.FAILED, f"{message}: {reason}", "look into the server's log, and index anew")
        elif state != "Finished":
            yield Check("index", State.WARNING, message, "wait: until it is built, searches look at every photo")
        else:
            yield Check("index", State.OK, message)
    ready = loaded == "Loaded"
    remedy = "" if ready else "the next search loads it, and takes that much longer"
    yield Check("loaded", State.OK if ready else State.WARNING, loaded or "unknown", remedy)
