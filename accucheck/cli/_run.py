"""One run of a stream: event loop, progress, signals, outages, and how it ended."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

import anyio

from accucheck._costs import Cost, Prices, spent
from accucheck._errors import RunEnded
from accucheck._events import CallEnded, CircuitChanged, Event
from accucheck._models import Outcome, Stats
from accucheck._stream import Stream
from accucheck.cli._console import say
from accucheck.cli._interruption import Interrupted, Interruption
from accucheck.cli._metrics import MetricsFile
from accucheck.cli._progress import ProgressMode, RunMeter, SpeedRecord, View, recording, reporting
from accucheck.cli._render import duration, in_money

__all__ = ["GRACE", "Ending", "RunNotice", "run_stream", "run_to_end"]

Item = TypeVar("Item")
Value = TypeVar("Value")

FEW_OPEN_FILES = 128
"""With fewer allowed (``ulimit -n``), each one is wanted for a connection."""
GRACE = 5.0
"""Seconds that calls in flight get to settle after the first signal."""


def run_to_end(coroutine: Coroutine[Any, Any, Value], interruption: Interruption) -> Value:
    """Run ``coroutine`` in a new event loop, on uvloop if it is installed, and return its value.

    A signal cancels it, outside of the phases that handle signals themselves, and raises Interrupted.
    """

    async def main() -> Value:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel() -> None:
            loop.call_soon_threadsafe(task.cancel)

        with interruption.phase(first=cancel, second=cancel):
            return await coroutine

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            try:
                return runner.run(main())
            except asyncio.CancelledError:
                raise Interrupted from None
    finally:
        coroutine.close()  # without a loop, for want of file descriptors, it never started


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop; None for asyncio's own.

    Raises OSError if no file may be opened: a loop that fails to open its own complains when it is collected.
    """
    from accucheck._http import raise_open_files_limit

    limit = raise_open_files_limit(FEW_OPEN_FILES)
    if limit is not None and limit < FEW_OPEN_FILES:  # asyncio's own opens 3, uvloop 11
        try:
            with ExitStack() as files:
                for _ in range(3):
                    files.enter_context(open(os.devnull, "rb"))
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (ulimit -n {limit})") from None
        return None
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class RunNotice:
    """Hooks into the events of a run: says when calls begin to fail and why, and counts what calls cost."""

    def __init__(self, host: str, deadline: timedelta, prices: Prices | None = None) -> None:
        self.replies: Counter[str] = Counter()
        """Calls by what came of them, as the status table names it."""
        self._prices = prices
        self._host = host
        self._deadline = deadline.total_seconds()
        self._last_failure = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self.replies[event.reply] += 1
            if event.reply != "OK":
                self._last_failure = self._in_words(event)
        elif isinstance(event, CircuitChanged):
            if event.opened:
                self._begins()
            else:
                say("calls succeed again; resuming")

    @property
    def cost(self) -> Cost | None:
        """What the calls have cost; None without a price."""
        return None if self._prices is None else spent(self.replies, self._prices)

    def spent(self, stats: Stats) -> str:
        """Return the cost for the progress; "" without a price."""
        cost = self.cost
        return "" if cost is None else f"spent {in_money(cost.likely)}"

    def _in_words(self, event: CallEnded) -> str:
        if event.reason and (event.http_status is None or event.reply == "GATEWAY"):
            return (
                event.reason if self._host in event.reason else f"cannot reach {self._host} ({event.reason})"
            )
        if event.reply == "MALFORMED":
            return f"the server at {self._host} is not AccuAuth's API"
        return f"AccuAuth replies to nearly every call with {event.reply}"

    def _begins(self) -> None:
        words = self._last_failure or f"cannot reach {self._host}"
        limit = f" for up to {duration(self._deadline)}" if self._deadline else ""
        say(
            f"{words}; retrying{limit}",
            hint="check --base-url, the network and the proxy. Ctrl-C stops the run and keeps every answer.",
        )


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended."""

    stats: Stats
    """The counts at its end."""
    error: RunEnded | None = None
    """What ended it early: the account, the budget or the ledger. None if nothing did."""
    cost: Cost | None = None
    """What the calls have cost; None without a price."""
    job_calls: int = 0
    """Calls that the job has made, over all its runs."""
    job_spent: Decimal = Decimal(0)
    """What they may have cost, as ``--max-cost`` counts it."""
    limit: float | None = None
    """Calls per second that the gate let through at the end: the account's limit, where it was searched for."""
    speed: tuple[tuple[float, float, float | None], ...] = ()
    """Moments (seconds since 1970), calls per second up to each, and the limit as it was known then."""
    left_at_once: bool = False
    """Whether a second signal cut off the calls in flight."""


async def run_stream(
    stream: Stream[Item],
    take: Callable[[Outcome[Item]], object],
    *,
    interruption: Interruption,
    view: Callable[[], View] | None = None,
    progress: ProgressMode = "auto",
    grace: float = GRACE,
    metrics: MetricsFile | None = None,
) -> Ending:
    """Hand every outcome of ``stream`` to ``take``, and return how the run ended.

    The first signal stops the stream and gives the calls in flight ``grace`` seconds to settle; the second leaves
    at once. Create the stream with ``grace=0``, or its own grace would be added.

    Raises what entering the stream raises (before any call), what reading its input raises, and OSError if ``take``
    did (a closed pipe, a full disk): in that case the calls in flight are settled first.
    """
    loop = asyncio.get_running_loop()
    entered = second = False
    error: RunEnded | None = None
    not_taken: OSError | None = None
    record: SpeedRecord | None = None

    def deliver(outcome: Outcome[Item]) -> None:
        nonlocal not_taken
        if not_taken is not None:
            return
        try:
            take(outcome)
        except OSError as error_of_take:
            # Calls in flight are paid for: their answers belong in the ledger.
            not_taken = error_of_take
            settle()

    def settle() -> None:
        stream.stop()
        loop.call_later(grace, scope.cancel)

    def stop() -> None:
        settle()
        say("stopping: waiting for calls in flight (press Ctrl-C again to leave at once)")

    def leave() -> None:
        nonlocal second
        second = True
        scope.cancel()

    with (
        anyio.CancelScope() as scope,
        interruption.phase(
            first=lambda: loop.call_soon_threadsafe(stop), second=lambda: loop.call_soon_threadsafe(leave)
        ),
    ):
        try:
            async with stream:
                entered = True
                async with (
                    nullcontext() if metrics is None else metrics.keep(lambda: stream.stats),
                    recording(lambda: stream.stats) as record,
                    reporting(view or RunMeter(lambda: stream.stats), progress),
                ):
                    async for outcome in stream:
                        deliver(outcome)
        except RunEnded as ended:
            if not entered:
                raise
            error = ended
    if scope.cancelled_caught:
        # What was settled before the calls were cut off is still in the queue, and it is paid for.
        try:
            async for outcome in stream:
                deliver(outcome)
        except RunEnded as ended:
            error = ended
    if not_taken is not None:
        raise not_taken
    speed = () if record is None else record.points()
    return Ending(
        stats=stream.stats,
        error=error,
        limit=next((limit for _, _, limit in reversed(speed) if limit is not None), None),
        speed=speed,
        left_at_once=second,
    )
