"""The formats that can be named, by their name and suffixes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from accucheck.files._compression import SUFFIXES, Compression
from accucheck.files._csv import CsvSource, CsvWriter
from accucheck.files._errors import FileError
from accucheck.files._excel import ExcelSource
from accucheck.files._excel_writer import ExcelWriter
from accucheck.files._jsonl import JsonLinesSource, JsonLinesWriter
from accucheck.files._origin import Origin
from accucheck.files._parquet import ParquetSource, ParquetWriter
from accucheck.files._results import ResultColumns
from accucheck.files._source import Row, Source

__all__ = ["FORMATS", "Format", "Writer", "by_name", "split_suffixes"]


class Writer(Protocol):
    """Turns rows into the bytes of one format."""

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        """Add one row; ``more`` are the results of its second number and those that follow."""

    def flush(self) -> None:
        """Hand what was written to the stream below."""

    def finish(self) -> None:
        """Write the rest."""

    def discard(self) -> None:
        """Let go of what was begun: nobody will read it."""


class Format(NamedTuple):
    """One format."""

    name: str
    read_suffixes: tuple[str, ...]
    write_suffixes: tuple[str, ...]
    read: Callable[..., Source]
    read_options: frozenset[str]
    """What ``read`` takes of the options of ``open_source``."""
    write: Callable[..., Writer]
    streams: bool
    """Whether it can be read as it comes, and written row by row to a pipe."""
    compressible: bool
    """Whether it may be compressed as a whole: ``.csv.gz``."""

    def open(self, origin: Origin, **options: Any) -> Source:
        """Open an input of this format.

        Raises:
            FileError: It is torn, its number column cannot be told, or it would have to be read twice.
        """
        if not self.streams and not origin.repeatable:
            raise FileError(f"{origin.name}: {self.name} cannot be streamed; save it to a file first")
        chosen = {name: value for name, value in options.items() if name in self.read_options}
        if self.name == "tsv":
            chosen["delimiter"] = "\t"
        return self.read(origin, **chosen)


_TEXT = frozenset(["column", "encoding"])

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format("csv", (".csv", ".txt"), (".csv", ".txt"), CsvSource, _TEXT, CsvWriter, True, True),
        Format("tsv", (".tsv", ".tab"), (".tsv", ".tab"), CsvSource, _TEXT, CsvWriter, True, True),
        Format(
            "jsonl",
            (".jsonl", ".ndjson", ".jsonlines"),
            (".jsonl", ".ndjson", ".jsonlines"),
            JsonLinesSource,
            _TEXT,
            JsonLinesWriter,
            True,
            True,
        ),
        Format(
            "parquet",
            (".parquet", ".pq"),
            (".parquet", ".pq"),
            ParquetSource,
            frozenset(["column"]),
            ParquetWriter,
            False,
            False,
        ),
        Format(
            "xlsx",
            (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
            (".xlsx",),
            ExcelSource,
            frozenset(["column", "sheet", "visible_only"]),
            ExcelWriter,
            False,
            False,
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
        raise FileError(f"{name!r} is not a format; the formats are {', '.join(FORMATS)}") from None


def split_suffixes(path: Path) -> tuple[str, Compression | None]:
    """Return the format's suffix and the compression of ``leads.csv.gz``: ``.csv`` and ``gzip``."""
    compression = SUFFIXES.get(path.suffix.lower())
    if compression is not None:
        path = path.with_suffix("")
    return path.suffix.lower(), compression
