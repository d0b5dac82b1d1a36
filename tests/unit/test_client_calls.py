"""What a caller can set for one check or one stream: keys, limits, ledgers; and clear errors for wrong input."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import pandas
import polars
import pyarrow
import pytest

import accucheck
from accucheck import CallEnded, Checked, Client, Failed, Policy, RunFinished, RunStarted, Settled
from tests.unit.test_checks import Ledger, Vendor, client_of, numbers
from tests.virtual_time import run

NUMBER = "987654321"
REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


class Watching(Vendor):
    """Records the context in which each number was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.contexts: dict[str, str] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        national = (await request.aread()).decode().removeprefix("number=")
        self.contexts[national] = REQUEST.get()
        return await super().handle_async_request(request)


# The base URL


@pytest.mark.parametrize(
    ("given", "in_environment", "called"),
    [
        (None, None, "https://cloudapi.peru.accuauth.com"),
        (None, "", "https://cloudapi.peru.accuauth.com"),
        (None, "http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("https://example.com", "http://127.0.0.1:8000", "https://example.com"),
    ],
)
def test_the_url_is_the_argument_or_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: str | None, in_environment: str | None, called: str
) -> None:
    if in_environment is not None:
        monkeypatch.setenv("ACCUCHECK_BASE_URL", in_environment)
    assert repr(client_of(Vendor(), base_url=given)) == f"<accucheck.Client {called} advanced>"


def test_a_url_in_the_environment_is_checked_like_one_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCUCHECK_BASE_URL", "http://example.com")
    with pytest.raises(accucheck.ConfigurationError, match="must be https"):
        client_of(Vendor())


# Correlation


def test_every_event_of_an_item_carries_its_place_its_key_and_its_run() -> None:
    heard: list[Any] = []

    async def main() -> tuple[str, str]:
        rows = [{"id": f"row-{n}", "phone": phone} for n, phone in enumerate(numbers(5))]
        async with client_of(Vendor(), on_event=heard.append) as client:
            ids = []
            for part in (rows[:3], rows[3:]):
                stream = client.stream(part, number=lambda row: row["phone"], key=lambda row: row["id"])
                async with stream as outcomes:
                    async for _ in outcomes:
                        pass
                ids.append(outcomes.run_id)
        return ids[0], ids[1]

    first, second = run(main())
    assert first != second
    for kind in (CallEnded, Settled):
        told = sorted((e.run_id == second, e.index, e.key) for e in heard if isinstance(e, kind))
        assert told == [
            (False, 0, "row-0"),
            (False, 1, "row-1"),
            (False, 2, "row-2"),
            (True, 0, "row-3"),
            (True, 1, "row-4"),
        ]
    began = [event.run_id for event in heard if isinstance(event, RunStarted)]
    ended = [
        (event.run_id, event.status, event.stats.yes) for event in heard if isinstance(event, RunFinished)
    ]
    assert began == [first, second]
    assert ended == [(first, "OK", 3), (second, "OK", 2)]


def test_the_events_of_a_check_carry_its_key_and_every_call_its_number() -> None:
    heard: list[Any] = []
    vendor = Vendor()
    replies = iter([{"status": "PENDING"}, {"status": "INTERNAL_ERROR"}])

    def reply(national: str) -> httpx.Response:
        return httpx.Response(
            400, json=next(replies, {"status": "OK", "result": {"number": national, "whatsapp": "no"}})
        )

    vendor.reply = reply

    async def main() -> None:
        async with client_of(vendor, on_event=heard.append, policy=Policy.fast()) as client:
            await client.check(NUMBER, key="request-7")

    run(main())
    calls = [event for event in heard if isinstance(event, CallEnded)]
    assert [(e.call, e.kind, e.reply, e.http_status) for e in calls] == [
        (1, "first", "PENDING", 400),
        (2, "poll", "INTERNAL_ERROR", 400),
        (3, "retry", "OK", 400),
    ]
    assert {(event.key, event.index, event.run_id) for event in calls} == {("request-7", None, "")}
    assert heard[-1] == Settled("OK", 3, False, None, "request-7")


def test_a_run_that_ends_early_says_how(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    def key(item: str) -> str:
        raise ValueError("mine")

    async def main() -> None:
        async with client_of(Vendor(), on_event=heard.append) as client:
            with pytest.raises(accucheck.BudgetExhausted):
                await client.check_many(numbers(5), max_calls=2, key=key)

    run(main())
    assert heard[-1].status == "BUDGET_EXHAUSTED"
    assert {event.key for event in heard if isinstance(event, CallEnded)} == {None}
    assert sum("key raised" in record.message for record in caplog.records) == 1


def test_a_call_runs_in_the_context_of_its_own_check_or_of_the_run_never_in_that_of_another_item() -> None:
    vendor = Watching()

    async def leads() -> AsyncIterator[str]:
        for phone in numbers(30):
            REQUEST.set(phone)
            yield phone
            await asyncio.sleep(0.01)

    async def request(client: Client, phone: str) -> None:
        REQUEST.set(phone)
        await client.check(phone)

    async def main() -> None:
        REQUEST.set("the run")
        async with client_of(vendor) as client:
            async with client.stream(leads(), workers=3) as outcomes:
                async for _ in outcomes:
                    pass
            assert set(vendor.contexts.values()) == {"the run"}
            checked = numbers(10, 910_000_000)
            await asyncio.gather(*(request(client, phone) for phone in checked))
            assert {phone: vendor.contexts[phone] for phone in checked} == {phone: phone for phone in checked}

    run(main())


# check_many


def test_many_are_checked_and_returned_in_order() -> None:
    async def main() -> list[accucheck.Outcome[dict[str, str]]]:
        rows = [{"phone": phone} for phone in [*numbers(20), "nonsense", numbers(1)[0]]]
        async with client_of(Vendor()) as client:
            found = await client.check_many(rows, number=lambda row: row["phone"])
            assert [outcome.item for outcome in found] == rows
            return found

    found = run(main())
    assert [isinstance(outcome, Checked) for outcome in found] == [True] * 20 + [False, True]


def test_the_outcomes_before_the_end_of_a_run_are_with_its_error() -> None:
    async def main() -> None:
        async with client_of(Vendor()) as client:
            with pytest.raises(accucheck.BudgetExhausted) as caught:
                await client.check_many(numbers(9), max_calls=4, workers=2)
            assert [outcome.index for outcome in caught.value.outcomes] == [0, 1, 2, 3]
            assert "outcomes" not in caught.value.to_dict()

    run(main())


def test_the_options_that_are_handed_on_are_those_of_client_and_stream() -> None:
    options = set(inspect.signature(Client.stream).parameters) - {"self", "items", "number"}
    assert set(accucheck.StreamOptions.__annotations__) == options
    options = set(inspect.signature(Client).parameters) - {"api_id", "api_secret"}
    assert set(accucheck.ClientOptions.__annotations__) == options


# Limits and ledgers of one check


@pytest.mark.parametrize("timeout", [2, accucheck.Timeouts(attempt=2)])
def test_a_check_may_have_its_own_timeout(timeout: Any) -> None:
    async def main() -> None:
        vendor = Vendor(latency=5)
        async with client_of(vendor, policy=Policy(on_lost_answer="fail")) as client:
            with pytest.raises(accucheck.TransportError):
                await client.check(NUMBER, timeout=timeout)
            assert (await client.check("912345678")).whatsapp
            seen = asyncio.get_running_loop().time()
            with pytest.raises(accucheck.TransportError) as caught:
                await client.check("912345679", timeout=timeout)
            assert asyncio.get_running_loop().time() - seen == pytest.approx(2)
            assert caught.value.possibly_double_charged == 1

    run(main())


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), "5", True])
def test_an_invalid_timeout_is_refused(timeout: Any) -> None:
    async def main() -> None:
        async with client_of(Vendor()) as client:
            with pytest.raises(accucheck.ConfigurationError, match="positive number of seconds"):
                await client.check(NUMBER, timeout=timeout)

    run(main())


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_a_known_number_counts_as_known_in_every_row(apart: float) -> None:
    async def leads() -> AsyncIterator[str]:
        for number in [NUMBER, "912345678"] * 3:
            yield number
            await asyncio.sleep(apart)

    async def main() -> list[accucheck.Stats]:
        vendor, ledger, both = Vendor(), Ledger(), []
        for _ in range(2):
            async with client_of(vendor, ledger=ledger) as client, client.stream(leads()) as outcomes:
                async for _ in outcomes:
                    pass
                both.append(outcomes.stats)
            await asyncio.sleep(1)
        return both

    first, second = run(main())
    assert (first.known, first.duplicates, first.yes + first.no) == (0, 4, 2)
    assert (second.known, second.duplicates, second.calls) == (6, 0, 0)


def test_a_check_may_have_its_own_ledger() -> None:
    async def main() -> None:
        vendor = Vendor()
        one, other = Ledger(), Ledger()
        async with client_of(vendor, ledger=one) as client:
            for _ in range(3):
                await client.check(NUMBER)
                await client.check(NUMBER, ledger=other)
                await client.check(NUMBER, ledger=one)
            assert vendor.asked[NUMBER] == 2
            assert (client.stats.calls, client.stats.known, client.stats.read) == (2, 7, 9)
        async with client_of(vendor) as client:
            await client.check(NUMBER, ledger=other)
            await client.check(NUMBER)
            assert vendor.asked[NUMBER] == 3

    run(main())


def test_a_ledger_that_cannot_be_opened_is_tried_again_by_the_next_check(tmp_path: Any) -> None:
    async def main() -> None:
        async with client_of(Vendor()) as client:
            for _ in range(2):
                with pytest.raises(accucheck.LedgerError):
                    await client.check(NUMBER, ledger=tmp_path / "missing" / "x.db")
            assert (await client.check(NUMBER)).whatsapp
            with pytest.raises(accucheck.ConfigurationError):
                await client.check(NUMBER, ledger=5)  # type: ignore[arg-type]

    asyncio.run(main())


# Errors


def test_no_two_rows_share_an_error() -> None:
    vendor = Vendor()
    vendor.reply = lambda national: httpx.Response(400, json={"status": "INVALID_ARGUMENT"})

    async def main() -> None:
        async with client_of(vendor) as client:
            rows = [NUMBER, NUMBER, "+51 987 654 321"]
            one, other = await asyncio.gather(client.check_many(rows), client.check_many(rows))
            errors = [outcome.error for outcome in one + other if isinstance(outcome, Failed)]
            assert len(errors) == 6
            assert max(Counter(map(id, errors)).values()) == 1
            assert len(set(errors)) == 1

    run(main())


# Input that cannot be numbers


@dataclass
class Record:
    phone: str


class Row(NamedTuple):
    phone: str
    name: str


async def asynchronous(row: dict[str, str]) -> str:
    return row["phone"]


class Asynchronous:
    async def __call__(self, row: dict[str, str]) -> str:
        return row["phone"]


def rows() -> Iterator[str]:
    yield NUMBER


async def coroutine() -> list[str]:
    return [NUMBER]


LEADS = [{"name": "Ana", "Teléfono": NUMBER}]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (LEADS, r"the items are dict objects: say which .* number=lambda row: row\['Teléfono'\]"),
        ([Record(NUMBER)], "Record objects, not numbers: pass number="),
        ([Row(NUMBER, "Ana")], "Row objects, not numbers: pass number="),
        ([[NUMBER, "Ana"]], "list objects, not numbers: pass number="),
        (pandas.DataFrame({"phone": [NUMBER]}), r"items is a whole DataFrame: .* accucheck\.frames\.enrich"),
        (polars.DataFrame({"phone": [NUMBER]}), "items is a whole DataFrame"),
        (pyarrow.table({"phone": [NUMBER]}), "items is a whole Table"),
        (rows, "items is a function: call it"),
        (coroutine, "items is a function: call it"),
        (5, "items must be an iterable"),
        (NUMBER, "items must be a collection"),
    ],
)
def test_items_that_are_not_numbers_are_refused_with_advice(items: Any, message: str) -> None:
    async def main() -> None:
        vendor = Vendor()
        async with client_of(vendor) as client:
            with pytest.raises(accucheck.ConfigurationError, match=message):
                await client.check_many(items)
        assert not vendor.calls

    run(main())


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("phone", r"number=lambda row: row\['phone'\]"),
        (asynchronous, "must not be an async function"),
        (Asynchronous(), "must not be an async function"),
        (lambda row: asynchronous(row), "number= returned coroutines"),
        (lambda row: row, "number= returned dict objects|the items are dict objects"),
        (5, "number must be a function"),
    ],
)
def test_a_number_function_that_gives_no_number_is_refused(number: Any, message: str) -> None:
    async def main() -> None:
        async with client_of(Vendor()) as client:
            with pytest.raises(accucheck.ConfigurationError, match=message):
                await client.check_many([{"phone": NUMBER}], number=number)

    run(main())


def test_a_column_of_a_frame_is_many_numbers() -> None:
    async def main() -> None:
        async with client_of(Vendor()) as client:
            for column in (
                pandas.Series([987_654_321, None]),
                polars.Series([987_654_321, None]),
                pandas.Series([NUMBER, pandas.NA], dtype="string"),
            ):
                found = await client.check_many(column)
                assert [isinstance(outcome, Checked) for outcome in found] == [True, False]

    run(main())
