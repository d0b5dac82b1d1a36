"""What is in a list: from a pass without calls, and from a random sample that estimates the rest."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from random import Random
from typing import Generic, TypeVar

from accucheck._client import Client
from accucheck._costs import forecast
from accucheck._errors import InvalidNumber
from accucheck._models import Check, Stats
from accucheck._phone import normalize
from accucheck._schedule import RatePlan
from accucheck._store import Bitset, Store
from accucheck.cli._console import age, count, duration, report, say, thousands
from accucheck.cli._exit import ExitCode, Interruption
from accucheck.cli._job import Job
from accucheck.cli._ledger import Find, known_in, open_book
from accucheck.cli._lists import Leads, open_leads
from accucheck.cli._options import Rate, Talk
from accucheck.cli._output import CHUNK
from accucheck.cli._progress import PassMeter, reporting
from accucheck.cli._run import run_job, run_to_end
from accucheck.cli._summary import calls_facts, cost_facts, cost_in_words, say_what_ended_it
from accucheck.files import local_name
from accucheck.report._tally import confidence_interval

_MOSTLY_INVALID = 0.5
_ENOUGH_ROWS = 20

UNREADABLE = "unreadable"
PROBLEMS = {
    "empty": "empty",
    UNREADABLE: "an error, a formula without a saved value, or a damaged line",
    "too_short": "too short",
    "too_long": "too long",
    "several": "more than one number in the cell",
    "letters": "text",
    "other_country": "from another country",
    "unknown_area": "landline without a valid area code",
    "not_mobile": "landline (--mobile-only)",
    "not_peruvian": "not Peruvian",
}
"""The normalizer's reasons in words."""


FIRST_MOBILE = 900_000_000
"""National numbers below are landlines."""


@dataclass(kw_only=True)
class Survey:
    """What is in a list."""

    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be a Peru number, by reason in one word."""
    excluded: int = 0
    """Rows to skip (``--exclude``, ``--where``)."""
    duplicates: int = 0
    """Rows that repeat an earlier number; each number is checked once."""
    known: int = 0
    """Distinct numbers that are in the ledger: they cost nothing."""
    to_ask: int = 0
    """Distinct numbers that are left; each costs one call or more."""
    second_step: int = 0
    """Of these, numbers with a "yes" from the basic endpoint: a cascade asks only for their details."""
    landlines: int = 0
    """Distinct numbers that are not mobiles."""
    yes: int = 0
    no: int = 0
    failed: int = 0
    """Of those in the ledger: what is known of them."""
    oldest: datetime | None = None
    """When the oldest of the known answers arrived."""

    def counts(self) -> dict[str, int]:
        """Return what a run over the list would count, if all its numbers are known: fields of ``Stats``."""
        rejected = self.invalid.total()
        return {
            "read": rejected + self.duplicates + self.known,
            "rejected": rejected,
            "known": self.known + self.duplicates,
            "known_failed": self.failed,
        }

    @property
    def distinct(self) -> int:
        """Distinct valid numbers."""
        return self.known + self.to_ask


async def survey(
    numbers: Iterator[str | None],
    find: Find,
    *,
    read: Callable[[str], list[int]] = lambda text: [normalize(text)],
    on_unknown: Callable[[int], object] = lambda number: None,
    found: Survey | None = None,
) -> Survey:
    """Read a list to its end and return what is in it.

    A text of None means a row to skip; ``read`` reads the numbers of any other. ``on_unknown`` is called with every
    distinct national number that ``find`` does not know. ``found`` is updated on the way, for the progress display.
    """
    found = found or Survey()
    seen = Bitset()
    while chunk := list(islice(numbers, CHUNK)):
        found.rows += len(chunk)
        new: list[int] = []
        for text in chunk:
            if text is None:
                found.excluded += 1
                continue
            try:
                numbers_of_row = read(text)
            except InvalidNumber as error:
                found.invalid[error.problem] += 1
                continue
            for number in numbers_of_row:
                if seen.add(number):
                    new.append(number)
                    found.landlines += number < FIRST_MOBILE
                else:
                    found.duplicates += 1
        known = await find(new)
        found.known += len(known)
        found.to_ask += len(new) - len(known)
        for settlement in known.values():
            answer = settlement.result
            if not isinstance(answer, Check):
                found.failed += 1
            elif answer.whatsapp:
                found.yes += 1
            else:
                found.no += 1
            if isinstance(answer, Check) and (found.oldest is None or answer.checked_at < found.oldest):
                found.oldest = answer.checked_at
        for number in new:
            if number not in known:
                on_unknown(number)
        await asyncio.sleep(0)  # the progress is shown, and a signal is noticed
    return found


async def survey_leads(
    leads: Leads,
    find: Find,
    talk: Talk,
    *,
    on_unknown: Callable[[int], object] = lambda number: None,
    found: Survey | None = None,
) -> Survey:
    """Read the list once and return what is in it; see ``survey``."""
    found = found or Survey()
    meter = PassMeter("reading the list", lambda: found.rows, lambda: leads.source.fraction)
    async with reporting(meter, talk.shown):
        await survey(leads.texts(), find, read=leads.read, on_unknown=on_unknown, found=found)
    # Separate rows that could not be read from empty ones.
    if rows := min(leads.source.faulty_rows, found.invalid["empty"]):
        found.invalid = +(found.invalid - Counter(empty=rows) + Counter({UNREADABLE: rows}))
    return found


async def survey_job(
    job: Job, leads: Leads, store: Store, *, on_unknown: Callable[[int], object] = lambda number: None
) -> Survey:
    """Read the list of a job once, print what is in it and what is known already, and return that."""
    find = known_in(
        store,
        job.account.endpoint,
        fresh_within=job.fresh_within,
        retry_failed=job.retry_failed,
        to_ask=True,
    )
    found = await survey_leads(leads, find, job.talk, on_unknown=on_unknown)
    if not job.talk.quiet:
        say(_in_words(found))
        problem, rows = next(iter(found.invalid.most_common(1)), ("", 0))
        if rows > found.rows * _MOSTLY_INVALID and rows >= _ENOUGH_ROWS:
            say(
                f"{rows / found.rows:.0%} of the rows have no usable number: {PROBLEMS[problem]}",
                hint="is this the right column? Choose one with --column",
            )
    return found


def _in_words(found: Survey) -> str:
    parts = [f"{count(found.to_ask, 'number')} to check"]
    if found.known:
        oldest = f" (the oldest answer is {age(found.oldest)} old)" if found.oldest is not None else ""
        parts.append(f"{count(found.known, 'number')} already known{oldest}")
    if found.excluded:
        parts.append(f"{count(found.excluded, 'row')} excluded")
    if found.duplicates:
        parts.append(count(found.duplicates, "duplicate"))
    if found.invalid:
        parts.append(f"{count(found.invalid.total(), 'row')} without a valid number")
    return f"{count(found.rows, 'row')}: {', '.join(parts)}"


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
    with open_leads(job.input, job.reading, job.exclusion, job.talk) as leads:
        async with open_book(job.place, local_name(job.output)) as book:
            if not job.talk.quiet:
                book.say()
            draw: Reservoir[int] = Reservoir(size, Random(job.seed))
            await survey_job(job, leads, book.store, on_unknown=draw.offer)
            if not draw.offered:
                say("nothing to sample: every number in the list is already in the ledger")
                return ExitCode.ALL_ANSWERED
            async with client:
                ending = await run_job(
                    job, client, draw.chosen, book.store, interruption, to_ask=len(draw.chosen)
                )
    facts = sample_facts(ending.stats, len(draw.chosen), draw.offered, job.pace.rate)
    if job.cost.prices is not None:
        settled = ending.stats.yes + ending.stats.no + ending.stats.failed
        rest = forecast(
            draw.offered - settled,
            job.cost.prices,
            sampled=settled,
            replies=ending.replies,
            basic_replies=ending.basic_replies,
        )
        facts += [
            *cost_facts(ending.cost, job.cost.currency),
            ("cost of the rest", cost_in_words(rest, job.cost.currency)),
        ]
    report(facts, sys.stdout)
    code = say_what_ended_it(job, ending, interruption)
    return ExitCode.ALL_ANSWERED if code is None else code


def sample_facts(stats: Stats, drawn: int, population: int, rate: Rate) -> list[tuple[str, str]]:
    """Return the results of a sample: the share on WhatsApp with its 95 % interval, and the cost of the rest."""
    answered = stats.yes + stats.no
    facts = [("sample", f"{thousands(drawn)} of {count(population, 'number')} not in the ledger")]
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
