"""``accucheck plan``: what checking a list would cost, without a single call."""

from __future__ import annotations

import math
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from accucheck._client import BASE_URL
from accucheck._costs import Cost, Prices
from accucheck._errors import ConfigurationError
from accucheck._schedule import RatePlan
from accucheck.cli._console import print_json, report
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import open_list
from accucheck.cli._ledger import (
    ANY_AGE,
    Find,
    chosen_ledger,
    known_in,
    ledger_exists,
    nothing_known,
    open_book,
)
from accucheck.cli._lists import make_exclusion, numbers_to_ask, reader_of, why_not
from accucheck.cli._options import (
    DEFAULT_COST,
    DEFAULT_LIST_OPTIONS,
    DEFAULT_TALK,
    EXCLUSION,
    Age,
    CostOptions,
    ListOptions,
    Rate,
    StreamOrPath,
    Talk,
)
from accucheck.cli._progress import PassMeter, reporting
from accucheck.cli._render import duration, thousands
from accucheck.cli._run import run_to_end
from accucheck.cli._summary import cost_in_words
from accucheck.cli._survey import PROBLEMS, Survey, survey
from accucheck.files import local_name

__all__ = ["plan"]

_COST = Group("Estimate", sort_key=2)
_KNOWN = Group("Ledger", sort_key=3)


def plan(
    input: StreamOrPath,  # noqa: A002 the word that the help shows
    /,
    *,
    rate: Annotated[Rate, Parameter(group=_COST)] = "auto",
    calls_per_number: Annotated[float, Parameter(group=_COST)] = 1.0,
    ledger: Annotated[str | None, Parameter(group=_KNOWN)] = None,
    api_id: Annotated[str | None, Parameter(group=_KNOWN)] = None,
    base_url: Annotated[str, Parameter(group=_KNOWN)] = BASE_URL,
    profile: Annotated[str | None, Parameter(group=_KNOWN)] = None,
    endpoint: Annotated[Literal["advanced", "basic"], Parameter(group=_KNOWN)] = "advanced",
    fresh_within: Annotated[Age | None, Parameter(group=_KNOWN)] = None,
    retry_failed: Annotated[bool, Parameter(group=_KNOWN)] = False,
    exclude: Annotated[tuple[Path, ...], Parameter(group=EXCLUSION)] = (),
    where: Annotated[tuple[str, ...], Parameter(group=EXCLUSION)] = (),
    json: Annotated[bool, Parameter(group=_COST)] = False,
    cost: CostOptions = DEFAULT_COST,
    reading: ListOptions = DEFAULT_LIST_OPTIONS,
    talk: Talk = DEFAULT_TALK,
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
    api_id
        API id of your AccuAuth account, to find its ledger.
    base_url
        URL of the API, to find its ledger.
    profile
        Profile of accucheck.toml to use.
    endpoint
        The endpoint you will use.
    fresh_within
        Count older answers in the ledger as unknown: 30d.
    retry_failed
        Count numbers that failed earlier as unknown.
    exclude
        List of numbers never to check, in any input format. Repeatable.
    where
        Check only rows where COLUMN=VALUE, such as consent=yes. Repeatable; all conditions must hold.
    json
        Print one JSON object.
    """
    if not calls_per_number >= 1:
        raise ConfigurationError(f"--calls-per-number must be 1 or more, not {calls_per_number}")
    place = chosen_ledger(ledger, api_id, base_url)
    if place is None and (fresh_within is not None or retry_failed):
        raise ConfigurationError(
            "--fresh-within and --retry-failed need a ledger: add --ledger PATH or --api-id"
        )
    exclusion = make_exclusion(exclude, where)

    async def read() -> Survey:
        async with AsyncExitStack() as stack:
            find: Find = nothing_known
            if ledger_exists(place):
                book = await stack.enter_async_context(open_book(place, local_name(input)))
                find = known_in(
                    book.store,
                    endpoint,
                    fresh=fresh_within or ANY_AGE,
                    retry_failed=retry_failed,
                    to_ask=True,
                )
            source = stack.enter_context(open_list(input, reading, talk))
            numbers = numbers_to_ask(source, why_not(source, exclusion))
            found = Survey()
            meter = PassMeter("reading the list", lambda: found.rows, lambda: source.fraction)
            async with reporting(meter, talk.shown):
                return await survey(numbers, find, read=reader_of(reading, source), found=found)

    found = run_to_end(read(), interruption)
    pace = RatePlan.read(rate)
    if json:
        print_json(_json(found, pace, cost.prices, calls_per_number))
    else:
        report(_facts(found, pace, cost.prices, calls_per_number), sys.stdout)
    return ExitCode.ALL_ANSWERED


def _calls(found: Survey, calls_per_number: float) -> int:
    return math.ceil(found.to_ask * calls_per_number)


def _json(found: Survey, pace: RatePlan, prices: Prices | None, calls_per_number: float) -> dict[str, Any]:
    calls = _calls(found, calls_per_number)
    return {
        "rows": found.rows,
        "valid": found.rows - found.invalid.total() - found.excluded,
        "invalid": found.invalid.total(),
        "invalid_by_reason": dict(found.invalid.most_common()),
        "excluded": found.excluded,
        "duplicates": found.duplicates,
        "distinct": found.distinct,
        "known": found.known,
        "to_ask": found.to_ask,
        "calls_per_number": calls_per_number,
        "calls": calls,
        "rate": pace.high if pace.high < math.inf else None,
        "seconds": pace.seconds_for(calls),
        "price": None if prices is None else str(prices.answer),
        "cost": None if prices is None else str(_cost(found, calls, prices).likely),
        "cost_at_most": None if prices is None else str(_cost(found, calls, prices).at_most),
    }


def _cost(found: Survey, calls: int, prices: Prices) -> Cost:
    """Return what the run costs: every number is answered once, and all other calls are polls."""
    polls = calls - found.to_ask
    return Cost(found.to_ask * prices.answer + polls * prices.pending, calls * prices.dearest)


def _time(pace: RatePlan, calls: int) -> str:
    seconds = pace.seconds_for(calls)
    if seconds is None:
        return "add --rate for an estimate"
    if pace.high == math.inf or seconds > calls / pace.high:
        return f"{duration(seconds)}, from the quotas of --rate"
    return f"{duration(seconds)} at {pace.high:g} calls/s"


def _facts(
    found: Survey, pace: RatePlan, prices: Prices | None, calls_per_number: float
) -> list[tuple[str, str]]:
    calls = _calls(found, calls_per_number)
    invalid = found.invalid.total()
    facts = [("rows", thousands(found.rows)), ("valid", thousands(found.rows - invalid - found.excluded))]
    facts.append(("invalid", thousands(invalid)))
    facts.extend((f"  {PROBLEMS[problem]}", thousands(rows)) for problem, rows in found.invalid.most_common())
    if found.excluded:
        facts.append(("excluded", thousands(found.excluded)))
    facts.append(("duplicates", f"{thousands(found.duplicates)} (each number is checked once)"))
    if found.known:
        facts.append(("in the ledger", f"{thousands(found.known)} numbers (no cost)"))
    facts.append(("to check", f"{thousands(found.to_ask)} distinct numbers"))
    assumed = f"{calls_per_number:g} per number"
    if calls_per_number == 1:
        assumed += "; polls of PENDING numbers are extra, see --calls-per-number"
    facts.append(("calls", f"{thousands(calls)} ({assumed})"))
    facts.append(
        (
            "time",
            _time(pace, calls),
        )
    )
    facts.append(
        (
            "cost",
            "add --price for an estimate"
            if prices is None
            else f"{cost_in_words(_cost(found, calls, prices))}, at {prices.answer:f} per answer",
        )
    )
    return facts
