"""The summary sheet of a checked list: its contents, and how a reader recognizes it."""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias
from xml.sax.saxutils import quoteattr

import msgspec

from accucheck.files._errors import FileError
from accucheck.files._excel_cells import LONGEST_CELL, Formats, column_letters, text_cell
from accucheck.files._results import printable

__all__ = [
    "MARK",
    "SUMMARY_WIDTHS",
    "Heading",
    "Share",
    "SummaryPart",
    "SummarySheet",
    "free_sheet_name",
    "is_summary",
    "place_summary",
    "summary_xml",
]

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
        for column, cell in enumerate(cells, start=1):
            place = f"{column_letters(column)}{line}"
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
