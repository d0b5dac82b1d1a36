"""The options that several commands share, and how their text is read.

Every option can be given by an environment variable as well: ``--max-calls`` is ``ACCUCHECK_MAX_CALLS``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.types import PositiveFloat, PositiveInt

__all__ = [
    "DEFAULT_ACCOUNT",
    "DEFAULT_LIST_OPTIONS",
    "DEFAULT_PACE",
    "DEFAULT_PATIENCE",
    "DEFAULT_TALK",
    "HIDDEN_STREAM",
    "STANDARD_STREAM",
    "Account",
    "Duration",
    "ListOptions",
    "Pace",
    "Patience",
    "Rate",
    "StreamOrPath",
    "Talk",
    "read_duration",
    "read_rate",
]

STANDARD_STREAM = "-"
"""The name that means standard input or standard output."""
HIDDEN_STREAM = "\0"
"""What ``-`` is called while words are parsed, lest it is taken for an option. No word can hold a NUL."""

_DURATION = re.compile(r"(?P<amount>\d+(?:\.\d+)?)\s*(?P<unit>s|m|min|h|d|w)", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_duration(text: str) -> timedelta:
    """Read a length of time such as ``90s``, ``15m``, ``12h``, ``30d``, ``2w`` or ``0``; raises ValueError."""
    if text.strip() == "0":
        return timedelta()
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no length of time: write 90s, 15m, 12h, 30d or 2w")
    return timedelta(seconds=float(match["amount"]) * _SECONDS[match["unit"].lower()])


def read_rate(text: str) -> float | tuple[float, float] | Literal["auto"]:
    """Read ``auto``, a number of calls per second, or bounds ``LOW:HIGH`` to search in; raises ValueError."""
    text = text.strip().lower()
    if text == "auto":
        return "auto"
    low_text, separator, high_text = text.partition(":")
    try:
        low = float(low_text)
        high = float(high_text) if separator else low
    except ValueError:
        low = high = 0.0
    if not 0 < low <= high < float("inf"):
        raise ValueError(f"{text!r} is no rate: give calls per second (50), bounds (5:200) or auto")
    return (low, high) if separator else low


def _stream_or_path(kind: type, tokens: Sequence[Any]) -> str:
    value: str = tokens[0].value
    return STANDARD_STREAM if value == HIDDEN_STREAM else value


Duration = Annotated[
    timedelta,
    Parameter(
        converter=lambda kind, tokens: read_duration(tokens[0].value),
        n_tokens=1,
        accepts_keys=False,
        metavar="DURATION",
        show_default=lambda length: None if length is None else f"{length.total_seconds() / 60:g}m",
    ),
]
Rate = Annotated[
    float | tuple[float, float] | Literal["auto"],
    Parameter(
        converter=lambda kind, tokens: read_rate(tokens[0].value),
        n_tokens=1,
        accepts_keys=False,
        metavar="RATE",
        show_choices=False,
    ),
]
StreamOrPath = Annotated[
    str, Parameter(converter=_stream_or_path, n_tokens=1, accepts_keys=False, metavar="FILE")
]

_ACCOUNT = Group("Account and vendor", sort_key=30)
_PACE = Group("Pace and budget", sort_key=20)
_LIST = Group("Reading the list", sort_key=10)
_PATIENCE = Group("Patience", sort_key=40)
_TALK = Group("What is shown", sort_key=50)


@Parameter(name="*", group=_ACCOUNT)
@dataclass(frozen=True, kw_only=True)
class Account:
    """Which account to use, and how the vendor is reached."""

    api_id: str | None = None
    """The API id of your AccuAuth account."""
    secret_file: Path | None = None
    """A file that holds the API secret. Without it: ACCUCHECK_API_SECRET, else you are asked."""
    base_url: str = "https://cloudapi.peru.accuauth.com"
    """Where the API is; plain http only to this machine (the sandbox)."""
    endpoint: Literal["advanced", "basic"] = "advanced"
    """basic answers only whether the number is on WhatsApp."""
    body: Literal["form", "json"] = "form"
    """How the request is encoded."""
    proxy: str | None = None
    """Proxy to go through; by default what HTTPS_PROXY and NO_PROXY say."""
    ca_file: Path | None = None
    """A PEM file of the authorities to trust, in place of the system's."""


@Parameter(name="*", group=_PACE)
@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast to call, and how often at most."""

    rate: Rate = "auto"
    """Calls per second: a hard ceiling (50), bounds to search in (5:200), or auto, which finds the limit."""
    burst: PositiveInt | None = None
    """Calls that may go out at once after a pause."""
    workers: PositiveInt = 100
    """Calls under way at once at most."""
    max_calls: PositiveInt | None = None
    """Make no more calls than this, polls and retries included; with a ledger over all runs of a --job."""


@Parameter(name="*", group=_PATIENCE)
@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to wait, and when to give a number up."""

    connect_timeout: PositiveFloat = 10.0
    """Seconds to wait for a connection."""
    read_timeout: PositiveFloat = 30.0
    """Seconds to wait for the next byte of a reply."""
    attempt_timeout: PositiveFloat = 60.0
    """Seconds for one call from start to end."""
    tries: PositiveInt = 5
    """Give a number up after this many failed calls (connection, server errors); polls do not count."""
    poll_deadline: Duration = timedelta(minutes=10)
    """Give a number up that is still PENDING after this long."""
    refusal_deadline: Duration = timedelta(minutes=15)
    """Give a number up that was refused for frequency for this long."""
    outage_deadline: Duration = timedelta(minutes=15)
    """End the run when no call has gone through for this long, as after Ctrl-C; 0 waits for ever."""
    on_lost_answer: Literal["retry", "fail"] = "retry"
    """What to do if a call was sent and its answer lost: it may have been charged."""


@Parameter(name="*", group=_LIST)
@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """How the list is read."""

    column: str | None = None
    """The column of the phone numbers: its name or its place from 1. By default it is found."""
    encoding: str | None = None
    """The text encoding of the input, for example cp1252. By default it is found."""
    mobile_only: bool = False
    """Refuse landlines (they are allowed by default: WhatsApp Business uses them)."""


@Parameter(name="*", group=_TALK)
@dataclass(frozen=True, kw_only=True)
class Talk:
    """How much is shown."""

    quiet: bool = False
    """Show no progress and no summary; errors are still shown."""
    debug: bool = False
    """Log what happens, and show where an error came from."""


DEFAULT_ACCOUNT = Account()
DEFAULT_PACE = Pace()
DEFAULT_PATIENCE = Patience()
DEFAULT_LIST_OPTIONS = ListOptions()
DEFAULT_TALK = Talk()
