"""The time left, compared with whole runs of the engine in virtual time, and with made-up counts for rare cases."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from accucheck import Client, testing
from accucheck._models import Stats
from accucheck._schedule import Hours, RatePlan
from accucheck.cli._progress import RunMeter
from accucheck.cli._run import RunNotice
from accucheck.cli._time_left import TimeLeft
from accucheck.sandbox import Soft
from accucheck.testing import Settings
from tests.virtual_time import run


class Shown(NamedTuple):
    left: float
    """Seconds that were really left."""
    elapsed: float
    eta: float | None
    bound: str | None
    words: str
    data: dict[str, Any]


@pytest.fixture
def whole_run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what the progress shows at each second of a run."""

    async def go(settings: Settings, numbers: int, rate: Any, options: dict[str, Any]) -> list[Shown]:
        loop = asyncio.get_running_loop()
        clock = SimpleNamespace(monotonic=loop.time, time=lambda: 1.8e9 + loop.time())
        monkeypatch.setattr(testing, "time", clock)
        notice = RunNotice("AccuAuth", timedelta())
        shown: list[tuple[float, Any]] = []
        vendor = testing.FakeVendor(settings=settings)
        async with Client("id", "secret", transport=vendor, rate=rate) as client:
            texts = (str(987_000_000 + n) for n in range(numbers))
            stream = client.stream(texts, on_event=notice, **options)
            meter = RunMeter(
                lambda: stream.stats, numbers, pause=lambda: stream.pause, outage=lambda: notice.outage
            )

            async def watch() -> None:
                while True:
                    shown.append((stream.stats.elapsed, meter()))
                    await asyncio.sleep(1)

            async with stream:
                watching = asyncio.create_task(watch())
                async for _ in stream:
                    pass
                watching.cancel()
            total = stream.stats.elapsed
        return [
            Shown(
                total - elapsed,
                elapsed,
                view.data["eta_seconds"],
                view.data["eta_bound"],
                view.facts[-1],
                dict(view.data),
            )
            for elapsed, view in shown
        ]

    def start(settings: Settings, numbers: int, rate: Any = "auto", **options: Any) -> list[Shown]:
        return run(go(settings, numbers, rate, options))

    return start


def is_right(each: Shown, pending_for: float = 0.0) -> bool:
    """Within a fifth, or within a few seconds if that is more: nobody can predict the last pending number."""
    if each.eta is None:
        return each.left < 12 + pending_for / 5
    if each.bound == "at most":
        return each.left <= 1.2 * each.eta + 5
    if each.bound == "at least":
        return each.left >= each.eta - 5
    return abs(each.eta - each.left) <= max(0.2 * each.left, 5, pending_for / 5)


STEADY = {
    "one call a second": (Settings(rate=1.0, latency=80.0), 300, "auto"),
    "one call a second, some pending": (
        Settings(rate=1.0, pending=0.3, pending_for=5.0, latency=80.0),
        220,
        "auto",
    ),
    "slow": (Settings(rate=3.0, latency=80.0), 700, "auto"),
    "slow, some pending": (Settings(rate=3.0, pending=0.1, pending_for=5.0, latency=80.0), 600, "auto"),
    "slow, many pending for long": (
        Settings(rate=3.0, pending=0.3, pending_for=60.0, latency=80.0),
        450,
        "auto",
    ),
    "slow, a given rate": (Settings(pending=0.1, pending_for=5.0, latency=80.0), 500, 2.7),
    "slow, retries and soft answers": (
        Settings(
            rate=3.0, pending=0.1, pending_for=15.0, errors=0.1, soft=Soft({"checking": 0.1}), latency=80.0
        ),
        600,
        "auto",
    ),
    "many pending for long": (Settings(rate=10.0, pending=0.3, pending_for=60.0, latency=80.0), 1500, "auto"),
    "few pending for long": (Settings(rate=20.0, pending=0.1, pending_for=60.0, latency=80.0), 3500, "auto"),
    "quick": (Settings(rate=50.0, pending=0.1, pending_for=5.0, latency=80.0), 7500, "auto"),
}


@pytest.mark.parametrize("case", STEADY)
def test_the_time_left_is_right_within_a_fifth_from_the_second_minute(case: str, whole_run: Any) -> None:
    settings, numbers, rate = STEADY[case]
    shown = whole_run(settings, numbers, rate)
    assert shown[-1].elapsed > 150
    late = [each for each in shown if each.elapsed >= 60]
    wrong = [each[:4] for each in late if not is_right(each, settings.pending_for if settings.pending else 0)]
    # The last pending numbers are answered at random times, which cannot be predicted.
    assert len(wrong) <= len(late) * 0.05, wrong
    told = [each for each in late if each.eta is not None and (each.bound is None or settings.rate == 1.0)]
    assert len(told) > 0.8 * len(late)
    assert all(each.eta != 0 for each in shown)


def test_if_answers_take_minutes_the_time_left_is_shown_as_unknown(whole_run: Any) -> None:
    shown = whole_run(Settings(rate=5.0, pending=0.3, pending_for=600.0), 1000, pending="later")
    assert shown[-1].elapsed > 900
    late = [each for each in shown if each.elapsed >= 120]
    assert all(each.bound == "at least" or each.eta is None for each in late)
    assert any(each.words.startswith("ETA at least") for each in late)


def test_an_outage_is_shown_and_does_not_count(whole_run: Any) -> None:
    shown = whole_run(Settings(rate=3.0, latency=80.0, outage=(150.0, 60.0)), 900)
    during = [each for each in shown if 180 < each.elapsed < 205]
    assert all(each.words == "waiting for AccuAuth" and each.eta is None for each in during)
    assert all(each.data["outage"] for each in during)
    after = [each for each in shown if each.elapsed > 260]
    assert len(after) > 50
    assert not [each[:4] for each in after if not is_right(each)]


def flow(rate: float, seconds: int, numbers: int, pause: tuple[int, int] = (0, 0)) -> Iterator[Stats]:
    """Yield the counts of each second of a run at a steady rate, except during a pause."""
    for second in range(seconds):
        working = second - min(max(second - pause[0], 0), pause[1] - pause[0])
        done = min(int(rate * working), numbers)
        yield Stats(elapsed=float(second), yes=done, calls=done, rate=rate)


@pytest.mark.parametrize("rate", [1, 3, 17, 500])
def test_a_steady_flow_is_forecast_to_the_second(rate: int) -> None:
    numbers = rate * 400
    time_left = TimeLeft(numbers)
    for counts in flow(rate, 395, numbers):
        forecast = time_left(counts)
        if counts.elapsed >= 60:
            assert forecast.seconds == pytest.approx(400 - counts.elapsed, abs=3)


def test_a_pause_is_shown_with_its_end_and_does_not_slow_the_forecast() -> None:
    now = datetime(2026, 11, 26, 20, 0, tzinfo=UTC).timestamp()
    counts = list(flow(10, 300, 4000, pause=(100, 200)))
    pauses = [10_800.0 if 100 < each.elapsed < 200 else 0.0 for each in counts]
    place = iter(range(300))
    at = [0]
    meter = RunMeter(lambda: counts[at[0]], 4000, pause=lambda: pauses[at[0]], wall=lambda: now)
    for at[0] in place:
        view = meter()
        if pauses[at[0]]:
            assert view.facts[-1].startswith("paused until ")
            assert view.data["paused_until"] == "2026-11-26T23:00:00+00:00"
            assert view.data["eta_seconds"] is None
    assert view.data["eta_seconds"] == pytest.approx(200, abs=4)
    assert view.data["paused_until"] is None


def test_a_pause_for_the_hours_ends_in_their_time_zone() -> None:
    now = datetime(2026, 11, 27, 1, 0, tzinfo=UTC).timestamp()
    plan = RatePlan.read("auto,08:00-20:00 America/Lima")
    assert plan.hours is not None
    wait = plan.hours.wait(now)
    meter = RunMeter(lambda: Stats(elapsed=5.0), 10, plan=plan, pause=lambda: wait, wall=lambda: now)
    assert meter().facts[-1] == "paused until Fri 08:00 America/Lima"


def test_the_hours_are_part_of_the_time_left() -> None:
    hours = Hours.read("08:00-20:00 America/Lima")
    at = datetime(2026, 11, 26, 19, 0, tzinfo=hours.zone).timestamp()
    assert hours.span(at, 1800) == 1800
    assert hours.span(at, 3600 + 60) == 13 * 3600 + 60
    assert hours.span(at, 3600 + 12 * 3600 + 60) == 37 * 3600 + 60
    assert hours.span(at + 2 * 3600, 60) == 11 * 3600 + 60
    over_midnight = Hours.read("22:00-02:00 America/Lima")
    assert over_midnight.span(at, 5 * 3600) == 3 * 3600 + 4 * 3600 + 20 * 3600 + 3600
    time_left = TimeLeft(10_000, plan=RatePlan.read("1/s,08:00-20:00 America/Lima"), wall=lambda: at)
    for counts in flow(1, 100, 10_000):
        forecast = time_left(counts)
    assert forecast.seconds == pytest.approx(12 * 3600 + 9900, abs=100)


def test_quotas_are_part_of_the_time_left() -> None:
    time_left = TimeLeft(5000, plan=RatePlan.read("10/s,2000/d"))
    for counts in flow(10, 100, 5000):
        forecast = time_left(counts)
    assert forecast.seconds == pytest.approx(2 * 86_400, abs=200)


def test_a_cap_on_calls_ends_the_run_before_the_list() -> None:
    time_left = TimeLeft(5000, most_calls=1500)
    for counts in flow(10, 101, 5000):
        forecast = time_left(counts)
    assert forecast.seconds == pytest.approx(50, abs=2)


def test_a_limit_that_changes_is_noticed_within_a_minute() -> None:
    time_left = TimeLeft(20_000)
    for counts in flow(50, 200, 20_000):
        time_left(counts)
    for second in range(60):
        done = 50 * 199 + 10 * second
        forecast = time_left(Stats(elapsed=200.0 + second, yes=done, calls=done, rate=10.0))
    assert forecast.seconds is not None
    assert math.isclose(forecast.seconds, (20_000 - done) / 10, rel_tol=0.2)
