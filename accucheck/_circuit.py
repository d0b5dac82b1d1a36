"""What keeps an outage from multiplying calls: a circuit breaker and a shared retry budget. Pure.

The circuit looks at the last few replies only, never at the lifetime: a run that has gone well for
an hour must notice within a dozen calls that the vendor is down.
"""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 12
"""Replies looked at: few, so that an outage costs few calls. At 30 % errors 11 of 12 fail once in 65,000."""
FAILURES_TO_OPEN: Final = 11
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 5.0
"""Seconds between probes: an outage of 20 s costs about six."""


class Circuit:
    """Closed lets every call through, open none; after a pause one probe decides."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._pause = FIRST_PAUSE
        self._probing = False
        self.opened = False
        """Whether calls are held back now."""
        self.retry_at = 0.0
        """When the next probe may go, if opened."""

    def admits(self, now: float) -> bool:
        """Return whether a call may be sent now."""
        return not self.opened or (not self._probing and now >= self.retry_at)

    def sending(self) -> bool:
        """Note that a call goes out; return whether it is the probe."""
        if not self.opened or self._probing:
            return False
        self._probing = True
        return True

    def abandon_probe(self) -> None:
        """Note that the probe was not answered and tells nothing, so that another may go."""
        self._probing = False

    def record(self, ok: bool, now: float, *, probe: bool) -> None:
        """Note how a call ended. While open, only the probe counts: older calls tell of the past."""
        if self.opened:
            if not probe:
                return
            self._probing = False
            if ok:
                self.opened = False
                self._recent.clear()
                self._pause = FIRST_PAUSE
            else:
                self._pause = min(self._pause * 2, LONGEST_PAUSE)
                self.retry_at = now + self._pause
            return
        self._recent.append(ok)
        if not ok and self._recent.count(False) >= FAILURES_TO_OPEN:
            self.opened = True
            self._pause = FIRST_PAUSE
            self.retry_at = now + self._pause


class RetryBudget:
    """A bucket that retries drain and answers refill (Finagle's RetryBudget, gRPC's retry throttling)."""

    def __init__(self, *, allowance: float, share: float) -> None:
        self._tokens = self._most = allowance
        self._share = share

    def refill(self) -> None:
        """Note an answered call."""
        if self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + self._share)

    @property
    def has_one(self) -> bool:
        return self._tokens >= 1

    def take(self) -> None:
        self._tokens -= 1
