"""How a text file is decoded and split into cells, and where its rows begin.

The encoding is that of the byte order mark, or else strict UTF-8, or else Windows-1252, Mac Roman or DOS. That order is
right for lists from Peru: in practice, no text is valid UTF-8 by chance, and anything else comes from Excel on a
Spanish Windows or a Mac, or from an old system. Libraries that guess by letter statistics mistake it for cp1250.

The standard library's Sniffer may choose a letter or a digit as the delimiter. This one knows the delimiters that lists
use, and that a single column has none.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from accucheck.files._columns import Header, has_header, header_of, names_a_phone
from accucheck.files._origin import FileError, Origin, translate_errors

__all__ = ["UTF_8", "Encoding", "Opening", "detect", "encoding_of", "opening_of", "text_of"]

_CHUNK = 1 << 20

_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Encoding(NamedTuple):
    """An encoding, and the byte order mark that the file starts with."""

    name: str
    mark: bytes = b""

    @property
    def errors(self) -> str:
        """How to handle bytes that do not decode: keep them, so that they are written back unchanged."""
        return "surrogatepass" if self.name.startswith(("utf-16", "utf-32")) else "surrogateescape"


UTF_8 = Encoding("utf-8")


def encoding_of(origin: Origin, override: str | None = None) -> Encoding:
    """Return the encoding of all of an input, or of its beginning if it can be read only once; see ``detect``."""
    if not origin.repeatable:
        return detect(io.BytesIO(origin.head), origin.name, override, whole=False)
    with translate_errors(origin.name), origin.open() as plain:
        return detect(plain, origin.name, override)


@contextmanager
def text_of(
    origin: Origin, encoding: Encoding, errors: str = "replace", newline: str | None = None
) -> Iterator[io.TextIOWrapper]:
    """Open an input as text, behind its byte order mark."""
    with translate_errors(origin.name, csv.Error), origin.open() as plain:
        plain.read(len(encoding.mark))
        yield io.TextIOWrapper(plain, encoding.name, errors, newline=newline)


def detect(stream: BinaryIO, name: str, override: str | None = None, *, whole: bool = True) -> Encoding:
    """Return the encoding of ``stream``, in constant memory.

    Args:
        stream: Plain bytes from their start. It is read on to the first byte that is not UTF-8, or its end.
        name: Of the file, for messages.
        override: The name that the caller gives; a byte order mark of the same family still counts.
        whole: Whether the stream is the whole file; of its beginning, a character may be cut at the end.

    Raises:
        FileError: Python does not know the encoding ``override``, or the stream is not text.
    """
    head = stream.read(_CHUNK)
    mark, marked = next(((mark, name) for mark, name in _MARKS if head.startswith(mark)), (b"", ""))
    if override is not None:
        return _overridden(name, override, mark, marked)
    if marked:
        return Encoding(marked, mark)
    if unmarked := _unmarked_utf_16(head[:4096]):
        return Encoding(unmarked)
    if head.count(0) > max(8, len(head) // 1000):  # a few strays are no reason to refuse a list
        raise _binary(name)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while head:
            if not head.isascii() or decoder.getstate()[0]:
                decoder.decode(head)
            head = stream.read(_CHUNK)
        decoder.decode(b"", final=whole)
    except UnicodeDecodeError as error:
        if len(head.translate(None, _OF_TEXT)) > max(4, len(head) // 50):
            raise _binary(name) from error
        return Encoding(_legacy(head))
    return UTF_8


# No control characters but tabs, line ends, the separators of Hive and the end of a DOS file.
_OF_TEXT = bytes([1, *range(9, 14), 26, 27, 28, 29, 30, 31, *range(32, 256)])


def _binary(name: str) -> FileError:
    return FileError(f"{name}: this is binary data, not a list; save it as CSV, JSON lines, Parquet or Excel")


_LEGACY = "cp1252", "mac-roman", "cp850"
_LOWER, _UPPER = "áéíóúñü", "ÁÉÍÓÚÑÜ"


def _legacy(text: bytes) -> str:
    """Return the encoding that makes the most Spanish letters of the bytes inside words."""

    def score(name: str) -> int:
        letters = re.escape(_LOWER.encode(name)), re.escape(_UPPER.encode(name))
        inside = rb"(?<=[A-Za-z])[%b](?=[a-z])|(?<=[a-z])[%b](?![A-Za-z])|(?<=[A-Z])[%b](?=[A-Z])" % (
            letters[0],
            *letters,
        )
        return len(re.findall(inside, text))

    return max(_LEGACY, key=score)  # the first of equals


def _overridden(file: str, override: str, mark: bytes, marked: str) -> Encoding:
    try:
        name = codecs.lookup(override).name
    except LookupError as error:
        raise _unfit(file, override) from error
    family = name.removesuffix("-sig").removesuffix("-le").removesuffix("-be")
    if marked.startswith(family):
        return Encoding(marked, mark)
    encoding = Encoding(
        {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(name, family if family == "utf-8" else name)
    )
    # Python calls other things encodings too: base64, and its own way to write a string.
    try:
        fits = (
            "1;a\n".encode(encoding.name, encoding.errors).decode(encoding.name, encoding.errors) == "1;a\n"
        )
    except (LookupError, UnicodeError):
        fits = False
    if not fits or b"\\n" in "\n".encode(encoding.name):
        raise _unfit(file, override)
    return encoding


def _unfit(file: str, name: str) -> FileError:
    return FileError(f"{file}: {name!r} is not a known text encoding; try utf-8, cp1252, latin-1 or utf-16")


def _unmarked_utf_16(head: bytes) -> str | None:
    """Digits and separators in UTF-16 have a NUL in every other byte, which no other text has."""
    for name, zeros, others in (("utf-16-le", head[1::2], head[0::2]), ("utf-16-be", head[0::2], head[1::2])):
        if 2 * zeros.count(0) > len(zeros) > 1 and others.count(0) == 0:
            return name
    return None


DELIMITERS = ",;\t|"
_RARE_DELIMITERS = "\x1f\x01^~"
"""Of mainframes and Hive: looked for only where none of the others makes columns."""
_DEFAULT = ","
_SAMPLE_ROWS = 200
_CONSISTENT = 0.7
_HEADER_LINES = 10

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


class Opening(NamedTuple):
    """What the beginning of a CSV file shows."""

    delimiter: str
    line_end: str
    preamble: str
    """What comes before the header: Excel's ``sep=;`` line, and a title."""
    title: list[list[str]]
    """The rows above the header."""
    header: list[str] | None
    """The names of the columns; None if there is no header."""
    header_text: str
    sample: list[list[str]]
    """The first rows that follow."""
    skipped: int
    """How many records stand above those."""


class _Record(NamedTuple):
    cells: list[str]
    begin: int
    """Its first line, from 0."""
    end: int
    """The line after its last."""


def opening_of(head: str, *, delimiter: str | None = None) -> Opening:
    """Return what the beginning of the text shows."""
    line_end = next((end for end in ("\r\n", "\n", "\r") if end in head), "\n")
    separator_line = ""
    lines = list(io.StringIO(head, newline=""))
    if lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0])):
        delimiter, separator_line = delimiter or separator[1], lines.pop(0)
    if delimiter is None:
        delimiter = _best_delimiter(lines)
    records = _parsed(lines, delimiter)
    sample = [record.cells for record in records]
    header = header_of(sample)
    place = header.place if header else 0
    if place and any("\n" in cell and delimiter in cell for row in sample[:place] for cell in row):
        # A quote is open in what would be the title, so that it has swallowed rows.
        header, place = Header(sample[0], 0) if has_header(sample) else None, 0
    preamble = separator_line + ("".join(lines[: records[place].begin]) if place else "")
    above = place + 1 if header else 0
    names = records[place] if header else None
    return Opening(
        delimiter,
        line_end,
        preamble,
        title=sample[:place],
        header=header.names if header else None,
        header_text="".join(lines[names.begin : names.end]).rstrip("\r\n") if names else "",
        sample=sample[above:],
        skipped=bool(separator_line) + above,
    )


def _best_delimiter(lines: Sequence[str]) -> str:
    best, best_score = _DEFAULT, (0.0, 0)
    for delimiter in DELIMITERS + _RARE_DELIMITERS:
        if delimiter in _RARE_DELIMITERS and best_score[1]:
            break
        records = _parsed(lines, delimiter)
        widths = Counter(len(record.cells) for record in records)
        if not widths:
            continue
        width, count = widths.most_common(1)[0]
        score = (count / len(records), width)
        if width > 1 and score[0] >= _CONSISTENT and score > best_score:
            best, best_score = delimiter, score
    if not best_score[1] and (header := _delimiter_of_header(lines)):
        return header  # most rows are in disorder, but this one says what was meant
    return best


def _delimiter_of_header(lines: Sequence[str]) -> str | None:
    for line in lines[:_HEADER_LINES]:
        for delimiter in DELIMITERS:
            records = _parsed([line], delimiter)
            if records and len(records[0].cells) > 1 and any(map(names_a_phone, records[0].cells)):
                return delimiter
    return None


def _parsed(lines: Sequence[str], delimiter: str) -> list[_Record]:
    """Return the first records that are not blank."""
    records: list[_Record] = []
    begin = 0
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in reader:
            if cells:
                records.append(_Record(cells, begin, reader.line_num))
            begin = reader.line_num
            if len(records) >= _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # a cell beyond the library's limit: the rows before it are sample enough
    return records
