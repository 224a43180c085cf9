"""From rankings to a folder: same ranks together, shuffled, blinded, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.study.plan import BAD, GOOD, Plan
from compsketch_milvus.study.prepare import prepare
from encoders.errors import ImageError


def test_a_task_holds_one_rank_of_each_method_and_a_photo_of_chance(plan: Plan):
    assert len(plan.tasks) == 9  # 3 queries, 3 ranks
    assert {(task.query, task.rank) for task in plan.tasks} == {(q, r) for q in range(3) for r in (1, 2, 3)}
    for task in plan.tasks:
        ranked = plan.queries[task.query].ranked
        assert set(task.photos) == {found[task.rank - 1] for found in ranked.values()}
        # at the first rank two methods agree: the photo is shown once
        assert len(task.photos) == (2 if task.rank == 1 else 3)


def test_a_study_is_one_folder_with_pictures_of_its_own(plan: Plan, folder: Path):
    assert sorted(path.name for path in folder.iterdir()) == ["photos", "ratings.db", "sketches", "study.json"]
    assert {path.stem for path in (folder / "photos").iterdir()} == set(plan.photos)
    assert {path.stem for path in (folder / "sketches").iterdir()} == {query.picture for query in plan.queries}
    asked = {photo for task in (*plan.tasks, *plan.checks) for photo in task.photos}
    assert asked == set(plan.photos)


def test_a_drawing_is_shown_as_drawn_without_boxes_and_words(plan: Plan, folder: Path):
    query = plan.queries[0]
    with Image.open(folder / "sketches" / f"{query.picture}.png") as picture:
        assert picture.size == (800, 600)
        ink = sum(count for count, colour in picture.getcolors(4096) if colour != (255, 255, 255))
        assert picture.getpixel((50, 150)) != (255, 255, 255)  # a corner of the triangle
        assert picture.getpixel((50, 350)) == (255, 255, 255)  # a side of its box
    assert 1000 < ink < 10_000  # a thin line on white


def test_what_is_read_back_is_what_was_written(plan: Plan, folder: Path):
    assert Plan.load(folder) == plan
    assert Plan.load(folder).fingerprint == plan.fingerprint
    assert plan.methods == ("ssbir", "semir", "random")
    assert plan.depth == 3


def test_the_same_seed_makes_the_same_study_and_another_one_another(make):
    one, same, other = make("a", seed=7), make("b", seed=7), make("c", seed=8)
    assert one == same
    assert one.fingerprint != other.fingerprint
    assert [task.id for task in one.tasks] != [task.id for task in other.tasks]
    assert not set(one.photos) & set(other.photos)  # names are of the study


def test_neither_order_nor_names_tell_the_method(make):
    plan = make(queries=30, depth=6, checks=False)
    places = {method: [] for method in plan.methods}
    for task in plan.tasks:
        if task.rank > 1:
            for method, found in plan.queries[task.query].ranked.items():
                places[method].append(task.photos.index(found[task.rank - 1]))
    for found in places.values():  # each place of three a third of the time, 150 times
        assert all(35 <= found.count(place) <= 65 for place in range(3))
    ranks = [task.rank for task in plan.tasks]
    assert ranks != sorted(ranks)
    names = [name for task in plan.tasks for name in (task.id, *task.photos)]
    assert all(set(name) <= set("0123456789abcdef") for name in names)
    assert {len(name) for name in names} == {16}


def test_checks_look_like_tasks_and_are_no_more_than_somebody_meets(plan: Plan):
    assert len(plan.checks) == 3  # one of four of nine tasks, at most
    for check in plan.checks:
        assert check.rank is None
        assert sorted(check.expected) == [BAD, BAD, GOOD]
        good = plan.photos[check.photos[check.expected.index(GOOD)]]
        assert "good" in good
        assert len(check.id) == len(plan.tasks[0].id)


def test_photos_keep_nothing_but_their_pixels(make, tmp_path: Path):
    make("first")
    source = tmp_path / "photos" / "q0-a0-5.png"
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    Image.new("RGB", (1600, 1200), "red").save(source, format="PNG", exif=exif)
    plan = make("second")
    name = next(name for name, where in plan.photos.items() if where == str(source))
    with Image.open(tmp_path / "second" / "photos" / f"{name}.jpg") as copy:
        assert copy.size == (800, 600)
        assert not copy.getexif()


def test_a_study_is_not_written_over(make):
    make()
    with pytest.raises(CompsketchError, match="there is a study already"):
        make()


def test_a_photo_that_is_gone_is_named_and_the_study_can_be_prepared_again(found, tmp_path: Path):
    gone = tmp_path / "photos" / "q1-r2-1.png"
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(ImageError, match=r"q1-r2-1\.png"):
        prepare(found, tmp_path / "study")
    assert not (tmp_path / "study" / "study.json").exists()
    gone.write_bytes(content)
    assert len(prepare(found, tmp_path / "study").tasks) == 9


def test_a_study_that_was_changed_by_hand_is_refused(plan: Plan, folder: Path):
    path = folder / "study.json"
    data = json.loads(path.read_text())
    data["tasks"][0]["photos"].reverse()
    path.write_text(json.dumps(data))
    with pytest.raises(CompsketchError, match="changed since it was prepared"):
        Plan.load(folder)
    for broken, words in (("{", "damaged"), ("[]", "not a study"), ('{"format": 1}', "damaged")):
        path.write_text(broken)
        with pytest.raises(CompsketchError, match=words):
            Plan.load(folder)
    path.unlink()
    with pytest.raises(CompsketchError, match="there is no study here"):
        Plan.load(folder)
