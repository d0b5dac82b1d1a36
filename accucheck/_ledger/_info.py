"""What a ledger holds, counted."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from pathlib import Path
from typing import Final

import msgspec

from accucheck._ledger import _jobs
from accucheck._ledger._lock import running_on
from accucheck._ledger._rows import (
    ANSWER_COLUMNS,
    ENDPOINTS,
    FAILURE_COLUMNS,
    KEY_SHIFT,
    Endpoint,
    answer_settlement,
    failure_settlement,
    instant,
)
from accucheck._ledger._schema import reading, version_of
from accucheck._models import Settlement

_ENDPOINT_MASK: Final = (1 << KEY_SHIFT) - 1


class LedgerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger holds."""

    path: str
    bytes: int
    """The size of the file and its log."""
    version: int
    answers: dict[Endpoint, int]
    """Answers by endpoint."""
    yes: int
    no: int
    failures: dict[str, int]
    """Numbers that failed and were not answered since, by status."""
    oldest: str | None
    """When the oldest answer was given, ISO 8601, UTC."""
    newest: str | None
    calls: int
    """Calls made in all runs; those leased by a run that was killed count as made."""
    possibly_double_charged: int
    """Calls whose answer was lost after they were sent."""
    perhaps_lost_in_kills: int
    """At most so many more calls were under way when a run was killed."""
    running: str | None
    """Who runs on it now."""


def read_settlements(connection: sqlite3.Connection) -> Generator[tuple[Endpoint, Settlement], None, None]:
    """Yield every answer, then every failure; what is stored meanwhile is not seen."""
    with reading(connection):
        for row in connection.execute(f"SELECT {ANSWER_COLUMNS} FROM known_answers"):  # noqa: S608
            yield ENDPOINTS[row[0] & _ENDPOINT_MASK], answer_settlement(row)
        for row in connection.execute(f"SELECT {FAILURE_COLUMNS} FROM failures"):  # noqa: S608
            yield ENDPOINTS[row[0] & _ENDPOINT_MASK], failure_settlement(row)


def read_info(connection: sqlite3.Connection, path: Path) -> LedgerInfo:
    """Count within a transaction."""
    rows = connection.execute(
        f"SELECT key & {_ENDPOINT_MASK}, count(*), sum(whatsapp), min(checked_at), max(checked_at) "  # noqa: S608
        "FROM known_answers GROUP BY 1 ORDER BY 1"
    ).fetchall()
    total, yes = sum(row[1] for row in rows), sum(row[2] for row in rows)
    calls = _jobs.totals(connection)
    holder = running_on(path)
    return LedgerInfo(
        path=str(path),
        bytes=sum(
            file.stat().st_size for file in (path, path.with_name(path.name + "-wal")) if file.exists()
        ),
        version=version_of(connection),
        answers={ENDPOINTS[row[0]]: row[1] for row in rows},
        yes=yes,
        no=total - yes,
        failures=dict(
            connection.execute(
                "SELECT status, count(*) FROM failures GROUP BY status ORDER BY status"
            ).fetchall()
        ),
        oldest=instant(min(row[3] for row in rows)).isoformat() if rows else None,
        newest=instant(max(row[4] for row in rows)).isoformat() if rows else None,
        calls=calls.spent,
        possibly_double_charged=calls.possibly_double_charged,
        perhaps_lost_in_kills=calls.lost_to_kills,
        running=None if holder is None else str(holder),
    )
