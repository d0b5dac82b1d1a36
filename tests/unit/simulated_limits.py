"""Rate limiters of every kind and a run against them, in virtual time: no clock, no socket, no sleep.

A limiter answers ``admit(now)``. ``simulate`` lets a controller, a paced gate and some workers loose on
one and returns the whole trace, so that a test can state figures exactly: the same seed, the same run.
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
    """So many calls in each window of ``seconds``; the first window turns at ``phase``."""

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
    """So many calls in any ``seconds`` that end now."""

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


class SharedWithAnotherClient:
    """A limiter that another client calls too, at random moments, ``its_rate`` times a second."""

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
    """A rate that a user has fixed: what the controller is measured against."""

    resume_at = 0.0

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def rate(self, now: float) -> float:
        return self._rate

    def sent(self, now: float) -> None: ...
    def admitted(self, now: float, sent_at: float) -> None: ...
    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None: ...


@dataclass
class Latency:
    """Seconds from sending to reply: log-normal around ``typical``; one in ``1 / stalls`` takes a second."""

    typical: float = 0.02
    spread: float = 0.3
    stalls: float = 0.0

    def draw(self, chance: random.Random) -> float:
        if self.stalls and chance.random() < self.stalls:
            return 1.0
        return self.typical * math.exp(chance.gauss(0.0, self.spread))


@dataclass
class Trace:
    """What the limiter saw: the moment of every admitted and every refused call, in order."""

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

    def utilisation(self, limit: float, start: float, end: float) -> float:
        """Admitted calls over what the limit allows in that time."""
        return self.admitted_between(start, end) / (limit * (end - start))

    def rate_at(self, moment: float) -> float:
        """The rate the gate last used before ``moment``."""
        place = bisect_left(self.rates, (moment, 0.0))
        return self.rates[max(0, place - 1)][1]


def simulate(
    controller: Controller,
    limiter: Limiter,
    *,
    seconds: float,
    latency: Latency | None = None,
    workers: int = 200,
    gate_burst: float = 0.01,
    demand: Limit | None = None,
    seed: int = 0,
) -> Trace:
    """Run until ``seconds``.

    ``gate_burst`` is the depth of the gate's own bucket in seconds of its rate (at least one call);
    ``demand`` is how many calls a second there is work for (None: always more than the gate permits).
    """
    latency = latency or Latency()
    chance = random.Random(seed)
    trace = Trace()
    order = count()
    arrivals, replies, wakes = 0, 1, 2
    events: list[tuple[float, int, int, float, bool]] = [(0.0, next(order), wakes, 0.0, False)]
    now, filled_at, permits, idle_workers, work = 0.0, 0.0, 1.0, workers, 0.0
    next_wake = held_until = 0.0

    def wake(at: float) -> None:
        nonlocal next_wake
        if at < next_wake:
            next_wake = at
            heapq.heappush(events, (at, next(order), wakes, at, False))

    while events:
        now, _, kind, sent_at, admitted = heapq.heappop(events)
        if now >= seconds:
            break
        if kind == arrivals:
            admitted = limiter.admit(now)
            (trace.admitted if admitted else trace.refused).append(now)
            heapq.heappush(events, (now + latency.draw(chance) / 2, next(order), replies, sent_at, admitted))
            continue
        if kind == replies:
            idle_workers += 1
            if admitted:
                controller.admitted(now, sent_at)
            else:
                controller.refused(now, sent_at)
        elif sent_at != next_wake:
            continue  # a later look made this one needless
        else:
            next_wake = math.inf
        while True:
            rate = controller.rate(now)
            permits = min(permits + (now - filled_at) * rate, max(1.0, rate * gate_burst))
            if demand is not None:
                work = min(work + (now - filled_at) * demand(now), 5.0)
            filled_at = now
            if idle_workers == 0:
                break
            if now < max(held_until, controller.resume_at):
                # Like a gate that sleeps out its hold: it does not look again when a reply comes earlier.
                held_until = max(held_until, controller.resume_at)
                wake(held_until)
                break
            if permits < 1 - 1e-9:
                wake(now + (1 - permits) / rate)
                break
            if demand is not None and work < 1 - 1e-9:
                wake(now + (1 - work) / demand(now))
                break
            permits -= 1
            work -= 1
            idle_workers -= 1
            controller.sent(now)
            trace.rates.append((now, rate))
            heapq.heappush(events, (now + latency.draw(chance) / 2, next(order), arrivals, now, False))
    return trace
