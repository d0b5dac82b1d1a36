"""Finding what is known among many numbers, in few statements."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from accucheck._ledger._rows import (
    ANSWER_COLUMNS,
    FAILURE_COLUMNS,
    AnswerRow,
    Endpoint,
    answer_settlement,
    failure_settlement,
    key_of,
)
from accucheck._models import Check, Settlement

_WIDTHS: Final = (256, 32, 4)
"""Keys a statement. Few widths, so that each statement is prepared once; the last one is filled up."""

_NO_KEYS: Final[Mapping[int, int]] = {}


def rows_by_integer(
    connection: sqlite3.Connection, select: str, wanted: Sequence[int]
) -> Iterator[tuple[int, ...]]:
    """Run ``select … IN (?, …)`` over the ``wanted`` integers.

    ``select`` ends before the parenthesis.
    """
    start, left = 0, len(wanted)
    while left > 0:
        width = next((width for width in _WIDTHS if width <= left), _WIDTHS[-1])
        some = wanted[start : start + width]
        if len(some) < width:
            some = [*some, *[some[0]] * (width - len(some))]
        # The text holds question marks and nothing else that was not written in this package.
        yield from connection.execute(f"{select} ({','.join('?' * width)})", some).fetchall()  # noqa: S608
        start += width
        left -= width


class Lookup:
    """Reads answers and failures through one connection.

    ``recent`` tells which answers are still in the journal: key -> journal id. The caller may change it.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        endpoint: Endpoint,
        failures: bool,
        recent: Mapping[int, int] = _NO_KEYS,
    ) -> None:
        self._connection = connection
        self._failures = failures
        self._own = endpoint
        # An advanced answer holds all that a basic one does; not the other way round.
        self._endpoints: tuple[Endpoint, ...] = ("advanced", "basic") if endpoint == "basic" else (endpoint,)
        self.recent = recent
        self.merging: Mapping[int, int] = _NO_KEYS

    def find(self, numbers: Sequence[int], since: int) -> dict[int, Settlement]:
        """Return the answers got, and the failures met, at or after ``since`` (microseconds since 1970).

        An answer wins over a failure; of two answers the newer one.
        """
        found: dict[int, Settlement] = {}
        for row in self._answer_rows(
            [key_of(number, endpoint) for number in numbers for endpoint in self._endpoints]
        ):
            if row[7] >= since:
                settlement = answer_settlement(row)
                other = found.get(settlement.number)
                if other is None or _checked_at(other) < _checked_at(settlement):
                    found[settlement.number] = settlement
        if self._failures and len(found) < len(numbers):
            missing = [key_of(number, self._own) for number in numbers if number not in found]
            select = f"SELECT {FAILURE_COLUMNS} FROM failures WHERE failed_at >= {since:d} AND key IN"  # noqa: S608
            for row in rows_by_integer(self._connection, select, missing):
                settlement = failure_settlement(row)
                found[settlement.number] = settlement
        return found
