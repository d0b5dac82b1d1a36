"""Reading the caller's items: any iterable, without blocking the loop, and closed by the thread that read it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from accucheck import _input
from accucheck._input import Input


@pytest.fixture(autouse=True)
def anyio_backend() -> str:
    return "asyncio"


async def read_all(source: Input[Any], most: int = 4) -> list[Any]:
    items = []
    while some := await source.read(most):
        assert len(some) <= most
        items += some
    return items


async def counting() -> AsyncIterator[int]:
    for n in range(10):
        yield n


@pytest.mark.parametrize(
    "make", [lambda: range(10), lambda: iter(range(10)), lambda: list(range(10)), counting]
)
async def test_every_item_is_read_once_in_order(make: Any) -> None:
    source: Input[int] = Input(make())
    assert await read_all(source) == list(range(10))
    await source.aclose()


@pytest.mark.parametrize("slow_at_once", [False, True])
async def test_an_error_comes_after_the_items_before_it(
    slow_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if slow_at_once:
        monkeypatch.setattr(_input, "_SLOW_ITEMS", 0)

    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    source: Input[int] = Input(items())
    assert await source.read(10) == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        await source.read(10)
    await source.aclose()


async def test_an_iterator_that_is_slow_is_read_and_closed_in_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_input, "_SLOW", 0.0)  # everything is slow
    here = threading.current_thread()
    read_in: list[threading.Thread] = []
    closed_in: list[threading.Thread] = []

    def items() -> Iterator[int]:
        try:
            for n in range(100):
                read_in.append(threading.current_thread())
                yield n
        finally:
            closed_in.append(threading.current_thread())

    source: Input[int] = Input(items())
    assert await source.read(5) == [0, 1, 2, 3, 4]
    assert await source.read(5) == [5, 6, 7, 8, 9]
    await source.aclose()
    assert set(read_in[:5]) == {here}
    assert here not in read_in[5:]
    assert closed_in == read_in[-1:]


async def test_the_loop_keeps_running_while_a_slow_iterator_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_input, "_SLOW_ITEMS", 0)
    released = threading.Event()

    def items() -> Iterator[int]:
        released.wait()
        yield 1

    source: Input[int] = Input(items())
    reading = asyncio.create_task(source.read(5))
    await asyncio.sleep(0)
    assert not reading.done()
    released.set()
    assert await reading == [1]
    await source.aclose()


async def test_an_iterator_that_blocks_forever_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_input, "_SLOW_ITEMS", 0)
    monkeypatch.setattr(_input, "_CLOSING_SECONDS", 0.01)
    started, released, closed = threading.Event(), threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            started.set()
            released.wait()
            yield 1
        finally:
            closed.set()

    source: Input[int] = Input(items())
    reading = asyncio.create_task(source.read(5))
    await asyncio.to_thread(started.wait)
    reading.cancel()
    await asyncio.wait([reading])
    await source.aclose()
    assert not closed.is_set()
    released.set()
    assert await asyncio.to_thread(closed.wait, 10)


async def test_items_read_by_a_thread_but_not_yet_taken_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_input, "_SLOW_ITEMS", 0)
    monkeypatch.setattr(_input, "_LONGEST_READ", 60.0)
    started, released = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield 0
        yield 1
        started.set()
        released.wait()
        yield 2

    source: Input[int] = Input(items())
    reading = asyncio.create_task(source.read(3))
    await asyncio.to_thread(started.wait)
    reading.cancel()
    released.set()
    await asyncio.wait([reading])
    await source.aclose()
    assert source.left == [0, 1, 2]


async def test_iterators_that_are_not_generators_are_left_to_the_caller() -> None:
    class File:
        closed = False

        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

        def close(self) -> None:
            self.closed = True

    file = File()
    source: Input[int] = Input(file)
    await read_all(source)
    await source.aclose()
    assert not file.closed
