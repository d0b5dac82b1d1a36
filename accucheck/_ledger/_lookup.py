"""Finding what is known among many numbers, in few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from accucheck._ledger._rows import (
    ANSWER_COLUMNS,
    ENDPOINT_CODES,
    FAILURE_COLUMNS,
    KEY_SHIFT,
    Endpoint,
    answer_settlement,
    failure_settlement,
)
from accucheck._models import Check, Settlement

_WIDTHS: Final = (256, 32, 4)
"""Keys a statement. Few widths, so that each statement is prepared once; the last one is filled up."""
ALWAYS: Final = -(1 << 63)
"""The instant before all others."""
_CHECKED_AT: Final = ANSWER_COLUMNS.split(", ").index("checked_at")
_FAILED_AT: Final = FAILURE_COLUMNS.split(", ").index("failed_at")
_NOWHERE: Final[Mapping[int, int]] = {}

_ANSWERS: Final = f"SELECT {ANSWER_COLUMNS} FROM answers WHERE key IN"  # noqa: S608
_JOURNAL: Final = f"SELECT {ANSWER_COLUMNS} FROM journal WHERE id IN"  # noqa: S608
_FAILURES: Final = f"SELECT {FAILURE_COLUMNS} FROM failures WHERE key IN"  # noqa: S608
_STATEMENTS: Final = {
    (select, width): f"{select} ({','.join('?' * width)})"
    for select in (_ANSWERS, _JOURNAL, _FAILURES)
    for width in _WIDTHS
}


class JournalIndex:
    """Where the answers are that are still in the journal, kept up with what a run writes meanwhile."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._places: dict[int, int] = {}
        self._first = self._last = 0

    def read(self) -> Mapping[int, int]:
        """Return key -> journal id as of the transaction that the connection is in."""
        first, last = self._connection.execute(
            "SELECT (SELECT min(id) FROM journal), (SELECT max(id) FROM journal)"
        ).fetchone()
        if first != self._first:  # the older rows have been moved
            self._places.clear()
            self._first, self._last = first, 0
        if last is not None and last > self._last:
            rows = self._connection.execute(
                "SELECT key, id FROM journal WHERE id > ? ORDER BY id", (self._last,)
            )
            self._places.update(rows.fetchall())
            self._last = last
        return self._places


class Lookup:
    """Reads answers and failures through one connection, for one endpoint.

    ``recent`` and ``merging`` tell which answers are still in the journal: key -> journal id, the first one
    newer. Their owner changes them.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, endpoint: Endpoint, recent: Mapping[int, int] = _NOWHERE
    ) -> None:
        self.recent = recent
        self.merging = _NOWHERE
        self._connection = connection
        self._code = ENDPOINT_CODES[endpoint]
        # An advanced answer holds all that a basic one does; not the other way round.
        self._codes = tuple(ENDPOINT_CODES.values()) if endpoint == "basic" else (self._code,)

    def find(self, numbers: Sequence[int], *, since: int, failed_since: int) -> dict[int, Settlement]:
        """Return the answers got, and the failures met, at or after an instant (microseconds since 1970).

        An answer wins over a failure, and of two answers the newer one. ``failed_since`` holds for failures,
        besides ``since``.
        """
        found: dict[int, Settlement] = {}
        for row in self._answers([number << KEY_SHIFT | code for code in self._codes for number in numbers]):
            if row[_CHECKED_AT] < since:
                continue
            settlement = answer_settlement(row)
            if len(self._codes) == 1 or _is_newer(settlement, found.get(settlement.number)):
                found[settlement.number] = settlement
        if len(found) < len(numbers):
            failed_since = max(since, failed_since)
            missing = [number << KEY_SHIFT | self._code for number in numbers if number not in found]
            for row in self._rows(_FAILURES, missing):
                if row[_FAILED_AT] >= failed_since:
                    settlement = failure_settlement(row)
                    found[settlement.number] = settlement
        return found

    def _answers(self, keys: list[int]) -> list[Any]:
        recent, merging = self.recent, self.merging
        if not (recent or merging):
            return self._rows(_ANSWERS, keys)
        places = [recent.get(key) or merging.get(key) or 0 for key in keys]  # ids begin at 1
        here = [place for place in places if place]
        if not here:
            return self._rows(_ANSWERS, keys)
        moved = [key for key, place in zip(keys, places, strict=True) if not place]
        return self._rows(_JOURNAL, here) + self._rows(_ANSWERS, moved)

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


def _is_newer(settlement: Settlement, other: Settlement | None) -> bool:
    if other is None:
        return True
    assert isinstance(settlement.result, Check)
    assert isinstance(other.result, Check)
    return settlement.result.checked_at > other.result.checked_at
