"""How many calls may run at once, for how long, and how many the operating system's file limit allows."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

if sys.platform != "win32":  # where sockets are not counted as files
    import resource

__all__ = ["Deadlines", "Slots", "check_descriptor", "open_files_limit", "raise_open_files_limit"]

_PROBE_SECONDS = 1.0
"""Seconds between offers of withheld slots, since their descriptors may have been closed."""


class Slots:
    """A number of slots, one per call in flight; callers wait in line for a free one.

    Taking a free slot is a plain function, which is faster than ``async with asyncio.Semaphore``.
    """

    def __init__(self, count: int, now: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._free = count
        self._withheld = 0
        self._probe_at = 0.0
        self._line: deque[asyncio.Future[None]] = deque()
        self._now = now

    def try_take(self) -> bool:
        """Take a slot if one is free; return whether it was."""
        if self._free > 0:
            self._free -= 1
            return True
        return False

    async def take(self, *, first: bool = False) -> None:
        """Wait for the next slot that is returned. ``first`` goes to the head of the line."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._line.appendleft(turn)
        else:
            self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # it was passed on at the moment of cancellation
            with suppress(ValueError):
                self._line.remove(turn)
            raise

    def give_back(self) -> None:
        """Pass the slot to the one who has waited longest, or free it."""
        if self._free < 0:
            self._free += 1  # it is one of those withheld
            return
        self._release()
        if self._withheld and self._now() >= self._probe_at:
            self._probe_at = self._now() + _PROBE_SECONDS
            for _ in range(min(self._withheld, max(self._taken(), 1))):
                self._withheld -= 1
                self._release()

    def withhold(self) -> bool:
        """Reduce the slots to the calls in flight besides the caller's, which then returns its slot.

        For a call that found no file descriptor. Returns False, and changes nothing, if there is no other call whose
        end could help. Once a second, as many slots as are in use are tried again.
        """
        if self._taken() < 2:
            return False
        self._withheld += self._free + 1
        self._free = -1
        self._probe_at = self._now() + _PROBE_SECONDS
        return True

    def _taken(self) -> int:
        return self._count - self._withheld - self._free

    def _release(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class _Call:
    """A call in flight, and when it must end."""

    __slots__ = ("cancelling", "deadline", "expired", "task")

    def __init__(self, task: asyncio.Task[Any], deadline: float) -> None:
        self.task = task
        self.deadline = deadline
        self.cancelling = task.cancelling()
        self.expired = False


class Deadlines:
    """Gives every call the same number of seconds, like ``asyncio.timeout``, on one event loop.

    Calls end in the order in which they begin, so a single timer, for the first one, is enough and five times cheaper.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: dict[_Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> _Call:
        """Start the running task's time. Pass the result to ``end``, however the call ends."""
        task = asyncio.current_task(loop)
        assert task is not None
        call = _Call(task, loop.time() + self._seconds)
        self._calls[call] = None
        if self._timer is None:
            self._timer = loop.call_at(call.deadline, self._expire, loop)
        return call

    def end(self, call: _Call, error: BaseException | None = None) -> None:
        """Remove the call; ``error`` is its exception, if any.

        Raises TimeoutError if the cancellation is ours, because the time is up, and not someone else's.
        """
        self._calls.pop(call, None)
        if call.expired:
            others = call.task.uncancel() > call.cancelling
            if not others and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error

    def close(self) -> None:
        """Stop the timer. Calls in flight continue without a limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time() + 0.001  # uvloop's timers fire up to a millisecond early
        for call in tuple(self._calls):
            if call.deadline > now:
                self._timer = loop.call_at(call.deadline, self._expire, loop)
                return
            del self._calls[call]
            call.expired = True
            call.task.cancel()


def open_files_limit() -> int | None:
    """Return how many files this process may have open (``ulimit -n``); None if there is no such limit."""
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def raise_open_files_limit(wanted: int) -> int | None:
    """Raise this process's limit of open files to ``wanted``, or as close as the system allows; return it.

    Only the soft limit changes, and never downwards.
    """
    soft = open_files_limit()
    if sys.platform != "win32" and soft is not None and soft < wanted:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if raised > soft:
            with suppress(OSError, ValueError):  # macOS allows fewer than its hard limit says
                resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return open_files_limit()


def check_descriptor(descriptor: int) -> None:
    """Make sure that a connection may keep ``descriptor``, which was just opened.

    An open file gets the lowest free number, so a number close to the limit means that few are left. Those are reserved
    for the ledger, the output and the resolver: connections must not use up the files that answers are written to. The
    soft limit is raised first, as far as the hard one allows. Raises OSError (EMFILE).
    """
    limit = open_files_limit()
    while limit is not None and descriptor >= limit - _kept_back(limit):
        raised = raise_open_files_limit(2 * limit)
        if raised == limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        limit = raised


def _kept_back(limit: int) -> int:
    """Return the number of descriptors reserved from connections."""
    return min(32, max(3, limit // 8))
