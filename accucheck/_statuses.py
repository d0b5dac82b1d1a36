"""The status table: what every reply means, in one place.

``_wire`` classifies each reply once, as one row of this table. The row says what happens to the number (its fate),
which error the number or the run ends with, whether the call is charged, whether it proves that the vendor is up, and
where this is known from. ``_decide`` acts on the row; counters, command line and documentation read it.

To add a status, add its row here (and its class in ``_errors``, if it needs one) and its line in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from accucheck._errors import (
    AccucheckError,
    InternalError,
    InvalidArgument,
    KeyExpired,
    NoPermission,
    NotFound,
    OutOfQuota,
    PendingTimeout,
    ProtocolError,
    RateLimited,
    TransportError,
    Unauthorized,
    Undetermined,
)

__all__ = ["CHARGES", "FATES", "Charge", "Fate", "Row", "as_markdown", "row_of_code", "rows"]

Fate: TypeAlias = Literal["answer", "poll", "retry", "slow_down", "ask_once_more", "final", "end"]

FATES: Final[Mapping[Fate, str]] = {
    "answer": "the answer",
    "poll": "asked again until answered",
    "retry": "asked again after a backoff",
    "slow_down": "all calls slow down; asked again",
    "ask_once_more": "asked once more after a long wait",
    "final": "not asked again",
    "end": "the run ends",
}
"""What happens to a number or to the run, in words for the documentation."""

Charge: TypeAlias = Literal["answer", "pending", "refusal", "unknown", "nothing"]

CHARGES: Final[Mapping[Charge, str]] = {
    "answer": "yes",
    "pending": "no",
    "refusal": "no",
    "unknown": "possibly",
    "nothing": "not sent",
}
"""Whether a call is charged, as far as is known: the vendor publishes no price list."""

Source: TypeAlias = Literal["page", "family", "HTTP", "accucheck"]
"""``page``: the vendor's page for this API, which is the contract. ``family``: its pages for other countries, and
services that seem to be the same under other names. ``HTTP``: RFC 9110. ``accucheck``: our own cases."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of reply means."""

    name: str
    """The vendor's word, or ours in the same style."""
    fate: Fate
    error: type[AccucheckError] | None = None
    """What the number (or the run) ends with, if it ends with this reply. None for an answer."""
    message: str = ""
    """What happened and what to do. The vendor's own reason replaces it, or follows it (``Fate`` "end" and
    Undetermined). ``{word}`` is the vendor's word, ``{http}`` the HTTP code."""
    if_all: str = ""
    """What to try if every number ends this way, as a sentence. For rows that leave a number without an answer."""
    http: str = ""
    """The HTTP codes it comes with; only for readers, except where the code alone decides."""
    charge: Charge = "refusal"
    vendor_up: bool = True
    """Whether the reply proves that the vendor is up. Replies that do not may open the circuit."""
    source: Source = "page"
    trust: Literal["high", "medium", "low"] = "high"

    @property
    def draws_retry_budget(self) -> bool:
        """Whether asking again draws on the retry budget, which keeps an outage from multiplying calls."""
        return self.fate == "retry" and not self.vendor_up


OK: Final = Row(name="OK", fate="answer", http="200", charge="answer", trust="medium")
"""``whatsapp`` is yes or no; both are charged ("family", medium)."""

_PAGE: Final = (
    Row(name="PENDING", fate="poll", error=PendingTimeout, http="400", charge="pending"),
    Row(
        name="INVALID_ARGUMENT",
        fate="final",
        error=InvalidArgument,
        message="AccuAuth refuses the number",
        if_all='Try the other encoding of the request (body="json" or body="form"), and check one number by hand.',
        http="400",
    ),
    Row(
        name="UNAUTHORIZED",
        fate="end",
        error=Unauthorized,
        message="AccuAuth does not accept the credentials: check ACCUCHECK_API_ID and ACCUCHECK_API_SECRET",
        http="401",
    ),
    Row(
        name="KEY_EXPIRED",
        fate="end",
        error=KeyExpired,
        message="the AccuAuth API id has expired: renew it with AccuAuth",
        http="401",
    ),
    Row(
        name="NO_PERMISSION",
        fate="end",
        error=NoPermission,
        message="this AccuAuth account is not allowed to use this API: ask AccuAuth to enable it",
        http="403",
    ),
    Row(
        name="OUT_OF_QUOTA",
        fate="end",
        error=OutOfQuota,
        message="the AccuAuth account is out of calls: top it up, then run again",
        http="403",
    ),
    Row(
        name="RATE_LIMIT_EXCEEDED",
        fate="slow_down",
        error=RateLimited,
        message="AccuAuth rate-limited every attempt: lower the rate",
        http="403",
    ),
    Row(
        name="NOT_FOUND",
        fate="end",
        error=NotFound,
        message="AccuAuth does not know this endpoint: check base_url and endpoint",
        http="404",
    ),
    Row(
        name="INTERNAL_ERROR",
        fate="retry",
        error=InternalError,
        message="AccuAuth failed (HTTP {http}) on every attempt: try again later",
        http="500",
        vendor_up=False,
    ),
)
"""The statuses of the vendor's page ("4. Error Codes")."""

_LATER: Final = "AccuAuth cannot check these numbers now: try again later, or ask AccuAuth."

_FAMILY: Final = (
    Row(
        name="ABNORMAL_BEHAVIOURS_DETECTED",
        fate="ask_once_more",
        error=Undetermined,
        message="AccuAuth replied {word} (the same number was requested too often): try again another day",
        if_all=_LATER,
        http="400",
        source="family",
        trust="medium",
    ),
    Row(
        name="QUERY_FAILED",
        fate="retry",
        error=Undetermined,
        message="AccuAuth could not look up the number ({word}) on any attempt: ask again later",
        if_all=_LATER,
        http="400",
        source="family",
        trust="medium",
    ),
    Row(
        name="NOT_HIT",
        fate="final",
        error=Undetermined,
        message="AccuAuth has no data for the number ({word}), so the answer is neither yes nor no",
        if_all=_LATER,
        http="400",
        source="family",
        trust="medium",
    ),
)

STATUSES: Final[Mapping[str, Row]] = MappingProxyType({row.name: row for row in (OK, *_PAGE, *_FAMILY)})
"""By the body's ``status``."""

VALUES: Final[Mapping[str, Row]] = MappingProxyType(
    {
        "checking": Row(
            name="CHECKING",
            fate="poll",
            error=PendingTimeout,
            http="200",
            charge="pending",
            source="family",
            trust="medium",
        ),
        "unavailable": Row(
            name="UNAVAILABLE",
            fate="final",
            error=Undetermined,
            message="AccuAuth could not determine whether the number is on WhatsApp ({word}): try again another day",
            if_all=_LATER,
            http="200",
            source="family",
            trust="medium",
        ),
    }
)
"""By ``result.whatsapp`` of an OK, besides yes and no."""

UNKNOWN: Final = Row(
    name="UNKNOWN",
    fate="ask_once_more",
    error=Undetermined,
    message="AccuAuth replied “{word}”, a status accucheck does not know: ask AccuAuth what it means",
    if_all="Ask AccuAuth what it means.",
    http="any",
    charge="unknown",
    source="accucheck",
)
"""A status, or a value of ``whatsapp``, that is not in this table."""

BAD_RESULT: Final = Row(
    name="BAD_RESULT",
    fate="final",
    error=ProtocolError,
    if_all="Check base_url and endpoint, and send AccuAuth the request id.",
    http="any",
    charge="unknown",
    source="accucheck",
)
"""OK with a result that is missing, for another number, or without a usable ``whatsapp``."""

MALFORMED: Final = Row(
    name="MALFORMED",
    fate="final",
    error=ProtocolError,
    if_all="The server that replied is not AccuAuth's API: check base_url and the proxy.",
    http="any",
    charge="unknown",
    vendor_up=False,
    source="accucheck",
)
"""A whole reply without a status: not the vendor's JSON."""

NOT_SENT: Final = Row(
    name="NOT_SENT",
    fate="retry",
    error=TransportError,
    http="none",
    charge="nothing",
    vendor_up=False,
    source="accucheck",
)
"""No connection, so the request was not sent."""

ANSWER_LOST: Final = Row(
    name="ANSWER_LOST",
    fate="retry",
    error=TransportError,
    http="none",
    charge="unknown",
    vendor_up=False,
    source="accucheck",
)
"""The request may have reached the vendor, but no complete reply came back (connection, timeout, truncation)."""

GATEWAY: Final = Row(
    name="GATEWAY",
    fate="retry",
    error=TransportError,
    http="502, 504, 520, 524",
    charge="unknown",
    vendor_up=False,
    source="HTTP",
)
"""A gateway forwarded the call and got no valid answer (RFC 9110, sections 15.6.3 and 15.6.5; 520 and 524 are
Cloudflare's). The vendor may have answered and charged."""

TOO_MANY_REQUESTS: Final = Row(
    name="TOO_MANY_REQUESTS",
    fate="slow_down",
    error=RateLimited,
    message="HTTP 429 on every attempt: lower the rate",
    http="429",
    source="HTTP",
)

SERVER_ERROR: Final = Row(
    name="SERVER_ERROR",
    fate="retry",
    error=InternalError,
    message="AccuAuth failed (HTTP {http}) on every attempt: try again later",
    http="other 5xx",
    vendor_up=False,
    source="HTTP",
)

REQUEST_TIMEOUT: Final = Row(
    name="REQUEST_TIMEOUT",
    fate="retry",
    error=TransportError,
    http="408",
    vendor_up=False,
    source="HTTP",
)
"""The server did not get the whole request (RFC 9110, section 15.5.9)."""

UNSUPPORTED_BODY: Final = Row(
    name="UNSUPPORTED_BODY",
    fate="final",
    error=ProtocolError,
    if_all='Try the other encoding of the request: body="json" or body="form".',
    http="415",
    source="HTTP",
)
"""The body is not encoded as the vendor wants it (RFC 9110, section 15.5.16)."""

REDIRECT: Final = Row(
    name="REDIRECT",
    fate="final",
    error=ProtocolError,
    if_all="The server that replied is not AccuAuth's API: check base_url and the proxy.",
    http="3xx",
    vendor_up=False,
    source="HTTP",
)
"""Never followed: it would carry the credentials to another host."""

_CODES: Final = {
    408: REQUEST_TIMEOUT,
    415: UNSUPPORTED_BODY,
    429: TOO_MANY_REQUESTS,
    **dict.fromkeys((502, 504, 520, 524), GATEWAY),
}


def row_of_code(http_status: int) -> Row | None:
    """Return the row of a reply whose body has no known status; None if its HTTP code does not help either."""
    row = _CODES.get(http_status)
    if row is None and http_status >= 500:
        return SERVER_ERROR
    return row


def rows() -> list[Row]:
    """Return the whole table, the page's statuses first."""
    return [
        *(OK, *_PAGE, *VALUES.values(), *_FAMILY),
        *(UNKNOWN, BAD_RESULT, MALFORMED),
        *(TOO_MANY_REQUESTS, GATEWAY, SERVER_ERROR, REQUEST_TIMEOUT, UNSUPPORTED_BODY, REDIRECT),
        *(ANSWER_LOST, NOT_SENT),
    ]


def as_markdown() -> str:
    """Return the table as Markdown, for the documentation."""
    lines = [
        "| reply | HTTP | what happens | ends with | charged | known from | trust |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows():
        error = f"`{row.error.__name__}`" if row.error is not None else "`Check`"
        cells = (
            f"`{row.name}`",
            row.http,
            FATES[row.fate],
            error,
            CHARGES[row.charge],
            row.source,
            row.trust,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
