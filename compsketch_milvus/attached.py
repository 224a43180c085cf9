"""Sketch search for an application that is on Milvus already, beside the collection that it owns.

Its collection is read and stays as it is. The vectors go to a collection of our own, `NAME_sketch`, a SketchCollection
like any other whose rows carry the owner's key: what indexes, resumes and ranks photos does it here too. A search ranks
there, then fetches the rows of the best keys from the owner's collection, so that a hit has the owner's key and fields
as they are now.

How a filter on the owner's fields is met, so that no hit is missing that passes it:

    up to RESOLVED rows pass   their keys are looked up first, and only their photos are ranked
    more                       the best photos are ranked first, and those whose rows pass are kept; where too few of
                               MAX_LIMIT do, the keys of all rows that pass are looked up, RESOLVED at a time
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.encoder import Calibrated, Encoder, connect
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.imagefield import ImageField, row_id
from compsketch_milvus.owner import Owner
from compsketch_milvus.paging import Key, among, pages
from compsketch_milvus.retrieval import reach
from compsketch_milvus.search import MAX_LIMIT, Hit, checked_vectors, search_vectors
from compsketch_milvus.server import WAIT, connect_server, guard, lite_path
from compsketch_milvus.settings import load_settings
from compsketch_milvus.terms import Terms
from encoders import tracing
from encoders.sketch import Sketch

if TYPE_CHECKING:
    from compsketch_milvus.ingest import IngestSummary

__all__ = ["RESOLVED", "Attached", "AttachedHit", "AttachedResult", "attach", "encoded", "judged", "remembered"]

RESOLVED = 2000  # keys that one expression names
SUFFIX = "_sketch"
_KEPT = ("collection", "field", "kind", "key", "root")


@dataclass(frozen=True)
class AttachedHit:
    """A row of the owner's collection.

    Args:
        id: its primary key.
        score: cosine of sketch and photo, -1 to 1.
        distance: L2 distance of the two unit vectors, 0 to 2.
        fields: the owner's fields that were asked for.
        source: path or URL of the photo; COLLECTION/KEY where the row holds its bytes.
        confidence: probability, 0 to 1, that the photo is relevant; None where the encoder is not calibrated for it.
    """

    id: Key
    score: float
    distance: float
    fields: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    confidence: float | None = None


@dataclass(frozen=True)
class AttachedResult:
    """What was found.

    Args:
        hits: best first.
        gone: photos that would have been among the hits, but the owner has deleted their rows; `Attached.prune`
            removes such photos.
        seconds: that the steps took: `encode`, `search` (with what is fetched of the owner's).
    """

    hits: list[AttachedHit]
    gone: int
    seconds: dict[str, float]

    def __iter__(self) -> Iterator[AttachedHit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


def attach(
    name: str,
    encoder: Encoder | None = None,
    *,
    field: str | None = None,
    kind: str | None = None,
    root: str | Path | None = None,
    into: str | None = None,
    allow_private: bool = False,
    uri: str | None = None,
    token: str | None = None,
    db_name: str | None = None,
    index: str = "auto",
) -> Attached:
    """Open sketch search beside a collection, making a collection for its vectors the first time.

    Args:
        name: the owner's collection, or an alias of it. It has to be loaded, and is only read.
        encoder: what makes the vectors; None opens the one that `connect()` gives.
        field: the field that says where a row's image is: VARCHAR, dynamic, or inside JSON as in `meta["photo"]`.
            Needed the first time, and remembered.
        kind: what the field holds, see `ImageField`; "auto" unless given, and remembered.
        root: folder that relative paths in it are meant from; remembered.
        into: name of the collection for the vectors; None takes `NAME_sketch`.
        allow_private: whether URLs may lead to addresses that are not of the public internet; not remembered.
        uri: as for `SketchCollection.open`, as are `token`, `db_name` and `index`.

    Raises:
        CollectionError: there is no such collection or field, it is not loaded, nothing was attached to it yet and no
            `field` is given, or what is there was attached to something else.
        FingerprintError: the vectors that are there were made by another encoder.
        ServerError: Milvus cannot be reached or refuses.
    """
    settings = load_settings(uri=uri, token=token, db_name=db_name)
    secret = settings.token.get_secret_value() if settings.token else None
    where: dict[str, Any] = {"uri": settings.uri, "token": secret, "db_name": settings.db_name}
    given = {"collection": name, "field": field, "kind": kind, "root": str(Path(root).absolute()) if root else None}
    path = lite_path(settings.uri)
    if path is not None and not path.exists():
        raise CollectionError(f"{settings.uri}: there is no such Milvus Lite file, and so no collection to attach to")
    with ExitStack() as failing:
        client = connect_server(settings.uri, token=secret, db_name=settings.db_name)
        failing.callback(client.close)
        owner = Owner.open(client, settings.uri, name)
        wanted = None if field is None else _wanted(owner, given)
        side = _open(into or name + SUFFIX, encoder, owner, wanted, index, where)
        failing.callback(side.close)
        images = remembered(owner, side.attached or {}, allow_private)
        failing.pop_all()
    return Attached(owner, side, images)


def remembered(owner: Owner, kept: Mapping[str, Any], allow_private: bool) -> ImageField:
    """Where the images are, as that was said the first time."""
    root = Path(kept["root"]) if kept.get("root") else None
    return ImageField(owner, owner.field(kept["field"]), kept["kind"], root, allow_private)


def _wanted(owner: Owner, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a new collection is to remember; the field is checked before anything is made."""
    path = owner.field(given["field"])
    ImageField(owner, path, given["kind"] or "auto")
    return {**given, "kind": given["kind"] or "auto", "key": owner.key}


def _open(
    name: str, encoder: Encoder | None, owner: Owner, wanted: dict[str, Any] | None, index: str, where: dict[str, Any]
) -> SketchCollection:
    with guard("look up the collection", owner.uri):
        there = owner.client.has_collection(name, timeout=WAIT)
    if wanted is None and not there:
        raise CollectionError(
            f"nothing is attached to collection {owner.name!r} yet (there is no {name!r}); "
            "say which of its fields holds the images: --field"
        )
    side = SketchCollection.open(
        name, encoder or connect(), create=wanted is not None, attached=wanted, index=index, **where
    )
    kept = side.attached
    try:
        if kept is None:
            raise CollectionError(f"collection {name!r} holds photos of its own; choose another name with --into")
        expected = {"collection": owner.name, "key": owner.key, **(wanted or {})}
        for what in _KEPT:
            if what in expected and expected[what] != kept.get(what):
                raise CollectionError(
                    f"collection {name!r} was attached with {what} {kept.get(what)!r}, not {expected[what]!r}; "
                    "choose another name with --into"
                )
    except BaseException:
        side.close()
        raise
    return side


class Attached:
    """Sketch search beside an owner's collection. Made by `attach`; a context manager.

    Attributes:
        owner: the owner's collection, only read.
        side: the collection of the vectors.
        images: where the owner's rows hold their images.
    """

    def __init__(self, owner: Owner, side: SketchCollection, images: ImageField) -> None:
        self.owner, self.side, self.images = owner, side, images

    @property
    def place(self) -> str:
        """Where the vectors are."""
        return self.side.name

    def index(self, **options: Any) -> IngestSummary:
        """Index the images of all rows; again, to add what is new or changed. Options are `ingest`'s.

        A row is skipped whose image is indexed and whose field (and file, where it names one) has not changed since.
        Where a changed image cannot be read, the row counts as failed and keeps the vector of the old one. What is at
        a URL is taken to be the same until the URL changes; `force=True` fetches it anew.

        Raises:
            IngestError: it broke off; what was written stays, and running it again goes on from there.
        """
        return self.side.ingest(self.images.records(), **options)

    def prune(self) -> int:
        """Remove the photos whose rows the owner has deleted; returns how many."""
        removed = 0
        for page in pages(self.side.call, "id", ["key"]):
            there = self.owner.rows([row["key"] for row in page], consistency_level="Strong")
            gone = [row["id"] for row in page if row["key"] not in there]
            if gone:
                removed += self.side.delete(gone)
        return removed

    @tracing.operation("search_attached")
    def search(
        self,
        sketch: Sketch,
        limit: int = 20,
        filter: str = "",
        *,
        output_fields: Sequence[str] = (),
        words: bool = False,
        threshold: float | None = None,
        min_confidence: float | None = None,
    ) -> AttachedResult:
        """Find the rows whose photos hold a sketch's objects in its layout.

        Args:
            sketch: what to search with.
            limit: number of hits, 1 to 16384.
            filter: Milvus' filter expression over the owner's fields, such as 'price < 50'.
            output_fields: the owner's fields to return, as Milvus takes them; ("*",) for all.
            words: also use the objects' labels.
            threshold: leave out hits with a lower score, -1 to 1.
            min_confidence: leave out hits of lower confidence, 0 to 1.

        Raises:
            CollectionError: an argument does not fit, or `min_confidence` is given and the encoder is not calibrated.
            ServerError: Milvus failed.
        """
        encoder, start = self.side.encoder, time.perf_counter()
        vector = encoded(encoder, sketch, words)
        took = time.perf_counter() - start
        result = self.search_vector(vector, limit, filter, output_fields=output_fields, threshold=threshold)
        hits = judged(result.hits, encoder, sketch, words, min_confidence)
        return AttachedResult(hits, result.gone, {"encode": took, **result.seconds})

    def search_vector(
        self,
        vector: np.ndarray,
        limit: int = 20,
        filter: str = "",
        *,
        output_fields: Sequence[str] = (),
        threshold: float | None = None,
    ) -> AttachedResult:
        """`search` with a (dim,) vector of unit length that the encoder made."""
        Terms(limit, filter, threshold=threshold)  # or it says what does not fit
        start = time.perf_counter()
        few = self._few(filter) if filter else None
        if few is not None:
            hits, gone = self._among(vector, limit, few), 0
        else:
            hits, gone = self._widening(vector, limit, filter, threshold)
        if threshold is not None:
            hits = [hit for hit in hits if hit.score >= threshold]
        keys = [hit.fields["key"] for hit in hits]
        rows = self.owner.rows(keys, output_fields) if output_fields else {key: {} for key in keys}
        found = [
            AttachedHit(key, hit.score, hit.distance, dict(rows[key]), hit.source)
            for key, hit in zip(keys, hits, strict=True)
            if key in rows  # deleted in this very moment
        ]
        return AttachedResult(found, gone + len(hits) - len(found), {"search": time.perf_counter() - start})

    def _few(self, filter: str) -> list[Key] | None:
        """The keys of all rows that pass a filter, or None if they are more than RESOLVED."""
        first = list(islice(self._passing(filter), 2))
        return None if len(first) == 2 else first[0] if first else []

    def _passing(self, filter: str) -> Iterator[list[Key]]:
        # As fresh as any search of the owner's collection: what a Strong read waits for takes longer than the search.
        for page in self.owner.pages([], filter, RESOLVED, consistency_level=None):
            yield [row[self.owner.key] for row in page]

    def _among(self, vector: np.ndarray, limit: int, keys: Sequence[Key]) -> list[Hit]:
        """The best photos among those of at most RESOLVED keys."""
        return search_vectors(self.side, vector, limit, among("id", map(row_id, keys)))[0].hits if keys else []

    def _widening(self, vector: np.ndarray, limit: int, filter: str, threshold: float | None) -> tuple[list[Hit], int]:
        """The best photos whose rows are there and pass, and how many better ones have no row any more."""
        passing: dict[Key, Any] = {}
        asked: set[Key] = set()
        most = min(MAX_LIMIT, reach(self.side, Terms(limit)))
        fetch = min(most, 4 * limit) if filter else limit
        while True:
            hits = search_vectors(self.side, vector, fetch)[0].hits
            new = [hit.fields["key"] for hit in hits if hit.fields["key"] not in asked]
            asked.update(new)
            passing.update(self.owner.rows(new, (), filter))
            kept = [hit for hit in hits if hit.fields["key"] in passing][:limit]
            below = threshold is not None and bool(hits) and hits[-1].score < threshold
            if len(kept) == limit or below or len(hits) < fetch or fetch == most:
                break
            fetch = min(most, 4 * fetch)
        if filter:
            return (kept if len(kept) == limit or below else self._exhaustively(vector, limit, filter)), 0
        last = hits.index(kept[-1]) + 1 if len(kept) == limit else len(hits)
        left_out = [hit for hit in hits[:last] if hit.fields["key"] not in passing]
        return kept, sum(threshold is None or hit.score >= threshold for hit in left_out)

    def _exhaustively(self, vector: np.ndarray, limit: int, filter: str) -> list[Hit]:
        best: list[Hit] = []
        for keys in self._passing(filter):
            best = sorted([*best, *self._among(vector, limit, keys)], key=lambda hit: (hit.distance, hit.id))[:limit]
        return best

    def info(self) -> dict[str, Any]:
        """What `SketchCollection.info` says of the vectors, and what they are attached to, as one JSON object."""
        return {**self.side.info(), "attached": {**(self.side.attached or {}), "rows": self.owner.count()}}

    def close(self) -> None:
        """Close both connections."""
        self.side.close()
        self.owner.client.close()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def encoded(encoder: Encoder, sketch: Sketch, words: bool) -> np.ndarray:
    """A sketch's vector (dim,), checked; `words` also uses the objects' labels."""
    if not isinstance(sketch, Sketch):
        raise CollectionError(f"{sketch!r:.80} is no Sketch; make one with Sketch.open(path) or Sketch.from_dict")
    with tracing.span("encode sketches"):
        vectors = encoder.encode_sketches([sketch], words=words)
    vector: np.ndarray = checked_vectors(vectors, encoder.dim)[0]
    return vector


def judged(
    hits: list[AttachedHit], encoder: Encoder, sketch: Sketch, words: bool, least: float | None
) -> list[AttachedHit]:
    """Give hits their confidence, and leave out those with too little."""
    if least is not None and not 0 <= least <= 1:
        raise CollectionError(f"min_confidence {least!r}: it has to be a probability, from 0 to 1")
    scores = np.array([hit.score for hit in hits])
    known = encoder.confidence(sketch, scores, words=words) if isinstance(encoder, Calibrated) else None
    if known is None:
        if least is not None:
            raise CollectionError(
                f"min_confidence {least!r}: encoder {encoder.name!r} is not calibrated for such sketches; use threshold"
            )
        return hits
    return [
        replace(hit, confidence=value)
        for hit, value in zip(hits, known.tolist(), strict=True)
        if least is None or value >= least
    ]
