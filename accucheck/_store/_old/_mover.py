"""Moving answers out of the journal during a run, a slice after each commit, so that no commit waits long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from accucheck._store._old import _journal
from accucheck._store._old._journal import Batch
from accucheck._store._old._lookup import Lookup
from accucheck._store._old._writer import Writer

MOVE_AT: Final = 100_000
"""Answers in the journal when they are moved. They are in memory too, packed (18 MB): that is where look-ups find
them. The more there are, the more of them go to the same page of the table."""

MOVED_AT_ONCE: Final = 512
"""Answers a slice, which is a transaction of its own: 2 to 8 ms, for which the next commit may have to wait."""


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
        self._keys: list[int] = []  # what is still to be moved, in descending order
        self._newest_id = 0
        self._last_id = 0  # of what is being moved
        self._broken = False
        lookup.recent = self._recent

    def add(self, batch: Batch) -> None:
        """Note the answers of a batch that was stored."""
        self._recent.update(zip(batch.keys, batch.answers, strict=True))
        self._newest_id = batch.id

    def move_some(self, committed: int) -> None:
        """Have the writer move twice as many as are ``committed`` before it, so that it ends; or none, if few wait."""
        if self._broken:
            return
        lookup = self._lookup
        if not lookup.moving and len(self._recent) >= MOVE_AT:
            lookup.moving = self._recent
            lookup.table_is_empty = False
            self._keys = sorted(self._recent, reverse=True)
            self._last_id = self._newest_id
            self._recent = lookup.recent = {}
        for _ in range(max(1, -(-2 * committed // MOVED_AT_ONCE))):
            if self._keys:
                self._move_slice()

    def _move_slice(self) -> None:
        keys = self._keys[-MOVED_AT_ONCE:]
        del self._keys[-MOVED_AT_ONCE:]
        moving = self._lookup.moving
        self._writer.submit(
            partial(_journal.move, answers=[(key, moving[key]) for key in reversed(keys)]),
            on_done=None if self._keys else self._forget,
            on_error=self._break,
        )

    def _forget(self) -> None:
        if self._broken:
            return  # a slice before the last one is still in the journal alone
        self._lookup.moving = {}
        self._writer.submit(partial(_journal.forget, last_id=self._last_id), on_error=self._break)

    def _break(self, trouble: Exception) -> None:
        self._broken = True
        self._on_error(trouble)
