"""An encoder that is served elsewhere: photos and sketches to vectors without networks on this machine.

    encoder = RemoteEncoder.open("grpc://gpu-1:50051,gpu-2:50051")
    encoder.encode_images(["a.jpg", "b.jpg"])                # (2, d), as an encoder on this machine gives them
    for index, vector in encoder.stream_images(a_million):   # in order of completion, in bounded memory

A few photos, and sketches, are a person's query: they go in one message, before all that is done in bulk. More go over
a stream, in the bulk lane. Importing this loads neither gRPC nor Pillow; `open` does.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from encoders.errors import CompsketchError
from encoders.request import ongoing
from encoders.serving.addresses import Address, Addresses
from encoders.serving.calls import Attempts, CallFailed, Rotation

if TYPE_CHECKING:
    from typing_extensions import Self

    from encoders.calibration import Calibration
    from encoders.explain import Explanation
    from encoders.images import ImageSource
    from encoders.serving.channel import Link
    from encoders.serving.parcels import Outcome, Photos, Sketches
    from encoders.serving.session import Session, Steps
    from encoders.sketch import Sketch

__all__ = ["CONCURRENCY", "FEW", "PACKERS", "RemoteEncoder", "Served"]

logger = logging.getLogger(__name__)
T = TypeVar("T")
TIMEOUT = 60.0  # seconds
GREETING = 10.0  # seconds for a server to say what it serves
FEW = 4  # photos that go in one message
CONCURRENCY = 4  # batches that keep a server busy while others travel
PACKERS = min(8, os.cpu_count() or 1)  # threads that read and decode photos


class Served:
    """What is known of an encoder that is served elsewhere.

    Attributes:
        name: The bundle's name.
        dim: d.
        fingerprint: The bundle's.
        device: Where it runs, and at which address.
        image_size: Side in pixels of the stretched photo.
        networks: The fingerprint of the bundle without its projection; empty if features are not to be had.
        features: F, or 0 likewise.
        explains: Whether it can explain.
        calibration: How scores are read as probabilities, if the bundle says.
        vocabulary: The words that objects may be labelled with; None if it does not say.
        addresses: Where it is served.
        concurrency: Calls that are worth making at a time.
    """

    def __init__(self, session: Session) -> None:
        model = session.model
        self._session = session
        self.name, self.fingerprint, self.dim = model.name, model.fingerprint, model.dim
        self.device, self.image_size = f"{model.device} at {session.addresses}", model.image_size
        self.networks, self.features, self.explains = model.networks, model.features, model.explains
        self.calibration: Calibration | None = session.calibration
        self.vocabulary: list[str] | None = list(model.vocabulary) or None
        self.addresses = session.addresses
        self.concurrency = CONCURRENCY

    def confidence(self, sketch: Sketch, scores: np.ndarray, *, words: bool = False) -> np.ndarray | None:
        """Scores of photos as probabilities of relevance, (k,); None where the bundle says nothing of such sketches."""
        from encoders.calibration import group

        return None if self.calibration is None else self.calibration.apply(scores, group(sketch, words=words))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self.addresses}>"


class RemoteEncoder(Served):
    """An encoder service, for threads: many may share one. Made by `open`; a context manager. See `Served`."""

    def __init__(self, session: Session, links: dict[Address, Link], rotation: Rotation, timeout: float) -> None:
        super().__init__(session)
        self._links, self._rotation, self._timeout = links, rotation, timeout
        self._packers = ThreadPoolExecutor(PACKERS, thread_name_prefix=f"compsketch {self.name}")
        self._closed = threading.Event()

    @classmethod
    def open(
        cls,
        spec: str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        client: str | Path | None = None,
        key: str | Path | None = None,
        timeout: float = TIMEOUT,
    ) -> RemoteEncoder:
        """Ask the servers at an address what they serve.

        Args:
            spec: such as "grpc://host:50051"; see `addresses`.
            token: A bearer token; sent over TLS or to this machine alone, unless the address says `?insecure`.
            ca: PEM file of what has signed the servers' certificates; None trusts the public authorities.
            client: PEM file of the certificate that this client shows.
            key: PEM file of its key.
            timeout: Seconds that a call may take, all attempts together; of a stream: that may pass without an answer.

        Raises:
            CompsketchError: The address is none, a file cannot be read, or a token would be sent in the clear.
            ServerError: No server can be reached, one refuses, or they serve different encoders.
        """
        from encoders.serving.channel import Credentials, Link

        addresses, credentials = Addresses.parse(spec), Credentials(token, ca, client, key)
        credentials.check(addresses)
        links = {server: Link(server, credentials) for server in addresses.servers}
        try:
            said = {server: greet(link, GREETING) for server, link in links.items()}
            session, rotation = agreed(addresses, said)
            return cls(session, links, rotation, timeout)
        except BaseException:
            for link in links.values():
                link.close()
            raise

    def encode_images(self, images: Sequence[ImageSource]) -> np.ndarray:
        """Photos to what a collection stores.

        Args:
            images: Paths, encoded bytes, Pillow images or uint8 arrays (H, W, 3); an array of (image_size, image_size,
                3) is taken as it is.

        Returns:
            (B, d) float32, unit length.

        Raises:
            ImageError: A photo cannot be decoded; the message names it.
            ServerError: The service is away, refuses, or serves another encoder by now.
        """
        return self.embed_images(images, project=True)

    def embed_images(self, images: Sequence[ImageSource], *, project: bool = False) -> np.ndarray:
        """The flattened features of eq. 4, (B, F) float32, or with ``project`` their (B, d) projection."""
        check_list(images)
        few = len(images) <= min(FEW, self._session.limits.items or FEW)
        return self._rows(self._session.photos(features=not project, interactive=few), images, few)

    def stream_images(self, images: Iterable[ImageSource], *, features: bool = False) -> Iterator[tuple[int, Outcome]]:
        """Any number of photos, in bounded memory.

        Args:
            images: As for `encode_images`; taken in the caller's thread, a window ahead of what is given back.
            features: Give features (F,) in place of vectors (d,).

        Yields:
            In order of completion: a photo's place in `images`, and its vector, float32, or the error (an ImageError
            if the photo is at fault) for which it has none.

        Raises:
            ServerError: As `encode_images`.
        """
        return self._stream(self._session.photos(features=features, interactive=False), images)

    def encode_sketches(self, sketches: Sequence[Sketch], *, words: bool = False) -> np.ndarray:
        """Sketches to what a collection is asked with.

        Args:
            sketches: Any number.
            words: Mix the vector of its label into each drawn object that has one.

        Returns:
            (B, d) float32, unit length.

        Raises:
            CompsketchError: A label that the encoder does not know.
            ServerError: As `encode_images`.
        """
        check_sketches(sketches)
        few = len(sketches) <= (self._session.limits.items or FEW)
        return self._rows(self._session.sketches(words=words, interactive=few), sketches, few)

    def project(self, features: np.ndarray) -> np.ndarray:
        """What `embed_images` gave, (B, F) in single or half precision, to what a collection stores: (B, d) float32."""
        return self._carry_out(self._session.project(features))

    def explain(self, sketch: Sketch, vectors: np.ndarray, *, words: bool = False) -> list[Explanation]:
        """What each object of a sketch adds to the scores of photos with the vectors (k, d), cell by cell."""
        return self._carry_out(self._session.explain(sketch, vectors, words))

    def servers(self) -> dict[Address, CompsketchError | None]:
        """Asks each server alone: None where it serves this encoder, else what is wrong there."""
        return {server: self._session.objection(server, greet(link, GREETING)) for server, link in self._links.items()}

    def close(self) -> None:
        """End what is under way, and the connections."""
        self._closed.set()
        for link in self._links.values():
            link.close()
        self._packers.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- how it is done in threads; `aio_client` does the same on an event loop ---

    def _rows(self, kind: Photos | Sketches, sources: Sequence[Any], few: bool) -> np.ndarray:
        from encoders.serving.session import Rows

        if few:
            return self._carry_out(self._session.few(kind, sources))
        rows = Rows(len(sources), kind.width)
        with ongoing(), closing(self._stream(kind, sources)) as stream:
            for place, outcome in stream:
                rows.put(place, outcome)
        return rows.values

    def _carry_out(self, steps: Steps[T]) -> T:
        from encoders.serving.session import Done, Work, advance

        with ongoing():
            step = advance(steps)
            while not isinstance(step, Done):
                step = advance(steps, step.run() if isinstance(step, Work) else self._ask(step.method, step.request))
        return step.result

    def _ask(self, method: str, request: Any) -> Any:
        attempts = Attempts(self._rotation, self._timeout, doing=self._session.doing)
        while True:
            self._check_open()
            server = self._rotation.next()
            try:
                answer = self._session.check(self._links[server].ask(method, request, attempts.left), server)
            except CallFailed as failure:
                self._closed.wait(attempts.pause(server, failure))
            else:
                self._rotation.take_back(server)
                return answer

    def _stream(self, kind: Photos | Sketches, sources: Iterable[Any]) -> Generator[tuple[int, Outcome], None, None]:
        from encoders.serving.bulk import Flow
        from encoders.serving.client_stream import Stream

        self._check_open()
        flow = Flow(self._session, kind, self._rotation, self._timeout, PACKERS)
        stream = Stream(kind, self._links, self._packers, self._check_open, self._closed.wait)
        return stream.carry_out(flow.run(), iter(sources))

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CompsketchError(f"encoder {self.name!r} at {self.addresses} is closed; open it again")


def greet(link: Link, timeout: float) -> Any:
    """What a server says of itself, or a CallFailed."""
    from encoders.serving.encoder_pb2 import GetModelsRequest

    try:
        return link.ask("GetModels", GetModelsRequest(), timeout)
    except CallFailed as failure:
        return failure


def agreed(addresses: Addresses, said: dict[Address, Any]) -> tuple[Session, Rotation]:
    """The session with the servers that have answered, and their rotation.

    Raises:
        ServerError: As `RemoteEncoder.open`.
    """
    from encoders.serving.session import Session

    session, rotation = Session.agreed(addresses, said), Rotation(addresses.servers)
    for server, answer in said.items():
        if isinstance(answer, CallFailed):
            logger.warning("%s; the others are asked meanwhile", answer.explained(server))
            rotation.leave_out(server)
    return session, rotation


def check_list(images: Any) -> None:
    """Refuse a photo where a list of them is expected."""
    if isinstance(images, (str, bytes, Path)) or not hasattr(images, "__len__"):
        raise CompsketchError(f"expected a list of photos, found one {type(images).__name__}; write [photo]")


def check_sketches(sketches: Any) -> None:
    """Refuse a sketch where a list of them is expected."""
    if not hasattr(sketches, "__len__"):
        raise CompsketchError(f"expected a list of sketches, found one {type(sketches).__name__}; write [sketch]")
