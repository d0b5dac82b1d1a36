"""Limiters that count in windows: how long they refuse everything, when windows reset, and what a window admits."""

from __future__ import annotations

import math

from accucheck._rate import _constants as constants
from accucheck._rate._calls import Calls, Mark, Reset, SteadyClock

__all__ = ["Lockout", "WindowQuota", "Windows"]


class Lockout:
    """A period in which everything is refused: when to try again with single calls, less and less often."""

    __slots__ = (
        "_began",
        "_last_refused",
        "_latency",
        "_likely",
        "_reset",
        "_step",
        "_tries",
        "awaits_reset",
        "mark",
        "resumes",
    )

    def __init__(self, now: float, mark: Mark, likely: float, *, latency: float, resumes: bool) -> None:
        """``likely`` is about the limit, in calls per second; ``latency`` is that of calls.

        A lockout ``resumes`` if the rate was already cut and only the cut's trial was refused.
        """
        self._began = now
        self.mark = mark
        self.resumes = resumes
        self.awaits_reset = False
        """Whether the next try is made when a window is known to reset."""
        self._latency = latency
        self._reset: float | None = None
        self._last_refused = mark.moment
        self._likely = likely
        self._step = constants.HOLD_CALLS / likely
        self._tries = 0

    @property
    def first_try(self) -> float:
        """When to try for the first time."""
        return self._began + constants.HOLD_CALLS / self._likely

    def await_reset(self) -> None:
        self.awaits_reset = True

    def doubt_reset(self, reset: float) -> None:
        """Wait for the reset only if an immediate try is also refused, which confirms a window."""
        self._reset = reset

    def refuse(self, sent_at: float) -> float:
        """Note a refused try and return the time of the next."""
        self._last_refused = sent_at
        self._tries += 1
        self.awaits_reset = self._reset is not None
        if self._reset is not None:
            reset, self._reset = self._reset, None
            return reset
        longest = max(constants.LOCKOUT_SECONDS, constants.LOCKOUT_SHARE * self.refused_for)
        self._step = min(constants.LOCKOUT_GROWTH * self._step, longest)
        return sent_at + self._step

    @property
    def refused_for(self) -> float:
        """Seconds from the first refusal to the last."""
        return self._last_refused - self.mark.moment

    @property
    def tried_in_vain(self) -> bool:
        return self._tries > 0

    @property
    def is_window(self) -> bool:
        """Whether it has lasted too long for a token bucket."""
        return self._last_refused - self._began > max(
            constants.BUCKET_CALLS / self._likely, constants.BUCKET_LATENCIES * self._latency
        )

    @property
    def is_long(self) -> bool:
        """Whether it has lasted too long for a window of a second."""
        longest = max(constants.LONG_LOCKOUT_SECONDS, constants.LONG_LOCKOUT_CALLS / self._likely)
        return self.refused_for > longest

    def reset(self, passed: float) -> Reset:
        """Return when the window reset, if it is one: between the last refused try and the one that passed."""
        return Reset(self._last_refused, passed)


class Windows:
    """Whether there is a window, and its reset as an interval that narrows with every lockout.

    Most windows last one second, and all of them reset at the same point of the second. Once that is known, an
    exhausted window needs no tries, only a wait for the next one. And what a window has admitted since its reset **is**
    the limit.
    """

    __slots__ = ("_agreed", "_calls", "_clock", "_reset", "_seen_at", "_suspicion")

    def __init__(self, calls: Calls, clock: SteadyClock) -> None:
        self._calls = calls
        self._clock = clock
        self._suspicion = constants.FIRST_SUSPICION
        self._reset = Reset(0.0, 0.0)
        self._seen_at = 0.0
        self._agreed = 0

    @property
    def suspected(self) -> bool:
        """Whether the limiter is more likely to count in windows than to be a token bucket."""
        return self._suspicion > 0

    @property
    def known(self) -> bool:
        """Whether it is known when windows of a second reset."""
        return self.suspected and self._agreed >= constants.RESETS_TO_TRUST

    def learn(self, lockout: Lockout, passed: float) -> None:
        """Learn from a lockout that has ended with the try sent at ``passed``."""
        reset = lockout.reset(passed)
        agrees = self.suspected and self._agreed > 0 and self._agrees(reset)
        if lockout.tried_in_vain or lockout.awaits_reset or agrees:
            self._narrow(reset)
        elif self.suspected and not lockout.is_window:
            self._suspicion -= 1  # the very first try has passed, as in a token bucket
        if lockout.is_window:
            self._suspicion = constants.SUSPICION

    def forget(self) -> None:
        """A reset did not come when it was expected."""
        self._agreed = 0

    def acquit(self) -> None:
        """The limiter does not count in windows of a second."""
        self._agreed = self._suspicion = 0

    def begun(self, refused_at: float) -> Reset:
        """Return when the window began that refused a call sent then."""
        seconds = math.floor(refused_at - self._reset.before - constants.SURE_RESET)
        return Reset(self._reset.after + seconds, self._reset.before + seconds)

    def next(self, refused_at: float) -> float:
        """Return when to try the window after the one that refused a call sent then.

        In the middle of a wide interval, so that any outcome halves it.
        """
        wide = self._reset.before - self._reset.after > constants.SURE_RESET
        reset = self._reset.middle if wide else self._reset.before
        return reset + math.ceil(refused_at - reset - constants.SURE_RESET)

    def count(self, mark: Mark) -> tuple[int, int]:
        """Return the least and the most calls that the window exhausted at a mark can have admitted.

        None at most: what refuses has admitted something, so the report of these calls is still to come.
        """
        begun = self.begun(mark.moment)
        sent = mark.sent - 1
        return max(sent - self._sent_until(begun.before), 0), max(sent - self._sent_until(begun.after), 0)

    def correct(self, limit: float, mark: Mark) -> float:
        """Correct a limit by what the window exhausted at a mark has admitted; a few calls say nothing."""
        if not self.known:
            return limit
        least, most = self.count(mark)
        return min(max(limit, least), most) if most >= constants.FEW_CALLS else limit

    def contradicted(self, mark: Mark, cut_at: float) -> bool:
        """Whether a second's window was not exhausted at a mark: the one before it has admitted more.

        Unless the limit fell: after a cut in the window before, nothing can be said.
        """
        if not self.known:
            return False
        begun = self.begun(mark.moment).after
        if cut_at > begun - 1:
            return False
        _, most = self.count(mark)
        return self._sent_until(begun) - self._sent_until(begun - 1) > constants.SAME_COUNT * most + 2

    def _sent_until(self, moment: float) -> int:
        return self._calls.sent_until(self._clock.reading(moment))

    def _agrees(self, reset: Reset) -> bool:
        later, earlier = self._overlap(reset)
        return reset.before - reset.after < constants.VAGUE_RESET and later < earlier

    def _narrow(self, reset: Reset) -> None:
        width = reset.before - reset.after
        if width > 1:
            self._agreed = 0
        if width >= constants.VAGUE_RESET:
            return
        after, before = self._overlap(reset)
        if self._agreed and reset.middle - self._seen_at < constants.SAME_SECOND:
            self._agreed = 0  # no window of a second resets twice in one
            return
        self._seen_at = reset.middle
        if self._agreed and after < before + constants.SURE_RESET:
            # Two that just miss each other differ by how long calls travel: the reset is between them.
            self._reset = Reset(min(after, before), max(after, before))
            self._agreed += 1
        else:
            self._reset = reset
            self._agreed = 1

    def _overlap(self, reset: Reset) -> Reset:
        seconds = round(reset.middle - self._reset.middle)
        return Reset(
            max(reset.after, self._reset.after + seconds), min(reset.before, self._reset.before + seconds)
        )


class WindowQuota:
    """What a window admits, and how to spread it over the next one."""

    __slots__ = ("_admitted", "_began_at", "_ends", "_seconds")

    def __init__(self) -> None:
        self._began_at = 0.0
        self._admitted = 0
        self._seconds = 0.0
        self._ends = 0.0

    def begin(self, moment: float, admitted: int) -> None:
        """A window begins, after this many admitted calls in total."""
        self._began_at, self._admitted = moment, admitted

    def spread(self, now: float, reset: Reset, admitted: int) -> tuple[float, float]:
        """Return the limit, and the rate at which the window that has just begun is used up as the next may begin.

        Its quota is what the window before has admitted.
        """
        quota = admitted - self._admitted
        longest = max(reset.middle - self._began_at, constants.HOLD_SECONDS)
        shortest = max(reset.after - self._began_at, constants.HOLD_SECONDS)
        self._seconds = min(reset.before - self._began_at, constants.LONGEST_WINDOW)
        self._ends = now + self._seconds
        time_left = reset.after + shortest - now
        return quota / longest, quota / max(time_left, shortest / 2)

    def is_over(self, now: float) -> bool:
        """Whether the window that was spread has reset for certain."""
        return now > self._ends

    def is_young(self, now: float) -> bool:
        """Whether less than half of the window that was spread is over."""
        return now < self._ends - self._seconds / 2
