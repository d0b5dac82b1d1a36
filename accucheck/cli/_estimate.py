"""What a random sample says about the whole list."""

from __future__ import annotations

import math
from random import Random
from typing import Generic, TypeVar

__all__ = ["Reservoir", "wilson_interval"]

Value = TypeVar("Value")


class Reservoir(Generic[Value]):
    """A uniform random sample of ``size`` values out of a stream of unknown length (Vitter's algorithm R)."""

    def __init__(self, size: int, chance: Random) -> None:
        self._size = size
        self._chance = chance
        self.offered = 0
        """How many values were offered."""
        self.chosen: list[Value] = []
        """The sample so far: every value offered has had the same chance to be in it."""

    def offer(self, value: Value) -> None:
        """Let ``value`` take part in the draw."""
        self.offered += 1
        if len(self.chosen) < self._size:
            self.chosen.append(value)
            return
        place = self._chance.randrange(self.offered)
        if place < self._size:
            self.chosen[place] = value


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, by Wilson's score (1927).

    Unlike the textbook interval it holds for few trials and for shares near 0 and 1, and never leaves 0 to 1.
    """
    if trials == 0:
        return 0.0, 1.0
    z = 1.959964  # the normal quantile of 97.5 %
    share = hits / trials
    scale = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(middle - half, 0.0), min(middle + half, 1.0)
