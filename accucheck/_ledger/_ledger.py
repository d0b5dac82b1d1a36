"""The ledger: a SQLite file that keeps every answer that was paid for.

WAL and ``synchronous=FULL``: a commit is on disk when it returns (https://www.sqlite.org/pragma.html).
One run at a time writes; reading (``find``, ``info``, ``settlements``) needs no lock.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from accucheck._errors import ConfigurationError, LedgerError
from accucheck._ledger._lock import RunLock, running_on
from accucheck._ledger._rows import (
    ANSWER_COLUMNS,
    ENDPOINTS,
    FAILURE_COLUMNS,
    KEY_SHIFT,
    Endpoint,
    answer_settlement,
    failure_settlement,
    instant,
    microseconds,
)
from accucheck._ledger._store import AnswerStore, OnCommit, OnFailure
from accucheck._ledger._tables import APPLICATION_ID, MIGRATIONS, Migration, find, migrate, write
from accucheck._ledger._trouble import ledger_error, told_plainly
from accucheck._ledger._group_commit import GroupCommit
from accucheck._models import Settlement

__all__ = ["Ledger", "LedgerInfo"]

_BUSY_MILLISECONDS: Final = 5_000


def _no_step(_name: str) -> None:
    """Do nothing at a step."""


class LedgerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger holds."""

    path: str
    bytes: int
    """The size of the file and its log."""
    version: int
    answers: dict[str, int]
    """Answers by endpoint."""
    yes: int
    no: int
    failures: dict[str, int]
    """Numbers that failed and were not answered since, by status."""
    oldest: str | None
    """When the oldest answer was given, ISO 8601, UTC."""
    newest: str | None
    calls: int
    """Calls made in all runs; those leased by a run that was killed count as made."""
    possibly_double_charged: int
    """Calls whose answer was lost after they were sent."""
    perhaps_lost_in_kills: int
    """At most so many more calls were under way when a run was killed."""
    running: str | None
    """Who runs on it now."""


class Ledger:
    """A ledger file; made if it is not there, readable by its owner alone (0600).

    Args:
        path: Where it is. ``PATH-wal`` and ``PATH.lock`` appear beside it while a run goes on.
        now: Seconds since 1970.
        migrations: The steps from version to version.
        on_step: Called with ``before_commit`` and ``after_commit`` around each commit.

    Raises:
        LedgerError: It cannot be opened, is damaged, is not a ledger, or was made by a newer accucheck.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        now: Callable[[], float] = time.time,
        migrations: Sequence[Migration] = MIGRATIONS,
        on_step: Callable[[str], None] = _no_step,
    ) -> None:
        self.path = Path(path)
        self._now = now
        self._on_step = on_step
        self._lock: RunLock | None = None
        with told_plainly(self.path):
            # Created 0600 from the start; SQLite gives its log the mode of the file.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            empty = os.fstat(descriptor).st_size == 0
            os.close(descriptor)
            self._connection = self._connect()
            try:
                self._prepare(empty, migrations)
            except BaseException:
                self._connection.close()
                raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _prepare(self, empty: bool, migrations: Sequence[Migration]) -> None:
        connection = self._connection
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not empty and application != APPLICATION_ID:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables:
                raise LedgerError(
                    f"ledger {self.path}: it belongs to another program and was left as it is: give another path"
                )
        if version > len(migrations):
            raise LedgerError(
                f"ledger {self.path}: it was made by a newer accucheck (version {version}, this one knows"
                f" {len(migrations)}): pip install -U accucheck"
            )
        if version < len(migrations):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(connection, version, migrations)
        # Reads a page of each table, so that a file that was cut short is told now and not in mid-run.
        connection.execute("SELECT (SELECT max(key) FROM answers), (SELECT max(key) FROM failures)").fetchone()
        connection.execute("SELECT * FROM settings").fetchall()
        (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone() if self._is_small() else ("ok",)
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)

    def _is_small(self) -> bool:
        return self.path.stat().st_size < 64 * 1024 * 1024

    # What is known

    def find(
        self,
        numbers: Sequence[int],
        *,
        endpoint: Endpoint = "advanced",
        fresh_within: float | None = None,
        failed_since: int = 0,
    ) -> dict[int, Settlement]:
        """Return what is known of national numbers; ``fresh_within`` is in seconds. Raises LedgerError."""
        since = None if fresh_within is None else microseconds(self._now() - fresh_within)
        with told_plainly(self.path):
            return find(self._connection, numbers, endpoint, checked_since=since, failed_since=failed_since)

    def settlements(self) -> Iterator[tuple[Endpoint, Settlement]]:
        """Yield every answer and then every failure, by number, in constant memory. Raises LedgerError."""
        with told_plainly(self.path):
            for row in self._connection.execute(f"SELECT {ANSWER_COLUMNS} FROM answers ORDER BY key"):  # noqa: S608
                yield ENDPOINTS[row[0] & ((1 << KEY_SHIFT) - 1)], answer_settlement(row)
            for row in self._connection.execute(f"SELECT {FAILURE_COLUMNS} FROM failures ORDER BY key"):  # noqa: S608
                yield ENDPOINTS[row[0] & ((1 << KEY_SHIFT) - 1)], failure_settlement(row)

    def info(self) -> LedgerInfo:
        """Return what the ledger holds. Raises LedgerError."""
        with told_plainly(self.path):
            execute = self._connection.execute
            mask = (1 << KEY_SHIFT) - 1
            by_endpoint = execute(f"SELECT key & {mask}, count(*) FROM answers GROUP BY 1").fetchall()  # noqa: S608
            yes, oldest, newest, lost = execute(
                "SELECT total(whatsapp), min(checked_at), max(checked_at), total(possibly_double_charged)"
                " FROM answers"
            ).fetchone()
            failures = dict(execute("SELECT status, count(*) FROM failures GROUP BY 1 ORDER BY 1").fetchall())
            (failed_lost,) = execute("SELECT total(possibly_double_charged) FROM failures").fetchone()
            (version,) = execute("PRAGMA user_version").fetchone()
        answers = {ENDPOINTS[code]: count for code, count in by_endpoint}
        holder = running_on(self.path)
        return LedgerInfo(
            path=str(self.path),
            bytes=sum(file.stat().st_size for file in self._files() if file.exists()),
            version=version,
            answers={str(endpoint): count for endpoint, count in answers.items()},
            yes=int(yes),
            no=sum(answers.values()) - int(yes),
            failures=failures,
            oldest=None if oldest is None else instant(oldest).isoformat(),
            newest=None if newest is None else instant(newest).isoformat(),
            calls=self.calls,
            possibly_double_charged=int(lost) + int(failed_lost) + self._count("lost"),
            perhaps_lost_in_kills=self._count("killed"),
            running=None if holder is None else str(holder),
        )

    def purge(self, older_than: float) -> int:
        """Delete answers and failures older than so many seconds, from the disk too; return how many.

        Raises LedgerError, also while a run goes on.
        """
        if not older_than >= 0:
            raise ConfigurationError(f"older_than is a number of seconds, 0 or more, not {older_than!r}")
        lock = RunLock(self.path)
        try:
            with told_plainly(self.path):
                before = microseconds(self._now() - older_than)
                self._connection.execute("PRAGMA secure_delete = ON")
                deleted = 0
                for table, column in (("answers", "checked_at"), ("failures", "failed_at")):
                    statement = f"DELETE FROM {table} WHERE {column} < ?"  # noqa: S608
                    deleted += self._connection.execute(statement, (before,)).rowcount
                self._connection.execute("VACUUM")
                # The log still holds the old pages until it is cut.
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                return deleted
        finally:
            lock.release()

    # Runs

    def session(
        self,
        *,
        endpoint: Endpoint = "advanced",
        fresh_within: float | None = None,
        retry_failed: bool = False,
    ) -> AnswerStore:
        """Begin a run and return its store; ``fresh_within`` is in seconds.

        Raises LedgerError if another run goes on, telling whose it is.
        """
        if self._lock is not None:
            raise LedgerError(f"ledger {self.path}: this ledger is in use by another stream of this process")
        self._lock = RunLock(self.path)
        try:
            with told_plainly(self.path):
                # An open lease is of a run that was killed: its calls count as made, and may have been.
                open_lease = self._count("leased_open")
                if open_lease:
                    self._add("killed", open_lease)
                    self._add("leased_open", -open_lease)
                return _Session(self, endpoint, fresh_within, retry_failed)
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def calls(self) -> int:
        """Calls made in all runs."""
        return self._count("calls")

    def remember(self, name: str, value: str) -> None:
        """Keep a small thing for the next run, such as the rate that was found. Raises LedgerError."""
        with told_plainly(self.path):
            self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    def recall(self, name: str) -> str | None:
        """Return what was kept under a name, or None. Raises LedgerError."""
        with told_plainly(self.path):
            row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Let go of the file. May be called again."""
        self._release()
        with suppress(sqlite3.Error):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _files(self) -> list[Path]:
        return [self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal", "-shm")]

    def _count(self, name: str) -> int:
        return int(self.recall(name) or 0)

    def _add(self, name: str, amount: int) -> None:
        self._connection.execute(
            "INSERT INTO settings VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            (name, str(amount)),
        )


class _Session:
    """One run's ``AnswerStore`` over a ledger."""

    def __init__(
        self, ledger: Ledger, endpoint: Endpoint, fresh_within: float | None, retry_failed: bool
    ) -> None:
        self._ledger = ledger
        self._endpoint: Endpoint = endpoint
        self._fresh_within = fresh_within
        # A number that failed in this run is not asked again by its second row, whatever retry_failed says.
        self._failed_since = microseconds(ledger._now()) if retry_failed else 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_commit: OnCommit | None = None
        self._on_failure: OnFailure | None = None
        self._told = False
        self._writing = ledger._connect()
        self._writer = GroupCommit(self._commit, self._stored, self._failed)

    def start(self, on_commit: OnCommit, on_failure: OnFailure) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_commit, self._on_failure = on_commit, on_failure

    def find(self, numbers: Sequence[int]) -> dict[int, Settlement]:
        return self._ledger.find(
            numbers,
            endpoint=self._endpoint,
            fresh_within=self._fresh_within,
            failed_since=self._failed_since,
        )

    def settle(self, settlement: Settlement) -> None:
        self._writer.put(settlement)

    async def flush(self) -> None:
        error = await asyncio.to_thread(self._writer.drain)
        # The last batch was handed to the loop from the thread: it comes before what is scheduled now.
        await asyncio.sleep(0)
        if error is not None:
            raise self._told_plainly(error)

    def lease_calls(self, wanted: int, max_calls: int | None) -> int:
        ledger = self._ledger
        if max_calls is not None:
            wanted = min(wanted, max(1, max_calls // 100), max_calls - ledger.calls)
        if wanted <= 0:
            return 0
        with told_plainly(ledger.path):
            ledger._connection.execute("BEGIN IMMEDIATE")
            # The block before is used up, so what may be lost by a kill is this one alone.
            settled = ledger._count("leased_open")
            ledger._add("leased_open", wanted - settled)
            ledger._add("calls", wanted)
            ledger._connection.execute("COMMIT")
        return wanted

    def return_calls(self, unused: int, *, lost: int = 0) -> None:
        ledger = self._ledger
        with told_plainly(ledger.path):
            ledger._connection.execute("BEGIN IMMEDIATE")
            ledger._add("calls", -unused)
            ledger._add("leased_open", -ledger._count("leased_open"))
            if lost:
                ledger._add("lost", lost)
            ledger._connection.execute("COMMIT")

    async def aclose(self) -> None:
        try:
            await self.flush()
        except LedgerError as error:
            raise LedgerError(f"{error}; {self._writer.unstored} answers are not stored") from error
        finally:
            await asyncio.to_thread(self._writer.close)
            with suppress(sqlite3.Error):
                self._writing.close()
            self._ledger._release()

    # In the writer's thread

    def _commit(self, batch: Sequence[Settlement]) -> None:
        ledger, connection = self._ledger, self._writing
        ledger._on_step("before_commit")
        connection.execute("BEGIN IMMEDIATE")
        try:
            write(connection, batch, self._endpoint, microseconds(ledger._now()))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.rollback()
            raise
        ledger._on_step("after_commit")

    def _stored(self, batch: Sequence[Settlement]) -> None:
        if self._loop is not None and self._on_commit is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to tell, and it is on disk
                self._loop.call_soon_threadsafe(self._on_commit, batch)

    def _failed(self, error: Exception) -> None:
        if self._loop is not None and self._on_failure is not None and not self._told:
            self._told = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._on_failure, self._told_plainly(error))

    def _told_plainly(self, error: Exception) -> LedgerError:
        return ledger_error(self._ledger.path, error)
