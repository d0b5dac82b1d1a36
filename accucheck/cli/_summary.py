"""The end of a run, for a person and for a script: what was done, what is missing, what to do next."""

from __future__ import annotations

import tempfile

from accucheck._errors import BudgetExhausted, LedgerError, OutOfQuota, RunEnded
from accucheck._models import Stats
from accucheck.cli._console import complain, report, say
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job
from accucheck.cli._render import duration, thousands
from accucheck.cli._rows import Tally
from accucheck.cli._run import Ending

__all__ = ["calls_facts", "conclude", "how_to_go_on", "summarise", "tell_what_ended_it"]


def summarise(tally: Tally, stats: Stats, where: list[tuple[str, str]]) -> None:
    """Print rows by status, calls by kind, time, and ``where`` things are."""
    report([("rows", thousands(tally.rows)), *_status_facts(tally), *calls_facts(stats), *where])


def _status_facts(tally: Tally) -> list[tuple[str, str]]:
    facts = []
    for status, rows in tally.by_status.most_common():
        words = thousands(rows)
        if status == "OK":
            words += f" ({thousands(tally.yes)} on WhatsApp, {tally.yes / rows:.1%})"
        facts.append((f"  {status}", words))
    return facts


def calls_facts(stats: Stats) -> list[tuple[str, str]]:
    """Return what the run cost, by kind of call."""
    settled = stats.yes + stats.no + stats.failed
    calls = f"{thousands(stats.calls)} for {thousands(settled)} distinct numbers"
    if settled and stats.calls:
        calls += f" ({stats.calls / settled:.2f} each)"
    facts = [("calls", calls)]
    if stats.pending:
        polls = f"{thousands(stats.polls)} for {thousands(stats.pending)} pending numbers"
        facts.append(("  polls", f"{polls} ({stats.polls / stats.pending:.2f} each)"))
    if stats.retries:
        facts.append(("  retries", thousands(stats.retries)))
    if stats.refusals:
        facts.append(("  refused", f"{thousands(stats.refusals)} for frequency"))
    if stats.possibly_double_charged:
        facts.append(
            ("  lost", f"{thousands(stats.possibly_double_charged)} answers: possibly charged twice")
        )
    if stats.known:
        facts.append(("known", _known(stats)))
    speed = (stats.yes + stats.no) / stats.elapsed if stats.elapsed > 0 else 0.0
    facts.append(("time", f"{duration(stats.elapsed)} ({speed:,.0f} checks/s)"))
    return facts


def _known(stats: Stats) -> str:
    """Tell answers from failures: both cost nothing, and only the first are what was asked for."""
    answered = stats.known - stats.known_failed
    words = []
    if answered:
        words.append(f"{thousands(answered)} rows were answered by the ledger, at no cost")
    if stats.known_failed:
        words.append(f"{thousands(stats.known_failed)} rows failed in an earlier run")
    return "; ".join(words)


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
