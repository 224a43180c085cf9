"""Sketchy: SVGs in ``sketches/<class>``, PNGs in ``256x256/sketch/tx_000000000000/<class>``, photos beside.

Each sketch is of a photo: ``n02691156_10151-1`` is the first of photo ``n02691156_10151``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from encoders.data.lists import lines
from encoders.data.manifest import Drawing, Photo
from encoders.data.report import Progress, Report
from encoders.data.tuberlin import files_below, forms, read_folder
from encoders.errors import DataError

PLAIN = "tx_000000000000"  # sketches as drawn, photos as they are: the other folders are augmented
SKETCHES = {
    "svg": ("sketches", "."),
    "png": (f"256x256/sketch/{PLAIN}", f"sketch/{PLAIN}", "."),
}
PHOTOS = (f"256x256/photo/{PLAIN}", f"photo/{PLAIN}")
INVALID = "invalid*.txt"


def read(
    source: Path, report: Report, *, form: str = "auto", invalid: bool = False, progress: Progress | None = None
) -> Iterator[Drawing]:
    """The sketches of a folder, SVGs where there are any.

    Sketches that Sketchy's own lists (``invalid*.txt`` in ``info`` or in a class's folder) call wrong, ambiguous, in
    another pose or with a background are left out unless ``invalid``.

    Args:
        source: Where the archives were unpacked to.
        report: Takes files that cannot be read, and what is left out.
        form: Another form than ``auto`` finds.
        invalid: Keep what the lists name.
        progress: Called with the folder that is read and how many of its files are.

    Raises:
        DataError: There is no sketch in the folder, or no list of invalid ones.
    """
    folder, names = _find(source, form)
    bad = set() if invalid else _invalid(source, folder)
    for name in names:
        if Path(name).stem in bad:
            report.left_out.add("sketch is on a list of invalid ones", f"{folder / name}")
    yield from read_folder(folder, [name for name in names if Path(name).stem not in bad], report, progress)


def read_photos(folder: Path) -> Iterator[Photo]:
    """The photos of a folder, each of one object without a box: its class is its label.

    Raises:
        DataError: There are none.
    """
    names = files_below(folder, "jpg")
    if not names:
        raise DataError(f"{folder} holds no <class>/*.jpg; name the folder of Sketchy's photos")
    for name in names:
        yield Photo(name, 0, 0, "", (), name.partition("/")[0])


def photos_folder(source: Path) -> Path:
    """The folder of photos as they are.

    Raises:
        DataError: There is none.
    """
    for place in PHOTOS:
        if (source / place).is_dir():
            return source / place
    raise DataError(f"{source} has no folder {PHOTOS[0]}; unpack Sketchy's photos there")


def _find(source: Path, form: str) -> tuple[Path, list[str]]:
    for suffix in forms(form):
        for place in SKETCHES[suffix]:
            names = files_below(source / place, suffix)
            if names:
                return source / place, names
    raise DataError(f"{source} holds neither sketches/<class>/*.svg nor {SKETCHES['png'][0]}/<class>/*.png")


def _invalid(source: Path, folder: Path) -> set[str]:
    """The names that the lists hold: the first word of each line, a class's own lists and those for all classes."""
    lists = [*source.glob(INVALID), *source.glob(f"info*/**/{INVALID}"), *folder.glob(f"*/{INVALID}")]
    if not lists:
        raise DataError(f"{source} has no list {INVALID}; unpack Sketchy's info there, or keep all with --invalid")
    return {Path(line.split()[0]).stem for path in lists for line in lines(path)}
