"""What the gate relies on in aiolimiter beyond its documentation, tested with the installed release."""

from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from accucheck._gate import _take_at_once
from tests.virtual_time import run


@pytest.mark.parametrize("permits", [1, 3.5, 10])
def test_a_bucket_with_enough_permits_does_not_suspend_its_caller(permits: float) -> None:
    async def main() -> None:
        bucket = AsyncLimiter(10, 1)
        assert bucket.has_capacity(permits)
        coroutine = bucket.acquire(permits)
        with pytest.raises(StopIteration):
            coroutine.send(None)
        assert bucket.has_capacity(10 - permits)
        assert not bucket.has_capacity(10 - permits + 0.1)

    run(main())


def test_permits_taken_by_hand_delay_callers_that_await_the_bucket() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        bucket, began = AsyncLimiter(10, 1), loop.time()
        _take_at_once(bucket, 10)
        await bucket.acquire(5)
        return loop.time() - began

    assert run(main()) == pytest.approx(0.5, abs=1e-6)


def test_a_bucket_knows_its_level() -> None:
    async def main() -> float:
        return AsyncLimiter(3.5, 0.5).max_rate

    assert run(main()) == 3.5


def test_a_caller_cancelled_at_the_bucket_takes_no_permits() -> None:
    async def main() -> bool:
        bucket = AsyncLimiter(10, 1)
        await bucket.acquire(10)
        waiting = asyncio.create_task(bucket.acquire(10))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(0.5)
        return bucket.has_capacity(10 - 1e-6)

    assert run(main())
