"""Schedules: their text, quotas that hold in every span, and hours of the day."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck import AdaptiveGate, ConfigurationError
from accucheck._gate import PacedGate
from accucheck._rate import RateController
from accucheck._schedule import Hours, Quota, RatePlan, Schedule
from tests.virtual_time import START, run


def moment(text: str, zone: str = "America/Lima") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


# Rates


@pytest.mark.parametrize(
    ("rate", "low", "high", "start", "quotas"),
    [
        (50, 0.02, 50, 50, ()),
        (0.01, 0.01, 0.01, 0.01, ()),
        ((5, 200), 5, 200, None, ()),
        ("auto", 0.02, math.inf, None, ()),
        ("50/s", 0.02, 50, 50, ()),
        ("0.5/s", 0.02, 0.5, 0.5, ()),
        ("5:200", 5, 200, None, ()),
        ("5:200/s", 5, 200, None, ()),
        ("10000/d", 0.02, math.inf, None, ((10_000, 86_400),)),
        ("50/s,10000/d", 0.02, 50, 50, ((10_000, 86_400),)),
        ("AUTO , 2000/h, 100/min", 0.02, math.inf, None, ((2_000, 3_600), (100, 60))),
        ("5:200,90/m", 5, 200, None, ((90, 60),)),
    ],
)
def test_a_rate_is_read(
    rate: Any, low: float, high: float, start: float | None, quotas: tuple[tuple[int, float], ...]
) -> None:
    assert RatePlan.read(rate) == (low, high, start, quotas, None)


def test_text_may_give_hours_too() -> None:
    plan = RatePlan.read("50/s, 10000/d, 08:00-20:00 America/Lima")
    assert (plan.high, plan.quotas, plan.hours) == (
        50,
        ((10_000, 86_400),),
        Hours.read("08:00-20:00 America/Lima"),
    )
    assert RatePlan.read("08:00-20:00").high == math.inf
    with pytest.raises(ConfigurationError, match="hours must be two times"):
        RatePlan.read("50/s,08:00-25:00")


@pytest.mark.parametrize(
    ("rate", "calls", "seconds"),
    [
        ("auto", 1_000, None),
        (50, 1_000, 20),
        ((5, 200), 1_000, 5),
        ("50/s,100/min", 1_000, 540),
        ("50/s,100/min", 1_001, 600),
        ("10000/d", 9_999, 0),
        ("10000/d", 0, 0),
        ("50/s,1000000/d", 1_000, 20),
    ],
)
def test_a_rate_says_how_long_calls_take(rate: Any, calls: int, seconds: float | None) -> None:
    assert RatePlan.read(rate).seconds_for(calls) == seconds


@pytest.mark.parametrize(
    "rate",
    [
        "",
        ",",
        "50",
        "50/",
        "/s",
        "0/s",
        "0/d",
        "-5/s",
        "1.5/d",
        "50/x",
        "nan/s",
        "1.2.3/s",
        "inf/s",
        "fast",
        "50/s;1/d",
    ],
)
def test_text_that_is_not_a_rate_is_refused_with_an_example_of_one(rate: str) -> None:
    with pytest.raises(ConfigurationError, match="'50/s,10000/d'"):
        RatePlan.read(rate)


@pytest.mark.parametrize(
    ("rate", "reason"), [("50/s,60/s", "only once"), ("auto,50/s", "only once"), ("9:5", "low below high")]
)
def test_text_that_contradicts_itself_is_refused(rate: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        RatePlan.read(rate)


# Quotas


class Wall:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@given(
    calls=st.integers(1, 50),
    seconds=st.sampled_from([60.0, 3600.0, 86_400.0]),
    gaps=st.lists(st.floats(0, 0.2), min_size=1, max_size=300),
)
@settings(max_examples=60, deadline=None)
def test_no_span_holds_more_calls_than_its_quota(calls: int, seconds: float, gaps: list[float]) -> None:
    wall = Wall()
    schedule = Schedule([Quota(calls, seconds)], wall=wall)
    made: list[float] = []
    for gap in gaps:
        wall.now += gap * seconds
        if not schedule.wait():
            schedule.count()
            made.append(wall.now)
    for first, last in zip(made, made[calls:], strict=False):
        assert last - first >= seconds - 1e-6


@given(calls=st.integers(1, 20), made=st.integers(0, 40))
@settings(deadline=None)
def test_the_wait_is_as_long_as_it_needs_to_be_and_hardly_longer(calls: int, made: int) -> None:
    wall = Wall()
    schedule = Schedule([Quota(calls, 60.0)], wall=wall)
    for _ in range(made):
        wall.now += schedule.wait()
        assert schedule.wait() == 0
        schedule.count()
    assert wall.now - 1_000_000.0 <= (max(made - 1, 0) // calls) * 60.2 + 1e-6


def test_several_quotas_hold_at_once() -> None:
    wall = Wall()
    schedule = Schedule([Quota(2, 60.0), Quota(3, 3600.0)], wall=wall)
    waits = []
    for _ in range(4):
        waits.append(schedule.wait())
        wall.now += waits[-1]
        schedule.count()
    assert waits == pytest.approx([0, 0, 60, 3540], abs=7)


def test_calls_of_earlier_runs_count() -> None:
    wall = Wall()
    first = Schedule([Quota(3, 86_400.0)], wall=wall)
    first.count()
    first.count()
    wall.now += 3600
    second = Schedule([Quota(3, 86_400.0), Quota(5, 60.0)], wall=wall)
    second.restore(first.usage())
    second.count()
    assert second.wait() == pytest.approx(82_800, abs=145)
    wall.now += 86_400
    third = Schedule([Quota(1, 86_400.0)], wall=wall)
    third.restore(second.usage())
    assert third.wait() <= 145  # all but the last call have left


@pytest.mark.parametrize(
    "usage",
    [
        "",
        "null",
        "[]",
        "{",
        '{"86400": 5}',
        '{"86400": [[1]]}',
        '{"86400": [["a", 2]]}',
        '{"86400": [[NaN, 2], [1e308, -2]]}',
    ],
)
def test_an_invalid_usage_is_ignored(usage: str) -> None:
    schedule = Schedule([Quota(3, 86_400.0)], wall=Wall())
    schedule.restore(usage)
    assert schedule.wait() == 0


def test_a_usage_from_the_future_counts_as_of_now() -> None:
    wall = Wall()
    wall.now += 1e6
    ahead = Schedule([Quota(1, 60.0)], wall=wall)
    ahead.count()
    usage = ahead.usage()
    wall.now -= 1e6
    schedule = Schedule([Quota(1, 60.0)], wall=wall)
    schedule.restore(usage)
    assert 59 <= schedule.wait() <= 61


@pytest.mark.parametrize("jump", [-1e5, -30.0])
def test_a_clock_that_is_set_back_never_gives_more(jump: float) -> None:
    wall = Wall()
    schedule = Schedule([Quota(1, 60.0)], wall=wall)
    schedule.count()
    wall.now += jump
    assert schedule.wait() >= 60


# Hours


@pytest.mark.parametrize(
    ("hours", "now", "wait"),
    [
        ("08:00-20:00 America/Lima", "2026-11-26T08:00", 0),
        ("08:00-20:00 America/Lima", "2026-11-26T19:59:59", 0),
        ("08:00-20:00 America/Lima", "2026-11-26T20:00", 12 * 3600),
        ("08:00-20:00 America/Lima", "2026-11-26T07:59:30", 30),
        ("08:00-20:00", "2026-12-31T23:00", 9 * 3600),
        ("8:00 - 20:00", "2026-11-26T07:00", 3600),
        ("22:00-06:00", "2026-11-26T23:00", 0),
        ("22:00-06:00", "2026-11-26T05:59", 0),
        ("22:00-06:00", "2026-11-26T06:00", 16 * 3600),
        ("00:00-12:00", "2026-11-26T12:00", 12 * 3600),
        ("08:00-20:00 UTC", "2026-11-26T03:00", 0),  # 08:00 in UTC
        ("08:00-20:00 UTC", "2026-11-26T02:00", 3600),
    ],
)
def test_hours_are_those_of_their_time_zone(hours: str, now: str, wait: float) -> None:
    assert Hours.read(hours).wait(moment(now)) == pytest.approx(wait)


@pytest.mark.parametrize(
    ("now", "wait"),
    [
        ("2026-03-07T20:00", 11 * 3600),  # the night in which the clocks go forward
        ("2026-10-31T20:00", 13 * 3600),  # and back
    ],
)
def test_hours_follow_the_clocks_when_they_change(now: str, wait: float) -> None:
    assert Hours.read("08:00-20:00 America/New_York").wait(moment(now, "America/New_York")) == wait


@given(wall=st.floats(1.7e9, 2e9), opens=st.integers(0, 1439), length=st.integers(1, 1438))
@settings(deadline=None)
def test_after_the_wait_it_is_open(wall: float, opens: int, length: int) -> None:
    closes = (opens + length) % 1440
    hours = Hours.read(f"{opens // 60:02}:{opens % 60:02}-{closes // 60:02}:{closes % 60:02}")
    wait = hours.wait(wall)
    assert 0 <= wait <= 86_400
    assert hours.wait(wall + wait + 1e-6) == 0


@pytest.mark.parametrize(
    "hours",
    ["", "8-20", "08:00", "08:00-08:00", "25:00-26:00", "08:00-20:61", "08:00-20:00 a b", "morning", 8, None],
)
def test_invalid_hours_are_refused_with_an_example(hours: Any) -> None:
    with pytest.raises(ConfigurationError, match="08:00-20:00 America/Lima"):
        Hours.read(hours)


@pytest.mark.parametrize("zone", ["Lima", "Mars/Olympus", "../etc/passwd", "/etc/passwd"])
def test_a_time_zone_that_does_not_exist_is_named(zone: str) -> None:
    with pytest.raises(ConfigurationError, match=r"time zone.*America/Lima"):
        Hours.read(f"08:00-20:00 {zone}")


def test_lima_is_known_where_the_time_zone_database_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    def missing(key: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(key)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", missing)
    assert Hours.read("08:00-20:00").wait(moment("2026-11-26T07:00")) == 3600


# At the gate


def gate(*quotas: Quota, hours: str | None = None, at: str = "2026-11-26T19:59:50") -> PacedGate:
    """Return a gate of 1,000 calls/s whose wall clock runs with the loop's."""
    loop, begin = asyncio.get_running_loop(), moment(at)
    schedule = Schedule(
        quotas, Hours.read(hours) if hours else None, wall=lambda: begin + loop.time() - START
    )
    return PacedGate(RateController(high=1_000, start=1_000), schedule=schedule)


async def take(gate: PacedGate, calls: int) -> list[float]:
    async def call() -> float:
        return await gate.acquire() - START

    return sorted(await asyncio.gather(*(call() for _ in range(calls))))


def test_the_gate_keeps_a_quota_exactly() -> None:
    async def main() -> list[float]:
        return await take(gate(Quota(30, 60.0)), 70)

    moments = run(main())
    for first, last in zip(moments, moments[30:], strict=False):
        assert last - first >= 60.0
    assert moments[-1] <= 122


def test_the_gate_keeps_hours() -> None:
    async def main() -> list[float]:
        keeper = gate(hours="08:00-20:00")
        first = await take(keeper, 5)
        await asyncio.sleep(10)
        assert keeper.try_acquire() is None
        return [*first, *await take(keeper, 5)]

    moments = run(main())
    assert moments[4] < 1
    assert 12 * 3600 + 10 - 1e-6 <= moments[5] <= moments[-1] <= 12 * 3600 + 12


def test_the_gate_says_why_it_is_paused(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        await take(gate(Quota(1, 86_400.0), hours="08:00-20:00"), 2)

    with caplog.at_level("INFO", logger="accucheck"):
        run(main(), give_up_after=200_000)
    assert [record.getMessage() for record in caplog.records if "no calls" in record.getMessage()] == [
        "no calls for 1 day, 12:00:10: 1 calls in any day and hours 08:00-20:00"
    ]


def test_an_adaptive_gate_takes_quotas_and_hours() -> None:
    async def main() -> None:
        first = AdaptiveGate("50/s,2/d")
        assert first.usage is not None
        await first.acquire()
        await first.acquire()
        assert first.try_acquire() is None
        second = AdaptiveGate("auto,2/d,00:00-23:59")
        second.restore_usage(first.usage)
        assert second.try_acquire() is None
        assert AdaptiveGate(50).usage is None
        AdaptiveGate(50).restore_usage(first.usage)
        third = AdaptiveGate("auto,3/d")
        await third.acquire()
        third.restore_usage(first.usage)  # too late: it may hold calls of this run
        await asyncio.sleep(1)
        assert third.try_acquire() is not None

    run(main())
