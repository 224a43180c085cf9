"""From one collection to another with a new projection, and readers from the one to the other in one step.

    kept features   newest part first; a photo whose row in OLD has the facts of the part is projected and stored in NEW
    sources         what NEW still lacks is encoded again, by an ingest of OLD's rows
    counts          OLD == NEW + missing, both counted with Strong consistency
    alias           only if nothing is missing, and NEW is flushed, indexed and loaded

The mark for going on after an interruption is NEW itself. The same with OLD and NEW changed about leads back.

Readers open the collection by the alias. `SketchCollection.open` looks up once which collection it names and keeps to
it: a reader that was there before the change reads OLD, whole, until it is opened again, and one that comes after it
reads NEW, whole. So keep OLD until the last reader has been opened again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from compsketch_milvus.encoder import Projecting
from compsketch_milvus.errors import CollectionError, ServerError
from compsketch_milvus.features import FeatureStore, KeptPhoto, Part, facts
from compsketch_milvus.ingest import Failure, IngestProgress, ingest
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.server import guard
from compsketch_milvus.settings import COLLECTION_NAME
from compsketch_milvus.sources.walk import PAGE, Row, dynamic, record_of, rows, rows_of

if TYPE_CHECKING:
    import numpy as np

    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import Encoder

__all__ = ["Reprojection", "open_successor", "point_alias", "reproject"]

INDEXING = 3600  # seconds for the index of all rows
NAMED = 5  # ids in a message

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reprojection:
    """What a re-projection did: rows == there + projected + encoded + missing + missing_dropped.

    Args:
        rows: photos of the old collection.
        there: that the new one held already.
        projected: from kept features.
        encoded: again, from their sources.
        missing: photos that the new collection lacks, each with its reason; the first 10,000.
        missing_dropped: those beyond, without their reasons.
        alias: the name that readers now find the new collection by, or None.
        seconds: wall-clock time.
    """

    rows: int
    there: int
    projected: int
    encoded: int
    missing: list[Failure]
    missing_dropped: int
    alias: str | None
    seconds: float


def open_successor(old: SketchCollection, name: str, encoder: Encoder, **where: Any) -> SketchCollection:
    """Open the collection that is to be made of `old`, or make it: with its index, and with its partition key.

    Args:
        old: where the photos are.
        name: of the new collection.
        encoder: the new one.
        **where: `uri`, `token` and `db_name`, as for `SketchCollection.open`.

    Raises:
        FingerprintError: there is such a collection, and it was made by another encoder.
        CollectionError: it has another partition key, or the name does not fit.
        ServerError: Milvus cannot be reached or refuses.
    """
    index = old.identity.index
    like = {"index": index["want"], "index_params": index.get("given"), "partition_key": old.partition_key}
    return type(old).open(name, encoder, attached=old.attached, **like, **where)


def reproject(
    old: SketchCollection,
    new: SketchCollection,
    *,
    features: str | Path | FeatureStore | None = None,
    alias: str | None = None,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Reprojection:
    """Make `new` of the photos of `old`, without the networks where features were kept.

    Ids, sources, sizes and fields are carried over. Whoever writes to `old` should stop first; what was written in
    between is brought over by running it again.

    Args:
        old: opened without an encoder, or with its own.
        new: opened with the new encoder; empty, or what an earlier run left.
        features: kept features, or their folder, of the encoder's networks. What is encoded again is added to it.
        alias: name for readers, which is made, or changed from another collection to `new`, if nothing is missing.
        batch_size: photos a call of the encoder.
        progress: called with a stage ("project", "encode"), photos done and their number.

    Raises:
        CollectionError: `old` and `new` are one, the alias is the name of a collection, or counts do not add up.
        CompsketchError: the features are of other networks.
        IngestError: the encoder or Milvus gave way in the middle.
        ServerError: Milvus cannot be reached or refuses.
    """
    started, say = time.monotonic(), progress or (lambda stage, done, total: None)
    if (old.uri, old.name) == (new.uri, new.name):
        raise CollectionError(f"collection {old.name!r} cannot be made of itself; give the new one another name")
    if alias is not None:
        _check_alias(new, alias)
    store = FeatureStore(features, new.encoder) if isinstance(features, str | Path) else features
    total, projected = old.count(), 0
    for count in _project(old, new, store) if store is not None else ():
        projected += count
        say("project", projected, total)
    seen, lacking = _lacking(old, new)

    def tell(now: IngestProgress) -> None:
        say("encode", now.indexed + now.failed, len(lacking))

    summary = ingest(new, _records(old, lacking), batch_size=batch_size, force=True, keep_features=store, progress=tell)
    _check_counts(old, new, summary.failures)
    complete = summary.failures == 0
    if alias is not None and complete:
        point_alias(alias, new)
    return Reprojection(
        rows=seen,
        there=seen - projected - len(lacking),
        projected=projected,
        encoded=summary.indexed,
        missing=summary.failed,
        missing_dropped=summary.failures_dropped,
        alias=alias if complete else None,
        seconds=time.monotonic() - started,
    )


def _project(old: SketchCollection, new: SketchCollection, store: FeatureStore) -> Iterator[int]:
    """Store in `new` what the kept features give; yields how many photos, batch by batch."""
    encoder = cast(Projecting, new.encoder)  # or the store would have refused it
    for group in _groups(store.parts()):
        ids = list({photo.id for _, photos in group for photo in photos})
        there = rows_of(new, ids)
        wanted = {id: row for id, row in rows_of(old, ids).items() if not _same(there.get(id), row)}
        made: list[PhotoVector] = []
        for part, photos in group:
            places = {}  # of a photo that is in the part twice, the last
            for place, photo in enumerate(photos):
                row = wanted.get(photo.id)
                if row is not None and photo.facts == facts(row["source"], dynamic(row)):
                    places[photo.id] = place
            if places:
                vectors = encoder.project(part.features(list(places.values())))
                made += [_photo(wanted.pop(id), vector) for id, vector in zip(places, vectors, strict=True)]
        if made:
            new.upsert(made)
            yield len(made)


def _lacking(old: SketchCollection, new: SketchCollection) -> tuple[int, list[str]]:
    """How many photos `old` has, and the ids of those that `new` has not as they are: some 90 bytes of memory each."""
    seen, lacking = 0, []
    for page in rows(old):
        there = rows_of(new, [row["id"] for row in page])
        lacking += [row["id"] for row in page if not _same(there.get(row["id"]), row)]
        seen += len(page)
    return seen, lacking


def _same(one: Row | None, other: Row) -> bool:
    """Whether two rows tell of one photo in one state. Its size may not: a file can have changed since."""
    return one is not None and (one["source"], dynamic(one)) == (other["source"], dynamic(other))


def _records(collection: SketchCollection, ids: list[str]) -> Iterator[ImageRecord]:
    for start in range(0, len(ids), PAGE):
        yield from map(record_of, rows_of(collection, ids[start : start + PAGE]).values())


def _groups(parts: list[Part]) -> Iterator[list[tuple[Part, list[KeptPhoto]]]]:
    """Parts together of about `PAGE` photos: a question to Milvus costs more than its answer."""
    group: list[tuple[Part, list[KeptPhoto]]] = []
    for part in parts:
        group.append((part, part.photos()))
        if sum(len(photos) for _, photos in group) >= PAGE:
            yield group
            group = []
    if group:
        yield group


def _photo(row: Row, vector: np.ndarray) -> PhotoVector:
    return PhotoVector(row["id"], row["source"], row["width"], row["height"], vector, dynamic(row))


def _check_counts(old: SketchCollection, new: SketchCollection, missing: int) -> None:
    before, after = old.count(), new.count()
    if before == after + missing:
        return
    held = {row["id"] for page in rows(old) for row in page}
    extra = [row["id"] for page in rows(new) for row in page if row["id"] not in held]
    said = f"{new.name!r} has {after} photos and lacks {missing}, but {old.name!r} has {before}"
    if extra:
        some = ", ".join(extra[:NAMED]) + ", …" * (len(extra) > NAMED)
        raise CollectionError(
            f"{said}: {len(extra)} are in {new.name!r} alone ({some}); delete them there (`compsketch delete ID... "
            f"--collection {new.name}`) or take another name, and run it again"
        )
    raise CollectionError(f"{said}: photos were written meanwhile; run it again, it goes on from there")


# --- the alias ---


def point_alias(alias: str, collection: SketchCollection) -> str | None:
    """Let readers find a collection by an alias; made where there is none, else changed in one step.

    Before that the collection is flushed, and its index complete and loaded.

    Returns:
        The collection that the alias named before, or None.

    Raises:
        CollectionError: the alias is the name of a collection.
        ServerError: the index is not complete in an hour, Milvus cannot be reached or refuses.
    """
    before = _check_alias(collection, alias)
    collection.flush()
    if before == collection.name:
        return before  # its readers keep it: an index that it has outgrown would be built without them
    collection.optimize(INDEXING)
    _check_index(collection)
    collection.load()
    method = "create_alias" if before is None else "alter_alias"
    collection.call("point the alias", method, alias=alias)
    return before


def _check_alias(collection: SketchCollection, alias: str) -> str | None:
    """The collection that an alias names, None where there is no such alias."""
    if not COLLECTION_NAME.fullmatch(alias):
        raise CollectionError(f"alias {alias!r}: use letters, digits and underscores, at most 255, no digit in front")
    client = collection.client
    with guard("look up the alias", collection.uri):
        if not client.has_collection(alias):  # true of an alias, too
            return None
        name = str(client.describe_collection(alias)["collection_name"])
    if name != alias:
        return name
    other = alias + "_1"
    raise CollectionError(
        f"{alias!r} is the name of a collection, and so cannot be an alias: give that collection another name and its "
        f"readers an alias, once, with pymilvus: c = MilvusClient(uri); c.rename_collection({alias!r}, {other!r}); "
        f"c.create_alias({other!r}, {alias!r}); then reproject from {other!r}"
    )


def _check_index(collection: SketchCollection) -> None:
    state = collection.call("describe the index", "describe_index", index_name="vector")
    if state["state"] != "Finished" or int(state.get("pending_index_rows") or 0):
        raise ServerError(
            f"{collection.uri}: the index {state['index_type']} of {collection.name!r} is {state['state']}, with "
            f"{state['indexed_rows']} rows; readers keep what they had. See the server's log, or open it with another "
            "index, and run it again"
        )
