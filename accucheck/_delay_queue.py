"""Numbers that wait for their moment: a heap of times and one timer, no task and no worker."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import Generic, TypeVar

Delayed = TypeVar("Delayed")


class DelayQueue(Generic[Delayed]):
    """Keeps things until their time, then hands back all that are due at once."""

    def __init__(self, on_due: Callable[[list[Delayed]], None]) -> None:
        self._on_due = on_due
        self._heap: list[tuple[float, int, Delayed]] = []
        self._order = 0
        # Not TimerHandle, and its time is kept beside it: for a time that has come uvloop gives a bare Handle.
        self._timer: asyncio.Handle | None = None
        self._timer_at = math.inf

    def __len__(self) -> int:
        return len(self._heap)

    def delay(self, thing: Delayed, seconds: float) -> None:
        """Keep ``thing`` for so many seconds of the event loop's clock."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(seconds, 0.0)
        self._order += 1  # equal times leave in the order in which they came
        heapq.heappush(self._heap, (when, self._order, thing))
        if self._timer is None or when < self._timer_at:
            self._arm(loop, when)

    def close(self) -> None:
        """Stop the timer; what is delayed stays."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drain(self) -> list[Delayed]:
        """Take out all that is delayed, in the order in which it would have been due, and stop the timer."""
        self.close()
        delayed = [thing for _, _, thing in sorted(self._heap, key=lambda entry: entry[:2])]
        self._heap.clear()
        return delayed

    def _arm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = loop.call_at(when, self._release)

    def _release(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        # uvloop's timers fire up to a millisecond early; what is that close to its time is due.
        now = loop.time() + 0.001
        due: list[Delayed] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        if self._heap:
            self._arm(loop, self._heap[0][0])
        if due:
            self._on_due(due)
