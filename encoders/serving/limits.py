"""What one call may bring, and how many rows one client may ask for in a second: decided before anything is decoded."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from encoders import images
from encoders.errors import CompsketchError
from encoders.serving import encoder_pb2 as pb

__all__ = ["CallLimits", "InvalidRequest", "RateLimit", "RateLimited"]

ROUNDING = 1e-6  # rows: who waits as long as told is not refused for the last bit of a float
CLIENTS = 10_000  # that are remembered; who has been quiet longest is forgotten first


class InvalidRequest(CompsketchError):
    """A call that asks for something that is not to be had, or for too much."""


class RateLimited(CompsketchError):
    """A client that asks for more rows a second than it may.

    Attributes:
        retry_after: seconds after which the same call is taken.
    """

    def __init__(self, client: str, rate: float, retry_after: float) -> None:
        super().__init__(f"{client} asks for more than {rate:g} rows a second; try again in {retry_after:.2f} s")
        self.retry_after = retry_after


@dataclass(frozen=True)
class CallLimits:
    """The limits that `GetModels` tells.

    Args:
        message_bytes: of one request, or one message of a stream.
        image_bytes: of one encoded photo.
        image_pixels: width x height of one encoded photo.
        items: photos or sketches of one unary call or one message of a stream, vectors of one Explain.
        window: items of one stream that are under way at a time.

    Raises:
        CompsketchError: one is below 1, or a photo may be larger than the message that brings it.
    """

    message_bytes: int = 64 * 2**20
    image_bytes: int = 32 * 2**20
    image_pixels: int = 100_000_000
    items: int = 256
    window: int = 128

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise CompsketchError(f"{name}={value}: a limit has to be 1 or more")
        if self.image_bytes >= self.message_bytes:
            raise CompsketchError(
                f"image_bytes={self.image_bytes} has to be below message_bytes={self.message_bytes}, which bring it"
            )

    @property
    def photo(self) -> images.Limits:
        """What the decoder takes."""
        return images.Limits(self.image_bytes, self.image_pixels)

    def message(self) -> pb.Limits:
        """As `GetModels` tells them."""
        return pb.Limits(**vars(self))

    def check_items(self, what: str, count: int) -> None:
        """Refuse a call of too many.

        Raises:
            InvalidRequest: there are more than `items`.
        """
        if count > self.items:
            raise InvalidRequest(f"{count} {what} in one message, and {self.items} is the limit; send fewer at a time")


class RateLimit:
    """A token bucket of rows for each client: so many a second, and `burst` at once after a rest.

    Args:
        rate: rows a second.
        burst: rows at once; no call may have more.
        clock: seconds, monotonic.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not rate > 0 or not burst >= 1:
            raise CompsketchError(f"a rate limit of {rate:g} rows a second: it has to be above 0")
        self._rate, self._burst, self._clock = rate, max(burst, rate), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client: rows left, and when that was

    def take(self, client: str, rows: int) -> None:
        """Take rows out of a client's bucket, for a call that can be refused.

        Raises:
            RateLimited: they are not there yet; nothing was taken.
        """
        left = self._left(client)
        if left + ROUNDING < min(rows, self._burst):
            raise RateLimited(client, self._rate, (min(rows, self._burst) - left) / self._rate)
        self._set(client, left - rows)

    def borrow(self, client: str, rows: int) -> float:
        """Take rows for a stream, which can be held up: the seconds to wait before they are worked on."""
        left = self._left(client) - rows
        self._set(client, left)
        return max(0.0, -left / self._rate)

    def _left(self, client: str) -> float:
        left, when = self._buckets.get(client, (self._burst, 0.0))
        return min(self._burst, left + (self._clock() - when) * self._rate) if client in self._buckets else left

    def _set(self, client: str, left: float) -> None:
        self._buckets[client] = left, self._clock()
        self._buckets.move_to_end(client)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
