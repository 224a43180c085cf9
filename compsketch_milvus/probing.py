"""What a server is and can do, found out by asking it.

No version of Milvus says whether it builds indexes on a GPU, and each refuses in its own way when it does not: from
2.5 on at once, 2.4 when it builds one, and 2.3 never: the index stays InProgress, and searches look at every row.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.errors import ServerError
from compsketch_milvus.index import ServerFacts
from compsketch_milvus.server import WAIT, guard, pymilvus

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["GPU_WAIT", "TEMPORARY", "ask_gpu", "await_index", "probe"]

TEMPORARY = "compsketch_gpu_"  # how the names of collections begin that a question is asked with
GPU_WAIT = 30  # seconds for the index of the few rows of a question; a GPU needs one or two
PAUSE = 0.5  # seconds between two looks at an index
ROWS, DIM = 2048, 64  # Milvus leaves segments of fewer than 1024 rows without an index, and calls them indexed
_LITE = "milvus_lite-"
_WHEEL = "-lite"  # PyPI's milvus, a server's binary in a wheel
_REFUSED = ("GPU_IVF_PQ", "index type", "index_type")  # one of these is in what a server says that knows no such type
_log = logging.getLogger(__name__)


def probe(client: MilvusClient, uri: str) -> ServerFacts:
    """Tell Milvus Lite from a server, and its version; whether it has a GPU only where the version says it.

    Args:
        client: open connection.
        uri: what it was opened with; an address without a scheme is a Milvus Lite file.
    """
    version = str(client.get_server_version(timeout=WAIT))
    if version.startswith(_LITE) or ("://" not in uri and not uri.startswith("unix:")):
        return ServerFacts("lite", version.removeprefix(_LITE), gpu="no", gpu_reason="Milvus Lite has none")
    if version.endswith(_WHEEL):
        return ServerFacts("server", version, gpu="no", gpu_reason="PyPI's milvus is built without")
    return ServerFacts("server", version)


def ask_gpu(client: MilvusClient, uri: str, wait: int = GPU_WAIT) -> tuple[str, str]:
    """Whether a server builds GPU indexes: have it build one, in a temporary collection of random vectors.

    Args:
        client: open connection.
        uri: address, for messages.
        wait: seconds after which an index of which no row is built counts as one that never will be.

    Returns:
        "yes", "no", or "unknown" where the question itself failed; and why.
    """
    _log.info("asking Milvus whether it builds GPU indexes; that takes %d s at most", wait)
    try:
        with _temporary(client, uri) as name:
            return _asked(client, uri, name, wait)
    except ServerError as error:
        return "unknown", f"could not be asked: {error}"


def await_index(describe: Callable[[], Mapping[str, Any]], wait: int, rows: int = 0) -> Mapping[str, Any]:
    """Wait until an index is built, or has failed.

    Right after a flush Milvus says Finished while rows are pending; it is done when none is.

    Args:
        describe: what the server says of the index now; nothing where another program is building it again.
        wait: seconds, after which the last answer has to do.
        rows: that have to be indexed at least.
    """
    deadline = time.monotonic() + wait
    while True:
        state = describe()
        done = state.get("state") == "Finished" and not state.get("pending_index_rows")
        if (done and state.get("indexed_rows", 0) >= rows) or state.get("state") == "Failed":
            return state
        if time.monotonic() >= deadline:
            return state
        time.sleep(min(PAUSE, wait))


@contextmanager
def _temporary(client: MilvusClient, uri: str) -> Iterator[str]:
    """A collection of a name that is nobody's, dropped at the end whatever happens."""
    name, kinds = f"{TEMPORARY}{uuid.uuid4().hex}", pymilvus().DataType
    try:
        with guard("create a temporary collection", uri):
            schema = client.create_schema(auto_id=False)
            schema.add_field("id", kinds.INT64, is_primary=True)
            schema.add_field("vector", kinds.FLOAT_VECTOR, dim=DIM)
            client.create_collection(name, schema=schema, num_shards=1, timeout=WAIT)  # one shard: one segment
        yield name
    finally:  # also after a timeout, past which a server may still make it; to drop what is not there is no error
        try:
            with guard("drop the temporary collection", uri):
                client.drop_collection(name, timeout=WAIT)
        except ServerError as error:
            _log.warning("the temporary collection %s may be left behind, to be dropped by hand: %s", name, error)


def _asked(client: MilvusClient, uri: str, name: str, wait: int) -> tuple[str, str]:
    wanted = client.prepare_index_params()
    params = {"nlist": 16, "m": 16, "nbits": 8}
    wanted.add_index("vector", "GPU_IVF_PQ", "vector", metric_type="L2", params=params)
    try:
        with guard("build GPU_IVF_PQ", uri):
            client.create_index(name, wanted, sync=False, timeout=WAIT)
    except ServerError as error:
        words = str(getattr(error.__cause__, "message", ""))
        if any(sign in words for sign in _REFUSED):
            return "no", f"the server refuses one: {words}"
        raise
    vectors = np.random.default_rng(0).normal(size=(ROWS, DIM)).astype(np.float32)
    with guard("store vectors", uri):
        client.insert(name, [{"id": i, "vector": vector} for i, vector in enumerate(vectors)], timeout=WAIT)
    with guard("flush", uri):
        client.flush(name, timeout=max(wait, WAIT))
    with guard("describe the index", uri):
        state = await_index(lambda: client.describe_index(name, "vector", timeout=WAIT), wait, ROWS)
    if state["state"] == "Failed":
        return "no", f"the server cannot build one: {_failure(client, name, wanted)}"
    if not state["indexed_rows"]:
        return "no", f"the server accepts one and had built none of its {ROWS} rows after {wait} s"
    return "yes", "the server built one"


def _failure(client: MilvusClient, name: str, wanted: Any) -> str:
    """Why an index failed: describing it doesn't tell, asking for it again does."""
    try:
        with guard("build the index", ""):
            client.create_index(name, wanted, sync=True, timeout=WAIT)
    except ServerError as error:
        return str(getattr(error.__cause__, "message", error))
    return "it gave no reason"
