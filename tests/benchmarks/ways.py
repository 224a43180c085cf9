"""Ways to search photos by vectors behind one call, and what one of them costs in a process of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.search import search_vectors
from encoders.evaluation.ranking import rank
from encoders.evaluation.scores import DEEP
from tests.benchmarks.given import Vectors, photo
from tests.benchmarks.test_scale import SEGMENTS, size_of
from tests.integration.standalone import Standalone

SHOWN, CLIENTS = 10, 4
STORED = (
    "insert_log",
    "stats_log",
    "delta_log",
    "index_files",
)  # its data but for the queue of messages
ASKED, WARM = 200, 20  # queries against the clock, at most, and before it


@dataclass
class Built:
    """An index that is ready.

    Attributes:
        search: (query (d,), k) -> rows (k,), best first.
        index_bytes: of the index; of an exact search, its vectors.
        stored_bytes: of all that is on a disk: the index, and what it searches or ranks again by.
        server_memory: bytes that another process holds more than before.
    """

    search: Callable[[np.ndarray, int], np.ndarray]
    index_bytes: int
    stored_bytes: int
    server_memory: int = 0


class Way(Protocol):
    """How photos are searched."""

    def built(self, vectors: np.ndarray, folder: Path) -> AbstractContextManager[Built]:
        """Index vectors (n, d), with a folder for files of its own."""
        ...


@dataclass(frozen=True)
class Flat:
    """Every vector as it is, and an exact search in this process."""

    @contextmanager
    def built(self, vectors: np.ndarray, folder: Path) -> Iterator[Built]:
        import faiss

        index = faiss.IndexFlatIP(vectors.shape[1])
        for start in range(0, len(vectors), 4096):
            index.add(np.ascontiguousarray(vectors[start : start + 4096], np.float32))
        yield _in_process(index, folder)


@dataclass(frozen=True)
class Factory:
    """An index of faiss by its name, in this process, as it is: its distances are those of its codes.

    Attributes:
        spec: for `faiss.index_factory`.
        nprobe: lists that a query looks into.
        training: the vectors that it learns from; None: those that it indexes.
    """

    spec: str
    nprobe: int
    training: np.ndarray | None = None

    @contextmanager
    def built(self, vectors: np.ndarray, folder: Path) -> Iterator[Built]:
        import faiss

        index = faiss.index_factory(vectors.shape[1], self.spec, faiss.METRIC_L2)
        index.train(np.ascontiguousarray(vectors if self.training is None else self.training, np.float32))
        index.add(np.ascontiguousarray(vectors, np.float32))
        faiss.extract_index_ivf(index).nprobe = self.nprobe
        yield _in_process(index, folder)


def _in_process(index: object, folder: Path) -> Built:
    import faiss

    faiss.write_index(index, str(folder / "index"))
    size = (folder / "index").stat().st_size
    return Built(lambda query, k: index.search(query[None], k)[1][0], size, size)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Server:
    """This package with a real server: IVF_PQ, and the best of it ranked again on the stored vectors.

    Attributes:
        program: `milvus-server`.
    """

    program: Path

    @contextmanager
    def built(self, vectors: np.ndarray, folder: Path) -> Iterator[Built]:
        server = Standalone(self.program, folder, environment=SEGMENTS)
        server.start()
        try:
            idle = server.memory()
            with SketchCollection.open("peers", Vectors(vectors.shape[1]), uri=server.uri, index="IVF_PQ") as photos:
                _fill(photos, vectors)
                data = folder / "data"
                stored = {name: size_of(data / name) for name in STORED}
                memory = server.memory() - idle
                yield Built(_searching(photos), stored["index_files"], sum(stored.values()), memory)
        finally:
            server.kill()


@dataclass(frozen=True)
class Lite:
    """This package with Milvus Lite, in this process."""

    @contextmanager
    def built(self, vectors: np.ndarray, folder: Path) -> Iterator[Built]:
        path = folder / "photos.db"
        with SketchCollection.open("peers", Vectors(vectors.shape[1]), uri=str(path)) as photos:
            _fill(photos, vectors)
            stored = size_of(path) if path.is_dir() else path.stat().st_size
            per_row = photos.index.consequences.report(len(vectors), vectors.shape[1])["index_bytes"]
            yield Built(_searching(photos), per_row, stored)


def _fill(photos: SketchCollection, vectors: np.ndarray) -> None:
    photos.upsert(photo(row, vector) for row, vector in enumerate(vectors))
    photos.flush()
    photos.optimize(wait=1800)


def _searching(photos: SketchCollection) -> Callable[[np.ndarray, int], np.ndarray]:
    def search(query: np.ndarray, k: int) -> np.ndarray:
        return np.array([int(hit.id[1:]) for hit in search_vectors(photos, query[None], k)[0]])

    return search


@dataclass(frozen=True)
class Cost:
    """What a way costs and finds, of n vectors.

    Attributes:
        index_bytes: a photo.
        stored_bytes: a photo.
        memory: bytes more than before, of this process and of a server.
        seconds: to index all photos, training included.
        rate: queries a second of one client.
        rate_of_four: of four clients together.
        recall: part of the true ten nearest, by the same vectors, that are among the first ten.
        found: (Q, 200) rows, best first; -1 where it finds fewer.
    """

    index_bytes: float
    stored_bytes: float
    memory: int
    seconds: float
    rate: float
    rate_of_four: float
    recall: float
    found: np.ndarray


def cost(way: Way, vectors: np.ndarray, queries: np.ndarray) -> Cost:
    """Measure a way in a process of its own, so that memory is its own.

    Args:
        way: what to measure.
        vectors: (n, d) float32 unit vectors.
        queries: (Q, d) unit vectors.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.save(file := Path(folder) / "vectors.npy", vectors)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_cost, way, file, queries).result()


def _cost(way: Way, file: Path, queries: np.ndarray) -> Cost:
    vectors, queries = np.load(file, mmap_mode="r"), np.ascontiguousarray(queries, np.float32)
    timed = [*queries, *queries][:ASKED]
    with tempfile.TemporaryDirectory() as folder:
        before, started = _own_memory(), time.perf_counter()
        with way.built(vectors, Path(folder)) as built:
            seconds, memory = time.perf_counter() - started, _own_memory() - before + built.server_memory
            for query in timed[:WARM]:
                built.search(query, SHOWN)
            rates = [_rate(built, timed, clients) for clients in (1, CLIENTS)]
            found = np.stack([_filled(built.search(query, DEEP)) for query in queries])
    nearest = rank(queries, vectors, SHOWN)
    recall = np.mean([len({*true} & {*row[:SHOWN]}) / SHOWN for true, row in zip(nearest, found, strict=True)])
    each = (built.index_bytes / len(vectors), built.stored_bytes / len(vectors))
    return Cost(*each, memory, seconds, *rates, float(recall), found)


def _rate(built: Built, queries: list[np.ndarray], clients: int) -> float:
    """Queries a second, `clients` at once."""
    with ThreadPoolExecutor(clients) as pool:
        started = time.perf_counter()
        list(pool.map(lambda query: built.search(query, SHOWN), queries))
        return len(queries) / (time.perf_counter() - started)


def _filled(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.full(DEEP - len(rows), -1)])


def _own_memory() -> int:
    """Bytes of this process that are in no file: the vectors to index are mapped from one."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)
