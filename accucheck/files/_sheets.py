"""Rows of sheets: a workbook's, or the tables of a web page.

A workbook is read as a person sees it. Of several sheets, the one with numbers is read and the others are mentioned; if
several have numbers, the user must choose. Hidden rows are mentioned. A formula without a saved value or an error such
as ``#N/A`` is not an empty cell: it keeps its text and says why there is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import ClassVar, Final, TypeAlias

import msgspec

from accucheck.files._columns import NumberColumn, Wanted, find_number_columns, header_of, looks_like_a_number
from accucheck.files._origin import FileError, Origin
from accucheck.files._rows import Row, Source, as_text, distinct_names

__all__ = [
    "LONGEST_CELL",
    "MARK",
    "MOST_COLUMNS",
    "MOST_ROWS",
    "Sheet",
    "SheetFacts",
    "SheetRow",
    "SheetSource",
    "Table",
    "column_letters",
    "column_number",
]

_SAMPLE_ROWS = 200
MOST_ROWS: Final = 1_048_576
MOST_COLUMNS: Final = 16_384
LONGEST_CELL: Final = 32_767
"""What a sheet of Excel holds."""
MARK: Final = "accucheck · "
"""How the first cell of such a sheet begins; readers recognize the sheet by it, whatever its name."""
ALL = "all"
CHECKED = "[checked]"
"""Asks for the sheet that accucheck has added answers to. No sheet can have brackets in its name."""


def column_letters(column: int) -> str:
    """Return ``AB`` for 28."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def column_number(letters: bytes) -> int:
    """Return 28 for ``AB``."""
    column = 0
    for letter in letters:
        column = 26 * column + letter - 64
    return column


def is_summary(first_line: Sequence[object]) -> bool:
    """Return whether a sheet that begins with these cells is one of ours."""
    first = next((cell for cell in first_line if cell not in ("", None)), "")
    return isinstance(first, str) and first.startswith(MARK)


class SheetFacts(msgspec.Struct):
    """What a reader of cell values does not report about a sheet."""

    hidden: set[int] = msgspec.field(default_factory=set)
    """Lines that are hidden or filtered out, from 1."""
    unsaved: dict[int, dict[int, str]] = msgspec.field(default_factory=dict)
    """Formulas without a saved value, by line and place (both from 1)."""
    errors: dict[int, dict[int, str]] = msgspec.field(default_factory=dict)
    """Errors such as ``#N/A``, the same way."""


class Sheet(msgspec.Struct):
    """One sheet, or one table."""

    name: str
    height: int
    """Lines down to the last filled one; 0 for an empty sheet."""
    rows: Callable[[], Iterator[Sequence[object]]]
    """Yields every line from the first, as cells."""
    hidden: bool = False
    left: int = 0
    """Empty columns in front of the first cell."""
    facts: Callable[[], SheetFacts] = SheetFacts
    part: str = ""
    """Where it is in the file, for writing into a copy."""


SheetRow: TypeAlias = tuple[int, int, Sequence[object]]
"""The record of a row: which table (from 0), which line of its sheet (from 1), which cells."""


class Table(msgspec.Struct):
    """A sheet to read: its header, and where its rows begin."""

    sheet: Sheet
    columns: list[str]
    header_line: int
    """The line that our names go into, from 1; 0 if there is no header."""
    skipped: int
    """Lines above the first row."""
    title: list[list[object]]
    sample: list[list[object]]
    facts: SheetFacts


class SheetSource(Source):
    """Rows of one sheet, or of several.

    Args:
        origin: The file.
        sheets: All its sheets, in order.
        column: As for ``open_source``.
        sheet: The sheet to read: its name, its place from 1, or ``all``. The one that holds numbers if None.
        visible_only: Leave hidden rows out.
        things: What its sheets are called, for messages.
    """

    format: ClassVar[str] = "xlsx"

    def __init__(
        self,
        origin: Origin,
        sheets: Sequence[Sheet],
        *,
        column: Wanted = None,
        sheet: str | int | None = None,
        visible_only: bool = False,
        things: str = "sheets",
    ) -> None:
        super().__init__(origin)
        self._visible_only = visible_only
        filled = [each for each in sheets if each.height]
        self.summaries = [each for each in filled if is_summary(next(iter(each.rows()), ()))]
        """Summary sheets of earlier runs, which are not lists unless requested by name."""
        filled = [each for each in filled if each not in self.summaries]
        if not filled:
            raise FileError(f"{self.name}: the workbook contains no rows")
        self.tables = self._chosen(sheets, filled, sheet, column, things)
        self._columns_by_table: list[list[NumberColumn]] = []
        for table in self.tables:
            self.columns, self._left = table.columns, table.sheet.left
            self._choose_columns(table.sample, column)
            if not table.header_line:
                self._name_number_columns()
            self._columns_by_table.append(self.number_columns)
            self._refuse_unsaved(table)
            self._note_hidden(table)
        self.number_columns = self._columns_by_table[0]
        self.sheet = self.tables[0].sheet.name
        """The name of the sheet that is read; of several, the first."""
        self._places: list[list[int]] = []
        if len(self.tables) == 1:
            self.columns, self.title = self.tables[0].columns, self.tables[0].title
        else:
            self._merge_columns()
        self._done = 0

    @property
    def fraction(self) -> float:
        height = sum(table.sheet.height for table in self.tables)
        return min(1.0, self._done / height) if height else 0.0

    def values(self, row: Row) -> Sequence[object]:
        record: SheetRow = row.record
        table, _, own = record
        if len(self.tables) == 1:
            return own
        cells: list[object] = [None] * len(self.columns)
        cells[0] = self.tables[table].sheet.name
        for place, cell in zip(self._places[table], own, strict=False):
            cells[place] = cell
        return cells

    def numbers(self) -> Iterator[str]:
        table = self.tables[0]
        facts, index = table.facts, self.number_column.index
        odd = facts.unsaved or facts.errors or (self._visible_only and facts.hidden)
        if odd or len(self.tables) > 1 or len(self.number_columns) > 1:
            yield from super().numbers()
            return
        self._begun = True
        self.blank_rows = self.faulty_rows = 0
        line = above = table.skipped
        for line, cells in enumerate(islice(table.sheet.rows(), above, None), above + 1):
            number = cells[index]
            if not number and not any(cell not in ("", None) for cell in cells):
                self.blank_rows += 1
                continue
            self._done = line
            yield number if type(number) is str else as_text(number)
        self.rows_total = line - above - self.blank_rows

    def _rows(self) -> Iterator[Row]:
        self._done = 0
        for place, table in enumerate(self.tables):
            yield from self._rows_of(place, table)

    def _rows_of(self, place: int, table: Table) -> Iterator[Row]:
        columns = self._columns_by_table[place]
        above = sum(before.sheet.height for before in self.tables[:place])
        index, several = columns[0].index, len(columns) > 1
        facts = table.facts
        hidden = facts.hidden if self._visible_only else frozenset[int]()
        watched = hidden | facts.unsaved.keys() | facts.errors.keys()
        for line, cells in enumerate(islice(table.sheet.rows(), table.skipped, None), table.skipped + 1):
            self._done = above + line
            if watched and line in watched:
                if line not in hidden:
                    yield self._odd_row(place, table, line, list(cells))
                continue
            number = cells[index]
            if several:
                number = "\n".join(as_text(cells[column.index]) for column in columns)
            if not number and not any(cell not in ("", None) for cell in cells):
                self.blank_rows += 1
                continue
            yield Row(number if type(number) is str else as_text(number), (place, line, cells))

    def _odd_row(self, place: int, table: Table, line: int, cells: list[object]) -> Row:
        """Read a row with a formula that has no value, or an error: its cells show what they hold."""
        fault, numbers, left = "", [], table.sheet.left
        unsaved, errors = table.facts.unsaved.get(line, {}), table.facts.errors.get(line, {})
        for at, text in (*unsaved.items(), *errors.items()):
            if 0 <= at - 1 - left < len(cells):
                cells[at - 1 - left] = text
        for column in self._columns_by_table[place]:
            at = column.index + 1 + left
            if at in unsaved:
                fault = (
                    f"The cell contains the formula {unsaved[at][:40]} without a saved value:"
                    " open the file in Excel, save it, and run again."
                )
            elif at in errors:
                fault = f"The cell contains the error {errors[at]}."
            else:
                numbers.append(as_text(cells[column.index]))
        number = "\n".join(numbers)
        fault = "" if number.strip() else fault
        self.faulty_rows += bool(fault)
        return Row(number, (place, line, cells), fault)

    def _chosen(
        self,
        sheets: Sequence[Sheet],
        filled: Sequence[Sheet],
        wanted: str | int | None,
        column: Wanted,
        things: str,
    ) -> list[Table]:
        checked, wanted = wanted == CHECKED, None if wanted == CHECKED else wanted
        if wanted is not None and str(wanted).strip().lower() != ALL:
            chosen = self._wanted_sheet(sheets, wanted, things)
            if not chosen.height:
                raise FileError(f"{self.name}: the sheet {chosen.name!r} contains no rows")
            return [_table_of(chosen)]
        shown = [each for each in filled if not each.hidden] or list(filled)
        if len(shown) == 1 and wanted is None:
            self._note_left_out([each for each in filled if each not in shown], things)
            return [_table_of(shown[0])]
        tables = [_table_of(each) for each in shown]
        full = [table for table in tables if self._holds_numbers(table, column)]
        if checked:
            full = [each for each in full if _is_checked(each.columns)] or full[:1]
        if len(full) == 1 or (full and wanted is not None):
            read = [table.sheet for table in full]
            self._note_left_out([each for each in filled if each not in read], things)
            return full
        names = ", ".join(
            f"{each.sheet.name!r} ({rows:,} row{'s' * (rows != 1)})"
            for each in full or tables
            for rows in [each.sheet.height - each.skipped]
        )
        if full:
            raise FileError(
                f"{self.name}: {len(full)} {things} contain phone numbers: {names}; choose one with"
                " --sheet, or --sheet all"
            )
        raise FileError(
            f"{self.name}: no sheet contains phone numbers: {names}; choose one with --sheet,"
            " and its column with --column"
        )

    def _wanted_sheet(self, sheets: Sequence[Sheet], wanted: str | int, things: str) -> Sheet:
        text = str(wanted).strip()
        for same in (str, str.casefold):
            for each in sheets:
                if same(each.name.strip()) == same(text):
                    return each
        if text.isascii() and text.isdigit() and 1 <= int(text) <= len(sheets):
            return sheets[int(text) - 1]
        names = ", ".join(f"{place} {each.name!r}" for place, each in enumerate(sheets, start=1))
        raise FileError(f"{self.name}: there is no sheet {text!r}; its {things} are {names}")

    def _holds_numbers(self, table: Table, column: Wanted) -> bool:
        left = table.sheet.left
        try:
            chosen = find_number_columns(table.columns, table.sample, column, self.name, left).chosen
        except FileError:
            # Two columns of numbers count, too; the column is chosen after the sheet.
            return any(_is_a_lead(cell) for row in table.sample for cell in row)
        indexes = [each.index for each in chosen]
        if chosen[0].found_by in ("content", "only column"):
            return any(_is_a_lead(row[indexes[0]]) for row in table.sample)
        odd = table.facts.unsaved
        return any(
            index < len(row) and (looks_like_a_number(row[index]) or index + 1 + left in odd.get(line, {}))
            for line, row in enumerate(table.sample, table.skipped + 1)
            for index in indexes
        )

    def _note_left_out(self, left_out: Sequence[Sheet], things: str) -> None:
        if left_out:
            names = ", ".join(repr(each.name) + (" (hidden)" if each.hidden else "") for each in left_out)
            self.notes.append(f"these {things} are skipped: {names}; choose one with --sheet")

    def _note_hidden(self, table: Table) -> None:
        hidden = sum(line > table.skipped for line in table.facts.hidden)
        if not hidden:
            return
        rows = f"{hidden:,} row{'s' * (hidden > 1)} of sheet {table.sheet.name!r}"
        told = (
            "skipped because of --visible-only"
            if self._visible_only
            else "included; --visible-only skips them"
        )
        self.notes.append(f"{rows} that are hidden or filtered out are {told}")

    def _refuse_unsaved(self, table: Table) -> None:
        """Refuse a column of formulas without values, since it has nothing to check."""
        at = self.number_column.index + 1 + table.sheet.left
        lines = range(table.skipped + 1, table.skipped + 1 + len(table.sample))
        unsaved = sum(at in table.facts.unsaved.get(line, {}) for line in lines)
        if 2 * unsaved > len(table.sample) > 0:
            raise FileError(
                f"{self.name}: column {self.number_column.name!r} of sheet {table.sheet.name!r} contains formulas"
                " without saved values; open the file in Excel, save it, and run again"
            )

    def _merge_columns(self) -> None:
        """Give rows of all sheets one set of columns: cells of the same name stand under each other."""
        names = dict.fromkeys(["sheet"])
        for table in self.tables:
            own = distinct_names(table.columns, taken=["sheet"])
            names |= dict.fromkeys(own)
            self._places.append([list(names).index(name) for name in own])
        self.columns = list(names)
        self.number_columns = [
            msgspec.structs.replace(column, index=self._places[0][column.index])
            for column in self.number_columns
        ]


def _is_checked(columns: Sequence[str]) -> bool:
    return all({name, f"accucheck_{name}"} & set(columns) for name in ("whatsapp", "status"))


def _is_a_lead(cell: object) -> bool:
    """Whether a cell that no header names is a number, and not a sentence that has one in it."""
    text = as_text(cell)
    return len(text) > 8 and looks_like_a_number(cell) and sum(map(str.isalpha, text.split())) < 4


def _table_of(sheet: Sheet) -> Table:
    head = [list(cells) for cells in islice(sheet.rows(), _SAMPLE_ROWS)]
    texts = [[as_text(cell) for cell in cells] for cells in head]
    header = header_of(texts)
    blank = next((line for line, cells in enumerate(texts) if any(cells)), 0)
    skipped = blank if header is None else header.place + 1
    width = max(map(len, texts), default=0)
    columns = [f"column_{sheet.left + place}" for place in range(1, width + 1)]
    if header is not None:
        columns = header.names + [""] * (width - len(header.names))
    return Table(
        sheet=sheet,
        columns=columns,
        header_line=0 if header is None else header.place + 1,
        skipped=skipped,
        title=head[: header.place] if header is not None and blank < header.place else [],
        sample=head[skipped:],
        facts=sheet.facts(),
    )
