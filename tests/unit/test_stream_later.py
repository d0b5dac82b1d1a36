"""pending="later" in the engine: ask for all numbers, then collect; the rest is kept for the next run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
import tenacity

from accucheck import Checked, Failed, Policy, StillPending, Stream
from accucheck._polls import LaterPolls
from accucheck._store import MemoryStore, Query
from accucheck._store._packing import packed, settlement_of
from accucheck._wire import Reply
from tests.unit.test_stream import Vendor, answered, make_stream, numbers, pending
from tests.virtual_time import run

TimeToAnswer = Callable[[int, float], float]
"""Seconds from the first ask to the answer, by the number's place and when it was asked."""


class SlowVendor(Vendor):
    """Answers a number a given time after it was first asked; PENDING until then."""

    def __init__(self, takes: TimeToAnswer) -> None:
        super().__init__(self.reply)
        self.takes = takes
        self.answer_at: dict[str, float] = {}
        self.asked_at: dict[str, list[float]] = {}

    def reply(self, national: str, times: int) -> Reply:
        now = asyncio.get_running_loop().time()
        self.asked_at.setdefault(national, []).append(now)
        at = self.answer_at.setdefault(national, now + self.takes(len(self.answer_at), now))
        return answered(national) if now >= at else pending()

    def shortest_between_asks(self) -> float:
        return min(later - earlier for times in self.asked_at.values() for earlier, later in pairwise(times))


def later_stream(vendor: Vendor, count: int, **options: Any) -> Stream[Any]:
    return make_stream(
        numbers(count), vendor, **{"later": LaterPolls(), "workers": 20, "rate": 50.0, **options}
    )


async def collect(stream: Stream[Any]) -> list[Any]:
    async with stream as outcomes:
        return [outcome async for outcome in outcomes]


@pytest.mark.parametrize(
    ("takes", "most_polls"),
    [
        (lambda place, now: 5.0, 1.05),
        (lambda place, now: 60.0 + place * 7919 % 3_540, 1.6),
        (lambda place, now: place * 0.2 + 30.0, 1.6),
        (lambda place, now: 60.0 + place * 3.54, 1.6),
    ],
)
def test_a_list_needs_little_over_one_poll_per_number(takes: TimeToAnswer, most_polls: float) -> None:
    vendor = SlowVendor(takes)
    stream = later_stream(vendor, 1_000)
    outcomes = run(collect(stream))
    assert all(isinstance(outcome, Checked) for outcome in outcomes)
    assert len(outcomes) == 1_000
    assert stream.stats.pending == 1_000
    assert stream.stats.polls / stream.stats.pending <= most_polls
    assert stream.stats.calls == vendor.asked.total() == 1_000 + stream.stats.polls
    assert vendor.shortest_between_asks() >= 20.0 - 0.01


def test_all_numbers_are_asked_once_before_the_first_is_collected() -> None:
    vendor = SlowVendor(lambda place, now: 600.0)
    run(collect(later_stream(vendor, 500, rate=1_000.0)))
    first_asks = max(times[0] for times in vendor.asked_at.values())
    polls = min(times[1] for times in vendor.asked_at.values())
    assert first_asks < polls


def test_a_number_that_takes_too_long_is_still_pending_and_no_failure() -> None:
    vendor = SlowVendor(lambda place, now: 1e6)
    (outcome,) = run(collect(later_stream(vendor, 1)))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, StillPending)
    assert outcome.error.status == "PENDING"
    assert outcome.error.asked_at is not None
    assert outcome.error.calls == outcome.calls == vendor.asked.total() <= 16


def test_the_poll_deadline_is_a_setting() -> None:
    vendor = SlowVendor(lambda place, now: 1e6)
    stream = later_stream(vendor, 20, policy=Policy(poll_stop=tenacity.stop_after_delay(60)))
    assert {type(outcome.error) for outcome in run(collect(stream))} == {StillPending}


async def stopped_run(store: MemoryStore, vendor: SlowVendor, how: str) -> list[Any]:
    """A run over 200 numbers that ends after 60 s; return what it yielded."""
    stream = later_stream(vendor, 200, store=store)
    seen: list[Any] = []
    async with stream:
        asyncio.get_running_loop().call_later(60.0, stream.stop)
        async for outcome in stream:
            seen.append(outcome)
            if how == "break":
                break
    return seen + stream.undelivered()


@pytest.mark.parametrize("how", ["stop", "break"])
def test_numbers_pending_at_the_end_are_kept_and_collected_by_the_next_run(how: str) -> None:
    vendor = SlowVendor(lambda place, now: 5.0 if place % 4 == 0 else 600.0)
    store = MemoryStore()

    async def both() -> tuple[list[Any], list[Any]]:
        first = await stopped_run(store, vendor, how)
        kept = await store.find([int(number) for number in numbers(200)], Query())
        assert len(kept) == len(first)
        await asyncio.sleep(3_600)
        return first, await collect(later_stream(vendor, 200, store=store))

    first, second = run(both())
    assert any(isinstance(outcome, Failed) for outcome in first)
    assert all(isinstance(o, Checked) or isinstance(o.error, StillPending) for o in first)
    if how == "stop":
        assert len(first) == 200
        assert sum(isinstance(outcome, Checked) for outcome in first) == 50
    assert len(second) == 200
    assert all(isinstance(outcome, Checked) for outcome in second)
    for times in vendor.asked_at.values():
        assert len(times) <= 9


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_number_that_an_earlier_run_just_asked_is_not_asked_early(retry_failed: bool) -> None:
    vendor = SlowVendor(lambda place, now: 5.0)
    store = MemoryStore()
    query = Query(failed_since=time.time() + 60) if retry_failed else Query()

    async def both() -> tuple[Stream[Any], list[Any]]:
        first = later_stream(vendor, 100, store=store)
        async with first:
            asyncio.get_running_loop().call_later(5.0, first.stop)
            assert [outcome async for outcome in first]
        second = later_stream(vendor, 100, store=store, query=query)
        return second, await collect(second)

    second, outcomes = run(both())
    assert len(outcomes) == 100
    assert all(isinstance(outcome, Checked) for outcome in outcomes)
    # The ledger's clock, unlike the test's, stood still between the runs.
    assert vendor.shortest_between_asks() >= 20.0 - 0.5
    assert second.stats.pending == 100
    assert second.stats.polls <= 105


def test_the_ledger_keeps_when_a_pending_number_was_asked() -> None:
    vendor = SlowVendor(lambda place, now: 1e6)
    store = MemoryStore()

    async def main() -> datetime | None:
        stream = later_stream(vendor, 1, store=store)
        async with stream:
            asyncio.get_running_loop().call_later(1_000.0, stream.stop)
            assert [outcome async for outcome in stream]
        (kept,) = (await store.find([int(number) for number in numbers(1)], Query())).values()
        assert isinstance(kept.result, StillPending)
        return settlement_of(kept.number, packed(kept, 0.0)).result.asked_at  # type: ignore[union-attr]

    asked_at = run(main())
    assert asked_at is not None
    ago = (datetime.now(UTC) - asked_at).total_seconds()
    (times,) = vendor.asked_at.values()
    assert ago == pytest.approx(1_000 - (times[-1] - times[0]), abs=5)


def test_without_later_pending_numbers_are_polled_as_before() -> None:
    vendor = SlowVendor(lambda place, now: 5.0)
    stream = later_stream(vendor, 100, later=None)
    assert len(run(collect(stream))) == 100
    assert vendor.shortest_between_asks() < 20.0
