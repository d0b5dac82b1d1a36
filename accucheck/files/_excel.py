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
from typing import IO, Any, BinaryIO, cast
from xml.etree import ElementTree

from accucheck.files._columns import Wanted
from accucheck.files._origin import TORN_ARCHIVE, FileError, Origin, needs, translate_errors
from accucheck.files._sheets import Sheet, SheetFacts, SheetSource, column_number

__all__ = ["ExcelSource"]

_MOST_BYTES = 4 << 30
"""Of all parts unpacked: about what they take in memory."""

_MOST_CELLS = 1 << 27
"""128 columns of 1,048,576 rows, at 24 bytes each."""

_CHUNK = 1 << 20
_LONGEST_ROW = 64 << 20
_HEAD = 4096

_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_DIMENSION = re.compile(rb'<(?:\w+:)?dimension [^>]*ref="\$?A?[^":]*:\$?([A-Z]{1,3})\$?(\d+)"')
_FULL_CELL = re.compile(rb'<(?:\w+:)?c [^>]*?r="([A-Z]{1,3})(\d+)"[^>]*(?<!/)>')


def _refuse_huge_workbook(book: zipfile.ZipFile, name: str) -> None:
    unpacked = sum(part.file_size for part in book.infolist())
    if unpacked > _MOST_BYTES:
        raise FileError(f"{name}: the workbook expands to {unpacked >> 20:,} MiB; save the list as CSV")
    for part in book.namelist():
        if _SHEET.fullmatch(part):
            with book.open(part) as sheet:
                said = _DIMENSION.search(cast("zipfile.ZipExtFile", sheet).peek(_HEAD))
                if said and column_number(said[1]) * int(said[2]) > _MOST_CELLS:
                    _refuse_huge_sheet(sheet, name)


def _refuse_huge_sheet(sheet: IO[bytes], name: str) -> None:
    # Some programs say that every sheet has the maximum size, so only its cells count.
    column, row = b"", 0
    for rows in _whole_rows(sheet):
        for letters, line in _FULL_CELL.findall(rows):
            column, row = max(column, letters.rjust(3)), max(row, int(line))
        if column_number(column.strip()) * row > _MOST_CELLS:
            raise FileError(
                f"{name}: a sheet has cells out to column {column.strip().decode()} and row {row:,};"
                " delete everything outside the list, or save it as CSV"
            )


def _whole_rows(sheet: IO[bytes], chunk_size: int = _CHUNK) -> Iterator[bytes]:
    """Yield the XML of a sheet in pieces that do not cut a row in two."""
    rest = b""
    while chunk := sheet.read(chunk_size):
        end = chunk.rfind(b"row>") + 4
        if end < 4 and len(rest) < _LONGEST_ROW:
            rest += chunk
            continue
        yield rest + chunk[:end]
        rest = chunk[end:]
    yield rest


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
            parts, self.has_macros = _parts_in(stream, origin.name)
            workbook = python_calamine.load_workbook(stream)
            sheets = [
                _sheet(
                    origin,
                    workbook.get_sheet_by_index(place),
                    parts.get(about.name, ""),
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


_OFFICE = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_STRICT_OFFICE = "{http://purl.oclc.org/ooxml/officeDocument/relationships}"


def _parts_in(stream: BinaryIO, name: str) -> tuple[dict[str, str], bool]:
    """Return the part that holds each sheet of an .xlsx file, and whether it has macros. Ends where it began.

    Raises:
        FileError: It would not fit into memory.
    """
    try:
        with zipfile.ZipFile(stream) as book:
            _refuse_huge_workbook(book, name)
            return _sheet_parts(book), any("vbaProject" in part for part in book.namelist())
    except FileError:
        raise
    except (*TORN_ARCHIVE, ElementTree.ParseError):
        return {}, False  # an old workbook, or a torn one: its reader tells
    finally:
        stream.seek(0)


def _sheet_parts(book: zipfile.ZipFile) -> dict[str, str]:
    names = {name.lower(): name for name in book.namelist()}
    if "xl/workbook.xml" not in names or "xl/_rels/workbook.xml.rels" not in names:
        return {}
    targets = {
        each.get("Id"): each.get("Target", "")
        for each in ElementTree.fromstring(book.read(names["xl/_rels/workbook.xml.rels"]))  # noqa: S314
    }
    found = {}
    for each in ElementTree.fromstring(book.read(names["xl/workbook.xml"])).iter():  # noqa: S314
        if each.tag.endswith("}sheet"):
            target = targets.get(each.get(f"{_OFFICE}id") or each.get(f"{_STRICT_OFFICE}id") or "", "")
            path = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
            if path.lower() in names:
                found[each.get("name", "")] = names[path.lower()]
    return found


_HIDDEN_ROW = re.compile(rb'<(?:\w+:)?row\b([^>]*\bhidden="(?:1|true)"[^>]*)>')
_FORMULA = rb"<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>([^<]*)</(?:\w+:)?f>)"
_ERROR = re.compile(
    rb'<(?:\w+:)?c\b([^>]*\bt="e"[^>]*)>\s*(?:' + _FORMULA + rb")?\s*<(?:\w+:)?v>(?P<text>[^<]*)<"
)
_UNSAVED = re.compile(
    rb"<(?:\w+:)?c\b([^>]*[^>/])>\s*"
    + _FORMULA.replace(rb"([^<]*)", rb"(?P<text>[^<]*)")
    + rb"\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v></(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_UNSAVED_MARKS = b"f></", b"/></", b"<v></", b"<v/", b"<v /", b"f>\n", b"f>\r", b"/>\n", b"/>\r", b":c>"
"""One of these is in the XML of a formula without a value: searching for them is faster than for the whole cell."""
_PLACE = re.compile(rb'\br="([A-Z]{0,3})(\d+)"')


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
    """Search the XML of a sheet for what calamine does not report; most sheets have none of it."""
    facts, formulas = SheetFacts(), False
    for rows in _whole_rows(sheet, chunk_size):
        # LibreOffice writes hidden="false" into every row.
        if b'hidden="' in rows and (b'hidden="1"' in rows or b'hidden="true"' in rows):
            for row in _HIDDEN_ROW.finditer(rows):
                if place := _PLACE.search(row[1]):
                    facts.hidden.add(int(place[2]))
        # A single byte, as of #N/A or </f>, is found many times as fast as a text.
        if b"#" in rows and b't="e"' in rows:
            _collect(_ERROR, rows, facts.errors)
        # A formula may share the text of one far above: <f t="shared" si="0"/>.
        formulas = formulas or (b"f" in rows and b"f>" in rows)
        if formulas and any(mark in rows for mark in _UNSAVED_MARKS):
            _collect(_UNSAVED, rows, facts.unsaved, "=")
    return facts


def _collect(
    pattern: re.Pattern[bytes], rows: bytes, found: dict[int, dict[int, str]], prefix: str = ""
) -> None:
    for cell in pattern.finditer(rows):
        if (b't="e"' in cell[1]) == (pattern is _ERROR) and (place := _PLACE.search(cell[1])):
            text = prefix + html.unescape((cell["text"] or b"").decode("utf-8", "replace"))
            found.setdefault(int(place[2]), {})[column_number(place[1])] = text
