"""Which column holds the phone numbers: the one that was asked for, or by its name, or by its content.

A wrong column costs money (identity card numbers look like fixed lines), so where two columns would do,
neither is taken.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal

import msgspec

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.files._errors import FileError

__all__ = ["NumberColumn", "find_number_column", "is_a_phone_name", "looks_like_a_number", "names_a_phone"]

_CERTAIN_WORDS = frozenset(
    """
    phone phones phonenumber phoneno telephone telephonenumber telefono telefonos tel telf tlf fono
    celular celulares cel cell cellphone movil moviles mobile mobiles mobilephone msisdn wsp wasap
    """.split()  # noqa: SIM905
)
_LIKELY_WORDS = frozenset(["whatsapp", "wa", "numero", "number", "nro", "contacto"])
_LINKING_WORDS = frozenset(["de", "del", "no", "n"])

# Content: mobiles count whole, fixed lines half, because eight digits may as well be an identity card (DNI).
_FIXED_LINE_WEIGHT = 0.5
_ENOUGH = 0.4
_SAMPLE_CELL = 80


class NumberColumn(msgspec.Struct, frozen=True):
    """The column of the phone numbers, and how it was found."""

    name: str
    index: int
    """From 0."""
    found_by: Literal["option", "name", "content", "only column"]

    def __str__(self) -> str:
        """Return a text for a person: ``'celular' (column 3, found by name)``."""
        how = {"option": "as given", "only column": "the only one"}.get(
            self.found_by, f"found by {self.found_by}"
        )
        return f"{self.name!r} (column {self.index + 1}, {how})"


def find_number_column(
    columns: Sequence[str], sample: Sequence[Sequence[object]], wanted: str | int | None, source: str
) -> NumberColumn:
    """Return the number column.

    Args:
        columns: The names of the columns.
        sample: Some rows, as cells; rows may be shorter or longer than ``columns``.
        wanted: The name of the column or its number from 1, if the caller says so.
        source: The name of the input, for messages.

    Raises:
        FileError: There is no such column, or none or more than one that could be meant.
    """
    if wanted is not None:
        return _wanted(columns, wanted, source)
    if len(columns) == 1:
        return NumberColumn(columns[0], 0, "only column")
    scores = [_score(sample, index) for index in range(len(columns))]
    named = _by_name(columns, scores)
    if len(named) == 1:
        return NumberColumn(columns[named[0]], named[0], "name")
    candidates = named or [index for index, score in enumerate(scores) if score >= _ENOUGH]
    best = sorted(candidates, key=lambda index: scores[index], reverse=True)
    if best and scores[best[0]] >= _ENOUGH and (len(best) == 1 or scores[best[0]] > 2 * scores[best[1]]):
        return NumberColumn(columns[best[0]], best[0], "name" if named else "content")
    if best:
        several = " and ".join(repr(columns[index]) for index in sorted(best))
        raise FileError(
            f"{source}: columns {several} could all hold the phone numbers; choose one with --column"
        )
    raise FileError(
        f"{source}: no column holds phone numbers; choose one with --column out of {_listed(columns)}"
    )


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


def _wanted(columns: Sequence[str], wanted: str | int, source: str) -> NumberColumn:
    text = str(wanted).strip()
    for same in (str, _fold):
        found = [index for index, name in enumerate(columns) if same(name) == same(text)]
        if len(found) == 1:
            return NumberColumn(columns[found[0]], found[0], "option")
        if found:
            places = " and ".join(str(index + 1) for index in found)
            raise FileError(
                f"{source}: {len(found)} columns are named {text!r}; choose one by its place: {places}"
            )
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(columns):
        return NumberColumn(columns[int(text) - 1], int(text) - 1, "option")
    raise FileError(f"{source}: there is no column {text!r}; there are {_listed(columns)}")


def _by_name(columns: Sequence[str], scores: Sequence[float]) -> list[int]:
    """Return the columns whose name says phone, or may say it and their cells agree."""
    certain = [index for index, name in enumerate(columns) if _words(name) & _CERTAIN_WORDS]
    # A column that is named telefono and holds none, beside one that does, is not what is meant.
    if certain and (max(scores) < _ENOUGH or any(scores[index] >= _ENOUGH for index in certain)):
        return certain
    return [
        index
        for index, name in enumerate(columns)
        if _words(name) & _LIKELY_WORDS and scores[index] >= _ENOUGH
    ]


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
    return words | {_fold(name)}


def _fold(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    return "".join(filter(str.isalnum, decomposed))


def _score(sample: Sequence[Sequence[object]], index: int) -> float:
    cells = [row[index] for row in sample if index < len(row) and row[index] not in (None, "")]
    return sum(map(_weight, cells)) / len(cells) if cells else 0.0


def _weight(cell: object) -> float:
    if not isinstance(cell, (str, int, float)) or isinstance(cell, bool) or len(str(cell)) > _SAMPLE_CELL:
        return 0.0
    try:
        return 1.0 if normalize(cell) >= 900_000_000 else _FIXED_LINE_WEIGHT
    except InvalidNumber:
        return 0.0


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(f"{index} {name!r}" for index, name in enumerate(columns[:20], start=1))
    return shown + (f" and {len(columns) - 20} more" if len(columns) > 20 else "")
