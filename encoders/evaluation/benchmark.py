"""What methods are compared on: a gallery, queries made from its photos, and the photos relevant to each (eq. 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.errors import DataError
from encoders.evaluation.compositions import (
    Composition,
    compositions,
    held_out_photos,
    read_queries,
    split_sketches,
)
from encoders.evaluation.data import Annotations, ClassMap, SketchSet, read_annotations, read_photos
from encoders.evaluation.relevance import Gallery, Relevant, relevances

PathLike = str | Path


@dataclass(frozen=True)
class Benchmark:
    """Photos, queries, and what is relevant to each: all that scoring needs besides the rankings.

    Attributes:
        paths: (G,) the gallery's photos.
        queries: (Q,) the compositions.
        relevant: (Q,) the photos with R > ``above``.
        above: The least tau that the queries can be scored with.
        left_out: Classes in the gallery that no query shows: the class map leaves them out, or there are no sketches.
    """

    paths: tuple[Path, ...]
    queries: tuple[Composition, ...]
    relevant: tuple[Relevant, ...]
    above: float
    left_out: tuple[str, ...]

    @classmethod
    def of(
        cls,
        photos: Annotations,
        paths: Sequence[Path],
        queries: Sequence[Composition],
        class_map: ClassMap,
        drawn: Sequence[str],
        *,
        above: float,
    ) -> Benchmark:
        """Find what is relevant to each query.

        Args:
            photos: The gallery and its boxes.
            paths: (G,) where its photos are.
            queries: With ``photo_index`` into the gallery.
            class_map: Classes meet as words: COCO's "couch" and VOC's "sofa" are one.
            drawn: The words of which there are sketches; other classes are in no query.
            above: Keep photos with R strictly greater.
        """
        words, known = [class_map.word(name) for name in photos.classes], set(drawn)
        rows = [row for row, word in enumerate(words) if word in known]
        gallery = Gallery.build(
            photos.normalised[rows], photos.photos[rows], [str(words[row]) for row in rows], len(photos.files)
        )
        asked = ((query.boxes, [str(class_map.word(name)) for name in query.classes]) for query in queries)
        left_out = {name for name, word in zip(photos.classes, words, strict=True) if word not in known}
        found = relevances(asked, gallery, above=above)
        return cls(tuple(paths), tuple(queries), tuple(found), above, tuple(sorted(left_out)))

    def possible(self, taus: Sequence[float]) -> np.ndarray:
        """How many photos are relevant to each query at each tau, (T, Q) int64."""
        counts = [[np.count_nonzero(relevant.values > tau) for relevant in self.relevant] for tau in taus]
        return np.array(counts, np.int64).reshape(len(taus), len(self.queries))


def prepare(
    sources: Sequence[tuple[PathLike, PathLike]],
    sketches: SketchSet,
    class_map: ClassMap,
    *,
    above: float = 0.5,
    seed: int = 0,
    limit: int | None = None,
    subset: str = "all",
    extra_gallery: Sequence[tuple[PathLike, PathLike]] = (),
    queries_path: PathLike | None = None,
) -> Benchmark:
    """A benchmark from files; arguments and errors as for ``compare.evaluate``, ``above`` its least tau."""
    held_out = subset == "held_out"
    parts = read_parts(sources, extra_gallery, held_out=held_out)
    if held_out:
        sketches = sketches.select(split_sketches(sketches.key_ids))
    return assemble(
        parts, sketches, class_map, above=above, seed=seed, limit=limit, asked=len(sources), queries_path=queries_path
    )


def read_parts(
    sources: Sequence[tuple[PathLike, PathLike]], extra: Sequence[tuple[PathLike, PathLike]] = (), *, held_out: bool
) -> list[tuple[Annotations, Path]]:
    """Sets of photos with their folders, for ``assemble``: those that are asked for, then the ``extra`` gallery."""
    parts = []
    for number, (file, folder) in enumerate([*sources, *extra]):
        part = read_annotations(file) if number < len(sources) else read_photos(file)
        parts.append((part.select(held_out_photos(part)) if held_out else part, Path(folder)))
    return parts


def assemble(
    parts: Sequence[tuple[Annotations, Path]],
    sketches: SketchSet,
    class_map: ClassMap,
    *,
    above: float = 0.5,
    seed: int = 0,
    limit: int | None = None,
    asked: int | None = None,
    queries_path: PathLike | None = None,
    balanced: bool = False,
) -> Benchmark:
    """A benchmark of photos and sketches that are read already.

    Args:
        parts: Sets of photos, each with its folder; together they are the gallery.
        sketches: What queries are drawn with.
        class_map: Which word draws which class.
        above: The least tau that the queries can be scored with.
        seed: Of the queries.
        limit: Queries at most.
        asked: Queries are made of so many of the parts, the first ones; None for all.
        queries_path: Ask these, of a manifest of queries, in place of queries made here.
        balanced: As many queries of 1, 2 and 3 objects, as for ``compositions``.

    Raises:
        DataError: A photo is missing, or nothing can be asked.
    """
    paths = [folder / name for part, folder in parts for name in part.files]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(paths)} photos are missing, {missing[0]} first; check the folder")
    photos = Annotations.join([part for part, _ in parts])
    if queries_path is not None:
        queries = read_queries(queries_path, photos, sketches)[:limit]
    else:
        chosen = range(sum(len(part.files) for part, _ in parts[:asked]))
        queries = compositions(photos, sketches, class_map, n=limit, seed=seed, photos=chosen, balanced=balanced)
    return Benchmark.of(photos, paths, queries, class_map, list(sketches.by_class), above=above)
