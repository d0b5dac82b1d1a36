"""What keeps failures from multiplying calls: a circuit breaker, a shared retry budget, a brake. Pure.

The circuit looks only at the last few replies: a run that has gone well for an hour must notice within a dozen calls
that the vendor is down.
"""

from __future__ import annotations

import math
import re
from collections import deque
from typing import Final

from accucheck._errors import Undetermined, UniformRefusals
from accucheck._wire import NoAnswer, StatusReply

WINDOW: Final = 12
"""Replies considered: few, so that an outage costs few calls. At 30 % errors, 11 of 12 fail once in 65,000."""
FAILURES_TO_OPEN: Final = 11
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 5.0
"""Seconds between probes; an outage of 20 s costs about six."""
LEAST_RETRIES: Final = 10.0
"""Retries per second that a run may make however few answers arrive (as in Finagle's RetryBudget), so that a list still
finishes if a third of it fails at first."""


class Circuit:
    """Closed: every call may be sent. Open: none, until a probe after a pause succeeds."""

    def __init__(self) -> None:
        self._recent: deque[bool] = deque(maxlen=WINDOW)
        self._pause = FIRST_PAUSE
        self._probing = False
        self.opened = False
        """Whether calls are held back now."""
        self.retry_at = 0.0
        """When the next probe may be sent, if opened."""

    def admits(self, now: float) -> bool:
        """Return whether a call may be sent now."""
        return not self.opened or (not self._probing and now >= self.retry_at)

    def sending(self) -> bool:
        """Note that a call is being sent; return whether it is the probe."""
        if not self.opened or self._probing:
            return False
        self._probing = True
        return True

    def abandon_probe(self) -> None:
        """Note that the probe ended without a result, so another one may be sent."""
        self._probing = False

    def record(self, ok: bool, now: float, *, probe: bool) -> None:
        """Note how a call ended. While open, only the probe counts: the other calls are older."""
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
    """A bucket that retries drain and that answers, and slowly time, refill (Finagle's RetryBudget).

    When it is empty, a retry is not refused but waits for what comes in later.
    """

    def __init__(self, *, allowance: float, share: float, per_second: float = LEAST_RETRIES) -> None:
        """``allowance`` is the initial and the maximum content, ``share`` what an answer adds."""
        self._tokens = self._most = allowance
        self._share = share
        self._per_second = per_second
        self._as_of = -math.inf

    def refill(self) -> None:
        """Note an answered call."""
        if self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + self._share)

    def wait(self, now: float) -> float:
        """Return the seconds until the next retry is allowed; 0 if it is now."""
        self._run_on(now)
        return max(0.0, (1 - self._tokens) / self._per_second)

    def take(self, now: float) -> None:
        """Take one retry, now or in advance."""
        self._run_on(now)
        self._tokens -= 1

    def widen(self, allowance: float) -> None:
        """Raise the content and its maximum to ``allowance``, if that is more."""
        if allowance > self._most:
            self._tokens += allowance - self._most
            self._most = allowance

    def _run_on(self, now: float) -> None:
        if self._as_of < now:
            if self._as_of != -math.inf:
                come_in = (now - self._as_of) * self._per_second
                self._tokens = min(self._most, self._tokens + come_in)
            self._as_of = now


FIRST_ALIKE: Final = 20
"""Numbers refused alike that end a run if nothing has succeeded yet."""
LATER_ALIKE: Final = 50
"""The same, in a row, once something has succeeded: bad stretches of good lists are shorter."""
UNPROVEN_IN_FLIGHT: Final = FIRST_ALIKE + 4
"""The most calls refused or in flight before anything has succeeded, so a wrong setting costs 24 calls."""
_DIGITS: Final = re.compile(r"\d+")
STOPS: Final = ", so the run stops before it makes more calls. "
"""In the message of ``UniformRefusals``: what was seen comes before it, what to try after it."""


class Brake:
    """Notices that number after number is refused alike, which means a wrong setting, not bad numbers.

    With a wrong body encoding, for example, every call is INVALID_ARGUMENT and would use up a long list.
    """

    def __init__(self) -> None:
        self.proven = False
        """Whether any call of the run has succeeded: answered or PENDING."""
        self.quiet = False
        """Whether ``succeeded`` would change nothing, so the common path can skip it."""
        self._alike: tuple[str, str] | None = None
        self._numbers: set[str] = set()

    @property
    def alike(self) -> frozenset[str]:
        """The national numbers that were refused alike, in a row."""
        return frozenset(self._numbers)

    def admits(self, in_flight: int) -> bool:
        """Return whether another call may be made while ``in_flight`` calls are in flight."""
        return self.proven or in_flight + len(self._numbers) < UNPROVEN_IN_FLIGHT

    def succeeded(self) -> None:
        """Note an answer or a PENDING: the vendor understands the request."""
        self.proven = self.quiet = True
        self._alike = None
        self._numbers.clear()

    def refused(self, number: str, reply: NoAnswer) -> UniformRefusals | None:
        """Note a reply that leaves a number without an answer; return the error that ends the run, if it should.

        Outages and rate limits neither count nor reset anything; the circuit and the gate handle them.
        """
        row = reply.row
        if row.fate not in ("final", "ask_once_more") and row.error is not Undetermined:
            return None
        # Reasons that differ only in digits are alike: they may contain the number or a byte count.
        alike = row.name, _DIGITS.sub("#", reply.reason)
        if alike != self._alike:
            self._alike = alike
            self._numbers.clear()
        self.quiet = False
        self._numbers.add(number)
        count = len(self._numbers)
        if count < (LATER_ALIKE if self.proven else FIRST_ALIKE):
            return None
        word = reply.status if isinstance(reply, StatusReply) else row.name
        said = f" ({reply.reason})" if reply.reason else ""
        return UniformRefusals(
            f"{count} numbers in a row got the same reply: {word}{said}{STOPS}{row.if_all} "
            "If that is expected for this list, use keep_going",
            vendor_status=word,
            vendor_reason=reply.reason,
            numbers=count,
            request_id=reply.request_id,
            http_status=reply.http_status,
        )
