"""How a CSV file is cut into cells, and whether its first row is a header.

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

from accucheck.files._number_column import looks_like_a_number, names_a_phone

__all__ = ["DELIMITERS", "Dialect", "detect_dialect", "has_header"]

DELIMITERS = ",;\t|"
_DEFAULT = ","
_SAMPLE_ROWS = 200
_CONSISTENT = 0.7

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


class Dialect(NamedTuple):
    """The delimiter and the line end of a CSV file."""

    delimiter: str
    line_end: str
    preamble: str = ""
    """Excel's ``sep=;`` line, if the file starts with one."""


def detect_dialect(head: str, *, delimiter: str | None = None) -> tuple[Dialect, list[list[str]], str]:
    """Return the dialect of the text's beginning, its first rows, and the text of the first."""
    line_end = next((end for end in ("\r\n", "\n", "\r") if end in head), "\n")
    preamble = ""
    lines = list(io.StringIO(head, newline=""))
    if lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0])):
        delimiter, preamble = delimiter or separator[1], lines.pop(0)
    if delimiter is None:
        delimiter = _best_delimiter(lines)
    rows, first = _parsed(lines, delimiter)
    return Dialect(delimiter, line_end, preamble), rows, first


def has_header(sample: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: no cell is a number, and one says phone or all are words."""
    if not sample or any(map(looks_like_a_number, sample[0])):
        return False
    return any(map(names_a_phone, sample[0])) or all(
        any(map(str.isalpha, cell)) and sum(map(str.isdigit, cell)) < 5 for cell in sample[0]
    )


def _best_delimiter(lines: Sequence[str]) -> str:
    best, best_score = _DEFAULT, (0.0, 0)
    for delimiter in DELIMITERS:
        rows, _ = _parsed(lines, delimiter)
        widths = Counter(map(len, rows))
        if not widths:
            continue
        width, count = widths.most_common(1)[0]
        score = (count / len(rows), width)
        if width > 1 and score[0] >= _CONSISTENT and score > best_score:
            best, best_score = delimiter, score
    if not best_score[1] and (header := _delimiter_of_header(lines)):
        return header  # most rows are in disorder, but this one says what was meant
    return best


def _delimiter_of_header(lines: Sequence[str]) -> str | None:
    for delimiter in DELIMITERS:
        rows, _ = _parsed(lines[:1], delimiter)
        if rows and len(rows[0]) > 1 and any(map(names_a_phone, rows[0])):
            return delimiter
    return None


def _parsed(lines: Sequence[str], delimiter: str) -> tuple[list[list[str]], str]:
    """Return the first rows that are not blank, and the text of the first of them."""
    rows: list[list[str]] = []
    first, begin = "", 0
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in reader:
            if cells:
                first = first or "".join(lines[begin : reader.line_num]).rstrip("\r\n")
                rows.append(cells)
            begin = reader.line_num
            if len(rows) >= _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # a cell beyond the library's limit: the rows before it are sample enough
    return rows, first
