"""What the page's routes share: the collections, the turns, the threads, the cache and the visits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

from fastapi import Query

from compsketch_milvus.sources.access import Access
from compsketch_milvus.web.cache import DiskCache
from compsketch_milvus.web.login import Login
from compsketch_milvus.web.opened import Opened
from compsketch_milvus.web.originals import Known
from compsketch_milvus.web.turns import Turns
from encoders.request import carried

if TYPE_CHECKING:
    from compsketch_milvus.encoder import Encoder

__all__ = ["CollectionName", "Site"]

P = ParamSpec("P")
T = TypeVar("T")
CollectionName = Annotated[str | None, Query(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]


@dataclass(frozen=True)
class Site:
    """What the routes share.

    What blocks runs in one of three sets of threads: a photo that is slow to come, as at a URL, holds up neither a
    search nor what is quickly answered.

    Args:
        encoder: of the sketches.
        opened: the collections.
        turns: whose search is next.
        searching: threads for searches, as many as have a turn.
        asking: threads for what is quickly answered.
        fetching: threads for photos.
        cache: of thumbnails.
        login: who may search.
        access: what photos' sources are allowed.
        known: photos found of late.
    """

    encoder: Encoder
    opened: Opened
    turns: Turns
    searching: ThreadPoolExecutor
    asking: ThreadPoolExecutor
    fetching: ThreadPoolExecutor
    cache: DiskCache
    login: Login
    access: Access
    known: Known

    async def search(self, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Work of somebody who has a turn."""
        return await self._in(self.searching, partial(work, *arguments, **more))

    async def ask(self, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """A small question, to Milvus or the cache."""
        return await self._in(self.asking, partial(work, *arguments, **more))

    async def fetch(self, work: Callable[P, T], *arguments: P.args, **more: P.kwargs) -> T:
        """Work for a picture."""
        return await self._in(self.fetching, partial(work, *arguments, **more))

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, carried(work))

    def close(self) -> None:
        """Wait for the threads, and close the collections."""
        for threads in (self.searching, self.asking, self.fetching):
            threads.shutdown(cancel_futures=True)
        self.opened.close()
