"""One piece of work for all tasks that want it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class _Work(Generic[Result]):
    """Work under way, and how many tasks wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[Result]) -> None:
        self.task = task
        self.waiting = 0


class SingleFlight(Generic[Result]):
    """Does what several tasks ask for once, in a task of its own.

    In the first caller's task it would end with that: where one of two web requests for a number is given up,
    the other's call would be cut off and bought again. It ends early only when nobody waits any more.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, _Work[Result]] = {}

    async def get(self, key: int, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Return what ``make`` returns, or raise what it raises; made only if ``key`` is not under way."""
        work = self._under_way.get(key)
        if work is None:
            work = self._under_way[key] = _Work(asyncio.get_running_loop().create_task(make()))
        task = work.task
        work.waiting += 1
        try:
            await asyncio.wait([task])  # which does not cancel the task when this one is cancelled
        finally:
            work.waiting -= 1
            if not work.waiting:
                if self._under_way.get(key) is work:
                    del self._under_way[key]  # nobody may join what is being ended
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
                    task.cancelled() or task.exception()  # heard, though nobody is left to be told
        return task.result()
