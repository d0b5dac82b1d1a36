"""How long a run will still take, computed only from its counts, so that it can be tested against whole runs."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from accucheck._models import Stats
from accucheck._schedule import RatePlan

STEP = 0.2
"""Seconds between saved counts."""
SHORTEST_LOOK = 5.0
LONGEST_LOOK = 60.0
"""Seconds that the forecast looks back: half the run so far, within these bounds."""
FEW_CALLS = 300
FEW_CALLS_LOOK = 180.0
"""With fewer calls than that, it looks back further, up to this many seconds, so that chance evens out."""
RECENT = 12.0
RECENT_CALLS = 36
CHANGED = 1.2
"""A changed limit shows in the last seconds, if they have enough calls."""
ENOUGH_SECONDS = 2.0
ENOUGH_CALLS = 8
"""Seconds and calls of a run after which its speed is known."""
SEARCHING = 60.0
"""Seconds after which a rate that still changes is used anyway."""
SLOW = 2.0
"""Calls per second below which a search takes minutes: the run may get faster."""
STEADY = 1.3
"""The most by which the rate may vary within the look back for a forecast to be meaningful."""
POLLS = 1.4
"""Polls that a pending number takes once the client has learned when to poll."""
LEARNING_WAITS = 3.0
"""It has learned this after this many waits; until then there are many polls, which predict nothing."""
WAITS_REMEMBERED = 16.0
"""A pending number's wait counts e times less after this many later answers."""
LONG_WAIT = 90.0
"""If numbers are pending for longer than this many seconds, the time left is unknown."""
SHORTEST = 2.0
"""No forecast is shorter than this many seconds, because the last numbers take longer than others."""
LONG_PAUSE = 10.0
"""Seconds; a shorter pause for a quota is part of the pace."""


class _Moment(NamedTuple):
    active: float
    """Seconds of the run, without pauses and outages."""
    begun: int
    calls: int
    pending: int
    """Numbers that were PENDING at least once."""
    answered: int
    """Of these, numbers that are settled."""
    rate: float | None


class Forecast(NamedTuple):
    """What is known about the end of a run."""

    seconds: float | None
    """None while it is unknown."""
    bound: Literal["at most", "at least"] | None = None
    """At most: the run may still get faster. At least: pending numbers take minutes, but it is unknown how many."""


UNKNOWN = Forecast(None)


class TimeLeft:
    """Forecasts the end of a run from its counts.

    The time left is the time to ask for the remaining numbers at the recent speed, and then to wait for the answers of
    those that are pending by then.

    Args:
        to_check: How many distinct numbers the run has to ask.
        most_calls: How many calls this run may make; None if no cap ends it.
        plan: The quotas and hours of the run.
        wall: Returns seconds since 1970.
    """

    def __init__(
        self,
        to_check: int,
        *,
        most_calls: int | None = None,
        plan: RatePlan | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._to_check = to_check
        self._most_calls = most_calls
        self._plan = plan
        self._wall = wall
        self._past: deque[_Moment] = deque()
        self._waits: deque[_Moment] = deque()
        """From when the pending numbers whose answers come now were asked."""
        self._wait = 0.0
        """How long numbers are pending."""
        self._paused = 0.0
        self._last_elapsed = 0.0
        self._first_rate: float | None = None
        self._rate_has_moved = False
        self._last_pending_at = 0.0
        self._answered = 0

    def __call__(self, now: Stats, *, paused: bool = False) -> Forecast:
        """Record the counts and return the forecast. During a pause, call it with ``paused``, so that it does not
        count."""
        if paused:
            self._paused += now.elapsed - self._last_elapsed
            self._last_elapsed = now.elapsed
            return UNKNOWN
        self._last_elapsed = now.elapsed
        here = _Moment(
            active=now.elapsed - self._paused,
            begun=now.yes + now.no + now.failed + now.delayed + now.in_flight,
            calls=now.calls,
            pending=now.pending,
            answered=now.pending - now.pending_now,
            rate=now.rate,
        )
        self._note(here)
        return self._forecast(here, now)

    def _note(self, here: _Moment) -> None:
        past, waits = self._past, self._waits
        if self._first_rate is None:
            self._first_rate = here.rate
        elif here.rate is not None and abs(here.rate - self._first_rate) > 0.05 * self._first_rate:
            self._rate_has_moved = True
        if not past or here.pending > past[-1].pending:
            self._last_pending_at = here.active
        if not past or here.active - past[-1].active >= STEP:
            past.append(here)
            if not waits or here.pending > waits[-1].pending:
                waits.append(here)
        while len(past) > 1 and here.active - past[1].active >= FEW_CALLS_LOOK:
            past.popleft()
        if here.answered > self._answered:
            while len(waits) > 1 and waits[0].pending < here.answered:
                waits.popleft()
            share = math.exp((self._answered - here.answered) / WAITS_REMEMBERED) if self._answered else 0.0
            self._wait = share * self._wait + (1 - share) * (here.active - waits[0].active)
            self._answered = here.answered

    def _forecast(self, here: _Moment, now: Stats) -> Forecast:
        first = self._look_back(here) if here.active >= SEARCHING else self._steady_since(here)
        seconds = here.active - first.active
        if seconds < ENOUGH_SECONDS or here.calls - first.calls < ENOUGH_CALLS:
            return UNKNOWN
        left = max(self._to_check - here.begun, 0)
        pace = (here.calls - first.calls) / seconds
        change = self._change(here, first)
        if change < 1 or pace >= SLOW:  # a slow search speeds up for moments
            pace *= change
        if left:
            begun = here.begun - first.begun
            if begun <= 0:
                return UNKNOWN
            calls_left = left * (here.calls - first.calls) / begun
            if here.active < LEARNING_WAITS * self._wait:
                calls_left = min(calls_left, self._calls_left_once_learned(here, now, left, pace))
            rest = calls_left / pace + self._wait
        else:
            calls_left = float(here.answered < here.pending)
            # All are asked: wait for the answers of those that are pending.
            rest = 0.0 if self._wait > LONG_WAIT else self._last_pending_at + self._wait - here.active
        if self._most_calls is not None and self._most_calls - here.calls < calls_left:
            calls_left = max(self._most_calls - here.calls, 0)
            rest = calls_left / pace
        if rest < SHORTEST:
            return UNKNOWN
        return Forecast(self._with_pauses(rest, calls_left, now), self._bound(here, left, pace))

    def _bound(self, here: _Moment, left: int, pace: float) -> Literal["at most", "at least"] | None:
        oldest = next((each.active for each in self._waits if each.pending > here.answered), here.active)
        if max(self._wait, here.active - oldest) > LONG_WAIT:
            return "at least"
        return "at most" if pace < SLOW and left and self._rate_has_moved else None

    def _look_back(self, here: _Moment) -> _Moment:
        least = min(max(here.active / 2, SHORTEST_LOOK), LONGEST_LOOK)
        for past in reversed(self._past):
            if here.active - past.active >= least and here.calls - past.calls >= FEW_CALLS:
                return past
        return self._past[0]

    def _steady_since(self, here: _Moment) -> _Moment:
        """Return since when the rate has been about the same as now; during a search, earlier rates predict nothing."""
        since, low, high = here, here.rate or 1.0, here.rate or 1.0
        for past in reversed(self._past):
            rate = here.rate or 1.0 if past.rate is None else past.rate
            low, high = min(low, rate), max(high, rate)
            if high > STEADY * low:
                break
            since = past
            if here.active - past.active >= max(here.active / 2, SHORTEST_LOOK):
                break
        return since

    def _change(self, here: _Moment, first: _Moment) -> float:
        """Return how much faster the run is now than over the look back, if that is certain."""
        for past in reversed(self._past):
            if here.active - past.active >= RECENT and here.calls - past.calls >= RECENT_CALLS:
                lately = (here.calls - past.calls) / (here.active - past.active)
                change = lately * (here.active - first.active) / max(here.calls - first.calls, 1)
                return 1.0 if 1 / CHANGED < change < CHANGED else change
        return 1.0

    def _calls_left_once_learned(self, here: _Moment, now: Stats, left: int, pace: float) -> float:
        share = here.pending / max(here.begun, 1)
        others = max(here.calls - now.polls - here.begun, 0) / max(here.begun, 1)
        each = 1 + others + share * POLLS
        owed_at_the_end = share * pace / each * self._wait
        return max(left * each + now.pending_now - owed_at_the_end, left)

    def _with_pauses(self, rest: float, calls_left: float, now: Stats) -> float:
        plan = self._plan
        if plan is None:
            return rest
        least = plan._replace(hours=None).seconds_for(round(now.calls + calls_left))
        if plan.quotas and least is not None:
            rest = max(rest, least - now.elapsed)
        return rest if plan.hours is None else plan.hours.span(self._wall(), rest)
