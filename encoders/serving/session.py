"""What a client and the servers of one encoder have to say to each other, apart from how it gets there.

An operation is a generator: it yields each step, a call or something to compute, and is sent what came of it. So the
client for threads and the one for an event loop say the same things.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np

from encoders.errors import CompsketchError, ServerError
from encoders.explain import Explanation
from encoders.serving import encoder_pb2 as pb
from encoders.serving import wire
from encoders.serving.addresses import Address, Addresses
from encoders.serving.calls import CallFailed
from encoders.serving.parcels import Outcome, Parcel, Photos, Sketches, check_busy
from encoders.sketch import Sketch
from encoders.steps import Done, Work, advance

__all__ = ["Ask", "Done", "Rows", "Session", "Steps", "Work", "advance"]

T = TypeVar("T")
ROWS = 256  # of one message to project or explain, where the service says nothing


@dataclass(frozen=True)
class Ask:
    """A unary call to whichever server's turn it is."""

    method: str
    request: Any


Steps: TypeAlias = Generator[Ask | Work, Any, T]


class Session:
    """One encoder, and how to ask for what it does.

    Args:
        addresses: who serves it.
        model: what they say of it.
        limits: what they take.

    Attributes:
        calibration: how its scores are read as probabilities, if it says.
    """

    def __init__(self, addresses: Addresses, model: pb.Model, limits: pb.Limits) -> None:
        self.addresses, self.model, self.limits = addresses, model, limits
        self.calibration = wire.calibration(model)
        self.doing = (
            f"does not serve encoder {model.name!r} ({model.fingerprint}), with which this client began; "
            "vectors of two encoders do not mix: serve it there again, or connect anew"
        )

    @classmethod
    def agreed(cls, addresses: Addresses, said: Mapping[Address, pb.GetModelsResponse | CallFailed]) -> Session:
        """What the servers that have answered agree on; those that cannot be reached may be asked later.

        Raises:
            ServerError: none has answered, one does not have the model, or two have different ones.
        """
        models: dict[Address, tuple[pb.Model, pb.Limits]] = {}
        errors = []
        for server, answer in said.items():
            if not isinstance(answer, CallFailed):
                models[server] = (_chosen(answer, addresses, server), answer.limits)
                continue
            error = answer.explained(server)
            if not (isinstance(error, ServerError) and error.transient):
                raise error
            errors.append(error)
        if not models:
            raise errors[0]
        (first, (model, limits)), *others = models.items()
        for server, (other, _) in others:
            if other.fingerprint != model.fingerprint:
                raise ServerError(
                    f"{first} serves encoder {model.name!r} ({model.fingerprint}) and {server} {other.name!r} "
                    f"({other.fingerprint}): vectors of the two do not mix; give addresses of one encoder, or "
                    "append /NAME where several are served"
                )
        return cls(addresses, model, limits)

    def check(self, answer: Any, server: Address) -> Any:
        """An answer, if it is this encoder's.

        Raises:
            ServerError: the server has changed to another one.
            CallFailed: some of its items met a full queue.
        """
        if answer.fingerprint != self.model.fingerprint:
            raise ServerError(f"encoder service {server} {self.doing} (it answered as {answer.fingerprint})")
        if isinstance(answer, (pb.EncodeImagesResponse, pb.EncodeSketchesResponse)):
            for vector in answer.vectors:
                check_busy(vector)
        return answer

    def objection(self, server: Address, answer: pb.GetModelsResponse | CallFailed) -> CompsketchError | None:
        """What is wrong with a server, given what it says that it serves; None if it serves this encoder."""
        if isinstance(answer, CallFailed):
            return answer.explained(server)
        served = any(model.fingerprint == self.model.fingerprint for model in answer.models)
        return None if served else ServerError(f"encoder service {server} {self.doing}")

    # --- what to send ---

    def photos(self, *, features: bool, interactive: bool) -> Photos:
        """How photos travel.

        Raises:
            CompsketchError: features are asked for, and the service has none.
        """
        if features and not self.model.features:
            raise CompsketchError(f"encoder {self.model.name!r} at {self.addresses} gives no features; use its bundle")
        output = pb.OUTPUT_FEATURES if features else pb.OUTPUT_VECTOR
        width = self.model.features if features else self.model.dim
        return Photos(self.model.image_size, width, self._options(interactive, output=output))

    def sketches(self, *, words: bool, interactive: bool) -> Sketches:
        """How sketches travel."""
        return Sketches(self.model.dim, self._options(interactive, words=words))

    def _options(self, interactive: bool, **more: Any) -> pb.Options:
        lane = pb.LANE_INTERACTIVE if interactive else pb.LANE_BULK
        return pb.Options(model=self.model.fingerprint, lane=lane, precision=pb.PRECISION_FLOAT32, **more)

    # --- operations ---

    def few(self, kind: Photos | Sketches, sources: Sequence[Any]) -> Steps[np.ndarray]:
        """Rows (B, width) of so few items that they fit one message."""
        parcels: list[Parcel] = yield Work(lambda: [kind.pack(source) for source in sources])
        rows = Rows(len(parcels), kind.width)
        under_way = []
        for place, parcel in enumerate(parcels):
            if parcel.error is None:
                under_way.append((place, parcel))
            else:
                rows.put(place, parcel.error)
        while under_way:
            answer = yield Ask(kind.unary, kind.few([parcel for _, parcel in under_way]))
            if len(answer.vectors) != len(under_way):
                raise ServerError(f"{self.addresses} gave {len(answer.vectors)} vectors for {len(under_way)} items")
            made = yield Work(partial(_unpacked, kind, under_way, answer.vectors))
            again = []
            for (place, _), one in zip(under_way, made, strict=True):
                if isinstance(one, Parcel):
                    again.append((place, one))
                else:
                    rows.put(place, one)
            under_way = again
        return rows.values

    def project(self, features: np.ndarray) -> Steps[np.ndarray]:
        """Features (B, F), in single or half precision, to rows (B, d)."""
        width = self.model.features
        if features.ndim != 2 or features.shape[1] != width or not width:
            raise CompsketchError(f"encoder {self.model.name!r} projects (B, {width}) features; found {features.shape}")
        half = features.dtype == np.float16
        precision = pb.PRECISION_FLOAT16 if half else pb.PRECISION_FLOAT32
        vectors = []
        for start in range(0, len(features), self._rows):
            packed = wire.pack(features[start : start + self._rows], precision)
            answer = yield Ask(
                "Project", pb.ProjectRequest(model=self.model.fingerprint, precision=precision, features=packed)
            )
            vectors.append(wire.unpack(answer.vectors, self.model.dim))
        return np.concatenate(vectors) if vectors else np.zeros((0, self.model.dim), np.float32)

    def explain(self, sketch: Sketch, vectors: np.ndarray, words: bool) -> Steps[list[Explanation]]:
        """The parts of the scores of photos with the vectors (k, d)."""
        if not self.model.explains:
            raise CompsketchError(f"encoder {self.model.name!r} at {self.addresses} cannot explain; use its bundle")
        explained: list[Explanation] = []
        for start in range(0, len(vectors), self._rows):
            packed = wire.pack(np.asarray(vectors[start : start + self._rows], np.float32))
            drawn = wire.sketch_message(sketch)
            answer = yield Ask(
                "Explain", pb.ExplainRequest(model=self.model.fingerprint, sketch=drawn, words=words, vectors=packed)
            )
            explained += [wire.explanation(one) for one in answer.explanations]
        return explained

    @property
    def _rows(self) -> int:
        return min(ROWS, self.limits.items or ROWS)


class Rows:
    """Rows (B, width) that come in any order, or the error of the first item that has none.

    Attributes:
        values: what has come so far.
    """

    def __init__(self, count: int, width: int) -> None:
        self.values = np.zeros((count, width), np.float32)
        self._come = np.zeros(count, bool)
        self._error: tuple[int, CompsketchError] | None = None

    def put(self, place: int, outcome: Outcome) -> None:
        """Take one.

        Raises:
            CompsketchError: an item has none, and all before it have come: the error that comes first in their order.
        """
        self._come[place] = True
        if not isinstance(outcome, CompsketchError):
            self.values[place] = outcome
        elif self._error is None or place < self._error[0]:
            self._error = place, outcome
        if self._error is not None and self._come[: self._error[0]].all():
            raise self._error[1]


def _unpacked(
    kind: Photos | Sketches, under_way: Sequence[tuple[int, Parcel]], vectors: Sequence[pb.Vector]
) -> list[Outcome | Parcel]:
    return [kind.unpack(parcel, vector) for (_, parcel), vector in zip(under_way, vectors, strict=True)]


def _chosen(answer: pb.GetModelsResponse, addresses: Addresses, server: Address) -> pb.Model:
    wanted = addresses.model
    for model in answer.models:
        if wanted in ("", model.name, model.fingerprint):
            return model
    there = ", ".join(f"{model.name} ({model.fingerprint})" for model in answer.models) or "none"
    raise ServerError(f"encoder service {server} has no model {wanted or 'at all'!r}; there: {there}")
