"""``accucheck plan``: what checking a list would cost, without a single call."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Annotated, Any

from cyclopts import Group, Parameter

from accucheck._costs import Cost, Prices, in_money
from accucheck._errors import ConfigurationError
from accucheck._models import Check, Settlement
from accucheck._schedule import RatePlan
from accucheck.cli._console import count, duration, print_json, report, thousands
from accucheck.cli._exit import ExitCode, Interruption
from accucheck.cli._ledger import (
    Find,
    chosen_ledger,
    known_in,
    ledger_exists,
    nothing_known,
    open_book,
)
from accucheck.cli._lists import make_exclusion, open_leads
from accucheck.cli._options import (
    Age,
    CostOptions,
    Endpoint,
    ListOptions,
    Rate,
    Skipping,
    StreamOrPath,
    Talk,
    Which,
)
from accucheck.cli._run import run_to_end
from accucheck.cli._summary import cost_in_words
from accucheck.cli._survey import PROBLEMS, Survey, survey_leads
from accucheck.files import local_name

_COST = Group("Estimate", sort_key=2)
_KNOWN = Group("Ledger", sort_key=3)


def plan(
    input: StreamOrPath,  # noqa: A002 the word that the help shows
    /,
    *,
    rate: Annotated[Rate, Parameter(group=_COST)] = "auto",
    calls_per_number: Annotated[float, Parameter(group=_COST)] = 1.0,
    ledger: Annotated[str | None, Parameter(group=_KNOWN)] = None,
    which: Annotated[Which, Parameter(group=_KNOWN)] = Which(),
    endpoint: Annotated[Endpoint, Parameter(group=_KNOWN)] = "advanced",
    fresh_within: Annotated[Age | None, Parameter(group=_KNOWN)] = None,
    retry_failed: Annotated[bool, Parameter(group=_KNOWN)] = False,
    skipping: Skipping = Skipping(),
    yes_share: Annotated[float | None, Parameter(group=_COST)] = None,
    json: Annotated[bool, Parameter(group=_COST)] = False,
    cost: CostOptions = CostOptions(),
    reading: ListOptions = ListOptions(),
    talk: Talk = Talk(),
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Estimate what checking a list would cost. Makes no calls and needs no account.

    Parameters
    ----------
    input
        The list: CSV, TSV, JSON lines, Parquet or Excel, optionally .gz or .zst; - reads standard input.
    rate
        Calls per second of your account, to estimate the duration. For bounds (5:200) the upper one is used.
    calls_per_number
        Average calls per number, 1 or more. Polls of PENDING numbers are calls too; the summary of
        a run or of bulk --sample shows your average.
    ledger
        The ledger you will use, or none. Default: your account's own, if there is an API id.
    endpoint
        The endpoint you will use.
    fresh_within
        Count older answers in the ledger as unknown: 30d.
    retry_failed
        Count numbers that failed earlier as unknown.
    yes_share
        Share of the numbers that are on WhatsApp, 0 to 1, to compare --endpoint cascade with advanced only. Default:
        the share among the list's numbers in the ledger, such as those of bulk --sample.
    json
        Print one JSON object.
    """
    if yes_share is not None and not 0 <= yes_share <= 1:
        raise ConfigurationError(f"--yes-share must be from 0 to 1, not {yes_share}")
    if endpoint == "cascade" and cost.prices is not None and cost.prices.basic is None:
        raise ConfigurationError("--endpoint cascade has two prices: add --price-basic")
    if not calls_per_number >= 1:
        raise ConfigurationError(f"--calls-per-number must be 1 or more, not {calls_per_number}")
    place = chosen_ledger(ledger, which.api_id, which.base_url)
    if place is None and (fresh_within is not None or retry_failed):
        raise ConfigurationError(
            "--fresh-within and --retry-failed need a ledger: add --ledger PATH or --api-id"
        )
    exclusion = make_exclusion(skipping, quiet=talk.quiet)

    async def read() -> Survey:
        async with AsyncExitStack() as stack:
            find: Find = nothing_known
            first_step: Find = nothing_known
            if ledger_exists(place):
                book = await stack.enter_async_context(open_book(place, local_name(input)))
                find, first_step = (
                    known_in(
                        book.store, asked, fresh_within=fresh_within, retry_failed=retry_failed, to_ask=True
                    )
                    for asked in (endpoint, "basic")
                )
            found = Survey()

            async def look_up(numbers: Sequence[int]) -> Mapping[int, Settlement]:
                known = await find(numbers)
                if endpoint != "basic":
                    begun = await first_step([number for number in numbers if number not in known])
                    found.second_step += sum(isinstance(one.result, Check) for one in begun.values())
                return known

            leads = stack.enter_context(open_leads(input, reading, exclusion, talk))
            return await survey_leads(leads, look_up, talk, found=found)

    found = run_to_end(read(), interruption)
    estimate = Estimate(found, cost, calls_per_number, yes_share, cascade=endpoint == "cascade")
    pace = RatePlan.read(rate)
    if json:
        print_json(_json(estimate, pace))
    else:
        report(_facts(estimate, pace), sys.stdout)
    return ExitCode.ALL_ANSWERED


_ENOUGH_KNOWN = 30
"""How many of the list's numbers must be in the ledger to estimate the others from them."""


class Estimate:
    """What the rest of a list will take, estimated from its numbers in the ledger if there are enough."""

    def __init__(
        self,
        found: Survey,
        cost: CostOptions,
        calls_per_number: float,
        yes_share: float | None,
        *,
        cascade: bool,
    ) -> None:
        yes = found.yes + found.second_step
        answered, settled = yes + found.no, yes + found.no + found.failed
        self.found = found
        self.calls_per_number = calls_per_number
        self.answered_share = answered / settled if settled >= _ENOUGH_KNOWN else 1.0
        """The share of the numbers that will be answered, and charged."""
        if yes_share is None and answered >= _ENOUGH_KNOWN:
            yes_share = yes / answered
        self.yes_share = yes_share
        """The share of the answers that are "yes"; None if unknown."""
        self.prices, self.currency = cost.prices, cost.currency
        self.basic = None if cost.prices is None else cost.prices.basic
        self._is_cascade = cascade

    @property
    def calls(self) -> int:
        """All calls, including polls."""
        share = 0.0
        if self._is_cascade:
            share = 1.0 if self.yes_share is None else self.yes_share * self.answered_share
        begun = self.found.second_step
        steps = (self.found.to_ask - begun) * (1 + share) + begun
        return math.ceil(steps * self.calls_per_number)

    @property
    def cost(self) -> Cost | None:
        """The cost by the endpoint that is used; None without its price, or without the share it depends on."""
        return self.of_cascade if self._is_cascade else self.of_one

    @property
    def of_one(self) -> Cost | None:
        """The cost with one endpoint: each number is answered once, and all other calls are polls."""
        if self.prices is None:
            return None
        return self._at(self.prices, self.found.to_ask * self.answered_share, self.found.to_ask)

    @property
    def of_cascade(self) -> Cost | None:
        """The cost of basic for all numbers and advanced for those on WhatsApp."""
        if self.prices is None or self.basic is None or self.yes_share is None:
            return None
        begun = self.found.second_step
        numbers = self.found.to_ask - begun
        answers = numbers * self.answered_share
        first = self._at(self.basic, answers, numbers)
        on_whatsapp = answers * self.yes_share + begun
        second = self._at(self.prices, on_whatsapp, on_whatsapp)
        at_most = first.at_most + self._at(self.prices, numbers + begun, numbers + begun).at_most
        return Cost(first.likely + second.likely, at_most)

    @property
    def break_even(self) -> Decimal | None:
        """The share of "yes" below which cascade costs less than only advanced."""
        if self.prices is None or self.basic is None or not self.prices.answer:
            return None
        return max(Decimal(0), 1 - self.basic.answer / self.prices.answer)

    def _at(self, prices: Prices, answers: float, numbers: float) -> Cost:
        polls = Decimal(str(numbers * (self.calls_per_number - 1)))
        calls = math.ceil(numbers * self.calls_per_number)
        likely = Decimal(str(answers)) * prices.answer + polls * prices.pending
        return Cost(likely, calls * prices.dearest)


def _json(estimate: Estimate, pace: RatePlan) -> dict[str, Any]:
    found, calls, prices, cost = estimate.found, estimate.calls, estimate.prices, estimate.cost
    one, cascade = estimate.of_one, estimate.of_cascade
    return {
        "rows": found.rows,
        "valid": found.rows - found.invalid.total() - found.excluded,
        "invalid": found.invalid.total(),
        "invalid_by_reason": dict(found.invalid.most_common()),
        "excluded": found.excluded,
        "numbers": found.distinct + found.duplicates,
        "duplicates": found.duplicates,
        "distinct": found.distinct,
        "known": found.known,
        "to_ask": found.to_ask,
        "calls_per_number": estimate.calls_per_number,
        "answered_share": round(estimate.answered_share, 4),
        "yes_share": estimate.yes_share if estimate.yes_share is None else round(estimate.yes_share, 4),
        "calls": calls,
        "rate": pace.high if pace.high < math.inf else None,
        "seconds": pace.seconds_for(calls),
        "price": None if prices is None else str(prices.answer),
        "cost": None if cost is None else f"{cost.likely.normalize():f}",
        "cost_at_most": None if cost is None else f"{cost.at_most.normalize():f}",
        "cost_of_cascade": None if cascade is None else f"{cascade.likely.normalize():f}",
        "cost_without_cascade": None if cascade is None or one is None else f"{one.likely.normalize():f}",
    }


def _time(pace: RatePlan, calls: int) -> str:
    seconds = pace.seconds_for(calls)
    if seconds is None:
        return "add --rate for an estimate"
    if pace.high == math.inf or seconds > calls / pace.high:
        return f"{duration(seconds)}, from the quotas of --rate"
    return f"{duration(seconds)} at {pace.high:g} calls/s"


def _facts(estimate: Estimate, pace: RatePlan) -> list[tuple[str, str]]:
    found, calls, prices, calls_per_number = (
        estimate.found,
        estimate.calls,
        estimate.prices,
        estimate.calls_per_number,
    )
    invalid = found.invalid.total()
    facts = [("rows", thousands(found.rows)), ("valid", thousands(found.rows - invalid - found.excluded))]
    facts.append(("invalid", thousands(invalid)))
    facts.extend((f"  {PROBLEMS[problem]}", thousands(rows)) for problem, rows in found.invalid.most_common())
    if found.excluded:
        facts.append(("excluded", thousands(found.excluded)))
    numbers = found.distinct + found.duplicates
    if numbers != found.rows - invalid - found.excluded:
        facts.append(("numbers", f"{thousands(numbers)} in these rows"))
    facts.append(("duplicates", f"{thousands(found.duplicates)} (each number is checked once)"))
    if found.landlines:
        facts.append(("landlines", f"{thousands(found.landlines)} (checked, too; --mobile-only skips them)"))
    if found.known:
        facts.append(("in the ledger", f"{count(found.known, 'number')} (no cost)"))
    facts.append(("to check", count(found.to_ask, "distinct number")))
    assumed = f"{calls_per_number:g} per number"
    if calls_per_number == 1:
        assumed += "; polls of PENDING numbers are extra, see --calls-per-number"
    facts.append(("calls", f"{thousands(calls)} ({assumed})"))
    facts.append(
        (
            "time",
            _time(pace, calls) + ("; the wait for PENDING numbers is extra" if calls_per_number == 1 else ""),
        )
    )
    cost = estimate.cost
    if prices is None:
        facts.append(("cost", "add --price for an estimate"))
    elif cost is None:
        facts.append(
            ("cost", "add --yes-share, or sample the list first (bulk --sample 200 --endpoint cascade)")
        )
    else:
        facts.append(("cost", f"{cost_in_words(cost, estimate.currency)}, at {_prices_in_words(estimate)}"))
        if estimate.answered_share < 1:
            share = f"{estimate.answered_share:.1%}"
            facts.append(
                ("", f"likely: {share} get an answer, like the list's numbers already in the ledger")
            )
    return facts + _comparison(estimate)


def _prices_in_words(estimate: Estimate) -> str:
    assert estimate.prices is not None
    words = f"{estimate.prices.answer:f} per answer"
    return f"{estimate.basic.answer:f} per basic and {words}" if estimate.basic is not None else words


def _comparison(estimate: Estimate) -> list[tuple[str, str]]:
    """Say which is cheaper: advanced for all numbers, or only for those that basic says are on WhatsApp."""
    one, cascade, even = estimate.of_one, estimate.of_cascade, estimate.break_even
    if one is None or even is None:
        return []
    facts = []
    if cascade is not None:
        facts.append(("  advanced", in_money(one.likely, estimate.currency)))
        facts.append(
            (
                "  cascade",
                f"{in_money(cascade.likely, estimate.currency)}, if {estimate.yes_share:.1%} are on WhatsApp",
            )
        )
        cheaper = "cascade" if cascade.likely < one.likely else "advanced"
        facts.append(("cheaper", f"--endpoint {cheaper}"))
    facts.append(("", f"cascade is cheaper if less than {even:.1%} are on WhatsApp"))
    return facts
