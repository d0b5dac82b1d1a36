"""Rows read in a thread: all of them, in order, and never further ahead than a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from accucheck.cli import _bulk
from accucheck.cli._bulk import LiveRows
from accucheck.files import FileError, Row


def rows(count: int) -> Iterator[Row]:
    return (Row(str(n), n) for n in range(count))


async def test_every_row_comes_once_and_in_order() -> None:
    live = LiveRows(rows(5_000))
    assert [row.record async for _, row in live] == list(range(5_000))


async def test_a_slow_reader_slows_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bulk, "_AHEAD", 10)
    read = 0

    def counted() -> Iterator[Row]:
        nonlocal read
        for row in rows(1_000):
            read += 1
            yield row

    live = LiveRows(counted())
    taken = 0
    async for _ in live:
        taken += 1
        assert read <= taken + 11
        if taken % 100 == 0:
            time.sleep(0.001)
    assert taken == 1_000


async def test_an_error_in_the_input_is_raised_after_the_rows_before_it() -> None:
    def torn() -> Iterator[Row]:
        yield from rows(3)
        raise FileError("the file is damaged")

    seen = []
    with pytest.raises(FileError, match="damaged"):
        async for _, row in LiveRows(torn()):
            seen.append(row.record)
    assert seen == [0, 1, 2]


async def test_the_rest_is_rows_without_an_outcome_and_rows_not_taken() -> None:
    live = LiveRows(rows(50))
    async for _, row in live:
        if row.record == 9:
            break
    for place in (0, 2, 3):
        live.answered(place)
    rest = await asyncio.to_thread(lambda: [row.record for row in live.rest()])
    assert rest == [1, *range(4, 50)]
