"""The tables of the second version, and the way to them from the first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from accucheck._models import Check
from accucheck._store._old import _version_1
from accucheck._store._old._rows import head, packed

_SLICE: Final = 4_096
"""Answers in memory at once."""

# Answers come in random order, and each would rewrite a page of `answers`. So every commit appends one row to
# `journal`, whatever the number of its answers, and they are moved into `answers` in key order, many at a time. Of a
# key that is there twice the later one counts. Ids never begin again: `journal_end` keeps the last one forgotten.
_TABLES: Final = (
    """CREATE TABLE answers (
        key INTEGER PRIMARY KEY,            -- national number << 3 | endpoint (0 advanced, 1 basic)
        checked_at INTEGER NOT NULL,        -- microseconds since 1970, UTC: in `answer` too, here for SQL
        whatsapp INTEGER NOT NULL,          -- 0 or 1, likewise
        answer BLOB NOT NULL                -- all of it: msgpack, as PackedAnswer in _rows.py
        )""",
    """CREATE TABLE journal (
        id INTEGER PRIMARY KEY,
        calls INTEGER NOT NULL,             -- of all its answers
        possibly_double_charged INTEGER NOT NULL,
        answers BLOB NOT NULL               -- msgpack: [[key, ...], [answer, ...]]
        )""",
)
_INSERT: Final = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)"


def second_version(connection: sqlite3.Connection) -> None:
    """Move the answers over, within a transaction, in flat memory and little more space than they need."""
    connection.execute("DROP VIEW known_answers")
    connection.execute("ALTER TABLE answers RENAME TO old_answers")
    connection.execute("ALTER TABLE journal RENAME TO old_journal")
    for statement in _TABLES:
        connection.execute(statement)
    _move_answers(connection)
    _move_journal(connection)
    connection.execute("DROP TABLE old_answers")
    connection.execute("DROP TABLE old_journal")


def _move_answers(connection: sqlite3.Connection) -> None:
    select = f"SELECT {_version_1.ANSWER_COLUMNS} FROM old_answers ORDER BY key LIMIT {_SLICE}"  # noqa: S608
    while rows := connection.execute(select).fetchall():
        connection.executemany(_INSERT, _renewed(rows))
        # At once, so that the new table takes the place that the old one leaves.
        connection.execute("DELETE FROM old_answers WHERE key <= ?", (rows[-1][0],))


def _move_journal(connection: sqlite3.Connection) -> None:
    rows = connection.execute(
        f"SELECT {_version_1.ANSWER_COLUMNS} FROM old_journal ORDER BY id"  # noqa: S608
    )
    while some := rows.fetchmany(_SLICE):
        connection.executemany(_INSERT, _renewed(some))
    connection.execute(
        """UPDATE jobs SET
           calls_settled = calls_settled + (SELECT coalesce(sum(calls), 0) FROM old_journal),
           possibly_double_charged = possibly_double_charged
               + (SELECT coalesce(sum(possibly_double_charged), 0) FROM old_journal)
           WHERE unsettled_at_start IS NOT NULL"""
    )
    connection.execute("UPDATE journal_end SET id = max(id, (SELECT coalesce(max(id), 0) FROM old_journal))")


def _renewed(rows: Iterable[tuple[Any, ...]]) -> Iterable[tuple[int, int, bool, bytes]]:
    for row in rows:
        settlement = _version_1.answer_settlement(row)
        assert isinstance(settlement.result, Check)
        answer = packed(settlement, settlement.result)
        yield (row[0], *head(answer), answer)
