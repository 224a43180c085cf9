"""Whom to strike, when and how: drawn from a seed, so that a run that found something can be run again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["DECK", "Blow", "schedule"]

# A deck is dealt to its end before it is shuffled again, so that a short run strikes everybody, too.
DECK = ("milvus", "encoder", "encoder", "page", "page", "watch", "watch", "watch", *4 * ("ingest",), *2 * ("deleter",))
SIGNALS = (*7 * ("KILL",), "TERM", "TERM", "STOP", "STOP")
SHORTEST, LONGEST = 3.0, 9.0  # seconds between two blows
HOLD = (1.0, 12.0)  # seconds for which one that is stopped stays so


@dataclass(frozen=True)
class Blow:
    """One signal.

    Args:
        at: seconds after the beginning.
        victim: one of DECK.
        signal: KILL, TERM, or STOP, which is followed by CONT.
        hold: seconds until CONT; 0 for the others.
    """

    at: float
    victim: str
    signal: str
    hold: float = 0.0


def schedule(seed: int, seconds: float) -> list[Blow]:
    """The blows of a run of so many seconds, in order."""
    rng = random.Random(seed)
    blows, at, victims = [], 0.0, _dealt(rng)
    while (at := at + rng.uniform(SHORTEST, LONGEST)) < seconds:
        signal = rng.choice(SIGNALS)
        hold = rng.uniform(*HOLD) if signal == "STOP" else 0.0
        blows.append(Blow(round(at, 2), next(victims), signal, round(hold, 2)))
    return blows


def _dealt(rng: random.Random) -> Iterator[str]:
    while True:
        yield from rng.sample(DECK, len(DECK))
