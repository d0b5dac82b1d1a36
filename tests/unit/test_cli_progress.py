from __future__ import annotations

import io

import anyio
import pytest

from accucheck._models import Stats
from accucheck.cli import _progress
from accucheck.cli._progress import Meter, reporting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_facts_name_what_a_person_wants_to_see() -> None:
    meter = Meter()
    meter.add(Stats(elapsed=0.0))
    meter.add(
        Stats(elapsed=10.0, delivered=1200, yes=600, no=400, parked=37, failed=5, calls=1300, rejected=195)
    )
    assert meter.facts((5000, True)) == [
        "1,200/5,000",
        "100 checks/s",
        "yes 60.0%",
        "pending 37",
        "failed 5",
        "calls 1,300",
        "ETA 32 s",
    ]


def test_an_estimated_total_is_marked_and_an_unknown_one_left_out() -> None:
    meter = Meter()
    meter.add(Stats(delivered=10))
    assert meter.facts((5000, False))[0] == "10/~5,000"
    assert meter.facts(None)[0] == "10"
    assert not [fact for fact in meter.facts(None) if fact.startswith("ETA")]


def test_nothing_is_claimed_before_anything_is_known() -> None:
    meter = Meter()
    assert meter.facts((10, True)) == []
    meter.add(Stats())
    assert "yes -" in meter.facts((10, True))
    assert "ETA -" in meter.facts((10, True))


def test_the_speed_is_that_of_late_and_not_of_the_whole_run() -> None:
    meter = Meter()
    for second in range(100):
        meter.add(Stats(elapsed=float(second), delivered=0))
    for second in range(100, 131):
        meter.add(Stats(elapsed=float(second), delivered=(second - 100) * 50))
    assert meter.speed(lambda stats: stats.delivered) == pytest.approx(50)


async def test_a_stream_that_is_no_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "LINE_PERIOD", 0.0)
    stream = io.StringIO()
    async with reporting(lambda: Stats(delivered=3), lambda stats: (10, True), stream=stream):
        while stream.getvalue().count("\n") < 2:
            await anyio.sleep(0)
    first, second, *_ = stream.getvalue().splitlines()
    assert first == second
    assert first.startswith("accucheck: 3/10  0 checks/s")
    assert "\x1b" not in first


async def test_quiet_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "LINE_PERIOD", 0.0)
    stream = io.StringIO()
    async with reporting(lambda: Stats(), lambda stats: None, quiet=True, stream=stream):
        await anyio.sleep(0)
        await anyio.sleep(0)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("width", ["20", "80", "200"])
async def test_a_terminal_of_any_width_gets_a_bar_whose_lines_fit(
    width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_progress, "BAR_PERIOD", 0.0)
    stream = Terminal()
    stats = Stats(delivered=30, yes=20, no=5, parked=3, calls=1_234_567, failed=2)
    async with reporting(lambda: stats, lambda stats: (100, True), stream=stream):
        while stream.getvalue().count("30/100") < 2:
            await anyio.sleep(0)
    drawn = stream.getvalue()
    for fact in ("30/100", "yes 80.0%", "pending 3", "failed 2", "calls 1,234,567", "ETA"):
        assert fact in drawn


async def test_a_terminal_that_goes_away_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "LINE_PERIOD", 0.0)

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    async with reporting(lambda: Stats(), lambda stats: None, stream=Gone()):
        for _ in range(5):
            await anyio.sleep(0)
