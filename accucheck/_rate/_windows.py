"""Whether the limiter counts in windows, and when windows of a second turn."""

from __future__ import annotations

import math

from accucheck._rate import _constants as constants
from accucheck._rate._calls import Attempt, Calls, Mark
from accucheck._rate._clock import SteadyClock
from accucheck._rate._lockout import Lockout

__all__ = ["Windows"]


class Windows:
    """A suspicion, and the moment of the turn as an interval that narrows with every lockout.

    Most limits that are windows are windows of a second, and the turn of one second is the turn of all.
    Once it is known, an exhausted window needs no tries: the next one is awaited. And what the window has
    admitted since it turned **is** the limit.
    """

    __slots__ = ("_agreed", "_calls", "_clock", "_seen_at", "_suspicion", "_turn")

    def __init__(self, calls: Calls, clock: SteadyClock) -> None:
        self._calls = calls
        self._clock = clock
        self._suspicion = constants.FIRST_SUSPICION
        self._turn = Attempt(0.0, 0.0)
        self._seen_at = 0.0
        self._agreed = 0

    @property
    def suspected(self) -> bool:
        """Whether the limiter is more likely to count in windows than to be a token bucket."""
        return self._suspicion > 0

    @property
    def known(self) -> bool:
        """Whether it is known when windows of a second turn."""
        return self.suspected and self._agreed >= constants.TURNS_TO_TRUST

    def learn(self, lockout: Lockout, passed: float) -> None:
        """Learn from an lockout that has ended with the try sent at ``passed``."""
        turn = lockout.turn(passed)
        agrees = self.suspected and self._agreed > 0 and self._agrees(turn)
        if lockout.tried_in_vain or lockout.awaits_turn or agrees:
            self._narrow(turn)
        elif self.suspected and not lockout.is_window:
            self._suspicion -= 1  # the very first try has passed, as in a token bucket
        if lockout.is_window:
            self._suspicion = constants.SUSPICION

    def forget(self) -> None:
        """A turn did not come when it was expected."""
        self._agreed = 0

    def acquit(self) -> None:
        """The limiter does not count in windows of a second."""
        self._agreed = self._suspicion = 0

    def begun(self, refused_at: float) -> Attempt:
        """Return when the window began that refused a call sent then."""
        seconds = math.floor(refused_at - self._turn.before - constants.SURE_TURN)
        return Attempt(self._turn.after + seconds, self._turn.before + seconds)

    def next(self, refused_at: float) -> float:
        """Return when to try the window after the one that refused a call sent then.

        In the middle of a wide interval: whatever becomes of the try, the interval is half as wide after it.
        """
        wide = self._turn.before - self._turn.after > constants.SURE_TURN
        turn = self._turn.middle if wide else self._turn.before
        return turn + math.ceil(refused_at - turn - constants.SURE_TURN)

    def count(self, mark: Mark) -> tuple[int, int]:
        """Return the least and the most calls that the window exhausted at a mark can have admitted."""
        begun = self.begun(mark.moment)
        return mark.sent - 1 - self._sent_until(begun.before), mark.sent - 1 - self._sent_until(begun.after)

    def correct(self, limit: float, mark: Mark) -> float:
        """Correct a limit by what the window exhausted at a mark has admitted."""
        if not self.known:
            return limit
        least, most = self.count(mark)
        return min(max(limit, least), most)

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

    def _agrees(self, turn: Attempt) -> bool:
        later, earlier = self._overlap(turn)
        return turn.before - turn.after < constants.VAGUE_TURN and later < earlier

    def _narrow(self, turn: Attempt) -> None:
        width = turn.before - turn.after
        if width > 1:
            self._agreed = 0
        if width >= constants.VAGUE_TURN:
            return
        after, before = self._overlap(turn)
        if self._agreed and turn.middle - self._seen_at < constants.SAME_SECOND:
            self._agreed = 0  # no window of a second turns twice in one
            return
        self._seen_at = turn.middle
        if self._agreed and after < before + constants.SURE_TURN:
            # Two that just miss each other differ by how long calls travel: the turn is between them.
            self._turn = Attempt(min(after, before), max(after, before))
            self._agreed += 1
        else:
            self._turn = turn
            self._agreed = 1

    def _overlap(self, turn: Attempt) -> Attempt:
        seconds = round(turn.middle - self._turn.middle)
        return Attempt(
            max(turn.after, self._turn.after + seconds), min(turn.before, self._turn.before + seconds)
        )
