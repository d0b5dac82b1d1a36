"""A process that uses a ledger: a file next to it, locked while the process lives.

The system drops the lock when the process dies, no matter how. So others know at once that its claims are free, and
its counters, in the same file, say how many of its leased calls were made.

The lock is not on the ledger itself: closing any descriptor of a database file drops the POSIX locks that SQLite holds
on it (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
"""

from __future__ import annotations

import mmap
import os
import secrets
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

__all__ = [
    "SLOTS",
    "Counters",
    "Owner",
    "boot_id",
    "counters_of",
    "dead",
    "leftovers",
    "process_of",
    "remove",
    "users",
]

SLOTS: Final = 224
"""Jobs that one process may have at once."""
_COUNTERS_AT: Final = 512
_FILE_BYTES: Final = 4096
_FIELDS: Final = 2
RESERVE_BYTES: Final = 512 * 1024
"""Room for the calls of a thousand workers: an answer takes about 100 bytes, its page in the log up to 4 KiB."""


class Counters(msgspec.Struct, frozen=True):
    """The calls of one job in one process."""

    made: int
    settled: int
    """Those of settled numbers; the others were in flight."""


if sys.platform == "win32":
    import msvcrt

    _BEYOND_TEXT: Final = 1 << 30  # Windows locks are mandatory: leave the text and the counters readable

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, _BEYOND_TEXT, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class Owner:
    """This process as a user of the ledger at ``path``, from construction to ``close``.

    ``reserve`` bytes of disk space are kept after the counters, for the answers in flight when the disk fills up.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path, *, reserve: int = RESERVE_BYTES) -> None:
        while True:
            self.token = secrets.token_hex(4)
            self._path = _file_of(path, self.token)
            try:
                self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            except FileExistsError:
                continue
            # Before it is locked, another process may mistake it for a leftover and remove it.
            if _try_lock(self._descriptor) and _is_named(self._descriptor, self._path):
                break
            os.close(self._descriptor)
            remove(path, self.token)
        try:
            text = _this_process().encode("utf-8", "replace")[:_COUNTERS_AT].ljust(_FILE_BYTES, b"\0")
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.write(self._descriptor, text)
            self._map = mmap.mmap(self._descriptor, _FILE_BYTES)
        except BaseException:
            os.close(self._descriptor)
            self._path.unlink(missing_ok=True)
            raise
        self._counters = memoryview(self._map)[_COUNTERS_AT:].cast("q")
        self._free = list(range(SLOTS))[::-1]
        self._reserved = False
        if reserve:
            with suppress(OSError):  # without space for it at the start, there is no reserve
                # Written, because a hole in a file does not reserve space.
                self._reserved = os.write(self._descriptor, bytes(reserve)) == reserve

    def take_slot(self) -> int:
        """Return a place for a job's counters, which are 0; at most ``SLOTS`` at once."""
        slot = self._free.pop()
        at = slot * _FIELDS
        self._counters[at] = self._counters[at + 1] = 0
        return slot

    def free_slot(self, slot: int) -> None:
        """Return a place."""
        self._free.append(slot)

    def count_made(self, slot: int, calls: int = 1) -> None:
        """Count calls that are being sent; a negative number takes some back."""
        self._counters[slot * _FIELDS] += calls

    def count_settled(self, slot: int, calls: int) -> None:
        """Count the calls of numbers that are settled."""
        self._counters[slot * _FIELDS + 1] += calls

    def counters(self, slot: int) -> Counters:
        """Return a job's counters."""
        at = slot * _FIELDS
        return Counters(self._counters[at], self._counters[at + 1])

    def release_reserve(self) -> bool:
        """Free the reserved disk space; return whether there was any."""
        had, self._reserved = self._reserved, False
        if had:
            try:
                os.ftruncate(self._descriptor, _FILE_BYTES)
            except OSError:
                return False
        return had

    def close(self) -> None:
        """Remove the file."""
        self._counters.release()
        self._map.close()
        os.close(self._descriptor)
        with suppress(OSError):
            self._path.unlink()


def dead(path: Path, token: str) -> bool:
    """Return whether the process that made ``token`` for the ledger at ``path`` has ended."""
    try:
        descriptor = os.open(_file_of(path, token), os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # someone else's, so unknown
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def counters_of(path: Path, token: str, slot: int) -> Counters | None:
    """Return another process's counters, even after its death; None if its file is gone."""
    try:
        content = _file_of(path, token).read_bytes()[:_FILE_BYTES]
    except OSError:
        return None
    fields = memoryview(content[_COUNTERS_AT:].ljust(_FILE_BYTES - _COUNTERS_AT, b"\0")).cast("q")
    return Counters(fields[slot * _FIELDS], fields[slot * _FIELDS + 1])


def process_of(path: Path, token: str) -> str | None:
    """Return who created ``token``, as text; None if it cannot be read."""
    try:
        with _file_of(path, token).open("rb") as file:
            return file.read(_COUNTERS_AT).rstrip(b"\0").decode("utf-8", "replace") or None
    except OSError:
        return None


def leftovers(path: Path) -> list[str]:
    """Return the tokens of all processes that use the ledger, and of those that were killed."""
    prefix = f"{path.name}.run-"
    return [name.removeprefix(prefix) for name in os.listdir(path.parent) if name.startswith(prefix)]


def users(path: Path) -> list[str]:
    """Return the processes that use the ledger now, as text."""
    return [process_of(path, token) or "a process" for token in leftovers(path) if not dead(path, token)]


def remove(path: Path, token: str) -> None:
    """Remove what a dead process left."""
    with suppress(OSError):
        _file_of(path, token).unlink()


def _file_of(path: Path, token: str) -> Path:
    return path.with_name(f"{path.name}.run-{token}")


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _this_process() -> str:
    """Return this process with its subcommand, but never with its options, which may contain secrets."""
    program, *words = sys.argv or ["python"]
    name = os.path.basename(program)
    if name == "__main__.py":  # python -m accucheck
        name = os.path.basename(os.path.dirname(program))
    subcommand = [words[0]] if words and words[0].isalpha() else []
    command = " ".join([name or "python", *subcommand])[:128]
    host, since = socket.gethostname()[:64], time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return f"process {os.getpid()} on {host} ({command}) since {since}"


def boot_id() -> str:
    """Return an id that changes whenever the machine starts; "" if there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
