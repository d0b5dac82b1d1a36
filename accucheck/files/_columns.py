"""Finds the header row and the columns that contain the phone numbers.

The header is the first row, or a row below a title, or missing: people put ``LISTA DE CLIENTES`` and the date above
their lists. A title has no phone number and fewer cells than the names below it, so no row of the list is lost.

The number column is the requested one, or the one whose header says so, or the one whose cells do. Headers count more
than data, so that tomorrow's file with the same layout gives the same column: WhatsApp before mobile before any phone
before a fixed line, and the first of several. Without a clear header, the cells decide. If two columns qualify, neither
is chosen, because a wrong column costs money (identity card numbers look like fixed lines).
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Literal

import msgspec

from accucheck._errors import InvalidNumber
from accucheck._phone import numbers_in
from accucheck.files._origin import FileError

__all__ = [
    "Header",
    "NumberColumn",
    "NumberColumns",
    "Wanted",
    "find_number_columns",
    "has_header",
    "header_of",
    "header_place",
    "is_a_phone_name",
    "looks_like_a_number",
    "names_a_phone",
    "note_on_cells",
]

Wanted = str | int | Sequence[str | int] | None
"""The requested number column: a name, a position from 1, ``"all"``, several of these, or None."""

_WHATSAPP = frozenset(["whatsapp", "wsp", "wasap", "wa", "whats"])
_MOBILE = frozenset(
    "celular celulares cel cell cellphone movil moviles mobile mobiles mobilephone msisdn".split()  # noqa: SIM905
)
_PHONE = frozenset(
    """
    phone phones phonenumber phoneno telephone telephonenumber telefono telefonos tel telf tlf fono
    """.split()  # noqa: SIM905
)
_LANDLINE = frozenset("fijo fija landline home casa oficina office work trabajo business".split())  # noqa: SIM905
_CERTAIN_WORDS = _MOBILE | _PHONE | (_WHATSAPP - {"whatsapp", "wa", "whats"})
_LIKELY_WORDS = frozenset(["whatsapp", "wa", "whats", "numero", "number", "nro", "contacto"])
_LINKING_WORDS = frozenset(["de", "del", "no", "n"])
_ABOUT_A_PHONE = frozenset(
    """
    label type tipo etiqueta operador carrier fecha date hora time estado status dni ruc ext extension anexo
    prefijo prefix pais country codigo code fax model modelo marca imei valid valido consent optin
    """.split()  # noqa: SIM905
)
"""A header with one of these describes a phone but is not its number: ``Phone 1 - Label``."""

_IDS = frozenset(["dni", "ruc", "imei"])

# Content: mobiles count whole, fixed lines half, because eight digits may as well be an identity card (DNI).
_FIXED_LINE_WEIGHT = 0.5
_ENOUGH = 0.4
_SAMPLE_CELL = 80

_MOST_ROWS = 10
"""Rows searched for a header, not counting blank ones."""


class Header(msgspec.Struct, frozen=True):
    """Where the names of the columns are."""

    names: list[str]
    """Of two rows of names, those of a merged cell and those below it, run together."""
    place: int
    """Of the row that our names go behind, from 0."""


class NumberColumn(msgspec.Struct, frozen=True):
    """A column of phone numbers, and how it was found."""

    name: str
    index: int
    """From 0."""
    found_by: Literal["option", "name", "content", "only column"]
    left: int = 0
    """Empty columns before the first one of the table."""

    @property
    def place(self) -> int:
        """From 1, as a spreadsheet counts: empty columns before the table included."""
        return self.left + self.index + 1

    def __str__(self) -> str:
        """Return a text for a person: ``'celular' (column 3, found by name)``."""
        how = {"option": "as given", "only column": "the only one"}.get(
            self.found_by, f"found by {self.found_by}"
        )
        return f"{self.name!r} (column {self.place}, {how})"


class NumberColumns(msgspec.Struct, frozen=True):
    """The columns that are read, and others that could be."""

    chosen: list[NumberColumn]
    """At least one, in the order of preference."""
    others: list[str]
    """Names of other columns that contain numbers but are not read."""


def find_number_columns(
    columns: Sequence[str], sample: Sequence[Sequence[object]], wanted: Wanted, source: str, left: int = 0
) -> NumberColumns:
    """Return the number columns; ``left`` empty ones before the first count in positions, as in a spreadsheet.

    Raises:
        FileError: There is no such column, or no column or several qualify.
    """
    several = [wanted] if isinstance(wanted, (str, int)) else list(wanted or ())
    everything = any(str(each).strip().lower() == "all" for each in several)
    if several and not everything:
        chosen = [_wanted(columns, each, source, left) for each in several]
        return NumberColumns(list({column.index: column for column in chosen}.values()), [])
    if len(columns) == 1:
        return NumberColumns([NumberColumn(columns[0], 0, "only column", left)], [])
    named = _by_name(columns, sample)
    if named and not everything:
        others = [columns[index] for index in named[1:] if _score(sample, index) > 0]
        return NumberColumns([NumberColumn(columns[named[0]], named[0], "name", left)], others)
    scores = [_score(sample, index) for index in range(len(columns))]
    if everything:
        places = named or [index for index, score in enumerate(scores) if score >= _ENOUGH]
        if not places:
            raise _no_column(columns, scores, source, left)
        return NumberColumns(
            [NumberColumn(columns[index], index, "name" if named else "content", left) for index in places],
            [],
        )
    candidates = [
        index for index, score in enumerate(scores) if score >= _ENOUGH and not _words(columns[index]) & _IDS
    ]
    best = sorted(candidates, key=lambda index: scores[index], reverse=True)
    if best and (len(best) == 1 or scores[best[0]] > 2 * scores[best[1]]):
        return NumberColumns([NumberColumn(columns[best[0]], best[0], "content", left)], [])
    if best:
        raise FileError(
            f"{source}: the phone numbers could be in any of these columns: {_listed(columns, left, sorted(best))};"
            " choose one with --column,"
            " or read all of them with --column all"
        )
    raise _no_column(columns, scores, source, left)


def _no_column(columns: Sequence[str], scores: Sequence[float], source: str, left: int) -> FileError:
    some = [index for index, score in enumerate(scores) if score > 0] or range(len(columns))
    return FileError(
        f"{source}: no column contains phone numbers; choose one with --column: {_listed(columns, left, some)}"
    )


def note_on_cells(texts: Sequence[str]) -> str | None:
    """Return a note for a person if some cells of the number column contain several numbers."""
    several, filled = 0, 0
    for text in texts:
        filled += bool(text.strip())
        with suppress(InvalidNumber):
            several += len(numbers_in(text)) > 1
    if several:
        return f"{several} of the first {filled} cells have several numbers; --several first, each or best reads them"
    return None


def looks_like_a_number(cell: object) -> bool:
    """Whether the cell can be a Peru phone number."""
    return _weight(cell) > 0


def names_a_phone(cell: str) -> bool:
    """Whether the text is what people call a column of phone numbers."""
    words = _words(cell)
    return len(words) <= 5 and bool(words & (_CERTAIN_WORDS | _LIKELY_WORDS))


def is_a_phone_name(cell: str) -> bool:
    """Whether the text says phone and nothing else: ``Nro. de celular``, but not ``Celulares de Lima``."""
    return names_a_phone(cell) and _words(cell) <= _CERTAIN_WORDS | _LIKELY_WORDS | _LINKING_WORDS | {
        _fold(cell)
    }


def _wanted(columns: Sequence[str], wanted: str | int, source: str, left: int) -> NumberColumn:
    text = str(wanted).strip()
    for same in (str, _fold):
        found = [index for index, name in enumerate(columns) if same(name) == same(text)]
        if len(found) == 1:
            return NumberColumn(columns[found[0]], found[0], "option", left)
        if found:
            places = " and ".join(str(left + index + 1) for index in found)
            raise FileError(
                f"{source}: {len(found)} columns are named {text!r}; choose one by its position: {places}"
            )
    if text.isascii() and text.isdigit() and 1 <= (place := int(text) - left) <= len(columns):
        return NumberColumn(columns[place - 1], place - 1, "option", left)
    raise FileError(f"{source}: there is no column {text!r}; the columns are {_listed(columns, left)}")


def _by_name(columns: Sequence[str], sample: Sequence[Sequence[object]]) -> list[int]:
    """Return the columns whose name says phone, the likeliest first; of the same name, in their order.

    Those that hold numbers come before those that hold none, and those of a vague name must hold some.
    """
    ranks = {index: rank for index, name in enumerate(columns) if (rank := _rank(_words(name))) is not None}
    # Only these, because scoring a column of identity cards takes longer than reading a small list.
    scores = {index: _score(sample, index) for index in ranks}
    named = [
        index
        for index, rank in ranks.items()
        if rank not in (0, 4) or scores[index] >= (_ENOUGH if rank else 1e-9)
    ]
    named.sort(key=lambda index: ranks[index])
    if full := [index for index in named if scores[index] > 0]:
        return full
    # A column named telefono without numbers, next to one with numbers, is not the one.
    others = (_score(sample, index) for index in range(len(columns)))
    return named if named and all(score < _ENOUGH for score in others) else []


def _rank(words: set[str]) -> int | None:
    if words & _ABOUT_A_PHONE:
        return None
    if words & _WHATSAPP:
        return 0
    if words & _MOBILE:
        return 3 if words & {"fijo", "fija"} else 1
    if words & _PHONE:
        return 3 if words & _LANDLINE else 2
    return 4 if words & _LIKELY_WORDS else None


def _words(name: str) -> set[str]:
    """Return the words of ``Teléfono_móvil 2`` (telefono, movil, 2), and all of them run together."""
    plain = "".join(
        character if character.isalnum() else " "
        for character in unicodedata.normalize("NFKD", name)
        if not unicodedata.combining(character)
    )
    spaced = "".join(
        f" {character}" if character.isupper() and before.islower() else character
        for before, character in zip(" " + plain, plain, strict=False)
    )
    words = {word.rstrip("0123456789") or word for word in spaced.casefold().split()}
    return words | {_fold(name).rstrip("0123456789")}


def _fold(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(filter(str.isalnum, decomposed))


def _score(sample: Sequence[Sequence[object]], index: int) -> float:
    cells = [row[index] for row in sample if index < len(row) and row[index] not in (None, "")]
    return sum(map(_weight, cells)) / len(cells) if cells else 0.0


def _weight(cell: object) -> float:
    if isinstance(cell, list):
        cell = str(cell)
    if not isinstance(cell, (str, int, float)) or isinstance(cell, bool) or len(str(cell)) > _SAMPLE_CELL:
        return 0.0
    try:
        return max(1.0 if number >= 900_000_000 else _FIXED_LINE_WEIGHT for number in numbers_in(cell))
    except InvalidNumber:
        return 0.0


def _listed(columns: Sequence[str], left: int, places: Sequence[int] | None = None) -> str:
    places = range(len(columns)) if places is None else places
    shown = ", ".join(f"{left + index + 1} {columns[index]!r}" for index in places[:20])
    return shown + (f" and {len(places) - 20} more" if len(places) > 20 else "")


def header_of(rows: Sequence[Sequence[str]]) -> Header | None:
    """Return the header of a table that begins with ``rows``, or None if it has none."""
    place = header_place(rows)
    if place is None:
        return None
    names = list(rows[place])
    if place + 1 < len(rows) and _is_second_header(names, rows[place + 1]):
        above, merged = "", []
        for own, lower in zip_longest(names, rows[place + 1], fillvalue=""):
            above = own if own.strip() or not lower.strip() else above
            merged.append(f"{above} {lower}".strip())
        return Header(merged, place + 1)
    return Header(names, place)


def _is_second_header(names: Sequence[str], below: Sequence[str]) -> bool:
    """Whether a second row of names follows: words only, and some of them below a merged cell."""
    filled = _filled(below)
    return (
        len(names) > 1
        and bool(filled)
        and all(_is_wordy(cell) or (cell.strip().isdigit() and len(cell) < 3) for cell in filled)
        and any(map(is_a_phone_name, filled))
        and not _holds_numbers(below)
        and any(
            lower.strip() and not own.strip() and _filled(names[:index])
            for index, (own, lower) in enumerate(zip(names, below, strict=False))
        )
        and all(own.strip() or lower.strip() for own, lower in zip(names, below, strict=False))
    )


def has_header(sample: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: no cell is a number, and one says phone or all are words."""
    if not sample or any(map(looks_like_a_number, sample[0])):
        return False
    return any(map(names_a_phone, sample[0])) or all(map(_is_wordy, sample[0]))


def header_place(sample: Sequence[Sequence[str]]) -> int | None:
    """Return the place of the row that names the columns, or None if there is none."""
    rows = [(place, row) for place, row in enumerate(sample) if _filled(row)]
    if not rows:
        return None
    first, top = rows[0]
    found = first if has_header([top]) else None
    single = max(len(_filled(row)) for _, row in rows) == 1
    if found is not None and _is_certain(_filled(top), single):
        return found
    widths = Counter(len(_filled(row)) for _, row in rows if _holds_numbers(row))
    width = max(widths, key=lambda width: (widths[width], width), default=0)
    widest = 0
    for (place, row), below in zip(rows[:_MOST_ROWS], [*rows[1:], None], strict=False):
        names = _filled(row)
        if widest >= max(2, width) or (_holds_numbers(row) and not _is_remark(names, width)):
            break
        if single:
            found = place if is_a_phone_name(names[0]) else found
        elif widest and _is_below_a_title(names, width, widest, below[1] if below else None):
            found = place
        widest = max(widest, len(names))
    return found


def _is_certain(names: Sequence[str], single: bool) -> bool:
    """Whether the first row has column names rather than a title."""
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


def _is_remark(cells: Sequence[str], width: int) -> bool:
    """Whether a row is about the table, ``width`` wide, such as ``Ask Rosa, 987654321``, and not one of its rows."""
    bare = any(looks_like_a_number(cell) and not any(map(str.isalpha, cell)) for cell in cells)
    return 2 * len(cells) <= width and not bare


def _filled(row: Sequence[str]) -> list[str]:
    return [cell for cell in row if cell.strip()]


def _holds_numbers(row: Sequence[str]) -> bool:
    return any(map(looks_like_a_number, row))


def _is_wordy(cell: str) -> bool:
    return any(map(str.isalpha, cell)) and sum(map(str.isdigit, cell)) < 5
