"""From one projection to another on a real server, with readers that watch, writers that do not stop, and kills."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymilvus import MilvusClient

from compsketch_milvus.aliases import point_alias
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import CollectionError, FingerprintError
from compsketch_milvus.features import FeatureStore
from compsketch_milvus.fitting import fit_projection
from compsketch_milvus.ingest import ingest
from compsketch_milvus.records import PhotoVector
from compsketch_milvus.sources.walk import rows
from compsketch_milvus.upgrading import open_successor, upgrade
from encoders.bundle import Bundle
from encoders.projection import Projection

pytestmark = pytest.mark.xdist_group("milvus")

ROOT = Path(__file__).parents[2]
COUNT, F, BATCH = 1300, 64, 100  # more than the 1024 rows from which on Milvus builds an index


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    lines = ["path,year", *(f"{number:04}.png,{1900 + number % 100}" for number in range(COUNT))]
    (folder / "list.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def bundle() -> Bundle:
    """Of the toy on a grid of 8 x 8, with a projection that has seen nothing."""
    matrix = np.linalg.qr(np.random.default_rng(0).normal(size=(F, 16)))[0].T.astype(np.float32)
    return Bundle({"name": "toy", "dim": 16}, Projection(matrix, np.zeros(16, np.float32)).to_tensors())


@pytest.fixture
def names(milvus_server: str) -> Iterator[tuple[str, str, str]]:
    """Of the old collection, the new one and the alias; all are dropped at the end."""
    mark = uuid.uuid4().hex[:8]
    old, new, alias = f"b_{mark}_1", f"b_{mark}_2", f"b_{mark}"
    yield old, new, alias
    with closing(MilvusClient(milvus_server)) as client:
        client.drop_alias(alias)
        client.drop_collection(old)
        client.drop_collection(new)


@pytest.fixture
def open_(milvus_server: str) -> Iterator[Callable[..., SketchCollection]]:
    opened = []

    def open_one(name: str, encoder=None, **options) -> SketchCollection:
        opened.append(SketchCollection.open(name, encoder, uri=milvus_server, **options))
        return opened[-1]

    yield open_one
    for collection in opened:
        collection.close()


@pytest.fixture
def old(open_, names, photos, bundle, toy, tmp_path) -> SketchCollection:
    """All photos, with a field `year`; all features are kept."""
    encoder = toy.BundledEncoder(bundle)
    collection = open_(names[0], encoder)
    ingest(collection, photos / "list.csv", batch_size=BATCH, keep_features=FeatureStore(tmp_path / "kept", encoder))
    return collection


def by_id(collection: SketchCollection) -> dict[str, dict]:
    return {row["id"]: row for page in rows(collection) for row in page}


class Reader(threading.Thread):
    """Opens an alias again and again, with whichever encoder fits, and looks at all that it finds there."""

    def __init__(self, open_one: Callable[[object], SketchCollection], encoders: list, photo: Path) -> None:
        super().__init__(daemon=True)
        self.open_one, self.encoders, self.photo = open_one, encoders, photo
        self.seen: list[tuple[str, int, bool]] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            for encoder in self.encoders:
                try:
                    with self.open_one(encoder) as photos:
                        found = photos.search_image(self.photo, 1)[0].source == str(self.photo)
                        self.seen.append((photos.name, photos.count(), found))
                except FingerprintError:
                    continue  # the alias names the other one now


def test_the_whole_walk_with_a_reader_that_watches(open_, old, names, photos, bundle, toy, tmp_path, milvus_server):
    _, name, alias = names
    point_alias(alias, old)
    stays = open_(alias, old.encoder)
    assert stays.name == old.name

    store = sorted((tmp_path / "kept").glob("*.parquet"))
    store[3].unlink()  # of a hundred photos the features are lost
    fitted = fit_projection(old, bundle, samples=600, dim=8, m=4, features=tmp_path / "kept")
    assert fitted.bundle.config["projection"]["fitted_on"]["rows"] == COUNT
    encoder = toy.BundledEncoder(fitted.bundle)

    photo = photos / "0007.png"
    reader = Reader(
        lambda one: SketchCollection.open(alias, one, uri=milvus_server, create=False),
        [toy.BundledEncoder(bundle), toy.BundledEncoder(fitted.bundle)], photo,
    )  # fmt: skip
    reader.start()
    with open_successor(old, name, encoder, uri=milvus_server) as new:
        result = upgrade(old, new, features=tmp_path / "kept", alias=alias)
        assert (result.rows, result.projected, result.encoded, result.missing) == (COUNT, COUNT - BATCH, BATCH, [])
        assert encoder.images == BATCH
        assert by_id(new) == by_id(old)
        assert new.info()["index"]["state"] == "Finished"
        stored = new.stored(by_id(new), ["source", "vector"])
    found = np.array([row["vector"] for row in stored.values()], np.float32)
    assert np.abs(found - encoder.encode_images([row["source"] for row in stored.values()])).max() < 2e-3
    seen = len(reader.seen)
    while len(reader.seen) < seen + 2 and reader.is_alive():
        time.sleep(0.1)
    reader.done.set()
    reader.join()
    assert {name for name, _, _ in reader.seen} == {old.name, name}
    assert all(count == COUNT and same for _, count, same in reader.seen)
    assert stays.search_image(photo, 1)[0].source == str(photo)  # and is where it was

    with pytest.raises(FingerprintError, match=rf"'{name}' \(alias '{alias}'\) was made by .*{encoder.fingerprint}"):
        open_(alias, old.encoder)
    new = open_(alias, encoder)
    back = upgrade(new, old, alias=alias)
    assert (back.rows, back.there, back.alias) == (COUNT, COUNT, alias)
    assert open_(alias, toy.BundledEncoder(bundle)).name == old.name


def test_a_photo_written_meanwhile_is_noticed_before_readers_change_over(open_, old, names, toy, tmp_path) -> None:
    _, name, alias = names
    new = open_(name, toy.TurnedEncoder(grid=8))
    new.encoder.networks = old.encoder.networks
    late = [PhotoVector("zz", "/photos/late.png", 8, 8, np.eye(16, dtype=np.float32)[0])]

    def write(stage: str, done: int, total: int) -> None:
        if stage == "encode":  # the last that is said before the counts
            old.upsert(late)

    kept = tmp_path / "kept"
    with pytest.raises(
        CollectionError, match=rf"has {COUNT} photos and lacks 0, but .* has {COUNT + 1}: .* run it again"
    ):
        upgrade(old, new, features=kept, alias=alias, progress=write)
    assert not new.client.has_collection(alias)
    again = upgrade(old, new, features=kept, alias=alias)
    assert ([one.source for one in again.missing], again.alias) == (["/photos/late.png"], None)
    old.delete(["zz"])
    assert upgrade(old, new, features=kept, alias=alias).alias == alias


def test_killed_again_and_again_it_goes_on(open_, old, names, toy, tmp_path, milvus_server) -> None:
    """Killed at the first, second, ... upsert of each run: every run brings some photos over, none is lost."""
    program = """
        import os, sys
        from compsketch_milvus import upgrading
        from compsketch_milvus.collection import SketchCollection
        from toy import TurnedEncoder

        uri, old, new, networks, kept, last = sys.argv[1:]
        encoder = TurnedEncoder(grid=8)
        encoder.networks = networks
        upgrading.PAGE = 100
        upserts, upsert = [], SketchCollection.upsert
        def mortal(self, photos):
            if len(upserts) == int(last):
                os.kill(os.getpid(), 9)
            upserts.append(1)
            return upsert(self, photos)
        SketchCollection.upsert = mortal
        with SketchCollection.open(old, None, uri=uri) as a, SketchCollection.open(new, encoder, uri=uri) as b:
            result = upgrading.upgrade(a, b, features=kept)
        print(result.there, result.projected)
    """
    arguments = [milvus_server, *names[:2], old.encoder.networks, str(tmp_path / "kept")]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])

    def run(last: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), *arguments, str(last)],
            env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    done = 0
    for last in (0, 1, 3):
        assert run(last).returncode == -9
        done += last * BATCH
    ended = run(1000)
    assert ended.stdout.split() == [str(done), str(COUNT - done)], ended.stderr
    assert by_id(open_(names[1])) == by_id(old)
