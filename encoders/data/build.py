"""From what a set's reader gives to a manifest: filter, look for the photos, write, and give account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

from encoders.data.filtering import MAPS, counted, digest, drawn_photos, drawn_sketches, on_disk
from encoders.data.manifest import Drawing, Facts, Photo, write_photos, write_sketches
from encoders.data.report import Report
from encoders.data.sampling import sample
from encoders.data.sets import images_beside
from encoders.errors import DataError
from encoders.evaluation.data import CLASS_MAP, ClassMap, read_class_map, read_sketches

Row = TypeVar("Row", Photo, Drawing)


def build_photos(
    builder: str,
    photos: Iterable[Photo],
    report: Report,
    out: Path,
    *,
    source: Sequence[Path],
    images: Path | None,
    class_map: Path | None = None,
    sketches: Path | None = None,
) -> None:
    """Write a manifest of photos.

    Args:
        builder: The set, by the name of its command.
        photos: What its reader gives; it counts into ``report`` as well.
        report: The account.
        out: The manifest.
        source: What the reader reads, for the manifest to say.
        images: The folder of photos; the manifest says where it is, seen from itself.
        class_map: Which word draws which class; None for the set's own, or that of COCO and VOC.
        sketches: Classes that this file has no sketches of are dropped; None to drop none for that.

    Raises:
        DataError: As the reader; the class map or the sketches cannot be read, the folder of photos is missing, a
            photo comes twice, or none is left.
    """
    if images is not None and not images.is_dir():
        raise DataError(f"no folder {images}; name the folder of the photos")
    mapped = read_class_map(class_map or MAPS.get(builder, CLASS_MAP))
    words = None if sketches is None else read_sketches(sketches).by_class
    found = counted(on_disk(drawn_photos(_once(photos), mapped, words, report), images, report), report)
    facts = Facts("photos", builder, _names(source), digest(mapped), images=images_beside(out, images))
    write_photos(out, _some(found, out, report), facts)


def build_sketches(
    builder: str,
    drawings: Iterable[Drawing],
    report: Report,
    out: Path,
    *,
    source: Sequence[Path],
    class_map: Path | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> None:
    """Write a manifest of sketches.

    Args:
        builder: The set, by the name of its command.
        drawings: What its reader gives; it counts into ``report`` as well.
        report: The account.
        out: The manifest.
        source: What the reader reads, for the manifest to say.
        class_map: Which word each class goes by; None for the set's own, where it has one.
        per_class: Sketches of each word at most, drawn by ``seed``; None for all.
        seed: See ``per_class``.

    Raises:
        DataError: As the reader; the class map cannot be read, or no sketch is left.
    """
    path = class_map or MAPS.get(builder)
    mapped = read_class_map(path) if path else None
    found: Iterator[Drawing] = drawn_sketches(drawings, mapped, report)
    if per_class is not None:
        found = sample(found, per_class, seed)
    facts = Facts("sketches", builder, _names(source), _digest(mapped), None if per_class is None else seed)
    write_sketches(out, _some(_kept(found, report), out, report), facts)


def _once(photos: Iterable[Photo]) -> Iterator[Photo]:
    """The same photos; refused if one comes twice, as from VOC's trainval beside its val: it would be in two splits."""
    seen: set[str] = set()
    for photo in photos:
        if photo.file in seen:
            raise DataError(f"photo {photo.file} comes twice; name each split or file once, and none within another")
        seen.add(photo.file)
        yield photo


def _kept(drawings: Iterable[Drawing], report: Report) -> Iterator[Drawing]:
    """Count what passes: the last step before it is written."""
    for drawing in drawings:
        report.sketches += 1
        report.keep(drawing.word)
        yield drawing


def _some(rows: Iterator[Row], out: Path, report: Report) -> Iterator[Row]:
    """The same rows; refused if there are none, with what most of them were dropped for."""
    first = next(rows, None)
    if first is None:
        account = report.to_dict()
        why = [f"{item['reason']} ({item['first']})" for item in account["failed"] + account["left_out"]]
        why += [f"{item['class']}: {item['reason']}" for item in account["dropped_classes"]]
        raise DataError(f"{out}: nothing is left to write; {'; '.join(why[:3]) or 'the source holds nothing'}")
    return chain([first], rows)


def _digest(class_map: ClassMap | None) -> str:
    return digest(class_map) if class_map else ""


def _names(source: Sequence[Path]) -> str:
    """Names without their folders, in a fixed order: the same files give the same manifest wherever they are."""
    return " ".join(sorted(path.resolve().name for path in source))
