"""The gate: one permit before every call, whether a first attempt, a retry or a poll.

``Gate`` is what the engine requires. ``AdaptiveGate`` finds the account's rate limit and stays just below it.
``UnlimitedGate`` is for tests, and for accounts whose calls are paced elsewhere. Your own gate works if it passes
``tests/gate_conformance.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from accucheck._errors import ConfigurationError
from accucheck._rate import RateController
from accucheck._schedule import Rate, RatePlan, Schedule

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["AdaptiveGate", "Gate", "PacedGate", "Rate", "UnlimitedGate"]

logger = logging.getLogger("accucheck")

_RECHECK: Final = 0.01
"""Seconds between checks of the pace. At 10,000 calls/s, checking at each call would cost more than the bucket."""
_QUEUE: Final = 0.05
"""Seconds of calls. More callers than that are a queue, however busy the machine is."""
_NOTICEABLE: Final = 0.005
"""The share by which the pace must change before the bucket is swapped."""
_LATENESS: Final = 0.01
"""Seconds of calls that a bucket holds beyond the one that is due. Timers fire up to a millisecond late on asyncio and
tick in whole milliseconds on uvloop; without this, those permits would be lost. More would be a burst."""
_LOOK_AGAIN: Final = 0.05
"""Seconds between checks of a hold, because a reply may end it early."""
_LONG_HOLD: Final = 60.0
_LOOK_AGAIN_LATER: Final = 1.0
"""The same in a hold of more than a minute, when no call is in flight any longer."""
_BLOCK: Final = 0.001
"""Seconds of calls taken from a full bucket at once, and kept no longer than that. Blocks make permits five times
cheaper at 10,000 calls/s and more."""
_URGENT_IN_A_ROW: Final = 2
"""Permits that urgent callers may take in a row while others are waiting."""
_BLIND_HOLD: Final = 1.0
"""Seconds that ``UnlimitedGate`` waits after a refusal that does not say how long to wait."""


@runtime_checkable
class Gate(Protocol):
    """Decides when the next call may be made, for everyone who calls one account.

    A gate belongs to one event loop; all its times are that loop's (``loop.time()``), in seconds. The engine takes one
    permit for each call and reports each reply; unused permits are not given back. Any number of tasks may wait at
    once, and cancelling one must cost the others nothing.

    Examples:
        ```python
        gate: accucheck.Gate = accucheck.AdaptiveGate(50)  # or your own, with the same methods
        async with accucheck.Client(gate=gate) as client:
            await client.check("987654321")
        await gate.aclose()
        ```
    """

    @property
    def rate(self) -> float | None:
        """Calls per second allowed now; None if the gate does not limit them."""

    async def acquire(self, *, urgent: bool = False) -> float:
        """Wait for a permit and return the time it was given.

        Callers are served in order of arrival, ``urgent`` ones (single checks) before the others (rows of a list), who
        still get a share. Raises RuntimeError once the gate is closed.
        """

    def try_acquire(self) -> float | None:
        """Return the time of a permit if one is free now; None if the caller must wait.

        Never overtakes: while others are waiting, none is free. Raises RuntimeError once the gate is closed.
        """

    def admitted(self, sent_at: float) -> None:
        """Report that the call whose permit was given at ``sent_at`` was not rate-limited."""

    def refused(self, sent_at: float, retry_after: float | None = None) -> None:
        """Report that the call whose permit was given at ``sent_at`` was rate-limited, so everyone must wait.

        ``retry_after`` is the number of seconds that the vendor asks to wait, if it does.
        """

    async def aclose(self) -> None:
        """Give no more permits. Waiting callers get RuntimeError. May be called twice."""


class UnlimitedGate:
    """A ``Gate`` that allows every call at once.

    Only a refusal makes callers wait, for as long as the vendor asks, or a second.

    Examples:
        ```python
        client = accucheck.Client(gate=accucheck.UnlimitedGate())  # behind a limiter of your own
        ```
    """

    def __init__(self) -> None:
        self._resume_at = -math.inf
        self._closed = asyncio.Event()

    @property
    def rate(self) -> float | None:
        return None

    async def acquire(self, *, urgent: bool = False) -> float:
        while (now := self.try_acquire()) is None:
            held_for = self._resume_at - asyncio.get_running_loop().time()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), held_for)
        return now

    def try_acquire(self) -> float | None:
        if self._closed.is_set():
            raise closed_error()
        now = asyncio.get_running_loop().time()
        return now if now >= self._resume_at else None

    def admitted(self, sent_at: float) -> None:
        pass

    def refused(self, sent_at: float, retry_after: float | None = None) -> None:
        makes_sense = retry_after is not None and 0 <= retry_after < math.inf
        held_for = retry_after if retry_after is not None and makes_sense else _BLIND_HOLD
        self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + held_for)

    async def aclose(self) -> None:
        self._closed.set()


class Waiters:
    """Who waits for a permit, and who is next: urgent callers first, except for every third permit."""

    def __init__(self) -> None:
        self._urgent: OrderedDict[asyncio.Future[float], None] = OrderedDict()
        self._others: OrderedDict[asyncio.Future[float], None] = OrderedDict()
        self._urgent_in_a_row = 0

    def __bool__(self) -> bool:
        return bool(self._urgent or self._others)

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def join(self, *, urgent: bool) -> asyncio.Future[float]:
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others)[waiter] = None
        return waiter

    def leave(self, waiter: asyncio.Future[float]) -> None:
        """Remove a cancelled waiter; a permit that it was already given goes to the next one."""
        self._urgent.pop(waiter, None)
        self._others.pop(waiter, None)
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self.give(waiter.result())

    def give(self, now: float) -> None:
        """Give a permit to the next waiter."""
        others_turn = self._others and self._urgent_in_a_row >= _URGENT_IN_A_ROW
        queue = self._others if others_turn or not self._urgent else self._urgent
        self._urgent_in_a_row = self._urgent_in_a_row + 1 if queue is self._urgent else 0
        while queue:
            waiter, _ = queue.popitem(last=False)
            if not waiter.done():  # if its task was just cancelled, it has not left yet
                waiter.set_result(now)
                return

    def fail(self, error: BaseException) -> None:
        for queue in (self._urgent, self._others):
            while queue:
                waiter, _ = queue.popitem(last=False)
                if not waiter.done():
                    waiter.set_exception(error)


class PacedGate:
    """A ``Gate`` that allows calls at a controller's rate: a token bucket whose rate may change at any time.

    One task takes the permits and passes them on, because hundreds of tasks waiting on one aiolimiter are slow.
    """

    def __init__(
        self,
        pace: RateController,
        *,
        burst: int | None = None,
        schedule: Schedule | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # Imported here because it looks up its own version on disk, a tenth of accucheck's import time.
        from aiolimiter import AsyncLimiter

        self._limiter_class = AsyncLimiter
        self._pace = pace
        self._burst = burst
        self._schedule = schedule or None
        self._paused = False
        self._clock = clock
        self._sleep = sleep
        self._waiters = Waiters()
        self._server: asyncio.Task[None] | None = None  # runs while anyone is waiting
        self._closed = False
        self._limiter: AsyncLimiter | None = None
        self._current = 0.0
        self._recheck_at = -math.inf
        self._block = 0  # permits taken from the bucket and not yet given out
        self._block_until = -math.inf

    @property
    def rate(self) -> float:
        """Calls per second allowed now."""
        return self._current or self._pace.rate(self.now())

    @property
    def learned(self) -> float | None:
        """The account's limit in calls per second, once a refusal has shown it."""
        return self._pace.learned

    @property
    def pause(self) -> float:
        """Seconds until quotas and hours allow a call."""
        return self._schedule.wait() if self._schedule else 0.0

    def now(self) -> float:
        """Return the time on the gate's clock, the event loop's, which the bucket uses too."""
        clock = self._clock
        if clock is None:
            # Cached because up to Python 3.11, asking for the running loop is a system call.
            clock = self._clock = asyncio.get_running_loop().time
        return clock()

    def try_acquire(self) -> float | None:
        clock = self._clock
        now = self.now() if clock is None else clock()
        if self._block and now < self._block_until:
            self._block -= 1
            self._pace.sent(now)
            return now
        if self._closed:
            raise closed_error()
        if self._waiters or self._pace.resume_at > now or (self._schedule and self._schedule.wait()):
            return None
        bucket = self._bucket(now)
        block = max(1, int(self._current * _BLOCK)) if self._burst is None and not self._schedule else 1
        if not bucket.has_capacity(block):
            block = 1
            if not bucket.has_capacity():
                return None
        _take_at_once(bucket, block)
        self._block = block - 1
        self._block_until = now + _BLOCK
        self._sent(now)
        return now

    async def acquire(self, *, urgent: bool = False) -> float:
        now = self.try_acquire()
        if now is not None:
            return now
        waiter = self._waiters.join(urgent=urgent)
        if self._server is None:
            self._server = asyncio.create_task(self._serve(), name="accucheck gate")
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiters.leave(waiter)
            if self._server is not None and not self._waiters:
                self._server.cancel()  # it would take a permit that nobody wants
                self._server = None
            raise

    def admitted(self, sent_at: float) -> None:
        clock = self._clock
        self._pace.admitted(self.now() if clock is None else clock(), sent_at)

    def refused(self, sent_at: float, retry_after: float | None = None) -> None:
        self._pace.refused(self.now(), sent_at, retry_after)
        self._recheck_at = -math.inf
        self._block = 0

    async def aclose(self) -> None:
        self._closed = True
        self._block = 0
        server, self._server = self._server, None
        if server is not None:
            server.cancel()
            await asyncio.wait([server])
        self._waiters.fail(closed_error())

    async def _serve(self) -> None:
        """Take permits from the bucket and give them to the waiters."""
        try:
            while self._waiters:
                now = self.now()
                held_for = max(self._pace.resume_at - now, self._pause())
                if held_for > 0:
                    await self._sleep(
                        min(held_for, _LOOK_AGAIN if held_for < _LONG_HOLD else _LOOK_AGAIN_LATER)
                    )
                    continue
                await self._bucket(now).acquire()
                now = self.now()
                # A refusal may have arrived while this task waited for the bucket.
                if self._pace.resume_at <= now:
                    self._sent(now)
                    self._waiters.give(now)
        except Exception as error:  # noqa: BLE001 (it is raised again, where a permit was asked for)
            self._waiters.fail(error)
        finally:
            if self._server is asyncio.current_task():
                self._server = None

    def _pause(self) -> float:
        """Return the seconds until the schedule allows a call."""
        seconds = self._schedule.wait() if self._schedule else 0.0
        if seconds > _LONG_HOLD and not self._paused:
            logger.info("no calls for %s: %s", timedelta(seconds=round(seconds)), self._schedule)
        self._paused = seconds > 0
        return seconds

    def _sent(self, now: float) -> None:
        if self._schedule:
            self._schedule.count()
        self._pace.sent(now)
        if self._pace.resume_at > now:  # a single call, to test whether the vendor admits it
            self._block = 0

    def _bucket(self, now: float) -> AsyncLimiter:
        if self._limiter is None or now >= self._recheck_at or now < self._recheck_at - 2 * _RECHECK:
            self._recheck_at = now + _RECHECK
            self._pace.queued = len(self._waiters) > 1 + _QUEUE * self._current
            rate = self._pace.rate(now)
            if self._limiter is None:
                self._limiter = self._new_bucket(rate)
            elif abs(rate - self._current) > _NOTICEABLE * self._current:
                # Setting max_rate on a live limiter does not change its pace, so a new one takes over.
                self._limiter = self._take_over(self._limiter, rate)
        return self._limiter

    def _new_bucket(self, rate: float) -> AsyncLimiter:
        self._current = rate
        depth = 1 + rate * _LATENESS if self._burst is None else float(self._burst)
        return self._limiter_class(depth, depth / rate)

    def _take_over(self, old: AsyncLimiter, rate: float) -> AsyncLimiter:
        """Return a bucket with the new pace and the old one's permits, so that the swap causes no burst."""
        new = self._new_bucket(rate)
        low, high = 0, math.floor(old.max_rate)
        while low < high:  # has_capacity is all that a limiter exposes
            middle = (low + high + 1) // 2
            low, high = (middle, high) if old.has_capacity(middle) else (low, middle - 1)
        _take_at_once(new, new.max_rate - min(low, new.max_rate))
        return new


class AdaptiveGate(PacedGate):
    """The ``Gate`` of a client: finds the account's rate limit and stays just below it.

    Args:
        rate: Calls per second. "auto" finds the limit from the vendor's refusals; a number is a ceiling, tried at
            once; ``(low, high)`` bounds the search. Text may add quotas and the hours in which calls may start:
            "50/s,10000/d", "auto,2000/h,08:00-20:00 America/Lima".
        burst: Calls that may start at the same moment after a pause, 1 or more. Default: 1, plus a hundredth of the
            calls per second: 11 at 1,000 per second.
        learned: The limit that an earlier run found; see ``start_from``.

    Raises:
        ConfigurationError: An argument is wrong.

    Examples:
        ```python
        gate = accucheck.AdaptiveGate(50)
        async with accucheck.Client(gate=gate) as one, accucheck.Client(gate=gate) as other:
            await one.check("987654321")
            await other.check("912345678")  # both together make 50 calls per second
        await gate.aclose()
        ```
    """

    def __init__(
        self,
        rate: Rate = "auto",
        burst: int | None = None,
        *,
        learned: float | None = None,
    ) -> None:
        if burst is not None and (isinstance(burst, bool) or not isinstance(burst, int) or burst < 1):
            raise ConfigurationError(f"burst must be a whole number of calls, 1 or more, not {burst!r}")
        self._plan = plan = RatePlan.read(rate)
        schedule = Schedule(plan.quotas, plan.hours)
        super().__init__(self._controller(plan.start), burst=burst, schedule=schedule)
        if learned is not None:
            self.start_from(learned)

    def start_from(self, learned: float | None, *, floor: float | None = None) -> None:
        """Start the search at 90 % of the limit that an earlier run found, in calls per second.

        If that run was not refused, ``floor`` is its rate: the search is there within seconds. Has no effect once a
        permit was given, or if the rate is a number.
        """
        if self._limiter is None and self._plan.start is None:
            self._pace = self._controller(self._plan.start_near(learned), floor if learned is None else None)

    @property
    def floor(self) -> float | None:
        """A rate at which nothing was refused, in calls per second; None once a refusal was seen."""
        return self._pace.floor

    @property
    def usage(self) -> str | None:
        """The calls that count against a quota, to save for the next run; None without a quota."""
        return self._schedule.usage() if self._schedule and self._plan.quotas else None

    def restore_usage(self, usage: str) -> None:
        """Count the calls that earlier runs made, from their ``usage``.

        Has no effect once a permit was given, because ``usage`` then contains calls of this run.
        """
        if self._schedule and self._limiter is None:
            self._schedule.restore(usage)

    def _controller(self, start: float | None, floor: float | None = None) -> RateController:
        return RateController(low=self._plan.low, high=self._plan.high, start=start, floor=floor)


def shareable_plan(gate: AdaptiveGate) -> RatePlan | None:
    """Return the plan that several processes can share; None with a burst, which cannot be shared."""
    return gate._plan if gate._burst is None else None


def closed_error() -> RuntimeError:
    return RuntimeError("the gate and its client are closed: create a new client")


def _take_at_once(bucket: AsyncLimiter, permits: float) -> None:
    """Take permits that the bucket is known to have, without awaiting it.

    The only place where aiolimiter is driven by hand. ``try_acquire`` cannot await, or callers would yield at each call
    even though permits are free. ``acquire`` does not suspend if ``has_capacity`` returned True;
    tests/unit/test_gate_bucket.py verifies that for the installed release.
    """
    coroutine = bucket.acquire(permits)
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a bucket with enough permits made its caller wait")  # pragma: no cover
