"""JSON lines: objects, or bare strings and numbers. Each row is written back as exactly the same bytes.

Our keys are inserted before the closing brace, so key order, number notation and escapes stay the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, ClassVar

import msgspec

from accucheck.files._columns import NumberColumn, Wanted
from accucheck.files._origin import HEAD_SIZE, FileError, Origin, translate_errors
from accucheck.files._rows import (
    NO_NUMBER,
    RESULT_COLUMNS,
    ResultColumns,
    Row,
    Source,
    Writer,
    as_text,
    column_names,
    distinct_names,
    iso_moment,
    printable,
)
from accucheck.files._text import UTF_8, encoding_of, text_of

__all__ = ["BARE_VALUE", "JsonLinesSource", "JsonLinesWriter", "flat"]

BARE_VALUE = "phone"
"""The key under which a bare value, or a line that is no JSON, is written."""

_SAMPLE_ROWS = 200

# Bad UTF-8 and endless nesting raise different errors.
_NOT_PLAIN = (msgspec.MsgspecError, UnicodeError, RecursionError)

_WRITE_EVERY = 2048


class JsonLinesSource(Source):
    """Rows of a JSON lines file."""

    format: ClassVar[str] = "jsonl"

    def __init__(self, origin: Origin, *, column: Wanted = None, encoding: str | None = None) -> None:
        super().__init__(origin)
        self.encoding = encoding_of(origin, encoding)
        sample = [_decoded(line) for line in self._first_lines() if line.strip()]
        if not sample:
            raise FileError(f"{self.name}: the file contains no rows")
        self._all_columns: list[str] | None = None
        objects = [flat(value) for value in sample if isinstance(value, dict)]
        keys = dict.fromkeys(key for value in objects for key in value)
        self.columns = list(keys) or [BARE_VALUE]
        if keys:
            self._choose_columns([[value.get(key) for key in keys] for value in objects], column)
        else:
            self.number_columns = [NumberColumn(BARE_VALUE, 0, "only column")]
        names = [column.name for column in self.number_columns]
        nested = any(name not in value for name in names for value in sample if isinstance(value, dict))
        self._decode_numbers = _decode_nothing if nested and "." in "".join(names) else _decoder_of(names)

    def _first_lines(self) -> list[bytes]:
        head = self.origin.head[len(self.encoding.mark) :]
        if self.encoding != UTF_8:
            head = head.decode(self.encoding.name, "replace").encode()
        lines = head.split(b"\n")
        if len(self.origin.head) >= HEAD_SIZE and len(lines) > 1:
            lines.pop()  # it is cut
        return lines[:_SAMPLE_ROWS]

    def all_columns(self) -> list[str]:
        if not self.repeatable:
            return self.columns
        if self._all_columns is None:
            keys = dict.fromkeys(self.columns)
            with self._records() as records:
                for record in records:
                    value = _decoded(record)
                    if isinstance(value, dict):
                        cells = flat(value)
                        if not keys.keys() >= cells.keys():
                            keys.update(dict.fromkeys(cells))
                    elif BARE_VALUE not in keys and record.strip():
                        keys[BARE_VALUE] = None
            self._all_columns = list(keys)
        return self._all_columns

    def values(self, row: Row) -> Sequence[object]:
        cells = self._object(row)
        return [cells.get(key) for key in self.all_columns()]

    def _object(self, row: Row) -> dict[str, object]:
        value = _decoded(row.record)
        if isinstance(value, dict):
            return flat(value)
        return {BARE_VALUE: row.record.decode("utf-8", "replace") if row.fault else value}

    def _rows(self) -> Iterator[Row]:
        decode = self._decode_numbers
        fields = [f"number_{place}" for place in range(len(self.number_columns))]
        several = len(fields) > 1
        with self._records() as records:
            for place, line in enumerate(records, start=1):
                record = line.strip()
                if not record:
                    continue
                try:
                    numbers = decode(record)
                except _NOT_PLAIN:
                    yield self._unusual(record, place)
                    continue
                number: object = numbers.number_0
                if several:
                    number = "\n".join([as_text(getattr(numbers, field)) for field in fields])
                yield Row(number if type(number) is str else as_text(number), record)

    @contextmanager
    def _records(self) -> Iterator[Iterable[bytes]]:
        """Open the input and return its records as UTF-8."""
        if self.encoding.name == "utf-8":
            with translate_errors(self.name), self.origin.open() as stream:
                stream.read(len(self.encoding.mark))
                yield stream
        else:
            with text_of(self.origin, self.encoding, newline="\n") as text:
                yield (line.encode() for line in text)

    def _unusual(self, record: bytes, place: int) -> Row:
        """Read a bare value or what only a lenient reader accepts (NaN, bad UTF-8), or return what is wrong."""
        value = _decoded(record)
        if value is _NO_JSON:
            self.faulty_rows += 1
            return Row("", record, f"Line {place} is not JSON.")
        if isinstance(value, dict):
            value = flat(value)
            numbers = [as_text(value.get(column.name)) for column in self.number_columns]
            return Row("\n".join(numbers), record)
        if isinstance(value, list):
            self.faulty_rows += 1
            return Row("", record, f"Line {place} is a list, not an object or a number.")
        return Row(as_text(value), record)


def _decoder_of(names: Sequence[str]) -> Callable[[bytes], Any]:
    """Return a decoder for the keys ``names`` of an object, as ``number_0`` and so on, which skips all others."""
    fields = {f"number_{place}": name for place, name in enumerate(names)}
    try:
        wanted = msgspec.defstruct("Line", [(field, Any, None) for field in fields], rename=fields)
    except ValueError:  # quotes and control characters cannot be in its names
        return _decode_nothing
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(wanted).decode
    return decode


def _decode_nothing(record: bytes) -> Any:
    raise msgspec.ValidationError("the slow way")


def flat(value: dict[str, Any], depth: int = 4) -> dict[str, Any]:
    """Return the object with what is in objects inside it under names such as ``contact.phone``."""
    if dict not in map(type, value.values()):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, dict) and inner and depth:
            for name, cell in flat(inner, depth - 1).items():
                found[f"{key}.{name}" if f"{key}.{name}" not in value else f"{key}.{name}_2"] = cell
        else:
            found[key] = inner
    return found


_NO_JSON = object()
"""What a line that is not JSON decodes to."""


def _decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except _NOT_PLAIN:
        pass
    try:
        return json.loads(line.decode("utf-8", "replace"), parse_int=_whole)
    except (ValueError, RecursionError):
        return _NO_JSON


def _whole(digits: str) -> int | str:
    """Return a whole number, as text where Python refuses to make one of that many digits."""
    try:
        return int(digits)
    except ValueError:
        return digits


class JsonLinesWriter(Writer):
    """Writes rows as JSON objects that end with the results, in UTF-8."""

    def __init__(self, out: BinaryIO, source: Source, *, numbers: int = 1) -> None:
        self._out = out
        self._source = source
        self._numbers = numbers
        self._columns = source.all_columns()
        self._kept = isinstance(source, JsonLinesSource)
        if not self._kept:
            self._columns = distinct_names(self._columns)
        self._names = column_names(self._columns, numbers)
        self._encode = msgspec.json.Encoder(enc_hook=str).encode
        self._shapes = _shapes_of(self._names)
        self._live = not source.repeatable
        self._pending: list[bytes] = []

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        shapes = self._shapes
        if self._kept:
            record: bytes = row.record
            own = record[:-1].rstrip() if record[:1] == b"{" and not row.fault else self._wrapped(row)
            if self._live and record[:1] == b"{":
                shapes = self._shapes_beside(record)
        else:
            cells = zip(self._columns, self._source.values(row), strict=False)
            own = self._encode(dict(cells))[:-1]
        results = self._encode(_filled(shapes[0], result))
        if self._numbers > 1:
            others = (*more, *[NO_NUMBER] * (len(shapes) - 1 - len(more)))
            for shape, other in zip(shapes[1:], others, strict=True):
                results = results[:-1] + b"," + self._encode(_filled(shape, other))[1:]
        self._pending += (own, b"," if len(own) > 1 else b"", results[1:], b"\n")
        if len(self._pending) >= _WRITE_EVERY:
            self.flush()

    def flush(self) -> None:
        self._out.write(b"".join(self._pending))
        self._pending.clear()

    def _wrapped(self, row: Row) -> bytes:
        text = row.record.decode("utf-8", "replace")
        value = self._encode(text) if row.fault else row.record
        return b"{" + self._encode(BARE_VALUE) + b":" + value

    def _shapes_beside(self, record: bytes) -> list[Any]:
        """Return names that no key of this row has: new keys may come where input is read once."""
        value = _decoded(record)
        if isinstance(value, dict) and not {key.casefold() for key in value}.isdisjoint(self._names):
            return _shapes_of(column_names(value, self._numbers))
        return self._shapes


def _shapes_of(names: Sequence[str]) -> list[Any]:
    """Return a struct with the names of the results of each number."""
    width = len(RESULT_COLUMNS)
    fields = [(plain, Any) for plain in RESULT_COLUMNS]
    return [
        msgspec.defstruct(
            "Results",
            fields,
            rename=dict(zip(RESULT_COLUMNS, names[begin : begin + width], strict=True)),
            gc=False,
        )
        for begin in range(0, len(names), width)
    ]


def _filled(shape: Any, result: ResultColumns) -> Any:
    filled = shape(*result)
    if result.signature:
        filled.signature = printable(result.signature)
    if result.reason:
        filled.reason = printable(result.reason)
    if result.checked_at is not None:
        filled.checked_at = iso_moment(result.checked_at)
    return filled
