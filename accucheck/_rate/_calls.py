"""The outcomes of calls: counts, the latency, and measurements between two exhaustions of the limiter."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from accucheck._rate import _constants as constants

__all__ = ["Calls", "Mark", "Measurement", "Reset", "SteadyClock"]


class Reset(NamedTuple):
    """A window reset between two moments: a call was refused at the first and admitted at the second."""

    after: float
    before: float

    @property
    def middle(self) -> float:
        return (self.after + self.before) / 2

    def until(self, later: Reset) -> float:
        """Return the seconds between two resets: whole ones if they may be, which is how windows are made."""
        shortest, longest = later.after - self.before, later.before - self.after
        middle = (shortest + longest) / 2
        whole = max(1.0, float(round(middle)))
        return whole if shortest <= whole <= longest else middle


class Measurement(NamedTuple):
    """What was admitted and refused between two exhaustions of the limiter."""

    calls: int
    refused: int
    seconds: float
    idle: float = 0.0
    """Seconds in which less was sent than permitted, since an unused limiter cannot be measured."""
    of_window: bool = False
    """Whether it started with the reset of a window, so that its calls are the quota."""

    @property
    def calls_per_second(self) -> float:
        return self.calls / max(self.seconds, constants.HOLD_SECONDS)

    @property
    def least(self) -> float:
        """The calls per second of a token bucket: a part of the last call is counted too much."""
        return (self.calls - 1) / self.seconds

    @property
    def doubt(self) -> float:
        """How uncertain it is, from 1 to 0."""
        return 1 / (1 + self.calls / 10) if self.calls < constants.MEASURED_CALLS else 0.0

    def is_settled(self, latency: float) -> bool:
        return self.seconds > constants.SETTLED * latency

    def is_telling(self, latency: float) -> bool:
        return self.calls >= constants.FEW_CALLS and self.is_settled(latency) and not self.is_idle

    @property
    def is_idle(self) -> bool:
        return self.idle > constants.IDLE_SHARE * self.seconds


class Mark(NamedTuple):
    """A moment at which the limiter was exhausted, or a window reset, with the counts at it."""

    moment: float
    sent: int
    refused: int
    idle: float
    reset: Reset | None = None

    def measure(self, later: Mark, reset: Reset | None = None) -> Measurement:
        """Measure from here to a later exhaustion, which lasted until the ``reset`` of a window if there is one."""
        refused = later.refused - self.refused
        seconds = later.moment - self.moment
        if self.reset is not None and reset is not None:
            seconds = self.reset.until(reset)
        calls = max(later.sent - self.sent - refused, 0)
        return Measurement(calls, refused, seconds, later.idle - self.idle, self.reset is not None)


class Calls:
    """Counts, updated by the controller with plain increments, since they are on the path of every call.

    Calls are counted when they are sent. A count of replies would miss those in flight at the end of a measurement, and
    refusals return sooner than answers, so it would find the limit too low.
    """

    __slots__ = ("_permitted", "_used_from", "admitted", "idle", "latency", "refused", "sent", "times")

    def __init__(self) -> None:
        self.sent = self.admitted = self.refused = 0
        self.latency = 0.0
        self.idle = 0.0
        self.times: deque[float] = deque(maxlen=constants.CALLS_REMEMBERED)
        """When the last calls were sent, on the caller's clock."""
        self._permitted = 0.0
        self._used_from = 0

    def sent_until(self, reading: float) -> int:
        """Return how many calls were sent until a moment of the caller's clock, not long ago."""
        sent = self.sent
        for sent_at in reversed(self.times):
            if sent_at <= reading:
                break
            sent -= 1
        return sent

    def saturate(self, rate: float, step: float, share: float) -> bool:
        """Whether ``share`` of what was permitted is used, with the rate permitted for ``step`` seconds more."""
        self._permitted += rate * step
        if self._permitted > 2 * constants.PACE_CALLS:
            self._permitted /= 2
            self._used_from += (self.sent - self._used_from) // 2
        if self.sent - self._used_from >= share * self._permitted - 2:
            return True
        self.idle += step
        return False


class SteadyClock:
    """Turns readings of a clock that may jump backward or far forward into seconds that only increase."""

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
