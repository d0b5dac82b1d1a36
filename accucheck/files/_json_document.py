"""One JSON document: an array of objects or numbers, an object, a list inside one, or a list printed by a program.

A large array is read element by element, in constant memory. Anything else (a list somewhere inside an object, a Python
or JavaScript list) is held in memory, so its size is limited.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, ClassVar

import msgspec

from accucheck._phone import numbers_in
from accucheck.files._columns import looks_like_a_number, names_a_phone
from accucheck.files._jsonl import BARE_VALUE, JsonLinesSource, flat
from accucheck.files._origin import FileError, Origin
from accucheck.files._rows import distinct_names
from accucheck.files._text import Encoding, text_of

__all__ = ["JsonDocumentSource", "is_document"]

_SAMPLE_ROWS = 200
_CHUNK = 1 << 18
_LARGEST_IN_MEMORY = 256 << 20
_DEEPEST = 4
_SAY_HOW = "save it as CSV, or as JSON lines: jq -c '.[]' FILE"

_ASSIGNED = re.compile(
    r"(?:export\s+default\s+|(?:export\s+)?(?:const|let|var)\s+\w+\s*=\s*|\w+\s*=\s*)(?=[\[{(])"
)
_LITERAL = re.compile(r"\[\s*(?:[\[{(\"'\d+-]|$)|\(\s*(?:[\[{(\"']|$)")
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)


def is_document(text: str, suffix: str) -> bool:
    """Whether a text that begins like this is one JSON document, or a list as Python or JavaScript writes it.

    Args:
        text: The beginning, without blanks in front.
        suffix: Of the file. JSON lines may hold a line that is torn, so there only a document is one for sure.
    """
    named_json, named_lines = suffix == ".json", suffix in (".jsonl", ".ndjson", ".jsonlines")
    if _ASSIGNED.match(text):
        return True
    if not text.startswith(("[", "{", "(")):
        return named_json
    first, _, rest = text.partition("\n")
    try:
        value = json.loads(first, strict=False)
    except (ValueError, RecursionError):
        # A CSV header may begin with a bracket: [id],name
        if named_lines:
            return first.strip() in ("[", "{", "[{")
        return named_json or text[0] == "{" or bool(_LITERAL.match(first))
    # A value a line is JSON lines, unless all there is is a list, or an object that wraps one.
    if isinstance(value, list):
        return True
    wraps = not any(map(_is_number, value.values())) and any(
        isinstance(inner, (list, dict)) for inner in value.values()
    )
    return not rest.strip() and (wraps or named_json)


class JsonDocumentSource(JsonLinesSource):
    """The elements of a document as rows."""

    format: ClassVar[str] = "jsonl"

    _elements: list[bytes] | None = None
    """Those of a document that is held in memory."""

    def _first_lines(self) -> list[bytes]:
        with text_of(self.origin, self.encoding) as text:
            first = text.read(_CHUNK).lstrip("\ufeff \t\r\n")
        if not first.startswith("[") or _is_rows_of_arrays(first) or not self._is_json_array():
            self._elements = _wrapped_elements(self.origin, self.encoding)
        with self._records() as records:
            return list(islice(records, _SAMPLE_ROWS))

    def _is_json_array(self) -> bool:
        """Read the array to its end, so that damage is reported before the first call."""
        count = 0
        with text_of(self.origin, self.encoding) as text:
            try:
                for count, element in enumerate(_elements_of(text, self.name), start=1):  # noqa: B007
                    if element.startswith("["):
                        return False  # rows as arrays
            except FileError:
                if count > 1:
                    raise
                return False  # a Python list, perhaps
        return True

    @contextmanager
    def _records(self) -> Iterator[Iterable[bytes]]:
        if self._elements is not None:
            yield self._elements
            return
        with text_of(self.origin, self.encoding) as text:
            yield map(_on_one_line, _elements_of(text, self.name))


def _is_rows_of_arrays(text: str) -> bool:
    """Whether one array follows the other, each of them the cells of a row."""
    try:
        first, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return False
    cells = not any(isinstance(cell, (dict, list)) for cell in first)
    return cells and text[end:].lstrip(" \t\r\n,").startswith("[")


def _on_one_line(element: str) -> bytes:
    record = element.encode("utf-8", "replace")
    if b"\n" in record or b"\r" in record:
        try:
            record = msgspec.json.format(record, indent=-1)
        except msgspec.MsgspecError:
            record = json.dumps(json.loads(element, strict=False), ensure_ascii=False).encode(
                "utf-8", "replace"
            )
    return record


def _elements_of(stream: io.TextIOWrapper, name: str) -> Iterator[str]:
    """Yield the text of each element of an array, reading as little ahead as it needs."""
    buffer, place, inside, chunk = "", 0, False, _CHUNK
    done = 0

    def more() -> bool:
        nonlocal buffer, place, chunk, done
        text = stream.read(chunk)
        done += place
        buffer, place = buffer[place:] + text, 0
        return bool(text)

    more()
    while True:
        while place < len(buffer) and buffer[place] in " \t\r\n,\ufeff":
            place += 1
        if place == len(buffer):
            if more():
                continue
            if inside:
                raise FileError(f"{name}: the JSON is cut off; copy the file again")
            return
        if not inside and buffer[place] == "[":
            inside, place = True, place + 1
            continue
        if inside and buffer[place] == "]":
            inside, place = False, place + 1
            continue
        try:
            _, end = _DECODER.raw_decode(buffer, place)
        except RecursionError as error:
            raise FileError(f"{name}: the JSON is nested too deeply; {_SAY_HOW}") from error
        except ValueError as error:
            if len(buffer) - place < _LARGEST_IN_MEMORY and more():
                chunk = min(2 * chunk, _LARGEST_IN_MEMORY)
                continue
            raise FileError(f"{name}: not valid JSON near character {done + place:,}; {_SAY_HOW}") from error
        if end == len(buffer) and buffer[end - 1] not in '}]"':
            length = end - place
            if more():
                continue  # a number may go on
            end = place + length  # what stands before it is gone
        chunk = _CHUNK
        yield buffer[place:end]
        place = end


def _wrapped_elements(origin: Origin, encoding: Encoding) -> list[bytes]:
    """Return the elements of the one list of leads in a document that is not a plain array."""
    name = origin.name
    with text_of(origin, encoding, newline="") as stream:
        text = stream.read(_LARGEST_IN_MEMORY + 1)
    if len(text) > _LARGEST_IN_MEMORY:
        raise FileError(f"{name}: this JSON document is too large for memory; {_SAY_HOW}")
    text = text.lstrip("\ufeff \t\r\n")
    document = _document_of(text, name)
    if isinstance(document, str) and document.lstrip()[:1] in ("[", "{"):
        document = _document_of(document.strip(), name)  # JSON in a JSON string
    found = [
        (path, items)
        for path, items in _lists_in(document, "", _DEEPEST)
        if any(map(_holds_number, items[:200]))
    ]
    if len(found) > 1:
        paths = ", ".join(f"{path or '.'} ({len(items):,})" for path, items in found)
        raise FileError(
            f"{name}: this JSON document contains several lists of numbers: {paths}; save just one of them"
        )
    items = found[0][1] if found else document if isinstance(document, list) else [document]
    if not found and isinstance(document, dict) and not _holds_number(document):
        raise FileError(f"{name}: this JSON document contains no list of phone numbers; {_SAY_HOW}")
    arrays = sum(isinstance(item, list) for item in items)
    if 0 < arrays < len(items):
        raise FileError(f"{name}: this JSON list mixes rows with other values; {_SAY_HOW}")
    if items and arrays:
        items = _rows_as_objects(items)
    return [json.dumps(item, ensure_ascii=False, default=str).encode("utf-8", "replace") for item in items]


def _rows_as_objects(rows: list[list[Any]]) -> list[dict[str, Any]]:
    """Give the cells of rows that are arrays the names of the first row, if that holds names."""
    width = max(map(len, rows))
    if all(isinstance(cell, str) and not _is_number(cell) for cell in rows[0]):
        names, *rows = rows
    else:
        names = []
    keys = distinct_names([*map(str, names), *[""] * (width - len(names))])
    return [dict(zip(keys, row, strict=False)) for row in rows]


def _document_of(text: str, name: str) -> Any:
    if assigned := _ASSIGNED.match(text):
        text = text[assigned.end() :].rstrip().rstrip(";")
    values = []
    place = 0
    try:
        while place < len(text):
            value, place = json.JSONDecoder(strict=False).raw_decode(text, place)
            values.append(value)
            while place < len(text) and text[place] in " \t\r\n,":
                place += 1
    except (ValueError, RecursionError) as error:
        try:
            literal = ast.literal_eval(text.strip())
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            where = (
                f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "too deep"
            )
            raise FileError(f"{name}: not valid JSON ({where}); {_SAY_HOW}") from error
        return list(literal) if isinstance(literal, (tuple, set, frozenset)) else literal
    return values[0] if len(values) == 1 else values


def _lists_in(value: Any, path: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    """Yield every list of rows in a document, as APIs, databases and pandas write them, with where it is."""
    if isinstance(value, list):
        yield path, value
    elif isinstance(value, dict) and depth:
        if (rows := _split_rows(value) or _keyed_rows(value)) is not None:
            yield path, rows
            return
        for key, inner in value.items():
            yield from _lists_in(inner, f"{path}.{key}", depth - 1)


def _split_rows(value: dict[str, Any]) -> list[Any] | None:
    """Return the rows of ``{"columns": […], "data": [[…], …]}``, as ``DataFrame.to_json(orient="split")`` writes it."""
    names, rows = value.get("columns"), value.get("data")
    if not (isinstance(names, list) and isinstance(rows, list) and rows):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return None
    keys = distinct_names(map(str, names))
    return [dict(zip(keys, row, strict=True)) for row in rows]


def _keyed_rows(value: dict[str, Any]) -> list[Any] | None:
    """Return the rows of an object whose keys are row names, or column names (what pandas writes by default)."""
    inner = list(value.values())
    if all(isinstance(each, dict) for each in inner) and inner:
        shared = set(inner[0]).intersection(*inner[1:])
        cells = [cell for each in inner for cell in each.values()]
        if (
            not shared
            or any(isinstance(cell, list) for cell in cells)
            or all(isinstance(cell, dict) for cell in cells)
        ):
            return None
        rows_below = all(len(each) == len(shared) for each in inner) and (
            _are_places(shared) or (any(map(names_a_phone, value)) and not any(map(names_a_phone, shared)))
        )
        if rows_below and not _are_places(value):
            return [{name: column[key] for name, column in value.items()} for key in inner[0]]
        return [_with_key(key, each) for key, each in value.items()] if _holds_number(inner[0]) else None
    if len(inner) > 1 and all(map(_is_mobile, inner)) and not any(map(names_a_phone, value)):
        return [_with_key(key, {BARE_VALUE: each}) for key, each in value.items()]
    return None


def _are_places(keys: Iterable[str]) -> bool:
    return all(key.isdigit() for key in keys)


def _with_key(key: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the name that it has, if it is more than its place."""
    return row if key.isdigit() or "key" in row else {"key": key, **row}


def _holds_number(item: Any) -> bool:
    if isinstance(item, list):
        return any(map(_is_number, item))
    if isinstance(item, dict):
        return any(looks_like_a_number(cell) or _holds_number_below(cell) for cell in flat(item).values())
    return _is_number(item)


def _holds_number_below(cell: Any) -> bool:
    return isinstance(cell, list) and any(map(_is_number, cell))


def _is_mobile(cell: Any) -> bool:
    return _is_number(cell) and max(numbers_in(cell)) >= 900_000_000


def _is_number(cell: Any) -> bool:
    return not isinstance(cell, list) and looks_like_a_number(cell)
