"""Does what is not wanted stay out, and does what weighs more come first? Measured on photos with boxes.

A query asks for a class a where a photo has it; the same photo holds a class b. With b as an object that is not wanted
(its word, at its own box or over the whole canvas), fewer of the photos found should hold b there, and those that hold
a without b should rank no worse: AP of relevance "a's box is met with IoU > .3, and no b lies there".
For weights, two objects are asked for, the first with more weight than the second.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from encoders.errors import DataError
from encoders.evaluation.compositions import Composition
from encoders.evaluation.data import Annotations, ClassMap
from encoders.evaluation.metrics import average_precision
from encoders.evaluation.ranking import rank
from encoders.evaluation.relevance import iou
from encoders.evaluation.scores import DEEP, SHOWN
from encoders.evaluation.statistics import intervals, paired_t
from encoders.sketch import Sketch, SketchObject

TAU = 0.3  # of one object; eq. 9's .5 is of a whole layout
INSIDE = 0.5  # of the smaller of two boxes: then one object lies where the other was drawn
JUDGED = (f"b in top {SHOWN}", f"b in top {DEEP}", "AP of a", "AP of a without b")

Encode = Callable[[Sequence[Sketch]], np.ndarray]


@dataclass(frozen=True)
class Boxes:
    """What a gallery holds.

    Attributes:
        boxes: (n, 4) in [0, 1] of their photo.
        photos: (n,) which photo each lies in.
        words: (n,) their class words.
        size: Photos in the gallery.
    """

    boxes: np.ndarray
    photos: np.ndarray
    words: np.ndarray
    size: int

    @classmethod
    def of(cls, photos: Annotations, class_map: ClassMap, drawn: Collection[str]) -> Boxes:
        """All boxes, by the words that the class map joins their classes to; ``drawn`` as `ClassMap.own_word` has it.

        A class without a word of its own has the empty one.
        """
        words = np.array([class_map.own_word(name, drawn) or "" for name in photos.classes])
        return cls(photos.normalised, photos.photos, words, len(photos.files))

    def met(self, word: str, box: np.ndarray) -> np.ndarray:
        """Best IoU of each photo's boxes of a class with a box, (size,)."""
        rows, best = self.words == word, np.zeros(self.size)
        np.maximum.at(best, self.photos[rows], iou(self.boxes[rows], box))
        return best

    def lies(self, word: str, box: np.ndarray) -> np.ndarray:
        """Which photos hold a class there, (size,) bool: the smaller of two boxes is mostly inside the other."""
        own = self.boxes[self.words == word]
        sides = np.minimum(own[:, 2:], box[2:]) - np.maximum(own[:, :2], box[:2])  # (n, 2)
        inside = sides.clip(min=0).prod(axis=1) > INSIDE * np.minimum(_areas(own), _areas(box[None]))
        found = np.zeros(self.size, bool)
        found[self.photos[self.words == word][inside]] = True
        return found


def negatives(
    encode: Encode,
    gallery: np.ndarray,
    held: Boxes,
    queries: Sequence[Composition],
    vocabulary: Sequence[str],
    weight: float = -1.0,
) -> dict[str, dict[str, Any]]:
    """Ask for an object with and without another that is not wanted.

    Args:
        encode: Sketches to vectors (B, d).
        gallery: (size, d).
        held: What its photos hold.
        queries: Made of photos of the gallery. Only the first object of each is asked for; b is the largest box of
            another class in the same photo, and queries without one are left out.
        vocabulary: Words that the encoder knows.
        weight: b's.

    Returns:
        For "box" and "canvas", over which b is not wanted: ``{"queries", "b in top 20", "b in top 200", "AP of a",
        "AP of a without b"}``; each but the first ``{"plain", "changed", "difference", "interval", "p"}``, means over
        the queries that some photo answers without b.

    Raises:
        DataError: No photo has a b.
    """
    pairs = [(query, b) for query in queries if (b := _beside(query, held, vocabulary)) is not None]
    if not pairs:
        raise DataError("no query's photo has another class that the encoder knows; give photos of several objects")
    plain = [replace(query.sketch, objects=query.sketch.objects[:1]) for query, _ in pairs]
    there = np.array([held.met(str(sketch.objects[0].label), sketch.boxes[0]) for sketch in plain])  # (Q, size)
    without = rank(encode(plain), gallery, DEEP)
    table: dict[str, dict[str, Any]] = {}
    for place in ("box", "canvas"):
        boxes = [held.boxes[b] if place == "box" else np.array([0.0, 0, 1, 1]) for _, b in pairs]
        unwanted = np.array([held.lies(held.words[b], box) for (_, b), box in zip(pairs, boxes, strict=True)])
        asked = [
            _with(sketch, SketchObject((), str(held.words[b]), _pixels(sketch, box), weight))
            for sketch, (_, b), box in zip(plain, pairs, boxes, strict=True)
        ]
        judged = [_judge(found, there, unwanted) for found in (without, rank(encode(asked), gallery, DEEP))]
        possible = ((there > TAU) & ~unwanted).any(axis=1)
        table[place] = {"queries": int(possible.sum())}
        for name, before, after in zip(JUDGED, judged[0].T, judged[1].T, strict=True):
            table[place][name] = _compared(before[possible], after[possible])
    return table


def heavier(
    encode: Encode, gallery: np.ndarray, held: Boxes, queries: Sequence[Composition], weight: float = 2.0
) -> dict[str, Any]:
    """Ask for two objects, the first with more weight; arguments as for `negatives`.

    Returns:
        ``{"queries", "first", "second"}``: the mean over the top 20 of each object's IoU with what the photo holds,
        compared as there.

    Raises:
        DataError: No query has two objects.
    """
    plain = [replace(q.sketch, objects=q.sketch.objects[:2]) for q in queries if len(q.sketch.objects) >= 2]
    if not plain:
        raise DataError("no query has two objects, one to weigh more; give photos of several objects")
    heavy = [replace(one, objects=(replace(one.objects[0], weight=weight), one.objects[1])) for one in plain]
    before, after = rank(encode(plain), gallery, SHOWN), rank(encode(heavy), gallery, SHOWN)
    table: dict[str, Any] = {"queries": len(plain)}
    for number, name in enumerate(("first", "second")):
        met = np.array([held.met(str(one.objects[number].label), one.boxes[number]) for one in plain])  # (Q, size)
        matches = [np.take_along_axis(met, found, axis=1).mean(axis=1) for found in (before, after)]
        table[name] = _compared(*matches)
    return table


def _beside(query: Composition, held: Boxes, vocabulary: Sequence[str]) -> int | None:
    """The largest box beside the query's first object, of another class and a word that the encoder knows."""
    known = {word.lower() for word in vocabulary}
    rows = [
        row
        for row in np.flatnonzero(held.photos == query.photo_index).tolist()
        if held.words[row] != query.sketch.objects[0].label and held.words[row].lower() in known
    ]
    return max(rows, key=lambda row: float(_areas(held.boxes[row][None])[0]), default=None)


def _judge(found: np.ndarray, there: np.ndarray, unwanted: np.ndarray) -> np.ndarray:
    """Rankings (Q, k) by what is `JUDGED`, (Q, 4)."""
    shown = np.take_along_axis(unwanted, found, axis=1)
    scores = [shown[:, :SHOWN].mean(axis=1), shown.mean(axis=1)]
    for relevance in (there, np.where(unwanted, 0.0, there)):
        ranked = np.take_along_axis(relevance, found, axis=1)
        scores.append(average_precision(ranked, relevance, tau=TAU, k=DEEP))
    return np.stack(scores, axis=1)


def _compared(plain: np.ndarray, changed: np.ndarray) -> dict[str, Any]:
    """Means of both, and of the paired difference with its interval and p; all None without a query."""
    if not len(plain):
        return dict.fromkeys(("plain", "changed", "difference", "interval", "p"))
    ends, test = intervals((changed - plain)[:, None]), paired_t(changed, plain)
    interval = None if ends is None else ends[0].tolist()
    return {
        "plain": float(plain.mean()),
        "changed": float(changed.mean()),
        "difference": test.difference,
        "interval": interval,
        "p": test.p,
    }


def _with(sketch: Sketch, item: SketchObject) -> Sketch:
    return replace(sketch, objects=(*sketch.objects, item))


def _pixels(sketch: Sketch, box: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (box * [sketch.width, sketch.height, sketch.width, sketch.height]).tolist()
    return x0, y0, x1, y1


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return areas
