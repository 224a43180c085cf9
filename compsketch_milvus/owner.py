"""Somebody else's collection, read and never written: what of it search needs, and nothing here alters it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.paging import Key, among, pages
from compsketch_milvus.server import WAIT, guard, public_uri, pymilvus
from compsketch_milvus.steps import Call

if TYPE_CHECKING:
    from pymilvus import MilvusClient

__all__ = ["FieldPath", "Owner"]

KEYS_A_CALL = 1000
# A column of VARCHAR or JSON holds 64 KB at most: a page of this many stays below what a server sends in one answer.
ROWS_A_PAGE = 256
READING = 60  # seconds for a page
_PATH = re.compile(r"""([A-Za-z_]\w*)((?:\[(?:"[^"]*"|'[^']*')\])*)""", re.ASCII)
_STEP = re.compile(r"""\[["']([^"']*)["']\]""")


@dataclass(frozen=True)
class FieldPath:
    """A field as Milvus' filters name it: `photo`, or `meta["photo"]` for a value inside JSON.

    Args:
        text: as it was given.
        column: the column, or the dynamic field.
        steps: names to follow inside it.
    """

    text: str
    column: str
    steps: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> FieldPath:
        """Read one.

        Raises:
            CollectionError: it is no name of a field.
        """
        found = _PATH.fullmatch(text)
        if found is None:
            raise CollectionError(
                f'field {text!r}: give a name, such as photo, or one inside JSON, such as meta["photo"]'
            )
        return cls(text, found[1], tuple(_STEP.findall(found[2])))

    def value(self, row: Mapping[str, Any]) -> Any:
        """What a row holds there; None where it holds nothing."""
        value = row.get(self.column)
        for step in self.steps:
            value = value.get(step) if isinstance(value, Mapping) else None
        return value


class Owner:
    """A collection that belongs to an application. Made by `open`.

    Attributes:
        name: of the collection, or an alias of it.
        client: the open MilvusClient.
        uri: where it is, without credentials.
        key: name of its primary key.
    """

    def __init__(self, client: MilvusClient, uri: str, name: str, described: Mapping[str, Any]) -> None:
        self.client, self.uri, self.name = client, public_uri(uri), name
        self.described = described
        self.columns = {column["name"]: column["type"] for column in described["fields"]}
        self.key = next(column["name"] for column in described["fields"] if column.get("is_primary"))

    @classmethod
    def open(cls, client: MilvusClient, uri: str, name: str) -> Owner:
        """Look at a collection.

        Raises:
            CollectionError: there is none of that name, or it is not loaded: loading takes the server's memory, and
                is for its owner to decide.
            ServerError: Milvus cannot be reached or refuses.
        """
        with guard("look up the collection", uri):
            if not client.has_collection(name, timeout=WAIT):
                there = ", ".join(sorted(client.list_collections(timeout=WAIT))) or "none"
                raise CollectionError(f"collection {name!r} does not exist at {public_uri(uri)}; there: {there}")
            described = client.describe_collection(name, timeout=WAIT)
            state = client.get_load_state(name, timeout=WAIT)["state"]
        if "notload" in str(state).lower():
            raise CollectionError(f"collection {name!r} is not loaded, so that its rows cannot be read; load it first")
        return cls(client, uri, name, described)

    def field(self, text: str) -> FieldPath:
        """A field of it, checked.

        Raises:
            CollectionError: it has none of that name.
        """
        path = FieldPath.parse(text)
        if path.column not in self.columns and not self.described.get("enable_dynamic_field"):
            names = ", ".join(name for name in self.columns if name != self.key)
            raise CollectionError(f"collection {self.name!r} has no field {path.column!r}; it has {names}")
        kinds = pymilvus().DataType
        if path.column in self.columns and self.columns[path.column] not in (kinds.VARCHAR, kinds.JSON):
            kind = kinds(self.columns[path.column]).name
            raise CollectionError(f"field {path.column!r} is of type {kind}; images are read from VARCHAR or JSON")
        return path

    def call(self, doing: str, method: str, *, expression: str = "", **arguments: Any) -> Any:
        """Call a method of the MilvusClient on this collection; as `SketchCollection.call`."""
        call = Call(doing, method, arguments, expression)
        with call.span(self.name), guard(doing, self.uri, expression=expression):
            return getattr(self.client, method)(self.name, **call.sent(READING).arguments)

    def pages(
        self, columns: Sequence[str], filter: str = "", size: int = ROWS_A_PAGE, **more: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """All rows, or those that pass a filter, in pages; see `paging.pages`."""
        return pages(self.call, self.key, columns, filter=filter, size=size, **more)

    def rows(
        self, keys: Iterable[Key], output_fields: Sequence[str] = (), filter: str = "", **more: Any
    ) -> dict[Key, dict[str, Any]]:
        """Those of the keys that are there, and pass the filter, with the named fields.

        Args:
            keys: primary keys.
            output_fields: as Milvus takes them; ("*",) for all.
            filter: an expression that the rows have to pass.
            **more: for the query, such as `consistency_level`.
        """
        found: dict[Key, dict[str, Any]] = {}
        remaining = iter(keys)
        while chunk := list(islice(remaining, KEYS_A_CALL)):
            wanted = among(self.key, chunk) + (f" and ({filter})" if filter else "")
            names = list(dict.fromkeys((self.key, *output_fields)))
            for row in self.call("fetch rows", "query", expression=filter, filter=wanted, output_fields=names, **more):
                fields = {name: value for name, value in row.items() if name != self.key or self.key in output_fields}
                found[row[self.key]] = fields
        return found

    def count(self, filter: str = "") -> int:
        """The exact number of rows, or of those that pass a filter."""
        more: dict[str, Any] = {"output_fields": ["count(*)"], "consistency_level": "Strong"}
        return int(self.call("count rows", "query", expression=filter, filter=filter, **more)[0]["count(*)"])
