"""A time in which everything is refused."""

from __future__ import annotations

from accucheck._rate import _constants as constants
from accucheck._rate._calls import Attempt, Mark
from accucheck._rate._phase import Phase

__all__ = ["Lockout"]


class Lockout:
    """What was going on when it began, and when to try again: single calls, less and less often."""

    __slots__ = (
        "_began",
        "_last_refused",
        "_latency",
        "_likely",
        "_step",
        "_tries",
        "_turn",
        "awaits_turn",
        "mark",
        "phase",
        "rate",
        "resumes",
    )

    def __init__(
        self, now: float, mark: Mark, phase: Phase, rate: float, *, latency: float, resumes: bool
    ) -> None:
        """``rate`` is what was refused in ``phase``.

        An lockout ``resumes`` if the rate has been cut already and only the cut's trial was refused.
        """
        self._began = now
        self.mark = mark
        self.phase = phase
        self.rate = rate
        self.resumes = resumes
        self.awaits_turn = False
        """Whether the next try is made when a window is known to turn."""
        self._latency = latency
        self._turn: float | None = None
        self._last_refused = mark.moment
        # Startup overshoots the limit by far.
        self._likely = rate * (constants.STARTUP_CUT if phase is Phase.STARTUP else 1.0)
        self._step = constants.HOLD_CALLS / self._likely
        self._tries = 0

    @property
    def first_try_after(self) -> float:
        return constants.HOLD_CALLS / self._likely

    def await_turn(self) -> None:
        self.awaits_turn = True

    def doubt_turn(self, turn: float) -> None:
        """Await the turn only if a try at once is refused too: then it is a window indeed."""
        self._turn = turn

    def refuse(self, sent_at: float) -> float:
        """Take note of a refused try and return the moment of the next."""
        self._last_refused = sent_at
        self._tries += 1
        self.awaits_turn = self._turn is not None
        if self._turn is not None:
            turn, self._turn = self._turn, None
            return turn
        longest = max(constants.OUTAGE_SECONDS, constants.OUTAGE_SHARE * self.refused_for)
        self._step = min(constants.OUTAGE_GROWTH * self._step, longest)
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
        longest = max(constants.LONG_OUTAGE_SECONDS, constants.LONG_OUTAGE_CALLS / self._likely)
        return self.refused_for > longest

    def turn(self, passed: float) -> Attempt:
        """Return when the window turned, if it is one: between the last refused try and the one that passed."""
        return Attempt(self._last_refused, passed)
