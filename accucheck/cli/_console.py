"""Standard output and standard error: one place that writes to them, so that one rule holds for every command.

The rule: a stream that cannot take what we write costs neither an answer nor the exit code. A terminal may lack
a character (cp1252, ASCII), be closed from the start, or go away in mid-run; a file behind it may be on a full disk.
Answers are in the ledger by then, and the exit code still says how the run ended. Only a command whose answers were
meant for standard output fails when that cannot be written.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, BinaryIO, TextIO, cast

from accucheck.cli._exit_codes import ExitCode, exit_code_of
from accucheck.cli._render import TerminalWriter, json_line, terminal_safe

__all__ = [
    "SayHandler",
    "complain",
    "finish_streams",
    "has_standard_output",
    "prepare_streams",
    "print_json",
    "report",
    "say",
    "standard_output",
]

before_message: Callable[[], None] | None = None
"""Takes the progress bar off the screen, where there is one: it is drawn again below the message."""


class SayHandler(logging.Handler):
    """Shows what the library warns of that a person must act on: too many open files."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


_closed: set[int] = set()
"""Which of the standard descriptors were closed when the process began."""


def prepare_streams() -> None:
    """Make standard output and error safe to write to. Call it once, before anything else opens a file.

    A closed descriptor is replaced by the null device: otherwise the next file that is opened, perhaps the ledger,
    gets its number, and whatever is printed goes into that file.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                continue
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            _closed.add(descriptor)
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def has_standard_output() -> bool:
    """Return False if standard output was closed from the start (``>&-``)."""
    return 1 not in _closed


def finish_streams(code: int) -> int:
    """Flush standard output and error and return the exit code: ``code``, unless output was lost.

    The interpreter flushes once more when it exits and would turn any failure into exit code 120. What cannot be
    written is therefore discarded here.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        code = code or ExitCode.READER_GONE
    except (OSError, ValueError) as error:
        _discard(sys.stdout)
        if not code:
            say(f"cannot write to standard output: {getattr(error, 'strerror', None) or error}")
            code = ExitCode.STORAGE
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr)
    return int(code)


def _discard(stream: TextIO) -> None:
    """Send what is still buffered in ``stream``, and all that follows, to the null device."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


def say(message: str, *, hint: str | None = None) -> None:
    """Print one line on standard error, and ``hint`` below it."""
    with suppress(OSError, ValueError):
        if before_message is not None:
            before_message()
        print(f"accucheck: {terminal_safe(message)}", file=sys.stderr)
        if hint:
            print(f"hint: {terminal_safe(hint)}", file=sys.stderr)
        sys.stderr.flush()


def complain(error: Exception) -> ExitCode:
    """Print ``error`` as one line for a person, and return its exit code."""
    code = exit_code_of(error)
    if code is ExitCode.UNEXPECTED:
        say(
            f"internal error (please report it): {type(error).__name__}: {error}",
            hint="run the command again with --debug and include what it prints",
        )
    elif isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        say(f"{name}{error.strerror}")
    else:
        message, _, hint = str(error).partition("\n")
        say(message or type(error).__name__, hint=hint or None)
    return code


def report(facts: Iterable[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Print named facts, one a line, with the values aligned; on standard error unless ``stream`` is given."""
    rows = list(facts)
    widest = max((len(name) for name, _ in rows), default=0)
    lines = [f"{name:<{widest}}  {terminal_safe(value)}".rstrip() for name, value in rows]
    if stream is not None:
        print(*lines, sep="\n", file=stream, flush=True)
        return
    with suppress(OSError, ValueError):
        print(*lines, sep="\n", file=sys.stderr, flush=True)


def print_json(record: Mapping[str, Any]) -> None:
    """Print ``record`` on standard output as one line that is valid JSON in any encoding."""
    line = json_line(record)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeError:
        line = json.dumps(record, default=str)
    print(line)


def standard_output() -> BinaryIO:
    """Return standard output for bytes: guarded if it is a terminal."""
    if sys.stdout.isatty():
        return cast("BinaryIO", TerminalWriter(sys.stdout.buffer))
    return sys.stdout.buffer
