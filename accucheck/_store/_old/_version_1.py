"""The tables of the first version, as every file of its time was made. Released: never changed."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from accucheck._models import Check, Settlement

ANSWER_COLUMNS: Final = (
    "key, whatsapp, status_update, business_user, avatar, signature, request_id, checked_at, calls, "
    "possibly_double_charged, extra"
)
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
_STATEMENTS: Final = (
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

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FLAGS: Final[dict[int | None, bool | None]] = {None: None, 0: False, 1: True}


def first_version(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file."""
    for statement in _STATEMENTS:
        connection.execute(statement)


def answer_settlement(row: tuple[Any, ...]) -> Settlement:
    """Return the settlement of a row with ``ANSWER_COLUMNS``."""
    key, whatsapp, day, business_user, avatar, signature, request_id, checked_at, calls, lost, extra = row
    number = key >> 3
    check = Check(
        number=f"+51{number}",
        whatsapp=whatsapp == 1,
        status_update=None if day is None else date(day // 10_000, day // 100 % 100, day % 100),
        signature=signature,
        business_user=_FLAGS[business_user],
        avatar=_FLAGS[avatar],
        request_id=request_id if isinstance(request_id, str) else "TID" + request_id.hex(),
        checked_at=_EPOCH + timedelta(0, 0, checked_at),
        extra={} if extra is None else json.loads(extra),
    )
    return Settlement(number, check, calls, lost)
