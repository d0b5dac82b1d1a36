"""The ledger's file: creates and opens it, refuses what is not a ledger, and notices if it vanishes."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final
from uuid import uuid4

import msgspec

from accucheck._errors import LedgerError

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
    """Return an error that describes ``trouble`` with the ledger at ``path`` in one clear sentence."""
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
    """Whether the process may open the files of a ledger, which SQLite's errors do not say."""
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
    """Return whether ``trouble`` is a full disk."""
    if isinstance(trouble, sqlite3.Error):
        return (getattr(trouble, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(trouble, OSError) and trouble.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite, the system and unreadable answers inside the block into a ``LedgerError``."""
    try:
        yield
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as trouble:
        raise ledger_error(path, trouble) from trouble


APPLICATION_ID: Final = 0x41434355
"""``ACCU``: identifies ledgers among other programs' databases."""
VERSION: Final = 1
_BUSY_SECONDS: Final = 60.0
"""Seconds: as long as `purge` takes to rewrite a large ledger."""
_ABANDONED_SECONDS: Final = 60.0
PAGE_BYTES: Final = 4096
"""SQLite's default, stated because `FileWatch` depends on it."""
_CACHE_KIB: Final = 8_192
"""Holds the upper levels of a tree of ten million rows. Leaves are rarely read again."""
_CHECKPOINT_PAGES: Final = 4_096
"""16 MiB of write-ahead log, so that pages that change often are copied back, and the file synced, less often."""
_SMALL_BYTES: Final = 16 * 1024 * 1024
"""Files up to this size are checked completely when they are opened and closed, which takes about 60 ms."""
_NETWORK: Final = re.compile(
    r"9p|afs|afpfs|ceph|cifs|davfs|glusterfs|lustre|ncpfs|nfs4?|smb[23]|smbfs"
    r"|fuse\.(sshfs|s3fs|rclone|glusterfs|ceph)"
)
_NAME: Final = "ledger "
_TREES: Final = (b"\x02", b"\x05", b"\x0a", b"\x0d")
_SAMPLE: Final = 16
CUT_SHORT: Final = "was cut short"
OVERWRITTEN: Final = "was overwritten"
SET_BACK: Final = "was rolled back to an earlier state, for example by restoring a backup,"
SPOILED: Final = (CUT_SHORT, OVERWRITTEN, SET_BACK)
# Without NOT NULL where many rows are written in one statement: one that may fail in the middle first copies every
# page that it changes, which makes it three times as slow.
_TABLES: Final[tuple[str, ...]] = (
    """CREATE TABLE answers (
        key INTEGER PRIMARY KEY,        -- national number << 3 | failed << 2 | endpoint (0 advanced, 1 basic)
        at INTEGER,                     -- microseconds since 1970, UTC: in `packed` too, here for SQL
        whatsapp INTEGER,               -- 0 or 1, NULL for a failure; likewise
        packed BLOB)                    -- all of it: msgpack, as in _packing.py""",
    # What was charged is kept for the statement.
    """CREATE TABLE earlier (
        key INTEGER,                    -- as in answers: what was there before it was asked again
        at INTEGER,
        packed BLOB,
        PRIMARY KEY (key, at)) WITHOUT ROWID""",
    """CREATE TRIGGER keep_earlier BEFORE UPDATE ON answers WHEN old.at <> new.at BEGIN
        INSERT OR IGNORE INTO earlier VALUES (old.key, old.at, old.packed); END""",
    """CREATE TABLE claims (
        key INTEGER PRIMARY KEY,        -- national number << 3
        -- of an owner; if negative, seconds since 1970: a process that died by then had it
        owner INTEGER)""",
    """CREATE TABLE owners (
        id INTEGER PRIMARY KEY AUTOINCREMENT,   -- never used again, so that a claim cannot pass to a stranger
        token TEXT NOT NULL,            -- of its file beside the ledger, which it locks
        boot TEXT NOT NULL,             -- the system's start; after another one its counters may be lost
        expires REAL NOT NULL)          -- seconds since 1970; until then its claims hold""",
    """CREATE TABLE leases (
        owner INTEGER NOT NULL,
        job TEXT NOT NULL,
        slot INTEGER NOT NULL,          -- of the counters in the owner's file
        granted INTEGER NOT NULL,       -- calls leased and not given back
        PRIMARY KEY (owner, job)) WITHOUT ROWID""",
    """CREATE TABLE jobs (
        name TEXT PRIMARY KEY,
        calls INTEGER NOT NULL,         -- made by owners that have ended
        possibly_double_charged INTEGER NOT NULL,
        lost_to_kills INTEGER NOT NULL) -- at most so many were under way when a process was killed""",
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE paces (
        account TEXT PRIMARY KEY,
        boot TEXT NOT NULL,             -- its times are those of the system's clock since this start
        pace TEXT NOT NULL)             -- JSON, as in _permits.py""",
    "CREATE TABLE reports (id INTEGER PRIMARY KEY, account TEXT NOT NULL, outcomes TEXT NOT NULL)",
)


def open_ledger(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open a ledger for writing; if it does not exist and ``create`` is true, create it.

    Raises:
        LedgerError: it cannot be made or written, is not a ledger, is damaged, or is of a newer version.
    """
    with translate_errors(path):
        if not path.exists():
            if not create:
                raise LedgerError(f"ledger {path}: there is no such file")
            create_ledger(path)
        _refuse_odd(path)
        _refuse_network(path)
        connection = _connect(f"{path.as_uri()}?mode=rw")
        try:
            _check_identity(connection, path)
            check_small(connection, path)
            if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise LedgerError(
                    f"ledger {path}: its file system does not support shared memory: keep it on a local disk"
                )
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync leaves the data in the disk's cache
            connection.execute("PRAGMA checkpoint_fullfsync = ON")
            # Deleted bytes are overwritten only on request, by `purge` and `forget`.
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        except BaseException:
            connection.close()
            raise
        return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open an existing ledger for reading, even while others use it.

    Raises:
        LedgerError: it is not there, is not a ledger, is damaged, or is of a newer version.
    """
    with translate_errors(path):
        _refuse_odd(path)
        try:
            # Opened for writing, though it only reads: the last connection that closes tidies the log away,
            # which one that may not write cannot.
            return _read_only(f"{path.as_uri()}?mode=rw", path)
        except sqlite3.OperationalError:
            # Where the folder cannot be written SQLite cannot make the file that readers share. If there is
            # no log either, the ledger is whole without it.
            if path.with_name(path.name + "-wal").exists():
                raise
            return _read_only(f"{path.as_uri()}?mode=ro&immutable=1", path)


def check_small(connection: sqlite3.Connection, path: Path) -> None:
    """Raise SQLite's error if the file is small and a page of it is damaged."""
    if path.stat().st_size <= _SMALL_BYTES:
        (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if problem != "ok":
            raise damaged(problem.splitlines()[-1])


def name_of(connection: sqlite3.Connection) -> str:
    """Return this ledger's unique name, from its first page."""
    row = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchone()
    if row is None or not str(row[0]).startswith(_NAME):
        raise damaged("its name is missing")
    return str(row[0])


def accounts_folder() -> Path:
    """Return the folder of the accounts' default ledgers, in the user's data directory."""
    from platformdirs import user_data_path  # here, since it is needed by some runs only

    return user_data_path("accucheck", appauthor=False)


def account_ledger_path(host: str, api_id: str) -> Path:
    """Return an account's default ledger, named after the vendor's host and a hash of the API id.

    ``host`` is the host of the base URL, with the port if there is one. The ledger need not exist.
    """
    place = re.sub(r"[^A-Za-z0-9.-]", "_", host)
    return accounts_folder() / f"{place}-{hashlib.sha256(api_id.encode()).hexdigest()[:8]}.ledger"


def files_of(path: Path) -> list[Path]:
    """Return the files that a ledger may consist of: itself, its log, and the readers' shared memory."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


class FileWatch:
    """Notices if an open ledger is deleted, moved, replaced, cut short or overwritten.

    It compares the files at the paths with those that were opened, and looks in the first page for a name that only
    this ledger has.
    """

    _lock = threading.Lock()
    _opened: ClassVar[dict[tuple[int, int], list[int]]] = {}
    """Descriptor and users of each file. Closing any descriptor of a database drops all locks that this process holds
    on it, SQLite's too, so there is one for all, closed when nobody has the file open any more."""

    def __init__(self, path: Path, name: str) -> None:
        """``name`` is that of the ledger: see ``name_of``."""
        self._path, self._log = path, path.with_name(path.name + "-wal")
        found = os.stat(path)
        self._key = found.st_dev, found.st_ino
        with self._lock:
            entry = self._opened.get(self._key)
            if entry is None:
                entry = self._opened[self._key] = [os.open(path, os.O_RDONLY), 0]
            entry[1] += 1
            self._descriptor = entry[0]
        self._name = name.encode()
        self._log_stat = os.stat(self._log)
        self._bytes = found.st_size
        self._changes = 0
        self._written_at = found.st_mtime_ns
        self.written = False
        """Whether the file was written to between the last two checks, by a checkpoint or by a stranger."""

    def close(self) -> None:
        """Close the file, after the connection."""
        with self._lock:
            entry = self._opened[self._key]
            entry[1] -= 1
            if not entry[1]:
                del self._opened[self._key]
                os.close(entry[0])

    def trouble(self) -> str | None:
        """Return what happened to the file; None if it is fine."""
        try:
            here, log = os.stat(self._path), os.stat(self._log)
        except OSError:
            if not self._path.parent.exists():
                return "lost its folder"
            return "lost its log (PATH-wal)" if self._path.exists() else "was deleted or moved"
        if (here.st_dev, here.st_ino) != self._key or not os.path.samestat(log, self._log_stat):
            return "was replaced by another file"
        before, self._bytes = self._bytes, here.st_size
        page = self._read()
        pages = int.from_bytes(page[28:32], "big")
        # While it grows the first page comes first; a ledger that was purged has become smaller and says so.
        if here.st_size < PAGE_BYTES or (here.st_size < before and here.st_size < pages * PAGE_BYTES):
            return CUT_SHORT
        if self._name not in page:
            return OVERWRITTEN
        # SQLite counts up with each change of the first page (https://www.sqlite.org/fileformat2.html#file_change_counter).
        before, self._changes = self._changes, int.from_bytes(page[24:28], "big")
        self.written = here.st_mtime_ns != self._written_at and self._changes == before
        self._written_at = here.st_mtime_ns
        if self.written and not self._are_pages(here.st_size // PAGE_BYTES):
            return OVERWRITTEN
        return SET_BACK if self._changes < before else None

    def _are_pages(self, pages: int) -> bool:
        """Whether most of a random sample begin like SQLite's pages: as part of a tree, or with another page's number.

        See https://www.sqlite.org/fileformat2.html#b_tree_pages.
        """
        some = [self._read(random.randrange(1, pages), 8) for _ in range(min(pages - 1, _SAMPLE))]
        right = [
            page[:1] in _TREES or (any(page) and int.from_bytes(page[:4], "big") <= pages) for page in some
        ]
        return sum(right) >= len(right) / 2

    def _read(self, page: int = 0, count: int = PAGE_BYTES) -> bytes:
        with self._lock:
            os.lseek(self._descriptor, page * PAGE_BYTES, os.SEEK_SET)
            return os.read(self._descriptor, count)


def _read_only(uri: str, path: Path) -> sqlite3.Connection:
    connection = _connect(uri)
    try:
        connection.execute("PRAGMA query_only = ON")
        _check_identity(connection, path)
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


def _refuse_odd(path: Path) -> None:
    """Refuse files that SQLite would accept as empty or explain badly. Opens nothing; see FileWatch."""
    if path.is_dir():
        raise LedgerError(f"ledger {path}: it is a folder: pass the path of a file")
    if path.stat().st_size == 0:
        raise LedgerError(
            f"ledger {path}: the file is empty, so its answers are lost: "
            "restore it from a backup, or delete it to start a new ledger"
        )


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        raise LedgerError(
            f"ledger {path}: it belongs to another program and was not changed: choose another path for the ledger"
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise LedgerError(
            f"ledger {path}: it was created by a newer accucheck (version {version}, this one supports {VERSION}): "
            "upgrade accucheck"
        )


def _refuse_network(path: Path) -> None:
    kind = _file_system(path)
    if _NETWORK.fullmatch(kind):
        raise LedgerError(
            f"ledger {path}: it is on a network file system ({kind}), which cannot lock a file for several processes: "
            "keep it on a local disk, or share a ledger in PostgreSQL (postgresql://…)"
        )


def _file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the kind of file system, such as ``ext4``; "" if unknown."""
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    place = os.fsencode(path.parent) + b"/"
    for line in lines:
        before, _, after = line.partition(b" - ")
        point = _unescape(before.split(b" ")[4]).rstrip(b"/") + b"/"
        if len(point) >= best and place.startswith(point):
            best, kind = len(point), after.split(b" ")[0].decode("ascii", "replace")
    return kind


def _unescape(point: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), point)


def create_ledger(path: Path) -> None:
    """Create an empty ledger under another name, sync it, and rename it."""
    if not path.parent.exists() and path.parent == accounts_folder():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_network(path)
    prefix = f"{path.name}.new-"
    for name in os.listdir(path.parent):  # of a process that was killed in the middle of this
        if name.startswith(prefix):
            with suppress(FileNotFoundError):  # of one that is in the middle of it now
                if time.time() - path.with_name(name).stat().st_mtime > _ABANDONED_SECONDS:
                    path.with_name(name).unlink()
    unfinished = path.with_name(prefix + uuid4().hex[:8])
    # SQLite gives its -wal and -shm files the mode of the database.
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(_connect(f"{unfinished.as_uri()}?mode=rw")) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute(f'CREATE VIEW "{_NAME}{uuid4()}" AS SELECT 1')
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute("PRAGMA journal_mode = WAL")
        _sync(unfinished)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            pass  # another process was quicker
        except OSError:  # a file system without links
            unfinished.rename(path)
        _sync(path.parent)
    finally:
        for file in files_of(unfinished):
            file.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder, on Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
