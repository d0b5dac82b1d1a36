"""Excel to Excel: writes the results into a copy of the workbook and leaves everything else unchanged.

The XML of the sheet is copied as a stream; the cells of our columns are inserted before the end of each row. So styles,
number formats, formulas, links, widths, filters, frozen panes, pictures and the other sheets stay the same to the byte,
and memory stays flat. Libraries that load and save workbooks keep less and need gigabytes for a full sheet.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, BinaryIO, cast

from accucheck.files._excel import ExcelSource
from accucheck.files._excel_writer import (
    Formats,
    SummaryPart,
    SummarySheet,
    place_summary,
    summary_xml,
    text_cell,
)
from accucheck.files._origin import TORN_ARCHIVE, FileError
from accucheck.files._rows import (
    RESULT_COLUMNS,
    WIDTHS,
    ResultColumns,
    Row,
    Source,
    Writer,
    column_names,
    padded,
    printable,
    yes_or_no,
)
from accucheck.files._sheets import LONGEST_CELL, MOST_COLUMNS, SheetRow, Table, column_letters, column_number

__all__ = ["ExcelCopyWriter", "why_no_copy"]

_CHUNK = 1 << 20
_WRITE_EVERY = 1 << 20
_LONGEST_ROW = 64 << 20

_ROW = re.compile(rb"<(?P<prefix>\w+:)?row\b(?P<attributes>[^>]*?)(?P<empty>/?)>")
_LINE = re.compile(rb'\br="(\d+)"')
_SPANS = re.compile(rb'\s+spans="[^"]*"')
_CELL = re.compile(rb'<(?:\w+:)?c\b[^>]*?\br="([A-Z]{1,3})\d+"[^>]*?(?:/>|>.*?</(?:\w+:)?c>)', re.DOTALL)
_STYLE = re.compile(rb'\bs="(\d+)"')
_LAST_OF_COLUMNS = re.compile(rb'<(?:\w+:)?col [^>]*\bmax="(\d+)"')
_DIMENSION = re.compile(rb'(<(?:\w+:)?dimension [^>]*ref="\$?[A-Z]{1,3}\$?\d+:\$?)([A-Z]{1,3})(\$?\d+")')
_LAST_CELL = re.compile(rb'<(?:\w+:)?c\b[^>]*?\br="([A-Z]{1,3})\d+"')

_MACROS = re.compile(
    rb"<(?:\w+:)?Override\b[^>]*vbaProject[^>]*/>|<(?:\w+:)?Default\b[^>]*vbaProject[^>]*/>"
    rb"|<(?:\w+:)?Relationship\b[^>]*vbaProject[^>]*/>"
)
_OTHER_MAIN = re.compile(
    rb"application/vnd\.(?:ms-excel\.(?:sheet|template)\.macroEnabled"
    rb"|openxmlformats-officedocument\.spreadsheetml\.template)\.main\+xml"
)
_MAIN = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"


def why_no_copy(source: Source) -> str | None:
    """Return why the results cannot go into a copy of the input, or None if they can."""
    if not isinstance(source, ExcelSource):
        return "the input is not an .xlsx workbook"
    if not all(table.sheet.part for table in source.tables):
        return "the input is an older workbook (.xls, .xlsb or .ods)"
    if not all(table.header_line for table in source.tables):
        return "the sheet has no header row, which the new columns need"
    return None


class ExcelCopyWriter(Writer):
    """Writes results into a copy of the workbook. Rows must be in the order of the sheets and their lines."""

    def __init__(
        self, out: BinaryIO, source: ExcelSource, *, numbers: int = 1, summary: SummarySheet | None = None
    ) -> None:
        self._numbers = numbers
        self._summary = summary
        self._summary_part = SummaryPart("")
        self._source = source
        self._out = out
        self._zip: zipfile.ZipFile | None = None
        self._input: zipfile.ZipFile | None = None
        self._stream: BinaryIO | None = None
        self._sheet: _SheetCopy | None = None
        self._table = -1
        self._formats = Formats()
        for table in source.tables:
            if _first_column(table) + numbers * len(RESULT_COLUMNS) > MOST_COLUMNS:
                raise FileError(
                    f"an Excel sheet holds at most {MOST_COLUMNS:,} columns, and there is no space left in"
                    f" {table.sheet.name!r}; write .csv or .parquet instead"
                )

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        record: SheetRow = row.record
        table, line, _ = record
        self._go_to(table)
        cast("_SheetCopy", self._sheet).add(line, padded(result, more, self._numbers))

    def finish(self) -> None:
        """Copy the rest, and add the summary sheet."""
        self._go_to(len(self._source.tables))
        if self._summary is not None:
            self._put(
                self._summary_part.path,
                summary_xml(self._summary, self._formats, strict=self._summary_part.strict),
            )
        cast("zipfile.ZipFile", self._zip).close()
        self._zip = None
        self._close()

    def discard(self) -> None:
        """Close what was opened."""
        if self._zip is not None:
            if self._sheet is not None:
                # What closing adds goes nowhere, because the output is discarded and the disk may be full.
                with open(os.devnull, "wb") as nowhere:
                    self._zip.fp = nowhere
                    self._sheet.abandon()
                self._sheet = None
            self._zip.fp = None  # without its index
            self._zip = None
        self._close()

    def _close(self) -> None:
        if self._input is not None:
            self._input.close()
        if self._stream is not None:
            self._stream.close()

    def _go_to(self, table: int) -> None:
        if table < self._table:
            raise ValueError("rows of a workbook must be written in the order of its sheets")
        try:
            if self._zip is None:
                self._begin()
            while self._table < table:
                if self._sheet is not None:
                    self._sheet.finish()
                    self._sheet = None
                self._table += 1
                if self._table < len(self._source.tables):
                    self._sheet = self._opened(self._source.tables[self._table])
        except FileError:
            raise
        except TORN_ARCHIVE as error:  # not what the system says of the output
            raise FileError(
                f"{self._source.name}: the workbook is damaged ({error}); copy the file again"
            ) from error

    def _begin(self) -> None:
        """Copy all parts but the sheets that get results."""
        self._stream = self._source.origin.open()
        self._input = zipfile.ZipFile(self._stream)
        self._zip = zipfile.ZipFile(self._out, "w", zipfile.ZIP_DEFLATED)
        own = {table.sheet.part for table in self._source.tables}
        if self._summary is not None:
            self._summary_part = place_summary(self._input, self._source.summaries, self._summary.name)
            own.add(self._summary_part.path)
        for part in self._input.infolist():
            name = part.filename
            if name in own or "vbaProject" in name:
                continue
            if name == "xl/styles.xml":
                self._put(name, self._formats.added_to(self._input.read(part)))
            elif name == "xl/workbook.xml":
                content = self._input.read(part)
                self._formats.since_1904 = bool(re.search(rb'date1904="(?:1|true)"', content))
                self._put(name, self._summary_part.in_workbook(content))
            elif name == "[Content_Types].xml" or name == "xl/_rels/workbook.xml.rels":
                content = _OTHER_MAIN.sub(_MAIN, _MACROS.sub(b"", self._input.read(part)))
                self._put(name, self._summary_part.in_list(content))
            else:
                entry = _entry(name, part.date_time)
                entry.external_attr = part.external_attr
                with self._input.open(part) as old, self._zip.open(entry, "w", force_zip64=True) as new:
                    shutil.copyfileobj(old, new, _CHUNK)

    def _put(self, name: str, content: bytes) -> None:
        assert self._zip is not None
        with self._zip.open(_entry(name), "w") as new:
            new.write(content)

    def _opened(self, table: Table) -> _SheetCopy:
        assert self._zip is not None
        assert self._input is not None
        part = table.sheet.part
        new = self._zip.open(_entry(part), "w", force_zip64=True)
        return _SheetCopy(self._input.open(part), new, table, self._formats, self._numbers)


def _entry(name: str, moment: tuple[int, int, int, int, int, int] = (1980, 1, 1, 0, 0, 0)) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, moment)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


_Cells = Callable[[str, bytes], str]
"""Makes the cells of a row, from the prefix of the XML and the cells that are there."""


class _SheetCopy:
    """One sheet on its way from the old workbook to the new one."""

    def __init__(self, old: IO[bytes], new: IO[bytes], table: Table, formats: Formats, numbers: int) -> None:
        self.old, self._new = old, new
        self._formats = formats
        self._buffer, self._place = b"", 0
        self._pieces: list[bytes] = []
        self._size = 0
        self._line = 0
        first = _first_column(table)
        self._first = first
        self._columns = [
            column_letters(column) for column in range(first, first + numbers * len(RESULT_COLUMNS))
        ]
        self._copy_head()
        self._names = column_names(table.columns, numbers)
        self._header_line = table.header_line
        self._advance(table.header_line, self._header_cells)

    def add(self, line: int, result: Sequence[Any]) -> None:
        """Write the results behind the row at ``line``."""
        if line <= self._line:
            raise ValueError("rows of a workbook must be written in their order")
        self._advance(line, lambda prefix, body: self._cells(prefix, line, result))

    def abandon(self) -> None:
        """Close both files."""
        self.old.close()
        self._new.close()

    def finish(self) -> None:
        """Copy what is left."""
        self._emit(self._buffer[self._place :])
        while chunk := self.old.read(_CHUNK):
            self._emit(chunk)
        self._flush()
        self.old.close()
        self._new.close()

    def _copy_head(self) -> None:
        while b"sheetData" not in self._buffer and self._more():
            if len(self._buffer) > _LONGEST_ROW:
                raise FileError("the sheet has no rows in its XML; save the workbook again")
        start = self._buffer.find(b"sheetData")
        head = self._buffer[: max(start, 0)]
        last = self._columns[-1].encode()
        head = _DIMENSION.sub(lambda found: found[1] + last + found[3], head, count=1)
        self._emit(self._with_widths(head))
        self._place = max(start, 0)

    def _with_widths(self, head: bytes) -> bytes:
        """Return the head of the sheet with widths for our columns, unless it has some for them."""
        tag = head.rfind(b"<")
        if tag < 0 or any(int(column[1]) >= self._first for column in _LAST_OF_COLUMNS.finditer(head)):
            return head
        prefix = head[tag + 1 :]
        columns = b"".join(
            b'<%scol min="%d" max="%d" width="%d" customWidth="1"/>' % (prefix, place, place, width)
            for place, width in enumerate(WIDTHS * (len(self._columns) // len(WIDTHS)), start=self._first)
        )
        end = head.find(b"</" + prefix + b"cols>")
        if end >= 0:
            return head[:end] + columns + head[end:]
        return b"%s<%scols>%s</%scols>%s" % (head[:tag], prefix, columns, prefix, head[tag:])

    def _advance(self, line: int, cells: _Cells) -> None:
        """Copy up to the end of the row at ``line``, and put cells before its end."""
        while self._line < line:
            row = _ROW.search(self._buffer, self._place)
            if row is None:
                # No tag is cut in two: the rest of the buffer may be the beginning of one.
                if not self._more():
                    raise FileError(f"the sheet has no line {line:,} in its XML; save the workbook again")
                continue
            prefix = row["prefix"] or b""
            closing = b"" if row["empty"] else b"</%brow>" % prefix
            end = self._buffer.find(closing, row.end())
            if end < 0:
                if not self._more():
                    raise FileError("the XML of the sheet is cut off; copy the file again")
                continue
            said = _LINE.search(row["attributes"])
            self._line = int(said[1]) if said else self._line + 1
            after = end + len(closing)
            if self._line == line:
                self._emit(self._buffer[self._place : row.start()])
                self._emit_row(prefix, row["attributes"], self._buffer[row.end() : end], cells)
            else:
                self._emit(self._buffer[self._place : after])
            self._place = after

    def _emit_row(self, prefix: bytes, attributes: bytes, body: bytes, cells: _Cells) -> None:
        start = body.rfind(b"<" + prefix + b"c ")
        if start >= 0 and (last := _LAST_CELL.match(body, start)) and column_number(last[1]) >= self._first:
            # Cells without a value that have a style: ours stand there now.
            body = _CELL.sub(lambda cell: b"" if column_number(cell[1]) >= self._first else cell[0], body)
        made = cells(prefix.decode(), body)
        tag = prefix + b"row"
        self._emit(
            b"<" + tag + _SPANS.sub(b"", attributes) + b">" + body + made.encode() + b"</" + tag + b">"
        )

    def _header_cells(self, prefix: str, body: bytes) -> str:
        styles = _STYLE.findall(body[body.rfind(b"<" + prefix.encode() + b"c ") :])
        style = f' s="{styles[0].decode()}"' if styles else ""
        return "".join(
            text_cell(prefix, f"{column}{self._header_line}", name, style)
            for column, name in zip(self._columns, self._names, strict=True)
        )

    def _cells(self, prefix: str, line: int, result: Sequence[Any]) -> str:
        made = []
        for column, cell in zip(self._columns, result, strict=True):
            if cell is None or cell == "":
                continue
            place = f"{column}{line}"
            if isinstance(cell, bool):
                cell = yes_or_no[cell]
            if isinstance(cell, str):
                # Shorten ours: a stranger's long signature must not make the output fail.
                made.append(text_cell(prefix, place, printable(cell)[:LONGEST_CELL]))
            else:
                made.append(self._formats.cell(prefix, place, cell))
        return "".join(made)

    def _more(self) -> bool:
        chunk = self.old.read(_CHUNK)
        keep = self._buffer[self._place :]
        if len(keep) > _LONGEST_ROW:
            raise FileError("a row of the sheet is too long; save the list as CSV")
        self._buffer, self._place = keep + chunk, 0
        return bool(chunk)

    def _emit(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _WRITE_EVERY:
            self._flush()

    def _flush(self) -> None:
        self._new.write(b"".join(self._pieces))
        self._pieces.clear()
        self._size = 0


def _first_column(table: Table) -> int:
    """Return the first column (from 1) that is free in every row."""
    sheet = table.sheet
    odd: Iterable[dict[int, str]] = (*table.facts.unsaved.values(), *table.facts.errors.values())
    return max([sheet.left + len(table.columns), *(max(cells) for cells in odd)]) + 1
