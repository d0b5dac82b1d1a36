"""The search for the limit: the rate, and how it changes with time and refusals."""

from __future__ import annotations

from enum import Enum

from accucheck._rate import _constants as constants
from accucheck._rate._calls import Calls, Mark, Measurement
from accucheck._rate._windows import WindowQuota, Windows

__all__ = ["Phase", "Search"]


class Phase(Enum):
    """What the controller is doing; see ``accucheck._rate``."""

    STARTUP = "startup"
    DIP = "dip"
    CLIMB = "climb"
    CONFIRM = "confirm"
    CRUISE = "cruise"
    PROBE = "probe"
    LOCKOUT = "lockout"
    WINDOW = "window"


class Startup:
    """How to start while nothing was refused: sprint; rest if that reached no limit; then grow until one is reached."""

    __slots__ = ("_calls", "_floor", "_resting", "_sprinted_to", "began_at", "doubling")

    def __init__(self, calls: Calls, floor: float) -> None:
        self._calls = calls
        self._floor = floor
        self._resting = False
        self._sprinted_to = 0.0
        self.began_at = 0.0
        self.doubling = constants.START_DOUBLING
        """Seconds in which the rate doubles at present."""

    def next_rate(self, rate: float, now: float, step: float) -> float:
        """Return the rate after ``step`` more seconds in which ``rate`` was used up."""
        calls, rest_ends = self._calls, self.began_at + constants.REST_UNTIL
        if self._resting:
            if now < rest_ends:
                return rate
            self._resting = False
            rate = min(self._sprinted_to, constants.RESUME)
        if rate < self._floor:
            self.doubling = max(constants.SPRINT_DOUBLING, constants.SPRINT_LATENCIES * calls.latency)
        elif calls.sent < constants.START_CALLS:
            self.doubling = constants.START_DOUBLING
        elif calls.sent < constants.SPRINT_CALLS:
            self.doubling = max(constants.SPRINT_DOUBLING, constants.SPRINT_LATENCIES * calls.latency)
        elif now < rest_ends and not self._floor:
            self._resting, self._sprinted_to = True, rate
            return constants.REST
        else:
            self.doubling = constants.RESUME_DOUBLING
        risked = constants.RISKED_CALLS + constants.RISKED_SHARE * calls.admitted
        return rate * 2 ** (step / self.doubling) if rate * calls.latency < risked else rate

    def unused(self, rate: float, step: float) -> float:
        """Return the rate after ``step`` more seconds in which it was not used up and so proved nothing."""
        return rate if self._resting else max(rate / 2**step, min(rate, constants.START))

    def refused_rate(self, rate: float, latency: float) -> float:
        """Return the rate that was refused to a call sent ``latency`` seconds ago."""
        # What is refused in the rest was exhausted by the sprint.
        return self._sprinted_to if self._resting else rate / 2 ** (latency / self.doubling)


class Search:
    """The phase, its rate, and the limit as far as it is known. Knows nothing about clocks and holds."""

    def __init__(
        self,
        calls: Calls,
        windows: Windows,
        low: float,
        high: float,
        start: float | None,
        floor: float | None,
    ) -> None:
        self._calls = calls
        self._windows = windows
        self._low = low
        self._high = high
        self.limit: float | None = None
        first = max(constants.START, min((floor or 0.0) / 2, constants.FLOOR_START))
        self.rate = self._bounded(first if start is None else start)
        self.phase = Phase.STARTUP
        if start is not None:
            self.phase = Phase.CRUISE
            self.limit = self.rate / constants.CRUISE_SHARE
        self.next_phase = Phase.CRUISE
        """What follows a dip."""
        self.mark = Mark(0.0, 0, 0, 0.0)
        """The last exhaustion."""
        self.quota = WindowQuota()
        self.excess = constants.PROBE_EXCESS
        """By how much a probe exceeds the cruise."""
        self.startup = Startup(calls, floor or 0.0)
        self.passed = 0.0
        """The highest rate that was used up, while nothing was refused."""
        self._cruise_left = constants.SHORT_CRUISE_SECONDS
        self._refused_probes = 0
        self._known_good = 0.0

    @property
    def known_limit(self) -> float:
        """The limit; not during startup, when it is unknown."""
        assert self.limit is not None, "only startup knows no limit"
        return self.limit

    def _bounded(self, rate: float) -> float:
        return min(max(rate, self._low), self._high)

    def resume_startup(self, rate: float) -> None:
        """Start at a rate that others have reached."""
        self.rate = self._bounded(rate)

    def run(self, now: float, step: float, *, queued: bool) -> None:
        """Advance by this many seconds in which calls could be sent; ``queued`` says whether callers are waiting."""
        calls = self._calls
        if not calls.saturate(self.rate, step, constants.SATURATED_BUSY if queued else constants.SATURATED):
            if self.phase is Phase.STARTUP and not queued:
                self.rate = self._bounded(self.startup.unused(self.rate, step))
            return
        if not calls.refused:
            self.passed = max(self.passed, self.rate_when_sent(calls.latency))
        step = min(step, max(constants.LONGEST_LOOK, 2 / self.rate))
        evidence = step * min(1.0, self.rate / constants.PACE_CALLS)
        match self.phase:
            case Phase.STARTUP:
                self.rate = self._bounded(self.startup.next_rate(self.rate, now, step))
            case Phase.CLIMB:
                self._grow(evidence, constants.CLIMB_DOUBLING)
            case Phase.CONFIRM:
                windows = self._windows.suspected
                self._grow(evidence, constants.WINDOW_DOUBLING if windows else constants.CONFIRM_DOUBLING)
                excess = self.rate / self._probed(0.0) - 1
                if excess > constants.CONFIRM_EXCESS:  # the limit has risen: nothing is left to confirm
                    self.phase, self.excess = Phase.PROBE, excess
            case Phase.PROBE:
                slowed = 1 if self.excess < constants.WIDE_EXCESS else 2
                self.excess *= 2 ** (evidence / (slowed * constants.PROBE_DOUBLING))
                self.rate = self._bounded(self._probed(self.excess))
            case Phase.CRUISE:
                self._cruise_left -= evidence
                if self._cruise_left <= 0:
                    self.enter(Phase.PROBE)
            case Phase.WINDOW:
                if self.quota.is_over(now):
                    self.enter(Phase.CRUISE)
            case Phase.DIP | Phase.LOCKOUT:
                pass

    def _grow(self, step: float, doubling: float) -> None:
        self.rate = self._bounded(self.rate * 2 ** (step / doubling))

    def _probed(self, excess: float) -> float:
        return constants.CRUISE_SHARE * self.known_limit * (1 + excess)

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        if phase is Phase.PROBE:
            self.excess = constants.PROBE_EXCESS
        elif phase is Phase.CRUISE:
            share = constants.WINDOW_SHARE if self._windows.suspected else constants.CRUISE_SHARE
            self.rate = self._bounded(share * self.known_limit)

    def cruise(self, limit: float, seconds: float) -> None:
        self.limit = max(self._windows.correct(limit, self.mark), self._low)
        self._cruise_left = seconds
        self.enter(Phase.CRUISE)

    def spread(self, limit: float, rate: float) -> None:
        """Spread the quota of a long window over it at a rate."""
        self.limit = max(limit, self._low)
        self.rate = self._bounded(rate)
        self._cruise_left = constants.SHORT_CRUISE_SECONDS
        self.phase = Phase.WINDOW

    def slide(self, rate: float) -> None:
        """Slow down in a long sliding window, which frees calls only as slowly as they were made."""
        self.rate = self._bounded(max(constants.CUT * rate, constants.SLIDING_SHARE * self.known_limit))
        self.phase = Phase.WINDOW

    def _confirm(self, limit: float) -> None:
        """Rise slowly from about the limit until refused, which measures it well between two exhaustions."""
        self.limit = max(self._windows.correct(limit, self.mark), self._low)
        self.rate = self._bounded(self.limit)
        self.phase = Phase.CONFIRM

    def _dip(self, rate: float, then: Phase) -> None:
        self.rate = self._bounded(rate)
        self.next_phase = then
        self.phase = Phase.DIP

    def rate_when_sent(self, latency: float) -> float:
        """The rate when the call that is being replied to was sent."""
        if self.phase is Phase.STARTUP:
            return self.startup.refused_rate(self.rate, latency)
        if self.phase is Phase.PROBE:
            return self._probed(self.excess / 2 ** (latency / constants.PROBE_DOUBLING))
        return self.rate

    def end_probe(self, rate: float, measurement: Measurement) -> None:
        """A probe was refused, as expected: the limit is unchanged or slightly higher."""
        limit = self.known_limit
        if measurement.is_telling(self._calls.latency):
            limit = max(limit, min(measurement.least, rate))
        self._refused_probes += 1
        windows = self._windows
        if windows.known:
            _, most = windows.count(self.mark)
            self.cruise((limit + max(limit, most)) / 2, self._patience())
        elif windows.suspected:
            # Refused in the first window that held a few calls more: then the limit is what it was.
            brushed = self.excess <= max(constants.BRUSH_EXCESS, constants.BRUSH_CALLS / limit)
            self.cruise(limit, self._patience()) if brushed else self._confirm(limit)
        elif limit >= constants.SURE_LIMIT:
            self._confirm(limit)
        else:
            self.cruise(limit, self._patience())

    def _patience(self) -> float:
        """Return how long to cruise: longer once several probes in a row have found the same limit."""
        growth = constants.PATIENCE ** max(0, self._refused_probes - constants.PATIENT_PROBES)
        return min(constants.CRUISE_SECONDS * growth, constants.LONG_CRUISE_SECONDS)

    def lower(self, phase: Phase, rate: float, measurement: Measurement) -> None:
        """Lower the ``rate`` that was refused in ``phase``."""
        self._refused_probes = 0
        measured = None
        if measurement.is_telling(self._calls.latency):
            measured = measurement.calls_per_second if self._windows.suspected else measurement.least
        match phase:
            case Phase.STARTUP | Phase.PROBE:
                self._known_good = 0.0 if self.limit is None else max(self.limit, measured or 0.0)
                self.limit = constants.STARTUP_CUT * rate
                self._dip(self.limit, Phase.CLIMB)
            case Phase.DIP:
                # What was good before the limit fell is over the rate that is refused now, and says nothing.
                good = max((g for g in (self._known_good, measured or 0.0) if g < rate), default=0.0)
                self.limit = max(good, constants.CUT * rate)
                self._cruise_left = constants.SHORT_CRUISE_SECONDS
                self._dip(constants.CRUISE_SHARE * self.limit, self.next_phase)
            case Phase.CLIMB:
                self._confirm(
                    constants.CLIMB_SHARE * rate
                    if measured is None
                    else self._likely(measured, rate, measurement)
                )
            case Phase.CONFIRM:
                limit = self.known_limit if measured is None else self._likely(measured, rate, measurement)
                if self._windows.suspected:
                    limit = max(limit, constants.WINDOW_CLIMB * rate)
                self.cruise(limit, constants.CRUISE_SECONDS)
            case _:
                likely = None if measured is None else self._likely(measured, rate, measurement)
                self._refused_in_cruise(rate, likely, measurement)

    def _likely(self, measured: float, rate: float, measurement: Measurement) -> float:
        """Return a limit between what was measured and the rate refused: few calls measure badly."""
        if self._windows.suspected and measurement.of_window:
            return min(measured, rate)  # a window's calls are its quota, however few
        weight: float = (rate / measured) ** measurement.doubt
        return min(measured * weight, rate)

    def _refused_in_cruise(self, rate: float, measured: float | None, measurement: Measurement) -> None:
        self._known_good = 0.0
        limit = self.known_limit
        least = 0.0
        if measured is not None:
            if self._windows.suspected:
                least = constants.WINDOW_STEP * limit
            elif (
                limit > constants.SURE_LIMIT
                and measurement.refused <= constants.CHANCE_SHARE * measurement.calls
            ):
                least = constants.CHANCE_STEP * limit
            limit = min(limit, max(measured, least))
        elif (
            limit < constants.SURE_LIMIT
            and not measurement.is_idle
            and measurement.calls_per_second < constants.CUT * limit
        ):
            # Refused again so soon: the limit fell in the probe that was refused before, or right after it.
            # (Where a slow climb follows a probe, a fall is met in that.)
            self.limit = constants.CUT**2 * rate
            self._cruise_left = constants.SHORT_CRUISE_SECONDS
            self._dip(constants.CRUISE_SHARE * self.limit, Phase.CRUISE)
            return
        if least:
            self.cruise(limit, max(self._cruise_left, constants.SHORT_CRUISE_SECONDS))
        else:
            self.limit = limit
            self._cruise_left = constants.CRUISE_SECONDS
            self._dip(constants.CUT * rate, Phase.CRUISE)
