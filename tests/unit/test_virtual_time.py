"""The clock that the other tests rely on."""

from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from tests.virtual_time import START, VIRTUAL_TIME, Stuck, VirtualTimeLoop, run


def test_a_month_of_sleep_ends_at_its_exact_moment() -> None:
    async def nap() -> float:
        await asyncio.sleep(30 * 86_400)
        return asyncio.get_running_loop().time() - START

    assert run(nap(), give_up_after=1e9) == 30 * 86_400


def test_a_clock_whose_rounding_exceeds_the_loops_resolution_still_moves() -> None:
    run(asyncio.sleep(1e9), give_up_after=1e10)


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    async def main() -> list[float]:
        woken: list[float] = []

        async def sleeper(seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append(asyncio.get_running_loop().time() - START)

        async with asyncio.TaskGroup() as tasks:
            for seconds in (3.0, 0.5, 100.0, 1.25):
                tasks.create_task(sleeper(seconds))
        return woken

    assert run(main()) == [0.5, 1.25, 3.0, 100.0]


def test_a_deadlock_fails_at_once_and_names_the_waiting_line() -> None:
    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck, match=r"nothing is scheduled.*\n.*test_virtual_time\.py:\d+"):
        run(wait_for_nothing())


def test_a_deadlock_next_to_a_periodic_task_fails_when_the_clock_runs_out() -> None:
    async def tick() -> None:
        while True:
            await asyncio.sleep(1)

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(tick())

    with pytest.raises(Stuck, match="the clock ran 61 s"):
        run(main(), give_up_after=60)


def test_a_busy_loop_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.virtual_time._SPINS_ALLOWED", 1_000)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="spun"):
        run(spin())


def test_a_bucket_left_just_short_by_rounding_does_not_spin() -> None:
    async def drain() -> float:
        bucket = AsyncLimiter(3, 3 / 7.3)
        for _ in range(2_000):
            await bucket.acquire()
        return asyncio.get_running_loop().time() - START

    assert run(drain()) == pytest.approx((2_000 - 3) / 7.3, abs=1e-6)


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def main() -> float:
        async with asyncio.timeout(0.5):
            assert await asyncio.to_thread(sum, range(200_000)) == 19_999_900_000
        return asyncio.get_running_loop().time() - START

    assert run(main()) == 0.0


class TestAsABackend:
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return VIRTUAL_TIME

    async def test_a_module_may_run_its_async_tests_in_virtual_time(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        await asyncio.sleep(7_200)
        assert loop.time() - START == 7_200
