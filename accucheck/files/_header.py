"""Which row names the columns: the first, or one below a title, or none.

People put ``LISTA DE CLIENTES`` and the date above their lists. What is taken for a title holds no phone
number and fewer cells than the names below it, so that no row of a list is lost to it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from accucheck.files._number_column import is_a_phone_name, looks_like_a_number, names_a_phone

__all__ = ["has_header", "header_place"]

_MOST_ROWS = 10
"""Rows that are looked at, blank ones not counted."""

_DATE = re.compile(r"\s*\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}\s*")


def has_header(sample: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: no cell is a number, and one says phone or all are words."""
    if not sample or any(map(looks_like_a_number, sample[0])):
        return False
    return any(map(names_a_phone, sample[0])) or all(map(_is_wordy, sample[0]))


def header_place(sample: Sequence[Sequence[str]]) -> int | None:
    """Return the place of the row that names the columns, or None if there is none.

    Args:
        sample: The first rows. They may be blank, and shorter or longer than the table.
    """
    rows = [(place, row) for place, row in enumerate(sample) if _filled(row)]
    if not rows:
        return None
    first, top = rows[0]
    found = first if has_header([top]) else None
    widths = Counter(len(_filled(row)) for _, row in rows if _holds_numbers(row))
    width = widths.most_common(1)[0][0] if widths else 0
    single = max(len(_filled(row)) for _, row in rows) == 1
    if found is not None and _is_certain(_filled(top), single):
        return found
    widest = 0
    for (place, row), below in zip(rows[:_MOST_ROWS], [*rows[1:], None], strict=False):
        if _holds_numbers(row) or widest >= max(2, width):
            break
        names = _filled(row)
        if single:
            found = place if is_a_phone_name(names[0]) else found
        elif widest and _is_below_a_title(names, width, widest, below[1] if below else None):
            found = place
        widest = max(widest, len(names))
    return found


def _is_certain(names: Sequence[str], single: bool) -> bool:
    """Whether the names of the first row are no title that tells what is listed."""
    if single:
        return is_a_phone_name(names[0])
    return len(names) > 1 and any(map(names_a_phone, names))


def _is_below_a_title(names: Sequence[str], width: int, widest: int, below: Sequence[str] | None) -> bool:
    """Whether a row names the columns of a table ``width`` wide, below titles of at most ``widest`` cells."""
    if len(names) <= widest:
        return False
    if any(map(names_a_phone, names)):
        return below is None or width > 0
    return (
        widest == 1
        and len(names) >= width
        and all(map(_is_wordy, names))
        and below is not None
        and _holds_numbers(below)
    )


def _filled(row: Sequence[str]) -> list[str]:
    return [cell for cell in row if cell.strip()]


def _holds_numbers(row: Sequence[str]) -> bool:
    # The date in a title could be a fixed line, if it stood in a column of those.
    return any(looks_like_a_number(cell) and not _DATE.fullmatch(cell) for cell in row)


def _is_wordy(cell: str) -> bool:
    return any(map(str.isalpha, cell)) and sum(map(str.isdigit, cell)) < 5
