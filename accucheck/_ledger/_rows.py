"""Settlements <-> the columns of a row.

A row is kept small, since there may be ten million: flags and counts of 0 and 1 take no payload in SQLite,
the vendor's usual request id (``TID`` and 32 hexadecimal digits) takes 16 bytes, a date is one integer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from accucheck._errors import CHECK_ERRORS, CheckError
from accucheck._models import Check, Settlement

Endpoint: TypeAlias = Literal["advanced", "basic"]

ENDPOINT_CODES: Final[dict[Endpoint, int]] = {"advanced": 0, "basic": 1}
ENDPOINTS: Final[dict[int, Endpoint]] = {code: endpoint for endpoint, code in ENDPOINT_CODES.items()}
KEY_SHIFT: Final = 3
"""A row's key is ``number << 3 | endpoint code``, so that one integer primary key serves both."""

ANSWER_COLUMNS: Final = (
    "key, whatsapp, status_update, business_user, avatar, signature, request_id, checked_at, calls, "
    "possibly_double_charged, extra"
)
FAILURE_COLUMNS: Final = (
    "key, status, reason, request_id, http_status, failed_at, calls, possibly_double_charged"
)
ANSWER_WIDTH: Final = ANSWER_COLUMNS.count(",") + 1
FAILURE_WIDTH: Final = FAILURE_COLUMNS.count(",") + 1

AnswerRow: TypeAlias = tuple[
    int,  # key
    bool | int,  # whatsapp
    int | None,  # status_update, YYYYMMDD
    bool | int | None,  # business_user
    bool | int | None,  # avatar
    str | None,  # signature
    bytes | str,  # request_id
    int,  # checked_at, microseconds since 1970, UTC
    int,  # calls
    int,  # possibly_double_charged
    str | None,  # extra, JSON
]
FailureRow: TypeAlias = tuple[int, str, str, bytes | str, int | None, int, int, int]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_FLAGS: Final[dict[int | None, bool | None]] = {None: None, 0: False, 1: True}
_NOTHING: Final[Mapping[str, Any]] = {}


def key_of(number: int, endpoint: Endpoint) -> int:
    """Return the key of a national number's row."""
    return number << KEY_SHIFT | ENDPOINT_CODES[endpoint]


def microseconds(seconds: float) -> int:
    """Return seconds since 1970 as the ledger keeps instants; exact for any instant of our days."""
    return round(seconds * 1_000_000)


def instant(stored: int) -> datetime:
    """Return the UTC datetime of an instant that the ledger keeps."""
    return _EPOCH + timedelta(0, 0, stored)


@lru_cache(maxsize=8192)
def _packed_date(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day


@lru_cache(maxsize=8192)
def _unpacked_date(packed: int) -> date:
    return date(packed // 10_000, packed // 100 % 100, packed % 100)


def _packed_request_id(request_id: str) -> bytes | str:
    if len(request_id) == 35 and request_id.startswith("TID"):
        try:
            packed = bytes.fromhex(request_id[3:])
        except ValueError:
            return _storable(request_id)
        if packed.hex() == request_id[3:]:  # fromhex also takes capitals and spaces
            return packed
    return _storable(request_id)


def _unpacked_request_id(packed: bytes | str) -> str:
    return packed if isinstance(packed, str) else "TID" + packed.hex()


def _storable(text: str) -> str:
    """Replace lone surrogates: SQLite keeps UTF-8, and one such character must not fail a whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def answer_row(endpoint_code: int, settlement: Settlement, check: Check) -> AnswerRow:
    """Return the row of an answer; the order is that of ``ANSWER_COLUMNS``."""
    status_update, signature, extra = check.status_update, check.signature, check.extra
    return (
        settlement.number << KEY_SHIFT | endpoint_code,
        check.whatsapp,
        None if status_update is None else _packed_date(status_update),
        check.business_user,
        check.avatar,
        None if signature is None else _storable(signature),
        _packed_request_id(check.request_id),
        (check.checked_at - _EPOCH) // _MICROSECOND,
        settlement.calls,
        settlement.possibly_double_charged,
        json.dumps(dict(extra), default=str) if extra else None,
    )


def answer_settlement(row: AnswerRow) -> Settlement:
    """Return the settlement that a row of an answer keeps."""
    (
        key,
        whatsapp,
        status_update,
        business_user,
        avatar,
        signature,
        request_id,
        checked_at,
        calls,
        lost,
        extra,
    ) = row
    number = key >> KEY_SHIFT
    return Settlement(
        number,
        Check(
            number=f"+51{number}",
            whatsapp=whatsapp == 1,
            status_update=None if status_update is None else _unpacked_date(status_update),
            signature=signature,
            business_user=_FLAGS[business_user],
            avatar=_FLAGS[avatar],
            request_id=request_id if isinstance(request_id, str) else "TID" + request_id.hex(),
            checked_at=_EPOCH + timedelta(0, 0, checked_at),
            extra=_NOTHING if extra is None else json.loads(extra),
        ),
        calls,
        lost,
    )


def failure_row(endpoint_code: int, settlement: Settlement, error: CheckError, failed_at: int) -> FailureRow:
    """Return the row of a failure; the order is that of ``FAILURE_COLUMNS``."""
    return (
        settlement.number << KEY_SHIFT | endpoint_code,
        error.status,
        _storable(error.reason),
        _packed_request_id(error.request_id),
        error.http_status,
        failed_at,
        settlement.calls,
        settlement.possibly_double_charged,
    )


def failure_settlement(row: FailureRow) -> Settlement:
    """Return the settlement that a row of a failure keeps."""
    key, status, reason, request_id, http_status, _, calls, lost = row
    kind = CHECK_ERRORS.get(status, CheckError)
    error = kind(reason, request_id=_unpacked_request_id(request_id), http_status=http_status)
    return Settlement(key >> KEY_SHIFT, error, calls, lost)


def placeholders(width: int, count: int) -> str:
    """Return ``(?,?),(?,?)``: ``count`` rows of ``width`` parameters."""
    return ",".join([f"({','.join('?' * width)})"] * count)
