"""Money: estimates that state their assumptions, and a cap that is exact to the call."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck._costs import Cost, Prices, forecast, spent
from accucheck._errors import ConfigurationError
from accucheck._statuses import rows

PRICES = Prices("0.005", pending="0.001", refused="0.0002")
ROWS = {row.name: row for row in rows()}


@pytest.mark.parametrize(
    ("replies", "likely", "at_most"),
    [
        ({}, "0", "0"),
        ({"OK": 1_000}, "5", "5"),
        ({"OK": 10, "PENDING": 3, "CHECKING": 2}, "0.055", "0.055"),
        ({"OK": 1, "INVALID_ARGUMENT": 2, "RATE_LIMIT_EXCEEDED": 1, "NOT_HIT": 1}, "0.0058", "0.0058"),
        ({"OK": 1, "UNAVAILABLE": 1}, "0.0052", "0.0052"),
        ({"OK": 1, "ANSWER_LOST": 2, "GATEWAY": 1, "BAD_RESULT": 1, "UNKNOWN": 1}, "0.005", "0.03"),
        ({"NOT_SENT": 1_000}, "0", "0"),
    ],
)
def test_calls_cost_what_the_status_table_says(replies: dict[str, int], likely: str, at_most: str) -> None:
    assert spent(replies, PRICES) == Cost(Decimal(likely), Decimal(at_most))


def test_only_answers_cost_anything_unless_told_otherwise() -> None:
    replies = dict.fromkeys(ROWS, 1)
    assert spent(replies, Prices("0.005")).likely == Decimal("0.005")


def test_every_row_has_a_price() -> None:
    for name in ROWS:
        cost = spent({name: 1}, PRICES)
        assert 0 <= cost.likely <= cost.at_most <= PRICES.dearest


def test_without_a_sample_every_number_is_assumed_to_be_answered() -> None:
    assert forecast(1_000_000, PRICES) == Cost(Decimal(5_000), Decimal(5_000))


def test_a_forecast_assumes_that_the_rest_is_like_the_sample() -> None:
    replies = {"OK": 80, "INVALID_ARGUMENT": 20, "PENDING": 50, "ANSWER_LOST": 1}
    cost = forecast(10_000, PRICES, sampled=100, replies=replies)
    assert cost.likely == Decimal(100) * (80 * PRICES.answer + 20 * PRICES.refused + 50 * PRICES.pending)
    assert cost.at_most == 10_000 * PRICES.answer + 100 * (
        20 * PRICES.refused + 50 * PRICES.pending + PRICES.answer
    )


@given(
    st.dictionaries(st.sampled_from(sorted(ROWS)), st.integers(0, 1_000)),
    st.integers(1, 1_000),
    st.integers(0, 10**7),
)
def test_a_forecast_is_never_likely_to_cost_more_than_at_most(
    replies: dict[str, int], more: int, numbers: int
) -> None:
    sampled = replies.get("OK", 0) + more
    cost = forecast(numbers, PRICES, sampled=sampled, replies=replies)
    assert 0 <= cost.likely <= cost.at_most


@pytest.mark.parametrize("amount", [-1, "-0.01", "free", "", "nan", "inf", float("inf"), True, None, "1,5"])
def test_an_invalid_amount_is_refused(amount: Any) -> None:
    with pytest.raises(ConfigurationError, match="price of an answer must be an amount of money"):
        Prices(amount)
