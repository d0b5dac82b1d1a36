"""The version of a file's tables, the steps from each to the next, and transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from accucheck._store._old._version_1 import first_version
from accucheck._store._old._version_2 import second_version

Result = TypeVar("Result")
Migration = Callable[[sqlite3.Connection], object]

MIGRATIONS: Final[Sequence[Migration]] = (first_version, second_version)
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
