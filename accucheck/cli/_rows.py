"""The result columns of a row, the pass that writes every row, and the count of what was written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import islice
from typing import Protocol

from accucheck._errors import CheckError, InvalidNumber, RefusedAlike, StillPending
from accucheck._models import Check, Settlement
from accucheck._phone import e164
from accucheck.cli._ledger import Find
from accucheck.cli._lists import ReadNumbers, WhyNot
from accucheck.files import ResultColumns, Row, Source
from accucheck.report._tally import best_of

__all__ = [
    "EXCLUDED",
    "UNCHECKED",
    "RowWriter",
    "Tally",
    "answered_rows",
    "columns_of",
    "invalid_columns",
    "number_of",
    "write_rows",
]

EXCLUDED = "EXCLUDED"
"""The status of a row that was not to be asked (``--exclude``, ``--where``)."""
UNCHECKED = ResultColumns(status="UNCHECKED", reason="the run ended before this number was checked")
"""For a row without an outcome, which is never a "no"."""


def columns_of(result: Check | CheckError, number: int | None = None) -> ResultColumns:
    """Return the columns for an answer to ``number`` (national), or for the reason why there is none."""
    match result:
        case Check():
            return ResultColumns(
                whatsapp=result.whatsapp,
                status_update=result.status_update,
                business_user=result.business_user,
                avatar=result.avatar,
                signature=result.signature,
                status="OK",
                request_id=result.request_id,
                number=result.number,
                checked_at=result.checked_at,
            )
        case CheckError():
            return ResultColumns(
                status=result.status,
                reason=result.reason,
                request_id=result.request_id,
                number="" if number is None else e164(number),
            )


class Tally:
    """Counts the rows of an output."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        """Rows by the value of their ``status`` column."""
        self.yes = 0
        """Rows that are on WhatsApp."""

    def count(self, columns: ResultColumns) -> None:
        """Count one row."""
        self.by_status[columns.status] += 1
        if columns.whatsapp:
            self.yes += 1

    def add(self, other: Tally) -> None:
        """Add the counts of another output."""
        self.by_status.update(other.by_status)
        self.yes += other.yes

    @property
    def rows(self) -> int:
        """All rows."""
        return self.by_status.total()

    @property
    def answered(self) -> int:
        """Rows with an answer."""
        return self.by_status["OK"]

    @property
    def failed(self) -> int:
        """Rows whose number was asked and has no answer."""
        return self.rows - self.answered - self.unchecked - self.invalid - self.excluded - self.pending

    @property
    def pending(self) -> int:
        """Rows whose answer the next run collects."""
        return self.by_status[StillPending.status]

    @property
    def excluded(self) -> int:
        """Rows that were not to be asked."""
        return self.by_status[EXCLUDED]

    @property
    def invalid(self) -> int:
        """Rows without a number that could be asked."""
        return self.by_status[InvalidNumber.status]

    @property
    def unchecked(self) -> int:
        """Rows that the next run checks by itself."""
        return self.by_status[UNCHECKED.status] + self.by_status[RefusedAlike.status]


CHUNK = 512
"""Rows that are looked up at once."""


class RowWriter(Protocol):
    """Where rows go."""

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None: ...


async def write_rows(
    source: Source,
    writer: RowWriter,
    find: Find,
    *,
    read: ReadNumbers,
    keep_best: bool = True,
    reason: WhyNot | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Write every row of ``source`` exactly once, and return the count; ``tally`` is counted up on the way."""
    tally = tally or Tally()
    async for row, (columns, *more) in answered_rows(
        source.rows(), find, read=read, keep_best=keep_best, reason=reason
    ):
        writer.write(row, columns, *more)
        tally.count(columns)
    return tally


async def answered_rows(
    rows: Iterator[Row],
    find: Find,
    *,
    read: ReadNumbers,
    keep_best: bool = True,
    reason: WhyNot | None = None,
) -> AsyncIterator[tuple[Row, list[ResultColumns]]]:
    """Yield every row with its columns, in order: those of the best answer, or those of each of its numbers.

    ``reason`` says why a row was not to be asked, or ``""``.
    """
    while chunk := list(islice(rows, CHUNK)):
        numbers: list[list[int] | InvalidNumber | str] = [
            (reason(row) if reason is not None else "") or _numbers_of(row, read) for row in chunk
        ]
        known = await find(list({number for each in numbers if isinstance(each, list) for number in each}))
        for row, each in zip(chunk, numbers, strict=True):
            if isinstance(each, str):
                yield row, [ResultColumns(status=EXCLUDED, reason=each)]
            elif isinstance(each, InvalidNumber):
                yield row, [invalid_columns(row, each)]
            else:
                results = [_known_columns(number, known.get(number)) for number in each]
                yield row, [best_of(results)] if keep_best and len(results) > 1 else results
        await asyncio.sleep(0)  # the progress is shown, and a signal is noticed


def _known_columns(number: int, settlement: Settlement | None) -> ResultColumns:
    columns = UNCHECKED if settlement is None else columns_of(settlement.result, number)
    return columns if columns.number else columns._replace(number=e164(number))


def invalid_columns(row: Row, error: InvalidNumber) -> ResultColumns:
    """Return the columns of a row without a usable number."""
    columns = columns_of(error)
    return columns._replace(reason=row.fault) if row.fault else columns


def number_of(row: Row, read: ReadNumbers) -> int | None:
    """Return the first national number of a row, or None if it has none."""
    with suppress(InvalidNumber):
        return read(row.number)[0]
    return None


def _numbers_of(row: Row, read: ReadNumbers) -> list[int] | InvalidNumber:
    try:
        return read(row.number)
    except InvalidNumber as error:
        return error
