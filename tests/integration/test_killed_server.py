"""The server killed in the middle of an ingest (SIGKILL), and back: what it acknowledged is there, the rest follows."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.records import ImageRecord
from compsketch_milvus.retry import Backoff, Retry
from tests.integration.noise import record

TOTAL, BATCH, KILLED_AT = 600, 10, 200


def counted(collection: SketchCollection) -> int:
    """The count, from a server that may still be busy with coming back."""
    return Retry(Backoff(deadline=120), lambda seconds: bool(time.sleep(seconds)))(collection.count)


def test_an_ingest_outlives_its_server(restartable_server, toy_encoder) -> None:
    server = restartable_server
    acknowledged: list[int] = []
    killed, back = threading.Event(), threading.Event()

    def records() -> Iterator[ImageRecord]:
        for index in range(TOTAL):
            time.sleep(0.005)
            yield record(index)

    def strike() -> None:
        killed.wait()
        server.kill()
        time.sleep(2)
        server.start()
        back.set()

    def progress(now) -> None:
        if now.indexed >= KILLED_AT and not killed.is_set():
            acknowledged.append(now.indexed)
            killed.set()

    striking = threading.Thread(target=strike)
    striking.start()
    with SketchCollection.open("outlives", toy_encoder, uri=server.uri) as collection:
        summary = collection.ingest(records(), batch_size=BATCH, progress=progress)
        striking.join(300)
        assert back.is_set()
        assert KILLED_AT <= acknowledged[0] < TOTAL, "it was killed in the middle"
        assert (summary.read, summary.indexed, summary.skipped, summary.failed) == (TOTAL, TOTAL, 0, [])
        assert counted(collection) == TOTAL
        assert len(collection.existing(record(index).id for index in range(TOTAL))) == TOTAL
    server.kill()
    server.start()
    with SketchCollection.open("outlives", toy_encoder, uri=server.uri) as collection:
        assert counted(collection) == TOTAL, "it is on disk, not only in memory"
        assert collection.ingest(map(record, range(TOTAL))).skipped == TOTAL
