"""Opening the file, or refusing what is no ledger; making a new one so that no half-made one is ever found."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from accucheck._errors import LedgerError
from accucheck._store._old._errors import translate_errors
from accucheck._store._old._schema import Migration, migrate, version_of

APPLICATION_ID: Final = 0x41434355
"""``ACCU``: no other program's database is taken for a ledger."""
_HEADER: Final = b"SQLite format 3\x00"
_BUSY_SECONDS: Final = 10.0
_PAGE_BYTES: Final = 4096
"""SQLite's own, said because it was less: with ten million packed answers a look-up takes as long with pages of
1,024 bytes, the file is a tenth larger, a commit of 200 answers costs four times as many writes, and so does a move
of sorted answers. Nothing is mapped into memory: that would save a third of a look-up, but the whole file would
count as the run's memory, and a disk error would be a SIGBUS in place of a ``LedgerError``."""
_CACHE_KIB: Final = 8_192
"""Holds the upper levels of the tree of ten million rows (3 MB). With twice as much, which only holds leaves that are
not met again, a look-up takes 8 % longer: what is in the processor's own cache is used again less."""
_CHECKPOINT_PAGES: Final = 4_096
"""16 MiB of write-ahead log: a page that changes often is copied home, and the file synced, less often."""
_SMALL_BYTES: Final = 16 * 1024 * 1024
"""Files up to this are checked as a whole when they are opened: about 60 ms."""


def prepare(path: Path, migrations: Sequence[Migration]) -> bool:
    """Return whether there is a ledger of the newest version at ``path``; False if one is to be made or migrated.

    Raises:
        LedgerError: what is there is no ledger, is damaged, or is of a newer version.
    """
    if not path.exists():
        return False
    with translate_errors(path), closing(open_reader(path, migrations)) as connection:
        if version_of(connection) < len(migrations):
            return False
        if path.stat().st_size <= _SMALL_BYTES:
            (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if problem != "ok":
                damage = sqlite3.DatabaseError(problem.splitlines()[-1])
                damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise damage
    return True


def open_reader(path: Path, migrations: Sequence[Migration]) -> sqlite3.Connection:
    """Open an existing ledger to read it, also while a run goes on.

    Raises:
        LedgerError: it is not there, is no ledger, is damaged, or is of a newer version.
    """
    _check_header(path)
    with translate_errors(path):
        try:
            # Opened for writing, though it only reads: the last connection that closes tidies the log away,
            # which one that may not write cannot.
            return _open(f"{path.as_uri()}?mode=rw", path, migrations)
        except sqlite3.OperationalError:
            # Where the directory may not be written SQLite cannot make the file that readers share. If there is
            # no log either, the ledger is whole without it.
            if path.with_name(path.name + "-wal").exists():
                raise
            return _open(f"{path.as_uri()}?mode=ro&immutable=1", path, migrations)


def _open(uri: str, path: Path, migrations: Sequence[Migration]) -> sqlite3.Connection:
    connection = _connect(uri)
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_identity(connection, path, len(migrations))
    except BaseException:
        connection.close()
        raise
    return connection


def open_writer(path: Path, migrations: Sequence[Migration]) -> sqlite3.Connection:
    """Open a ledger to write it; make or migrate it first if need be, for which the caller holds its lock.

    Raises:
        LedgerError: it cannot be made or written, is no ledger, is damaged, or is of a newer version.
    """
    with translate_errors(path):
        if not path.exists():
            _create(path, migrations)
        _check_header(path)
        connection = _connect(f"{path.as_uri()}?mode=rw")
        try:
            _check_identity(connection, path, len(migrations))
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise LedgerError(
                    f"ledger {path}: its file system cannot share memory: keep it on a local disk"
                )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync leaves the data in the disk's cache
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
            # What was deleted is overwritten by `purge`; that the journal's pages be so each time that they come
            # free, as some builds of SQLite do by default, would only write them once more.
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            migrate(connection, migrations)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect(uri: str) -> sqlite3.Connection:
    # A connection is used by one thread at a time, which need not be the one that opened it.
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: Path) -> None:
    """Refuse what SQLite would take for an empty database, or would explain badly."""
    if path.is_dir():
        raise LedgerError(f"ledger {path}: it is a directory: give the path of a file")
    with translate_errors(path), path.open("rb") as file:
        header = file.read(len(_HEADER))
    if not header:
        raise LedgerError(
            f"ledger {path}: the file is empty, so what it may have held is lost: "
            "restore it from a backup, or remove it to begin a new ledger"
        )
    if header != _HEADER:
        raise LedgerError(
            f"ledger {path}: it is no accucheck ledger and was left as it is: give the ledger another path"
        )


def _check_identity(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise LedgerError(
            f"ledger {path}: it belongs to another program and was left as it is: give the ledger another path"
        )
    version = version_of(connection)
    if version > newest:
        raise LedgerError(
            f"ledger {path}: it was made by a newer accucheck (version {version}, this one knows {newest}): "
            "pip install --upgrade accucheck"
        )


def _create(path: Path, migrations: Sequence[Migration]) -> None:
    """Make an empty ledger under another name, sync it, and rename it."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)  # of a run that was killed in the middle of this
    # SQLite gives its -wal and -shm files the mode of the database.
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(_connect(f"{unfinished.as_uri()}?mode=rw")) as connection:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection, migrations)
        _sync(unfinished)
        unfinished.rename(path)
        _sync(path.parent)
    except BaseException:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(unfinished.name + suffix).unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a directory, on Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
