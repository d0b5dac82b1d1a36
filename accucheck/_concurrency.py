"""What the engine adds to asyncio: tasks that only it can cancel, and the queues of delayed numbers and outcomes."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

import anyio

from accucheck._errors import LedgerError, RunEnded
from accucheck._models import Checked, Failed, Outcome, Settlement

Result = TypeVar("Result")


class EngineTask(asyncio.Task[Result]):
    """A task of the engine: plain asyncio, so that the caller's cancel scopes do not reach it.

    Code that cancels all tasks (``asyncio.run`` as it ends, a test runner, a shutdown handler) would cut off calls that
    are paid for. Such a cancellation calls ``on_cancel`` instead, which asks the engine to settle and stop. Time limits
    inside the task still work, because they cancel it from a timer or from within. So do anyio task groups inside it,
    which cancel it from their other tasks; httpx's own transport connects that way.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Result],
        *,
        name: str,
        on_cancel: Callable[[], object],
        context: contextvars.Context | None = None,
    ) -> None:
        self._on_cancel = on_cancel
        super().__init__(
            coroutine,
            loop=asyncio.get_running_loop(),
            name=f"accucheck {name}",
            # A copy for each task: under an eager task factory two tasks cannot share a context.
            context=contextvars.copy_context() if context is None else context.copy(),
        )

    def cancel(self, msg: Any | None = None) -> bool:
        loop = self.get_loop()
        # An anyio scope that reaches this task was opened inside it: the task inherits none.
        is_scope = isinstance(msg, str) and msg.startswith(
            ("Cancelled by cancel scope", "Cancelled via cancel scope")
        )
        if is_scope or (loop.is_running() and asyncio.current_task(loop) in (None, self)):
            return super().cancel(msg)
        if not self.done():
            self._on_cancel()
        return False

    def end(self) -> None:
        """Cancel the task for real."""
        super().cancel()


async def settled(task: asyncio.Future[Any]) -> None:
    """Wait until ``task`` is done even if the caller is cancelled; then raise that cancellation.

    Neither cancels the task nor raises its exception.
    """
    cancelled: asyncio.CancelledError | None = None
    # anyio's scopes keep cancelling until the task obeys; only a shield stops that.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


Delayed = TypeVar("Delayed")


class DelayQueue(Generic[Delayed]):
    """Keeps things until they are due, then hands back everything due at once."""

    def __init__(self, on_due: Callable[[list[Delayed]], None]) -> None:
        self._on_due = on_due
        self._heap: list[tuple[float, int, Delayed]] = []
        self._order = 0
        # Its time is kept separately: for a time already past, uvloop returns a bare Handle, not a TimerHandle.
        self._timer: asyncio.Handle | None = None
        self._timer_at = math.inf

    def __len__(self) -> int:
        return len(self._heap)

    def delay(self, thing: Delayed, seconds: float) -> None:
        """Keep ``thing`` for this many seconds of the event loop's clock."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(seconds, 0.0)
        self._order += 1  # equal times leave in order of arrival
        heapq.heappush(self._heap, (when, self._order, thing))
        if self._timer is None or when < self._timer_at:
            self._arm(loop, when)

    def close(self) -> None:
        """Stop the timer, but keep what is delayed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drain(self) -> list[Delayed]:
        """Stop the timer and return everything that is delayed, in order of its time."""
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
        # uvloop's timers fire up to a millisecond early, so anything that close counts as due.
        now = loop.time() + 0.001
        due: list[Delayed] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        if self._heap:
            self._arm(loop, self._heap[0][0])
        if due:
            self._on_due(due)


Item = TypeVar("Item")


LONGEST_TURN: Final = 0.1
"""Seconds that a reader may take outcomes without waiting before calls in flight get to run."""


class OutcomeQueue(Generic[Item]):
    """The outcomes waiting for the caller.

    A deque and one event instead of a memory stream, which costs over fifty times as much per item.
    """

    def __init__(self, *, ordered: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._ordered = ordered
        self._clock = clock
        self._waited_at = clock()  # when the reader last yielded to the event loop
        self._waiting: deque[Outcome[Item]] = deque()
        self._held: dict[int, Outcome[Item]] = {}
        self._next_index = 0
        self._news = asyncio.Event()
        self._error: BaseException | None = None
        self.closed = False
        self.put_in = 0
        self.taken = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def error(self) -> BaseException | None:
        """What is raised once all outcomes are taken."""
        return self._error

    def put(self, outcome: Outcome[Item]) -> None:
        """Add an outcome; never waits."""
        self.put_in += 1
        if not self._ordered or self.closed:
            self._waiting.append(outcome)
        elif outcome.index == self._next_index:
            self._waiting.append(outcome)
            self._next_index += 1
            while (held := self._held.pop(self._next_index, None)) is not None:
                self._waiting.append(held)
                self._next_index += 1
        else:
            self._held[outcome.index] = outcome
        self._news.set()

    def put_settled(self, settlement: Settlement, index: int, item: Item, *, first: bool) -> None:
        """Add the outcome of a row whose number is settled.

        Only the ``first`` row of a number gets the calls, so that sums over the outcomes are right.
        """
        result = settlement.result
        calls = settlement.calls if first else 0
        lost = settlement.possibly_double_charged if first else 0
        if isinstance(result, Exception):
            if not first:
                result = copy.copy(result)  # one object raised for two rows would collect both tracebacks
            self.put(Failed(item=item, error=result, calls=calls, possibly_double_charged=lost, index=index))
        else:
            self.put(Checked(item=item, check=result, calls=calls, possibly_double_charged=lost, index=index))

    def end_with(self, error: BaseException | None) -> None:
        """Note what to raise at the end: the first error, or a later LedgerError that supersedes an earlier one."""
        if self.closed:
            return
        if self._error is None or (isinstance(self._error, LedgerError) and isinstance(error, LedgerError)):
            self._error = error

    def close(self, *, read: int) -> None:
        """Let the caller see the end once everything is taken; ``read`` is how many items were read."""
        if self.closed:
            return
        # A gap in the order is a row that never settled; what came after it was still paid for.
        self._waiting.extend(self._held[index] for index in sorted(self._held))
        self._held.clear()
        if isinstance(self._error, RunEnded):
            self._error.done = self.put_in
            self._error.not_done = read - self.put_in
        self.closed = True
        self._news.set()

    def drain(self) -> list[Outcome[Item]]:
        """Take all waiting outcomes."""
        waiting = [*self._waiting]
        self._waiting.clear()
        self.taken += len(waiting)
        return waiting

    async def take(self) -> Outcome[Item]:
        """Return the next outcome. Raises the error of the run after the last one, or StopAsyncIteration."""
        if not self._waiting:
            await self._wait()
            self._waited_at = self._clock()
        elif self._clock() - self._waited_at > LONGEST_TURN:
            await asyncio.sleep(0)
            self._waited_at = self._clock()
        if not self._waiting:  # another reader was faster
            return await self.take()
        self.taken += 1
        return self._waiting.popleft()

    async def _wait(self) -> None:
        while not self._waiting:
            if self.closed:
                error, self._error = self._error, None
                raise StopAsyncIteration if error is None else error
            self._news.clear()
            await self._news.wait()
