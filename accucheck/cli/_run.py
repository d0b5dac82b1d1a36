"""One run of a stream: event loop, progress, signals, outages, Prometheus metrics, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import anyio

from accucheck._budgets import spent_so_far
from accucheck._client import Client
from accucheck._costs import Cost, Prices, spent
from accucheck._errors import BudgetExhausted, ConfigurationError, RunEnded
from accucheck._events import CallEnded, CircuitChanged, Event
from accucheck._models import Outcome, Stats
from accucheck._polls import FLOOR as POLL_FLOOR
from accucheck._schedule import RatePlan
from accucheck._store import Store
from accucheck._stream import Stream
from accucheck.cli._console import duration, say
from accucheck.cli._exit import Interrupted, Interruption
from accucheck.cli._job import Job
from accucheck.cli._progress import ProgressMode, RunMeter, SpeedRecord, View, reporting

PERIOD = 5.0
"""Seconds between writes; node exporters are scraped every 15 s or less often."""


class MetricsFile:
    """A file that is replaced every few seconds, so that no reader ever sees half of it.

    In version 0.0.4 of Prometheus' text format, for the textfile collector of its node exporter.

    Args:
        path: The file; the collector reads those that end in ``.prom``. job: Name of the job: the label
        ``accucheck_job`` of every sample, which distinguishes the files of several jobs. cost: Returns the cost of the
        calls; None without a price.
    """

    def __init__(self, path: Path, job: str, cost: Callable[[], Cost | None] = lambda: None) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._job = job
        self._cost = cost
        self._complained = False

    @contextlib.asynccontextmanager
    async def keep(self, stats: Callable[[], Stats]) -> AsyncIterator[None]:
        """Write the file now, every few seconds, and at the end of the block.

        Raises ConfigurationError if it cannot be written at first; later failures are only reported.
        """
        try:
            self._write(stats(), running=True)
        except OSError as error:
            raise ConfigurationError(
                f"--metrics-file {self._path} cannot be written: {error.strerror or error}"
            ) from error
        task = asyncio.create_task(self._rewrite(stats))
        try:
            yield
        finally:
            task.cancel()
            self._try_to_write(stats(), running=False)

    async def _rewrite(self, stats: Callable[[], Stats]) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self._try_to_write(stats(), running=True)

    def _try_to_write(self, stats: Stats, *, running: bool) -> None:
        try:
            self._write(stats, running=running)
        except OSError as error:
            if not self._complained:
                self._complained = True
                say(f"--metrics-file {self._path} cannot be written: {error.strerror or error}")

    def _write(self, stats: Stats, *, running: bool) -> None:
        text = "".join(self._lines(stats, running=running))
        try:
            # Not AtomicFile: the collector runs as another user, who must be able to read it, and no fsync is needed.
            self._temporary.write_text(text, "utf-8")
            os.replace(self._temporary, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            raise

    def _lines(self, stats: Stats, *, running: bool) -> Iterator[str]:
        cost = self._cost()
        metrics: list[tuple[str, str, float | dict[str, int] | None]] = [
            (
                "answers_total",
                "Numbers settled in this run, by verdict.",
                {f'verdict="{name}"': getattr(stats, name) for name in ("yes", "no", "failed")},
            ),
            ("calls_total", "Calls made, including polls and retries.", stats.calls),
            (
                "replies_total",
                "Calls that ended, by reply.",
                {f'status="{_escaped(name)}"': count for name, count in sorted(stats.replies.items())},
            ),
            ("polls_total", "Calls that asked again after PENDING.", stats.polls),
            ("retries_total", "Retries after a failure.", stats.retries),
            ("rate_limited_total", "Calls that were rate-limited.", stats.refusals),
            ("rows_read_total", "Rows read from the input.", stats.read),
            ("rows_known_total", "Rows answered from the ledger.", stats.known),
            (
                "possibly_double_charged_total",
                "Calls whose answer was lost after they were sent.",
                stats.possibly_double_charged,
            ),
            ("in_flight", "Calls in flight.", stats.in_flight),
            ("delayed", "Numbers that wait for a poll or a retry.", stats.delayed),
            ("permits_per_second", "Calls per second that the gate allows.", stats.rate),
            ("spend_total", "Likely cost of the calls.", None if cost is None else float(cost.likely)),
            ("elapsed_seconds", "Seconds since the start of the run.", stats.elapsed),
            ("running", "1 during the run, 0 after it.", running),
            ("updated_timestamp_seconds", "When this file was written.", time.time()),
        ]
        job = f'accucheck_job="{_escaped(self._job)}"'
        for name, meaning, value in metrics:
            samples = value if isinstance(value, dict) else {} if value is None else {"": value}
            if samples:
                kind = "counter" if name.endswith("_total") else "gauge"
                yield f"# HELP accucheck_{name} {meaning}\n# TYPE accucheck_{name} {kind}\n"
            for label, number in samples.items():
                yield f"accucheck_{name}{{{job}{label and ','}{label}}} {float(number):.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


Item = TypeVar("Item")
Value = TypeVar("Value")

FEW_OPEN_FILES = 128
"""With fewer allowed (``ulimit -n``), each one is wanted for a connection."""


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
    """Return the factory of the event loop; None for asyncio's own.

    Raises OSError if no file may be opened, because a loop that fails to open its own warns when garbage-collected.
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
    """Listens to the events of a run: says when calls start to fail and why, and counts what calls cost."""

    def __init__(self, host: str, deadline: timedelta, prices: Prices | None = None) -> None:
        self.replies: Counter[str] = Counter()
        """Calls by the name of their row in the status table."""
        self.basic_replies: Counter[str] = Counter()
        """Of these, those to the basic endpoint."""
        self._prices = prices
        self._host = host
        self._deadline = deadline.total_seconds()
        self._last_failure = ""
        self.outage = False
        """Whether calls wait for the end of an outage."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self.replies[event.reply] += 1
            if event.endpoint == "basic":
                self.basic_replies[event.reply] += 1
            if event.reply != "OK":
                self._last_failure = self._in_words(event)
        elif isinstance(event, CircuitChanged):
            self.outage = event.opened
            if event.opened:
                self._begins()
            else:
                say("calls succeed again; resuming")

    @property
    def cost(self) -> Cost | None:
        """What the calls have cost; None without a price."""
        if self._prices is None:
            return None
        return spent(self.replies, self._prices, basic_replies=self.basic_replies)

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
    replies: Mapping[str, int] = field(default_factory=dict)
    """Calls by the name of their row in the status table."""
    basic_replies: Mapping[str, int] = field(default_factory=dict)
    """Of these, those to the basic endpoint."""
    cost: Cost | None = None
    """What the calls have cost; None without a price."""
    job_calls: int = 0
    """Calls that the job has made, over all its runs."""
    job_spent: Decimal = Decimal(0)
    """What they may have cost, as ``--max-cost`` counts it."""
    limit: float | None = None
    """Calls per second that the gate allowed at the end; the account's limit, if it was searched for."""
    speed: tuple[tuple[float, float, float | None], ...] = ()
    """Moments (seconds since 1970), calls per second up to each, and the limit known at the time."""
    left_at_once: bool = False
    """Whether a second signal cut off the calls in flight."""


async def run_stream(
    stream: Stream[Item],
    take: Callable[[Outcome[Item]], object],
    *,
    interruption: Interruption,
    view: Callable[[], View],
    progress: ProgressMode,
    grace: float,
    metrics: MetricsFile | None = None,
) -> Ending:
    """Pass every outcome of ``stream`` to ``take``, and return how the run ended.

    The first signal stops the stream and gives the calls in flight ``grace`` seconds to settle; the second leaves
    at once. Create the stream with ``grace=0``, or its own grace would be added.

    Raises what entering the stream raises (before any call), what reading its input raises, and OSError if ``take``
    did (a closed pipe, a full disk): in that case the calls in flight are settled first.
    """
    loop = asyncio.get_running_loop()
    entered = second = False
    error: RunEnded | None = None
    not_taken: OSError | None = None
    record = SpeedRecord(lambda: stream.stats)

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
                    record.keep(),
                    reporting(view, progress),
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
    speed = record.points()
    return Ending(
        stats=stream.stats,
        error=error,
        limit=next((limit for _, _, limit in reversed(speed) if limit is not None), None),
        speed=speed,
        left_at_once=second,
    )


async def run_job(
    job: Job,
    client: Client,
    items: Iterable[Item] | AsyncIterable[Item],
    store: Store | None,
    interruption: Interruption,
    *,
    take: Callable[[Outcome[Item]], object] = lambda outcome: None,
    number: Callable[[Any], str | int | None] = lambda item: item,
    to_ask: int | None = None,
    progress: ProgressMode | None = None,
) -> Ending:
    """Ask about ``items`` as the job says, pass every outcome to ``take``, and return how the run ended.

    ``to_ask`` is how many numbers it is about, if that is known. ``progress`` replaces that of the job.
    """
    notice = RunNotice(job.host, job.patience.outage_deadline, job.cost.prices)
    calls, cost = job.pace.max_calls, job.cost.max_cost
    made = await store.calls_made(job.name) if calls is not None and store is not None else 0
    already = (
        await spent_so_far(store, job.name) if cost is not None and cost.more and store is not None else 0
    )
    max_calls = None if calls is None else calls.amount + (made if calls.more else 0)
    stream = client.stream(
        items,
        number=number,
        workers=job.pace.workers,
        ordered=job.ordered,
        max_calls=max_calls,
        max_cost=None if cost is None else cost.amount + already,
        prices=job.cost.prices,
        ledger=store,
        job="" if store is None else job.name,
        fresh_within=None if store is None else job.fresh_within,
        retry_failed=job.retry_failed,
        grace=0,  # run_stream adds it
        outage_after=job.patience.outage_deadline or None,
        keep_going=job.patience.keep_going,
        pending=job.pending,
        poll_floor=POLL_FLOOR if job.poll_floor is None else job.poll_floor,
        on_event=notice,
    )
    meter = RunMeter(
        lambda: stream.stats,
        to_ask,
        lambda: notice.cost,
        currency=job.cost.currency,
        most_calls=None if max_calls is None else max_calls - made,
        plan=RatePlan.read(job.pace.rate_with_hours),
        pause=lambda: stream.pause,
        outage=lambda: notice.outage,
    )
    ending = await run_stream(
        stream,
        take,
        interruption=interruption,
        view=meter,
        progress=job.talk.shown if progress is None else progress,
        grace=job.grace,
        metrics=(
            None if job.metrics_file is None else MetricsFile(job.metrics_file, job.name, lambda: notice.cost)
        ),
    )
    ending = replace(ending, replies=notice.replies, basic_replies=notice.basic_replies, cost=notice.cost)
    if store is None or not isinstance(ending.error, BudgetExhausted):
        return ending
    return replace(
        ending, job_calls=await store.calls_made(job.name), job_spent=await spent_so_far(store, job.name)
    )
