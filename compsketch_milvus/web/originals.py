"""From a photo's id to its bytes: what the collection says of it, and nothing else, names what is read.

A source may be a file, a member of an archive or a row of a manifest, a URL (which leads to public addresses only,
unless that is lifted), or a row of the collection that this one was attached to.
"""

from __future__ import annotations

import posixpath
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.imagefield import ImageField
from compsketch_milvus.owner import Owner
from compsketch_milvus.paging import among
from compsketch_milvus.records import FACTS, ImageRecord
from compsketch_milvus.rows import check_id
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.remote import is_url
from compsketch_milvus.sources.stored import stored_record
from compsketch_milvus.web.refusals import Refusal
from encoders.errors import ImageError

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["Known", "Stored", "last_part", "look_up", "original", "printed"]

REMEMBERED, SECONDS = 20_000, 60.0  # photos, and for how long: a grid's thumbnails follow the search that found them


@dataclass(frozen=True)
class Stored:
    """What a collection has of a photo.

    Args:
        id: its primary key.
        source: where it came from.
        fields: width, height and the further fields.
    """

    id: str
    source: str
    fields: dict[str, Any]

    @property
    def version(self) -> str:
        """What changes when the photo does."""
        return "\0".join([self.source, *(str(self.fields.get(name)) for name in (*FACTS, "digest"))])


class Known:
    """Photos that were found a moment ago, so that their thumbnails need not ask Milvus. Used on the event loop."""

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[str, str], tuple[float, Stored]] = OrderedDict()

    def remember(self, collection: str, stored: Stored) -> None:
        """Keep what was just seen."""
        self._found.pop((collection, stored.id), None)
        self._found[collection, stored.id] = (time.monotonic(), stored)
        if len(self._found) > REMEMBERED:
            self._found.popitem(last=False)

    def get(self, collection: str, id: str) -> Stored | None:
        """What is still sure."""
        since, stored = self._found.get((collection, id), (0.0, None))
        return stored if stored is not None and time.monotonic() - since < SECONDS else None


def look_up(collection: SketchCollection, id: str, *, vector: bool = False) -> Stored:
    """What the collection has of a photo; its vector among the fields, where that is asked for.

    Raises:
        CollectionError: it cannot be an id.
        Refusal: 404, there is none.
    """
    check_id(id)
    columns = ["id", *collection.columns, *(["vector"] if vector else [])]
    asked: dict[str, Any] = {"filter": among("id", [id]), "output_fields": columns, "consistency_level": "Bounded"}
    rows = collection.call("look up the photo", "query", **asked)
    if not rows:
        raise Refusal(404, "there is no such photo in this collection")
    row = dict(rows[0])
    return Stored(row.pop("id"), row.pop("source"), row)


def original(collection: SketchCollection, stored: Stored, access: Access) -> bytes | Path:
    """A photo's encoded bytes, or its file. Blocks.

    Raises:
        CompsketchError: they cannot be had; the message is for the log, as it names places.
    """
    record = _attached(collection, stored, access) if collection.attached else stored_record(stored.source, access)
    if record.error is not None:
        raise ImageError(f"{record.source}: {record.error}")
    return record.content(access.limits.max_bytes)


def _attached(collection: SketchCollection, stored: Stored, access: Access) -> ImageRecord:
    kept: dict[str, Any] = dict(collection.attached or {})
    try:
        owner = Owner.open(collection.client, collection.uri, kept["collection"])
        root = Path(kept["root"]) if kept["root"] else None
        images = ImageField(owner, owner.field(kept["field"]), kept["kind"], root, access.allow_private)
        key = stored.fields["key"]
        row = owner.rows([key], [images.field.column])[key]
    except KeyError as error:
        raise CompsketchError(f"{stored.source}: its row is no longer there") from error
    return images.record(key, images.field.value(row))


def last_part(source: str) -> str:
    """The last part of a source: a file's name, without folders, query or host."""
    plain = source.partition("?")[0] if is_url(source) else source
    return posixpath.basename(plain.rstrip("/")) or "photo"


def printed(value: Any) -> Any:
    """A field's value as JSON can hold it."""
    if isinstance(value, float) and value not in (float("inf"), float("-inf")) and value == value:
        return value
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, dict):
        return {str(key): printed(one) for key, one in value.items()}
    return [printed(one) for one in value] if isinstance(value, (list, tuple)) else str(value)
