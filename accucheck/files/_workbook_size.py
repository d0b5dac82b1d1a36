"""Whether a workbook fits into memory, told before its reader asks for that memory and the process is gone.

The reader keeps a sheet as one block from its first cell to its last, so that a file of five kilobytes with a
stray cell in the last corner asks for 400 GB.
"""

from __future__ import annotations

import re
import zipfile
from typing import IO, BinaryIO

from accucheck.files._errors import FileError

__all__ = ["refuse_huge_workbook"]

_MOST_BYTES = 4 << 30
"""Of all parts unpacked: about what they take in memory."""

_MOST_CELLS = 1 << 27
"""128 columns of 1,048,576 rows, at 24 bytes each."""

_CHUNK = 1 << 20
_OVERLAP = 4096

_SHEET = re.compile(r"xl/worksheets/[^/]+\.xml", re.IGNORECASE)
_DIMENSION = re.compile(rb'<(?:\w+:)?dimension [^>]*ref="\$?A?[^":]*:\$?([A-Z]{1,3})\$?(\d+)"')
_FULL_CELL = re.compile(rb'<(?:\w+:)?c [^>]*?r="([A-Z]{1,3})(\d+)"[^>]*(?<!/)>')


def refuse_huge_workbook(stream: BinaryIO, name: str) -> None:
    """Raise FileError if the workbook would not fit. ``stream`` is left at its start."""
    if not stream.seekable():
        return
    try:
        with zipfile.ZipFile(stream) as parts:
            unpacked = sum(part.file_size for part in parts.infolist())
            if unpacked > _MOST_BYTES:
                raise FileError(
                    f"{name}: the workbook unpacks to {unpacked >> 20:,} MiB; save its list as CSV"
                )
            for part in parts.infolist():
                if _SHEET.fullmatch(part.filename):
                    with parts.open(part) as sheet:
                        _refuse_huge_sheet(sheet, name)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError):
        pass  # an old workbook, or a torn one: its reader tells
    finally:
        stream.seek(0)


def _refuse_huge_sheet(sheet: IO[bytes], name: str) -> None:
    head = sheet.read(_OVERLAP)
    said = _DIMENSION.search(head)
    if said is None or _cells(*said.groups()) <= _MOST_CELLS:
        return
    # Some programs say that every sheet is as large as a sheet can be: only its cells tell.
    columns, rows = b"", 0
    while head:
        for column, row in _FULL_CELL.findall(head):
            columns, rows = max(columns, column.rjust(3)), max(rows, int(row))
        if _cells(columns, rows) > _MOST_CELLS:
            raise FileError(
                f"{name}: a sheet has cells as far as column {columns.strip().decode()} and row {rows:,};"
                " delete what is outside the list, or save it as CSV"
            )
        more = sheet.read(_CHUNK)
        head = head[-_OVERLAP:] + more if more else b""


def _cells(column: bytes, row: int | bytes) -> int:
    """Return how many cells there are from the first to the one at ``column`` (letters) and ``row``."""
    width = 0
    for letter in column.strip():
        width = 26 * width + letter - ord("A") + 1
    return width * int(row)
