"""What every input gives, whatever its format."""

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

    Where several columns are read, their cells, one a line: ``accucheck._phone.numbers_in`` reads them all.
    """
    record: Any
    """The row itself, in its source's own form: a sink of that source writes it back untouched."""
    fault: str = ""
    """Why the row could not be read, as a sentence; its ``number`` is then empty."""


class Source(ABC):
    """Rows of one input, in constant memory, as often as needed (unless ``repeatable`` is False).

    Every method that reads raises ``FileError`` when the input turns out to be torn.
    """

    format: ClassVar[str]
    """``csv``, ``jsonl``, ``parquet`` or ``xlsx``."""

    columns: list[str]
    """The names of the row's own columns, as far as the beginning of the input tells."""
    number_columns: list[NumberColumn]
    """The columns that are read, the preferred one first."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.input_path = origin.path
        """The file that was given: no output may replace it."""
        self.rows_total: int | None = None
        """How many rows there are: known for Parquet and spreadsheets, and after one whole pass for all."""
        self.notes: list[str] = []
        """What a person should know before anything is bought: what is left out, what could be read as well."""
        self.blank_rows = 0
        """Rows of a CSV file or a sheet without a single filled cell: they are no leads, and the pass begun last has
        left them out."""
        self.faulty_rows = 0
        """Rows of the pass begun last that could not be read: errors, formulas without values, torn lines."""
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
        """How far the pass that began last has come, 0 to 1: by bytes, or by rows where those are counted."""
        return self.origin.fraction if self._begun else 0.0

    def rows(self) -> Iterator[Row]:
        """Yield every row, in order."""
        count = self.blank_rows = self.faulty_rows = 0
        self._begun = True
        for count, row in enumerate(self._rows(), start=1):  # noqa: B007
            yield row
        self.rows_total = count

    def numbers(self) -> Iterator[str]:
        """Yield every row's number text, in order: as many as there are rows, at less cost."""
        count = self.blank_rows = self.faulty_rows = 0
        self._begun = True
        for row in self._rows():
            count += 1
            yield row.number
        self.rows_total = count

    def _choose_columns(self, sample: Sequence[Sequence[object]], wanted: Wanted) -> None:
        """Find the number columns, and note what a person should know of them."""
        found = find_number_columns(self.columns, sample, wanted, self.name)
        self.number_columns = found.chosen
        # The numbers of an earlier run are no further leads.
        checked = {"whatsapp", "status"} <= set(self.columns)
        others = [name for name in found.others if not (checked and OWN_NUMBER.fullmatch(name))]
        if others:
            names = ", ".join(map(repr, others))
            self.notes.append(
                f"these columns also contain numbers and are skipped: {names}; read them with --column all"
            )
        index = self.number_column.index
        note = note_on_cells([as_text(row[index]) for row in sample if index < len(row)])
        if note is not None:
            self.notes.append(note)

    def _name_number_columns(self) -> None:
        """Name the number columns of a table without a header."""
        for place, column in enumerate(self.number_columns):
            name = "phone" if not place else f"phone_{place + 1}"
            self.columns[column.index] = name
            self.number_columns[place] = msgspec.structs.replace(column, name=name)

    @abstractmethod
    def _rows(self) -> Iterator[Row]: ...

    def all_columns(self) -> list[str]:
        """Return the names of the own columns over all rows; reads the input once if it must to know them."""
        return self.columns

    @abstractmethod
    def values(self, row: Row) -> Sequence[object]:
        """Return the row's own cells, for ``all_columns``: for a sink of another format."""

    def close(self) -> None:
        """Let go of the input, and delete the copy of standard input."""
        self.origin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
