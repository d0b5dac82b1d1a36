"""``bulk --sample``: check a random part of the list, and estimate what the rest holds and costs."""

from __future__ import annotations

import sys
from random import Random
from typing import Generic, TypeVar

from accucheck._client import Client
from accucheck._costs import forecast
from accucheck._models import Stats
from accucheck._schedule import RatePlan
from accucheck.cli._console import report, say
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job, open_list, with_job_totals
from accucheck.cli._ledger import known_in, open_book
from accucheck.cli._lists import reader_of, why_not
from accucheck.cli._options import Rate
from accucheck.cli._progress import RunMeter
from accucheck.cli._render import duration, thousands
from accucheck.cli._run import RunNotice, run_stream, run_to_end
from accucheck.cli._summary import calls_facts, cost_facts, cost_in_words, say_what_ended_it
from accucheck.cli._survey import survey_list
from accucheck.files import local_name
from accucheck.report._tally import confidence_interval

__all__ = ["Reservoir", "run_sample_job", "sample_facts"]

Value = TypeVar("Value")


class Reservoir(Generic[Value]):
    """A uniform random sample of ``size`` values from a stream of unknown length (Vitter's algorithm R)."""

    def __init__(self, size: int, chance: Random) -> None:
        self._size = size
        self._chance = chance
        self.offered = 0
        """How many values were offered."""
        self.chosen: list[Value] = []
        """The sample so far; every offered value is equally likely to be in it."""

    def offer(self, value: Value) -> None:
        """Give ``value`` its chance to be in the sample."""
        self.offered += 1
        if len(self.chosen) < self._size:
            self.chosen.append(value)
            return
        place = self._chance.randrange(self.offered)
        if place < self._size:
            self.chosen[place] = value


def run_sample_job(job: Job, size: int, client: Client, interruption: Interruption) -> ExitCode:
    """Check ``size`` random numbers that are not in the ledger, and print an estimate for the rest.

    The answers stay in the ledger, so the full run does not buy them again.
    """
    return run_to_end(_sample(job, size, client, interruption), interruption)


async def _sample(job: Job, size: int, client: Client, interruption: Interruption) -> ExitCode:
    with open_list(job.input, job.reading, job.talk) as source:
        async with open_book(job.ledger, local_name(job.output)) as book:
            if not job.talk.quiet:
                book.say()
            draw: Reservoir[int] = Reservoir(size, Random(job.seed))
            find = known_in(
                book.store, job.first_endpoint, fresh=job.fresh, retry_failed=job.retry_failed, to_ask=True
            )
            await survey_list(
                job.talk,
                source,
                find,
                read=reader_of(job.reading, source),
                reason=why_not(source, job.exclusion),
                on_unknown=draw.offer,
            )
            if not draw.offered:
                say("nothing to sample: every number in the list is already in the ledger")
                return ExitCode.ALL_ANSWERED
            notice = RunNotice(job.host, job.outage_deadline, job.prices)
            stream = await job.stream(client, draw.chosen, book.store, on_event=notice)
            async with client:
                ending = await run_stream(
                    stream,
                    lambda outcome: None,
                    interruption=interruption,
                    view=RunMeter(lambda: stream.stats, len(draw.chosen), notice.spent),
                    progress=job.talk.shown,
                    grace=job.grace,
                    metrics=job.metrics(lambda: notice.cost),
                )
            ending = await with_job_totals(ending, job, book.store)
    facts = sample_facts(ending.stats, len(draw.chosen), draw.offered, job.pace.rate)
    if job.prices is not None:
        settled = ending.stats.yes + ending.stats.no + ending.stats.failed
        rest = forecast(draw.offered - settled, job.prices, sampled=settled, replies=notice.replies)
        facts += [*cost_facts(notice.cost), ("cost of the rest", cost_in_words(rest))]
    report(facts, sys.stdout)
    code = say_what_ended_it(job, ending, interruption)
    return ExitCode.ALL_ANSWERED if code is None else code


def sample_facts(stats: Stats, drawn: int, population: int, rate: Rate) -> list[tuple[str, str]]:
    """Return the results of a sample: the share on WhatsApp with its 95 % interval, and the cost of the rest."""
    answered = stats.yes + stats.no
    facts = [("sample", f"{thousands(drawn)} of {thousands(population)} numbers not in the ledger")]
    if stats.failed:
        facts.append(("failed", f"{thousands(stats.failed)} of the sample got no answer"))
    if unchecked := drawn - answered - stats.failed:
        facts.append(("unchecked", f"{thousands(unchecked)} of the sample: the run ended before"))
    facts.extend(calls_facts(stats))
    if not answered:
        return [*facts, ("on WhatsApp", "unknown: no number in the sample was answered")]
    low, high = confidence_interval(stats.yes, answered)
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
    quota_seconds = RatePlan.read(rate).seconds_for(calls) or 0.0
    facts.append(
        (
            "the rest",
            f"{thousands(rest)} numbers: about {thousands(calls)} calls, "
            f"{duration(max(calls / pace, quota_seconds))} at {pace:,.3g} calls/s",
        )
    )
    facts.append(
        ("", f"{thousands(round(rest * low))} to {thousands(round(rest * high))} of them on WhatsApp")
    )
    return facts


def _calls_per_second(stats: Stats, rate: Rate) -> float:
    """Return the given ceiling, or the speed of the sample; a longer run is at least as fast."""
    ceiling = RatePlan.read(rate).start
    if ceiling is not None:
        return ceiling
    return stats.calls / stats.elapsed if stats.elapsed > 0 else 1.0
