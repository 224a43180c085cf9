"""The collection for programs that run an event loop: the same operations, awaited.

Milvus is asked through pymilvus' AsyncMilvusClient, for Milvus Lite as for a server. What computes (encoding, cutting
rows into messages, ranking) runs in one thread of this object, one thing after the other, so that the loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, cast

from compsketch_milvus import contents, search
from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.steps import Done, Steps, Work, advance, operation
from compsketch_milvus.terms import Terms
from encoders.request import carried

if TYPE_CHECKING:
    import numpy as np
    from pymilvus import AsyncMilvusClient

    from compsketch_milvus.encoder import Encoder, ImageLike
    from compsketch_milvus.ranking import Hit
    from compsketch_milvus.records import PhotoVector
    from compsketch_milvus.search import SearchResult
    from encoders.sketch import Sketch

__all__ = ["AsyncSketchCollection"]

T = TypeVar("T")


class AsyncSketchCollection:
    """Photos as vectors, searched with sketches without holding up an event loop. Made by `open`; a context manager.

    Many coroutines may use one of these at once, on the loop that opened it. A call that is cancelled sends nothing
    more; a message that Milvus has received by then is carried out.

    Attributes:
        name: of the collection.
    """

    def __init__(self, collection: SketchCollection, client: AsyncMilvusClient, thread: ThreadPoolExecutor) -> None:
        self.name = collection.name
        self._collection, self._client, self._thread = collection, client, thread

    @classmethod
    async def open(cls, name: str, encoder: Encoder | None, **options: Any) -> AsyncSketchCollection:
        """Open a collection, or make it; arguments and errors as for `SketchCollection.open`."""
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"compsketch {name}")
        opening = thread.submit(carried(SketchCollection.open), name, encoder, **options)
        try:
            collection = await asyncio.wrap_future(opening)
            return cls(collection, collection.connect_async(), thread)
        except BaseException:
            opening.add_done_callback(_closed)  # cancelled, it may still open
            thread.shutdown(wait=False)
            raise

    async def search(self, sketch: Sketch, limit: int = 20, filter: str = "", **options: Any) -> list[Hit]:
        """The photos that hold a sketch's objects in its layout, best first; see `compsketch_milvus.search.search`."""
        return (await self.search_many([sketch], limit, filter, **options))[0].hits

    async def search_many(
        self,
        sketches: Sequence[Sketch],
        limit: int = 20,
        filter: str = "",
        *,
        words: bool = False,
        min_confidence: float | None = None,
        **terms: Any,
    ) -> list[SearchResult]:
        """`search` for many sketches at once; see `compsketch_milvus.search.search_many`."""
        asked = Terms(limit, filter, **terms)
        more: dict[str, Any] = {"words": words, "min_confidence": min_confidence}
        return await self._carry_out(search.by_sketches(self._collection, sketches, asked, **more))

    async def search_vectors(
        self, vectors: np.ndarray, limit: int = 20, filter: str = "", **terms: Any
    ) -> list[SearchResult]:
        """The photos nearest to (n, dim) vectors; see `compsketch_milvus.search.search_vectors`."""
        return await self._carry_out(search.by_vectors(self._collection, vectors, Terms(limit, filter, **terms)))

    async def search_vector(self, vector: np.ndarray, limit: int = 20, filter: str = "", **terms: Any) -> list[Hit]:
        """The photos nearest to a (dim,) vector of unit length that this collection's encoder made."""
        return (await self.search_vectors(vector, limit, filter, **terms))[0].hits

    async def search_image(self, image: ImageLike, limit: int = 20, filter: str = "", **terms: Any) -> list[Hit]:
        """More like this: the photos nearest to a photo."""
        found = await self._carry_out(search.by_image(self._collection, image, Terms(limit, filter, **terms)))
        return found.hits

    async def upsert(self, records: Iterable[PhotoVector]) -> int:
        """Store photos; see `SketchCollection.upsert`. The photos are taken from `records` in another thread."""
        return await self._carry_out(contents.store(self._collection, records))

    async def delete(
        self,
        ids: Sequence[str] | None = None,
        filter: str | None = None,
        filter_params: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete photos by id or by a filter; see `SketchCollection.delete`."""
        return await self._carry_out(contents.remove(self._collection, ids, filter, filter_params))

    async def count(self, filter: str = "", filter_params: Mapping[str, Any] | None = None) -> int:
        """The exact number of photos, or of those that pass a filter expression."""
        return await self._carry_out(contents.count(self._collection, filter, filter_params))

    async def info(self) -> dict[str, Any]:
        """The collection in one JSON object; see `SketchCollection.info`."""
        return await self._in_thread(self._collection.info)

    async def close(self) -> None:
        """Close the connections, and wait for the thread."""
        self._collection.close()
        try:
            await self._client.close()
        finally:
            await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def __aenter__(self) -> AsyncSketchCollection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _carry_out(self, steps: Steps[T]) -> T:
        self._collection.check_usable()
        with operation(steps, self.name):
            step = advance(steps)
            while not isinstance(step, Done):
                if isinstance(step, Work):
                    outcome = await self._in_thread(step.run)
                else:
                    with self._collection.guarded(step) as call:
                        outcome = await _cancellable(getattr(self._client, call.method)(self.name, **call.arguments))
                step = advance(steps, outcome)
        return cast(T, step.result)

    async def _in_thread(self, run: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, carried(run))


async def _cancellable(call: Coroutine[Any, Any, T]) -> T:
    """Await a call; before Python 3.12 pymilvus' own `asyncio.wait_for` can lose a cancellation."""
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
    return task.result()


def _closed(opening: Future[SketchCollection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
