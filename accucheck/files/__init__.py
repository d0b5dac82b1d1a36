"""Lead lists in, checked lists out: CSV, JSON lines, Parquet and Excel, gzip and zstd, files and streams.

    with open_source("leads.csv") as source:
        for row in source.rows():           # as often as needed
            row.number                      # the text of the number cell
        with FileSink("checked.csv", source) as sink:
            for row in source.rows():
                sink.write(row, ResultColumns(whatsapp=True, status="OK"))

A row's own columns come back untouched and in order, followed by ``RESULT_COLUMNS``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from accucheck.files._columns import NumberColumn, Wanted
from accucheck.files._formats import FORMATS, by_name, open_by_content, split_suffixes
from accucheck.files._origin import FileError, Origin, StoredOrigin, live_or_spooled
from accucheck.files._remote import addresses, fingerprint, full_name, is_remote, local_name, opened
from accucheck.files._rows import RESULT_COLUMNS, ResultColumns, Row, Source, column_names
from accucheck.files._sheets import CHECKED, SheetSource
from accucheck.files._sink import FileSink, StreamSink, is_stream

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
    "addresses",
    "column_names",
    "fingerprint",
    "full_name",
    "is_remote",
    "is_stream",
    "local_name",
    "open_source",
]


def open_source(
    path: str | os.PathLike[str],
    *,
    column: Wanted = None,
    encoding: str | None = None,
    file_format: str | None = None,
    sheet: str | int | None = None,
    visible_only: bool = False,
    checked: bool = False,
    live: bool = False,
    stdin: BinaryIO | None = None,
) -> Source:
    """Open a lead list, recognized by its content. ``notes`` of the source say what a person should know about it.

    Args:
        path: A file, an address such as ``s3://bucket/leads.csv``, or ``-`` for standard input.
        column: The number column, by its name (ignoring case and accents) or its position from 1; several of these; or
            ``"all"``, every column whose header says phone and that contains numbers. With several, ``Row.number``
            has the cells of a row, one per line, and ``accucheck._phone.numbers_in`` reads them all. None: found by
            name or content.
        encoding: Of a text file. None: its byte order mark, or else UTF-8, or else Windows-1252.
        file_format: A key of ``FORMATS``. None: recognized by content.
        sheet: Of a workbook: the name of the sheet or its position from 1, or ``"all"``. None: the only sheet that
            contains numbers.
        visible_only: Of a workbook: leave out rows that are hidden or filtered out.
        checked: Of several sheets that contain numbers, read the one to which accucheck has added answers.
        live: Read standard input once, as it arrives, instead of copying it to disk first. Parquet and Excel, whose
            index is at the end, and JSON documents are always copied.
        stdin: Used instead of standard input.

    Raises:
        FileError: There is no such file, it is damaged or not supported, or its number column or sheet is ambiguous.
    """
    wanted = by_name(file_format) if file_format is not None else None
    origin: Origin
    suffix = ""
    if os.fspath(path) == "-":
        stream = stdin or sys.stdin.buffer
        origin = live_or_spooled(stream) if live else StoredOrigin.spooled(stream)
    elif is_remote(path):
        with opened(os.fspath(path)) as remote:
            origin = StoredOrigin.spooled(remote, os.fspath(path))
        suffix = split_suffixes(local_name(os.fspath(path)))[0]
    else:
        name = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        origin = StoredOrigin(Path(path), name)
        suffix = split_suffixes(Path(path))[0]
    options = {
        "column": column,
        "encoding": encoding,
        "sheet": CHECKED if checked and sheet is None else sheet,
        "visible_only": visible_only,
    }
    try:
        source = wanted.open(origin, **options) if wanted else open_by_content(origin, suffix, options)
    except BaseException:
        origin.close()
        raise
    if sheet is not None and not isinstance(source, SheetSource):
        source.close()
        raise FileError(f"{origin.name}: this file has no sheets; remove --sheet")
    return source
