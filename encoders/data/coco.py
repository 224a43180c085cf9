"""COCO: ``instances_<split><year>.json``. The file is one JSON object and is read whole (train2017: about 2 GB)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from encoders.data.filtering import placed
from encoders.data.manifest import Box, Photo
from encoders.data.report import Progress, Report
from encoders.errors import DataError

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # as file names have them -> as manifests do


def read(
    sources: Sequence[Path],
    report: Report,
    *,
    images: Path | None = None,
    groups: bool = False,
    progress: Progress | None = None,
) -> Iterator[Photo]:
    """The photos of some files with their boxes; the split is in the file's name (``instances_val2017.json``).

    Boxes around a crowd (``iscrowd``) are left out unless ``groups``.

    Args:
        sources: The JSON files.
        report: Takes bad entries and what is left out.
        images: The folder of photos; one that holds a folder ``val2017`` has that file's photos there.
        groups: Keep boxes around crowds, marked as groups.
        progress: Called with the file that is read and how many of its photos are.

    Raises:
        DataError: A file or a list in it is missing, or a photo lacks what it needs.
    """
    for source in sources:
        data = _load(source)
        names = {item["id"]: str(item["name"]) for item in data["categories"]}
        boxes = _boxes(data, names, source.name, report, groups)
        part = source.stem.rpartition("_")[2]  # "val2017"
        below = f"{part}/" if images is not None and (images / part).is_dir() else ""
        split = next((ours for theirs, ours in SPLITS.items() if part.startswith(theirs)), "")
        for number, image in enumerate(data["images"], start=1):
            if progress:
                progress(source.name, number, len(data["images"]))
            found = tuple(boxes.pop(image["id"], ()))
            yield Photo(below + str(image["file_name"]), int(image["width"]), int(image["height"]), split, found)


def _boxes(
    data: dict[str, Any], names: dict[int, str], file: str, report: Report, groups: bool
) -> dict[int, list[Box]]:
    """Image id -> its boxes."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    boxes: dict[int, list[Box]] = {}
    for item in data["annotations"]:
        where = f"{file}: annotation {item.get('id')}"
        if item.get("image_id") not in sizes:
            report.failed.add("its image is not among the images", where)
        elif item.get("category_id") not in names:
            report.failed.add("its category is not among the categories", where)
        elif item.get("iscrowd") and not groups:
            report.left_out.add("box around a crowd (iscrowd)", where)
        elif box := _box(item, names[item["category_id"]], sizes[item["image_id"]], where, report):
            boxes.setdefault(item["image_id"], []).append(box)
    return boxes


def _box(item: dict[str, Any], name: str, size: tuple[int, int], where: str, report: Report) -> Box | None:
    try:
        x, y, width, height = (float(value) for value in item["bbox"])
    except (KeyError, TypeError, ValueError):
        report.failed.add("bbox is not x, y, width and height", where)
        return None
    corners = (x / size[0], y / size[1], (x + width) / size[0], (y + height) / size[1])
    return placed(Box(name, *corners, bool(item.get("iscrowd"))), lambda: where, report, size)


def _load(path: Path) -> dict[str, Any]:
    """The file, held to what is read of it."""
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"no file {path}; name COCO's instances_*.json") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error})") from error
    for key, needed in (("images", ("id", "file_name", "width", "height")), ("categories", ("id", "name")),
                        ("annotations", ())):  # fmt: skip
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DataError(f"{path} has no list {key!r}; name a file of instances, not of captions or results")
        for number, item in enumerate(data[key]):
            if not isinstance(item, dict) or not all(name in item for name in needed):
                raise DataError(f"{path}: {key} {number} lacks one of {', '.join(needed) or 'its keys'}")
    for number, image in enumerate(data["images"]):
        if not all(isinstance(image[side], int) and image[side] > 0 for side in ("width", "height")):
            raise DataError(f"{path}: images {number} ({image['file_name']}): width and height have to be pixels")
    return data
