"""Kept features: what is added is read back, the newest counts, a kill leaves whole parts; others' are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compsketch_milvus.errors import CompsketchError
from compsketch_milvus.features import FeatureStore
from compsketch_milvus.ingest import ingest
from compsketch_milvus.records import ImageRecord, PhotoVector

REPOSITORY = Path(__file__).parents[2]


def photo(id: str, value: float, mtime: int = 1, **fields) -> PhotoVector:
    """A photo of the toy encoder, all of whose features have one value."""
    vector, features = np.full(16, 0.25, np.float32), np.full(16, value, np.float32)
    return PhotoVector(id, f"/photos/{id}.jpg", 40, 30, vector, {"bytes": 9, "mtime": mtime, **fields}, features)


def held(store: FeatureStore) -> dict[str, float]:
    """The first feature of each photo, the newest part's."""
    found: dict[str, float] = {}
    for part in store.parts():
        rows = part.features(range(len(part.photos())))
        for kept, row in zip(part.photos(), rows, strict=True):
            found.setdefault(kept.id, float(row[0]))
    return found


def test_what_is_added_is_read_back_by_another_store(tmp_path, toy_encoder) -> None:
    FeatureStore(tmp_path, toy_encoder).add([photo("a", 0.1), photo("b", 200.7, tag="x")])
    (part,) = FeatureStore(tmp_path, toy_encoder).parts()
    assert [(kept.id, kept.facts) for kept in part.photos()] == [
        ("a", ("/photos/a.jpg", 9, 1, None)), ("b", ("/photos/b.jpg", 9, 1, None)),
    ]  # fmt: skip
    features = part.features([1, 0])
    assert (features.shape, features.dtype) == ((2, 16), np.float16)
    assert np.allclose(features[:, 0], [200.7, 0.1], rtol=1e-3)


def test_parts_are_parquet_that_anything_reads(tmp_path, toy_encoder) -> None:
    import pyarrow.parquet as pq

    path = FeatureStore(tmp_path, toy_encoder).add([photo("a", 2.0, tag="x")])
    (row,) = pq.read_table(path).to_pylist()
    assert row == {
        "id": "a", "source": "/photos/a.jpg", "width": 40, "height": 30,
        "fields": '{"bytes": 9, "mtime": 1, "tag": "x"}', "features": [2.0] * 16,
    }  # fmt: skip
    assert pq.read_schema(path).metadata == {b"compsketch.features": b"1", b"networks": toy_encoder.networks.encode()}


def test_of_a_photo_in_several_parts_the_newest_counts(tmp_path, toy_encoder, monkeypatch) -> None:
    store = FeatureStore(tmp_path, toy_encoder)
    store.add([photo("a", 1), photo("b", 1)])
    monkeypatch.setattr("time.time_ns", lambda: 5)  # a clock that was set back
    store.add([photo("b", 2, mtime=2)])
    again = FeatureStore(tmp_path, toy_encoder)
    again.add([photo("c", 3)])
    for one in (store, again, FeatureStore(tmp_path, toy_encoder)):
        assert held(one) == {"a": 1, "b": 2} | ({} if one is store else {"c": 3})


def test_it_knows_which_photos_it_holds_as_they_are(tmp_path, toy_encoder) -> None:
    store = FeatureStore(tmp_path, toy_encoder)
    store.add([photo("a", 1)])
    record = ImageRecord("a", "/photos/a.jpg", Path("/photos/a.jpg"), fields={"bytes": 9, "mtime": 1, "tag": "new"})
    assert store.holds(record)
    assert not store.holds(replace(record, fields={"bytes": 9, "mtime": 2}))
    assert not store.holds(replace(record, id="b"))
    store.add([photo("a", 1, mtime=2), photo("b", 1)])
    assert not store.holds(record)
    assert store.holds(replace(record, fields={"bytes": 9, "mtime": 2}))


def test_features_of_other_networks_are_refused(tmp_path, toy, toy_encoder) -> None:
    FeatureStore(tmp_path, toy_encoder).add([photo("a", 1)])
    assert len(FeatureStore(tmp_path, toy.TurnedEncoder(dim=8)).parts()) == 1  # another projection, the same networks
    with pytest.raises(CompsketchError, match=r"features of the networks toy-networks-4, but .* are toy-networks-2"):
        FeatureStore(tmp_path, toy.ToyEncoder(grid=2))


def test_an_encoder_without_a_projection_of_its_own_is_refused(tmp_path) -> None:
    class Service:
        name = "service"

    with pytest.raises(CompsketchError, match="'service' cannot tell its projection from its networks"):
        FeatureStore(tmp_path, Service())


def test_what_half_precision_cannot_hold_is_refused_by_name(tmp_path, toy_encoder) -> None:
    with pytest.raises(CompsketchError, match=r"/photos/b.jpg: its features do not fit"):
        FeatureStore(tmp_path, toy_encoder).add([photo("a", 1), photo("b", 1e6)])
    assert not list(tmp_path.iterdir())


def test_a_damaged_part_is_named(tmp_path, toy_encoder) -> None:
    path = FeatureStore(tmp_path, toy_encoder).add([photo("a", 1)])
    store = FeatureStore(tmp_path, toy_encoder)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3] + bytes(len(content) - len(content) // 3))
    with pytest.raises(CompsketchError, match=f"{path.name}: kept features cannot be read"):
        store.parts()[0].photos()
    with pytest.raises(CompsketchError, match=f"{path.name}: is no part of kept features"):
        FeatureStore(tmp_path, toy_encoder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path, toy_encoder) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CompsketchError, match="file: is no folder"):
        FeatureStore(tmp_path / "file", toy_encoder)
    with pytest.raises(CompsketchError, match=r"features cannot be kept \(Not a directory\)"):
        FeatureStore(tmp_path / "file" / "below", toy_encoder).add([photo("a", 1)])


# --- an ingest that keeps features ---


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def test_what_is_kept_projects_to_what_is_stored(tmp_path, photos, collection, toy_encoder) -> None:
    store = FeatureStore(tmp_path / "kept", toy_encoder)
    assert ingest(collection, photos, batch_size=5, keep_features=store).indexed == 12
    parts = FeatureStore(tmp_path / "kept", toy_encoder).parts()
    ids = [kept.id for part in parts for kept in part.photos()]
    vectors = np.concatenate([toy_encoder.project(part.features(range(len(part.photos())))) for part in parts])
    stored = collection.stored(ids, ["vector"])
    assert len(stored) == len(ids) == 12
    for id, vector in zip(ids, vectors, strict=True):
        assert np.abs(vector - stored[id]["vector"]).max() < 1e-3
    assert toy_encoder.images == 12  # encoded once for both


def test_what_the_collection_alone_holds_is_encoded_again(tmp_path, photos, collection, toy_encoder) -> None:
    ingest(collection, photos)
    store = FeatureStore(tmp_path / "kept", toy_encoder)
    assert ingest(collection, photos, keep_features=store).indexed == 12
    assert ingest(collection, photos, keep_features=store).skipped == 12
    assert len(held(store)) == 12


def test_a_kill_between_the_two_leaves_features_without_a_row_and_never_a_row_without(tmp_path, photos) -> None:
    program = """
        import os, sys
        from compsketch_milvus.features import FeatureStore
        from compsketch_milvus.ingest import ingest
        from toy import ToyEncoder

        class Collection:
            encoder, rows = ToyEncoder(), 0
            def stored(self, ids, fields):
                return {}
            def upsert(self, photos):
                if self.rows:
                    os.kill(os.getpid(), 9)
                self.rows += len(photos)
                print(*[photo.id for photo in photos], flush=True)
            def flush(self):
                pass

        collection = Collection()
        ingest(collection, sys.argv[1], batch_size=4, keep_features=FeatureStore(sys.argv[2], collection.encoder))
    """
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(photos), str(tmp_path / "kept")],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    acknowledged = done.stdout.split()
    assert (done.returncode, len(acknowledged)) == (-9, 4), done.stderr
    import pyarrow.parquet as pq

    kept = [row for part in sorted((tmp_path / "kept").glob("part-*")) for row in pq.read_table(part).to_pylist()]
    assert set(acknowledged) < {row["id"] for row in kept}
    assert len(kept) == 8
