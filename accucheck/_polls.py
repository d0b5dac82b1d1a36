"""When to ask again for a PENDING number: learned from how long the vendor's answers take. Pure.

``PollTimes`` serves answers that take seconds, ``LaterPolls`` those that take minutes or hours (``pending="later"``).

A poll that comes too early is a call wasted, one that comes late only keeps a number waiting. So the
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

__all__ = ["LaterPolls", "PollTimes"]

FIRST_WAIT: Final = 2.0
WAIT_GROWTH: Final = 1.6
LONGEST_WAIT: Final = 30.0
"""Seconds: the schedule while nothing is known, 2, 3.2, 5.1 … 30, and beyond all known answers."""
SHORTEST_WAIT: Final = 0.1
SPREAD: Final = 0.1
"""Waits are drawn from the planned one to 10 % more: numbers delayed together do not come back together."""
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


FLOOR: Final = 20.0
"""Seconds between two asks for a number: the family's pages say "more than 20 s, not sooner"."""
SCOUT_EVERY: Final = 16
"""One pending number in so many is a scout: it is polled ahead of the others, to learn for them."""
NEIGHBORS: Final = 4
"""Scouts that a number listens to on either side: those asked at about the same time, since a queue grows."""
MOST_SCOUTS: Final = 0.8
"""A number is due when this share of the scouts that were pending as long as it was are answered."""
SCOUT_GROWTH: Final = 2.0
SCOUT_PHASES: Final = 4
"""Scouts poll at doubling ages, at four phases: together they see an age to within a fifth."""
FOLLOWED_FROM: Final = 1.1
"""A scout follows a neighbor that was answered, if it was itself last asked at a younger age by this factor."""
LONGEST_SILENCE: Final = 3_600.0
"""Seconds after which a number is polled whatever the scouts say."""
CLOCK_STEP: Final = 1e-6
"""Seconds that no clock tells apart: sums of its readings may fall short by less."""
SHORTEST_LOOK: Final = 0.1
LOOKS_PER_FLOOR: Final = 4
LOOKS_PER_AGE: Final = 8
"""A waiting number is looked at again, without a call, after an eighth of its age, at least a quarter of the floor."""


class LaterPolls:
    """The schedule for answers that may take hours, with little over one poll a number.

    A vendor with a long queue answers PENDING for the whole list, so nothing is known when the waiting begins, and
    times to answer grow along the list. Few numbers are therefore polled early (scouts); the others are looked at
    now and then, which costs no call, and become due when the scouts next to them have been answered.

    Ages are seconds since a number was first asked.
    """

    def __init__(self, *, floor: float = FLOOR) -> None:
        """``floor`` is the least time between two asks for a number, in seconds."""
        self.floor: Final = floor
        self._pending = 0
        self._asked: list[float] = []  # of each scout: the age at which it was last PENDING
        self._ended: list[float | None] = []  # and that at which it was found to be answered

    def enlist(self, age: float) -> int:
        """Note a number that is PENDING for the first time; return its place in the line."""
        place = self._pending
        self._pending += 1
        if place % SCOUT_EVERY == 0:
            self._asked.append(age)
            self._ended.append(None)
        return place

    def still_pending(self, place: int, age: float) -> None:
        """Note that a poll brought PENDING again."""
        if place % SCOUT_EVERY == 0:
            self._asked[place // SCOUT_EVERY] = age

    def ended(self, place: int, age: float) -> None:
        """Note that a number was answered, or given up."""
        if place % SCOUT_EVERY == 0:
            self._ended[place // SCOUT_EVERY] = age

    def next_look(self, place: int, asked: float, age: float, polls: int) -> float:
        """Return the seconds until a number should be looked at again; 0 if it should be asked now.

        ``asked`` is the age at which it was last PENDING, ``age`` the present one, ``polls`` the polls so far.
        """
        earliest = asked + self.floor
        if place % SCOUT_EVERY == 0:
            due = self._scout_due(place // SCOUT_EVERY, asked, polls)
        else:
            due = self._due(place // SCOUT_EVERY, asked)
        due = max(due, earliest)
        if due - age < CLOCK_STEP:
            return 0.0
        return min(
            max(SHORTEST_LOOK, self.floor / LOOKS_PER_FLOOR, age / LOOKS_PER_AGE, earliest - age), due - age
        )

    def _scout_due(self, scout: int, asked: float, polls: int) -> float:
        if any((self._ended[other] or 0.0) > asked * FOLLOWED_FROM for other in self._near(scout)):
            return asked * FOLLOWED_FROM
        if polls == 0:
            return self.floor * math.pow(SCOUT_GROWTH, scout % SCOUT_PHASES / SCOUT_PHASES)
        return min(asked * SCOUT_GROWTH, asked + LONGEST_SILENCE)

    def _due(self, scout: int, asked: float) -> float:
        answered = pending = 0
        for other in self._near(scout):
            ended = self._ended[other]
            if ended is None:
                pending += 1
            elif ended > asked:
                answered += 1
        if not answered and not pending:  # it has outlasted all of them
            return asked * 1.5
        if answered >= MOST_SCOUTS * (answered + pending):
            return 0.0
        return asked + LONGEST_SILENCE

    def _near(self, scout: int) -> range:
        return range(max(0, scout - NEIGHBORS), min(len(self._asked), scout + NEIGHBORS + 1))
