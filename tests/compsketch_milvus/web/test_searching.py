"""Searches: what is found, how it is told, and what is refused."""

from __future__ import annotations

import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.web.models import MAX_HITS
from tests.web.serving import drawing, judging_encoder, layout, toy

LEFT = [0.03, 0.36, 0.30, 0.63]


def boxes_of(number: int) -> list[list[float]]:
    return [one["box"] for one in layout(number)]


def test_a_drawing_finds_the_photo_of_its_layout_and_its_boxes(page) -> None:
    answer = page.post("/api/search", json={"sketch": drawing(*boxes_of(8)), "limit": 5}).json()
    best = answer["hits"][0]
    assert len(answer["hits"]) == 5
    assert sorted(one["box"] for one in best["objects"]) == sorted(boxes_of(8))
    assert (best["width"], best["height"]) == (320, 240)
    assert best["name"].startswith("photo-")
    assert "/" not in best["name"]
    assert best["fields"]["tag"] in ("cup", "cat", "dog", "flower")
    assert [hit["score"] for hit in answer["hits"]] == sorted((hit["score"] for hit in answer["hits"]), reverse=True)
    assert answer["boxes"] == [pytest.approx(box, abs=1e-6) for box in boxes_of(8)]
    assert answer["seconds"]["total"] >= answer["seconds"]["search"] > 0


def test_filters_thresholds_and_limits_are_met(page) -> None:
    sketch = drawing(LEFT)
    filtered = page.post("/api/search", json={"sketch": sketch, "filter": 'tag == "cat" and rating > 2'}).json()
    assert filtered["hits"]
    assert {(hit["fields"]["tag"], hit["fields"]["rating"] > 2) for hit in filtered["hits"]} == {("cat", True)}
    least = page.post("/api/search", json={"sketch": sketch, "limit": MAX_HITS}).json()["hits"][3]["score"]
    over = page.post("/api/search", json={"sketch": sketch, "threshold": least}).json()
    assert [hit["score"] >= least for hit in over["hits"]] == [True] * len(over["hits"])


def test_that_there_is_no_good_match_is_said(page) -> None:
    sketch = drawing(LEFT)
    unlikely = page.post("/api/search", json={"sketch": sketch, "min_confidence": 0.999}).json()
    assert unlikely["hits"] == []
    assert unlikely["message"].startswith("No good match: the best photo is ")
    assert unlikely["best"] < 0.999
    strict = page.post("/api/search", json={"sketch": sketch, "threshold": 1.0}).json()
    assert strict["message"].startswith("No good match: ")
    narrow = page.post("/api/similar", json={"id": "p01", "filter": "rating > 99"}).json()
    assert narrow["message"] == "No photo passes the filter."
    assert page.post("/api/search", json={"sketch": sketch}).json()["message"] is None


def test_a_photo_finds_those_like_it_but_not_itself(page) -> None:
    answer = page.post("/api/similar", json={"id": "p08", "limit": 3}).json()
    assert len(answer["hits"]) == 3
    assert "p08" not in [hit["id"] for hit in answer["hits"]]
    assert answer["boxes"] == []


def test_an_explanation_adds_up_to_the_score(page) -> None:
    sketch = drawing(*boxes_of(8))
    hit = page.post("/api/search", json={"sketch": sketch, "limit": 1}).json()["hits"][0]
    why = page.post("/api/explain", json={"sketch": sketch, "id": hit["id"]}).json()
    cells = sum(map(sum, why["canvas"])) + sum(sum(map(sum, one["cells"])) for one in why["objects"])
    assert why["bias"] + cells == pytest.approx(why["score"]) == pytest.approx(hit["score"], abs=1e-4)
    assert [one["total"] for one in why["objects"]] == [
        pytest.approx(sum(map(sum, one["cells"]))) for one in why["objects"]
    ]


def test_collections_of_the_same_encoder_can_be_chosen_by_name(page, filled) -> None:
    for name, encoder in (("holidays", judging_encoder()), ("foreign", toy().ToyEncoder(fingerprint="another-one"))):
        with SketchCollection.open(name, encoder, uri=filled):
            pass
    assert page.get("/api/session").json()["collections"] == ["photos", "holidays"]
    other = page.get("/api/session", params={"collection": "holidays"}).json()
    assert (other["collection"], other["count"]) == ("holidays", 0)
    answer = page.post("/api/search", json={"sketch": drawing(LEFT), "collection": "holidays"}).json()
    assert (answer["hits"], answer["message"]) == ([], "No photos yet: the collection is empty.")
    for name in ("foreign", "nowhere"):
        refused = page.post("/api/search", json={"sketch": drawing(LEFT), "collection": name})
        assert refused.status_code == 404
        assert refused.json() == {"error": f"there is no collection {name!r} that this encoder can search"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"sketch": drawing(LEFT), "filter": "tag =="}, "filter 'tag ==' was refused by Milvus"),
        ({"sketch": {"width": 10, "height": 10, "objects": []}}, "sketch.objects: List should have at least 1 item"),
        ({"sketch": {"width": 10, "height": 10, "objects": [{}]}}, "it has no ink"),
        ({"sketch": {**drawing(LEFT), "width": 0}}, "sketch.width"),
        ({"sketch": drawing([5, 5, 6, 6])}, "outside the canvas"),
        ({"sketch": drawing(LEFT), "limit": MAX_HITS + 1}, "limit: Input should be less than or equal to 200"),
        ({"sketch": drawing(LEFT), "limit": "20"}, "limit: Input should be a valid integer"),
        ({"sketch": drawing(LEFT), "surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"sketch": drawing(LEFT), "min_confidence": 2}, "min_confidence"),
        ({"sketch": drawing(LEFT), "collection": "../etc"}, "collection: String should match pattern"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(page, body, words) -> None:
    answer = page.post("/api/search", json=body)
    assert answer.status_code in (400, 422)
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_a_photo_that_is_not_there_cannot_be_asked_about(page) -> None:
    sketch = drawing(LEFT)
    for path, body in (("similar", {"id": "none"}), ("explain", {"id": "none", "sketch": sketch})):
        assert page.post(f"/api/{path}", json=body).status_code == 404


def test_an_encoder_that_cannot_explain_says_so(open_page) -> None:
    encoder = toy().ToyEncoder(grid=8)
    page = open_page(encoder)
    assert page.get("/api/session").json()["encoder"]["explains"] is False
    refused = page.post("/api/explain", json={"id": "p01", "sketch": drawing(LEFT)})
    assert refused.status_code == 400
    assert "cannot explain" in refused.json()["error"]
