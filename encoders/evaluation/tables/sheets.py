"""Fig. 1 and 3: sketches beside the photos found, with the boxes that are true of them and R of eq. 9."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.evaluation.data import read_class_map
from encoders.evaluation.ranking import rank
from encoders.evaluation.relevance import Gallery, relevance
from encoders.evaluation.tables.study import Study
from encoders.evaluation.tables.table import Cell, Table
from encoders.sketch import Sketch

TOP = 5
EACH = 4  # queries of each number of objects
OBJECTS = (1, 2, 3)


@dataclass(frozen=True)
class Answer:
    """A photo that was found.

    Attributes:
        photo: Where it lies.
        relevance: R of eq. 9.
        boxes: (n, 4) in [0, 1], the true boxes of the query's classes.
        objects: (n,) which object of the sketch each box is of the class of, the first of that class.
    """

    photo: Path
    relevance: float
    boxes: np.ndarray
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Answered:
    """A sketch and what was found for it, best first."""

    sketch: Sketch
    answers: tuple[Answer, ...]


Truth = dict[Path, tuple[np.ndarray, list[str]]]  # boxes in [0, 1] and class words of each photo
Draw = Callable[[str, Sequence[Answered], Path], None]


def table(study: Study, draw: Draw, top: int = TOP, each: int = EACH) -> Table:
    """Draw a sheet for each number of objects, of queries that the seed picks, and list R of what they show.

    Args:
        study: Its held-out queries and photos.
        draw: Draws a sheet, of a title and the queries it shows, to a file.
        top: Photos a query.
        each: Queries a sheet.
    """
    benchmark, project = study.unseen, study.encoder.projection.apply
    found = rank(project(study.queries), project(study.embedded(benchmark.paths)), top)
    truth = _truth(study)
    rows: list[tuple[Cell, ...]] = []
    for count in OBJECTS:
        numbers = [i for i, query in enumerate(benchmark.queries) if len(query.sketch.objects) == count]
        chosen = sorted(np.random.default_rng(study.seed).permutation(numbers)[:each].tolist())
        shown = [_answered(study, number, found[number], truth) for number in chosen]
        if not shown:
            continue
        path = study.work / "sheets" / f"{count}-objects.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(f"{count} object{'s' * (count > 1)}", shown, path)
        for number, answered in zip(chosen, shown, strict=True):
            words = ", ".join(item.label or "" for item in answered.sketch.objects)
            rows.append((path.name, number, words, *(answer.relevance for answer in answered.answers)))
    notes = (
        f"The {top} best photos for {each} queries of each number of objects, picked by the seed, asked with strokes.",
        "R is eq. 9's; the query's own photo has R = 1, and so may others.",
        "The sheets are left in --work: the photos on them are not ours to publish.",
    )
    columns = (
        "sheet",
        "query",
        "objects",
        *(f"R, rank {place + 1}" for place in range(min(top, len(benchmark.paths)))),
    )
    title = "Contact sheets (Fig. 1 and 3)"
    return Table("sheets", title, columns, tuple(rows), notes, study.provenance("sheets"))


def _answered(study: Study, number: int, found: np.ndarray, truth: Truth) -> Answered:
    query = study.unseen.queries[number]
    asked = [item.label or "" for item in query.sketch.objects]
    answers = []
    for photo in found.tolist():
        path = study.unseen.paths[photo]
        boxes, words = truth[path]
        rows = [row for row, word in enumerate(words) if word in asked]
        objects = tuple(asked.index(words[row]) for row in rows)
        alone = Gallery.build(boxes, np.zeros(len(boxes), np.int64), words, 1)  # the benchmark knows no small R
        (R,) = relevance(query.boxes, asked, alone).of(np.array([0])).tolist()
        answers.append(Answer(path, R, boxes[rows], objects))
    return Answered(query.sketch, tuple(answers))


def _truth(study: Study) -> Truth:
    """Of every annotated photo; what the class map leaves out is nothing that is asked for."""
    class_map, found = read_class_map(), Truth()
    for part, images in study.boxed:
        for name, rows in zip(part.files, part.by_photo, strict=True):
            drawn = [(row, word) for row in rows if (word := class_map.word(part.classes[row])) is not None]
            boxes = part.normalised[[row for row, _ in drawn]]
            found[images / name] = boxes, [word for _, word in drawn]
    return found
