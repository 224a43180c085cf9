"""Hits with their reasons and their confidence, from real Milvus Lite files."""

from __future__ import annotations

import numpy as np
import pytest

from compsketch_milvus.encoder import Calibrated, Encoder, Explaining
from compsketch_milvus.errors import CollectionError
from compsketch_milvus.explain import explain
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.search import search
from encoders.sketch import Sketch, SketchObject


def line(x0: float, y0: float, x1: float, y1: float, weight: float = 1) -> SketchObject:
    return SketchObject([[[x0, x1], [y0, y1]]], weight=weight)


UPPER_LEFT, LOWER_RIGHT = line(0, 0, 45, 45), line(55, 55, 99, 99)
BOTH = Sketch(100, 100, (UPPER_LEFT, LOWER_RIGHT))
ONE = Sketch(100, 100, (UPPER_LEFT,))


@pytest.fixture
def filled(open_collection, judging_encoder):
    """Photos that are dark in the upper left, the lower right, both, or nowhere near."""
    parts = {"left": [np.s_[:16, :16]], "right": [np.s_[16:, 16:]], "other": [np.s_[:16, 16:]]}
    parts["both"] = [*parts["left"], *parts["right"]]
    pictures = {name: np.full((32, 32, 3), 255, np.uint8) for name in parts}
    for name, places in parts.items():
        for place in places:
            pictures[name][place] = 0
    collection = open_collection(encoder=judging_encoder)
    vectors = judging_encoder.encode_images(list(pictures.values()))
    collection.upsert(PhotoVector(name, name, 32, 32, one) for name, one in zip(pictures, vectors, strict=True))
    return collection


def test_what_an_encoder_can_do_is_seen(toy_encoder, judging_encoder):
    assert isinstance(judging_encoder, Encoder)
    assert isinstance(judging_encoder, Explaining)
    assert isinstance(judging_encoder, Calibrated)
    assert not isinstance(toy_encoder, Explaining | Calibrated)


# --- why ---


def test_the_parts_sum_to_the_score_of_each_hit(filled):
    hits = filled.search(BOTH)
    for hit, explained in zip(hits, explain(filled, hits, BOTH), strict=True):
        assert explained.score == pytest.approx(hit.score, abs=1e-5)
        assert explained.objects.shape == (2, 4, 4)


def test_the_object_that_a_photo_holds_is_what_it_was_found_for(filled):
    hits = {hit.id: hit for hit in filled.search(BOTH)}
    assert filled.explain(hits["both"], BOTH).totals == pytest.approx([0.5, 0.5], abs=1e-4)
    left = filled.explain(hits["left"], BOTH)
    assert left.totals == pytest.approx([0.5**0.5, 0], abs=1e-4)
    assert (left.objects[0] > 0.1).nonzero()[0].tolist() == [0, 0, 1, 1]  # the upper rows
    assert filled.explain(hits["other"], BOTH).totals == pytest.approx([0, 0], abs=1e-4)


def test_a_photo_that_was_deleted_since_is_named(filled):
    hit = filled.search(ONE)[0]
    filled.delete([hit.id])
    with pytest.raises(CollectionError, match=r"photo 'left' is no longer in collection 'photos'; search again"):
        filled.explain(hit, ONE)
    assert explain(filled, [], ONE) == []


def test_an_encoder_that_cannot_explain_is_named(collection, photo_vectors):
    collection.upsert(photo_vectors)
    hit = collection.search(ONE)[0]
    with pytest.raises(CollectionError, match=r"encoder 'toy' cannot explain its hits; use a bundle on this machine"):
        collection.explain(hit, ONE)


# --- how likely ---


def test_a_hits_confidence_is_what_the_calibration_says_of_its_score(filled):
    result = search(filled, ONE)
    for hit in result:
        assert hit.confidence == pytest.approx(1 / (1 + np.exp(8 - 10 * hit.score)))
    assert result.best == result.hits[0].confidence > 0.8


def test_hits_of_too_little_confidence_are_left_out_until_none_is_a_match(filled):
    assert [hit.id for hit in filled.search(ONE, min_confidence=0.5)] == ["left"]
    nothing = search(filled, ONE, min_confidence=0.95)
    assert nothing.hits == []
    assert nothing.best == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-3)
    assert len(filled.search(ONE, min_confidence=0)) == 4


def test_confidence_that_is_not_known_is_none_and_cannot_be_asked_for(filled, collection):
    assert {hit.confidence for hit in filled.search(BOTH)} == {None}
    weighted = Sketch(100, 100, (line(0, 0, 45, 45, weight=2),))
    for asked in (BOTH, weighted):
        with pytest.raises(CollectionError, match=r"min_confidence 0\.5: encoder 'toy' is not calibrated for such"):
            filled.search(asked, min_confidence=0.5)
    with pytest.raises(CollectionError, match=r"encoder 'toy' is not calibrated"):
        collection.search(ONE, min_confidence=0.5)


@pytest.mark.parametrize("least", [-0.1, 1.5, float("nan")])
def test_a_confidence_is_a_probability(filled, least):
    with pytest.raises(CollectionError, match="it has to be a probability, from 0 to 1"):
        filled.search(ONE, min_confidence=least)


def test_a_photo_as_query_has_no_confidence(filled):
    assert {hit.confidence for hit in filled.search_image(np.zeros((32, 32, 3), np.uint8))} == {None}
