"""The engine in virtual time: a scripted vendor, no sockets, hours in milliseconds."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from accucheck import (
    BudgetExhausted,
    Check,
    Checked,
    Failed,
    InvalidNumber,
    OutOfQuota,
    PendingTimeout,
    Policy,
    ProtocolError,
    Stats,
    Stream,
    TransportError,
)
from accucheck._admission import InFlight, Limits
from accucheck._attempt import Attempt
from accucheck._budgets import CallBudget, Caps, CostBudget
from accucheck._circuit import Brake, RetryBudget
from accucheck._concurrency import OutcomeQueue
from accucheck._costs import Money, Prices
from accucheck._events import Listeners, OnEvent, guarded
from accucheck._gate import AdaptiveGate, Gate
from accucheck._host import Host
from accucheck._models import Settlement
from accucheck._polls import LaterPolls
from accucheck._store import MemoryStore, Query, Store
from accucheck._stream import RunContext
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply
from tests.virtual_time import START, run

Script = Callable[[str, int], Reply | Awaitable[Reply]]

NOW = datetime(2999, 1, 1, tzinfo=UTC)  # after the start of any run
FIRST = 900_000_000


def answered(national: str, whatsapp: bool = True) -> Answered:
    return Answered(Check(number="+51" + national, whatsapp=whatsapp, checked_at=NOW))


def pending() -> StatusReply:
    return StatusReply("PENDING", 400)


def numbers(count: int) -> list[str]:
    return [str(FIRST + n) for n in range(count)]


class Vendor:
    """Answers from a script of (number, how often it was asked), and records every call."""

    def __init__(self, script: Script | None = None, *, latency: float = 0.05) -> None:
        self.script: Script = script or (lambda national, _times: answered(national))
        self.latency = latency
        self.asked: Counter[str] = Counter()
        self.calls: list[tuple[float, str]] = []
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, national: str) -> Reply:
        self.asked[national] += 1
        self.calls.append((asyncio.get_running_loop().time(), national))
        times = self.asked[national]
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.latency)
            reply = self.script(national, times)
            return reply if isinstance(reply, Answered | StatusReply | Malformed | Broken) else await reply
        finally:
            self.under_way -= 1

    def calls_between(self, start: float, end: float) -> int:
        return sum(start <= at < end for at, _ in self.calls)


def make_stream(
    items: Any,
    vendor: Callable[[str], Awaitable[Reply]],
    *,
    number: Callable[[Any], Any] = lambda item: item,
    workers: int = 10,
    rate: float = 1_000_000.0,
    gate: Gate | None = None,
    max_calls: int | None = None,
    policy: Policy | None = None,
    ordered: bool = False,
    max_delayed: int = 10_000,
    buffer: int = 1_000,
    grace: float = 5.0,
    outage_after: float | None = None,
    on_event: OnEvent | None = None,
    store: Store | None = None,
    query: Query | None = None,
    in_flight: InFlight | None = None,
    host: Host | None = None,
    brake: Brake | None = None,
    cost: tuple[Money, Prices] | None = None,
    later: LaterPolls | None = None,
    closed: Callable[[], None] = lambda: None,
) -> Stream[Any]:
    async def enter(stream: Stream[Any]) -> RunContext:
        events = Listeners(*([] if on_event is None else [guarded(on_event)]))
        retries = RetryBudget(allowance=100 + workers, share=0.2)
        shared_host = host or Host("api.example", retries=retries, events=events)
        answers = store or MemoryStore()
        budget = None if max_calls is None else CallBudget(answers, max_calls=max_calls)
        costs = None if cost is None else await CostBudget.open(answers, *cost)
        attempt = Attempt(
            send=vendor,
            gate=gate or AdaptiveGate(rate),
            policy=policy or Policy(),
            host=shared_host,
            events=events,
            caps=Caps(cost=costs, budget=budget),
            brake=brake,
            later=later,
            chance=random.Random(7).random,
        )

        async def close() -> None:
            if costs is not None:
                await costs.close(lost=0)
            closed()

        return RunContext(
            attempt=attempt,
            store=answers,
            query=query or Query(),
            in_flight={} if in_flight is None else in_flight,
            events=events,
            budget=budget,
            close=close,
        )

    return Stream(
        items,
        number,
        enter=enter,
        limits=Limits(workers=workers, delayed=max_delayed, buffered=buffer, grace=grace),
        ordered=ordered,
        outage_after=outage_after,
    )


async def collect(stream: Stream[Any]) -> list[Checked[Any] | Failed[Any]]:
    async with stream as outcomes:
        return [outcome async for outcome in outcomes]


def test_every_item_has_one_outcome_and_every_number_one_call() -> None:
    vendor = Vendor()
    outcomes = run(collect(make_stream(numbers(500), vendor)))
    assert sorted(outcome.item for outcome in outcomes) == numbers(500)
    assert set(vendor.asked.values()) == {1}
    assert all(
        isinstance(outcome, Checked) and outcome.check.number == "+51" + outcome.item for outcome in outcomes
    )


def test_an_empty_input_ends_at_once() -> None:
    assert run(collect(make_stream([], Vendor()))) == []


def test_no_more_calls_are_in_flight_than_there_are_workers() -> None:
    vendor = Vendor()
    run(collect(make_stream(numbers(200), vendor, workers=7)))
    assert vendor.most_under_way == 7


def test_as_few_workers_are_used_as_rate_and_latency_need() -> None:
    vendor = Vendor(latency=0.05)
    run(collect(make_stream(numbers(200), vendor, workers=100, rate=40.0)))
    assert vendor.most_under_way <= 4  # 40/s for 0.05 s is 2, and a burst of 2


def test_the_callers_own_items_travel_along() -> None:
    rows = [{"phone": "987 654 321", "name": "Ana"}, {"phone": "x", "name": "Luis"}]
    outcomes = run(collect(make_stream(rows, Vendor(), number=lambda row: row["phone"])))
    by_name = {outcome.item["name"]: outcome for outcome in outcomes}
    assert isinstance(by_name["Ana"], Checked)
    assert isinstance(by_name["Luis"], Failed)
    assert isinstance(by_name["Luis"].error, InvalidNumber)
    assert {outcome.index for outcome in outcomes} == {0, 1}


def test_an_async_iterable_is_read_too() -> None:
    async def feed() -> AsyncIterator[str]:
        for number in numbers(50):
            await asyncio.sleep(0.01)
            yield number

    outcomes = run(collect(make_stream(feed(), Vendor())))
    assert sorted(outcome.item for outcome in outcomes) == numbers(50)


def test_outcomes_arrive_at_once_even_if_the_input_is_slow() -> None:
    async def feed() -> AsyncIterator[str]:
        yield "900000001"
        await asyncio.sleep(3600)
        yield "900000002"

    started = 0.0

    async def main() -> float:
        async with make_stream(feed(), Vendor()) as outcomes:
            async for _ in outcomes:
                return asyncio.get_running_loop().time() - started
        raise AssertionError

    async def timed() -> float:
        nonlocal started
        started = asyncio.get_running_loop().time()
        return await main()

    assert run(timed()) < 1


def test_the_same_number_twice_is_asked_once_and_both_rows_get_the_answer() -> None:
    vendor = Vendor()
    rows = ["987654321", "+51 987 654 321", *numbers(300), "0051987654321"]
    outcomes = run(collect(make_stream(rows, vendor)))
    assert len(outcomes) == 303
    assert vendor.asked["987654321"] == 1
    same = [
        outcome
        for outcome in outcomes
        if isinstance(outcome, Checked) and outcome.check.number == "+51987654321"
    ]
    assert len(same) == 3
    assert sum(outcome.calls for outcome in same) == 1


def test_an_endlessly_repeated_number_does_not_fill_the_memory() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "987654321"

    async def main() -> None:
        async with make_stream(
            endless(), Vendor(latency=10.0), workers=2, max_delayed=50, buffer=50
        ) as outcomes:
            async for _ in outcomes:
                break

    run(main())
    assert read < 1_000


def test_ordered_keeps_the_order_of_the_input() -> None:
    def script(national: str, times: int) -> Reply:
        return pending() if int(national) % 7 == 0 and times < 3 else answered(national)

    outcomes = run(collect(make_stream(numbers(300), Vendor(script), ordered=True)))
    assert [outcome.item for outcome in outcomes] == numbers(300)


def test_pending_numbers_hold_no_worker() -> None:
    def script(national: str, times: int) -> Reply:
        return pending() if int(national) < FIRST + 50 and times == 1 else answered(national)

    vendor = Vendor(script, latency=0.01)

    async def main() -> list[str]:
        async with make_stream(numbers(100), vendor, workers=2) as outcomes:
            return [outcome.item async for outcome in outcomes]

    finished = run(main())
    # Fifty pending numbers came first, and even with two workers none of the others waited for them.
    assert set(finished[:50]) == set(numbers(100)[50:])
    assert set(finished) == set(numbers(100))


def test_new_numbers_keep_half_of_the_permits_while_polls_are_due() -> None:
    policy = Policy(poll_wait=lambda _state: 0.0)  # type: ignore[arg-type]  # any callable of the state will do

    def script(national: str, _times: int) -> Reply:
        return pending() if int(national) < FIRST + 20 else answered(national)

    vendor = Vendor(script, latency=0.0)

    async def main() -> None:
        seen = 0
        async with make_stream(numbers(400), vendor, workers=4, rate=100.0, policy=policy) as outcomes:
            async for _ in outcomes:
                seen += 1
                if seen == 300:
                    break

    run(main())
    new = sum(int(national) >= FIRST + 20 for _, national in vendor.calls)
    assert new >= 0.45 * len(vendor.calls)


def test_a_number_that_stays_pending_fails_at_its_deadline() -> None:
    vendor = Vendor(lambda _national, _times: pending())
    (outcome,) = run(collect(make_stream(["987654321"], vendor)))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, PendingTimeout)
    assert outcome.calls == vendor.asked["987654321"] > 2


def test_failures_are_retried_and_then_given_up() -> None:
    vendor = Vendor(lambda _national, _times: StatusReply("INTERNAL_ERROR", 500))
    (outcome,) = run(collect(make_stream(["987654321"], vendor)))
    assert isinstance(outcome, Failed)
    assert outcome.error.status == "INTERNAL_ERROR"
    assert outcome.calls == 5


def test_a_lost_answer_is_asked_again_and_reported() -> None:
    def script(national: str, times: int) -> Reply:
        return Broken("read", "reset", sent=True) if times == 1 else answered(national)

    async def main() -> tuple[Any, Stats]:
        async with make_stream(["987654321"], Vendor(script)) as outcomes:
            return [outcome async for outcome in outcomes], outcomes.stats

    (outcome,), stats = run(main())
    assert isinstance(outcome, Checked)
    assert outcome.possibly_double_charged == 1
    assert outcome.calls == 2
    assert stats.possibly_double_charged == 1
    assert stats.retries == 1


def test_a_lost_answer_can_be_left_unanswered() -> None:
    vendor = Vendor(lambda _national, _times: Broken("read", "reset", sent=True))
    (outcome,) = run(collect(make_stream(["987654321"], vendor, policy=Policy(on_lost_answer="fail"))))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, TransportError)
    assert outcome.calls == 1


def test_a_reply_against_the_contract_is_never_a_no_and_never_asked_again() -> None:
    vendor = Vendor(lambda _national, _times: Malformed(200, "OK without a result"))
    (outcome,) = run(collect(make_stream(["987654321"], vendor)))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ProtocolError)
    assert outcome.calls == 1


def test_refusals_never_use_up_a_numbers_tries() -> None:
    def script(national: str, times: int) -> Reply:
        return StatusReply("RATE_LIMIT_EXCEEDED", 403) if times <= 12 else answered(national)

    vendor = Vendor(script)
    (outcome,) = run(collect(make_stream(["987654321"], vendor)))
    assert isinstance(outcome, Checked)
    assert vendor.asked["987654321"] == 13


def test_retry_after_holds_everyone() -> None:
    refused_at: list[float] = []

    def script(national: str, times: int) -> Reply:
        if national == str(FIRST + 5) and times == 1:
            refused_at.append(asyncio.get_running_loop().time())
            return StatusReply("RATE_LIMIT_EXCEEDED", 403, retry_after=30.0)
        return answered(national)

    vendor = Vendor(script)
    outcomes = run(collect(make_stream(numbers(50), vendor, workers=2, rate=20.0)))
    assert len(outcomes) == 50
    assert vendor.calls_between(refused_at[0] + 0.2, refused_at[0] + 29.9) == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_quota_ends_the_run_after_every_paid_outcome(ordered: bool) -> None:
    admitted = 0

    def script(national: str, _times: int) -> Reply:
        nonlocal admitted
        admitted += 1
        return answered(national) if admitted <= 40 else StatusReply("OUT_OF_QUOTA", 403)

    vendor = Vendor(script)
    seen: list[Any] = []

    async def main() -> None:
        async with make_stream(numbers(1_000), vendor, ordered=ordered) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)

    with pytest.raises(OutOfQuota) as caught:
        run(main())
    assert len(seen) == 40
    assert caught.value.done == 40
    assert caught.value.not_done >= 10
    assert len(vendor.calls) <= 50  # ten workers were in flight


def test_max_calls_is_exact_whatever_the_workers_and_polls() -> None:
    def script(national: str, times: int) -> Reply:
        return pending() if times == 1 and int(national) % 3 == 0 else answered(national)

    vendor = Vendor(script)
    seen: list[Any] = []

    async def main() -> None:
        async with make_stream(numbers(1_000), vendor, workers=50, max_calls=123) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)

    with pytest.raises(BudgetExhausted):
        run(main())
    assert len(vendor.calls) == 123
    assert len(seen) == sum(not (int(n) % 3 == 0 and vendor.asked[n] == 1) for n in vendor.asked)


def test_leaving_early_stops_admission_and_settles_paid_calls() -> None:
    vendor = Vendor(latency=1.0)

    async def main() -> int:
        async with make_stream(numbers(10_000), vendor, workers=20) as outcomes:
            async for _ in outcomes:
                break
            asked = len(vendor.calls)
        assert vendor.under_way == 0
        await asyncio.sleep(60)
        assert len(vendor.calls) <= asked
        assert len(asyncio.all_tasks()) == 1
        return outcomes.stats.yes

    assert run(main()) >= 20


def test_leaving_early_waits_no_longer_than_the_grace() -> None:
    vendor = Vendor(latency=500.0)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with make_stream(numbers(100), vendor, grace=3.0):
            await asyncio.sleep(1)
            left = loop.time()
        assert len(asyncio.all_tasks()) == 1
        return loop.time() - left

    assert run(main()) == pytest.approx(3.0, abs=0.1)


def test_leaving_at_once_makes_no_call_and_leaves_no_task() -> None:
    vendor = Vendor()

    async def main() -> None:
        async with make_stream(numbers(100), vendor):
            pass
        await asyncio.sleep(10)
        assert len(asyncio.all_tasks()) == 1

    run(main())
    assert not vendor.calls


def test_a_consumer_that_raises_gets_its_own_error_back() -> None:
    async def main() -> None:
        async with make_stream(numbers(100), Vendor()) as outcomes:
            async for _ in outcomes:
                raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(main())


def test_stop_lets_calls_in_flight_settle_and_raises_nothing() -> None:
    vendor = Vendor(latency=1.0)

    async def main() -> list[Any]:
        seen = []
        async with make_stream(numbers(1_000), vendor, workers=10) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)
                outcomes.stop()
        return seen

    assert len(run(main())) == len(vendor.calls)


def test_an_error_in_the_input_is_raised_after_the_outcomes_of_earlier_items() -> None:
    def feed() -> Iterator[str]:
        yield from numbers(100)
        raise OSError("the disk is gone")

    seen: list[Any] = []

    async def main() -> None:
        async with make_stream(feed(), Vendor()) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome)

    with pytest.raises(OSError, match="the disk is gone"):
        run(main())
    assert seen


def test_a_number_function_that_raises_ends_the_run_with_its_error() -> None:
    rows = [{"phone": "987654321"}, {}]

    with pytest.raises(KeyError, match="phone"):
        run(collect(make_stream(rows, Vendor(), number=lambda row: row["phone"])))


def test_a_slow_reader_slows_the_input() -> None:
    read = 0

    def feed() -> Iterator[str]:
        nonlocal read
        for number in numbers(100_000):
            read += 1
            yield number

    async def main() -> None:
        async with make_stream(feed(), Vendor(), workers=5, buffer=20) as outcomes:
            async for _ in outcomes:
                await asyncio.sleep(10)
                if outcomes.stats.delivered == 10:
                    break

    run(main())
    assert read < 300


def test_delayed_numbers_are_bounded() -> None:
    read = 0

    def feed() -> Iterator[str]:
        nonlocal read
        for number in numbers(100_000):
            read += 1
            yield number

    vendor = Vendor(lambda _national, _times: pending())

    async def main() -> None:
        async with make_stream(feed(), vendor, workers=5, max_delayed=100, grace=0.0) as outcomes:
            await asyncio.sleep(200)
            assert outcomes.stats.delayed <= 100 + 3 * 10

    run(main())
    assert read < 200


def test_an_outage_costs_few_calls_and_no_number() -> None:
    def script(national: str, _times: int) -> Reply:
        now = asyncio.get_running_loop().time() - started
        return Broken("connect", "refused", sent=False) if 30 <= now < 50 else answered(national)

    vendor = Vendor(script)
    started = 0.0

    async def main() -> list[Any]:
        nonlocal started
        started = asyncio.get_running_loop().time()
        return await collect(make_stream(numbers(8_000), vendor, workers=50, rate=100.0))

    outcomes = run(main())
    assert all(isinstance(outcome, Checked) for outcome in outcomes)
    assert len(outcomes) == 8_000
    assert vendor.calls_between(started + 30, started + 50) <= 0.1 * 100 * 20
    # No burst afterwards: no second has more calls than the pace and the bucket allow.
    assert max(vendor.calls_between(started + 50 + n, started + 51 + n) for n in range(20)) <= 104


class SlowDisk(MemoryStore):
    """Durable, and a commit takes a second."""

    durable = True

    async def settle(self, settlements: Sequence[Settlement], **options: Any) -> None:
        await asyncio.sleep(1.0)
        await super().settle(settlements, **options)


def test_no_more_is_bought_than_a_kill_may_lose() -> None:
    vendor = Vendor(latency=0.001)
    stream = make_stream(numbers(40), vendor, workers=5, store=SlowDisk())

    async def main() -> list[Any]:
        return await collect(stream)

    outcomes = run(main())
    assert len(outcomes) == 40
    start = vendor.calls[0][0]
    assert vendor.calls_between(start, start + 0.9) == 10  # five in flight, and five that wait for the disk


def test_statistics_add_up() -> None:
    def script(national: str, _times: int) -> Reply:
        return answered(national, whatsapp=int(national) % 4 != 0)

    async def main() -> Stats:
        rows = [*numbers(100), "nonsense", numbers(1)[0]]
        async with make_stream(rows, Vendor(script)) as outcomes:
            async for _ in outcomes:
                assert outcomes.stats.read >= outcomes.stats.delivered
        return outcomes.stats

    stats = run(main())
    assert (stats.read, stats.rejected, stats.duplicates) == (102, 1, 1)
    assert (stats.yes, stats.no, stats.failed, stats.calls) == (75, 25, 0, 100)
    assert (stats.delivered, stats.in_flight, stats.delayed) == (102, 0, 0)
    assert stats.elapsed > 0


def test_a_hook_that_raises_does_not_harm_the_run(caplog: pytest.LogCaptureFixture) -> None:
    def hook(_event: object) -> None:
        raise ValueError("mine")

    outcomes = run(collect(make_stream(numbers(20), Vendor(), on_event=hook)))
    assert len(outcomes) == 20
    assert sum("on_event raised an exception" in record.message for record in caplog.records) == 1


def test_a_send_that_raises_ends_the_run_loudly_and_without_a_group() -> None:
    def script(_national: str, _times: int) -> Reply:
        raise ZeroDivisionError("a defect")

    with pytest.raises(ZeroDivisionError):
        run(collect(make_stream(numbers(20), Vendor(script))))


def test_cancellation_from_outside_at_any_moment_leaves_nothing_behind() -> None:
    def script(national: str, times: int) -> Reply:
        return pending() if int(national) % 5 == 0 and times < 2 else answered(national)

    async def one(after: float) -> None:
        closed: list[bool] = []
        stream = make_stream(
            numbers(200), Vendor(script), workers=5, closed=lambda: closed.append(True), grace=1.0
        )
        task = asyncio.create_task(collect(stream))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed == [True]
        assert len(asyncio.all_tasks()) == 1

    async def main() -> None:
        chance = random.Random(11)
        for _ in range(60):
            await one(chance.random() * 1.5)

    run(main())


def test_several_tasks_may_share_the_outcomes() -> None:
    async def main() -> int:
        async with make_stream(numbers(200), Vendor()) as outcomes:

            async def take() -> int:
                return len([outcome async for outcome in outcomes])

            return sum(await asyncio.gather(take(), take(), take()))

    assert run(main()) == 200


def test_a_stream_is_entered_once_and_before_it_is_read() -> None:
    async def main() -> None:
        stream = make_stream(numbers(1), Vendor())
        assert stream.stats == Stats()
        with pytest.raises(RuntimeError, match="enter the stream first"):
            await anext(stream)
        await collect(stream)
        with pytest.raises(RuntimeError, match="entered once"):
            await collect(stream)

    run(main())


def test_all_numbers_are_answered_although_a_third_fails_at_first() -> None:
    failed = StatusReply("INTERNAL_ERROR", 500)
    vendor = Vendor(lambda number, times: failed if times == 1 and int(number) % 3 == 0 else answered(number))
    outcomes = run(collect(make_stream(numbers(2_000), vendor)))
    assert sum(times == 2 for times in vendor.asked.values()) > 600
    assert all(isinstance(outcome, Checked) for outcome in outcomes)


def test_an_iterator_that_the_stream_has_made_is_closed_with_it() -> None:
    closed: list[str] = []

    class Leads:
        async def __aiter__(self) -> AsyncIterator[str]:
            try:
                for number in numbers(1_000):
                    yield number
            finally:
                closed.append("cursor")

    async def main() -> list[str]:
        async with make_stream(Leads(), Vendor(), buffer=10) as outcomes:
            async for _ in outcomes:
                break
        return list(closed)

    assert run(main()) == ["cursor"]


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
def test_a_generator_is_closed_with_the_block_though_the_stream_is_kept(kind: str) -> None:
    closed: list[str] = []

    def plain() -> Iterator[str]:
        try:
            yield from numbers(2_000)
        finally:
            closed.append("plain")

    async def asynchronous() -> AsyncIterator[str]:
        opened_by = asyncio.current_task()
        try:
            for number in numbers(2_000):
                yield number
        finally:
            assert asyncio.current_task() is opened_by
            closed.append("asynchronous")

    async def main() -> list[str]:
        items = plain() if kind == "plain" else asynchronous()
        async with make_stream(items, Vendor(), buffer=10) as outcomes:
            async for _ in outcomes:
                break
        assert outcomes.stats.read < 2_000
        return list(closed)

    assert run(main()) == [kind]


def test_a_reader_that_never_waits_does_not_hold_up_the_event_loop() -> None:
    async def main() -> tuple[int, int]:
        now, turns = 0.0, 0
        stream = make_stream(numbers(300), Vendor(), workers=300, buffer=1_000)
        stream._outcomes = OutcomeQueue(ordered=False, clock=lambda: now)

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        read = 0
        async with stream as outcomes:
            await asyncio.sleep(1)  # all have arrived by now
            counter = asyncio.create_task(count_turns())
            await asyncio.sleep(0)
            async for _ in outcomes:
                read += 1
                now += 0.02  # the reader is slow
            turns_meanwhile = turns
            counter.cancel()
        return read, turns_meanwhile

    read, turns = run(main())
    assert read == 300
    assert turns >= 300 * 0.02 / 0.12  # a turn at the first outcome after a tenth of a second


def test_a_second_row_of_a_number_that_failed_is_a_duplicate() -> None:
    vendor = Vendor(lambda number, times: StatusReply("INVALID_ARGUMENT", 400))

    async def leads() -> AsyncIterator[str]:
        yield "987654321"
        await asyncio.sleep(1)
        yield "987654321"

    async def main() -> Stats:
        stream = make_stream(leads(), vendor)
        await collect(stream)
        return stream.stats

    stats = run(main())
    assert (stats.duplicates, stats.known, stats.calls) == (1, 0, 1)


# Other processes that buy the same numbers


def test_a_number_that_another_process_is_buying_is_waited_for_and_not_called() -> None:
    vendor = Vendor()
    store = MemoryStore()

    async def main() -> tuple[list[Any], Stats]:
        await store.claim([FIRST], Query())  # by another process
        loop = asyncio.get_running_loop()

        async def answer() -> None:
            await asyncio.sleep(5)
            check = answered(str(FIRST)).check
            await store.settle([Settlement(FIRST, check, 1, 0)])

        other = loop.create_task(answer())
        stream = make_stream(numbers(3), vendor, store=store)
        outcomes = await collect(stream)
        await other
        assert loop.time() - START <= 5 + 1.1  # it is looked up at least once a second
        return outcomes, stream.stats

    outcomes, stats = run(main())
    assert sorted(outcome.item for outcome in outcomes) == numbers(3)
    assert str(FIRST) not in vendor.asked
    assert (stats.calls, stats.yes) == (2, 2)


def test_a_number_that_another_process_gives_up_is_bought() -> None:
    vendor = Vendor()
    store = MemoryStore()

    async def main() -> None:
        await store.claim([FIRST], Query())
        stream = make_stream(numbers(3), vendor, store=store)
        collecting = asyncio.create_task(collect(stream))
        await asyncio.sleep(10)
        assert stream.stats.delayed == 1
        await store.release([FIRST])
        assert len(await collecting) == 3

    run(main())
    assert vendor.asked == Counter(numbers(3))


def test_a_stream_that_is_left_while_it_waits_for_another_process_leaves_that_ones_claim_alone() -> None:
    store = MemoryStore()

    async def main() -> None:
        await store.claim([FIRST], Query())
        async with make_stream(numbers(3), Vendor(), store=store) as outcomes:
            await asyncio.sleep(10)
        assert outcomes.unasked == [str(FIRST)]
        assert (await store.claim([FIRST], Query())).taken == {FIRST}

    run(main())


# The log


def test_the_log_says_why_and_masks_numbers(caplog: pytest.LogCaptureFixture) -> None:
    def script(national: str, times: int) -> Reply:
        if times == 1:
            return StatusReply("RATE_LIMIT_EXCEEDED", 403, retry_after=2.0)
        if times == 2:
            return Broken("connect", "refused", sent=False)
        return pending() if times == 3 else answered(national)

    caplog.set_level("DEBUG", "accucheck")
    run(collect(make_stream(["987654321"], Vendor(script))))
    assert "987654321" not in caplog.text
    assert "9876•••21: rate-limited, Retry-After 2.0" in caplog.text
    assert "connect failed: refused" in caplog.text
    assert "poll in" in caplog.text
    assert "api.example: run ended" in caplog.text
