"""Money: estimates that say what they assume, and a cap that holds to the last call."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck._costs import Cost, CostCap, Prices, calls_within, forecast, spent
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


def test_without_a_sample_every_number_is_taken_to_be_answered() -> None:
    assert forecast(1_000_000, PRICES) == Cost(Decimal(5_000), Decimal(5_000))


def test_a_forecast_takes_the_rest_to_be_like_the_sample() -> None:
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


@pytest.mark.parametrize(
    ("max_cost", "price", "calls"),
    [("0.3", "0.1", 3), (0.3, 0.1, 3), (20, 0.005, 4_000), ("0.0149", "0.005", 2), (0, 1, 0), (1, 0, None)],
)
def test_a_cap_in_money_is_so_many_calls_to_the_last(max_cost: Any, price: Any, calls: int | None) -> None:
    assert calls_within(max_cost, Prices(price)) == calls
    if calls is not None:
        cap = CostCap(max_cost, Prices(price))
        assert [cap.take() for _ in range(calls + 1)] == [True] * calls + [False]


def test_what_was_spent_before_counts() -> None:
    cap = CostCap("0.3", Prices("0.1"), spent="0.1")
    assert [cap.take() for _ in range(3)] == [True, True, False]


def test_a_free_reply_gives_its_money_back_and_a_lost_answer_does_not() -> None:
    cap = CostCap("0.01", Prices("0.01"))
    for free in ("PENDING", "INVALID_ARGUMENT", "UNAVAILABLE", "NOT_SENT"):
        assert cap.take()
        assert not cap.take()
        cap.settle(ROWS[free])
    assert cap.take()
    cap.give_back()
    assert cap.take()
    cap.settle(ROWS["ANSWER_LOST"])
    assert not cap.take()


def test_calls_without_a_price_are_never_capped() -> None:
    cap = CostCap(0, Prices(0))
    assert all(cap.take() for _ in range(100))


amounts = st.decimals(0, 10, places=4)


@given(amounts, amounts, amounts, amounts, st.randoms(use_true_random=False))
def test_no_order_of_calls_and_replies_takes_the_cost_over_the_cap(
    max_cost: Decimal, answer: Decimal, pending: Decimal, refused: Decimal, chance: random.Random
) -> None:
    prices = Prices(answer, pending=pending, refused=refused)
    cap = CostCap(max_cost, prices)
    replies: Counter[str] = Counter()
    in_flight = 0
    for _ in range(60):
        if chance.random() < 0.5 and in_flight < 10:
            in_flight += cap.take()
        elif in_flight:
            in_flight -= 1
            name = chance.choice(sorted(ROWS))
            replies[name] += 1
            cap.settle(ROWS[name])
        assert spent(replies, prices).at_most + in_flight * prices.dearest <= max_cost
    while in_flight:
        in_flight -= 1
        cap.give_back()
    unspent = max_cost - spent(replies, prices).at_most
    if prices.dearest:
        left = 0
        while cap.take():
            left += 1
        assert left == int(unspent // prices.dearest)


@pytest.mark.parametrize("amount", [-1, "-0.01", "free", "", "nan", "inf", float("inf"), True, None, "1,5"])
def test_what_is_no_amount_is_refused(amount: Any) -> None:
    with pytest.raises(ConfigurationError, match="price of an answer is an amount of money"):
        Prices(amount)
