"""Queries without an artist: sketches of single objects laid out in the boxes of a photo (section 4.1, OI-Test-LQ).

OI-Test-LQ and OI-Test-SQ are ``n=11_000`` and ``n=900`` of one seed, the smaller a part of the larger; the queries of
Stock4.5M are ``n=100`` with ``balanced=True``: 33 of one object, 33 of two, 34 of three.

Also the split that keeps training and evaluation apart: by photo and by sketch, from their names alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders.data.manifest import batches
from encoders.errors import DataError
from encoders.evaluation.data import Annotations, ClassMap, SketchSet
from encoders.sketch import Sketch, SketchObject

MIN_AREA = 0.02  # part of the photo: nobody draws the car at the horizon
SPLIT_SEED = 0  # training and evaluation must agree on it; the seed of the queries is another


@dataclass(frozen=True)
class Composition:
    """One query and the photo whose layout it has.

    Attributes:
        sketch: On a canvas of the photo's pixels; each object labelled with its word, its ``bbox`` the photo's box.
        photo_index: The photo in the annotations.
        classes: (n,) the boxes' names in the annotations.
        boxes: (n, 4) float64, the true boxes as fractions of the photo.
        sketch_indices: (n,) which sketch of the set fills each box.
        rows: (n,) which boxes of the annotations they are.
    """

    sketch: Sketch
    photo_index: int
    classes: tuple[str, ...]
    boxes: np.ndarray
    sketch_indices: tuple[int, ...]
    rows: tuple[int, ...]


def compositions(
    annotations: Annotations,
    sketches: SketchSet,
    class_map: ClassMap,
    n: int | None = None,
    seed: int = 0,
    objects: Sequence[int] = (1, 2, 3),
    photos: Iterable[int] | None = None,
    pick: Literal["largest", "random"] = "largest",
    balanced: bool = False,
) -> list[Composition]:
    """At most one query a photo, in the order of the photos.

    A box takes part if it covers more than 2 % of its photo and there are sketches of its class. How many of a photo's
    boxes, which sketches, and which ``n`` photos depend on ``seed`` and the names of photos and sketches alone: other
    photos, their order and ``n`` leave a photo's query as it is.

    Args:
        annotations: Photos and boxes.
        sketches: What boxes are filled with.
        class_map: Which word draws which class.
        n: Queries at most; None for one of each photo that has such a box.
        seed: Another seed, other queries.
        objects: Counts of objects to draw from, evenly among those that the photo has boxes for.
        photos: Only these photos (indices into ``annotations.files``).
        pick: The ``largest`` boxes first, as one draws what a picture is about, or at ``random``.
        balanced: As many queries of each count of objects, the odd ones of the larger counts; then which photos are
            asked for depends on ``n`` and on the other photos too.

    Raises:
        DataError: No photo has a box that can be drawn, ``objects``, ``pick`` or ``photos`` make no sense, or there
            are too few photos to balance.
    """
    counts = sorted(set(objects))
    _check(counts, n, pick)
    chosen = range(len(annotations.files)) if photos is None else sorted(set(photos))
    outside = [photo for photo in chosen if not 0 <= photo < len(annotations.files)]
    if outside:
        raise DataError(f"photo {outside[0]} is not among the {len(annotations.files)} photos")
    drawable = {photo: boxes for photo in chosen if len(boxes := _drawable(annotations, sketches, class_map, photo))}
    drawable = {photo: boxes for photo, boxes in drawable.items() if len(boxes) >= counts[0]}
    if not drawable:
        raise DataError(
            f"none of {len(chosen)} photos has {counts[0]} box(es) over {MIN_AREA:.0%} of it of a class with sketches; "
            f"sketches: {_some(sketches.by_class)}; classes: {_some(set(annotations.classes))}"
        )
    order = sorted(drawable, key=lambda photo: _fraction(f"{seed}:query:{annotations.files[photo]}"))
    kept: dict[int, Sequence[int]] = dict.fromkeys(order[:n], counts)
    if balanced:
        kept = _balance(order, {photo: len(boxes) for photo, boxes in drawable.items()}, counts, n)
    return [
        _compose(annotations, sketches, class_map, photo, drawable[photo], kept[photo], seed, pick)
        for photo in sorted(kept)
    ]


def read_queries(path: str | Path, annotations: Annotations, sketches: SketchSet) -> list[Composition]:
    """The queries of a manifest, as ``compositions`` has made them, in its order.

    Args:
        path: A manifest of queries.
        annotations: The photos that it was made from, others among them or not.
        sketches: The sketches likewise.

    Raises:
        DataError: It is no manifest of queries, or asks for a photo, a box or a sketch that is not there.
    """
    photos: dict[str, int] = {}
    for photo, file in enumerate(annotations.files):
        photos.setdefault(file, photo)  # where two folders have a file of one name, the first is asked for
    numbers = {key_id: number for number, key_id in enumerate(sketches.key_ids)}
    found = []
    for batch in batches(path, "queries"):
        for row in batch.to_pylist():
            if row["file"] not in photos:
                raise DataError(f"{path}: photo {row['file']} is not among the {len(photos)}; name the queries' own")
            photo, objects = photos[row["file"]], row["objects"]
            missing = [item["key_id"] for item in objects if item["key_id"] not in numbers]
            if missing:
                raise DataError(f"{path}: sketch {missing[0]} is not among the {len(numbers)}; name the queries' own")
            places = [item["box"] for item in objects]
            corners = np.array([[item[side] for side in ("x0", "y0", "x1", "y1")] for item in objects])
            rows = annotations.by_photo[photo]
            if max(places) >= len(rows) or not np.allclose(annotations.normalised[rows[places]], corners, atol=1e-4):
                raise DataError(f"{path}: the boxes of {row['file']} are others than were asked for; build it again")
            words = [item["class"] for item in objects]
            found.append(
                _lay_out(annotations, sketches, photo, rows[places], words, [numbers[k["key_id"]] for k in objects])
            )
    return found


def query_row(query: Composition, annotations: Annotations, sketches: SketchSet) -> dict[str, Any]:
    """A query as a row of a manifest, the other way of ``read_queries``."""
    rows = annotations.by_photo[query.photo_index].tolist()
    objects = [
        {
            "class": item.label,
            "box": rows.index(row),
            **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
            "key_id": sketches.key_ids[number],
        }
        for item, row, box, number in zip(
            query.sketch.objects, query.rows, query.boxes.tolist(), query.sketch_indices, strict=True
        )
    ]
    size = {"width": query.sketch.width, "height": query.sketch.height}
    return {"file": annotations.files[query.photo_index], **size, "objects": objects}


def fill_box(drawing: Sequence[np.ndarray], box: Sequence[float] | np.ndarray) -> tuple[np.ndarray, ...]:
    """Scale a drawing until its ink fills a box, each axis on its own.

    The aspect is not kept: the box is the layout that eq. 9 measures, and a drawing that keeps its own shape would
    leave part of it empty, so that the sketch asks for another box than the one it is judged by. It also gives each
    object the proportions it has in the photo, which is what someone who draws that photo would give it.

    Args:
        drawing: (2, n) strokes in any unit.
        box: x0, y0, x1, y1 in canvas pixels. An axis without extent, such as a straight line's, goes to its middle.

    Returns:
        float32 (2, n) strokes in canvas pixels, within the box.
    """
    ink = np.concatenate(drawing, axis=1).astype(np.float64)  # (2, N)
    corners = np.asarray(box, np.float64)
    low, extent = ink.min(axis=1), np.ptp(ink, axis=1)
    start, size = corners[:2], corners[2:] - corners[:2]
    scale = np.divide(size, extent, out=np.zeros(2), where=extent > 0)
    start = np.where(extent > 0, start, start + size / 2)
    return tuple(
        np.clip((np.asarray(s, np.float64) - low[:, None]) * scale[:, None] + start[:, None],
                corners[:2, None], corners[2:, None]).astype(np.float32)
        for s in drawing
    )  # fmt: skip


def split_photos(files: Sequence[str], held_out: float = 0.12, seed: int = SPLIT_SEED) -> np.ndarray:
    """Which photos are held out, (n,) bool, from a hash of each name: never from order or company.

    Folders in a name don't count, so a photo stays on its side when the data moves.
    """
    return _split([file.replace("\\", "/").rsplit("/", 1)[-1] for file in files], held_out, f"{seed}:photo")


def held_out_photos(annotations: Annotations) -> np.ndarray:
    """Which photos are held out of training, (p,) bool: as their set's own split says, else by ``split_photos``."""
    held = split_photos(annotations.files)
    for photo, split in enumerate(annotations.splits):
        if split:
            held[photo] = split != "train"
    return held


def validation_photos(annotations: Annotations) -> np.ndarray:
    """Which photos training measures itself on and scores are calibrated on, (p,) bool: the held-out ones.

    A set's own test photos are none of them: nothing is chosen or fitted by what is reported.
    """
    held = held_out_photos(annotations)
    for photo, split in enumerate(annotations.splits):
        held[photo] &= split != "test"
    return held


def split_sketches(key_ids: Sequence[str], held_out: float = 0.1, seed: int = SPLIT_SEED) -> np.ndarray:
    """Which sketches are held out, (n,) bool, from a hash of each key_id. A small class may have none held out."""
    return _split(key_ids, held_out, f"{seed}:sketch")


def _split(names: Sequence[str], held_out: float, salt: str) -> np.ndarray:
    if not 0 <= held_out <= 1:
        raise DataError(f"held_out is {held_out}: expected a part between 0 and 1")
    return np.array([_fraction(f"{salt}:{name}") < held_out for name in names], dtype=bool)


def _fraction(text: str) -> float:
    """A number in [0, 1) that is the same for the same text on every machine (``hash`` is not)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _check(counts: Sequence[int], n: int | None, pick: str) -> None:
    if not counts or counts[0] < 1:
        raise DataError(f"objects is {tuple(counts)}: expected counts of 1 or more")
    if pick not in ("largest", "random"):
        raise DataError(f"pick is {pick!r}: expected 'largest' or 'random'")
    if n is not None and n < 1:
        raise DataError(f"n is {n}: expected 1 query or more")


def _drawable(annotations: Annotations, sketches: SketchSet, class_map: ClassMap, photo: int) -> np.ndarray:
    """Indices of the photo's boxes that are large enough and have sketches, largest first."""
    rows = annotations.by_photo[photo]
    boxes = annotations.normalised[rows]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    drawn = [class_map.word(annotations.classes[row]) in sketches.by_class for row in rows]
    order = np.argsort(-areas, kind="stable")
    keep = (areas > MIN_AREA) & np.array(drawn, bool)
    return rows[order[keep[order]]]


def _compose(
    annotations: Annotations,
    sketches: SketchSet,
    class_map: ClassMap,
    photo: int,
    rows: np.ndarray,
    counts: Sequence[int],
    seed: int,
    pick: str,
) -> Composition:
    digest = hashlib.sha256(f"{seed}:{annotations.files[photo]}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    count = int(rng.choice([c for c in counts if c <= len(rows)]))
    if pick == "random":
        rows = rng.permutation(rows)
    rows = rows[:count]
    words = [str(class_map.word(annotations.classes[row])) for row in rows]
    indices = [int(rng.choice(sketches.of(word))) for word in words]
    return _lay_out(annotations, sketches, photo, rows, words, indices)


def _lay_out(
    annotations: Annotations,
    sketches: SketchSet,
    photo: int,
    rows: np.ndarray,
    words: Sequence[str],
    indices: Sequence[int],
) -> Composition:
    """Sketch ``indices[i]``, a ``words[i]``, in box ``rows[i]`` of a photo."""
    objects = []
    for row, word, index in zip(rows, words, indices, strict=True):
        x0, y0, x1, y1 = (float(value) for value in annotations.boxes[row])
        strokes = fill_box(sketches.drawings[index], (x0, y0, x1, y1))
        objects.append(SketchObject(strokes, label=word, bbox=(x0, y0, x1, y1)))
    width, height = (int(value) for value in annotations.sizes[photo])
    return Composition(
        Sketch(width, height, tuple(objects)),
        photo,
        tuple(annotations.classes[row] for row in rows),
        annotations.normalised[rows],
        tuple(indices),
        tuple(int(row) for row in rows),
    )


def _balance(
    order: Sequence[int], boxes: Mapping[int, int], counts: Sequence[int], n: int | None
) -> dict[int, Sequence[int]]:
    """Photo -> the one count of objects that it is asked for; the larger counts choose first, fewer photos have them.

    Raises:
        DataError: Too few photos have enough boxes.
    """
    n = len(counts) * (len(order) // len(counts)) if n is None else n
    quota = [(n + place) // len(counts) for place in range(len(counts))]  # 100 in three: 33, 33, 34
    kept: dict[int, Sequence[int]] = {}
    for count, wanted in sorted(zip(counts, quota, strict=True), reverse=True):
        able = [photo for photo in order if photo not in kept and boxes[photo] >= count]
        if len(able) < wanted:
            raise DataError(
                f"{len(able)} photos have {count} box(es) that can be drawn and are not asked for yet, {wanted} are "
                f"needed to balance {n} queries; ask for fewer"
            )
        kept.update((photo, (count,)) for photo in able[:wanted])
    return kept


def _some(names: Iterable[str], most: int = 5) -> str:
    """The first few of many names, for a message."""
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more if ordered else "none"
