"""The file: its tables, its version, and the way from each earlier version to this one."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from accucheck._errors import LedgerError
from accucheck._ledger._rows import ANSWER_COLUMNS
from accucheck._ledger._trouble import told_plainly

APPLICATION_ID: Final = (
    0x41434355  # "ACCU", for file(1) and for us: no other program's database is taken for ours
)
_HEADER: Final = b"SQLite format 3\x00"
_BUSY_SECONDS: Final = 10.0
_CACHE_KIB: Final = 8192
_CHECKPOINT_PAGES: Final = 4096
"""16 MiB of write-ahead log: a page that changes often is copied home, and the file synced, four times less."""

Migration = Callable[[sqlite3.Connection], None]


def _first_version(connection: sqlite3.Connection) -> None:
    answer = """
        whatsapp INTEGER NOT NULL,          -- 0 or 1
        status_update INTEGER,              -- YYYYMMDD
        business_user INTEGER,              -- 0, 1, or NULL if the vendor does not say
        avatar INTEGER,                     -- the same
        signature TEXT,
        request_id NOT NULL,                -- TEXT; the usual TID + 32 hexadecimal digits as BLOB of 16
        checked_at INTEGER NOT NULL,        -- microseconds since 1970, UTC
        calls INTEGER NOT NULL,
        possibly_double_charged INTEGER NOT NULL,
        extra TEXT                          -- JSON: fields that the vendor's page does not name
    """
    connection.execute(f"""CREATE TABLE answers (
        key INTEGER PRIMARY KEY,            -- national number << 3 | endpoint (0 advanced, 1 basic)
        {answer})""")
    # Answers arrive in random order, and each would rewrite a page of `answers`: four times the work of an append.
    # So they are appended here, and moved into `answers` in key order, many at a time.
    connection.execute(f"""CREATE TABLE journal (
        id INTEGER PRIMARY KEY,
        key INTEGER NOT NULL,
        {answer})""")
    connection.execute("""CREATE TABLE failures (
        key INTEGER PRIMARY KEY,
        status TEXT NOT NULL,
        reason TEXT NOT NULL,
        request_id NOT NULL,
        http_status INTEGER,
        failed_at INTEGER NOT NULL,         -- microseconds since 1970, UTC
        calls INTEGER NOT NULL,
        possibly_double_charged INTEGER NOT NULL)""")
    connection.execute("""CREATE TABLE jobs (
        name TEXT PRIMARY KEY,
        calls_leased INTEGER NOT NULL,      -- reserved and not given back: the calls spent
        calls_settled INTEGER NOT NULL,     -- of these, those of settled numbers; the journal's are not in it yet
        possibly_double_charged INTEGER NOT NULL,
        lost_to_kills INTEGER NOT NULL,     -- at most so many calls were under way when a run was killed
        unsettled_at_start INTEGER          -- calls_leased - calls_settled when the run began; NULL: none is running
        )""")
    connection.execute(
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)  -- values in JSON"
    )
    connection.execute(f"""CREATE VIEW known_answers AS
        SELECT {ANSWER_COLUMNS} FROM answers WHERE key NOT IN (SELECT key FROM journal)
        UNION ALL
        SELECT {ANSWER_COLUMNS} FROM journal WHERE id IN (SELECT max(id) FROM journal GROUP BY key)""")


MIGRATIONS: Final[Sequence[Migration]] = (_first_version,)
"""The n-th makes version n + 1 out of version n. Released ones are never changed: a change of the file is a new one."""


def in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], None]) -> None:
    """Run ``work`` in a transaction: all of it is stored, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back by itself after some errors
            connection.execute("ROLLBACK")
        raise


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version of a file."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the file to the newest version, one transaction a step."""

    def step(inside: sqlite3.Connection) -> None:
        version = version_of(inside)
        if version < len(migrations):  # another process may have been quicker
            migrations[version](inside)
            inside.execute(f"PRAGMA user_version = {version + 1}")

    while version_of(connection) < len(migrations):
        in_transaction(connection, step)


def _check_is_ledger(path: Path) -> None:
    """Refuse early what SQLite would take for an empty database, or explain badly."""
    if path.is_dir():
        raise LedgerError(f"ledger {path}: it is a directory: give the path of a file")
    with told_plainly(path), path.open("rb") as file:
        header = file.read(len(_HEADER))
    if not header:
        raise LedgerError(
            f"ledger {path}: the file is empty, so whatever it held is lost; "
            "restore it from a backup, or remove it to begin a new ledger"
        )
    if header != _HEADER:
        raise LedgerError(
            f"ledger {path}: it is not an accucheck ledger; it was left as it is: give the ledger another path"
        )


def _check_identity(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise LedgerError(
            f"ledger {path}: it is another program's SQLite database; it was left as it is: "
            "give the ledger another path"
        )
    version = version_of(connection)
    if version > newest:
        raise LedgerError(
            f"ledger {path}: it was written by a newer accucheck (file version {version}, this one knows {newest}): "
            "upgrade with `pip install --upgrade accucheck`"
        )


def open_reader(path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> sqlite3.Connection:
    """Open an existing ledger to read it; it may be in use by a run.

    Raises:
        LedgerError: it is not there, is no ledger, is damaged, or is of a newer version.
    """
    if not path.exists():
        raise LedgerError(f"ledger {path}: there is no such file")
    _check_is_ledger(path)
    with told_plainly(path):
        uri = path.absolute().as_uri()
        connection = _connect(f"{uri}?mode=ro")
        try:
            try:
                _check_identity(connection, path, len(migrations))
            except sqlite3.OperationalError:
                # In a directory that may not be written SQLite cannot make its shared memory file. With no
                # write-ahead log there is nothing in it to miss.
                if path.with_name(path.name + "-wal").exists():
                    raise
                connection.close()
                connection = _connect(f"{uri}?mode=ro&immutable=1")
                _check_identity(connection, path, len(migrations))
        except BaseException:
            connection.close()
            raise
        return connection


def open_writer(path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> sqlite3.Connection:
    """Open a ledger to write it, newly made or migrated if need be. The caller holds its lock.

    Raises:
        LedgerError: it cannot be made, is no ledger, is damaged, or is of a newer version.
    """
    with told_plainly(path):
        if not path.exists():
            _create(path, migrations)
        _check_is_ledger(path)
        connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
        try:
            _check_identity(connection, path, len(migrations))
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise LedgerError(
                    f"ledger {path}: its file system cannot share memory: put it on a local disk"
                )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(
                "PRAGMA fullfsync = ON"
            )  # macOS: fsync alone leaves the data in the disk's cache
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            migrate(connection, migrations)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect(uri: str) -> sqlite3.Connection:
    # One connection is used by one thread at a time, which need not be the one that opened it.
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
    )
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _create(path: Path, migrations: Sequence[Migration]) -> None:
    """Make an empty ledger under another name and rename it, so that no half-made one is ever found."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)  # a run was killed in the middle of this
    # SQLite gives its -wal and -shm files the mode of the database.
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        connection = _connect(f"{unfinished.absolute().as_uri()}?mode=rw")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection, migrations)
        finally:
            connection.close()
        _sync(unfinished)
        unfinished.rename(path)
        _sync(path.parent)
    except BaseException:
        for name in (unfinished.name, unfinished.name + "-wal", unfinished.name + "-shm"):
            path.with_name(name).unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a directory on Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
