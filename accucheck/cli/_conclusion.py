"""How a list's run ended, for a person and for a script: what was done, what is missing, and how to go on."""

from __future__ import annotations

import tempfile

from accucheck._errors import BudgetExhausted, LedgerError, OutOfQuota, RunEnded
from accucheck.cli._answer_columns import Tally
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job
from accucheck.cli._messages import complain, say
from accucheck.cli._run import Ending
from accucheck.cli._summary import summarise

__all__ = ["conclude", "how_to_go_on", "tell_what_ended_it"]


def conclude(
    job: Job, ending: Ending, tally: Tally, interruption: Interruption, where: list[tuple[str, str]]
) -> ExitCode:
    """Say how the run ended, ``where`` things are and what to do next; return the exit code."""
    if not job.talk.quiet:
        if job.ledger_path is not None:
            where = [*where, ("ledger", str(job.ledger_path))]
        summarise(tally, ending.stats, where)
    code = tell_what_ended_it(job, ending, interruption)
    if code is None:
        code = ExitCode.ALL_ANSWERED if tally.answered == tally.rows else ExitCode.SOME_NOT_ANSWERED
    if tally.failed and not job.talk.quiet:
        hint = "--retry-failed asks for them again" if job.ledger_path is not None else None
        say(f"{_rows(tally.failed)} failed", hint=hint)
    if tally.unchecked:
        not_checked = "is not checked yet" if tally.unchecked == 1 else "are not checked yet"
        say(
            f"{_rows(tally.unchecked)} {not_checked}",
            hint=how_to_go_on(job, ending.error, outage=ending.outage),
        )
    return code


def tell_what_ended_it(job: Job, ending: Ending, interruption: Interruption) -> ExitCode | None:
    """Say what ended the run early and return the exit code for it; None if it came to its end."""
    if ending.error is not None:
        code = complain(ending.error)
        if isinstance(ending.error, BudgetExhausted):
            _tell_earlier_calls(job, ending)
        elif isinstance(ending.error, LedgerError) and job.ledger_path is None:
            say(
                f"a run with --no-ledger keeps its answers in {tempfile.gettempdir()} until the output is written",
                hint="free some space there, set TMPDIR, or name a place with --ledger",
            )
        return code
    if interruption.first is not None:
        return interruption.exit_code
    return ExitCode.OUTAGE if ending.outage else None


def _tell_earlier_calls(job: Job, ending: Ending) -> None:
    """Say why a budget ended sooner than its size lets expect."""
    allowed = job.pace.max_calls or 0
    earlier = allowed - ending.stats.calls
    if earlier > 0:
        say(
            f"{earlier:,} of the {allowed:,} calls were used by earlier runs of this list",
            hint="a higher --max-calls goes on; --job NAME begins a budget of its own",
        )


def how_to_go_on(job: Job, error: RunEnded | None, *, outage: bool = False) -> str:
    """Return the next step as a clause: after what ended the run, or after an interruption."""
    match error:
        case BudgetExhausted():
            step = "run it again with a higher --max-calls"
        case OutOfQuota():
            step = "run the same command again once the account has calls"
        case None if outage:
            step = "run the same command again once the API can be reached (--base-url, network, proxy)"
        case None:
            step = "run the same command again"
        case _:
            step = "run the same command again once that is mended"
    if job.ledger_path is None:
        return f"{step}; without a ledger (--ledger PATH) every number is asked anew"
    kept = "stored" if isinstance(error, LedgerError) else "answered"
    return f"{step} to go on: what is {kept} is not asked again"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
