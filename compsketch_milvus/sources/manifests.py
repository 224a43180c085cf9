"""Manifests: CSV, JSON Lines and parquet files that list photos, or hold them, with further columns as fields."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO
from urllib.parse import unquote, urlsplit

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.rejects import is_reject
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.archives import container
from compsketch_milvus.sources.facts import with_facts
from compsketch_milvus.sources.naming import checked, field_problem, file_record, inside, printable, refused, source_id
from compsketch_milvus.sources.remote import is_url, joined, url_record

__all__ = ["MANIFESTS", "PATH_COLUMNS", "named_photo", "read_manifest"]

MANIFESTS = (".csv", ".jsonl", ".ndjson", ".parquet")
PATH_COLUMNS = ("path", "file", "source", "image")
DATA_COLUMNS = ("image", "bytes")
MAX_CELL = 131_072  # characters: the csv module's own limit
MAX_LINE = 1024 * 1024  # characters of a JSON line
PARQUET_BATCH = 16  # rows at once: they may hold photos
REJECTS = 1000  # lines of a reject file for which an archive is read once
Rows = Iterator[tuple[str, dict[str, Any]]]


def read_manifest(
    name: str, suffix: str, opened: Callable[[], BinaryIO], base: Path | str, access: Access
) -> Iterator[ImageRecord]:
    """The photos that a manifest names, one row after another.

    A path is relative to `base`; it may be a `file://`, `http(s)://`, `s3://` or `gs://` URL, too. A manifest on this
    machine may name any file here, by `file://` as by a path: what is no photo is not decoded. One that lies elsewhere
    names no file here, and no manifest names a collection, whose server would be sent a token. A row of a parquet file
    may hold the photo itself: a column `image` or `bytes` of bytes, or of structs (`bytes`, `path`) as Hugging
    Face's data sets have them. Such a photo's source is `MANIFEST!/row`, counted from 1.

    Args:
        name: of the manifest, for messages and sources.
        suffix: one of `MANIFESTS`.
        opened: opens it.
        base: folder, or URL ending in a slash.
        access: what the source is allowed.

    Raises:
        SourceError: it is malformed, or cannot be read.
    """
    with _explained(name), opened() as file:
        if suffix == ".parquet":
            rows = _parquet_rows(file, name)
        else:
            text, size = io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), _size(file)
            rows = _csv_rows(text, name) if suffix == ".csv" else _json_rows(text, name, size)
        yield from with_facts(_photos_of(rows, name, base, access), access)


def named_photo(value: str, base: Path | str, fields: dict[str, Any], access: Access) -> ImageRecord:
    """The photo that a row names: by a path, relative to `base`, by a URL, or as `ARCHIVE!/member`; one, no folder."""
    if isinstance(base, str) and value.lower().startswith("file:"):
        return refused(printable(value), "a manifest elsewhere names no file on this machine; copy the manifest here")
    if container(value):
        return _member_of(value, base, fields, access)
    if is_url(value):
        if value.lower().startswith("file://"):
            return file_record(file_path(value), fields=fields)
        return url_record(value, fields, access)
    if isinstance(base, str):
        return url_record(joined(base, value), fields, access)
    try:
        return file_record(base / Path(value).expanduser(), fields=fields)
    except RuntimeError:  # ~somebody
        return refused(printable(value), "there is no such user's folder; give the path in full")


def _member_of(value: str, base: Path | str, fields: dict[str, Any], access: Access) -> ImageRecord:
    """A photo in an archive, as a list of rejects names it."""
    from compsketch_milvus.sources import member  # which reads manifests

    name = value if is_url(value) else joined(base, value) if isinstance(base, str) else str(base / value)
    try:
        record = next(member(name, access))
    except SourceError as error:
        return refused(printable(name), str(error).removeprefix(f"{printable(name)}: "))
    return checked(replace(record, fields={**fields, **record.fields}))


def file_path(url: str) -> Path:
    """The path of a `file://` URL: the same file as the path alone, by the same rules."""
    return Path(unquote(urlsplit(url).path) or "/")


def _photos_of(rows: Rows, manifest: str, base: Path | str, access: Access) -> Iterator[ImageRecord]:
    for archive, group in groupby(rows, lambda placed: _reject_archive(placed[1]) if isinstance(base, Path) else None):
        if archive:
            while some := [row for _, row in islice(group, REJECTS)]:
                yield from _rejected_members(archive, some, access)
            continue
        for place, row in group:
            if archive is None:
                yield _photo_of(place, row, manifest, base, access)
            else:
                yield from _rejected(str(row["source"]), str(row["id"]), row["fields"], access)


def _reject_archive(row: dict[str, Any]) -> str | None:
    """The archive of the photo that a line of a reject file names; '' where it is in none; None for any other row."""
    if not is_reject(row):
        return None
    source = str(row["source"])
    return "" if _is_no_photo(source) else container(source)


def _is_no_photo(source: str) -> bool:
    """Whether a source is a manifest, which might be the reject file itself, or a collection, which is sent a token."""
    return source.lower().endswith(MANIFESTS) or source.lower().startswith(("milvus:", "milvus+"))


def _rejected_members(archive: str, lines: list[dict[str, Any]], access: Access) -> Iterator[ImageRecord]:
    """What lines of a reject file name in one archive, which is read once for all of them."""
    from compsketch_milvus.sources import iterate  # which reads manifests

    wanted: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for line in lines:
        wanted.setdefault(str(line["source"]), []).append((str(line["id"]), line["fields"]))
    reason = f"there is no such photo in {printable(archive)}; check the name"
    try:
        for record in iterate(archive, access):
            for id, fields in wanted.pop(record.source, ()):
                yield checked(replace(record, id=id, fields={**fields, **record.fields}))
            if not wanted:
                return
            if record.source == archive and record.error is not None:
                reason = record.error
    except SourceError as error:
        reason = str(error)
    for source, named in wanted.items():
        for id, fields in named:
            yield replace(refused(printable(source), reason), id=id, fields=fields)  # for the next reject file


def _rejected(source: str, id: str, fields: dict[str, Any], access: Access) -> Iterator[ImageRecord]:
    """What a reject file's line names: a photo under its own id, or all of an archive or folder, which failed whole."""
    from compsketch_milvus.sources import iterate  # which reads manifests

    if _is_no_photo(source):
        yield refused(printable(source), "no photo; ingest it by its own name")
        return
    try:
        for record in iterate(source, access):
            mine = record.source == source
            yield checked(replace(record, id=id, fields={**fields, **record.fields})) if mine else record
    except SourceError as error:
        reason = str(error).removeprefix(f"{printable(source)}: ")
        yield replace(refused(printable(source), reason), id=id, fields=fields)  # for the next reject file


def _photo_of(place: str, row: dict[str, Any], manifest: str, base: Path | str, access: Access) -> ImageRecord:
    column = _photo_column(row, place)
    value = row.pop(column)
    fields = {name: value for name, value in row.items() if value is not None}
    number = place.rpartition(" ")[2]
    if isinstance(value, dict):  # Hugging Face: the bytes, or the path of a file beside the manifest
        path = value.get("path")
        if isinstance(value.get("bytes"), bytes):
            value = value["bytes"]
            fields.update({"path": path} if isinstance(path, str) and path and "path" not in fields else {})
        else:
            value = path
    if isinstance(value, bytes):
        return data_record(inside(manifest, number), value, fields, access)
    if not isinstance(value, str) or not value:
        raise SourceError(f"{place}: column {column} holds no path; fill it in")
    record = named_photo(value, base, fields, access)
    return record if record.error is None else replace(record, fields=fields)  # for the reject file


def data_record(source: str, data: bytes, fields: dict[str, Any], access: Access) -> ImageRecord:
    """A photo whose bytes a row holds. They have no time of their own, so their digest tells whether they changed."""
    if len(data) > access.limits.max_bytes:
        return refused(source, f"{len(data)} bytes, over the limit of {access.limits.max_bytes}; save it smaller")
    facts = {"bytes": len(data), "etag": hashlib.sha256(data).hexdigest()[:32]}
    return checked(ImageRecord(source_id(source), source, data=data, fields={**fields, **facts}))


def _photo_column(row: dict[str, Any], place: str) -> str:
    """The column that holds the photo or names it. The rest must be free for fields."""
    holds = (name for name in DATA_COLUMNS if isinstance(row.get(name), (bytes, dict)))
    column = next(holds, None) or next((name for name in PATH_COLUMNS if name in row), None)
    if column is None:
        raise SourceError(f"{place}: no path column; name one of the columns {', '.join(PATH_COLUMNS)}")
    for name in row:
        if name != column:
            problem = field_problem(name, row[name])
            if problem:
                raise SourceError(f"{place}: {problem}")
    return column


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(f"{name}: not UTF-8 ({error.reason}, byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        reason = error.strerror or error
        raise SourceError(f"{name}: cannot be read ({reason}); check that it is there and its permissions") from error


def _csv_rows(file: TextIO, manifest: str) -> Rows:
    reader = csv.DictReader(file, strict=True)
    try:
        columns = [name.strip() for name in reader.fieldnames or ()]
        if columns:
            reader.fieldnames = columns
            _photo_column(dict.fromkeys(columns), f"{manifest}, line 1")  # also where no row follows
        if len(set(columns)) < len(columns):
            raise SourceError(f"{manifest}, line 1: two columns have one name ({', '.join(columns)}); rename one")
        for row in reader:
            if None in row or None in row.values():
                raise SourceError(f"{manifest}, line {reader.line_num}: expected {len(columns)} cells; quote commas")
            path = next(name for name in PATH_COLUMNS if name in row)
            yield (
                f"{manifest}, line {reader.line_num}",
                {name: cell if name == path else _cell(cell) for name, cell in row.items()},
            )
    except csv.Error as error:
        place = f"{manifest}, line {reader.reader.line_num}"  # the inner one has read on
        if "field limit" in str(error):
            raise SourceError(
                f"{place}: a cell of more than {MAX_CELL} characters; shorten it, or close a quote that is left open"
            ) from error
        raise SourceError(f"{place}: not CSV ({error}); correct the line") from error


def _cell(text: str) -> Any:
    """A JSON number or boolean as itself, for filters to compare; '' as None; else the text ('007' stays text)."""
    if not text:
        return None
    try:
        value = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else text


def _size(file: BinaryIO) -> float:
    """Bytes of a file on this machine as it is now; what is no such file has no known end."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return math.inf
    return status.st_size if stat.S_ISREG(status.st_mode) else math.inf


def _json_rows(file: TextIO, manifest: str, size: float) -> Rows:
    """Rows up to `size` bytes: a pattern may name the reject file, and what fails now must not be read in turn."""
    number = taken = 0
    while taken < size and (text := file.readline(MAX_LINE + 1)):
        number, taken = number + 1, taken + len(text.encode("utf-8"))
        place = f"{manifest}, line {number}"
        if len(text) > MAX_LINE:
            raise SourceError(f"{place}: longer than {MAX_LINE} characters; give one object a line")
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{place}: not JSON ({error}); give one object a line") from error
        if not isinstance(row, dict):
            raise SourceError(f"{place}: a {type(row).__name__}; give one object a line")
        yield place, row


def _parquet_rows(file: BinaryIO, manifest: str) -> Rows:
    """Rows in batches. Memory: the row group at hand, as it is stored, and `PARQUET_BATCH` rows of it."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise SourceError(f'{manifest}: parquet needs pyarrow: pip install "compsketch-milvus[data]"') from None
    try:
        with parquet.ParquetFile(file, pre_buffer=False) as table:
            columns = table.schema_arrow.names
            if len(set(columns)) < len(columns):
                raise SourceError(f"{manifest}: two columns have one name ({', '.join(columns)}); rename one")
            if not set(columns) & {*PATH_COLUMNS, *DATA_COLUMNS}:
                raise SourceError(f"{manifest}: no path column; name one of the columns {', '.join(PATH_COLUMNS)}")
            number = 0
            for batch in table.iter_batches(batch_size=PARQUET_BATCH, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{manifest}, row {number}", row
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = printable(str(error)).splitlines()[0]
        raise SourceError(f"{manifest}: not parquet, or damaged ({reason}); write it again") from error
