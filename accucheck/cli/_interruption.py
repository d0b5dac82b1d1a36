"""INT, TERM and HUP: the first asks a run to come to an end, the second leaves at once.

One handler stays installed for a whole command, so that no signal falls between two phases. A phase says
what the first and the second signal do while it lasts; outside of every phase a signal ends the command.
A third signal is left to the system, in case the second one cannot be obeyed. A terminal that goes away may send
HUP twice, once itself and once by its shell: that is one signal, and none under nohup.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from accucheck.cli._exit_codes import ExitCode

__all__ = ["Interrupted", "Interruption"]

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)  # Windows has no HUP
_HANG_UP: int = getattr(signal, "SIGHUP", 0)


class Interrupted(BaseException):
    """A signal ended the command. Not an Exception, as KeyboardInterrupt is not: nothing may swallow it."""

    def __init__(self, message: str = "stopped", hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        """What to do next, for a person."""


def leave() -> NoReturn:
    """End what runs now."""
    raise Interrupted


class Interruption:
    """Counts the signals of one command: use it as a context manager, in the main thread."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        """The signal that came first: it gives the exit code. None if none came."""
        self._count = 0
        self._on_first: Callable[[], object] = leave
        self._on_second: Callable[[], object] = leave
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if number == _HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: the run is to outlive its terminal
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that a signal ended, as shells count it: 128 and the signal's number."""
        return ExitCode.INTERRUPTED if self.first is None else ExitCode(128 + self.first)

    @contextmanager
    def phase(self, *, first: Callable[[], object], second: Callable[[], object] = leave) -> Iterator[None]:
        """While the block runs, call ``first`` at the command's first signal and ``second`` at its second."""
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
