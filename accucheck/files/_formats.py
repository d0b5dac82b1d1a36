"""Recognizes an input by its first bytes, then by its text, and by its suffix only if both are inconclusive.

Unsupported files are refused with an error that says what they are and how to export them.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from accucheck.files._csv import CsvSource, CsvWriter
from accucheck.files._excel import ExcelSource
from accucheck.files._excel_writer import ExcelWriter
from accucheck.files._exports import (
    ContactsSource,
    NumberListSource,
    WebTablesSource,
    XmlSpreadsheetSource,
    separator_of_numbers,
)
from accucheck.files._json_document import JsonDocumentSource, is_document
from accucheck.files._jsonl import JsonLinesSource, JsonLinesWriter
from accucheck.files._origin import (
    SUFFIXES,
    TORN_ARCHIVE,
    Compression,
    FileError,
    Origin,
    StoredOrigin,
    translate_errors,
)
from accucheck.files._parquet import ParquetSource, ParquetWriter
from accucheck.files._rows import Source, Writer
from accucheck.files._text import detect

__all__ = ["FORMATS", "Format", "by_name", "open_by_content", "split_suffixes"]


class Format(NamedTuple):
    """One format."""

    name: str
    read_suffixes: tuple[str, ...]
    write_suffixes: tuple[str, ...]
    read: Callable[..., Source]
    read_options: frozenset[str]
    """The options of ``open_source`` that ``read`` takes."""
    write: Callable[..., Writer]
    streams: bool
    """Whether it can be read as it arrives, and written row by row to a pipe."""
    compressible: bool
    """Whether it may be compressed as a whole: ``.csv.gz``."""

    def open(self, origin: Origin, **options: Any) -> Source:
        """Open an input of this format.

        Raises:
            FileError: It is damaged, its number column is ambiguous, or it would have to be read twice.
        """
        if not self.streams and not origin.repeatable:
            raise FileError(f"{origin.name}: {self.name} cannot be streamed; save it to a file first")
        chosen = {name: value for name, value in options.items() if name in self.read_options}
        if self.name == "tsv":
            chosen["delimiter"] = "\t"
        return self.read(origin, **chosen)


_TEXT = frozenset(["column", "encoding"])
_CSV, _TSV, _JSON_LINES = (".csv", ".txt"), (".tsv", ".tab"), (".jsonl", ".ndjson", ".jsonlines")
_PARQUET, _EXCEL = (".parquet", ".pq"), (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_OF_A_WORKBOOK = frozenset(["column", "sheet", "visible_only"])

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("csv", _CSV, _CSV, CsvSource, _TEXT, CsvWriter, True, True),
        Format("tsv", _TSV, _TSV, CsvSource, _TEXT, CsvWriter, True, True),
        Format("jsonl", _JSON_LINES, _JSON_LINES, JsonLinesSource, _TEXT, JsonLinesWriter, True, True),
        Format(
            "parquet", _PARQUET, _PARQUET, ParquetSource, frozenset(["column"]), ParquetWriter, False, False
        ),
        Format("xlsx", _EXCEL, (".xlsx",), ExcelSource, _OF_A_WORKBOOK, ExcelWriter, False, False),
    )
}


def by_name(name: str) -> Format:
    """Return the format that the caller names.

    Raises:
        FileError: There is no such format.
    """
    try:
        return FORMATS[name.lower()]
    except KeyError:
        raise FileError(f"{name!r} is not a format; the formats are {', '.join(FORMATS)}") from None


def split_suffixes(path: Path) -> tuple[str, Compression | None]:
    """Return the format's suffix and the compression of ``leads.csv.gz``: ``.csv`` and ``gzip``."""
    compression = SUFFIXES.get(path.suffix.lower())
    if compression is not None:
        path = path.with_suffix("")
    return path.suffix.lower(), compression


_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_WORKBOOK = "Workbook".encode("utf-16-le"), "Book".encode("utf-16-le")

_AS_TABLE = "export the list as CSV or .xlsx"
_UNPACK = "unpack it and use the file inside"

# Files that begin like this are not read.
_REFUSED: dict[tuple[str, str], tuple[bytes, ...]] = {
    ("a PDF", _AS_TABLE): (b"%PDF-",),
    ("a text document (RTF)", _AS_TABLE): (b"{\\rtf",),
    ("a picture", _AS_TABLE): (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\x00", b"MM\x00*"),
    ("a SQLite database", "export the table as CSV: sqlite3 -csv -header"): (b"SQLite format 3\x00",),
    ("an Access database", "export the table as CSV"): (b"\x00\x01\x00\x00Standard",),
    ("a PostgreSQL dump", "export the table as CSV: COPY … TO … CSV HEADER"): (b"PGDMP",),
    ("an Arrow (Feather) file", "write the frame as Parquet or CSV"): (b"ARROW1", b"FEA1"),
    ("an Arrow stream", "write the frame as Parquet or CSV"): (b"\xff\xff\xff\xff",),
    ("a Stata file", "export the table as CSV: export delimited"): (
        b"<stata_dta>",
        *(bytes([release, order, 1, 0]) for release in range(0x69, 0x74) for order in (1, 2)),
    ),
    ("an SPSS file", "export the table as CSV or .xlsx"): (b"$FL2@(#)", b"$FL3@(#)"),
    ("an R data file", "export the frame as CSV: write.csv"): (b"X\n\x00\x00\x00", b"RDX2\n", b"RDX3\n"),
    ("a Python pickle", "write the data as CSV or Parquet"): (
        b"\x80\x02",
        b"\x80\x03",
        b"\x80\x04",
        b"\x80\x05",
    ),
    ("an Avro file", "write the table as Parquet or CSV"): (b"Obj\x01",),
    ("an ORC file", "write the table as Parquet or CSV"): (b"ORC",),
    ("an HDF5 file", "write the table as Parquet or CSV"): (b"\x89HDF",),
    ("compressed with bzip2", _UNPACK): (b"BZh",),
    ("compressed with xz", _UNPACK): (b"\xfd7zXZ\x00",),
    ("compressed with lz4", _UNPACK): (b"\x04\x22\x4d\x18",),
    ("compressed with compress", _UNPACK): (b"\x1f\x9d",),
    ("compressed with lzma", _UNPACK): (b"]\x00\x00",),
    ("a 7-Zip archive", _UNPACK): (b"7z\xbc\xaf\x27\x1c",),
    ("a RAR archive", _UNPACK): (b"Rar!",),
    ("an empty zip archive", "choose another file"): (b"PK\x05\x06",),
    ("a web archive (.mht)", "open it in Excel and save it as .xlsx"): (b"MIME-Version:",),
    ("a program", "choose another file"): (b"MZ", b"\x7fELF"),
}
# Others have their mark further inside: where, and what it is.
_REFUSED_INSIDE: dict[tuple[str, str], tuple[int, bytes]] = {
    ("a SAS file", "export the table as CSV: proc export"): (12, bytes.fromhex("c2ea8160b31411cf")),
    ("a tar archive", _UNPACK): (257, b"ustar"),
    ("a picture or a video", _AS_TABLE): (4, b"ftyp"),
}
_SQL = re.compile(
    r"(?:--.*?\n|/\*.*?\*/;?|\\.*?\n|\s)*"
    r"(?:INSERT\s+INTO\s|CREATE\s+(?:TABLE|DATABASE)\s|DROP\s+TABLE\s|LOCK\s+TABLES\s|COPY\s+\S+\s*\(.*?\)\s+FROM\s+stdin"
    r"|SET\s+(?:\w+\s*=|NAMES\s)|SELECT\s+pg_catalog|BEGIN(?:\s+TRANSACTION)?;|PRAGMA\s)",
    re.IGNORECASE | re.DOTALL,
)
# Text that would pass for CSV, with its numbers in the wrong cells.
_OTHER_TEXT: tuple[tuple[re.Pattern[str], str, str], ...] = tuple(
    (re.compile(pattern), what, way_out)
    for pattern, what, way_out in (
        (
            r"\u200e?\[?\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4},? \d{1,2}:\d\d(?::\d\d)?\s?"
            r"(?:[aApP]\.?\s?[mM]\.?)?(?:\]| -) ",
            "a WhatsApp chat",
            "put its numbers in one column of a table",
        ),
        (r"(?i)BEGIN:VCALENDAR", "a calendar", "choose another file"),
        (r"(?i)(?:version: \d+\s+)?dn::? ", "a directory export (LDIF)", _AS_TABLE),
        (
            r"(?:From|To|Subject|Date|Received|Return-Path|Delivered-To|X-[\w-]+): .*\n(?:[\w-]+: |[ \t])",
            "an email",
            "save its attachment",
        ),
        (r"ID;P[A-Z]{3};?", "a SYLK spreadsheet", "save it as .xlsx"),
        (r"TABLE\r?\n0,1\r?\n", "a DIF spreadsheet", "save it as .xlsx"),
        (
            r"(?:---[^\n]*\n)?- +[\w\"']+: [^\n]*\n +[\w\"']+: ",
            "a YAML document",
            _AS_TABLE,
        ),
        (
            r"(?:[^\n]*\n)?[ |+:=-]*(?:-{3}[+|]|[+|][ :]?-{3})[ |+:=-]*(?:\r?\n|$)",
            "a table drawn as text",
            "have the program write CSV (psql --csv, mysql --batch)",
        ),
    )
)
_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body|table|meta|style|div|center)\b", re.IGNORECASE)


def open_by_content(origin: Origin, suffix: str, options: dict[str, Any]) -> Source:
    """Open an input by its content, with the caller's ``column``, ``encoding``, ``sheet`` and ``visible_only``.

    Raises:
        FileError: It is not supported, or it is damaged.
    """
    head = origin.head
    for (what, way_out), magics in _REFUSED.items():
        if head.startswith(magics):
            raise _not_a_list(origin, what, way_out)
    for (what, way_out), (place, magic) in _REFUSED_INSIDE.items():
        if head.startswith(magic, place):
            raise _not_a_list(origin, what, way_out)
    if head.startswith(b"PK\x03\x04"):
        return _open_zip(origin, options)
    if head.startswith(_OLE):
        _refuse_what_is_no_workbook(origin)
        return _open("xlsx", origin, options)
    if head.startswith(b"PAR1"):
        return _open("parquet", origin, options)
    return _open_text(origin, suffix, options)


def _not_a_list(origin: Origin, what: str, way_out: str = _AS_TABLE) -> FileError:
    return FileError(f"{origin.name}: this is {what}, not a list; {way_out}")


def _open(name: str, origin: Origin, options: dict[str, Any]) -> Source:
    return FORMATS[name].open(origin, **options)


def _open_text(origin: Origin, suffix: str, options: dict[str, Any]) -> Source:
    encoding = detect(io.BytesIO(origin.head), origin.name, options.get("encoding"), whole=False)
    text = origin.head[len(encoding.mark) :].decode(encoding.name, "replace").lstrip("\ufeff \t\r\n")
    of_text = {name: options.get(name) for name in _TEXT}
    if text[:11].upper() == "BEGIN:VCARD":
        return ContactsSource(origin, **of_text)
    if text.startswith("<"):
        if "urn:schemas-microsoft-com:office:spreadsheet" in text and "<html" not in text[:1000].lower():
            return XmlSpreadsheetSource(_stored(origin), **options)
        if _HTML.search(text[:5000]):
            return WebTablesSource(_stored(origin), **options)
        if text.startswith("<?xml") or text.lower().startswith("<office:"):
            raise _not_a_list(origin, "an XML document")
    if _SQL.match(text):
        raise _not_a_list(origin, "a database dump (SQL)", "export the table as CSV")
    for pattern, what, way_out in _OTHER_TEXT:
        if pattern.match(text):
            raise _not_a_list(origin, what, way_out)
    if is_document(text, suffix):
        return JsonDocumentSource(_stored(origin), **of_text)
    for known in (FORMATS["tsv"], FORMATS["jsonl"]):
        if suffix in known.read_suffixes:
            return _open(known.name, origin, options)
    if text[:1] == "{":
        return _open("jsonl", origin, options)
    if separator := separator_of_numbers(text):
        return NumberListSource(origin, separator, **of_text)
    return _open("csv", origin, options)


def _stored(origin: Origin) -> Origin:
    """Return a copy on disk of an input that can be read only once but must be read more often."""
    return origin if origin.repeatable else StoredOrigin.spooled(origin.open(), origin.name)


def _refuse_what_is_no_workbook(origin: Origin) -> None:
    with translate_errors(origin.name), origin.open() as stream:
        content = stream.read(1 << 20)
    if _ENCRYPTED in content:
        raise FileError(
            f"{origin.name}: the workbook is password-protected; remove the password, or save the list as CSV"
        )
    if "WordDocument".encode("utf-16-le") in content:
        raise _not_a_list(origin, "a Word document")
    if "__substg1.0_".encode("utf-16-le") in content:
        raise _not_a_list(origin, "an Outlook email", "save its attachment")


_OF_OFFICE = (
    ("word/", "a Word document"),
    ("ppt/", "a PowerPoint presentation"),
    ("Index/", "an Apple Numbers or Pages document"),
    ("META-INF/MANIFEST.MF", "a program"),
)


def _open_zip(origin: Origin, options: dict[str, Any]) -> Source:
    try:
        with translate_errors(origin.name), origin.open() as stream, zipfile.ZipFile(stream) as archive:
            names = [name for name in archive.namelist() if name and not name.endswith("/")]
            if any(name.lower().startswith("xl/") for name in names) or _is_ods(archive):
                return _open("xlsx", origin, options)
            for begin, what in _OF_OFFICE:
                if any(name.startswith(begin) for name in names):
                    raise _not_a_list(origin, what)
            if "mimetype" in names:
                raise _not_a_list(origin, "a text document")
            members = [name for name in names if not _is_litter(name)]
            if len(members) != 1:
                shown = ", ".join(map(repr, members[:10])) + (" …" if len(members) > 10 else "")
                raise FileError(
                    f"{origin.name}: the zip archive contains {len(members)} files ({shown}); {_UNPACK}"
                )
            inner = _unpacked(archive, members[0], origin)
    except FileError:
        raise
    except TORN_ARCHIVE as error:
        if "password" in str(error) or "encrypted" in str(error):
            raise FileError(f"{origin.name}: the zip archive is password-protected; {_UNPACK}") from error
        return _open("xlsx", origin, options)  # probably a damaged workbook; its reader reports the error
    try:
        source = open_by_content(inner, PurePosixPath(members[0]).suffix.lower(), options)
    except BaseException:
        inner.close()
        raise
    source.input_path = origin.path
    source.notes.insert(0, f"reading {members[0]!r} from the zip archive")
    return source


def _unpacked(archive: zipfile.ZipFile, member: str, origin: Origin) -> Origin:
    with archive.open(member) as stream:
        return StoredOrigin.spooled(cast("BinaryIO", stream), f"{origin.name}:{member}")


def _is_ods(archive: zipfile.ZipFile) -> bool:
    return "mimetype" in archive.namelist() and b"spreadsheet" in archive.read("mimetype")[:100]


def _is_litter(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name in (
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
    )
