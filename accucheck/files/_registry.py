"""Every format by its name, its suffixes and its first bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from accucheck.files._compression import SUFFIXES, Compression
from accucheck.files._csv import CsvSource, CsvWriter
from accucheck.files._errors import FileError
from accucheck.files._jsonl import JsonLinesSource, JsonLinesWriter
from accucheck.files._parquet import ParquetSource, ParquetWriter
from accucheck.files._results import ResultColumns
from accucheck.files._source import Row, Source
from accucheck.files._xlsx import ExcelSource, ExcelWriter

__all__ = ["FORMATS", "Format", "Writer", "by_content", "by_name", "split_suffixes"]


class Writer(Protocol):
    """Turns rows into the bytes of one format."""

    def write(self, row: Row, result: ResultColumns) -> None: ...

    def flush(self) -> None: ...

    def finish(self) -> None: ...


class Format(NamedTuple):
    """One format."""

    name: str
    read_suffixes: tuple[str, ...]
    write_suffixes: tuple[str, ...]
    magic: tuple[bytes, ...]
    read: Callable[..., Source]
    write: Callable[..., Writer]
    text: bool
    """Lines: may be compressed around, read as it comes, given another encoding and written to a stream."""


FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("csv", (".csv", ".txt"), (".csv", ".txt"), (), CsvSource, CsvWriter, text=True),
        Format("tsv", (".tsv", ".tab"), (".tsv", ".tab"), (), CsvSource, CsvWriter, text=True),
        Format(
            "jsonl",
            (".jsonl", ".ndjson", ".jsonlines"),
            (".jsonl", ".ndjson", ".jsonlines"),
            (),
            JsonLinesSource,
            JsonLinesWriter,
            text=True,
        ),
        Format(
            "parquet",
            (".parquet", ".pq"),
            (".parquet", ".pq"),
            (b"PAR1",),
            ParquetSource,
            ParquetWriter,
            text=False,
        ),
        Format(
            "xlsx",
            (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
            (".xlsx",),
            (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
            ExcelSource,
            ExcelWriter,
            text=False,
        ),
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
        raise FileError(f"{name!r} is no format; there are {', '.join(FORMATS)}") from None


def by_content(head: bytes, suffix: str) -> Format:
    """Return the format of an input: by its first bytes, else its suffix, else a look at the text."""
    for known in FORMATS.values():
        if known.magic and head.startswith(known.magic):
            return known
    for known in FORMATS.values():
        if suffix in known.read_suffixes and suffix != ".txt":
            return known
    return FORMATS["jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else "csv"]


def split_suffixes(path: Path) -> tuple[str, Compression | None]:
    """Return the format's suffix and the compression of ``leads.csv.gz``: ``.csv`` and ``gzip``."""
    compression = SUFFIXES.get(path.suffix.lower())
    if compression is not None:
        path = path.with_suffix("")
    return path.suffix.lower(), compression
