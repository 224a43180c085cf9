"""What a study of collections is given: sketches in files, collections by method, photos known for a sketch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.rankings import Check
from encoders.sketch import Sketch

__all__ = ["collections", "known", "sketch_files"]

SUFFIXES = (".json", ".svg", ".png", ".npz")


def collections(methods: Sequence[str], encoder: str | None) -> dict[str, tuple[str, str | None]]:
    """By method, its collection and its encoder's bundle, from ``NAME=COLLECTION[:ENCODER]``.

    Args:
        methods: as the command line has them.
        encoder: of those that name none.

    Raises:
        CompsketchError: one names no collection, or a method comes twice.
    """
    named: dict[str, tuple[str, str | None]] = {}
    for text in methods:
        name, _, place = text.partition("=")
        collection, _, spec = place.partition(":")
        if not name or not collection:
            raise CompsketchError(
                f"--method {text}: give NAME=COLLECTION or NAME=COLLECTION:ENCODER; a name alone, such as ssbir, needs "
                "--annotations"
            )
        if name in named:
            raise CompsketchError(f"--method {name}: given twice; give each method a name of its own")
        named[name] = collection, spec or encoder
    return named


def sketch_files(folder: Path) -> dict[Path, Sketch]:
    """The sketches of a folder, by file, in the order of their names.

    Raises:
        CompsketchError: there is no such folder, or no sketch in it.
        SketchError: a file is no sketch.
    """
    if not folder.is_dir():
        raise CompsketchError(f"{folder}: no folder; give one of sketches ({', '.join(SUFFIXES)})")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise CompsketchError(f"{folder}: holds no sketch ({', '.join(SUFFIXES)})")
    return {file: Sketch.open(file) for file in files}


def known(path: Path, files: Sequence[Path]) -> list[Check | None]:
    """What is known of photos: a line of JSON ``{"sketch": file, "good": photo, "bad": [photos]}`` a sketch.

    Args:
        path: the file of lines; relative paths of photos in it are relative to its folder.
        files: the sketches that are asked.

    Returns:
        One for each of the files; None where nothing is known.

    Raises:
        CompsketchError: a line does not fit, or is of a sketch that is not in the folder.
    """
    found: dict[str, Check] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if line.strip():
            sketch, check = _line(line, path, number)
            found[sketch] = check
    here = {file.name for file in files[0].parent.iterdir()} if files else set()
    strange = sorted(set(found) - here)
    if strange:
        raise CompsketchError(f"{path}: there is no sketch {strange[0]!r} beside the others; correct its name")
    return [found.get(file.name) for file in files]


def _line(line: str, path: Path, number: int) -> tuple[str, Check]:
    try:
        row: Mapping[str, Any] = json.loads(line)
        sketch, good, bad = row["sketch"], row["good"], row["bad"]
    except (ValueError, KeyError, TypeError):
        sketch, good, bad = None, None, None
    texts = isinstance(sketch, str) and isinstance(good, str) and isinstance(bad, list) and bad
    if not texts or not all(isinstance(one, str) for one in bad or ()):
        raise CompsketchError(f'{path}:{number}: expected {{"sketch": file, "good": photo, "bad": [photos, ...]}}')
    return str(sketch), Check(_source(str(good), path), tuple(_source(one, path) for one in bad or ()))


def _source(text: str, path: Path) -> str:
    return text if "://" in text else str((path.parent / text).resolve())
