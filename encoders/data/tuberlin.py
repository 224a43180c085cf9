"""TU-Berlin: ``svg/<class>/<n>.svg`` and ``png/<class>/<n>.png``, each with a ``filelist.txt``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from encoders.data.lists import lines
from encoders.data.manifest import Drawing
from encoders.data.report import Progress, Report
from encoders.data.strokes import from_png, from_svg
from encoders.errors import CompsketchError, DataError

LIST = "filelist.txt"
READERS = {"svg": from_svg, "png": from_png}


def read(source: Path, report: Report, *, form: str = "auto", progress: Progress | None = None) -> Iterator[Drawing]:
    """The sketches of a folder; ``airplane/1`` is the key_id of the first airplane in either form.

    Args:
        source: The folder that holds ``svg`` or ``png``, or one of these itself.
        report: Takes files that are missing or cannot be read.
        form: ``auto`` takes the SVGs where there are any: they are the strokes themselves.
        progress: Called with the folder that is read and how many of its files are.

    Raises:
        DataError: There is no such folder, or no sketch in it.
    """
    folder, suffix = _folder(source, form)
    return read_folder(folder, _names(folder, suffix), report, progress)


def read_folder(folder: Path, names: list[str], report: Report, progress: Progress | None = None) -> Iterator[Drawing]:
    """The sketches ``<class>/<name>.svg`` or ``.png`` below a folder; their key_id is the name without its suffix."""
    for number, name in enumerate(names, start=1):
        if progress:
            progress(folder.name, number, len(names))
        path = folder / name
        try:
            strokes = READERS[path.suffix.lower()[1:]](path.read_bytes())
        except FileNotFoundError:
            report.failed.add("sketch is not on disk", str(path))
        except (CompsketchError, OSError) as error:
            report.failed.add("sketch cannot be read", f"{path}: {error}")
        else:
            yield Drawing(path.parent.name, name.rpartition(".")[0], strokes)


def forms(form: str) -> tuple[str, ...]:
    """The suffixes to look for, in their order.

    Raises:
        DataError: ``form`` is none of ``auto``, ``svg``, ``png``.
    """
    if form not in ("auto", *READERS):
        raise DataError(f"form is {form!r}; expected auto, svg or png")
    return tuple(READERS) if form == "auto" else (form,)


def files_below(folder: Path, suffix: str) -> list[str]:
    """``<class>/<file>`` of all files with a suffix, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(f"*/*.{suffix}"))


def _folder(source: Path, form: str) -> tuple[Path, str]:
    """Where the sketches of a form are, and their suffix."""
    for suffix in forms(form):
        for folder in (source / suffix, source):
            if next(folder.glob(f"*/*.{suffix}"), None) is not None:
                return folder, suffix
    wanted = "svg/<class>/*.svg or png/<class>/*.png" if form == "auto" else f"{form}/<class>/*.{form}"
    raise DataError(f"{source} holds no {wanted}; name the folder that TU-Berlin's archive was unpacked to")


def _names(folder: Path, suffix: str) -> list[str]:
    """What the list names, or without a list what is there; nothing that leads out of the folder."""
    if not (folder / LIST).is_file():
        return files_below(folder, suffix)
    names = [line.strip().replace("\\", "/") for line in lines(folder / LIST)]
    wrong = [
        name
        for name in names
        if name.count("/") != 1 or name.startswith("/") or ".." in name or not name.endswith(f".{suffix}")
    ]
    if wrong:
        raise DataError(f"{folder / LIST}: {wrong[0]!r} is no <class>/<n>.{suffix}; take the archive's own list")
    return names
