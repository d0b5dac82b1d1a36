"""The tables, and every statement that reads or writes answers and failures."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from accucheck._ledger._rows import (
    ANSWER_COLUMNS,
    ANSWER_WIDTH,
    ENDPOINT_CODES,
    FAILURE_COLUMNS,
    FAILURE_WIDTH,
    KEY_SHIFT,
    Endpoint,
    answer_row,
    answer_settlement,
    failure_row,
    failure_settlement,
)
from accucheck._models import Check, Settlement

__all__ = ["APPLICATION_ID", "MIGRATIONS", "VERSION", "find", "migrate", "write"]

APPLICATION_ID: Final = 0x41434355
"""``ACCU``: tells a ledger from any other SQLite file."""

Migration = Callable[[sqlite3.Connection], object]

_VERSION_1: Final = (
    """
    CREATE TABLE answers (
        key INTEGER PRIMARY KEY,
        whatsapp INTEGER NOT NULL,
        status_update INTEGER,
        business_user INTEGER,
        avatar INTEGER,
        signature TEXT,
        request_id BLOB NOT NULL,
        checked_at INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        possibly_double_charged INTEGER NOT NULL,
        extra TEXT
    )
    """,
    """
    CREATE TABLE failures (
        key INTEGER PRIMARY KEY,
        status TEXT NOT NULL,
        reason TEXT NOT NULL,
        request_id BLOB NOT NULL,
        http_status INTEGER,
        failed_at INTEGER NOT NULL,
        calls INTEGER NOT NULL,
        possibly_double_charged INTEGER NOT NULL
    )
    """,
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
)


def _version_1(connection: sqlite3.Connection) -> None:
    for statement in _VERSION_1:
        connection.execute(statement)


MIGRATIONS: Final[Sequence[Migration]] = (_version_1,)
"""The step at place n takes a file from version n to version n + 1."""
VERSION: Final = len(MIGRATIONS)

_PER_SELECT: Final = 256
_MARKS: Final = ",".join("?" * _PER_SELECT)
_SELECT_ANSWERS: Final = f"SELECT {ANSWER_COLUMNS} FROM answers WHERE key IN ({_MARKS})"  # noqa: S608
_SELECT_FAILURES: Final = f"SELECT {FAILURE_COLUMNS} FROM failures WHERE failed_at >= ? AND key IN ({_MARKS})"  # noqa: S608
_INSERT_ANSWER: Final = f"INSERT OR REPLACE INTO answers VALUES ({','.join('?' * ANSWER_WIDTH)})"  # noqa: S608
_INSERT_FAILURE: Final = f"INSERT OR REPLACE INTO failures VALUES ({','.join('?' * FAILURE_WIDTH)})"  # noqa: S608
_CHECKED_AT: Final = ANSWER_COLUMNS.split(", ").index("checked_at")


def migrate(connection: sqlite3.Connection, version: int, steps: Sequence[Migration] = MIGRATIONS) -> None:
    """Take the tables from ``version`` to the newest, each step in a transaction of its own."""
    for number, step in enumerate(steps[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            step(connection)
            connection.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def write(
    connection: sqlite3.Connection, settlements: Iterable[Settlement], endpoint: Endpoint, failed_at: int
) -> None:
    """Write settlements; an answer takes its failure away. The caller commits."""
    code = ENDPOINT_CODES[endpoint]
    answers, failures = [], []
    for settlement in settlements:
        result = settlement.result
        if isinstance(result, Check):
            answers.append(answer_row(code, settlement, result))
        else:
            failures.append(failure_row(code, settlement, result, failed_at))
    if failures:
        connection.executemany(_INSERT_FAILURE, failures)
    if answers:
        connection.executemany(_INSERT_ANSWER, answers)
        connection.executemany("DELETE FROM failures WHERE key = ?", [row[:1] for row in answers])


def find(
    connection: sqlite3.Connection,
    numbers: Sequence[int],
    endpoint: Endpoint,
    *,
    checked_since: int | None = None,
    failed_since: int = 0,
) -> dict[int, Settlement]:
    """Return what is known of ``numbers``: answers checked, and failures met, no earlier than given.

    An answer of the advanced endpoint holds all that the basic one tells, so it answers for that too.
    Times are microseconds since 1970.
    """
    found: dict[int, Settlement] = {}
    for start in range(0, len(numbers), _PER_SELECT):
        _find_some(
            connection, numbers[start : start + _PER_SELECT], endpoint, checked_since, failed_since, found
        )
    return found


def _find_some(
    connection: sqlite3.Connection,
    numbers: Sequence[int],
    endpoint: Endpoint,
    checked_since: int | None,
    failed_since: int,
    found: dict[int, Settlement],
) -> None:
    padding = [-1] * (
        _PER_SELECT - len(numbers)
    )  # one statement for every count, so that it is prepared once
    own = ENDPOINT_CODES[endpoint]
    richer = ENDPOINT_CODES["advanced"]
    for code in dict.fromkeys((own, richer)):
        missing = [number for number in numbers if number not in found] if found else numbers
        keys = [number << KEY_SHIFT | code for number in missing]
        keys += [-1] * (_PER_SELECT - len(keys))
        for row in connection.execute(_SELECT_ANSWERS, keys):
            if checked_since is None or row[_CHECKED_AT] >= checked_since:
                found[row[0] >> KEY_SHIFT] = answer_settlement(row)
    if len(found) < len(numbers) or any(number not in found for number in numbers):
        keys = [number << KEY_SHIFT | own for number in numbers]
        for row in connection.execute(_SELECT_FAILURES, [failed_since, *keys, *padding]):
            found.setdefault(row[0] >> KEY_SHIFT, failure_settlement(row))
