"""What must be true of an output before the first call, so that a refused command buys nothing and leaves no file.

Nothing is overwritten that this command did not write. The ledger remembers what was written where, from which list,
with its size and time of change: a file that somebody has edited since is no longer ours.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from accucheck._errors import LedgerError
from accucheck.cli._job import Job
from accucheck.cli._options import STANDARD_STREAM
from accucheck.files import FileError, FileSink, Source
from accucheck.files._errors import OutputError

__all__ = ["check_output", "refuse_other_files", "remember_output"]


class Memory(Protocol):
    """Where small things are kept for the next run: the ledger."""

    def recall(self, name: str) -> str | None: ...

    def remember(self, name: str, value: str) -> None: ...


def check_output(path: str, source: Source, file_format: str | None) -> None:
    """Raise FileError if the output cannot be written: its folder, its format, its permissions."""
    folder = Path(path).parent
    if not folder.exists():
        raise OutputError(f"the folder {folder} does not exist\nmkdir -p {shlex.quote(str(folder))}")
    sink = FileSink(path, source, file_format=file_format)
    sink.__exit__(BaseException, None, None)  # as after an error: the temporary file is removed


def refuse_other_files(job: Job, memory: Memory | None) -> None:
    """Raise FileError if something is at the output's path that an earlier run over this list did not write."""
    if job.force or not _is_file(job.output):
        return
    known = memory.recall(_name(job)) if memory is not None else None
    if known is None:
        raise FileError(
            f"{job.output} exists, and accucheck did not write it from this list"
            "\nname another output, or add --force to overwrite it"
        )
    record = json.loads(known)
    if record["input"] != _input(job):
        raise FileError(
            f"{job.output} exists and holds the results of another list, {record['input']}"
            "\nname another output, or add --force to overwrite it"
        )
    if record["written"] not in (None, _fingerprint(job.output)):
        raise FileError(
            f"{job.output} has been changed since accucheck wrote it"
            "\nname another output, or add --force to overwrite it"
        )


def remember_output(job: Job, memory: Memory, *, written: bool) -> None:
    """Note that the output is about to be written, or that it has been ``written``.

    A ledger that cannot take the note (a full disk) must not prevent the output: the next run asks for --force.
    """
    found = _fingerprint(job.output) if written and _is_file(job.output) else None
    with suppress(LedgerError):
        memory.remember(_name(job), json.dumps({"input": _input(job), "written": found}))


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _fingerprint(path: str) -> list[Any]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _name(job: Job) -> str:
    return f"output {_text(os.path.realpath(job.output))}"


def _input(job: Job) -> str:
    return job.input if job.input == STANDARD_STREAM else _text(os.path.realpath(job.input))


def _text(path: str) -> str:
    """Return ``path`` as text that a database takes: it may hold bytes that are not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()
