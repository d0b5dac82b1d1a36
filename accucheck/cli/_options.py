"""Options shared by several commands, and how their values are parsed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from cyclopts import Group, Parameter
from cyclopts.types import PositiveFloat, PositiveInt

from accucheck._arguments import BASE_URL, FreshWithin
from accucheck._costs import Prices, money
from accucheck._errors import ConfigurationError
from accucheck._schedule import Hours, RatePlan
from accucheck._store import EndpointChoice
from accucheck.cli._progress import ProgressMode
from accucheck.files import FORMATS

STANDARD_STREAM = "-"
"""The name of standard input or standard output."""
HIDDEN_STREAM = "\0"
"""Replaces ``-`` during parsing, so that it does not look like an option. No argument can contain NUL."""


def read_by(read: Callable[[str], Any], metavar: str, **more: Any) -> Parameter:
    """Return how an option is read: one word, by ``read``, which raises ValueError."""
    return Parameter(
        converter=lambda kind, tokens: read(tokens[0].value),
        n_tokens=1,
        accepts_keys=False,
        metavar=metavar,
        **more,
    )


_DURATION = re.compile(r"(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>s|m|min|h|d|w)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_duration(text: str) -> timedelta:
    """Parse a duration such as ``90s``, ``15m``, ``12h``, ``30d``, ``2w`` or ``0``; raises ValueError."""
    if text.strip() == "0":
        return timedelta()
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration: write 90s, 15m, 12h, 30d or 2w")
    return timedelta(seconds=float(match["amount"]) * _SECONDS[match["unit"].lower()])


def read_rate(text: str) -> float | tuple[float, float] | str:
    """Parse ``auto``, a number of calls per second, bounds ``LOW:HIGH`` to search within, or text with quotas.

    Raises ValueError.
    """
    text = text.strip().lower()
    if text == "auto":
        return "auto"
    if "/" in text:
        try:
            RatePlan.read(text)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return text
    low_text, separator, high_text = text.partition(":")
    try:
        low = float(low_text)
        high = float(high_text) if separator else low
    except ValueError:
        low = high = 0.0
    if not 0 < low <= high < float("inf"):
        raise ValueError(
            f"{text!r} is not a rate: write calls per second (50), bounds (5:200), quotas (50/s,10000/d) or auto"
        )
    return (low, high) if separator else low


Duration = Annotated[
    timedelta,
    read_by(
        read_duration,
        "DURATION",
        show_default=lambda length: None if length is None else f"{length.total_seconds() / 60:g}m",
    ),
]
Rate = Annotated[float | tuple[float, float] | str, read_by(read_rate, "RATE", show_choices=False)]


Amount = TypeVar("Amount", int, Decimal)


class Cap(NamedTuple, Generic[Amount]):
    """The most calls or money that a job may use, over all its runs."""

    amount: Amount
    more: bool = False
    """Whether this is in addition to what earlier runs used."""


def read_max_calls(text: str) -> Cap[int]:
    """Read ``500``, or ``+200`` for 200 more than so far; raises ValueError."""
    match = re.fullmatch(r"(\+?)(\d{1,15})", text.strip())
    if match is None or not int(match[2]):
        raise ValueError(
            f"{text!r} is not a number of calls: write 500, or +200 to allow 200 more than so far"
        )
    return Cap(int(match[2]), bool(match[1]))


def read_max_cost(text: str) -> Cap[Decimal]:
    """Read ``20``, or ``+5.50`` for that much more than so far; raises ValueError."""
    try:
        amount = money("a cost", text.strip().removeprefix("+"))
    except ConfigurationError:
        amount = Decimal(0)
    if not amount:
        raise ValueError(f"{text!r} is not an amount of money: write 20, or +5 for 5 more than so far")
    return Cap(amount, text.strip().startswith("+"))


def read_freshness(text: str) -> FreshWithin:
    """Read ``30d``, or one length of time by verdict: ``yes=90d,no=14d``; raises ValueError."""
    if "=" not in text:
        return read_duration(text)
    ages: dict[Literal["yes", "no"], timedelta] = {}
    for part in text.split(","):
        word, _, length = part.partition("=")
        verdict = _VERDICTS.get(word.strip())
        if verdict is None or verdict in ages:
            raise ValueError(f"{text!r} is not an age: write 30d, or yes=90d,no=14d")
        ages[verdict] = read_duration(length)
    return ages


_VERDICTS: dict[str, Literal["yes", "no"]] = {"yes": "yes", "no": "no"}


Endpoint = Annotated[EndpointChoice, Parameter(metavar="CHOICE")]
MaxCalls = Annotated[Cap[int], read_by(read_max_calls, "CALLS")]
MaxCost = Annotated[Cap[Decimal], read_by(read_max_cost, "AMOUNT")]
Age = Annotated[timedelta | dict[Literal["yes", "no"], timedelta], read_by(read_freshness, "AGE")]
StreamOrPath = Annotated[
    str, read_by(lambda text: STANDARD_STREAM if text == HIDDEN_STREAM else text, "FILE")
]
OutputFormat = Annotated[
    str | None, Parameter(help=f"Output format, whatever the file's suffix: {', '.join(FORMATS)}.")
]

_ACCOUNT = Group("Account and connection", sort_key=30)
_PACE = Group("Speed and budget", sort_key=20)
_LIST = Group("Reading the list", sort_key=10)
_SKIPPING = Group("Rows to skip", sort_key=12)
PATIENCE = Group("Timeouts and retries", sort_key=40)
_TALK = Group("Messages", sort_key=50)
WHICH = Group("Which ledger", sort_key=20)


@Parameter(name="*", group=_ACCOUNT)
@dataclass(frozen=True, kw_only=True)
class Account:
    """Which account to use, and how to reach AccuAuth."""

    profile: str | None = None
    """Profile of accucheck.toml to use."""
    api_id: str | None = None
    """API id of your AccuAuth account. Default: a prompt."""
    secret_file: Path | None = None
    """File that contains the API secret. Default: ACCUCHECK_API_SECRET, or a prompt."""
    secret_command: str | None = None
    """Command that prints the API secret, such as "pass show accuauth"."""
    base_url: str = BASE_URL
    """URL of the API. http:// is only allowed for this machine (the sandbox)."""
    endpoint: Endpoint = "advanced"
    """Endpoint to call. basic only says whether the number is on WhatsApp; cascade asks basic first, and advanced
    for the numbers that are on WhatsApp."""
    body: Literal["auto", "form", "json"] = "auto"
    """Encoding of the request body. auto finds out on the first call."""
    proxy: str | None = None
    """URL of a proxy. Default: HTTPS_PROXY and NO_PROXY."""
    ca_file: Path | None = None
    """PEM file of certificate authorities to trust instead of the system's."""


@Parameter(name="*", group=WHICH)
@dataclass(frozen=True, kw_only=True)
class Which:
    """Selects the account whose ledger a command uses if none is named."""

    profile: str | None = None
    """Profile of accucheck.toml to use."""
    api_id: str | None = None
    """API id of the account, to find its ledger."""
    base_url: str = BASE_URL
    """URL of the API, to find its ledger."""


@Parameter(name="*", group=_PACE)
@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast to call, and how many calls to make at most."""

    rate: Rate = "auto"
    """Calls per second: a ceiling (50), bounds to search within (5:200), or auto to find the limit.
    Add quotas per min, h or d after a comma: 50/s,10000/d."""
    hours: str | None = None
    """Make calls only at these hours: 08:00-20:00, or 08:00-20:00 America/Bogota. Default time zone: Lima."""
    burst: PositiveInt | None = None
    """Calls allowed at once after a pause."""
    workers: PositiveInt = 100
    """Maximum calls in flight."""
    max_calls: MaxCalls | None = None
    """Maximum calls, including polls and retries, across all runs of this job. +200 allows 200 more than so far."""

    @property
    def rate_with_hours(self) -> float | tuple[float, float] | str:
        """The rate as the library takes it, with the hours. Raises ConfigurationError if they are none."""
        rate = self.rate
        if self.hours is None:
            return rate
        Hours.read(self.hours)
        if isinstance(rate, tuple):
            rate = f"{rate[0]!r}:{rate[1]!r}"
        return f"{rate if isinstance(rate, str) else f'{rate!r}/s'},{self.hours}"


@Parameter(name="*", group=PATIENCE)
@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, and when to give up on a number."""

    connect_timeout: PositiveFloat = 10.0
    """Seconds to wait for a connection."""
    read_timeout: PositiveFloat = 30.0
    """Seconds to wait for the next byte of a reply."""
    attempt_timeout: PositiveFloat = 60.0
    """Seconds for one whole call."""
    tries: PositiveInt = 5
    """Give up on a number after this many failed calls (connection or server errors); polls do not count."""
    poll_deadline: Duration | None = None
    """Give up on a number that is still PENDING after this long. Default: 10m; with --pending later 6h."""
    refusal_deadline: Duration = timedelta(minutes=15)
    """Give up on a number that has been rate-limited for this long."""
    outage_deadline: Duration = timedelta(minutes=15)
    """End the run if AccuAuth cannot be reached for this long; 0 waits forever."""
    keep_going: bool = False
    """Continue even if every call is refused for the same reason, which otherwise ends the run."""
    on_lost_answer: Literal["retry", "fail"] = "retry"
    """What to do when the reply to a call is lost; that call may have been charged."""


def read_price(text: str) -> Decimal:
    """Read an amount of money, 0 or more; raises ValueError."""
    try:
        return money("a price", text.strip())
    except ConfigurationError:
        raise ValueError(f"{text!r} is not a price: write 0.002") from None


Price = Annotated[Decimal, read_by(read_price, "PRICE")]
_COST = Group("Cost", sort_key=22)


@Parameter(name="*", group=_COST)
@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """What calls cost, in any currency; an estimate, since AccuAuth publishes no price list."""

    price: Price | None = None
    """Price of an answer, yes or no."""
    price_basic: Price | None = None
    """Price of an answer from the basic endpoint, if both are used (--endpoint cascade)."""
    price_pending: Price = Decimal(0)
    """Price of a PENDING reply."""
    price_refused: Price = Decimal(0)
    """Price of a refused call."""
    currency: str = ""
    """Currency to show after amounts, such as PEN."""

    @property
    def prices(self) -> Prices | None:
        """The prices; None if no price is given."""
        if self.price is None:
            return None
        return Prices(
            self.price, pending=self.price_pending, refused=self.price_refused, basic=self.price_basic
        )


@Parameter(name="*", group=_COST)
@dataclass(frozen=True, kw_only=True)
class Spending(CostOptions):
    """What calls cost, and how much to spend at most."""

    max_cost: MaxCost | None = None
    """Maximum to spend at these prices, across all runs of this job. +5 allows 5 more than so far."""


Several = Literal["first", "best", "each"]


@Parameter(name="*", group=_LIST)
@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How to read the list."""

    column: tuple[str, ...] = ()
    """Column with the phone numbers: its name, its position (from 1), or all. Repeatable. Default: found by name or
    content."""
    several: Several | None = None
    """What to do with rows that have several numbers: first checks only the first; each checks all and gives each its
    own columns; best checks all and keeps one answer (yes if any is a yes, no only if all are). Default: such rows are
    invalid, or each if several columns are read."""
    sheet: str | None = None
    """Sheet of a workbook: its name, its position (from 1), or all. Default: the one with phone numbers."""
    visible_only: bool = False
    """Skip rows of a workbook that are hidden or filtered out."""
    encoding: str | None = None
    """Text encoding of the input, such as cp1252. Default: detected."""
    mobile_only: bool = False
    """Treat landlines as invalid. They are checked by default because WhatsApp Business uses them."""


@Parameter(name="*", group=_SKIPPING)
@dataclass(frozen=True, kw_only=True)
class Skipping:
    """Which rows not to check."""

    exclude: tuple[Path, ...] = ()
    """List of numbers to leave out, in any input format. Repeatable."""
    where: tuple[str, ...] = ()
    """Check only rows where COLUMN=VALUE, such as consent=yes; case and accents are ignored. Repeatable; all conditions
    must hold."""


@Parameter(name="*", group=_TALK)
@dataclass(frozen=True, kw_only=True)
class Talk:
    """What to print on standard error."""

    quiet: bool = False
    """Print only errors: no progress and no summary."""
    progress: ProgressMode = "auto"
    """How to show progress: auto is a bar on terminals and one line a minute elsewhere."""
    debug: bool = False
    """Print a log of every decision, with masked numbers, and tracebacks of errors."""

    @property
    def shown(self) -> ProgressMode:
        """How progress is shown."""
        return "none" if self.quiet else self.progress
