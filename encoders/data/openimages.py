"""Open Images v6: CSVs of boxes and of class names, lists of images, and a folder of ``<ImageID>.jpg``.

Read are ``class-descriptions-boxable.csv``, ``<split>-annotations-bbox.csv`` and, where it is there, the list of the
split's images (``train-images-boxable.csv``, ``validation-images-with-rotation.csv``, …); each also under the prefixes
``oidv6-`` and ``oidv7-`` that the site gives them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from encoders.data.filtering import placed
from encoders.data.lists import records
from encoders.data.manifest import Box, Photo
from encoders.data.report import Progress, Report
from encoders.errors import DataError

SPLITS = ("train", "validation", "test")
CLASSES = "class-descriptions-boxable.csv"
BOXES = "{split}-annotations-bbox.csv"
LISTS = tuple(f"{{split}}-images{kind}{turned}.csv" for kind in ("-boxable", "") for turned in ("", "-with-rotation"))
COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf", "IsInside")
_PREFIXES = ("", "oidv6-", "oidv7-")
_IMAGE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_EVERY = 50_000  # rows between two words on the progress


def read(
    source: Path,
    splits: Sequence[str],
    report: Report,
    *,
    images: Path | None = None,
    groups: bool = False,
    progress: Progress | None = None,
) -> Iterator[Photo]:
    """The photos of some splits with their boxes, without their sizes, which the CSVs do not say.

    Boxes around a group (``IsGroupOf``: more than five that touch and hide each other) are left out unless ``groups``;
    so are those of photos taken inside the object (``IsInside``), which show nothing of its outline. Depictions,
    occluded and truncated objects stay.

    Args:
        source: The folder of the CSVs.
        splits: Of ``train``, ``validation``, ``test``.
        report: Takes bad rows and what is left out.
        images: The folder of photos: one that holds a folder of a split's name has the split's photos there.
        groups: Keep boxes around groups, marked as such.
        progress: Called with the file that is read, and how many of its bytes are.

    Raises:
        DataError: A file or a column is missing, the rows of a photo are apart, or an unknown split.
    """
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise DataError(f"split {unknown[0] if unknown else ''!r} is none of Open Images: {', '.join(SPLITS)}")
    names = _class_names(_find(source, (CLASSES,)))
    tables = [_find(source, (BOXES.format(split=split),)) for split in splits]  # all there, before the first is read
    for split, table in zip(splits, tables, strict=True):
        below = f"{split}/" if images is not None and (images / split).is_dir() else ""
        listed = _listed(source, split)
        rows = _rows(table, report, progress)
        for image, boxes in _photos(rows, table, names, report, groups):
            if listed is not None and image not in listed:
                report.failed.add("photo is not in the list of images", f"{table.name}: {image}")
                continue
            yield Photo(f"{below}{image}.jpg", 0, 0, split, tuple(boxes))


def _photos(
    rows: Iterator[tuple[int, dict[str, str]]], table: Path, names: dict[str, str], report: Report, groups: bool
) -> Iterator[tuple[str, list[Box]]]:
    """Each photo's boxes; its rows follow each other in the sets' files, so that one photo at a time is in memory."""
    seen: set[str] = set()
    image, boxes = "", list[Box]()
    for number, row in rows:
        if row["ImageID"] != image:
            if image:
                yield image, boxes
            image, boxes = row["ImageID"], []
            if image in seen:
                raise DataError(f"{table}: line {number}: the rows of {image} are apart; sort the file by ImageID")
            seen.add(image)
        box = _box(row, f"{table.name}: line {number}", names, report, groups)
        if box:
            boxes.append(box)
    if image:
        yield image, boxes


def _box(row: dict[str, str], where: str, names: dict[str, str], report: Report, groups: bool) -> Box | None:
    name = names.get(row["LabelName"])
    if name is None:
        report.failed.add(f"class {row['LabelName']} is not in the class descriptions", where)
        return None
    group = row["IsGroupOf"] == "1"
    if group and not groups:
        report.left_out.add("box around a group (IsGroupOf)", where)
        return None
    if row["IsInside"] == "1":
        report.left_out.add("photo taken inside the object (IsInside)", where)
        return None
    try:
        x0, y0, x1, y1 = (float(row[column]) for column in ("XMin", "YMin", "XMax", "YMax"))
    except ValueError:
        report.failed.add("box is inside out or no numbers", where)
        return None
    return placed(Box(name, x0, y0, x1, y1, group), lambda: where, report)


def _rows(table: Path, report: Report, progress: Progress | None) -> Iterator[tuple[int, dict[str, str]]]:
    """The needed columns of each good row, with its line number."""
    total = table.stat().st_size
    with table.open("rb") as raw, io.TextIOWrapper(raw, "utf-8", "replace", newline="") as file:
        reader = records(table, file)
        header = next(reader, [])
        missing = [column for column in COLUMNS if column not in header]
        if missing:
            raise DataError(f"{table} has no column {missing[0]}; it has {', '.join(header) or 'no lines'}")
        places = [(column, header.index(column)) for column in COLUMNS]
        for number, cells in enumerate(reader, start=2):
            if progress and number % _EVERY == 0:
                progress(table.name, raw.tell(), total)
            if len(cells) != len(header) or not _IMAGE_ID.fullmatch(cells[places[0][1]]):
                report.failed.add(f"row has not the {len(header)} columns of the header, or no ImageID",
                                  f"{table.name}: line {number}")  # fmt: skip
                continue
            yield number, {column: cells[place] for column, place in places}
    if progress:
        progress(table.name, total, total)


def _class_names(path: Path) -> dict[str, str]:
    """Code -> name; v6 has no header, v7 has."""
    names = {cells[0]: cells[1] for cells in _cells(path) if len(cells) > 1 and cells[0].startswith("/")}
    if not names:
        raise DataError(f"{path} names no class; expected lines such as /m/0bt9lr,Dog")
    return names


def _listed(source: Path, split: str) -> set[str] | None:
    """The ids in the split's list of images; None without a list."""
    path = next(filter(Path.is_file, _candidates(source, [name.format(split=split) for name in LISTS])), None)
    if path is None:
        return None
    lines = _cells(path)
    header = next(lines, [])
    if "ImageID" not in header:
        raise DataError(f"{path} has no column ImageID; it has {', '.join(header) or 'no lines'}")
    place = header.index("ImageID")
    return {cells[place] for cells in lines if len(cells) > place}


def _cells(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        yield from records(path, file)


def _find(source: Path, names: Sequence[str]) -> Path:
    for path in _candidates(source, names):
        if path.is_file():
            return path
    raise DataError(f"{source} has no {names[0]}; put Open Images' CSV files there, under the names they come with")


def _candidates(source: Path, names: Sequence[str]) -> Iterator[Any]:
    return (source / f"{prefix}{name}" for name in names for prefix in _PREFIXES)
