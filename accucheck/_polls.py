"""When to ask again for a PENDING number: learned from how long the vendor's answers take. Pure.

A poll that comes too early is a call wasted, one that comes late only keeps a parked number parked. So the
first poll goes out when most answers are there, the next when most of the rest are.

An answer found by a poll came at some moment between the last PENDING and that poll: what is known of each
time to answer is an interval. The distribution is estimated from the intervals as in B. Turnbull, "The
Empirical Distribution Function with Arbitrarily Grouped, Censored and Truncated Data" (1976), one answer at a
time: an answer's weight is spread over its interval as the answers before it are, and old answers fade.
That alone could never notice that answers come sooner than the first poll, so one number in eight is polled
earlier.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import Final

__all__ = ["PollTimes"]

FIRST_WAIT: Final = 2.0
WAIT_GROWTH: Final = 1.6
LONGEST_WAIT: Final = 30.0
"""Seconds: the schedule while nothing is known, 2, 3.2, 5.1 … 30, and beyond all known answers."""
SHORTEST_WAIT: Final = 0.1
SPREAD: Final = 0.1
"""Waits are drawn from the planned one to 10 % more: numbers parked together do not come back together."""
MOST_ANSWERS: Final = 0.85
"""A poll is timed so that this share of the answers still awaited is there."""
EXPLORED_SHARE: Final = 1 / 8
"""Numbers whose first poll comes early, at 40 to 95 % of the time: a price of 0.1 polls per number."""
EXPLORED_FROM, EXPLORED_TO = 0.4, 0.95
ANSWERS_TO_TRUST: Final = 8
MEMORY: Final = 64.0
"""An answer counts e times less once this many have come after it."""
NOTICED: Final = 0.02
"""The share of remaining weight below which a number has outlasted all that is known."""
UNSEEN: Final = 0.01
"""The weight of a moment at which no answer has come yet: what makes the unheard-of possible."""

_EDGES: Final = [0.05 * 1.1**step for step in range(100)]
"""The upper edges of the histogram's bins in seconds: 0.05 s to 10 minutes, each 10 % wider than the last."""


class PollTimes:
    """The vendor's times to answer, and the poll schedule that follows from them. Its size is fixed."""

    def __init__(self) -> None:
        self._weights = [0.0] * len(_EDGES)
        self._answers = 0

    def answered(self, seconds: float, still_pending_at: float | None = None) -> None:
        """Learn from a number that was PENDING and is answered now, ``seconds`` after it was first asked.

        ``still_pending_at`` is when it was last PENDING, in seconds after it was first asked; None if that
        is not known, and then the answer is taken to be as late as it was found. Times that a clock cannot
        have measured (negative, not finite) are ignored.
        """
        if not 0 <= seconds < math.inf:
            return
        last = min(bisect_left(_EDGES, seconds), len(_EDGES) - 1)
        first = last
        if still_pending_at is not None and 0 <= still_pending_at < seconds:
            first = min(bisect_right(_EDGES, still_pending_at), last)
        share = [weight + UNSEEN for weight in self._weights[first : last + 1]]
        kept = 1 - 1 / MEMORY
        self._weights = [weight * kept for weight in self._weights]
        total = sum(share)
        for place, weight in enumerate(share, first):
            self._weights[place] += weight / total
        self._answers += 1

    def next_wait(self, pending_for: float, polls: int, chance: float) -> float:
        """Return the seconds to wait before asking again.

        ``pending_for`` is the seconds since the number was first asked, ``polls`` the polls made so far
        (0: it has just become PENDING), ``chance`` a draw from [0, 1) that spreads the polls.
        """
        planned = self._planned(pending_for) if self._answers >= ANSWERS_TO_TRUST else None
        if planned is None:
            wait = min(FIRST_WAIT * WAIT_GROWTH ** min(polls, 16), LONGEST_WAIT)
        elif polls == 0 and chance < EXPLORED_SHARE:
            early = EXPLORED_FROM + (EXPLORED_TO - EXPLORED_FROM) * chance / EXPLORED_SHARE
            return max(early * planned - pending_for, SHORTEST_WAIT)
        else:
            wait = max(planned - pending_for, SHORTEST_WAIT)
        return wait * (1 + SPREAD * chance)

    def _planned(self, pending_for: float) -> float | None:
        """Return the moment at which most of the answers not there by now will be; None if unheard of."""
        place = bisect_right(_EDGES, pending_for) if pending_for >= 0 else 0
        so_far = list(accumulate(self._weights[place:]))
        if not so_far or so_far[-1] < NOTICED * sum(self._weights):
            return None
        return _EDGES[place + bisect_left(so_far, MOST_ANSWERS * so_far[-1])]
