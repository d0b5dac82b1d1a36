"""Parts of a workbook that we write: cells and their formats, and the sheet that sums up a checked list.

Both Excel writers put that sheet in, and a reader knows it by its first cell.
"""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Final, Protocol, TypeAlias
from xml.sax.saxutils import escape, quoteattr

import msgspec

from accucheck.files._origin import FileError
from accucheck.files._rows import iso_date, iso_moment, printable

__all__ = [
    "LONGEST_CELL",
    "MARK",
    "SUMMARY_WIDTHS",
    "Formats",
    "Heading",
    "Share",
    "SummaryPart",
    "SummarySheet",
    "free_sheet_name",
    "is_summary",
    "place_summary",
    "summary_xml",
    "text_cell",
]

LONGEST_CELL = 32_767


class Formats:
    """The formats of our cells in the workbook's styles; -1 where there is none."""

    def __init__(self) -> None:
        self.since_1904 = False
        self._day = self._moment = -1
        self.percent = self.bold = -1

    def added_to(self, styles: bytes) -> bytes:
        """Return the styles with our formats; as they are if they are in a form that nobody writes."""
        found = re.search(rb"<(\w+:)?cellXfs\b[^>]*>(.*?)</(?:\w+:)?cellXfs>", styles, re.DOTALL)
        sheet = re.search(rb"<(?:\w+:)?styleSheet\b[^>]*[^/]>", styles)
        if found is None or sheet is None:
            return styles
        prefix = found[1] or b""
        count = len(re.findall(rb"<" + prefix + rb"xf\b", found[2]))
        used = [int(number) for number in re.findall(rb'numFmtId="(\d+)"', styles)]
        first = max([163, *used]) + 1
        self._day, self._moment, self.percent = count, count + 1, count + 2
        kinds = b"".join(
            b'<%sxf numFmtId="%d" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
            % (prefix, number)
            for number in (first, first + 1, 10)  # 10 is 0.00% in every workbook
        )
        fonts = re.search(rb"<(?:\w+:)?fonts\b[^>]*>(.*?)</(?:\w+:)?fonts>", styles, re.DOTALL)
        if fonts is not None:
            self.bold = count + 3
            kinds += b'<%sxf numFmtId="0" fontId="%d" fillId="0" borderId="0" xfId="0" applyFont="1"/>' % (
                prefix,
                len(re.findall(rb"<" + prefix + rb"font\b", fonts[1])),
            )
        styles = styles[: found.end(2)] + kinds + styles[found.end(2) :]
        opening = styles[found.start() : found.start(2)]
        added = kinds.count(b"/>")
        styles = styles.replace(
            opening, re.sub(rb'\s*count="\d+"', b' count="%d"' % (count + added), opening), 1
        )
        if fonts is not None:
            first_font = re.search(
                rb"<" + prefix + rb"font\b(?:[^>]*/>|.*?</" + prefix + rb"font>)", fonts[1], re.DOTALL
            )
            bold = _bold(first_font[0] if first_font else b"", prefix)
            end = styles.index(b"fonts>", fonts.end(1)) - len(prefix) - 2
            styles = styles[:end] + bold + styles[end:]
            opening = styles[fonts.start() : fonts.start(1)]
            number = len(re.findall(rb"<" + prefix + rb"font\b", fonts[1])) + 1
            styles = styles.replace(opening, re.sub(rb'\bcount="\d+"', b'count="%d"' % number, opening), 1)
        codes = b"".join(
            b'<%snumFmt numFmtId="%d" formatCode="%s"/>' % (prefix, number, code)
            for number, code in ((first, rb"yyyy\-mm\-dd"), (first + 1, rb"yyyy\-mm\-dd\ hh:mm:ss"))
        )
        if known := re.search(rb"<(?:\w+:)?numFmts\b([^>]*)>", styles):
            styles = styles[: known.end()] + codes + styles[known.end() :]
            had = re.search(rb'count="(\d+)"', known[1])
            if had:
                renewed = known[0].replace(had[0], b'count="%d"' % (int(had[1]) + 2))
                styles = styles.replace(known[0], renewed, 1)
            return styles
        numbers = b'<%snumFmts count="2">%s</%snumFmts>' % (prefix, codes, prefix)
        return styles[: sheet.end()] + numbers + styles[sheet.end() :]

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
    text = escape(re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text))
    p = prefix
    space = ' xml:space="preserve"' if text != text.strip() else ""
    return f'<{p}c r="{place}"{style} t="inlineStr"><{p}is><{p}t{space}>{text}</{p}t></{p}is></{p}c>'


MARK: Final = "accucheck · "
"""How the first cell of such a sheet begins; readers recognize the sheet by it, whatever its name."""
SUMMARY_WIDTHS: Final = (38, 14)
"""How wide its first column is and those that follow, in characters."""
_LONGEST_NAME: Final = 31


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


def is_summary(first_line: Sequence[object]) -> bool:
    """Return whether a sheet that begins with these cells is one of ours."""
    first = next((cell for cell in first_line if cell not in ("", None)), "")
    return isinstance(first, str) and first.startswith(MARK)


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
        sheet = (
            f"<{(end[1] or b'').decode()}sheet name={quoteattr(self.name)}"
            f' sheetId="{self.sheet_id}" xmlns:rsum="{self._relations}" rsum:id="{_SUMMARY_ID}"/>'
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


class _Sheet(Protocol):
    part: str


def place_summary(book: zipfile.ZipFile, earlier: Iterable[_Sheet], name: str) -> SummaryPart:
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
    lines = []
    for line, cells in enumerate(summary.lines(), start=1):
        style = formats.bold if isinstance(cells, Heading) else -1
        made = []
        for column, cell in enumerate(cells):
            place = f"{'ABCDEFGH'[column]}{line}"
            if isinstance(cell, str):
                made.append(
                    text_cell(
                        "", place, printable(cell)[:LONGEST_CELL], f' s="{style}"' if style >= 0 else ""
                    )
                )
            elif cell is not None:
                style_of_share = f' s="{formats.percent}"'
                percent = isinstance(cell, Share) and formats.percent >= 0
                made.append(
                    f'<c r="{place}"{style_of_share if percent else ""}><v>{float(cell):.15g}</v></c>'
                )
        lines.append(f'<row r="{line}">{"".join(made)}</row>')
    first, others = SUMMARY_WIDTHS
    namespace = _STRICT_SPREADSHEET if strict else _SPREADSHEET
    return (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<worksheet xmlns="{namespace}"><cols>'
        f'<col min="1" max="1" width="{first}" customWidth="1"/><col min="2" max="6" width="{others}" customWidth="1"/>'
        f"</cols><sheetData>{''.join(lines)}</sheetData></worksheet>"
    ).encode()
