"""The controller: replies in, the rate and the holds out."""

from __future__ import annotations

import math

from accucheck._errors import ConfigurationError
from accucheck._rate import _constants as constants
from accucheck._rate._calls import Calls, Mark, SteadyClock
from accucheck._rate._constants import LATENCY_GAIN, LONGEST_STEP
from accucheck._rate._search import Phase, Search
from accucheck._rate._windows import Lockout, Windows

__all__ = ["RateController"]


class RateController:
    """Turns the outcome of each call into the rate for the next ones.

    Call ``sent`` at each permit, then ``admitted`` or ``refused`` once its reply arrives (any reply counts as admitted
    unless it says that the call was rate-limited). Read ``resume_at`` before each permit, since every reply may move
    it, and ``rate(now)`` every few milliseconds, since that advances time. ``now`` and ``sent_at`` are seconds on one
    monotonic clock; a clock that jumps is tolerated.
    """

    def __init__(
        self,
        *,
        low: float = 0.02,
        high: float = math.inf,
        start: float | None = None,
        floor: float | None = None,
    ) -> None:
        """``low`` and ``high`` bound the rate (calls per second). ``start`` is where to begin: about 90 % of
        the limit that an earlier run has learned; None begins gently, and soon is at the ``floor``, a rate at which
        an earlier run was not refused.

        Raises ConfigurationError if a rate is not a positive number or ``low`` is over ``high``.
        """
        for name, value in {"low": low, "high": high, "start": low if start is None else start}.items():
            if not value > 0 or (value == math.inf and name != "high"):
                raise ConfigurationError(f"{name} must be a rate above 0 calls per second, not {value!r}.")
        if low > high:
            raise ConfigurationError(
                f"The rate's lower bound {low!r} is above its upper bound {high!r}: swap them."
            )
        self.lag = 0.0
        """Seconds until callers follow a new rate or hold; what they send before that is not evidence."""
        self.queued = False
        """Whether callers queue, so that an unused rate is due to late timers, not to a lack of calls."""
        self._clock = SteadyClock()
        self._started = False
        self._calls = Calls()
        # The exhaustion, or the reset of a window, that the next exhaustion is measured from.
        self._since = Mark(0.0, 0, 0, 0.0)
        # The last cut: replies to calls sent before it are not evidence. Its trial ends when a call is admitted.
        self._cut_at = -math.inf
        self._passed = 0
        self._trials = 0  # cuts since a call has passed
        self._awaits_pass = True
        self.resume_at = -math.inf
        """No calls before this time on the caller's clock. Replies may move it."""
        self._hold_until = self._asked_until = -math.inf
        self._lockout: Lockout | None = None
        self._interrupted = Phase.STARTUP, 0.0
        """The phase that the lockout has interrupted, and the rate that was refused in it."""
        self._windows = Windows(self._calls, self._clock)
        self._search = Search(self._calls, self._windows, low, high, start, floor)

    def resume_startup(self, rate: float) -> None:
        """Start where another controller was before it reached a limit."""
        self._search.resume_startup(rate)

    @property
    def phase(self) -> Phase:
        return self._search.phase

    @property
    def limit(self) -> float | None:
        """The limit in calls per second as far as it is known, perhaps from an earlier run; None during startup."""
        search = self._search
        if search.limit is None or search.phase not in (Phase.CLIMB, Phase.CONFIRM, Phase.PROBE):
            return search.limit
        return max(search.limit, search.rate)  # what passes at present

    @property
    def learned(self) -> float | None:
        """The limit in calls per second, to save for the next run; None if there was no refusal."""
        return self._search.limit if self._calls.refused else None

    @property
    def floor(self) -> float | None:
        """A rate at which nothing was refused, to be kept for the next run; None once a refusal was seen."""
        return None if self._calls.refused else self._search.passed or None

    def rate(self, now: float) -> float:
        """Calls per second that may be sent now."""
        self._advance(now)
        return self._search.rate

    def sent(self, now: float) -> None:
        """Note that a call is being sent."""
        calls = self._calls
        calls.sent += 1
        calls.times.append(now)
        if self._lockout is not None:  # this call is the probe; no other is made before its reply
            self._hold(self._advance(now) + constants.HOLD_SECONDS + 4 * calls.latency)

    def admitted(self, now: float, sent_at: float) -> None:
        """Note a reply to a call that was not rate-limited."""
        calls = self._calls
        calls.admitted += 1
        latency = now - sent_at
        if 0 <= latency <= LONGEST_STEP:
            calls.latency += (latency - calls.latency) * LATENCY_GAIN
        if self._awaits_pass:
            self._pass(now, sent_at)

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        """Note that a call was rate-limited; ``retry_after`` is the number of seconds that the vendor asks to wait.

        Refusals of calls that were sent before the last cut belong to it and do not cut again.
        """
        self._calls.refused += 1
        now = self._advance(now)
        sent = self._calls.sent_until(sent_at)
        sent_at = self._clock.sent(sent_at, now)
        news = sent_at > self._cut_at
        if news and self._lockout is None:
            self._exhausted(now, Mark(sent_at, sent, self._calls.refused, self._calls.idle))
        elif news and self._lockout is not None:
            if self._lockout.awaits_reset:
                self._windows.forget()
            self._hold(max(self._asked_until, self._lockout.refuse(sent_at)))
        if retry_after is not None and 0 < retry_after < math.inf:
            if news and self._lockout is None:
                self._begin_lockout(now, self._search.rate_when_sent(0.0))
            self._asked_until = now + min(retry_after, constants.LONGEST_RETRY_AFTER)
            self._hold(max(self._hold_until, self._asked_until))

    # Time

    def _advance(self, reading: float) -> float:
        """Read the time, advance the phase, and return the time in steady seconds."""
        shift = self._clock.shift
        now, step = self._clock.advance(reading)
        if self._clock.shift != shift:  # the clock has jumped
            self._calls.times.clear()
            self._hold(self._hold_until)
        if not self._started:
            self._started = True
            self._search.mark = self._since = Mark(now, 0, 0, 0.0)
            self._search.startup.began_at = now
            self._search.quota.begin(now, 0)
        if step and now > self._hold_until:
            self._search.run(now, min(step, now - self._hold_until), queued=self.queued)
        return now

    def _hold(self, until: float) -> None:
        self._hold_until = until
        self.resume_at = self._clock.reading(until)

    def _pass(self, now: float, sent_at: float) -> None:
        """A call was admitted that may be the first since a cut, or a try in a lockout."""
        if self._calls.admitted == 1:
            self._calls.latency /= LATENCY_GAIN
        now = self._advance(now)
        sent_at = self._clock.sent(sent_at, now)
        if sent_at <= self._cut_at:
            return
        self._passed += 1
        self._trials = 0
        if self._lockout is not None:
            self._recover(now, sent_at, self._lockout)
        elif self._search.phase is not Phase.DIP:
            self._awaits_pass = False
        elif self._passed >= constants.DIP_CALLS:
            self._search.enter(self._search.next_phase)

    # Exhaustion

    def _exhausted(self, now: float, mark: Mark) -> None:
        """The limiter has started to refuse: slow down, or stop until a single call is admitted."""
        self._search.mark = mark
        phase, rate = self._search.phase, self._search.rate_when_sent(now - mark.moment + self.lag)
        measurement = self._since.measure(mark)
        # If callers react late to a cut, one refusal after it does not indicate a window yet.
        patience = constants.LATE_CUTS if self.lag else 0
        if phase in (Phase.PROBE, Phase.CLIMB, Phase.CONFIRM) and self._windows.contradicted(
            mark, self._cut_at
        ):
            self._windows.acquit()
        if phase is Phase.PROBE and rate <= (1 + constants.WIDE_EXCESS) * self._search.known_limit:
            self._search.end_probe(rate, measurement)
            self._since = mark
        elif phase is Phase.CONFIRM and not self._trials and not measurement.is_settled(self._calls.latency):
            pass  # the exhaustion before this one still echoes
        elif (
            self._trials > patience
            or self._windows.suspected
            or phase in (Phase.STARTUP, Phase.PROBE, Phase.WINDOW)
        ):
            self._begin_lockout(now, rate)
            return
        else:
            self._search.lower(phase, rate, measurement)
            if measurement.is_settled(self._calls.latency) or measurement.is_idle:
                self._since = mark
        self._cut_at, self._passed, self._awaits_pass = now + self.lag, 0, True
        self._trials += 1
        if self._windows.known:
            self._hold(max(self._windows.next(mark.moment), now))
        else:
            self._hold(now + constants.HOLD_CALLS / self._search.rate)

    # Lockouts

    def _begin_lockout(self, now: float, rate: float) -> None:
        startup = self._search.phase is Phase.STARTUP  # which overshoots by far
        likely = constants.STARTUP_CUT * rate if startup else rate
        began = now + self.lag
        lockout = Lockout(
            began, self._search.mark, likely, latency=self._calls.latency, resumes=self._trials > 0
        )
        self._hold(lockout.first_try)
        if self._windows.known:
            reset = max(now, self._windows.next(self._search.mark.moment))
            if self._windows.contradicted(self._search.mark, self._cut_at):
                lockout.doubt_reset(reset)
            else:
                lockout.await_reset()
                self._hold(reset)
        self._lockout = lockout
        self._interrupted = self._search.phase, rate
        self._search.phase = Phase.LOCKOUT
        self._cut_at, self._passed, self._trials, self._awaits_pass = began, 0, 0, True

    def _recover(self, now: float, sent_at: float, lockout: Lockout) -> None:
        """A try was admitted: the limiter has tokens again, or its window has reset."""
        self._lockout = None
        self._hold(now)
        self._cut_at, self._passed = now, 0
        phase, rate = self._interrupted
        reset = lockout.reset(sent_at)
        if self._windows.known and not lockout.awaits_reset:
            self._windows.acquit()
        begun = self._windows.begun(lockout.mark.moment)
        early = self._windows.known and lockout.mark.moment - begun.before < constants.FULL_WINDOW
        self._windows.learn(lockout, sent_at)
        least, most = self._windows.count(lockout.mark)
        if phase is Phase.WINDOW and not lockout.is_long and self._search.quota.is_young(now):
            # Too early for a reset: the window slides.
            self._search.slide(rate)
            return
        # From exhaustion to exhaustion or from reset to reset: anything else would include part of a window.
        measurement = self._since.measure(lockout.mark, reset)
        if early and most >= constants.FEW_CALLS:
            self._search.cruise((least + most) / 2, constants.SHORT_CRUISE_SECONDS)
        elif phase is Phase.WINDOW or lockout.is_long:
            limit, spread = self._search.quota.spread(now, reset, self._calls.admitted - 1)
            self._search.spread(limit, spread)
        elif lockout.resumes:
            self._search.phase = phase
        elif (
            lockout.is_window
            and phase not in (Phase.STARTUP, Phase.PROBE)
            and measurement.calls >= constants.FEW_CALLS
        ):
            self._search.cruise(min(measurement.calls_per_second, rate), constants.SHORT_CRUISE_SECONDS)
        else:
            self._search.lower(phase, rate, measurement)
        if self.lag and not lockout.is_window:
            self._calls.idle += max(now - lockout.mark.moment, 0.0)  # long enough for a bucket to fill up
        if lockout.is_window:
            self._since = Mark(
                reset.middle, self._calls.sent - 1, self._calls.refused, self._calls.idle, reset
            )
            self._search.quota.begin(reset.middle, self._calls.admitted - 1)
        elif not lockout.resumes:
            self._since = lockout.mark
