from __future__ import annotations

import asyncio
import io
import json
import re
import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import NamedTuple

import anyio
import pytest

from accucheck import Client, testing
from accucheck._costs import Cost, Prices
from accucheck._models import Stats
from accucheck.cli import _progress
from accucheck.cli._console import say
from accucheck.cli._progress import (
    PassMeter,
    ProgressMode,
    RunMeter,
    View,
    WaitMeter,
    _Bar,
    reporting,
    showing,
)
from accucheck.cli._run import RunNotice
from accucheck.cli._summary import calls_facts, cost_facts
from accucheck.testing import Settings
from tests.virtual_time import run


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


class Screen:
    """A terminal that wraps, and reflows when it becomes narrower: its rows."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[\d*[AJ]|[^\x1b]", text):
            if token == "\r":
                self._column = 0
            elif token == "\n":
                self._row, self._column = self._row + 1, 0
                self._grow()
            elif token.endswith("A") and token.startswith("\x1b"):
                self._row -= int(token[2:-1])
            elif token == "\x1b[J":
                self.rows[self._row] = self.rows[self._row][: self._column]
                del self.rows[self._row + 1 :]
            else:
                if self._column == self.width:
                    self._row, self._column = self._row + 1, 0
                    self._grow()
                row = self.rows[self._row].ljust(self._column)
                self.rows[self._row] = row[: self._column] + token + row[self._column + 1 :]
                self._column += 1

    def narrow(self, width: int) -> None:
        """Reflow to ``width``, with the cursor at the end, as tmux and most terminals do."""
        reflowed: list[str] = []
        for row in self.rows:
            reflowed += [row[place : place + width] for place in range(0, len(row), width)] or [""]
        self.width, self.rows = width, reflowed
        self._row, self._column = len(reflowed) - 1, len(reflowed[-1])

    def _grow(self) -> None:
        while len(self.rows) <= self._row:
            self.rows.append("")


def facts_of(*past: Stats, to_check: int | None) -> list[str]:
    remaining = iter(past)
    meter = RunMeter(lambda: next(remaining), to_check)
    shown: list[str] = []
    for _ in past:
        shown = list(meter().facts)
    return shown


def test_the_facts_are_verdicts_speed_against_the_limit_calls_and_time_left() -> None:
    assert facts_of(
        Stats(elapsed=0.0),
        Stats(
            elapsed=10.0,
            yes=600,
            no=400,
            delayed=40,
            pending=50,
            pending_now=37,
            failed=5,
            calls=1300,
            rejected=195,
            rate=150.0,
        ),
        to_check=5000,
    ) == [
        "1,005 of 5,000 numbers",
        "yes 600 (60.0%)",
        "no 400",
        "failed 5",
        "pending 37",
        "130 calls/s of 150",
        "1,300 calls",
        "ETA 38 s",
    ]


class Simulated(NamedTuple):
    shown: list[tuple[float, View]]
    """What the meter showed at each second."""
    last: View
    stats: Stats
    cost: Cost


async def simulated(settings: Settings, numbers: int, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    """A run of the engine against the simulated AccuAuth, in virtual time."""
    loop = asyncio.get_running_loop()
    clock = SimpleNamespace(monotonic=loop.time, time=lambda: 1.8e9 + loop.time())
    monkeypatch.setattr(testing, "time", clock)
    prices = Prices("0.002", pending="0.0005")
    notice = RunNotice("AccuAuth", timedelta(), prices)
    shown: list[tuple[float, View]] = []
    async with Client("id", "secret", transport=testing.FakeVendor(settings=settings), rate="auto") as client:
        stream = client.stream((str(987_000_000 + n) for n in range(numbers)), workers=200, on_event=notice)
        meter = RunMeter(lambda: stream.stats, numbers, lambda: notice.cost, currency="PEN")

        async def watch() -> None:
            while True:
                shown.append((stream.stats.elapsed, meter()))
                await asyncio.sleep(1)

        async with stream:
            watching = asyncio.create_task(watch())
            async for _ in stream:
                pass
            watching.cancel()
        assert notice.cost is not None
        return Simulated(shown, meter(), stream.stats, notice.cost)


HARD = Settings(rate=20.0, pending=0.2, pending_for=15.0, errors=0.02, latency=80.0)


def test_every_number_of_the_progress_is_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = run(simulated(HARD, 300, monkeypatch))
    summary = dict([*calls_facts(ran.stats), *cost_facts(ran.cost, "PEN")])
    whole, yes, no, *_ = ran.last.facts
    assert whole == "300 of 300 numbers"
    assert "300 distinct numbers" in summary["calls"]
    assert summary["numbers"].startswith(f"{yes}, {no}")
    calls = next(fact for fact in ran.last.facts if fact.endswith(" calls")).removesuffix(" calls")
    assert summary["calls"].startswith(f"{calls} for ")
    assert next(fact for fact in ran.last.facts if fact.startswith("spent")) == f"spent {summary['cost']}"
    assert ran.last.data["spent"] == summary["cost"].removesuffix(" PEN")
    assert not [fact for fact in ran.last.facts if fact.startswith("pending")]
    for name in ("calls", "polls", "retries", "yes", "no", "failed"):
        assert ran.last.data[name] == getattr(ran.stats, name)


def test_a_retry_is_not_pending() -> None:
    shown = facts_of(
        Stats(elapsed=0.0), Stats(elapsed=5.0, yes=5, delayed=9, retries=9, calls=14), to_check=100
    )
    assert not [fact for fact in shown if fact.startswith("pending")]


def test_without_a_total_there_is_no_time_left_to_show() -> None:
    shown = facts_of(Stats(elapsed=0.0), Stats(elapsed=5.0, delivered=10, yes=5, calls=5), to_check=None)
    assert shown[0] == "10 rows"
    assert not [fact for fact in shown if fact.startswith("ETA")]


def test_no_time_left_is_claimed_before_anything_is_known() -> None:
    assert facts_of(Stats(), to_check=10)[-1] == "ETA -"
    assert facts_of(Stats(elapsed=0.0), Stats(elapsed=0.5, yes=1), to_check=10)[-1] == "ETA -"
    assert (
        facts_of(Stats(elapsed=0.0), Stats(elapsed=9.0, known=900, delivered=900), to_check=10)[-1] == "ETA -"
    )


def test_the_time_left_is_right_when_most_rows_cost_nothing() -> None:
    # 9,000 known or invalid rows went by in the first second; 100 of 1,000 numbers are checked at 10/s.
    past = [Stats(elapsed=float(s), delivered=9000 + 10 * s, yes=10 * s, calls=10 * s) for s in range(11)]
    assert facts_of(*past, to_check=1000)[-1] == "ETA 1 min 30 s"


def test_the_speed_is_recent_and_not_the_average_of_the_run() -> None:
    past = [Stats(elapsed=float(second)) for second in range(100)]
    past += [Stats(elapsed=100.0 + second, calls=second * 50) for second in range(31)]
    assert "50 calls/s" in facts_of(*past, to_check=None)


def test_a_pass_shows_rows_and_how_much_is_done() -> None:
    meter = PassMeter("reading the list", lambda: 1200, lambda: 0.25)
    assert meter() == View(
        ["reading the list: 1,200 rows", "25%"],
        0.25,
        {"phase": "reading the list", "rows": 1200, "fraction": 0.25, "eta_seconds": None},
    )
    now = iter([0.0, 30.0])
    assert PassMeter("x", lambda: 1, lambda: 0.25, lambda: next(now))().facts[-1] == "ETA 1 min 30 s"
    assert PassMeter("x", lambda: 1, lambda: 0.0)().fraction is None


def view() -> View:
    return View(["3 of 10 numbers", "ETA 32 s"], 0.3, {"done": 3})


async def test_without_a_terminal_there_is_one_line_a_minute_with_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _progress.LINE_PERIOD == 60.0
    monkeypatch.setattr(_progress, "LINE_PERIOD", 0.0)
    stream = io.StringIO()
    async with reporting(view, stream=stream):
        while stream.getvalue().count("\n") < 2:
            await anyio.sleep(0)
    first, *_ = stream.getvalue().splitlines()
    assert re.fullmatch(r"accucheck: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d  3 of 10 numbers  ETA 32 s", first)


async def test_a_program_gets_lines_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "JSON_PERIOD", 0.0)
    stream = Terminal()
    async with reporting(view, "json", stream=stream):
        while stream.getvalue().count("\n") < 2:
            await anyio.sleep(0)
    line = json.loads(stream.getvalue().splitlines()[0])
    assert (line["event"], line["done"]) == ("progress", 3)


@pytest.mark.parametrize(("mode", "terminal"), [("none", True), ("none", False)])
async def test_quiet_shows_nothing(
    mode: ProgressMode, terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "LINE_PERIOD", 0.0)
    stream = Terminal() if terminal else io.StringIO()
    async with reporting(view, mode, stream=stream):
        await anyio.sleep(0)
        await anyio.sleep(0)
    assert stream.getvalue() == ""


async def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(_progress, "LINE_PERIOD", 0.0)
    stream = Terminal()
    async with reporting(view, stream=stream):
        while "\n" not in stream.getvalue():
            await anyio.sleep(0)
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("width", [1, 20, 60, 80, 200])
async def test_a_bar_of_any_width_leaves_nothing_behind(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_progress, "BAR_PERIOD", 0.0)
    stream = Terminal()
    async with reporting(view, stream=stream):
        for _ in range(10):
            await anyio.sleep(0)
    screen = Screen(width)
    screen.feed(stream.getvalue())
    assert screen.rows == [""]
    if width >= 20:
        assert "3 of 10 numbers" in stream.getvalue()


@pytest.mark.parametrize("narrower", [59, 40, 20, 7])
def test_a_terminal_that_is_made_narrower_keeps_no_remnants(
    narrower: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, screen = Terminal(), Screen(100)
    bar = _Bar(stream)

    def draw() -> None:
        bar.draw(_progress._drawing(view(), min(bar.size().columns - 1, 60), plain=False))
        screen.feed(stream.getvalue())
        stream.truncate(0)
        stream.seek(0)

    screen.feed("what was there before\n")
    monkeypatch.setenv("COLUMNS", "100")
    draw()
    draw()
    monkeypatch.setenv("COLUMNS", str(narrower))
    screen.narrow(narrower)
    before = screen.rows[: -(-len("what was there before") // narrower)]
    for _ in range(3):
        draw()
        assert len(screen.rows) - len(before) == len(bar._drawn)
    bar.clear()
    screen.feed(stream.getvalue())
    assert "".join(screen.rows) == "what was there before"


async def test_a_message_is_not_written_into_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    async with reporting(view, stream=stream):
        await anyio.sleep(0)
        before = stream.getvalue()
        say("a message")
        assert stream.getvalue().removeprefix(before).endswith("\x1b[J")
    assert capsys.readouterr().err == "accucheck: a message\n"


async def test_a_closed_terminal_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "LINE_PERIOD", 0.0)

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    for mode in ("lines", "bar", "json"):
        async with reporting(view, mode, stream=Gone()):  # type: ignore[arg-type]
            for _ in range(5):
                await anyio.sleep(0)


def test_work_that_blocks_is_shown_from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_progress, "BAR_PERIOD", 0.0)
    stream = Terminal()
    seen = threading.Event()

    def shown() -> View:
        seen.set()
        return view()

    with showing(shown, stream=stream):
        assert seen.wait(30)
        say("a message")
    screen = Screen(80)
    screen.feed(stream.getvalue())
    assert screen.rows == [""]


def test_a_program_gets_lines_of_json_from_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with showing(view, "json", stream=stream):
        pass
    assert json.loads(stream.getvalue().splitlines()[0])["done"] == 3


def test_a_closed_terminal_does_not_end_blocking_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with showing(view, "json", stream=Gone()):
        pass


def test_work_without_known_progress_shows_elapsed_time() -> None:
    now = iter([0.0, 0.5, 12.0])
    meter = WaitMeter("saving checked.xlsx", lambda: next(now))
    assert meter().facts == ["saving checked.xlsx"]
    assert meter().facts == ["saving checked.xlsx", "12 s"]
