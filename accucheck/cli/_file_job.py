"""``bulk`` to files, in two passes a list: check what is not in the ledger, then write every row from the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from itertools import islice
from typing import NoReturn

import anyio
import msgspec

from accucheck._client import Client
from accucheck._costs import Cost
from accucheck._engine import total
from accucheck._errors import ConfigurationError, InvalidNumber, LedgerError
from accucheck._models import Check
from accucheck._store import Endpoint, Store
from accucheck.cli._console import complain, say
from accucheck.cli._exit import ExitCode, Interrupted, Interruption
from accucheck.cli._job import Job, open_list, with_job_totals
from accucheck.cli._ledger import Find, known_in, ledger_exists, open_book
from accucheck.cli._lists import (
    ReadNumbers,
    WhyNot,
    most_numbers,
    numbers_to_buy,
    reader_of,
    several_of,
    why_not,
)
from accucheck.cli._output import (
    CHUNK,
    Outputs,
    RowWriter,
    Tally,
    check_output,
    refuse_other_files,
    remember_output,
    write_rows,
)
from accucheck.cli._progress import PassMeter, reporting
from accucheck.cli._report import make_paper, run_figures
from accucheck.cli._run import Ending, RunNotice, run_meter, run_stream, run_to_end
from accucheck.cli._summary import ListResult, conclude, how_to_continue, say_what_ended_it, summarize_all
from accucheck.cli._survey import Survey, survey_list
from accucheck.files import FileError, Source, local_name

__all__ = ["run_file_jobs"]


Clients = Mapping[Endpoint, Client]
"""The client of each endpoint that is used."""


def run_file_jobs(jobs: Sequence[Job], clients: Clients, interruption: Interruption) -> ExitCode:
    """Run the jobs one after the other and return the exit code. One that fails does not stop the others."""
    return run_to_end(_run_all(jobs, clients, interruption), interruption)


async def _run_all(jobs: Sequence[Job], clients: Clients, interruption: Interruption) -> ExitCode:
    results: list[ListResult] = []
    async with AsyncExitStack() as stack:
        for client in clients.values():
            await stack.enter_async_context(client)
        for place, job in enumerate(jobs, start=1):
            if len(jobs) > 1 and not job.talk.quiet:
                say(f"list {place} of {len(jobs)}: {job.input}")
            try:
                result = await _run_one(job, clients, interruption)
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


async def _run_one(job: Job, clients: Clients, interruption: Interruption) -> ListResult:
    """Do one list. The output is written however the first pass ended."""
    ending: Ending | None = None
    try:
        with open_list(job.input, job.reading, job.talk) as source:
            for output in job.outputs.values():
                check_output(output, source, job.format)
            reason = why_not(source, job.exclusion)
            read, several = reader_of(job.reading, source), several_of(job.reading, source)
            if not ledger_exists(job.ledger):
                await refuse_other_files(job, None)  # before a ledger is made
            # Output and ledger are opened before the first call: no answer is bought that cannot be kept.
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
                        store, job.first_endpoint, fresh=job.fresh, retry_failed=job.retry_failed, to_ask=True
                    )
                    found = await survey_list(job.talk, source, fresh, read=read, reason=reason)
                    ending = await _check(job, clients, source, reason, store, found, interruption)
                    if ending.left_at_once:
                        _leave(job)
                    if paper is not None:
                        paper.run = run_figures(ending)
                    # Any age, failures included: where an answer was due to be re-checked and was not, the old one
                    # is better than nothing.
                    known = known_in(store, job.first_endpoint)
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
    clients: Clients,
    source: Source,
    reason: WhyNot | None,
    store: Store,
    found: Survey,
    interruption: Interruption,
) -> Ending:
    if job.endpoint != "cascade" and not found.to_ask:
        # To read the list again, and look all of it up again, is a third of the time that such a run takes.
        ending = await _ask(job, clients[job.endpoint], (), store, 0, interruption)
        return replace(ending, stats=msgspec.structs.replace(ending.stats, **found.counts()))
    numbers = numbers_to_buy(source, reason, job.reading)
    if job.endpoint != "cascade":
        return await _ask(job, clients[job.endpoint], numbers, store, found.to_ask, interruption)
    steps = [await job.step("basic", store), await job.step("advanced", store)]
    first = await _ask(steps[0], clients["basic"], numbers, store, found.to_ask, interruption)
    if first.error is not None or interruption.first is not None:
        return first
    if not job.talk.quiet:
        say("asking the advanced endpoint for the numbers that are on WhatsApp")
    again = _on_whatsapp(numbers_to_buy(source, reason, job.reading), store, reader_of(job.reading, source))
    second = await _ask(steps[1], clients["advanced"], again, store, None, interruption)
    return _together(first, second)


async def _on_whatsapp(texts: Iterator[str], store: Store, read: ReadNumbers) -> AsyncIterator[str]:
    """Yield the numbers that are known to be on WhatsApp."""
    find = known_in(store, "basic")
    while chunk := list(islice(texts, CHUNK)):
        numbers: list[int] = []
        for text in chunk:
            with suppress(InvalidNumber):
                numbers += read(text)
        for number, known in (await find(numbers)).items():
            if isinstance(known.result, Check) and known.result.whatsapp:
                yield str(number)


def _together(first: Ending, second: Ending) -> Ending:
    """Return the ending of a cascade. Its numbers are those of the first step, its calls those of both."""
    stats = total(
        [first.stats, second.stats], rate=second.limit, elapsed=first.stats.elapsed + second.stats.elapsed
    )
    numbers = first.stats if first.stats.yes + first.stats.no + first.stats.failed else second.stats
    names = ("read", "rejected", "duplicates", "known", "known_failed", "yes", "no", "failed", "delivered")
    cost = None
    if first.cost is not None and second.cost is not None:
        cost = Cost(first.cost.likely + second.cost.likely, first.cost.at_most + second.cost.at_most)
    return replace(
        second,
        stats=msgspec.structs.replace(stats, **{name: getattr(numbers, name) for name in names}),
        cost=cost,
        speed=first.speed + second.speed,
    )


async def _ask(
    job: Job,
    client: Client,
    numbers: Iterable[str] | AsyncIterable[str],
    store: Store,
    to_ask: int | None,
    interruption: Interruption,
) -> Ending:
    """Ask one endpoint for what the ledger does not know."""
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
    """Write the output. A second signal leaves the old one in place."""
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
        # If the ledger itself failed, its error has said how many answers it could not store.
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
