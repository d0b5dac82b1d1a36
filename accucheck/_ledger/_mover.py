"""Moving answers out of the journal during a run, a slice after each commit, so that no commit waits long."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from accucheck._ledger import _journal
from accucheck._ledger._journal import LARGEST_MOVE, LEAST_MOVE, Batch
from accucheck._ledger._lookup import Lookup
from accucheck._ledger._writer import Writer

MOVE_AT: Final = 100_000
"""Answers in the journal when they are moved. It bounds what the look-up keeps in memory (11 MB)."""


class Mover:
    """Tells the look-up where answers are, and moves them when there are many. Lives on the event loop.

    What is moved stays in the journal until all of it has been moved. So a slice that cannot be moved loses
    nothing; the next session empties the journal.
    """

    def __init__(self, writer: Writer, lookup: Lookup, on_error: Callable[[Exception], None]) -> None:
        self._writer = writer
        self._lookup = lookup
        self._on_error = on_error
        self._recent: dict[int, int] = {}  # key -> journal id
        self._keys: list[int] = []  # what is still to be moved, in descending order
        self._last_id = 0
        self._broken = False
        lookup.recent = self._recent

    def add(self, batch: Batch) -> None:
        """Note where a batch that was stored has its answers."""
        self._recent.update((row[0], place) for place, row in enumerate(batch.answers, batch.first_id))

    def move_some(self, committed: int) -> None:
        """Have the writer move a slice, if there are many; ``committed`` answers are committed before it."""
        if self._broken:
            return
        merging = self._lookup.merging
        if not merging and len(self._recent) >= MOVE_AT:
            merging = self._lookup.merging = self._recent
            self._keys = sorted(merging, reverse=True)
            self._last_id = max(merging.values())
            self._recent = self._lookup.recent = {}
        if not self._keys:
            return
        size = min(max(LEAST_MOVE, 2 * committed), LARGEST_MOVE)  # more than comes in, so that it ends
        keys = self._keys[-size:]
        del self._keys[-size:]
        self._writer.submit(
            partial(_journal.move, ids=[merging[key] for key in keys]),
            on_done=None if self._keys else self._forget,
            on_error=self._break,
        )

    def _forget(self) -> None:
        if self._broken:
            return  # a slice before the last one is still in the journal alone
        self._lookup.merging = {}  # first of all, so that nothing is looked for where it is not any more
        self._writer.submit(partial(_journal.forget, last_id=self._last_id), on_error=self._break)

    def _break(self, trouble: Exception) -> None:
        self._broken = True
        self._on_error(trouble)
