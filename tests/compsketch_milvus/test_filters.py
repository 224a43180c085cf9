"""Values apart from a filter: written into it so that they mean themselves, or handed to a server that takes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compsketch_milvus.errors import CollectionError
from compsketch_milvus.filters import filter_arguments
from compsketch_milvus.index import ServerFacts
from compsketch_milvus.records import PhotoVector

OLD, NEW, LITE = (ServerFacts("server", "v2.3.5"), ServerFacts("server", "2.5.4-gpu"), ServerFacts("lite", "3.2.2"))
HOSTILE = [
    '" or id != "',
    "' or id != '",
    '\\" or id != "',
    "\\",
    '"',
    "line\nbreak\r\ttab",
    "\x00\x01\x7f\x85\u2028",
    "{tags}",
    "%_?",
    "\\u0041\\x41\\101",
    "日本😀\ufeff",
]


@pytest.mark.parametrize("facts", [OLD, LITE])
@pytest.mark.parametrize(
    ("value", "literal"),
    [
        (640, "640"),
        (-(2**63), "-9223372036854775808"),
        (2.5, "2.5"),
        (1e300, "1e+300"),
        (True, "true"),
        (np.int32(7), "7"),
        ("sea", '"sea"'),
        ('a"b\\c\n', r'"a\"b\\c\n"'),
        (["a", "b"], '["a", "b"]'),
        ((1, 2.5), "[1, 2.5]"),
        (np.array([1, 2]), "[1, 2]"),
        ([], "[]"),
    ],
)
def test_values_become_literals(facts, value, literal) -> None:
    assert filter_arguments("field == { value }", {"value": value}, facts) == {"filter": f"field == {literal}"}


def test_a_server_that_takes_values_gets_them() -> None:
    params = {"least": np.int64(640), "tags": ("a", '"')}
    asked = filter_arguments("width > {least} and tag in {tags}", params, NEW)
    assert asked == {
        "filter": "width > {least} and tag in {tags}",
        "filter_params": {"least": 640, "tags": ["a", '"']},
    }
    assert type(asked["filter_params"]["least"]) is int
    for version in ("v2.10.0", "3.0.1", "master-20250101-abc"):
        assert "filter_params" in filter_arguments("a == {b}", {"b": 1}, ServerFacts("server", version))


def test_braces_in_a_text_are_braces() -> None:
    filter = """source like "/{least}/%" and tag == '{"}' and width > {least}"""
    assert filter_arguments(filter, {"least": 5}, OLD) == {"filter": filter.replace("> {least}", "> 5")}
    assert filter_arguments('tag == "\\"{x}"', {}, OLD) == {"filter": 'tag == "\\"{x}"'}


@pytest.mark.parametrize("facts", [OLD, NEW, LITE])
@pytest.mark.parametrize(
    ("filter", "params", "message"),
    [
        ("width > {least}", None, "'least' has no value; give it with filter_params"),
        ("width > {least}", {"last": 1}, "'least' has no value"),
        ("width > 5", {"least": 1}, r"it has no \{least\} that the parameter could stand for"),
        ("", {"least": 1}, r"it has no \{least\}"),
        ("a == {b}", {"b": None}, "'b': None is no number"),
        ("a == {b}", {"b": float("nan")}, "'b': nan is no number"),
        ("a == {b}", {"b": 2**63}, "is no number of 64 bits"),
        ("a == {b}", {"b": {"x": 1}}, "is no number"),
        ("a == {b}", {"b": b"raw"}, "is no number"),
        ("a == {b}", {"b": [1, "x"]}, "only texts, or numbers, or booleans"),
        ("a == {b}", {"b": [1, True]}, "only texts, or numbers, or booleans"),
        ("a == {b}", {"b": [[1]]}, r"\[1\] is no number"),
        ("a == {b}", {"b": "\ud800"}, "not valid Unicode"),
    ],
)
def test_what_does_not_fit_is_refused(facts, filter, params, message) -> None:
    with pytest.raises(CollectionError, match=message):
        filter_arguments(filter, params, facts)


def test_hostile_texts_are_found_and_nothing_else(collection, vectors) -> None:
    photos = [PhotoVector(f"h{i:02}", "s", 1, 1, vectors[i], {"tag": tag}) for i, tag in enumerate(HOSTILE)]
    collection.upsert(photos)
    for place, tag in enumerate(HOSTILE):
        for filter, value in (("tag == {value}", tag), ("tag in {value}", [tag])):
            hits = collection.search_vector(vectors[0], 60, filter, filter_params={"value": value})
            assert [hit.id for hit in hits] == [f"h{place:02}"], tag
    assert collection.delete(filter="tag in {tags}", filter_params={"tags": HOSTILE[:3]}) == 3
    assert collection.count() == len(HOSTILE) - 3


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tag=st.text(max_size=20))
def test_any_text_is_found_and_nothing_else(collection, vectors, tag) -> None:
    collection.upsert([PhotoVector("it", "s", 1, 1, vectors[0], {"tag": tag})])
    collection.upsert([PhotoVector("other", "s", 1, 1, vectors[1], {"tag": tag + "x"})])
    assert collection.count("tag == {tag}", {"tag": tag}) == 1
    assert [hit.id for hit in collection.search_vector(vectors[0], 5, "tag == {t}", filter_params={"t": tag})] == ["it"]
