"""Settlements <-> the bytes that stores keep of them.

msgspec packs a whole settlement into one small byte string, as an array, so that field names are not stored ten million
times.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Generic, TypeAlias, TypeVar, get_args

import msgspec

from accucheck._errors import CHECK_ERRORS, CheckError, StillPending
from accucheck._models import Check, Settlement
from accucheck._store._protocol import ALSO_ANSWERED_BY, Endpoint, Query

ENDPOINTS: Final[tuple[Endpoint, ...]] = get_args(Endpoint)
ENDPOINT_CODES: Final[dict[Endpoint, int]] = {endpoint: code for code, endpoint in enumerate(ENDPOINTS)}
KEY_SHIFT: Final = 3
"""A row's key is ``number << 3 | failed << 2 | endpoint code``, so everything about a number is in one place."""
FAILED: Final = 4
_BASIC: Final = ENDPOINT_CODES["basic"]
_ENDPOINT_MASK: Final = 3
_LOW_BITS: Final = (1 << KEY_SHIFT) - 1

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_ALWAYS, _NEVER = -(1 << 63), (1 << 63) - 1
_NOTHING: Final[Mapping[str, Any]] = {}
Payload = TypeVar("Payload")


class _Packed(msgspec.Struct, array_like=True, gc=False):
    """About 60 bytes. To keep stored data readable, add new fields last, with a default."""

    whatsapp: bool | None
    """None for a failure."""
    at: datetime
    """When the answer arrived or the number failed."""
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
    """JSON: fields that the vendor's page does not list."""
    status: str = ""
    """From here on, for failures only."""
    reason: str = ""
    http_status: int | None = None


Row: TypeAlias = tuple[int, int, bool | None, bytes]
"""A settlement as a table row: key, time (microseconds since 1970), whatsapp (None for a failure), packed bytes. The
middle two are in the bytes, too; they are repeated for SQL."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Packed).decode


def key_of(number: int, endpoint: Endpoint) -> int:
    """Return the key of a national number's answer."""
    return number << KEY_SHIFT | ENDPOINT_CODES[endpoint]


def claim_key(number: int) -> int:
    """Return the key of the claim on a national number, which is one for all endpoints."""
    return number << KEY_SHIFT


def number_of(key: int) -> int:
    """Return the national number of a key."""
    return key >> KEY_SHIFT


def endpoint_of(key: int) -> Endpoint:
    """Return the endpoint of a key."""
    return ENDPOINTS[key & _ENDPOINT_MASK]


def microseconds(seconds: float) -> int:
    """Return seconds since 1970 as stores keep times; exact for any present-day time."""
    if math.isinf(seconds):
        return _ALWAYS if seconds < 0 else _NEVER
    return round(seconds * 1_000_000)


def instant(stored: int) -> datetime:
    """Return the UTC datetime of a stored instant."""
    return _EPOCH + timedelta(0, 0, stored)


def head_of(settlement: Settlement, endpoint: Endpoint, now: float) -> tuple[int, int, bool | None]:
    """Return a settlement's key, its time (for a failure ``now``, in seconds since 1970), and whatsapp."""
    result = settlement.result
    key = settlement.number << KEY_SHIFT | ENDPOINT_CODES[endpoint]
    if isinstance(result, Check):
        return key, (result.checked_at - _EPOCH) // _MICROSECOND, result.whatsapp
    return key | FAILED, _failed_at(result, now), None


def row_of(settlement: Settlement, endpoint: Endpoint, now: float) -> Row:
    """Return the row of a settlement; ``now`` is when a failure happened, in seconds since 1970."""
    return *head_of(settlement, endpoint, now), packed(settlement, now)


def packed(settlement: Settlement, now: float) -> bytes:
    """Return the bytes of a settlement; ``now`` is when a failure happened, in seconds since 1970."""
    result = settlement.result
    request_id = result.request_id
    trace = _trace(request_id)
    fields: tuple[Any, ...]
    # Tuples in the order of the fields, which is faster than creating a _Packed first.
    if isinstance(result, Check):
        fields = (
            result.whatsapp,
            result.checked_at,
            result.status_update,
            result.signature,
            result.business_user,
            result.avatar,
            trace,
            request_id if trace is None else None,
            settlement.calls,
            settlement.possibly_double_charged,
            json.dumps(dict(result.extra), default=str) if result.extra else None,
        )
    else:
        fields = (
            *(None, instant(_failed_at(result, now)), None, None, None, None, trace),
            *(request_id if trace is None else None, settlement.calls, settlement.possibly_double_charged),
            *(None, result.status, result.reason, result.http_status),
        )
    try:
        return _encode(fields)
    except UnicodeEncodeError:
        return _encode(tuple(map(_storable, fields)))


def _failed_at(error: CheckError, now: float) -> int:
    """Return when a failure happened, or for a number that is still pending, when it was last asked."""
    if isinstance(error, StillPending) and error.asked_at is not None:
        return (error.asked_at - _EPOCH) // _MICROSECOND
    return microseconds(now)


def settlement_of(number: int, stored: bytes) -> Settlement:
    """Return the settlement of a row's bytes.

    Raises:
        msgspec.MsgspecError: these bytes are not a settlement.
    """
    try:
        row = _decode(stored)
        extra = _NOTHING if row.extra is None else json.loads(row.extra)
    except (TypeError, ValueError) as error:
        # No UTF-8, no JSON; or no bytes: SQLite gives what a damaged page says it is, a text or a number.
        raise msgspec.ValidationError(str(error)) from error
    request_id = row.request_id or "" if row.trace is None else "TID" + row.trace.hex()
    result: Check | CheckError
    if row.whatsapp is None:
        kind = CHECK_ERRORS.get(row.status, CheckError)
        result = kind(
            row.reason,
            number=f"+51{number}",
            request_id=request_id,
            http_status=row.http_status,
            calls=row.calls,
            possibly_double_charged=row.possibly_double_charged,
        )
        if isinstance(result, StillPending):
            result.asked_at = row.at
    else:
        result = Check(
            number=f"+51{number}",
            whatsapp=row.whatsapp,
            status_update=row.status_update,
            signature=row.signature,
            business_user=row.business_user,
            avatar=row.avatar,
            request_id=request_id,
            checked_at=row.at,
            extra=extra,
        )
    return Settlement(number, result, row.calls, row.possibly_double_charged)


class Choice(Generic[Payload]):
    """Chooses, from what is stored about one number, what a query counts as known."""

    __slots__ = ("_answers", "_failures", "_nos", "_since")

    def __init__(self, query: Query) -> None:
        endpoint: Endpoint = "advanced" if query.endpoint == "cascade" else query.endpoint
        code = ENDPOINT_CODES[endpoint]
        self._answers = frozenset(
            {code, *(ENDPOINT_CODES[other] for other in ALSO_ANSWERED_BY.get(endpoint, ()))}
        )
        # A "no" has no details, so that of a lesser endpoint will do.
        self._nos = frozenset(
            ENDPOINT_CODES[lesser] for lesser, others in ALSO_ANSWERED_BY.items() if endpoint in others
        )
        self._failures = (code | FAILED, _BASIC | FAILED) if query.endpoint == "cascade" else (code | FAILED,)
        self._since = {
            True: microseconds(query.yes_since),
            False: microseconds(query.no_since),
            None: microseconds(query.failed_since),
        }

    def keys(self, number: int) -> list[int]:
        """Return the keys of what may be known about a number."""
        return [number << KEY_SHIFT | low for low in (*self._answers, *self._nos, *self._failures)]

    def all_keys(self, numbers: Iterable[int]) -> list[int]:
        """Return the keys of what may be known about numbers."""
        return [key for number in numbers for key in self.keys(number)]

    def known(self: Choice[bytes], rows: Iterable[Row]) -> dict[int, Settlement]:
        """Return what is known, from the rows about any numbers. Raises what ``settlement_of`` raises."""
        by_number: dict[int, list[Row]] = {}
        for row in rows:
            by_number.setdefault(number_of(row[0]), []).append(row)
        best = {number: self.best(some) for number, some in by_number.items()}
        return {
            number: settlement_of(number, packed) for number, packed in best.items() if packed is not None
        }

    def best(self, rows: Iterable[tuple[int, int, bool | None, Payload]]) -> Payload | None:
        """Return the newest answer that is fresh enough, or else the newest failure that is.

        A failure counts only if no answer to the same question came after it.
        """
        answer: Payload | None = None
        answered_at = fresh_at = lesser_at = _ALWAYS
        failures: list[tuple[int, int, Payload]] = []
        for key, at, whatsapp, payload in rows:
            low = key & _LOW_BITS
            if low & FAILED:
                if low in self._failures and at >= self._since[None]:
                    failures.append((at, low, payload))
                continue
            if low in self._answers or (low in self._nos and not whatsapp):
                answered_at = max(answered_at, at)
                if at >= self._since[whatsapp] and at >= fresh_at:
                    answer, fresh_at = payload, at
            elif low in self._nos:
                lesser_at = at  # an answer to the question of the lesser endpoint only
        if answer is not None:
            return answer
        newest = _ALWAYS
        for at, low, payload in failures:
            since = answered_at if low == self._failures[0] else max(answered_at, lesser_at)
            if at >= since and at >= newest:
                answer, newest = payload, at
        return answer


def _trace(request_id: str) -> bytes | None:
    """Return the vendor's usual request id in 16 bytes; None for any other."""
    if len(request_id) == 35 and request_id[:3] == "TID":
        digits = request_id[3:]
        try:
            trace = bytes.fromhex(digits)
        except ValueError:
            return None
        if trace.hex() == digits:  # fromhex also takes capitals and spaces
            return trace
    return None


def _storable(field: Any) -> Any:
    """Replace lone surrogates: stores keep UTF-8, and one such character must not fail a whole batch."""
    if isinstance(field, str) and not field.isascii():
        return field.encode("utf-8", "replace").decode("utf-8")
    return field
