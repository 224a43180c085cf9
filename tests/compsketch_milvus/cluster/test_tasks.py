"""The stages of a cluster's ingest in this process: what a row becomes, and the same again when it is done again."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from compsketch_milvus.cluster import tasks
from compsketch_milvus.cluster.batch import Batch, pack, unpack
from compsketch_milvus.cluster.setup import EncoderFacts, Environment
from compsketch_milvus.cluster.tasks import Decode, Encode, Reader
from compsketch_milvus.errors import FingerprintError, ServerError, SourceError
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.shard import Shard
from compsketch_milvus.sources import iterate
from compsketch_milvus.sources.access import Access


class Method:
    """A method of an actor that is in this process."""

    def __init__(self, method: Callable) -> None:
        self.remote = method


class Gate:
    """Lets all in, until it is closed."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.closed = False
        self.enter = Method(self._enter)
        self.stopped = Method(lambda: self.closed)

    def _enter(self, shard: int, position: int) -> bool:
        self.asked.append((shard, position))
        return not self.closed


class Keeper:
    """Holds the ids that it is told to hold."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.unchanged = Method(lambda records: {record.id for record in records} & self.ids)


@pytest.fixture(autouse=True)
def answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "answer", lambda answer: answer)
    monkeypatch.setattr(Environment, "enter", lambda self: None)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def read(gate: Gate, keeper: Keeper) -> Callable[..., list[Batch]]:
    """All batches of a shard."""

    def read(source, shard: str = "1/1", *, batch_size: int = 8, window: int = 512, local: bool = True, force=False):
        reader = Reader(
            source, Shard.parse(shard), Access(), Environment({}), batch_size, window, force, gate, keeper, local
        )
        return [unpack(row) for row in reader()]

    return read


def ids(batch: Batch) -> list[str]:
    return [record.id for record in batch.photos] + [outcome.photo.id for outcome in batch.outcomes]


def test_shards_together_are_the_source_and_each_says_how_many_it_had(read, photos):
    shards = [read(photos, f"{number}/3") for number in (1, 2, 3)]
    seen = [id for batches in shards for batch in batches for id in ids(batch)]
    assert sorted(seen) == sorted(record.id for record in iterate(photos))
    assert [batches[-1].total for batches in shards] == [sum(map(len, map(ids, batches))) for batches in shards]


def test_a_reader_started_anew_cuts_the_same_batches_whatever_is_stored_by_then(read, photos, keeper):
    first = [set(ids(batch)) for batch in read(photos)]
    keeper.ids = {record.id for number, record in enumerate(iterate(photos)) if number % 3}
    again = read(photos)
    assert [set(ids(batch)) for batch in again] == first
    assert [outcome.status for batch in again for outcome in batch.outcomes] == ["skipped"] * len(keeper.ids)
    assert all(not batch.outcomes for batch in read(photos, force=True)), "which asks nobody"


def test_refused_and_named_twice_end_with_the_reader(read, photos):
    link, outcomes = photos / "link", []
    source = [photos / "01.png", str(photos), photos / "nowhere.png", link]
    for batch in read(source):
        outcomes += [(Path(outcome.photo.source).name, outcome.status) for outcome in batch.outcomes]
    assert outcomes == [("01.png", "skipped"), ("nowhere.png", "refused"), ("link", "refused")]


def test_what_was_named_longer_ago_than_the_window_is_taken_as_new(read, photos):
    """It has ended by then: the collection, not the reader, knows how."""
    names = [photos / "00.png", *sorted(photos.iterdir()), photos / "00.png"]
    records = [record for name in names for record in iterate(name)]
    assert sum(len(batch.photos) for batch in read(records, window=512)) == 20
    many = [ImageRecord(f"{number % 300}", f"{number}", path=photos / "00.png") for number in range(600)]
    assert sum(len(batch.photos) for batch in read(many, window=20)) > 300


def test_the_gate_is_asked_chunk_by_chunk_and_ends_the_reading(read, photos, gate):
    many = [ImageRecord(f"{number}", f"{number}", path=photos / "00.png") for number in range(300)]
    assert len(read(many)) == 32 + 6 + 1
    assert gate.asked == [(1, 256), (1, 300)]
    gate.closed = True
    assert read(many) == [], "without a word of how many there were"


def test_photos_of_an_archive_travel_as_bytes(read, photos, tmp_path, gate):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(photos / "03.png", "a.png")
        file.writestr("bad.png", "no photo")
    batch = read(archive)[0]
    assert [record.data for record in batch.photos] == [(photos / "03.png").read_bytes(), b"no photo"]
    assert all(record.fetch is None for record in batch.photos)
    decoded = unpack(Decode(16, Access(), Environment({}), gate, local=False)(pack(batch)))
    assert [(record.source, photo.pixels.shape) for record, photo in decoded.photos] == [
        (f"{archive.resolve()}!/a.png", (16, 16, 3))
    ]
    (failed,) = decoded.outcomes
    assert failed.reason.endswith(")"), "and on which worker"
    assert "not a photo" in failed.reason


def test_a_source_that_the_worker_does_not_see_is_said_as_that(read, tmp_path):
    (here,) = read(tmp_path / "nowhere")
    assert isinstance(here.fault, SourceError)
    assert str(here.fault) == f"{tmp_path / 'nowhere'}: no such file or folder; check the path"
    (there,) = read(tmp_path / "nowhere", local=False)
    assert str(there.fault).startswith("worker ")
    assert "every worker has to see the source under this name" in str(there.fault)


def test_once_the_gate_is_closed_nothing_more_is_decoded(read, photos, gate):
    batch = read(photos)[0]
    gate.closed = True
    left = unpack(Decode(16, Access(), Environment({}), gate, local=True)(pack(batch)))
    assert (left.photos, [outcome.status for outcome in left.outcomes]) == ([], ["abandoned"] * 8)


class TestEncode:
    """In the actor, with the work of `stages.encode`."""

    @pytest.fixture
    def batch(self, read, photos, gate) -> Batch:
        return unpack(Decode(32, Access(), Environment({}), gate, local=True)(pack(read(photos)[0])))

    def test_pixels_become_vectors(self, batch, toy_encoder):
        row = Encode(lambda: toy_encoder, EncoderFacts.of(toy_encoder), Environment({}), lambda work: work())(
            pack(batch)
        )
        encoded = unpack(row)
        assert [photo.vector.shape for photo in encoded.photos] == [(16,)] * 8
        assert toy_encoder.batches == 1

    def test_another_encoder_than_the_collections_is_refused_by_name(self, batch, toy, toy_encoder):
        facts = EncoderFacts.of(toy.ToyEncoder(fingerprint="toy-another000000000"))
        broken = unpack(Encode(lambda: toy_encoder, facts, Environment({}), lambda work: work())(pack(batch)))
        assert (broken.photos, type(broken.fault)) == ([], FingerprintError)
        assert "toy-another000000000" in str(broken.fault)

    def test_a_service_that_stays_away_breaks_the_ingest_and_fails_no_photo(self, batch, toy_encoder, monkeypatch):
        def away(images):
            raise ServerError("nobody there", transient=True)

        monkeypatch.setattr(toy_encoder, "encode_images", away)
        encode = Encode(lambda: toy_encoder, EncoderFacts.of(toy_encoder), Environment({}), lambda work: work())
        broken = unpack(encode(pack(batch)))
        assert (str(broken.fault), broken.fault.transient, broken.outcomes) == ("nobody there", True, [])
