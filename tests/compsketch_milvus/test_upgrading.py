"""A collection made of another with a new projection or encoder, while people write and read; an alias for readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.aliases import point_alias, rename
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, CompsketchError, FingerprintError, ServerError
from compsketch_milvus.features import FeatureStore
from compsketch_milvus.ingest import ingest
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.sources.walk import rows
from compsketch_milvus.upgrading import upgrade

COUNT = 23


def draw(path: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        draw(folder / f"{number:02}.png", number)
    lines = ["path,year"] + [f"{number:02}.png,{1990 + number}" for number in range(COUNT)]
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def kept(tmp_path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def old(open_collection, photos, kept, toy_encoder) -> SketchCollection:
    """All photos, with a field `year`; features are kept in `kept`."""
    collection = open_collection("photos_1")
    ingest(collection, photos / "list.csv", batch_size=5, keep_features=FeatureStore(kept, toy_encoder))
    return collection


@pytest.fixture
def turned(toy):
    """The same networks with another projection, to 8 dimensions."""
    return toy.TurnedEncoder(dim=8)


@pytest.fixture
def new(open_collection, turned) -> SketchCollection:
    return open_collection("photos_2", turned)


def by_id(collection: SketchCollection) -> dict[str, dict]:
    return {row["id"]: row for page in rows(collection) for row in page}


def check_vectors(collection: SketchCollection) -> None:
    """Each vector is what the collection's encoder makes of its photo."""
    stored = collection.stored(by_id(collection), ["source", "vector"])
    expected = collection.encoder.encode_images([row["source"] for row in stored.values()])
    found = np.array([row["vector"] for row in stored.values()], np.float32)
    assert np.abs(found - expected).max() < 1e-3


def counts(result) -> tuple[int, ...]:
    missing = len(result.missing) + result.missing_dropped
    assert result.rows == result.there + result.projected + result.encoded + missing
    return result.there, result.projected, result.encoded, missing


def test_kept_features_make_the_new_collection_without_the_networks(old, new, kept, turned) -> None:
    said = []
    result = upgrade(old, new, features=kept, progress=lambda *now: said.append(now))
    assert counts(result) == (0, COUNT, 0, 0)
    assert turned.images == 0
    assert by_id(new) == by_id(old)
    assert {row["year"] for row in by_id(new).values()} == {1990 + number for number in range(COUNT)}
    assert said == [("project", COUNT, COUNT)]
    check_vectors(new)


def test_without_features_photos_are_encoded_again_from_their_sources(old, new, turned) -> None:
    assert counts(upgrade(old, new)) == (0, 0, COUNT, 0)
    assert by_id(new) == by_id(old)
    check_vectors(new)


def test_what_lacks_features_is_encoded_and_kept(old, new, kept, turned) -> None:
    parts = sorted(kept.glob("*.parquet"))
    parts[0].unlink()  # five photos
    assert counts(upgrade(old, new, features=kept)) == (0, COUNT - 5, 5, 0)
    assert turned.images == 5
    ids = {photo.id for part in FeatureStore(kept, turned).parts() for photo in part.photos()}
    assert ids == set(by_id(old))
    check_vectors(new)


def test_features_of_a_photo_that_changed_since_are_not_used(old, new, kept, photos, turned) -> None:
    draw(photos / "03.png", 99)
    ingest(old, photos / "list.csv")  # and does not keep features
    assert counts(upgrade(old, new, features=kept)) == (0, COUNT - 1, 1, 0)
    check_vectors(new)


def test_what_can_neither_be_projected_nor_read_is_missing_and_no_alias_is_made(old, new, kept) -> None:
    first = FeatureStore(kept, new.encoder).parts()[-1]
    gone = sorted(Path(photo.facts[0]) for photo in first.photos())[:2]
    first.path.unlink()
    for path in gone:
        path.rename(path.with_suffix(".away"))
    result = upgrade(old, new, features=kept, alias="photos")
    assert counts(result) == (0, COUNT - 5, 3, 2)
    assert sorted(failure.source for failure in result.missing) == [str(path) for path in gone]
    assert all("no such file" in failure.reason.lower() for failure in result.missing)
    assert result.alias is None
    assert not new.client.has_collection("photos")
    assert new.count() == COUNT - 2

    for path in gone:  # found again: the same command goes on, and ends
        path.with_suffix(".away").rename(path)
    result = upgrade(old, new, features=kept, alias="photos")
    assert (counts(result), result.alias) == ((COUNT - 2, 0, 2, 0), "photos")
    check_vectors(new)


def test_an_interrupted_one_goes_on(old, new, kept, monkeypatch) -> None:
    monkeypatch.setattr("compsketch_milvus.upgrading.PAGE", 5)

    class Enough(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 10:
            raise Enough

    with pytest.raises(Enough):
        upgrade(old, new, features=kept, alias="photos", progress=stop)
    done = new.count()
    assert 10 <= done < COUNT
    assert counts(upgrade(old, new, features=kept)) == (done, COUNT - done, 0, 0)
    assert by_id(new) == by_id(old)


def test_features_of_other_networks_are_refused_before_anything_is_done(old, open_collection, toy, kept) -> None:
    other = open_collection("others", toy.ToyEncoder(grid=2, fingerprint="toy-other"))
    with pytest.raises(CompsketchError, match="choose another folder, or that encoder"):
        upgrade(old, other, features=kept)
    assert other.count() == 0


def test_photos_that_the_old_one_lacks_are_named_and_no_alias_is_made(old, new, kept) -> None:
    upgrade(old, new, features=kept)
    extra = next(iter(by_id(old)))
    old.delete([extra])
    with pytest.raises(CollectionError, match=rf"'photos_2' has 23 .* 1 are in 'photos_2' alone \({extra}\)"):
        upgrade(old, new, features=kept, alias="photos")
    assert not new.client.has_collection("photos")
    new.delete([extra])
    assert upgrade(old, new, features=kept, alias="photos").alias == "photos"


def test_a_collection_is_not_made_of_itself(old, open_collection) -> None:
    old.client.create_alias("photos_1", "photos")
    with pytest.raises(CollectionError, match="'photos_1' cannot be made of itself"):
        upgrade(open_collection("photos"), old)


# --- while people write ---


@pytest.fixture
def other(toy, open_collection) -> SketchCollection:
    """Empty, of an encoder with other networks."""
    return open_collection("photos_2", toy.ToyEncoder(grid=2, fingerprint="toy-other"))


def test_what_is_written_meanwhile_is_there_before_readers_change_over(old, other, photos) -> None:
    """A photo comes and one changes, while the last ones are encoded."""
    changed, gone = sorted(by_id(old))[:2]
    source, vector = by_id(old)[changed]["source"], np.eye(16, dtype=np.float32)[0]
    writes = [
        lambda: ingest(old, draw(photos / "late.png", 77)),
        lambda: old.upsert([PhotoVector(changed, source, 40, 30, vector, {"year": 2050})]),
    ]

    def write(stage: str, done: int, total: int) -> None:
        assert not other.client.has_collection("photos")
        if done == total and writes:
            writes.pop()()

    result = upgrade(old, other, alias="photos", progress=write)
    assert (result.rows, result.encoded, result.alias) == (COUNT + 1, COUNT + 2, "photos")
    assert by_id(other) == by_id(old)
    assert by_id(other)[changed]["year"] == 2050
    check_vectors(other)

    old.delete([gone])  # readers are with the new one, which has the say from now on
    assert upgrade(old, other, alias="photos").pruned == 0
    assert other.existing([gone])


def test_what_was_deleted_meanwhile_goes_if_that_is_asked_for(old, other) -> None:
    gone = min(by_id(old))

    def delete(stage: str, done: int, total: int) -> None:
        if done == total:
            old.delete([gone])

    with pytest.raises(
        CollectionError, match=f"1 are in 'photos_2' alone \\({gone}\\); delete them there with --prune"
    ):
        upgrade(old, other, alias="photos", progress=delete)
    assert not other.client.has_collection("photos")
    result = upgrade(old, other, alias="photos", prune=True)
    assert (result.pruned, result.alias) == (1, "photos")
    assert by_id(other) == by_id(old)


def test_whoever_goes_on_writing_is_told_to_stop_and_readers_stay(old, other, photos, monkeypatch) -> None:
    monkeypatch.setattr("compsketch_milvus.upgrading.LOOKS", 4)
    written = []

    def write(stage: str, done: int, total: int) -> None:
        written.append(draw(photos / f"late{len(written)}.png", len(written)))
        ingest(old, written[-1])

    with pytest.raises(CollectionError, match=r"go on being written to 'photos_1', 1 while .* stop whoever writes"):
        upgrade(old, other, alias="photos", progress=write)
    assert not other.client.has_collection("photos")
    assert upgrade(old, other, alias="photos").alias == "photos"
    assert by_id(other) == by_id(old)


def test_writers_may_change_over_after_readers(old, other, photos) -> None:
    """Some still write to the old one, some to the new one: the former's photos come, the latter's stay."""
    upgrade(old, other, alias="photos")
    mine, theirs = draw(photos / "mine.png", 50), draw(photos / "theirs.png", 51)
    ingest(other, mine)
    ingest(old, theirs)
    touched = sorted(by_id(other))[0]
    other.upsert([PhotoVector(touched, str(photos / "00.png"), 1, 1, np.eye(4, dtype=np.float32)[0], {"year": 2040})])
    result = upgrade(old, other, alias="photos")
    assert (result.there, result.encoded, result.alias, result.before) == (COUNT, 1, "photos", "photos_2")
    assert {str(mine), str(theirs)} <= {row["source"] for row in by_id(other).values()}
    assert by_id(other)[touched]["year"] == 2040


def test_some_may_be_missing_if_that_is_allowed(old, other, photos) -> None:
    for number in (3, 4):
        (photos / f"{number:02}.png").unlink()
    assert upgrade(old, other, alias="photos", allow_missing=1).alias is None
    result = upgrade(old, other, alias="photos", allow_missing=2)
    assert (counts(result), result.alias) == ((COUNT - 2, 0, 0, 2), "photos")
    assert other.count() == COUNT - 2


def test_an_alias_of_somebody_else_s_collection_is_left_alone(old, other, open_collection) -> None:
    point_alias("photos", open_collection("theirs"))
    with pytest.raises(CollectionError, match="'photos' names 'theirs', neither 'photos_1' nor 'photos_2'"):
        upgrade(old, other, alias="photos")
    assert other.count() == 0


# --- the alias ---


def test_readers_before_a_change_stay_and_readers_after_it_see_the_new_one(old, new, kept, open_collection, turned):
    assert point_alias("photos", old) is None
    before = open_collection("photos")
    assert before.name == "photos_1"
    result = upgrade(old, new, features=kept, alias="photos")
    assert result.alias == "photos"
    photo = next(iter(by_id(old).values()))["source"]
    assert before.search_image(photo, 1)[0].source == photo  # its encoder, and its collection
    after = open_collection("photos", turned)
    assert (after.name, after.count(), after.search_image(photo, 1)[0].source) == ("photos_2", COUNT, photo)
    both = r"'photos_2' \(alias 'photos'\) was made by .*toy-turned0{10}.*toy-0{16}"
    with pytest.raises(FingerprintError, match=both):
        open_collection("photos")

    again = upgrade(new, old, features=kept, alias="photos")  # back
    assert (counts(again), again.alias) == ((COUNT, 0, 0, 0), "photos")
    assert open_collection("photos").name == "photos_1"


def test_the_name_of_a_collection_is_no_alias_and_the_message_says_what_to_do(old, new, kept, open_collection) -> None:
    with pytest.raises(CollectionError, match="'photos_1' is the name of a collection") as raised:
        upgrade(old, new, features=kept, alias="photos_1")
    assert new.count() == 0
    assert "`compsketch alias photos_1 photos_1_1 --rename`" in str(raised.value)
    with pytest.raises(CollectionError, match="a collection or an alias 'photos_2' already"):
        rename(old, "photos_2")
    assert rename(old, "photos_1_1") == "photos_1"  # as it says
    renamed = open_collection("photos_1")
    assert renamed.name == "photos_1_1"
    assert upgrade(renamed, new, features=kept, alias="photos_1").alias == "photos_1"


def test_an_index_that_is_not_complete_keeps_readers_where_they_are(old, new, kept, monkeypatch) -> None:
    upgrade(old, new, features=kept)
    for waiting in ("flush", "optimize"):  # for the index, as long as it takes
        monkeypatch.setattr(new, waiting, lambda *_: None)
    described = {"state": "InProgress", "index_type": "GPU_IVF_PQ", "indexed_rows": 0}
    monkeypatch.setattr(new.client, "describe_index", lambda *_, **__: described)
    with pytest.raises(ServerError, match="index GPU_IVF_PQ of 'photos_2' is InProgress, with 0 rows"):
        point_alias("photos", new)
    assert not new.client.has_collection("photos")


def test_readers_that_are_there_already_keep_the_collection(old, new, kept, monkeypatch) -> None:
    upgrade(old, new, features=kept, alias="photos")
    waited = []
    monkeypatch.setattr(new, "optimize", lambda *wait: waited.extend(wait))  # a flush of Milvus Lite gives no time
    assert point_alias("photos", new) == "photos_2"
    assert upgrade(old, new, features=kept, alias="photos").alias == "photos"
    assert waited == []


def test_a_bad_name_is_refused(old) -> None:
    with pytest.raises(CollectionError, match="alias 'my photos': use letters"):
        point_alias("my photos", old)
