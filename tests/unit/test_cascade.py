"""endpoint="cascade": basic first, advanced for numbers on WhatsApp, and no step is paid for twice. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck import (
    AccucheckError,
    BudgetExhausted,
    Check,
    Checked,
    ConfigurationError,
    Failed,
    OutOfQuota,
    Policy,
    Prices,
    StillPending,
    UniformRefusals,
)
from accucheck._costs import spent
from accucheck._events import CallEnded, Event
from accucheck._models import Stats
from accucheck._store import Query
from tests.unit.test_checks import Ledger, client_of, numbers
from tests.virtual_time import run

PRICES = Prices("0.5", basic="0.1")
QUICK = Policy.fast()


class Vendor(httpx.AsyncBaseTransport):
    """Answers both endpoints, each number from its script first, and keeps an invoice."""

    def __init__(
        self, words: dict[tuple[str, str], list[str]] | None = None, *, latency: float = 0.1
    ) -> None:
        self.words = words or {}
        self.latency = latency
        self.asked: list[tuple[str, str]] = []
        self.charged: Counter[tuple[str, str]] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()

    def is_on(self, national: str) -> bool:
        return int(national) % 3 != 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        national = (await request.aread()).decode().removeprefix("number=")
        endpoint = request.url.path.removeprefix("/check/whatsapp_")
        call = endpoint, national
        self.asked.append(call)
        await asyncio.sleep(self.latency)
        words = self.words.get(call) or self.words.get((endpoint, "*"))
        word = "answer" if not words else words.pop(0) if call in self.words else words[0]
        match word:
            case "answer" | "lost":
                self.charged[call] += 1
                if word == "lost":
                    self.lost[call] += 1
                    raise httpx.ReadError("reset")
                return self.ok(endpoint, national)
            case "INTERNAL_ERROR" | "OUT_OF_QUOTA" | "RATE_LIMIT_EXCEEDED":
                code = {"INTERNAL_ERROR": 500}.get(word, 403)
                return httpx.Response(code, json={"status": word})
            case "checking" | "unavailable":
                result = {"number": national, "whatsapp": word}
                return httpx.Response(200, json={"status": "OK", "result": result})
            case _:
                return httpx.Response(400, json={"status": word, "reason": "why"})

    def ok(self, endpoint: str, national: str) -> httpx.Response:
        result = {"number": "+51" + national, "whatsapp": "yes" if self.is_on(national) else "no"}
        if endpoint == "advanced":
            result |= {"signature": "Hello", "avatar": "yes"}
        return httpx.Response(200, json={"status": "OK", "result": result, "request_id": endpoint})

    @property
    def invoice(self) -> Decimal:
        prices = {"basic": Decimal("0.1"), "advanced": Decimal("0.5")}
        return sum((prices[endpoint] * count for (endpoint, _), count in self.charged.items()), Decimal(0))

    def asked_at(self, endpoint: str) -> set[str]:
        return {national for at, national in self.asked if at == endpoint}


def cost(stats: Stats) -> Any:
    return spent(stats.replies, PRICES, basic_replies=stats.basic_replies)


async def checked(
    vendor: Vendor, leads: list[str], *, ledger: Any = None, **options: Any
) -> tuple[list[Any], Stats]:
    async with client_of(vendor, endpoint="cascade", ledger=ledger, policy=QUICK) as client:
        outcomes = await client.check_many(leads, **options)
        return outcomes, client.stats


@pytest.mark.parametrize("ledger", [None, Ledger])
def test_only_numbers_on_whatsapp_are_asked_twice(ledger: Any) -> None:
    vendor, leads = Vendor(), numbers(300)
    outcomes, stats = run(checked(vendor, leads, ledger=ledger and ledger()))
    on = {lead for lead in leads if vendor.is_on(lead)}
    assert vendor.asked_at("basic") == set(leads)
    assert vendor.asked_at("advanced") == on
    assert set(vendor.charged.values()) == {1}
    for outcome in outcomes:
        assert isinstance(outcome, Checked)
        assert outcome.check.whatsapp == (outcome.item in on)
        assert outcome.check.signature == ("Hello" if outcome.item in on else None)
        assert outcome.calls == (2 if outcome.item in on else 1)
    assert (stats.yes, stats.no, stats.calls) == (200, 100, 500)
    assert stats.replies == {"OK": 500}
    assert stats.basic_replies == {"OK": 300}
    assert cost(stats).likely == vendor.invoice == Decimal(130)


def test_both_answers_are_kept_each_under_its_endpoint() -> None:
    vendor, ledger, leads = Vendor(), Ledger(), numbers(3)

    async def main() -> None:
        await checked(vendor, leads, ledger=ledger)
        ids = [int(lead) for lead in leads]
        basic = await ledger.find(ids, Query(endpoint="basic"))
        assert set(basic) == set(ids)
        asked = len(vendor.asked)
        for endpoint in ("cascade", "basic", "advanced"):
            async with client_of(vendor, endpoint=endpoint, ledger=ledger) as client:
                again = await client.check_many(leads)
                assert all(isinstance(outcome, Checked) for outcome in again)
                assert (client.stats.known, client.stats.calls) == (3, 0)
                assert {await client.check(lead) for lead in leads} == {
                    one.check for one in again if isinstance(one, Checked)
                }
        assert len(vendor.asked) == asked

    run(main())


@pytest.mark.parametrize("first", ["basic", "advanced"])
def test_answers_of_one_endpoint_are_not_bought_again_by_a_cascade(first: str) -> None:
    vendor, ledger, leads = Vendor(), Ledger(), numbers(30)

    async def main() -> None:
        async with client_of(vendor, endpoint=first, ledger=ledger) as client:
            await client.check_many(leads)
        outcomes, stats = await checked(vendor, leads, ledger=ledger)
        assert all(isinstance(outcome, Checked) for outcome in outcomes)
        assert set(vendor.charged.values()) == {1}
        assert stats.calls == (20 if first == "basic" else 0)
        assert {outcome.check.signature for outcome in outcomes if outcome.check.whatsapp} == {"Hello"}

    run(main())


def test_a_single_check_takes_both_steps_once_for_any_number_of_callers() -> None:
    vendor = Vendor()

    async def main() -> None:
        async with client_of(vendor, endpoint="cascade", ledger=Ledger()) as client:
            found = await asyncio.gather(*(client.check("900000001") for _ in range(20)))
            assert {one.signature for one in found} == {"Hello"}
            assert not (await client.check("900000000")).whatsapp
            assert (client.stats.calls, client.stats.yes, client.stats.no) == (3, 1, 1)
        assert vendor.asked == [("basic", "900000001"), ("advanced", "900000001"), ("basic", "900000000")]

    run(main())


def test_if_only_the_details_fail_the_first_steps_answer_counts() -> None:
    vendor, ledger = Vendor({("advanced", "900000001"): ["unavailable"]}), Ledger()

    async def main() -> None:
        for asks in (2, 2, 3):  # the failure is kept, then retried
            outcomes, stats = await checked(vendor, ["900000001"], ledger=ledger, retry_failed=asks == 3)
            (outcome,) = outcomes
            assert isinstance(outcome, Checked)
            assert outcome.check.whatsapp
            assert outcome.check.signature == (None if asks == 2 else "Hello")
            assert len(vendor.asked) == asks
            assert (stats.failed, stats.yes + stats.known) == (0, 1)

    run(main())


@pytest.mark.parametrize("ledger", [None, Ledger])
def test_an_end_at_the_second_step_loses_no_answer_of_the_first(ledger: Any) -> None:
    vendor = Vendor({("advanced", "*"): ["OUT_OF_QUOTA"]}, latency=0.5)
    leads = numbers(60)

    async def main() -> None:
        with pytest.raises(OutOfQuota) as caught:
            await checked(vendor, leads, ledger=ledger and ledger(), workers=5)
        outcomes = caught.value.outcomes
        assert {"+51" + lead for _, lead in vendor.charged} == {one.check.number for one in outcomes}
        assert all(one.check.whatsapp == vendor.is_on(one.item) for one in outcomes)

    run(main())


def test_at_the_deadline_a_cascade_returns_the_first_steps_answer() -> None:
    vendor = Vendor({("advanced", "900000001"): ["PENDING"] * 1_000})

    async def main() -> Check:
        async with client_of(vendor, endpoint="cascade") as client:
            check = await client.check("900000001", deadline=5)
            await asyncio.sleep(1)
            assert (client.stats.read, client.stats.unsettled, client.stats.failed) == (1, 0, 0)
            return check

    assert run(main()).whatsapp


def test_pending_later_collects_both_steps() -> None:
    words = {(endpoint, lead): ["PENDING"] for endpoint in ("basic", "advanced") for lead in numbers(40)}
    vendor, ledger = Vendor(words), Ledger()

    async def main() -> None:
        async with client_of(vendor, endpoint="cascade", ledger=ledger) as client:
            outcomes = await client.check_many(numbers(40), pending="later")
            assert all(isinstance(outcome, Checked) for outcome in outcomes)
            assert client.stats.pending_now == 0
        assert set(vendor.charged.values()) == {1}

    run(main())


def test_numbers_pending_at_the_second_step_are_collected_by_the_next_run() -> None:
    words = {("advanced", lead): ["PENDING"] * 3 for lead in numbers(9)}
    vendor, ledger, leads = Vendor(words), Ledger(), numbers(9)

    async def main() -> None:
        async with client_of(vendor, endpoint="cascade", ledger=ledger) as client:
            async with client.stream(leads, pending="later") as outcomes:
                asyncio.get_running_loop().call_later(5, outcomes.stop)
                first = [outcome async for outcome in outcomes]
            assert all(isinstance(outcome, Checked) for outcome in first)
            assert len(first) == 9
            kept = await ledger.find([int(lead) for lead in leads], Query(endpoint="cascade"))
            assert sum(isinstance(one.result, StillPending) for one in kept.values()) == 6
            second: list[Any] = await client.check_many(leads, pending="later")
            assert {one.check.signature for one in second if one.check.whatsapp} == {"Hello"}
        assert set(vendor.charged.values()) == {1}

    run(main())


def test_uniform_refusals_of_one_endpoint_end_the_run() -> None:
    vendor = Vendor({("advanced", "*"): ["INVALID_ARGUMENT"]})

    async def main() -> None:
        with pytest.raises(UniformRefusals):
            await checked(vendor, numbers(1_000), workers=5, ledger=Ledger())
        assert sum(endpoint == "advanced" for endpoint, _ in vendor.asked) <= 30

    run(main())


def test_a_cap_on_the_cost_counts_both_prices() -> None:
    vendor, ledger = Vendor(), Ledger()

    async def main() -> None:
        for most in ("7.3", "20"):
            with pytest.raises(BudgetExhausted):
                await checked(vendor, numbers(300), ledger=ledger, max_cost=most, prices=PRICES)
            assert Decimal(most) - Decimal("0.5") < vendor.invoice <= Decimal(most)
        await checked(vendor, numbers(300), ledger=ledger, max_cost=1_000, prices=PRICES)
        assert set(vendor.charged.values()) == {1}

    run(main())


@pytest.mark.parametrize(
    ("endpoint", "prices"), [("cascade", Prices(1)), ("basic", PRICES), ("advanced", PRICES)]
)
def test_prices_must_be_those_of_the_endpoints(endpoint: str, prices: Prices) -> None:
    with pytest.raises(ConfigurationError, match="a cascade has two prices"):
        client_of(Vendor(), endpoint=endpoint).stream([], max_cost=1, prices=prices)


def test_events_say_which_endpoint_was_called() -> None:
    seen: list[Event] = []

    async def main() -> None:
        async with client_of(Vendor(), endpoint="cascade", on_event=seen.append) as client:
            await client.check_many(["900000001"])

    run(main())
    assert [event.endpoint for event in seen if isinstance(event, CallEnded)] == ["basic", "advanced"]


WORDS = [
    *("answer", "answer", "PENDING", "checking", "INTERNAL_ERROR", "RATE_LIMIT_EXCEEDED"),
    *("lost", "unavailable", "NOT_HIT", "NEW", "INVALID_ARGUMENT", "OUT_OF_QUOTA"),
]
LEADS = numbers(6)
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["stream", "checks", "both"]),
        st.lists(st.sampled_from(LEADS), min_size=1, max_size=9),
        st.integers(0, 9),  # outcomes until the block is left
        st.sampled_from(["wait", "later"]),
        st.sampled_from([None, 3, 12]),  # max_calls
    ),
    min_size=1,
    max_size=4,
)


@given(
    words=st.dictionaries(
        st.tuples(st.sampled_from(["basic", "advanced"]), st.sampled_from(LEADS)),
        st.lists(st.sampled_from(WORDS), max_size=4),
    ),
    runs=RUNS,
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_each_step_is_paid_for_once_and_the_cost_matches_the_invoice(
    words: dict[tuple[str, str], list[str]], runs: list[Any], seed: int
) -> None:
    vendor, ledger = Vendor(words), Ledger()
    chance = random.Random(seed)
    told = Decimal(0)

    async def one_run(kind: str, leads: list[str], take: int, pending: Any, max_calls: int | None) -> Stats:
        async with client_of(vendor, endpoint="cascade", ledger=ledger, policy=QUICK) as client:

            async def stream() -> None:
                try:
                    async with client.stream(
                        leads,
                        workers=3,
                        keep_going=True,
                        pending=pending,
                        max_calls=max_calls,
                        grace=60,
                        retry_failed=chance.random() < 0.5,
                        job=str(chance.random()),
                    ) as outcomes:
                        async for _ in outcomes:
                            if outcomes.stats.delivered > take:
                                break
                except AccucheckError:
                    pass

            work: list[Any] = [] if kind == "checks" else [stream()]
            work += [] if kind == "stream" else [client.check(lead, deadline=30) for lead in leads]
            for found in await asyncio.gather(*work, return_exceptions=True):
                assert found is None or isinstance(found, Check | AccucheckError)
            await client.aclose()
            return client.stats

    async def main() -> None:
        nonlocal told
        for each in runs:
            stats = await one_run(*each)
            told += cost(stats).likely
            assert stats.read == stats.rejected + stats.duplicates + stats.known + stats.yes + stats.no + (
                stats.failed + stats.unsettled
            )

    run(main())
    for call, count in vendor.charged.items():
        assert count <= 1 + vendor.lost[call], call
    prices = {"basic": Decimal("0.1"), "advanced": Decimal("0.5")}
    lost = sum((prices[at] * count for (at, _), count in vendor.lost.items()), Decimal(0))
    assert told + lost == vendor.invoice
    assert not {lead for at, lead in vendor.charged if at == "advanced" and not vendor.is_on(lead)}
    assert all(("basic", lead) in vendor.charged for at, lead in vendor.asked if at == "advanced")


def test_the_same_list_as_one_endpoint_and_as_a_cascade_says_the_same() -> None:
    async def main() -> None:
        async with client_of(Vendor(), endpoint="advanced") as client:
            one = await client.check_many(numbers(50))
        outcomes, _ = await checked(Vendor(), numbers(50))
        assert [
            (o.item, o.check.whatsapp, o.check.signature) for o in outcomes if isinstance(o, Checked)
        ] == [
            (o.item, o.check.whatsapp, o.check.signature if o.check.whatsapp else None)
            for o in one
            if isinstance(o, Checked)
        ]
        assert not any(isinstance(o, Failed) for o in outcomes)

    run(main())


def test_an_old_answer_of_the_first_step_is_asked_again() -> None:
    vendor, ledger = Vendor(), Ledger()

    async def main() -> None:
        await checked(vendor, numbers(3), ledger=ledger)
        await checked(vendor, numbers(3), ledger=ledger, fresh_within=timedelta(0))
        assert set(vendor.charged.values()) == {2}

    run(main())
