"""A list to a file, in two passes: buy what is not known, then write the whole output from the ledger."""

from __future__ import annotations

from accucheck._client import Client
from accucheck.cli._answer_columns import Tally
from accucheck.cli._event_loop import run_to_end
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interrupted, Interruption
from accucheck.cli._job import Job, open_list, row_total
from accucheck.cli._known import known_in
from accucheck.cli._messages import complain, say
from accucheck.cli._output_pass import write_rows
from accucheck.cli._run import Ending, run_stream
from accucheck.cli._summary import summarise
from accucheck.files import FileSink

__all__ = ["run_file_job"]


def run_file_job(job: Job, client: Client, interruption: Interruption) -> ExitCode:
    """Do the job; return its exit code. The output is written however the first pass ended."""
    with (
        open_list(job.input, job.reading, job.talk) as source,
        # Both are opened before the first call: whoever cannot keep the answers must not buy any.
        job.opened_ledger() as ledger,
        FileSink(job.output, source, file_format=job.format) as sink,
    ):
        # Failures are shown too, also those that --retry-failed did not come to asking again.
        find = known_in(ledger, job.endpoint, fresh_within=job.fresh_within)

        async def buy() -> Ending:
            async with client:
                return await run_stream(
                    job.stream(client, source.numbers(), ledger),
                    lambda outcome: None,
                    interruption=interruption,
                    total=row_total(source),
                    grace=job.grace,
                    quiet=job.talk.quiet,
                )

        ending = run_to_end(buy())
        if ending.left_at_once:
            say(
                f"stopped at once: {job.output} was not written",
                hint="the answers are in the ledger; run the same command again to go on"
                if job.ledger_path
                else None,
            )
            raise Interrupted
        with interruption.phase(
            first=lambda: say("the output is nearly there; once more to leave it as it was")
        ):
            tally = write_rows(source, sink, find, mobile_only=job.reading.mobile_only)
    return _conclude(job, ending, tally, interruption)


def _conclude(job: Job, ending: Ending, tally: Tally, interruption: Interruption) -> ExitCode:
    if not job.talk.quiet:
        where = [("output", job.output)]
        if job.ledger_path is not None:
            where.append(("ledger", str(job.ledger_path)))
        summarise(tally, ending.stats, where)
    if ending.error is not None:
        code = complain(ending.error)
    elif interruption.first is not None:
        code = interruption.exit_code
    else:
        code = ExitCode.ALL_ANSWERED if tally.answered == tally.rows else ExitCode.SOME_NOT_ANSWERED
    if tally.unchecked:
        say(f"{tally.unchecked:,} rows are not checked yet", hint=_how_to_go_on(job))
    return code


def _how_to_go_on(job: Job) -> str:
    if job.ledger_path is None:
        return "without a ledger, running it again asks for every number anew"
    return "run the same command again to go on: what is answered is not asked again"
