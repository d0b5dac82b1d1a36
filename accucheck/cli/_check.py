"""``accucheck check``: a few numbers, answered right away."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, assert_never

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from accucheck._errors import ConfigurationError
from accucheck._models import Check, Checked, Failed, Outcome
from accucheck.cli._account import make_client
from accucheck.cli._console import complain, print_json
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._options import (
    DEFAULT_ACCOUNT,
    DEFAULT_PACE,
    DEFAULT_PATIENCE,
    DEFAULT_TALK,
    Account,
    Pace,
    Patience,
    Talk,
)
from accucheck.cli._render import terminal_safe
from accucheck.cli._run import Ending, OutageWatch, run_stream, run_to_end

__all__ = ["check"]

UNCHECKED = "UNCHECKED"

Outcomes = Sequence[Outcome[str] | None]
"""One for each number, in order; None for a number without an outcome."""


def check(
    *numbers: Annotated[str, Parameter(metavar="NUMBER")],
    json: bool = False,
    mobile_only: bool = False,
    account: Account = DEFAULT_ACCOUNT,
    pace: Pace = DEFAULT_PACE,
    patience: Patience = DEFAULT_PATIENCE,
    talk: Talk = DEFAULT_TALK,
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Check one number or several, and show the answers.

    Parameters
    ----------
    numbers
        Peru numbers in any notation: 987654321, "+51 987 654 321", "(01) 456-7890".
    json
        Print one JSON object per line.
    mobile_only
        Treat landlines as invalid. They are checked by default, since WhatsApp Business uses them.
    """
    if not numbers:
        raise ConfigurationError("No number given. For example: accucheck check 987654321")
    outcomes: list[Outcome[str] | None] = [None] * len(numbers)

    def keep(outcome: Outcome[str]) -> None:
        outcomes[outcome.index] = outcome

    outage = OutageWatch(patience.outage_deadline)

    async def ask() -> Ending:
        async with make_client(account, patience, pace, mobile_only=mobile_only) as client:
            return await run_stream(
                client.stream(
                    numbers,
                    workers=pace.workers,
                    max_calls=pace.max_calls,
                    grace=0,
                    outage_after=None,
                    on_event=outage,
                ),
                keep,
                interruption=interruption,
                outage=outage,
                progress="none" if len(numbers) == 1 else talk.shown,
            )

    ending = run_to_end(ask(), interruption)
    if json or not sys.stdout.isatty():
        for number, outcome in zip(numbers, outcomes, strict=True):
            print_json(_record(number, outcome))
    else:
        Console(highlight=False, markup=False, emoji=False).print(_table(numbers, outcomes))
    if ending.error is not None:
        return complain(ending.error)
    if interruption.first is not None:
        return interruption.exit_code
    if ending.outage:
        return ExitCode.OUTAGE
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


def _table(numbers: Sequence[str], outcomes: Outcomes) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("Number", "WhatsApp", "Business", "Avatar", "Since"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Signature or reason")
    for number, outcome in zip(numbers, outcomes, strict=True):
        shown, whatsapp, *others = (terminal_safe(cell, 200) for cell in _cells(number, outcome))
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


def _yes_no(value: bool | None) -> str:
    return "" if value is None else "yes" if value else "no"
