"""Finding what is known among many numbers, in few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

from accucheck._models import Check, Settlement
from accucheck._store._old import _journal
from accucheck._store._old._rows import (
    ENDPOINT_CODES,
    FAILURE_COLUMNS,
    KEY_SHIFT,
    Endpoint,
    failure_settlement,
    instant,
    unpacked,
)

_WIDTHS: Final = (256, 32, 4)
"""Keys a statement. Few widths, so that each statement is prepared once; the last one is filled up."""
ALWAYS: Final = -(1 << 63)
"""The instant before all others."""
_FIRST_INSTANT: Final = -62_135_596_800_000_000
"""1 January of the year 1: no datetime is older."""
_FAILED_AT: Final = FAILURE_COLUMNS.split(", ").index("failed_at")
_NOTHING: Final[Mapping[int, bytes]] = {}

_ANSWERS: Final = "SELECT key, answer FROM answers WHERE key IN"
_FAILURES: Final = f"SELECT {FAILURE_COLUMNS} FROM failures WHERE key IN"  # noqa: S608
_STATEMENTS: Final = {
    (select, width): f"{select} ({','.join('?' * width)})"
    for select in (_ANSWERS, _FAILURES)
    for width in _WIDTHS
}


class JournalReader:
    """The answers that are still in the journal, kept up with what a run writes meanwhile."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._answers: dict[int, bytes] = {}
        self._first = self._last = 0

    def read(self) -> Mapping[int, bytes]:
        """Return packed answers by key, as of the transaction that the connection is in."""
        (first,) = self._connection.execute("SELECT min(id) FROM journal").fetchone()
        if first != self._first:  # the older rows have been moved
            self._answers.clear()
            self._first, self._last = first, 0
        for row_id, answers in _journal.read(self._connection, after=self._last):
            self._answers.update(answers)
            self._last = row_id
        return self._answers


class Lookup:
    """Reads answers and failures through one connection, for one endpoint.

    ``recent`` and ``moving`` are the answers that are still in the journal, packed, by key, the first ones newer.
    Their owner changes them.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, endpoint: Endpoint, recent: Mapping[int, bytes] = _NOTHING
    ) -> None:
        self.recent = recent
        self.moving = _NOTHING
        self.table_is_empty = False
        """Nothing was ever moved, as in the first run of most lists: half of the cost of a number not known."""
        self.failures_known = True
        """Whether there may be a failure; without, the other half."""
        self._connection = connection
        self._code = ENDPOINT_CODES[endpoint]
        # An advanced answer holds all that a basic one does; not the other way round.
        self._codes = tuple(ENDPOINT_CODES.values()) if endpoint == "basic" else (self._code,)

    def find(self, numbers: Sequence[int], *, since: int, failed_since: int) -> dict[int, Settlement]:
        """Return the answers got, and the failures met, at or after an instant (microseconds since 1970).

        An answer wins over a failure, and of two answers the newer one. ``failed_since`` holds for failures,
        besides ``since``.

        Raises:
            sqlite3.Error: the file cannot be read.
            msgspec.MsgspecError: an answer cannot be read.
        """
        found: dict[int, Settlement] = {}
        oldest = instant(since) if since > _FIRST_INSTANT else None
        for key, answer in self._answers(
            [number << KEY_SHIFT | code for code in self._codes for number in numbers]
        ):
            number = key >> KEY_SHIFT
            settlement = unpacked(number, answer)
            if oldest is not None and _checked_at(settlement) < oldest:
                continue
            if number in found and _checked_at(settlement) <= _checked_at(found[number]):
                continue  # the other endpoint's answer
            found[number] = settlement
        if self.failures_known and len(found) < len(numbers):
            failed_since = max(since, failed_since)
            missing = [number << KEY_SHIFT | self._code for number in numbers if number not in found]
            for row in self._rows(_FAILURES, missing):
                if row[_FAILED_AT] >= failed_since:
                    settlement = failure_settlement(row)
                    found[settlement.number] = settlement
        return found

    def _answers(self, keys: list[int]) -> Iterable[tuple[int, bytes]]:
        recent, moving = self.recent, self.moving
        if not (recent or moving):
            return () if self.table_is_empty else self._rows(_ANSWERS, keys)
        here = {key: recent[key] for key in keys if key in recent}
        if moving:
            here = {key: moving[key] for key in keys if key in moving} | here
        if self.table_is_empty:
            return here.items()
        return chain(here.items(), self._rows(_ANSWERS, [key for key in keys if key not in here]))

    def _rows(self, select: str, wanted: list[int]) -> list[Any]:
        rows: list[Any] = []
        start, end = 0, len(wanted)
        while start < end:
            width = next((width for width in _WIDTHS if width <= end - start), _WIDTHS[-1])
            some = wanted[start : start + width]
            some += some[:1] * (width - len(some))
            rows += self._connection.execute(_STATEMENTS[select, width], some)
            start += width
        return rows


def _checked_at(settlement: Settlement) -> datetime:
    assert isinstance(settlement.result, Check)
    return settlement.result.checked_at
