"""What other programs export as a list: web pages and Excel 2003 XML, contacts (vCard), and numbers on a line.

Excel opens the first two, so people do not know that their .xls files are not workbooks. They are held in memory, like
a workbook.
"""

from __future__ import annotations

import io
import quopri
import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from typing import BinaryIO, ClassVar
from urllib.parse import unquote
from xml.etree import ElementTree

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.files._columns import NumberColumn, Wanted
from accucheck.files._origin import FileError, Origin, translate_errors
from accucheck.files._rows import Row, Source
from accucheck.files._sheets import MOST_COLUMNS, MOST_ROWS, Sheet, SheetFacts, SheetSource
from accucheck.files._text import encoding_of, text_of

__all__ = [
    "ContactsSource",
    "NumberListSource",
    "WebTablesSource",
    "XmlSpreadsheetSource",
    "separator_of_numbers",
]

_CHUNK = 1 << 16
_WITHOUT_BLANKS = re.compile(r"[,;|\t\r\n]+")
_WITH_BLANKS = re.compile(r"[,;|\s]+")
_ENOUGH = 0.7
_ENOUGH_ON_ONE_LINE = 0.5


def separator_of_numbers(text: str) -> re.Pattern[str] | None:
    """Return what separates the numbers if a text that begins like this is nothing but numbers on a line.

    A table is not a list: each line has the same number of cells, and not only numbers.
    """
    lines = [line for line in text.splitlines() if line.strip(" ,;|\t")]
    for separator in (_WITHOUT_BLANKS, _WITH_BLANKS):
        pieces = [[piece for piece in separator.split(line) if piece.strip()] for line in lines[:200]]
        widths = [len(each) for each in pieces]
        if max(widths, default=0) < 2 or (len(lines) > 1 and len(set(widths)) == 1):
            continue
        flat = [piece for each in pieces for piece in each][:2000]
        if _is_word(flat[0]):  # a header, or a name: checking all the others would cost too much
            continue
        numbers = sum(map(_is_number, flat))
        # The members of a group, copied in one go, have names among them; the rows of a table have them too.
        share = _ENOUGH if len(lines) > 1 else _ENOUGH_ON_ONE_LINE
        enough = len(flat) if separator is _WITH_BLANKS else share * len(flat)
        if numbers >= 2 and numbers >= enough:
            return separator
    return None


def _is_word(text: str) -> bool:
    return any(map(str.isalpha, text)) and not any(map(str.isdigit, text))


def _is_number(text: str) -> bool:
    try:
        return normalize(text) >= 900_000_000  # an identity card may look like a fixed line
    except InvalidNumber:
        return False


class NumberListSource(Source):
    """Each number of a list as a row."""

    format: ClassVar[str] = "csv"

    def __init__(
        self,
        origin: Origin,
        separator: re.Pattern[str],
        *,
        column: Wanted = None,
        encoding: str | None = None,
    ) -> None:
        super().__init__(origin)
        self._separator = separator
        self.encoding = encoding_of(origin, encoding)
        self.columns = ["phone"]
        self.number_columns = [NumberColumn("phone", 0, "only column")]
        self.notes.append("the file is a plain list of numbers, not a table: each number becomes a row")

    def values(self, row: Row) -> Sequence[object]:
        return (row.record,)

    def _rows(self) -> Iterator[Row]:
        with text_of(self.origin, self.encoding) as text:
            rest = ""
            while chunk := text.read(_CHUNK):
                *pieces, rest = self._separator.split(rest + chunk)
                yield from self._numbers(pieces)
            yield from self._numbers([rest])

    def _numbers(self, pieces: Sequence[str]) -> Iterator[Row]:
        for piece in pieces:
            if number := piece.strip():
                yield Row(number, number)


_COLUMNS = ["name", "phone", "type", "email", "organization"]
_ESCAPED = re.compile(r"\\([nN,;:\\])")
_LONGEST_CARD = 1 << 24
"""In characters: a card holds a photo at most."""


class ContactsSource(Source):
    """One row for each number of each contact, and one for a contact without a number."""

    format: ClassVar[str] = "csv"

    def __init__(self, origin: Origin, *, column: Wanted = None, encoding: str | None = None) -> None:
        super().__init__(origin)
        self.encoding = encoding_of(origin, encoding)
        self.columns = list(_COLUMNS)
        self._choose_columns([], "phone" if column is None else column)

    def values(self, row: Row) -> Sequence[object]:
        cells: Sequence[object] = row.record
        return cells

    def _rows(self) -> Iterator[Row]:
        indexes = [column.index for column in self.number_columns]
        with text_of(self.origin, self.encoding) as text:
            for card in _cards(text, self.name):
                for cells in _rows_of(card):
                    yield Row("\n".join(cells[index] for index in indexes), cells)


def _cards(text: io.TextIOWrapper, name: str) -> Iterator[list[str]]:
    """Yield the unfolded lines of each card (RFC 6350, 3.2; in vCard 2.1 a line of quoted-printable ends in =)."""
    card: list[str] | None = None
    size = 0
    for line in text:
        line = line.rstrip("\r\n")
        bare = line.strip().upper()
        if bare == "BEGIN:VCARD":
            if card:
                yield card
            card, size = [], 0
        elif bare == "END:VCARD":
            if card is not None:
                yield card
            card = None
        elif card is None or not bare:
            continue
        elif card and line[:1] in " \t":
            card[-1] += line[1:]
        elif card and card[-1].endswith("=") and "QUOTED-PRINTABLE" in card[-1].split(":")[0].upper():
            card[-1] = card[-1][:-1] + line
        else:
            card.append(line)
        size += len(line)
        if size > _LONGEST_CARD:
            raise FileError(f"{name}: a contact is cut off; export the contacts again")
    if card:
        yield card  # its end is missing, but its numbers are there


def _rows_of(card: list[str]) -> Iterator[tuple[str, ...]]:
    name = email = organization = ""
    phones: list[tuple[str, str]] = []
    for line in card:
        field, colon, value = line.partition(":")
        if not colon:
            continue
        word, *parameters = field.split(";")
        value = _value(value, parameters)
        match word.rpartition(".")[2].upper():
            case "FN":
                name = value or name
            case "N" if not name:
                name = " ".join(part for part in (*value.split(";")[1:2], *value.split(";")[:1]) if part)
            case "TEL":
                phones.append(
                    (unquote(value) if value.lower().startswith("tel:") else value, _types(parameters))
                )
            case "EMAIL" if not email:
                email = value
            case "ORG" if not organization:
                organization = value.rstrip(";")
    for phone, kind in phones or [("", "")]:
        yield name, phone, kind, email, organization


def _value(text: str, parameters: list[str]) -> str:
    said = {parameter.upper() for parameter in parameters}
    if said & {"ENCODING=QUOTED-PRINTABLE", "QUOTED-PRINTABLE"}:
        charset = next((each[8:] for each in said if each.startswith("CHARSET=")), "utf-8")
        raw = quopri.decodestring(text.encode("utf-8", "replace"))
        try:
            text = raw.decode(charset, "replace")
        except LookupError:
            text = raw.decode("utf-8", "replace")
    return _ESCAPED.sub(lambda sign: "\n" if sign[1] in "nN" else sign[1], text).strip()


def _types(parameters: list[str]) -> str:
    """Return ``CELL`` for ``TYPE=CELL,VOICE``, ``type="cell"`` and vCard 2.1's bare ``CELL``."""
    kinds = []
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if not equals or key.upper() == "TYPE":
            kinds += (value if equals else key).strip('"').upper().split(",")
    return " ".join(kind for kind in kinds if kind not in ("VOICE", "PREF", "INTERNET", ""))


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


def _whole(text: str | None, least: int = 1) -> int:
    """Return the number in an attribute, at least ``least``, and no more than a sheet has rows."""
    if text is None or not (text.isascii() and text.isdigit()):
        return least
    return max(least, min(int(text[:8]), MOST_ROWS))


def _xml_sheets(stream: BinaryIO, name: str) -> Iterator[Sheet]:
    rows: list[list[str]] = []
    hidden: set[int] = set()
    title = ""
    ns = "{urn:schemas-microsoft-com:office:spreadsheet}"
    for event, element in ElementTree.iterparse(stream, events=("start", "end")):  # noqa: S314
        if event == "start":
            if element.tag == f"{ns}Worksheet":
                title, rows, hidden = element.get(f"{ns}Name", ""), [], set()
            continue
        if element.tag == f"{ns}Row":
            line = _whole(element.get(f"{ns}Index"), len(rows) + 1)
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
        place = min(_whole(cell.get(f"{ns}Index"), len(cells) + 1), MOST_COLUMNS)
        cells.extend([""] * (place - 1 - len(cells)))
        data = cell.find(f"{ns}Data")
        text = "" if data is None else "".join(data.itertext())
        is_number = data is not None and data.get(f"{ns}Type") == "Number"
        cells.append(text.removesuffix(".0") if is_number else text)
        cells.extend([""] * min(_whole(cell.get(f"{ns}MergeAcross"), 0), MOST_COLUMNS))
    return cells
