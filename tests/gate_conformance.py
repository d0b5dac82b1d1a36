"""What every ``accucheck.Gate`` must do. Inherit to test yours::

    class TestRedisGate(GateConformance):
        async def make(self, rate: float) -> RedisGate:
            return RedisGate("redis://localhost", rate=rate)

The suite runs on any clock: real time by default, virtual time if ``run`` is overridden. A slow machine cannot fail
it: it never asserts that something is quick, only that a caller does not wait for others when it should not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

import pytest

from accucheck import Gate

TICK = 0.002
"""Seconds by which a timer may be early or late."""


def now() -> float:
    return asyncio.get_running_loop().time()


async def let_it_wait(task: asyncio.Task[Any]) -> None:
    """Run a task until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done(), "it was to wait"


class GateConformance:
    limits: ClassVar[bool] = True
    """Whether the gate keeps to a rate at all."""
    burst: ClassVar[float] = 2.0
    """Calls that may go at once after a silence, at 50 calls/s."""

    async def make(self, rate: float) -> Gate:
        """Return a new gate for ``rate`` calls per second that adapts only downward, if at all."""
        raise NotImplementedError

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        asyncio.run(main)

    def test_it_is_a_gate(self) -> None:
        async def main() -> None:
            gate = await self.make(50)
            assert isinstance(gate, Gate)
            await gate.aclose()

        self.run(main())

    def test_a_permit_carries_a_time_of_the_loops_clock(self) -> None:
        async def main() -> None:
            gate = await self.make(200)
            for _ in range(5):
                asked_at = now()
                given_at = await gate.acquire()
                assert asked_at - TICK <= given_at <= now() + TICK
                gate.admitted(given_at)
            await gate.aclose()

        self.run(main())

    def test_the_rate_can_be_read_at_any_time(self) -> None:
        async def main() -> None:
            gate = await self.make(50)
            for _ in range(3):
                rate = gate.rate
                assert (rate is not None) == self.limits
                assert rate is None or 0 < rate <= 50 * (1 + 1e-6)
                gate.refused(await gate.acquire())
            await gate.aclose()

        self.run(main())

    def test_no_span_of_time_holds_more_calls_than_rate_and_burst_allow(self) -> None:
        async def main() -> None:
            gate = await self.make(50)
            given: list[float] = []

            async def work() -> None:
                for _ in range(5):
                    given.append(await gate.acquire())
                    gate.admitted(given[-1])

            await asyncio.gather(*(work() for _ in range(10)))
            given.sort()
            for first in range(len(given)):
                for last in range(first, len(given)):
                    allowed = self.burst + 50 * (given[last] - given[first] + TICK)
                    assert last - first + 1 <= allowed + 1e-6
            await gate.aclose()

        if self.limits:
            self.run(main())

    def test_try_acquire_never_invents_a_permit(self) -> None:
        async def main() -> None:
            gate = await self.make(2)
            taken = 0
            while gate.try_acquire() is not None:
                taken += 1
                assert taken <= self.burst + 1
            await gate.aclose()

        if self.limits:
            self.run(main())

    def test_a_refusal_holds_everyone_for_as_long_as_the_vendor_asks(self) -> None:
        async def main() -> None:
            gate = await self.make(50)
            sent_at = await gate.acquire()
            refused_at = now()
            gate.refused(sent_at, retry_after=0.3)
            assert gate.try_acquire() is None
            given = await asyncio.gather(*(gate.acquire(urgent=urgent) for urgent in (False, True, False)))
            assert min(given) >= refused_at + 0.3 - TICK
            await gate.aclose()

        self.run(main())

    @pytest.mark.parametrize("retry_after", [None, 0.0, -1.0, float("nan"), float("inf")])
    def test_an_absurd_retry_after_does_not_stop_it_forever(self, retry_after: float | None) -> None:
        async def main() -> None:
            gate = await self.make(50)
            gate.refused(await gate.acquire(), retry_after)
            await gate.acquire()
            await gate.aclose()

        self.run(main())

    def test_reports_with_odd_times_are_harmless(self) -> None:
        async def main() -> None:
            gate = await self.make(50)
            await gate.acquire()
            for moment in (0.0, -1e9, now() + 1e6, float("nan")):
                gate.admitted(moment)
                gate.refused(moment)
            await gate.acquire()
            await gate.aclose()

        self.run(main())

    def test_callers_are_served_in_the_order_in_which_they_came(self) -> None:
        async def main() -> None:
            gate = await self.make(100)
            served: list[int] = []

            async def call(index: int) -> None:
                await gate.acquire()
                served.append(index)

            await asyncio.gather(*(call(index) for index in range(20)))
            assert served == list(range(20))
            await gate.aclose()

        self.run(main())

    def test_an_urgent_caller_waits_for_at_most_three_permits(self) -> None:
        async def main() -> None:
            gate = await self.make(50)
            served: list[str] = []

            async def call(name: str, *, urgent: bool = False) -> None:
                await gate.acquire(urgent=urgent)
                served.append(name)

            rows = [asyncio.create_task(call("row")) for _ in range(30)]
            await let_it_wait(rows[-1])
            before = len(served)
            await call("check", urgent=True)
            assert served.index("check") <= before + 2
            await asyncio.gather(*rows)
            await gate.aclose()

        if self.limits:
            self.run(main())

    def test_urgent_callers_leave_the_others_a_share(self) -> None:
        async def main() -> None:
            gate = await self.make(100)
            served: list[str] = []

            async def call(name: str, *, urgent: bool) -> None:
                await gate.acquire(urgent=urgent)
                served.append(name)

            await asyncio.gather(
                *(call("row", urgent=False) for _ in range(5)),
                *(call("check", urgent=True) for _ in range(40)),
            )
            assert served[:30].count("row") == 5
            await gate.aclose()

        if self.limits:
            self.run(main())

    def test_a_waiter_is_not_overtaken(self) -> None:
        async def main() -> None:
            gate = await self.make(2)
            while gate.try_acquire() is not None:
                pass
            waiter = asyncio.create_task(gate.acquire())
            await let_it_wait(waiter)
            assert gate.try_acquire() is None
            await waiter
            await gate.aclose()

        if self.limits:
            self.run(main())

    def test_a_cancelled_waiter_costs_the_others_nothing(self) -> None:
        async def main() -> None:
            gate = await self.make(100)
            waiters = [asyncio.create_task(gate.acquire(urgent=index % 3 == 0)) for index in range(20)]
            await let_it_wait(waiters[-1])
            for waiter in waiters[::2]:
                waiter.cancel()
            given = await asyncio.gather(*waiters, return_exceptions=True)
            assert all(isinstance(moment, float) for moment in given[1::2])
            await gate.acquire()
            await gate.aclose()

        if self.limits:
            self.run(main())

    def test_a_gate_whose_waiters_all_cancelled_serves_the_next_one(self) -> None:
        async def main() -> None:
            gate = await self.make(20)
            while gate.try_acquire() is not None:
                pass
            for _ in range(3):
                waiter = asyncio.create_task(gate.acquire())
                await let_it_wait(waiter)
                waiter.cancel()
                await asyncio.wait([waiter])
            await gate.acquire()
            await gate.aclose()

        if self.limits:
            self.run(main())

    def test_a_closed_gate_raises(self) -> None:
        async def main() -> None:
            gate = await self.make(1)
            gate.refused(await gate.acquire(), retry_after=60.0)
            waiters = [asyncio.create_task(gate.acquire(urgent=urgent)) for urgent in (True, False, False)]
            await let_it_wait(waiters[-1])
            await gate.aclose()
            for waiter in waiters:
                with pytest.raises(RuntimeError, match="closed"):
                    await waiter
            with pytest.raises(RuntimeError, match="closed"):
                await gate.acquire()
            with pytest.raises(RuntimeError, match="closed"):
                gate.try_acquire()
            gate.admitted(now())  # of a call that was in flight
            await gate.aclose()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        self.run(main())
