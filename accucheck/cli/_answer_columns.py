"""What is written behind a row, from what is known of its number; and the count of it."""

from __future__ import annotations

from collections import Counter

from accucheck._errors import CheckError, InvalidNumber
from accucheck._models import Check
from accucheck.files import ResultColumns

__all__ = ["UNCHECKED", "Tally", "columns_of"]

UNCHECKED = ResultColumns(status="UNCHECKED", reason="the run ended before this number was checked")
"""Of a row that has no outcome: never a "no"."""


def columns_of(result: Check | CheckError | InvalidNumber) -> ResultColumns:
    """Return the eight columns for an answer, or for the reason why there is none."""
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
            )
        case CheckError():
            return ResultColumns(status=result.status, reason=result.reason, request_id=result.request_id)
        case InvalidNumber():
            return ResultColumns(status=result.status, reason=result.reason)


class Tally:
    """Counts the rows of an output."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        """Rows by the word in their ``status`` column."""
        self.yes = 0
        """Rows that are on WhatsApp."""

    def count(self, columns: ResultColumns) -> None:
        """Count one row."""
        self.by_status[columns.status] += 1
        if columns.whatsapp:
            self.yes += 1

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
        """Rows whose number was asked for, and has no answer."""
        return self.rows - self.answered - self.unchecked - self.by_status[InvalidNumber.status]

    @property
    def unchecked(self) -> int:
        """Rows whose turn did not come."""
        return self.by_status[UNCHECKED.status]
