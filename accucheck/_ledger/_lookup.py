"""Finding what is known among many numbers, in few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
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
_CHECKED_AT: Final = 7
"""Where an answer's row has it."""

_ANSWERS: Final = f"SELECT {ANSWER_COLUMNS} FROM answers WHERE key IN"
_JOURNAL: Final = f"SELECT {ANSWER_COLUMNS} FROM journal WHERE id IN"
_FAILURES: Final = f"SELECT {FAILURE_COLUMNS} FROM failures WHERE key IN"
_STATEMENTS: Final = {
    (select, width): f"{select} ({','.join('?' * width)})"
    for select in (_ANSWERS, _JOURNAL, _FAILURES)
    for width in _WIDTHS
}


class Lookup:
    """Reads answers and failures through one connection, for one endpoint.

    ``recent`` and ``merging`` tell which answers are still in the journal: key -> journal id, the first one
    newer. Their owner changes them.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        endpoint: Endpoint,
        with_failures: bool,
        recent: Mapping[int, int],
    ) -> None:
        self.recent = recent
        self.merging: Mapping[int, int] = {}
        self._connection = connection
        self._with_failures = with_failures
        self._code = ENDPOINT_CODES[endpoint]
        # An advanced answer holds all that a basic one does; not the other way round.
        self._codes = tuple(ENDPOINT_CODES.values()) if endpoint == "basic" else (self._code,)

    def find(self, numbers: Sequence[int], since: int) -> dict[int, Settlement]:
        """Return the answers got, and the failures met, at or after ``since`` (microseconds since 1970).

        An answer wins over a failure, and of two answers the newer one.
        """
        found: dict[int, Settlement] = {}
        for row in self._answers([number << KEY_SHIFT | code for code in self._codes for number in numbers]):
            if row[_CHECKED_AT] >= since:
                settlement = answer_settlement(row)
                if _is_newer(settlement, found.get(settlement.number)):
                    found[settlement.number] = settlement
        if self._with_failures and len(found) < len(numbers):
            missing = [number << KEY_SHIFT | self._code for number in numbers if number not in found]
            for row in self._rows(_FAILURES, missing):
                if row[5] >= since:
                    settlement = failure_settlement(row)
                    found[settlement.number] = settlement
        return found

    def _answers(self, keys: list[int]) -> Iterator[Any]:
        recent, merging = self.recent, self.merging
        if recent or merging:
            places = [recent.get(key) or merging.get(key) or 0 for key in keys]  # ids begin at 1
            if any(places):
                yield from self._rows(_JOURNAL, [place for place in places if place])
                keys = [key for key, place in zip(keys, places, strict=True) if not place]
        yield from self._rows(_ANSWERS, keys)

    def _rows(self, select: str, wanted: list[int]) -> Iterator[Any]:
        start, end = 0, len(wanted)
        while start < end:
            width = next((width for width in _WIDTHS if width <= end - start), _WIDTHS[-1])
            some = wanted[start : start + width]
            some += some[:1] * (width - len(some))
            yield from self._connection.execute(_STATEMENTS[select, width], some).fetchall()
            start += width


def _is_newer(settlement: Settlement, other: Settlement | None) -> bool:
    if other is None:
        return True
    assert isinstance(settlement.result, Check)
    assert isinstance(other.result, Check)
    return settlement.result.checked_at > other.result.checked_at
