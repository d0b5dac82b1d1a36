"""The calls of each job: reserved before they are made, so that a budget holds whatever happens.

A job is one list being worked off, over as many runs as it takes. Calls are leased in blocks: a write a block,
not one a call. What a killed run had leased and not used counts as spent.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from accucheck._store._old._schema import in_transaction

_LARGEST_BLOCK: Final = 256
_BLOCKS_IN_BUDGET: Final = 200
"""A run holds two blocks at most, so a kill costs at most 1 % of ``max_calls`` (or two calls)."""


class CallTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of a ledger, over all its jobs."""

    spent: int
    possibly_double_charged: int
    lost_to_kills: int


def block_size(max_calls: int | None) -> int:
    """Return how many calls are leased at once."""
    if max_calls is None:
        return _LARGEST_BLOCK
    return max(1, min(_LARGEST_BLOCK, max_calls // _BLOCKS_IN_BUDGET))


def begin(connection: sqlite3.Connection, job: str) -> None:
    """Mark the job as running; note what the last run may have lost if it was killed. The journal is empty."""

    def work(inside: sqlite3.Connection) -> None:
        inside.execute(
            """UPDATE jobs SET unsettled_at_start = NULL, lost_to_kills = lost_to_kills
               + max(0, calls_leased - calls_settled - unsettled_at_start)
               WHERE unsettled_at_start IS NOT NULL"""
        )
        inside.execute("INSERT OR IGNORE INTO jobs VALUES (?, 0, 0, 0, 0, NULL)", (job,))
        inside.execute(
            "UPDATE jobs SET unsettled_at_start = calls_leased - calls_settled WHERE name = ?", (job,)
        )

    in_transaction(connection, work)


def lease(inside: sqlite3.Connection, job: str, max_calls: int | None) -> int:
    """Lease a block within a transaction; return its size, 0 if the budget is used up."""
    spent: int = inside.execute("SELECT calls_leased FROM jobs WHERE name = ?", (job,)).fetchone()[0]
    block = block_size(max_calls)
    granted = block if max_calls is None else max(0, min(block, max_calls - spent))
    if granted:
        inside.execute("UPDATE jobs SET calls_leased = calls_leased + ? WHERE name = ?", (granted, job))
    return granted


def credit(inside: sqlite3.Connection, calls: int, possibly_double_charged: int) -> None:
    """Count the calls of settled numbers for the job that is running, within a transaction."""
    inside.execute(
        """UPDATE jobs SET calls_settled = calls_settled + ?,
           possibly_double_charged = possibly_double_charged + ? WHERE unsettled_at_start IS NOT NULL""",
        (calls, possibly_double_charged),
    )


def finish(connection: sqlite3.Connection, job: str, unused: int, lost: int) -> None:
    """Mark the job as not running, and give back the calls that were leased and not made."""
    connection.execute(
        """UPDATE jobs SET unsettled_at_start = NULL, calls_leased = max(0, calls_leased - ?),
           possibly_double_charged = possibly_double_charged + ? WHERE name = ?""",
        (unused, lost, job),
    )


def totals(connection: sqlite3.Connection) -> CallTotals:
    """Return the sums over all jobs, with what is in the journal."""
    spent, double, lost = connection.execute(
        """SELECT coalesce(sum(calls_leased), 0), coalesce(sum(possibly_double_charged), 0),
           coalesce(sum(lost_to_kills), 0) FROM jobs"""
    ).fetchone()
    (journal,) = connection.execute(
        "SELECT coalesce(sum(possibly_double_charged), 0) FROM journal"
    ).fetchone()
    return CallTotals(spent=spent, possibly_double_charged=double + journal, lost_to_kills=lost)
