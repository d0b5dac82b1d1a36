"""Reads from a ledger in PostgreSQL and deletes from it, as ``Ledger`` does for a file."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from accucheck._errors import ConfigurationError, LedgerError
from accucheck._models import Settlement
from accucheck._store._ledger import JobCalls, Ledger, LedgerInfo, ledger_info
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
from accucheck._store._postgres import check_server, ledger_error, psycopg_module, shown
from accucheck._store._protocol import COUNTS_MONEY, Endpoint, Query

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PostgresLedger"]

_AT_ONCE: Final = 10_000
_CONNECT_SECONDS: Final = 10
_TABLES: Final = (
    "answers",
    "earlier",
    "owners",
    "claims",
    "leases",
    "jobs",
    "settings",
    "paces",
    "callers",
    "reports",
)


class PostgresLedger(Ledger):
    """See ``Ledger``. Every method opens its own connection, except ``find``, which keeps one."""

    def __init__(self, url: str) -> None:
        self.place = url
        self.name = shown(url)
        self.path = Path(self.name)
        self._kept: Connection[Any] | None = None

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def find(self, numbers: Sequence[int], query: Query = Query()) -> dict[int, Settlement]:  # noqa: B008 (frozen)
        choice: Choice[bytes] = Choice(query)
        with self._errors():
            if self._kept is None:
                self._kept = self._connect()
                self._kept.autocommit = True
            rows: dict[int, list[tuple[int, int, bool | None, bytes]]] = {}
            for row in self._kept.execute(
                "SELECT key, at, whatsapp, packed FROM accucheck.answers WHERE key = ANY(%s)",
                ([key for number in numbers for key in choice.keys(number)],),
                binary=True,
            ):
                rows.setdefault(number_of(row[0]), []).append(row)
        best = {number: choice.best(found) for number, found in rows.items()}
        return {
            number: settlement_of(number, packed) for number, packed in best.items() if packed is not None
        }

    def settlements(self) -> Iterator[tuple[Endpoint, Settlement]]:
        for key, _, packed in self._rows("SELECT key, at, packed FROM accucheck.answers ORDER BY key", ()):
            yield endpoint_of(key), settlement_of(number_of(key), packed)

    def settled_between(self, start: float, end: float) -> Iterator[tuple[Endpoint, datetime, Settlement]]:
        times = microseconds(start), microseconds(end)
        for table in ("answers", "earlier"):
            for key, at, packed in self._rows(
                f"SELECT key, at, packed FROM accucheck.{table} WHERE at >= %s AND at < %s ORDER BY at",  # noqa: S608
                times,
            ):
                yield endpoint_of(key), instant(at), settlement_of(number_of(key), packed)

    def _rows(self, query: str, parameters: Sequence[object]) -> Iterator[tuple[int, int, bytes]]:
        """Yield the rows of a query, in constant memory."""
        with self._looking() as connection, connection.cursor(name="accucheck", binary=True) as cursor:
            with self._errors():
                cursor.execute(query.encode(), parameters)
            while True:
                with self._errors():
                    rows = cursor.fetchmany(_AT_ONCE)
                if not rows:
                    return
                yield from rows

    def info(self) -> LedgerInfo:
        with self._looking() as connection, self._errors():
            version, size = self._one(
                connection,
                "SELECT (SELECT version FROM accucheck.meta), sum(pg_total_relation_size('accucheck.' || name))"
                " FROM unnest(%s::text[]) AS name",
                ([*_TABLES],),
            )
            with connection.cursor(name="failures", binary=True) as failures:
                failures.execute(
                    """SELECT key, packed FROM accucheck.answers AS failure WHERE whatsapp IS NULL AND NOT EXISTS
                    (SELECT 1 FROM accucheck.answers WHERE key = failure.key & ~%s::bigint AND at >= failure.at)""",
                    (FAILED,),
                )
                return ledger_info(
                    path=self.name,
                    size=int(size),
                    version=version,
                    answers=connection.execute(
                        """SELECT key & 3, whatsapp, count(*), min(at), max(at) FROM accucheck.answers
                        WHERE whatsapp IS NOT NULL GROUP BY 1, 2 ORDER BY 1"""
                    ),
                    failures=failures,
                    jobs=self._jobs_in(connection),
                    running=self._running(connection),
                )

    def jobs(self) -> list[JobCalls]:
        with self._looking() as connection, self._errors():
            return self._jobs_in(connection)

    def running(self) -> list[str]:
        with self._looking() as connection, self._errors():
            return self._running(connection)

    def recall(self, name: str) -> str | None:
        with self._looking() as connection, self._errors():
            row = connection.execute(
                "SELECT value FROM accucheck.settings WHERE name = %s", (name,)
            ).fetchone()
        return None if row is None else str(row[0])

    def purge(self, older_than: float) -> int:
        if not older_than >= 0:
            raise ConfigurationError(f"older_than must be a number of seconds, 0 or more, not {older_than!r}")
        before = microseconds(time.time() - older_than)
        with self._deleting() as connection:
            connection.execute("DELETE FROM accucheck.earlier WHERE at < %s", (before,))
            return connection.execute("DELETE FROM accucheck.answers WHERE at < %s", (before,)).rowcount

    def forget(self, numbers: Iterable[int]) -> int:
        forgotten = 0
        with self._deleting() as connection:
            remaining = iter(numbers)
            while some := [*islice(remaining, _AT_ONCE)]:
                keys = [number << KEY_SHIFT | low for number in some for low in range(1 << KEY_SHIFT)]
                known = connection.execute(
                    "DELETE FROM accucheck.answers WHERE key = ANY(%s) RETURNING key", (keys,)
                ).fetchall()
                forgotten += len({number_of(key) for (key,) in known})
                connection.execute("DELETE FROM accucheck.earlier WHERE key = ANY(%s)", (keys,))
        return forgotten

    # Connections

    def _connect(self) -> Connection[Any]:
        psycopg = psycopg_module()
        connection: Connection[Any] = psycopg.connect(self.place, connect_timeout=_CONNECT_SECONDS)
        try:
            check_server(connection, self.name)
            (found,) = self._one(connection, "SELECT to_regclass('accucheck.meta') IS NOT NULL")
            if not found:
                raise LedgerError(
                    f"ledger {self.name}: it has no tables yet: create them with accucheck ledger init"
                )
            connection.rollback()
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _looking(self) -> Generator[Connection[Any], None, None]:
        """Open a connection for reading one consistent state of the tables, even if others write."""
        with self._errors():
            connection = self._connect()
        try:
            with self._errors():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _deleting(self) -> Generator[Connection[Any], None, None]:
        """Delete inside the block, then free the space of the rows as far as the role may."""
        with self._errors():
            connection = self._connect()
            try:
                with connection.transaction():
                    yield connection
                connection.commit()
                connection.autocommit = True
                for table in ("answers", "earlier"):
                    connection.execute(f"VACUUM accucheck.{table}")  # only warns a role that does not own it
            finally:
                connection.close()

    @contextmanager
    def _errors(self) -> Generator[None, None, None]:
        psycopg = psycopg_module()
        try:
            yield
        except psycopg.Error as trouble:
            raise ledger_error(self.name, trouble) from None

    # What several methods tell

    def _one(
        self, connection: Connection[Any], query: Any, parameters: Sequence[object] = ()
    ) -> tuple[Any, ...]:
        row = connection.execute(query, parameters).fetchone()
        assert row is not None
        found: tuple[Any, ...] = row
        return found

    def _jobs_in(self, connection: Connection[Any]) -> list[JobCalls]:
        rows = connection.execute(
            """SELECT name, sum(calls), sum(possibly_double_charged), sum(lost_to_kills) FROM (
                SELECT * FROM accucheck.jobs UNION ALL SELECT job, made, 0, 0 FROM accucheck.leases) AS counted
            WHERE NOT starts_with(name, %s) GROUP BY name ORDER BY name""",
            (COUNTS_MONEY,),
        ).fetchall()
        return [
            JobCalls(
                job=name,
                calls=int(calls),
                possibly_double_charged=int(double),
                perhaps_lost_in_kills=int(lost),
            )
            for name, calls, double, lost in rows
        ]

    def _running(self, connection: Connection[Any]) -> list[str]:
        rows = connection.execute(
            "SELECT id FROM accucheck.owners WHERE expires > clock_timestamp() ORDER BY id"
        ).fetchall()
        return [f"client {owner}" for (owner,) in rows]
