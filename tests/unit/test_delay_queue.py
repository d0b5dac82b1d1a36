"""Delayed items come back on time, in order, with a single timer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck._concurrency import DelayQueue
from tests.virtual_time import START, run

Released = list[tuple[float, list[Any]]]


def delaying() -> tuple[DelayQueue[Any], Released]:
    released: Released = []

    def on_due(due: list[Any]) -> None:
        released.append((asyncio.get_running_loop().time() - START, due))

    return DelayQueue(on_due), released


def play(scene: Coroutine[Any, Any, Released]) -> Released:
    return run(scene)


def test_things_come_back_at_their_times() -> None:
    async def main() -> Released:
        queue, released = delaying()
        for name, seconds in (("b", 2.0), ("c", 3_600.0), ("a", 0.5)):
            queue.delay(name, seconds)
        assert len(queue) == 3
        await asyncio.sleep(4_000)
        assert len(queue) == 0
        return released

    assert play(main()) == [(0.5, ["a"]), (2.0, ["b"]), (3_600.0, ["c"])]


def test_all_that_is_due_at_once_comes_back_together_in_the_order_they_were_delayed() -> None:
    async def main() -> Released:
        queue, released = delaying()
        for n in range(100):
            queue.delay(n, 5.0)
        await asyncio.sleep(6)
        return released

    assert play(main()) == [(5.0, list(range(100)))]


def test_an_earlier_thing_moves_the_timer_forward() -> None:
    async def main() -> Released:
        queue, released = delaying()
        queue.delay("late", 100.0)
        await asyncio.sleep(1)
        queue.delay("early", 1.0)
        await asyncio.sleep(200)
        return released

    assert play(main()) == [(2.0, ["early"]), (100.0, ["late"])]


@pytest.mark.parametrize("seconds", [0.0, -1.0, -1e9])
def test_an_item_that_is_already_due_comes_back_in_a_later_iteration(seconds: float) -> None:
    async def main() -> Released:
        queue, released = delaying()
        queue.delay("now", seconds)
        assert released == []  # never from inside delay(), while the caller is busy
        await asyncio.sleep(0.001)
        return released

    [(moment, things)] = play(main())
    assert moment == pytest.approx(0.0, abs=1e-6)
    assert things == ["now"]


def test_an_item_may_be_delayed_again_when_it_comes_back() -> None:
    async def main() -> list[float]:
        moments: list[float] = []

        def on_due(due: list[str]) -> None:
            moments.append(asyncio.get_running_loop().time() - START)
            if len(moments) < 4:
                for thing in due:
                    queue.delay(thing, 10.0)

        queue = DelayQueue[str](on_due)
        queue.delay("again", 10.0)
        await asyncio.sleep(100)
        return moments

    assert run(main()) == [10.0, 20.0, 30.0, 40.0]


def test_a_timer_that_fires_half_a_millisecond_early_still_finds_its_thing() -> None:
    async def main() -> Released:
        queue, released = delaying()
        queue.delay("a", 1.0)
        queue.delay("b", 1.0005)
        await asyncio.sleep(2)
        return released

    assert play(main()) == [(1.0, ["a", "b"])]


def test_after_closing_nothing_comes_back_and_delayed_items_stay() -> None:
    async def main() -> tuple[Released, int]:
        queue, released = delaying()
        queue.delay("a", 1.0)
        queue.delay("b", 2.0)
        queue.close()
        queue.close()
        await asyncio.sleep(10)
        return released, len(queue)

    assert run(main()) == ([], 2)


def test_things_that_cannot_be_compared_may_be_due_at_the_same_time() -> None:
    async def main() -> Released:
        queue, released = delaying()
        things = [object(), object(), {"a": 1}]
        for thing in things:
            queue.delay(thing, 1.0)
        await asyncio.sleep(2)
        assert released[0][1] == things
        return released

    assert len(play(main())) == 1


def test_a_failing_listener_costs_the_others_nothing() -> None:
    async def main() -> list[str]:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: complaints.append(str(context["exception"]))
        )
        seen: list[str] = []

        def on_due(due: list[str]) -> None:
            seen.extend(due)
            if due == ["a"]:
                raise ValueError("broken listener")

        queue = DelayQueue[str](on_due)
        queue.delay("a", 1.0)
        queue.delay("b", 2.0)
        await asyncio.sleep(3)
        return seen + complaints

    assert run(main()) == ["a", "b", "broken listener"]


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), min_size=1, max_size=80))
@settings(max_examples=40, deadline=None)
def test_every_delayed_item_comes_back_once_and_on_time(
    plan: list[tuple[float, float]],
) -> None:
    async def main() -> None:
        queue, released = delaying()
        due_at: dict[int, float] = {}
        for n, (gap, seconds) in enumerate(plan):
            await asyncio.sleep(gap)
            due_at[n] = asyncio.get_running_loop().time() - START + seconds
            queue.delay(n, seconds)
        await asyncio.sleep(100)
        came = [(moment, thing) for moment, things in released for thing in things]
        assert sorted(thing for _, thing in came) == list(range(len(plan)))
        for moment, thing in came:
            assert due_at[thing] - 0.001 - 1e-9 <= moment <= due_at[thing] + 1e-6

    run(main())


def test_an_item_due_at_once_is_delayed_on_uvloop_too() -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop is in the fast extra")

    async def main() -> list[str]:
        back: list[str] = []
        queue: DelayQueue[str] = DelayQueue(back.extend)
        for name in ("a", "b", "c"):  # for a time in the past, uvloop returns a handle without a time
            queue.delay(name, 0.0)
        while len(back) < 3:
            await asyncio.sleep(0.001)
        return back

    assert uvloop.run(main()) == ["a", "b", "c"]
