"""PASCAL VOC: ``Annotations/*.xml``, ``ImageSets/Main/<split>.txt``, ``JPEGImages``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from encoders.data.filtering import placed
from encoders.data.lists import lines
from encoders.data.manifest import Box, Photo
from encoders.data.report import Progress, Report
from encoders.errors import DataError

SPLITS = {"train": "train", "val": "validation", "trainval": "train", "test": "test"}  # theirs -> a manifest's


def read(source: Path, splits: Sequence[str], report: Report, *, progress: Progress | None = None) -> Iterator[Photo]:
    """The photos of some splits with their boxes.

    VOC counts pixels from 1 and names the last one inside: ``xmin = 1`` is the photo's left edge. Difficult and
    truncated objects stay; the parts of a person (``part``) are no objects.

    Args:
        source: The folder of a year, such as ``VOCdevkit/VOC2012``.
        splits: Of ``train``, ``val``, ``trainval``, ``test``.
        report: Takes bad files and bad boxes.
        progress: Called with the split that is read and how many of its photos are.

    Raises:
        DataError: A folder or a list is missing, or an unknown split.
    """
    for folder in ("Annotations", "JPEGImages"):
        if not (source / folder).is_dir():
            raise DataError(f"{source} has no folder {folder}; name the folder of a year, such as VOCdevkit/VOC2012")
    for split in splits:
        if split not in SPLITS:
            raise DataError(f"split {split!r} is none of VOC: {', '.join(SPLITS)}")
    lists = {split: _names(source / "ImageSets" / "Main" / f"{split}.txt") for split in splits}
    return _photos(source / "Annotations", lists, report, progress)


def _photos(
    folder: Path, lists: Mapping[str, Sequence[str]], report: Report, progress: Progress | None
) -> Iterator[Photo]:
    for split, names in lists.items():
        for number, name in enumerate(names, start=1):
            if progress:
                progress(split, number, len(names))
            photo = _photo(folder / f"{name}.xml", SPLITS[split], report)
            if photo:
                yield photo


def _names(path: Path) -> list[str]:
    """The photos of a list; a second word in a line (whether a class is there) counts for nothing."""
    if not path.is_file():
        raise DataError(f"no file {path}; the lists of VOC's splits belong there")
    return [line.split()[0] for line in lines(path)]


def _photo(path: Path, split: str, report: Report) -> Photo | None:
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (int(float(root.findtext(f"size/{side}", ""))) for side in ("width", "height"))
    except FileNotFoundError:
        report.failed.add("annotation is missing", str(path))
        return None
    except (ElementTree.ParseError, ValueError, OverflowError):
        report.failed.add("annotation is no XML with a size", str(path))
        return None
    if width < 1 or height < 1:
        report.failed.add("annotation is no XML with a size", str(path))
        return None
    file = root.findtext("filename") or f"{path.stem}.jpg"
    boxes = [
        _box(item, (width, height), f"{path.name}: object {n}", report) for n, item in enumerate(root.iter("object"))
    ]
    return Photo(Path(file).name, width, height, split, tuple(box for box in boxes if box))


def _box(item: ElementTree.Element, size: tuple[int, int], where: str, report: Report) -> Box | None:
    name = (item.findtext("name") or "").strip()
    try:
        xmin, ymin, xmax, ymax = (float(item.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError:
        xmin = ymin = xmax = ymax = math.nan
    if not name:
        report.failed.add("object has no name", where)
        return None
    corners = ((xmin - 1) / size[0], (ymin - 1) / size[1], xmax / size[0], ymax / size[1])
    return placed(Box(name, *corners), lambda: where, report, size)
