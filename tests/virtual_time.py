"""An asyncio event loop with a virtual clock: where a real loop would sleep, the clock jumps.

Hours pass in milliseconds, and every time is exact::

    def test_a_nap() -> None:
        async def nap() -> float:
            start = asyncio.get_running_loop().time()
            await asyncio.sleep(3600)
            return asyncio.get_running_loop().time() - start

        assert run(nap()) == 3600

Or, for every ``async def`` test of a module::

    @pytest.fixture
    def anyio_backend() -> tuple[str, dict[str, object]]:
        return VIRTUAL_TIME

What would hang a real loop raises ``Stuck`` here, which names the waiting tasks and their lines: nothing
scheduled and nothing ready; a busy loop while the clock stands still; a clock that runs past
``give_up_after`` because only a periodic task is left.

Use no threads except through ``run_in_executor`` (the loop really waits for those, with the clock stopped),
and no sockets: the clock would jump while they are busy.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

Result = TypeVar("Result")

START: Final = 1024.0
"""Not zero, so that a forgotten default of 0.0 shows; a power of two, so that differences stay exact."""
_SPINS_ALLOWED: Final = 1_000_000
_NANOSECOND: Final = 1e-9


class Stuck(AssertionError):
    """The loop can make no more progress."""


class _JumpingSelector(selectors.DefaultSelector):
    """Asks the loop to move its clock instead of waiting."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready and self.loop.executor_jobs and timeout != 0:
            ready = super().select(None)  # a thread is working for us, and wakes the loop when it is done
        if not ready:
            self.loop.pass_time(timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module's docstring. ``give_up_after`` is in virtual seconds from the start.

    ``lateness`` gives the seconds by which the next timer is late, as on a busy machine.
    """

    def __init__(self, give_up_after: float = 86_400.0, lateness: Callable[[], float] | None = None) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._now = START
        self._give_up_after = give_up_after
        self._end = START + give_up_after
        self._spins = 0
        self._lateness = lateness
        self.executor_jobs = 0
        super().__init__(selector)

    def time(self) -> float:
        return self._now

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        late = 0.0 if self._lateness is None else self._lateness()
        return super().call_at(when + late, callback, *args, context=context)

    def pass_time(self, timeout: float | None) -> None:
        """Jump to the next timer; ``timeout`` is what a real loop would have slept, None if forever."""
        if timeout is None:
            raise self._stuck("nothing is scheduled and nothing is ready")
        if timeout > 0:
            self._spins = 0
            # The timer's own time, not now + timeout: the sum of differences would drift by rounding.
            self._now = self._scheduled[0].when()  # type: ignore[attr-defined]
            if self._now > self._end:
                raise self._stuck(f"the clock ran {self._now - START:.0f} s")
            return
        self._spins += 1
        if self._spins > _SPINS_ALLOWED:
            raise self._stuck(f"the loop spun {_SPINS_ALLOWED:,} times at one moment")
        if not self._ready and not self._stopping:  # type: ignore[attr-defined]
            # A timer set for this very moment. No real clock stands still, and aiolimiter relies on that:
            # where rounding leaves it a hair short of a permit it sets its timer for now, again and again.
            self._now += max(_NANOSECOND, 2 * math.ulp(self._now))

    # The loop's own signature is a variadic generic that mypy --strict cannot match here.
    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self.executor_jobs += 1
        future.add_done_callback(self._executor_job_ended)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        self.executor_jobs += 1  # joins the threads in its own thread
        try:
            await super().shutdown_default_executor()
        finally:
            self.executor_jobs -= 1

    def _executor_job_ended(self, _future: object) -> None:
        self.executor_jobs -= 1

    def _stuck(self, what: str) -> Stuck:
        # The tasks are cancelled next, and may need some time to end.
        self._spins = 0
        self._end = self._now + self._give_up_after
        lines = []
        for task in asyncio.all_tasks(self):
            stack = task.get_stack(limit=1)
            where = f"{stack[0].f_code.co_filename}:{stack[0].f_lineno}" if stack else "not started"
            lines.append(f"\n  {task.get_name()} at {where}")
        return Stuck(
            f"{what}; " + ("these tasks wait:" + "".join(sorted(lines)) if lines else "no task waits")
        )


VIRTUAL_TIME: Final[tuple[str, dict[str, object]]] = ("asyncio", {"loop_factory": VirtualTimeLoop})
"""What an ``anyio_backend`` fixture returns so that a module's async tests run in virtual time."""


def run(
    coroutine: Coroutine[Any, Any, Result],
    *,
    give_up_after: float = 86_400.0,
    lateness: Callable[[], float] | None = None,
) -> Result:
    """Run ``coroutine`` to its end in virtual time, as ``asyncio.run`` would in real time."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(give_up_after, lateness)) as runner:
        return runner.run(coroutine)
