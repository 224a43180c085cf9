"""A number that knows where it comes from, and keeps knowing when it is computed with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["ARITHMETIC", "GIVEN", "MEASURED", "Quantity"]

MEASURED, ARITHMETIC, GIVEN = "measured", "arithmetic", "given"


@dataclass(frozen=True)
class Quantity:
    """A number and its sources; what is computed of several has the sources of all.

    Args:
        value: the number; None where nobody has measured or given it.
        sources: "measured", "arithmetic", "given".
        extrapolated: whether a measured part lies outside of what was measured.
        lacking: where there is no value, what would bring one.
    """

    value: float | None
    sources: frozenset[str] = frozenset()
    extrapolated: bool = False
    lacking: str = ""

    @classmethod
    def of(cls, value: float, source: str) -> Quantity:
        """A number of one source."""
        return cls(float(value), frozenset([source]))

    @classmethod
    def unknown(cls, lacking: str) -> Quantity:
        """None yet."""
        return cls(None, lacking=lacking)

    def __add__(self, other: Quantity | float) -> Quantity:
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other: Quantity | float) -> Quantity:
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other: Quantity | float) -> Quantity:
        return self._with(other, lambda a, b: a * b)

    def __truediv__(self, other: Quantity | float) -> Quantity:
        return self._with(other, lambda a, b: a / b)

    def at_least(self, least: Quantity | float) -> Quantity:
        """The larger of the two."""
        return self._with(least, max)

    def whole(self) -> Quantity:
        """Rounded up, and 1 at least: half a machine is one."""
        return self if self.value is None else replace(self, value=float(max(1, math.ceil(self.value))))

    def outside(self, extrapolated: bool = True) -> Quantity:
        """The same, extrapolated if it was not yet."""
        return replace(self, extrapolated=self.extrapolated or (extrapolated and self.value is not None))

    def _with(self, other: Quantity | float, compute: Callable[[float, float], float]) -> Quantity:
        """A plain number is a unit's, and adds no source."""
        if not isinstance(other, Quantity):
            other = Quantity(float(other))
        sources, extrapolated = self.sources | other.sources, self.extrapolated or other.extrapolated
        if self.value is None or other.value is None:
            return Quantity(None, sources, extrapolated, self.lacking or other.lacking)
        return Quantity(float(compute(self.value, other.value)), sources, extrapolated)
