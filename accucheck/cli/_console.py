"""What is said on standard error: one clear line, and a hint where there is something to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from typing import TextIO

from accucheck.cli._exit_codes import ExitCode, exit_code_of
from accucheck.cli._render import terminal_safe

__all__ = ["complain", "report", "say"]


def say(message: str, *, hint: str | None = None) -> None:
    """Print one line on standard error, and ``hint`` below it."""
    with suppress(OSError):  # a terminal that went away must not take a run with it that is paid for
        print(f"accucheck: {terminal_safe(message)}", file=sys.stderr)
        if hint:
            print(f"hint: {terminal_safe(hint)}", file=sys.stderr)
        sys.stderr.flush()


def complain(error: Exception) -> ExitCode:
    """Print ``error`` as one line for a person, and return the exit code that it means."""
    code = exit_code_of(error)
    if code is ExitCode.UNEXPECTED:
        say(
            f"a mistake in accucheck itself: {type(error).__name__}: {error}",
            hint="run it again with --debug and report what it shows",
        )
    elif isinstance(error, OSError) and error.filename is not None:
        say(f"{error.filename}: {error.strerror}")
    else:
        say(str(error) or type(error).__name__)
    return code


def report(facts: Iterable[tuple[str, str]], stream: TextIO | None = None) -> None:
    """Print named facts, one a line, the values aligned; on standard error unless another stream is given."""
    rows = list(facts)
    widest = max((len(name) for name, _ in rows), default=0)
    target = stream or sys.stderr
    with suppress(OSError) if stream is None else nullcontext():
        for name, value in rows:
            print(f"{name:<{widest}}  {terminal_safe(value)}".rstrip(), file=target)
        target.flush()
