"""What a ledger holds, counted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator
from itertools import chain
from pathlib import Path

import msgspec

from accucheck._models import Settlement
from accucheck._store._old import _jobs, _journal
from accucheck._store._old._lock import running_on
from accucheck._store._old._rows import (
    ENDPOINT_MASK,
    ENDPOINTS,
    FAILURE_COLUMNS,
    KEY_SHIFT,
    Endpoint,
    failure_settlement,
    head,
    instant,
    unpacked,
)
from accucheck._store._old._schema import reading, version_of


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
        recent = _journal.read_all(connection)
        for key, answer in chain(
            connection.execute("SELECT key, answer FROM answers"), sorted(recent.items())
        ):
            if answer is recent.get(key, answer):  # else there is a newer one in the journal
                yield ENDPOINTS[key & ENDPOINT_MASK], unpacked(key >> KEY_SHIFT, answer)
        for row in connection.execute(f"SELECT {FAILURE_COLUMNS} FROM failures"):  # noqa: S608
            yield ENDPOINTS[row[0] & ENDPOINT_MASK], failure_settlement(row)


class _Count(msgspec.Struct):
    """The answers of one endpoint, counted."""

    answers: int
    yes: int
    oldest: int
    newest: int

    def add(self, checked_at: int, whatsapp: bool) -> None:
        self.answers += 1
        self.yes += whatsapp
        self.oldest = min(self.oldest, checked_at)
        self.newest = max(self.newest, checked_at)


def _count(connection: sqlite3.Connection) -> dict[Endpoint, _Count]:
    """Count the answers of the table that the journal does not replace, and those of the journal."""
    recent = _journal.read_all(connection)
    counts = {
        code: _Count(*figures)
        for code, *figures in connection.execute(
            f"""SELECT key & {ENDPOINT_MASK}, count(*), sum(whatsapp), min(checked_at), max(checked_at)
            FROM answers WHERE key NOT IN (SELECT value FROM json_each(?)) GROUP BY 1""",  # noqa: S608
            (json.dumps(list(recent)),),
        )
    }
    for key, answer in recent.items():
        checked_at, whatsapp = head(answer)
        count = counts.setdefault(key & ENDPOINT_MASK, _Count(0, 0, checked_at, checked_at))
        count.add(checked_at, whatsapp)
    return {ENDPOINTS[code]: counts[code] for code in sorted(counts)}


def read_info(connection: sqlite3.Connection, path: Path) -> LedgerInfo:
    """Count within a transaction."""
    counts = _count(connection)
    total = sum(count.answers for count in counts.values())
    yes = sum(count.yes for count in counts.values())
    calls = _jobs.totals(connection)
    holder = running_on(path)
    return LedgerInfo(
        path=str(path),
        bytes=sum(
            file.stat().st_size for file in (path, path.with_name(path.name + "-wal")) if file.exists()
        ),
        version=version_of(connection),
        answers={endpoint: count.answers for endpoint, count in counts.items()},
        yes=yes,
        no=total - yes,
        failures=dict(
            connection.execute(
                "SELECT status, count(*) FROM failures GROUP BY status ORDER BY status"
            ).fetchall()
        ),
        oldest=instant(min(count.oldest for count in counts.values())).isoformat() if counts else None,
        newest=instant(max(count.newest for count in counts.values())).isoformat() if counts else None,
        calls=calls.spent,
        possibly_double_charged=calls.possibly_double_charged,
        perhaps_lost_in_kills=calls.lost_to_kills,
        running=None if holder is None else str(holder),
    )
