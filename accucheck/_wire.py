"""Request body and reply bytes <-> values. Knows the vendor's JSON; imports no HTTP library.

A reply is classified by the body's ``status``, never by the HTTP code: HTTP 400 is both PENDING and INVALID_ARGUMENT,
HTTP 403 both OUT_OF_QUOTA and RATE_LIMIT_EXCEEDED ("4. Error Codes" of the vendor's page). The HTTP code decides only
if the body has no known status: 5xx, 429, redirects. Every reply value has its ``row`` of the status table; other
modules act on it.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Final, Literal, TypeAlias

import msgspec

from accucheck._models import Check
from accucheck._statuses import (
    ANSWER_LOST,
    BAD_RESULT,
    GATEWAY,
    MALFORMED,
    NOT_SENT,
    OK,
    REDIRECT,
    STATUSES,
    UNKNOWN,
    UNSUPPORTED_BODY,
    VALUES,
    Row,
    row_of_code,
)

BodyStyle: TypeAlias = Literal["form", "json"]
Phase: TypeAlias = Literal["connect", "write", "read", "timeout", "protocol", "truncated", "gateway"]

CONTENT_TYPES: Final[dict[BodyStyle, str]] = {
    "form": "application/x-www-form-urlencoded",
    "json": "application/json",
}

_SHOWN_CHARACTERS = 120


_BY_STATUS: Final = Row(name="", fate="final")


class Answered(msgspec.Struct, frozen=True, gc=False):
    """``OK`` with a result for the number that was asked."""

    row: ClassVar[Row] = OK
    check: Check
    http_status: int = 200


class StatusReply(msgspec.Struct, frozen=True, gc=False):
    """A reply classified by its status, by a value of ``whatsapp``, or only by its HTTP code."""

    status: str
    """The vendor's own word, safe to print; the row's name if it gave none."""
    http_status: int
    reason: str = ""
    request_id: str = ""
    retry_after: float | None = None
    """Seconds, from the Retry-After header (RFC 9110, section 10.2.3)."""
    row: Row = _BY_STATUS
    """Default: the row of the status."""

    def __post_init__(self) -> None:
        if self.row is _BY_STATUS:
            msgspec.structs.force_setattr(self, "row", STATUSES.get(self.status, UNKNOWN))


class Malformed(msgspec.Struct, frozen=True, gc=False):
    """A whole reply that the vendor's page does not allow. It may have been charged."""

    http_status: int
    reason: str
    """What was wrong, shortened, safe to print."""
    request_id: str = ""
    row: Row = MALFORMED

    retry_after: ClassVar[float | None] = None


_NOT_SENT: Final = "cancelled before a byte was sent"


def not_sent(error: asyncio.CancelledError) -> asyncio.CancelledError:
    """Return a cancellation which says that the call was not made, so it cannot have been charged.

    It has asyncio's own class: ``asyncio.timeout`` turns only that into a TimeoutError.
    """
    return asyncio.CancelledError(*error.args, _NOT_SENT)


def was_not_sent(error: BaseException) -> bool:
    """Return whether ``error`` comes from ``not_sent``."""
    return isinstance(error, asyncio.CancelledError) and _NOT_SENT in error.args


class Broken(msgspec.Struct, frozen=True, gc=False):
    """No complete reply: the exchange failed on the way."""

    phase: Phase
    message: str
    sent: bool
    """Whether the request may have reached the vendor, so that it may have been charged."""
    retry_after: float | None = None
    """Seconds, if a gateway sent Retry-After."""
    http_status: int | None = None
    """The HTTP code of the gateway or of a reply that was cut off."""

    request_id: ClassVar[str] = ""

    @property
    def row(self) -> Row:
        """The row of the status table."""
        if self.phase == "gateway":
            return GATEWAY
        return ANSWER_LOST if self.sent else NOT_SENT

    @property
    def reason(self) -> str:
        """What happened, in one clause."""
        return f"{self.phase} failed: {self.message}"


NoAnswer: TypeAlias = StatusReply | Malformed | Broken
Reply: TypeAlias = Answered | NoAnswer


class _Result(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """``result`` exactly as the page specifies it. Anything else takes the slow path, which keeps it."""

    number: str = ""
    whatsapp: str = ""
    status_update: str | None = None
    signature: str | None = None
    business_user: str | None = None
    avatar: str | None = None


class _Envelope(msgspec.Struct, gc=False):
    status: str
    result: _Result | None = None
    request_id: str = ""
    reason: str = ""


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_anything = msgspec.json.Decoder().decode
_YES_NO: Final = {"yes": True, "no": False}


def encode_number(style: BodyStyle, national: str) -> bytes:
    """Return the request body for a national number, without country code ("2.2 Request Body").

    ``callback`` is "not supported yet" on the vendor's page, so it is not sent.
    """
    if style == "form":
        return b"number=" + national.encode("ascii")
    return b'{"number":"' + national.encode("ascii") + b'"}'


def utc_now() -> datetime:
    return datetime.now(UTC)


def decode_reply(
    national: str,
    http_status: int,
    body: bytes,
    retry_after: str | None = None,
    *,
    now: Callable[[], datetime] = utc_now,
) -> Reply:
    """Turn one whole reply into a value; never raises, whatever the bytes.

    ``national`` is the number that was asked for; a result for another one is ``Malformed``.
    ``retry_after`` is the text of that header: seconds or an HTTP date.
    """
    if http_status == 200:
        try:
            envelope = _decode_envelope(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # extra fields, other types, a BOM or bad UTF-8: the slow path looks closer
        else:
            result = envelope.result
            if (
                envelope.status == "OK"
                and result is not None
                and result.number in ("+51" + national, national)
            ):
                whatsapp = _YES_NO.get(result.whatsapp)
                if whatsapp is not None:
                    check = _plain_check(national, whatsapp, result, envelope.request_id, now())
                    if check is not None:
                        return Answered(check)
    return _decode_closely(national, http_status, body, retry_after, now)


def _plain_check(
    national: str, whatsapp: bool, result: _Result, request_id: str, at: datetime
) -> Check | None:
    """Return the record of a result if every field has a form that the page shows, else None."""
    status_update = None
    if result.status_update:
        status_update = _date(result.status_update)
        if status_update is None:
            return None
    business_user = avatar = None
    if result.business_user:
        business_user = _YES_NO.get(result.business_user)
        if business_user is None:
            return None
    if result.avatar:
        avatar = _YES_NO.get(result.avatar)
        if avatar is None:
            return None
    return Check(
        number="+51" + national,
        whatsapp=whatsapp,
        status_update=status_update,
        signature=result.signature,
        business_user=business_user,
        avatar=avatar,
        request_id=request_id,
        checked_at=at,
    )


def _decode_closely(
    national: str, http_status: int, body: bytes, retry_after: str | None, now: Callable[[], datetime]
) -> Reply:
    if 300 <= http_status < 400:
        return Malformed(
            http_status, f"a redirect (HTTP {http_status}), which is never followed", row=REDIRECT
        )
    document, problem = _parse(body)
    status = document.get("status") if isinstance(document, dict) else None
    word, request_id = "", ""
    if isinstance(document, dict) and isinstance(status, str):
        request_id = _text(document.get("request_id"))
        word = _shorten(status.strip())
        row = STATUSES.get(word.upper())
        if row is OK:
            return _decode_result(national, http_status, document, request_id, now)
        if row is not None:
            wait = parse_retry_after(retry_after, now)
            reason = _shorten(_text(document.get("reason")))
            return StatusReply(row.name, http_status, reason, request_id, wait, row)
    row = row_of_code(http_status)
    if row is not None:
        wait = parse_retry_after(retry_after, now)
        if row is GATEWAY:
            lost = f"HTTP {http_status}: the answer was lost in transit"
            return Broken("gateway", lost, True, wait, http_status)
        if row is UNSUPPORTED_BODY:
            return Malformed(http_status, f"HTTP 415 (unsupported body): {_excerpt(body)}", request_id, row)
        return StatusReply(row.name, http_status, "", request_id, wait, row)
    if problem == "truncated":
        cut = f"HTTP {http_status} with JSON cut off after {len(body)} bytes"
        return Broken("truncated", cut, sent=True, http_status=http_status)
    if problem is not None:
        return Malformed(http_status, f"HTTP {http_status} with a body that is {problem}: {_excerpt(body)}")
    if word:
        assert isinstance(document, dict)
        wait = parse_retry_after(retry_after, now)
        reason = _shorten(_text(document.get("reason")))
        return StatusReply(word, http_status, reason, request_id, wait, UNKNOWN)
    return Malformed(http_status, f"HTTP {http_status} with no status: {_excerpt(body)}", request_id)


def _decode_result(
    national: str,
    http_status: int,
    document: dict[str, Any],
    request_id: str,
    now: Callable[[], datetime],
) -> Reply:
    result = document.get("result")
    if not isinstance(result, dict):
        return Malformed(http_status, "OK without a result", request_id, BAD_RESULT)
    number = _text(result.get("number"))
    # A reply without a number cannot belong to another one: each connection carries one request at a time.
    if number and not _is_same_number(number, national):
        return Malformed(http_status, "OK with the result for a different number", request_id, BAD_RESULT)
    stated = result.get("whatsapp")
    word = stated.strip() if isinstance(stated, str) else ""
    whatsapp = _YES_NO.get(word.lower())
    if whatsapp is None:
        if not word:
            seen = f"whatsapp is neither yes nor no: {_shorten(repr(stated))}"
            return Malformed(http_status, seen, request_id, BAD_RESULT)
        row = VALUES.get(word.lower(), UNKNOWN)
        return StatusReply(_shorten(word), http_status, request_id=request_id, row=row)
    extra = {
        name: _json_ready(value) for name, value in result.items() if name not in _Result.__struct_fields__
    }
    readers: dict[str, Callable[[str], Any]] = {
        "status_update": _date,
        "business_user": _flag,
        "avatar": _flag,
    }
    fields: dict[str, Any] = {}
    for name, read in readers.items():
        raw = result.get(name)
        value = read(_text(raw)) if raw not in (None, "") else None
        if value is None and raw not in (None, ""):
            extra[name] = _json_ready(raw)  # paid for: kept unchanged, though we cannot read it
        fields[name] = value
    signature = result.get("signature")
    return Answered(
        Check(
            number="+51" + national,
            whatsapp=whatsapp,
            signature=None if signature is None else _text(signature),
            request_id=request_id,
            checked_at=now(),
            extra=extra,
            **fields,
        ),
        http_status,
    )


def _parse(body: bytes) -> tuple[Any, str | None]:
    """Return (document, None), or (None, what is wrong)."""
    try:
        document = _decode_anything(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # A BOM, or bad UTF-8 inside a field. The answer was paid for, so accept replacement characters.
        text = body.decode("utf-8-sig", errors="replace").strip()
        if not text:
            return None, "empty"
        try:
            # strict=False lets a raw control character inside a signature pass.
            document = _without_lone_surrogates(json.loads(text, strict=False))
        except json.JSONDecodeError as error:
            return None, "truncated" if text.startswith("{") and _ends_early(text, error) else "not JSON"
        except RecursionError:
            return None, "nested too deeply"
        except ValueError:  # a number of more digits than Python reads
            return None, "not JSON"
    except RecursionError:
        return None, "nested too deeply"
    if body.count(b"[") + body.count(b"{") > _DEEPEST and _is_deeper(document, _DEEPEST):
        # Storing or printing it later would overflow the stack.
        return None, "nested too deeply"
    return document, None


def _without_lone_surrogates(document: Any) -> Any:
    """Replace lone surrogates, from an escape such as d800: no file or ledger could store them."""
    text = json.dumps(document, ensure_ascii=False)
    return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


_DEEPEST: Final = 64


def _is_deeper(document: object, levels: int) -> bool:
    if not isinstance(document, dict | list):
        return False
    inner = document.values() if isinstance(document, dict) else document
    return levels == 0 or any(_is_deeper(value, levels - 1) for value in inner)


_CUT_TOKEN: Final = re.compile(
    r"t(r(u)?)?|f(a(l(s)?)?)?|n(u(l)?)?"  # true, false, null
    r"|-|\.|[eE][-+]?"  # a number: the decoder has already read its digits
    r"|u[0-9a-fA-F]{0,4}|"  # an escape after its backslash; or nothing
)


def _ends_early(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the JSON is invalid only because it was cut off."""
    return error.msg.startswith("Unterminated string") or _CUT_TOKEN.fullmatch(text, error.pos) is not None


_MASKED = re.compile(r"[Xx*•]")


def _is_same_number(answered: str, national: str) -> bool:
    """Compare by digits; the vendor may add the country code, and its page masks digits as X."""
    digits = re.sub(r"[^0-9Xx*•]", "", answered)
    for prefix in ("", "51", "0051"):
        wanted = prefix + national
        if len(digits) == len(wanted):
            return all(a == b or _MASKED.match(a) is not None for a, b in zip(digits, wanted, strict=True))
    return False


def _date(text: str) -> date | None:
    """Read ``YYYYMMDD`` ("Status updated date, such as 20231212")."""
    if len(text) != 8 or not text.isdigit():
        return None  # fromisoformat would read other forms of ISO 8601, too
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _flag(text: str) -> bool | None:
    return _YES_NO.get(text.strip().lower())


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a number that was written as 51987654321.0
    return value if isinstance(value, str) else "" if value is None else str(value)


def _json_ready(value: Any) -> Any:
    """Return a value with NaN and infinities as text: Python reads them from JSON, but JSON has no form for them."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case list():
            return [_json_ready(one) for one in value]
        case dict():
            return {name: _json_ready(one) for name, one in value.items()}
        case _:
            return value


def parse_retry_after(text: str | None, now: Callable[[], datetime] = utc_now) -> float | None:
    """Return the seconds that a Retry-After header asks for, or None (RFC 9110, section 10.2.3)."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    # Imported here because hardly any reply needs it, and the import takes time.
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if at.tzinfo is None:  # "-0000": the sender does not know its zone; HTTP dates are GMT
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - now()).total_seconds())


def _shorten(text: str) -> str:
    """Shorten to one line and remove terminal control characters."""
    line = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
    return line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"


def _excerpt(body: bytes) -> str:
    return repr(_shorten(" ".join(body[:400].decode("utf-8", errors="replace").split())))
