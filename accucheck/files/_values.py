"""A cell of one format as the text that another format shows."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from functools import lru_cache

__all__ = ["as_text", "iso_date", "iso_moment", "yes_or_no"]

yes_or_no: dict[bool | None, str] = {True: "yes", False: "no", None: ""}
"""The vendor's words, for formats that hold text."""


def as_text(value: object) -> str:
    """Return ``value`` as text: None as nothing, times in ISO 8601, 1.0 as ``1``, lists as JSON."""
    match value:
        case str():
            return value if value.isascii() else _storable(value)
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case date() | datetime() | time():
            return value.isoformat()
        case dict() | list() | tuple():
            return _storable(json.dumps(value, ensure_ascii=False, default=str))
        case bytes():
            return value.decode("utf-8", "replace")
        case _:
            return str(value)


def _storable(text: str) -> str:
    """Replace half surrogate pairs, which JSON can spell and no encoding can write."""
    return text.encode("utf-8", "replace").decode()


@lru_cache(4096)
def iso_date(day: date | None) -> str:
    """Return ``2023-12-31``; few dates fill a list, so they are kept."""
    return day.isoformat() if day else ""


def iso_moment(moment: datetime | None) -> str:
    """Return ``2026-11-26T08:47:23Z``."""
    if moment is None:
        return ""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds")[:19] + "Z"
