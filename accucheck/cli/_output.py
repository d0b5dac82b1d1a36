"""What must be true of an output before the first call, so that a refused command buys nothing and leaves no file.

Nothing is overwritten that this command did not write. The ledger remembers what was written where, from which list,
with its size and time of change: a file that somebody has edited since is no longer ours.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from accucheck._errors import LedgerError
from accucheck._store import Store
from accucheck.cli._job import Job
from accucheck.cli._options import STANDARD_STREAM
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
from accucheck.files._errors import OutputError

__all__ = ["Outputs", "check_output", "refuse_existing", "refuse_other_files", "remember_output"]


def check_output(path: str, source: Source, file_format: str | None) -> None:
    """Raise FileError if the output cannot be written: its folder, its format, its permissions."""
    if is_remote(path):
        FileSink(path, source, file_format=file_format).__exit__(BaseException, None, None)
        return
    folder = Path(path).parent
    if not folder.exists():
        raise OutputError(f"the folder {folder} does not exist\nmkdir -p {shlex.quote(str(folder))}")
    if is_stream(path):
        return  # whoever reads it would see that it was opened
    sink = FileSink(path, source, file_format=file_format)
    sink.__exit__(BaseException, None, None)  # as after an error: the temporary file is removed


def refuse_existing(output: str, *, force: bool) -> None:
    """Raise FileError if something is at the path of an output, unless ``force``."""
    if _is_file(output) and not force:
        raise FileError(f"{output} exists\nname another output, or add --force to overwrite it")


async def refuse_other_files(job: Job, memory: Store | None) -> None:
    """Raise FileError if something is at the output's path that an earlier run over this list did not write."""
    for output in job.outputs.values():
        if _is_file(output) and not job.force:
            await _refuse_other_file(job, output, memory)


async def _refuse_other_file(job: Job, output: str, memory: Store | None) -> None:
    known = await memory.recall(_name(output)) if memory is not None else None
    if known is None:
        raise FileError(
            f"{output} exists, and accucheck did not write it from this list"
            "\nname another output, or add --force to overwrite it"
        )
    record = json.loads(known)
    if record["input"] != _input(job):
        raise FileError(
            f"{output} exists and holds the results of another list, {record['input']}"
            "\nname another output, or add --force to overwrite it"
        )
    if record["written"] not in (None, _fingerprint(output)):
        raise FileError(
            f"{output} has been changed since accucheck wrote it"
            "\nname another output, or add --force to overwrite it"
        )


async def remember_output(job: Job, memory: Store, *, written: bool) -> None:
    """Note that the output is about to be written, or that it has been ``written``.

    A ledger that cannot take the note (a full disk) must not prevent the output: the next run asks for --force.
    """
    with suppress(LedgerError):
        for output in job.outputs.values():
            found = _fingerprint(output) if written and _is_file(output) else None
            await memory.remember(_name(output), json.dumps({"input": _input(job), "written": found}))


class Outputs:
    """The files of a job, each there whole at the end of the ``with`` block, or as it was before if that raises."""

    def __init__(self, job: Job, source: Source, *, paper: Paper | None = None, numbers: int = 1) -> None:
        self._only = job.only
        self._paper = paper
        summary = None if paper is None else paper.sheet
        self._stack = ExitStack()
        self._sinks: dict[str, FileSink] = {}
        partial = job.only is not None or "" not in job.outputs
        with ExitStack() as opened:
            for verdict, output in job.outputs.items():
                self._sinks[verdict] = opened.enter_context(
                    FileSink(
                        output,
                        source,
                        file_format=job.format,
                        partial=partial,
                        numbers=numbers,
                        summary=summary,
                    )
                )
            self._stack = opened.pop_all()

    @property
    def notes(self) -> list[str]:
        """What the outputs cannot keep of the list."""
        return list(dict.fromkeys(note for sink in self._sinks.values() for note in sink.notes))

    def write(self, row: Row, result: ResultColumns, *more: ResultColumns) -> None:
        """Write a row where it belongs."""
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
        self._stack.__exit__(kind, error, traceback)


_VERDICTS: dict[bool | None, str] = {True: "yes", False: "no"}
_KINDS = {True: ("yes", "answered"), False: ("no", "answered"), None: ("unanswered",)}
"""The values of --only that keep a row, by its verdict."""


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
    """Return ``path`` as text that a database takes: it may hold bytes that are not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()
