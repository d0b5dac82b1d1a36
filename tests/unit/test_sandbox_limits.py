"""The sandbox's limiters, on a virtual clock."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck.sandbox._limits import FixedWindow, Limiter, ScheduledLimit, SlidingWindow, TokenBucket

Make = Callable[[], Limiter]

EVERY_KIND = pytest.mark.parametrize(
    "make",
    [lambda: TokenBucket(10, 10, 0.0), lambda: FixedWindow(10, 1.0, 0.0), lambda: SlidingWindow(10, 1.0)],
    ids=["token", "fixed", "sliding"],
)


def admitted(limiter: Limiter, start: float, seconds: float, offered: int = 1000) -> int:
    """Offer calls evenly; return how many were let through."""
    calls = round(seconds * offered)
    return sum(limiter.admit(start + call / offered) for call in range(calls))


@EVERY_KIND
def test_an_hour_of_pressure_gets_the_rate(make: Make) -> None:
    limiter = make()
    count = admitted(limiter, 0.0, 3600.0, offered=50)
    assert 36_000 <= count <= 36_010


@EVERY_KIND
def test_a_refused_call_takes_nothing(make: Make) -> None:
    limiter, undisturbed = make(), make()
    assert admitted(limiter, 0.0, 1.0, offered=10) == admitted(undisturbed, 0.0, 1.0, offered=10) == 10
    for _ in range(1000):
        limiter.admit(0.95)
    assert admitted(limiter, 5.0, 2.0) == admitted(undisturbed, 5.0, 2.0)


@EVERY_KIND
@given(pressure=st.lists(st.floats(0, 0.5), max_size=60))
def test_the_wait_is_exact(make: Make, pressure: list[float]) -> None:
    limiter, now = make(), 0.0
    for pause in pressure:
        now += pause
        limiter.admit(now)
    wait = limiter.wait(now)
    if wait > 0.001:
        assert not limiter.admit(now + wait - 0.001)
    assert limiter.admit(now + wait + 1e-6)


@EVERY_KIND
def test_a_rate_of_zero_admits_nothing_until_it_is_raised(make: Make) -> None:
    limiter = make()
    admitted(limiter, 0.0, 2.0)
    limiter.set_rate(0, 2.0)
    admitted(limiter, 2.0, 0.5)  # takes what the bucket still holds
    assert admitted(limiter, 2.5, 10.0) == 0
    assert limiter.wait(20.0) == math.inf
    limiter.set_rate(10, 20.0)
    assert 10 <= admitted(limiter, 21.0, 1.0) <= 20


@EVERY_KIND
@pytest.mark.parametrize("rate", [5, 40])
def test_the_rate_changes_mid_run(make: Make, rate: int) -> None:
    limiter = make()
    admitted(limiter, 0.0, 10.0)
    limiter.set_rate(rate, 10.0)
    admitted(limiter, 10.0, 1.0)
    assert rate * 100 <= admitted(limiter, 11.0, 100.0) <= rate * 101


@EVERY_KIND
def test_a_clock_that_steps_back_admits_no_extra_calls(make: Make) -> None:
    limiter = make()
    assert admitted(limiter, 100.0, 0.5) <= 15
    assert sum(limiter.admit(99.0) for _ in range(100)) == 0


def test_a_token_bucket_admits_its_burst_and_then_the_rate() -> None:
    bucket = TokenBucket(5, 20, 0.0)
    assert sum(bucket.admit(0.0) for _ in range(100)) == 20
    assert admitted(bucket, 0.0, 10.0) == 49  # the fiftieth comes at 10.0 s
    assert bucket.admit(10.0)


def test_a_fixed_window_forgets_at_its_edge() -> None:
    window = FixedWindow(0.5, 60.0, 1000.0)
    assert sum(window.admit(1059.9) for _ in range(100)) == 30
    assert sum(window.admit(1060.0) for _ in range(100)) == 30
    assert window.wait(1060.0) == 60.0


def test_a_sliding_window_never_admits_more_than_the_rate_in_any_window() -> None:
    window = SlidingWindow(10, 1.0)
    times = [step / 97 for step in range(970) if window.admit(step / 97)]
    assert all(sum(start <= other < start + 1 for other in times) <= 10 for start in times)
    assert len(times) >= 95


def test_a_schedule_counts_from_the_first_call() -> None:
    limit = ScheduledLimit(FixedWindow(10, 1.0, 0.0), 10, [(20, 40), (10, 5)])
    limit.keep_schedule(1000.0)
    assert limit.rate == 10
    assert limit.admit(1000.0)
    limit.keep_schedule(1009.9)
    assert limit.rate == 10
    assert admitted(limit, 1010.0, 1.0) == 5
    assert limit.rate == 5
    assert admitted(limit, 1030.0, 1.0) == 40
    assert limit.wait(1030.5) == 0.5


def test_every_change_that_was_due_is_applied() -> None:
    limit = ScheduledLimit(TokenBucket(10, 1, 0.0), 10, [(1, 0), (2, 100)])
    assert limit.admit(0.0)
    assert limit.wait(50.0) == 0
    assert limit.rate == 100
