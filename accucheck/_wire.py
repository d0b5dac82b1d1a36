"""Request body and reply bytes <-> values. Knows the vendor's JSON; imports no HTTP library."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from accucheck._models import Check

BodyStyle: TypeAlias = Literal["form", "json"]
Phase: TypeAlias = Literal["connect", "write", "read", "timeout", "protocol", "truncated"]


class Answered(msgspec.Struct, frozen=True):
    """``OK`` with a result that belongs to the number asked."""

    check: Check


class StatusReply(msgspec.Struct, frozen=True):
    """A well-formed reply whose status is not OK, or whose HTTP code alone decides (5xx, 429)."""

    status: str
    http_status: int
    reason: str = ""
    request_id: str = ""
    retry_after: float | None = None
    """Seconds, from the Retry-After header (RFC 9110, section 10.2.3)."""


class Malformed(msgspec.Struct, frozen=True):
    """A whole reply that the vendor's page does not allow. It may have been charged."""

    http_status: int
    seen: str
    """What was wrong, shortened, safe to print."""
    request_id: str = ""


class Broken(msgspec.Struct, frozen=True):
    """No whole reply: the exchange failed on the way."""

    phase: Phase
    message: str
    sent: bool
    """Whether the request may have reached the vendor, so that it may have been charged."""


Reply: TypeAlias = Answered | StatusReply | Malformed | Broken
