"""A canary on Milvus Lite: exact answers against a brute force, rounds in a collection that changes, a server away."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from compsketch_milvus.canary.asking import ask
from compsketch_milvus.canary.prepare import MOVED, prepare
from compsketch_milvus.canary.questions import Canary, check_place
from compsketch_milvus.canary.rounds import Rounds, words
from compsketch_milvus.errors import CollectionError, FingerprintError, ServerError
from compsketch_milvus.records import PhotoVector
from encoders.sketch import Sketch

LEFT = {"width": 4, "height": 4, "objects": [{"bbox": [0, 0, 2, 4], "strokes": [[[0, 2], [0, 4]]]}]}


@pytest.fixture
def filled(collection, photo_vectors):
    """Sixty photos."""
    collection.upsert(photo_vectors)
    return collection


@pytest.fixture
def canary(filled) -> Canary:
    return prepare(filled, "photos", photos=12, seed=3)


def stored(photos: list[PhotoVector], canary: Canary, place: int) -> list[str]:
    """By brute force, the ten nearest photos of a query."""
    rows = np.stack([photo.vector for photo in photos])
    order = np.argsort(np.linalg.norm(rows - canary.questions[place].vector, axis=1), kind="stable")
    return [photos[i].id for i in order[:10]]


# --- preparing ---


def test_answers_are_those_of_a_brute_force_over_pages(filled, photo_vectors, monkeypatch) -> None:
    monkeypatch.setattr("compsketch_milvus.canary.prepare.PAGE_BYTES", 7 * 4 * 16)  # seven rows a page
    monkeypatch.setattr("compsketch_milvus.canary.prepare.IDS", 11)
    told: list[tuple[str, int, int]] = []
    canary = prepare(filled, "photos", photos=12, seed=3, progress=lambda *now: told.append(now))
    assert (canary.rows, canary.dim, canary.fingerprint) == (60, 16, "toy-0000000000000000")
    by_id = {photo.id: photo.vector for photo in photo_vectors}
    assert len({question.origin for question in canary.questions}) == 12
    for place, question in enumerate(canary.questions):
        assert [answer.id for answer in question.answers] == stored(photo_vectors, canary, place)
        away = [np.linalg.norm(by_id[answer.id] - question.vector) for answer in question.answers]
        assert [answer.distance for answer in question.answers] == pytest.approx(away, abs=1e-6)
        assert 0 < np.linalg.norm(by_id[question.origin] - question.vector) < 1.2 * MOVED
        assert np.linalg.norm(question.vector) == pytest.approx(1)
    assert told[-1] == ("compare", 60, 60)


def test_queries_are_drawn_by_the_seed_and_all_photos_have_the_same_chance(filled) -> None:
    def drawn(seed: int, photos: int = 12) -> list[str]:
        return [question.origin for question in prepare(filled, "photos", photos=photos, seed=seed).questions]

    assert drawn(3) == drawn(3) != drawn(4)
    assert sorted(drawn(0, 100)) == [f"p{i:02}" for i in range(60)]
    assert len({id for seed in range(12) for id in drawn(seed, 15)}) > 50


def test_sketches_are_queries_too(filled, tmp_path) -> None:
    file = tmp_path / "left.json"
    file.write_text(json.dumps(LEFT))
    both = prepare(filled, "photos", photos=2, sketches={file: Sketch.open(file)})
    alone = prepare(filled, "photos", photos=0, sketches={file: Sketch.open(file)})
    assert [question.origin for question in alone.questions] == [str(file)]
    assert len(both.questions) == 3
    first, second = ([answer.id for answer in made.questions[-1].answers] for made in (both, alone))
    assert first == second
    np.testing.assert_array_equal(alone.questions[0].vector, filled.encoder.encode_sketches([Sketch.open(file)])[0])


def test_a_collection_without_photos(collection) -> None:
    with pytest.raises(CollectionError, match="'photos' holds no photo; ingest some"):
        prepare(collection, "photos", photos=3)


# --- the file ---


def test_a_file_holds_it_to_the_bit(canary, tmp_path) -> None:
    canary.save(tmp_path / "canary.json")
    again = Canary.read(tmp_path / "canary.json")
    for one, other in zip(canary.questions, again.questions, strict=True):
        np.testing.assert_array_equal(one.vector, other.vector)
        assert one.answers == other.answers
    assert (again.collection, again.rows, again.prepared) == ("photos", 60, canary.prepared)
    assert [path.name for path in tmp_path.glob("*canary*")] == ["canary.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.update(format=2),
        lambda kept: kept.pop("fingerprint"),
        lambda kept: kept.update(questions=[]),
        lambda kept: kept.update(rows=0),
        lambda kept: kept["questions"][0].update(answers=[]),
        lambda kept: kept["questions"][0].update(vector="AAAA"),
        lambda kept: kept["questions"][0].update(vector="no base64!"),
        lambda kept: kept.update(more=1),
    ],
)
def test_a_file_of_something_else_is_refused(canary, tmp_path, change) -> None:
    canary.save(tmp_path / "canary.json")
    kept = json.loads((tmp_path / "canary.json").read_text())
    change(kept)
    (tmp_path / "canary.json").write_text(json.dumps(kept))
    with pytest.raises(CollectionError, match=r"canary\.json: is no canary of this version; make one with"):
        Canary.read(tmp_path / "canary.json")


def test_places_that_cannot_be(canary, tmp_path) -> None:
    with pytest.raises(
        CollectionError, match=r"none\.json: cannot be read \(No such file or directory\); make it with"
    ):
        Canary.read(tmp_path / "none.json")
    for refused in (check_place, canary.save):
        with pytest.raises(CollectionError, match=r"c\.json: cannot be written \(No such file or directory\)"):
            refused(tmp_path / "nowhere" / "c.json")
    with pytest.raises(CollectionError, match="is a folder; give a file"):
        check_place(tmp_path)


# --- a round ---


def test_an_exact_index_scores_one_while_photos_come_and_go(filled, canary, photo_vectors) -> None:
    first = ask(filled, canary)
    assert (first.found, first.recall, first.changed, len(first.seconds)) == (120, 1.0, 0.0, 12)

    nearest = [question.answers[0].id for question in canary.questions[:3]]
    filled.delete(nearest)
    near = canary.questions[5].vector
    filled.upsert(
        [PhotoVector("new", "s", 1, 1, near), PhotoVector(canary.questions[6].answers[0].id, "s", 1, 1, -near)]
    )
    second = ask(filled, canary)
    assert (second.recall, second.missed, second.rows) == (1.0, 0, 58)
    assert second.gone >= 3  # one photo may answer several queries
    assert second.displaced >= 1
    assert second.found + second.displaced + second.gone == 120

    filled.delete([photo.id for photo in photo_vectors])
    third = ask(filled, canary)
    assert (third.recall, third.gone, third.rows) == (None, 120, 1)
    assert "run `compsketch canary prepare` again" in third.advice


def test_an_index_that_looks_at_few_lists_is_caught(open_collection) -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    photos = open_collection(index="IVF_FLAT", index_params={"nlist": 16, "nprobe": 1})
    photos.upsert(PhotoVector(f"p{i}", "s", 1, 1, row) for i, row in enumerate(rows))
    photos.flush()
    canary = prepare(photos, "photos", photos=20)
    few = ask(photos, canary)
    every = ask(open_collection(index="IVF_FLAT", index_params={"nlist": 16, "nprobe": 16}), canary)
    assert few.recall < 0.9
    assert every.recall == 1.0


def test_another_encoder_is_refused_by_both_names(canary, filled, open_collection, toy, tmp_path) -> None:
    canary.save(tmp_path / "canary.json")
    other = open_collection("others", toy.ToyEncoder(fingerprint="toy-ffffffffffffffff"))
    with pytest.raises(
        FingerprintError,
        match=r"'others' was made by encoder 'toy' \(toy-f+, 16-D\), the canary's queries by 'toy' \(toy-0+, 16-D\)",
    ):
        Rounds(tmp_path / "canary.json", lambda: nullcontext(other), floor=0.9).go_on(60)


# --- round after round ---


class Ended(BaseException):
    """Ends what would go on for ever."""


def test_rounds_go_on_while_the_server_is_away(filled, canary, tmp_path, monkeypatch) -> None:
    canary.save(tmp_path / "canary.json")
    away = [ServerError("no Milvus answers", transient=True), None, ServerError("the disk is gone"), None]
    paused: list[float] = []

    def open_():
        fault = away.pop(0)
        if fault is not None:
            raise fault
        return nullcontext(filled)

    def pause(seconds: float) -> None:
        paused.append(seconds)
        if not away:
            raise Ended

    monkeypatch.setattr("compsketch_milvus.canary.rounds.time.sleep", pause)
    told: list[str] = []
    rounds = Rounds(tmp_path / "canary.json", open_, floor=0.9, tell=told.append)
    with pytest.raises(Ended):
        rounds.go_on(60)
    assert (rounds.summary["rounds"], rounds.summary["low"], rounds.summary["unanswered"]) == (4, 0, 2)
    assert told[0] == "no answer: no Milvus answers; asking again in 60 s"
    assert told[1].startswith("photos: recall@10 1.000: 120 found, 0 missed, 0 displaced, 0 gone; p50 ")
    assert all(50 < seconds <= 60 for seconds in paused)
    assert rounds.summary["last"]["index"]["type"] == "FLAT"


def test_a_server_that_never_answered_and_never_will_ends_them(canary, tmp_path) -> None:
    canary.save(tmp_path / "canary.json")

    def open_():
        raise ServerError("there is no host called 'x'")

    with pytest.raises(ServerError, match="no host"):
        Rounds(tmp_path / "canary.json", open_, floor=0.9).go_on(60)


def test_a_canary_prepared_again_is_asked_from_the_next_round_on(filled, canary, tmp_path) -> None:
    file: Path = tmp_path / "canary.json"
    canary.save(file)
    rounds = Rounds(file, lambda: nullcontext(filled), floor=0.9)
    filled.delete([f"p{i:02}" for i in range(40)])
    before = rounds.once()
    prepare(filled, "photos", photos=5).save(file)
    after = rounds.once()
    assert (before["gone"] > 40, after["gone"], after["queries"], after["rows_prepared"]) == (True, 0, 5, 20)
    assert before["advice"].endswith("run `compsketch canary prepare` again")
    assert words(before).endswith(before["advice"])
