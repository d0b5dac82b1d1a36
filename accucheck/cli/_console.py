"""Writes to standard output and standard error, with the same rules for every command.

A stream that cannot be written to costs neither an answer nor the exit code. A terminal may lack a character (cp1252,
ASCII), be closed from the start, or disappear mid-run; a redirected file may be on a full disk. The answers are then
in the ledger, and the exit code still says how the run ended. Only a command that writes its answers to standard output
fails if that is impossible.

Text from strangers cannot move the cursor, change colors or reverse the line. The owner of a phone writes the
signature: an escape sequence in it could repaint the screen, set the window title or, on old terminals, type commands
(CVE-2003-0063 and its many successors), and a bidi override could disguise a "no".
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import sys
import textwrap
import threading
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, BinaryIO, TextIO, cast

from accucheck.cli._exit import ExitCode, exit_code_of

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI … final byte (ECMA-48, 5.4)
    # OSC, DCS, SOS, PM, APC and their text. The end is optional, so that the search is linear.
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"  # every other escape
)
_JOINERS = "\u200c\u200d"  # they make up family emoji and Persian or Indic words
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_UNSAFE_IN_JSON = re.compile(
    "[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)


def terminal_safe(text: str, limit: int | None = None) -> str:
    """Return ``text`` as one safe line, without escape sequences, control or bidi characters.

    Line breaks and tabs become spaces; letters, accents, emoji and right-to-left script stay. With
    ``limit`` it is shortened to that many characters.
    """
    if not (text.isascii() and text.isprintable()):
        text = _ESCAPE_SEQUENCE.sub("", text)
        text = "".join(" " if c in "\t\n\v\f\r\x85\u2028\u2029" else c for c in text)
        text = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) not in _UNSAFE_CATEGORIES)
    if limit is not None and len(text) > limit:
        text = text[: max(limit - 1, 0)] + "…"
    return text


def json_line(record: Mapping[str, Any]) -> str:
    """Return ``record`` as one line of JSON that is also safe to show on a terminal.

    JSON itself escapes only the ASCII controls; the others that could drive a terminal are written as
    ``\\uXXXX`` too, which any JSON reader turns back into the same text.
    """
    return _escaped(json.dumps(record, ensure_ascii=False, default=str))


class TerminalWriter(io.RawIOBase):
    """Standard output on a terminal, which makes lines of JSON or CSV safe to show.

    Control and bidi characters are shown as ``\\uXXXX``. A file or a pipe gets the bytes unchanged.
    """

    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = bytes(data).decode("utf-8", "replace")
        self._target.write(_escaped(_CONTROL.sub(_escape, text)).encode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        if not self._target.closed:
            self._target.flush()


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _escaped(text: str) -> str:
    return _UNSAFE_IN_JSON.sub(_escape, text)


def thousands(number: int) -> str:
    """Return ``number`` with a comma between thousands."""
    return f"{number:,}"


def count(number: int, what: str, several: str = "") -> str:
    """Return ``1 row`` or ``1,200 rows``."""
    return f"{number:,} {what if number == 1 else several or f'{what}s'}"


def duration(seconds: float) -> str:
    """Return a length of time in words: ``8 s``, ``4 min 05 s``, ``3 h 20 min``, ``2 d 04 h``."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02} h"


def age(then: datetime) -> str:
    """Return how long ago ``then`` is: ``5 minutes``, ``3 hours``, ``12 days``."""
    seconds = (datetime.now(UTC) - then).total_seconds()
    if seconds < 3600:
        return count(max(round(seconds / 60), 0), "minute")
    if seconds < 2 * 86_400:
        return count(round(seconds / 3600), "hour")
    return count(round(seconds / 86_400), "day")


def moment(wall: float, now: float, zone: tzinfo | None = None) -> str:
    """Return a moment (seconds since 1970) in words: ``08:00``, ``Fri 08:00``, ``3 Dec 08:00``.

    In the local time zone; in another one with its name: ``08:00 America/Lima``.
    """
    then, today = datetime.fromtimestamp(wall, zone), datetime.fromtimestamp(now, zone)
    place = "" if then.utcoffset() == then.astimezone().utcoffset() or zone is None else f" {zone}"
    then += timedelta(seconds=59)  # a pause never ends before the minute that is shown
    days = (then.date() - today.date()).days
    if days == 0:
        return f"{then:%H:%M}{place}"
    return f"{then:%a %H:%M}{place}" if days < 7 else f"{then.day} {then:%b %H:%M}{place}"


def short_path(path: str) -> str:
    """Return ``path`` with the home directory as ``~``."""
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if home != "~" and path.startswith(f"{home}{os.sep}") else path


def wrapped(facts: Iterable[str], width: int) -> list[str]:
    """Return ``facts`` joined into lines of at most ``width``; no fact is broken or left out."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + 2 + len(fact) <= width:
            lines[-1] += f"  {fact}"
        else:
            lines.append(fact)
    return lines


NARROWEST = 24
"""Columns that a value needs next to its name."""


def columns_of(stream: TextIO) -> int | None:
    """Return the width of a terminal; None if ``stream`` is not one."""
    with suppress(OSError, ValueError):
        if stream.isatty():
            return os.get_terminal_size(stream.fileno()).columns or 80
    return None


def folded(text: str, stream: TextIO, indent: int = 2) -> str:
    """Return ``text`` wrapped to fit the terminal; unchanged if ``stream`` is not one.

    Lines after the first are indented. A word that is longer than a line, such as a path, stays whole.
    """
    width = columns_of(stream)
    if width is None or len(text) <= width:
        return text
    lead = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(
        text.lstrip(),
        max(width, indent + 8),
        initial_indent=lead,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


screen = threading.RLock()
"""Held while writing to the terminal, because a thread may be drawing the progress bar."""
before_message: Callable[[], None] | None = None
"""Removes the progress bar, if any, from the screen; it is redrawn below the message."""


class SayHandler(logging.Handler):
    """Shows what the library warns of that a person must act on: too many open files."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


_closed: set[int] = set()
"""The standard descriptors that were closed when the process started."""


def prepare_streams() -> None:
    """Make standard output and error safe to write to. Call it once, before anything opens a file.

    Replaces closed descriptors with the null device. Otherwise the next opened file, perhaps the ledger, would get that
    number, and everything printed would go into it.
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

    The interpreter flushes again as it exits and would turn any failure into exit code 120, so output that cannot be
    written is discarded here.
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
    """Send what is still buffered in ``stream``, and everything after it, to the null device."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


def say(message: str, *, hint: str | None = None) -> None:
    """Print one line on standard error, and ``hint`` below it."""
    with suppress(OSError, ValueError), screen:
        if before_message is not None:
            before_message()
        print(folded(f"accucheck: {terminal_safe(message)}", sys.stderr), file=sys.stderr)
        if hint:
            print(folded(f"hint: {terminal_safe(hint)}", sys.stderr), file=sys.stderr)
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
        if error.filename is not None:
            say(f"{os.fsdecode(error.filename)}: {error.strerror}")
        elif _cannot_flush(sys.stdout):
            say(f"cannot write to standard output: {error.strerror}")
        else:
            say(error.strerror)
    else:
        message, _, hint = str(error).partition("\n")
        say(in_options(message) or type(error).__name__, hint=hint or None)
    return code


_OPTION_OF = {
    "base_url": "--base-url",
    "endpoint": "--endpoint",
    "keep_going": "--keep-going",
    "verify:": "--ca-file:",
    "proxy=": "--proxy",
    "hours": "--hours",
}
_ARGUMENT = re.compile(
    r"^(?:verify:|hours\b)|(?<=The proxy from )proxy=|\bbase_url\b|\bkeep_going\b|(?<=\bbase_url and )endpoint\b"
)


def in_options(message: str) -> str:
    """Return an error of the library with options instead of arguments: ``base_url`` becomes ``--base-url``."""
    return _ARGUMENT.sub(lambda match: _OPTION_OF[match[0]], message)


def _cannot_flush(stream: TextIO) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


def report(facts: Iterable[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Print named facts, one per line, with aligned values; on standard error unless ``stream`` is given."""
    rows = list(facts)
    target = stream or sys.stderr
    indent = max((len(name) for name, _ in rows), default=0) + 2
    if (width := columns_of(target)) is not None and width - indent < NARROWEST:
        indent = 4  # the values begin below their names
    lines = []
    for name, value in rows:
        label = (f"{name:<{indent}}" if len(name) < indent - 1 else f"{name}  ").replace(" ", "\xa0")
        lines.append(folded((label + terminal_safe(value)).rstrip(), target, indent).replace("\xa0", " "))
    with nullcontext() if stream is not None else suppress(OSError, ValueError):
        print(*lines, sep="\n", file=target, flush=True)


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
