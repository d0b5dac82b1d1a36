"""vCard: contacts exported from a phone. Each number is a row, so that none is missed."""

from __future__ import annotations

import io
import quopri
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar
from urllib.parse import unquote

from accucheck.files._columns import Wanted
from accucheck.files._errors import FileError, translate_errors
from accucheck.files._origin import Origin
from accucheck.files._source import Row, Source
from accucheck.files._text import detect

__all__ = ["ContactsSource"]

_COLUMNS = ["name", "phone", "type", "email", "organization"]
_ESCAPED = re.compile(r"\\([nN,;:\\])")
_LONGEST_CARD = 1 << 24
"""In characters: a card holds a photo at most."""


class ContactsSource(Source):
    """One row for each number of each contact, and one for a contact without a number."""

    format: ClassVar[str] = "csv"

    def __init__(self, origin: Origin, *, column: Wanted = None, encoding: str | None = None) -> None:
        super().__init__(origin)
        if origin.repeatable:
            with translate_errors(self.name), origin.open() as plain:
                self.encoding = detect(plain, self.name, encoding)
        else:
            self.encoding = detect(io.BytesIO(origin.head), self.name, encoding, whole=False)
        self.columns = list(_COLUMNS)
        self._choose_columns([], "phone" if column is None else column)

    def values(self, row: Row) -> Sequence[object]:
        cells: Sequence[object] = row.record
        return cells

    def _rows(self) -> Iterator[Row]:
        indexes = [column.index for column in self.number_columns]
        with translate_errors(self.name):
            stream = self.origin.open()
            try:
                stream.read(len(self.encoding.mark))
                text = io.TextIOWrapper(stream, self.encoding.name, "replace")
                for card in _cards(text, self.name):
                    for cells in _rows_of(card):
                        yield Row("\n".join(cells[index] for index in indexes), cells)
            finally:
                stream.close()


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
