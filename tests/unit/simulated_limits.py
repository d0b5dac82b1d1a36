"""Rate limiters of every kind and a run against them, in virtual time: no clock, no socket, no sleep.

A limiter answers ``admit(now)``. ``simulate`` runs a controller, the gate and some workers against one and
returns the whole trace. The same seed gives the same run, so tests can assert exact numbers. It predicts the
results of the benchmark (``python -m benchmarks rate``) to a few tenths of a percent.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

Limit = Callable[[float], float]
"""The limit in calls per second at a moment of the run."""


def constant(limit: float) -> Limit:
    return lambda _now: limit


def changing(before: float, at: float, after: float) -> Limit:
    return lambda now: before if now < at else after


class Limiter(Protocol):
    def admit(self, now: float) -> bool: ...


class Unlimited:
    def admit(self, now: float) -> bool:
        return True


class TokenBucket:
    """nginx's ``limit_req rate=… burst=… nodelay``: refused calls take no token."""

    def __init__(self, limit: Limit, burst: float) -> None:
        self._limit = limit
        self._burst = burst
        self._excess = 0.0
        self._last = 0.0

    def admit(self, now: float) -> bool:
        waiting = max(0.0, self._excess - (now - self._last) * self._limit(now))
        if waiting > self._burst:
            return False
        self._excess, self._last = waiting + 1, now
        return True


class FixedWindow:
    """A number of calls in each window of ``seconds``; the first window ends at ``phase``."""

    def __init__(self, limit: Limit, seconds: float, phase: float = 0.0) -> None:
        self._limit = limit
        self._seconds = seconds
        self._phase = phase
        self._window = -math.inf
        self._used = 0

    def admit(self, now: float) -> bool:
        window = math.floor((now - self._phase) / self._seconds)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= round(self._limit(now) * self._seconds):
            return False
        self._used += 1
        return True


class SlidingWindow:
    """A number of calls in the last ``seconds``."""

    def __init__(self, limit: Limit, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._admitted: deque[float] = deque()

    def admit(self, now: float) -> bool:
        while self._admitted and self._admitted[0] <= now - self._seconds:
            self._admitted.popleft()
        if len(self._admitted) >= round(self._limit(now) * self._seconds):
            return False
        self._admitted.append(now)
        return True


class Replaced:
    """One limiter until a given time, then another, like the benchmark's nginx."""

    def __init__(self, first: Limiter, at: float, then: Limiter) -> None:
        self._first, self._at, self._then = first, at, then

    def admit(self, now: float) -> bool:
        return (self._first if now < self._at else self._then).admit(now)


class SharedWithAnotherClient:
    """A limiter that another client also calls, at random times, ``its_rate`` times a second."""

    def __init__(self, limiter: Limiter, its_rate: Limit, seed: int = 0) -> None:
        self._limiter = limiter
        self._its_rate = its_rate
        self._chance = random.Random(seed)
        self._its_next = self._chance.expovariate(its_rate(0.0))
        self.its_admitted: list[float] = []

    def admit(self, now: float) -> bool:
        while self._its_next <= now:
            if self._limiter.admit(self._its_next):
                self.its_admitted.append(self._its_next)
            self._its_next += self._chance.expovariate(self._its_rate(self._its_next))
        return self._limiter.admit(now)


class Controller(Protocol):
    @property
    def resume_at(self) -> float: ...
    def rate(self, now: float) -> float: ...
    def sent(self, now: float) -> None: ...
    def admitted(self, now: float, sent_at: float) -> None: ...
    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None: ...


class Pinned:
    """A fixed rate, to compare the controller with."""

    resume_at = 0.0

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def rate(self, now: float) -> float:
        return self._rate

    def sent(self, now: float) -> None: ...
    def admitted(self, now: float, sent_at: float) -> None: ...
    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None: ...


class Latency(Protocol):
    """Draws how long a call takes: seconds to the server, to an answer from there, and to a refusal."""

    def draw(self, chance: random.Random) -> tuple[float, float, float]: ...


@dataclass
class Far:
    """A distant server: half of the time is travel each way, and a refusal takes as long as an answer.

    Log-normal around ``typical`` seconds; one call in ``1 / stalls`` takes a second.
    """

    typical: float = 0.02
    spread: float = 0.3
    stalls: float = 0.0

    def draw(self, chance: random.Random) -> tuple[float, float, float]:
        if self.stalls and chance.random() < self.stalls:
            return 0.5, 0.5, 0.5
        half = self.typical * math.exp(chance.gauss(0.0, self.spread)) / 2
        return half, half, half


@dataclass
class Near:
    """The benchmarks' servers, on this machine: they refuse at once and answer after a delay.

    ``tail`` is like the sandbox: 0.6 of the mean and an exponential tail; otherwise uniform, as behind nginx.
    ``slow`` lets refusals take as long as answers.
    """

    shortest: float = 0.02
    longest: float = 0.08
    tail: bool = False
    slow: bool = False

    def draw(self, chance: random.Random) -> tuple[float, float, float]:
        travel = chance.uniform(0.0003, 0.001)
        if self.tail:
            mean = (self.shortest + self.longest) / 2
            answer = mean * (0.6 - 0.4 * math.log(1 - chance.random()))
        else:
            answer = chance.uniform(self.shortest, self.longest)
        return travel, answer, answer if self.slow else travel


@dataclass
class Trace:
    """What the limiter saw: the time of every admitted and refused call, in order."""

    admitted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    rates: list[tuple[float, float]] = field(default_factory=list)
    """The gate's rate at each permit."""

    def admitted_between(self, start: float, end: float) -> int:
        return bisect_left(self.admitted, end) - bisect_left(self.admitted, start)

    def refused_between(self, start: float, end: float) -> int:
        return bisect_left(self.refused, end) - bisect_left(self.refused, start)

    def refused_share(self, start: float, end: float) -> float:
        refused = self.refused_between(start, end)
        return refused / max(1, refused + self.admitted_between(start, end))

    def utilization(self, limit: float, start: float, end: float) -> float:
        """Admitted calls as a share of what the limit allows in that time."""
        return self.admitted_between(start, end) / (limit * (end - start))

    def rate_at(self, moment: float) -> float:
        """The rate the gate last used before ``moment``."""
        place = bisect_left(self.rates, (moment, 0.0))
        return self.rates[max(0, place - 1)][1]


class SimulatedGate:
    """``accucheck._gate.Gate``, with aiolimiter's leaky bucket in it, as a function of time.

    Like the original, it checks the pace every 10 ms, has room for 1 call plus 10 ms of calls, and checks a hold
    every 50 ms. Its timers are up to a millisecond late.
    """

    def __init__(self, controller: Controller, lateness: Callable[[], float]) -> None:
        self._controller = controller
        self._lateness = lateness
        self.rate = 0.0
        self.recheck_at = -math.inf
        self._deepest = self._level = self._leaked_at = 0.0
        self._waits = False
        """Whether the caller that is first has been told to wait for the bucket, not for a hold."""

    def permit(self, now: float) -> float | None:
        """Give a permit (None), or return when to ask again."""
        while True:
            if not self._waits:
                held_for = self._controller.resume_at - now
                if held_for > 0:
                    return now + min(held_for, 0.05) + self._lateness()
                self._look(now)
            self._level = max(0.0, self._level - (now - self._leaked_at) * self.rate)
            self._leaked_at = now
            missing = self._level + 1 - self._deepest
            if missing > 1e-9:
                self._waits = True
                return now + missing / self.rate + self._lateness()
            self._waits = False
            self._level += 1
            if self._controller.resume_at <= now:
                return None

    def _look(self, now: float) -> None:
        if now < self.recheck_at:
            return
        self.recheck_at = now + 0.01
        rate = self._controller.rate(now)
        if abs(rate - self.rate) <= 0.005 * self.rate:
            return
        left = math.floor(self._deepest - max(0.0, self._level - (now - self._leaked_at) * self.rate) + 1e-9)
        first = not self.rate
        self.rate = rate
        self._deepest = 1 + 0.01 * rate
        self._level = 0.0 if first else self._deepest - min(left, self._deepest)
        self._leaked_at = now


def simulate(
    controller: Controller,
    limiter: Limiter,
    *,
    seconds: float,
    latency: Latency | None = None,
    workers: int = 200,
    demand: Limit | None = None,
    seed: int = 0,
    lateness: float = 0.001,
) -> Trace:
    """Run until ``seconds``; ``demand`` is the calls per second that there is work for (None: unlimited).

    Timers are up to ``lateness`` seconds late.
    """
    latency = latency or Far()
    chance = random.Random(seed)
    trace = Trace()
    arrival, reply, wake = 0, 1, 2
    order = count()
    events: list[tuple[float, int, int, float, float, float, bool]] = []
    gate = SimulatedGate(controller, lambda: chance.random() * lateness)
    idle, work, worked_at, asks_again = workers, 1.0, 0.0, False
    events.append((0.0, next(order), wake, 0.0, 0.0, 0.0, False))
    while events:
        now, _, kind, sent_at, answer, refusal, admitted = heapq.heappop(events)
        if now >= seconds:
            break
        if kind == arrival:
            admitted = limiter.admit(now)
            (trace.admitted if admitted else trace.refused).append(now)
            back = now + (answer if admitted else refusal)
            heapq.heappush(events, (back, next(order), reply, sent_at, 0.0, 0.0, admitted))
            continue
        if kind == reply:
            idle += 1
            if admitted:
                controller.admitted(now, sent_at)
            else:
                controller.refused(now, sent_at)
                gate.recheck_at = -math.inf
            if asks_again:
                continue
        asks_again = False
        while idle:
            if demand is not None:
                work = min(work + (now - worked_at) * demand(now), 5.0)
                worked_at = now
            ask_at = (
                gate.permit(now) if work >= 1 - 1e-9 or demand is None else now + (1 - work) / demand(now)
            )
            if ask_at is not None:
                heapq.heappush(events, (ask_at, next(order), wake, 0.0, 0.0, 0.0, False))
                asks_again = True
                break
            work -= 1
            idle -= 1
            controller.sent(now)
            trace.rates.append((now, gate.rate))
            there, answer, refusal = latency.draw(chance)
            heapq.heappush(events, (now + there, next(order), arrival, now, answer, refusal, False))
    return trace
