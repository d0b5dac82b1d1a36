"""The output: its result columns, the pass that writes every row, and the checks before the first call.

The checks come first so that a refused command buys nothing and leaves no file.

Only files that this command wrote are overwritten. The ledger remembers what was written where, from which list, with
its size and modification time: a file that someone has edited since is no longer ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from accucheck._errors import CheckError, InvalidNumber, LedgerError, RefusedAlike, StillPending
from accucheck._models import Check, Settlement
from accucheck._phone import e164
from accucheck._store import Store, is_postgres
from accucheck._store._file import files_of
from accucheck.cli._job import Job
from accucheck.cli._ledger import Find
from accucheck.cli._options import STANDARD_STREAM
from accucheck.cli._progress import WaitMeter, showing
from accucheck.cli._report import Paper
from accucheck.files import (
    FileError,
    FileSink,
    ResultColumns,
    Row,
    Source,
    fingerprint,
    full_name,
    is_remote,
    is_stream,
)
from accucheck.files._origin import OutputError, translate_output_errors
from accucheck.report._tally import best_of

EXCLUDED = "EXCLUDED"
"""The status of a skipped row (``--exclude``, ``--where``)."""
UNCHECKED = ResultColumns(status="UNCHECKED", reason="the run ended before this number was checked")
"""For a row without an outcome, which is never a "no"."""


def columns_of(result: Check | CheckError, number: int | None = None) -> ResultColumns:
    """Return the columns for an answer about ``number`` (national), or for the reason why there is none."""
    match result:
        case Check():
            return ResultColumns(
                whatsapp=result.whatsapp,
                status_update=result.status_update,
                business_user=result.business_user,
                avatar=result.avatar,
                signature=result.signature,
                status="OK",
                request_id=result.request_id,
                number=result.number,
                checked_at=result.checked_at,
            )
        case CheckError():
            return ResultColumns(
                status=result.status,
                reason=result.reason,
                request_id=result.request_id,
                number="" if number is None else e164(number),
            )


class Tally:
    """Counts the rows of an output."""

    def __init__(self) -> None:
        self.by_status: Counter[str] = Counter()
        """Rows by the value of their ``status`` column."""
        self.yes = 0
        """Rows that are on WhatsApp."""

    def count(self, columns: ResultColumns) -> None:
        """Count one row."""
        self.by_status[columns.status] += 1
        if columns.whatsapp:
            self.yes += 1

    def add(self, other: Tally) -> None:
        """Add the counts of another output."""
        self.by_status.update(other.by_status)
        self.yes += other.yes

    @property
    def rows(self) -> int:
        """All rows."""
        return self.by_status.total()

    @property
    def answered(self) -> int:
        """Rows with an answer."""
        return self.by_status["OK"]

    @property
    def failed(self) -> int:
        """Rows whose number was asked but has no answer."""
        return self.rows - self.answered - self.unchecked - self.invalid - self.excluded - self.pending

    @property
    def pending(self) -> int:
        """Rows whose answer the next run collects."""
        return self.by_status[StillPending.status]

    @property
    def excluded(self) -> int:
        """Rows that were skipped."""
        return self.by_status[EXCLUDED]

    @property
    def invalid(self) -> int:
        """Rows without a valid number."""
        return self.by_status[InvalidNumber.status]

    @property
    def unchecked(self) -> int:
        """Rows that the next run checks automatically."""
        return self.by_status[UNCHECKED.status] + self.by_status[RefusedAlike.status]


CHUNK = 512
"""Rows looked up at once."""


async def answered_rows(
    rows: Iterator[Row],
    find: Find,
    *,
    read: Callable[[str], list[int]],
    keep_best: bool = True,
    reason: Callable[[Row], str] = lambda row: "",
) -> AsyncIterator[tuple[Row, list[ResultColumns]]]:
    """Yield every row with its columns, in order: those of the best answer, or those of each of its numbers.

    ``reason`` says why a row was skipped, or ``""``.
    """
    while chunk := list(islice(rows, CHUNK)):
        numbers: list[list[int] | InvalidNumber | str] = [
            reason(row) or _numbers_of(row, read) for row in chunk
        ]
        known = await find(list({number for each in numbers if isinstance(each, list) for number in each}))
        for row, each in zip(chunk, numbers, strict=True):
            if isinstance(each, str):
                yield row, [ResultColumns(status=EXCLUDED, reason=each)]
            elif isinstance(each, InvalidNumber):
                yield row, [invalid_columns(row, each)]
            else:
                results = [_known_columns(number, known.get(number)) for number in each]
                yield row, [best_of(results)] if keep_best and len(results) > 1 else results
        await asyncio.sleep(0)  # the progress is shown, and a signal is noticed


def _known_columns(number: int, settlement: Settlement | None) -> ResultColumns:
    columns = UNCHECKED if settlement is None else columns_of(settlement.result, number)
    return columns if columns.number else columns._replace(number=e164(number))


def invalid_columns(row: Row, error: InvalidNumber) -> ResultColumns:
    """Return the columns of a row without a usable number."""
    columns = columns_of(error)
    return columns._replace(reason=row.fault) if row.fault else columns


def _numbers_of(row: Row, read: Callable[[str], list[int]]) -> list[int] | InvalidNumber:
    try:
        return read(row.number)
    except InvalidNumber as error:
        return error


def check_output(path: str, source: Source, file_format: str | None) -> None:
    """Raise FileError if the output cannot be written: its folder, its format, its permissions."""
    if not is_remote(path):
        folder = Path(path).parent
        if not folder.exists():
            raise OutputError(f"the folder {folder} does not exist\nmkdir -p {shlex.quote(str(folder))}")
        if is_stream(path):
            return  # its reader would notice that it was opened
    # Closed as after an error: the temporary file is removed.
    FileSink(path, source, file_format=file_format).__exit__(BaseException, None, None)


def refuse_existing(output: str, *, force: bool) -> None:
    """Raise FileError if the output already exists, unless ``force``."""
    if _is_file(output) and not force:
        raise FileError(f"{output} exists\nname another output, or add --force to overwrite it")


_BESIDE = {
    "--report": b"<!doctype html>",
    "--summary-json": b'{\n  "exit_code":',
    "--metrics-file": b"# HELP accucheck_",
}
"""The files besides the outputs, and how each begins. Only files that an earlier run wrote are replaced."""


def refuse_files_beside(jobs: Sequence[Job]) -> None:
    """Raise FileError if the files besides the outputs would replace others."""
    taken = {_identity(output): "the output" for job in jobs for output in job.outputs.values()}
    if jobs[0].place is not None and not is_postgres(jobs[0].place):
        taken |= {_identity(str(path)): "the ledger" for path in files_of(Path(jobs[0].place))}
    beside = [("--report", job.report) for job in jobs]
    beside += [("--summary-json", jobs[0].summary_json), ("--metrics-file", jobs[0].metrics_file)]
    for option, path in beside:
        if path is None:
            continue
        if is_stream(path):
            if option == "--metrics-file":
                raise FileError(f"{option} {path} is rewritten every few seconds; name a file")
            continue
        if not path.absolute().parent.is_dir():
            raise FileError(
                f"the folder {path.parent} for {option} does not exist\nmkdir -p {shlex.quote(str(path.parent))}"
            )
        if (other := taken.setdefault(_identity(str(path)), option)) is not option:
            raise FileError(f"{option} {path} is also {other}; name another file")
        with translate_output_errors(str(path)):
            if not path.exists():
                continue
            with path.open("rb") as old:
                begin = old.read(len(_BESIDE[option]))
        if begin and begin.lower() != _BESIDE[option].lower():
            raise FileError(f"{path} exists, and no earlier {option} wrote it; name another file")


def _identity(path: str) -> object:
    """Return what is equal for all names of a file."""
    try:
        found = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


async def refuse_other_files(job: Job, memory: Store | None) -> None:
    """Raise FileError if the output exists and an earlier run on this list did not write it."""
    for output in job.outputs.values():
        if job.force or not _is_file(output):
            continue
        known = None if memory is None else await memory.recall(_name(output))
        record = {} if known is None else json.loads(known)
        if known is None:
            why = "exists, and accucheck did not write it from this list"
        elif record["input"] != _input(job):
            why = f"exists and holds the results of another list, {record['input']}"
        elif record["written"] not in (None, _fingerprint(output)):
            why = "has been changed since accucheck wrote it"
        else:
            continue
        raise FileError(f"{output} {why}\nname another output, or add --force to overwrite it")


async def remember_output(job: Job, memory: Store, *, written: bool) -> None:
    """Note that the output is about to be written, or that it has been ``written``.

    If the ledger cannot store this (a full disk), the output is written anyway; the next run asks for --force.
    """
    with suppress(LedgerError):
        for output in job.outputs.values():
            found = _fingerprint(output) if written and _is_file(output) else None
            await memory.remember(_name(output), json.dumps({"input": _input(job), "written": found}))


class Outputs:
    """The files of a job: each is complete at the end of the ``with`` block, or unchanged if that raises."""

    def __init__(self, job: Job, source: Source, *, paper: Paper | None = None, numbers: int = 1) -> None:
        self._only = job.only
        self._paper = paper
        self._shown = job.talk.shown
        self._names = " and ".join(os.path.basename(output) for output in job.outputs.values())
        self._sinks: dict[str, FileSink] = {}
        partial = job.only is not None or "" not in job.outputs
        with ExitStack() as opened:
            for verdict, output in job.outputs.items():
                sink = FileSink(
                    output,
                    source,
                    file_format=job.format,
                    partial=partial,
                    numbers=numbers,
                    summary=None if paper is None else paper.sheet,
                )
                self._sinks[verdict] = opened.enter_context(sink)
            self._stack = opened.pop_all()

    @property
    def notes(self) -> list[str]:
        """What the outputs cannot keep from the list."""
        return list(dict.fromkeys(note for sink in self._sinks.values() for note in sink.notes))

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        """Write a row to its file."""
        if self._paper is not None:
            self._paper.count(row, (result, *more))
        if (sink := self._sinks.get("")) is None:
            self._sinks[_VERDICTS.get(result.whatsapp, "rest")].write(row, result, *more)
        elif self._only is None or self._only in _KINDS[result.whatsapp]:
            sink.write(row, result, *more)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, traceback)
            return
        with showing(WaitMeter(f"saving {self._names}"), self._shown):  # a workbook is packed only now
            self._stack.__exit__(None, None, None)


_VERDICTS: dict[bool | None, str] = {True: "yes", False: "no"}
_KINDS = {True: ("yes", "answered"), False: ("no", "answered"), None: ("unanswered",)}
"""By verdict, the values of --only that keep a row."""


def _is_file(path: str) -> bool:
    if is_remote(path):
        return fingerprint(path) is not None
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and not is_stream(path)
    except OSError:
        return False


def _fingerprint(path: str) -> list[Any]:
    if is_remote(path):
        return fingerprint(path) or []
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _name(output: str) -> str:
    return f"output {_text(full_name(output))}"


def _input(job: Job) -> str:
    return job.input if job.input == STANDARD_STREAM else _text(full_name(job.input))


def _text(path: str) -> str:
    """Return ``path`` as text that a database accepts; it may contain bytes that are not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()
