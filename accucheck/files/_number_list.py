"""Numbers on one line, separated by commas, semicolons or blanks: each is a row."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.files._columns import NumberColumn, Wanted
from accucheck.files._errors import translate_errors
from accucheck.files._origin import Origin
from accucheck.files._source import Row, Source
from accucheck.files._text import detect

__all__ = ["NumberListSource", "separator_of_numbers"]

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
        if _is_word(flat[0]):  # a header, or a name: it costs too much to look at all the others
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
        if origin.repeatable:
            with translate_errors(self.name), origin.open() as plain:
                self.encoding = detect(plain, self.name, encoding)
        else:
            self.encoding = detect(io.BytesIO(origin.head), self.name, encoding, whole=False)
        self.columns = ["phone"]
        self.number_columns = [NumberColumn("phone", 0, "only column")]
        self.notes.append("the file is a plain list of numbers, not a table: each number becomes a row")

    def values(self, row: Row) -> Sequence[object]:
        return (row.record,)

    def _rows(self) -> Iterator[Row]:
        with translate_errors(self.name):
            stream = self.origin.open()
            try:
                stream.read(len(self.encoding.mark))
                text = io.TextIOWrapper(stream, self.encoding.name, "replace")
                rest = ""
                while chunk := text.read(_CHUNK):
                    *pieces, rest = self._separator.split(rest + chunk)
                    yield from self._numbers(pieces)
                yield from self._numbers([rest])
            finally:
                stream.close()

    def _numbers(self, pieces: Sequence[str]) -> Iterator[Row]:
        for piece in pieces:
            if number := piece.strip():
                yield Row(number, number)
