"""Writing answers: appended to the journal as they come, moved into the ``answers`` table many at a time.

Numbers come in random order, so storing each in its place rewrites a page of the file for every row: 18 to 27 µs of
CPU with the write-ahead log. An append of 200 answers costs 0.9 each. Moving a hundred thousand afterwards, in key
order, costs 1.6 each into a small table; in one of millions nearly every row again meets a page of its own: 6 with one
million rows there, 15 with ten.

A plain batch is one row and one statement, a transaction of its own. Python releases the interpreter lock at
every step of a statement, and a thread that wants it back beside a busy event loop waits for milliseconds: row
by row (``executemany``) such a thread stored 300 to 1,200 rows a second, this way all that came (13,000).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, TypeVar

import msgspec

from accucheck._models import Settlement
from accucheck._store._old import _jobs
from accucheck._store._old._rows import (
    FAILURE_COLUMNS,
    FAILURE_WIDTH,
    FailureRow,
    head,
    placeholders,
    unpacked,
)
from accucheck._store._old._schema import in_transaction

LARGEST_BATCH: Final = 4_096
"""Answers a row of the journal: what is read at once after a kill."""

_APPEND: Final = "INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?)"
_WIDTHS: Final = (512, 32, 1)
"""Rows a statement. Few widths, so that each statement is prepared once."""
_MOVE: Final = {
    width: f"INSERT OR REPLACE INTO answers VALUES {placeholders(4, width)}"  # noqa: S608
    for width in _WIDTHS
}
_FAIL: Final = {
    width: f"INSERT OR REPLACE INTO failures ({FAILURE_COLUMNS}) "  # noqa: S608
    f"VALUES {placeholders(FAILURE_WIDTH, width)}"
    for width in _WIDTHS
}
_CLEAR: Final = "DELETE FROM failures WHERE key IN (SELECT value FROM json_each(?))"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[list[int], list[bytes]]).decode

Row = TypeVar("Row")
OnStep = Callable[[str], None]


class Batch(msgspec.Struct, kw_only=True, eq=False):
    """Settlements that are stored together, or not at all."""

    settlements: Sequence[Settlement]
    id: int
    """The journal's row, if there are answers."""
    keys: list[int]
    answers: list[bytes]
    """The packed answers of the ``keys``."""
    calls: int
    """The calls of the answers."""
    possibly_double_charged: int
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
    row = (
        batch.id,
        batch.calls,
        batch.possibly_double_charged,
        _encode((batch.keys, batch.answers)),
    )
    if batch.failures or batch.clears_failures or batch.leases:

        def work(inside: sqlite3.Connection) -> None:
            if batch.answers:
                inside.execute(_APPEND, row)
            if batch.failures:
                _store_failures(inside, batch.failures)
            if batch.clears_failures:
                inside.execute(_CLEAR, (str(batch.keys),))
            if batch.leases:
                batch.granted = _jobs.lease(inside, batch.job, batch.max_calls)
            on_step("before_commit")

        in_transaction(connection, work)
    else:
        on_step("before_commit")
        connection.execute(_APPEND, row)
    batch.stored = True
    on_step("after_commit")


def _store_failures(inside: sqlite3.Connection, failures: Sequence[FailureRow]) -> None:
    for some in _slices(failures):
        inside.execute(_FAIL[len(some)], [*chain.from_iterable(some)])
    _jobs.credit(inside, sum(row[6] for row in failures), sum(row[7] for row in failures))


def read(connection: sqlite3.Connection, after: int = 0) -> Iterator[tuple[int, Iterable[tuple[int, bytes]]]]:
    """Yield each row's id, and its keys with their answers, from the one that follows ``after``.

    Raises:
        msgspec.MsgspecError: what a row holds cannot be read.
    """
    for row_id, answers in connection.execute(
        "SELECT id, answers FROM journal WHERE id > ? ORDER BY id", (after,)
    ):
        if not isinstance(answers, bytes):
            raise msgspec.ValidationError(f"bytes are expected, not {type(answers).__name__}")
        keys, stored = _decode(answers)
        if len(keys) != len(stored):
            raise msgspec.ValidationError(f"{len(keys)} keys for {len(stored)} answers")
        yield row_id, zip(keys, stored, strict=True)


def read_all(connection: sqlite3.Connection) -> dict[int, bytes]:
    """Return the newest answer of every key in the journal.

    Raises:
        msgspec.MsgspecError: what a row holds cannot be read.
    """
    newest: dict[int, bytes] = {}
    for _, answers in read(connection):
        newest.update(answers)
    return newest


def move(connection: sqlite3.Connection, answers: Sequence[tuple[int, bytes]]) -> None:
    """Copy packed answers into the table, sorted by key."""
    for some in _slices(answers):
        values: list[object] = []
        for key, answer in some:
            checked_at, whatsapp = head(answer)
            values += key, checked_at, whatsapp, answer
        connection.execute(_MOVE[len(some)], values)


def _slices(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Cut rows into as many as a statement takes."""
    start, end = 0, len(rows)
    while start < end:
        width = next(width for width in _WIDTHS if width <= end - start)
        yield rows[start : start + width]
        start += width


def forget(connection: sqlite3.Connection, last_id: int) -> None:
    """Remove the journal's rows up to ``last_id``, all of which have been moved."""

    def work(inside: sqlite3.Connection) -> None:
        _forget(inside, last_id)

    in_transaction(connection, work)


def _forget(inside: sqlite3.Connection, last_id: int) -> None:
    calls, double = inside.execute(
        """SELECT coalesce(sum(calls), 0), coalesce(sum(possibly_double_charged), 0)
           FROM journal WHERE id <= ?""",
        (last_id,),
    ).fetchone()
    _jobs.credit(inside, calls, double)
    inside.execute("DELETE FROM journal WHERE id <= ?", (last_id,))
    inside.execute("UPDATE journal_end SET id = ?", (last_id,))


def next_id(connection: sqlite3.Connection) -> int:
    """Return the id of the journal's next row; the journal is empty."""
    (last,) = connection.execute("SELECT id FROM journal_end").fetchone()
    return int(last) + 1


def move_all(connection: sqlite3.Connection, *, check: bool) -> None:
    """Empty the journal into ``answers``; ``check`` every answer first, if another run has written it.

    Raises:
        msgspec.MsgspecError: what a row holds cannot be read; nothing was moved.
    """
    last: int | None = connection.execute("SELECT max(id) FROM journal").fetchone()[0]
    if last is None:
        return
    newest = read_all(connection)
    if check:
        for key, answer in newest.items():
            unpacked(key, answer)

    def work(inside: sqlite3.Connection) -> None:
        move(inside, [(key, newest[key]) for key in sorted(newest)])
        _forget(inside, last)

    in_transaction(connection, work)
