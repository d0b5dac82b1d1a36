"""What a person is told at the end of a run."""

from __future__ import annotations

from accucheck._models import Stats
from accucheck.cli._answer_columns import Tally
from accucheck.cli._messages import report
from accucheck.cli._render import duration, thousands

__all__ = ["calls_facts", "summarise"]


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
