"""Servers that are slow, answer rubbish, or fall silent: one clear error, in time, or the work is done all the same."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np
import pytest

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.errors import ServerError
from compsketch_milvus.records import ImageRecord, PhotoVector
from compsketch_milvus.server import WAIT
from compsketch_milvus.stages import CHUNK
from tests.integration.noise import record
from tests.integration.standalone import Standalone

HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<h1>Hello</h1>"


@contextmanager
def listener(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that treats each connection with `serve`, in a thread of its own."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def accept() -> None:
            with suppress(OSError):  # closed: the end
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=treat, args=(connection,), daemon=True).start()

        def treat(connection: socket.socket) -> None:
            with closing(connection), suppress(OSError):
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def rubbish(connection: socket.socket) -> None:
    connection.recv(1024)
    connection.sendall(os.urandom(4096))


def web_page(connection: socket.socket) -> None:
    connection.recv(1024)
    connection.sendall(HTTP)


def nothing(connection: socket.socket) -> None:
    while connection.recv(1024):
        pass


@pytest.mark.parametrize("serve", [rubbish, web_page, nothing])
def test_who_is_no_milvus_is_said_in_time(serve, toy_encoder) -> None:
    started = time.monotonic()
    with listener(serve) as uri, pytest.raises(ServerError) as caught:
        SketchCollection.open("photos", toy_encoder, uri=uri)
    assert time.monotonic() - started < 3 * WAIT
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "is it running" in str(caught.value)


def test_a_server_that_takes_no_more_collections_says_so_and_serves_those_it_has(
    milvus_program, tmp_path, monkeypatch, toy_encoder
) -> None:
    for name in ("MAXCOLLECTIONNUM", "MAXCOLLECTIONNUMPERDB"):
        monkeypatch.setenv(f"QUOTAANDLIMITS_LIMITS_{name}", "1")
    server = Standalone(milvus_program, tmp_path / "milvus")
    server.start()
    try:
        with SketchCollection.open("first", toy_encoder, uri=server.uri) as first:
            first.ingest([record(1)])
            with pytest.raises(ServerError, match="reached a limit and could not create the collection") as caught:
                SketchCollection.open("second", toy_encoder, uri=server.uri)
            assert "drop or release collections" in str(caught.value)
            first.ingest([record(2)])
            assert first.count() == 2
    finally:
        server.kill()


class Slow:
    """A way to a server on which everything takes its time.

    Args:
        uri: the server's.
        delay: seconds that each piece of an answer waits.
    """

    def __init__(self, uri: str, delay: float) -> None:
        self.place, self.delay = (urlsplit(uri).hostname, urlsplit(uri).port), delay

    def __call__(self, connection: socket.socket) -> None:
        with closing(socket.create_connection(self.place)) as server:
            threading.Thread(target=self.pass_on, args=(connection, server, 0.0), daemon=True).start()
            self.pass_on(server, connection, self.delay)

    def pass_on(self, source: socket.socket, target: socket.socket, delay: float) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                time.sleep(delay)
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def test_a_slow_server_holds_the_source_back_and_loses_nothing(milvus_server, toy_encoder, monkeypatch) -> None:
    name, total, batch = f"slow_{uuid.uuid4().hex[:8]}", 1200, 8
    written, ahead = [0], []

    def records() -> Iterator[ImageRecord]:
        for index in range(total):
            ahead.append(index - written[0])
            yield record(index)

    with listener(Slow(milvus_server, 0.02)) as uri, SketchCollection.open(name, toy_encoder, uri=uri) as collection:
        upsert = collection.upsert

        def counting(photos: Sequence[PhotoVector]) -> int:
            count = upsert(photos)
            written[0] += count
            return count

        monkeypatch.setattr(collection, "upsert", counting)
        try:
            summary = collection.ingest(records(), batch_size=batch)
            assert (summary.indexed, summary.skipped, summary.failed) == (total, 0, [])
            assert collection.count() == total
        finally:
            collection.drop()
    # A chunk that waits to be decoded, one that is being asked for, and what the stages hold; never the whole source.
    assert max(ahead) < 2 * CHUNK + 8 * batch


def test_searches_and_deletions_among_ingests_see_no_half_truth(milvus_server, toy_encoder) -> None:
    """Two write, one deletes what one of them wrote, two search: all at once, each with a connection of its own."""
    name = f"busy_{uuid.uuid4().hex[:8]}"
    rng = np.random.default_rng(9)
    vectors = np.abs(rng.normal(size=(400, toy_encoder.dim))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    photos = [PhotoVector(f"p{i:03}", f"/photos/{i}.jpg", 64, 48, vector) for i, vector in enumerate(vectors)]
    faults: list[str] = []
    over = threading.Event()

    def opened() -> SketchCollection:
        return SketchCollection.open(name, toy_encoder, uri=milvus_server)

    def write(part: list[PhotoVector]) -> None:
        with opened() as collection:
            for start in range(0, len(part), 10):
                collection.upsert(part[start : start + 10])

    def delete(part: list[PhotoVector]) -> None:
        with opened() as collection:
            pending = [photo.id for photo in part]
            while pending:
                gone = sorted(collection.existing(pending))
                if gone and collection.delete(gone) != len(gone):
                    faults.append(f"not all of {gone} were deleted")
                if left := collection.existing(gone):
                    faults.append(f"deleted and still there: {sorted(left)}")
                pending = [one for one in pending if one not in gone]

    def search() -> None:
        source = {photo.id: photo.source for photo in photos}
        with opened() as collection:
            while not over.is_set():
                hits = collection.search_vector(vectors[0], 50)
                ids = [hit.id for hit in hits]
                if len(set(ids)) < len(ids) or any(source.get(hit.id) != hit.source for hit in hits):
                    faults.append(f"hits {ids}")
                if any(b.distance < a.distance for a, b in pairwise(hits)):
                    faults.append("hits out of order")

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except Exception as error:
                faults.append(f"{type(error).__name__}: {error}")

        return run

    with opened() as collection:
        workers = [
            threading.Thread(target=guarded(work))
            for work in (lambda: write(photos[:200]), lambda: write(photos[200:]), lambda: delete(photos[100:200]))
        ]
        watchers = [threading.Thread(target=guarded(search)) for _ in range(2)]
        for thread in [*workers, *watchers]:
            thread.start()
        for thread in workers:
            thread.join(120)
        over.set()
        for thread in watchers:
            thread.join(60)
        try:
            assert faults == []
            assert not any(thread.is_alive() for thread in [*workers, *watchers])
            assert collection.count() == 300
            assert collection.existing(photo.id for photo in photos) == {p.id for p in photos[:100] + photos[200:]}
        finally:
            collection.drop()
