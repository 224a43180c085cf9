"""An encoder that is served elsewhere, for programs that run an event loop: `client`'s operations, awaited.

What takes time here (reading and decoding photos) runs in threads of this object, so that the loop goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from encoders.errors import CompsketchError
from encoders.request import carried, ongoing
from encoders.serving.addresses import Address, Addresses
from encoders.serving.calls import Attempts, CallFailed, Rotation
from encoders.serving.client import FEW, GREETING, PACKERS, TIMEOUT, Served, agreed, check_list, check_sketches

if TYPE_CHECKING:
    from typing_extensions import Self

    from encoders.explain import Explanation
    from encoders.images import ImageSource
    from encoders.serving.channel import AsyncLink
    from encoders.serving.parcels import Outcome, Photos, Sketches
    from encoders.serving.session import Session, Steps
    from encoders.sketch import Sketch

__all__ = ["AsyncRemoteEncoder"]

T = TypeVar("T")


class AsyncRemoteEncoder(Served):
    """An encoder service, for one event loop: many coroutines may share one. Made by `open`; a context manager.

    Attributes are those of `Served`; arguments and errors those of `RemoteEncoder`.
    """

    def __init__(self, session: Session, links: dict[Address, AsyncLink], rotation: Rotation, timeout: float) -> None:
        super().__init__(session)
        self._links, self._rotation, self._timeout = links, rotation, timeout
        self._packers = ThreadPoolExecutor(PACKERS, thread_name_prefix=f"compsketch {self.name}")
        self._closed = asyncio.Event()

    @classmethod
    async def open(
        cls,
        spec: str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        client: str | Path | None = None,
        key: str | Path | None = None,
        timeout: float = TIMEOUT,
    ) -> AsyncRemoteEncoder:
        """Ask the servers at an address what they serve; see `RemoteEncoder.open`."""
        from encoders.serving.channel import AsyncLink, Credentials

        addresses, credentials = Addresses.parse(spec), Credentials(token, ca, client, key)
        credentials.check(addresses)
        links = {server: AsyncLink(server, credentials) for server in addresses.servers}
        try:
            answers = await asyncio.gather(*(_greet(link) for link in links.values()))
            session, rotation = agreed(addresses, dict(zip(links, answers, strict=True)))
            return cls(session, links, rotation, timeout)
        except BaseException:
            for link in links.values():
                await link.close()
            raise

    async def encode_images(self, images: Sequence[ImageSource]) -> np.ndarray:
        """See `RemoteEncoder.encode_images`."""
        return await self.embed_images(images, project=True)

    async def embed_images(self, images: Sequence[ImageSource], *, project: bool = False) -> np.ndarray:
        """See `RemoteEncoder.embed_images`."""
        check_list(images)
        few = len(images) <= min(FEW, self._session.limits.items or FEW)
        return await self._rows(self._session.photos(features=not project, interactive=few), images, few)

    def stream_images(
        self, images: Iterable[ImageSource] | AsyncIterable[ImageSource], *, features: bool = False
    ) -> AsyncIterator[tuple[int, Outcome]]:
        """See `RemoteEncoder.stream_images`; a source that is not asynchronous is read on the event loop."""
        return self._stream(self._session.photos(features=features, interactive=False), images)

    async def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        """See `RemoteEncoder.encode_sketches`."""
        check_sketches(sketches)
        few = len(sketches) <= (self._session.limits.items or FEW)
        return await self._rows(self._session.sketches(words=words, interactive=few), sketches, few)

    async def project(self, features: np.ndarray) -> np.ndarray:
        """See `RemoteEncoder.project`."""
        return await self._carry_out(self._session.project(features))

    async def explain(self, sketch: Sketch, vectors: np.ndarray, *, words: bool = False) -> list[Explanation]:
        """See `RemoteEncoder.explain`."""
        return await self._carry_out(self._session.explain(sketch, vectors, words))

    async def close(self) -> None:
        """End what is under way, and the connections."""
        self._closed.set()
        for link in self._links.values():
            await link.close()
        self._packers.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- how it is done on an event loop ---

    async def _rows(self, kind: Photos | Sketches, sources: Sequence[Any], few: bool) -> np.ndarray:
        from encoders.serving.session import Rows

        if few:
            return await self._carry_out(self._session.few(kind, sources))
        rows = Rows(len(sources), kind.width)
        with ongoing():
            async with aclosing(self._stream(kind, sources)) as stream:
                async for place, outcome in stream:
                    rows.put(place, outcome)
        return rows.values

    async def _carry_out(self, steps: Steps[T]) -> T:
        from encoders.serving.session import Done, Work, advance

        loop = asyncio.get_running_loop()
        with ongoing():
            step = advance(steps)
            while not isinstance(step, Done):
                if isinstance(step, Work):
                    self._check_open()
                    outcome = await loop.run_in_executor(self._packers, carried(step.run))
                else:
                    outcome = await self._ask(step.method, step.request)
                step = advance(steps, outcome)
        return step.result

    async def _ask(self, method: str, request: Any) -> Any:
        attempts = Attempts(self._rotation, self._timeout, doing=self._session.doing)
        while True:
            self._check_open()
            server = self._rotation.next()
            try:
                answer = self._session.check(await self._links[server].ask(method, request, attempts.left), server)
            except CallFailed as failure:
                await self._pause(attempts.pause(server, failure))
            else:
                self._rotation.take_back(server)
                return answer

    async def _stream(
        self, kind: Photos | Sketches, sources: Iterable[Any] | AsyncIterable[Any]
    ) -> AsyncGenerator[tuple[int, Outcome], None]:
        from encoders.serving.aio_client_stream import AsyncStream
        from encoders.serving.bulk import Flow

        self._check_open()
        flow = Flow(self._session, kind, self._rotation, self._timeout, PACKERS)
        stream = AsyncStream(kind, self._links, self._packers, self._check_open, self._pause)
        async with aclosing(stream.carry_out(flow.run(), sources)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def _pause(self, seconds: float) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CompsketchError(f"encoder {self.name!r} at {self.addresses} is closed; open it again")


async def _greet(link: AsyncLink) -> Any:
    """What a server says of itself, or a CallFailed."""
    from encoders.serving.encoder_pb2 import GetModelsRequest

    try:
        return await link.ask("GetModels", GetModelsRequest(), GREETING)
    except CallFailed as failure:
        return failure
