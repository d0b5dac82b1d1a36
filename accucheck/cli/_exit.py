"""How a command ends: its exit code, and what signals do.

On INT, TERM and HUP: the first signal stops a run gracefully, the second quits at once. One handler stays installed for
the whole command, so no signal is lost between two phases. A phase defines what the first and the second signal do;
outside a phase, a signal ends the command. A third signal gets the system's default action, in case the second had no
effect. A closing terminal may send HUP twice, from the terminal and from its shell, which counts once, and is ignored
under nohup.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from accucheck._errors import (
    AccucheckError,
    BudgetExhausted,
    ConfigurationError,
    KeyExpired,
    LedgerError,
    NoPermission,
    NotFound,
    Outage,
    OutOfQuota,
    Unauthorized,
    UniformRefusals,
)
from accucheck.files._origin import OutputError


class ExitCode(IntEnum):
    """The exit codes of every command."""

    ALL_ANSWERED = 0
    SOME_NOT_ANSWERED = 1
    USAGE = 2
    NOT_ALLOWED = 3
    USED_UP = 4
    STORAGE = 5
    OUTAGE = 6
    UNEXPECTED = 70
    HUNG_UP = 129
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


EXPLANATION = {
    ExitCode.ALL_ANSWERED: "done; check and bulk: every number was answered",
    ExitCode.SOME_NOT_ANSWERED: "some rows have no answer: invalid, failed or not checked",
    ExitCode.USAGE: "an invalid option, an unreadable input or missing credentials",
    ExitCode.NOT_ALLOWED: "AccuAuth refused the credentials, the endpoint or every number",
    ExitCode.USED_UP: "the account's quota, --max-calls or --max-cost is used up",
    ExitCode.STORAGE: "the ledger or the output could not be read or written",
    ExitCode.OUTAGE: "AccuAuth was unreachable for longer than --outage-deadline",
    ExitCode.UNEXPECTED: "internal error (please report it; --debug shows where)",
    ExitCode.HUNG_UP: "the terminal was closed",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
    ExitCode.READER_GONE: "the reader of standard output closed the pipe (accucheck … | head)",
    ExitCode.TERMINATED: "terminated",
}
"""One line for each code, shown by ``--help``. A test checks that none is missing."""

_CODES: tuple[tuple[tuple[type[BaseException], ...], ExitCode], ...] = (
    ((Unauthorized, KeyExpired, NoPermission, NotFound, UniformRefusals), ExitCode.NOT_ALLOWED),
    ((OutOfQuota, BudgetExhausted), ExitCode.USED_UP),
    ((LedgerError, OutputError), ExitCode.STORAGE),
    ((Outage,), ExitCode.OUTAGE),
    ((ConfigurationError,), ExitCode.USAGE),
    ((OSError,), ExitCode.STORAGE),
    ((AccucheckError,), ExitCode.SOME_NOT_ANSWERED),
)
"""The exit codes by error; the first that fits counts."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for the error that ended a command."""
    return next((code for kinds, code in _CODES if isinstance(error, kinds)), ExitCode.UNEXPECTED)


SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no HUP
_HANG_UP: int = getattr(signal, "SIGHUP", 0)


class Interrupted(BaseException):
    """A signal ended the command. A BaseException, like KeyboardInterrupt: ``except Exception`` must not catch it."""

    def __init__(self, message: str = "stopped", hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        """What the user can do next."""


def leave() -> NoReturn:
    """End the command."""
    raise Interrupted


class Interruption:
    """Counts the signals of one command. Use it as a context manager in the main thread."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        """The first signal, which sets the exit code; None if there was none."""
        self._count = 0
        self._on_first: Callable[[], object] = leave
        self._on_second: Callable[[], object] = leave
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if number == _HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the run must outlive its terminal
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code after a signal, by the shells' convention: 128 plus the signal's number."""
        return ExitCode.INTERRUPTED if self.first is None else ExitCode(128 + self.first)

    @contextmanager
    def phase(self, *, first: Callable[[], object], second: Callable[[], object] = leave) -> Iterator[None]:
        """While the block runs, call ``first`` on the command's first signal and ``second`` on its second."""
        outside = self._on_first, self._on_second
        self._on_first, self._on_second = first, second
        try:
            yield
        finally:
            self._on_first, self._on_second = outside

    def _received(self, number: int, frame: FrameType | None) -> None:
        if number == _HANG_UP and self.first == _HANG_UP:
            return
        self._count += 1
        if self.first is None:
            self.first = signal.Signals(number)
        if self._count == 1:
            self._on_first()
        elif self._count == 2:
            for each in self._before:
                signal.signal(each, signal.SIG_DFL)
            self._on_second()
