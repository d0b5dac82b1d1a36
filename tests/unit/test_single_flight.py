"""Work that several tasks want at once: done once, ended only when nobody wants it any more."""

from __future__ import annotations

import asyncio
import gc

import pytest

from accucheck._single_flight import SingleFlight
from tests.virtual_time import VIRTUAL_TIME


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL_TIME


class Work:
    """Takes a second, and counts."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = self.ended = self.cut_off = 0
        self._error = error

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        self.ended += 1
        if self._error is not None:
            raise self._error
        return self.begun


async def test_all_who_ask_at_once_get_the_one_result() -> None:
    sharing, work = SingleFlight[int](), Work()
    assert await asyncio.gather(*(sharing.get(7, work) for _ in range(5))) == [1] * 5
    assert work.begun == 1


async def test_who_asks_later_or_for_something_else_gets_a_new_one() -> None:
    sharing, work = SingleFlight[int](), Work()
    assert await sharing.get(7, work) == 1
    assert await sharing.get(7, work) == 2
    await asyncio.gather(sharing.get(7, work), sharing.get(8, work))
    assert work.begun == 4


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_whoever_gives_up_the_others_get_the_result_of_the_same_work(cancelled: int) -> None:
    sharing, work = SingleFlight[int](), Work()
    tasks = [asyncio.create_task(sharing.get(7, work)) for _ in range(3)]
    await asyncio.sleep(0.5)
    tasks[cancelled].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert results == [1, 1]
    assert (work.begun, work.ended, work.cut_off) == (1, 1, 0)


async def test_when_the_last_one_gives_up_the_work_is_cut_off_and_not_left_behind() -> None:
    sharing, work = SingleFlight[int](), Work()
    before = asyncio.all_tasks()
    tasks = [asyncio.create_task(sharing.get(7, work)) for _ in range(3)]
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (work.begun, work.ended, work.cut_off) == (1, 0, 1)
    assert asyncio.all_tasks() == before
    assert await sharing.get(7, work) == 2


async def test_a_time_limit_around_it_ends_it() -> None:
    sharing, work = SingleFlight[int](), Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await sharing.get(7, work)
    assert work.cut_off == 1


async def test_an_error_reaches_everybody_and_is_complained_of_nowhere_else() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    sharing, work = SingleFlight[int](), Work(ValueError("wrong"))
    results = await asyncio.gather(*(sharing.get(7, work) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError] * 3
    impatient = asyncio.create_task(sharing.get(7, work))
    asyncio.get_running_loop().call_later(1, impatient.cancel)  # in the very moment of the error
    await asyncio.wait([impatient])
    assert isinstance(impatient.exception() if not impatient.cancelled() else ValueError(), ValueError)
    del impatient
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
