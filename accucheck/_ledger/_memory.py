"""Answers for one run only, in bounded memory, however long the list.

A bitmap tells whether a number was settled before: all of Peru's mobiles fit into 12.5 MB, and only the
parts that occur are made. The latest answers are in a dictionary; older ones go to a private temporary
database, which SQLite keeps on disk and the system deletes with the process.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from itertools import islice
from typing import Final

from accucheck._ledger._store import OnCommit, OnFailure
from accucheck._ledger._tables import find, migrate, write
from accucheck._models import Settlement

__all__ = ["MemoryStore"]

_RECENT: Final = 20_000
"""Answers kept at hand: a few megabytes, and duplicates of a list are mostly near each other."""
_SPILL: Final = 1_000
"""Answers written at once: about 3 ms of the event loop."""
_PAGE_BITS: Final = 20
_CACHE_KIB: Final = 4_096


class _Bitmap:
    """A set of numbers below 10^9, in pages of 128 KiB that are made when they are needed."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        page = self._pages.get(number >> _PAGE_BITS)
        if page is None:
            page = self._pages[number >> _PAGE_BITS] = bytearray(1 << (_PAGE_BITS - 3))
        page[(number & ((1 << _PAGE_BITS) - 1)) >> 3] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        page = self._pages.get(number >> _PAGE_BITS)
        return page is not None and bool(page[(number & ((1 << _PAGE_BITS) - 1)) >> 3] >> (number & 7) & 1)


class MemoryStore:
    """An ``AnswerStore`` without a file: answers are known for as long as the run lasts."""

    def __init__(self) -> None:
        self._seen = _Bitmap()
        self._recent: dict[int, Settlement] = {}
        self._spilled: sqlite3.Connection | None = None
        self._waiting: list[Settlement] = []
        self._on_commit: OnCommit | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leased = 0

    def start(self, on_commit: OnCommit, on_failure: OnFailure) -> None:
        """See ``AnswerStore``; nothing is stored, so nothing can fail to be."""
        self._loop = asyncio.get_running_loop()
        self._on_commit = on_commit

    def find(self, numbers: Sequence[int]) -> dict[int, Settlement]:
        """Return what this run knows of the national ``numbers``."""
        found: dict[int, Settlement] = {}
        spilled: list[int] = []
        for number in numbers:
            if number in self._seen:
                settlement = self._recent.get(number)
                if settlement is None:
                    spilled.append(number)
                else:
                    found[number] = settlement
        if spilled and self._spilled is not None:
            found.update(find(self._spilled, spilled, "advanced"))
        return found

    def settle(self, settlement: Settlement) -> None:
        """Keep a settlement; ``on_commit`` gets it in the loop's next turn, with others of this one."""
        self._seen.add(settlement.number)
        self._recent[settlement.number] = settlement
        if not self._waiting and self._loop is not None:
            self._loop.call_soon(self._deliver)
        self._waiting.append(settlement)
        if len(self._recent) >= _RECENT + _SPILL:
            self._spill()

    async def flush(self) -> None:
        """Hand on what was settled."""
        self._deliver()

    def lease_calls(self, wanted: int, max_calls: int | None) -> int:
        """Grant calls up to ``max_calls`` in this run."""
        granted = wanted if max_calls is None else max(0, min(wanted, max_calls - self._leased))
        self._leased += granted
        return granted

    def return_calls(self, unused: int, *, lost: int = 0) -> None:
        """Give back calls that were leased and not made."""
        self._leased -= unused

    async def aclose(self) -> None:
        """Let go of everything."""
        if self._spilled is not None:
            self._spilled.close()
            self._spilled = None

    def _deliver(self) -> None:
        if self._waiting and self._on_commit is not None:
            batch, self._waiting = self._waiting, []
            self._on_commit(batch)

    def _spill(self) -> None:
        if self._spilled is None:
            # An empty name: a private database on disk that nobody else can open and the system deletes.
            self._spilled = sqlite3.connect("", isolation_level=None)
            for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
                self._spilled.execute(f"PRAGMA {pragma}")
            migrate(self._spilled, 0)
        oldest = list(islice(self._recent, _SPILL))
        self._spilled.execute("BEGIN")
        write(
            self._spilled, [self._recent.pop(number) for number in oldest], "advanced", int(time.time() * 1e6)
        )
        self._spilled.execute("COMMIT")
