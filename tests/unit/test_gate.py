"""The gate in virtual time: the pace is exact and in order; no permit is lost or given twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck._gate import PacedGate
from accucheck._rate import RateController
from tests.virtual_time import START, run

EXACT = 1e-6


class FakePace(RateController):
    """A scripted pace that records what it learns."""

    def __init__(self, rate: float | Callable[[float], float]) -> None:
        self.rate_at = rate if callable(rate) else lambda _now: rate
        self.resume_at = 0.0
        self.queued = False
        self.sent_at: list[float] = []
        self.admissions: list[tuple[float, float]] = []
        self.refusals: list[tuple[float, float, float | None]] = []

    def rate(self, now: float) -> float:
        return self.rate_at(now)

    def sent(self, now: float) -> None:
        self.sent_at.append(now)

    def admitted(self, now: float, sent_at: float) -> None:
        self.admissions.append((now, sent_at))

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        self.refusals.append((now, sent_at, retry_after))


def elapsed() -> float:
    return asyncio.get_running_loop().time() - START


async def take(gate: PacedGate, calls: int, workers: int = 10) -> list[float]:
    """Make calls as fast as the gate allows; return their times from the start."""
    left = calls
    moments: list[float] = []

    async def work() -> None:
        nonlocal left
        while left:
            left -= 1
            moments.append(await gate.acquire() - START)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(workers):
            tasks.create_task(work())
    return moments


def most_above(moments: list[float], rate: float) -> float:
    """Over all windows, the most calls beyond what the rate alone allows."""
    excess = best = 0.0
    last = moments[0]
    for moment in moments:
        excess = max(excess - rate * (moment - last), 0.0) + 1
        best = max(best, excess)
        last = moment
    return best


# The pace


def test_a_burst_goes_at_once_and_then_the_pace_is_exact() -> None:
    moments = run(take(PacedGate(FakePace(10.0), burst=5), 50))
    assert moments == pytest.approx([0.0] * 5 + [n / 10 for n in range(1, 46)], abs=EXACT)


@pytest.mark.parametrize("rate", [0.01, 0.5, 1.0, 7.3, 50.0, 333.3, 1_000.0, 10_000.0])
@pytest.mark.parametrize("burst", [1, 2, 30, None])
def test_the_pace_holds_in_the_long_run_and_in_every_window(rate: float, burst: int | None) -> None:
    calls = 300
    moments = run(take(PacedGate(FakePace(rate), burst=burst), calls))
    depth = 1 + rate / 100 if burst is None else burst
    assert moments[-1] == pytest.approx((calls - depth) / rate, rel=1e-4)
    assert most_above(moments, rate) <= depth + 0.001


def test_an_hour_at_a_call_a_second_is_an_hour_of_calls() -> None:
    assert run(take(PacedGate(FakePace(1.0), burst=1), 3_601))[-1] == pytest.approx(3_600, abs=0.001)


def test_idle_time_saves_up_no_more_than_the_burst() -> None:
    async def main() -> list[float]:
        gate = PacedGate(FakePace(10.0), burst=3)
        await take(gate, 3)
        await asyncio.sleep(1_000)
        return await take(gate, 6)

    assert run(main()) == pytest.approx([1_000.0, 1_000.0, 1_000.0, 1_000.1, 1_000.2, 1_000.3], abs=EXACT)


@given(
    rate=st.floats(0.5, 500),
    burst=st.integers(1, 20),
    arrivals=st.lists(st.floats(0, 2), min_size=1, max_size=60),
)
@settings(max_examples=40, deadline=None)
def test_each_caller_goes_as_soon_as_the_pace_allows(rate: float, burst: int, arrivals: list[float]) -> None:
    async def main() -> list[tuple[float, float]]:
        gate = PacedGate(FakePace(rate), burst=burst)
        calls: list[tuple[float, float]] = []

        async def arrive(at: float) -> None:
            calls.append((at, await gate.acquire() - START))

        async with asyncio.TaskGroup() as tasks:
            for gap in arrivals:
                await asyncio.sleep(gap)
                tasks.create_task(arrive(elapsed()))
        return calls

    debt, last = 0.0, 0.0  # the leaky bucket by its definition
    for arrived, went in run(main()):
        earliest = max(arrived, last)
        debt = max(debt - rate * (earliest - last), 0.0)
        expected = earliest + max(debt + 1 - burst, 0.0) / rate
        assert went == pytest.approx(expected, abs=1e-5)
        debt = max(debt - rate * (went - earliest), 0.0) + 1
        last = went


# The pace changes


def test_a_faster_pace_takes_over_without_a_burst() -> None:
    pace = FakePace(lambda now: 10.0 if now < START + 5 else 100.0)
    moments = run(take(PacedGate(pace, burst=10), 500))
    assert sum(moment < 5 for moment in moments) == pytest.approx(10 + 50, abs=1)
    assert sum(5 <= moment < 6 for moment in moments) == pytest.approx(100, abs=2)
    later = [moment for moment in moments if moment >= 5.02]
    assert most_above(later, 100.0) < 2.5


def test_a_slower_pace_takes_over_without_a_burst() -> None:
    pace = FakePace(lambda now: 100.0 if now < START + 5 else 10.0)
    moments = run(take(PacedGate(pace, burst=10), 600))
    later = [moment for moment in moments if moment >= 5.02]
    assert most_above(later, 10.0) < 2.1
    assert len(later) == pytest.approx(10 * (moments[-1] - 5), abs=2)


def test_a_deeper_bucket_is_not_filled_by_the_swap() -> None:
    async def main() -> list[float]:
        pace = FakePace(10.0)
        gate = PacedGate(pace)  # holds one call
        await gate.acquire()
        await asyncio.sleep(10)
        pace.rate_at = lambda _now: 1_000.0  # holds eleven
        return await take(gate, 6)

    assert run(main()) == pytest.approx([10, 10.001, 10.002, 10.003, 10.004, 10.005], abs=EXACT)


def test_a_shallower_bucket_keeps_no_more_than_it_holds() -> None:
    async def main() -> list[float]:
        pace = FakePace(1_000.0)
        gate = PacedGate(pace)
        await gate.acquire()
        await asyncio.sleep(10)
        pace.rate_at = lambda _now: 10.0
        return await take(gate, 4)

    assert run(main()) == pytest.approx([10, 10.09, 10.19, 10.29], abs=EXACT)


@pytest.mark.parametrize("doubling", [0.75, 1.6, 10.0])
def test_a_pace_that_rises_all_the_time_loses_no_permits_to_the_swaps(doubling: float) -> None:
    def rate(now: float) -> float:
        return min(2.0 * 2 ** ((now - START) / doubling), 300.0)

    moments = run(take(PacedGate(FakePace(rate)), 2_000))
    end = moments[-1]
    steps = 20_000
    allowed = sum(rate(START + end * (step + 0.5) / steps) for step in range(steps)) * end / steps
    assert 0.97 * allowed <= len(moments) <= allowed + 3


def test_a_change_too_small_to_notice_keeps_the_bucket() -> None:
    async def main() -> tuple[float, float]:
        pace = FakePace(100.0)
        gate = PacedGate(pace)
        await gate.acquire()
        pace.rate_at = lambda _now: 100.4
        await asyncio.sleep(1)
        await gate.acquire()
        kept = gate.rate
        pace.rate_at = lambda _now: 100.6
        await asyncio.sleep(1)
        await gate.acquire()
        return kept, gate.rate

    assert run(main()) == (100.0, 100.6)


def test_the_pace_is_looked_at_once_in_ten_milliseconds() -> None:
    looks: list[float] = []

    def rate(now: float) -> float:
        looks.append(now)
        return 10_000.0

    run(take(PacedGate(FakePace(rate)), 3_000))  # 0.29 s
    assert len(looks) <= 30
    assert min(later - earlier for earlier, later in pairwise(looks)) >= 0.01 - EXACT


def test_a_refusal_makes_the_next_call_look_at_the_pace_at_once() -> None:
    async def main() -> float:
        pace = FakePace(1_000.0)
        gate = PacedGate(pace)
        sent_at = await gate.acquire()
        pace.rate_at = lambda _now: 5.0
        gate.refused(sent_at, None)
        await gate.acquire()
        return gate.rate

    assert run(main()) == 5.0


def test_the_rate_can_be_read_before_the_first_call() -> None:
    async def main() -> float:
        return PacedGate(FakePace(42.0)).rate

    assert run(main()) == 42.0


# Holds


def test_a_hold_holds_everyone_until_its_moment() -> None:
    async def main() -> list[float]:
        pace = FakePace(10.0)
        pace.resume_at = START + 60
        return await take(PacedGate(pace, burst=2), 4)

    assert run(main()) == pytest.approx([60.0, 60.0, 60.1, 60.2], abs=EXACT)


def test_a_hold_that_comes_while_a_task_waits_for_the_bucket_is_respected() -> None:
    async def main() -> list[float]:
        pace = FakePace(1.0)
        gate = PacedGate(pace, burst=1)
        await gate.acquire()
        waiting = asyncio.create_task(take(gate, 3))
        await asyncio.sleep(0.5)  # the next permit is due at 1
        pace.resume_at = START + 5
        gate.refused(START, 4.5)
        return await waiting

    assert run(main()) == pytest.approx([5.0, 6.0, 7.0], abs=EXACT)


def test_a_hold_that_is_prolonged_while_it_lasts_is_respected() -> None:
    async def main() -> list[float]:
        pace = FakePace(10.0)
        pace.resume_at = START + 5
        waiting = asyncio.create_task(take(PacedGate(pace, burst=1), 2))
        await asyncio.sleep(4)
        pace.resume_at = START + 9
        return await waiting

    assert run(main()) == pytest.approx([9.0, 9.1], abs=EXACT)


def test_a_hold_is_followed_by_no_more_than_a_burst() -> None:
    async def main() -> list[float]:
        pace = FakePace(10.0)
        gate = PacedGate(pace, burst=4)
        await take(gate, 4)
        pace.resume_at = START + 100
        return await take(gate, 8, workers=8)

    assert run(main()) == pytest.approx([100.0] * 4 + [100.1, 100.2, 100.3, 100.4], abs=EXACT)


def test_no_call_is_noted_as_sent_during_a_hold() -> None:
    async def main() -> list[float]:
        pace = FakePace(20.0)
        gate = PacedGate(pace, burst=1)
        calls = asyncio.create_task(take(gate, 200))
        for _ in range(8):
            await asyncio.sleep(0.33)
            pace.resume_at = asyncio.get_running_loop().time() + 0.9
            held.append((elapsed(), elapsed() + 0.9))
            gate.refused(START, None)
        await calls
        return [moment - START for moment in pace.sent_at]

    held: list[tuple[float, float]] = []
    for sent in run(main()):
        assert not any(begin < sent < end - EXACT for begin, end in held)


# Order and cancellation


def test_permits_are_given_in_the_order_of_asking() -> None:
    async def main() -> list[int]:
        pace = FakePace(50.0)
        gate = PacedGate(pace, burst=3)
        order: list[int] = []

        async def ask(number: int) -> None:
            await gate.acquire()
            order.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(40):
                tasks.create_task(ask(number))
                if number % 7 == 0:
                    await asyncio.sleep(0.05)
                    pace.resume_at = asyncio.get_running_loop().time() + 0.2
        return order

    assert run(main()) == list(range(40))


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_cancelled_waiter_costs_the_others_neither_place_nor_permit(cancelled: int) -> None:
    async def main() -> list[float]:
        gate = PacedGate(FakePace(1.0), burst=1)
        await gate.acquire()
        waiters = [asyncio.create_task(gate.acquire()) for _ in range(4)]
        await asyncio.sleep(0.5)
        waiters[cancelled].cancel()  # the first waits for the bucket, the others in line
        done = await asyncio.gather(*waiters, return_exceptions=True)
        assert isinstance(done.pop(cancelled), asyncio.CancelledError)
        return [moment - START for moment in done if isinstance(moment, float)]

    assert run(main()) == pytest.approx([1.0, 2.0, 3.0], abs=EXACT)


def test_a_waiter_cancelled_during_a_hold_leaves_the_gate_open_for_the_next() -> None:
    async def main() -> float:
        pace = FakePace(1.0)
        pace.resume_at = START + 10
        gate = PacedGate(pace, burst=1)
        first = asyncio.create_task(gate.acquire())
        second = asyncio.create_task(gate.acquire())
        await asyncio.sleep(5)
        first.cancel()
        return await second - START

    assert run(main()) == 10.0


@pytest.mark.parametrize("seed", range(5))
def test_a_storm_of_cancellations_leaves_the_pace_exact(seed: int) -> None:
    async def main() -> list[float]:
        chance = random.Random(seed)
        gate = PacedGate(FakePace(100.0), burst=1)
        await gate.acquire()
        waiters = [asyncio.create_task(gate.acquire()) for _ in range(300)]
        while not all(waiter.done() for waiter in waiters):
            await asyncio.sleep(chance.uniform(0, 0.02))
            chance.choice(waiters).cancel()
        results = await asyncio.gather(*waiters, return_exceptions=True)
        return [moment - START for moment in results if isinstance(moment, float)]

    moments = run(main())
    assert 10 < len(moments) < 300
    assert moments == pytest.approx([n / 100 for n in range(1, len(moments) + 1)], abs=EXACT)


def test_a_permit_given_to_a_caller_that_is_cancelled_at_that_moment_goes_to_the_next() -> None:
    async def main() -> float:
        gate = PacedGate(FakePace(1.0), burst=1)
        await gate.acquire()
        first = asyncio.create_task(gate.acquire())
        second = asyncio.create_task(gate.acquire())
        # Runs right after the permit is given, and before the caller's task does.
        asyncio.get_running_loop().call_at(
            START + 1.0, lambda: asyncio.get_running_loop().call_soon(cancel, first)
        )
        cancelled_in_time: list[bool] = []

        def cancel(task: asyncio.Task[float]) -> None:
            if gate._waiters and len(gate._waiters._others) == 1 and not task.done():
                cancelled_in_time.append(task.cancel())
            elif not task.done():
                asyncio.get_running_loop().call_soon(cancel, task)

        await asyncio.wait([first])
        assert cancelled_in_time == [True]
        assert first.cancelled()
        return await second - START

    assert run(main()) == pytest.approx(1.0, abs=EXACT)


def test_an_error_in_the_pace_is_raised_by_acquire() -> None:
    async def main() -> None:
        def rate(now: float) -> float:
            if now > START + 1:
                raise ZeroDivisionError("a mistake in the pace")
            return 0.4

        gate = PacedGate(FakePace(rate), burst=1)
        await gate.acquire()
        waiters = [asyncio.create_task(gate.acquire()) for _ in range(3)]
        done = await asyncio.gather(*waiters, return_exceptions=True)
        assert [type(outcome) for outcome in done] == [float, ZeroDivisionError, ZeroDivisionError]

    run(main())


# What the pace learns


def test_the_pace_learns_of_every_call_and_its_outcome() -> None:
    async def main() -> FakePace:
        pace = FakePace(10.0)
        gate = PacedGate(pace, burst=1)
        first = await gate.acquire()
        second = await gate.acquire()
        await asyncio.sleep(0.25)
        gate.admitted(first)
        gate.refused(second, 3.0)
        return pace

    pace = run(main())
    assert pace.sent_at == pytest.approx([START, START + 0.1], abs=EXACT)
    assert pace.admissions == [pytest.approx((START + 0.35, START), abs=EXACT)]
    now, sent_at, retry_after = pace.refusals[0]
    assert (now, sent_at, retry_after) == pytest.approx((START + 0.35, START + 0.1, 3.0), abs=EXACT)


def test_clock_and_sleep_are_parameters() -> None:
    async def main() -> tuple[float, list[float]]:
        now = 100.0
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            nonlocal now
            slept.append(seconds)
            now += seconds

        pace = FakePace(10.0)
        pace.resume_at = 107.0
        return await PacedGate(pace, clock=lambda: now, sleep=sleep).acquire(), slept

    given_at, slept = run(main())
    assert given_at == pytest.approx(107.0)
    assert sum(slept) == pytest.approx(7.0)
    assert max(slept) <= 0.05  # a reply may end the hold early


def test_a_clock_that_jumps_back_does_not_freeze_the_pace() -> None:
    async def main() -> float:
        now = 1_000.0
        pace = FakePace(100.0)
        gate = PacedGate(pace, clock=lambda: now)
        await gate.acquire()
        now = 5.0
        pace.rate_at = lambda _now: 20.0
        await gate.acquire()
        return gate.rate

    assert run(main()) == 20.0


# Permits without waiting


def test_try_acquire_takes_an_available_permit_and_never_invents_one() -> None:
    async def main() -> tuple[int, float | None]:
        gate = PacedGate(FakePace(5_000.0))
        taken = 0
        while gate.try_acquire() is not None:
            taken += 1
        await asyncio.sleep(0.00021)
        return taken, gate.try_acquire()

    taken, next_one = run(main())
    assert taken == 51  # one, and what falls due in 10 ms
    assert next_one is not None


def test_waiters_are_not_overtaken() -> None:
    async def main() -> float | None:
        gate = PacedGate(FakePace(1.0), burst=1)
        await gate.acquire()
        waiting = asyncio.create_task(gate.acquire())
        await asyncio.sleep(0.5)
        permit = gate.try_acquire()
        await waiting
        return permit

    assert run(main()) is None


def test_a_refusal_takes_back_permits_not_given_out_yet() -> None:
    async def main() -> list[float | None]:
        pace = FakePace(100_000.0)
        gate = PacedGate(pace)
        permits = [gate.try_acquire()]
        pace.resume_at = gate.now() + 1
        gate.refused(gate.now(), None)
        permits.append(gate.try_acquire())
        return permits

    first, second = run(main())
    assert first is not None
    assert second is None


@pytest.mark.parametrize(("callers", "queued"), [(3, False), (60, True)])
def test_the_pace_knows_whether_callers_queue(callers: int, queued: bool) -> None:
    async def main() -> bool:
        pace = FakePace(100.0)
        gate = PacedGate(pace)
        waiting = [asyncio.create_task(gate.acquire()) for _ in range(callers)]
        await asyncio.sleep(0.025)
        heard = pace.queued
        await gate.aclose()
        await asyncio.gather(*waiting, return_exceptions=True)
        return heard

    assert run(main()) is queued


def test_the_one_call_that_is_to_show_whether_it_passes_is_one() -> None:
    class Trying(FakePace):
        def sent(self, now: float) -> None:
            super().sent(now)
            self.resume_at = now + 1

    async def main() -> list[float | None]:
        gate = PacedGate(Trying(100_000.0))
        return [gate.try_acquire() for _ in range(3)]

    assert [permit is not None for permit in run(main())] == [True, False, False]


@pytest.mark.parametrize("rate", [1_500.0, 5_000.0, 50_000.0])
@pytest.mark.parametrize("calls_at_once", [1, 3])
def test_permits_taken_ahead_and_dropped_delay_nobody_below_the_rate(rate: float, calls_at_once: int) -> None:
    async def main() -> int:
        gate, kept_waiting = PacedGate(FakePace(rate)), 0
        for _ in range(300):
            for _ in range(calls_at_once):
                kept_waiting += gate.try_acquire() is None
            await asyncio.sleep(calls_at_once / (0.95 * rate))
        return kept_waiting

    assert run(main()) == 0
