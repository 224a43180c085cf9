"""Another Milvus collection as a source: one of its fields names the photos, the others come along.

    milvus://HOST:PORT/COLLECTION?field=path&filter=width > 640&db=media     a server; milvus+https:// with TLS
    milvus+lite:///home/me/shop.db/COLLECTION?field=url                      a Milvus Lite file

The field's value is a path (a relative one from the working directory) or a URL, as a row of a manifest has it. The
primary key is kept as `origin_id`. The token is MILVUS_SOURCE_TOKEN's, not that of the collection that is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from compsketch_milvus.errors import CollectionError, ServerError, SourceError
from compsketch_milvus.paging import pages
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.server import connect_server, guard
from compsketch_milvus.settings import COLLECTION_NAME, load_settings
from compsketch_milvus.sources.access import Access
from compsketch_milvus.sources.facts import with_facts
from compsketch_milvus.sources.manifests import named_photo
from compsketch_milvus.sources.naming import inside, printable, refused, with_origin

__all__ = ["Place", "parse", "read_collection"]

PAGE = 500  # rows: at 64 KB of fields each, half of what a message may have
SECONDS = 600  # for one page
_SCHEMES = {"milvus": "http", "milvus+https": "https"}
_FORM = "milvus://HOST:PORT/COLLECTION?field=NAME, or milvus+lite:///FILE.db/COLLECTION?field=NAME"
_KEYS = ("field", "filter", "db")
_SCALARS = ("BOOL", "INT8", "INT16", "INT32", "INT64", "FLOAT", "DOUBLE", "VARCHAR", "STRING")


@dataclass(frozen=True)
class Place:
    """What a source's URI says.

    Args:
        name: the URI without its query, for messages.
        uri: for MilvusClient.
        collection: its name.
        field: which names the photos; '' if none is given.
        filter: which rows to take; '' for all.
        db: the database; '' for the default one.
    """

    name: str
    uri: str
    collection: str
    field: str
    filter: str
    db: str


def parse(source: str) -> Place:
    """Take a source's URI apart.

    Raises:
        SourceError: it is malformed, or holds a token.
    """
    address, _, query = source.partition("?")
    scheme, _, rest = address.partition("://")
    location, _, collection = rest.rpartition("/")
    name = f"{scheme}://{printable(rest.rpartition('@')[2])}"
    given = dict(part.partition("=")[::2] for part in query.split("&") if part)
    secret = {"token", "user", "password"} & given.keys()
    if secret or "@" in location.partition("/")[0]:
        raise SourceError(f"{name}: a token in a URI would be kept with every photo; set MILVUS_SOURCE_TOKEN instead")
    unknown = sorted(given.keys() - set(_KEYS))
    if unknown:
        raise SourceError(f"{name}: {', '.join(unknown)} is not known; there are {', '.join(_KEYS)} (write & as %26)")
    if not COLLECTION_NAME.fullmatch(collection):
        raise SourceError(f"{name}: names no collection; give {_FORM}")
    if scheme.lower() == "milvus+lite" and location.endswith(".db"):
        uri = str(Path(location).expanduser())
        if not Path(uri).exists():
            raise SourceError(f"{name}: there is no such Milvus Lite file; check the path")
    elif scheme.lower() in _SCHEMES and re.fullmatch(r"[^/]+", location):
        uri = f"{_SCHEMES[scheme.lower()]}://{location}"
    else:
        raise SourceError(f"{name}: not an address of a collection; give {_FORM}")
    return Place(name, uri, collection, *(unquote(given.get(key, "")) for key in _KEYS))


def read_collection(source: str, access: Access) -> Iterator[ImageRecord]:
    """The photos that a collection names, page by page. Memory: one page of rows.

    Scalar and dynamic fields become fields; those with names that this package's collections use themselves are kept
    with `origin_` in front. Vectors, arrays and JSON stay behind. A collection of this package is read by
    `field=source`.

    Args:
        source: the URI.
        access: what the photos' URLs are allowed. The server itself may be at any address: a person has named it.

    Raises:
        SourceError: the URI is no good, the server does not answer or refuses, or there is no such field.
    """
    place = parse(source)
    try:
        yield from with_facts(_photos(place, access), access)
    except (ServerError, CollectionError) as error:
        hint = "; a source's token is MILVUS_SOURCE_TOKEN" if "token" in str(error) else ""
        raise SourceError(f"{error}{hint}") from error


def _photos(place: Place, access: Access) -> Iterator[ImageRecord]:
    token = load_settings().source_token
    secret = token.get_secret_value() if token else None
    with closing(connect_server(place.uri, token=secret, db_name=place.db or None)) as client:

        def call(doing: str, method: str, *, expression: str = "", **arguments: Any) -> Any:
            with guard(doing, place.uri, expression=expression):
                return getattr(client, method)(place.collection, timeout=SECONDS, **arguments)

        if not call("look up the collection", "has_collection"):
            raise SourceError(f"{place.name}: there is no collection {place.collection}; check its name and db")
        key, fields = _columns(call("look up the collection", "describe_collection"), place)
        call("load the collection", "load_collection")
        for page in pages(call, key, fields, filter=place.filter, size=PAGE):
            for row in page:
                yield _photo(row, key, place, access)


def _photo(row: dict[str, Any], key: str, place: Place, access: Access) -> ImageRecord:
    """The photo that a row names."""
    origin, value = row.pop(key), row.pop(place.field, None)
    if place.field == key:
        value = origin
    if not isinstance(value, str) or not value:
        return refused(inside(place.name, origin), f"field {place.field} holds no path; fill it in")
    flat = {name: one for name, one in row.items() if isinstance(one, (str, int, float, bool))}
    return named_photo(value, Path.cwd(), {**with_origin(flat), "origin_id": origin}, access)


def _columns(described: dict[str, Any], place: Place) -> tuple[str, list[str]]:
    """The primary key's name, and the other fields to ask for."""
    columns = {column["name"]: column for column in described["fields"]}
    scalars = [name for name, column in columns.items() if column["type"].name in _SCALARS]
    dynamic = ["$meta"] if described.get("enable_dynamic_field") else []
    if not place.field or (place.field not in scalars and not dynamic):
        asked = f"there is no field {place.field}" if place.field else "which field holds paths or URLs?"
        raise SourceError(f"{place.name}: {asked}; give ?field=NAME, one of {', '.join(scalars)}")
    key = next(name for name, column in columns.items() if column.get("is_primary"))
    return key, [*(name for name in scalars if name != key), *dynamic]
