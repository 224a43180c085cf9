"""Quick, Draw!: ndjson, a file a class, simplified or raw (with times), plain or gzipped; read line by line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from encoders.data.manifest import Drawing
from encoders.data.report import Progress, Report
from encoders.data.strokes import to_unit
from encoders.errors import DataError
from encoders.evaluation.data import strokes_of

_GZIP = b"\x1f\x8b"
_EVERY = 2000  # lines between two words on the progress


def read(
    sources: Sequence[Path], report: Report, *, unrecognised: bool = False, progress: Progress | None = None
) -> Iterator[Drawing]:
    """The sketches of some files, and of all ``.ndjson`` and ``.ndjson.gz`` of some folders.

    A sketch that the game did not recognise (``recognized`` false) is left out unless ``unrecognised``. A raw drawing
    (strokes of x, y and time) is scaled and simplified as Quick, Draw! itself does it; its times go.

    Raises:
        DataError: There is no such file, or a folder holds none.
    """
    paths = [path for source in sources for path in _files(source)]
    for path in paths:
        total = path.stat().st_size
        with path.open("rb") as raw, _unpacked(raw) as file:
            try:
                for number, line in enumerate(file, start=1):
                    if progress and number % _EVERY == 0:
                        progress(path.name, raw.tell(), total)
                    drawing = line.strip() and _drawing(line, f"{path.name}: line {number}", report, unrecognised)
                    if drawing:
                        yield drawing
            except (OSError, EOFError, zlib.error) as error:  # a damaged or cut gzip
                raise DataError(f"{path} cannot be read: {error}") from error
        if progress:
            progress(path.name, total, total)


def _drawing(line: bytes, where: str, report: Report, unrecognised: bool) -> Drawing | None:
    try:
        entry = json.loads(line)
        word, key_id, rows = str(entry["word"]), str(entry["key_id"]), entry["drawing"]
        strokes = strokes_of(rows, where)
    except (ValueError, KeyError, TypeError):
        report.failed.add("line is no sketch: word, key_id and drawing of strokes [[x, ...], [y, ...]]", where)
        return None
    if entry.get("recognized") is False and not unrecognised:
        report.left_out.add("sketch was not recognised", where)
        return None
    return Drawing(word, key_id, to_unit(strokes) if len(rows[0]) > 2 else strokes)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = sorted([*source.glob("*.ndjson"), *source.glob("*.ndjson.gz")])
    if not found:
        raise DataError(f"{source} is no file and holds no .ndjson or .ndjson.gz; name Quick, Draw!'s files")
    return found


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    """The file's lines, unpacked if they are gzip whatever its name says."""
    packed = raw.read(2) == _GZIP
    raw.seek(0)
    return gzip.open(raw) if packed else raw  # type: ignore[return-value]
