"""Every way to leave a stream, at every moment: nothing lost, nothing bought twice, nothing left behind.

In virtual time, with a vendor that records what it charged for.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest

from accucheck import Checked, Failed, Stream
from accucheck._admission import InFlight
from accucheck._models import Settlement
from accucheck._store import MemoryStore
from accucheck._wire import Answered, Reply, not_sent
from tests.unit.test_stream import answered, make_stream, numbers, pending
from tests.virtual_time import VirtualTimeLoop, run

LEADS = numbers(60)


class Vendor:
    """Charges for every answer, whether or not anyone receives it."""

    def __init__(self, *, latency: float, pending_first: bool = False) -> None:
        self.latency = latency
        self.pending_first = pending_first
        self.asked: Counter[str] = Counter()
        self.charged: Counter[str] = Counter()
        self.under_way = 0

    async def __call__(self, national: str) -> Reply:
        self.asked[national] += 1
        reply = pending() if self.pending_first and self.asked[national] == 1 else answered(national)
        if isinstance(reply, Answered):
            self.charged[national] += 1
        self.under_way += 1
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.under_way -= 1
        return reply


class SlowLedger(MemoryStore):
    """Durable, and a commit takes a while."""

    durable = True

    def __init__(self, commit: float) -> None:
        super().__init__()
        self.commit = commit

    async def settle(self, settlements: Sequence[Settlement], **options: Any) -> None:
        await asyncio.sleep(self.commit)
        await super().settle(settlements, **options)


class Scene:
    """A run interrupted after half a second, and what must hold afterwards."""

    def __init__(self, moment: str, kind: str) -> None:
        self.vendor = Vendor(
            latency=1.0 if moment == "in flight" else 0.05, pending_first=moment == "pending"
        )
        self.rate = 4.0 if moment == "at the gate" else 1e6
        commit = 1.0 if moment == "storing" else 0.01
        self.ledger = SlowLedger(commit) if kind == "ledger" else None
        self.in_flight: InFlight = {}
        self.seen: list[Checked[Any] | Failed[Any]] = []
        self.streams: list[Stream[Any]] = []

    def stream(self) -> Stream[Any]:
        stream = make_stream(
            LEADS, self.vendor, workers=10, rate=self.rate, store=self.ledger, in_flight=self.in_flight
        )
        self.streams.append(stream)
        return stream

    async def read(self) -> None:
        """Iterate forever."""
        async with self.stream() as outcomes:
            async for outcome in outcomes:
                self.seen.append(outcome)
            await asyncio.sleep(3600)

    def check_nothing_is_lost(self) -> None:
        """Every charged answer is delivered or stored, and no other number was asked."""
        assert self.vendor.under_way == 0
        (stream,) = self.streams
        outcomes = [*self.seen, *stream.undelivered()]
        assert Counter(outcome.item for outcome in outcomes) == self.vendor.charged
        assert all(isinstance(outcome, Checked) for outcome in outcomes)
        assert not {outcome.item for outcome in outcomes} & set(stream.unasked)
        assert stream.stats.read == len(outcomes) + len(stream.unasked)
        assert stream.stats.possibly_double_charged == 0
        assert self.in_flight == {}
        if self.ledger is not None:
            assert self.ledger._claimed == set()

    async def check_nothing_is_bought_twice(self) -> None:
        """The same list again: only what is missing is bought."""
        if self.ledger is None:
            return
        async with make_stream(LEADS, self.vendor, store=self.ledger, in_flight=self.in_flight) as outcomes:
            again = [outcome.item async for outcome in outcomes]
        assert sorted(again) == sorted(LEADS)
        assert self.vendor.charged == Counter(LEADS)


async def break_off(scene: Scene) -> None:
    async with scene.stream() as outcomes:
        await asyncio.sleep(0.5)
        async for outcome in outcomes:
            scene.seen.append(outcome)
            break


async def leave_at_once(scene: Scene) -> None:
    async with scene.stream():
        await asyncio.sleep(0.5)


async def raise_an_error(scene: Scene) -> None:
    with pytest.raises(ZeroDivisionError):
        async with scene.stream():
            await asyncio.sleep(0.5)
            raise ZeroDivisionError


async def time_out(scene: Scene) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await scene.read()


async def cancel_the_task(scene: Scene) -> None:
    task = asyncio.create_task(scene.read())
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancel_the_task_twice(scene: Scene) -> None:
    task = asyncio.create_task(scene.read())
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def move_on_after(scene: Scene) -> None:
    with anyio.move_on_after(0.5) as scope:
        await scene.read()
    assert scope.cancelled_caught


async def fail_after(scene: Scene) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.5):
            await scene.read()


async def cancel_a_scope(scene: Scene) -> None:
    """As Starlette does when its client disconnects."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.read)
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()


async def enter_in_one_task_and_leave_in_another(scene: Scene) -> None:
    stream = scene.stream()
    await asyncio.create_task(stream.__aenter__())
    await asyncio.sleep(0.5)
    await asyncio.create_task(stream.__aexit__(None, None, None))


async def forget_a_wrapping_generator(scene: Scene) -> None:
    async def wrapped() -> AsyncIterator[Any]:
        async with scene.stream() as outcomes:
            async for outcome in outcomes:
                scene.seen.append(outcome)
                yield outcome

    generator = wrapped()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            async for _ in generator:
                pass
    await asyncio.sleep(0)
    del generator
    gc.collect()
    while scene.streams[0]._supervisor is not None and not scene.streams[0]._supervisor.done():
        await asyncio.sleep(0.1)


async def break_out_of_a_wrapping_generator(scene: Scene) -> None:
    async def wrapped() -> AsyncIterator[Any]:
        async with scene.stream() as outcomes:
            async for outcome in outcomes:
                scene.seen.append(outcome)
                yield outcome

    async for _ in wrapped():
        break
    gc.collect()
    while not scene.streams[0]._supervisor.done():
        await asyncio.sleep(0.1)


async def close_the_client(scene: Scene) -> None:
    task = asyncio.create_task(scene.read())
    await asyncio.sleep(0.5)
    await asyncio.wait([scene.streams[0]._close_soon(RuntimeError("the client was closed"))])
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    if len(scene.seen) < len(LEADS):
        assert isinstance(ended, RuntimeError)
        assert "closed" in str(ended)


async def cancel_every_task(scene: Scene) -> None:
    """As a shutdown handler does."""
    reading = asyncio.create_task(scene.read())
    await asyncio.sleep(0.5)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert reading.cancelled()


WAYS: Sequence[Callable[[Scene], Awaitable[None]]] = (
    break_off,
    leave_at_once,
    raise_an_error,
    time_out,
    cancel_the_task,
    cancel_the_task_twice,
    move_on_after,
    fail_after,
    cancel_a_scope,
    enter_in_one_task_and_leave_in_another,
    forget_a_wrapping_generator,
    break_out_of_a_wrapping_generator,
    close_the_client,
    cancel_every_task,
)
MOMENTS = ("in flight", "at the gate", "pending", "storing")

every_moment = pytest.mark.parametrize("moment", MOMENTS)
with_and_without_a_ledger = pytest.mark.parametrize("kind", ["ledger", "none"])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@every_moment
@with_and_without_a_ledger
def test_leaving_in_any_way_at_any_moment_loses_and_doubles_nothing(
    way: Callable[[Scene], Awaitable[None]], moment: str, kind: str
) -> None:
    scene = Scene(moment, kind)

    async def main() -> None:
        await way(scene)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)  # nobody has cancelled the caller
        assert asyncio.all_tasks() == {task}
        scene.check_nothing_is_lost()
        await scene.check_nothing_is_bought_twice()
        assert asyncio.all_tasks() == {task}

    run(main())


@every_moment
@with_and_without_a_ledger
def test_a_loop_that_shuts_down_waits_for_paid_calls(moment: str, kind: str) -> None:
    scene = Scene(moment, kind)
    kept: list[asyncio.Task[None]] = []

    async def main() -> None:
        kept.append(asyncio.create_task(scene.read()))
        await asyncio.sleep(0.5)

    run(main())
    scene.check_nothing_is_lost()
    run(scene.check_nothing_is_bought_twice())


@every_moment
@with_and_without_a_ledger
def test_a_keyboard_interrupt_waits_for_paid_calls(moment: str, kind: str) -> None:
    scene = Scene(moment, kind)

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        asyncio.get_running_loop().call_later(0.5, interrupt)
        await scene.read()

    with pytest.raises(KeyboardInterrupt):
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(main())
    scene.check_nothing_is_lost()
    run(scene.check_nothing_is_bought_twice())


def test_calls_that_never_left_are_neither_made_nor_possibly_charged() -> None:
    async def waits_for_a_connection(national: str) -> Reply:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            raise not_sent(error) from None
        raise AssertionError

    async def main() -> tuple[Stream[Any], int]:
        store = SlowLedger(0.01)
        stream = make_stream(LEADS, waits_for_a_connection, workers=10, store=store, max_calls=100)
        with anyio.move_on_after(0.5):
            async with stream:
                await asyncio.sleep(3600)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return stream, await store.calls_made()

    stream, made = run(main())
    stats = stream.stats
    assert (stats.calls, stats.possibly_double_charged, stats.in_flight, made) == (0, 0, 0, 0)
    assert len(stream.unasked) == stats.read


def test_calls_beyond_the_grace_are_cut_off_and_counted() -> None:
    scene = Scene("in flight", "ledger")
    scene.vendor.latency = 60.0

    async def main() -> None:
        with anyio.move_on_after(0.5):
            await scene.read()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    (stream,) = scene.streams
    assert stream.stats.possibly_double_charged == 10
    assert set(scene.vendor.charged) <= set(stream.unasked)
    assert scene.ledger is not None
    assert scene.ledger._claimed == set()
