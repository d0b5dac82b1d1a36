"""Progress on standard error: a bar on a terminal, one line a minute elsewhere, or JSON lines for a program.

Nothing here runs per row: a task reads the counts a few times a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TextIO

from accucheck._costs import Cost, in_money
from accucheck._models import Stats
from accucheck._schedule import RatePlan
from accucheck.cli import _console
from accucheck.cli._console import count, duration, moment, thousands, wrapped
from accucheck.cli._time_left import LONG_PAUSE, UNKNOWN, Forecast, TimeLeft

ProgressMode = Literal["auto", "bar", "lines", "json", "none"]

BAR_PERIOD = 0.25
"""Seconds between redraws of the bar."""
LINE_PERIOD = 60.0
"""Seconds between plain lines."""
SAMPLES_A_LINE = 60
JSON_PERIOD = 1.0
"""Seconds between lines of JSON."""
SURE_OF_A_PASS = 5.0
"""Seconds of a pass after which its speed is known."""
SAMPLE_PERIOD = 0.2
"""Seconds between counts that are saved to compute the speed."""
SPEED_WINDOW = 20.0
"""Seconds that the speed looks back on, at most."""
WIDEST = 60
"""The width of the bar and the facts below it, so that a terminal made narrower rarely wraps them."""


class View(NamedTuple):
    """What to show at one moment."""

    facts: Sequence[str]
    """Short facts, the most important first."""
    fraction: float | None
    """How much is done, 0 to 1; None if unknown."""
    data: dict[str, Any]
    """The same for a program."""


class PassMeter:
    """A pass over a list: reading it, or writing the output.

    Args:
        what: What is being done, in words.
        rows: Returns the rows done.
        fraction: Returns how much is done, 0 to 1; 0 if unknown.
    """

    def __init__(
        self,
        what: str,
        rows: Callable[[], int],
        fraction: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._rows = rows
        self._fraction = fraction
        self._clock = clock
        self._began = clock()

    def __call__(self) -> View:
        rows, done = self._rows(), self._fraction()
        elapsed, left = self._clock() - self._began, None
        facts = [f"{self._what}: {count(rows, 'row')}"]
        if done:
            facts.append(f"{done:.0%}")
            if elapsed >= SURE_OF_A_PASS and done < 1:
                left = elapsed / done - elapsed
                facts.append(f"ETA {duration(max(left, 1))}")
        data = {
            "phase": self._what,
            "rows": rows,
            "fraction": done or None,
            "eta_seconds": None if left is None else round(left),
        }
        return View(facts, done or None, data)


class WaitMeter:
    """Work of unknown length; shows how long it has taken so far.

    Args:
        what: What is being done, in words.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._clock = clock
        self._began = clock()

    def __call__(self) -> View:
        seconds = self._clock() - self._began
        facts = [self._what, duration(seconds)] if seconds >= 1 else [self._what]
        return View(facts, None, {"phase": self._what, "elapsed_seconds": round(seconds, 1)})


class RunMeter:
    """The counts of a run. Its clock is ``Stats.elapsed``.

    Args:
        read: Returns the counts.
        to_check: How many distinct numbers the run has to ask; None if unknown.
        cost: Returns the cost of the run so far; None without a price.
        currency: Shown after the cost.
        most_calls: How many calls this run may make; None if no cap ends it.
        plan: The quotas and hours of the run.
        pause: Returns the seconds until quotas and hours allow a call; 0 if they do.
        outage: Returns whether calls are waiting for the end of an outage.
        wall: Returns seconds since 1970.
    """

    def __init__(
        self,
        read: Callable[[], Stats],
        to_check: int | None = None,
        cost: Callable[[], Cost | None] = lambda: None,
        *,
        currency: str = "",
        most_calls: int | None = None,
        plan: RatePlan | None = None,
        pause: Callable[[], float] = lambda: 0.0,
        outage: Callable[[], bool] = lambda: False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._to_check = to_check
        self._cost = cost
        self._currency = currency
        self._plan = plan
        self._pause = pause
        self._outage = outage
        self._wall = wall
        self._past: deque[Stats] = deque()
        self._time_left = (
            None if to_check is None else TimeLeft(to_check, most_calls=most_calls, plan=plan, wall=wall)
        )

    def __call__(self) -> View:
        now = self._read()
        if not self._past or now.elapsed - self._past[-1].elapsed >= SAMPLE_PERIOD:
            self._past.append(now)
        while len(self._past) > 1 and now.elapsed - self._past[0].elapsed > SPEED_WINDOW:
            self._past.popleft()
        calls = _calls_per_second(self._past[0], now)
        # The middle one: now and then the gate tries a little more than the limit.
        rates = sorted(past.rate for past in (*self._past, now) if past.rate is not None)
        limit = rates[len(rates) // 2] if now.rate is not None and rates else None
        done = now.yes + now.no + now.failed
        pause, outage = self._pause(), self._outage()
        long_pause = pause > LONG_PAUSE
        eta = UNKNOWN if self._time_left is None else self._time_left(now, paused=long_pause or outage)
        facts = [
            *([count(now.delivered, "row")] if self._to_check is None else []),
            *numbers_facts(now, self._to_check),
            self._pace(calls, limit),
            count(now.calls, "call"),
        ]
        cost = self._cost()
        if cost is not None:
            facts.append(f"spent {in_money(cost.likely, self._currency)}")
        if long_pause:
            facts.append(f"paused until {self._moment(pause)}")
        elif outage:
            facts.append("waiting for AccuAuth")
        elif self._time_left is not None:
            facts.append(_eta_in_words(eta))
        data = {
            "phase": "checking",
            "done": done,
            "total": self._to_check,
            "yes": now.yes,
            "no": now.no,
            "failed": now.failed,
            "pending": now.pending_now,
            "calls": now.calls,
            "polls": now.polls,
            "retries": now.retries,
            "calls_per_second": round(calls, 2),
            "limit": limit,
            "spent": None if cost is None else in_money(cost.likely),
            "eta_seconds": None if eta.seconds is None else round(eta.seconds),
            "eta_bound": eta.bound,
            "paused_until": _iso(self._wall() + pause) if long_pause else None,
            "outage": outage,
            "elapsed_seconds": round(now.elapsed, 1),
        }
        return View(facts, done / self._to_check if self._to_check else None, data)

    def _moment(self, pause: float) -> str:
        """Return when a pause ends, in the time zone of the hours, if any."""
        now = self._wall()
        hours = None if self._plan is None else self._plan.hours
        return moment(now + pause, now) if hours is None else moment(now + pause, now, hours.zone)

    @staticmethod
    def _pace(calls: float, limit: float | None) -> str:
        few = calls < 10 and (limit is None or limit < 10)
        speed = f"{calls:.1f}" if few else f"{calls:,.0f}"
        if limit is None:
            return f"{speed} calls/s"
        return f"{speed} calls/s of {limit:.1f}" if few else f"{speed} calls/s of {limit:,.0f}"


def _eta_in_words(eta: Forecast) -> str:
    if eta.seconds is None:
        return "ETA -"
    return f"ETA {f'{eta.bound} ' if eta.bound else ''}{duration(eta.seconds)}"


def _iso(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds")


def _calls_per_second(first: Stats, last: Stats) -> float:
    seconds = last.elapsed - first.elapsed
    return (last.calls - first.calls) / seconds if seconds > 0 else 0.0


def numbers_facts(stats: Stats, to_check: int | None = None) -> list[str]:
    """Return the results by number, in the same words during a run and in its summary."""
    done, answered = stats.yes + stats.no + stats.failed, stats.yes + stats.no
    share = f" ({stats.yes / answered:.1%})" if answered else ""
    facts = [] if to_check is None else [f"{thousands(done)} of {count(to_check, 'number')}"]
    facts += [f"yes {thousands(stats.yes)}{share}", f"no {thousands(stats.no)}"]
    if stats.failed:
        facts.append(f"failed {thousands(stats.failed)}")
    if stats.pending_now:
        facts.append(f"pending {thousands(stats.pending_now)}")
    return facts


class SpeedRecord:
    """Calls and the limit over time, in at most 300 steps that double in length as a run grows."""

    MOST_STEPS = 300

    def __init__(self, read: Callable[[], Stats]) -> None:
        self._read = read
        self._began = 0.0
        self._samples: list[tuple[float, int, float | None]] = []
        self._step = 1.0

    def sample(self) -> None:
        """Record the state of the run."""
        now = self._read()
        if self._samples and now.elapsed <= self._samples[-1][0]:
            return
        self._samples.append((now.elapsed, now.calls, now.rate))
        if len(self._samples) > self.MOST_STEPS:
            self._samples = self._samples[::2]
            self._step *= 2

    def points(self) -> tuple[tuple[float, float, float | None], ...]:
        """Return moments (seconds since 1970), calls per second up to each, and the limit then."""
        return tuple(
            (
                round(self._began + then, 3),
                round((calls - calls_before) / (then - before), 3),
                None if limit is None else round(limit, 3),
            )
            for (before, calls_before, _), (then, calls, limit) in pairwise(self._samples)
        )

    @asynccontextmanager
    async def keep(self) -> AsyncIterator[None]:
        """Sample again and again while the block runs."""

        async def sample() -> None:
            while True:
                await asyncio.sleep(self._step)
                self.sample()

        self._began = time.time() - self._read().elapsed
        self.sample()
        task = asyncio.create_task(sample())
        try:
            yield
        finally:
            task.cancel()
            self.sample()


@asynccontextmanager
async def reporting(
    view: Callable[[], View], mode: ProgressMode = "auto", *, stream: TextIO | None = None
) -> AsyncIterator[None]:
    """Show ``view`` on ``stream`` (standard error by default) again and again while the block runs."""
    display = _display(mode, stream or sys.stderr)
    if display is None:
        yield
        return

    async def show() -> None:
        try:
            while True:
                display.show(view())
                await asyncio.sleep(display.period)
        finally:
            display.close()

    task = asyncio.create_task(show())
    try:
        yield
    finally:
        task.cancel()
        # A terminal that disappeared (OSError) must not end the run, which is paid for.
        with suppress(asyncio.CancelledError, OSError, ValueError):
            await task


@contextmanager
def showing(
    view: Callable[[], View], mode: ProgressMode = "auto", *, stream: TextIO | None = None
) -> Iterator[None]:
    """Show ``view`` from a thread, while a block runs that blocks the event loop."""
    display = _display(mode, stream or sys.stderr)
    if display is None:
        yield
        return
    ended = threading.Event()

    def show() -> None:
        with suppress(OSError, ValueError):
            try:
                if isinstance(display, _Bar) and ended.wait(display.period):
                    return  # over before anyone could read it
                while True:
                    display.show(view())
                    if ended.wait(display.period):
                        return
            finally:
                display.close()

    thread = threading.Thread(target=show, name="accucheck progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Display:
    """One way of showing progress."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def period(self) -> float:
        """Seconds until it shows the next view."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Remove what must not stay on the screen."""


def _display(mode: ProgressMode, target: TextIO) -> _Display | None:
    if mode == "auto":
        # Log lines would break up a bar.
        debugging = logging.getLogger("accucheck").isEnabledFor(logging.DEBUG)
        able = target.isatty() and os.environ.get("TERM", "") != "dumb" and not debugging
        mode = "bar" if able else "lines"
    kinds: dict[str, type[_Display]] = {"bar": _Bar, "lines": _Lines, "json": _JsonLines}
    return kinds[mode](target) if mode in kinds else None


class _Bar(_Display):
    """Lines at the bottom of a terminal that are redrawn in place."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._drawn: list[str] = []
        self._plain = not (getattr(stream, "encoding", None) or "").lower().startswith("utf")
        if os.name == "nt":
            os.system("")  # noqa: S605, S607 makes the Windows console understand escape sequences
        _console.before_message = self.clear

    @property
    def period(self) -> float:
        return BAR_PERIOD

    def show(self, view: View) -> None:
        self.draw(_drawing(view, min(self.size().columns - 1, WIDEST), plain=self._plain))

    def close(self) -> None:
        _console.before_message = None
        self.clear()

    def size(self) -> os.terminal_size:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno())
        return os.terminal_size((int(os.environ.get("COLUMNS") or 80), 24))

    def draw(self, lines: list[str]) -> None:
        lines = lines[: max(self.size().lines - 1, 1)]
        with _console.screen:
            self._stream.write(self._erasing() + "\n".join(lines))
            self._stream.flush()
            self._drawn = lines

    def clear(self) -> None:
        with _console.screen:
            self._stream.write(self._erasing())
            self._stream.flush()
            self._drawn = []

    def _erasing(self) -> str:
        if not self._drawn:
            return ""
        # A terminal that was made narrower has wrapped the old lines: they take more of its rows now.
        width = max(self.size().columns, 1)
        rows = sum(max(-(-len(line) // width), 1) for line in self._drawn)
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        return f"\r{up}\x1b[J"


def _drawing(shown: View, width: int, *, plain: bool) -> list[str]:
    width = max(width, 1)
    lines = [line[:width] for line in wrapped(shown.facts, width)]
    if shown.fraction is not None:
        full, empty = ("#", "-") if plain else ("█", "░")
        filled = int(width * min(shown.fraction, 1.0))
        lines.insert(0, full * filled + empty * (width - filled))
    return lines


class _Lines(_Display):
    """A line a minute, for a log."""

    _seen = 0

    @property
    def period(self) -> float:
        return LINE_PERIOD / SAMPLES_A_LINE  # the recent speed, not that of the whole minute

    def show(self, view: View) -> None:
        self._seen += 1
        if self._seen > SAMPLES_A_LINE:
            self._seen = 1
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            print(f"accucheck: {now}  {'  '.join(view.facts)}", file=self._stream, flush=True)


class _JsonLines(_Display):
    """A line of JSON a second, for a program."""

    @property
    def period(self) -> float:
        return JSON_PERIOD

    def show(self, view: View) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        print(json.dumps({"event": "progress", "at": at, **view.data}), file=self._stream, flush=True)
