"""Workbooks: read with calamine (.xlsx, .xlsm, .xlsb, .xls, .ods).

A sheet has at most 1,048,576 rows, so it can be read into memory. What calamine does not report (hidden rows, formulas
that were never calculated, errors) is found in the XML of the sheet.

A workbook is measured before it is read. The reader keeps a sheet as one block from its first cell to its last, so a
tiny file with a stray cell in the last corner would otherwise use up all memory.
"""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO
from xml.etree import ElementTree

from accucheck.files._columns import Wanted
from accucheck.files._errors import TORN_ARCHIVE, FileError, needs, translate_errors
from accucheck.files._origin import Origin
from accucheck.files._sheets import Sheet, SheetFacts, SheetSource

__all__ = ["ExcelSource", "sheet_parts"]

_MOST_BYTES = 4 << 30
"""Of all parts unpacked: about what they take in memory."""

_MOST_CELLS = 1 << 27
"""128 columns of 1,048,576 rows, at 24 bytes each."""

_CHUNK = 1 << 20
_OVERLAP = 4096

_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_DIMENSION = re.compile(rb'<(?:\w+:)?dimension [^>]*ref="\$?A?[^":]*:\$?([A-Z]{1,3})\$?(\d+)"')
_FULL_CELL = re.compile(rb'<(?:\w+:)?c [^>]*?r="([A-Z]{1,3})(\d+)"[^>]*(?<!/)>')


def _refuse_huge_workbook(stream: BinaryIO, name: str) -> None:
    """Raise FileError if the workbook would not fit. ``stream`` is left at its start."""
    if not stream.seekable():
        return
    try:
        with zipfile.ZipFile(stream) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
            if unpacked > _MOST_BYTES:
                raise FileError(
                    f"{name}: the workbook expands to {unpacked >> 20:,} MiB; save the list as CSV"
                )
            for part in parts.infolist():
                if _SHEET.fullmatch(part.filename):
                    with parts.open(part) as sheet:
                        _refuse_huge_sheet(sheet, name)
    except FileError:
        raise
    except TORN_ARCHIVE:
        pass  # an old workbook, or a torn one: its reader tells
    finally:
        stream.seek(0)


def _refuse_huge_sheet(sheet: IO[bytes], name: str) -> None:
    head = sheet.read(_OVERLAP)
    said = _DIMENSION.search(head)
    if said is None or _cells(*said.groups()) <= _MOST_CELLS:
        return
    # Some programs say that every sheet has the maximum size, so only its cells count.
    columns, rows = b"", 0
    while head:
        for column, row in _FULL_CELL.findall(head):
            columns, rows = max(columns, column.rjust(3)), max(rows, int(row))
        if _cells(columns, rows) > _MOST_CELLS:
            raise FileError(
                f"{name}: a sheet has cells out to column {columns.strip().decode()} and row {rows:,};"
                " delete everything outside the list, or save it as CSV"
            )
        more = sheet.read(_CHUNK)
        head = head[-_OVERLAP:] + more if more else b""


def _cells(column: bytes, row: int | bytes) -> int:
    """Return how many cells there are from the first to the one at ``column`` (letters) and ``row``."""
    width = 0
    for letter in column.strip():
        width = 26 * width + letter - ord("A") + 1
    return width * int(row)


class ExcelSource(SheetSource):
    """Rows of a workbook."""

    def __init__(
        self,
        origin: Origin,
        *,
        column: Wanted = None,
        sheet: str | int | None = None,
        visible_only: bool = False,
    ) -> None:
        try:
            import python_calamine
        except ImportError as error:
            raise needs("xlsx", "Excel") from error
        broken = (python_calamine.CalamineError, python_calamine.ZipError, python_calamine.XmlError)
        with (
            translate_errors(origin.name),
            _excel_errors(origin.name, broken, python_calamine.PasswordError),
            origin.open() as stream,
        ):
            _refuse_huge_workbook(stream, origin.name)
            self.parts = sheet_parts(stream)
            """The XML of each sheet of an .xlsx file, by the name of the sheet; empty for other workbooks."""
            self.has_macros = _has_macros(stream)
            stream.seek(0)
            workbook = python_calamine.load_workbook(stream)
            sheets = [
                _sheet(
                    origin,
                    workbook.get_sheet_by_index(place),
                    self.parts.get(about.name, ""),
                    hidden=about.visible != python_calamine.SheetVisibleEnum.Visible,
                )
                for place, about in enumerate(workbook.sheets_metadata)
                if about.typ == python_calamine.SheetTypeEnum.WorkSheet
            ]
            super().__init__(origin, sheets, column=column, sheet=sheet, visible_only=visible_only)


@contextmanager
def _excel_errors(name: str, broken: tuple[type[Exception], ...], locked: type[Exception]) -> Iterator[None]:
    try:
        yield
    except locked as error:
        raise FileError(f"{name}: the workbook has a password; save it without one") from error
    except broken as error:
        raise FileError(
            f"{name}: the file is damaged or is not Excel; open it in Excel and save it as .xlsx"
        ) from error


def _sheet(origin: Origin, sheet: Any, part: str, *, hidden: bool) -> Sheet:
    top, left = sheet.start or (0, 0)
    return Sheet(
        name=str(sheet.name),
        # It counts from the first row that is not blank, but iterates from the first row of the sheet.
        height=top + sheet.height if sheet.height else 0,
        rows=sheet.iter_rows,
        hidden=hidden,
        left=left,
        facts=(lambda: _facts(origin, part)) if part else SheetFacts,
        part=part,
    )


def _has_macros(stream: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(stream) as parts:
            return any("vbaProject" in name for name in parts.namelist())
    except TORN_ARCHIVE:
        return False


_OFFICE = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_STRICT_OFFICE = "{http://purl.oclc.org/ooxml/officeDocument/relationships}"


def sheet_parts(stream: BinaryIO) -> dict[str, str]:
    """Return the part of an .xlsx file that holds each sheet, by its name; nothing for other workbooks."""
    try:
        with zipfile.ZipFile(stream) as parts:
            names = {name.lower(): name for name in parts.namelist()}
            if "xl/workbook.xml" not in names or "xl/_rels/workbook.xml.rels" not in names:
                return {}
            targets = {
                each.get("Id"): each.get("Target", "")
                for each in ElementTree.fromstring(parts.read(names["xl/_rels/workbook.xml.rels"]))  # noqa: S314
            }
            found = {}
            for each in ElementTree.fromstring(parts.read(names["xl/workbook.xml"])).iter():  # noqa: S314
                if each.tag.endswith("}sheet"):
                    target = targets.get(
                        each.get(f"{_OFFICE}id") or each.get(f"{_STRICT_OFFICE}id") or "", ""
                    )
                    path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
                    if path.lower() in names:
                        found[each.get("name", "")] = names[path.lower()]
            return found
    except (*TORN_ARCHIVE, ElementTree.ParseError):
        return {}  # an old workbook, or a torn one: its reader tells


_HIDDEN_ROW = re.compile(rb'<(?:\w+:)?row\b([^>]*\bhidden="(?:1|true)"[^>]*)>')
_ODD_CELL = re.compile(
    rb"<(?:\w+:)?c\b([^>]*[^>/])>\s*"
    rb"(?P<formula><(?:\w+:)?f\b(?:[^>]*/>|[^>]*>(?P<text>[^<]*)</(?:\w+:)?f>))?\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>(?P<value>[^<]*)</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_PLACE = re.compile(rb'\br="([A-Z]{0,3})(\d+)"')
_ROOT = re.compile(rb"<(\w+:)?worksheet\b")
_LONGEST_ROW = 64 << 20


def _facts(origin: Origin, part: str) -> SheetFacts:
    with (
        translate_errors(origin.name, *TORN_ARCHIVE),
        origin.open() as stream,
        zipfile.ZipFile(stream) as parts,
        parts.open(part) as sheet,
    ):
        sheet._expected_crc = None  # type: ignore[attr-defined]  # calamine has checked it
        return facts_in(sheet)


def facts_in(sheet: IO[bytes], chunk_size: int = _CHUNK) -> SheetFacts:
    """Search the XML of a sheet for what calamine does not report.

    It is searched for marks, and only what is near one is looked at: few sheets have any.
    """
    facts, marks = SheetFacts(), _Marks()
    rest, marked = b"", False
    while chunk := sheet.read(chunk_size):
        first = rest + chunk[: chunk.find(b"row>") + 4] if rest else b""  # the row that lies across
        marked = marked or (bool(first) and marks.are_in(first)) or marks.are_in(chunk)
        end = chunk.rfind(b"row>") + 4
        if end < 4 and len(rest) < _LONGEST_ROW:
            rest += chunk
            continue
        if marked:
            _look_at(rest + chunk[:end], marks, facts)
        rest = chunk[end:]
        marked = marked and marks.are_in(rest)
    if marked or marks.are_in(rest):
        _look_at(rest, marks, facts)
    return facts


class _Marks:
    """What is in the XML of hidden rows, errors, and formulas without a value.

    Texts of some length that are rare in other rows: they are found several times as fast as short ones.
    """

    def __init__(self) -> None:
        self._formula = b""
        self._unsaved: list[bytes] = []
        self._formulas = False

    def are_in(self, chunk: bytes) -> bool:
        """Whether a row in ``chunk`` may be hidden, or have an error or such a formula."""
        if not self._formula:
            root = _ROOT.search(chunk)
            prefix = root[1] or b"" if root else b""
            self._formula = b"</%bf>" % prefix
            behind = [
                b"</%bc>" % prefix,
                *(b"<%bv%b" % (prefix, end) for end in (b"></", b"/>", b" />")),
                b"\n",
                b"\r",
            ]
            # One that shares the text of an earlier one is <f t="shared" si="0"/>.
            self._unsaved = [end + then for end in (self._formula, b"/>") for then in behind]
        return self.of_hidden_rows(chunk) or self.of_odd_cells(chunk)

    @staticmethod
    def of_hidden_rows(chunk: bytes) -> bool:
        # LibreOffice writes hidden="false" into every row.
        return b'hidden="' in chunk and (b'hidden="1"' in chunk or b'hidden="true"' in chunk)

    def of_odd_cells(self, chunk: bytes) -> bool:
        self._formulas = self._formulas or self._formula in chunk
        if b"#" in chunk and b't="e"' in chunk:  # as in #N/A; a single byte is found at once
            return True
        return self._formulas and any(mark in chunk for mark in self._unsaved)


def _look_at(rows: bytes, marks: _Marks, facts: SheetFacts) -> None:
    if marks.of_hidden_rows(rows):
        for row in _HIDDEN_ROW.finditer(rows):
            if place := _PLACE.search(row[1]):
                facts.hidden.add(int(place[2]))
    if marks.of_odd_cells(rows):
        _find_odd_cells(rows, facts)


def _find_odd_cells(chunk: bytes, facts: SheetFacts) -> None:
    for cell in _ODD_CELL.finditer(chunk):
        is_error = b't="e"' in cell[1]
        if not is_error and (cell["formula"] is None or cell["value"]):
            continue
        if (place := _PLACE.search(cell[1])) is None:
            continue
        kind = facts.errors if is_error else facts.unsaved
        text = cell["value"] if is_error else b"=" + (cell["text"] or b"")
        column = 0
        for letter in place[1]:
            column = 26 * column + letter - ord("A") + 1
        kind.setdefault(int(place[2]), {})[column] = html.unescape((text or b"").decode("utf-8", "replace"))
