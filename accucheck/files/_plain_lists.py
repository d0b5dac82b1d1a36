"""Lists that are not tables: numbers on a line, each of which is a row, and contacts (vCard)."""

from __future__ import annotations

import io
import quopri
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar
from urllib.parse import unquote

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.files._columns import NumberColumn, Wanted
from accucheck.files._origin import FileError, Origin
from accucheck.files._rows import Row, Source
from accucheck.files._text import encoding_of, text_of

__all__ = ["ContactsSource", "NumberListSource", "separator_of_numbers"]

_CHUNK = 1 << 16
_WITHOUT_BLANKS = re.compile(r"[,;|\t\r\n]+")
_WITH_BLANKS = re.compile(r"[,;|\s]+")
_ENOUGH = 0.7
_ENOUGH_ON_ONE_LINE = 0.5


def separator_of_numbers(text: str) -> re.Pattern[str] | None:
    """Return what separates the numbers if a text that begins like this is nothing but numbers on a line.

    A table is not a list: each line has the same number of cells, and not only numbers.
    """
    lines = [line for line in text.splitlines() if line.strip(" ,;|\t")]
    for separator in (_WITHOUT_BLANKS, _WITH_BLANKS):
        pieces = [[piece for piece in separator.split(line) if piece.strip()] for line in lines[:200]]
        widths = [len(each) for each in pieces]
        if max(widths, default=0) < 2 or (len(lines) > 1 and len(set(widths)) == 1):
            continue
        flat = [piece for each in pieces for piece in each][:2000]
        if _is_word(flat[0]):  # a header, or a name: checking all the others would cost too much
            continue
        numbers = sum(map(_is_number, flat))
        # The members of a group, copied in one go, have names among them; the rows of a table have them too.
        share = _ENOUGH if len(lines) > 1 else _ENOUGH_ON_ONE_LINE
        enough = len(flat) if separator is _WITH_BLANKS else share * len(flat)
        if numbers >= 2 and numbers >= enough:
            return separator
    return None


def _is_word(text: str) -> bool:
    return any(map(str.isalpha, text)) and not any(map(str.isdigit, text))


def _is_number(text: str) -> bool:
    try:
        return normalize(text) >= 900_000_000  # an identity card may look like a fixed line
    except InvalidNumber:
        return False


class NumberListSource(Source):
    """Each number of a list as a row."""

    format: ClassVar[str] = "csv"

    def __init__(
        self,
        origin: Origin,
        separator: re.Pattern[str],
        *,
        column: Wanted = None,
        encoding: str | None = None,
    ) -> None:
        super().__init__(origin)
        self._separator = separator
        self.encoding = encoding_of(origin, encoding)
        self.columns = ["phone"]
        self.number_columns = [NumberColumn("phone", 0, "only column")]
        self.notes.append("the file is a plain list of numbers, not a table: each number becomes a row")

    def values(self, row: Row) -> Sequence[object]:
        return (row.record,)

    def _rows(self) -> Iterator[Row]:
        with text_of(self.origin, self.encoding) as text:
            rest = ""
            while chunk := text.read(_CHUNK):
                *pieces, rest = self._separator.split(rest + chunk)
                yield from self._numbers(pieces)
            yield from self._numbers([rest])

    def _numbers(self, pieces: Sequence[str]) -> Iterator[Row]:
        for piece in pieces:
            if number := piece.strip():
                yield Row(number, number)


_COLUMNS = ["name", "phone", "type", "email", "organization"]
_ESCAPED = re.compile(r"\\([nN,;:\\])")
_LONGEST_CARD = 1 << 24
"""In characters: a card holds a photo at most."""


class ContactsSource(Source):
    """One row for each number of each contact, and one for a contact without a number."""

    format: ClassVar[str] = "csv"

    def __init__(self, origin: Origin, *, column: Wanted = None, encoding: str | None = None) -> None:
        super().__init__(origin)
        self.encoding = encoding_of(origin, encoding)
        self.columns = list(_COLUMNS)
        self._choose_columns([], "phone" if column is None else column)

    def values(self, row: Row) -> Sequence[object]:
        cells: Sequence[object] = row.record
        return cells

    def _rows(self) -> Iterator[Row]:
        indexes = [column.index for column in self.number_columns]
        with text_of(self.origin, self.encoding) as text:
            for card in _cards(text, self.name):
                for cells in _rows_of(card):
                    yield Row("\n".join(cells[index] for index in indexes), cells)


def _cards(text: io.TextIOWrapper, name: str) -> Iterator[list[str]]:
    """Yield the unfolded lines of each card (RFC 6350, 3.2; in vCard 2.1 a line of quoted-printable ends in =)."""
    card: list[str] | None = None
    size = 0
    for line in text:
        line = line.rstrip("\r\n")
        bare = line.strip().upper()
        if bare == "BEGIN:VCARD":
            if card:
                yield card
            card, size = [], 0
        elif bare == "END:VCARD":
            if card is not None:
                yield card
            card = None
        elif card is None or not bare:
            continue
        elif card and line[:1] in " \t":
            card[-1] += line[1:]
        elif card and card[-1].endswith("=") and "QUOTED-PRINTABLE" in card[-1].split(":")[0].upper():
            card[-1] = card[-1][:-1] + line
        else:
            card.append(line)
        size += len(line)
        if size > _LONGEST_CARD:
            raise FileError(f"{name}: a contact is cut off; export the contacts again")
    if card:
        yield card  # its end is missing: the numbers are there all the same


def _rows_of(card: list[str]) -> Iterator[tuple[str, ...]]:
    name = email = organization = ""
    phones: list[tuple[str, str]] = []
    for line in card:
        field, colon, value = line.partition(":")
        if not colon:
            continue
        word, *parameters = field.split(";")
        value = _value(value, parameters)
        match word.rpartition(".")[2].upper():
            case "FN":
                name = value or name
            case "N" if not name:
                name = " ".join(part for part in (*value.split(";")[1:2], *value.split(";")[:1]) if part)
            case "TEL":
                phones.append(
                    (unquote(value) if value.lower().startswith("tel:") else value, _types(parameters))
                )
            case "EMAIL" if not email:
                email = value
            case "ORG" if not organization:
                organization = value.rstrip(";")
    for phone, kind in phones or [("", "")]:
        yield name, phone, kind, email, organization


def _value(text: str, parameters: list[str]) -> str:
    said = {parameter.upper() for parameter in parameters}
    if said & {"ENCODING=QUOTED-PRINTABLE", "QUOTED-PRINTABLE"}:
        charset = next((each[8:] for each in said if each.startswith("CHARSET=")), "utf-8")
        raw = quopri.decodestring(text.encode("utf-8", "replace"))
        try:
            text = raw.decode(charset, "replace")
        except LookupError:
            text = raw.decode("utf-8", "replace")
    return _ESCAPED.sub(lambda sign: "\n" if sign[1] in "nN" else sign[1], text).strip()


def _types(parameters: list[str]) -> str:
    """Return ``CELL`` for ``TYPE=CELL,VOICE``, ``type="cell"`` and vCard 2.1's bare ``CELL``."""
    kinds = []
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if not equals or key.upper() == "TYPE":
            kinds += (value if equals else key).strip('"').upper().split(",")
    return " ".join(kind for kind in kinds if kind not in ("VOICE", "PREF", "INTERNET", ""))
