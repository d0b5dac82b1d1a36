"""Lead lists in, checked lists out: CSV, JSON lines, Parquet and Excel, gzip and zstd, files and streams.

    with open_source("leads.csv") as source:
        for row in source.rows():           # as often as needed
            row.number                      # the text of the number cell
        with FileSink("checked.csv", source) as sink:
            for row in source.rows():
                sink.write(row, ResultColumns(whatsapp=True, status="OK"))

A row's own columns come back untouched and in place, followed by ``RESULT_COLUMNS``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from accucheck.files._errors import FileError
from accucheck.files._number_column import NumberColumn
from accucheck.files._origin import Origin, StoredOrigin, live_or_spooled
from accucheck.files._registry import FORMATS, by_content, by_name, split_suffixes
from accucheck.files._results import RESULT_COLUMNS, ResultColumns, column_names
from accucheck.files._sink import FileSink, StreamSink
from accucheck.files._source import Row, Source

__all__ = [
    "FORMATS",
    "RESULT_COLUMNS",
    "FileError",
    "FileSink",
    "NumberColumn",
    "ResultColumns",
    "Row",
    "Source",
    "StreamSink",
    "column_names",
    "open_source",
]


def open_source(
    path: str | os.PathLike[str],
    *,
    column: str | int | None = None,
    encoding: str | None = None,
    file_format: str | None = None,
    live: bool = False,
    stdin: BinaryIO | None = None,
) -> Source:
    """Open a lead list.

    Args:
        path: A file, or ``-`` for standard input.
        column: The number column, by its name (case and accents do not matter) or its place from 1. Found by
            name or content if None.
        encoding: Of a text file; its byte order mark, else UTF-8, else Windows-1252 if None.
        file_format: A key of ``FORMATS``; told by content and suffix if None.
        live: Read standard input as it comes, once, instead of copying it to disk first. Parquet and Excel,
            which begin at their end, are copied all the same.
        stdin: Stands in for standard input.

    Raises:
        FileError: There is no such file, it is torn, or its number column cannot be told.
    """
    wanted = by_name(file_format) if file_format is not None else None
    origin: Origin
    suffix = ""
    if os.fspath(path) == "-":
        stream = stdin or sys.stdin.buffer
        origin = live_or_spooled(stream) if live else StoredOrigin.spooled(stream)
    else:
        origin = StoredOrigin(Path(path), os.fspath(path))
        suffix = split_suffixes(Path(path))[0]
    try:
        found = wanted or by_content(origin.head, suffix)
        options: dict[str, Any] = {"column": column}
        if found.text:
            options["encoding"] = encoding
        elif not origin.repeatable:
            raise FileError(
                f"{origin.name}: {found.name} cannot be read as it comes; save it to a file first"
            )
        if found.name == "tsv":
            options["delimiter"] = "\t"
        return found.read(origin, **options)
    except BaseException:
        origin.close()
        raise
