"""What each method finds for each drawing: over a set of photos and sketches, or in collections of Milvus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.plan import CONTROL
from encoders.sketch import Sketch

if TYPE_CHECKING:
    from pathlib import Path

    from compsketch_milvus.collection import SketchCollection
    from encoders.evaluation.benchmark import Benchmark

    Open = Callable[[str, str | None, bool], AbstractContextManager[SketchCollection]]

__all__ = ["Check", "Found", "Rankings", "balanced", "from_collections", "from_sets"]

OBJECTS = (1, 2, 3)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Check:
    """Photos of which everybody knows what to say: one shows the drawing's layout, the others have none of its objects.

    Args:
        good: where the photo came from.
        bad: where the others came from, in an order drawn by the seed.
    """

    good: str
    bad: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """One drawing's answers.

    Args:
        sketch: the drawing.
        ranked: by method, where the photos came from, best first; chance is the last method.
        check: None where nothing is known.
    """

    sketch: Sketch
    ranked: Mapping[str, Sequence[str]]
    check: Check | None = None


@dataclass(frozen=True)
class Rankings:
    """All drawings' answers.

    Args:
        found: a drawing each.
        encoders: by method, name and fingerprint of its encoder.
        data: what was searched, in a few facts.
    """

    found: Sequence[Found]
    encoders: Mapping[str, str]
    data: Mapping[str, Any] = field(default_factory=dict)


def from_sets(
    encoder: Any,
    sources: Sequence[tuple[Path, Path]],
    sketches: Path,
    *,
    methods: Sequence[str],
    semir: Any = None,
    queries: int = 99,
    depth: int = 20,
    seed: int = 0,
    held_out: bool = False,
    batch_size: int = 64,
    progress: Progress = lambda stage, done, total: None,
) -> Rankings:
    """Rank annotated photos for layouts made from some of them, by the methods of `encoders.evaluation`.

    The photo that a layout was taken from is the known-good one of its check; photos without a box of its classes, and
    that no method has found, are the known-bad ones.

    Args:
        encoder: encodes photos and sketches.
        sources: pairs of an annotation file or manifest and its folder of photos.
        sketches: sketches of single objects that layouts are drawn with.
        methods: of `encoders.evaluation.methods.METHODS`; chance is always added.
        semir: SemIR's encoder, for its method.
        queries: how many, as many of one object as of two and of three.
        depth: results of each method.
        seed: of the layouts and of chance.
        held_out: keep only photos and sketches that training has not seen.
        batch_size: photos encoded at once.
        progress: told of each stage.

    Raises:
        DataError: files are missing or damaged, or there are too few photos of three objects.
        CompsketchError: a method is not known, or an encoder cannot do it.
    """
    from encoders.evaluation.methods import METHODS, Run
    from encoders.evaluation.quantised import IvfPq

    names = _methods(methods)
    encoders = {role: one for role, one in (("encoder", encoder), ("semir", semir)) if one is not None}
    for name in names:
        if name not in METHODS:
            raise CompsketchError(f"unknown method {name!r}; choose from {', '.join(METHODS)}")
        METHODS[name].check(name, encoders)
    benchmark, words, data = _benchmark(sources, sketches, queries, seed, held_out)
    asked = [query.sketch for query in benchmark.queries]
    run = Run(encoders, benchmark.paths, asked, IvfPq(), batch_size, seed, progress)
    ranked = {name: METHODS[name].rank(run, depth) for name in names}
    paths, rng, found = [str(path.resolve()) for path in benchmark.paths], np.random.default_rng(seed), []
    for number, query in enumerate(benchmark.queries):
        shown = {name: [place for place in rows[number].tolist() if place >= 0] for name, rows in ranked.items()}
        wanted, seen = {item.label for item in query.sketch.objects}, {place for row in shown.values() for place in row}
        bad = [place for place, has in enumerate(words) if has and not has & wanted and place not in seen]
        drawn = [paths[place] for place in rng.permutation(bad)[: len(names) - 1].tolist()]
        check = Check(paths[query.photo_index], tuple(drawn)) if drawn else None
        found.append(Found(query.sketch, {name: [paths[place] for place in row] for name, row in shown.items()}, check))
    roles = {name: METHODS[name].vectors for name in names}
    used = {name: _identity(encoders[vectors.role]) for name, vectors in roles.items() if vectors is not None}
    return Rankings(found, used, data)


def _benchmark(
    sources: Sequence[tuple[Path, Path]], sketches: Path, queries: int, seed: int, held_out: bool
) -> tuple[Benchmark, list[set[str | None]], dict[str, Any]]:
    """The gallery with its queries, the words of each photo's boxes, and what all of it is in a few facts."""
    from encoders.evaluation.benchmark import assemble, read_parts
    from encoders.evaluation.compositions import split_sketches
    from encoders.evaluation.data import Annotations, read_class_map, read_sketches

    class_map, drawings = read_class_map(), read_sketches(sketches)
    if held_out:
        drawings = drawings.select(split_sketches(drawings.key_ids))
    parts = read_parts(sources, held_out=held_out)
    benchmark = assemble(parts, drawings, class_map, seed=seed, limit=queries, balanced=True)
    photos = Annotations.join([part for part, _ in parts])
    words = [{class_map.word(photos.classes[row]) for row in rows} for rows in photos.by_photo]
    return benchmark, words, {"photos": len(benchmark.paths), "sketches": len(drawings.words)}


def from_collections(
    open_: Open,
    methods: Mapping[str, tuple[str, str | None]],
    sketches: Sequence[Sketch],
    *,
    checks: Sequence[Check | None] | None = None,
    depth: int = 20,
    seed: int = 0,
    progress: Progress = lambda stage, done, total: None,
) -> Rankings:
    """Search collections, one a method, all of the same photos; chance draws from the first.

    Args:
        open_: (collection, encoder, SemIR or not) to an open collection.
        methods: by name, the collection and the encoder's bundle. A name of `encoders.evaluation.methods` also says
            whether its encoder sees the strokes, the words, or both; others see the strokes.
        sketches: what to search with.
        checks: a sketch each, where something is known.
        depth: results of each method.
        seed: of chance.
        progress: told of each method.

    Raises:
        CompsketchError: a collection cannot be opened or searched, or is empty.
    """
    from compsketch_milvus.search import search_vectors
    from encoders.evaluation.methods import METHODS

    ranked: dict[str, list[list[str]]] = {}
    encoders: dict[str, str] = {}
    data: dict[str, Any] = {}
    names = [name for name in methods if name != CONTROL]
    for done, name in enumerate(names, start=1):
        vectors = METHODS[name].vectors if name in METHODS else None
        with open_(*methods[name], vectors is not None and vectors.role == "semir") as photos:
            asked = sketches if vectors is None or vectors.strokes else [one.without_strokes() for one in sketches]
            options = {} if vectors is None or vectors.words is None else {"words": vectors.words}
            encoded = photos.encoder.encode_sketches(list(asked), **options)
            ranked[name] = [[hit.source for hit in result] for result in search_vectors(photos, encoded, depth)]
            encoders[name] = _identity(photos.encoder)
            if not data:
                data = {"collection": photos.name, "photos": photos.count()}
                drawn = _drawn(photos, len(sketches), depth, seed)
        progress("methods", done, len(names))
    ranked[CONTROL] = drawn
    known = checks or [None] * len(sketches)
    found = [
        Found(sketch, {name: rows[number] for name, rows in ranked.items()}, check)
        for number, (sketch, check) in enumerate(zip(sketches, known, strict=True))
    ]
    return Rankings(found, encoders, data)


def balanced(sketches: Sequence[Sketch], n: int | None, seed: int) -> list[int]:
    """Places of ``n`` sketches, as many of one object as of two and of three; by default as many as there can be.

    Raises:
        CompsketchError: there are too few, or none, of some number of objects.
    """
    groups = {count: [i for i, one in enumerate(sketches) if len(one.objects) == count] for count in OBJECTS}
    n = len(OBJECTS) * min(map(len, groups.values())) if n is None else n
    quota = {count: (n + place) // len(OBJECTS) for place, count in enumerate(OBJECTS)}  # 100: 33, 33, 34
    short = [f"{len(groups[count])} of {count}" for count in OBJECTS if len(groups[count]) < max(1, quota[count])]
    if short:
        raise CompsketchError(
            f"too few sketches to balance {n or 3} queries over 1, 2 and 3 objects: {', '.join(short)} object(s); "
            "draw more, or ask for fewer"
        )
    rng = np.random.default_rng(seed)
    return sorted(i for count, group in groups.items() for i in rng.permutation(group)[: quota[count]].tolist())


def _methods(names: Iterable[str]) -> list[str]:
    """In the order given, each once, chance last."""
    named = [name for name in dict.fromkeys(names) if name != CONTROL]
    if not named:
        raise CompsketchError("a study needs a method beside chance; name some, such as ssbir, semir and msbir")
    return [*named, CONTROL]


def _drawn(photos: SketchCollection, rows: int, depth: int, seed: int) -> list[list[str]]:
    """Sources of photos drawn by chance, evenly over the whole collection."""
    from compsketch_milvus.paging import pages

    ids = [row["id"] for page in pages(photos.call, "id", []) for row in page]
    if not ids:
        raise CompsketchError(f"collection {photos.name!r} is empty; ingest photos first")
    rng, size = np.random.default_rng(seed), min(depth, len(ids))
    chosen = [[ids[place] for place in rng.choice(len(ids), size, replace=False)] for _ in range(rows)]
    sources = photos.stored({one for row in chosen for one in row}, ["source"])
    return [[sources[one]["source"] for one in row] for row in chosen]


def _identity(encoder: Any) -> str:
    return f"{encoder.name} {encoder.fingerprint}"
