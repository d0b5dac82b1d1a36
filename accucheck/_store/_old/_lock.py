"""One run at a time on one ledger: an advisory lock on a file beside it, ``LEDGER.lock``.

Not on the ledger itself: closing any descriptor of a database file drops the POSIX locks that SQLite holds
on it (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
The system drops the lock when its process dies, however it dies, so a stale file holds nobody up.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from accucheck._errors import LedgerError
from accucheck._store._old._errors import translate_errors

_MAX_HOLDER_BYTES: Final = 4096
_TRIES: Final = 5
_BETWEEN_TRIES: Final = 0.02  # seconds: `running_on` holds the lock for microseconds, which is no run


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who is running on a ledger."""

    pid: int
    host: str
    since: str
    """Local time with its offset, ISO 8601."""
    command: str
    """The program and its subcommand; never its options, which may carry what must not be stored."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.command}) since {self.since}"


def _this_process() -> Holder:
    program, *words = sys.argv or ["python"]
    name = os.path.basename(program)
    if name == "__main__.py":  # python -m accucheck
        name = os.path.basename(os.path.dirname(program))
    subcommand = [words[0]] if words and words[0].isalpha() else []
    return Holder(
        pid=os.getpid(),
        host=socket.gethostname(),
        since=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=" ".join([name or "python", *subcommand]),
    )


if sys.platform == "win32":
    import msvcrt

    _BEYOND_TEXT: Final = 1 << 30  # Windows locks are mandatory: leave the holder's text readable

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _BEYOND_TEXT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _lock_path(ledger: Path) -> Path:
    return ledger.with_name(ledger.name + ".lock")


def _holder_in(descriptor: int) -> Holder | None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return msgspec.json.decode(os.read(descriptor, _MAX_HOLDER_BYTES), type=Holder)
    except msgspec.MsgspecError:  # it has locked, but not written yet
        return None


def running_on(ledger: Path) -> Holder | None:
    """Return who runs on the ledger now, if anybody."""
    try:
        descriptor = os.open(_lock_path(ledger), os.O_RDONLY)
    except OSError:
        return None
    try:
        return None if _try_lock(descriptor) else _holder_in(descriptor)
    finally:
        os.close(descriptor)


class RunLock:
    """Held from construction to ``release``.

    Raises:
        LedgerError: another run holds it; says who.
    """

    def __init__(self, ledger: Path) -> None:
        self._path = _lock_path(ledger)
        with translate_errors(ledger):
            self._descriptor = self._acquire(ledger)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, msgspec.json.encode(_this_process()))

    def _acquire(self, ledger: Path) -> int:
        tries = 0
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                locked = _try_lock(descriptor)
                tries += 1
                if not locked and tries == _TRIES:
                    holder = _holder_in(descriptor) or "another process"
                    raise LedgerError(
                        f"ledger {ledger}: {holder} is using it; "
                        "wait until that run ends, or give this one another ledger"
                    )
                # The last holder may have removed the file between our open and our lock: then what we
                # locked has no name any more, and the next process would not see it.
                if locked and self._is_named(descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            if not locked:
                time.sleep(_BETWEEN_TRIES)

    def _is_named(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let the next run in. May be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            if sys.platform != "win32":  # an open file cannot be removed there; it is harmless
                self._path.unlink(missing_ok=True)
        except OSError:
            pass  # a file that stays holds nobody up
        finally:
            os.close(descriptor)
