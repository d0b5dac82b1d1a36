"""What went wrong with the file, in one sentence and with what to do next."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from accucheck._errors import LedgerError

__all__ = ["damaged", "is_full", "ledger_error", "translate_errors"]

_DAMAGED: Final = "`accucheck ledger repair` recovers what can be read; the file was not changed"
_BUSY: Final = "another program is writing to it: close that program, then run the same command again"
_HINTS: Final[dict[int, str]] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: "the disk is full: free some space, then run the same command again to continue",
    sqlite3.SQLITE_IOERR: "the disk reports an error: check it, then run the same command again",
    sqlite3.SQLITE_READONLY: "it cannot be written: check the permissions of the file and its folder",
    sqlite3.SQLITE_PERM: "it cannot be opened: check the permissions of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check the permissions of the file and its folder",
    sqlite3.SQLITE_CORRUPT: f"it is damaged or cut short: {_DAMAGED}",
    sqlite3.SQLITE_NOTADB: f"it is not an accucheck ledger, or it is damaged: {_DAMAGED}",
}


def ledger_error(path: Path, trouble: Exception) -> LedgerError:
    """Return ``trouble`` with the ledger at ``path`` as one clear sentence."""
    if isinstance(trouble, LedgerError):
        return trouble
    if isinstance(trouble, sqlite3.Error):
        code = getattr(trouble, "sqlite_errorcode", None)
        hint = None if code is None else _HINTS.get(code & 0xFF)  # the low byte is the primary result code
        words = " ".join(str(trouble).split())
        if code is not None and code & 0xFF == sqlite3.SQLITE_CANTOPEN and not _can_open_files():
            hint = "too many open files: raise the limit (ulimit -n 4096)"
        reason = f"{hint} ({words})" if hint else words
    elif isinstance(trouble, msgspec.MsgspecError):
        reason = f"{_HINTS[sqlite3.SQLITE_CORRUPT]} (an answer cannot be read: {trouble})"
    elif isinstance(trouble, OSError):
        reason = trouble.strerror or str(trouble)
    else:
        reason = f"internal error, please report it ({type(trouble).__name__}: {trouble})"
    return LedgerError(f"ledger {path}: {reason}")


def _can_open_files() -> bool:
    """Whether the process may open the files of a ledger: SQLite does not say that this is what it lacks."""
    try:
        with ExitStack() as files:
            for _ in range(6):
                files.enter_context(open(os.devnull, "rb"))
    except OSError:
        return False
    return True


def damaged(words: str) -> sqlite3.DatabaseError:
    """Return SQLite's error for a damaged file."""
    damage = sqlite3.DatabaseError(words)
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return damage


def is_full(trouble: Exception) -> bool:
    """Return whether ``trouble`` is a disk without room."""
    if isinstance(trouble, sqlite3.Error):
        return (getattr(trouble, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(trouble, OSError) and trouble.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite, the system and unreadable answers raise inside the block into a ``LedgerError``."""
    try:
        yield
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as trouble:
        raise ledger_error(path, trouble) from trouble
