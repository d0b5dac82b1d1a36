"""One rate for several processes: gates over one store, in virtual time, and the pure rules behind it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import LedgerError
from accucheck._gate import Gate, Rate
from accucheck._shared_gate import SharedGate
from accucheck._store import Outcomes, Pacing, PermitRequest, Permits, SQLiteStore
from accucheck._store._permits import Pace, lease
from tests import virtual_time
from tests.gate_conformance import GateConformance
from tests.unit.simulated_limits import FixedWindow, Limiter, TokenBucket, Unlimited, changing, constant


class LocalPermits:
    """One account's data in a store, for gates on one loop; ``delay`` seconds away, its clock ``ahead``."""

    def __init__(self, *, delay: float = 0.002, ahead: float = 0.0) -> None:
        self.delay = delay
        self.ahead = ahead
        self.pace: Pace | None = None
        self.reports: list[Outcomes] = []
        self.requests = 0
        self.away = 0.0, 0.0
        """From when to when it cannot be reached, in seconds since the start."""

    def seat(self, owner: int) -> Seat:
        return Seat(self, owner)


class Seat:
    """One process's connection."""

    def __init__(self, permits: LocalPermits, owner: int) -> None:
        self.permits = permits
        self.owner = owner
        self.error: Exception | None = None
        self.patience = 1.0

    async def lease_permits(self, request: PermitRequest) -> Permits:
        if self.error is not None:
            raise self.error
        shared = self.permits
        await asyncio.sleep(shared.delay)
        pause = 0.05 * self.patience
        gone, back = (virtual_time.START + moment for moment in shared.away)
        while gone <= asyncio.get_running_loop().time() < back:
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)
        shared.requests += 1
        now = asyncio.get_running_loop().time() + shared.ahead
        pace = shared.pace = shared.pace or Pace(rate=request.start.rate)
        permits = lease(pace, request, owner=self.owner, now=now, wall=now)
        if permits.leads and not request.leaves:
            permits.reports.extend(shared.reports)
            shared.reports = []
        elif request.outcomes:
            shared.reports.append(request.outcomes)
        await asyncio.sleep(shared.delay)
        return permits


class Process:
    """Some workers behind one gate."""

    def __init__(self, permits: LocalPermits, owner: int, limiter: Limiter, rate: Rate) -> None:
        self.gate = SharedGate(permits.seat(owner), "account", rate)
        self.limiter = limiter
        self.sent: list[tuple[float, bool]] = []
        self.tasks: list[asyncio.Task[None]] = []

    def work(self, workers: int = 60, latency: float = 0.05) -> None:
        self.tasks += [asyncio.create_task(self._work(latency)) for _ in range(workers)]

    async def _work(self, latency: float) -> None:
        while True:
            sent_at = await self.gate.acquire()
            now = asyncio.get_running_loop().time()
            admitted = self.limiter.admit(now)
            self.sent.append((now, admitted))
            await asyncio.sleep(latency)
            if admitted:
                self.gate.admitted(sent_at)
            else:
                self.gate.refused(sent_at)

    async def die(self) -> None:
        """Simulate a kill: the store hears nothing more."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.gate._rate = None
        await self.gate.aclose()

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.gate.aclose()


def counted(processes: list[Process], since: float, until: float) -> tuple[int, int, list[int]]:
    """Return the calls admitted and refused in a span of time, and those admitted by process."""
    start = virtual_time.START
    by_process = [[ok for at, ok in process.sent if since <= at - start < until] for process in processes]
    every = [ok for calls in by_process for ok in calls]
    return sum(every), len(every) - sum(every), [sum(calls) for calls in by_process]


def simulate(
    rate: Rate,
    limiter: Limiter,
    *,
    processes: int = 4,
    seconds: float = 30.0,
    lateness: Callable[[], float] | None = None,
    **options: float,
) -> list[Process]:
    permits = LocalPermits(**options)
    all_of_them = [Process(permits, owner, limiter, rate) for owner in range(processes)]

    async def main() -> None:
        for process in all_of_them:
            process.work()
        await asyncio.sleep(seconds)
        for process in all_of_them:
            await process.leave()

    virtual_time.run(main(), lateness=lateness)
    return all_of_them


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_a_known_limit_is_used_and_shared_fairly(processes: int) -> None:
    calls = simulate(200.0, TokenBucket(constant(200.0), 8), processes=processes, seconds=10)
    admitted, refused, shares = counted(calls, 1, 10)
    assert admitted >= 0.97 * 200 * 9
    assert refused <= 0.002 * (admitted + refused)
    assert max(shares) <= 1.2 * min(shares)


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_an_unknown_limit_is_found_together(processes: int) -> None:
    calls = simulate("auto", TokenBucket(constant(200.0), 8), processes=processes, seconds=40)
    admitted, refused, shares = counted(calls, 15, 40)
    assert admitted >= 0.95 * 200 * 25
    assert refused <= 0.01 * (admitted + refused)
    assert max(shares) <= 1.2 * min(shares)


def busy(mean: float, seed: int) -> Callable[[], float]:
    """Return by how many seconds timers are late on a machine that is too busy."""
    chance = random.Random(seed)
    return lambda: chance.expovariate(1 / mean)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("limit", "processes", "mean", "share"), [(200.0, 4, 0.02, 0.8), (200.0, 8, 0.01, 0.9)]
)
def test_a_busy_machine_is_not_taken_for_a_lower_limit(
    limit: float, processes: int, mean: float, share: float, seed: int
) -> None:
    limiter = TokenBucket(constant(limit), limit / 10)
    calls = simulate("auto", limiter, processes=processes, seconds=45, lateness=busy(mean, seed))
    admitted, refused, _ = counted(calls, 15, 45)
    assert admitted >= share * limit * 30
    assert refused <= 0.015 * (admitted + refused)


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize("halved_at", [20.0, 23.3])
def test_a_limit_that_is_halved_is_found_within_five_seconds(processes: int, halved_at: float) -> None:
    limit = changing(200.0, virtual_time.START + halved_at, 100.0)
    calls = simulate("auto", TokenBucket(limit, 20), processes=processes, seconds=halved_at + 20)
    admitted, refused, _ = counted(calls, halved_at + 5, halved_at + 20)
    assert admitted >= 0.9 * 100 * 15
    assert refused <= 0.02 * (admitted + refused)
    admitted, refused, _ = counted(calls, halved_at, halved_at + 5)
    assert refused <= 0.2 * (admitted + refused)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_windows_of_a_second_are_used(processes: int) -> None:
    windows = FixedWindow(constant(200.0), 1.0, 0.3)
    admitted, refused, _ = counted(simulate("auto", windows, processes=processes, seconds=45), 15, 45)
    assert admitted >= 0.9 * 200 * 30
    assert refused <= 0.02 * (admitted + refused)


def test_time_is_measured_by_the_stores_clock() -> None:
    calls = simulate(200.0, TokenBucket(constant(200.0), 8), seconds=10, ahead=5_000.0, delay=0.004)
    admitted, refused, _ = counted(calls, 1, 10)
    assert admitted >= 0.97 * 200 * 9
    assert refused <= 0.002 * (admitted + refused)


def test_when_the_leader_is_killed_the_others_continue() -> None:
    permits = LocalPermits()
    limiter = TokenBucket(constant(200.0), 8)
    calls = [Process(permits, owner, limiter, "auto") for owner in range(4)]

    async def main() -> None:
        for process in calls:
            process.work()
        await asyncio.sleep(20)
        (leader,) = [process for process in calls if process.gate._controller is not None]
        await leader.die()
        await asyncio.sleep(13)
        assert sum(process.gate._controller is not None for process in calls if process is not leader) == 1
        for process in calls:
            await process.leave()

    virtual_time.run(main())
    before, _, _ = counted(calls, 15, 20)
    after, _, _ = counted(calls, 23, 33)
    assert after / 10 >= 0.9 * before / 5


@pytest.mark.parametrize("killed_after", [0.3, 1.0, 1.7])
def test_a_leader_that_is_killed_before_the_limit_is_found_does_not_leave_its_low_rate_behind(
    killed_after: float,
) -> None:
    permits = LocalPermits()
    limiter = TokenBucket(constant(200.0), 20)
    calls = [Process(permits, owner, limiter, "auto") for owner in range(4)]

    async def main() -> None:
        for process in calls:
            process.work()
        for _ in range(2):
            await asyncio.sleep(killed_after)
            for process in calls:
                if process.gate._controller is not None:
                    await process.die()
        await asyncio.sleep(30)
        for process in calls:
            await process.leave()

    virtual_time.run(main())
    assert counted(calls, 18, 30)[0] >= 0.9 * 200 * 12


@pytest.mark.parametrize("first", range(4))
def test_after_the_store_recovers_everyone_continues_as_before(first: int) -> None:
    permits = LocalPermits()
    permits.away = 20.0, 24.0
    limiter = TokenBucket(constant(200.0), 20)
    calls = [Process(permits, owner, limiter, "auto") for owner in range(4)]

    async def main() -> None:
        for owner, process in enumerate(calls):
            seat = process.gate._store
            assert isinstance(seat, Seat)
            seat.patience = 1.0 + (owner - first) % 4 / 10
            process.work()
        await asyncio.sleep(40)
        for process in calls:
            await process.leave()

    virtual_time.run(main())
    admitted, refused, _ = counted(calls, 26, 40)
    assert admitted >= 0.95 * 200 * 14
    _, refused, _ = counted(calls, 20, 40)
    assert refused <= 0.005 * admitted


def test_all_start_near_a_rate_that_an_earlier_run_reached_without_refusals() -> None:
    permits = LocalPermits()
    calls = [Process(permits, owner, Unlimited(), "auto") for owner in range(2)]

    async def main() -> None:
        for process in calls:
            process.gate = SharedGate(process.gate._store, "account", floor=1_000.0)
            process.work(workers=100)
        await asyncio.sleep(4)
        assert max(process.gate.floor or 0.0 for process in calls) > 500
        for process in calls:
            await process.leave()

    virtual_time.run(main())
    assert counted(calls, 0, 0.5)[0] < 40
    assert counted(calls, 0, 4)[0] > 2_000


def test_a_process_that_leaves_frees_its_share_within_two_seconds() -> None:
    permits = LocalPermits()
    limiter = TokenBucket(constant(200.0), 8)
    calls = [Process(permits, owner, limiter, 200.0) for owner in range(4)]

    async def main() -> None:
        for process in calls:
            process.work()
        await asyncio.sleep(5)
        await calls[0].leave()
        await asyncio.sleep(3)
        await calls[1].die()
        await asyncio.sleep(5)
        for process in calls:
            await process.leave()

    virtual_time.run(main())
    assert counted(calls, 5.3, 8)[0] >= 0.97 * 200 * 2.7
    assert counted(calls, 10, 13)[0] >= 0.97 * 200 * 3


def test_unused_shares_go_to_the_others() -> None:
    permits = LocalPermits()
    limiter = TokenBucket(constant(200.0), 8)
    busy, lazy = Process(permits, 0, limiter, 200.0), Process(permits, 1, limiter, 200.0)

    async def main() -> None:
        busy.work()
        lazy.work(workers=1, latency=0.1)
        await asyncio.sleep(10)
        await busy.leave()
        await lazy.leave()

    virtual_time.run(main())
    admitted, refused, (much, little) = counted([busy, lazy], 1, 10)
    assert admitted >= 0.95 * 200 * 9
    assert 0.5 * 90 <= little <= 90
    assert much > 1_500
    assert refused <= 0.002 * admitted


def test_a_refusal_anywhere_holds_everyone_within_a_tenth_of_a_second() -> None:
    permits = LocalPermits()
    limiter = TokenBucket(constant(1e9), 1e9)
    calls = [Process(permits, owner, limiter, 200.0) for owner in range(4)]
    refused_at = 0.0

    async def main() -> None:
        nonlocal refused_at
        for process in calls:
            process.work()
        await asyncio.sleep(3)
        refused_at = asyncio.get_running_loop().time() - virtual_time.START
        sender = calls[2]
        sender.gate.refused(sender.sent[-1][0], retry_after=3.0)
        await asyncio.sleep(5)
        for process in calls:
            await process.leave()

    virtual_time.run(main())
    assert counted(calls, refused_at + 0.1, refused_at + 2.9)[0] == 0
    assert counted(calls, refused_at + 3.0, refused_at + 5)[0] > 0


def test_far_below_the_rate_nobody_waits_for_a_busy_store() -> None:
    async def main() -> float:
        permits = LocalPermits(delay=0.01)
        process = Process(permits, 1, TokenBucket(constant(1e6), 1e6), rate=1e6)
        process.work(workers=100, latency=0.005)
        await asyncio.sleep(4)
        await process.leave()
        admitted, _, _ = counted([process], 2, 4)
        return admitted / 2

    assert virtual_time.run(main()) > 0.97 * 100 / 0.005


def test_refusals_of_the_same_moment_are_distinguished() -> None:
    async def main() -> None:
        process = Process(LocalPermits(), 1, TokenBucket(constant(50), 1), rate="auto")
        sent_at = await process.gate.acquire()
        process.gate.refused(sent_at)
        process.gate.refused(sent_at, 0.5)
        assert await process.gate.acquire() >= sent_at + 0.5
        await process.leave()

    virtual_time.run(main())


def test_an_idle_gate_makes_no_requests_to_the_store() -> None:
    permits = LocalPermits()

    async def main() -> None:
        gate = SharedGate(permits.seat(1), "account", 100.0)
        gate.admitted(await gate.acquire())
        await asyncio.sleep(5)
        asked = permits.requests
        await asyncio.sleep(100)
        assert permits.requests == asked
        gate.admitted(await gate.acquire())
        await gate.aclose()

    virtual_time.run(main())


def test_a_failing_store_is_reported_to_all_waiters() -> None:
    async def main() -> None:
        seat = LocalPermits().seat(1)
        seat.error = LedgerError("the disk reports an error")
        gate = SharedGate(seat, "account", 100.0)
        for _ in range(2):
            with pytest.raises(LedgerError, match="the disk reports an error"):
                await gate.acquire()
        seat.error = None
        await gate.acquire()
        await gate.aclose()

    virtual_time.run(main())


@pytest.mark.parametrize("processes", [1, 3])
def test_a_quota_holds_for_all_processes_together_and_is_used_up(processes: int) -> None:
    calls = simulate(
        "50/s,100/min", TokenBucket(constant(1e9), 1e9), processes=processes, seconds=150, delay=0.002
    )
    moments = sorted(at for process in calls for at, _ in process.sent)
    assert len(moments) >= 290, "permits that expired were given back"
    for first, last in zip(moments, moments[100:], strict=False):
        assert last - first > 60


def test_hours_are_kept() -> None:
    opens = datetime(2026, 11, 26, 8, tzinfo=UTC).timestamp()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        permits = LocalPermits()
        gate = SharedGate(
            permits.seat(1),
            "account",
            "50/s,08:00-20:00 UTC",
            wall=lambda: opens - 1_000 + loop.time() - begin,
        )
        given = [await gate.acquire() for _ in range(10)]
        assert given[0] - begin >= 1_000
        assert given[-1] - begin < 1_070
        await asyncio.sleep(12 * 3600)
        asked = permits.requests
        waiting = asyncio.ensure_future(gate.acquire())
        await asyncio.sleep(3600)
        assert not waiting.done()
        assert permits.requests - asked < 100
        await gate.aclose()
        await asyncio.wait([waiting])

    virtual_time.run(main(), give_up_after=200_000)


def test_a_process_with_a_lower_ceiling_keeps_it() -> None:
    permits = LocalPermits()
    limiter = TokenBucket(constant(1e9), 1e9)
    fast, slow = Process(permits, 0, limiter, 200.0), Process(permits, 1, limiter, 20.0)

    async def main() -> None:
        fast.work()
        await asyncio.sleep(1)
        slow.work()
        await asyncio.sleep(10)
        await fast.leave()
        await slow.leave()

    virtual_time.run(main())
    _, _, (much, little) = counted([fast, slow], 2, 10)
    assert little <= 20 * 8 + 2
    assert much >= 0.9 * 100 * 8


async def test_several_gates_on_one_store_are_several_callers(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    gates = [SharedGate(store, "account", 500.0) for _ in range(2)]
    for gate in gates * 3:
        gate.admitted(await gate.acquire())
    assert not any(gate._alone for gate in gates)
    assert sum(gate._controller is not None for gate in gates) == 1
    for gate in gates:
        await gate.aclose()
    await store.aclose()


class TestSharedGateAlone(GateConformance):
    burst = 2.0

    async def make(self, rate: float) -> Gate:
        return SharedGate(LocalPermits().seat(1), "account", rate)

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        virtual_time.run(main)


class TestSharedGateOnSQLite(GateConformance):
    burst = 4.0

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "leads.db"
        self.stores: list[SQLiteStore] = []

    async def make(self, rate: float) -> Gate:
        store = SQLiteStore(self.path)
        await store.open()
        self.stores.append(store)
        gate = SharedGate(store, "account", rate)
        await gate.acquire()  # the first permit comes when the store replies, no matter who waits
        return gate

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        async def closing() -> None:
            try:
                await main
            finally:
                for store in self.stores:
                    await store.aclose()

        asyncio.run(closing())


# The pure rules

moments = st.floats(0, 3)


@given(
    rate=st.floats(0.5, 500),
    asked=st.lists(st.tuples(moments, st.integers(0, 3), st.integers(0, 200)), max_size=40),
)
def test_no_more_permits_than_the_rate_allows_are_ever_granted(
    rate: float, asked: list[tuple[float, int, int]]
) -> None:
    pace = Pace(rate=rate)
    given_at: list[float] = []
    for now, owner, wanted in sorted(asked):
        request = PermitRequest(
            account="", wanted=wanted, start=Pacing(rate), outcomes=Outcomes(), pacing=None
        )
        permits = lease(pace, request, owner=owner, now=now + 100, wall=0.0)
        granted, first_at = permits.granted, permits.first_at
        assert granted <= wanted
        given_at += [first_at + n / rate for n in range(granted)]
        assert granted == 0 or first_at >= now + 100 - 0.011
        assert granted == 0 or given_at[-1] <= now + 100 + max(0.11, 1 / rate) + 1e-6
    assert given_at == sorted(given_at)
    for one, next_one in pairwise(given_at):
        assert next_one - one >= 1 / rate - 1e-6


def test_a_single_call_is_let_through_after_a_lockout() -> None:
    pace = Pace(rate=100.0, hold_until=50.0, single=True)
    request = PermitRequest(account="", wanted=10, start=Pacing(100.0), outcomes=Outcomes())
    granted = []
    for now in (49.0, 50.1, 50.2, 51.0):
        granted.append(lease(pace, request, owner=2, now=now, wall=0.0).granted)
    assert granted == [0, 1, 0, 0]


def test_a_single_call_that_is_no_longer_wanted_goes_to_the_next_caller_at_once() -> None:
    pace = Pace(rate=100.0, hold_until=50.0, single=True)
    request = PermitRequest(account="", wanted=1, start=Pacing(100.0), outcomes=Outcomes())
    gives_up = PermitRequest(account="", wanted=0, start=Pacing(100.0), outcomes=Outcomes(), not_tried=True)
    asked = [(2, request), (3, request), (3, gives_up), (3, request), (2, gives_up), (3, request)]
    granted = [lease(pace, each, owner=owner, now=51.0, wall=0.0).granted for owner, each in asked]
    assert granted == [1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("leaves", "pause", "rate"), [(False, 5.0, 150.0), (False, 90.0, 20.0), (True, 0.1, 20.0)]
)
def test_a_short_pause_does_not_begin_the_search_again(leaves: bool, pause: float, rate: float) -> None:
    pace = Pace(rate=2.0)
    ask = partial(lease, pace, wall=0.0)
    first = PermitRequest(account="", wanted=1, start=Pacing(2.0), outcomes=Outcomes())
    ask(first, owner=1, now=50.0)
    pacing = Pacing(150.0, limit=150.0)
    ask(msgspec.structs.replace(first, pacing=pacing, leaves=leaves), owner=1, now=51.0)
    later = PermitRequest(account="", wanted=1, start=Pacing(20.0), outcomes=Outcomes())
    assert ask(later, owner=2, now=52.0 + pause).rate == rate
