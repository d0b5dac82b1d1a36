"""The ways in which a vendor may limit the frequency of calls. Pure: time is the argument ``now``."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol


class Limiter(Protocol):
    """Admits or refuses calls. ``now`` is seconds from any origin; a step back counts as no time."""

    def admit(self, now: float) -> bool:
        """Whether a call at ``now`` is admitted. A refused call uses nothing up."""

    def wait(self, now: float) -> float:
        """Return the seconds until a call would be admitted (``inf`` while the rate is 0)."""

    def set_rate(self, rate: float, now: float) -> None:
        """Allow ``rate`` calls per second from ``now`` on."""


class TokenBucket:
    """``burst`` calls at once, then ``rate`` a second: like nginx ``limit_req`` with ``nodelay``."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._as_of = now

    def admit(self, now: float) -> bool:
        self._refill(now)
        # A billionth of a call forgives the rounding of many small refills.
        if self._tokens < 1 - 1e-9:
            return False
        self._tokens -= 1
        return True

    def wait(self, now: float) -> float:
        self._refill(now)
        missing = 1 - self._tokens
        if missing <= 1e-9:
            return 0.0
        return missing / self._rate if self._rate else math.inf

    def set_rate(self, rate: float, now: float) -> None:
        self._refill(now)
        self._rate = rate

    def _refill(self, now: float) -> None:
        if now > self._as_of:
            self._tokens = min(self._burst, self._tokens + (now - self._as_of) * self._rate)
            self._as_of = now


class FixedWindow:
    """``rate * window`` calls in each window of ``window`` seconds; windows are counted from ``origin``."""

    def __init__(self, rate: float, window: float, origin: float) -> None:
        self._window = window
        self._origin = origin
        self._capacity = _capacity(rate, window)
        self._index = 0
        self._used = 0

    def admit(self, now: float) -> bool:
        self._turn(now)
        if self._used >= self._capacity:
            return False
        self._used += 1
        return True

    def wait(self, now: float) -> float:
        self._turn(now)
        if self._used < self._capacity:
            return 0.0
        if not self._capacity:
            return math.inf
        return max(0.0, self._origin + (self._index + 1) * self._window - now)

    def set_rate(self, rate: float, now: float) -> None:
        self._turn(now)
        self._capacity = _capacity(rate, self._window)

    def _turn(self, now: float) -> None:
        index = math.floor((now - self._origin) / self._window)
        if index > self._index:
            self._index, self._used = index, 0


class SlidingWindow:
    """At most ``rate * window`` calls in any ``window`` seconds; remembers the time of each admitted call."""

    def __init__(self, rate: float, window: float) -> None:
        self._window = window
        self._capacity = _capacity(rate, window)
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        self._forget(now)
        if len(self._admitted) >= self._capacity:
            return False
        self._admitted.append(now)
        return True

    def wait(self, now: float) -> float:
        self._forget(now)
        if len(self._admitted) < self._capacity:
            return 0.0
        if not self._capacity:
            return math.inf
        # After a cut of the rate more calls than one must leave the window.
        blocker = self._admitted[len(self._admitted) - self._capacity]
        return max(0.0, blocker + self._window - now)

    def set_rate(self, rate: float, now: float) -> None:
        self._forget(now)
        self._capacity = _capacity(rate, self._window)

    def _forget(self, now: float) -> None:
        while self._admitted and self._admitted[0] + self._window <= now:
            self._admitted.popleft()


class ScheduledLimit:
    """A limiter whose rate changes by itself: ``changes`` are (seconds after the first call, new rate)."""

    def __init__(self, limiter: Limiter, rate: float, changes: Sequence[tuple[float, float]] = ()) -> None:
        self._limiter = limiter
        self._ahead = deque(sorted(changes))
        self._first_call: float | None = None
        self.rate = rate
        """Calls per second that are allowed now."""

    def admit(self, now: float) -> bool:
        if self._first_call is None:
            self._first_call = now
        self.keep_schedule(now)
        return self._limiter.admit(now)

    def wait(self, now: float) -> float:
        self.keep_schedule(now)
        return self._limiter.wait(now)

    def set_rate(self, rate: float, now: float) -> None:
        self._limiter.set_rate(rate, now)
        self.rate = rate

    def keep_schedule(self, now: float) -> None:
        """Make the changes that are due."""
        if self._first_call is None:
            return
        while self._ahead and now >= self._first_call + self._ahead[0][0]:
            after, rate = self._ahead.popleft()
            self.set_rate(rate, self._first_call + after)


def _capacity(rate: float, window: float) -> int:
    # 0.1 * 30 is 3.0000000000000004, and 0.7 * 10 could as well have come out below 7.
    return math.floor(rate * window + 1e-9)
