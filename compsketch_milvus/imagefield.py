"""The field of somebody's rows that says where an image is: a row to a photo that ingest can read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.owner import FieldPath, Owner
from compsketch_milvus.paging import Key
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.rows import check_id
from compsketch_milvus.sources.naming import file_record

__all__ = ["KINDS", "ImageField", "row_id"]

KINDS = ("auto", "path", "url", "bytes")
_HASHED = "sha256-"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)


def row_id(key: Key) -> str:
    """The id under which the photo of a row is kept: its key as text, or a hash of one that is no id of ours."""
    text = str(key)
    try:
        check_id(text)
    except CollectionError:
        pass
    else:
        if not text.startswith(_HASHED):
            return text
    return _HASHED + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[: 64 - len(_HASHED)]


@dataclass(frozen=True)
class ImageField:
    """Where an application's rows hold their images.

    Args:
        owner: the application's collection.
        field: which field.
        kind: what it holds: "path", "url", "bytes" (base64, also as a data: URI), or "auto", which tells by each value:
            SCHEME://… is a URL, data:… is bytes, anything else a path.
        root: folder that paths are relative to and that none may leave; None allows absolute paths only.
        allow_private: whether URLs may lead to addresses that are not of the public internet.
    """

    owner: Owner
    field: FieldPath
    kind: str = "auto"
    root: Path | None = None
    allow_private: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CollectionError(f"kind {self.kind!r}: a field holds one of {', '.join(KINDS)}")

    def records(self) -> Iterator[ImageRecord]:
        """The photos of all rows, a page at a time; their fields hold the row's `key`, and a `digest` of the value."""
        for page in self.owner.pages([self.field.column]):
            for row in page:
                yield self.record(row[self.owner.key], self.field.value(row))

    def record(self, key: Key, value: Any) -> ImageRecord:
        """The photo of one row; with `error` where its value is of no use."""
        name = f"{self.owner.name}/{key}"
        fields: dict[str, Any] = {"key": key}
        if not isinstance(value, str) or not value.strip():
            found = "is empty" if value is None or isinstance(value, str) else f"holds a {type(value).__name__}"
            error = f"field {self.field.text} {found}; give it a path, a URL, or bytes in base64"
            return ImageRecord(row_id(key), name, fields=fields, error=error)
        fields["digest"] = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        read = {"path": self._path, "url": self._url, "bytes": self._bytes}[self._kind_of(value)]
        try:
            return read(row_id(key), name, value.strip(), fields)
        except ValueError as error:
            return ImageRecord(row_id(key), name, fields=fields, error=str(error))

    def _kind_of(self, value: str) -> str:
        if self.kind != "auto":
            return self.kind
        return "url" if _URL.match(value) else "bytes" if _DATA_URI.match(value) else "path"

    def _path(self, id: str, name: str, value: str, fields: dict[str, Any]) -> ImageRecord:
        if self.root is None and not Path(value).is_absolute():
            raise ValueError(f"path {value!r} is relative; say with a root (--root) to which folder")
        path = ((self.root or Path()) / value).resolve()
        if self.root is not None and not path.is_relative_to(self.root.resolve()):
            raise ValueError(f"path {value!r} leaves {self.root}; only what is below it is read")
        record = file_record(path, resolved=True, fields=fields)
        return replace(record, id=id, fields={**fields, **record.fields})

    def _url(self, id: str, name: str, value: str, fields: dict[str, Any]) -> ImageRecord:
        from compsketch_milvus.sources.access import Access
        from compsketch_milvus.sources.remote import url_record

        record = url_record(value, fields, Access(allow_private=self.allow_private))
        return replace(record, id=id, fields=fields)

    def _bytes(self, id: str, name: str, value: str, fields: dict[str, Any]) -> ImageRecord:
        try:
            data = base64.b64decode("".join(_DATA_URI.sub("", value, count=1).split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"field {self.field.text} is not base64 ({error})") from None
        return ImageRecord(id, name, data=data, fields=fields)
