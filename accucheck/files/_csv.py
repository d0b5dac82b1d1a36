"""CSV: read line by line, because each row is written back as exactly the same text.

A line without quotes is split with ``str.split``; one with quotes goes to the standard library. A quote that is never
closed would turn the rest of the file into one cell, so after some hundred lines it counts as a character.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import BinaryIO, ClassVar, NamedTuple

from accucheck.files._columns import Wanted
from accucheck.files._origin import HEAD_SIZE, FileError, Origin
from accucheck.files._rows import (
    NO_NUMBER,
    ResultColumns,
    Row,
    Source,
    Writer,
    as_text,
    column_names,
    formula_safe,
    iso_date,
    iso_moment,
    printable,
    yes_or_no,
)
from accucheck.files._sheets import SheetSource
from accucheck.files._text import UTF_8, Encoding, encoding_of, opening_of, text_of

__all__ = ["CsvSource", "CsvWriter", "output_encoding"]

_LONGEST_RECORD = 10_000
"""In lines. Notes with whole e-mails have hundreds; a scan for the end of a stray quote stops at the next quote."""

_CELL_LIMIT = 1 << 24
_BLANKS = " \t\r\n\v\f\ufeff\xa0\x1a"  # the last one ends a file of DOS
_WRITE_EVERY = 2048


class _Irregular(NamedTuple):
    """A record with more or fewer cells than the header."""

    text: str
    width: int


class CsvSource(Source):
    """Rows of a CSV or tab-separated file."""

    format: ClassVar[str] = "csv"

    def __init__(
        self,
        origin: Origin,
        *,
        column: Wanted = None,
        encoding: str | None = None,
        delimiter: str | None = None,
    ) -> None:
        super().__init__(origin)
        # The library's limit is the whole process's: raised, never lowered.
        csv.field_size_limit(max(csv.field_size_limit(), _CELL_LIMIT))
        self.encoding = encoding_of(origin, encoding)
        opening = opening_of(self._head(), delimiter=delimiter)
        if opening.header is None and not any(cell.strip(_BLANKS) for row in opening.sample for cell in row):
            raise FileError(f"{self.name}: the file contains no rows")
        self.opening = opening
        self.delimiter = opening.delimiter
        self.title = opening.title
        if opening.header is not None:
            self.columns = [as_text(cell) for cell in opening.header]
        else:
            width = Counter(map(len, opening.sample)).most_common(1)[0][0]
            self.columns = [f"column_{place}" for place in range(1, width + 1)]
        self._widest = 0
        self._choose_columns(opening.sample, column)
        if opening.header is None:  # an output gets one
            self._name_number_columns()

    def _head(self) -> str:
        """Return the text of the beginning, without a last line that is cut."""
        # As the rows are decoded: a header's bytes come back too if they are not of its encoding.
        decoder = codecs.getincrementaldecoder(self.encoding.name)(self.encoding.errors)
        head = decoder.decode(self.origin.head[len(self.encoding.mark) :])
        if len(self.origin.head) < HEAD_SIZE:  # it is all
            return head
        return head[: head.rfind("\n") + 1] or head

    def all_columns(self) -> list[str]:
        """Return the columns, and nameless ones for the cells of rows that are longer than the header."""
        if self.repeatable and self.rows_total is None:
            for _ in self.rows():
                pass
        return self.columns + [""] * max(0, self._widest - len(self.columns))

    def values(self, row: Row) -> Sequence[object]:
        text: str = row.record.text if isinstance(row.record, _Irregular) else row.record
        return [as_text(cell) for cell in _cells_of(text, self.delimiter)]

    def _rows(self) -> Iterator[Row]:
        with text_of(self.origin, self.encoding, self.encoding.errors, newline="") as text:
            yield from self._read(text)

    def _read(self, text: io.TextIOWrapper) -> Iterator[Row]:
        delimiter, index = self.delimiter, self.number_column.index
        several = len(self.number_columns) > 1
        # A row of several columns is read as an irregular one is: no width is regular then.
        width = -1 if several else len(self.columns)
        delimiters = width - 1
        other = self._several if several else self._irregular
        to_skip = self.opening.skipped
        returned: deque[str] = deque()
        record: str | _Irregular

        # One reader for all lines, each handed to it alone: making one takes longer than reading a line.
        given: list[str] = []
        one_line = csv.reader(iter(given.pop, None), delimiter=delimiter)

        def lines() -> Iterator[str]:
            while returned:
                yield returned.popleft()
            for line in text:
                yield line
                while returned:
                    yield returned.popleft()

        while True:
            source = lines()
            for line in source:
                body = line.rstrip("\r\n")
                if not body:
                    continue
                if '"' not in body:
                    if to_skip:
                        to_skip -= 1
                        continue
                    if body.count(delimiter) == delimiters:
                        number, record = body.split(delimiter, index + 1)[index], body
                    else:
                        number, record = other(body.split(delimiter), body)
                else:
                    given.append(body)
                    try:
                        cells = next(one_line)
                    except IndexError:  # the reader asks for more: a quote is open at the end of the line
                        one_line = csv.reader(iter(given.pop, None), delimiter=delimiter)
                        cells, body = self._quoted(line, source, returned)
                    if to_skip:
                        to_skip -= 1
                        continue
                    if len(cells) == width:
                        number, record = cells[index], body
                    else:
                        number, record = other(cells, body)
                # Empty, or it begins with a blank of some kind: then the whole row may hold nothing.
                if not "!" <= number <= "~" and self._is_nothing(body):
                    self.blank_rows += 1
                    continue
                yield Row(number, record)
            if not returned:
                return

    def _is_nothing(self, body: str) -> bool:
        """Whether no cell of a row holds anything."""
        if '"' not in body:
            return not body.strip(self.delimiter + _BLANKS)
        return not any(cell.strip(_BLANKS) for cell in _cells_of(body, self.delimiter))

    def _several(self, cells: list[str], body: str) -> tuple[str, str | _Irregular]:
        indexes = [column.index for column in self.number_columns]
        number = "\n".join(cells[index] for index in indexes if index < len(cells))
        return number, body if len(cells) == len(self.columns) else self._irregular(cells, body)[1]

    def _irregular(self, cells: list[str], body: str) -> tuple[str, _Irregular]:
        if len(cells) > self._widest and any(cell.strip(_BLANKS) for cell in cells):
            self._widest = len(cells)
        index = self.number_column.index
        return cells[index] if index < len(cells) else "", _Irregular(body, len(cells))

    def _quoted(self, first: str, source: Iterator[str], returned: deque[str]) -> tuple[list[str], str]:
        """Return the cells and the text of a record of more than one line; lines that are not its go back."""
        delimiter = self.delimiter
        taken = [first]

        def feed() -> Iterator[str]:
            yield first
            for line in islice(source, _LONGEST_RECORD):
                taken.append(line)
                yield line

        try:
            # Strict: a quote that is still open at the end, or closed before more text, is a stray one.
            cells = next(csv.reader(feed(), delimiter=delimiter, strict=True))
        except csv.Error:
            cells = []
        # Did it meet another stray one some rows below? It did, if its line is a whole row alone.
        whole = len(cells) == len(self.columns)
        if whole or (cells and len(next(csv.reader([first], delimiter=delimiter))) != len(self.columns)):
            return cells, "".join(taken).rstrip("\r\n")
        returned.extendleft(reversed(taken[1:]))
        # The quote is a character of its cell. The output quotes it, or it would swallow our columns there.
        cells = first.rstrip("\r\n").split(delimiter)
        return cells, delimiter.join(quoted(cell, delimiter) for cell in cells)


def _cells_of(record: str, delimiter: str) -> list[str]:
    if '"' not in record:
        return record.split(delimiter) if record else []
    return next(csv.reader(io.StringIO(record, newline=""), delimiter=delimiter), [])


# Bytes that a legacy encoding has no character for, carried along as half surrogates: in another encoding they become
# what web browsers show for them (https://encoding.spec.whatwg.org/#windows-1252).
_UNDECODED = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}


def output_encoding(source: CsvSource) -> Encoding:
    """Return the encoding of an output with the rows of ``source``."""
    if source.encoding.name.startswith(("utf-8", "utf-16", "utf-32")):
        return source.encoding
    return Encoding("utf-8", codecs.BOM_UTF8)


def quoted(cell: str, delimiter: str) -> str:
    """Return the cell as CSV text, in quotes only if it needs them (in any spreadsheet's locale)."""
    if _NEEDS_QUOTES(cell) or delimiter in cell:
        return '"' + cell.replace('"', '""') + '"'
    return cell


_NEEDS_QUOTES = re.compile(r'[,;\t|"\r\n]|^\s|\s$').search


class CsvWriter(Writer):
    """Writes rows as CSV, followed by their results.

    Rows from CSV keep their text, delimiter, line end, byte order mark, and a Unicode encoding. Other encodings cannot
    represent a stranger's emoji, so the output is then UTF-8 with a byte order mark. Rows from a workbook also get that
    mark, because Excel needs it to read UTF-8. Short rows are padded, so that our columns line up with their names. An
    output ``for_excel``, not for a pipe, gets a byte order mark if Excel needs one, even if the input had none.
    """

    def __init__(
        self,
        out: BinaryIO,
        source: Source,
        *,
        delimiter: str | None = None,
        for_excel: bool = True,
        numbers: int = 1,
    ) -> None:
        self._out = out
        self._source = source
        own = source.all_columns()
        self._width = len(own)
        self._encoding = UTF_8
        self._reencoded = isinstance(source, CsvSource) and output_encoding(source) != source.encoding
        line_end, preamble, header = "\n", "", ""
        kept = isinstance(source, CsvSource) and delimiter in (None, source.delimiter)
        if isinstance(source, CsvSource) and kept:
            self._encoding = output_encoding(source)
            delimiter, line_end, preamble = source.opening[:3]
            header = source.opening.header_text + delimiter * (len(own) - len(source.columns))
        self._delimiter = delimiter or ","
        self._own_text: Callable[[Row], str] = self._kept_text if kept else self._converted_text
        self._missing = self._delimiter * (len(own) - len(source.columns))
        self._line_end = line_end
        self._safe_text = lru_cache(8192)(self._safe_text_of)
        if isinstance(source, SheetSource):
            self._encoding = Encoding("utf-8", codecs.BOM_UTF8)
        if not kept:
            preamble = "".join(self._joined(map(as_text, cells)) + line_end for cells in source.title)
        header = header or self._joined(own)
        self._pending = [
            preamble + header + self._delimiter + self._joined(column_names(own, numbers)) + line_end
        ]
        self._numbers = numbers
        if for_excel or (isinstance(source, CsvSource) and source.encoding.mark):
            out.write(self._encoding.mark)

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        text = self._own_text(row) + self._result_text(result)
        if self._numbers > 1:
            for place in range(self._numbers - 1):
                text += self._result_text(more[place] if place < len(more) else NO_NUMBER)
        self._pending.append(text + self._line_end)
        if len(self._pending) >= _WRITE_EVERY:
            self.flush()

    def _result_text(self, result: ResultColumns) -> str:
        (
            whatsapp,
            status_update,
            business_user,
            avatar,
            signature,
            status,
            reason,
            request_id,
            number,
            checked_at,
        ) = result
        delimiter, safe = self._delimiter, self._safe_text
        return (
            f"{delimiter}{yes_or_no[whatsapp]}{delimiter}{iso_date(status_update) if status_update else ''}"
            f"{delimiter}{yes_or_no[business_user]}{delimiter}{yes_or_no[avatar]}"
            f"{delimiter}{safe(signature) if signature else ''}"
            f"{delimiter}{status if status.isalpha() else safe(status)}"
            f"{delimiter}{safe(reason) if reason else ''}"
            f"{delimiter}{request_id if request_id.isalnum() else safe(request_id)}"
            f"{delimiter}{number}{delimiter}{iso_moment(checked_at) if checked_at else ''}"
        )

    def flush(self) -> None:
        text = "".join(self._pending)
        self._pending.clear()
        if self._reencoded and not text.isascii():
            text = text.translate(_UNDECODED)
        self._out.write(text.encode(self._encoding.name, self._encoding.errors))

    def _kept_text(self, row: Row) -> str:
        record: str | _Irregular = row.record
        if isinstance(record, str):
            return record + self._missing
        surplus = record.width - self._width
        if surplus <= 0:
            return record.text + self._delimiter * -surplus
        # Only where the input is read once: the header is out, so the last column takes what is too much.
        cells = _cells_of(record.text, self._delimiter)
        last = self._delimiter.join(cells[self._width - 1 :])
        return self._joined([*cells[: self._width - 1], last])

    def _converted_text(self, row: Row) -> str:
        cells = [as_text(value) for value in self._source.values(row)]
        return self._joined(cells) + self._delimiter * (self._width - max(1, len(cells)))

    def _joined(self, cells: Iterable[str]) -> str:
        return self._delimiter.join(quoted(cell, self._delimiter) for cell in cells)

    def _safe_text_of(self, text: str) -> str:
        return quoted(formula_safe(printable(text)), self._delimiter)
