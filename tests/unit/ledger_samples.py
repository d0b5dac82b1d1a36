"""Settlements for the ledger's tests, and how to compare them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from accucheck import Check, InternalError
from accucheck._errors import CheckError
from accucheck._models import Settlement

MOBILE = 900_000_000
NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)


class Clock:
    """Seconds since 1970; the test moves it."""

    def __init__(self, seconds: float = NOW.timestamp()) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


def answered(number: int, *, calls: int = 1, lost: int = 0, **fields: Any) -> Settlement:
    """Return a realistic answer."""
    known: dict[str, Any] = {
        "whatsapp": True,
        "status_update": date(2023, 12, 12),
        "signature": f"hola, soy {number}",
        "business_user": False,
        "avatar": True,
        "request_id": f"TID{number:032x}",
        "checked_at": NOW,
    }
    return Settlement(number, Check(number=f"+51{number}", **(known | fields)), calls, lost)


def failed(number: int, error: CheckError | None = None, *, calls: int = 3, lost: int = 0) -> Settlement:
    """Return a failure."""
    if error is None:
        error = InternalError("the vendor failed", request_id=f"TID{number:032x}", http_status=500)
    return Settlement(number, error, calls, lost)


def told(settlement: Settlement) -> tuple[Any, ...]:
    """Return a settlement as plain values, because errors are only equal to themselves."""
    result = settlement.result
    if isinstance(result, CheckError):
        plain: Any = (type(result), result.reason, result.request_id, result.http_status)
    else:
        plain = result
    return settlement.number, plain, settlement.calls, settlement.possibly_double_charged
