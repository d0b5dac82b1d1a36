"""A random sample before the whole list: what share is on WhatsApp, and what the rest would take."""

from __future__ import annotations

import sys
from random import Random

from accucheck._client import Client
from accucheck._models import Stats
from accucheck.cli._conclusion import tell_what_ended_it
from accucheck.cli._estimate import Reservoir, wilson_interval
from accucheck.cli._event_loop import run_to_end
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job, open_list
from accucheck.cli._known import known_in
from accucheck.cli._messages import report, say
from accucheck.cli._options import Rate
from accucheck.cli._outage import OutageWatch
from accucheck.cli._render import duration, thousands
from accucheck.cli._run import Ending, run_stream
from accucheck.cli._summary import calls_facts
from accucheck.cli._survey import survey

__all__ = ["run_sample_job", "sample_facts"]


def run_sample_job(job: Job, size: int, client: Client, interruption: Interruption) -> ExitCode:
    """Check ``size`` numbers drawn from those that are not settled, and print what they say about the rest.

    The answers stay in the ledger, so that the whole run does not buy them again.
    """
    with job.opened_ledger() as ledger:
        draw: Reservoir[int] = Reservoir(size, Random(job.seed))
        find = known_in(ledger, job.endpoint, fresh_within=job.fresh_within, retry_failed=job.retry_failed)
        with open_list(job.input, job.reading, job.talk) as source:
            survey(source.numbers(), find, mobile_only=job.reading.mobile_only, on_unknown=draw.offer)
        if not draw.offered:
            say("every number of the list is settled already: there is nothing to sample")
            return ExitCode.ALL_ANSWERED

        async def ask() -> Ending:
            outage = OutageWatch(job.outage_deadline)
            async with client:
                return await run_stream(
                    job.stream(client, draw.chosen, ledger, on_event=outage),
                    lambda outcome: None,
                    interruption=interruption,
                    outage=outage,
                    total=lambda stats: (len(draw.chosen), True),
                    grace=job.grace,
                    quiet=job.talk.quiet,
                )

        ending = run_to_end(ask())
    report(sample_facts(ending.stats, len(draw.chosen), draw.offered, job.pace.rate), sys.stdout)
    code = tell_what_ended_it(job, ending, interruption)
    return ExitCode.ALL_ANSWERED if code is None else code


def sample_facts(stats: Stats, drawn: int, population: int, rate: Rate) -> list[tuple[str, str]]:
    """Return what a sample says: the share on WhatsApp with its 95 % interval, and the cost of the rest."""
    answered = stats.yes + stats.no
    facts = [("sample", f"{thousands(drawn)} of {thousands(population)} numbers that are not settled yet")]
    if stats.failed:
        facts.append(("failed", f"{thousands(stats.failed)} of the sample have no answer"))
    facts.extend(calls_facts(stats))
    if not answered:
        return [*facts, ("on WhatsApp", "nothing was answered, so nothing is known")]
    low, high = wilson_interval(stats.yes, answered)
    facts.append(
        (
            "on WhatsApp",
            f"{stats.yes / answered:.1%} of {thousands(answered)} answered"
            f" (95 % interval: {low:.1%} to {high:.1%})",
        )
    )
    rest = population - answered - stats.failed
    calls = round(rest * stats.calls / (answered + stats.failed))
    pace = _calls_per_second(stats, rate)
    facts.append(
        (
            "the rest",
            f"{thousands(rest)} numbers: about {thousands(calls)} calls, "
            f"{duration(calls / pace)} at {pace:,.3g} calls/s",
        )
    )
    facts.append(
        ("", f"of them {thousands(round(rest * low))} to {thousands(round(rest * high))} on WhatsApp")
    )
    return facts


def _calls_per_second(stats: Stats, rate: Rate) -> float:
    """Return the ceiling that was given, or the pace of the sample: a long run only gets faster than that."""
    if isinstance(rate, float):
        return rate
    return stats.calls / stats.elapsed if stats.elapsed > 0 else 1.0
