"""A row of a list, the columns that are written after its own, and what every reader and writer provides."""

from __future__ import annotations

import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time
from functools import lru_cache
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self

import msgspec

from accucheck.files._columns import NumberColumn, Wanted, find_number_columns, note_on_cells
from accucheck.files._origin import Origin

__all__ = [
    "NO_NUMBER",
    "RESULT_COLUMNS",
    "WIDTHS",
    "ResultColumns",
    "Row",
    "Source",
    "Writer",
    "as_text",
    "column_names",
    "distinct_names",
    "formula_safe",
    "iso_date",
    "iso_moment",
    "padded",
    "printable",
    "yes_or_no",
]

CLASH_PREFIX = "accucheck_"
_OWN_NUMBER = re.compile(rf"({CLASH_PREFIX})?number(_\d+)?")


class ResultColumns(NamedTuple):
    """What is written after a row's own columns, in this order.

    | column | CSV, TSV | JSON lines | Parquet | Excel |
    |---|---|---|---|---|
    | ``whatsapp`` | ``yes``, ``no`` or nothing | true, false, null | bool | text ``yes``, ``no`` |
    | ``status_update`` | ``2023-12-31`` | ``"2023-12-31"``, null | date32 | date |
    | ``business_user`` | as ``whatsapp`` | true, false, null | bool | text |
    | ``avatar`` | as ``whatsapp`` | true, false, null | bool | text |
    | ``signature`` | text | string, null | string | text |
    | ``status`` | text | string | string | text |
    | ``reason`` | text | string | string | text |
    | ``request_id`` | text | string | string | text |
    | ``number`` | ``+51987654321`` | string | string | text |
    | ``checked_at`` | ``2026-11-26T08:47:23Z`` | string, null | timestamp[us, UTC] | date and time, UTC |
    """

    whatsapp: bool | None = None
    """Whether the number is on WhatsApp; None if that is not known."""
    status_update: date | None = None
    business_user: bool | None = None
    avatar: bool | None = None
    signature: str | None = None
    """The account's status text, written by a stranger."""
    status: str = "UNCHECKED"
    """``OK``, the vendor's word, or ours in the same style."""
    reason: str = ""
    """Why there is no answer, as a sentence."""
    request_id: str = ""
    number: str = ""
    """The number read from the row, in E.164; empty if there is none."""
    checked_at: datetime | None = None
    """When the answer arrived, in UTC; for an answer from the ledger, when it was bought. None without an answer."""


RESULT_COLUMNS: tuple[str, ...] = ResultColumns._fields
WIDTHS = (10, 14, 14, 9, 26, 18, 36, 18, 15, 20)
"""How wide they are in a spreadsheet, in characters: a date that does not fit would be shown as ####."""


def column_names(own: Iterable[str], numbers: int = 1) -> tuple[str, ...]:
    """Return the names of the result columns that follow a row's ``own`` columns.

    If a row has results for several ``numbers``, those of the second are ``whatsapp_2`` and so on.

    If the input already has a name (ignoring case), ours gets the prefix ``accucheck_``, and if needed a number at the
    end. So a list that was checked before keeps its old answers under their old names.
    """
    taken = {name.casefold() for name in own}
    names = []
    plain_names = [
        name if place == 1 else f"{name}_{place}"
        for place in range(1, numbers + 1)
        for name in RESULT_COLUMNS
    ]
    for plain in plain_names:
        name, again = plain, 1
        while name.casefold() in taken:
            name = f"{CLASH_PREFIX}{plain}" if again == 1 else f"{CLASH_PREFIX}{plain}_{again}"
            again += 1
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


NO_NUMBER = ResultColumns(status="")
"""The columns of a second number in a row that has only one."""


def padded(result: ResultColumns, more: Sequence[ResultColumns], numbers: int) -> list[Any]:
    """Return the cells for ``numbers`` numbers, one after the other."""
    groups = (result, *more, *[NO_NUMBER] * (numbers - 1 - len(more)))
    return [cell for group in groups[:numbers] for cell in group]


def distinct_names(columns: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Return names that are neither empty nor ``taken`` nor used twice, for formats whose cells are found by name."""
    taken = set(taken)
    names = []
    for place, plain in enumerate(columns, start=1):
        name, again = plain or f"column_{place}", 1
        while name in taken:
            again += 1
            name = f"{plain or 'column'}_{again}"
        taken.add(name)
        names.append(name)
    return names


def printable(text: str) -> str:
    """Return ``text`` without control characters; tabs and line breaks become a space.

    For every format: escape sequences must not reach the terminal of someone viewing the file, and nothing may change
    the direction of the text that follows (U+202E can disguise a "no").
    """
    if text.isprintable():
        return text
    return "".join(map(_printable_character, text))


def _printable_character(character: str) -> str:
    if character in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    category = unicodedata.category(character)
    if category == "Cs":  # half of a surrogate pair: no encoding can write it
        return "�"
    return "" if category == "Cc" or character in _BIDI_CONTROLS else character


_BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def formula_safe(text: str) -> str:
    """Return text that no spreadsheet interprets as a formula (OWASP, "CSV Injection").

    Text that starts with ``= + - @`` (also full-width), even after blanks, gets a leading apostrophe.
    """
    return f"'{text}" if text.lstrip()[:1] in _FORMULA_STARTS else text


_FORMULA_STARTS = tuple("=+-@＝＋－＠")


yes_or_no: dict[bool | None, str] = {True: "yes", False: "no", None: ""}
"""The vendor's words, for formats that hold text."""


def as_text(value: object) -> str:
    """Return ``value`` as text: None as nothing, times in ISO 8601, 1.0 as ``1``, lists as JSON."""
    match value:
        case str():
            return value if value.isascii() else _storable(value)
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case date() | datetime() | time():
            return value.isoformat()
        case dict() | list() | tuple():
            return _storable(json.dumps(value, ensure_ascii=False, default=str))
        case bytes():
            return value.decode("utf-8", "replace")
        case _:
            return str(value)


def _storable(text: str) -> str:
    """Replace lone surrogates, which JSON can express but no encoding can write."""
    return text.encode("utf-8", "replace").decode()


@lru_cache(4096)
def iso_date(day: date | None) -> str:
    """Return ``2023-12-31``. Cached, because a list has few distinct dates."""
    return day.isoformat() if day else ""


def iso_moment(moment: datetime | None) -> str:
    """Return ``2026-11-26T08:47:23Z``."""
    if moment is None:
        return ""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds")[:19] + "Z"


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
        """What a person should know before anything is bought: what is left out, and what else could be read."""
        self.several: str | None = None
        """What to say if cells of the number column hold several numbers; None if none do."""
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
        others = [name for name in found.others if not (checked and _OWN_NUMBER.fullmatch(name))]
        if others:
            names = ", ".join(map(repr, others))
            self.notes.append(
                f"these columns also contain numbers and are skipped: {names}; read them with --column all"
            )
        index = self.number_column.index
        self.several = self.several or note_on_cells(
            [as_text(row[index]) for row in sample if index < len(row)]
        )

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


class Writer(ABC):
    """Turns rows into the bytes of one format."""

    @abstractmethod
    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        """Add one row; ``more`` are the results of its second number and those that follow."""

    def flush(self) -> None:  # noqa: B027 (a workbook is written at the end)
        """Pass what was written to the underlying stream."""

    def finish(self) -> None:
        """Write the rest."""
        self.flush()

    def discard(self) -> None:  # noqa: B027 (few have anything to close)
        """Abandon what was written."""
