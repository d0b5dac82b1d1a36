"""Runs in which nothing, or only one encoding, is accepted: the brake and body="auto" in the engine."""

from __future__ import annotations

from typing import Any

import pytest

from accucheck import Checked, Failed, RunEnded, Stream, UniformRefusals
from accucheck._circuit import FIRST_ALIKE, LATER_ALIKE, UNPROVEN_IN_FLIGHT, Brake, RetryBudget
from accucheck._events import Listeners
from accucheck._host import BodyChoice, Host
from accucheck._statuses import VALUES
from accucheck._store import MemoryStore
from accucheck._wire import BodyStyle, Reply, StatusReply
from tests.unit.test_stream import Vendor, answered, make_stream, numbers, pending
from tests.virtual_time import run

NOT_FOUND = StatusReply("INVALID_ARGUMENT", 400, "argument 'number': not found", "TID1")


async def collect(stream: Stream[Any]) -> tuple[list[Any], Exception | None]:
    """Return the outcomes, and the error raised after them."""
    outcomes: list[Any] = []
    try:
        async with stream:
            async for outcome in stream:
                outcomes.append(outcome)
    except UniformRefusals as error:
        return outcomes, error
    return outcomes, None


# The brake


@pytest.mark.parametrize("workers", [1, 10, 500])
def test_a_run_with_identical_refusals_ends_within_25_calls(workers: int) -> None:
    vendor = Vendor(lambda national, times: NOT_FOUND)
    outcomes, error = run(collect(make_stream(numbers(2_000), vendor, workers=workers, brake=Brake())))
    assert isinstance(error, UniformRefusals)
    assert vendor.asked.total() <= 25
    assert "argument 'number': not found" in error.reason
    assert all(isinstance(outcome, Failed) for outcome in outcomes)
    assert error.done == len(outcomes) >= FIRST_ALIKE - 1


class DurableStore(MemoryStore):
    durable = True


@pytest.mark.parametrize("good", [0, 100])
def test_the_next_run_asks_again_for_numbers_that_were_refused_alike(good: int) -> None:
    understands = set(numbers(good))
    store = DurableStore()

    async def both() -> tuple[Exception | None, list[Any], Vendor]:
        first = Vendor(lambda national, times: answered(national) if national in understands else NOT_FOUND)
        _, error = await collect(make_stream(numbers(500), first, workers=5, brake=Brake(), store=store))
        fixed = Vendor()
        outcomes, _ = await collect(make_stream(numbers(500), fixed, workers=5, brake=Brake(), store=store))
        return error, outcomes, fixed

    error, outcomes, fixed = run(both())
    assert isinstance(error, UniformRefusals)
    assert len(outcomes) == 500
    assert all(isinstance(outcome, Checked) for outcome in outcomes)
    assert fixed.asked.total() == 500 - good


def test_a_number_refused_for_its_own_reason_stays_refused() -> None:
    store = DurableStore()

    async def both() -> Vendor:
        first = Vendor(lambda national, times: NOT_FOUND if national[-1] == "7" else answered(national))
        await collect(make_stream(numbers(100), first, workers=5, brake=Brake(), store=store))
        again = Vendor()
        await collect(make_stream(numbers(100), again, workers=5, brake=Brake(), store=store))
        return again

    assert run(both()).asked.total() == 0


def test_calls_in_flight_settle() -> None:
    vendor = Vendor(lambda national, times: NOT_FOUND)
    outcomes, _ = run(collect(make_stream(numbers(2_000), vendor, workers=500, brake=Brake())))
    assert len(outcomes) >= vendor.asked.total() - (UNPROVEN_IN_FLIGHT - FIRST_ALIKE + 1)


def test_a_list_that_turns_bad_ends_after_fifty_refusals() -> None:
    good = set(numbers(100))
    vendor = Vendor(lambda national, times: answered(national) if national in good else NOT_FOUND)
    outcomes, error = run(collect(make_stream(numbers(5_000), vendor, workers=5, brake=Brake())))
    assert error is not None
    assert sum(isinstance(outcome, Checked) for outcome in outcomes) == 100
    assert vendor.asked.total() <= 100 + LATER_ALIKE + 5


def test_with_keep_going_every_number_is_asked() -> None:
    vendor = Vendor(lambda national, times: NOT_FOUND)
    outcomes, error = run(collect(make_stream(numbers(200), vendor)))
    assert error is None
    assert len(outcomes) == 200


def test_a_uniform_unknown_status_ends_the_run_before_the_long_waits_are_over() -> None:
    vendor = Vendor(lambda national, times: StatusReply("SHINY_NEW", 400))
    _, error = run(collect(make_stream(numbers(2_000), vendor, workers=50, brake=Brake())))
    assert isinstance(error, RunEnded)
    assert "SHINY_NEW" in error.reason
    assert vendor.asked.total() <= 25


def test_once_a_call_has_succeeded_all_workers_are_used() -> None:
    vendor = Vendor()
    outcomes, _ = run(collect(make_stream(numbers(3_000), vendor, workers=200, brake=Brake())))
    assert len(outcomes) == 3_000
    assert vendor.most_under_way == 200


def test_pending_numbers_are_a_success() -> None:
    vendor = Vendor(lambda national, times: pending() if times == 1 else answered(national))
    outcomes, error = run(collect(make_stream(numbers(500), vendor, workers=50, brake=Brake())))
    assert error is None
    assert len(outcomes) == 500


def test_five_in_a_hundred_unavailable_numbers_cost_no_time_and_end_nothing() -> None:
    unavailable = StatusReply("unavailable", 200, row=VALUES["unavailable"])
    vendor = Vendor(lambda national, times: unavailable if int(national) % 20 == 0 else answered(national))
    stream = make_stream(numbers(2_000), vendor, workers=20, brake=Brake())
    outcomes, error = run(collect(stream))
    assert error is None
    assert sum(isinstance(outcome, Failed) for outcome in outcomes) == 100
    assert vendor.asked.total() == 2_000
    assert stream.stats.elapsed < 2_000 / 20 * vendor.latency * 1.5


def test_thirty_numbers_that_are_being_checked_are_answered_within_ten_seconds() -> None:
    checking = StatusReply("checking", 200, row=VALUES["checking"])
    vendor = Vendor(lambda national, times: checking if times == 1 else answered(national))
    stream = make_stream(numbers(30), vendor, brake=Brake())
    outcomes, error = run(collect(stream))
    assert error is None
    assert all(isinstance(outcome, Checked) for outcome in outcomes)
    assert set(vendor.asked.values()) == {2}
    assert stream.stats.elapsed < 10


# body="auto"


class OneEncoding:
    """A vendor that accepts only one body encoding, and the host that finds out which."""

    def __init__(self, takes: str) -> None:
        self.takes = takes
        self.style: BodyStyle = "form"
        self.bodies: list[tuple[str, str]] = []
        self.vendor = Vendor(self.reply)
        events = Listeners()
        self.host = Host("api.example", retries=RetryBudget(allowance=100, share=0.2), events=events)
        self.host.body = BodyChoice()
        self.host.use_body = self.use

    def use(self, style: BodyStyle) -> None:
        self.style = style

    def reply(self, national: str, times: int) -> Reply:
        self.bodies.append((national, self.style))
        return answered(national) if self.style == self.takes else NOT_FOUND

    def stream(self, count: int, workers: int = 50) -> Stream[Any]:
        return make_stream(numbers(count), self.vendor, workers=workers, host=self.host, brake=Brake())


@pytest.mark.parametrize("workers", [1, 50])
def test_if_only_json_is_accepted_one_call_is_wasted_and_no_answer_lost(workers: int) -> None:
    bench = OneEncoding("json")
    outcomes, error = run(collect(bench.stream(500, workers)))
    assert error is None
    assert all(isinstance(outcome, Checked) for outcome in outcomes)
    assert len(outcomes) == 500
    first = bench.bodies[0][0]
    assert bench.bodies[:2] == [(first, "form"), (first, "json")]
    assert bench.vendor.asked.total() == 501
    assert bench.host.body.memory == "json"


def test_if_only_forms_are_accepted_nothing_is_wasted() -> None:
    bench = OneEncoding("form")
    outcomes, _ = run(collect(bench.stream(500)))
    assert len(outcomes) == 500
    assert bench.vendor.asked.total() == 500
    assert bench.host.body.memory == "form"


def test_if_neither_is_accepted_the_run_ends_within_25_calls() -> None:
    bench = OneEncoding("protobuf")
    _, error = run(collect(bench.stream(2_000)))
    assert error is not None
    assert bench.vendor.asked.total() <= 25
    assert [style for _, style in bench.bodies].count("json") == 1


def test_the_extra_call_is_counted_as_a_retry() -> None:
    bench = OneEncoding("json")
    stream = bench.stream(10)
    run(collect(stream))
    assert (stream.stats.calls, stream.stats.retries) == (11, 1)
