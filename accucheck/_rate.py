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

from accucheck._errors import ConfigurationError

__all__ = ["Phase", "RateController"]

START = 2.0
"""Calls per second at first. Gentle: a limit of one call a second is met after two or three."""
STARTUP_DOUBLING = 1.6
"""Seconds in which startup doubles: 150 calls/s and 350 calls made after 10 s, so that a minute's quota of
20/s is not gone before it is understood, and 500/s is reached at 12 s."""
SURE_RATE = 150.0
SURE_DOUBLING = 1.0
"""Beyond 150 calls/s startup doubles every second."""
RISKED_CALLS = 8.0
RISKED_SHARE = 0.02
"""When a limit is met, all calls in flight may be lost: startup keeps them under 8 + 2 % of the admitted."""
STARTUP_CUT = 0.75
"""After startup's refusal: what was delivered in the last second, when the rate doubles every second (0.72)."""
CUT = 0.7
"""CUBIC's beta: two cuts find a limit that has halved (0.7 × 0.7 = 0.49) at the price of two refusals."""
DIP_CALLS = 8
"""Calls in a row that must pass before a cut rate counts as good: at half the limit one in four is refused."""
CRUISE_SHARE = 0.985
"""Cruise rate over measured limit: 1.5 % is what jitter and the error of the measurement need."""
CLIMB_DOUBLING = 2.0
CRUISE_SECONDS = 9.5
"""Cruise between probes: a stable limit of 20/s is refused once in 11 s, 0.45 %."""
SHORT_CRUISE_SECONDS = 2.5
"""Cruise while the limit is known roughly only."""
LONG_CRUISE_SECONDS = 40.0
PATIENT_PROBES = 6
"""Probes refused in a row before cruises grow longer, up to 40 s: a limit that has not moved for a minute."""
PROBE_EXCESS = 0.025
PROBE_DOUBLING = 0.75
"""A probe begins 2.5 % over cruise and doubles that every 0.75 s: twice the limit after 4 s."""
PROBE_GAIN = 0.2
"""How far a refused probe moves the estimate towards the rate that was refused."""
WIDE_EXCESS = 0.3
"""A probe refused at more than 30 % over the old limit has found a new one: measure afresh."""
PACE_CALLS = 20.0
"""Phases are timed in seconds for limits of 20/s and more, in twentieths of calls below: evidence is calls."""
HOLD_SECONDS = 0.04
HOLD_CALLS = 1.5
"""A hold after a refusal: at least 40 ms (a second's window exhausted by a probe turns about then), and
time enough for a token bucket to have one token."""
OUTAGE_GROWTH = 2.5
OUTAGE_SECONDS = 4.0
OUTAGE_SHARE = 0.05
"""Calls that try an outage come 2.5 times as far apart each, up to 4 s or 5 % of the outage so far."""
LONG_OUTAGE_SECONDS = 2.5
LONG_OUTAGE_CALLS = 6.0
"""An outage that no token bucket can explain: a window of many seconds."""
LONGEST_WINDOW = 300.0
MEASURED_CALLS = 50
"""Calls that make a measurement good to 2 %; below 8 it says nothing."""
FEW_CALLS = 8
SATURATED = 0.8
"""The rate grows only while at least this share of it is used (BBR: app-limited samples prove nothing)."""
LONGEST_STEP = 120.0
"""Seconds between two looks at the clock beyond which the clock has jumped."""
LONGEST_RETRY_AFTER = 600.0


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
        # The last cut: replies to calls sent before it are no news.
        self._cut_at = -math.inf
        self._passed = 0
        self._resume_at = 0.0
        self._next_phase = Phase.CLIMB
        self._cruise_left = SHORT_CRUISE_SECONDS
        self._excess = PROBE_EXCESS
        self._refused_probes = 0
        # An outage, and the window that it may reveal.
        self._outage_began = 0.0
        self._outage_step = 0.0
        self._last_refused_try = 0.0
        self._turned_at: float | None = None
        self._calls_since_turn = 0
        self._window_seconds: float | None = None
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
        """A call goes out."""
        now = self._advance(now)
        self._used += 1
        if self._turned_at is None:
            self._turned_at = self._measured_from = now
        if self._phase is Phase.OUTAGE:  # one call tries the limiter; the next waits for its reply
            self._resume_at = now + max(self._outage_step, 4 * self._latency)

    def admitted(self, now: float, sent_at: float) -> None:
        """A reply that is not a refusal for frequency."""
        now = self._advance(now)
        sent_at = self._same_clock(sent_at, now)
        self._learn_latency(now - sent_at)
        self._admitted += 1
        self._measured_calls += sent_at > self._measured_from
        self._calls_since_turn += 1
        if sent_at <= self._cut_at:
            return
        self._passed += 1
        if self._phase is Phase.OUTAGE:
            self._recover(now, sent_at)
        elif self._phase is Phase.DIP and self._passed >= DIP_CALLS:
            self._enter(self._next_phase)

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        """A refusal for frequency; ``retry_after`` is the seconds that the vendor asks us to wait, if it does."""
        now = self._advance(now)
        sent_at = self._same_clock(sent_at, now)
        self._learn_latency(now - sent_at)
        self._refusal_seen = True
        if sent_at > self._cut_at:
            if self._phase is Phase.OUTAGE:
                self._stay_out(now, sent_at)
            elif self._passed == 0 and self._cut_at > 0:
                self._begin_outage(now, sent_at)
            else:
                self._cut(now, sent_at)
        if retry_after is not None and 0 < retry_after < math.inf:
            if self._phase is not Phase.OUTAGE:
                self._begin_outage(now, sent_at)
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
                assert self._limit is not None
                self._excess *= 2 ** (step * slowed / PROBE_DOUBLING)
                self._rate = self._bounded(CRUISE_SHARE * self._limit * (1 + self._excess))
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

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        if phase is Phase.PROBE:
            self._excess = PROBE_EXCESS
        elif phase is Phase.CRUISE:
            assert self._limit is not None
            self._rate = self._bounded(CRUISE_SHARE * self._limit)

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
            assert self._limit is not None
            excess = self._excess / 2 ** (lag / PROBE_DOUBLING)
            return CRUISE_SHARE * self._limit * (1 + excess)
        return self._rate

    def _cut(self, now: float, sent_at: float) -> None:
        """The first refusal of an exhaustion: close the measurement, lower the rate, hold for a moment."""
        rate = self._rate_when_sent(now - sent_at)
        span = sent_at - self._measured_from
        measured = self._measured_calls / span if span > 0 and self._measured_calls >= FEW_CALLS else None
        exact = measured is not None and self._measured_calls >= MEASURED_CALLS
        refused_probes, self._refused_probes = self._refused_probes, 0
        match self._phase:
            case Phase.STARTUP:
                self._limit = STARTUP_CUT * rate
                self._dip(STARTUP_CUT * rate, Phase.CLIMB)
            case Phase.DIP:
                lower = CUT * rate
                if measured is not None:
                    lower = min(max(lower, CRUISE_SHARE * measured), 0.95 * rate)
                self._limit = lower / CRUISE_SHARE
                self._cruise_left = SHORT_CRUISE_SECONDS
                self._dip(lower, Phase.CRUISE)
            case Phase.CLIMB:
                limit = math.sqrt(measured * rate) if measured else CUT * rate
                self._cruise(min(limit, rate), SHORT_CRUISE_SECONDS)
            case Phase.CRUISE | Phase.WINDOW:
                assert self._limit is not None
                if measured is not None:
                    self._limit = min(self._limit, measured if exact else math.sqrt(measured * rate))
                self._cruise_left = CRUISE_SECONDS
                self._dip(CUT * rate, Phase.CRUISE)
            case Phase.PROBE:
                assert self._limit is not None
                if rate > (1 + WIDE_EXCESS) * self._limit:
                    self._limit = STARTUP_CUT * rate
                    self._dip(STARTUP_CUT * rate, Phase.CLIMB)
                else:
                    self._refused_probes = refused_probes + 1
                    patience = 1.3 ** max(0, self._refused_probes - PATIENT_PROBES)
                    upper = max(rate - 1 / PROBE_DOUBLING, self._limit)
                    limit = self._limit + PROBE_GAIN * (upper - self._limit)
                    self._cruise(limit, min(CRUISE_SECONDS * patience, LONG_CRUISE_SECONDS))
            case Phase.OUTAGE:
                raise AssertionError("an outage is not cut")
        if measured is not None or span > 0:
            self._measured_from, self._measured_calls = sent_at, 0
        self._cut_at, self._passed = now, 0
        self._resume_at = now + max(HOLD_SECONDS, HOLD_CALLS / self._rate)

    # Outages and windows

    def _begin_outage(self, now: float, sent_at: float) -> None:
        if self._phase is not Phase.DIP:
            self._next_phase = Phase.CRUISE if self._limit is not None else Phase.CLIMB
        self._phase = Phase.OUTAGE
        self._outage_began = sent_at
        self._outage_step = max(HOLD_SECONDS, HOLD_CALLS / self._rate)
        self._stay_out(now, sent_at)
        self._cut_at = now

    def _stay_out(self, now: float, sent_at: float) -> None:
        self._passed = 0
        self._last_refused_try = sent_at
        elapsed = now - self._outage_began
        longest = max(OUTAGE_SECONDS, OUTAGE_SHARE * elapsed)
        self._outage_step = min(OUTAGE_GROWTH * self._outage_step, longest)
        self._resume_at = max(now, sent_at + self._outage_step)

    def _recover(self, now: float, sent_at: float) -> None:
        self._resume_at = now
        outage = sent_at - self._outage_began
        if outage < max(LONG_OUTAGE_SECONDS, LONG_OUTAGE_CALLS / self._rate):
            self._passed = 0
            self._phase = Phase.DIP
            return
        assert self._turned_at is not None
        # The window turned after the last refused try; its quota is what the one before has admitted.
        seconds = self._last_refused_try - self._turned_at
        quota = self._calls_since_turn
        self._limit = quota / (sent_at - self._turned_at)
        earliest_turn = self._last_refused_try + seconds
        self._rate = self._bounded(quota / max(earliest_turn - now, 0.25 * seconds))
        self._window_ends = sent_at + min(sent_at - self._turned_at, LONGEST_WINDOW)
        self._phase = Phase.WINDOW
        self._turned_at, self._calls_since_turn = sent_at, 0
        self._measured_from, self._measured_calls = sent_at, 0
