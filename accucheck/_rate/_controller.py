"""Find an account's unknown rate limit and stay just under it. Pure: no clock, no I/O, no chance.

The idea is TCP BBR's: do not saw up and down around the limit as AIMD does, *measure* it. A limiter that
refuses on frequency is a bottleneck whose delivery rate can be counted: between two moments at which it
was exhausted, the calls it admitted per second **are** the limit, whatever we sent in between. So every
refusal closes one measurement and opens the next. From CUBIC (and botocore's adaptive mode, which uses it)
come the cut to 0.7 when a refusal comes as a surprise and the quick return to the rate that was known to
be good.

What happens is always one of seven phases:

    STARTUP   no refusal yet: double every 1.6 s, from two calls a second
    DIP       a refusal came unlooked for: 0.7 of the rate until a few calls have passed; cut again if not
    CLIMB     rise from a rate that passed towards one that did not
    CRUISE    1.5 % under the measured limit
    PROBE     cruise has lasted: exceed the cruise by 3 %, then more and more, until refused
    OUTAGE    everything is refused (a window's quota is used up): single calls, less and less often
    WINDOW    after a long outage: spread the window's quota until the window turns

The margin under the limit and the rare probe are what stable limits cost; an accelerating probe is how a
limit that has doubled is found within seconds.
"""

from __future__ import annotations

import math

from accucheck._errors import ConfigurationError
from accucheck._rate import _figures as figures
from accucheck._rate._clock import SteadyClock
from accucheck._rate._phase import Phase

__all__ = ["RateController"]


class RateController:
    """Turns what became of each call into the rate for the next ones.

    Call ``sent`` at each permit, then ``admitted`` or ``refused`` once its reply is there (any reply that is
    not a refusal for frequency counts as admitted). Before each permit read ``rate(now)`` and ``resume_at``:
    both change with every reply. ``now`` and ``sent_at`` are seconds of one monotonic clock; a clock that
    jumps is tolerated.
    """

    def __init__(self, *, low: float = 0.02, high: float = math.inf, start: float | None = None) -> None:
        """``low`` and ``high`` bound the rate (calls per second). ``start`` is where to begin: about 90 % of
        the limit that an earlier run has learned; None begins gently.

        Raises ConfigurationError if a rate is not a positive number or ``low`` is over ``high``.
        """
        for name, value in {"low": low, "high": high, "start": low if start is None else start}.items():
            if not value > 0 or (value == math.inf and name != "high"):
                raise ConfigurationError(f"{name} must be a rate over 0 calls per second, not {value!r}.")
        if low > high:
            raise ConfigurationError(
                f"The rate's lower bound {low!r} is over its upper bound {high!r}: swap them."
            )
        self._low = low
        self._high = high
        self._limit: float | None = None
        if start is None:
            self._phase = Phase.STARTUP
            self._rate = self._bounded(figures.START)
        else:
            self._phase = Phase.CRUISE
            self._rate = self._bounded(start)
            self._limit = self._rate / figures.CRUISE_SHARE
        self._clock = SteadyClock()
        self._started = False
        self._latency = 0.0
        self._admitted = 0
        # How much of the rate is used, over the last few dozen calls.
        self._permitted = 0.0
        self._used = 0.0
        # The measurement under way: since the limiter was last seen exhausted.
        self._measured_from = 0.0
        self._measured_calls = 0
        self._measured_from_turn = False
        self._refusals = 0
        self._refused = False
        # The last cut: replies to calls sent before it are no news. A trial ends when a call has passed.
        self._cut_at = -math.inf
        self._passed = 0
        self._on_trial = False
        self._resume_at = 0.0
        self._next_phase = Phase.CRUISE
        self._cruise_left = figures.SHORT_CRUISE_SECONDS
        self._excess = figures.PROBE_EXCESS
        self._refused_probes = 0
        self._known_good = 0.0
        # An outage: what was going on when it began, and how it is tried.
        self._windows = 2
        self._resumes = False
        self._outage_began = 0.0
        self._outage_step = 0.0
        self._last_refused_try = 0.0
        self._before_outage = (Phase.STARTUP, self._rate)
        self._calls_before_outage = 0
        # The window that a long outage reveals.
        self._turned_at = 0.0
        self._calls_since_turn = 0
        self._window_seconds = 0.0
        self._window_ends = 0.0

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def resume_at(self) -> float:
        """Nobody sends before this moment of the caller's clock (0 or past: now). Replies may move it."""
        return self._clock.reading(self._resume_at)

    @property
    def learned(self) -> float | None:
        """The limit in calls per second, to be kept for the next run; None if no refusal was seen."""
        return self._limit if self._refused else None

    def rate(self, now: float) -> float:
        """Calls per second that may be sent now."""
        self._advance(now)
        return self._rate

    def sent(self, now: float) -> None:
        """Take note of a call that goes out."""
        now = self._advance(now)
        self._used += 1
        if not self._started:
            self._started = True
            self._turned_at = self._measured_from = now
        if self._phase is Phase.OUTAGE:  # this call is the try; nobody follows before its reply
            self._resume_at = now + figures.HOLD_SECONDS + 4 * self._latency

    def admitted(self, now: float, sent_at: float) -> None:
        """Take note of a reply that is not a refusal for frequency."""
        now = self._advance(now)
        sent_at = self._clock.sent(sent_at, now)
        self._learn_latency(now - sent_at)
        self._admitted += 1
        self._calls_since_turn += 1
        self._measured_calls += sent_at > self._measured_from
        if sent_at <= self._cut_at:
            return
        self._passed += 1
        self._on_trial = False
        if self._phase is Phase.OUTAGE:
            self._recover(now, sent_at)
        elif self._phase is Phase.DIP and self._passed >= figures.DIP_CALLS:
            self._enter(self._next_phase)

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        """Take note of a refusal for frequency; ``retry_after``: the seconds that the vendor asks us to wait.

        Refusals of calls that were sent before the last cut belong to it and do not cut again.
        """
        now = self._advance(now)
        sent_at = self._clock.sent(sent_at, now)
        self._learn_latency(now - sent_at)
        self._refused = True
        self._refusals += 1
        news = sent_at > self._cut_at
        if news:
            if self._phase is Phase.OUTAGE:
                self._try_later(now, sent_at)
            else:
                self._exhausted(now, sent_at)
        if retry_after is not None and 0 < retry_after < math.inf:
            if news and self._phase is not Phase.OUTAGE:
                self._begin_outage(now, sent_at, self._rate)
            self._resume_at = max(self._resume_at, now + min(retry_after, figures.LONGEST_RETRY_AFTER))

    # Time

    def _advance(self, reading: float) -> float:
        """Take the time, let the phase run on, and return the time in steady seconds."""
        now, step = self._clock.advance(reading)
        if step:
            self._run(now, step)
        return now

    def _run(self, now: float, step: float) -> None:
        if now <= self._resume_at:
            return
        step = min(step, now - self._resume_at)
        self._permitted += self._rate * step
        if self._permitted > 2 * figures.PACE_CALLS:
            self._permitted /= 2
            self._used /= 2
        if self._used < figures.SATURATED * self._permitted - 2:
            return
        step = min(step, 2 / self._rate)
        slowed = min(1.0, self._rate / figures.PACE_CALLS)
        match self._phase:
            case Phase.STARTUP:
                if self._rate * self._latency < figures.RISKED_CALLS + figures.RISKED_SHARE * self._admitted:
                    doubling = (
                        figures.STARTUP_DOUBLING if self._rate < figures.SURE_RATE else figures.SURE_DOUBLING
                    )
                    self._rate = self._bounded(self._rate * 2 ** (step / doubling))
            case Phase.CLIMB:
                self._rate = self._bounded(self._rate * 2 ** (step * slowed / figures.CLIMB_DOUBLING))
            case Phase.PROBE:
                doubling = (
                    figures.PROBE_DOUBLING
                    if self._excess < figures.WIDE_EXCESS
                    else 2 * figures.PROBE_DOUBLING
                )
                self._excess *= 2 ** (step * slowed / doubling)
                self._rate = self._bounded(figures.CRUISE_SHARE * self._known_limit * (1 + self._excess))
            case Phase.CRUISE:
                self._cruise_left -= step * slowed
                if self._cruise_left <= 0:
                    self._enter(Phase.PROBE)
            case Phase.WINDOW:
                if now > self._window_ends:
                    self._enter(Phase.CRUISE)
            case Phase.DIP | Phase.OUTAGE:
                pass

    def _learn_latency(self, seconds: float) -> None:
        self._latency += (seconds - self._latency) / 16 if self._latency else seconds

    def _bounded(self, rate: float) -> float:
        return min(max(rate, self._low), self._high)

    # Changes of phase

    @property
    def _known_limit(self) -> float:
        assert self._limit is not None, "only startup knows no limit"
        return self._limit

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase is Phase.PROBE:
            self._excess = figures.PROBE_EXCESS
        elif phase is Phase.CRUISE:
            self._rate = self._bounded(
                (figures.WINDOW_SHARE if self._windows else figures.CRUISE_SHARE) * self._known_limit
            )

    def _cruise(self, limit: float, seconds: float) -> None:
        self._limit = limit
        self._cruise_left = seconds
        self._enter(Phase.CRUISE)

    def _dip(self, rate: float, then: Phase) -> None:
        self._rate = self._bounded(rate)
        self._next_phase = then
        self._phase = Phase.DIP

    def _rate_when_sent(self, lag: float) -> float:
        """The rate at the moment a call was sent whose reply came ``lag`` seconds later."""
        if self._phase is Phase.STARTUP:
            return self._rate / 2 ** (lag / figures.STARTUP_DOUBLING)
        if self._phase is Phase.PROBE:
            return (
                figures.CRUISE_SHARE
                * self._known_limit
                * (1 + self._excess / 2 ** (lag / figures.PROBE_DOUBLING))
            )
        return self._rate

    def _exhausted(self, now: float, sent_at: float) -> None:
        """The limiter has begun to refuse: slow down, or stop until a single call has passed."""
        rate = self._rate_when_sent(now - sent_at)
        if self._phase is Phase.PROBE and rate <= (1 + figures.WIDE_EXCESS) * self._known_limit:
            self._end_probe(rate)
            self._measure_from(sent_at)
        elif self._windows or self._on_trial or self._phase in (Phase.STARTUP, Phase.PROBE, Phase.WINDOW):
            self._begin_outage(now, sent_at, rate)
            return
        else:
            calls, seconds = self._measured_calls, sent_at - self._measured_from
            self._lower(self._phase, rate, calls, seconds)
            if calls >= figures.MEASURED_CALLS and seconds > figures.SETTLED * self._latency:
                self._measure_from(sent_at)
        self._cut_at, self._passed, self._on_trial = now, 0, True
        self._resume_at = now + max(figures.HOLD_SECONDS, figures.HOLD_CALLS / self._rate)

    def _measure_from(self, moment: float, calls: int = 0, *, turn: bool = False) -> None:
        self._measured_from, self._measured_calls, self._measured_from_turn = moment, calls, turn
        self._refusals = 0

    def _end_probe(self, rate: float) -> None:
        """A probe was refused, as it should be: the limit is where it was, or a little higher."""
        limit = self._known_limit
        slack = (
            1 / figures.PROBE_DOUBLING
        )  # the rate grew by this much while the bucket's last call was used up
        gain = figures.PROBE_GAIN if self._refused_probes else figures.FIRST_PROBE_GAIN
        gain *= min(1.0, limit / figures.COARSE_RATE)
        limit += gain * max(0.0, rate - slack - limit)
        self._refused_probes += 1
        patience = 1.3 ** max(0, self._refused_probes - figures.PATIENT_PROBES)
        self._cruise(limit, min(figures.CRUISE_SECONDS * patience, figures.LONG_CRUISE_SECONDS))

    def _lower(self, phase: Phase, rate: float, calls: int, seconds: float) -> None:
        """Lower the ``rate`` refused in ``phase``; ``calls`` were admitted since the exhaustion before."""
        self._refused_probes = 0
        settled = calls >= figures.FEW_CALLS and seconds > figures.SETTLED * self._latency
        measured = calls / seconds if settled else None
        match phase:
            case Phase.STARTUP | Phase.PROBE:
                self._known_good = 0.0 if self._limit is None else max(self._limit, measured or 0.0)
                self._limit = figures.STARTUP_CUT * rate
                self._dip(self._limit, Phase.CLIMB)
            case Phase.DIP:
                # What was good before the limit fell is over the rate that is refused now, and says nothing.
                good = max((g for g in (self._known_good, measured or 0.0) if g < rate), default=0.0)
                self._limit = max(good, figures.CUT * rate)
                self._cruise_left = figures.SHORT_CRUISE_SECONDS
                self._dip(figures.CRUISE_SHARE * self._limit, Phase.CRUISE)
            case Phase.CLIMB:
                # The limit is between what was admitted and what was refused.
                between = figures.CUT * rate if measured is None else math.sqrt(min(measured, rate) * rate)
                self._cruise(between, figures.SHORT_CRUISE_SECONDS)
            case _:
                self._known_good = 0.0
                limit = self._known_limit
                if measured is not None and self._refusals > figures.CHANCE_SHARE * calls:
                    doubt = 1 / (1 + calls / 10) if calls < figures.MEASURED_CALLS else 0.0
                    limit = min(limit, measured * (rate / measured) ** doubt)
                self._limit = limit
                self._cruise_left = figures.CRUISE_SECONDS
                self._dip(figures.CUT * rate, Phase.CRUISE)

    # Outages and windows

    def _begin_outage(self, now: float, sent_at: float, rate: float) -> None:
        self._before_outage = (self._phase, rate)
        self._resumes = self._on_trial
        self._calls_before_outage = self._measured_calls
        self._phase = Phase.OUTAGE
        self._outage_began = sent_at
        self._outage_step = max(figures.HOLD_SECONDS, figures.HOLD_CALLS / self._rate)
        self._last_refused_try = sent_at
        self._cut_at, self._passed, self._on_trial = now, 0, False
        self._resume_at = now + self._outage_step

    def _try_later(self, now: float, sent_at: float) -> None:
        self._last_refused_try = sent_at
        longest = max(figures.OUTAGE_SECONDS, figures.OUTAGE_SHARE * (now - self._outage_began))
        self._outage_step = min(figures.OUTAGE_GROWTH * self._outage_step, longest)
        self._resume_at = max(self._resume_at, sent_at + self._outage_step)

    def _recover(self, now: float, sent_at: float) -> None:
        """A try has passed: the limiter has tokens again, or its window has turned."""
        phase, rate = self._before_outage
        self._resume_at = now
        self._cut_at, self._passed = now, 0
        refused_for = self._last_refused_try - self._outage_began
        window = refused_for * rate > figures.BUCKET_CALLS
        self._windows = figures.WINDOWS_REMEMBERED if window else max(0, self._windows - 1)
        turned_at = (self._last_refused_try + sent_at) / 2
        # From exhaustion to exhaustion or from turn to turn: between unlike moments lies a part of a window.
        calls = self._calls_before_outage
        seconds = (turned_at if self._measured_from_turn else self._outage_began) - self._measured_from
        long = refused_for > max(figures.LONG_OUTAGE_SECONDS, figures.LONG_OUTAGE_CALLS / rate)
        if phase is Phase.WINDOW and not long and now < self._window_ends - self._window_seconds / 2:
            # Too early for a turn: the window slides, and frees calls as slowly as they once were made.
            self._rate = self._bounded(max(figures.CUT * rate, 0.3 * self._known_limit))
            self._phase = Phase.WINDOW
            return
        if phase is Phase.WINDOW or long:
            self._spread_quota(now, turned_at, sent_at)
        elif self._resumes:
            self._phase = phase
        elif (
            window and phase is not Phase.STARTUP and phase is not Phase.PROBE and calls >= figures.FEW_CALLS
        ):
            seconds = max(seconds, figures.HOLD_SECONDS)
            self._cruise(min(calls / seconds, rate), figures.SHORT_CRUISE_SECONDS)
        else:
            self._lower(phase, rate, calls, seconds)
        if window:
            self._measure_from(turned_at, 1, turn=True)
            self._turned_at, self._calls_since_turn = turned_at, 1
        elif not self._resumes:
            self._measure_from(self._outage_began, self._measured_calls - calls)

    def _spread_quota(self, now: float, turned_at: float, sent_at: float) -> None:
        """Pace the quota of the window that has just begun, so that it is used up when the next may begin.

        The window turned after the last refused try; its quota is what the one before has admitted.
        """
        quota = self._calls_since_turn - 1
        longest = max(turned_at - self._turned_at, figures.HOLD_SECONDS)
        shortest = max(self._last_refused_try - self._turned_at, figures.HOLD_SECONDS)
        self._limit = max(quota / longest, self._low)
        time_left = self._last_refused_try + shortest - now
        self._rate = self._bounded(quota / max(time_left, shortest / 2))
        self._window_seconds = min(sent_at - self._turned_at, figures.LONGEST_WINDOW)
        self._window_ends = now + self._window_seconds
        self._cruise_left = figures.SHORT_CRUISE_SECONDS
        self._phase = Phase.WINDOW
