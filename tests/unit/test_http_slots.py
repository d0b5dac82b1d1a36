"""Slots for calls in flight: never more than the limit, first come first served, none lost."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck._http._limits import Slots
from tests.virtual_time import VIRTUAL_TIME, run


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return VIRTUAL_TIME


def free_slots(slots: Slots) -> int:
    taken = 0
    while slots.try_take():
        taken += 1
    for _ in range(taken):
        slots.give_back()
    return taken


async def test_waiters_are_served_in_order() -> None:
    slots = Slots(1)
    assert slots.try_take()
    served: list[int] = []

    async def wait(place: int) -> None:
        await slots.take()
        served.append(place)

    waiting = [asyncio.create_task(wait(place)) for place in range(3)]
    await asyncio.sleep(0)
    for _ in range(3):
        slots.give_back()
        assert not slots.try_take()  # it belongs to the first in line already
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2]
    slots.give_back()
    assert free_slots(slots) == 1


async def test_a_slot_handed_to_a_caller_cancelled_at_that_moment_passes_to_the_next() -> None:
    slots = Slots(1)
    assert slots.try_take()
    first, second = (asyncio.create_task(slots.take()) for _ in range(2))
    await asyncio.sleep(0)
    slots.give_back()
    first.cancel()
    await asyncio.wait([first])
    await asyncio.wait_for(second, 1)
    assert not slots.try_take()
    slots.give_back()
    assert free_slots(slots) == 1


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_slots_withheld_leave_as_many_as_the_others_have() -> None:
    slots = Slots(10_000)
    for _ in range(5):
        assert slots.try_take()
    for others in (4, 3, 2):  # three of the five find no file descriptor
        assert slots.withhold()
        slots.give_back()
        assert not slots.try_take(), others
    slots.give_back()
    assert slots.try_take()
    assert not slots.try_take()


async def test_the_last_call_in_flight_withholds_nothing() -> None:
    slots = Slots(10)
    assert slots.try_take()
    assert not slots.withhold()
    slots.give_back()
    assert free_slots(slots) == 10


async def test_a_caller_that_gave_up_its_slot_is_served_first() -> None:
    slots = Slots(2)
    assert slots.try_take()
    assert slots.try_take()
    served: list[str] = []

    async def wait(name: str, first: bool) -> None:
        await slots.take(first=first)
        served.append(name)

    waiting = [asyncio.create_task(wait("later", False))]
    await asyncio.sleep(0)
    assert slots.withhold()
    slots.give_back()
    waiting.append(asyncio.create_task(wait("gave up", True)))
    await asyncio.sleep(0)
    slots.give_back()
    await asyncio.sleep(0)
    slots.give_back()
    await asyncio.gather(*waiting)
    assert served == ["gave up", "later"]


async def test_slots_withheld_are_tried_again_once_a_second_as_many_as_are_in_use() -> None:
    clock = Clock()
    slots = Slots(100, clock)
    for _ in range(5):
        assert slots.try_take()
    assert slots.withhold()
    slots.give_back()  # four are left
    for in_use in (7, 13, 25, 49, 97, 100, 100):
        clock.seconds += 0.9
        slots.give_back()
        assert slots.try_take()
        assert not slots.try_take()
        clock.seconds += 0.2
        slots.give_back()
        while slots.try_take():
            pass
        assert slots._taken() == in_use


@given(
    calls=st.lists(
        st.tuples(st.floats(0, 5), st.floats(0, 3), st.none() | st.floats(0, 3), st.booleans()), max_size=30
    ),
    count=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_cancellation_neither_loses_nor_creates_slots(
    calls: list[tuple[float, float, float | None, bool]], count: int
) -> None:
    async def main() -> None:
        slots = Slots(count, asyncio.get_running_loop().time)
        under_way = 0

        async def call(starts: float, lasts: float, lacks: bool) -> None:
            nonlocal under_way
            await asyncio.sleep(starts)
            if not slots.try_take():
                await slots.take()
            if lacks and slots.withhold():
                slots.give_back()
                await slots.take(first=True)
            under_way += 1
            assert under_way <= count
            try:
                await asyncio.sleep(lasts)
            finally:
                under_way -= 1
                slots.give_back()

        loop = asyncio.get_running_loop()
        tasks = []
        for starts, lasts, cancelled_after, lacks in calls:
            tasks.append(asyncio.create_task(call(starts, lasts, lacks)))
            if cancelled_after is not None:
                loop.call_later(starts + cancelled_after, tasks[-1].cancel)
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        for _ in range(3):  # those withheld come back in time
            await asyncio.sleep(2)
            assert slots.try_take()
            slots.give_back()
        assert free_slots(slots) == count

    run(main())
