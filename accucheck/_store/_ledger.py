"""Reads from a ledger and deletes from it, whether or not processes are using it."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast

import msgspec

from accucheck._errors import ConfigurationError, LedgerError
from accucheck._help import with_fields
from accucheck._models import Check, Settlement
from accucheck._store import _owner, _postgres, _tables
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
    Choice,
    endpoint_of,
    instant,
    microseconds,
    number_of,
    settlement_of,
)
from accucheck._store._protocol import COUNTS_MONEY, Endpoint, Query, Store
from accucheck._store._sqlite import SQLiteStore

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["JobCalls", "Ledger", "LedgerInfo", "account_ledgers", "as_store"]

_AT_ONCE: Final = 1_000
"""Rows, or numbers, each of which takes eight parameters of a statement; both databases allow over 30,000."""
_CONNECT_SECONDS: Final = 10
_SCHEMA_PATH: Final = "SET LOCAL search_path = accucheck"


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
        remote = cls is Ledger and _postgres.is_postgres(path)
        return super().__new__(cast("type[Self]", _PostgresLedger) if remote else cls)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.name = self.place = str(self.path)
        self._finding: Any = None

    def __repr__(self) -> str:
        return f"Ledger({self.name!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what ``find`` opened. May be called again."""
        if self._finding is not None:
            self._finding.close()
            self._finding = None

    def find(self, numbers: Sequence[int], query: Query = Query()) -> dict[int, Settlement]:
        """Return what is known about national numbers; by default, of any age."""
        with self._errors():
            if self._finding is None:
                self._finding = self._open_finder()
            return self._find(numbers, query)

    def settlements(self) -> Iterator[tuple[Endpoint, Settlement]]:
        """Yield every answer and failure with its endpoint, ordered by number, in constant memory.

        A number may have both an answer and a later failure to renew it.
        """
        for endpoint, _, settlement in self._all("SELECT key, at, packed FROM answers ORDER BY key"):
            yield endpoint, settlement

    def settled_between(self, start: float, end: float) -> Iterator[tuple[Endpoint, datetime, Settlement]]:
        """Yield every answer and failure of a period, with its endpoint and when it arrived (UTC), oldest first.

        Includes answers to numbers that were asked again later. ``start`` (inclusive) and ``end`` (exclusive) are
        seconds since 1970.
        """
        return self._all(
            """SELECT key, at, packed FROM
            (SELECT key, at, packed FROM answers UNION ALL SELECT key, at, packed FROM earlier) AS every
            WHERE at >= ? AND at < ? ORDER BY at""",
            (microseconds(start), microseconds(end)),
        )

    def _all(
        self, query: str, parameters: Sequence[int] = ()
    ) -> Iterator[tuple[Endpoint, datetime, Settlement]]:
        """Yield what a query for key, at and packed returns."""
        with self._reader() as connection, closing(self._rows(connection, query, parameters)) as rows:
            while True:
                with self._errors():  # not around the yield: the caller's errors are its own
                    row = next(rows, None)
                    if row is None:
                        return
                    settlement = settlement_of(number_of(row[0]), row[2])
                yield endpoint_of(row[0]), instant(row[1]), settlement

    def info(self) -> LedgerInfo:
        """Count what the ledger contains."""
        answers: Counter[Endpoint] = Counter()
        verdicts: Counter[bool] = Counter()
        failures: Counter[str] = Counter()
        times: list[int] = []
        with self._reader() as connection, self._errors():
            for endpoint, whatsapp, count, oldest, newest in self._run(
                connection,
                """SELECT key & 3, whatsapp, count(*), min(at), max(at) FROM answers
                WHERE whatsapp IS NOT NULL GROUP BY 1, 2 ORDER BY 1""",
            ):
                answers[endpoint_of(endpoint)] += count
                verdicts[bool(whatsapp)] += count
                times += oldest, newest
            for key, packed in self._rows(
                connection,
                f"""SELECT key, packed FROM answers AS failure WHERE whatsapp IS NULL AND NOT EXISTS
                (SELECT 1 FROM answers WHERE key = failure.key & ~{FAILED} AND at >= failure.at)""",  # noqa: S608
            ):
                result = settlement_of(number_of(key), packed).result
                failures["OK" if isinstance(result, Check) else result.status] += 1
            size = self._size(connection)
        jobs = self.jobs()
        return LedgerInfo(
            path=self.name,
            bytes=size,
            version=VERSION,
            answers=dict(answers),
            yes=verdicts[True],
            no=verdicts[False],
            failures=dict(sorted(failures.items())),
            oldest=instant(min(times)).isoformat() if times else None,
            newest=instant(max(times)).isoformat() if times else None,
            calls=sum(job.calls for job in jobs),
            possibly_double_charged=sum(job.possibly_double_charged for job in jobs),
            perhaps_lost_in_kills=sum(job.perhaps_lost_in_kills for job in jobs),
            running=self.running(),
        )

    def jobs(self) -> list[JobCalls]:
        """Return the calls of each job, by name."""
        with self._reader() as connection, self._errors():
            jobs = {name: [*counts] for name, *counts in self._run(connection, "SELECT * FROM jobs")}
            for job, made in self._under_way(connection):
                jobs.setdefault(job, [0, 0, 0])[0] += made
        return [
            JobCalls(job=name, calls=calls, possibly_double_charged=double, perhaps_lost_in_kills=lost)
            for name, (calls, double, lost) in sorted(jobs.items())
            if not name.startswith(COUNTS_MONEY)
        ]

    def running(self) -> list[str]:
        """Return the processes that use the ledger now, as text."""
        return _owner.users(self.path)

    def recall(self, name: str) -> str | None:
        """Return the value stored under ``name``, or None."""
        with self._reader() as connection, self._errors():
            row = self._run(connection, "SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
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
        with self._errors(), self._erasing() as connection:
            self._run(connection, "DELETE FROM earlier WHERE at < ?", (before,))
            deleted: int = self._run(connection, "DELETE FROM answers WHERE at < ?", (before,)).rowcount
        return deleted

    def forget(self, numbers: Iterable[int]) -> int:
        """Delete everything known about national numbers, also from the disk; return how many were known.

        While it works, it needs free disk space of twice the size of the ledger.

        Raises:
            LedgerError: also if another process uses the ledger.
        """
        forgotten = 0
        remaining = iter(numbers)
        with self._errors(), self._erasing() as connection:
            while some := [*islice(remaining, _AT_ONCE)]:
                keys = [number << KEY_SHIFT | low for number in some for low in range(1 << KEY_SHIFT)]
                among = f"key IN ({','.join('?' * len(keys))})"
                forgotten += self._run(
                    connection,
                    f"SELECT count(DISTINCT key >> {KEY_SHIFT}) FROM answers WHERE {among}",  # noqa: S608
                    keys,
                ).fetchone()[0]
                for rows in ("answers WHERE", "earlier WHERE", self._left_claims):
                    self._run(connection, f"DELETE FROM {rows} {among}", keys)  # noqa: S608
        return forgotten

    # What differs between the databases

    _left_claims = "claims WHERE"
    """Which claims nobody holds any more."""

    @contextmanager
    def _errors(self) -> Generator[None, None, None]:
        """Raise errors of the database and unreadable answers as LedgerError."""
        with translate_errors(self.path):
            yield

    def _open_finder(self) -> Any:
        return open_reader(self.path)

    def _find(self, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
        return _tables.find(self._finding, numbers, query)

    @contextmanager
    def _reader(self) -> Generator[Any, None, None]:
        """Open a connection for reading one consistent state, even if others write."""
        with closing(open_reader(self.path)) as connection:
            with self._errors():
                connection.execute("BEGIN")
            yield connection

    @contextmanager
    def _erasing(self) -> Generator[Any, None, None]:
        """Delete inside the block, and leave no trace in the file or its log."""
        with closing(open_ledger(self.path, create=False)) as connection:
            if users := self.running():
                reason = f"{users[0]} is using it: wait until that process has finished"
                raise LedgerError(f"ledger {self.path}: {reason}")
            connection.execute("PRAGMA secure_delete = ON")
            with _tables.in_transaction(connection):
                yield connection
            # Pages that were split keep copies of rows that have moved, until the file is rewritten.
            connection.execute("VACUUM")
            if connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise LedgerError(
                    f"ledger {self.path}: another program is reading it: close it and try again"
                )

    def _run(self, connection: Any, query: str, parameters: Sequence[object] = ()) -> Any:
        """Return a cursor on the few rows of a query, in which ``?`` stands for a parameter."""
        return connection.execute(query, parameters)

    def _rows(
        self, connection: Any, query: str, parameters: Sequence[object] = ()
    ) -> Generator[tuple[Any, ...], None, None]:
        """Yield any number of rows, in constant memory."""
        yield from self._run(connection, query, parameters)

    def _size(self, _connection: Any) -> int:
        return sum(file.stat().st_size for file in files_of(self.path)[:2] if file.exists())

    def _under_way(self, connection: Any) -> Iterator[tuple[str, int]]:
        """Yield the job and the calls made of each lease that has not ended."""
        for job, token, slot, granted in connection.execute(
            "SELECT job, token, slot, granted FROM leases JOIN owners ON id = owner"
        ):
            counters = _owner.counters_of(self.path, token, slot)
            yield job, granted if counters is None else counters.made


class _PostgresLedger(Ledger):
    """A ledger in PostgreSQL. Every method opens its own connection, except ``find``, which keeps one."""

    _left_claims = "claims WHERE owner < 0 AND"

    def __init__(self, url: str) -> None:
        self.place = url
        self.name = _postgres.shown(url)
        self.path = Path(self.name)
        self._finding = None

    def running(self) -> list[str]:
        with self._reader() as connection, self._errors():
            rows = connection.execute("SELECT id FROM owners WHERE expires > clock_timestamp() ORDER BY id")
            return [f"client {owner}" for (owner,) in rows]

    @contextmanager
    def _errors(self) -> Generator[None, None, None]:
        try:
            yield
        except (_postgres.psycopg_module().Error, msgspec.MsgspecError) as trouble:
            raise _postgres.ledger_error(self.name, trouble) from None

    def _open_finder(self) -> Any:
        connection = self._connect()
        connection.autocommit = True
        return connection

    def _find(self, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
        choice: Choice[bytes] = Choice(query)
        return choice.known(self._finding.execute(_postgres.FIND, (choice.all_keys(numbers),), binary=True))

    @contextmanager
    def _reader(self) -> Generator[Any, None, None]:
        with self._errors():
            connection = self._connect()
        try:
            with self._errors():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                connection.execute(_SCHEMA_PATH)
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _erasing(self) -> Generator[Any, None, None]:
        """Delete inside the block, then free the space of the rows as far as the role may."""
        with closing(self._connect()) as connection:
            with connection.transaction():
                connection.execute(_SCHEMA_PATH)
                yield connection
            connection.commit()
            connection.autocommit = True
            for table in ("answers", "earlier"):
                connection.execute(f"VACUUM accucheck.{table}")  # only warns a role that does not own it

    def _connect(self) -> Connection[Any]:
        connection: Connection[Any] = _postgres.psycopg_module().connect(
            self.place, connect_timeout=_CONNECT_SECONDS
        )
        try:
            _postgres.check_server(connection, self.name)
            _postgres.check_version(connection.execute(_postgres.VERSION_QUERY).fetchone(), self.name)
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        return connection

    def _run(self, connection: Any, query: str, parameters: Sequence[object] = ()) -> Any:
        return connection.execute(query.replace("?", "%s"), parameters)

    def _rows(
        self, connection: Any, query: str, parameters: Sequence[object] = ()
    ) -> Generator[tuple[Any, ...], None, None]:
        with connection.cursor(name="accucheck", binary=True) as cursor:
            cursor.itersize = _AT_ONCE
            yield from cursor.execute(query.replace("?", "%s"), parameters)

    def _size(self, connection: Any) -> int:
        (size,) = connection.execute(
            """SELECT sum(pg_total_relation_size(oid)) FROM pg_class
            WHERE relnamespace = 'accucheck'::regnamespace AND relkind = 'r'"""
        ).fetchone()
        return int(size)

    def _under_way(self, connection: Any) -> Iterator[tuple[str, int]]:
        yield from connection.execute("SELECT job, made FROM leases")


def as_store(ledger: Store | Ledger | str | os.PathLike[str]) -> Store:
    """Return the store for a path, a PostgreSQL URL or a ``Ledger``; a store is returned unchanged."""
    if isinstance(ledger, Ledger):
        ledger = ledger.place
    if isinstance(ledger, str) and _postgres.is_postgres(ledger):
        return _postgres.PostgresStore(ledger)
    if isinstance(ledger, str) and (scheme := re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", ledger)):
        raise ConfigurationError(f"a ledger is a path or a postgresql:// address, not {scheme[0]}…")
    if isinstance(ledger, str | os.PathLike):
        return SQLiteStore(ledger)
    return ledger


def account_ledgers() -> list[Path]:
    """Return the accounts' own ledgers in the user's data directory, by name."""
    return sorted(accounts_folder().glob("*.ledger"))
