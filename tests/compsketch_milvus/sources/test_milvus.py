"""What the URI of another collection says, and what it must not hold; tests/integration reads real ones."""

from __future__ import annotations

from typing import Any

import pytest

from compsketch_milvus.errors import SourceError
from compsketch_milvus.sources import iterate
from compsketch_milvus.sources.milvus import parse


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("milvus://root:secret@host/c?field=x", "milvus://host/c: a token in a URI would be kept"),
        ("milvus://host:19530/c?field=x&token=secret", "set MILVUS_SOURCE_TOKEN instead"),
        ("milvus://host/c?field=x&limit=3", "limit is not known; there are field, filter, db"),
        ("milvus://host/", "names no collection; give milvus://HOST:PORT/COLLECTION"),
        ("milvus://host", "names no collection|not an address"),
        ("milvus:///c?field=x", "not an address of a collection"),
        ("milvus+ftp://host/c", "not an address of a collection"),
        ("milvus+lite:///none.db/c?field=x", "there is no such Milvus Lite file"),
        ("milvus+lite:///none/c?field=x", "not an address of a collection"),
    ],
)
def test_uris_that_are_no_good(uri, words) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        list(iterate(uri))
    assert "secret" not in str(caught.value)


def test_the_parts_of_a_uri() -> None:
    place = parse('milvus+https://cloud:443/shop?field=url&filter=a like "x%25" %26%26 b > 1+1&db=media')
    assert (place.uri, place.collection, place.field) == ("https://cloud:443", "shop", "url")
    assert (place.filter, place.db) == ('a like "x%" && b > 1+1', "media")


def test_nobody_answers() -> None:
    with pytest.raises(SourceError, match="no Milvus answers"):
        list(iterate("milvus://127.0.0.1:1/c?field=x"))


def test_the_token_of_the_target_is_not_sent_to_a_source(monkeypatch) -> None:
    seen: list[dict[str, Any]] = []

    def connect(uri: str, **options: Any) -> Any:
        seen.append(options)
        raise SourceError("enough")

    monkeypatch.setattr("compsketch_milvus.sources.milvus.connect_server", connect)
    monkeypatch.setenv("MILVUS_TOKEN", "of the target")
    for token in (None, "of the source"):
        if token:
            monkeypatch.setenv("MILVUS_SOURCE_TOKEN", token)
        with pytest.raises(SourceError, match="enough"):
            list(iterate("milvus://host/c?field=x"))
    assert [one["token"] for one in seen] == [None, "of the source"]
