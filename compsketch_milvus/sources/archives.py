"""Photos in zip and tar archives, WebDataset shards among them: read where they lie, nothing is unpacked to disk.

A photo's source is `ARCHIVE!/member`. A tar is read once, from its start to its end, so it may come from a stream; a
zip has a table of its members, and their bytes are fetched when they are needed.
"""

from __future__ import annotations

import calendar
import gzip
import io
import json
import math
import struct
import tarfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, BinaryIO

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.naming import (
    MAX_SOURCE,
    checked,
    inside,
    is_photo,
    printable,
    refused,
    source_id,
    with_origin,
)
from encoders.errors import ImageError

__all__ = ["ARCHIVES", "archive_suffix", "container", "read_archive"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst")
MAX_SIDECAR = 1024 * 1024  # bytes of a sample's .json or .txt
MAX_HEADER = 1024 * 1024  # bytes of a member's long name or attributes
MAX_TABLE = 256 * 1024 * 1024  # bytes of a zip's table of members, which is held in memory as some ten times that
# Photos do not shrink in an archive. One that grows so much once it is this large was made to fill a disk.
MAX_GROWTH, GROWTH_FROM = 100, 1024**3


def archive_suffix(name: str) -> str:
    """Which of `ARCHIVES` a name ends in, or ''."""
    return next((suffix for suffix in ARCHIVES if name.lower().endswith(suffix)), "")


def container(source: str) -> str:
    """The archive or parquet file of a source like `ARCHIVE!/member`; '' for others, `/photos/Party!/a.jpg` too."""
    end = -1
    while (end := source.find("!/", end + 1, MAX_SOURCE)) >= 0:
        name = source[:end]
        plain = name.partition("?")[0] if "://" in name else name
        if archive_suffix(plain) or plain.lower().endswith(".parquet"):
            return name
    return ""


def read_archive(name: str, opened: Callable[[], BinaryIO], access: Access) -> Iterator[ImageRecord]:
    """The photos of an archive.

    In a tar, files that follow one another and whose names are the same up to the first dot are one sample, as
    WebDataset has it: its `.json` (an object) becomes fields, its `.txt` a field `caption`, and its name is kept as
    `__key__`. Fields with names that the collection uses itself are kept with `origin_` in front, lists and objects as
    JSON text.

    A member that is too large, encrypted, a link or damaged comes as a record with `error` set, and so does the rest of
    an archive that ends too early. Memory: of a tar one sample, at most twice the limit on a photo's bytes; of a zip
    its table, about 0.6 KB a member.

    Args:
        name: of the archive, for messages and sources.
        opened: opens it; for a zip the file must be able to seek.
        access: what the source is allowed.

    Raises:
        SourceError: it cannot be read at all.
    """
    read = _zip if archive_suffix(name) == ".zip" else _tar
    try:
        file = opened()
    except OSError as error:
        raise SourceError(f"{name}: cannot be read ({_words(error)}); check its permissions") from error
    begun = False
    try:
        for record in read(name, file, access):
            begun = True
            yield record
    except Exception as error:  # hostile bytes make the libraries raise OSError, struct.error, zlib.error and more
        reason = str(error) if isinstance(error, SourceError) else f"damaged or cut short ({_words(error)})"
        if not begun:
            raise SourceError(f"{name}: {reason}; make the archive anew") from error
        yield refused(name, f"{reason}; what follows in it was not read: make the archive anew")


def _words(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _hidden(member: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in member.split("/"))


def _milliseconds(seconds: float) -> dict[str, int]:
    """The time of modification as a fact, where it is one."""
    return {"mtime": int(seconds * 1000)} if math.isfinite(seconds) and abs(seconds) < 2**50 else {}


# --- zip ---


def _zip(name: str, file: BinaryIO, access: Access) -> Iterator[ImageRecord]:
    archive = _open_zip(file)
    for member in archive.infolist():
        if not member.is_dir() and is_photo(member.filename) and not _hidden(member.filename):
            yield _zip_record(name, archive, member, access.limits.max_bytes)


def _open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """The archive. Its file is closed with the last record that may ask for a member."""
    try:
        if not file.seekable():
            raise SourceError("a zip is read from its end, and this place gives it from its start; copy it here first")
        size = _table_bytes(file)
        if size > MAX_TABLE:
            raise SourceError(f"its table of members has {size} bytes, over the limit of {MAX_TABLE}; split it")
        archive = zipfile.ZipFile(file)
    except BaseException:
        file.close()
        raise
    weakref.finalize(archive, file.close)
    return archive


def _table_bytes(file: BinaryIO) -> int:
    """The size of a zip's central directory, from its last record (APPNOTE 4.3.14 to 4.3.16); 0 if there is none."""
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - 65_536 - 22 - 20))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + 22:
        return 0
    (size,) = struct.unpack_from("<L", tail, place + 12)
    if size < 0xFFFFFFFF or place < 20 or tail[place - 20 : place - 16] != b"PK\6\7":
        return int(size)
    (where,) = struct.unpack_from("<Q", tail, place - 12)
    file.seek(min(where, end))
    record = file.read(56)
    return int(struct.unpack_from("<Q", record, 40)[0]) if len(record) == 56 else 0


def _zip_record(name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> ImageRecord:
    source = printable(inside(name, member.filename))
    if member.flag_bits & 1:
        return refused(source, "encrypted; unpack the archive with its password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return refused(source, f"compressed by method {member.compress_type}; pack it with deflate, or not at all")
    if member.file_size > max_bytes:
        return refused(source, f"{member.file_size} bytes, over the limit of {max_bytes}; save it smaller")
    try:
        seconds = float(calendar.timegm(member.date_time))  # of no time zone: the same number everywhere
    except ValueError:  # day 0 of month 0, as some programs write it
        seconds = math.nan
    # The checksum stands in the table, so that a change is seen without the bytes.
    facts = {"bytes": member.file_size, **_milliseconds(seconds), "etag": f"{member.CRC:08x}"}
    fetch = partial(_zip_bytes, source, archive, member)
    return checked(ImageRecord(source_id(source), source, fetch=fetch, fields=facts))


def _zip_bytes(source: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo, max_bytes: int) -> bytes:
    if member.file_size > max_bytes:
        raise ImageError(f"{source}: {member.file_size} bytes, over the limit of {max_bytes}; save it smaller")
    try:
        with archive.open(member) as file:  # gives no more than file_size, and checks the checksum
            return file.read(member.file_size + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ImageError(f"{source}: damaged in the archive ({_words(error)}); make the archive anew") from error


# --- tar ---


class _Member(tarfile.TarInfo):
    """A header that tells damage from the end of the archive, and is never longer than what it is worth."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str | None, errors: str) -> _Member:
        """A member from a block; tarfile itself takes a damaged or missing one for the end, and loses what follows."""
        try:
            member = super().frombuf(buf, encoding or "utf-8", errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end that a whole archive has
            raise
        except tarfile.HeaderError as error:
            raise SourceError(f"damaged or cut short ({error})") from error
        if not member.isreg() and member.size > MAX_HEADER and member.type in _LONG_HEADERS:
            raise SourceError(f"a header of {member.size} bytes, over the limit of {MAX_HEADER}")
        return member


_LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class _Bounded(io.RawIOBase):
    """What a decompressor gives, as long as it does not grow out of all proportion."""

    def __init__(self, plain: Any, packed: BinaryIO) -> None:
        self.plain, self.packed, self.given = plain, packed, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.plain.read1(size)  # what there is, before damage further on is met
        self.given += len(data)
        if self.given > GROWTH_FROM and self.given > MAX_GROWTH * self.packed.tell():
            raise SourceError(f"grows more than {MAX_GROWTH} times as it is unpacked, which photos do not")
        return data


@dataclass
class _Sample:
    """Files of one name, held until the next name comes."""

    key: str | None = None
    photos: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    held: int = 0
    given: bool = False  # its photos have left before its end, as they were too many to hold

    def leave(self) -> Iterator[ImageRecord]:
        """Its photos, each with the sample's fields."""
        for source, data, facts in self.photos:
            yield checked(ImageRecord(source_id(source), source, data=data, fields={**self.fields, **facts}))
        self.photos, self.held, self.given = [], 0, True


def _tar(name: str, file: BinaryIO, access: Access) -> Iterator[ImageRecord]:
    sample, damage = _Sample(), None
    with file, closing(_plain(name, file)) as plain:
        try:
            with tarfile.open(fileobj=plain, mode="r|", tarinfo=_Member) as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep every member that it has read
                    key = _key(member.name)
                    if key != sample.key:
                        yield from sample.leave()
                        sample = _Sample(key)
                    yield from _add(sample, name, tar, member, access)
        except Exception as error:  # told once the photos that were read whole are out
            damage = error
        yield from sample.leave()
    if damage is not None:
        raise damage


def _plain(name: str, file: BinaryIO) -> Any:
    suffix = archive_suffix(name)
    if suffix == ".tar":
        return file
    if suffix == ".tar.zst":
        try:
            import zstandard
        except ImportError:
            raise SourceError('.tar.zst needs zstandard: pip install "compsketch-milvus[data]"') from None
        return _Bounded(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True), file)
    return _Bounded(gzip.GzipFile(fileobj=file), file)


def _key(member: str) -> str:
    """The name of a member's sample: its own, up to the first dot after the last slash."""
    folder, slash, base = member.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _add(
    sample: _Sample, name: str, tar: tarfile.TarFile, member: tarfile.TarInfo, access: Access
) -> Iterator[ImageRecord]:
    """Put a member into its sample; yield what has to be refused, or what cannot be held any longer."""
    sidecar = member.name.lower().endswith((".json", ".txt"))
    if _hidden(member.name) or not (sidecar or is_photo(member.name)) or member.isdir():
        return
    source = printable(inside(name, member.name.removeprefix("./")))
    most = MAX_SIDECAR if sidecar else access.limits.max_bytes
    if not member.isreg():
        if not sidecar:
            yield refused(source, "a link, not a file; pack the photo itself")
        return
    if member.size > most:
        yield refused(source, f"{member.size} bytes, over the limit of {most}; save it smaller")
        return
    content = tar.extractfile(member)
    data = content.read() if content is not None else b""
    if sidecar and sample.given:
        yield refused(source, "comes too long after its photos, which are stored without it; pack it in front of them")
    elif sidecar:
        problem = _describe(sample, member.name, data)
        if problem:
            yield refused(source, problem)
    else:
        if sample.held + len(data) > access.limits.max_bytes:
            yield from sample.leave()
        sample.photos.append((source, data, {"bytes": member.size, **_milliseconds(member.mtime)}))
        sample.held += len(data)


def _describe(sample: _Sample, member: str, data: bytes) -> str:
    """Take a sidecar's fields into the sample; what is wrong with it, or ''."""
    try:
        text = data.decode("utf-8-sig")
        told = {"caption": text.strip()} if member.lower().endswith(".txt") else json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not UTF-8 or not JSON ({error}); correct it"
    if not isinstance(told, dict):
        return ""  # boxes or labels in a list: of another use than fields
    flat = {key: json.dumps(value) if isinstance(value, (dict, list)) else value for key, value in told.items()}
    fields = {key: value for key, value in with_origin(flat).items() if value is not None and value != ""}
    sample.fields = {"__key__": sample.key, **sample.fields, **fields}
    return ""
