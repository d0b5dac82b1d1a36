"""The second pass of a list: every row of the input, in order, with what the ledger knows of its number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.cli._answer_columns import UNCHECKED, Tally, columns_of
from accucheck.cli._known import Find
from accucheck.files import ResultColumns, Row, Source

__all__ = ["answered_rows", "invalid_columns", "write_rows"]

CHUNK = 512
"""Rows that are looked up at once."""


class RowWriter(Protocol):
    """Where rows go."""

    def write(self, row: Row, result: ResultColumns) -> None: ...


def write_rows(source: Source, writer: RowWriter, find: Find, *, mobile_only: bool) -> Tally:
    """Write every row of ``source`` exactly once, and return their count."""
    tally = Tally()
    for row, columns in answered_rows(source.rows(), find, mobile_only=mobile_only):
        writer.write(row, columns)
        tally.count(columns)
    return tally


def answered_rows(
    rows: Iterator[Row], find: Find, *, mobile_only: bool
) -> Iterator[tuple[Row, ResultColumns]]:
    """Yield every row with its columns, in order."""
    while chunk := list(islice(rows, CHUNK)):
        numbers = [_number_of(row, mobile_only=mobile_only) for row in chunk]
        known = find(list({number for number in numbers if isinstance(number, int)}))
        for row, number in zip(chunk, numbers, strict=True):
            if isinstance(number, InvalidNumber):
                yield row, invalid_columns(row, number)
            else:
                settlement = known.get(number)
                yield row, UNCHECKED if settlement is None else columns_of(settlement.result)


def invalid_columns(row: Row, error: InvalidNumber) -> ResultColumns:
    """Return the columns of a row without a number: a row that could not be read says why."""
    columns = columns_of(error)
    return columns._replace(reason=row.fault) if row.fault else columns


def _number_of(row: Row, *, mobile_only: bool) -> int | InvalidNumber:
    try:
        return normalize(row.number, mobile_only=mobile_only)
    except InvalidNumber as error:
        return error
