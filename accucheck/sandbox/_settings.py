"""How the simulated vendor behaves: one frozen record, validated on creation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias, cast, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Endpoint: TypeAlias = Literal["advanced", "basic"]
Window: TypeAlias = Literal["token", "fixed", "sliding"]
BodyType: TypeAlias = Literal["any", "form", "json"]

_DEFAULT_BURST = 10
_DEFAULT_WINDOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of the admitted calls, from 0 to 1 in total, whose reply is lost or damaged on the way.

    Which calls these are depends only on the seed, the number and how often it was asked. The vendor has done its work
    (and charged, if the answer was OK) before the reply is lost; only ``bad_gateway`` fails before the vendor sees the
    call.
    """

    reset: float = 0.0
    """The connection is reset before the reply (TCP RST)."""
    cut: float = 0.0
    """The connection is closed in the middle of the reply's body."""
    stall: float = 0.0
    """No reply comes; the connection stays open until the client gives it up."""
    bad_gateway: float = 0.0
    """A proxy answers 502 with an HTML page."""

    def __post_init__(self) -> None:
        for share in fields(self):
            _check_share(f"faults.{share.name}", getattr(self, share.name))
        if self.total > 1:
            raise ValueError(f"the shares of faults add up to {self.total:g}, more than 1")

    @property
    def total(self) -> float:
        """The share of calls with any fault."""
        return self.reset + self.cut + self.stall + self.bad_gateway

    def __str__(self) -> str:
        shares = ((share.name, getattr(self, share.name)) for share in fields(self))
        return ", ".join(f"{name}={share:g}" for name, share in shares if share) or "none"

    @classmethod
    def parse(cls, text: str) -> Faults:
        """Parse ``reset=0.01,cut=0.01`` from the command line. Raises ``ValueError``."""
        known = [share.name for share in fields(cls)]
        shares: dict[str, float] = {}
        for part in filter(None, text.split(",")):
            name, _, share = part.partition("=")
            if name.strip() not in known:
                raise ValueError(f"there is no fault {name.strip()!r}: use {', '.join(known)}")
            shares[name.strip()] = _number("faults", share)
        return cls(**shares)


@dataclass(frozen=True, slots=True)
class Soft:
    """Shares of the numbers, from 0 to 1 in total, that get neither an answer nor a documented error.

    ``checking`` and ``unavailable`` are values of ``whatsapp`` in an OK reply. The other names are statuses (HTTP 400):
    ``ABNORMAL_BEHAVIOURS_DETECTED``, ``QUERY_FAILED`` and ``NOT_HIT``, which occur on the vendor's pages for other
    countries, or any name you make up, as an unknown status. None is charged. The three temporary ones are given only
    to a number's first call, the others to every call.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    PASSING = frozenset({"checking", "ABNORMAL_BEHAVIOURS_DETECTED", "QUERY_FAILED"})

    def __post_init__(self) -> None:
        for name, share in self.shares.items():
            _refuse(
                name not in ("checking", "unavailable")
                and re.fullmatch("[A-Z][A-Z0-9_]{0,63}", str(name)) is None,
                f"soft holds {name!r}: use checking, unavailable, or a status in capital letters",
            )
            _check_share(f"soft.{name}", share)
        _refuse(sum(self.shares.values()) > 1, "the shares of soft replies add up to more than 1")

    def __str__(self) -> str:
        return ", ".join(f"{name}={share:g}" for name, share in self.shares.items()) or "none"

    def at(self, draw: float, nth: int) -> str | None:
        """Return what the ``nth`` call (from 1) for the number with this draw in [0, 1) gets, or None."""
        for name, share in self.shares.items():
            if draw < share:
                return name if nth == 1 or name not in self.PASSING else None
            draw -= share
        return None

    @classmethod
    def parse(cls, text: str) -> Soft:
        """Parse ``checking=0.1,unavailable=0.05`` from the command line. Raises ``ValueError``."""
        shares = {}
        for part in filter(None, text.split(",")):
            name, _, share = part.partition("=")
            shares[name.strip()] = _number("soft", share)
        return cls(MappingProxyType(shares))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the simulated vendor behaves. By default, it answers everything at once and refuses nothing.

    Raises ``ValueError`` with one clear sentence if a value has the wrong type, is out of range, or would have no
    effect. ``soft``, ``faults``, ``outage`` and ``rate_at`` also accept the command line's text, such as
    ``"checking=0.1"`` and ``"30:20"``; ``soft`` and ``faults`` also accept a dict.

    Examples:
        ```python
        from accucheck.testing import FakeVendor, Faults, Settings, Soft

        settings = Settings(
            rate=50,
            pending=0.2,
            soft=Soft({"checking": 0.1, "NOT_HIT": 0.01}),
            faults=Faults(reset=0.01),
            outage=(30, 20),
            quota=1000,
        )
        vendor = FakeVendor(settings=settings)
        client = accucheck.Client("id", "secret", transport=vendor)
        ```
    """

    rate: float | None = None
    """Calls per second to admit, above 0. Default: no limit."""
    burst: int | None = None
    """Size of the token bucket, 1 or more. Default: 10."""
    window: Window = "token"
    """How calls are limited: a token bucket, fixed windows from the start of the sandbox, or a sliding window."""
    window_seconds: float | None = None
    """Length of a fixed or sliding window in seconds, above 0; it allows the rate for each of them. Default: 1."""
    rate_at: tuple[tuple[float, float], ...] = ()
    """Rate changes, as seconds after the first call and the new rate, which may be 0: 30:50,60:200."""
    retry_after: bool = False
    """Send Retry-After, in whole seconds, when a call is rate-limited. It is not on AccuAuth's page."""
    pending: float = 0.0
    """Share of numbers that are PENDING at first, 0 to 1."""
    pending_for: float = 5.0
    """Seconds that they stay PENDING, times 0.8 to 1.2, depending on the number."""
    queue_rate: float | None = None
    """Numbers per second that AccuAuth's own queue processes. Pending numbers then wait for those before them, instead
    of for a fixed time: the longer the queue, the longer the wait."""
    soft: Soft = field(default_factory=Soft)
    """Shares of numbers with soft answers or statuses that are not on AccuAuth's page:
    checking=0.1,unavailable=0.05,NOT_HIT=0.01. Also QUERY_FAILED, ABNORMAL_BEHAVIOURS_DETECTED and any name in capital
    letters."""
    errors: float = 0.0
    """Share of calls that fail with INTERNAL_ERROR, 0 to 1."""
    outage: tuple[float, float] | None = None
    """Fail every call with INTERNAL_ERROR for a while, as seconds after the first call and duration: 30:20."""
    faults: Faults = field(default_factory=Faults)
    """Shares of replies that are lost or damaged on the way: reset=0.01,cut=0.01,stall=0.001,bad_gateway=0.01."""
    latency: float = 0.0
    """Average milliseconds per call: at least 0.6 times that, with a long tail. Refusals are answered at once."""
    quota: int | None = None
    """Answers until OUT_OF_QUOTA. Default: unlimited."""
    expire_after: int | None = None
    """Calls with valid credentials until KEY_EXPIRED. Default: unlimited."""
    price: float = 0.0
    """What a yes or a no costs on the invoice at /invoice, in any currency. Everything else is free."""
    price_basic: float | None = None
    """The same for the basic endpoint. Default: the same price."""
    invoice_timezone: str = "UTC"
    """Time zone of the invoice's days, such as America/Lima."""
    body: BodyType = "any"
    """The only body encoding to accept, to see what happens with the wrong one."""
    endpoints: tuple[Endpoint, ...] = ("advanced", "basic")
    """Endpoints that the account may use; others answer NO_PERMISSION. Default: both."""
    seed: int = 7
    """Seed of the answers and of all randomness."""
    api_id: str = "sandbox"
    """API id to accept."""
    api_secret: str = field(default="sandbox", repr=False)
    """API secret to accept. Never use a real one here."""
    request_log: Path | None = None
    """File that gets one JSON line for every call, before its reply is sent."""

    def __post_init__(self) -> None:
        for name, read in _READ.items():
            object.__setattr__(self, name, read(getattr(self, name)))
        for each in fields(Settings):
            _check_kind(each.name, getattr(self, each.name), str(each.type))
        if self.rate is None:
            for name in ("burst", "window_seconds"):
                _refuse(getattr(self, name) is not None, f"{name} has no effect without a rate: set both")
            _refuse(bool(self.rate_at), "rate_at has no effect without a rate: set the rate it starts from")
            _refuse(self.retry_after, "retry_after has no effect without a rate: set both")
            _refuse(self.window != "token", f"window {self.window!r} has no effect without a rate: set both")
        else:
            _check_positive("rate", self.rate)
        _check_word("window", self.window, get_args(Window))
        if self.window == "token":
            _refuse(
                self.window_seconds is not None, "window_seconds only works with a fixed or sliding window"
            )
            _refuse(
                self.burst is not None and self.burst < 1, f"burst is {self.burst}: it must be at least 1"
            )
        else:
            _refuse(
                self.burst is not None, "burst only works with the token bucket: remove it, or remove window"
            )
            _check_positive("window_seconds", self.effective_window_seconds)
            _refuse(
                self.rate is not None and self.rate * self.effective_window_seconds < 1 - 1e-9,
                "rate * window_seconds is below 1, so that no call is ever admitted: make the window longer",
            )
        for after, rate in self.rate_at:
            _check_not_negative("rate_at seconds", after)
            _check_not_negative("rate_at rate", rate)
        if self.outage is not None:
            _check_not_negative("outage start", self.outage[0])
            _check_positive("outage seconds", self.outage[1])
        _check_share("pending", self.pending)
        _check_share("errors", self.errors)
        _check_not_negative("pending_for", self.pending_for)
        _check_not_negative("latency", self.latency)
        _check_not_negative("price", self.price)
        if self.price_basic is not None:
            _check_not_negative("price_basic", self.price_basic)
        if self.invoice_timezone != "UTC":
            try:
                ZoneInfo(self.invoice_timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(
                    f"invoice_timezone is {self.invoice_timezone!r}: no such time zone"
                ) from None
        if self.queue_rate is not None:
            _check_positive("queue_rate", self.queue_rate)
            _refuse(not self.pending, "queue_rate has no effect without pending: set both")
        _check_word("body", self.body, get_args(BodyType))
        for name in ("quota", "expire_after"):
            limit = getattr(self, name)
            _refuse(limit is not None and limit < 0, f"{name} is {limit}: it must be 0 or more")
        for endpoint in self.endpoints:
            _check_word("endpoint", endpoint, get_args(Endpoint))
        _refuse(not self.api_id or not self.api_secret, "api_id and api_secret must not be empty")

    def price_of(self, endpoint: Endpoint) -> float:
        """Return what a "yes" or a "no" costs."""
        return self.price if endpoint == "advanced" or self.price_basic is None else self.price_basic

    @property
    def effective_burst(self) -> int:
        """The depth of the token bucket."""
        return _DEFAULT_BURST if self.burst is None else self.burst

    @property
    def effective_window_seconds(self) -> float:
        """The length of the fixed or sliding window."""
        return _DEFAULT_WINDOW_SECONDS if self.window_seconds is None else self.window_seconds


def _check_kind(name: str, value: object, annotation: str) -> None:
    kind, _, optional = annotation.partition(" | ")
    if kind in _KINDS and not (optional and value is None):
        right, words = _KINDS[kind]
        _refuse(
            not isinstance(value, right) or (isinstance(value, bool) and right is not bool),
            f"{name} is {value!r}: it must be {words}",
        )


_KINDS: Mapping[str, tuple[type, str]] = {
    "float": (Real, "a number"),
    "int": (Integral, "a whole number"),
    "bool": (bool, "True or False"),
    "str": (str, "text"),
}


def parse_rate_at(text: str) -> tuple[tuple[float, float], ...]:
    """Read ``30:50,60:200`` (seconds after the first call : new rate). Raises ``ValueError``."""
    return tuple(_pair("rate_at", part) for part in filter(None, text.split(",")))


def parse_outage(text: str) -> tuple[float, float]:
    """Read ``30:20`` (seconds after the first call : seconds it lasts). Raises ``ValueError``."""
    return _pair("outage", text)


def _as_faults(given: object) -> object:
    if isinstance(given, str):
        return Faults.parse(given)
    if isinstance(given, Mapping):
        known = [share.name for share in fields(Faults)]
        for name in given:
            _refuse(name not in known, f"there is no fault {name!r}: use {', '.join(known)}")
        return Faults(**given)
    _refuse(
        not isinstance(given, Faults), f"faults is {given!r}: write it like {{'reset': 0.01}} or 'reset=0.01'"
    )
    return given


def _as_soft(given: object) -> object:
    if isinstance(given, str):
        return Soft.parse(given)
    if isinstance(given, Mapping):
        return Soft(MappingProxyType(dict(given)))
    _refuse(
        not isinstance(given, Soft), f"soft is {given!r}: write it like {{'checking': 0.1}} or 'checking=0.1'"
    )
    return given


def _as_outage(given: object) -> object:
    if given is None:
        return None
    if isinstance(given, str):
        return parse_outage(given)
    return _numbers("outage", given)


def _as_rate_at(given: object) -> object:
    if isinstance(given, str):
        return parse_rate_at(given)
    _refuse(not isinstance(given, Iterable), f"rate_at is {given!r}: write it like [(30, 50), (60, 200)]")
    return tuple(_numbers("rate_at", pair) for pair in cast("Iterable[object]", given))


def _numbers(name: str, given: object) -> tuple[float, float]:
    pair = tuple(given) if isinstance(given, list | tuple) else ()
    _refuse(
        len(pair) != 2 or not all(isinstance(part, Real) for part in pair),
        f"{name} has {given!r}, which is not a pair of numbers, such as (30, 50)",
    )
    return pair[0], pair[1]


def _as_endpoints(given: object) -> object:
    if isinstance(given, str):
        return (given,)
    _refuse(not isinstance(given, Iterable), f"endpoints is {given!r}: use advanced or basic, or both")
    return tuple(cast("Iterable[object]", given))


def _as_path(given: object) -> object:
    _refuse(not isinstance(given, str | Path | None), f"request_log is {given!r}: it must be a path")
    return Path(given) if isinstance(given, str) else given


_READ: Mapping[str, Callable[[object], object]] = {
    "rate_at": _as_rate_at,
    "soft": _as_soft,
    "outage": _as_outage,
    "faults": _as_faults,
    "endpoints": _as_endpoints,
    "request_log": _as_path,
}
"""How the settings that have a shorter form are read, so that Python takes what the command line does."""


def _pair(name: str, text: str) -> tuple[float, float]:
    first, colon, second = text.partition(":")
    _refuse(not colon, f"{name} is {text!r}: write two numbers with a colon between them, like 30:50")
    return _number(name, first), _number(name, second)


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name} needs a number, not {text!r}") from None


def _check_share(name: str, value: float) -> None:
    _check_kind(name, value, "float")
    _refuse(not 0 <= value <= 1, f"{name} is {value}: it must be a share from 0 to 1")


def _check_positive(name: str, value: float) -> None:
    _refuse(not 0 < value < math.inf, f"{name} is {value}: it must be above 0 and finite")


def _check_not_negative(name: str, value: float) -> None:
    _refuse(not 0 <= value < math.inf, f"{name} is {value}: it must be 0 or more and finite")


def _check_word(name: str, value: str, words: tuple[str, ...]) -> None:
    _refuse(value not in words, f"{name} is {value!r}: use {' or '.join(words)}")


def _refuse(wrong: bool, message: str) -> None:
    if wrong:
        raise ValueError(message)
