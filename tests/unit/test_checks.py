"""Single checks are shared, go first at the gate, fail fast, and never lose an answer. In virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

import accucheck
from accucheck import Check, Client, LedgerError
from accucheck._models import Settlement
from accucheck._store import MemoryStore, Query
from tests.virtual_time import run

NUMBER = "987654321"


def ok(national: str) -> httpx.Response:
    return httpx.Response(200, json={"status": "OK", "result": {"number": national, "whatsapp": "yes"}})


class Vendor(httpx.AsyncBaseTransport):
    """Answers after its latency, and records when it was asked for which number."""

    def __init__(self, *, latency: float = 0.1) -> None:
        self.latency = latency
        self.asked: Counter[str] = Counter()
        self.calls: list[tuple[float, str]] = []
        self.answered: Counter[str] = Counter()
        self.down = False
        self.reply = ok

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        national = (await request.aread()).decode().removeprefix("number=")
        self.asked[national] += 1
        self.calls.append((asyncio.get_running_loop().time(), national))
        await asyncio.sleep(self.latency)
        if self.down:
            raise httpx.ConnectError("connection refused")
        self.answered[national] += 1
        return self.reply(national)


class Ledger(MemoryStore):
    """Durable, in memory."""

    durable = True


def client_of(vendor: httpx.AsyncBaseTransport, **options: Any) -> Client:
    return Client("an-id", "a-secret", transport=vendor, **{"rate": 1_000.0, **options})


def numbers(count: int, first: int = 900_000_000) -> list[str]:
    return [str(first + n) for n in range(count)]


async def give_up_after(seconds: float, client: Client, number: str = NUMBER) -> None:
    with anyio.move_on_after(seconds):
        await client.check(number)
        raise AssertionError("it was answered")


# One number, one call


@pytest.mark.parametrize("kind", ["ledger", "none"])
def test_fifty_requests_for_one_number_spread_over_a_second_are_one_call(kind: str) -> None:
    async def main() -> None:
        vendor = Vendor()
        async with client_of(vendor, ledger=Ledger() if kind == "ledger" else None) as client:

            async def later(seconds: float) -> Check:
                await asyncio.sleep(seconds)
                return await client.check(NUMBER)

            checks = await asyncio.gather(*(later(n / 50) for n in range(50)))
            assert len(set(checks)) == 1
            assert vendor.asked == {NUMBER: 1}
            assert (client.stats.read, client.stats.calls, client.stats.yes) == (50, 1, 1)

    run(main())


def test_without_a_ledger_an_answer_is_remembered_for_a_minute() -> None:
    async def main() -> None:
        vendor = Vendor()
        async with client_of(vendor) as client:
            await client.check(NUMBER)
            await asyncio.sleep(59)
            await client.check(NUMBER)
            assert vendor.asked[NUMBER] == 1
            await asyncio.sleep(2)
            await client.check(NUMBER)
            assert vendor.asked[NUMBER] == 2
        async with client_of(vendor, fresh_within=timedelta(0)) as client:
            await client.check(NUMBER)
            await asyncio.sleep(0.001)
            await client.check(NUMBER)
            assert vendor.asked[NUMBER] == 4

    run(main())


@pytest.mark.parametrize("kind", ["ledger", "none"])
def test_a_check_and_a_stream_for_one_number_are_one_call(kind: str) -> None:
    async def main() -> None:
        vendor = Vendor(latency=1.0)
        async with client_of(vendor, ledger=Ledger() if kind == "ledger" else None) as client:
            checking = asyncio.create_task(client.check(NUMBER))
            await asyncio.sleep(0.5)
            async with client.stream([NUMBER, "987654322"]) as outcomes:
                await asyncio.sleep(0.2)
                joined = asyncio.create_task(client.check("987654322"))
                items = [outcome.item async for outcome in outcomes]
            assert sorted(items) == [NUMBER, "987654322"]
            assert (await checking).number == "+51" + NUMBER
            assert (await joined).number == "+51987654322"
            assert vendor.asked == {NUMBER: 1, "987654322": 1}
            assert outcomes.stats.known == 1

    run(main())


def test_two_streams_without_a_ledger_share_numbers_in_flight() -> None:
    async def main() -> None:
        vendor = Vendor(latency=1.0)

        async def collect() -> list[Any]:
            async with client.stream(numbers(30), workers=30) as outcomes:
                return [outcome async for outcome in outcomes]

        async with client_of(vendor) as client:
            first, second = await asyncio.gather(collect(), collect())
        assert len(first) == len(second) == 30
        assert set(vendor.asked.values()) == {1}

    run(main())


def test_a_stream_that_is_left_hands_its_number_to_a_check_that_waits_for_it() -> None:
    async def main() -> None:
        vendor = Vendor(latency=1.0)
        vendor.reply = lambda national: httpx.Response(400, json={"status": "PENDING"})
        async with client_of(vendor) as client:
            async with client.stream([NUMBER]):
                await asyncio.sleep(1.5)  # it waits for its poll
                checking = asyncio.create_task(client.check(NUMBER))
                await asyncio.sleep(0)
                vendor.reply = ok
            assert (await checking).whatsapp
            assert vendor.answered[NUMBER] == 2

    run(main())


# Giving up


@pytest.mark.parametrize("kind", ["ledger", "none"])
def test_the_paid_call_of_a_caller_that_gives_up_settles_in_the_background(kind: str) -> None:
    async def main() -> None:
        vendor = Vendor(latency=1.0)
        async with client_of(vendor, ledger=Ledger() if kind == "ledger" else None) as client:
            await give_up_after(0.5, client)
            await asyncio.sleep(1)
            assert (await client.check(NUMBER)).whatsapp
            assert vendor.asked == {NUMBER: 1}

    run(main())


def test_a_caller_that_gives_up_does_not_affect_other_waiters() -> None:
    async def main() -> None:
        vendor = Vendor(latency=1.0)
        async with client_of(vendor) as client:
            patient = [asyncio.create_task(client.check(NUMBER)) for _ in range(3)]
            await give_up_after(0.5, client)
            patient[1].cancel()
            assert (await patient[0]).whatsapp
            assert (await patient[2]).whatsapp
            assert vendor.asked == {NUMBER: 1}

    run(main())


def test_closing_the_client_waits_for_the_call_of_a_caller_that_gave_up() -> None:
    async def main() -> None:
        vendor, ledger = Vendor(latency=1.0), Ledger()
        async with client_of(vendor, ledger=ledger) as client:
            await give_up_after(0.5, client)
        async with client_of(vendor, ledger=ledger) as client:
            await client.check(NUMBER)
        assert vendor.asked == {NUMBER: 1}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_caller_that_gives_up_at_the_gate_buys_nothing() -> None:
    async def main() -> None:
        vendor = Vendor()
        async with client_of(vendor, rate=0.1, burst=1, ledger=Ledger()) as client:
            await client.check(NUMBER)
            await give_up_after(1.0, client, "987654322")
            await asyncio.sleep(60)
            assert vendor.asked == {NUMBER: 1}
            assert asyncio.all_tasks() == {asyncio.current_task()} or not vendor.asked["987654322"]
            assert (await client.check("987654322")).whatsapp

    run(main())


def test_a_loop_that_shuts_down_waits_for_paid_checks() -> None:
    vendor, ledger = Vendor(latency=1.0), Ledger()
    kept: list[object] = []

    async def abandoned() -> None:
        client = client_of(vendor, ledger=ledger)
        kept.append(client)
        kept.append(asyncio.create_task(client.check(NUMBER)))
        await asyncio.sleep(0.5)

    async def again() -> None:
        async with client_of(vendor, ledger=ledger) as client:
            await client.check(NUMBER)

    run(abandoned())
    run(again())
    assert vendor.asked == {NUMBER: 1}


# Deadlines


@pytest.mark.parametrize("deadline", [0.5, timedelta(seconds=0.5)])
def test_at_the_deadline_a_call_in_flight_is_a_pending_timeout_and_settles_later(deadline: Any) -> None:
    async def main() -> None:
        vendor = Vendor(latency=1.0)
        async with client_of(vendor) as client:
            began = asyncio.get_running_loop().time()
            with pytest.raises(accucheck.PendingTimeout):
                await client.check(NUMBER, deadline=deadline)
            assert asyncio.get_running_loop().time() - began == 0.5
            await asyncio.sleep(1)
            assert (await client.check(NUMBER, deadline=0.001)).whatsapp
            assert vendor.asked == {NUMBER: 1}

    run(main())


def test_at_the_deadline_a_check_that_got_no_permit_is_rate_limited() -> None:
    async def main() -> None:
        async with client_of(Vendor(), rate=0.1, burst=1) as client:
            await client.check(NUMBER)
            with pytest.raises(accucheck.RateLimited, match="deadline"):
                await client.check("987654322", deadline=2)

    run(main())


def test_at_the_deadline_the_error_has_the_last_replys_details() -> None:
    async def main() -> None:
        vendor = Vendor()
        vendor.reply = lambda national: httpx.Response(
            403,
            headers={"Retry-After": "2"},
            json={"status": "RATE_LIMIT_EXCEEDED", "request_id": "r-1", "reason": "slow down"},
        )
        async with client_of(vendor) as client:
            with pytest.raises(
                accucheck.RateLimited, match=r"AccuAuth refused \d+ calls? for its rate limit"
            ) as caught:
                await client.check(NUMBER, deadline=9)
            error = caught.value
            assert error.calls == vendor.asked[NUMBER] > 1
            assert (error.http_status, error.request_id, error.retry_after) == (403, "r-1", 2.0)

    run(main())


def test_at_the_deadline_a_number_that_another_process_is_checking_says_so() -> None:
    async def main() -> None:
        vendor, ledger = Vendor(), Ledger()
        await ledger.claim([int(NUMBER)], Query(endpoint="advanced"))
        async with client_of(vendor, ledger=ledger) as client:
            with pytest.raises(
                accucheck.PendingTimeout, match="another process was still checking the number"
            ):
                await client.check(NUMBER, deadline=2)
        assert not vendor.asked

    run(main())


@pytest.mark.parametrize("status", ["OUT_OF_QUOTA", "UNAUTHORIZED", "NO_PERMISSION", "KEY_EXPIRED", "a bug"])
@pytest.mark.parametrize("kind", ["ledger", "none"])
def test_a_number_whose_check_ended_in_an_error_can_be_checked_again(kind: str, status: str) -> None:
    async def main() -> None:
        vendor, ledger = Vendor(), Ledger() if kind == "ledger" else None

        def refuse(national: str) -> httpx.Response:
            if status == "a bug":
                raise ZeroDivisionError
            return httpx.Response(403, json={"status": status, "reason": "no"})

        vendor.reply = refuse
        async with client_of(vendor, ledger=ledger) as client:
            with pytest.raises((accucheck.AccucheckError, ZeroDivisionError)):
                await client.check(NUMBER)
            vendor.reply = ok
            assert (await client.check(NUMBER, deadline=5)).whatsapp
            vendor.reply = refuse
            with pytest.raises((accucheck.AccucheckError, ZeroDivisionError)):
                await client.check("912345678")
            vendor.reply = ok
            async with client_of(vendor, ledger=ledger) as other, other.stream(["912345678"]) as outcomes:
                assert [outcome.check.whatsapp async for outcome in outcomes] == [True]  # type: ignore[union-attr]

    run(main())


def test_an_answer_bought_by_another_process_counts_as_known_not_as_duplicate() -> None:
    async def main() -> None:
        vendor, ledger = Vendor(), Ledger()

        async def leads() -> AsyncIterator[str]:
            for number in (NUMBER, "912345678", NUMBER, "912345678"):
                yield number
                await asyncio.sleep(1)

        async with client_of(vendor, ledger=ledger) as other, client_of(vendor, ledger=ledger) as client:
            async with client.stream(leads()) as outcomes:
                await other.check("912345678")
                seen = [outcome async for outcome in outcomes]
            stats = outcomes.stats
        assert len(seen) == 4
        assert (stats.read, stats.known, stats.duplicates, stats.yes, stats.calls) == (4, 2, 1, 1, 1)

    run(main())


def test_at_the_deadline_a_check_of_a_vendor_that_is_down_says_so() -> None:
    async def main() -> None:
        vendor = Vendor()
        vendor.down = True
        async with client_of(vendor) as client:
            with pytest.raises(accucheck.VendorUnavailable) as caught:
                while True:
                    with pytest.raises(accucheck.CheckError) as inner:
                        await client.check(NUMBER, deadline=20)
                    if isinstance(inner.value, accucheck.VendorUnavailable):
                        raise inner.value
            assert caught.value.retry_after is not None

    run(main())


@pytest.mark.parametrize("deadline", [-1, float("inf"), float("nan"), "1 s", True])
def test_an_invalid_deadline_is_refused(deadline: Any) -> None:
    async def main() -> None:
        async with client_of(Vendor()) as client:
            with pytest.raises(accucheck.ConfigurationError, match="deadline"):
                await client.check(NUMBER, deadline=deadline)

    run(main())


# Failing fast


def test_twenty_checks_of_a_vendor_that_is_down_have_all_failed_within_15_seconds() -> None:
    async def main() -> None:
        vendor = Vendor(latency=0.01)
        vendor.down = True
        async with client_of(vendor, rate="auto") as client:
            began = asyncio.get_running_loop().time()
            errors = await asyncio.gather(*map(client.check, numbers(20)), return_exceptions=True)
            assert asyncio.get_running_loop().time() - began <= 15
            assert all(
                isinstance(error, accucheck.VendorUnavailable | accucheck.TransportError) for error in errors
            )
            began = asyncio.get_running_loop().time()
            with pytest.raises(accucheck.VendorUnavailable, match="unavailable"):
                await client.check("987654322")
            assert asyncio.get_running_loop().time() - began <= 0.1
            vendor.down = False
            await asyncio.sleep(10)
            assert (await client.check("987654322")).whatsapp

    run(main())


@pytest.mark.parametrize("count", [1, 5])
def test_while_the_vendor_is_down_a_check_with_a_deadline_fails_as_soon_as_no_probe_can_help_it(
    count: int,
) -> None:
    async def main() -> None:
        vendor = Vendor(latency=0.01)
        vendor.down = True
        now = asyncio.get_running_loop().time
        async with client_of(vendor, rate="auto") as client:
            await asyncio.gather(*map(client.check, numbers(20)), return_exceptions=True)
            while True:  # until the next probe is further away than the deadline
                with pytest.raises(accucheck.VendorUnavailable) as down:
                    await client.check("987654322")
                if down.value.retry_after > 4:  # type: ignore[operator]
                    break
                await asyncio.sleep(down.value.retry_after or 1)
            began = now()
            checks = [client.check(f"98765{n:04}", deadline=3) for n in range(count)]
            errors = await asyncio.gather(*checks, return_exceptions=True)
            assert {type(error) for error in errors} == {accucheck.VendorUnavailable}
            assert now() - began <= 0.1
            await asyncio.sleep(errors[0].retry_after - 2)  # type: ignore[union-attr,operator]
            began = now()
            checks = [client.check(f"98766{n:04}", deadline=3) for n in range(count)]
            errors = await asyncio.gather(*checks, return_exceptions=True)
            assert {type(error) for error in errors} <= {
                accucheck.VendorUnavailable,
                accucheck.TransportError,
            }
            assert 1.9 <= now() - began <= 2.5  # the probe failed, and the next one is too late
            await asyncio.sleep(60)
            vendor.down = False
            assert (await client.check("987654322", deadline=30)).whatsapp

    run(main())


def test_known_answers_are_returned_even_if_the_vendor_is_down() -> None:
    async def main() -> None:
        vendor = Vendor()
        async with client_of(vendor, ledger=Ledger()) as client:
            await client.check(NUMBER)
            vendor.down = True
            await asyncio.gather(*map(client.check, numbers(20)), return_exceptions=True)
            assert (await client.check(NUMBER)).whatsapp

    run(main())


def test_a_check_during_an_outage_fails_at_once_while_a_stream_waits() -> None:
    async def main() -> None:
        vendor = Vendor()
        vendor.down = True
        async with client_of(vendor) as client, client.stream(numbers(50)):
            await asyncio.sleep(5)
            began = asyncio.get_running_loop().time()
            for number in (NUMBER, numbers(1)[0]):
                with pytest.raises(accucheck.VendorUnavailable):
                    await client.check(number)
            assert asyncio.get_running_loop().time() - began <= 0.5

    run(main())


def test_a_stream_ends_by_outage_after_with_host_and_cause() -> None:
    async def main() -> None:
        vendor = Vendor()
        vendor.down = True
        began = asyncio.get_running_loop().time()
        async with client_of(vendor) as client:
            with pytest.raises(accucheck.Outage, match="15 minutes") as caught:
                async with client.stream(numbers(500)) as outcomes:
                    async for _ in outcomes:
                        pass
        assert 900 <= asyncio.get_running_loop().time() - began <= 910
        assert caught.value.host == "cloudapi.peru.accuauth.com"
        assert "refused" in caught.value.cause
        assert caught.value.not_done > 0

    run(main())


def test_an_outage_that_ends_in_time_ends_nothing() -> None:
    async def main() -> None:
        vendor = Vendor()
        vendor.down = True
        async with client_of(vendor) as client:
            asyncio.get_running_loop().call_later(30, setattr, vendor, "down", False)
            async with client.stream(numbers(100), outage_after=timedelta(seconds=40)) as outcomes:
                assert len([outcome async for outcome in outcomes]) == 100

    run(main())


# First at the gate


def test_a_check_next_to_two_saturated_streams_waits_for_at_most_three_permits() -> None:
    async def main() -> None:
        vendor = Vendor(latency=0.01)
        async with client_of(vendor, rate=20.0, burst=1) as client:
            async with client.stream(numbers(500)), client.stream(numbers(500, 910_000_000)):
                await asyncio.sleep(5)
                for number in (NUMBER, "987654322"):
                    began = asyncio.get_running_loop().time()
                    await client.check(number)
                    assert asyncio.get_running_loop().time() - began <= 3 / 20 + 0.02

    run(main())


def test_a_check_of_a_number_that_a_stream_has_not_come_to_yet_does_not_wait_in_its_line() -> None:
    async def main() -> None:
        vendor = Vendor(latency=0.01)
        leads = numbers(100)
        async with client_of(vendor, rate=20.0, burst=1) as client, client.stream(leads) as outcomes:
            await asyncio.sleep(0.5)
            began = asyncio.get_running_loop().time()
            await client.check(leads[95])
            assert asyncio.get_running_loop().time() - began <= 3 / 20 + 0.02
            assert len([outcome async for outcome in outcomes]) == 100
            assert vendor.asked == Counter(leads)

    run(main())


# Errors and closed clients


def test_a_bug_in_a_transport_is_raised_at_once_with_its_cause() -> None:
    class Broken(httpx.AsyncBaseTransport):
        calls = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            Broken.calls += 1
            raise AssertionError("a mock's own") from KeyError("why")

    async def main() -> None:
        async with client_of(Broken()) as client:
            with pytest.raises(AssertionError, match="a mock's own") as caught:
                await client.check(NUMBER)
            assert isinstance(caught.value.__cause__, KeyError)
            with pytest.raises(AssertionError, match="a mock's own") as caught:
                async with client.stream([NUMBER]) as outcomes:
                    async for _ in outcomes:
                        pass
            assert isinstance(caught.value.__cause__, KeyError)
            assert Broken.calls == 2

    run(main())


def test_a_closed_client_raises_and_counts_no_call() -> None:
    async def main() -> None:
        vendor = Vendor()
        client = client_of(vendor)
        assert (await client.check(NUMBER)).whatsapp
        stream = client.stream([NUMBER])
        await client.aclose()
        await client.aclose()
        for use in (client.check(NUMBER), stream.__aenter__(), client.__aenter__()):
            with pytest.raises(RuntimeError, match="closed"):
                await use
        assert client.stats.calls == vendor.asked[NUMBER] == 1

    run(main())


def test_a_client_that_is_closed_under_a_stream_and_a_check_ends_both_and_loses_nothing() -> None:
    async def main() -> None:
        vendor, ledger = Vendor(latency=1.0), Ledger()
        client = client_of(vendor, ledger=ledger, rate=10.0)
        seen: list[Any] = []

        async def read() -> None:
            async with client.stream(numbers(100)) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome)

        tasks = [asyncio.create_task(read()), asyncio.create_task(client.check(NUMBER))]
        await asyncio.sleep(2.5)
        late = asyncio.create_task(client.check("987654322"))
        await asyncio.sleep(0)
        await client.aclose()
        for task in (tasks[0], late):
            with pytest.raises(RuntimeError, match="closed"):
                await task
        assert len(seen) + 1 == sum(vendor.answered.values())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_ledger_that_fails_is_reported_and_its_answers_are_stored_once_it_works_again() -> None:
    class FailingLedger(Ledger):
        broken = True

        async def settle(self, settlements: Any, **options: Any) -> None:
            if self.broken:
                raise LedgerError("the disk is full")
            await super().settle(settlements, **options)

    async def main() -> None:
        vendor, ledger = Vendor(), FailingLedger()
        async with client_of(vendor, ledger=ledger) as client:
            with pytest.raises(LedgerError, match="the disk is full; 1 answer is not stored"):
                await client.check(NUMBER)
            with pytest.raises(LedgerError, match="the disk is full"):
                await client.check("987654322")
            assert vendor.asked == {NUMBER: 1}  # without a place to keep answers, nothing is bought
            ledger.broken = False
            assert (await client.check(NUMBER)).whatsapp
            assert vendor.asked == {NUMBER: 1}

    run(main())


def test_a_stored_failure_is_not_reused_for_a_check() -> None:
    async def main() -> None:
        vendor, ledger = Vendor(), Ledger()
        failure = accucheck.InternalError("the vendor failed", number="+51" + NUMBER)
        await ledger.settle([Settlement(int(NUMBER), failure)])
        async with client_of(vendor, ledger=ledger) as client:
            assert (await client.check(NUMBER)).whatsapp

    run(main())


# Caps, counts and events


def test_max_calls_of_a_client_caps_checks_and_streams_together() -> None:
    async def main() -> None:
        vendor = Vendor()
        async with client_of(vendor, max_calls=25) as client:
            await asyncio.gather(*map(client.check, numbers(10)))
            with pytest.raises(accucheck.BudgetExhausted):
                async with client.stream(numbers(100, 910_000_000)) as outcomes:
                    async for _ in outcomes:
                        pass
            with pytest.raises(accucheck.BudgetExhausted):
                await client.check(NUMBER)
            assert sum(vendor.asked.values()) == client.stats.calls == 25
            assert client.stats.yes == 25

    run(main())


def test_events_reach_the_hook_the_streams_hook_and_every_reader() -> None:
    async def main() -> None:
        hook: list[Any] = []
        of_stream: list[Any] = []
        async with client_of(Vendor(), on_event=hook.append) as client:
            reader = client.events
            await client.check(NUMBER)
            async with client.stream(numbers(2), on_event=of_stream.append) as outcomes:
                assert len([outcome async for outcome in outcomes]) == 2
        read = [event async for event in reader]
        assert read == hook
        assert [type(event).__name__ for event in hook].count("Settled") == 3
        names = [type(event).__name__ for event in of_stream]
        assert sorted(names) == ["CallEnded"] * 2 + ["RunFinished", "RunStarted"] + ["Settled"] * 2

    run(main())


# Wrong arguments


@pytest.mark.parametrize(
    "options",
    [
        {"policy": {}},
        {"timeouts": 5},
        {"ledger": 5},
        {"ledger": ""},
        {"max_calls": 0},
        {"fresh_within": "1d"},
        {"fresh_within": timedelta(days=-1)},
        {"on_event": "print"},
        {"gate": 5},
        {"gate": accucheck.UnlimitedGate(), "rate": 5},
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_refused_on_construction(options: dict[str, Any]) -> None:
    with pytest.raises(accucheck.ConfigurationError, match=next(iter(options))):
        Client("an-id", "a-secret", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"number": "phone"},
        {"workers": 0},
        {"grace": -1},
        {"outage_after": "15m"},
        {"job": 5, "ledger": "x.db"},
        {"on_event": 5},
        {"ledger": 5},
        {"max_calls": True},
    ],
    ids=" ".join,
)
def test_wrong_arguments_of_a_stream_are_refused_before_it_is_entered(options: dict[str, Any]) -> None:
    with pytest.raises(accucheck.ConfigurationError, match=next(iter(options))):
        client_of(Vendor()).stream([NUMBER], **options)


def test_items_that_cannot_be_iterated_over_are_refused() -> None:
    with pytest.raises(accucheck.ConfigurationError, match="items"):
        client_of(Vendor()).stream(987654321)  # type: ignore[call-overload]


def test_a_check_that_ends_with_the_account_gives_its_number_back() -> None:
    async def main() -> None:
        vendor, ledger = Vendor(), Ledger()
        vendor.reply = lambda national: httpx.Response(403, json={"status": "OUT_OF_QUOTA"})
        async with client_of(vendor, ledger=ledger) as client:
            with pytest.raises(accucheck.OutOfQuota):
                await client.check(NUMBER)
            vendor.reply = ok
            (outcome,) = await client.check_many([NUMBER])  # it would wait forever
            assert isinstance(outcome, accucheck.Checked)

    run(main())
