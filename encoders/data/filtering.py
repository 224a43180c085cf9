"""The paper's filtering (section 4.1): classes that nobody sketches or that are too broad go, then photos left empty.

Also what holds for the boxes and the photos of every set: a box reaches past its photo by rounding at most, and a
photo is on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from PIL import Image

from encoders.data.boxes import fault
from encoders.data.manifest import Box, Drawing, Photo
from encoders.data.report import Report
from encoders.errors import DataError
from encoders.evaluation.data import ClassMap
from encoders.images import FORMATS

MAPS = {name: Path(__file__).with_name(f"{name}.json") for name in ("openimages", "tuberlin", "sketchy")}
EMPTY = 1e-6  # of the photo: a side that is shorter is lost in the manifest's float32
THREADS = 8
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF's tag, and its values that swap width and height


def digest(class_map: ClassMap) -> str:
    """What tells one class map from another, whatever the order of its lines: 16 hexadecimal digits."""
    text = json.dumps([dict(class_map.words), dict(class_map.left_out)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def drawn_photos(
    photos: Iterable[Photo], class_map: ClassMap | None, words: Collection[str] | None, report: Report
) -> Iterator[Photo]:
    """Each photo with those of its boxes that are drawn, and without photos that have none left.

    A label is treated as a box is.

    Args:
        photos: As a reader gives them, or as a manifest holds them.
        class_map: Which word draws which class. A class in neither of its lists is dropped: what is drawn is said
            explicitly. None takes the words that the photos have.
        words: The words that there are sketches of; None for all.
        report: Takes what goes, and why.
    """
    for photo in photos:
        boxes = []
        for box in photo.boxes:
            word = _word(box.name, box.word, class_map, words, report)
            if word:
                boxes.append(box._replace(word=word))
        label = photo.label and _word(photo.label, photo.label, class_map, words, report)
        if boxes or label:
            yield replace(photo, boxes=tuple(boxes), label=label or None)
        else:
            report.left_out.add("photo without a box of a class that is drawn", photo.file)


def drawn_sketches(drawings: Iterable[Drawing], class_map: ClassMap | None, report: Report) -> Iterator[Drawing]:
    """Each sketch under the word that the class map gives its class; a class in neither list keeps its name."""
    for drawing in drawings:
        word = class_map.word(drawing.word) if class_map else drawing.word
        if class_map and word is None:
            report.drop_class(drawing.word, class_map.left_out[drawing.word])
            continue
        yield replace(drawing, word=str(word))


def on_disk(photos: Iterable[Photo], folder: Path | None, report: Report) -> Iterator[Photo]:
    """Each photo that is in the folder, with its size in pixels as it is shown (upright by its EXIF).

    Sizes that a set's files say are kept, and the photo is only looked for. Without a folder nothing is looked for.

    Raises:
        DataError: Nothing says the size of a photo, and there is no folder to read it from.
    """
    if folder is None:
        for photo in photos:
            if not photo.width:
                raise DataError(f"nothing says the size of {photo.file}; name the folder of photos with --images")
            yield photo
        return
    waiting = iter(photos)
    with ThreadPoolExecutor(THREADS) as threads:
        while chunk := list(islice(waiting, 64 * THREADS)):
            for photo, found in zip(chunk, threads.map(_size, (folder / p.file for p in chunk), chunk), strict=True):
                if isinstance(found, str):
                    report.failed.add(found, str(folder / photo.file))
                else:
                    yield replace(photo, width=found[0], height=found[1])


def counted(photos: Iterable[Photo], report: Report) -> Iterator[Photo]:
    """Count what passes: the last step before it is written."""
    for photo in photos:
        report.photos += 1
        report.boxes += len(photo.boxes)
        for box in photo.boxes:
            report.keep(box.word)
        if photo.label:
            report.keep(photo.label)
        yield photo


def placed(box: Box, where: Callable[[], str], report: Report, size: tuple[int, int] = (0, 0)) -> Box | None:
    """A box within its photo; None, and counted, if it is not one.

    What reaches past the photo by rounding is cut to it; what reaches further, is inside out, is empty or is no number
    is bad.

    Args:
        box: Fractions of the photo.
        where: Says where it stands, should it be bad.
        report: Takes the bad ones.
        size: The photo's width and height in pixels, 0 where unknown: then there is no pixel to spare.
    """
    x0, y0, x1, y1 = box[1:5]
    wrong = fault((x0, y0, x1, y1), (1, 1), [1 / side if side else 0 for side in size])
    if wrong:
        report.failed.add(f"box is {wrong}", where())
        return None
    x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, 1.0), min(y1, 1.0)
    if min(x1 - x0, y1 - y0) < EMPTY:
        report.failed.add("box is empty", where())
        return None
    return box._replace(x0=x0, y0=y0, x1=x1, y1=y1)


def _word(
    name: str, word: str, class_map: ClassMap | None, words: Collection[str] | None, report: Report
) -> str | None:
    """The word that draws a class, None and counted if there is none."""
    if class_map is not None:
        if name not in class_map.words:
            report.drop_class(name, class_map.left_out.get(name, "not in the class map"))
            return None
        word = class_map.words[name]
    if words is not None and word not in words:
        report.drop_class(name, f"no sketches of {word!r}")
        return None
    return word


def _size(path: Path, photo: Photo) -> tuple[int, int] | str:
    """The size in pixels, or what is wrong."""
    if photo.width:
        return (photo.width, photo.height) if os.path.isfile(path) else "photo is not on disk"
    try:
        with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            turned = image.getexif().get(_ORIENTATION) in _SIDEWAYS
            return (image.height, image.width) if turned else image.size
    except FileNotFoundError:
        return "photo is not on disk"
    except Exception:  # Pillow's readers answer damaged bytes with almost any, see `images`
        return "photo cannot be read"
