"""The quota of a window of many seconds."""

from __future__ import annotations

from accucheck._rate import _constants as constants
from accucheck._rate._calls import Attempt

__all__ = ["Quota"]


class Quota:
    """What a window admits, and how to spread it over the next one."""

    __slots__ = ("_admitted", "_ends", "_seconds", "_turned_at")

    def __init__(self) -> None:
        self._turned_at = 0.0
        self._admitted = 0
        self._seconds = 0.0
        self._ends = 0.0

    def begin(self, moment: float, admitted: int) -> None:
        """A window begins, when so many calls have been admitted in all."""
        self._turned_at, self._admitted = moment, admitted

    def spread(self, now: float, turn: Attempt, admitted: int) -> tuple[float, float]:
        """Return the limit, and the rate at which the window that has just begun is used up as the next may begin.

        Its quota is what the window before has admitted.
        """
        quota = admitted - self._admitted
        longest = max(turn.middle - self._turned_at, constants.HOLD_SECONDS)
        shortest = max(turn.after - self._turned_at, constants.HOLD_SECONDS)
        self._seconds = min(turn.before - self._turned_at, constants.LONGEST_WINDOW)
        self._ends = now + self._seconds
        time_left = turn.after + shortest - now
        return quota / longest, quota / max(time_left, shortest / 2)

    def is_over(self, now: float) -> bool:
        """Whether the window that was spread has turned for certain."""
        return now > self._ends

    def is_young(self, now: float) -> bool:
        """Whether less than half of the window that was spread is over."""
        return now < self._ends - self._seconds / 2
