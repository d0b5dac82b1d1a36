"""The ledger: one SQLite file that keeps every answer that was paid for."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from accucheck._errors import ConfigurationError
from accucheck._models import Settlement
from accucheck._store._old import _jobs, _journal
from accucheck._store._old._errors import translate_errors
from accucheck._store._old._file import open_reader, open_writer, prepare
from accucheck._store._old._info import LedgerInfo, read_info, read_settlements
from accucheck._store._old._lock import RunLock
from accucheck._store._old._lookup import ALWAYS, JournalReader, Lookup
from accucheck._store._old._reserve import RESERVE_BYTES
from accucheck._store._old._rows import Endpoint, microseconds
from accucheck._store._old._schema import MIGRATIONS, Migration, reading
from accucheck._store._old._session import Session


def _no_step(_name: str) -> None:
    """Do nothing at a step."""


class Ledger:
    """The file of answers at ``path``; made if it is not there, readable by its owner alone (0600).

    One run at a time may have a ``session``; looking into the ledger works beside it, from any process.

    Args:
        path: Where it is. ``PATH-wal``, ``PATH-shm``, ``PATH.lock`` and ``PATH.reserve`` appear beside it while a
            run goes on.
        now: Returns seconds since 1970.
        migrations: The steps from version to version of the file.
        on_step: Called in the writer's thread with ``"before_commit"`` and ``"after_commit"`` around each
            batch; what it raises before the commit fails the batch.
        reserve: Bytes set aside in ``PATH.reserve`` during a run, 0 or more: the room for the answers that are
            under way when the disk becomes full.

    Raises:
        LedgerError: It cannot be opened, is damaged, is no ledger, or was made by a newer accucheck.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        now: Callable[[], float] = time.time,
        migrations: Sequence[Migration] = MIGRATIONS,
        on_step: Callable[[str], None] = _no_step,
        reserve: int = RESERVE_BYTES,
    ) -> None:
        self.path = Path(os.path.realpath(path))  # one lock, whatever name the file is given
        self._now = now
        self._migrations = migrations
        self._on_step = on_step
        self._reserve = reserve
        if not prepare(self.path, migrations):
            lock = RunLock(self.path)
            try:
                open_writer(self.path, migrations).close()
            finally:
                lock.release()
        self._finding: tuple[sqlite3.Connection, JournalReader] | None = None

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what ``find`` has opened. May be called again; a session goes on."""
        if self._finding is not None:
            self._finding[0].close()
            self._finding = None

    # Looking into it, also while a run goes on

    def find(
        self,
        numbers: Sequence[int],
        *,
        endpoint: Endpoint = "advanced",
        fresh_within: float | None = None,
        failed_since: int = ALWAYS,
    ) -> dict[int, Settlement]:
        """Return what is known of national numbers.

        ``fresh_within`` is in seconds: what is older is left out. ``failed_since`` is in microseconds since
        1970: failures before it are left out too.

        Raises:
            LedgerError: the file cannot be read.
        """
        since = ALWAYS if fresh_within is None else microseconds(self._now() - fresh_within)
        if self._finding is None:
            connection = open_reader(self.path, self._migrations)
            self._finding = connection, JournalReader(connection)
        connection, journal = self._finding
        with translate_errors(self.path), reading(connection):
            lookup = Lookup(connection, endpoint=endpoint, recent=journal.read())
            return lookup.find(numbers, since=since, failed_since=failed_since)

    def settlements(self) -> Iterator[tuple[Endpoint, Settlement]]:
        """Yield every answer, then every failure, each with its endpoint, in constant memory.

        A number may have both: an answer, and a later failure to get a newer one.

        Raises:
            LedgerError: the file cannot be read.
        """
        with (
            closing(open_reader(self.path, self._migrations)) as connection,
            closing(read_settlements(connection)) as rows,
        ):
            while True:
                with translate_errors(self.path):  # not around the yield: the caller's errors are its own
                    row = next(rows, None)
                if row is None:
                    return
                yield row

    def info(self) -> LedgerInfo:
        """Count what the ledger holds.

        Raises:
            LedgerError: the file cannot be read.
        """
        with self._reader() as connection:
            return read_info(connection, self.path)

    @property
    def calls(self) -> int:
        """Calls made in all runs; those that a killed run had leased count as made."""
        with self._reader() as connection:
            return _jobs.totals(connection).spent

    def recall(self, name: str) -> str | None:
        """Return what was kept under ``name``, or None.

        Raises:
            LedgerError: the file cannot be read.
        """
        with self._reader() as connection:
            row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Open the file for a short look at one state of it."""
        with (
            closing(open_reader(self.path, self._migrations)) as connection,
            translate_errors(self.path),
            reading(connection),
        ):
            yield connection

    # Writing

    def remember(self, name: str, value: str) -> None:
        """Keep a small thing for the next run, such as the rate that was found. Never a secret.

        Raises:
            LedgerError: the file cannot be written.
        """
        with closing(open_writer(self.path, self._migrations)) as connection, translate_errors(self.path):
            connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def purge(self, older_than: float) -> int:
        """Delete answers and failures older than so many seconds, from the disk too; return how many.

        Needs as much free space as what is left, twice, while it works.

        Raises:
            LedgerError: a run goes on, or the file cannot be written.
        """
        if not older_than >= 0:
            raise ConfigurationError(f"older_than is a number of seconds, 0 or more, not {older_than!r}")
        before = microseconds(self._now() - older_than)
        lock = RunLock(self.path)
        try:
            with closing(open_writer(self.path, self._migrations)) as connection, translate_errors(self.path):
                _journal.move_all(connection, check=True)
                connection.execute("PRAGMA secure_delete = ON")  # deleted bytes are overwritten
                deleted = connection.execute("DELETE FROM answers WHERE checked_at < ?", (before,)).rowcount
                deleted += connection.execute("DELETE FROM failures WHERE failed_at < ?", (before,)).rowcount
                connection.execute("VACUUM")
                # The log still holds the old pages until it is cut.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return deleted
        finally:
            lock.release()

    def session(
        self,
        *,
        endpoint: Endpoint = "advanced",
        fresh_within: float | None = None,
        retry_failed: bool = False,
        job: str = "",
    ) -> Session:
        """Begin a run and return its store; close that to let the next run in.

        Args:
            endpoint: What the run asks. Answers of "advanced" serve "basic" too.
            fresh_within: Seconds, counted from now: what is older is not found, and is replaced. None: any
                age will do.
            retry_failed: Whether to leave out what failed before now, so that these numbers are asked again.
            job: Whose calls the run counts: ``max_calls`` holds for each job, over all its runs.

        Raises:
            LedgerError: another run goes on (tells whose it is), or the file cannot be written.
        """
        if fresh_within is not None and not fresh_within >= 0:
            raise ConfigurationError(f"fresh_within is a number of seconds, 0 or more, not {fresh_within!r}")
        now = self._now()
        since = ALWAYS if fresh_within is None else microseconds(now - fresh_within)
        lock = RunLock(self.path)
        try:
            return Session(
                self.path,
                lock,
                migrations=self._migrations,
                endpoint=endpoint,
                job=job,
                since=since,
                # A number that fails in this run is not asked again for its second row.
                failed_since=microseconds(now) if retry_failed else since,
                now=self._now,
                on_step=self._on_step,
                reserve=self._reserve,
            )
        except BaseException:
            lock.release()
            raise
