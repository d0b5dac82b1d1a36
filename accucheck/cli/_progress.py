"""Progress on standard error: a bar on a terminal, a plain line now and then elsewhere.

Nothing here runs per outcome: a task reads the run's counts a few times a second.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from accucheck._models import Stats
from accucheck.cli._render import duration, thousands, wrapped

__all__ = ["Meter", "Total", "reporting"]

BAR_PERIOD = 0.25
"""Seconds between two drawings of the bar: quick enough to look alive, too slow to cost anything."""
LINE_PERIOD = 5.0
"""Seconds between two plain lines."""
SPEED_WINDOW = 15.0
"""Seconds that the speed and the ETA look back on: a pause shows soon, a hiccup does not."""

Total = Callable[[Stats], tuple[int, bool] | None]
"""Returns how many rows there are and whether that is exact, or None if nobody knows yet."""


class Meter:
    """Turns the counts of a run into the facts that a person wants to see. Its clock is ``elapsed``."""

    def __init__(self) -> None:
        self._past: deque[Stats] = deque()

    def add(self, stats: Stats) -> None:
        """Take note of the counts as they are now."""
        self._past.append(stats)
        while len(self._past) > 2 and stats.elapsed - self._past[1].elapsed >= SPEED_WINDOW:
            self._past.popleft()

    def speed(self, count: Callable[[Stats], int]) -> float:
        """Return how much ``count`` grew per second of late."""
        if len(self._past) < 2:
            return 0.0
        first, last = self._past[0], self._past[-1]
        seconds = last.elapsed - first.elapsed
        return (count(last) - count(first)) / seconds if seconds > 0 else 0.0

    def facts(self, total: tuple[int, bool] | None) -> list[str]:
        """Return the facts in the order of their weight, each short and whole."""
        if not self._past:
            return []
        now = self._past[-1]
        answered = now.yes + now.no
        facts = [
            _done_of(now.delivered, total),
            f"{self.speed(lambda stats: stats.yes + stats.no):,.0f} checks/s",
            f"yes {now.yes / answered:.1%}" if answered else "yes -",
            f"pending {thousands(now.parked)}",
            f"failed {thousands(now.failed)}",
            f"calls {thousands(now.calls)}",
        ]
        if total is not None:
            facts.append(f"ETA {self._eta(total[0] - now.delivered)}")
        return facts

    def _eta(self, left: int) -> str:
        speed = self.speed(lambda stats: stats.delivered)
        return duration(max(left, 0) / speed) if speed > 0 else "-"


def _done_of(done: int, total: tuple[int, bool] | None) -> str:
    if total is None:
        return thousands(done)
    rows, exact = total
    return f"{thousands(done)}/{'' if exact else '~'}{thousands(max(rows, done))}"


@asynccontextmanager
async def reporting(
    read_stats: Callable[[], Stats], total: Total, *, quiet: bool = False, stream: TextIO | None = None
) -> AsyncIterator[None]:
    """Show the progress of a run on ``stream`` (standard error by default) while the block runs."""
    target = stream or sys.stderr
    if quiet:
        yield
        return
    # Log lines would tear a bar apart.
    debugging = logging.getLogger("accucheck").isEnabledFor(logging.DEBUG)
    show = _show_bar if target.isatty() and not debugging else _show_lines
    task = asyncio.create_task(show(read_stats, total, target))
    try:
        yield
    finally:
        task.cancel()
        # A terminal that went away (OSError) must not take the run, which is paid for, with it.
        with suppress(asyncio.CancelledError, OSError):
            await task


async def _show_bar(read_stats: Callable[[], Stats], total: Total, stream: TextIO) -> None:
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    meter = Meter()
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        while True:
            stats = read_stats()
            meter.add(stats)
            live.update(_drawing(meter, total(stats), stats.delivered, console), refresh=True)
            await asyncio.sleep(BAR_PERIOD)


def _drawing(meter: Meter, total: tuple[int, bool] | None, done: int, console: Console) -> Group:
    width = max(console.width - 1, 1)
    lines = wrapped(meter.facts(total), width)
    if total is not None:
        lines.insert(0, _bar(done, total[0], min(width, 100), plain=not console.encoding.startswith("utf")))
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def _bar(done: int, rows: int, width: int, *, plain: bool) -> str:
    full, empty = "#-" if plain else "█░"
    filled = width * min(done, rows) // rows if rows else width
    return full * filled + empty * (width - filled)


async def _show_lines(read_stats: Callable[[], Stats], total: Total, stream: TextIO) -> None:
    meter = Meter()
    stats = read_stats()
    meter.add(stats)
    while True:
        await asyncio.sleep(LINE_PERIOD)
        stats = read_stats()
        meter.add(stats)
        print("accucheck: " + "  ".join(meter.facts(total(stats))), file=stream, flush=True)
