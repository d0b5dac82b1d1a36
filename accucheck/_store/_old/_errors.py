"""What went wrong with the file, in one sentence and with what to do next."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from accucheck._errors import LedgerError

_DAMAGED: Final = (
    "it was left as it is: restore it from a backup, or move it away and let `sqlite3 FILE .recover` save "
    "what it can"
)
_BUSY: Final = "another program is writing to it: close that program and run the same command again"
_HINTS: Final[dict[int, str]] = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: "the disk is full: free some space and run the same command again: it goes on",
    sqlite3.SQLITE_IOERR: "the disk reports an error: check it, then run the same command again",
    sqlite3.SQLITE_READONLY: "it may not be written: check the permissions of it and its directory",
    sqlite3.SQLITE_PERM: "it may not be opened: check the permissions of the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check the permissions of the file and its directory",
    sqlite3.SQLITE_CORRUPT: f"it is damaged or cut short; {_DAMAGED}",
    sqlite3.SQLITE_NOTADB: f"it is not an accucheck ledger, or it is damaged; {_DAMAGED}",
}


def ledger_error(path: Path, trouble: Exception) -> LedgerError:
    """Return ``trouble`` with the ledger at ``path`` as one clear sentence."""
    if isinstance(trouble, LedgerError):
        return trouble
    if isinstance(trouble, sqlite3.Error):
        code = getattr(trouble, "sqlite_errorcode", None)
        hint = None if code is None else _HINTS.get(code & 0xFF)  # the low byte is the primary result code
        words = " ".join(str(trouble).split())
        reason = f"{hint} ({words})" if hint else words
    elif isinstance(trouble, msgspec.MsgspecError):
        reason = f"{_HINTS[sqlite3.SQLITE_CORRUPT]} (an answer cannot be read: {trouble})"
    elif isinstance(trouble, OSError):
        reason = trouble.strerror or str(trouble)
    else:
        reason = f"{type(trouble).__name__}: {trouble}"
    return LedgerError(f"ledger {path}: {reason}")


def is_full(trouble: Exception) -> bool:
    """Return whether ``trouble`` is that the disk has no room."""
    if isinstance(trouble, sqlite3.Error):
        return (getattr(trouble, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(trouble, OSError) and trouble.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Attempt what SQLite, the system and unreadable answers raise inside the block into a ``LedgerError``."""
    try:
        yield
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as trouble:
        raise ledger_error(path, trouble) from trouble
