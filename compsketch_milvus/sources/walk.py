"""The photos of a collection without their vectors: all of them, one page after another, or those of some ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compsketch_milvus.paging import among, pages
from compsketch_milvus.records import Fetch, ImageRecord
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.archives import container
from encoders.errors import ImageError
from encoders.images import Limits

if TYPE_CHECKING:
    from compsketch_milvus.collection import SketchCollection

__all__ = ["PAGE", "Row", "dynamic", "record_of", "rows", "rows_of"]

PAGE = 1000  # rows at once
COLUMNS = ("id", "source", "width", "height")
LONG = 600  # seconds

Row = dict[str, Any]  # of `COLUMNS` and all further fields by name


def rows(collection: SketchCollection) -> Iterator[list[Row]]:
    """All rows in the order of their ids, page by page.

    Every row that was acknowledged before the first is among them; of those stored meanwhile some may be.

    Raises:
        ServerError: Milvus cannot be reached or refuses.
    """
    return pages(collection.call, "id", collection.columns, size=PAGE)


def rows_of(collection: SketchCollection, ids: Sequence[str]) -> dict[str, Row]:
    """The rows of those ids that are there, by id.

    Raises:
        ServerError: Milvus cannot be reached or refuses.
    """
    found = {}
    more: dict[str, Any] = {"output_fields": ["id", *collection.columns], "consistency_level": "Strong"}
    for start in range(0, len(ids), PAGE):
        chosen = among("id", ids[start : start + PAGE])
        for row in collection.call("look up photos", "query", filter=chosen, timeout=LONG, **more):
            found[row["id"]] = dict(row)
    return found


def dynamic(row: Row) -> dict[str, Any]:
    """The fields of a row that every photo need not have."""
    return {name: value for name, value in row.items() if name not in COLUMNS}


def record_of(row: Row, allow_private: bool = False) -> ImageRecord:
    """A row as a source of photos names it: to be read again, from where it came, when its turn comes.

    Args:
        row: of a collection.
        allow_private: whether a URL may lead to addresses that are not of the public internet.
    """
    source = row["source"]
    if "://" in source or container(source):
        return ImageRecord(row["id"], source, fields=dynamic(row), fetch=_fetch(source, allow_private))
    return ImageRecord(row["id"], source, path=Path(source), fields=dynamic(row))


def _fetch(source: str, allow_private: bool) -> Fetch:
    """Of a photo in an archive, or of a URL. A tar is read from its start for each."""

    def fetch(max_bytes: int) -> bytes:
        from compsketch_milvus.sources.manifests import named_photo

        found = named_photo(source, Path(), {}, Access(Limits(max_bytes=max_bytes), allow_private))
        if found.error is not None:
            raise ImageError(f"{source}: {found.error}")
        content = found.content(max_bytes)
        return content.read_bytes() if isinstance(content, Path) else content

    return fetch
