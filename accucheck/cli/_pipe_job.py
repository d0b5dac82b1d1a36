"""``bulk -o -``: every row goes to standard output as soon as it is answered, the unanswered ones at the end.

Standard input that is still being written is read in a thread beside the event loop.
"""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

from accucheck._client import Client
from accucheck._errors import ConfigurationError
from accucheck._models import Checked, Outcome
from accucheck._store._memory import Bitset
from accucheck.cli._console import has_standard_output, standard_output
from accucheck.cli._exit import ExitCode, Interruption
from accucheck.cli._job import Job, open_list, with_job_totals
from accucheck.cli._ledger import known_in, nothing_known, open_book
from accucheck.cli._lists import WhyNot, reader_of, several_of, why_not
from accucheck.cli._options import STANDARD_STREAM
from accucheck.cli._output import Tally, answered_rows, columns_of, number_of
from accucheck.cli._run import Ending, RunNotice, run_meter, run_stream, run_to_end
from accucheck.cli._summary import ListResult, conclude, write_summary
from accucheck.files import Row, Source, StreamSink, local_name

__all__ = ["LiveRows", "run_pipe_job"]

_AHEAD = 1_000
"""Most rows read and not yet taken; a faster writer has to wait."""


class LiveRows:
    """Reads ``rows`` in a thread, since the next row may take long to arrive.

    The thread is a daemon: a run that ends before its input does not wait for it.
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
                    known = nothing_known if store is None else known_in(store, job.first_endpoint)
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
