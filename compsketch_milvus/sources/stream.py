"""Where photos come from: every kind of source as one stream of records, never listed whole."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from compsketch_milvus.errors import SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.archives import ARCHIVES, archive_suffix, container, read_archive
from compsketch_milvus.sources.facts import with_facts
from compsketch_milvus.sources.listing import find, is_listed, open_url
from compsketch_milvus.sources.manifests import MANIFESTS, file_path, read_manifest
from compsketch_milvus.sources.naming import SUFFIXES, checked, file_record, is_photo, printable, refused
from compsketch_milvus.sources.remote import is_url, public_url, url_record

__all__ = ["ARCHIVES", "MANIFESTS", "SUFFIXES", "Source", "is_countable", "iterate", "member"]

Source = str | Path | ImageRecord | Iterable["str | Path | ImageRecord"]

KINDS = (
    "a folder, a photo, a glob pattern, a manifest (.csv, .jsonl, .ndjson, .parquet) with a path column, an archive "
    "(.zip, .tar, .tar.gz, .tgz, .tar.zst), one of these as a URL (http://, https://, s3://, gs://), "
    "or milvus://HOST:PORT/COLLECTION?field=NAME"
)
MAX_SHARDS = 1_000_000
_COLLECTION = re.compile(r"milvus(\+[a-z]+)?://", re.IGNORECASE)
_RANGE = re.compile(r"\{(\d{1,12})\.\.(\d{1,12})\}")


def iterate(source: Source, access: Access | None = None) -> Iterator[ImageRecord]:
    """Stream the photos of a source.

    A photo that a source must refuse (its name is not UTF-8, its folder may not be read) comes as a record with `error`
    set, so that it is counted and the others go on.

    Args:
        source: one of
            a folder: all photos below it but hidden ones, each folder in the order of its names; symbolic links are
            followed, each folder once. Memory: the names of one folder, and a pair of numbers for each folder;
            a photo;
            a glob pattern (`*`, `?`, `[…]`, `**`), in the file system's order; one that ends like an archive or a
            manifest names those;
            a manifest, see `manifests.read_manifest`: .csv, .jsonl, .ndjson or .parquet with a column path, file,
            source or image, relative to the manifest's folder; other columns become fields. A cell of a CSV that is a
            JSON number or boolean becomes one, an empty one is left out;
            an archive, see `archives.read_archive`: .zip, .tar, .tar.gz, .tgz or .tar.zst, WebDataset's shards too;
            a photo in one: `ARCHIVE!/member`;
            several of them: `shard-{000..012}.tar`, with zeros as given;
            a URL of any of these, see `remote`: http, https, s3, gs, or file; one that ends in a slash is a folder;
            a collection of Milvus, see `milvus_source`: `milvus://HOST:PORT/COLLECTION?field=NAME`;
            an ImageRecord, or an iterable of any of these. In an iterable a source that is no good becomes a record
            with `error` set, so that the rest is done.
        access: what the source is allowed; None for `Access()`.

    Yields:
        Records whose `source` is the absolute path with links resolved, or the URL, whose `id` is made of it, and whose
        fields hold `bytes`, `mtime` and `etag` as far as they are known before the photo is read.

    Raises:
        SourceError: there is no such source, it is of no known kind, it holds no photos, or a manifest is malformed.
    """
    access = access or Access()
    if isinstance(source, ImageRecord):
        yield checked(source)
    elif isinstance(source, (str, Path)):
        yield from _from_name(source, access)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray)):
        yield from _one_by_one(source, access)
    else:
        raise SourceError(f"{type(source).__name__}: not a source of photos; give {KINDS}")


def is_countable(source: Any) -> bool:
    """Whether a source can be read a second time only to count it: at no price, and the first time loses nothing."""
    if isinstance(source, (list, tuple)):
        return all(is_countable(one) for one in source)
    name = str(source)
    dear = "://" in name or archive_suffix(name) or name.lower().endswith(".parquet")
    return isinstance(source, (str, Path, ImageRecord)) and not (dear and not isinstance(source, ImageRecord))


def _one_by_one(sources: Iterable[Any], access: Access) -> Iterator[ImageRecord]:
    """Sources of which each may be no good without the others."""
    for item in sources:
        try:
            yield from iterate(item, access)
        except SourceError as error:
            name = printable(str(item))
            yield refused(name, str(error).removeprefix(f"{name}: "))


def _from_name(source: str | Path, access: Access) -> Iterator[ImageRecord]:
    name = str(source)
    if isinstance(source, str) and _RANGE.search(name) and not os.path.lexists(name):
        yield from _one_by_one(_shards(name), access)
    elif isinstance(source, str) and name.lower().startswith("file://"):
        yield from _from_path(file_path(name), access)
    elif isinstance(source, str) and _COLLECTION.match(name):
        from compsketch_milvus.sources.milvus import read_collection

        yield from _some(read_collection(name, access), f"{printable(name)}: names no photos; check field and filter")
    elif isinstance(source, str) and is_url(name):
        yield from _from_url(name, access)
    else:
        yield from _from_path(source, access)


def _from_path(source: str | Path, access: Access) -> Iterator[ImageRecord]:
    name = printable(str(source))
    try:
        path = Path(source).expanduser()
        is_directory, exists = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long a name; a NUL in it; ~somebody
        raise SourceError(f"{name}: cannot be opened ({error}); check the path") from error
    if is_directory:
        yield from _some(_folder(path), f"{name}: holds no photos; known suffixes are {' '.join(SUFFIXES)}")
    elif exists and path.suffix.lower() in MANIFESTS:
        base = path.resolve().parent
        shown = str(path.resolve()) if path.suffix.lower() == ".parquet" else str(path)  # which goes into sources
        rows = read_manifest(shown, path.suffix.lower(), partial(_open, path), base, access)
        yield from _some(rows, f"{name}: lists no photos; give a manifest with at least one row")
    elif exists and archive_suffix(path.name):
        records = read_archive(path.resolve().as_posix(), partial(_open, path), access)
        yield from _some(records, f"{name}: holds no photos; known suffixes are {' '.join(SUFFIXES)}")
    elif exists and path.suffix.lower() in SUFFIXES:
        yield file_record(path)
    elif exists:
        raise SourceError(f"{name}: of no known kind ({path.suffix or 'no suffix'}); give {KINDS}")
    elif container(str(source)):
        yield from member(str(source), access)
    elif any(character in str(source) for character in "*?["):
        complaint = f"{name}: no photo matches the pattern; check it, and quote it in a shell"
        yield from _some(_glob(path, access), complaint)
    else:
        raise SourceError(f"{name}: no such file or folder; check the path")


def _from_url(url: str, access: Access) -> Iterator[ImageRecord]:
    name, opened = public_url(url), partial(open_url, url, access)
    parts = url.partition("?")[0] if url.lower().startswith("http") else url
    path = parts.partition("://")[2].partition("/")[2]
    suffix = posixpath.splitext(parts)[1].lower()
    nothing = f"{name}: holds no photos; known suffixes are {' '.join(SUFFIXES)}"
    if container(url):
        yield from member(url, access)
    elif any(character in path for character in "*["):
        complaint = f"{name}: no photo matches the pattern; check it, and quote it in a shell"
        yield from _some(_url_pattern(parts, access), complaint)
    elif suffix in MANIFESTS:
        rows = read_manifest(url, suffix, opened, url[: parts.rindex("/") + 1], access)
        yield from _some(rows, f"{name}: lists no photos; give a manifest with at least one row")
    elif archive_suffix(parts):
        yield from _some(read_archive(url, opened, access), nothing)
    elif is_listed(url, access):
        yield from _some(with_facts(find(url, _is_photo_url, access), access), nothing)
    else:
        yield from with_facts(iter([url_record(url, {}, access)]), access)


def _is_photo_url(url: str) -> bool:
    return is_photo(url.partition("?")[0])


def _url_pattern(url: str, access: Access) -> Iterator[ImageRecord]:
    """Photos whose URLs match a pattern, in which `*` stays within a folder; or those of the archives that match."""
    from fsspec.utils import glob_translate

    first = min(url.index(character) for character in "*[" if character in url)
    base, matches = url[: url.rindex("/", 0, first) + 1], re.compile(glob_translate(url)).match
    if archive_suffix(url) or url.lower().endswith(MANIFESTS):
        found = find(base, lambda one: bool(matches(one)), access)
        yield from _one_by_one((record.source for record in found if record.error is None), access)
    else:
        yield from with_facts(find(base, lambda one: bool(matches(one)) and _is_photo_url(one), access), access)


def _shards(pattern: str) -> Iterator[str]:
    """The names that a range in braces stands for: its first number gives the width."""
    found = _RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = found.groups()
    if int(last) < int(first) or int(last) - int(first) >= MAX_SHARDS:
        raise SourceError(f"{pattern}: {{{first}..{last}}} is no range of 1 to {MAX_SHARDS} numbers; correct it")
    for number in range(int(first), int(last) + 1):
        yield from _shards(f"{pattern[: found.start()]}{number:0{len(first)}}{pattern[found.end() :]}")


def member(source: str, access: Access) -> Iterator[ImageRecord]:
    """One photo of an archive or a manifest, such as a list of rejects names it; a tar is read up to it."""
    archive = container(source)
    if not archive or _COLLECTION.match(archive):
        # A row of a manifest gets here: it must not make a token go to the server of its choice.
        raise SourceError(f"{printable(source)}: names no photo of an archive; check the name")
    wanted = source if "://" in archive else Path(archive).expanduser().resolve().as_posix() + source[len(archive) :]
    for record in _from_name(archive, access):
        if record.source == wanted:
            yield record
            return
    raise SourceError(f"{printable(source)}: there is no such photo in {printable(archive)}; check the name")


def _open(path: Path) -> BinaryIO:
    return open(path, "rb")


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
            yield refused(printable(str(folder)), f"cannot be listed ({error.strerror}); check its permissions")
            continue
        found = [entry for entry in found if not entry[0].startswith(".")]
        for name, is_directory, is_link in found:
            if not is_directory and is_photo(name):
                yield file_record(folder / name, resolved=not is_link)
        for name, is_directory, is_link in reversed(found):
            if is_directory:
                pending.append((folder / name).resolve() if is_link else folder / name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _glob(pattern: Path, access: Access) -> Iterator[ImageRecord]:
    """Photos that a pattern names. Path.glob follows no links under `**`, so it cannot run in a circle."""
    base = Path(pattern.anchor or ".")
    of_files = archive_suffix(pattern.name) or pattern.suffix.lower() in MANIFESTS
    try:
        for path in base.glob(str(pattern.relative_to(pattern.anchor))):
            if path.name.startswith(".") or path.is_dir():
                continue
            if of_files:
                yield from _one_by_one([path], access)
            elif path.suffix.lower() in SUFFIXES:
                yield file_record(path)
    except (ValueError, OSError) as error:  # `**` as a part of a name; a folder that may not be read
        raise SourceError(f"{printable(str(pattern))}: not a usable pattern ({error}); correct it") from error
