"""Outputs: a whole file, there at once or not at all, or a stream of lines as answers come.

The bytes of a file go to a temporary file next to the target (mode 0600), which is synced, then renamed over the
target, then the directory is synced: after ``commit`` returns, the output survives a power cut, and at no instant is
there half of it under its name. A temporary file that a killed run left is removed by the next run: a live one holds a
lock on its own.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from accucheck.files._csv import CsvSource, CsvWriter, output_encoding
from accucheck.files._excel import ExcelSource
from accucheck.files._excel_copy import ExcelCopyWriter, why_no_copy
from accucheck.files._excel_writer import SummarySheet
from accucheck.files._formats import FORMATS, Format, by_name, split_suffixes
from accucheck.files._origin import (
    FileError,
    OutputError,
    compressed,
    translate_errors,
    translate_output_errors,
)
from accucheck.files._remote import RemoteFile, is_remote, local_name
from accucheck.files._rows import CLASH_PREFIX, ResultColumns, Row, Source, Writer, column_names
from accucheck.files._sheets import SheetSource

if os.name == "posix":
    from fcntl import LOCK_EX, LOCK_NB, flock

__all__ = ["AtomicFile", "FileSink", "StreamSink", "format_of_output", "is_stream"]

_BUFFER = 1 << 20


class AtomicFile:
    """The file that is being written to replace ``path``.

    An existing target keeps its mode, and a symbolic link then points to the new file. A pipe, a device, and anything
    behind ``/dev/stdout`` or ``/dev/fd/3`` is written to directly, even a file that others write to, because a rename
    would replace it with a regular file.

    Args:
        path: The output.
        replace: Renames the finished file; for tests.
        fsync: Syncs a descriptor, of the file and then of its directory; for tests.

    Raises:
        FileError: The directory cannot be written to, or ``path`` is a directory.
    """

    def __init__(
        self,
        path: Path,
        *,
        replace: Callable[[str, str], None] = os.replace,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        self.name = str(path)
        self._replace = replace
        self._fsync = fsync
        self._target = Path(os.path.realpath(path))
        self._temporary: str | None = None
        with translate_errors(self.name):
            descriptor = _descriptor_of(path)
            if descriptor is not None:
                # A copy: what was written by others stays, and the position is shared with them.
                self.stream: BinaryIO = open(os.dup(descriptor), "wb", buffering=_BUFFER)  # noqa: SIM115
                return
            mode = self._target.stat().st_mode if self._target.exists() else None
            if mode is not None and stat.S_ISDIR(mode):
                raise IsADirectoryError
            if not self._target.parent.is_dir():
                raise OutputError(f"{self.name}: there is no directory {self._target.parent}")
            if mode is not None and not stat.S_ISREG(mode):
                self.stream = self._target.open("wb", buffering=_BUFFER)
                return
            prefix = f".{self._target.name[:100]}."
            _remove_leftovers(self._target.parent, prefix)
            descriptor, self._temporary = tempfile.mkstemp(".tmp", prefix, self._target.parent)
            self.stream = open(descriptor, "w+b", buffering=_BUFFER)  # noqa: SIM115
            _lock(self.stream)
            if mode is not None:
                os.chmod(self._temporary, stat.S_IMODE(mode))

    def commit(self) -> None:
        """Rename the file to its target. If this raises, the old file is untouched and the new one is gone."""
        try:
            with translate_errors(self.name):
                self.stream.flush()
                if self._temporary is None:
                    self.stream.close()
                    return
                self._fsync(self.stream.fileno())
                self._replace(self._temporary, str(self._target))
                self._temporary = None
                self._sync_directory()
                self.stream.close()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove what was written. Safe to call twice, and after ``commit``."""
        if self._temporary is not None:
            Path(self._temporary).unlink(missing_ok=True)
            self._temporary = None
        with suppress(OSError):  # the disk may be full, and these bytes are thrown away
            self.stream.close()

    def _sync_directory(self) -> None:
        if os.name != "posix":
            return  # Windows cannot open a directory
        directory = os.open(self._target.parent, os.O_RDONLY)
        try:
            self._fsync(directory)
        finally:
            os.close(directory)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether an output at ``path`` is written directly. Does not open it, which its reader would notice."""
    if _descriptor_of(Path(path)) is not None:
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) and not stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False


_DESCRIPTOR = re.compile(r"/dev/fd/(\d+)|/proc/(self|\d+)(?:/task/\d+)?/fd/(\d+)")
_MOST_LINKS = 40


def _descriptor_of(path: Path) -> int | None:
    """Return the open descriptor that ``path`` is a name of, followed link by link; None if it is of none."""
    if os.name != "posix":
        return None
    name = os.path.abspath(path)
    for _ in range(_MOST_LINKS):
        folder, last = os.path.split(name)
        name = os.path.join(os.path.realpath(folder), last)
        if found := _DESCRIPTOR.fullmatch(name):
            own = found[2] in (None, "self", str(os.getpid()))
            return int(found[1] or found[3]) if own else None
        if not os.path.islink(name):
            return None
        name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))
    return None


def _lock(stream: Any) -> None:
    if os.name == "posix":
        flock(stream.fileno(), LOCK_EX | LOCK_NB)


def _remove_leftovers(directory: Path, prefix: str) -> None:
    if os.name != "posix":
        return
    for leftover in directory.iterdir():
        if not (leftover.name.startswith(prefix) and leftover.name.endswith(".tmp")):
            continue
        try:
            with leftover.open("rb") as stream:
                _lock(stream)
                leftover.unlink()
        except OSError:
            continue  # another run is writing it, or it is not ours to remove


class FileSink:
    """Writes rows and their results to a file that appears complete, at the end of the ``with`` block.

    If the block raises, the old file is untouched and the temporary file is gone.

    Args:
        path: The output, a path or an address such as ``s3://bucket/checked.csv``.
        source: Where the rows come from.
        file_format: A key of ``FORMATS``. By default the suffix decides, or else the format of the input.
        partial: Not every row will be written, so that a workbook cannot be a copy of the input.
        numbers: Maximum results per row, one for each of its numbers.
        summary: The summary sheet of a workbook; other formats have none.
        replace: Renames the finished file; for tests.
        fsync: Syncs a descriptor; for tests.

    Raises:
        FileError: The format cannot represent the list, or the output would replace the input or a ledger.
        OutputError: The system does not allow writing it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: Source,
        *,
        file_format: str | None = None,
        partial: bool = False,
        numbers: int = 1,
        summary: SummarySheet | None = None,
        replace: Callable[[str, str], None] = os.replace,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        name = self._name = str(path)
        self.path = local_name(name)
        self.format = format_of_output(self.path, source, file_format)
        if is_remote(name):
            if name == source.name:
                raise FileError(f"{name}: the output would overwrite the input; give it another name")
        else:
            _refuse_what_is_needed(self.path, source)
        # Before the file is created, since this may read the whole input.
        source.all_columns()
        with translate_output_errors(name):
            self._file: AtomicFile | RemoteFile = (
                RemoteFile(name) if is_remote(name) else AtomicFile(self.path, replace=replace, fsync=fsync)
            )
        self._stream = self._file.stream
        self._writer: Writer | None = None
        try:
            with translate_output_errors(name):
                self._stream = compressed(self._file.stream, split_suffixes(self.path)[1])
                self._writer = _writer(
                    self.format, self._stream, source, partial=partial, numbers=numbers, summary=summary
                )
            self.notes = _notes(self.format, source, partial=partial)
            """What the output cannot keep, for a person to know before anything is bought."""
        except BaseException:
            self._discard()
            raise

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        """Add one row; ``more`` are the results of its second number and those that follow.

        Raises:
            OutputError: The disk is full.
            FileError: The format cannot represent the row.
        """
        if self._writer is None:
            raise ValueError("the output is closed")
        try:
            self._writer.write(row, result, *more)
        except OSError:
            with translate_output_errors(self._name):
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            with translate_output_errors(self._name):
                if self._writer is not None:
                    self._writer.finish()
                if self._stream is not self._file.stream:
                    self._stream.close()
        except BaseException:
            self._discard()
            raise
        with translate_output_errors(self._name):
            self._file.commit()

    def _discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()
        if self._stream is not self._file.stream:
            # Otherwise it would try to end its frame when garbage-collected, in a file already closed.
            with suppress(OSError):
                self._stream.close()
        self._file.discard()


class StreamSink:
    """Writes rows and their results to an open stream, as they arrive.

    Args:
        stream: A binary stream, such as standard output's. It is not closed.
        source: Where the rows come from.
        file_format: ``jsonl``, ``csv`` or ``tsv``.
        every_row: Flush after every row, for a reader that waits for it.
    """

    def __init__(
        self, stream: BinaryIO, source: Source, *, file_format: str = "jsonl", every_row: bool = False
    ) -> None:
        self.format = by_name(file_format)
        if not self.format.streams:
            raise FileError(f"{self.format.name} cannot be written to standard output; name a file with -o")
        self._stream = stream
        self._every_row = every_row
        self._writer = _writer(self.format, stream, source, for_excel=False)

    def write(self, row: Row, result: ResultColumns) -> None:
        """Add one row. Raises BrokenPipeError if the reader closed the pipe."""
        self._writer.write(row, result)
        if self._every_row:
            self.flush()

    def flush(self) -> None:
        """Flush what was written."""
        self._writer.flush()
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Even after an error, because these rows are answered.
        if kind is None or not issubclass(kind, BrokenPipeError):
            self.flush()


def format_of_output(path: Path, source: Source, name: str | None = None) -> Format:
    """Return the format of an output: by name, or else by the suffix, or without one, the input's.

    Raises:
        FileError: The suffix is unknown, is of a format that can only be read, or is a compression that the format
            does not support.
    """
    suffix, compression = split_suffixes(path)
    written = [known for known in FORMATS.values() if suffix in known.write_suffixes]
    if name is not None:
        chosen = by_name(name)
    elif written:
        chosen = written[0]
    elif any(suffix in known.read_suffixes for known in FORMATS.values()):
        raise FileError(f"{path}: {suffix} can be read but not written; name the output .xlsx")
    elif suffix == ".json":
        raise FileError(
            f"{path}: results are written as JSON lines, not as one JSON document;"
            " name the output .jsonl, or add --format jsonl"
        )
    elif suffix:
        *others, last = (known.write_suffixes[0] for known in FORMATS.values())
        raise FileError(f"{path}: cannot write {suffix}; use {', '.join(others)} or {last}, or set --format")
    else:
        chosen = FORMATS[source.format]
    if compression and not chosen.compressible:
        raise FileError(f"{path}: {chosen.name} is already compressed; remove {path.suffix} from the name")
    return chosen


def _writer(
    file_format: Format,
    stream: BinaryIO,
    source: Source,
    *,
    for_excel: bool = True,
    partial: bool = False,
    numbers: int = 1,
    summary: SummarySheet | None = None,
) -> Writer:
    if file_format.name == "tsv":
        return CsvWriter(stream, source, delimiter="\t", for_excel=for_excel, numbers=numbers)
    if file_format.name == "csv":
        # Semicolons stay semicolons. Tabs do too, unless the names say that .tsv is to become .csv.
        from_tabs = split_suffixes(Path(source.name))[0] in FORMATS["tsv"].read_suffixes
        delimiter = "," if from_tabs else None
        return CsvWriter(stream, source, delimiter=delimiter, for_excel=for_excel, numbers=numbers)
    if file_format.name == "xlsx":
        if isinstance(source, ExcelSource) and not partial and why_no_copy(source) is None:
            return ExcelCopyWriter(stream, source, numbers=numbers, summary=summary)
        return file_format.write(stream, source, numbers=numbers, summary=summary)
    return file_format.write(stream, source, numbers=numbers)


def _notes(file_format: Format, source: Source, *, partial: bool) -> list[str]:
    notes = []
    if file_format.name in ("csv", "tsv") and isinstance(source, CsvSource):
        if output_encoding(source) != source.encoding:
            notes.append(
                f"the output is UTF-8 with a byte order mark: {source.encoding.name} cannot represent every signature"
            )
    elif file_format.name == "xlsx" and isinstance(source, SheetSource):
        why = "only some of its rows are written" if partial else why_no_copy(source)
        if why is not None:
            notes.append(
                f"the output is a new workbook without the input's styles, formulas and other sheets: {why}"
            )
        elif isinstance(source, ExcelSource) and source.has_macros:
            notes.append("the output does not contain the input's macros: an .xlsx workbook cannot hold them")
    renamed = [name for name in column_names(source.all_columns()) if name.startswith(CLASH_PREFIX)]
    if renamed:
        more = f" and {len(renamed) - 3} more" if len(renamed) > 3 else ""
        names = f"{', '.join(renamed[:3])}{more}"
        notes.append(f"the list has columns of the same names, so these result columns get a prefix: {names}")
    return notes


_DATABASE = (b"SQLite format 3\x00", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""The first bytes of a SQLite database and of its write-ahead log (https://www.sqlite.org/fileformat2.html), which may
have the newest answers."""


def _refuse_what_is_needed(path: Path, source: Source) -> None:
    """Refuse to replace the input or a database, which may be a ledger of paid answers."""
    there = source.input_path
    if not path.is_file():
        return
    if there is not None and path.samefile(there):
        raise FileError(f"{path}: the output would overwrite the input; choose another name")
    with translate_output_errors(str(path)), path.open("rb") as old:
        if old.read(16).startswith(_DATABASE):
            raise FileError(f"{path}: the output would overwrite a ledger; choose another name")
