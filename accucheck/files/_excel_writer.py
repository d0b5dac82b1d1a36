"""A new workbook, written with XlsxWriter without keeping rows in memory. Formats and formulas are lost."""

from __future__ import annotations

import math
import tempfile
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, BinaryIO

from accucheck.files._origin import FileError, needs
from accucheck.files._rows import (
    RESULT_COLUMNS,
    WIDTHS,
    ResultColumns,
    Row,
    Source,
    Writer,
    as_text,
    column_names,
    padded,
    printable,
    yes_or_no,
)
from accucheck.files._summary import SUMMARY_WIDTHS, Heading, Share, SummarySheet, free_sheet_name

__all__ = ["ExcelWriter"]

_MOST_ROWS = 1_048_576
_MOST_COLUMNS = 16_384
_LONGEST_CELL = 32_767
_EXACT_DIGITS = 15
_MAYBE_LONG = (str, bytes, list, tuple, dict)
_INSTEAD = "write .csv or .parquet instead"


class ExcelWriter(Writer):
    """Writes rows to the one sheet of a workbook, followed by their results.

    Text is written as text, never as a formula or a link; dates as dates; a number with more than 15 digits
    as text, because Excel would round it.
    """

    def __init__(
        self, out: BinaryIO, source: Source, *, numbers: int = 1, summary: SummarySheet | None = None
    ) -> None:
        try:
            import xlsxwriter
        except ImportError as error:
            raise needs("xlsx", "Excel") from error
        _refuse_what_no_sheet_holds(source, numbers)
        self._numbers = numbers
        self._summary = summary
        self._source = source
        # The library keeps rows in named files until the end, which are deleted with their directory.
        self._directory = tempfile.TemporaryDirectory(prefix="accucheck-xlsx-")
        self._book: Any = xlsxwriter.Workbook(out, {"constant_memory": True, "tmpdir": self._directory.name})
        # Make the file the same for the same rows.
        self._book.set_properties({"created": datetime(2000, 1, 1)})
        self._sheet: Any = self._book.add_worksheet(_sheet_name(source))
        self._day: Any = self._book.add_format({"num_format": "yyyy-mm-dd"})
        self._moment: Any = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._time: Any = self._book.add_format({"num_format": "[hh]:mm:ss"})
        own = source.all_columns()
        self._width = len(own)
        self._line = -1
        for cells in source.title:
            self._line += 1
            for place, cell in enumerate(cells):
                self._put(place, cell)
        self._line += 1
        self._header_line = self._line
        for place, name in enumerate([*own, *column_names(own, numbers)]):
            self._put(place, name)
        for place, width in enumerate(WIDTHS * numbers, start=self._width):
            self._sheet.set_column(place, place, width)

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        self._line += 1
        if self._line >= _MOST_ROWS:  # only where the rows could not be counted before
            raise _too_many(f"more than {_MOST_ROWS:,} rows")
        for place, cell in enumerate(self._source.values(row)):
            self._put(place, cell)
        for place, cell in enumerate(padded(result, more, self._numbers), start=self._width):
            if cell is None or isinstance(cell, bool):
                cell = yes_or_no[cell]
            elif isinstance(cell, datetime):
                cell = cell.astimezone(UTC).replace(tzinfo=None, microsecond=0)
            # Shorten ours: a stranger's long signature must not make the output fail.
            self._put(place, printable(cell)[:_LONGEST_CELL] if isinstance(cell, str) else cell)

    def finish(self) -> None:
        """Write the workbook, with the summary as its second sheet."""
        if self._summary is not None:
            self._write_summary(self._summary)
        self._book.close()
        self._directory.cleanup()

    def discard(self) -> None:
        """Let go of the rows so far, without a workbook."""
        self._sheet.row_data_fh.close()
        self._directory.cleanup()

    def _write_summary(self, summary: SummarySheet) -> None:
        sheet = self._book.add_worksheet(free_sheet_name(summary.name, [self._sheet.get_name()]))
        sheet.set_column(0, 0, SUMMARY_WIDTHS[0])
        sheet.set_column(1, 5, SUMMARY_WIDTHS[1])
        bold = self._book.add_format({"bold": True})
        percent = self._book.add_format({"num_format": 10})
        for line, cells in enumerate(summary.lines()):
            for place, cell in enumerate(cells):
                if isinstance(cell, str):
                    text = printable(cell)[:_LONGEST_CELL]
                    sheet.write_string(line, place, text, bold if isinstance(cells, Heading) else None)
                elif cell is not None:
                    sheet.write_number(line, place, cell, percent if isinstance(cell, Share) else None)

    def _put(self, place: int, cell: object) -> None:
        sheet, line = self._sheet, self._line
        match cell:
            case None | "":
                return
            case bool():
                sheet.write_boolean(line, place, cell)
            case int() if len(str(abs(cell))) <= _EXACT_DIGITS:
                sheet.write_number(line, place, cell)
            case float() if math.isfinite(cell):
                sheet.write_number(line, place, cell)
            case datetime() if cell.tzinfo is None and cell.year >= 1900:
                sheet.write_datetime(line, place, cell, self._moment)
            case date() if not isinstance(cell, datetime) and cell.year >= 1900:
                sheet.write_datetime(line, place, cell, self._day)
            case time() if cell.tzinfo is None:
                sheet.write_datetime(line, place, cell, self._time)
            case timedelta():
                sheet.write_datetime(line, place, cell, self._time)
            case _:
                text = as_text(cell)
                if len(text) > _LONGEST_CELL:  # only where the rows could not be looked at before
                    raise _too_long(text, line - self._header_line)
                sheet.write_string(line, place, text)


def _sheet_name(source: Source) -> str | None:
    """Return the name of the sheet that is read, if it can name one here; None for Excel's own."""
    name = str(getattr(source, "sheet", ""))
    usable = 0 < len(name) < 32 and not set(name) & set("[]:*?/\\") and name.strip("'") == name
    return name if usable and name.isprintable() and name.casefold() != "history" else None


def _refuse_what_no_sheet_holds(source: Source, numbers: int) -> None:
    """Look at every row before the first answer is bought, unless the rows can be read only once."""
    columns = len(source.all_columns()) + numbers * len(RESULT_COLUMNS)
    if columns > _MOST_COLUMNS:
        raise FileError(
            f"an Excel sheet holds at most {_MOST_COLUMNS:,} columns and the output has {columns:,}; {_INSTEAD}"
        )
    most = _MOST_ROWS - 1 - len(source.title)
    if source.rows_total is not None and source.rows_total > most:
        raise _too_many(f"{source.rows_total:,} rows and a header")
    if not source.repeatable:
        return
    for place, row in enumerate(source.rows(), start=1):
        if place > most:
            raise _too_many(f"more than {most:,} rows and a header")
        for cell in source.values(row):
            if isinstance(cell, _MAYBE_LONG) and len(text := as_text(cell)) > _LONGEST_CELL:
                raise _too_long(text, place)


def _too_many(what: str) -> FileError:
    return FileError(
        f"an Excel sheet holds at most {_MOST_ROWS:,} rows and the output has {what}; {_INSTEAD}"
    )


def _too_long(text: str, place: int) -> FileError:
    return FileError(
        f"row {place}: a cell has {len(text):,} characters and Excel allows {_LONGEST_CELL:,}; {_INSTEAD}"
    )
