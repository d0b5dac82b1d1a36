"""Writing answers: appended to the journal as they come, moved into the ``answers`` table many at a time.

Numbers come in random order, so storing each in its place rewrites a page of the file for every row: 18 to
27 µs of CPU with the write-ahead log. An append costs 4; moving 100,000 rows in key order afterwards, 3 to 5.

All of a plain batch goes into one statement, a transaction of its own. Python releases the interpreter lock at
every step of a statement, and a thread that wants it back beside a busy event loop waits for milliseconds: row
by row (``executemany``) such a thread stored 300 to 1,200 rows a second, this way all that came (13,000).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from accucheck._ledger import _jobs
from accucheck._ledger._rows import (
    ANSWER_COLUMNS,
    ANSWER_WIDTH,
    FAILURE_COLUMNS,
    FAILURE_WIDTH,
    AnswerRow,
    FailureRow,
    placeholders,
)
from accucheck._ledger._schema import in_transaction
from accucheck._models import Settlement

_APPEND_WIDTHS: Final = (8, 32, 64, 128, 256, 512, 1024)
"""Rows a statement; the rest is filled with NULLs, which the statement leaves out."""
LARGEST_BATCH: Final = _APPEND_WIDTHS[-1]

_APPEND: Final = {
    width: f"INSERT OR REPLACE INTO journal (id, {ANSWER_COLUMNS}) "  # noqa: S608
    f"SELECT * FROM (VALUES {placeholders(ANSWER_WIDTH + 1, width)}) WHERE column1 IS NOT NULL"
    for width in _APPEND_WIDTHS
}
_MOVE_WIDTHS: Final = (256, 2048)
LEAST_MOVE, LARGEST_MOVE = _MOVE_WIDTHS
_MOVE: Final = {
    width: f"INSERT OR REPLACE INTO answers ({ANSWER_COLUMNS}) "  # noqa: S608
    f"SELECT {ANSWER_COLUMNS} FROM journal WHERE id IN ({','.join('?' * width)}) ORDER BY key"
    for width in _MOVE_WIDTHS
}
_NO_ROW: Final = (None,) * (ANSWER_WIDTH + 1)

OnStep = Callable[[str], None]


class Batch(msgspec.Struct, kw_only=True, eq=False):
    """Settlements that are stored together, or not at all."""

    settlements: Sequence[Settlement]
    first_id: int
    """The journal id of the first answer; the others follow."""
    answers: list[AnswerRow]
    failures: list[FailureRow]
    clears_failures: bool
    """Whether the ledger may know failures of numbers that are answered now."""
    job: str
    leases: bool = False
    """Whether to lease the job's next block of calls along with it."""
    max_calls: int | None = None
    granted: int = 0
    """What was leased."""
    stored: bool = False


def store(connection: sqlite3.Connection, batch: Batch, on_step: OnStep) -> None:
    """Store a batch durably, or raise and leave the file as it was."""
    if batch.failures or batch.clears_failures or batch.leases:

        def work(inside: sqlite3.Connection) -> None:
            if batch.answers:
                _append(inside, batch)
            if batch.failures:
                _store_failures(inside, batch.failures)
            if batch.clears_failures:
                inside.executemany("DELETE FROM failures WHERE key = ?", [row[:1] for row in batch.answers])
            if batch.leases:
                batch.granted = _jobs.lease(inside, batch.job, batch.max_calls)
            on_step("before_commit")

        in_transaction(connection, work)
    else:
        on_step("before_commit")
        _append(connection, batch)
    batch.stored = True
    on_step("after_commit")


def _append(connection: sqlite3.Connection, batch: Batch) -> None:
    values: list[object] = []
    for place, row in enumerate(batch.answers, batch.first_id):
        values.append(place)
        values += row
    width = next(width for width in _APPEND_WIDTHS if width >= len(batch.answers))
    values += _NO_ROW * (width - len(batch.answers))
    connection.execute(_APPEND[width], values)


def _store_failures(inside: sqlite3.Connection, failures: Sequence[FailureRow]) -> None:
    inside.executemany(
        f"INSERT OR REPLACE INTO failures ({FAILURE_COLUMNS}) VALUES {placeholders(FAILURE_WIDTH, 1)}",  # noqa: S608
        failures,
    )
    _jobs.credit(inside, sum(row[6] for row in failures), sum(row[7] for row in failures))


def move(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Copy some rows of the journal into ``answers``: each the newest of its key."""
    width = next(width for width in _MOVE_WIDTHS if width >= len(ids))
    connection.execute(_MOVE[width], [*ids, *[ids[0]] * (width - len(ids))])


def forget(connection: sqlite3.Connection, last_id: int) -> None:
    """Remove the journal's rows up to ``last_id``, all of which have been moved."""

    def work(inside: sqlite3.Connection) -> None:
        calls, double = inside.execute(
            """SELECT coalesce(sum(calls), 0), coalesce(sum(possibly_double_charged), 0)
               FROM journal WHERE id <= ?""",
            (last_id,),
        ).fetchone()
        _jobs.credit(inside, calls, double)
        inside.execute("DELETE FROM journal WHERE id <= ?", (last_id,))
        inside.execute("UPDATE journal_end SET id = ?", (last_id,))

    in_transaction(connection, work)


def next_id(connection: sqlite3.Connection) -> int:
    """Return the id of the next answer; the journal is empty."""
    (last,) = connection.execute("SELECT id FROM journal_end").fetchone()
    return int(last) + 1


def move_all(connection: sqlite3.Connection) -> None:
    """Empty the journal into ``answers``."""
    last: int | None = connection.execute("SELECT max(id) FROM journal").fetchone()[0]
    if last is None:
        return
    connection.execute(
        f"INSERT OR REPLACE INTO answers ({ANSWER_COLUMNS}) SELECT {ANSWER_COLUMNS} FROM journal "  # noqa: S608
        "WHERE id IN (SELECT max(id) FROM journal GROUP BY key) ORDER BY key"
    )
    forget(connection, last)
