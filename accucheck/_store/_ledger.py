"""Reads from a ledger and deletes from it, whether or not processes are using it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast

import msgspec

from accucheck._errors import ConfigurationError, LedgerError
from accucheck._help import with_fields
from accucheck._models import Check, Settlement
from accucheck._store import _owner, _tables
from accucheck._store._file import (
    VERSION,
    accounts_folder,
    files_of,
    open_ledger,
    open_reader,
    translate_errors,
)
from accucheck._store._packing import (
    FAILED,
    KEY_SHIFT,
    endpoint_of,
    instant,
    microseconds,
    number_of,
    settlement_of,
)
from accucheck._store._postgres import PostgresStore, is_postgres
from accucheck._store._protocol import COUNTS_MONEY, Endpoint, Query, Store
from accucheck._store._sqlite import SQLiteStore

__all__ = ["JobCalls", "Ledger", "LedgerInfo", "account_ledgers", "as_store", "ledger_info"]

_FORGOTTEN_AT_ONCE: Final = 10_000
_ANY: Final = Query()


@with_fields
class LedgerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger contains.

    Examples:
        ```python
        async with accucheck.Client(ledger="answers.db") as client:
            await client.check("987654321")
        with accucheck.Ledger("answers.db") as ledger:
            info: accucheck.LedgerInfo = ledger.info()
        print(info.yes, info.no, info.calls)
        ```
    """

    path: str
    """The file."""
    bytes: int
    """The size of the file and its log."""
    version: int
    """The version of its tables."""
    answers: dict[Endpoint, int]
    """Answers by endpoint."""
    yes: int
    """Answers that are "yes"."""
    no: int
    """Answers that are "no"."""
    failures: dict[str, int]
    """Numbers that failed and have not been answered since, by status."""
    oldest: str | None
    """When the oldest answer arrived, ISO 8601, UTC."""
    newest: str | None
    """When the newest answer arrived."""
    calls: int
    """Calls made, over all jobs and runs."""
    possibly_double_charged: int
    """Calls whose answer was lost after they were sent."""
    perhaps_lost_in_kills: int
    """The most additional calls that were in flight when a process was killed."""
    running: list[str]
    """The processes that use it now."""


@with_fields
class JobCalls(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one job, over all its processes and runs.

    Examples:
        ```python
        async with accucheck.Client(ledger="answers.db") as client:
            await client.check_many(["987654321"], job="november")
        with accucheck.Ledger("answers.db") as ledger:
            jobs: list[accucheck.JobCalls] = ledger.jobs()
        print([(job.job, job.calls) for job in jobs])
        ```
    """

    job: str
    """The name of the job."""
    calls: int
    """Calls made."""
    possibly_double_charged: int
    """Calls whose answer was lost after they were sent."""
    perhaps_lost_in_kills: int
    """The most additional calls that were in flight when a process was killed."""


class Ledger:
    """An existing ledger to read: the file at ``path``, or a ``postgresql://`` URL. It is never created.

    Every method works while other processes use the ledger, except ``purge`` and ``forget`` on a file, which overwrite
    what they delete. In PostgreSQL, deleted rows are vacuumed if the role owns the tables; copies in its write-ahead
    log and in your backups remain.

    Raises:
        LedgerError: By any method, if the ledger does not exist, cannot be read or written, is damaged, is not a
            ledger, or was created by a newer accucheck.

    Examples:
        ```python
        async with accucheck.Client(ledger="answers.db") as client:
            await client.check("987654321")
        with accucheck.Ledger("answers.db") as ledger:
            print(ledger.info().yes, ledger.find([987654321]))
            ledger.forget([987654321])  # someone asked you to
        ```
    """

    name: str
    """For messages; never with a password."""
    place: str
    """What opens it: the path, or the URL."""

    def __new__(cls, path: str | os.PathLike[str]) -> Self:
        if cls is Ledger and is_postgres(path):
            from accucheck._store._postgres_ledger import PostgresLedger

            return cast("Self", super().__new__(PostgresLedger))
        return super().__new__(cls)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.name = self.place = str(self.path)
        self._finding: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"Ledger({self.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what ``find`` opened. May be called again."""
        if self._finding is not None:
            self._finding.close()
            self._finding = None

    def find(self, numbers: Sequence[int], query: Query = _ANY) -> dict[int, Settlement]:
        """Return what is known about national numbers; by default, of any age."""
        if self._finding is None:
            self._finding = open_reader(self.path)
        with translate_errors(self.path):
            return _tables.find(self._finding, numbers, query)

    def settlements(self) -> Iterator[tuple[Endpoint, Settlement]]:
        """Yield every answer and failure with its endpoint, ordered by number, in constant memory.

        A number may have both an answer and a later failure to renew it.
        """
        with self._reader() as connection:
            with translate_errors(self.path):
                rows = connection.execute("SELECT key, packed FROM answers ORDER BY key")
            while True:
                with translate_errors(self.path):  # not around the yield: the caller's errors are its own
                    row = next(rows, None)
                    if row is None:
                        return
                    settlement = settlement_of(number_of(row[0]), row[1])
                yield endpoint_of(row[0]), settlement

    def settled_between(self, start: float, end: float) -> Iterator[tuple[Endpoint, datetime, Settlement]]:
        """Yield every answer and failure of a period, with its endpoint and when it arrived (UTC).

        Includes answers to numbers that were asked again later. ``start`` (inclusive) and ``end`` (exclusive) are
        seconds since 1970.
        """
        times = microseconds(start), microseconds(end)
        with self._reader() as connection:
            for table in ("answers", "earlier"):
                with translate_errors(self.path):
                    rows = connection.execute(
                        f"SELECT key, at, packed FROM {table} WHERE at >= ? AND at < ? ORDER BY at",  # noqa: S608
                        times,
                    )
                while True:
                    with translate_errors(self.path):
                        row = next(rows, None)
                        if row is None:
                            break
                        settlement = settlement_of(number_of(row[0]), row[2])
                    yield endpoint_of(row[0]), instant(row[1]), settlement

    def info(self) -> LedgerInfo:
        """Count what the ledger contains."""
        with self._reader() as connection, translate_errors(self.path):
            return ledger_info(
                path=str(self.path),
                size=sum(file.stat().st_size for file in files_of(self.path)[:2] if file.exists()),
                version=VERSION,
                answers=connection.execute(
                    """SELECT key & 3, whatsapp, count(*), min(at), max(at) FROM answers
                    WHERE whatsapp IS NOT NULL GROUP BY 1, 2 ORDER BY 1"""
                ),
                failures=connection.execute(
                    f"""SELECT key, packed FROM answers AS failure WHERE whatsapp IS NULL AND NOT EXISTS
                    (SELECT 1 FROM answers WHERE key = failure.key & ~{FAILED} AND at >= failure.at)"""  # noqa: S608
                ),
                jobs=self._jobs(connection),
                running=self.running(),
            )

    def jobs(self) -> list[JobCalls]:
        """Return the calls of each job, by name."""
        with self._reader() as connection, translate_errors(self.path):
            return self._jobs(connection)

    def running(self) -> list[str]:
        """Return the processes that use the ledger now, as text."""
        return [
            str(_owner.process_of(self.path, token) or "a process")
            for token in _owner.leftovers(self.path)
            if not _owner.dead(self.path, token)
        ]

    def recall(self, name: str) -> str | None:
        """Return the value stored under ``name``, or None."""
        with self._reader() as connection, translate_errors(self.path):
            row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def purge(self, older_than: float) -> int:
        """Delete answers and failures older than this many seconds, also from the disk; return how many.

        While it works, it needs free disk space of twice the size of what remains.

        Raises:
            LedgerError: also if another process uses the ledger.
        """
        if not older_than >= 0:
            raise ConfigurationError(f"older_than must be a number of seconds, 0 or more, not {older_than!r}")
        before = microseconds(time.time() - older_than)
        with self._erasing() as connection:
            connection.execute("DELETE FROM earlier WHERE at < ?", (before,))
            return connection.execute("DELETE FROM answers WHERE at < ?", (before,)).rowcount

    def forget(self, numbers: Iterable[int]) -> int:
        """Delete everything known about national numbers, also from the disk; return how many were known.

        While it works, it needs free disk space of twice the size of the ledger.

        Raises:
            LedgerError: also if another process uses the ledger.
        """
        forgotten = 0
        with self._erasing() as connection:
            remaining = iter(numbers)
            while some := [*islice(remaining, _FORGOTTEN_AT_ONCE)]:
                (known,) = connection.execute(
                    f"""SELECT count(DISTINCT n.value) FROM json_each(?) AS n CROSS JOIN answers
                    WHERE answers.key BETWEEN n.value << {KEY_SHIFT} AND n.value << {KEY_SHIFT} | 7""",  # noqa: S608
                    (json.dumps(some),),
                ).fetchone()
                forgotten += known
                for table in ("answers", "claims", "earlier"):
                    connection.execute(
                        f"""DELETE FROM {table} WHERE key IN (SELECT n.value << {KEY_SHIFT} | low.value
                        FROM json_each(?) AS n, json_each('[0,1,2,3,4,5,6,7]') AS low)""",  # noqa: S608
                        (json.dumps(some),),
                    )
        return forgotten

    @contextmanager
    def _erasing(self) -> Generator[sqlite3.Connection, None, None]:
        """Delete inside the block, and leave no trace in the file or its log."""
        with translate_errors(self.path), closing(open_ledger(self.path, create=False)) as connection:
            users = self.running()
            if users:
                raise LedgerError(
                    f"ledger {self.path}: {users[0]} is using it: wait until that process has finished"
                )
            connection.execute("PRAGMA secure_delete = ON")
            with _tables.in_transaction(connection):
                yield connection
            # Pages that were split keep copies of rows that have moved, until the file is rewritten.
            connection.execute("VACUUM")
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise LedgerError(
                    f"ledger {self.path}: another program is reading it: close it and try again"
                )

    @contextmanager
    def _reader(self) -> Generator[sqlite3.Connection, None, None]:
        """Open the file for reading one consistent state of it, even if others write."""
        with closing(open_reader(self.path)) as connection:
            with translate_errors(self.path):
                connection.execute("BEGIN")
            yield connection

    def _jobs(self, connection: sqlite3.Connection) -> list[JobCalls]:
        jobs = {
            name: [calls, double, lost]
            for name, calls, double, lost in connection.execute("SELECT * FROM jobs ORDER BY name")
            if not name.startswith(COUNTS_MONEY)
        }
        for job, token, slot, granted in connection.execute(
            "SELECT job, token, slot, granted FROM leases JOIN owners ON id = owner"
        ):
            if job.startswith(COUNTS_MONEY):
                continue
            counters = _owner.counters_of(self.path, token, slot)
            jobs.setdefault(job, [0, 0, 0])[0] += granted if counters is None else counters.made
        return [
            JobCalls(job=name, calls=calls, possibly_double_charged=double, perhaps_lost_in_kills=lost)
            for name, (calls, double, lost) in sorted(jobs.items())
        ]


def ledger_info(
    *,
    path: str,
    size: int,
    version: int,
    answers: Iterable[tuple[Any, ...]],
    failures: Iterable[tuple[Any, ...]],
    jobs: Sequence[JobCalls],
    running: list[str],
) -> LedgerInfo:
    """Sum up a ledger from rows (endpoint, verdict, count, oldest, newest) and from failures (key, packed)."""
    endpoints: Counter[Endpoint] = Counter()
    verdicts: Counter[bool] = Counter()
    times: list[int] = []
    for endpoint, whatsapp, count, oldest, newest in answers:
        endpoints[endpoint_of(endpoint)] += count
        verdicts[bool(whatsapp)] += count
        times += oldest, newest
    statuses: Counter[str] = Counter()
    for key, packed in failures:
        result = settlement_of(number_of(key), packed).result
        statuses["OK" if isinstance(result, Check) else result.status] += 1
    return LedgerInfo(
        path=path,
        bytes=size,
        version=version,
        answers=dict(endpoints),
        yes=verdicts[True],
        no=verdicts[False],
        failures=dict(sorted(statuses.items())),
        oldest=instant(min(times)).isoformat() if times else None,
        newest=instant(max(times)).isoformat() if times else None,
        calls=sum(job.calls for job in jobs),
        possibly_double_charged=sum(job.possibly_double_charged for job in jobs),
        perhaps_lost_in_kills=sum(job.perhaps_lost_in_kills for job in jobs),
        running=running,
    )


def as_store(ledger: Store | Ledger | str | os.PathLike[str]) -> Store:
    """Return the store for a path, a PostgreSQL URL or a ``Ledger``; a store is returned unchanged."""
    if isinstance(ledger, Ledger):
        ledger = ledger.place
    if isinstance(ledger, str) and is_postgres(ledger):
        return PostgresStore(ledger)
    if isinstance(ledger, str) and (scheme := re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", ledger)):
        raise ConfigurationError(f"a ledger is a path or a postgresql:// address, not {scheme[0]}…")
    if isinstance(ledger, str | os.PathLike):
        return SQLiteStore(ledger)
    return ledger


def account_ledgers() -> list[Path]:
    """Return the accounts' own ledgers in the user's data directory, by name."""
    return sorted(accounts_folder().glob("*.ledger"))
