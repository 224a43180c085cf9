"""Where photos come from: folders, files, glob patterns, manifests, iterables of them; streamed, never listed whole."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from compsketch_milvus.errors import CollectionError, SourceError
from compsketch_milvus.records import RESERVED_FIELDS, ImageRecord
from compsketch_milvus.rows import check_id

__all__ = ["MANIFESTS", "SUFFIXES", "Source", "iterate"]

Source = str | Path | ImageRecord | Iterable["str | Path | ImageRecord"]

_JPEG, _TIFF = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), (".tif", ".tiff")
_HEIF = (".avif", ".avifs", ".heic", ".heif", ".hif")
SUFFIXES = (*_JPEG, ".png", ".apng", ".webp", ".gif", ".bmp", *_TIFF, *_HEIF)
MANIFESTS = (".csv", ".jsonl", ".ndjson")
PATH_COLUMNS = ("path", "file", "source", "image")
KINDS = "a folder, a photo, a glob pattern, or a manifest (.csv, .jsonl, .ndjson) with a path column"
# VARCHAR length of the schema, and what Milvus takes as one row's dynamic fields.
MAX_SOURCE, MAX_FIELDS = 4096, 65_536
# What a Milvus filter can name. A server refuses to give out a field of another name, so ingest could not compare it.
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FILTER_WORDS = frozenset({"and", "or", "not", "in", "like", "exists", "is", "null", "true", "false"})


def iterate(source: Source) -> Iterator[ImageRecord]:
    """Stream the photos of a source.

    A photo that a source must refuse (its name is not UTF-8, its folder may not be read) comes as a record with `error`
    set, so that it is counted and the others go on.

    Args:
        source: one of
            a folder: all photos below it but hidden ones, each folder in the order of its names; symbolic links are
            followed, each folder once. Memory: the names of one folder, and a pair of numbers for each folder;
            a photo;
            a glob pattern (`*`, `?`, `[…]`, `**`), in the file system's order;
            a manifest: .csv, .jsonl or .ndjson with a column path, file, source or image, relative to the manifest's
            folder; other columns become fields. A cell of a CSV that is a JSON number or boolean becomes one, an empty
            one is left out;
            an ImageRecord, or an iterable of any of these. In an iterable a source that is no good becomes a record
            with `error` set, so that the rest is done.

    Yields:
        Records whose `source` is the absolute path with links resolved, whose `id` is made of it, and whose fields hold
        `bytes` and `mtime`.

    Raises:
        SourceError: there is no such source, it is of no known kind, it holds no photos, or a manifest is malformed.
    """
    if isinstance(source, ImageRecord):
        yield _checked(source)
    elif isinstance(source, (str, Path)):
        yield from _from_path(source)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray)):
        for item in source:
            try:
                yield from iterate(item)
            except SourceError as error:
                name = _printable(str(item))
                yield _refused(name, str(error).removeprefix(f"{name}: "))
    else:
        raise SourceError(f"{type(source).__name__}: not a source of photos; give {KINDS}")


def _from_path(source: str | Path) -> Iterator[ImageRecord]:
    name = _printable(str(source))
    path = Path(source).expanduser()
    try:
        is_directory, exists = path.is_dir(), path.exists()
    except (OSError, ValueError) as error:  # too long a name; a NUL in it
        raise SourceError(f"{name}: cannot be opened ({error}); check the path") from error
    if is_directory:
        yield from _some(_folder(path), f"{name}: holds no photos; known suffixes are {' '.join(SUFFIXES)}")
    elif exists and path.suffix.lower() in MANIFESTS:
        yield from _some(_manifest(path), f"{name}: lists no photos; give a manifest with at least one row")
    elif exists and path.suffix.lower() in SUFFIXES:
        yield _file_record(path)
    elif exists:
        raise SourceError(f"{name}: of no known kind ({path.suffix or 'no suffix'}); give {KINDS}")
    elif any(character in str(source) for character in "*?["):
        yield from _some(_glob(path), f"{name}: no photo matches the pattern; check it, and quote it in a shell")
    else:
        raise SourceError(f"{name}: no such file or folder; check the path")


def _some(records: Iterator[ImageRecord], complaint: str) -> Iterator[ImageRecord]:
    """The same records, or a SourceError where there are none."""
    empty = True
    for record in records:
        empty = False
        yield record
    if empty:
        raise SourceError(complaint)


def _folder(root: Path) -> Iterator[ImageRecord]:
    """Photos below a folder, depth first: its own photos by name, then its subfolders by name."""
    pending = [root.resolve()]
    visited: set[tuple[int, int]] = set()  # two links may name one folder, and one may name its own parent
    while pending:
        folder = pending.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = sorted((entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries)
        except OSError as error:
            yield _refused(_printable(str(folder)), f"cannot be listed ({error.strerror}); check its permissions")
            continue
        found = [entry for entry in found if not entry[0].startswith(".")]
        for name, is_directory, is_link in found:
            if not is_directory and os.path.splitext(name)[1].lower() in SUFFIXES:
                yield _file_record(folder / name, resolved=not is_link)
        for name, is_directory, is_link in reversed(found):
            if is_directory:
                pending.append((folder / name).resolve() if is_link else folder / name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _glob(pattern: Path) -> Iterator[ImageRecord]:
    """Photos that a pattern names. Path.glob follows no links under `**`, so it cannot run in a circle."""
    base = Path(pattern.anchor or ".")
    try:
        for path in base.glob(str(pattern.relative_to(pattern.anchor))):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir():
                yield _file_record(path)
    except (ValueError, OSError) as error:  # `**` as a part of a name; a folder that may not be read
        raise SourceError(f"{_printable(str(pattern))}: not a usable pattern ({error}); correct it") from error


def _manifest(manifest: Path) -> Iterator[ImageRecord]:
    """Photos that a CSV or JSON Lines file lists, with its other columns as fields."""
    folder = manifest.resolve().parent
    try:
        with open(manifest, encoding="utf-8-sig", newline="") as file:
            rows = _csv_rows(file, manifest) if manifest.suffix.lower() == ".csv" else _json_rows(file, manifest)
            for line, row in rows:
                column = _path_column(row, f"{manifest}, line {line}")
                path = row.pop(column)
                if not isinstance(path, str) or not path:
                    raise SourceError(f"{manifest}, line {line}: column {column} holds no path; fill it in")
                fields = {name: value for name, value in row.items() if value is not None}
                yield _file_record(folder / Path(path).expanduser(), fields=fields)
    except OSError as error:
        raise SourceError(f"{manifest}: cannot be read ({error.strerror}); check its permissions") from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{manifest}: not UTF-8 ({error.reason}, byte {error.start}); save it as UTF-8") from error


def _path_column(row: dict[str, Any], place: str) -> str:
    """The column that names the photo. The rest must be free for fields."""
    column = next((name for name in PATH_COLUMNS if name in row), None)
    if column is None:
        raise SourceError(f"{place}: no path column; name one of the columns {', '.join(PATH_COLUMNS)}")
    for name in row:
        if name != column:
            problem = _field_problem(name, row[name])
            if problem:
                raise SourceError(f"{place}: {problem}")
    return column


def _field_problem(name: str, value: Any) -> str:
    """What is wrong with a field and what to do, or ''."""
    if name in RESERVED_FIELDS:
        return f"column {name} is reserved by the collection ({', '.join(RESERVED_FIELDS)}); rename it"
    if not _FIELD_NAME.fullmatch(name) or name.lower() in _FILTER_WORDS:
        return f"column {name!r} could not be named in a filter; rename it to ASCII letters, digits and underscores"
    if isinstance(value, float) and not math.isfinite(value):
        return f"column {name} holds {value}; leave the cell empty"
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"column {name} holds {value}, more than 64 bits; give it as a string"
    if value is not None and not isinstance(value, (str, int, float, bool)):
        return f"column {name} holds a {type(value).__name__}; give a string, number or boolean"
    if isinstance(value, str) and _printable(value) != value:
        return f"column {name} holds text that is not UTF-8; correct it"
    return ""


def _csv_rows(file: TextIO, manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file, strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if columns:
            reader.fieldnames = columns
            _path_column(dict.fromkeys(columns), f"{manifest}, line 1")  # also where no row follows
        if len(set(columns)) < len(columns):
            raise SourceError(f"{manifest}, line 1: two columns have one name ({', '.join(columns)}); rename one")
        for row in reader:
            if None in row or None in row.values():
                raise SourceError(f"{manifest}, line {reader.line_num}: expected {len(columns)} cells; quote commas")
            path = next(name for name in PATH_COLUMNS if name in row)
            yield reader.line_num, {name: cell if name == path else _cell(cell) for name, cell in row.items()}
    except csv.Error as error:
        raise SourceError(f"{manifest}, line {reader.line_num}: not CSV ({error}); correct the line") from error


def _cell(text: str) -> Any:
    """A JSON number or boolean as itself, for filters to compare; '' as None; else the text ('007' stays text)."""
    if not text:
        return None
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        return text
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else text


def _json_rows(file: TextIO, manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{manifest}, line {line}: not JSON ({error}); give one object a line") from error
        if not isinstance(row, dict):
            raise SourceError(f"{manifest}, line {line}: a {type(row).__name__}; give one object a line")
        yield line, row


def _file_record(path: Path, *, resolved: bool = False, fields: dict[str, Any] | None = None) -> ImageRecord:
    """A file as a record. One that is missing is found out, and counted, when it is read."""
    try:
        path = path if resolved else path.resolve()
        source = path.as_posix()
        source.encode("utf-8")
        status = os.stat(path)
        facts = {"bytes": status.st_size, "mtime": status.st_mtime_ns // 1_000_000}
    except UnicodeEncodeError:
        return _refused(_printable(path.as_posix()), "the file's name is not UTF-8; rename it")
    except FileNotFoundError:
        facts = {}
    except (OSError, RuntimeError, ValueError) as error:  # no permission; links in a circle; a NUL in the name
        reason = getattr(error, "strerror", None) or error
        return _refused(_printable(path.as_posix()), f"cannot be opened ({reason}); check the path and its permissions")
    return _checked(ImageRecord(_id(source), source, path, None, {**(fields or {}), **facts}))


def _checked(record: ImageRecord) -> ImageRecord:
    """The record, or one refused, where the collection's schema could not hold it."""
    problem = ""
    try:
        check_id(record.id)
    except CollectionError as error:
        problem = f"{error}; give it another id"
    if len(record.source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        problem = f"its path is longer than {MAX_SOURCE} bytes; move it"
    elif _printable(record.source) != record.source:
        problem = "its name is not UTF-8; rename it"
    elif record.error is None and (record.path is None) == (record.data is None):
        problem = "a record needs either a path or data; give one of them"
    for name, value in record.fields.items():
        if name not in ("bytes", "mtime"):
            problem = problem or _field_problem(name, value)
    if not problem and len(record.fields) > 2 and len(json.dumps(record.fields)) > MAX_FIELDS:
        problem = f"its fields take more than {MAX_FIELDS} bytes as JSON; shorten them"
    return _refused(_printable(record.source)[:MAX_SOURCE], problem) if problem else record


def _refused(source: str, reason: str) -> ImageRecord:
    return ImageRecord(_id(source), source, error=reason)


def _id(source: str) -> str:
    """The primary key of a source: 32 hex digits of its SHA-256, the same for ever."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _printable(text: str) -> str:
    """A name for messages: bytes that are not UTF-8 as \\udcXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
