"""When to ask again for a PENDING number: learned from how long the vendor's answers take. Pure.

``PollTimes`` serves answers that take seconds, ``LaterPolls`` those that take minutes or hours (``pending="later"``).

A poll that is too early wastes a call; one that is late only delays a number. So the first poll is made when most
answers are ready, the next when most of the rest are.

An answer found by a poll became ready between the last PENDING and that poll, so each time to answer is known only as
an interval. The distribution is estimated from the intervals as in B. Turnbull, "The Empirical Distribution Function
with Arbitrarily Grouped, Censored and Truncated Data" (1976), one answer at a time: an answer's weight is spread over
its interval in proportion to earlier answers, and old answers fade. On its own, this could never notice that answers
are ready before the first poll, so one number in eight is polled earlier.
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
"""Seconds. The schedule while nothing is known, and beyond all known answers: 2, 3.2, 5.1 … 30."""
SHORTEST_WAIT: Final = 0.1
SPREAD: Final = 0.1
"""Waits are randomly up to 10 % longer than planned, so that numbers delayed together do not return together."""
MOST_ANSWERS: Final = 0.85
"""A poll is timed so that this share of the outstanding answers is ready."""
EXPLORED_SHARE: Final = 1 / 8
"""The share of numbers whose first poll is early, at 40 to 95 % of the time. Costs 0.1 polls per number."""
EXPLORED_FROM, EXPLORED_TO = 0.4, 0.95
ANSWERS_TO_TRUST: Final = 8
MEMORY: Final = 64.0
"""An answer counts e times less after this many newer ones."""
NOTICED: Final = 0.02
"""If less than this share of the weight remains, a number has waited longer than all known answers."""
UNSEEN: Final = 0.01
"""The weight of a time at which no answer has arrived so far; it keeps new times possible."""

_EDGES: Final = [0.05 * 1.1**step for step in range(100)]
"""The upper edges of the histogram's bins in seconds: 0.05 s to 10 minutes, each 10 % wider than the last."""


class PollTimes:
    """How long the vendor takes to answer, and the poll schedule that follows. Uses constant memory."""

    def __init__(self) -> None:
        self._weights = [0.0] * len(_EDGES)
        self._answers = 0

    def answered(self, seconds: float, still_pending_at: float | None = None) -> None:
        """Learn from a number that was PENDING and is now answered, ``seconds`` after its first call.

        ``still_pending_at`` is when it was last PENDING, in seconds after its first call; None if unknown, in which
        case the answer is assumed to be as late as it was found. Impossible times (negative, not finite) are ignored.
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

        ``pending_for`` is the seconds since the number's first call, ``polls`` the polls made so far (0: it has just
        become PENDING), and ``chance`` a draw from [0, 1) that spreads the polls.
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
        """Return when most of the outstanding answers will be ready; None if none took this long so far."""
        place = bisect_right(_EDGES, pending_for) if pending_for >= 0 else 0
        so_far = list(accumulate(self._weights[place:]))
        if not so_far or so_far[-1] < NOTICED * sum(self._weights):
            return None
        return _EDGES[place + bisect_left(so_far, MOST_ANSWERS * so_far[-1])]


FLOOR: Final = 20.0
"""Seconds between two asks for a number: the family's pages say "more than 20 s, not sooner"."""
SCOUT_EVERY: Final = 16
"""One pending number in this many is a scout, which is polled before the others."""
NEIGHBORS: Final = 4
"""Scouts that a number follows on either side: those asked at about the same time."""
MOST_SCOUTS: Final = 0.8
"""A number is due when this share of the scouts that were pending as long as it are answered."""
SCOUT_GROWTH: Final = 2.0
SCOUT_PHASES: Final = 4
"""Scouts are polled at doubling ages, in four phases, so that together they cover ages to within a fifth."""
FOLLOWED_FROM: Final = 1.1
"""A scout follows an answered neighbor if its own last call was at an age younger by this factor."""
LONGEST_SILENCE: Final = 3_600.0
"""Seconds after which a number is polled regardless of the scouts."""
CLOCK_STEP: Final = 1e-6
"""Seconds below which times count as equal, because of rounding."""
SHORTEST_LOOK: Final = 0.1
LOOKS_PER_FLOOR: Final = 4
LOOKS_PER_AGE: Final = 8
"""A waiting number is looked at again, without a call, after an eighth of its age, at least a quarter of the floor."""


class LaterPolls:
    """The schedule for answers that may take hours, with little more than one poll per number.

    A vendor with a long queue answers PENDING for the whole list, so nothing is known at first, and times to answer
    grow along the list. Therefore only a few numbers are polled early (scouts). The others are looked at now and then,
    which costs no call, and become due when nearby scouts have been answered.

    Ages are seconds since a number's first call.
    """

    def __init__(self, *, floor: float = FLOOR) -> None:
        """``floor`` is the least time between two asks for a number, in seconds."""
        self.floor: Final = floor
        self._pending = 0
        self._asked: list[float] = []  # for each scout, the age at which it was last PENDING
        self._ended: list[float | None] = []  # and the age at which its answer was found

    def enlist(self, age: float) -> int:
        """Note a number that is PENDING for the first time; return its place in the line."""
        place = self._pending
        self._pending += 1
        if place % SCOUT_EVERY == 0:
            self._asked.append(age)
            self._ended.append(None)
        return place

    def still_pending(self, place: int, age: float) -> None:
        """Note another PENDING reply to a poll."""
        if place % SCOUT_EVERY == 0:
            self._asked[place // SCOUT_EVERY] = age

    def ended(self, place: int, age: float) -> None:
        """Note that a number was answered or given up."""
        if place % SCOUT_EVERY == 0:
            self._ended[place // SCOUT_EVERY] = age

    def next_look(self, place: int, asked: float, age: float, polls: int) -> float:
        """Return the seconds until a number should be looked at again; 0 if it should be polled now.

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
        if not answered and not pending:  # it has been pending longer than all of them
            return asked * 1.5
        if answered >= MOST_SCOUTS * (answered + pending):
            return 0.0
        return asked + LONGEST_SILENCE

    def _near(self, scout: int) -> range:
        return range(max(0, scout - NEIGHBORS), min(len(self._asked), scout + NEIGHBORS + 1))
