"""``accucheck check``: a few numbers, answered right away."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, assert_never

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from accucheck._errors import ConfigurationError
from accucheck._models import Check, Checked, Failed, Outcome
from accucheck.cli._account import find_id, make_client
from accucheck.cli._console import age, print_json, terminal_safe
from accucheck.cli._exit import ExitCode, Interruption
from accucheck.cli._job import Job
from accucheck.cli._ledger import open_book
from accucheck.cli._options import (
    HIDDEN_STREAM,
    STANDARD_STREAM,
    Account,
    Age,
    Pace,
    Patience,
    Talk,
)
from accucheck.cli._progress import ProgressMode
from accucheck.cli._run import Ending, run_job, run_to_end
from accucheck.cli._summary import say_what_ended_it

UNCHECKED = "UNCHECKED"
NARROW = 76
"""Columns below which a table has one column for all details."""
_NEW = timedelta(minutes=2)
"""How long an answer is shown as new."""

Outcomes = Sequence[Outcome[str] | None]
"""One for each number, in order; None for a number without an outcome."""


def check(
    *numbers: Annotated[str, Parameter(metavar="NUMBER")],
    json: bool = False,
    fresh_within: Age | None = None,
    mobile_only: bool = False,
    ledger: str | None = None,
    account: Account = Account(),
    pace: Pace = Pace(),
    patience: Patience = Patience(),
    talk: Talk = Talk(),
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Check one or more numbers and show the answers.

    Parameters
    ----------
    numbers
        Peru numbers in any notation: 987654321, "+51 987 654 321", "(01) 456-7890".
    json
        Print one JSON object per line.
    fresh_within
        Re-check answers older than this: 30d, or yes=90d,no=14d; 0 re-checks everything.
    mobile_only
        Treat landlines as invalid. They are checked by default because WhatsApp Business uses them.
    ledger
        Where answers are kept: a file, postgresql://… or none. Default: your account's own ledger.
    """
    if not numbers:
        raise ConfigurationError("no number given: accucheck check 987654321")
    if HIDDEN_STREAM in numbers:
        raise ConfigurationError(
            "check takes numbers, not standard input; for a list on standard input: accucheck bulk - -o -"
        )
    outcomes: list[Outcome[str] | None] = [None] * len(numbers)

    def keep(outcome: Outcome[str]) -> None:
        outcomes[outcome.index] = outcome

    account = replace(account, api_id=find_id(account.api_id))
    job = Job(
        input="check",
        output=STANDARD_STREAM,
        job="check",
        ledger=ledger,
        fresh_within=fresh_within,
        account=account,
        pace=pace,
        patience=patience,
        talk=talk,
    )
    client = make_client(account, patience, pace, mobile_only=mobile_only)

    async def ask() -> Ending:
        async with AsyncExitStack() as stack:
            store = None
            if job.place is not None:
                store = (await stack.enter_async_context(open_book(job.place, Path("check")))).store
            await stack.enter_async_context(client)
            progress: ProgressMode | None = "none" if len(numbers) == 1 else None
            return await run_job(job, client, numbers, store, interruption, take=keep, progress=progress)

    ending = run_to_end(ask(), interruption)
    if json or not sys.stdout.isatty():
        for number, outcome in zip(numbers, outcomes, strict=True):
            print_json(_record(number, outcome))
    else:
        console = Console(highlight=False, markup=False, emoji=False)
        console.print(_table(numbers, outcomes, narrow=console.width < NARROW))
    code = say_what_ended_it(job, ending, interruption)
    if code is not None:
        return code
    answered = all(isinstance(outcome, Checked) for outcome in outcomes)
    return ExitCode.ALL_ANSWERED if answered else ExitCode.SOME_NOT_ANSWERED


def _record(number: str, outcome: Outcome[str] | None) -> dict[str, Any]:
    match outcome:
        case None:
            return {"input": number, "status": UNCHECKED}
        case Checked(check=answer):
            return {"input": number, "status": "OK", **answer.to_dict()}
        case Failed(error=error):
            return {"input": number, "status": error.status, "reason": error.reason}
        case _:
            assert_never(outcome)


def _table(numbers: Sequence[str], outcomes: Outcomes, *, narrow: bool = False) -> Table:
    table = Table(box=None, pad_edge=False)
    old = any(isinstance(outcome, Checked) and _known_for(outcome.check) for outcome in outcomes)
    details = ("business", "avatar", "since", *(["age"] if old else []))
    for heading in ("Number", "WhatsApp", *([] if narrow else [each.capitalize() for each in details])):
        table.add_column(heading, no_wrap=True)
    table.add_column("Details" if narrow else "Signature or reason")
    for number, outcome in zip(numbers, outcomes, strict=True):
        shown, whatsapp, *others = (terminal_safe(cell, 200) for cell in _cells(number, outcome))
        if old:
            others.insert(-1, _known_for(outcome.check) if isinstance(outcome, Checked) else "")
        if narrow:
            words = [f"{name} {value}" for name, value in zip(details, others, strict=False) if value]
            others = [", ".join([*words, *([others[-1]] if others[-1] else [])])]
        style = {"yes": "green", "no": "yellow"}.get(whatsapp, "red")
        table.add_row(Text(shown), Text(whatsapp, style=style), *map(Text, others))
    return table


def _cells(number: str, outcome: Outcome[str] | None) -> tuple[str, ...]:
    match outcome:
        case None:
            return number, "?", "", "", "", UNCHECKED
        case Checked(check=answer):
            return _answer_cells(answer)
        case Failed(error=error):
            return number, "?", "", "", "", f"{error.status}: {error.reason}"
        case _:
            assert_never(outcome)


def _answer_cells(answer: Check) -> tuple[str, ...]:
    return (
        answer.number,
        _yes_no(answer.whatsapp),
        _yes_no(answer.business_user),
        _yes_no(answer.avatar),
        answer.status_update.isoformat() if answer.status_update else "",
        answer.signature or "",
    )


def _known_for(answer: Check) -> str:
    """Return how old an answer from the ledger is; "" for one that was just bought."""
    return age(answer.checked_at) if datetime.now(UTC) - answer.checked_at >= _NEW else ""


def _yes_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
