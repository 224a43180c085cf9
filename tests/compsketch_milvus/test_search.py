"""Searching real Milvus Lite files: whole answers against numpy, ties, filters, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compsketch_milvus.errors import CollectionError, CompsketchError
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.search import Hit, search, search_image, search_many, search_vectors
from encoders.sketch import Sketch, SketchObject


def line(x0: float, y0: float, x1: float, y1: float, label: str | None = None) -> SketchObject:
    return SketchObject([[[x0, x1], [y0, y1]]], label=label)


@pytest.fixture
def sketch() -> Sketch:
    """Two objects on a canvas of 100 x 100: one at the upper left, one at the lower right."""
    return Sketch(100, 100, (line(0, 0, 45, 45), line(60, 60, 99, 99)))


@pytest.fixture
def filled(collection, photo_vectors):
    collection.upsert(photo_vectors)
    return collection


def nearest(vectors: np.ndarray, query: np.ndarray, among: list[int] | None = None) -> list[tuple[str, float]]:
    """Ids and L2 distances in numpy, nearest first."""
    distances = np.linalg.norm(vectors.astype(np.float64) - query.astype(np.float64), axis=1)
    order = sorted(range(len(vectors)) if among is None else among, key=lambda i: distances[i])
    return [(f"p{i:02}", distances[i]) for i in order]


def test_whole_answer(filled, vectors) -> None:
    expected = nearest(vectors, vectors[3])[:3]
    hits = filled.search_vector(vectors[3], 3)
    assert hits == [
        Hit(
            id,
            f"/photos/{int(id[1:])}.jpg",
            pytest.approx(1 - distance**2 / 2, abs=1e-5),
            pytest.approx(distance, abs=1e-3),
            {"width": 100 + int(id[1:]), "height": 80, "tag": f"t{int(id[1:]) % 3}"},
        )
        for id, distance in expected
    ]


@pytest.mark.parametrize("flushed", [False, True])
def test_distance_is_l2_and_score_is_the_cosine(filled, vectors, flushed) -> None:
    """Milvus itself gives squared L2."""
    if flushed:
        filled.flush()
    hits = filled.search_vector(vectors[5], 60)
    assert [hit.id for hit in hits] == [id for id, _ in nearest(vectors, vectors[5])]
    for hit in hits:
        stored = vectors[int(hit.id[1:])]
        assert hit.score == pytest.approx(float(stored @ vectors[5]), abs=1e-5)
        assert hit.distance == pytest.approx(float(np.linalg.norm(stored - vectors[5])), abs=1e-3)


@pytest.mark.parametrize("index", ["FLAT", "HNSW", "HNSW_SQ", "IVF_SQ8", "AUTOINDEX"])
def test_every_index_gives_the_exact_distances(open_collection, photo_vectors, vectors, index) -> None:
    """A quantised index is off by more than a thousandth; ranking again on the stored vectors mends it."""
    collection = open_collection(index=index, index_params={"nlist": 1} if index.startswith("IVF") else None)
    collection.upsert(photo_vectors)
    collection.flush()
    query = np.eye(16, dtype=np.float32)[2]
    hits = collection.search_vector(query, 10)
    expected = nearest(vectors, query)[:10]
    assert [hit.id for hit in hits] == [id for id, _ in expected]
    assert [hit.distance for hit in hits] == pytest.approx([distance for _, distance in expected], abs=1e-5)


def test_ties_are_ordered_by_id(collection, vectors) -> None:
    same = [PhotoVector(id, "s", 1, 1, vectors[0]) for id in ("b", "d", "a", "c")]
    collection.upsert(same)
    assert [hit.id for hit in collection.search_vector(vectors[1], 10)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("index", ["FLAT", "HNSW", "IVF_SQ8"])
def test_filter(open_collection, photo_vectors, vectors, index) -> None:
    collection = open_collection(index=index)
    collection.upsert(photo_vectors)
    collection.flush()
    hits = collection.search_vector(vectors[5], 4, "tag == 't1' and width > 130")
    among = [i for i in range(60) if i % 3 == 1 and i > 30]
    assert [hit.id for hit in hits] == [id for id, _ in nearest(vectors, vectors[5], among)][:4]
    assert collection.search_vector(vectors[5], 4, "width > 1000") == []


@pytest.mark.parametrize("index", ["HNSW", "IVF_FLAT"])
def test_a_narrow_filter_finds_all_that_pass(open_collection, index) -> None:
    """Such an index alone gives none or few of them: they lie far from the query."""
    rng = np.random.default_rng(3)
    near = np.eye(16, dtype=np.float32)[0] + 0.05 * rng.normal(size=(2000, 16)).astype(np.float32)
    far = -np.eye(16, dtype=np.float32)[0] + 0.05 * rng.normal(size=(4, 16)).astype(np.float32)
    rows = np.concatenate([near, far])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    collection = open_collection(index=index)
    collection.upsert(PhotoVector(f"p{i:04}", "s", i, 1, row) for i, row in enumerate(rows))
    collection.flush()
    hits = collection.search_vector(np.eye(16, dtype=np.float32)[0], 10, "width >= 2000")
    assert {hit.id for hit in hits} == {"p2000", "p2001", "p2002", "p2003"}
    assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)


@pytest.mark.parametrize("filter", ["width >", "width > 'x'", "nothing(", "width", "\"'"])
def test_a_bad_filter_is_named_with_milvus_own_words(filled, vectors, filter) -> None:
    with pytest.raises(CollectionError, match=r"was refused by Milvus: .") as refused:
        filled.search_vector(vectors[0], 3, filter)
    message = str(refused.value)
    assert message.startswith(f"filter {filter!r} ")
    assert "\n" not in message


def test_limits(filled, vectors) -> None:
    assert len(filled.search_vector(vectors[0], 1)) == 1
    assert len(filled.search_vector(vectors[0], 16384)) == 60
    for limit in (0, -1, 16385, 1.5, True, "3"):
        with pytest.raises(CollectionError, match="whole number from 1 to 16384"):
            filled.search_vector(vectors[0], limit)


def test_threshold(filled, sketch) -> None:
    every = search(filled, sketch, 60)
    some = search(filled, sketch, 60, threshold=0.1)
    assert some.hits == [hit for hit in every if hit.score >= 0.1]
    assert 0 < len(some) < len(every)
    with pytest.raises(CollectionError, match="threshold 2"):
        search(filled, sketch, threshold=2)
    with pytest.raises(CollectionError, match="threshold nan"):
        search(filled, sketch, threshold=float("nan"))


@pytest.mark.parametrize(
    ("vector", "error", "message"),
    [
        (np.full(16, np.nan), CompsketchError, "not finite"),
        (np.full(16, np.inf), CompsketchError, "not finite"),
        (np.ones(15) / np.sqrt(15), CollectionError, r"shape \(1, 15\): the collection needs \(n, 16\)"),
        (np.ones((1, 1, 16)), CollectionError, r"shape \(1, 1, 16\)"),
        (np.ones(16), CollectionError, "unit length"),
    ],
)
def test_a_vector_that_does_not_fit(filled, vector, error, message) -> None:
    with pytest.raises(error, match=message):
        filled.search_vector(vector)


def test_an_encoder_that_gives_nan_is_caught(filled, sketch, monkeypatch) -> None:
    monkeypatch.setattr(filled.encoder, "encode_sketches", lambda sketches, words: np.full((1, 16), np.nan, np.float32))
    with pytest.raises(CompsketchError, match="not finite"):
        filled.search(sketch)


def test_an_empty_collection_has_no_hits(collection, sketch) -> None:
    assert collection.search(sketch) == []
    assert search_many(collection, []) == []


def test_a_layout_finds_its_photo(collection, toy_encoder, sketch) -> None:
    """Photos dark where the objects are: the right layout comes before its mirror image and before a blank."""
    blank = np.full((32, 32, 3), 255, np.uint8)
    right, mirrored = blank.copy(), blank.copy()
    right[:14, :14] = right[20:, 20:] = 0
    mirrored[:14, 18:] = mirrored[20:, :12] = 0
    encoded = toy_encoder.encode_images([right, mirrored, blank])
    names = ["right", "mirrored", "blank"]
    collection.upsert(PhotoVector(name, name, 32, 32, vector) for name, vector in zip(names, encoded, strict=True))
    assert collection.search(sketch)[0].id == "right"
    assert [hit.id for hit in collection.search_image(mirrored, 1)] == ["mirrored"]
    assert search_image(collection, right, 1).hits[0].score == pytest.approx(1, abs=1e-5)


def test_seconds_of_each_step(filled, sketch) -> None:
    result = search(filled, sketch)
    assert set(result.seconds) == {"encode", "search", "rerank"}
    assert all(seconds >= 0 for seconds in result.seconds.values())
    assert list(result) == result.hits


def test_many_sketches_in_one_call_of_the_encoder(filled, sketch, monkeypatch) -> None:
    other = Sketch(100, 100, (line(0, 60, 40, 99),))
    calls = []
    encode = filled.encoder.encode_sketches

    def counted(sketches, *, words):
        calls.append(len(sketches))
        return encode(sketches, words=words)

    monkeypatch.setattr(filled.encoder, "encode_sketches", counted)
    results = search_many(filled, [sketch, other] * 50, 5)
    assert calls == [100]
    assert [result.hits for result in results[:2]] == [filled.search(sketch, 5), filled.search(other, 5)]
    assert [result.hits for result in results] == [results[0].hits, results[1].hits] * 50


def test_words_reach_the_encoder(filled, sketch, monkeypatch) -> None:
    asked = []

    def encode(sketches, *, words):
        asked.append(words)
        return np.eye(16, dtype=np.float32)[:1]

    monkeypatch.setattr(filled.encoder, "encode_sketches", encode)
    filled.search(sketch, words=True)
    filled.search(sketch)
    assert asked == [True, False]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), limit=st.integers(1, 60))
def test_any_query_is_ranked_as_numpy_ranks_it(filled, vectors, seed, limit) -> None:
    query = np.random.default_rng(seed).normal(size=16)
    query /= np.linalg.norm(query)
    hits = search_vectors(filled, query, limit)[0].hits
    expected = nearest(vectors, query)[:limit]
    assert len(hits) == limit
    assert [hit.distance for hit in hits] == pytest.approx([distance for _, distance in expected], abs=1e-3)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("given_", ["two-dogs.svg", {"width": 10, "height": 10, "objects": []}, None])
def test_what_is_no_sketch_is_refused_by_name(collection, given_) -> None:
    with pytest.raises(CollectionError, match=r"is no Sketch; make one with Sketch\.open\(path\)"):
        collection.search(given_)
