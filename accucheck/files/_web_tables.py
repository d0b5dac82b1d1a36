"""Tables of web pages and Excel 2003 XML, which many systems export as .xls files.

Excel opens both, so people do not know that they are not workbooks. They are held in memory, like a workbook.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import BinaryIO
from xml.etree import ElementTree

from accucheck.files._columns import Wanted
from accucheck.files._origin import FileError, Origin, translate_errors
from accucheck.files._sheets import MOST_COLUMNS, MOST_ROWS, Sheet, SheetFacts, SheetSource
from accucheck.files._text import encoding_of, text_of

__all__ = ["WebTablesSource", "XmlSpreadsheetSource"]

_CHUNK = 1 << 18
# A blank that does not break is not among them: inside a text it stays.
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?([\w-]+)", re.IGNORECASE)


class WebTablesSource(SheetSource):
    """Rows of the tables of a web page."""

    def __init__(
        self,
        origin: Origin,
        *,
        column: Wanted = None,
        encoding: str | None = None,
        sheet: str | int | None = None,
        visible_only: bool = False,
    ) -> None:
        parser = _Tables()
        with text_of(origin, encoding_of(origin, encoding or _said_charset(origin.head))) as text:
            while chunk := text.read(_CHUNK):
                parser.feed(chunk)
            parser.close()
        tables = [rows for rows in parser.tables if rows]
        if not tables:
            raise FileError(
                f"{origin.name}: this web page contains no table; export the list as CSV or .xlsx"
            )
        sheets = [_in_memory(f"table {place}", rows, set()) for place, rows in enumerate(tables, start=1)]
        super().__init__(
            origin, sheets, column=column, sheet=sheet, visible_only=visible_only, things="tables"
        )


class XmlSpreadsheetSource(SheetSource):
    """Rows of Excel 2003 XML (SpreadsheetML)."""

    def __init__(
        self,
        origin: Origin,
        *,
        column: Wanted = None,
        encoding: str | None = None,
        sheet: str | int | None = None,
        visible_only: bool = False,
    ) -> None:
        if b"<!ENTITY" in origin.head:
            raise FileError(f"{origin.name}: XML with entities is not supported; save it as .xlsx")
        with translate_errors(origin.name, ElementTree.ParseError), origin.open() as plain:
            sheets = list(_xml_sheets(plain, origin.name))
        super().__init__(origin, sheets, column=column, sheet=sheet, visible_only=visible_only)


def _said_charset(head: bytes) -> str | None:
    said = _CHARSET.search(head[:4096])
    if said is None or said[1].lower() in (b"utf-8", b"utf8"):
        return None  # pages say so that are not: it is found by their bytes
    name = said[1].decode()
    try:
        "".encode(name)
    except (LookupError, UnicodeError):
        return None
    return "cp1252" if name.lower() in ("iso-8859-1", "latin1", "us-ascii") else name


def _in_memory(name: str, rows: list[list[str]], hidden: set[int]) -> Sheet:
    width = max(map(len, rows), default=0)
    for cells in rows:
        cells.extend([""] * (width - len(cells)))
    return Sheet(name, len(rows), lambda: iter(rows), facts=lambda: SheetFacts(hidden=hidden))


class _Tables(HTMLParser):
    """Collects the cells of every table; a cell that spans columns or rows is followed by empty ones."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[list[list[str]]] = []
        self._open: list[list[list[str]]] = []
        self._spans: list[dict[int, int]] = []
        self._cell: list[str] | None = None
        self._outer: list[list[str] | None] = []
        self._span = (1, 1)
        self._skipped = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "title"):
            self._skipped += 1
        elif tag == "table":
            self._outer.append(self._cell)
            self._cell = None
            self._open.append([])
            self._spans.append({})
            self.tables.append(self._open[-1])
        elif tag == "tr" and self._open:
            self._end_cell()
            self._open[-1].append([])
        elif tag in ("td", "th") and self._open:
            self._end_cell()
            if not self._open[-1]:
                self._open[-1].append([])
            self._cell = []
            said = dict(attrs)
            self._span = _whole(said.get("colspan")), _whole(said.get("rowspan"))
        elif tag in ("br", "p", "div", "li") and self._cell:
            self._cell.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "title"):
            self._skipped = max(0, self._skipped - 1)
        elif tag in ("td", "th", "tr"):
            self._end_cell()
        elif tag == "table" and self._open:
            self._end_cell()
            self._open.pop()
            self._spans.pop()
            self._cell = self._outer.pop()

    def handle_data(self, data: str) -> None:
        if self._cell is not None and not self._skipped:
            self._cell.append(_BLANKS.sub(" ", data))

    def close(self) -> None:
        super().close()
        while self._open:
            self.handle_endtag("table")

    def _end_cell(self) -> None:
        if self._cell is None:
            return
        text = "\n".join(_BLANKS.sub(" ", line).strip() for line in "".join(self._cell).split("\n"))
        self._cell = None
        rows, spans = self._open[-1], self._spans[-1]
        row = rows[-1]
        while spans.get(len(row), 0) >= len(rows):
            row.append("")
        columns, lines = self._span
        columns = min(columns, max(1, MOST_COLUMNS - len(row)))
        for place in range(columns):
            if lines > 1:
                spans[len(row)] = len(rows) + lines - 1
            row.append("" if place else text.strip())


def _whole(text: str | None) -> int:
    return (
        max(1, min(int(text), MOST_ROWS))
        if text and text.isascii() and text.isdigit() and len(text) < 8
        else 1
    )


_NAMESPACE = "urn:schemas-microsoft-com:office:spreadsheet"


def _xml_sheets(stream: BinaryIO, name: str) -> Iterator[Sheet]:
    rows: list[list[str]] = []
    hidden: set[int] = set()
    title = ""
    ns = f"{{{_NAMESPACE}}}"
    for event, element in ElementTree.iterparse(stream, events=("start", "end")):  # noqa: S314
        if event == "start":
            if element.tag == f"{ns}Worksheet":
                title, rows, hidden = element.get(f"{ns}Name", ""), [], set()
            continue
        if element.tag == f"{ns}Row":
            line = _whole(element.get(f"{ns}Index")) if element.get(f"{ns}Index") else len(rows) + 1
            if line > MOST_ROWS:
                raise FileError(f"{name}: row number {line:,} is beyond the end of any sheet")
            rows.extend([] for _ in range(line - 1 - len(rows)))
            rows.append(_xml_cells(element, ns))
            if element.get(f"{ns}Hidden") == "1":
                hidden.add(len(rows))
            element.clear()
        elif element.tag == f"{ns}Worksheet":
            yield _in_memory(title, rows, hidden)
            element.clear()


def _xml_cells(row: ElementTree.Element, ns: str) -> list[str]:
    cells: list[str] = []
    for cell in row.findall(f"{ns}Cell"):
        if index := cell.get(f"{ns}Index"):
            cells.extend([""] * (min(_whole(index), MOST_COLUMNS) - 1 - len(cells)))
        data = cell.find(f"{ns}Data")
        text = "" if data is None else "".join(data.itertext())
        cells.append(
            text.removesuffix(".0") if data is not None and data.get(f"{ns}Type") == "Number" else text
        )
        cells.extend(
            [""]
            * min(_whole(cell.get(f"{ns}MergeAcross")) if cell.get(f"{ns}MergeAcross") else 0, MOST_COLUMNS)
        )
    return cells
