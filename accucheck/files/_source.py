"""What every input provides, whatever its format."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec

from accucheck.files._columns import NumberColumn, Wanted, find_number_columns, note_on_cells
from accucheck.files._origin import Origin
from accucheck.files._results import CLASH_PREFIX, as_text

__all__ = ["Row", "Source"]

OWN_NUMBER = re.compile(rf"({CLASH_PREFIX})?number(_\d+)?")


class Row(msgspec.Struct, frozen=True, gc=False):
    """One row of the input."""

    number: str
    """The text of its number cell, as it is in the file (a spreadsheet's 987654321.0 as ``987654321``).

    If several columns are read, their cells, one per line; ``accucheck._phone.numbers_in`` reads them all.
    """
    record: Any
    """The row itself, in its source's own form, which a sink for that source writes back untouched."""
    fault: str = ""
    """Why the row could not be read, as a sentence; its ``number`` is then empty."""


class Source(ABC):
    """Rows of one input, in constant memory, as often as needed (unless ``repeatable`` is False).

    Every method that reads raises ``FileError`` if the input turns out to be damaged.
    """

    format: ClassVar[str]
    """``csv``, ``jsonl``, ``parquet`` or ``xlsx``."""

    columns: list[str]
    """The names of the row's own columns, as far as the beginning of the input shows."""
    number_columns: list[NumberColumn]
    """The columns that are read, the preferred one first."""
    _left = 0
    """Empty columns of the sheet before the first one."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.input_path = origin.path
        """The input file, which no output may replace."""
        self.rows_total: int | None = None
        """How many rows there are. Known for Parquet and spreadsheets, and for all inputs after a complete pass."""
        self.notes: list[str] = []
        self.several: str | None = None
        """What to say if cells of the number column hold several numbers; None if none do."""
        """What a person should know before anything is bought: what is left out, and what else could be read."""
        self.blank_rows = 0
        """Rows of a CSV file or sheet without a single filled cell, which the latest pass left out."""
        self.faulty_rows = 0
        """Rows that the latest pass could not read: errors, formulas without values, damaged lines."""
        self.title: list[list[Any]] = []
        """The rows of cells above the header: CSV and Excel outputs begin with them."""
        self._begun = False

    @property
    def name(self) -> str:
        """The input as it was given, or ``stdin``."""
        return self.origin.name

    @property
    def number_column(self) -> NumberColumn:
        """The column of the phone numbers; the preferred one where several are read."""
        return self.number_columns[0]

    @property
    def repeatable(self) -> bool:
        """Whether the rows can be read more than once."""
        return self.origin.repeatable

    @property
    def fraction(self) -> float:
        """How far the latest pass has come, 0 to 1, by bytes, or by rows if they are counted."""
        return self.origin.fraction if self._begun else 0.0

    def rows(self) -> Iterator[Row]:
        """Yield every row, in order."""
        count = self.blank_rows = self.faulty_rows = 0
        self._begun = True
        for count, row in enumerate(self._rows(), start=1):  # noqa: B007
            yield row
        self.rows_total = count

    def numbers(self) -> Iterator[str]:
        """Yield every row's number text, in order; faster than ``rows``."""
        count = self.blank_rows = self.faulty_rows = 0
        self._begun = True
        for row in self._rows():
            count += 1
            yield row.number
        self.rows_total = count

    def _choose_columns(self, sample: Sequence[Sequence[object]], wanted: Wanted) -> None:
        """Find the number columns, and note what a person should know about them."""
        found = find_number_columns(self.columns, sample, wanted, self.name, self._left)
        self.number_columns = found.chosen
        # The number columns of an earlier run are not additional leads.
        checked = {"whatsapp", "status"} <= set(self.columns)
        others = [name for name in found.others if not (checked and OWN_NUMBER.fullmatch(name))]
        if others:
            names = ", ".join(map(repr, others))
            self.notes.append(
                f"these columns also contain numbers and are skipped: {names}; read them with --column all"
            )
        index = self.number_column.index
        self.several = note_on_cells([as_text(row[index]) for row in sample if index < len(row)])

    def _name_number_columns(self) -> None:
        """Name the number columns of a table without a header."""
        for place, column in enumerate(self.number_columns):
            name = "phone" if not place else f"phone_{place + 1}"
            self.columns[column.index] = name
            self.number_columns[place] = msgspec.structs.replace(column, name=name)

    @abstractmethod
    def _rows(self) -> Iterator[Row]: ...

    def all_columns(self) -> list[str]:
        """Return the names of the own columns over all rows; reads the input once if necessary."""
        return self.columns

    @abstractmethod
    def values(self, row: Row) -> Sequence[object]:
        """Return the row's own cells, for ``all_columns``: for a sink of another format."""

    def close(self) -> None:
        """Close the input, and delete the copy of standard input."""
        self.origin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
