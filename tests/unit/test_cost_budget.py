"""The cap on cost: exact to the last call, across runs, processes and kills."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import BudgetExhausted, ConfigurationError, LedgerError
from accucheck._budgets import CostBudget, spent_so_far
from accucheck._costs import Prices, spent
from accucheck._statuses import rows
from accucheck._store import MemoryStore
from tests.virtual_time import run

ROWS = {row.name: row for row in rows()}


async def opened(store: MemoryStore, max_cost: Any, prices: Prices, *, job: str = "") -> CostBudget:
    budget = await CostBudget.open(store, max_cost, prices, job=job)
    assert budget is not None
    return budget


async def reserve(budget: CostBudget) -> None:
    while not budget.take():
        await budget.wait()


async def make_calls(budget: CostBudget, reply: str = "OK", *, at_most: int = 10_000) -> int:
    """Make calls until no more may be spent; return how many."""
    for made in range(at_most):
        try:
            await reserve(budget)
        except BudgetExhausted:
            return made
        budget.sending()
        budget.settle(ROWS[reply])
    return at_most


@pytest.mark.parametrize(
    ("max_cost", "price", "calls"),
    [("0.3", "0.1", 3), (0.3, 0.1, 3), (20, 0.005, 4_000), ("0.0149", "0.005", 2), (0, 1, 0)],
)
def test_a_cap_on_cost_is_exact_to_the_call(max_cost: Any, price: Any, calls: int) -> None:
    async def main() -> tuple[int, Decimal]:
        store = MemoryStore()
        made = await make_calls(await opened(store, max_cost, Prices(price)))
        return made, await spent_so_far(store)

    assert run(main()) == (calls, calls * Decimal(str(price)))


@pytest.mark.parametrize("price", [1_000_001, "1e12"])
def test_a_price_too_large_to_count_is_refused(price: Any) -> None:
    with pytest.raises(ConfigurationError, match="a call may cost 1,000,000 at most"):
        run(CostBudget.open(MemoryStore(), None, Prices(price)))


def test_calls_without_a_price_are_not_capped() -> None:
    assert run(CostBudget.open(MemoryStore(), 0, Prices(0))) is None


def test_runs_of_a_job_share_the_cap_and_other_jobs_do_not() -> None:
    async def main() -> list[int]:
        store = MemoryStore()
        first = await opened(store, "1", Prices("0.1"), job="a")
        made = [await make_calls(first, at_most=4)]
        await first.close(lost=0)
        for job in ("a", "b"):
            made.append(await make_calls(await opened(store, "1", Prices("0.1"), job=job)))
        return made

    assert run(main()) == [4, 6, 10]


def test_money_spent_at_another_price_counts() -> None:
    async def main() -> list[Any]:
        store = MemoryStore()
        first = await opened(store, "1", Prices("0.1"))
        await make_calls(first, at_most=4)
        await first.close(lost=0)
        second = await opened(store, "1", Prices("0.25", pending="0.05"))
        return [await make_calls(second), await spent_so_far(store)]

    assert run(main()) == [2, Decimal("0.9")]


def test_runs_at_different_prices_share_the_cap_at_the_same_time() -> None:
    async def main() -> Decimal:
        store = MemoryStore()
        budgets = [await opened(store, "1", Prices(price)) for price in ("0.1", "0.25", "0.0333333333333")]
        while [await make_calls(budget, at_most=1) for budget in budgets] != [0, 0, 0]:
            pass
        return await spent_so_far(store)

    assert Decimal("0.96") < run(main()) <= 1


def test_a_run_without_a_cap_counts_for_the_next_that_has_one() -> None:
    async def main() -> list[Any]:
        store = MemoryStore()
        first = await CostBudget.open(store, None, Prices("0.2"))
        assert first is not None
        made = [await make_calls(first, at_most=30)]
        await first.close(lost=0)
        assert await spent_so_far(store) == Decimal(6)
        return [*made, await make_calls(await opened(store, "6.5", Prices("0.1")))]

    assert run(main()) == [30, 5]


def test_a_free_reply_gives_its_money_back_and_a_lost_answer_does_not() -> None:
    async def main() -> None:
        budget = await opened(MemoryStore(), "0.01", Prices("0.01"))
        for free in ("PENDING", "INVALID_ARGUMENT", "UNAVAILABLE", "NOT_SENT"):
            assert await make_calls(budget, free, at_most=3) == 3
        await reserve(budget)
        assert not budget.take()
        budget.give_back()
        assert budget.take()
        budget.give_back()
        assert await make_calls(budget, "ANSWER_LOST") == 1

    run(main())


def test_calls_wait_for_the_replies_that_may_be_free() -> None:
    async def main() -> None:
        budget = await opened(MemoryStore(), "0.01", Prices("0.01"))
        await reserve(budget)
        budget.sending()
        waiting = asyncio.create_task(reserve(budget))
        await asyncio.sleep(1)
        assert not waiting.done()
        budget.settle(ROWS["PENDING"])
        await waiting
        budget.sending()
        another = asyncio.create_task(reserve(budget))
        await asyncio.sleep(1)
        budget.settle(ROWS["ANSWER_LOST"])
        with pytest.raises(BudgetExhausted) as caught:
            await another
        assert caught.value.cap == "max_cost"

    run(main())


def test_a_failed_lease_is_reported_to_all_waiters() -> None:
    class BrokenStore(MemoryStore):
        async def lease_calls(
            self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1
        ) -> int:
            await asyncio.sleep(1)
            raise LedgerError("the disk is gone")

    async def main() -> list[object]:
        budget = await opened(BrokenStore(), 1, Prices(1))
        return await asyncio.gather(*(reserve(budget) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in run(main())] == [LedgerError] * 3


amounts = st.decimals(0, 10, places=4)


@given(amounts, amounts, amounts, amounts, st.randoms(use_true_random=False))
def test_no_order_of_calls_and_replies_takes_the_cost_over_the_cap(
    max_cost: Decimal, answer: Decimal, pending: Decimal, refused: Decimal, chance: random.Random
) -> None:
    prices = Prices(answer, pending=pending, refused=refused)
    replies: Counter[str] = Counter()
    in_flight = 0

    async def take(budget: CostBudget) -> bool:
        try:
            await asyncio.wait_for(reserve(budget), 1)
        except (BudgetExhausted, TimeoutError):
            return False
        budget.sending()
        return True

    async def main() -> None:
        nonlocal in_flight
        store = MemoryStore()
        budget = await CostBudget.open(store, max_cost, prices)
        if budget is None:
            return
        for _ in range(40):
            if chance.random() < 0.5 and in_flight < 10:
                in_flight += await take(budget)
            elif in_flight:
                in_flight -= 1
                name = chance.choice(sorted(ROWS))
                replies[name] += 1
                budget.settle(ROWS[name])
            so_far = spent(replies, prices).at_most + in_flight * prices.dearest
            assert so_far == await spent_so_far(store) <= max_cost
        while in_flight:
            in_flight -= 1
            replies["ANSWER_LOST"] += 1
            budget.settle(ROWS["ANSWER_LOST"])
        unspent = int((max_cost - spent(replies, prices).at_most) // prices.dearest)
        assert await make_calls(budget, "ANSWER_LOST", at_most=50) == min(unspent, 50)

    run(main())
