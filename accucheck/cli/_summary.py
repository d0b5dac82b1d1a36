"""The end of a run, for a person and for a script: what was done, what is missing, what to do next."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from accucheck._circuit import STOPS
from accucheck._costs import Cost, in_money
from accucheck._errors import BudgetExhausted, LedgerError, Outage, OutOfQuota, RunEnded, UniformRefusals
from accucheck._models import Stats
from accucheck.cli._console import complain, count, duration, in_options, report, say, thousands
from accucheck.cli._exit import ExitCode, Interruption
from accucheck.cli._job import Job
from accucheck.cli._output import Tally
from accucheck.cli._progress import numbers_facts
from accucheck.cli._run import Ending
from accucheck.files import FileError
from accucheck.files._sink import AtomicFile


@dataclass(frozen=True, kw_only=True)
class ListResult:
    """How one list of a command ended."""

    job: Job
    code: ExitCode
    ending: Ending | None = None
    """None if the run did not begin."""
    tally: Tally | None = None
    """None if the output was not written."""

    @property
    def ends_all(self) -> bool:
        """Whether no other list can be checked either: the account, the budget, the ledger or the network."""
        return self.ending is not None and self.ending.error is not None


def summarize_all(results: Sequence[ListResult], jobs: Sequence[Job], interruption: Interruption) -> ExitCode:
    """Print one summary of several lists, and return the exit code of all of them."""
    code = max((result.code for result in results), key=_SEVERITY.index, default=ExitCode.ALL_ANSWERED)
    write_summary(jobs[0].summary_json, results, code)
    if len(jobs) == 1:
        return code
    if len(results) > 1 and not jobs[0].talk.quiet:
        tally = Tally()
        for result in results:
            tally.add(result.tally or Tally())
        stats = [result.ending.stats for result in results if result.ending is not None]
        numbers = sum(each.yes + each.no + each.failed for each in stats)
        calls = thousands(sum(each.calls for each in stats))
        written = sum(result.tally is not None for result in results)
        report(
            [
                ("all lists", f"{thousands(written)} of {thousands(len(jobs))} written"),
                ("rows", thousands(tally.rows)),
                *_status_facts(tally),
                ("calls", f"{calls} for {count(numbers, 'distinct number')}"),
                *cost_facts(_total_cost(results), jobs[0].cost.currency),
            ]
        )
    for result in results:
        if result.tally is None:
            say(f"{result.job.input}: not written")
    if left := len(jobs) - len(results):
        say(f"{count(left, 'list')} not started", hint="run the same command again to continue")
    return code


def write_summary(path: Path | None, results: Sequence[ListResult], code: ExitCode) -> None:
    """Write a summary of the run for programs, as JSON: totals of all lists, and each list."""
    if path is None:
        return
    lists = [_list_summary(result) for result in results]
    cost = _total_cost(results)
    figures = [result.ending.stats for result in results if result.ending is not None]
    whole = {
        "exit_code": int(code),
        "rows": sum(each["rows"] for each in lists),
        "by_status": dict(sum((Counter(each["by_status"]) for each in lists), Counter[str]())),
        "yes": sum(each["yes"] for each in lists),
        **{name: sum(getattr(stats, name) for stats in figures) for name in _SUMMED},
        "cost": None if cost is None else float(cost.likely),
        "elapsed": round(sum(stats.elapsed for stats in figures), 3),
        "limit": next(
            (each.limit for result in reversed(results) if (each := result.ending) is not None), None
        ),
        "speed": [point for result in results if result.ending is not None for point in result.ending.speed],
        "lists": lists,
    }
    text = json.dumps(whole, ensure_ascii=False, indent=2) + "\n"
    try:
        file = AtomicFile(path)
        file.stream.write(text.encode("utf-8", "backslashreplace"))
        file.commit()
    except (OSError, FileError) as error:
        say(f"cannot write the summary: {error}")


def _total_cost(results: Sequence[ListResult]) -> Cost | None:
    costs = [each.ending.cost for each in results if each.ending is not None and each.ending.cost is not None]
    if not costs:
        return None
    return Cost(Decimal(sum(cost.likely for cost in costs)), Decimal(sum(cost.at_most for cost in costs)))


_SUMMED = ("calls", "polls", "retries", "refusals", "possibly_double_charged")


def _list_summary(result: ListResult) -> dict[str, Any]:
    tally = result.tally or Tally()
    error = None if result.ending is None else result.ending.error
    return {
        "input": result.job.input,
        "outputs": [] if result.tally is None else list(result.job.outputs.values()),
        "exit_code": int(result.code),
        "ended_by": None if error is None else error.status,
        "rows": tally.rows,
        "by_status": dict(tally.by_status),
        "yes": tally.yes,
        "calls": 0 if result.ending is None else result.ending.stats.calls,
    }


_SEVERITY = [
    ExitCode.ALL_ANSWERED,
    ExitCode.SOME_NOT_ANSWERED,
    ExitCode.USAGE,
    ExitCode.STORAGE,
    ExitCode.OUTAGE,
    ExitCode.USED_UP,
    ExitCode.NOT_ALLOWED,
    ExitCode.UNEXPECTED,
    ExitCode.READER_GONE,
    ExitCode.HUNG_UP,
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
]
"""The exit code of several lists is the last of these that one of them has."""


def conclude(
    job: Job,
    ending: Ending,
    tally: Tally,
    interruption: Interruption,
    where: list[tuple[str, str]],
    ledger: str = "",
) -> ExitCode:
    """Print how the run ended, ``where`` things are and what to do next; return the exit code.

    ``ledger`` is its name; "" for a temporary one or none.
    """
    if not job.talk.quiet:
        if ledger:
            where = [*where, ("ledger", ledger)]
        report(
            [
                ("rows", thousands(tally.rows)),
                *_status_facts(tally),
                *calls_facts(ending.stats, "number" if job.reading.several else "row"),
                *cost_facts(ending.cost, job.cost.currency),
                *where,
            ]
        )
    code = say_what_ended_it(job, ending, interruption)
    if code is None:
        wanted = tally.rows - tally.excluded - (tally.invalid if job.allow_invalid else 0)
        code = ExitCode.ALL_ANSWERED if tally.answered == wanted else ExitCode.SOME_NOT_ANSWERED
    if tally.failed and not job.talk.quiet:
        hint = "add --retry-failed to check them again" if job.place is not None else None
        say(f"{count(tally.failed, 'row')} failed", hint=hint)
    if tally.invalid and not job.allow_invalid and not job.talk.quiet:
        say(
            f"{count(tally.invalid, 'row')} without a usable number; see the column reason",
            hint="with --allow-invalid, such rows leave the exit code at 0",
        )
    if tally.pending:
        say(
            f"{count(tally.pending, 'row')} still PENDING",
            hint="to collect the answers, run the same command again later"
            + ("" if job.place is not None else ", with a ledger"),
        )
    if tally.unchecked:
        say(
            f"{count(tally.unchecked, 'row')} not checked yet",
            hint=how_to_continue(job, ending.error),
        )
    return code


def say_what_ended_it(job: Job, ending: Ending, interruption: Interruption) -> ExitCode | None:
    """Print what ended the run early and return its exit code; None if it ran to the end."""
    error = ending.error
    if isinstance(error, BudgetExhausted):
        _say_budget(job, ending, error)
        return ExitCode.USED_UP
    if isinstance(error, UniformRefusals):
        _say_refusals(error)
        return ExitCode.NOT_ALLOWED
    if error is not None:
        code = complain(error)
        if isinstance(error, LedgerError) and job.place is None:
            say(
                f"without a ledger, answers stay in {tempfile.gettempdir()} until the output is written",
                hint="free some space there, set TMPDIR, or leave out --ledger none",
            )
        return code
    if interruption.first is not None:
        return interruption.exit_code
    return None


def _say_refusals(error: UniformRefusals) -> None:
    """Say what all refusals had in common and what to try, in the words of the command line."""
    what, stops, advice = error.reason.rpartition(STOPS)
    advice = re.sub(r'\b(\w+)="(\w+)"', r"--\1 \2", advice)
    say(f"{what}{stops}".rstrip(". "), hint=in_options(advice))


def _say_budget(job: Job, ending: Ending, error: BudgetExhausted) -> None:
    money = job.cost.max_cost
    if error.cap == "max_cost" and money is not None:
        spent = max(ending.job_spent, Decimal(0) if ending.cost is None else ending.cost.at_most)
        limit = spent if money.more else money.amount
        more = f"+{money.amount}" if job.place is not None else f"{2 * money.amount}"
        say(
            f"this job has spent {in_money(spent)}; the cap is {in_money(limit)}",
            hint=f"to allow {in_money(money.amount)} more: --max-cost {more}",
        )
        return
    cap = job.pace.max_calls
    assert cap is not None
    used = max(ending.job_calls, ending.stats.calls)
    most = used if cap.more else cap.amount
    more = f"--max-calls +{cap.amount}" if job.place is not None else f"--max-calls {2 * cap.amount}"
    say(
        f"this job has used {count(used, 'call')}; the cap is {thousands(most)}",
        hint=f"to allow {thousands(cap.amount)} more: {more}",
    )


def how_to_continue(job: Job, error: RunEnded | None) -> str:
    """Return the next step after what ended the run, or after an interruption."""
    match error:
        case BudgetExhausted(cap=cap):
            step = f"run the command again with a higher --{cap.replace('_', '-')}"
        case OutOfQuota():
            step = "once the account has calls again, run the same command"
        case Outage():
            step = "once AccuAuth is reachable, run the same command again"
        case None:
            step = "run the same command again"
        case _:
            step = "fix that and run the same command again"
    if job.place is None:
        return f"{step}; without a ledger it starts over"
    kept = "stored" if isinstance(error, LedgerError) else "answered"
    return f"{step} to continue: numbers already {kept} are not bought again"


def _status_facts(tally: Tally) -> list[tuple[str, str]]:
    facts = []
    for status, rows in tally.by_status.most_common():
        words = thousands(rows)
        if status == "OK":
            words += f" ({thousands(tally.yes)} on WhatsApp, {tally.yes / rows:.1%})"
        facts.append((f"  {status}", words))
    return facts


def calls_facts(stats: Stats, item: str = "row") -> list[tuple[str, str]]:
    """Return what the run cost, by kind of call."""
    settled = stats.yes + stats.no + stats.failed
    facts = [("numbers", ", ".join(numbers_facts(stats)))] if settled else []
    if settled:
        words = f"{thousands(stats.calls)} for {count(settled, 'distinct number')}"
        if stats.calls:
            words += f" ({stats.calls / settled:.2f} each)"
    else:
        words = f"{thousands(stats.calls)}, none answered" if stats.calls else "0"
    facts.append(("calls", words))
    if stats.pending:
        each = f"{stats.polls / stats.pending:.2f} each"
        facts.append(
            ("  polls", f"{thousands(stats.polls)} for {count(stats.pending, 'pending number')} ({each})")
        )
    if stats.retries:
        facts.append(("  retries", thousands(stats.retries)))
    if stats.refusals:
        facts.append(
            ("  rate limit", f"slowed down {count(stats.refusals, 'time')} by AccuAuth's rate limit")
        )
    if stats.possibly_double_charged:
        lost = stats.possibly_double_charged
        them = (
            "that call may have been charged and was"
            if lost == 1
            else "those calls may have been charged and were"
        )
        facts.append(("  lost replies", f"{thousands(lost)}; {them} made again"))
    if stats.known:
        facts.append(("known", _known(stats, item)))
    time = f"{stats.elapsed:.1f} s" if stats.elapsed < 10 else duration(stats.elapsed)
    facts.append(("time", time + _speed(stats)))
    return facts


def _speed(stats: Stats) -> str:
    """Return how fast the run was; nothing if no number was asked."""
    answered = stats.yes + stats.no
    if not answered or not stats.elapsed:
        return ""
    speed = answered / stats.elapsed
    return f" ({speed:,.1f} checks/s)" if speed < 10 else f" ({speed:,.0f} checks/s)"


def cost_facts(cost: Cost | None, currency: str) -> list[tuple[str, str]]:
    """Return the cost of the run; nothing without a price."""
    return [] if cost is None else [("cost", cost_in_words(cost, currency))]


def cost_in_words(cost: Cost, currency: str) -> str:
    """Return the likely cost, and the highest possible one if it differs."""
    likely, at_most = in_money(cost.likely, currency), in_money(cost.at_most, currency)
    return likely if likely == at_most else f"{likely} likely, {at_most} at most"


def _known(stats: Stats, item: str) -> str:
    """Distinguish answers from failures: neither costs a call, but the user wants answers."""
    answered = stats.known - stats.known_failed
    words = []
    if answered:
        words.append(f"{count(answered, item)} answered from the ledger, at no cost")
    if stats.known_failed:
        words.append(f"{count(stats.known_failed, 'number')} that failed before")
    return "; ".join(words)
