"""The gate: one permit before every call, first tries, retries and polls alike.

A ``Pace`` says how many calls a second are right; an aiolimiter bucket lets them through at that
pace. Refusals hold everyone. The hard cap on calls is kept here too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from accucheck._errors import ConfigurationError
from accucheck._rate import RateController

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["CallBudget", "Gate", "Pace", "Rate", "make_gate"]

Rate: TypeAlias = float | tuple[float, float] | Literal["auto"]
"""Calls per second: a ceiling, a range to search, or ``"auto"``: found from the vendor's refusals."""

_RECHECK: Final = 0.01
"""Seconds between two looks at the pace: at 10,000 calls/s a look at each call costs more than the bucket."""
_NOTICEABLE: Final = 0.005
"""The share by which the pace must change before the bucket is swapped."""
_LATENESS: Final = 0.01
"""Seconds of calls that a bucket holds beyond the one that is due. A timer fires up to a millisecond late on
asyncio and ticks in whole milliseconds on uvloop: without it those permits would be lost. More would be a burst."""
_LOOK_AGAIN: Final = 0.05
"""Seconds between two looks at a hold: a reply may end it early."""
_BLOCK: Final = 0.001
"""Seconds of calls taken from a full bucket at once, and kept for no longer than that. One by one a permit costs
2 µs; at 10,000 calls/s and more, with the limit not binding, a block makes that 0.4."""


class Pace(Protocol):
    """How fast to call. All times are one monotonic clock's, in seconds."""

    @property
    def learned(self) -> float | None:
        """The limit, in calls per second, once one was met; None before."""

    @property
    def resume_at(self) -> float:
        """Nobody calls before this moment."""

    def rate(self, now: float) -> float:
        """Calls per second that are right now."""

    def sent(self, now: float) -> None:
        """Note that a call goes out."""

    def admitted(self, now: float, sent_at: float) -> None:
        """Note that a call was not refused for frequency."""

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        """Note that a call was refused for frequency."""


class Gate:
    """Lets calls through at a pace, in the order in which they came.

    Only one task at a time waits for the bucket, the others wait for their turn: hundreds waiting on one
    aiolimiter cost 54 µs an acquire, and 200 to 850 on uvloop. A gate belongs to one event loop.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        burst: int | None = None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # Here, since it looks its own version up on the disk: a tenth of the time of importing accucheck.
        from aiolimiter import AsyncLimiter

        self._limiter_class = AsyncLimiter
        self._pace = pace
        self._burst = burst
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._limiter: AsyncLimiter | None = None
        self._current = 0.0
        self._recheck_at = -math.inf
        self._block = 0  # permits taken from the bucket and not given yet
        self._block_until = -math.inf

    @property
    def rate(self) -> float:
        """Calls per second let through now."""
        return self._current or self._pace.rate(self.now())

    @property
    def pace(self) -> Pace:
        return self._pace

    @property
    def used(self) -> bool:
        """Whether anybody has asked for a permit."""
        return self._limiter is not None

    def now(self) -> float:
        """Return the time on the gate's clock: the event loop's, which the bucket uses too."""
        clock = self._clock
        if clock is None:
            # Kept: up to Python 3.11 asking for the running loop is a system call (0.2 µs, four times a check).
            clock = self._clock = asyncio.get_running_loop().time
        return clock()

    def try_acquire(self) -> float | None:
        """Return the moment of a permit that is to be had at once; None if the caller must wait for one."""
        now = self.now()
        if self._block and now < self._block_until:
            self._block -= 1
            self._pace.sent(now)
            return now
        if self._turn.locked() or self._pace.resume_at > now:
            return None
        bucket = self._bucket(now)
        block = max(1, int(self._current * _BLOCK)) if self._burst is None else 1
        if not bucket.has_capacity(block):
            block = 1
            if not bucket.has_capacity():
                return None
        _take_at_once(bucket, block)
        self._block = block - 1
        self._block_until = now + _BLOCK
        self._sent(now)
        return now

    async def acquire(self) -> float:
        """Wait for a permit; return the moment it was given."""
        now = self.try_acquire()
        if now is not None:
            return now
        async with self._turn:
            while True:
                now = self.now()
                held_for = self._pace.resume_at - now
                if held_for > 0:
                    await self._sleep(min(held_for, _LOOK_AGAIN))
                    continue
                await self._bucket(now).acquire()
                now = self.now()
                # A refusal may have come in while this task waited for the bucket.
                if self._pace.resume_at <= now:
                    self._sent(now)
                    return now

    def _sent(self, now: float) -> None:
        self._pace.sent(now)
        if self._pace.resume_at > now:  # one call was let through, to see whether it passes
            self._block = 0

    def admitted(self, sent_at: float) -> None:
        """Note that the call sent then was not refused for frequency."""
        self._pace.admitted(self.now(), sent_at)

    def refused(self, sent_at: float, retry_after: float | None) -> None:
        """Note that the call sent then was refused for frequency: holds everyone."""
        self._pace.refused(self.now(), sent_at, retry_after)
        self._recheck_at = -math.inf
        self._block = 0

    def _bucket(self, now: float) -> AsyncLimiter:
        if self._limiter is None or now >= self._recheck_at or now < self._recheck_at - 2 * _RECHECK:
            self._recheck_at = now + _RECHECK
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
        """Return a bucket of the new pace with as many permits as the old one, so that a swap is no burst."""
        new = self._new_bucket(rate)
        low, high = 0, math.floor(old.max_rate)
        while low < high:  # has_capacity is all that a limiter tells
            middle = (low + high + 1) // 2
            low, high = (middle, high) if old.has_capacity(middle) else (low, middle - 1)
        _take_at_once(new, new.max_rate - min(low, new.max_rate))
        return new


def _take_at_once(bucket: AsyncLimiter, permits: float) -> None:
    """Take permits that the bucket is known to have, so that nobody is kept waiting."""
    coroutine = bucket.acquire(permits)
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a bucket with enough permits made its caller wait")  # pragma: no cover


class CallBudget:
    """A hard cap on calls, exact under concurrency: reserved before the send, no await in between.

    ``lease`` grants blocks of calls from a store that outlives the process; it is asked for more only when
    the last block is used up, and returns 0 when none are left.
    """

    def __init__(self, lease: Callable[[], int]) -> None:
        self._lease = lease
        self._left = 0

    def reserve(self) -> bool:
        """Take one call; return False if none is left."""
        if self._left == 0:
            self._left = self._lease()
            if self._left == 0:
                return False
        self._left -= 1
        return True

    @property
    def unused(self) -> int:
        """Calls leased and not made."""
        return self._left


def one_lease(max_calls: int) -> Callable[[], int]:
    """Return a lease for a run that keeps no ledger: all at once, then nothing."""
    blocks = iter((max_calls,))
    return lambda: next(blocks, 0)


def make_gate(rate: Rate, burst: int | None = None, *, learned: float | None = None) -> Gate:
    """Return a gate for what a caller asked for.

    ``rate`` is calls per second: a number is a ceiling, tried at once; ``(low, high)`` bounds the search;
    ``"auto"`` searches without bounds. ``learned`` is where an earlier run found the limit: the search
    starts at 90 % of it. ``burst`` is how many calls may go at once after a silence, 1 or more.
    Raises ConfigurationError for anything else.
    """
    if burst is not None and (isinstance(burst, bool) or not isinstance(burst, int) or burst < 1):
        raise ConfigurationError(f"burst is a whole number of calls, 1 or more, not {burst!r}")
    start = None if learned is None else 0.9 * learned
    match rate:
        case "auto":
            return Gate(RateController(start=start), burst=burst)
        case (low, high):
            low, high = _calls_per_second(low), _calls_per_second(high)
            if low > high:
                raise ConfigurationError(f"rate is a range (low, high) with low below high, not {rate!r}")
            start = None if start is None else min(max(start, low), high)
            return Gate(RateController(low=low, high=high, start=start), burst=burst)
        case _:
            ceiling = _calls_per_second(rate)
            return Gate(RateController(high=ceiling, start=ceiling), burst=burst)


def _calls_per_second(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(
            "rate is calls per second above zero (such as 50 or 0.5), a range (low, high) or 'auto',"
            f" not {value!r}"
        )
    return float(value)
