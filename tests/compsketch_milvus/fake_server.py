"""A Milvus server in this process, which keeps rows and forgets vectors, with a GPU of each kind that there is.

Only what opening, filling and indexing a collection takes, in the way Milvus 2.3.5 was seen to do it: right after a
flush an index is Finished and has rows pending; a segment of fewer than 1024 rows counts as indexed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pymilvus import MilvusClient, MilvusException

SMALL = 1024  # rows from which on a segment gets an index


@dataclass
class Collection:
    """What is kept of one."""

    description: str
    properties: dict[str, Any]
    dim: int
    rows: set[Any] = field(default_factory=set)
    segments: list[int] = field(default_factory=list)
    index: dict[str, Any] | None = None
    looks: int = 0  # at the index, since it had something to do
    loaded: bool = False


class FakeServer:
    """What `MilvusClient` would be for such a server.

    Args:
        version: as the server gives it.
        gpu: "builds"; "refuses" (from 2.5 on); "fails" (2.4); "never" builds and says nothing (2.3.5).
    """

    def __init__(self, version: str = "v2.6.4", gpu: str = "refuses") -> None:
        self.version, self.gpu = version, gpu
        self.collections: dict[str, Collection] = {}
        self.asked = 0  # temporary collections that were made
        self.full = False  # takes no further collection
        self.builds: list[str] = []  # types of the indexes asked for, in temporary collections, too

    create_schema, prepare_index_params = MilvusClient.create_schema, MilvusClient.prepare_index_params

    def close(self) -> None: ...

    def get_server_version(self, **_: Any) -> str:
        return self.version

    def list_collections(self, **_: Any) -> list[str]:
        return list(self.collections)

    def has_collection(self, name: str, **_: Any) -> bool:
        return name in self.collections

    def create_collection(self, name: str, schema: Any, properties: dict[str, Any] | None = None, **_: Any) -> None:
        if self.full:
            raise MilvusException(5, "exceeded the limit number of collections")
        self.asked += name.startswith("compsketch_gpu_")
        (dim,) = (one.params["dim"] for one in schema.fields if one.name == "vector")
        self.collections[name] = Collection(schema.description, dict(properties or {}), dim)

    def describe_collection(self, name: str, **_: Any) -> dict[str, Any]:
        one = self.collections[name]
        return {"description": one.description, "properties": one.properties}

    def alter_collection_properties(self, name: str, properties: dict[str, Any], **_: Any) -> None:
        self.collections[name].properties.update(properties)

    def drop_collection(self, name: str, **_: Any) -> None:
        self.collections.pop(name, None)  # to drop what is not there is no error

    def load_collection(self, name: str, **_: Any) -> None:
        if self.collections[name].index is None:
            raise MilvusException(700, f"index not found[collection={name}]")
        self.collections[name].loaded = True

    def release_collection(self, name: str, **_: Any) -> None:
        self.collections[name].loaded = False

    # --- rows ---

    def upsert(self, name: str, data: list[dict[str, Any]], **_: Any) -> None:
        self.collections[name].rows |= {row["id"] for row in data}

    insert = upsert

    def flush(self, name: str, **_: Any) -> None:
        one = self.collections[name]
        if fresh := len(one.rows) - sum(one.segments):
            one.segments.append(fresh)
            one.looks = 0

    def get_collection_stats(self, name: str, **_: Any) -> dict[str, int]:
        return {"row_count": sum(self.collections[name].segments)}

    def query(self, name: str, **_: Any) -> list[dict[str, int]]:
        if not self.collections[name].loaded:
            raise MilvusException(101, "collection not loaded")
        return [{"count(*)": len(self.collections[name].rows)}]

    # --- the index ---

    def create_index(self, name: str, index_params: Any, sync: bool = True, **_: Any) -> None:
        (wanted,) = index_params
        kind, one = wanted.index_type, self.collections[name]
        if kind.startswith("GPU_") and self.gpu == "refuses":
            raise MilvusException(1100, f"invalid parameter[expected=valid index][actual=invalid index type: {kind}]")
        if sync and kind.startswith("GPU_") and self.gpu == "fails":
            raise MilvusException(65535, "no CUDA-capable device is detected")
        params = wanted.get_index_configs()
        if params.get("nlist") == 13:
            raise MilvusException(1100, "this server does not like thirteen")
        self.builds.append(kind)
        one.index, one.looks = {key: str(value) for key, value in params.items()}, 0

    def drop_index(self, name: str, index_name: str, **_: Any) -> None:
        if self.collections[name].loaded:
            raise MilvusException(65535, "index cannot be dropped, collection is loaded, please release it first")
        self.collections[name].index = None

    def list_indexes(self, name: str, **_: Any) -> list[str]:
        return ["vector"] if self.collections[name].index else []

    def describe_index(self, name: str, index_name: str, **_: Any) -> dict[str, Any]:
        one = self.collections[name]
        assert one.index is not None
        one.looks += 1
        total, large = sum(one.segments), sum(rows for rows in one.segments if rows >= SMALL)
        state, pending = "Finished", 0
        if one.index["index_type"].startswith("GPU_") and self.gpu != "builds":
            failed = self.gpu == "fails"
            state, pending = ("Failed" if failed and large else "InProgress" if large else "Finished"), large
        elif one.looks < 3:
            state, pending = ("Finished", "InProgress")[one.looks - 1], large
        counts = {"total_rows": total, "indexed_rows": total - pending, "pending_index_rows": pending}
        return {**one.index, **counts, "state": state}
