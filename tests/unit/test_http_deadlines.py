"""One timer for every call's limit: each ends when its own time is over, and cancellation stays what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from accucheck._http._limits import Deadlines
from tests.virtual_time import VIRTUAL_TIME


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL_TIME


async def within(deadlines: Deadlines, work: Awaitable[object]) -> None:
    call = deadlines.begin(asyncio.get_running_loop())
    try:
        await work
    except BaseException as error:
        deadlines.end(call, error)
        raise
    deadlines.end(call)


async def test_every_call_has_its_own_seconds() -> None:
    loop, deadlines = asyncio.get_running_loop(), Deadlines(10)
    ended: dict[float, float] = {}

    async def call(starts: float) -> None:
        await asyncio.sleep(starts)
        began = loop.time()
        with pytest.raises(TimeoutError):
            await within(deadlines, asyncio.sleep(1_000))
        ended[starts] = loop.time() - began

    await asyncio.gather(*(call(starts) for starts in (0.0, 0.0, 3.0, 9.5, 40.0)))
    # A millisecond is what uvloop's timers may be early.
    assert ended == pytest.approx(dict.fromkeys((0.0, 3.0, 9.5, 40.0), 10.0), abs=0.0011)


async def test_a_call_that_is_quick_enough_hears_nothing_of_it() -> None:
    deadlines = Deadlines(10)
    for _ in range(5):
        await within(deadlines, asyncio.sleep(9))
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_after_a_limit_the_task_can_wait_again() -> None:
    deadlines = Deadlines(1)
    with pytest.raises(TimeoutError):
        await within(deadlines, asyncio.sleep(5))
    await asyncio.sleep(5)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_someone_elses_cancellation_is_not_taken_for_a_limit() -> None:
    deadlines = Deadlines(10)
    task = asyncio.create_task(within(deadlines, asyncio.sleep(100)))
    asyncio.get_running_loop().call_later(3, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_in_the_moment_of_the_limit_stays_a_cancellation() -> None:
    deadlines = Deadlines(10)
    task = asyncio.create_task(within(deadlines, asyncio.sleep(100)))
    asyncio.get_running_loop().call_later(10, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_outer_limit_that_comes_first_is_the_one_that_is_raised() -> None:
    deadlines = Deadlines(10)
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4):
            await within(deadlines, asyncio.sleep(100))
    assert asyncio.get_running_loop().time() - began == pytest.approx(4)


async def test_an_error_that_comes_of_the_limit_is_not_hidden() -> None:
    async def clumsy() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    with pytest.raises(ConnectionError):
        await within(Deadlines(1), clumsy())
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_closing_leaves_no_timer() -> None:
    deadlines = Deadlines(10)
    await within(deadlines, asyncio.sleep(1))
    deadlines.close()
    deadlines.close()
    await asyncio.sleep(100)
