"""Searching real Milvus Lite files: whole answers against numpy, ties, filters, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compsketch_milvus.errors import CollectionError, CompsketchError
from compsketch_milvus.index import choose
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


# --- the terms of a search ---


@pytest.fixture
def sent(filled, monkeypatch) -> list[tuple[str, dict]]:
    """What goes to Milvus: each call of `search` and `query` on the client, with its arguments."""
    calls = []
    for method in ("search", "query"):
        ask = getattr(filled.client, method)

        def spy(name, *, ask=ask, method=method, **arguments):
            calls.append((method, arguments))
            return ask(name, **arguments)

        monkeypatch.setattr(filled.client, method, spy)
    return calls


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"limit": 0}, "limit 0: it has to be a whole number from 1 to 16384"),
        ({"rerank": -1}, "rerank -1: it has to be a whole number from 0 to 16384"),
        ({"rerank": 200.0}, "rerank 200.0"),
        ({"consistency": "Weak"}, "consistency 'Weak': there are Bounded, Session, Strong, Eventually"),
        ({"consistency": "strong"}, "consistency 'strong'"),
        ({"group_by": "vector"}, "group_by 'vector': name a field"),
        ({"group_by": "tag", "group_size": 0}, "group_size 0"),
        ({"group_size": 2}, "group_size 2: say by which field"),
        ({"hide_duplicates": 0}, "hide_duplicates 0: it has to be a cosine"),
        ({"hide_duplicates": float("nan")}, "hide_duplicates nan"),
        ({"filter_params": {"least": 3}}, r"filter '': it has no \{least\}"),
    ],
)
def test_terms_that_do_not_fit(filled, vectors, sent, terms, message) -> None:
    with pytest.raises(CollectionError, match=message):
        filled.search_vector(vectors[0], **terms)
    assert sent == []


def test_a_misspelt_term_is_a_type_error(filled, vectors) -> None:
    with pytest.raises(TypeError, match="treshold"):
        filled.search_vector(vectors[0], treshold=0.5)


def test_a_search_sees_what_its_object_wrote(open_collection, photo_vectors, vectors, monkeypatch) -> None:
    photos = open_collection()
    levels = []
    ask = photos.client.search

    def spy(name, **arguments):
        levels.append(arguments["consistency_level"])
        return ask(name, **arguments)

    monkeypatch.setattr(photos.client, "search", spy)
    photos.search_vector(vectors[0])
    photos.upsert(photo_vectors)
    photos.search_vector(vectors[0])
    photos.search_vector(vectors[0], consistency="Eventually")
    photos.delete(["p59"])
    photos.search_vector(vectors[0])
    monkeypatch.setattr("compsketch_milvus.collection.DELETION", 0)  # a minute later
    photos.search_vector(vectors[0])
    assert levels == ["Bounded", "Session", "Eventually", "Strong", "Session"]
    assert open_collection().consistency == "Bounded"


def test_parameters_of_a_filter(filled, vectors) -> None:
    filter = "width > {least} and tag in {tags}"
    asked = {"filter_params": {"least": 130, "tags": ["t1", "t2"]}}
    expected = filled.search_vector(vectors[5], 60, "width > 130 and tag in ['t1', 't2']")
    assert filled.search_vector(vectors[5], 60, filter, **asked) == expected
    assert filled.count(filter, asked["filter_params"]) == len(expected) == 20


@pytest.mark.parametrize(("rerank", "fetched", "with_vectors"), [(200, 200, True), (30, 30, True), (0, 5, False)])
def test_rerank_says_how_many_are_fetched_of_a_lossy_index(
    open_collection, photo_vectors, vectors, monkeypatch, rerank, fetched, with_vectors
) -> None:
    collection = open_collection(index="IVF_SQ8", index_params={"nlist": 1})
    collection.upsert(photo_vectors)
    collection.flush()
    calls = []
    ask = collection.client.search

    def spy(name, **arguments):
        calls.append((arguments["limit"], "vector" in arguments["output_fields"]))
        return ask(name, **arguments)

    monkeypatch.setattr(collection.client, "search", spy)
    hits = collection.search_vector(vectors[5], 5, rerank=rerank)
    assert calls == [(fetched, with_vectors)]
    assert [hit.id for hit in hits] == [id for id, _ in nearest(vectors, vectors[5])[:5]]


def test_grouping_fetches_until_the_limit_is_filled(collection, sent_depths) -> None:
    """The forty nearest photos are of one shop."""
    angles = np.radians(np.linspace(1, 80, 60))
    rows = np.zeros((60, 16), np.float32)
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    shops = ["near"] * 40 + [f"shop {i}" for i in range(20)]
    collection.upsert(
        PhotoVector(f"p{i:02}", "s", 1, 1, row, {"shop": shop})
        for i, (row, shop) in enumerate(zip(rows, shops, strict=True))
    )
    hits = collection.search_vector(np.eye(16, dtype=np.float32)[0], 5, group_by="shop")
    assert [hit.id for hit in hits] == ["p00", "p40", "p41", "p42", "p43"]
    assert sent_depths == [20, 80]
    pairs = collection.search_vector(np.eye(16, dtype=np.float32)[0], 3, group_by="shop", group_size=2)
    assert [hit.id for hit in pairs] == ["p00", "p01", "p40"]


@pytest.fixture
def sent_depths(collection, monkeypatch) -> list[int]:
    depths = []
    ask = collection.client.search

    def spy(name, **arguments):
        depths.append(arguments["limit"])
        return ask(name, **arguments)

    monkeypatch.setattr(collection.client, "search", spy)
    return depths


def test_near_duplicates_are_named_by_the_photo_that_hides_them(collection, vectors) -> None:
    rng = np.random.default_rng(0)
    copies = vectors[0] + 0.01 * rng.normal(size=(4, 16)).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    collection.upsert([PhotoVector(f"copy{i}", "s", 1, 1, row) for i, row in enumerate(copies)])
    collection.upsert([PhotoVector(f"p{i}", "s", 1, 1, row) for i, row in enumerate(vectors[:4])])
    hits = collection.search_vector(vectors[0], 3, hide_duplicates=0.98)
    assert hits[0].id == "p0"
    assert sorted(hits[0].duplicates) == ["copy0", "copy1", "copy2", "copy3"]
    assert [hit.duplicates for hit in hits[1:]] == [(), ()]
    assert {hit.id for hit in hits[1:]} < {"p1", "p2", "p3"}
    assert all(hit.duplicates == () for hit in collection.search_vector(vectors[0], 3))


def test_a_limit_that_cannot_be_filled_is_said(filled, vectors, monkeypatch, caplog) -> None:
    monkeypatch.setattr("compsketch_milvus.retrieval.MOST_BYTES", 40 * 512)
    found = search_vectors(filled, vectors[5], 4, group_by="tag")[0]
    assert len(found) == 3
    assert found.short == "3 of 4 hits: no others among the 40 nearest photos; " + (
        "with vectors of 16-D an answer holds at most 40 photos; rerank=0 fetches none"
    )
    assert found.short in caplog.text
    whole = search_vectors(filled, vectors[5], 3, group_by="tag")[0]
    assert (len(whole), whole.short) == (3, None)
    monkeypatch.undo()
    ended = search_vectors(filled, vectors[5], 4, group_by="tag")[0]
    assert (len(ended), ended.short) == (3, None)  # there are no more photos


def test_an_answer_that_would_be_too_large_is_refused_before_it_is_asked_for(
    filled, vectors, monkeypatch, sent
) -> None:
    monkeypatch.setattr("compsketch_milvus.retrieval.MOST_BYTES", 40 * (512 + 4 * 16))
    with pytest.raises(CollectionError, match="limit 41: with vectors of 16-D an answer holds at most 40 photos"):
        filled.search_vector(vectors[0], 41, hide_duplicates=0.9)
    assert sent == []


def test_many_queries_go_in_as_few_calls_as_their_answers_allow(filled, vectors, monkeypatch, sent) -> None:
    queries = np.tile(vectors, (3, 1))
    expected = [filled.search_vector(vector, 5) for vector in vectors] * 3
    sent.clear()
    assert [result.hits for result in search_vectors(filled, queries, 5)] == expected
    assert [len(arguments["data"]) for _, arguments in sent] == [64, 64, 52]
    sent.clear()
    monkeypatch.setattr("compsketch_milvus.retrieval.ANSWER_BYTES", 7 * 5 * 512)
    assert [result.hits for result in search_vectors(filled, queries[:20], 5)] == expected[:20]
    assert [len(arguments["data"]) for _, arguments in sent] == [7, 7, 6]


def test_only_the_queries_that_are_short_of_hits_ask_again(filled, vectors, sent) -> None:
    """One query has all its neighbours in one group."""
    near = vectors[0] + 0.01 * np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    filled.upsert(PhotoVector(f"n{i}", "s", 1, 1, row, {"tag": "one"}) for i, row in enumerate(near))
    results = search_vectors(filled, vectors[[7, 0, 9]], 3, group_by="tag")
    assert [len(arguments["data"]) for _, arguments in sent] == [3, 1]
    assert [len({hit.fields["tag"] for hit in result}) for result in results] == [3, 3, 3]
    assert [result.hits[0].id for result in results] == ["p07", "p00", "p09"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_never_reaches_milvus(filled, sketch, vectors, monkeypatch, sent, bad) -> None:
    spoilt = vectors[:3].copy()
    spoilt[1, 4] = bad
    with pytest.raises(CompsketchError, match="query vector 1 is not finite"):
        search_vectors(filled, spoilt)
    monkeypatch.setattr(filled.encoder, "encode_sketches", lambda sketches, words: spoilt[1:2])
    monkeypatch.setattr(filled.encoder, "encode_images", lambda images: spoilt[1:2])
    for ask in (
        lambda: filled.search_vector(spoilt[1]),
        lambda: filled.search(sketch, group_by="tag"),
        lambda: search_many(filled, [sketch], hide_duplicates=0.9),
        lambda: filled.search_image(np.zeros((32, 32, 3), np.uint8)),
    ):
        with pytest.raises(CompsketchError, match="is not finite"):
            ask()
    assert sent == []


def test_errors_of_many_name_the_place(filled, sketch, vectors) -> None:
    with pytest.raises(CollectionError, match="sketch 1: None is no Sketch"):
        search_many(filled, [sketch, None])
    with pytest.raises(CollectionError, match="query vector 2 has to be of unit length"):
        search_vectors(filled, np.stack([vectors[0], vectors[1], 2 * vectors[2]]))
    with pytest.raises(CollectionError, match="query vectors: the collection needs numbers"):
        search_vectors(filled, [["a"] * 16])


def test_a_gpu_index_has_its_own_limit(filled, vectors, sent) -> None:
    """No GPU is asked here: the bound is known before anything is sent."""
    filled.index = choose(replace(filled.facts, kind="server", gpu="yes"), "GPU_IVF_PQ")
    with pytest.raises(CollectionError, match="limit 1025: index GPU_IVF_PQ gives at most 1024 photos"):
        filled.search_vector(vectors[0], 1025)
    with pytest.raises(CollectionError, match="rerank 2000: index GPU_IVF_PQ gives at most 1024 photos"):
        filled.search_vector(vectors[0], rerank=2000)
    assert sent == []


def test_a_field_to_group_by_that_no_photo_has_is_said(filled, vectors, caplog) -> None:
    assert len(filled.search_vector(vectors[0], 5, group_by="tga")) == 5
    assert "none of the 20 photos found has a field 'tga' to group by" in caplog.text


# --- a partition key ---


def test_a_partition_key_is_kept_and_filtered_by(open_collection, vectors) -> None:
    collection = open_collection(partition_key="tenant")
    collection.upsert(PhotoVector(f"p{i:02}", "s", 1, 1, row, {"tenant": f"t{i % 2}"}) for i, row in enumerate(vectors))
    again = open_collection()
    assert again.info()["partition_key"] == again.partition_key == "tenant"
    hits = again.search_vector(vectors[4], 60, "tenant == {who}", filter_params={"who": "t0"})
    assert [hit.id for hit in hits] == [id for id, _ in nearest(vectors, vectors[4], list(range(0, 60, 2)))]
    assert {hit.fields["tenant"] for hit in hits} == {"t0"}
    assert len(again.search_vector(vectors[4], 60, group_by="tenant")) == 2
    with pytest.raises(CollectionError, match="has partition key 'tenant', not 'shop', and that cannot be changed"):
        open_collection(partition_key="shop")
    assert open_collection("other").partition_key is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "photo 'p1': it has no field 'tenant', by which this collection keeps photos apart"),
        ({"tenant": None}, "it has no field 'tenant'"),
        ({"tenant": 7}, "photo 'p1': tenant 7 has to be a text of 1 to 256 bytes"),
        ({"tenant": ""}, "has to be a text"),
        ({"tenant": "x" * 257}, "has to be a text"),
    ],
)
def test_a_photo_without_its_partition_key_is_named(open_collection, vectors, fields, message) -> None:
    collection = open_collection(partition_key="tenant")
    photos = [
        PhotoVector("p0", "s", 1, 1, vectors[0], {"tenant": "t"}),
        PhotoVector("p1", "s", 1, 1, vectors[1], fields),
    ]
    with pytest.raises(CollectionError, match=message):
        collection.upsert(photos)
    assert collection.count() == 1  # those before it are stored


@pytest.mark.parametrize("name", ["", "1st", "a-b", "id", "vector", "width", "mtime", "$meta", "a" * 256])
def test_what_cannot_be_a_partition_key(open_collection, name) -> None:
    with pytest.raises(CollectionError, match="partition key"):
        open_collection(partition_key=name)


# --- vectors out of answers ---


def test_answers_of_a_pymilvus_that_keeps_vectors_otherwise_give_the_same(
    open_collection, photo_vectors, vectors, monkeypatch
) -> None:
    """Such as lists in the rows, as all of them once did."""
    collection = open_collection(index="IVF_SQ8")
    collection.upsert(photo_vectors)
    expected = [result.hits for result in search_vectors(collection, vectors, 7, hide_duplicates=0.9)]
    ask = collection.client.search

    def plain(name, **arguments):
        return [[dict(row) for row in hits] for hits in ask(name, **arguments)]

    monkeypatch.setattr(collection.client, "search", plain)
    assert [result.hits for result in search_vectors(collection, vectors, 7, hide_duplicates=0.9)] == expected
