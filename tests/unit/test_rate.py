"""The adaptive rate against limiters of every kind, in virtual time. The numbers are exact: same seed, same run."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck._errors import ConfigurationError
from accucheck._rate import Phase, RateController
from accucheck._rate._calls import Calls, Mark, SteadyClock
from accucheck._rate._windows import Lockout, Windows
from tests.unit.simulated_limits import (
    Far,
    FixedWindow,
    Latency,
    Limiter,
    Near,
    Pinned,
    Replaced,
    SharedWithAnotherClient,
    SlidingWindow,
    TokenBucket,
    Trace,
    Unlimited,
    changing,
    constant,
    simulate,
)

LIMITS = [20, 100, 500]
SEEDS = [0, 1, 2]
NGINX = Near()
"""Answers after 20 to 80 ms, refusals at once."""
SANDBOX = Near(tail=True)


def run(limiter: Limiter, seconds: float = 60.0, latency: float = 0.002, seed: int = 0) -> Trace:
    return simulate(RateController(), limiter, seconds=seconds, latency=Far(latency), seed=seed)


def ride(limiter: Limiter, latency: Latency, seconds: float = 60.0, seed: int = 0) -> Trace:
    """As the benchmark does: 50 workers at most."""
    return simulate(RateController(), limiter, seconds=seconds, latency=latency, workers=50, seed=seed)


def nginx(limit: float, share: float = 1.0) -> TokenBucket:
    """Return the benchmark's bucket; ``share`` is a changed limit as a share of the one its burst was sized for."""
    burst = max(5, int(limit / share) // 10)
    return TokenBucket(constant(limit), max(1, int(burst * share)))


def phase(seed: int) -> float:
    """When one-second windows start."""
    return random.Random(seed).random()


# The guarantees, at the benchmark's limits and latencies


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_that_is_known_is_used_up_and_not_hit(limit: int) -> None:
    controller = RateController(high=0.98 * limit, start=0.98 * limit)
    trace = simulate(controller, nginx(limit), seconds=60, latency=NGINX, workers=50)
    assert trace.utilization(limit, 10, 60) >= 0.97
    assert trace.refused_share(10, 60) <= 0.002


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    ("latency", "seed"),
    [(NGINX, 0), (NGINX, 1), (NGINX, 2), (SANDBOX, 0), (Near(slow=True), 0)],
    ids=["nginx-0", "nginx-1", "nginx-2", "sandbox", "slow"],
)
def test_a_token_bucket_is_used_up_and_hardly_ever_hit(limit: int, latency: Latency, seed: int) -> None:
    trace = ride(nginx(limit), latency, seed=seed)
    assert trace.utilization(limit, 10, 60) >= 0.97
    assert trace.refused_share(10, 60) <= 0.005


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_window_of_a_second_is_used_up_and_seldom_hit(limit: int, seed: int) -> None:
    trace = ride(FixedWindow(constant(limit), 1.0, phase(seed)), SANDBOX, seed=seed)
    assert trace.utilization(limit, 10, 60) >= 0.95
    assert trace.refused_share(10, 60) <= 0.01


@pytest.mark.parametrize(("limit", "turns_at"), [(20, 1.0), (20, 45.0), (20, 59.0), (100, 59.0), (500, 59.0)])
def test_a_window_of_a_minute_is_used_up_whenever_it_resets(limit: int, turns_at: float) -> None:
    trace = ride(FixedWindow(constant(limit), 60.0, turns_at), SANDBOX, seconds=120)
    assert trace.utilization(limit, 10, 120) >= 0.92
    assert trace.refused_share(10, 120) <= 0.02


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("at", "slow"), [(30.0, False), (34.1, False), (36.0, False), (34.1, True)])
def test_a_limit_that_halves_is_found_within_five_seconds(limit: int, at: float, slow: bool) -> None:
    halves = Replaced(nginx(limit), at, nginx(limit / 2, 0.5))
    trace = ride(halves, Near(slow=slow), seconds=at + 15)
    assert trace.utilization(limit / 2, at + 5, at + 15) >= 0.9
    assert trace.refused_share(at, at + 5) <= 0.05


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("at", [30.0, 35.5])
def test_a_limit_that_doubles_is_found_within_fifteen_seconds(limit: int, at: float) -> None:
    doubles = Replaced(nginx(limit), at, nginx(limit * 2, 2))
    trace = ride(doubles, NGINX, seconds=at + 25)
    assert trace.utilization(limit * 2, at + 15, at + 25) >= 0.9
    assert trace.refused_share(at, at + 25) <= 0.01


def test_a_limit_that_doubles_while_it_is_measured_is_found_as_fast() -> None:
    # A probe is refused at 31.5 s, and the slow climb after it is in flight until 32.6 s.
    trace = ride(Replaced(nginx(100), 31.8, nginx(200, 2)), NGINX, seconds=60)
    assert 31 < trace.refused[bisect_left(trace.refused, 30)] < 31.8
    assert trace.utilization(200, 46.8, 60) >= 0.9
    assert trace.refused_share(31.8, 60) <= 0.01


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_idle_seconds_are_not_taken_for_a_lower_limit(share: float) -> None:
    trace = simulate(
        RateController(),
        Replaced(nginx(100), 28.2, nginx(100 * share, share)),
        seconds=60,
        latency=NGINX,
        workers=50,
        # During the slow climb that measures; the exhaustion after it ends a mostly idle measurement.
        demand=lambda now: 0.3 if 26.0 < now < 28.0 else 1000.0,
    )
    assert trace.utilization(100 * share, 33.2, 60) >= 0.9


# The whole of a list, from the first call to the last


def whole(limiter: Limiter, limit: int, latency: Latency, seed: int) -> tuple[float, float]:
    """Return how much of the limit a list of 5,500 numbers uses, and the share of its calls that is refused."""
    trace = simulate(
        RateController(), limiter, seconds=5_500 / limit * 2.2, latency=latency, workers=100, seed=seed
    )
    end = trace.admitted[5_499]
    return 5_500 / (limit * end), trace.refused_share(0, end)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("limit", "latency", "least", "most"),
    [
        (20, NGINX, 0.97, 0.0035),
        (100, NGINX, 0.94, 0.003),
        (100, SANDBOX, 0.94, 0.003),
        (100, Far(0.02), 0.94, 0.003),
        (100, Far(0.1), 0.92, 0.006),
        (100, Far(0.3), 0.85, 0.013),
        (200, NGINX, 0.92, 0.003),
        (500, NGINX, 0.8, 0.003),
        (500, Far(0.05), 0.75, 0.006),
    ],
    ids=lambda value: f"{value.typical}" if isinstance(value, Far) else None,
)
def test_a_list_uses_a_token_bucket_up_from_the_start(
    limit: int, latency: Latency, least: float, most: float, seed: int
) -> None:
    used, refused = whole(nginx(limit), limit, latency, seed)
    assert used >= least
    assert refused <= most


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("limit", "least"), [(20, 0.95), (100, 0.94), (200, 0.9)])
def test_a_list_uses_windows_of_a_second_up_from_the_start(limit: int, least: float, seed: int) -> None:
    used, refused = whole(FixedWindow(constant(limit), 1.0, phase(seed)), limit, SANDBOX, seed)
    assert used >= least
    assert refused <= 0.0075


@pytest.mark.parametrize("limit", [20, 100])
def test_a_minutes_quota_is_used_up_from_the_start(limit: int) -> None:
    used, refused = whole(FixedWindow(constant(limit), 60.0, 25.0), limit, SANDBOX, 0)
    assert used >= 0.97
    assert refused <= 0.01


def test_exhaustions_that_follow_each_other_fast_still_measure_the_limit() -> None:
    # Each came too soon after the last to measure anything, so 150/s stayed forever: 5.6 % were refused.
    falls = Replaced(nginx(150), 10, nginx(100))
    trace = simulate(RateController(start=145), falls, seconds=25, latency=NGINX, workers=50, seed=1)
    assert trace.refused_share(12, 25) <= 0.005
    assert trace.utilization(100, 12, 25) >= 0.95


# Limits of other kinds


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("burst_share", "latency"), [(0.3, 0.02), (1.0, 0.02), (1.0, 0.002)])
def test_a_bucket_of_any_depth_is_used_up_and_hardly_ever_hit(
    limit: int, burst_share: float, latency: float
) -> None:
    trace = run(TokenBucket(constant(limit), limit * burst_share), latency=latency)
    assert trace.utilization(limit, 10, 60) >= 0.97
    assert trace.refused_share(10, 60) <= 0.005


@pytest.mark.parametrize("limit", [20, 100])
def test_a_bucket_of_five_calls_is_used_up_and_hardly_ever_hit(limit: int) -> None:
    trace = ride(TokenBucket(constant(limit), 5), NGINX)
    assert trace.utilization(limit, 10, 60) >= 0.97
    assert trace.refused_share(10, 60) <= 0.005


@pytest.mark.parametrize("limit", [100, 500])
def test_a_window_of_a_second_that_halves_is_found_within_five_seconds(limit: int) -> None:
    trace = ride(FixedWindow(changing(limit, 30, limit / 2), 1.0, phase(1)), SANDBOX, seed=1)
    assert trace.utilization(limit / 2, 35, 45) >= 0.9
    assert trace.refused_share(30, 35) <= 0.05


def test_once_its_reset_is_known_an_exhausted_window_is_waited_for() -> None:
    trace = ride(FixedWindow(changing(500, 30, 100), 1.0, 0.4), SANDBOX)
    # One refusal, one try to make sure that it is a window, and none until it turns at 30.4 or 31.4.
    assert trace.refused_between(30, 31.3) <= 4
    assert trace.utilization(100, 32, 42) >= 0.9


def test_windows_that_reset_at_another_time_are_found_again() -> None:
    shifts = Replaced(FixedWindow(constant(100), 1.0, 0.1), 30, FixedWindow(constant(100), 1.0, 0.6))
    trace = ride(shifts, SANDBOX)
    assert trace.utilization(100, 35, 60) >= 0.93
    assert trace.refused_share(30, 60) <= 0.01


def test_a_window_reset_that_does_not_come_is_tried_less_and_less_often() -> None:
    windows = FixedWindow(constant(100), 1.0, 0.1)
    shut = Replaced(windows, 30.3, Replaced(FixedWindow(constant(0), 1.0), 33.3, windows))
    trace = ride(shut, SANDBOX)
    assert trace.refused_between(30.3, 33.3) <= 10
    assert trace.utilization(100, 40, 60) >= 0.93


@pytest.mark.parametrize("limit", LIMITS)
def test_a_bucket_that_takes_the_place_of_windows_is_not_taken_for_them(limit: int) -> None:
    turns = Replaced(FixedWindow(constant(limit), 1.0, 0.3), 30.6, nginx(limit / 2, 0.5))
    trace = ride(turns, SANDBOX)
    assert trace.utilization(limit / 2, 36, 60) >= 0.93
    assert trace.refused_share(35, 60) <= 0.005


@pytest.mark.parametrize("latency", [0.1, 0.3])
def test_slow_replies_cost_some_of_the_limit_and_few_refusals(latency: float) -> None:
    trace = run(TokenBucket(constant(100), 50), seconds=120, latency=latency)
    assert trace.utilization(100, 30, 120) >= 0.9
    # A refused probe is known a latency later: until then everything over the limit is refused.
    assert trace.refused_share(30, 120) <= 0.1 * latency


def test_replies_that_stall_for_a_second_do_not_upset_it() -> None:
    controller = RateController()
    trace = simulate(controller, TokenBucket(constant(100), 30), seconds=60, latency=Far(0.02, stalls=0.01))
    assert trace.utilization(100, 15, 60) >= 0.95
    assert trace.refused_share(15, 60) <= 0.01


def test_a_sliding_window_of_a_second_is_used_up() -> None:
    trace = run(SlidingWindow(constant(100), 1.0))
    assert trace.utilization(100, 10, 60) >= 0.88
    assert trace.refused_share(10, 60) <= 0.005


def test_a_sliding_window_of_a_minute_comes_to_an_even_pace() -> None:
    trace = run(SlidingWindow(constant(20), 60.0), seconds=300)
    assert trace.utilization(20, 60, 300) >= 0.75
    assert trace.refused_share(60, 300) <= 0.06


def test_the_rest_of_a_limit_shared_with_another_client_is_used() -> None:
    limiter = SharedWithAnotherClient(
        TokenBucket(constant(100), 20), lambda now: 30.0 if now % 40 < 20 else 60.0
    )
    trace = run(limiter, seconds=120, latency=0.02)
    left = 100 - len([moment for moment in limiter.its_admitted if moment >= 20]) / 100
    assert trace.utilization(left, 20, 120) >= 0.75
    assert trace.refused_share(20, 120) <= 0.03


def test_without_a_limit_it_grows_until_the_workers_are_all_busy() -> None:
    trace = simulate(RateController(), Unlimited(), seconds=20, latency=Far(0.05, 0.0), workers=20)
    assert trace.admitted_between(15, 20) / 5 >= 0.95 * 20 / 0.05


@pytest.mark.parametrize("limit", [2, 3, 4])
@pytest.mark.parametrize("latency", [0.0, 0.1, 0.3, 1.0])
def test_the_regular_tokens_of_a_slow_bucket_are_not_taken_for_windows(limit: int, latency: float) -> None:
    for seed in range(5):
        trace = run(TokenBucket(constant(limit), 10), seconds=300, latency=latency, seed=seed)
        assert trace.utilization(limit, 20, 300) >= 0.94
        assert trace.refused_share(20, 300) <= 0.015


@pytest.mark.parametrize(("per_call", "used"), [(0.5, 0.8), (2.0, 0.8), (10.0, 0.65)])
def test_a_limit_of_one_call_in_seconds_is_found(per_call: float, used: float) -> None:
    trace = run(TokenBucket(constant(1 / per_call), 0), seconds=600 * per_call)
    assert trace.utilization(1 / per_call, 60 * per_call, 600 * per_call) >= used
    assert trace.refused_share(60 * per_call, 600 * per_call) <= 0.06


def test_a_limit_of_thousands_is_reached() -> None:
    controller = RateController()
    trace = simulate(
        controller,
        TokenBucket(constant(5000), 500),
        seconds=20,
        latency=Far(0.01),
        workers=400,
    )
    assert trace.utilization(5000, 17, 20) >= 0.9
    assert trace.refused_share(10, 20) <= 0.01


def test_it_starts_slowly() -> None:
    trace = run(Unlimited(), seconds=10)
    assert trace.admitted_between(0, 1) <= 5
    assert trace.admitted_between(0, 10) <= 370


def test_a_learned_rate_is_used_at_once() -> None:
    trace = simulate(RateController(start=90), TokenBucket(constant(100), 20), seconds=60, latency=Far(0.002))
    assert trace.utilization(100, 0, 10) >= 0.88
    assert trace.utilization(100, 10, 60) >= 0.97
    assert trace.refused_share(0, 60) <= 0.005


def test_a_learned_rate_that_is_far_too_high_is_given_up_fast() -> None:
    trace = simulate(RateController(start=450), TokenBucket(constant(20), 5), seconds=60, latency=Far(0.02))
    assert trace.refused_between(0, 10) <= 40
    assert trace.utilization(20, 20, 60) >= 0.9


def test_a_learned_rate_that_is_far_too_low_is_outgrown() -> None:
    trace = simulate(RateController(start=18), TokenBucket(constant(500), 50), seconds=40, latency=Far(0.002))
    assert trace.utilization(500, 25, 40) >= 0.95


def test_the_bounds_hold() -> None:
    free = simulate(RateController(low=5, high=50), Unlimited(), seconds=30)
    assert free.admitted_between(25, 30) / 5 == pytest.approx(50, rel=0.01)
    assert max(rate for _, rate in free.rates) <= 50
    tight = simulate(RateController(low=5, high=50), TokenBucket(constant(1), 0), seconds=60)
    assert min(rate for _, rate in tight.rates) == 5


def test_the_limit_it_has_learned_is_the_limit() -> None:
    controller = RateController()
    simulate(controller, TokenBucket(constant(100), 20), seconds=60, latency=Far(0.002))
    assert controller.learned == pytest.approx(100, rel=0.03)


def test_an_account_without_a_limit_is_not_searched_from_the_start_again() -> None:
    first = RateController()
    simulate(first, Unlimited(), seconds=15, latency=NGINX)
    assert first.floor is not None
    assert first.floor > 300
    trace = simulate(RateController(floor=first.floor), Unlimited(), seconds=3, latency=NGINX)
    assert len(trace.admitted) > 2_600


@pytest.mark.parametrize(
    "limiter",
    [
        *(partial(TokenBucket, constant(limit), max(1, limit // 10)) for limit in (1, 2, 5, 20, 100, 500)),
        *(partial(FixedWindow, constant(limit), 1.0, 0.3) for limit in (5, 50, 200)),
        partial(FixedWindow, constant(60), 10.0, 3.3),
    ],
)
def test_a_limit_that_is_new_costs_few_refusals_where_none_was_met_before(
    limiter: Callable[[], Limiter],
) -> None:
    before, after = (
        simulate(RateController(floor=floor), limiter(), seconds=30, latency=NGINX) for floor in (None, 3_000)
    )
    assert len(after.refused) <= len(before.refused) + 12
    assert len(after.admitted) >= 0.95 * len(before.admitted)


def test_a_rate_that_was_refused_or_not_used_up_is_not_a_floor() -> None:
    refused, idle = RateController(), RateController()
    simulate(refused, TokenBucket(constant(100), 20), seconds=10, latency=NGINX)
    assert refused.floor is None
    simulate(idle, Unlimited(), seconds=10, latency=NGINX, demand=constant(5))
    assert idle.floor is not None
    assert idle.floor <= 15


def test_nothing_is_learned_where_nothing_was_refused() -> None:
    controller = RateController(start=45)
    simulate(controller, Unlimited(), seconds=5)
    assert controller.learned is None


def test_an_unused_rate_does_not_grow() -> None:
    trace = simulate(RateController(), Unlimited(), seconds=120, demand=constant(10.0))
    assert trace.rate_at(120) <= 30


def test_the_refusals_of_one_exhaustion_cut_once() -> None:
    controller = RateController(start=100)
    for number in range(50):
        controller.sent(number / 100)
    controller.rate(0.5)
    controller.refused(0.5, 0.45)
    held_until = controller.resume_at
    rate = controller.rate(0.5)
    for number in range(46, 50):
        controller.refused(0.51, number / 100)
    assert controller.resume_at == held_until
    assert controller.rate(0.51) == rate


def test_in_a_lockout_a_single_call_goes_out_and_the_next_waits_for_its_reply() -> None:
    controller = RateController(start=100)
    controller.sent(0.0)
    controller.refused(0.01, 0.0)
    assert controller.phase is Phase.LOCKOUT
    tried_at = controller.resume_at
    controller.rate(tried_at)
    controller.sent(tried_at)
    assert controller.resume_at > tried_at + 0.01
    controller.admitted(tried_at + 0.01, tried_at)
    assert controller.resume_at <= tried_at + 0.01


def test_tries_in_a_lockout_come_further_and_further_apart() -> None:
    controller = RateController(start=100)
    controller.sent(0.0)
    controller.refused(0.01, 0.0)
    waits = []
    now = 0.01
    for _ in range(12):
        waits.append(controller.resume_at - now)
        now = controller.resume_at
        controller.rate(now)
        controller.sent(now)
        controller.refused(now + 0.001, now)
        now += 0.001
    assert waits == pytest.approx(sorted(waits))
    assert waits[-1] == pytest.approx(5.0, abs=0.01)


def test_the_wait_that_the_vendor_asks_for_is_kept() -> None:
    controller = RateController(start=100)
    controller.sent(1.0)
    controller.refused(1.1, 1.0, retry_after=7.0)
    assert controller.resume_at == pytest.approx(8.1)


@pytest.mark.parametrize("retry_after", [-1.0, 0.0, math.nan, math.inf])
def test_an_absurd_retry_after_is_ignored(retry_after: float) -> None:
    controller = RateController(start=100)
    controller.sent(1.0)
    controller.refused(1.1, 1.0, retry_after=retry_after)
    assert controller.resume_at < 1.3


@pytest.mark.parametrize("jump", [-1e6, -3.0, 1e3, 1e9])
def test_a_clock_that_jumps_changes_nothing(jump: float) -> None:
    class JumpingClock:
        """The controller's clock jumps at 30 s; everything else uses the true one."""

        def __init__(self) -> None:
            self.inner = RateController()

        def shown(self, now: float) -> float:
            return now + jump if now > 30 else now

        @property
        def resume_at(self) -> float:
            until = self.inner.resume_at
            return until - jump if abs(until - jump) < abs(until) else until

        def rate(self, now: float) -> float:
            return self.inner.rate(self.shown(now))

        def sent(self, now: float) -> None:
            self.inner.sent(self.shown(now))

        def admitted(self, now: float, sent_at: float) -> None:
            self.inner.admitted(self.shown(now), self.shown(sent_at))

        def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
            self.inner.refused(self.shown(now), self.shown(sent_at), retry_after)

    trace = simulate(JumpingClock(), TokenBucket(constant(50), 10), seconds=60, latency=Far(0.002))
    assert trace.utilization(50, 10, 60) >= 0.95
    assert trace.refused_share(10, 60) <= 0.01


@pytest.mark.parametrize(
    "bounds",
    [
        {"low": 0.0},
        {"low": -1.0},
        {"low": math.nan},
        {"low": math.inf},
        {"high": 0.0},
        {"high": math.nan},
        {"start": 0.0},
        {"start": math.nan},
        {"start": math.inf},
        {"low": 200.0, "high": 5.0},
    ],
)
def test_invalid_bounds_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        RateController(**bounds)


def test_the_simulated_limits_agree_with_arithmetic() -> None:
    def admitted(limiter: Limiter) -> float:
        return simulate(Pinned(200), limiter, seconds=60).admitted_between(10, 60) / 50

    limiters: list[Callable[[], Limiter]] = [
        lambda: TokenBucket(constant(100), 10),
        lambda: FixedWindow(constant(100), 1.0, 0.3),
        lambda: SlidingWindow(constant(100), 1.0),
    ]
    for limiter in limiters:
        assert admitted(limiter()) == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lateness", [0.03, 0.06, 0.1])
def test_a_busy_machine_with_late_timers_still_finds_the_limit(lateness: float, seed: int) -> None:
    """It loses permits to late timers, which is no reason to ask for fewer."""
    controller = RateController()
    controller.queued = True
    trace = simulate(
        controller, nginx(100), seconds=60, latency=NGINX, workers=50, seed=seed, lateness=lateness
    )
    assert trace.rate_at(5) >= 50
    assert trace.rate_at(20) >= 70
    assert trace.refused_share(0, 60) <= 0.01


class InPieces:
    """A controller that learns of calls from reports; a part of each report is missing and comes with the next."""

    def __init__(self, missing: float, seed: int) -> None:
        self.controller = RateController()
        self.controller.lag = 0.27
        self._missing = missing
        self._chance = random.Random(seed)
        self._unreported: list[tuple[float, int, float]] = []
        self._heard: list[tuple[float, int, float]] = []
        self._reported_at = self._told_at = -math.inf
        self._rate = self.controller.rate(0.0)

    @property
    def resume_at(self) -> float:
        return self.controller.resume_at

    def sent(self, now: float) -> None:
        self._unreported.append((now, 0, now))

    def admitted(self, now: float, sent_at: float) -> None:
        self._unreported.append((now, 1, sent_at))

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        self._unreported.append((now, 2, sent_at))

    def rate(self, now: float) -> float:
        if now - self._reported_at >= 0.075:
            self._report(now)
        return self._rate

    def _report(self, now: float) -> None:
        self._reported_at = now
        late = {event for event in self._unreported if self._chance.random() < self._missing}
        self._heard = sorted([*self._heard, *(event for event in self._unreported if event not in late)])
        self._unreported = sorted(late)
        while self._heard and self._heard[0][0] <= now - 0.12:
            at, kind, sent_at = self._heard.pop(0)
            self._told_at = at = max(at, self._told_at)
            if kind == 0:
                self.controller.sent(at)
            elif kind == 1:
                self.controller.admitted(at, sent_at)
            else:
                self.controller.refused(at, sent_at)
        self._told_at = max(self._told_at, now - 0.12)
        self._rate = self.controller.rate(self._told_at)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("missing", [0.2, 0.5])
@pytest.mark.parametrize("limiter", [lambda: nginx(100), lambda: FixedWindow(constant(100), 1.0, 0.37)])
def test_reports_that_come_in_pieces_are_not_taken_for_a_lower_limit(
    limiter: Callable[[], Limiter], missing: float, seed: int
) -> None:
    trace = simulate(InPieces(missing, seed), limiter(), seconds=60, latency=NGINX, workers=50, seed=seed)
    assert min(rate for at, rate in trace.rates if at >= 20) >= 25
    assert trace.utilization(100, 20, 60) >= 0.7


@given(
    sent=st.lists(st.floats(min_value=2, max_value=5), min_size=1, max_size=30).map(sorted),
    missing=st.sets(st.integers(0, 29)),
    limit=st.floats(min_value=1, max_value=500),
)
def test_a_window_without_reports_yet_does_not_lower_the_limit(
    sent: list[float], missing: set[int], limit: float
) -> None:
    calls, clock = Calls(), SteadyClock()
    windows = Windows(calls, clock)
    clock.advance(0.0)
    for reset in (0.3, 1.3, 2.3):
        lockout = Lockout(reset - 0.2, Mark(reset - 0.2, 0, 0, 0.0), 100.0, latency=0.01, resumes=False)
        lockout.refuse(reset - 0.01)
        windows.learn(lockout, reset)
    assert windows.known
    refused_at = sent[-1]
    for n, at in enumerate(sent):
        if n not in missing:
            calls.sent += 1
            calls.times.append(at)
    corrected = windows.correct(limit, Mark(refused_at, calls.sent_until(refused_at), 1, 0.0))
    assert corrected >= 1


Moment = st.floats(min_value=-1e3, max_value=1e6) | st.sampled_from([math.nan, math.inf, -math.inf])
Event = st.tuples(st.sampled_from(["sent", "admitted", "refused", "retry"]), Moment, Moment)


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(Event, max_size=60),
    start=st.none() | st.floats(min_value=0.1, max_value=1000.0),
)
def test_the_rate_always_stays_within_its_bounds(
    events: list[tuple[str, float, float]], start: float | None
) -> None:
    controller = RateController(low=0.1, high=1000.0, start=start)
    for kind, now, other in events:
        match kind:
            case "sent":
                controller.sent(now)
            case "admitted":
                controller.admitted(now, other)
            case "refused":
                controller.refused(now, other)
            case _:
                controller.refused(now, now, retry_after=other)
        assert 0.1 <= controller.rate(now) <= 1000.0
        assert not math.isnan(controller.resume_at)
        assert controller.learned is None or controller.learned > 0
