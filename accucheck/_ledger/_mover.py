"""Moving answers out of the journal during a run, a slice after each commit, so that no commit waits long."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Final

from accucheck._ledger import _journal
from accucheck._ledger._journal import LARGEST_MOVE, Batch
from accucheck._ledger._lookup import Lookup
from accucheck._ledger._writer import Writer

MOVE_AT: Final = 100_000
"""Answers in the journal when they are moved. They are in memory too, packed (18 MB): that is where look-ups find
them. The more there are, the more of them go to the same page of the table."""


class Mover:
    """Tells the look-up which answers are in the journal, and moves them when they are many. Lives on the event loop.

    What is moved stays in the journal until all of it has been moved. So a slice that cannot be moved loses
    nothing; the next session empties the journal.
    """

    def __init__(self, writer: Writer, lookup: Lookup, on_error: Callable[[Exception], None]) -> None:
        self._writer = writer
        self._lookup = lookup
        self._on_error = on_error
        self._recent: dict[int, bytes] = {}
        self._moving: list[tuple[int, bytes]] = []  # what is still to be moved, in descending order
        self._newest_id = 0
        self._last_id = 0  # of what is being moved
        self._broken = False
        lookup.recent = self._recent

    def add(self, batch: Batch) -> None:
        """Note the answers of a batch that was stored."""
        self._recent.update(zip(batch.keys, batch.answers, strict=True))
        self._newest_id = batch.id

    def move_some(self) -> None:
        """Have the writer move a slice, if there are many."""
        if self._broken:
            return
        lookup = self._lookup
        if not lookup.moving and len(self._recent) >= MOVE_AT:
            lookup.moving = self._recent
            lookup.table_is_empty = False
            self._moving = sorted(self._recent.items(), reverse=True)
            self._last_id = self._newest_id
            self._recent = lookup.recent = {}
        if not self._moving:
            return
        answers = self._moving[-LARGEST_MOVE:]
        del self._moving[-LARGEST_MOVE:]
        answers.reverse()
        self._writer.submit(
            partial(_move, answers=answers),
            on_done=None if self._moving else self._forget,
            on_error=self._break,
        )

    def _forget(self) -> None:
        if self._broken:
            return  # a slice before the last one is still in the journal alone
        self._lookup.moving = {}
        self._writer.submit(partial(_forget, last_id=self._last_id), on_error=self._break)

    def _break(self, trouble: Exception) -> None:
        self._broken = True
        self._on_error(trouble)


def _move(connection: sqlite3.Connection, answers: list[tuple[int, bytes]]) -> None:
    _journal.move(connection, answers)


def _forget(connection: sqlite3.Connection, last_id: int) -> None:
    _journal.forget(connection, last_id)
