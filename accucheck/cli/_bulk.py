"""``accucheck bulk``: a list in, the same list with the answers out, to files or to standard output (``-o -``).

Each list to a file takes two passes: check what is not in the ledger, then write every row from the ledger. On standard
output, each row is written as soon as it is answered, unanswered ones at the end. Standard input that is still being
written is read in a thread.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Annotated, NoReturn

import anyio
import msgspec
from cyclopts import Parameter

from accucheck._client import Client
from accucheck._errors import ConfigurationError, InvalidNumber, LedgerError
from accucheck._models import Checked, Outcome
from accucheck._store import Bitset
from accucheck.cli._account import find_id, make_client
from accucheck.cli._console import complain, has_standard_output, say, standard_output
from accucheck.cli._exit import ExitCode, Interrupted, Interruption
from accucheck.cli._job import Job
from accucheck.cli._ledger import Find, known_in, ledger_exists, nothing_known, open_book
from accucheck.cli._lists import Leads, expand, make_exclusion, open_leads, outputs_in, reports_on
from accucheck.cli._options import STANDARD_STREAM, StreamOrPath
from accucheck.cli._output import (
    Outputs,
    Tally,
    answered_rows,
    check_output,
    columns_of,
    refuse_files_beside,
    refuse_other_files,
    remember_output,
)
from accucheck.cli._progress import PassMeter, reporting
from accucheck.cli._report import make_paper, run_figures
from accucheck.cli._run import Ending, run_job, run_to_end
from accucheck.cli._summary import (
    ListResult,
    conclude,
    how_to_continue,
    say_what_ended_it,
    summarize_all,
    write_summary,
)
from accucheck.cli._survey import run_sample_job, survey_job
from accucheck.files import FileError, Row, Source, StreamSink, is_remote, local_name
from accucheck.report._tally import best_of


def bulk(
    *lists: StreamOrPath,
    options: Job = Job(),
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Check a list: read a file and write it back with the answers.

    Parameters
    ----------
    lists
        One or more lists: files, folders, patterns or addresses such as s3://bucket/leads.csv. CSV, TSV, JSON lines,
        Parquet or Excel, optionally .gz or .zst; - reads standard input.
    """
    output, folder = options.output, options.output_dir
    if not lists:
        raise ConfigurationError(
            "name a list: accucheck bulk leads.csv -o checked.csv\naccucheck bulk --help"
        )
    names = expand(lists, apart_from=None if folder is None or is_remote(folder) else folder)
    if folder is not None and os.path.isfile(folder):
        raise ConfigurationError(f"--output-dir {folder} is a file; name a folder")
    if output and folder is not None:
        raise ConfigurationError("use either -o or --output-dir, not both")
    if len(names) > 1 and folder is None:
        raise ConfigurationError("several lists need a folder for their results: add --output-dir checked")
    if options.sample is not None and not output:
        output = _absolute(names[0])  # names the job; nothing is written
    if not output and folder is None:
        raise ConfigurationError(
            "say where to write the results: accucheck bulk leads.csv -o checked.csv\naccucheck bulk --help"
        )
    outputs = [output] if output else outputs_in(folder or "", names)
    account = replace(options.account, api_id=find_id(options.account.api_id))
    exclusion = make_exclusion(options.skipping, quiet=options.talk.quiet)
    jobs = [
        replace(
            options,
            input=name,
            output=path,
            report=page,
            account=account,
            exclusion=exclusion,
            job=options.job if options.job is not None or folder is None else _absolute(folder),
        )
        for name, path, page in zip(names, outputs, reports_on(options.report, names), strict=True)
    ]
    refuse_files_beside(jobs)
    client = make_client(account, options.patience, options.pace, mobile_only=options.reading.mobile_only)
    if options.sample is not None:
        if len(jobs) > 1:
            raise ConfigurationError("--sample takes one list")
        return run_sample_job(jobs[0], options.sample, client, interruption)
    if jobs[0].to_stdout:
        return run_pipe_job(jobs[0], client, interruption)
    if folder is not None and not is_remote(folder):
        for path in outputs:
            os.makedirs(os.path.dirname(path), exist_ok=True)
    return run_file_jobs(jobs, client, interruption)


def _absolute(path: str) -> str:
    return path if is_remote(path) else os.path.abspath(path)


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
        with open_leads(job.input, job.reading, job.exclusion, job.talk) as leads:
            source = leads.source
            for output in job.outputs.values():
                check_output(output, source, job.format)
            if not ledger_exists(job.place):
                await refuse_other_files(job, None)  # before a ledger is made
            # Open output and ledger before the first call, so that no answer is bought that cannot be kept.
            async with open_book(job.place, local_name(job.output)) as book:
                store = book.store
                await refuse_other_files(job, store)
                paper = make_paper(job, source)
                with Outputs(job, source, paper=paper, numbers=leads.most_numbers()) as sink:
                    if not job.talk.quiet:
                        book.say()
                        for note in sink.notes:
                            say(note)
                    found = await survey_job(job, leads, store)
                    numbers = leads.to_buy() if found.to_ask else ()
                    ending = await run_job(job, client, numbers, store, interruption, to_ask=found.to_ask)
                    if not found.to_ask:  # its stream has read nothing
                        stats = msgspec.structs.replace(ending.stats, **found.counts())
                        ending = replace(ending, stats=stats)
                    if ending.left_at_once:
                        _leave(job)
                    if paper is not None:
                        paper.run = run_figures(ending, job)
                    # Any age, failures included: where an answer was due to be re-checked and was not, the old one
                    # is better than nothing.
                    known = known_in(store, job.account.endpoint)
                    await remember_output(job, store, written=False)
                    tally = await _write(job, leads, sink, known, found.rows, interruption)
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


async def _write(
    job: Job,
    leads: Leads,
    sink: Outputs,
    find: Find,
    rows: int,
    interruption: Interruption,
) -> Tally:
    """Write the output. A second signal keeps the old one."""
    tally = Tally()
    meter = PassMeter("writing the output", lambda: tally.rows, lambda: tally.rows / max(rows, 1))
    loop, scope = asyncio.get_running_loop(), anyio.CancelScope()
    with (
        interruption.phase(
            first=lambda: say("writing the output; press Ctrl-C again to keep the old output instead"),
            second=lambda: loop.call_soon_threadsafe(scope.cancel),
        ),
        scope,
    ):
        async with reporting(meter, job.talk.shown):
            async for row, (columns, *more) in answered_rows(
                leads.source.rows(),
                find,
                read=leads.read,
                keep_best=leads.several != "each",
                reason=leads.why_not,
            ):
                sink.write(row, columns, *more)
                tally.count(best_of([columns, *more]) if more else columns)
    if scope.cancelled_caught:
        _leave(job)
    return tally


def _say_unwritten(job: Job, ending: Ending, error: FileError, interruption: Interruption) -> ExitCode:
    say_what_ended_it(job, ending, interruption)
    complain(error)
    if job.place is not None:
        # If the ledger failed, its error has already said how many answers it could not store.
        kept = "the answers stored so far" if isinstance(ending.error, LedgerError) else "all answers"
        say(
            f"{kept} are safe in {job.place}",
            hint=f"write the output somewhere else with --ledger {job.place} -o …",
        )
    return ExitCode.STORAGE


def _leave(job: Job) -> NoReturn:
    """End the command without writing the output; an existing one stays as it is."""
    hint = how_to_continue(job, None) if job.place is not None else None
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
        open_leads(
            job.input,
            job.reading,
            job.exclusion,
            job.talk,
            live=job.input == STANDARD_STREAM and job.exclusion is None,
        ) as leads,
        StreamSink(
            standard_output(), leads.source, file_format=job.format or "jsonl", every_row=True
        ) as sink,
    ):
        source = leads.source
        live = None if source.repeatable else LiveRows(source.rows())
        if leads.several in ("best", "each"):
            raise ConfigurationError(
                "--several best and each need an output file; use --several first with -o -"
            )

        def number_of(row: Row) -> int | None:
            with suppress(InvalidNumber):
                return leads.read(row.number)[0]
            return None

        def write(outcome: Outcome[tuple[int, Row]]) -> None:
            place, row = outcome.item
            if isinstance(outcome, Checked):
                columns = columns_of(outcome.check)
            else:
                columns = columns_of(outcome.error, number_of(row))
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
            async with AsyncExitStack() as stack:
                book = None
                if job.place is not None:
                    book = await stack.enter_async_context(open_book(job.place, local_name(job.input)))
                    if not job.talk.quiet:
                        book.say()
                await stack.enter_async_context(client)
                store = None if book is None else book.store
                ending = await run_job(
                    job,
                    client,
                    live or _to_ask(leads),
                    store,
                    interruption,
                    take=write,
                    number=lambda item: number_of(item[1]) or item[1].number,
                    progress="none" if sys.stdout.isatty() else None,  # there the rows show it
                )
                if not ending.left_at_once:
                    known = nothing_known if store is None else known_in(store, job.account.endpoint)
                    rest = _unwritten(source, written) if live is None else live.rest()
                    async for row, (columns,) in answered_rows(
                        rest, known, read=leads.read, reason=leads.why_not
                    ):
                        sink.write(row, columns)
                        tally.count(columns)
                if book is not None:
                    ledger = book.path
                return ending

        ending = run_to_end(answer(), interruption)
    code = conclude(job, ending, tally, interruption, [], ledger)
    write_summary(job.summary_json, [ListResult(job=job, ending=ending, tally=tally, code=code)], code)
    return code


def _to_ask(leads: Leads) -> Iterator[tuple[int, Row]]:
    """Yield the rows that are not skipped, with their places from 0."""
    return (pair for pair in enumerate(leads.source.rows()) if not leads.why_not(pair[1]))


def _unwritten(source: Source, written: Bitset) -> Iterator[Row]:
    """Yield the rows without an outcome, if there are any, in a second pass over the input."""
    if source.rows_total is None or source.rows_total != len(written):
        yield from (row for place, row in enumerate(source.rows()) if place not in written)
