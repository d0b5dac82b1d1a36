"""The tables of the file, their version, and the way from each earlier version to this one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from accucheck._ledger._rows import ANSWER_COLUMNS

Result = TypeVar("Result")
Migration = Callable[[sqlite3.Connection], object]

_ANSWER: Final = """
    whatsapp INTEGER NOT NULL,          -- 0 or 1
    status_update INTEGER,              -- YYYYMMDD
    business_user INTEGER,              -- 0, 1, or NULL if the vendor does not say
    avatar INTEGER,                     -- the same
    signature TEXT,
    request_id NOT NULL,                -- TEXT; the usual TID + 32 hexadecimal digits as a BLOB of 16
    checked_at INTEGER NOT NULL,        -- microseconds since 1970, UTC
    calls INTEGER NOT NULL,
    possibly_double_charged INTEGER NOT NULL,
    extra TEXT                          -- JSON: fields that the vendor's page does not name
"""

# Answers come in random order, and each would rewrite a page of `answers`: four times the work of an append. So
# they are appended to `journal`, and moved into `answers` in key order, many at a time. Of a key that is there
# twice the highest id counts. Ids never begin again: `journal_end` keeps the last one that was forgotten.
_VERSION_1: Final = (
    f"""CREATE TABLE answers (
        key INTEGER PRIMARY KEY,            -- national number << 3 | endpoint (0 advanced, 1 basic)
        {_ANSWER})""",
    f"CREATE TABLE journal (id INTEGER PRIMARY KEY, key INTEGER NOT NULL, {_ANSWER})",
    "CREATE TABLE journal_end (id INTEGER NOT NULL)",
    "INSERT INTO journal_end VALUES (0)",
    """CREATE TABLE failures (
        key INTEGER PRIMARY KEY,
        status TEXT NOT NULL,
        reason TEXT NOT NULL,
        request_id NOT NULL,
        http_status INTEGER,
        failed_at INTEGER NOT NULL,         -- microseconds since 1970, UTC
        calls INTEGER NOT NULL,
        possibly_double_charged INTEGER NOT NULL)""",
    """CREATE TABLE jobs (
        name TEXT PRIMARY KEY,
        calls_leased INTEGER NOT NULL,      -- reserved and not given back: the calls spent
        calls_settled INTEGER NOT NULL,     -- those of settled numbers; the journal's are not in it yet
        possibly_double_charged INTEGER NOT NULL,
        lost_to_kills INTEGER NOT NULL,     -- at most so many were under way when a run was killed
        unsettled_at_start INTEGER          -- leased - settled when the run began; NULL: none is running
        )""",
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    f"""CREATE VIEW known_answers AS
        SELECT {ANSWER_COLUMNS} FROM answers WHERE key NOT IN (SELECT key FROM journal)
        UNION ALL
        SELECT {ANSWER_COLUMNS} FROM journal WHERE id IN (SELECT max(id) FROM journal GROUP BY key)""",  # noqa: S608
)


def _first_version(connection: sqlite3.Connection) -> None:
    for statement in _VERSION_1:
        connection.execute(statement)


MIGRATIONS: Final[Sequence[Migration]] = (_first_version,)
"""The n-th makes version n + 1 out of version n. What was released is never changed: a new step is added."""


def in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], Result]) -> Result:
    """Run ``work`` in a transaction that writes: all of it is stored, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise
    return result


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """See one state of the file inside the block, whatever is written meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def version_of(connection: sqlite3.Connection) -> int:
    """Return the version of a file's tables; 0 if there are none."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the tables to the newest version, one transaction a step."""

    def step(inside: sqlite3.Connection) -> None:
        version = version_of(inside)
        if version < len(migrations):  # another process may have been quicker
            migrations[version](inside)
            inside.execute(f"PRAGMA user_version = {version + 1}")

    while version_of(connection) < len(migrations):
        in_transaction(connection, step)
