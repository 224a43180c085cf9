"""The paper's sets (section 4.1) from manifests of photos and of sketches, the same from the same seed.

* OI-TrainVal: the photos of the splits train and validation;
* the gallery of OI-Test: all photos of the split test;
* OI-Test-LQ: up to 11,000 queries on that gallery; OI-Test-SQ: 900 of them;
* a set as Stock4.5M's queries: 100, of which 33, 33 and 34 have one, two and three objects.

Photos without a box of a class that has sketches are in none of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from encoders.data.filtering import counted, drawn_photos
from encoders.data.manifest import Facts, Photo, batches, iter_photos, read_facts, write_photos, write_queries
from encoders.data.report import Report
from encoders.errors import DataError
from encoders.evaluation.compositions import Composition, compositions, query_row
from encoders.evaluation.data import Annotations, ClassMap, SketchSet, read_annotations, read_sketches

LQ, SQ, STOCK = 11_000, 900, 100
AS_THEY_ARE = ClassMap({}, {})  # manifests hold words


def images_beside(out: Path, images: Path | None) -> str:
    """Where the photos are, seen from the folder of the manifest ``out``: both can move together."""
    return "" if images is None else Path(os.path.relpath(images.resolve(), out.resolve().parent)).as_posix()


def build_sets(
    photos: Path,
    sketches: Path,
    out: Path,
    *,
    seed: int = 0,
    large: int = LQ,
    small: int = SQ,
    stock: int = STOCK,
) -> dict[str, dict[str, Any]]:
    """Write ``trainval.parquet``, ``test.parquet``, ``test-lq.parquet``, ``test-sq.parquet``, ``stock.parquet``.

    Sets whose splits the photos do not have are left out.

    Args:
        photos: A manifest of photos with splits, such as ``compsketch data openimages`` writes.
        sketches: A manifest of sketches, or Quick, Draw!'s ndjson.
        out: The folder for the sets.
        seed: Of the queries.
        large: Queries of the large set at most; 0 for none, as for the next two.
        small: Queries of the small set at most, a part of the large one.
        stock: Queries of the balanced set.

    Returns:
        File name -> what is in it.

    Raises:
        DataError: A manifest is missing or of another kind, no photo has a split that is needed, or a set is larger
            than the photos allow.
    """
    if small > large:
        raise DataError(f"the small set of {small} queries is to be a part of the large one of {large}; ask for fewer")
    drawings, there = read_sketches(sketches), _splits(photos)
    made: dict[str, dict[str, Any]] = {}
    for name, splits in (("trainval", ("train", "validation")), ("test", ("test",))):
        if there.intersection(splits):
            path, report = out / f"{name}.parquet", Report()
            kept = drawn_photos(_of(photos, splits), None, drawings.by_class, report)
            write_photos(path, counted(kept, report), _seen_from(path, photos))
            made[path.name] = report.to_dict()
    if not made:
        raise DataError(f"{photos} has no photo of a split train, validation or test; build it with --split")
    if "test.parquet" in made:
        annotations = read_annotations(out / "test.parquet")
        source = f"test.parquet {sketches.name}"
        for name, n, balanced in (("test-lq", large, False), ("test-sq", small, False), ("stock", stock, True)):
            if n:
                found = compositions(annotations, drawings, AS_THEY_ARE, n=n, seed=seed, balanced=balanced)
                made[f"{name}.parquet"] = _write(out / f"{name}.parquet", found, annotations, drawings, source, seed)
    return made


def build_queries(
    photos: Path,
    sketches: Path,
    out: Path,
    *,
    n: int | None = None,
    seed: int = 0,
    objects: Sequence[int] = (1, 2, 3),
    balanced: bool = False,
    split: str | None = None,
) -> dict[str, Any]:
    """Write one set of queries, as ``compositions`` makes them.

    Args:
        photos: A manifest of photos.
        sketches: A manifest of sketches, or Quick, Draw!'s ndjson.
        out: The manifest to write.
        n: Queries at most; None for one of each photo.
        seed: Another seed, other queries.
        objects: Counts of objects to draw from.
        balanced: As many queries of each count.
        split: Only photos of this split; None for all.

    Returns:
        How many queries there are, by the number of their objects and by class.

    Raises:
        DataError: As ``compositions``; a file is not what it should be.
    """
    annotations, drawings = read_annotations(photos), read_sketches(sketches)
    asked = None if split is None else [i for i, found in enumerate(annotations.splits) if found == split]
    if asked is not None and not asked:
        known = ", ".join(sorted(filter(None, set(annotations.splits)))) or "none"
        raise DataError(f"{photos} has no photo of split {split!r}; its splits: {known}")
    found = compositions(
        annotations, drawings, AS_THEY_ARE, n=n, seed=seed, objects=objects, balanced=balanced, photos=asked
    )
    return _write(out, found, annotations, drawings, f"{photos.name} {sketches.name}", seed)


def _write(
    path: Path,
    queries: Sequence[Composition],
    annotations: Annotations,
    drawings: SketchSet,
    source: str,
    seed: int,
) -> dict[str, Any]:
    rows = (query_row(query, annotations, drawings) for query in queries)
    write_queries(path, rows, Facts("queries", "queries", source, seed=seed))
    return _summary(queries)


def _summary(queries: Sequence[Composition]) -> dict[str, Any]:
    by_objects: dict[str, int] = {}
    by_class: dict[str, int] = {}
    for query in sorted(queries, key=lambda query: len(query.classes)):
        count = str(len(query.classes))
        by_objects[count] = by_objects.get(count, 0) + 1
        for item in query.sketch.objects:
            by_class[str(item.label)] = by_class.get(str(item.label), 0) + 1
    return {"queries": len(queries), "by_objects": by_objects, "by_class": dict(sorted(by_class.items()))}


def _of(path: Path, splits: Sequence[str]) -> Iterator[Photo]:
    return (photo for photo in iter_photos(path) if photo.split in splits)


def _splits(path: Path) -> set[str]:
    return {split for batch in batches(path, "photos") for split in batch["split"].unique().to_pylist()}


def _seen_from(out: Path, source: Path) -> Facts:
    """The facts of a manifest for a part of it elsewhere: the folder of photos is seen from there."""
    facts = read_facts(source)
    return replace(facts, images=images_beside(out, source.parent / facts.images if facts.images else None))
