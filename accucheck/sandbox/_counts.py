"""What the sandbox counts: the running totals, and the snapshot that people and tests read."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from accucheck.sandbox._settings import Endpoint

HISTORY_SECONDS = 600
"""Seconds of history that are kept."""

_RATE_SECONDS = 5
"""The displayed rates are means over this many whole seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """A snapshot of the sandbox. All counts are since its start."""

    uptime: float
    """Seconds since the start."""
    requests: int
    """Calls of every kind; views of the page are not counted."""
    admitted: int
    """Calls that the rate limit admitted."""
    refused: int
    """Calls answered RATE_LIMIT_EXCEEDED."""
    pending: int
    """Numbers that would be answered PENDING now."""
    numbers: int
    """Distinct numbers asked (the same one at both endpoints counts twice)."""
    charged: int
    """Answers with "yes" or "no": what the account pays for."""
    charged_twice: int
    """Numbers charged more than once at the same endpoint."""
    spent: float
    """The invoice's total, at the prices of the settings."""
    charged_but_lost: int
    """OK answers whose reply was lost to a fault on purpose."""
    by_status: Mapping[str, int]
    """Calls by the status they were given; BAD_GATEWAY is the proxy's HTML page."""
    faults: Mapping[str, int]
    """Injected faults, by kind."""
    requests_per_second: float
    """Over the last 5 whole seconds."""
    admitted_per_second: float
    """Over the last 5 whole seconds."""
    rate: float | None
    """Calls per second allowed now; None if there is no limit."""


@dataclass(slots=True)
class Second:
    """The calls of one second since the start."""

    second: int
    admitted: int = 0
    refused: int = 0
    other: int = 0

    @property
    def requests(self) -> int:
        return self.admitted + self.refused + self.other


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """What was charged on one day at one endpoint."""

    day: str
    """``YYYY-MM-DD``, in the settings' ``invoice_timezone``."""
    endpoint: Endpoint
    yes: int
    no: int
    amount: str
    """In the currency of the prices, exact: a decimal number as text."""


class Invoice:
    """Every "yes" and "no", by day and endpoint. Nothing else is charged."""

    def __init__(self, zone: str = "UTC") -> None:
        """``zone`` is the time zone of its days."""
        self._zone = ZoneInfo(zone) if zone != "UTC" else UTC
        self._answers: Counter[tuple[str, Endpoint, bool]] = Counter()

    def charge(self, wall: float, endpoint: Endpoint, *, yes: bool) -> None:
        """Count one answer at ``wall``, in seconds since 1970."""
        self._answers[f"{datetime.fromtimestamp(wall, self._zone):%Y-%m-%d}", endpoint, yes] += 1

    def lines(self, prices: Mapping[Endpoint, float]) -> list[InvoiceLine]:
        """Return the invoice, oldest day first."""
        found = []
        for day, endpoint in sorted({(day, endpoint) for day, endpoint, _ in self._answers}):
            yes, no = (self._answers[day, endpoint, verdict] for verdict in (True, False))
            amount = Decimal(repr(prices[endpoint])) * (yes + no)
            found.append(InvoiceLine(day, endpoint, yes, no, f"{amount:f}"))
        return found

    def total(self, prices: Mapping[Endpoint, float]) -> Decimal:
        """Return the sum of all lines."""
        return sum((Decimal(line.amount) for line in self.lines(prices)), Decimal())


@dataclass(slots=True)
class Tally:
    """The counters that every call moves."""

    started: float
    """The clock at the start."""
    admitted: int = 0
    refused: int = 0
    charged_but_lost: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    history: deque[Second] = field(default_factory=lambda: deque(maxlen=HISTORY_SECONDS))
    """One entry for each second in which a call came, oldest first."""

    def count(self, now: float, status: str, *, admitted: bool) -> None:
        """Count one call."""
        self.by_status[status] += 1
        second = int(now - self.started)
        if not self.history or self.history[-1].second < second:
            self.history.append(Second(second))
        entry = self.history[-1]
        if admitted:
            self.admitted += 1
            entry.admitted += 1
        elif status == "RATE_LIMIT_EXCEEDED":
            self.refused += 1
            entry.refused += 1
        else:
            entry.other += 1

    def per_second(self, now: float) -> tuple[float, float]:
        """Return (requests, admitted) per second over the last whole seconds."""
        this_second = int(now - self.started)
        span = min(_RATE_SECONDS, this_second)
        if not span:
            return 0.0, 0.0
        recent = [entry for entry in self.history if this_second - span <= entry.second < this_second]
        return sum(entry.requests for entry in recent) / span, sum(entry.admitted for entry in recent) / span
