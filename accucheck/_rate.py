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
    PROBE     cruise has lasted: exceed the limit by 2 %, then more and more, until refused
    OUTAGE    everything is refused (a window's quota is used up): single calls, less and less often
    WINDOW    after a long outage: spread the window's quota until the window turns

The margin under the limit and the rare probe are what stable limits cost; an accelerating probe is how a
limit that has doubled is found within seconds.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

from accucheck._errors import ConfigurationError

__all__ = ["Phase", "RateController"]

START: Final = 2.0
"""Calls per second at first. Gentle: a limit of one call a second is met after two or three."""
STARTUP_DOUBLING: Final = 1.6
"""Seconds in which startup doubles: 150 calls/s and 350 calls made after 10 s, so that a minute's quota of
20/s is not gone before it is understood, and 500/s is reached at 12 s."""
SURE_RATE: Final = 150.0
SURE_DOUBLING: Final = 1.0
"""Beyond 150 calls/s startup doubles every second."""
RISKED_CALLS, RISKED_SHARE = 8.0, 0.02
"""When a limit is met, all calls in flight may be lost: startup keeps them under 8 + 2 % of the admitted."""
STARTUP_CUT: Final = 0.75
"""After startup's refusal: about what was delivered in its last second, the rate having doubled in it (0.72)."""
CUT: Final = 0.7
"""CUBIC's beta: two cuts find a limit that has halved (0.7 × 0.7 = 0.49) at the price of two refusals."""
DIP_CALLS: Final = 8
"""Calls in a row that must pass before a cut rate counts as good: at half the limit one in four is refused."""
CRUISE_SHARE: Final = 0.985
"""Cruise rate over measured limit: 1.5 % is what jitter and the error of the measurement need."""
CLIMB_DOUBLING: Final = 2.0
"""Seconds in which a climb would double: from the cut back to the rate that was refused in a second."""
CRUISE_SECONDS: Final = 10.0
"""Cruise between probes: a stable limit of 20/s is refused once in 11 to 13 s, 0.4 %."""
SHORT_CRUISE_SECONDS: Final = 2.5
"""Cruise while the limit is known roughly only."""
LONG_CRUISE_SECONDS: Final = 40.0
PATIENT_PROBES: Final = 5
"""Probes refused in a row before cruises grow longer, up to 40 s: a limit that has not moved for a minute."""
PROBE_EXCESS: Final = 0.03
PROBE_DOUBLING: Final = 0.7
"""A probe begins 3 % over cruise and doubles that every 0.7 s: twice the limit after 3.6 s."""
FIRST_PROBE_GAIN: Final = 0.5
PROBE_GAIN: Final = 0.2
"""How far a refused probe moves the estimate towards the rate that was refused: cruise creeps up on the
limit and finds it in few steps, and a deep bucket, which lets a probe pass for a while, does not fool it."""
WIDE_EXCESS: Final = 0.6
"""A probe refused at more than 60 % over the old limit has found a new one: measure afresh."""
PACE_CALLS: Final = 20.0
"""Phases last so many seconds at 20 calls/s and more, and as many calls as at 20/s below: evidence is calls."""
HOLD_SECONDS: Final = 0.04
HOLD_CALLS: Final = 1.5
"""A hold after a refusal: 40 ms (a second's window exhausted by a probe turns about then), and time enough
for a token bucket to have a token."""
OUTAGE_GROWTH: Final = 2.0
OUTAGE_SECONDS: Final = 5.0
OUTAGE_SHARE: Final = 0.05
"""Tries in an outage come twice as far apart each, up to 5 s or 5 % of the outage so far."""
LONG_OUTAGE_SECONDS: Final = 2.5
LONG_OUTAGE_CALLS: Final = 6.0
"""An outage beyond 2.5 s and six calls' time: a window of many seconds."""
BUCKET_CALLS: Final = 4.0
"""A try refused when four calls' time has passed was not refused by a token bucket, but by a window."""
WINDOWS_REMEMBERED: Final = 3
"""Exhaustions without a sign of a window after which the limiter counts as a token bucket again."""
LONGEST_WINDOW: Final = 300.0
FEW_CALLS: Final = 8
MEASURED_CALLS: Final = 50
MANY_CALLS: Final = 400
"""A measurement over fewer than 8 calls says nothing, over 50 it is good to 2 %; a refusal in more than 400
calls (0.25 %) is a chance that we take, not a reason to slow down."""
SETTLED: Final = 4.0
"""Latencies that a measurement must last: less, and the calls in flight at its ends count for too much."""
SATURATED: Final = 0.8
"""The rate grows only while this share of it is used (BBR: app-limited samples prove nothing)."""
LONGEST_STEP: Final = 120.0
"""Seconds between two looks at the clock beyond which the clock has jumped."""
LONGEST_RETRY_AFTER: Final = 600.0


class Phase(Enum):
    """What the controller is doing; see the module's docstring."""

    STARTUP = "startup"
    DIP = "dip"
    CLIMB = "climb"
    CRUISE = "cruise"
    PROBE = "probe"
    OUTAGE = "outage"
    WINDOW = "window"


class RateController:
    """Turns what became of each call into the rate for the next ones.

    Call ``sent`` at each permit, then ``admitted`` or ``refused`` once its reply is there (any reply that is
    not a refusal for frequency counts as admitted). Before each permit read ``rate(now)`` and ``resume_at``:
    both change with every reply. ``now`` and ``sent_at`` are seconds of one monotonic clock; a clock that
    jumps is tolerated.
    """

    def __init__(self, *, low: float = 0.1, high: float = math.inf, start: float | None = None) -> None:
        """``low`` and ``high`` bound the rate (calls per second). ``start`` is where to begin: about 90 % of
        the limit that an earlier run has learned; None begins gently.

        Raises ConfigurationError if a rate is not a positive number or ``low`` is over ``high``.
        """
        for name, value in (("low", low), ("high", high), ("start", START if start is None else start)):
            if not value > 0 or (value == math.inf and name != "high"):
                raise ConfigurationError(f"{name} must be a rate over 0 calls per second, not {value!r}.")
        if low > high:
            raise ConfigurationError(
                f"The rate's lower bound {low!r} is over its upper bound {high!r}: swap them."
            )
        self._low = low
        self._high = high
        self._limit: float | None = None
        self._refusal_seen = False
        if start is None:
            self._phase = Phase.STARTUP
            self._rate = self._bounded(START)
        else:
            self._phase = Phase.CRUISE
            self._rate = self._bounded(start)
            self._limit = self._rate / CRUISE_SHARE
        self._now: float | None = None
        self._clock_shift = 0.0
        self._latency = 0.0
        self._admitted = 0
        # How much of the rate is used, over the last few dozen calls.
        self._permitted = 0.0
        self._used = 0.0
        # The measurement under way: since the limiter was last seen exhausted.
        self._measured_from = 0.0
        self._measured_calls = 0
        self._measured_from_turn = False
        # The last cut: replies to calls sent before it are no news. A trial ends with the first call that passes.
        self._cut_at = -math.inf
        self._passed = 0
        self._on_trial = False
        self._resume_at = 0.0
        self._next_phase = Phase.CRUISE
        self._cruise_left = SHORT_CRUISE_SECONDS
        self._excess = PROBE_EXCESS
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
        self._turned_at: float | None = None
        self._calls_since_turn = 0
        self._window_seconds = 0.0
        self._window_ends = 0.0

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def resume_at(self) -> float:
        """Nobody sends before this moment of the caller's clock (0 or past: now). Replies may move it."""
        return self._resume_at - self._clock_shift

    @property
    def learned(self) -> float | None:
        """The limit in calls per second, to be kept for the next run; None if no refusal was seen."""
        return self._limit if self._refusal_seen else None

    def rate(self, now: float) -> float:
        """Calls per second that may be sent now."""
        self._advance(now)
        return self._rate

    def sent(self, now: float) -> None:
        """Take note of a call that goes out."""
        now = self._advance(now)
        self._used += 1
        if self._turned_at is None:
            self._turned_at = self._measured_from = now
        if self._phase is Phase.OUTAGE:  # this call is the try; nobody follows before its reply
            self._resume_at = now + HOLD_SECONDS + 4 * self._latency

    def admitted(self, now: float, sent_at: float) -> None:
        """Take note of a reply that is not a refusal for frequency."""
        now = self._advance(now)
        sent_at = self._same_clock(sent_at, now)
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
        elif self._phase is Phase.DIP and self._passed >= DIP_CALLS:
            self._enter(self._next_phase)

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        """Take note of a refusal for frequency; ``retry_after`` is the wait in seconds that the vendor asks for.

        Refusals of calls that were sent before the last cut belong to it and do not cut again.
        """
        now = self._advance(now)
        sent_at = self._same_clock(sent_at, now)
        self._learn_latency(now - sent_at)
        self._refusal_seen = True
        if sent_at > self._cut_at:
            if self._phase is Phase.OUTAGE:
                self._try_later(now, sent_at)
            else:
                self._exhausted(now, sent_at)
        if retry_after is not None and 0 < retry_after < math.inf:
            if self._phase is not Phase.OUTAGE:
                self._begin_outage(now, sent_at, self._rate)
            self._resume_at = max(self._resume_at, now + min(retry_after, LONGEST_RETRY_AFTER))

    # Time

    def _advance(self, clock: float) -> float:
        """Take the time, let the phase run on, and return the time in steady seconds."""
        now = clock + self._clock_shift
        if self._now is None:
            self._now = now
            return now
        step = now - self._now
        if not 0 <= step <= LONGEST_STEP:  # the clock has jumped (or is no number): go on from where we were
            if math.isfinite(clock):
                self._clock_shift = self._now - clock
            return self._now
        self._now = now
        if step:
            self._run(now, step)
        return now

    def _same_clock(self, sent_at: float, now: float) -> float:
        sent_at += self._clock_shift
        return sent_at if now - LONGEST_STEP < sent_at <= now else now

    def _run(self, now: float, step: float) -> None:
        if now <= self._resume_at:
            return
        step = min(step, now - self._resume_at)
        self._permitted += self._rate * step
        if self._permitted > 2 * PACE_CALLS:
            self._permitted /= 2
            self._used /= 2
        if self._used < SATURATED * self._permitted - 2:
            return
        step = min(step, 2 / self._rate)
        slowed = min(1.0, self._rate / PACE_CALLS)
        match self._phase:
            case Phase.STARTUP:
                if self._rate * self._latency < RISKED_CALLS + RISKED_SHARE * self._admitted:
                    doubling = STARTUP_DOUBLING if self._rate < SURE_RATE else SURE_DOUBLING
                    self._rate = self._bounded(self._rate * 2 ** (step / doubling))
            case Phase.CLIMB:
                self._rate = self._bounded(self._rate * 2 ** (step * slowed / CLIMB_DOUBLING))
            case Phase.PROBE:
                doubling = PROBE_DOUBLING if self._excess < WIDE_EXCESS else 2 * PROBE_DOUBLING
                self._excess *= 2 ** (step * slowed / doubling)
                self._rate = self._bounded(CRUISE_SHARE * self._known_limit * (1 + self._excess))
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
            self._excess = PROBE_EXCESS
        elif phase is Phase.CRUISE:
            self._rate = self._bounded(CRUISE_SHARE * self._known_limit)

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
            return self._rate / 2 ** (lag / STARTUP_DOUBLING)
        if self._phase is Phase.PROBE:
            return CRUISE_SHARE * self._known_limit * (1 + self._excess / 2 ** (lag / PROBE_DOUBLING))
        return self._rate

    def _exhausted(self, now: float, sent_at: float) -> None:
        """The limiter has begun to refuse: slow down, or stop until a single call has passed."""
        rate = self._rate_when_sent(now - sent_at)
        if self._phase is Phase.PROBE and rate <= (1 + WIDE_EXCESS) * self._known_limit:
            self._end_probe(rate)
            self._measure_from(sent_at)
        elif self._windows or self._on_trial or self._phase in (Phase.STARTUP, Phase.PROBE, Phase.WINDOW):
            self._begin_outage(now, sent_at, rate)
            return
        else:
            calls, seconds = self._measured_calls, sent_at - self._measured_from
            self._lower(self._phase, rate, calls, seconds)
            if calls >= MEASURED_CALLS and seconds > SETTLED * self._latency:
                self._measure_from(sent_at)
        self._cut_at, self._passed, self._on_trial = now, 0, True
        self._resume_at = now + max(HOLD_SECONDS, HOLD_CALLS / self._rate)

    def _measure_from(self, moment: float, calls: int = 0, *, turn: bool = False) -> None:
        self._measured_from, self._measured_calls, self._measured_from_turn = moment, calls, turn

    def _end_probe(self, rate: float) -> None:
        """A probe was refused, as it should be: the limit is where it was, or a little higher."""
        limit = self._known_limit
        slack = 1 / PROBE_DOUBLING  # the rate grew by this much while the bucket's last call was used up
        gain = PROBE_GAIN if self._refused_probes else FIRST_PROBE_GAIN
        limit += gain * max(0.0, rate - slack - limit)
        self._refused_probes += 1
        patience = 1.3 ** max(0, self._refused_probes - PATIENT_PROBES)
        self._cruise(limit, min(CRUISE_SECONDS * patience, LONG_CRUISE_SECONDS))

    def _lower(self, phase: Phase, rate: float, calls: int, seconds: float) -> None:
        """Lower the rate that was refused in ``phase``, having admitted ``calls`` since it last was exhausted."""
        self._refused_probes = 0
        settled = calls >= FEW_CALLS and seconds > SETTLED * self._latency
        measured = calls / seconds if settled else None
        match phase:
            case Phase.STARTUP | Phase.PROBE:
                self._known_good = 0.0 if self._limit is None else max(self._limit, measured or 0.0)
                self._limit = STARTUP_CUT * rate
                self._dip(self._limit, Phase.CLIMB)
            case Phase.DIP:
                # What was good before the limit fell is over the rate that is refused now, and says nothing.
                good = max((g for g in (self._known_good, measured or 0.0) if g < rate), default=0.0)
                self._limit = max(good, CUT * rate)
                self._cruise_left = SHORT_CRUISE_SECONDS
                self._dip(CRUISE_SHARE * self._limit, Phase.CRUISE)
            case Phase.CLIMB:
                # The limit is between what was admitted and what was refused.
                between = CUT * rate if measured is None else math.sqrt(min(measured, rate) * rate)
                self._cruise(between, SHORT_CRUISE_SECONDS)
            case _:
                self._known_good = 0.0
                limit = self._known_limit
                if measured is not None and calls < MANY_CALLS:
                    doubt = 1 / (1 + calls / 10) if calls < MEASURED_CALLS else 0.0
                    limit = min(limit, measured * (rate / measured) ** doubt)
                self._limit = limit
                self._cruise_left = CRUISE_SECONDS
                self._dip(CUT * rate, Phase.CRUISE)

    # Outages and windows

    def _begin_outage(self, now: float, sent_at: float, rate: float) -> None:
        self._before_outage = (self._phase, rate)
        self._resumes = self._on_trial
        self._calls_before_outage = self._measured_calls
        self._phase = Phase.OUTAGE
        self._outage_began = sent_at
        self._outage_step = max(HOLD_SECONDS, HOLD_CALLS / self._rate)
        self._last_refused_try = sent_at
        self._cut_at, self._passed, self._on_trial = now, 0, False
        self._resume_at = now + self._outage_step

    def _try_later(self, now: float, sent_at: float) -> None:
        self._last_refused_try = sent_at
        longest = max(OUTAGE_SECONDS, OUTAGE_SHARE * (now - self._outage_began))
        self._outage_step = min(OUTAGE_GROWTH * self._outage_step, longest)
        self._resume_at = max(self._resume_at, sent_at + self._outage_step)

    def _recover(self, now: float, sent_at: float) -> None:
        """A try has passed: the limiter has tokens again, or its window has turned."""
        phase, rate = self._before_outage
        self._resume_at = now
        self._cut_at, self._passed = now, 0
        refused_for = self._last_refused_try - self._outage_began
        window = refused_for * rate > BUCKET_CALLS
        self._windows = WINDOWS_REMEMBERED if window else max(0, self._windows - 1)
        turned_at = (self._last_refused_try + sent_at) / 2
        # Measure from exhaustion to exhaustion, or from turn to turn: between unlike moments is part of a window.
        calls = self._calls_before_outage
        seconds = (turned_at if self._measured_from_turn else self._outage_began) - self._measured_from
        long = refused_for > max(LONG_OUTAGE_SECONDS, LONG_OUTAGE_CALLS / rate)
        if phase is Phase.WINDOW and not long and now < self._window_ends - self._window_seconds / 2:
            # Too early for a turn: the window slides, and frees calls as slowly as they once were made.
            self._rate = self._bounded(max(CUT * rate, 0.3 * self._known_limit))
            self._phase = Phase.WINDOW
            return
        if phase is Phase.WINDOW or long:
            self._spread_quota(now, turned_at, sent_at)
        elif self._resumes:
            self._phase = phase
        elif window and phase is not Phase.STARTUP and phase is not Phase.PROBE and calls >= FEW_CALLS:
            self._cruise(min(calls / seconds, rate), SHORT_CRUISE_SECONDS)
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
        assert self._turned_at is not None
        quota = self._calls_since_turn - 1
        self._limit = quota / (turned_at - self._turned_at)
        shortest = self._last_refused_try - self._turned_at
        time_left = self._last_refused_try + shortest - now
        self._rate = self._bounded(quota / max(time_left, shortest / 2))
        self._window_seconds = min(sent_at - self._turned_at, LONGEST_WINDOW)
        self._window_ends = now + self._window_seconds
        self._cruise_left = SHORT_CRUISE_SECONDS
        self._phase = Phase.WINDOW
