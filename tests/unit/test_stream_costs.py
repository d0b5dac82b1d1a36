"""max_cost in the engine: exact to the last call that may be charged, across the runs of a job."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck import BudgetExhausted, Checked, Prices, Stream
from accucheck._costs import spent
from accucheck._wire import Broken, Reply, StatusReply
from tests.unit.test_stream import Vendor, answered, make_stream, numbers, pending
from tests.virtual_time import run

PRICES = Prices("0.1")


async def collect(stream: Stream[Any]) -> tuple[list[Any], BudgetExhausted | None]:
    outcomes: list[Any] = []
    try:
        async with stream:
            async for outcome in stream:
                outcomes.append(outcome)
    except BudgetExhausted as error:
        return outcomes, error
    return outcomes, None


@pytest.mark.parametrize("workers", [1, 7, 50])
def test_a_run_spends_its_money_to_the_last_call_and_no_more(workers: int) -> None:
    vendor = Vendor()
    stream = make_stream(numbers(200), vendor, workers=workers, cost=("10.05", PRICES))
    outcomes, error = run(collect(stream))
    assert error is not None
    assert "raise max_cost" in error.reason
    assert len(outcomes) == vendor.asked.total() == 100
    assert stream.stats.replies == {"OK": 100}


@pytest.mark.parametrize("workers", [1, 7, 50])
def test_free_replies_leave_the_money_for_answers(workers: int) -> None:
    vendor = Vendor(lambda national, times: pending() if times == 1 else answered(national))
    stream = make_stream(numbers(100), vendor, workers=workers, cost=(10, PRICES))
    outcomes, error = run(collect(stream))
    assert error is None
    assert len(outcomes) == 100
    assert stream.stats.replies == {"OK": 100, "PENDING": 100}


def test_a_lost_answer_counts_as_charged() -> None:
    lost = Broken("read", "reset", sent=True)
    vendor = Vendor(lambda national, times: lost if times == 1 else answered(national))
    stream = make_stream(numbers(100), vendor, workers=5, cost=(10, PRICES))
    outcomes, error = run(collect(stream))
    assert error is not None
    assert vendor.asked.total() == 100
    assert len(outcomes) <= 50


replies = st.sampled_from(
    ["OK", "PENDING", "INVALID_ARGUMENT", "INTERNAL_ERROR", "QUERY_FAILED", "lost", "not sent", "NEW"]
)


@given(st.lists(replies, min_size=1, max_size=30), st.integers(0, 60), st.integers(1, 20))
@settings(max_examples=40)
def test_the_cap_always_holds(script: list[str], calls: int, workers: int) -> None:
    def reply(national: str, times: int) -> Reply:
        word = script[(int(national) + 7 * times) % len(script)]
        match word:
            case "OK":
                return answered(national)
            case "lost":
                return Broken("read", "reset", sent=True)
            case "not sent":
                return Broken("connect", "refused", sent=False)
            case _:
                return StatusReply(word, 400)

    prices = Prices("0.1", pending="0.01", refused="0.002")
    most = Decimal("0.1") * calls + Decimal("0.05")
    vendor = Vendor(reply)
    stream = make_stream(numbers(40), vendor, workers=workers, cost=(most, prices))
    outcomes, error = run(collect(stream))
    assert spent(stream.stats.replies, prices).at_most <= most
    assert sum(stream.stats.replies.values()) == vendor.asked.total()
    if error is None:
        assert len(outcomes) == 40
    assert sum(isinstance(outcome, Checked) for outcome in outcomes) <= calls
