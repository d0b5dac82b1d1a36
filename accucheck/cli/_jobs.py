"""Jobs of ``bulk``: to files, and to standard output (``-o -``).

Each list to a file takes two passes: check what is not in the ledger, then write every row from the ledger. On standard
output, each row is written as soon as it is answered, unanswered ones at the end. Standard input that is still being
written is read in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import NoReturn

import anyio
import msgspec

from accucheck._client import Client
from accucheck._errors import ConfigurationError, LedgerError
from accucheck._models import Checked, Outcome
from accucheck._store import Bitset, Store
from accucheck.cli._console import complain, has_standard_output, say, standard_output
from accucheck.cli._exit import ExitCode, Interrupted, Interruption
from accucheck.cli._job import Job, open_list, with_job_totals
from accucheck.cli._ledger import Find, known_in, ledger_exists, nothing_known, open_book
from accucheck.cli._lists import (
    WhyNot,
    most_numbers,
    numbers_to_buy,
    reader_of,
    several_of,
    why_not,
)
from accucheck.cli._options import STANDARD_STREAM
from accucheck.cli._output import (
    Outputs,
    RowWriter,
    Tally,
    answered_rows,
    check_output,
    columns_of,
    number_of,
    refuse_other_files,
    remember_output,
    write_rows,
)
from accucheck.cli._progress import PassMeter, reporting
from accucheck.cli._report import make_paper, run_figures
from accucheck.cli._run import Ending, RunNotice, run_meter, run_stream, run_to_end
from accucheck.cli._summary import (
    ListResult,
    conclude,
    how_to_continue,
    say_what_ended_it,
    summarize_all,
    write_summary,
)
from accucheck.cli._survey import Survey, survey_list
from accucheck.files import FileError, Row, Source, StreamSink, local_name

__all__ = ["LiveRows", "run_file_jobs", "run_pipe_job"]


def run_file_jobs(jobs: Sequence[Job], client: Client, interruption: Interruption) -> ExitCode:
    """Run the jobs one after another and return the exit code. A job that fails does not stop the others."""
    return run_to_end(_run_all(jobs, client, interruption), interruption)


async def _run_all(jobs: Sequence[Job], client: Client, interruption: Interruption) -> ExitCode:
    results: list[ListResult] = []
    async with client:
        for place, job in enumerate(jobs, start=1):
            if len(jobs) > 1 and not job.talk.quiet:
                say(f"list {place} of {len(jobs)}: {job.input}")
            try:
                result = await _run_one(job, client, interruption)
            except (
                ConfigurationError,
                OSError,
            ) as error:  # this list cannot be read, or its output not be written
                if len(jobs) == 1:
                    raise
                result = ListResult(job=job, code=complain(error))
            results.append(result)
            if result.ends_all or interruption.first is not None:
                break
    return summarize_all(results, jobs, interruption)


async def _run_one(job: Job, client: Client, interruption: Interruption) -> ListResult:
    """Process one list. The output is written however the first pass ended."""
    ending: Ending | None = None
    try:
        with open_list(job.input, job.reading, job.talk) as source:
            for output in job.outputs.values():
                check_output(output, source, job.format)
            reason = why_not(source, job.exclusion)
            read, several = reader_of(job.reading, source), several_of(job.reading, source)
            if not ledger_exists(job.ledger):
                await refuse_other_files(job, None)  # before a ledger is made
            # Open output and ledger before the first call, so that no answer is bought that cannot be kept.
            async with open_book(job.ledger, local_name(job.output)) as book:
                store = book.store
                await refuse_other_files(job, store)
                numbers = most_numbers(source, read) if several == "each" else 1
                paper = make_paper(job, source)
                with Outputs(job, source, paper=paper, numbers=numbers) as sink:
                    if not job.talk.quiet:
                        book.say()
                        for note in sink.notes:
                            say(note)
                    fresh = known_in(
                        store, job.endpoint, fresh=job.fresh, retry_failed=job.retry_failed, to_ask=True
                    )
                    found = await survey_list(job.talk, source, fresh, read=read, reason=reason)
                    ending = await _check(job, client, source, reason, store, found, interruption)
                    if ending.left_at_once:
                        _leave(job)
                    if paper is not None:
                        paper.run = run_figures(ending, job)
                    # Any age, failures included: where an answer was due to be re-checked and was not, the old one
                    # is better than nothing.
                    known = known_in(store, job.endpoint)
                    await remember_output(job, store, written=False)
                    tally = await _write(job, source, reason, sink, known, found, interruption)
                await remember_output(job, store, written=True)
                ledger = book.path
    except FileError as error:
        if ending is None:
            raise
        return ListResult(job=job, ending=ending, code=_say_unwritten(job, ending, error, interruption))
    where = [("output", output) for output in job.outputs.values()]
    unwritten: FileError | None = None
    if paper is not None and job.report is not None:
        try:
            paper.write(job.report)
            where.append(("report", str(job.report)))
        except FileError as error:
            unwritten = error
    code = conclude(job, ending, tally, interruption, where, ledger)
    if unwritten is not None:
        complain(unwritten)
        code = ExitCode.STORAGE if code <= ExitCode.SOME_NOT_ANSWERED else code
    return ListResult(job=job, ending=ending, tally=tally, code=code)


async def _check(
    job: Job,
    client: Client,
    source: Source,
    reason: WhyNot | None,
    store: Store,
    found: Survey,
    interruption: Interruption,
) -> Ending:
    if found.to_ask:
        numbers = numbers_to_buy(source, reason, job.reading)
        return await _ask(job, client, numbers, store, found.to_ask, interruption)
    # Reading the list and looking it up again would take a third of the time of such a run.
    ending = await _ask(job, client, (), store, 0, interruption)
    return replace(ending, stats=msgspec.structs.replace(ending.stats, **found.counts()))


async def _ask(
    job: Job,
    client: Client,
    numbers: Iterable[str],
    store: Store,
    to_ask: int,
    interruption: Interruption,
) -> Ending:
    """Ask one endpoint about the numbers that the ledger does not know."""
    notice = RunNotice(job.host, job.outage_deadline, job.prices)
    stream = await job.stream(client, numbers, store, on_event=notice)
    most_calls = await job.max_calls(store)
    if most_calls is not None:
        most_calls -= await store.calls_made(job.name)
    ending = await run_stream(
        stream,
        lambda outcome: None,  # the second pass reads it from the ledger
        interruption=interruption,
        view=run_meter(stream, notice, to_ask, most_calls=most_calls, rate=job.pace.rate_with_hours),
        progress=job.talk.shown,
        grace=job.grace,
        metrics=job.metrics(lambda: notice.cost),
    )
    return await with_job_totals(replace(ending, cost=notice.cost), job, store)


async def _write(
    job: Job,
    source: Source,
    reason: WhyNot | None,
    sink: RowWriter,
    find: Find,
    found: Survey,
    interruption: Interruption,
) -> Tally:
    """Write the output. A second signal keeps the old one."""
    tally = Tally()
    meter = PassMeter("writing the output", lambda: tally.rows, lambda: tally.rows / max(found.rows, 1))
    loop, scope = asyncio.get_running_loop(), anyio.CancelScope()
    with (
        interruption.phase(
            first=lambda: say("writing the output; press Ctrl-C again to keep the old output instead"),
            second=lambda: loop.call_soon_threadsafe(scope.cancel),
        ),
        scope,
    ):
        async with reporting(meter, job.talk.shown):
            await write_rows(
                source,
                sink,
                find,
                read=reader_of(job.reading, source),
                keep_best=several_of(job.reading, source) != "each",
                reason=reason,
                tally=tally,
            )
    if scope.cancelled_caught:
        _leave(job)
    return tally


def _say_unwritten(job: Job, ending: Ending, error: FileError, interruption: Interruption) -> ExitCode:
    say_what_ended_it(job, ending, interruption)
    complain(error)
    if job.ledger is not None:
        # If the ledger failed, its error has already said how many answers it could not store.
        kept = "the answers stored so far" if isinstance(ending.error, LedgerError) else "all answers"
        say(
            f"{kept} are safe in {job.ledger}",
            hint=f"write the output somewhere else with --ledger {job.ledger} -o …",
        )
    return ExitCode.STORAGE


def _leave(job: Job) -> NoReturn:
    """End the command without writing the output; an existing one stays as it is."""
    hint = how_to_continue(job, None) if job.ledger is not None else None
    raise Interrupted(f"stopped: {job.output} was not written", hint)


_AHEAD = 1_000
"""Maximum rows read and not yet taken; a faster writer must wait."""


class LiveRows:
    """Reads ``rows`` in a thread, because the next row may take a long time to arrive.

    The thread is a daemon, so a run that ends before its input does not wait for it.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._ready: deque[Row] = deque()
        self._room = threading.Semaphore(_AHEAD)
        self._more = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._taken = 0
        self._unanswered: dict[int, Row] = {}

    def answered(self, place: int) -> None:
        """Note that the row at ``place`` (from 0) has an outcome."""
        self._unanswered.pop(place, None)

    def rest(self) -> Iterator[Row]:
        """Yield every row without an outcome. Waits for the end of the input."""
        yield from self._unanswered.values()
        while True:
            self._more.clear()
            while self._ready:
                yield self._pop()
            if self._ended and not self._ready:
                break
            self._more.wait()
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[tuple[int, Row]]:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=self._read, args=(loop, news), name="accucheck input", daemon=True).start()
        while True:
            news.clear()
            while self._ready:
                place = self._taken
                row = self._unanswered[place] = self._pop()
                self._taken += 1
                yield place, row
            if self._ended and not self._ready:
                break
            await news.wait()
        if self._error is not None:
            raise self._error

    def _pop(self) -> Row:
        self._room.release()
        return self._ready.popleft()

    def _read(self, loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
        def tell() -> None:
            self._more.set()
            with suppress(RuntimeError):  # the run is over and its event loop closed
                loop.call_soon_threadsafe(news.set)

        try:
            for row in self._rows:
                self._room.acquire()
                self._ready.append(row)
                if len(self._ready) == 1:
                    tell()
        except BaseException as error:  # noqa: BLE001 (raised again where the rows are taken)
            self._error = error
        self._ended = True
        tell()


def run_pipe_job(job: Job, client: Client, interruption: Interruption) -> ExitCode:
    """Run the job and return its exit code. Raises BrokenPipeError if the reader has closed the pipe."""
    if not has_standard_output():
        raise OSError(errno.EBADF, "standard output is closed")
    written = Bitset()
    tally = Tally()
    ledger = ""
    with (
        open_list(
            job.input, job.reading, job.talk, live=job.input == STANDARD_STREAM and job.exclusion is None
        ) as source,
        StreamSink(standard_output(), source, file_format=job.format or "jsonl", every_row=True) as sink,
    ):
        live = None if source.repeatable else LiveRows(source.rows())
        read = reader_of(job.reading, source)
        if several_of(job.reading, source) in ("best", "each"):
            raise ConfigurationError(
                "--several best and each need an output file; use --several first with -o -"
            )
        reason = why_not(source, job.exclusion)

        def write(outcome: Outcome[tuple[int, Row]]) -> None:
            place, row = outcome.item
            if isinstance(outcome, Checked):
                columns = columns_of(outcome.check)
            else:
                columns = columns_of(outcome.error, number_of(row, read))
                if row.fault:
                    columns = columns._replace(reason=row.fault)
            sink.write(row, columns)
            if live is not None:
                live.answered(place)
            else:
                written.add(place)
            tally.count(columns)

        async def answer() -> Ending:
            nonlocal ledger
            notice = RunNotice(job.host, job.outage_deadline, job.prices)
            async with AsyncExitStack() as stack:
                book = None
                if job.ledger is not None:
                    book = await stack.enter_async_context(open_book(job.ledger, local_name(job.input)))
                    if not job.talk.quiet:
                        book.say()
                await stack.enter_async_context(client)
                store = None if book is None else book.store
                stream = await job.stream(
                    client,
                    live or _to_ask(source, reason),
                    store,
                    on_event=notice,
                    number=lambda item: number_of(item[1], read) or item[1].number,
                )
                ending = await run_stream(
                    stream,
                    write,
                    interruption=interruption,
                    view=run_meter(stream, notice),
                    # On a terminal the rows themselves show the progress.
                    progress="none" if sys.stdout.isatty() else job.talk.shown,
                    grace=job.grace,
                    metrics=job.metrics(lambda: notice.cost),
                )
                ending = replace(ending, cost=notice.cost)
                if not ending.left_at_once:
                    known = nothing_known if store is None else known_in(store, job.endpoint)
                    rest = _unwritten(source, written) if live is None else live.rest()
                    async for row, (columns,) in answered_rows(rest, known, read=read, reason=reason):
                        sink.write(row, columns)
                        tally.count(columns)
                if book is None:
                    return ending
                ledger = book.path
                return await with_job_totals(ending, job, book.store)

        ending = run_to_end(answer(), interruption)
    code = conclude(job, ending, tally, interruption, [], ledger)
    write_summary(job.summary_json, [ListResult(job=job, ending=ending, tally=tally, code=code)], code)
    return code


def _to_ask(source: Source, reason: WhyNot | None) -> Iterator[tuple[int, Row]]:
    """Yield the rows that may be asked, with their places from 0."""
    return (pair for pair in enumerate(source.rows()) if reason is None or not reason(pair[1]))


def _unwritten(source: Source, written: Bitset) -> Iterator[Row]:
    """Yield the rows without an outcome, if there are any, in a second pass over the input."""
    if source.rows_total is None or source.rows_total != len(written):
        yield from (row for place, row in enumerate(source.rows()) if place not in written)
