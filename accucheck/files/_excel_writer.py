"""What is written into workbooks: all of a new one, and the cells, formats and summary sheet of a copy.

A new workbook is written with XlsxWriter without keeping rows in memory. Formats and formulas are lost.
"""

from __future__ import annotations

import html
import math
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec

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
    iso_date,
    iso_moment,
    padded,
    printable,
    yes_or_no,
)
from accucheck.files._sheets import LONGEST_CELL, MOST_COLUMNS, MOST_ROWS, Sheet, column_letters

__all__ = [
    "ExcelWriter",
    "Formats",
    "Heading",
    "Share",
    "SummaryPart",
    "SummarySheet",
    "free_sheet_name",
    "place_summary",
    "summary_xml",
    "text_cell",
]

_EXACT_DIGITS = 15
_MAYBE_LONG = (str, bytes, list, tuple, dict)
_INSTEAD = "write .csv or .parquet instead"
_SUMMARY_WIDTHS: Final = (38, 14)
"""How wide the first column of the summary is and those that follow, in characters."""
_LONGEST_NAME: Final = 31


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
        if self._line >= MOST_ROWS:  # only where the rows could not be counted before
            raise _too_many(f"more than {MOST_ROWS:,} rows")
        for place, cell in enumerate(self._source.values(row)):
            self._put(place, cell)
        for place, cell in enumerate(padded(result, more, self._numbers), start=self._width):
            if cell is None or isinstance(cell, bool):
                cell = yes_or_no[cell]
            elif isinstance(cell, datetime):
                cell = cell.astimezone(UTC).replace(tzinfo=None, microsecond=0)
            # Shorten ours: a stranger's long signature must not make the output fail.
            self._put(place, printable(cell)[:LONGEST_CELL] if isinstance(cell, str) else cell)

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
        sheet.set_column(0, 0, _SUMMARY_WIDTHS[0])
        sheet.set_column(1, 5, _SUMMARY_WIDTHS[1])
        bold = self._book.add_format({"bold": True})
        percent = self._book.add_format({"num_format": 10})
        for line, cells in enumerate(summary.lines()):
            for place, cell in enumerate(cells):
                if isinstance(cell, str):
                    text = printable(cell)[:LONGEST_CELL]
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
                if len(text) > LONGEST_CELL:  # only where the rows could not be looked at before
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
    if columns > MOST_COLUMNS:
        raise FileError(
            f"an Excel sheet holds at most {MOST_COLUMNS:,} columns and the output has {columns:,}; {_INSTEAD}"
        )
    most = MOST_ROWS - 1 - len(source.title)
    if source.rows_total is not None and source.rows_total > most:
        raise _too_many(f"{source.rows_total:,} rows and a header")
    if not source.repeatable:
        return
    for place, row in enumerate(source.rows(), start=1):
        if place > most:
            raise _too_many(f"more than {most:,} rows and a header")
        for cell in source.values(row):
            if isinstance(cell, _MAYBE_LONG) and len(text := as_text(cell)) > LONGEST_CELL:
                raise _too_long(text, place)


def _too_many(what: str) -> FileError:
    return FileError(f"an Excel sheet holds at most {MOST_ROWS:,} rows and the output has {what}; {_INSTEAD}")


def _too_long(text: str, place: int) -> FileError:
    return FileError(
        f"row {place}: a cell has {len(text):,} characters and Excel allows {LONGEST_CELL:,}; {_INSTEAD}"
    )


class Share(float):
    """A share, 0 to 1, shown in percent."""


Cell: TypeAlias = str | int | float | None
Line: TypeAlias = Sequence[Cell]


class Heading(tuple[Cell, ...]):
    """A line in bold."""

    __slots__ = ()


class SummarySheet(msgspec.Struct, frozen=True):
    """The sheet."""

    name: str
    """Its name; a number is appended if the workbook already has such a sheet."""
    lines: Callable[[], Sequence[Line]]
    """Returns its lines once every row is written; the first begins with ``MARK``."""


def free_sheet_name(wanted: str, taken: Iterable[str]) -> str:
    """Return ``wanted``, with a number appended if a sheet already has that name, ignoring case."""
    used = {name.casefold() for name in taken}
    name, again = wanted[:_LONGEST_NAME], 1
    while name.casefold() in used:
        again += 1
        name = f"{wanted[: _LONGEST_NAME - 1 - len(str(again))]} {again}"
    return name


class Formats:
    """The formats of our cells in the workbook's styles; -1 where there is none."""

    def __init__(self) -> None:
        self.since_1904 = False
        self._day = self._moment = -1
        self.percent = self.bold = -1

    def added_to(self, styles: bytes) -> bytes:
        """Return the styles with our formats added; unchanged if their form is unknown."""
        cells, fonts = _children(styles, b"cellXfs", b"xf"), _children(styles, b"fonts", b"font")
        root = re.search(rb"<(\w+:)?styleSheet\b[^>]*[^/]>", styles)
        if not cells or root is None:
            return styles
        p = root[1] or b""
        first = max([163, *map(int, re.findall(rb'numFmtId="(\d+)"', styles))]) + 1
        kinds = [
            b'<%bxf numFmtId="%d" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
            % (p, kind)
            for kind in (first, first + 1, 10)  # 10 is 0.00% in every workbook
        ]
        self._day, self._moment, self.percent = range(len(cells), len(cells) + 3)
        if fonts:
            self.bold = len(cells) + 3
            kinds.append(
                b'<%bxf numFmtId="0" fontId="%d" fillId="0" borderId="0" xfId="0" applyFont="1"/>'
                % (p, len(fonts))
            )
            styles = _appended(styles, b"fonts", [_bold(fonts[0], p)])
        styles = _appended(styles, b"cellXfs", kinds)
        if b"numFmts>" not in styles:
            styles = (
                styles[: root.end()] + b'<%bnumFmts count="0"></%bnumFmts>' % (p, p) + styles[root.end() :]
            )
        codes = rb"yyyy\-mm\-dd", rb"yyyy\-mm\-dd\ hh:mm:ss"
        return _appended(
            styles,
            b"numFmts",
            [
                b'<%bnumFmt numFmtId="%d" formatCode="%b"/>' % (p, first + place, code)
                for place, code in enumerate(codes)
            ],
        )

    def cell(self, prefix: str, place: str, value: date | datetime) -> str:
        """Return a cell with a date, or with a time in UTC."""
        exact = isinstance(value, datetime)
        style = self._moment if exact else self._day
        if style < 0 or value.year < 1901:
            text = iso_moment(value) if isinstance(value, datetime) else iso_date(value)
            return text_cell(prefix, place, text)
        start = date(1904, 1, 1) if self.since_1904 else date(1899, 12, 30)
        if isinstance(value, datetime):
            value = value.astimezone(UTC)
            seconds = value.hour * 3600 + value.minute * 60 + value.second
            serial = f"{(value.date() - start).days + seconds / 86_400:.10f}"
        else:
            serial = str((value - start).days)
        return f'<{prefix}c r="{place}" s="{style}"><{prefix}v>{serial}</{prefix}v></{prefix}c>'


def _children(xml: bytes, parent: bytes, child: bytes) -> list[bytes]:
    """Return the children of an element of the styles; none if there is no such element."""
    found = re.search(rb"<(?:\w+:)?%b\b[^>]*>(.*?)</(?:\w+:)?%b>" % (parent, parent), xml, re.DOTALL)
    pattern = rb"<(?:\w+:)?%b\b(?:[^>]*/>|.*?</(?:\w+:)?%b>)" % (child, child)
    return re.findall(pattern, found[1], re.DOTALL) if found else []


def _appended(xml: bytes, parent: bytes, children: Sequence[bytes]) -> bytes:
    """Return the XML with ``children`` at the end of an element, and counted by it."""

    def counted(tag: re.Match[bytes]) -> bytes:
        return re.sub(rb'(?<=\bcount=")\d+', lambda old: b"%d" % (int(old[0]) + len(children)), tag[0])

    xml = re.sub(rb"<(?:\w+:)?%b\b[^>]*>" % parent, counted, xml, count=1)
    return re.sub(rb"(?=</(?:\w+:)?%b>)" % parent, lambda _: b"".join(children), xml, count=1)


def _bold(font: bytes, prefix: bytes) -> bytes:
    """Return a font like this one, in bold."""
    if re.search(rb"<" + prefix + rb"b\s*/>", font):
        return font
    if (font.endswith(b"/>") and font.count(b"<") == 1) or not font:
        return b"<%sfont><%sb/></%sfont>" % (prefix, prefix, prefix)
    start = font.index(b">") + 1
    return font[:start] + b"<%sb/>" % prefix + font[start:]


def text_cell(prefix: str, place: str, text: str, style: str = "") -> str:
    # Excel reads _x0041_ in a text as the letter A.
    text = html.escape(re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text), quote=False)
    p = prefix
    space = ' xml:space="preserve"' if text != text.strip() else ""
    return f'<{p}c r="{place}"{style} t="inlineStr"><{p}is><{p}t{space}>{text}</{p}t></{p}is></{p}c>'


class SummaryPart(msgspec.Struct, frozen=True):
    """Where the summary sheet goes in the workbook."""

    path: str
    name: str = ""
    """What it is called; "" if it takes the place of the one that an earlier run made."""
    sheet_id: int = 0
    strict: bool = False
    """Whether the workbook is written in "Strict Open XML", which has other names for the same things."""

    @property
    def _relations(self) -> str:
        return _STRICT_RELATIONS if self.strict else _RELATIONS

    def in_workbook(self, content: bytes) -> bytes:
        """Return ``xl/workbook.xml`` with the sheet behind all others."""
        if not self.name:
            return content
        end = re.search(rb"</(\w+:)?sheets>", content)
        if end is None:
            raise FileError("the workbook has no list of its sheets; save it again")
        prefix = (end[1] or b"").decode()
        sheet = (
            f'<{prefix}sheet name="{html.escape(self.name)}" sheetId="{self.sheet_id}"'
            f' xmlns:rsum="{self._relations}" rsum:id="{_SUMMARY_ID}"/>'
        )
        return content[: end.start()] + sheet.encode() + content[end.start() :]

    def in_list(self, content: bytes) -> bytes:
        """Return the list of content types, or that of the workbook's relations, with the sheet in it."""
        if not self.name:
            return content
        end = re.search(rb"</(\w+:)?(Types|Relationships)>", content)
        if end is None:
            raise FileError("the workbook has no list of its parts; save it again")
        prefix = (end[1] or b"").decode()
        entry = (
            f'<{prefix}Override PartName="/{self.path}" ContentType="{_SHEET_TYPE}"/>'
            if end[2] == b"Types"
            else f'<{prefix}Relationship Id="{_SUMMARY_ID}" Type="{self._relations}/worksheet" Target="/{self.path}"/>'
        )
        return content[: end.start()] + entry.encode() + content[end.start() :]


_SUMMARY_ID = "rIdAccucheckSummary"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_STRICT_RELATIONS = "http://purl.oclc.org/ooxml/officeDocument/relationships"
_SPREADSHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_STRICT_SPREADSHEET = "http://purl.oclc.org/ooxml/spreadsheetml/main"
_SHEET_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"


def place_summary(book: zipfile.ZipFile, earlier: Iterable[Sheet], name: str) -> SummaryPart:
    """Return where the sheet goes in a copy of a workbook: in the place of the ``earlier`` one, if there is one."""
    content = book.read("xl/workbook.xml")
    strict = _STRICT_SPREADSHEET.encode() in content
    for sheet in earlier:
        if sheet.part:
            return SummaryPart(sheet.part, strict=strict)
    ids = [int(number) for number in re.findall(rb'\bsheetId="(\d+)"', content)]
    parts = {part.filename.lower() for part in book.infolist()}
    again = 1
    while (path := f"xl/worksheets/accucheck{again}.xml") in parts:
        again += 1
    # The sheets' names as the workbook has them: some, such as charts, are not read.
    taken = [html.unescape(each.decode("utf-8", "replace")) for each in _SHEET_NAME.findall(content)]
    return SummaryPart(path, free_sheet_name(name, taken), max(ids, default=0) + 1, strict)


_SHEET_NAME = re.compile(rb'<(?:\w+:)?sheet\b[^>]*?\bname="([^"]*)"')


def summary_xml(summary: SummarySheet, formats: Formats, *, strict: bool) -> bytes:
    """Return the sheet as a part of a workbook."""
    styles = {Heading: formats.bold, Share: formats.percent}
    lines = []
    for line, cells in enumerate(summary.lines(), start=1):
        made = []
        for column, cell in enumerate(cells, start=1):
            place = f"{column_letters(column)}{line}"
            number = styles.get(type(cells) if isinstance(cell, str) else type(cell), -1)
            style = f' s="{number}"' if number >= 0 else ""
            if isinstance(cell, str):
                made.append(text_cell("", place, printable(cell)[:LONGEST_CELL], style))
            elif cell is not None:
                made.append(f'<c r="{place}"{style}><v>{float(cell):.15g}</v></c>')
        lines.append(f'<row r="{line}">{"".join(made)}</row>')
    first, others = _SUMMARY_WIDTHS
    namespace = _STRICT_SPREADSHEET if strict else _SPREADSHEET
    return (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<worksheet xmlns="{namespace}"><cols>'
        f'<col min="1" max="1" width="{first}" customWidth="1"/><col min="2" max="6" width="{others}" customWidth="1"/>'
        f"</cols><sheetData>{''.join(lines)}</sheetData></worksheet>"
    ).encode()
