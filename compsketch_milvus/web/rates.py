"""How often a client may ask: a bucket of tokens for each client and each kind of request."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compsketch_milvus.web.refusals import Refusal

__all__ = ["RATES", "Rate", "Rates"]

MOST_BUCKETS = 10_000  # remembered; the one that was used the longest time ago is forgotten first


@dataclass(frozen=True)
class Rate:
    """So many a second on average, so many at once."""

    per_second: float
    burst: int


# A pen that never rests asks some eight times a second, and a grid of results shows up to 200 thumbnails at once.
RATES: Mapping[str, Rate] = {
    "search": Rate(20, 60),
    "photo": Rate(100, 600),
    "login": Rate(0.1, 5),
    "page": Rate(300, 2000),  # some 60 files each time it is opened, and many people behind one address
    "other": Rate(20, 100),
}


class Rates:
    """What has been asked of late.

    Args:
        rates: by kind of request.
        clock: in seconds.
    """

    def __init__(self, rates: Mapping[str, Rate] = RATES, clock: Callable[[], float] = time.monotonic) -> None:
        self._rates, self._clock = rates, clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()  # tokens left, and when

    def take(self, kind: str, client: str) -> None:
        """Count one request.

        Raises:
            Refusal: 429, the client has asked too often; with the seconds after which it may again.
        """
        rate, now, key = self._rates[kind], self._clock(), (kind, client)
        left, since = self._buckets.pop(key, (float(rate.burst), now))
        left = min(float(rate.burst), left + (now - since) * rate.per_second)
        self._buckets[key] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        if left < 1:
            raise Refusal(429, "too many requests; go on in a moment", retry_after=(1 - left) / rate.per_second)
