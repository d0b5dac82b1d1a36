"""The caps on calls: exact however many take at once, and nothing leased is forgotten."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import BudgetExhausted, LedgerError
from accucheck._attempt import CallBudget, CallCap
from accucheck._store import MemoryStore
from tests.virtual_time import run


class SlowStore(MemoryStore):
    """A lease takes a second."""

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "") -> int:
        await asyncio.sleep(1)
        return await super().lease_calls(wanted, max_calls=max_calls, job=job)


async def take_all(budget: CallBudget, *, workers: int, nap: float) -> int:
    made = 0

    async def work() -> None:
        nonlocal made
        while True:
            if not budget.take():
                try:
                    await budget.reserve()
                except BudgetExhausted:
                    return
            budget.sending()
            made += 1
            await asyncio.sleep(nap)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(work())
    return made


@given(max_calls=st.integers(1, 3_000), workers=st.integers(1, 20), nap=st.floats(0, 1))
def test_a_budget_is_exact_however_many_take_at_once(max_calls: int, workers: int, nap: float) -> None:
    async def main() -> tuple[int, int]:
        store = SlowStore()
        budget = CallBudget(store, job="a list", max_calls=max_calls)
        made = await take_all(budget, workers=workers, nap=nap)
        return made, await store.calls_made("a list")

    assert run(main()) == (max_calls, max_calls)


@given(max_calls=st.integers(1, 300))
def test_runs_of_one_job_share_its_cap(max_calls: int) -> None:
    async def main() -> int:
        store = SlowStore()
        budgets = [CallBudget(store, max_calls=max_calls) for _ in range(3)]
        return sum(await asyncio.gather(*(take_all(budget, workers=2, nap=0.1) for budget in budgets)))

    assert run(main()) == max_calls


def test_what_was_leased_and_not_used_is_given_back() -> None:
    async def main() -> int:
        store = SlowStore()
        first = CallBudget(store, max_calls=1_000)
        await first.reserve()
        first.sending()
        await first.reserve()
        first.give_back()
        await first.close(lost=0)
        return await take_all(CallBudget(store, max_calls=1_000), workers=5, nap=0.1)

    assert run(main()) == 999


def test_the_next_block_is_leased_before_this_one_is_used_up() -> None:
    async def main() -> None:
        budget = CallBudget(SlowStore())
        await budget.reserve()
        for _ in range(10_000):
            assert budget.take()
            await asyncio.sleep(0.01)

    run(main())


def test_a_lease_that_fails_is_told_to_all_who_wait_for_it() -> None:
    class BrokenStore(MemoryStore):
        async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "") -> int:
            await asyncio.sleep(1)
            raise LedgerError("the disk is gone")

    async def main() -> list[object]:
        budget = CallBudget(BrokenStore(), max_calls=10)
        return await asyncio.gather(*(budget.reserve() for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in run(main())] == [LedgerError] * 3


def test_a_caller_that_is_cancelled_while_a_block_is_leased_takes_nothing() -> None:
    async def main() -> int:
        store = SlowStore()
        budget = CallBudget(store, max_calls=7)
        impatient = asyncio.create_task(budget.reserve())
        await asyncio.sleep(0.5)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        return await take_all(budget, workers=3, nap=0.1)

    assert run(main()) == 7


def test_a_cap_counts_what_is_taken_and_not_given_back() -> None:
    cap = CallCap(2)
    assert cap.take()
    cap.give_back()
    assert [cap.take() for _ in range(3)] == [True, True, False]
