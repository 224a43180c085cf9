"""From one collection to another with another encoder, or another projection, and readers over to it in one step.

    kept features   newest part first; a photo whose row in OLD has the facts of the part is projected and stored in NEW
    sources         what NEW still lacks is encoded again, by an ingest of OLD's rows
    again           what was written to OLD meanwhile, until a look at all rows finds nothing more
    counts          OLD == NEW + missing, both counted with Strong consistency
    alias           only if no more is missing than is allowed, and NEW is flushed, indexed and loaded
    a last time     what was written to OLD while the index was built

The mark for going on after an interruption is NEW itself. OLD stays as it is, and `aliases.point_alias` leads back.
Readers that are open keep to OLD (`aliases`): drop it only when the last of them has been opened again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from compsketch_milvus.aliases import named_by, point_alias, ready
from compsketch_milvus.encoder import Projecting
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.features import FeatureStore, KeptPhoto, Part, facts
from compsketch_milvus.ingest import Failure, IngestProgress, ingest
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.sources.walk import PAGE, Row, dynamic, record_of, rows, rows_of

if TYPE_CHECKING:
    import numpy as np

    from compsketch_milvus.collection import SketchCollection
    from compsketch_milvus.encoder import Encoder

__all__ = ["Upgrade", "open_successor", "upgrade"]

LOOKS = 20  # at all rows, for what was written meanwhile
NAMED = 5  # ids in a message

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did: rows == there + projected + encoded + missing + missing_dropped, if nobody wrote meanwhile.

    Args:
        rows: photos of the old collection.
        there: that the new one held already.
        projected: from kept features.
        encoded: again, from their sources; one that was written to the old collection meanwhile counts each time.
        pruned: that the new one held and the old one did not, and that were deleted.
        missing: photos that the new collection lacks, each with its reason; the first 10,000.
        missing_dropped: those beyond, without their reasons.
        alias: the name that readers now find the new collection by, or None.
        before: the collection that they found by it before, or None.
        seconds: wall-clock time.
    """

    rows: int
    there: int
    projected: int
    encoded: int
    pruned: int
    missing: list[Failure]
    missing_dropped: int
    alias: str | None
    before: str | None
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


def upgrade(
    old: SketchCollection,
    new: SketchCollection,
    *,
    features: str | Path | FeatureStore | None = None,
    alias: str | None = None,
    allow_missing: int = 0,
    prune: bool = False,
    batch_size: int = 32,
    allow_private: bool = False,
    progress: Progress | None = None,
) -> Upgrade:
    """Make `new` of the photos of `old`, and point readers to it; without the networks where features were kept.

    Ids, sources, sizes and fields are carried over, and so is what is written to `old` meanwhile. Once the alias names
    `new`, whoever writes to that has the last word: then running it again brings over the photos that `new` lacks, and
    leaves all others, so that writers can change over after readers.

    Args:
        old: opened without an encoder, or with its own.
        new: opened with the new encoder; empty, or what an earlier run left.
        features: kept features, or their folder, of the encoder's networks. What is encoded again is added to it.
        alias: name for readers, which is made, or changed from `old` to `new`, if all photos are there.
        allow_missing: so many photos may be missing all the same, as their sources are gone.
        prune: delete from `new` what `old` has not, such as photos that were deleted there since an earlier run.
        batch_size: photos a call of the encoder.
        allow_private: whether photos' URLs may lead to addresses that are not of the public internet.
        progress: called with a stage ("project", "encode"), photos done and their number.

    Raises:
        CollectionError: `old` and `new` are one, the alias is the name of a collection or names a third one, photos go
            on being written to `old`, or counts do not add up.
        CompsketchError: the features are of other networks.
        IngestError: the encoder or Milvus gave way in the middle.
        ServerError: Milvus cannot be reached or refuses.
    """
    started = time.monotonic()
    if (old.uri, old.name) == (new.uri, new.name):
        raise CollectionError(f"collection {old.name!r} cannot be made of itself; give the new one another name")
    before = None if alias is None else _readers_of(alias, old, new)
    live = before == new.name
    store = FeatureStore(features, new.encoder) if isinstance(features, str | Path) else features
    carrying = _Carrying(old, new, store, batch_size, allow_private, live, progress or (lambda *_: None))
    carrying.carry()
    pruned = 0 if live else _check_counts(old, new, carrying.missing, prune)
    swap = alias is not None and carrying.missing <= allow_missing
    if swap and not live:
        ready(new)  # which may take an hour, so that there is more to carry before readers change over
        carrying.carry()
        pruned += _check_counts(old, new, carrying.missing, prune)
        swap = carrying.missing <= allow_missing
    if alias is not None and swap:
        point_alias(alias, new)
        carrying.live = True
        carrying.once()
    return Upgrade(
        rows=carrying.rows,
        there=carrying.there,
        projected=carrying.projected,
        encoded=carrying.encoded,
        pruned=pruned,
        missing=carrying.failed,
        missing_dropped=carrying.missing - len(carrying.failed),
        alias=alias if swap else None,
        before=before,
        seconds=time.monotonic() - started,
    )


class _Carrying:
    """Photos on their way from `old` to `new`.

    Attributes:
        live: whether readers are with `new` already: then it gets what it lacks, and keeps what it has.
        rows: of `old`, at the last look.
        there: in `new`, at the first look, but for what was projected.
        missing: photos that cannot be read, of the last look.
        failed: the first of them.
    """

    def __init__(
        self,
        old: SketchCollection,
        new: SketchCollection,
        store: FeatureStore | None,
        batch_size: int,
        allow_private: bool,
        live: bool,
        say: Progress,
    ) -> None:
        self.old, self.new, self.store, self.live, self.say = old, new, store, live, say
        self.batch_size, self.allow_private = batch_size, allow_private
        self.rows = self.there = self.projected = self.encoded = self.missing = 0
        self.failed: list[Failure] = []
        self._lacking: list[str] | None = None  # of the last look; none was taken yet

    def carry(self) -> None:
        """Carry over what `new` lacks, until a look finds nothing but what cannot be read."""
        for _ in range(LOOKS):
            if self.once():
                return
        raise CollectionError(
            f"photos go on being written to {self.old.name!r}, {len(self._lacking or ())} while the last ones were "
            "carried over; stop whoever writes, and run it again, it goes on from there"
        )

    def once(self) -> bool:
        """Look once, carry over what is found and was not tried yet; whether there was nothing."""
        first, tried = self._lacking is None, set(self._lacking or ())
        if first and self.store is not None:
            self._project(self.store)
        self.rows, self._lacking = self._look()
        if first:
            self.there = self.rows - self.projected - len(self._lacking)
        if tried.issuperset(self._lacking) and len(self._lacking) == self.missing:
            return True
        summary = ingest(
            self.new,
            self._records(self._lacking),
            batch_size=self.batch_size,
            force=True,
            keep_features=self.store,
            allow_private=self.allow_private,
            progress=self._tell,
        )
        self.encoded += summary.indexed
        self.missing, self.failed = summary.failures, summary.failed
        return False

    def _tell(self, now: IngestProgress) -> None:
        self.say("encode", now.indexed + now.failed, len(self._lacking or ()))

    def _project(self, store: FeatureStore) -> None:
        total = self.old.count()
        for count in _projected(self.old, self.new, store, self._carried):
            self.projected += count
            self.say("project", self.projected, total)
        self.new.flush()

    def _look(self) -> tuple[int, list[str]]:
        """How many photos `old` has, and the ids of those that `new` lacks: some 90 bytes of memory each."""
        seen, lacking = 0, []
        for page in rows(self.old):
            there = rows_of(self.new, [row["id"] for row in page])
            lacking += [row["id"] for row in page if not self._carried(there.get(row["id"]), row)]
            seen += len(page)
        return seen, lacking

    def _carried(self, one: Row | None, other: Row) -> bool:
        """Whether a row of `new` needs nothing from `old`: it tells of the photo in the same state, or has the say."""
        return one is not None and (self.live or _same(one, other))

    def _records(self, ids: list[str]) -> Iterator[ImageRecord]:
        for start in range(0, len(ids), PAGE):
            for row in rows_of(self.old, ids[start : start + PAGE]).values():
                yield record_of(row, self.allow_private)


def _projected(
    old: SketchCollection, new: SketchCollection, store: FeatureStore, carried: Callable[[Row | None, Row], bool]
) -> Iterator[int]:
    """Store in `new` what the kept features give; yields how many photos, batch by batch."""
    encoder = cast(Projecting, new.encoder)  # or the store would have refused it
    for group in _groups(store.parts()):
        ids = list({photo.id for _, photos in group for photo in photos})
        there = rows_of(new, ids)
        wanted = {id: row for id, row in rows_of(old, ids).items() if not carried(there.get(id), row)}
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


def _same(one: Row, other: Row) -> bool:
    """Whether two rows tell of one photo in one state. Its size may not: a file can have changed since."""
    return (one["source"], dynamic(one)) == (other["source"], dynamic(other))


def _readers_of(alias: str, old: SketchCollection, new: SketchCollection) -> str | None:
    """The collection that readers find by an alias, which has to be one of the two, or none."""
    before = named_by(alias, new)
    if before not in (None, old.name, new.name):
        raise CollectionError(
            f"alias {alias!r} names {before!r}, neither {old.name!r} nor {new.name!r}: its readers would find other "
            f"photos; take another alias, or upgrade {before!r}"
        )
    return before


def _check_counts(old: SketchCollection, new: SketchCollection, missing: int, prune: bool) -> int:
    """Make sure that `new` has what `old` has; returns how many photos were deleted for that."""
    before, after = old.count(), new.count()
    if before == after + missing:
        return 0
    alone = _alone(old, new)
    if alone and prune:
        new.delete(alone)
        after -= len(alone)
    if before == after + missing:
        return len(alone)
    said = f"{new.name!r} has {after} photos and lacks {missing}, but {old.name!r} has {before}"
    if alone and not prune:
        some = ", ".join(alone[:NAMED]) + ", …" * (len(alone) > NAMED)
        raise CollectionError(
            f"{said}: {len(alone)} are in {new.name!r} alone ({some}); delete them there with --prune, or take another "
            "name, and run it again"
        )
    raise CollectionError(f"{said}: photos were written meanwhile; run it again, it goes on from there")


def _alone(old: SketchCollection, new: SketchCollection) -> list[str]:
    """The ids of photos that `new` has and `old` has not."""
    alone = []
    for page in rows(new):
        held = old.existing([row["id"] for row in page])
        alone += [row["id"] for row in page if row["id"] not in held]
    return alone
