"""The name by which readers find a collection: an alias, which is pointed from one to another in one step.

`SketchCollection.open` looks up once which collection an alias names and keeps to it: a reader that was there before
the change reads the one collection, whole, until it is opened again, and one that comes after it reads the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.server import guard
from compsketch_milvus.settings import COLLECTION_NAME

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["named_by", "point_alias", "ready", "rename"]

INDEXING = 3600  # seconds for the index of all rows


def named_by(alias: str, collection: SketchCollection) -> str | None:
    """The collection that an alias names, None where there is no such alias.

    Args:
        alias: the name.
        collection: any collection of the server that is asked.

    Raises:
        CollectionError: it is the name of a collection, or no name.
        ServerError: Milvus cannot be reached or refuses.
    """
    _check_name(alias)
    client = collection.client
    with guard("look up the alias", collection.uri):
        if not client.has_collection(alias):  # true of an alias, too
            return None
        name = str(client.describe_collection(alias)["collection_name"])
    if name != alias:
        return name
    raise CollectionError(
        f"{alias!r} is the name of a collection, and so cannot be an alias: give that collection another name and its "
        f"readers an alias, once, with `compsketch alias {alias} {alias}_1 --rename`"
    )


def point_alias(alias: str, collection: SketchCollection) -> str | None:
    """Let readers find a collection by an alias; made where there is none, else changed in one step.

    Before that the collection is made ready.

    Returns:
        The collection that the alias named before, or None.

    Raises:
        CollectionError: the alias is the name of a collection.
        ServerError: the index is not complete in an hour, Milvus cannot be reached or refuses.
    """
    before = named_by(alias, collection)
    if before == collection.name:
        collection.flush()
        return before  # its readers keep it: an index that it has outgrown would be built without them
    ready(collection)
    method = "create_alias" if before is None else "alter_alias"
    collection.call("point the alias", method, alias=alias)
    return before


def ready(collection: SketchCollection) -> None:
    """Flush a collection, wait until its index is complete, and load it.

    Raises:
        ServerError: the index is not complete in an hour, Milvus cannot be reached or refuses.
    """
    collection.flush()
    collection.optimize(INDEXING)
    _check_index(collection)
    collection.load()


def rename(collection: SketchCollection, name: str) -> str:
    """Give a collection another name, and its readers the one that it had, as an alias.

    Between the two Milvus knows nothing by the old name, for some milliseconds. Whoever has the collection open goes on
    by the alias, and would follow it to another one: it has to be opened again before the alias is pointed elsewhere.

    Args:
        collection: open, by its own name; it is to be opened again.
        name: the new one.

    Returns:
        The old name.

    Raises:
        CollectionError: the name is taken, or no name.
        ServerError: Milvus cannot be reached or refuses.
    """
    _check_name(name)
    with guard("look up the name", collection.uri):
        taken = collection.client.has_collection(name)
    if taken:
        raise CollectionError(f"there is a collection or an alias {name!r} already; choose another name")
    before = collection.name
    collection.call("rename the collection", "rename_collection", new_name=name)
    collection.name = name
    collection.call("make the alias", "create_alias", alias=before)
    return before


def _check_name(alias: str) -> None:
    if not COLLECTION_NAME.fullmatch(alias):
        raise CollectionError(f"alias {alias!r}: use letters, digits and underscores, at most 255, no digit in front")


def _check_index(collection: SketchCollection) -> None:
    state = collection.call("describe the index", "describe_index", index_name="vector")
    if state["state"] != "Finished" or int(state.get("pending_index_rows") or 0):
        raise ServerError(
            f"{collection.uri}: the index {state['index_type']} of {collection.name!r} is {state['state']}, with "
            f"{state['indexed_rows']} rows; readers keep what they had. See the server's log, or open it with another "
            "index, and run it again"
        )
