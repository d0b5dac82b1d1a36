"""The caps on calls: exact under concurrency, and nothing leased is forgotten."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accucheck import BudgetExhausted, LedgerError
from accucheck._budgets import CallBudget, CallCap
from accucheck._models import Settlement
from accucheck._store import Claims, Endpoint, MemoryStore, Query
from accucheck._store._packing import row_of
from accucheck._store._tables import Tables
from accucheck._wire import Reply
from tests.unit.ledger_samples import MOBILE
from tests.unit.test_store_model import FOLDER
from tests.unit.test_stream import Vendor, collect, make_stream, pending
from tests.unit.test_stream import answered as answered_reply
from tests.virtual_time import START, run


class SlowStore(MemoryStore):
    """A lease takes a second."""

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1) -> int:
        await asyncio.sleep(1)
        return await super().lease_calls(wanted, max_calls=max_calls, job=job, each=each)


async def take(budget: CallBudget) -> None:
    while not budget.take():
        await budget.wait()


async def take_all(budget: CallBudget, *, workers: int, nap: float) -> int:
    made = 0

    async def work() -> None:
        nonlocal made
        while True:
            try:
                await take(budget)
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
def test_a_budget_is_exact_under_concurrency(max_calls: int, workers: int, nap: float) -> None:
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


def test_unused_leased_calls_are_returned() -> None:
    async def main() -> int:
        store = SlowStore()
        first = CallBudget(store, max_calls=1_000)
        await take(first)
        first.sending()
        await take(first)
        first.give_back()
        await first.close(lost=0)
        return await take_all(CallBudget(store, max_calls=1_000), workers=5, nap=0.1)

    assert run(main()) == 999


def test_the_next_block_is_leased_before_this_one_is_used_up() -> None:
    async def main() -> None:
        budget = CallBudget(SlowStore())
        await take(budget)
        for _ in range(10_000):
            assert budget.take()
            await asyncio.sleep(0.01)

    run(main())


def test_a_failed_lease_is_reported_to_all_waiters() -> None:
    class BrokenStore(MemoryStore):
        async def lease_calls(
            self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1
        ) -> int:
            await asyncio.sleep(1)
            raise LedgerError("the disk is gone")

    async def main() -> list[object]:
        budget = CallBudget(BrokenStore(), max_calls=10)
        return await asyncio.gather(*(take(budget) for _ in range(3)), return_exceptions=True)

    assert [type(error) for error in run(main())] == [LedgerError] * 3


def test_a_caller_that_is_cancelled_while_a_block_is_leased_takes_nothing() -> None:
    async def main() -> int:
        store = SlowStore()
        budget = CallBudget(store, max_calls=7)
        impatient = asyncio.create_task(take(budget))
        await asyncio.sleep(0.5)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        return await take_all(budget, workers=3, nap=0.1)

    assert run(main()) == 7


def test_calls_not_needed_for_a_while_are_returned_for_others() -> None:
    async def main() -> float:
        store = SlowStore()
        idle, busy = CallBudget(store, max_calls=100), CallBudget(store, max_calls=100)
        await take(idle)
        idle.sending()
        assert await take_all(busy, workers=3, nap=0.1) == 99
        return asyncio.get_running_loop().time()

    assert run(main()) < START + 80, "and it does not wait for the idle one to end"


def test_a_cap_counts_calls_taken_minus_calls_returned() -> None:
    cap = CallCap(2)
    assert cap.take()
    cap.give_back()
    assert [cap.take() for _ in range(3)] == [True, True, False]


# Several processes on one file, in any order


class Seat(MemoryStore):
    """One process that uses a ledger's file in virtual time; each step takes a random time.

    It uses the file's functions directly, because the thread of ``SQLiteStore`` would stop the clock.
    """

    def __init__(self, path: Path, chance: random.Random) -> None:
        super().__init__()
        self._tables = Tables(path, now=lambda: 0.0, reserve=0)
        self._chance = chance

    async def _pause(self) -> None:
        await asyncio.sleep(self._chance.choice([0.0, 0.0, 0.001, 0.02, 0.3]))

    async def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        await self._pause()
        claims = self._tables.claim(numbers, query)
        await self._pause()
        return claims

    async def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        endpoint: Endpoint = "advanced",
        job: str = "",
        release: bool = True,
    ) -> None:
        await self._pause()
        rows = [row_of(settlement, endpoint, 1.0) for settlement in settlements]
        self._tables.settle(rows, job=job, possibly_double_charged=0, release=release)
        if job in self._tables._slots:
            calls = sum(settlement.calls for settlement in settlements)
            self._tables.owner.count_settled(self._tables._slots[job], calls)
        await self._pause()

    async def release(self, numbers: Sequence[int]) -> None:
        self._tables.release(numbers)

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1) -> int:
        await self._pause()
        granted, _ = self._tables.lease(wanted, max_calls=max_calls, job=job, each=each)
        await self._pause()
        return granted

    def note_call(self, job: str = "", calls: int = 1) -> None:
        self._tables.owner.count_made(self._tables._slots[job], calls)

    async def return_calls(self, unused: int, *, lost: int = 0, job: str = "") -> None:
        await self._pause()
        self._tables.return_calls(unused, lost=lost, job=job)
        await self._pause()

    async def calls_made(self, job: str = "") -> int:
        await self._pause()
        return self._tables.calls_made(job)

    async def aclose(self) -> None:
        self._tables.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lists=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    workers=st.integers(1, 12),
    spare=st.one_of(st.integers(-3, 3), st.integers(-130, 0)),
    overlap=st.booleans(),
    polled=st.integers(2, 10),
    rate=st.sampled_from([5.0, 40.0, 1e6]),
    seed=st.integers(0, 2**32),
)
def test_processes_together_use_the_cap_exactly(
    lists: list[int], workers: int, spare: int, overlap: bool, polled: int, rate: float, seed: int
) -> None:
    """Neither more nor fewer calls, no matter who leased the last ones, and no error if the cap is just enough."""
    numbers = [
        [MOBILE + n + (0 if overlap else 1_000 * who) for n in range(count)]
        for who, count in enumerate(lists)
    ]
    needed = {number: 2 if number % polled == 0 else 1 for one in numbers for number in one}
    cap = max(1, sum(needed.values()) + spare)

    def script(national: str, times: int) -> Reply:
        return answered_reply(national) if times == needed[int(national)] else pending()

    vendor = Vendor(script)

    async def process(path: Path, one: list[int], chance: random.Random) -> bool:
        seat = Seat(path, chance)
        await asyncio.sleep(chance.choice([0.0, 0.01, 1.0]))

        async def items() -> AsyncIterator[str]:
            for number in one:
                if chance.random() < 0.1:
                    await asyncio.sleep(chance.choice([0.02, 3.0]))
                yield str(number)

        try:
            stream = make_stream(items(), vendor, workers=workers, rate=rate, max_calls=cap, store=seat)
            return len(await collect(stream)) == len(one)
        except BudgetExhausted:
            return False
        finally:
            await seat.aclose()

    async def main(path: Path) -> list[bool]:
        chance = random.Random(seed)
        return await asyncio.gather(*(process(path, one, chance) for one in numbers))

    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        complete = run(main(Path(folder) / "leads.db"))
    assert len(vendor.calls) == min(cap, sum(needed.values()))
    if cap >= sum(needed.values()):
        assert all(complete)
