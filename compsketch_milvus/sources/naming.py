"""How a photo of a source is named: its source, the id made of it, its facts and fields, checked against the schema."""

from __future__ import annotations

import hashlib
import math
import os
import re
from pathlib import Path
from typing import Any

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.records import FACTS, RESERVED_FIELDS, ImageRecord
from compsketch_milvus.rows import FIELDS_BYTES, check_id, size_of

__all__ = [
    "MAX_SOURCE",
    "SUFFIXES",
    "checked",
    "field_problem",
    "file_record",
    "inside",
    "is_photo",
    "printable",
    "refused",
    "source_id",
    "with_origin",
]

_JPEG, _TIFF = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"), (".tif", ".tiff")
_HEIF = (".avif", ".avifs", ".heic", ".heif", ".hif")
SUFFIXES = (*_JPEG, ".png", ".apng", ".webp", ".gif", ".bmp", *_TIFF, *_HEIF)
MAX_SOURCE = 4096  # VARCHAR length of the schema
# What a Milvus filter can name. A server refuses to give out a field of another name, so ingest could not compare it.
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_FILTER_WORDS = frozenset({"and", "or", "not", "in", "like", "exists", "is", "null", "true", "false"})


def is_photo(name: str) -> bool:
    """Whether a name ends as a photo's does."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def source_id(source: str) -> str:
    """The primary key of a source: 32 hex digits of its SHA-256, the same for ever."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def inside(container: str, member: str | int) -> str:
    """The source of a photo inside a file: ARCHIVE!/member, MANIFEST!/row."""
    return f"{container}!/{member}"


def printable(text: str) -> str:
    """A name for messages: bytes that are not UTF-8 as \\udcXX."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def refused(source: str, reason: str) -> ImageRecord:
    """A photo that its source must refuse."""
    return ImageRecord(source_id(source), source, error=reason)


def file_record(path: Path, *, resolved: bool = False, fields: dict[str, Any] | None = None) -> ImageRecord:
    """A file as a record. One that is missing is found out, and counted, when it is read."""
    try:
        path = path if resolved else path.resolve()
        source = path.as_posix()
        source.encode("utf-8")
        status = os.stat(path)
        facts = {"bytes": status.st_size, "mtime": status.st_mtime_ns // 1_000_000}
    except UnicodeEncodeError:
        return refused(printable(path.as_posix()), "the file's name is not UTF-8; rename it")
    except FileNotFoundError:
        facts = {}
    except (OSError, RuntimeError, ValueError) as error:  # no permission; links in a circle; a NUL in the name
        reason = getattr(error, "strerror", None) or error
        return refused(printable(path.as_posix()), f"cannot be opened ({reason}); check the path and its permissions")
    return checked(ImageRecord(source_id(source), source, path, None, {**(fields or {}), **facts}))


def checked(record: ImageRecord) -> ImageRecord:
    """The record, or one refused, where the collection's schema could not hold it."""
    problem = ""
    try:
        check_id(record.id)
    except CollectionError as error:
        problem = f"{error}; give it another id"
    if len(record.source.encode("utf-8", "surrogatepass")) > MAX_SOURCE:
        problem = f"its path is longer than {MAX_SOURCE} bytes; move it"
    elif printable(record.source) != record.source:
        problem = "its name is not UTF-8; rename it"
    elif record.error is None and sum(way is not None for way in (record.path, record.data, record.fetch)) != 1:
        problem = "a record needs either a path or data; give one of them"
    for name, value in record.fields.items():
        if name not in FACTS:
            problem = problem or field_problem(name, value)
    if not problem and not record.fields.keys() <= set(FACTS) and size_of(record.fields) > FIELDS_BYTES:
        problem = f"its fields take more than {FIELDS_BYTES} bytes as JSON; shorten them"
    return refused(printable(record.source)[:MAX_SOURCE], problem) if problem else record


def field_problem(name: str, value: Any) -> str:
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
    if isinstance(value, str) and printable(value) != value:
        return f"column {name} holds text that is not UTF-8; correct it"
    return ""


def with_origin(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields that a program made and nobody will rename: those with names of the collection's own as `origin_...`."""
    return {f"origin_{name}" if name in RESERVED_FIELDS else name: value for name, value in fields.items()}
