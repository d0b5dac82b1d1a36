"""Settlements <-> what the file keeps of them.

An answer is packed into one small piece of bytes, by msgspec in C: an array, so that no field name is stored ten
million times. A failure, which is rare, is a plain row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias

import msgspec

from accucheck._errors import CHECK_ERRORS, CheckError
from accucheck._models import Check, Settlement

Endpoint: TypeAlias = Literal["advanced", "basic"]

ENDPOINT_CODES: Final[dict[Endpoint, int]] = {"advanced": 0, "basic": 1}
ENDPOINTS: Final[dict[int, Endpoint]] = {code: endpoint for endpoint, code in ENDPOINT_CODES.items()}
KEY_SHIFT: Final = 3
"""A row's key is ``number << 3 | endpoint code``, so that one integer primary key serves both."""
ENDPOINT_MASK: Final = (1 << KEY_SHIFT) - 1

FAILURE_COLUMNS: Final = (
    "key, status, reason, request_id, http_status, failed_at, calls, possibly_double_charged"
)
FAILURE_WIDTH: Final = FAILURE_COLUMNS.count(",") + 1
FailureRow: TypeAlias = tuple[int, str, str, bytes | str, int | None, int, int, int]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NOTHING: Final[Mapping[str, Any]] = {}


class PackedAnswer(msgspec.Struct, array_like=True, gc=False):
    """An answer as it is stored, about 60 bytes. What is stored stays readable: new fields go last, with a default."""

    whatsapp: bool
    checked_at: datetime
    status_update: date | None
    signature: str | None
    business_user: bool | None
    avatar: bool | None
    trace: bytes | None
    """The vendor's usual request id, ``TID`` and 32 hexadecimal digits, in 16 bytes."""
    request_id: str | None
    """Any other request id."""
    calls: int
    possibly_double_charged: int
    extra: str | None
    """JSON: fields that the vendor's page does not name."""


class _Head(msgspec.Struct, array_like=True, gc=False):
    """The fields of a packed answer that have columns of their own."""

    whatsapp: bool
    checked_at: datetime


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(PackedAnswer).decode
_decode_head: Final = msgspec.msgpack.Decoder(_Head).decode


def key_of(number: int, endpoint: Endpoint) -> int:
    """Return the key of a national number's row."""
    return number << KEY_SHIFT | ENDPOINT_CODES[endpoint]


def microseconds(seconds: float) -> int:
    """Return seconds since 1970 as the ledger keeps instants; exact for any instant of our days."""
    return round(seconds * 1_000_000)


def instant(stored: int) -> datetime:
    """Return the UTC datetime of an instant that the ledger keeps."""
    return _EPOCH + timedelta(0, 0, stored)


# Answers


def packed(settlement: Settlement, check: Check) -> bytes:
    """Return an answer as it is stored."""
    request_id = check.request_id
    trace = _trace(request_id)
    # A tuple in the order of the fields: making a PackedAnswer first costs a tenth more.
    fields = (
        check.whatsapp,
        check.checked_at,
        check.status_update,
        check.signature,
        check.business_user,
        check.avatar,
        trace,
        request_id if trace is None else None,
        settlement.calls,
        settlement.possibly_double_charged,
        json.dumps(dict(check.extra), default=str) if check.extra else None,
    )
    try:
        return _encode(fields)
    except UnicodeEncodeError:
        return _encode(tuple(_storable(field) if isinstance(field, str) else field for field in fields))


def unpacked(number: int, stored: bytes) -> Settlement:
    """Return the settlement of an answer that was stored.

    Raises:
        msgspec.MsgspecError: these bytes are no answer.
    """
    try:
        answer = _decode(stored)
        extra = _NOTHING if answer.extra is None else json.loads(answer.extra)
    except (TypeError, ValueError) as error:
        # No UTF-8, no JSON; or no bytes: SQLite gives what a damaged page says it is, a text or a number.
        raise msgspec.ValidationError(str(error)) from error
    trace = answer.trace
    return Settlement(
        number,
        Check(
            number=f"+51{number}",
            whatsapp=answer.whatsapp,
            status_update=answer.status_update,
            signature=answer.signature,
            business_user=answer.business_user,
            avatar=answer.avatar,
            request_id=answer.request_id or "" if trace is None else "TID" + trace.hex(),
            checked_at=answer.checked_at,
            extra=extra,
        ),
        answer.calls,
        answer.possibly_double_charged,
    )


def head(stored: bytes) -> tuple[int, bool]:
    """Return when a packed answer came (microseconds since 1970), and what it is.

    Raises:
        msgspec.MsgspecError: these bytes are no answer.
    """
    answer = _decode_head(stored)
    return (answer.checked_at - _EPOCH) // _MICROSECOND, answer.whatsapp


def _trace(request_id: str) -> bytes | None:
    """Return the vendor's usual request id in 16 bytes, None if it is another."""
    if len(request_id) == 35 and request_id[:3] == "TID":
        digits = request_id[3:]
        try:
            trace = bytes.fromhex(digits)
        except ValueError:
            return None
        if trace.hex() == digits:  # fromhex also takes capitals and spaces
            return trace
    return None


def _storable(text: str) -> str:
    """Replace lone surrogates: the file keeps UTF-8, and one such character must not fail a whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


# Failures


def failure_row(endpoint_code: int, settlement: Settlement, error: CheckError, failed_at: int) -> FailureRow:
    """Return the row of a failure; the order is that of ``FAILURE_COLUMNS``."""
    return (
        settlement.number << KEY_SHIFT | endpoint_code,
        error.status,
        _storable(error.reason),
        _trace(error.request_id) or _storable(error.request_id),
        error.http_status,
        failed_at,
        settlement.calls,
        settlement.possibly_double_charged,
    )


def failure_settlement(row: FailureRow) -> Settlement:
    """Return the settlement that a row of a failure keeps."""
    key, status, reason, request_id, http_status, _, calls, lost = row
    kind = CHECK_ERRORS.get(status, CheckError)
    if isinstance(request_id, bytes):
        request_id = "TID" + request_id.hex()
    error = kind(reason, request_id=request_id, http_status=http_status)
    return Settlement(key >> KEY_SHIFT, error, calls, lost)


def placeholders(width: int, count: int) -> str:
    """Return ``(?,?),(?,?)``: ``count`` rows of ``width`` parameters."""
    return ",".join([f"({','.join('?' * width)})"] * count)
