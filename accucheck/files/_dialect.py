"""How a CSV file is cut into cells, and where its rows begin.

The standard library's Sniffer will take a letter or a digit for the delimiter; this one knows the four that
lists use, and that one column has none.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from accucheck.files._columns import Header, has_header, header_of, names_a_phone

__all__ = ["DELIMITERS", "Dialect", "Opening", "opening_of"]

DELIMITERS = ",;\t|"
_RARE_DELIMITERS = "\x1f\x01^~"
"""Of mainframes and Hive: looked for only where none of the others makes columns."""
_DEFAULT = ","
_SAMPLE_ROWS = 200
_CONSISTENT = 0.7
_HEADER_LINES = 10

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


class Dialect(NamedTuple):
    """The delimiter and the line end of a CSV file."""

    delimiter: str
    line_end: str
    preamble: str = ""
    """What stands above the header: Excel's ``sep=;`` line, and a title."""


class Opening(NamedTuple):
    """What the beginning of a CSV file tells."""

    dialect: Dialect
    title: list[list[str]]
    """The rows above the header."""
    header: list[str] | None
    """The names of the columns; None if there is no header."""
    header_text: str
    sample: list[list[str]]
    """The first rows that follow."""
    skipped: int
    """How many records stand above those."""


class _Record(NamedTuple):
    cells: list[str]
    begin: int
    """Its first line, from 0."""
    end: int
    """The line after its last."""


def opening_of(head: str, *, delimiter: str | None = None) -> Opening:
    """Return what the text's beginning tells."""
    line_end = next((end for end in ("\r\n", "\n", "\r") if end in head), "\n")
    separator_line = ""
    lines = list(io.StringIO(head, newline=""))
    if lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0])):
        delimiter, separator_line = delimiter or separator[1], lines.pop(0)
    if delimiter is None:
        delimiter = _best_delimiter(lines)
    records = _parsed(lines, delimiter)
    sample = [record.cells for record in records]
    header = header_of(sample)
    place = header.place if header else 0
    if place and any("\n" in cell and delimiter in cell for row in sample[:place] for cell in row):
        # A quote is open in what would be the title, so that it has swallowed rows.
        header, place = Header(sample[0], 0) if has_header(sample) else None, 0
    preamble = separator_line + ("".join(lines[: records[place].begin]) if place else "")
    above = place + 1 if header else 0
    names = records[place] if header else None
    return Opening(
        Dialect(delimiter, line_end, preamble),
        title=sample[:place],
        header=header.names if header else None,
        header_text="".join(lines[names.begin : names.end]).rstrip("\r\n") if names else "",
        sample=sample[above:],
        skipped=bool(separator_line) + above,
    )


def _best_delimiter(lines: Sequence[str]) -> str:
    best, best_score = _DEFAULT, (0.0, 0)
    for delimiter in DELIMITERS + _RARE_DELIMITERS:
        if delimiter in _RARE_DELIMITERS and best_score[1]:
            break
        records = _parsed(lines, delimiter)
        widths = Counter(len(record.cells) for record in records)
        if not widths:
            continue
        width, count = widths.most_common(1)[0]
        score = (count / len(records), width)
        if width > 1 and score[0] >= _CONSISTENT and score > best_score:
            best, best_score = delimiter, score
    if not best_score[1] and (header := _delimiter_of_header(lines)):
        return header  # most rows are in disorder, but this one says what was meant
    return best


def _delimiter_of_header(lines: Sequence[str]) -> str | None:
    for line in lines[:_HEADER_LINES]:
        for delimiter in DELIMITERS:
            records = _parsed([line], delimiter)
            if records and len(records[0].cells) > 1 and any(map(names_a_phone, records[0].cells)):
                return delimiter
    return None


def _parsed(lines: Sequence[str], delimiter: str) -> list[_Record]:
    """Return the first records that are not blank."""
    records: list[_Record] = []
    begin = 0
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in reader:
            if cells:
                records.append(_Record(cells, begin, reader.line_num))
            begin = reader.line_num
            if len(records) >= _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # a cell beyond the library's limit: the rows before it are sample enough
    return records
