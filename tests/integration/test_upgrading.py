"""From one projection or encoder to another on a real server, with readers that watch, writers, and kills."""

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

from compsketch_milvus.aliases import point_alias, rename
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import FingerprintError
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


def finds(photos: SketchCollection, photo: Path) -> bool:
    """Whether a photo finds itself."""
    [hit] = photos.search_image(photo, 1)
    return hit.source == str(photo) and hit.distance < 0.05


class Reader(threading.Thread):
    """Opens an alias again and again, with whichever encoder fits, and looks at all that it finds there.

    Vectors of two encoders have nothing to do with each other: a photo finds itself, and at no distance, only where the
    encoder is the one of the collection.
    """

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
                        self.seen.append((photos.name, photos.count(), finds(photos, self.photo)))
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
    # Features are kept in half precision, which 8 dimensions show more of than 256.
    assert np.abs(found - encoder.encode_images([row["source"] for row in stored.values()])).max() < 5e-3
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


def test_another_encoder_and_back_while_people_search_and_write(
    open_, old, names, photos, toy, tmp_path, milvus_server
):
    """Two readers: one that was there before, and one that opens the alias again and again."""
    _, name, alias = names
    point_alias(alias, old)
    other, photo = toy.ToyEncoder(grid=4, fingerprint="toy-other"), photos / "0007.png"
    assert other.dim == old.dim  # or Milvus itself would refuse a mixture
    stays, found = open_(alias, old.encoder, create=False), []
    comes = Reader(
        lambda one: SketchCollection.open(alias, one, uri=milvus_server, create=False), [old.encoder, other], photo
    )
    over = threading.Event()

    def stay() -> None:
        while not over.is_set():
            found.append(finds(stays, photo))

    def write(stage: str, done: int, total: int) -> None:
        if done == total and len(late) < 3:  # a photo a round
            late.append(tmp_path / f"late{len(late)}.png")
            Image.fromarray(np.full((8, 8, 3), 40 * len(late), np.uint8)).save(late[-1])
            ingest(old, late[-1])

    late: list[Path] = []
    staying = threading.Thread(target=stay)
    comes.start()
    staying.start()
    try:
        with open_successor(old, name, other, uri=milvus_server) as new:
            result = upgrade(old, new, alias=alias, batch_size=BATCH, progress=write)
            assert (result.alias, result.before, result.missing) == (alias, old.name, [])
            assert (result.rows, new.count(), old.count()) == (COUNT + len(late),) * 3
            assert len(late) == 3
            assert by_id(new) == by_id(old)
            until(lambda: comes.seen and comes.seen[-1][0] == name)
            assert point_alias(alias, old) == name
            until(lambda: comes.seen[-1][0] == old.name)
    finally:
        over.set()
        comes.done.set()
        comes.join()
        staying.join()
    assert len(found) > 10
    assert all(found)
    changes = [one for one, before in zip(comes.seen, [("",), *comes.seen], strict=False) if one[0] != before[0]]
    assert [at for at, _, _ in changes] == [old.name, name, old.name]
    assert {count for at, count, _ in comes.seen if at == name} == {COUNT + len(late)}
    assert all(same for _, _, same in comes.seen)


def until(reached: Callable[[], object]) -> None:
    """Wait for what a thread is to see; a minute at most."""
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end, "the reader does not see the change"
        time.sleep(0.05)


def test_a_photo_written_meanwhile_is_noticed_before_readers_change_over(open_, old, names, toy, tmp_path) -> None:
    _, name, alias = names
    new = open_(name, toy.TurnedEncoder(grid=8))
    new.encoder.networks = old.encoder.networks
    late = [PhotoVector("zz", "/photos/late.png", 8, 8, np.eye(16, dtype=np.float32)[0])]

    def write(stage: str, done: int, total: int) -> None:
        if stage == "project" and done == total:
            old.upsert(late)

    kept = tmp_path / "kept"
    result = upgrade(old, new, features=kept, alias=alias, progress=write)
    assert ([one.source for one in result.missing], result.alias) == (["/photos/late.png"], None)
    assert not new.client.has_collection(alias)
    old.delete(["zz"])
    assert upgrade(old, new, features=kept, alias=alias).alias == alias


def test_a_collection_gets_another_name_and_readers_an_alias(open_, names, photos, toy) -> None:
    own, _, name = names
    collection, photo = open_(own, toy.ToyEncoder()), photos / "0007.png"
    ingest(collection, photo)
    assert rename(collection, name) == own
    again = open_(own, toy.ToyEncoder())
    assert (again.name, again.count(), finds(again, photo)) == (name, 1, True)
    again.client.drop_alias(own)
    again.call("rename the collection", "rename_collection", new_name=own)


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
