"""Text for a terminal: nothing that a stranger wrote can move the cursor, change colors or reverse the line.

A signature is written by the owner of the phone. An escape sequence in it could repaint the screen, set the window
title or, on old terminals, type commands (CVE-2003-0063 and its many successors), and a bidi override could make a
"no" look like something else.
"""

from __future__ import annotations

import io
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, BinaryIO

__all__ = [
    "TerminalWriter",
    "age",
    "count",
    "duration",
    "in_money",
    "json_line",
    "short_path",
    "terminal_safe",
    "thousands",
    "wrapped",
]

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI … final byte (ECMA-48, 5.4)
    # OSC, DCS, SOS, PM, APC and their text. The end is optional, so that the search is linear.
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"  # every other escape
)
_JOINERS = "\u200c\u200d"  # they make up family emoji and Persian or Indic words
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_UNSAFE_IN_JSON = re.compile(
    "[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)


def terminal_safe(text: str, limit: int | None = None) -> str:
    """Return ``text`` as one harmless line: no escape sequence, no control or bidi character.

    Line breaks and tabs become spaces; letters, accents, emoji and right-to-left script stay. With
    ``limit`` it is shortened to so many characters.
    """
    if not (text.isascii() and text.isprintable()):
        text = _ESCAPE_SEQUENCE.sub("", text)
        text = "".join(" " if c in "\t\n\v\f\r\x85\u2028\u2029" else c for c in text)
        text = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in _UNSAFE_CATEGORIES)
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + "…"
    return text


def json_line(record: Mapping[str, Any]) -> str:
    """Return ``record`` as one line of JSON that is also safe to show on a terminal.

    JSON itself escapes only the ASCII controls; the others that could drive a terminal are written as
    ``\\uXXXX`` too, which any JSON reader turns back into the same text.
    """
    return _escaped(json.dumps(record, ensure_ascii=False, default=str))


class TerminalWriter(io.RawIOBase):
    """Standard output that is a terminal: lines of JSON or CSV pass through it and come out harmless.

    Control and bidi characters are shown as ``\\uXXXX``. A file or a pipe gets the bytes unchanged.
    """

    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = bytes(data).decode("utf-8", "replace")
        self._target.write(_escaped(_CONTROL.sub(_escape, text)).encode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        if not self._target.closed:
            self._target.flush()


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _escaped(text: str) -> str:
    return _UNSAFE_IN_JSON.sub(_escape, text)


def thousands(number: int) -> str:
    """Return ``number`` with a comma between thousands."""
    return f"{number:,}"


def count(number: int, what: str, several: str = "") -> str:
    """Return ``1 row`` or ``1,200 rows``."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def duration(seconds: float) -> str:
    """Return a length of time in words: ``8 s``, ``4 min 05 s``, ``3 h 20 min``, ``2 d 04 h``."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02} h"


def age(then: datetime, now: datetime | None = None) -> str:
    """Return how long ago ``then`` is: ``3 h``, ``12 days``."""
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    if seconds < 3600:
        return count(max(round(seconds / 60), 0), "minute")
    return (
        count(round(seconds / 3600), "hour")
        if seconds < 2 * 86_400
        else count(round(seconds / 86_400), "day")
    )


def short_path(path: str) -> str:
    """Return ``path`` with the home directory as ``~``."""
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if home != "~" and path.startswith(f"{home}{os.sep}") else path


def in_money(amount: Decimal) -> str:
    """Return an amount with a comma between thousands, and with more than two decimals only where they matter."""
    rounded = f"{amount:,.2f}"
    return rounded if amount >= 1 or not amount else f"{amount.normalize():,f}"


def wrapped(facts: Iterable[str], width: int) -> list[str]:
    """Return ``facts`` joined into lines of at most ``width``; no fact is broken or left out."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return lines
