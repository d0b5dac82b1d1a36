"""``bulk`` to a file, in two passes: check what is not in the ledger, then write every row from the ledger."""

from __future__ import annotations

from typing import NoReturn

from accucheck._client import Client
from accucheck._errors import LedgerError
from accucheck._store import Ledger
from accucheck.cli._console import complain, say
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interrupted, Interruption
from accucheck.cli._job import Job, open_list, row_total
from accucheck.cli._ledger import known_in
from accucheck.cli._rows import write_rows
from accucheck.cli._run import Ending, OutageWatch, run_stream, run_to_end
from accucheck.cli._summary import conclude, how_to_continue, say_what_ended_it
from accucheck.files import FileError, FileSink, Source

__all__ = ["run_file_job"]


def run_file_job(job: Job, client: Client, interruption: Interruption) -> ExitCode:
    """Run the job and return its exit code. The output is written however the first pass ended."""
    ending: Ending | None = None
    try:
        with (
            open_list(job.input, job.reading, job.talk) as source,
            # Both are opened before the first call: no answer is bought that cannot be kept.
            job.opened_ledger() as ledger,
            FileSink(job.output, source, file_format=job.format) as sink,
        ):
            # Any age, failures included: where an answer was due to be re-checked and was not, the old one is
            # better than nothing.
            find = known_in(ledger, job.endpoint)
            ending = run_to_end(_buy(job, client, source, ledger, interruption))
            if ending.left_at_once:
                _leave(job)
            with interruption.phase(
                first=lambda: say("writing the output; press Ctrl-C again to leave the old output in place"),
                second=lambda: _leave(job),
            ):
                tally = write_rows(source, sink, find, mobile_only=job.reading.mobile_only)
    except FileError as error:
        if ending is None:
            raise
        return _say_unwritten(job, ending, error, interruption)
    return conclude(job, ending, tally, interruption, [("output", job.output)])


async def _buy(
    job: Job, client: Client, source: Source, ledger: Ledger, interruption: Interruption
) -> Ending:
    outage = OutageWatch(job.outage_deadline)
    async with client:
        return await run_stream(
            job.stream(client, source.numbers(), ledger, on_event=outage),
            lambda outcome: None,  # the second pass reads it from the ledger
            interruption=interruption,
            outage=outage,
            total=row_total(source),
            grace=job.grace,
            quiet=job.talk.quiet,
        )


def _say_unwritten(job: Job, ending: Ending, error: FileError, interruption: Interruption) -> ExitCode:
    say_what_ended_it(job, ending, interruption)
    complain(error)
    if job.ledger_path is not None:
        # If the ledger itself failed, its error has said how many answers it could not store.
        kept = "the answers stored so far" if isinstance(ending.error, LedgerError) else "all answers"
        say(
            f"{kept} are safe in {job.ledger_path}",
            hint=f"write the output somewhere else: --ledger {job.ledger_path} -o …",
        )
    return ExitCode.STORAGE


def _leave(job: Job) -> NoReturn:
    """End the command without writing the output; an existing one stays as it is."""
    hint = how_to_continue(job, None) if job.ledger_path is not None else None
    raise Interrupted(f"stopped: {job.output} was not written", hint)
