"""A clock that jumps, made steady."""

from __future__ import annotations

import math

from accucheck._rate import _constants as constants

__all__ = ["SteadyClock"]


class SteadyClock:
    """Turns readings of a clock that may jump, backward or far forward, into seconds that only run on."""

    def __init__(self) -> None:
        self._now: float | None = None
        self.shift = 0.0

    def advance(self, reading: float) -> tuple[float, float]:
        """Return the steady time and the seconds since the last reading: 0 where the clock has jumped."""
        if not math.isfinite(reading):
            return self._now or 0.0, 0.0
        now = reading + self.shift
        if self._now is None:
            self._now = now
        step = now - self._now
        if not 0 <= step <= constants.LONGEST_STEP:
            self.shift = self._now - reading
            return self._now, 0.0
        self._now = now
        return now, step

    def sent(self, reading: float, now: float) -> float:
        """Return the steady time of an earlier reading; ``now`` if the clock has jumped since."""
        sent_at = reading + self.shift
        return sent_at if now - constants.LONGEST_STEP < sent_at <= now else now

    def reading(self, steady: float) -> float:
        """Return what the clock will show at a steady time."""
        return steady - self.shift
