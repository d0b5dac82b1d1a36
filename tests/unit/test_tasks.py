"""Engine tasks: what cancels them, and what does not."""

from __future__ import annotations

import asyncio

import anyio

from accucheck._concurrency import EngineTask


async def test_a_task_group_inside_that_is_cancelled_by_its_child_ends_alone() -> None:
    """Like httpcore's connect: the first address that answers cancels the others and ends the group's wait."""
    told: list[str] = []

    async def connect() -> str:
        async with anyio.create_task_group() as attempts:

            async def answer() -> None:
                await anyio.sleep(0)
                attempts.cancel_scope.cancel()

            attempts.start_soon(answer)
            await anyio.sleep_forever()
        return "connected"

    task = EngineTask(connect(), name="test", on_cancel=lambda: told.append("cancelled"))
    assert await task == "connected"
    assert told == []


async def test_a_cancellation_from_another_task_asks_and_does_not_cut_off() -> None:
    told: list[str] = []
    release = asyncio.Event()

    async def work() -> str:
        await release.wait()
        return "done"

    task = EngineTask(work(), name="test", on_cancel=lambda: told.append("cancelled"))
    await asyncio.sleep(0)
    with anyio.CancelScope() as scope:
        scope.cancel()
        assert task.cancel() is False
    release.set()
    assert await task == "done"
    assert told == ["cancelled"]


async def test_a_time_limit_inside_works() -> None:
    async def work() -> bool:
        with anyio.move_on_after(0.01) as limit:
            await anyio.sleep_forever()
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            return limit.cancelled_caught
        return False

    assert await EngineTask(work(), name="test", on_cancel=lambda: None)
