"""The store of a run without a ledger: exact, in constant memory for lists of any length."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, TypeAlias

from accucheck._errors import LedgerError
from accucheck._models import Check, Settlement
from accucheck._store._packing import (
    FAILED,
    KEY_SHIFT,
    Choice,
    endpoint_of,
    head_of,
    key_of,
    number_of,
    packed,
    settlement_of,
)
from accucheck._store._protocol import Claims, Endpoint, Query

__all__ = ["Bitset", "MemoryStore"]

_PAGE_BITS: Final = 14
_LAST_BIT: Final = (1 << _PAGE_BITS) - 1
_PAGE_BYTES: Final = 1 << _PAGE_BITS >> 3


class Bitset:
    """A set of whole numbers, 0 or more, one bit each, in pages of 2 KB that are created when needed."""

    __slots__ = ("_count", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._count = 0

    def add(self, number: int) -> bool:
        """Add a number; return whether it is new."""
        page = self._pages.get(number >> _PAGE_BITS)
        if page is None:
            page = self._pages[number >> _PAGE_BITS] = bytearray(_PAGE_BYTES)
        byte, bit = (number & _LAST_BIT) >> 3, 1 << (number & 7)
        if page[byte] & bit:
            return False
        page[byte] |= bit
        self._count += 1
        return True

    def __contains__(self, number: int) -> bool:
        page = self._pages.get(number >> _PAGE_BITS)
        return page is not None and bool(page[(number & _LAST_BIT) >> 3] & 1 << (number & 7))

    def __len__(self) -> int:
        return self._count


_Known: TypeAlias = tuple[int, int, bool | None, Settlement]

_SPILLED_AT_ONCE: Final = 512
"""How many are moved out together, which takes about 2 ms of the event loop."""
_CACHE_KIB: Final = 16_384
_ROWS: Final = ",".join(["(?,?,?,?)"] * _SPILLED_AT_ONCE)


class MemoryStore:
    """Knows what was settled since it was created, but nothing from earlier runs; see ``Store`` for its methods.

    A bitset records which numbers were settled. The latest settlements are kept as objects; older ones go to an unnamed
    temporary database, which the system removes with the process (in SQLITE_TMPDIR).

    Examples:
        ```python
        store = accucheck.MemoryStore()
        async with accucheck.Client(ledger=store) as one:
            await one.check("987654321")
        async with accucheck.Client(ledger=store) as other:
            await other.check("987654321")  # no call: the store knows the answer
        ```
    """

    durable = False

    def __init__(
        self, *, kept: int = 20_000, segment: int = 131_072, now: Callable[[], float] = time.time
    ) -> None:
        """``kept`` answers stay in memory; the rest go to the file, ``segment`` in each table.

        ``now`` returns seconds since 1970.
        """
        # Most duplicates are close to each other, and 20,000 answers take 15 MB. A table of 131,072 fits in SQLite's
        # cache while it is filled, so every page is written once; in one table of millions, every row would rewrite a
        # page. The cost is a look-up in every table for an old duplicate.
        self._kept = kept
        self._segment = segment
        self._now = now
        self._seen = Bitset()
        self._recent: dict[
            int, tuple[Settlement, float]
        ] = {}  # by key, with the time at which it was settled
        self._claimed: set[int] = set()
        self._spill: sqlite3.Connection | None = None
        self._segments = 0
        self._room = 0  # in the newest segment
        self._full: LedgerError | None = None
        self._leased: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._settings: dict[str, str] = {}

    async def open(self) -> None:
        """Do nothing: everything is opened when needed."""

    async def aclose(self) -> None:
        self._claimed.clear()
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    async def find(self, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
        return self._find(numbers, query)

    async def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        if self._full is not None:
            raise self._full
        known = self._find(numbers, query)
        wanted = {number for number in numbers if number not in known}
        taken = wanted & self._claimed
        self._claimed |= wanted
        return Claims(known, taken)

    async def release(self, numbers: Sequence[int]) -> None:
        self._claimed.difference_update(numbers)

    async def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        endpoint: Endpoint = "advanced",
        job: str = "",
        release: bool = True,
    ) -> None:
        del job
        now = self._now()
        recent, claimed, see = self._recent, self._claimed, self._seen.add
        code = key_of(0, endpoint)
        for settlement in settlements:
            number = settlement.number
            key = code | number << KEY_SHIFT
            see(number)
            if release:
                claimed.discard(number)
            if not isinstance(settlement.result, Check):
                key |= FAILED
            before = recent.get(key)
            # The time is computed only when needed, because it takes longer than everything else.
            if before is None or _known(key, before)[1] <= head_of(settlement, endpoint, now)[1]:
                recent[key] = settlement, now
        while len(self._recent) >= self._kept + _SPILLED_AT_ONCE and self._full is None:
            try:
                self._spill_oldest()
            except sqlite3.Error as trouble:
                # Without its answer a duplicate would be bought again. What is in memory stays known.
                self._full = LedgerError(
                    f"no space left in the temporary directory ({trouble}): free some space, set another directory "
                    "in SQLITE_TMPDIR, or keep a ledger"
                )

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1) -> int:
        if self._full is not None:
            raise self._full
        granted = wanted if max_calls is None else max(0, min(wanted, max_calls - self._leased[job]))
        granted -= granted % each
        self._leased[job] += granted
        return granted

    def note_call(self, job: str = "", calls: int = 1) -> None:
        self._made[job] += calls

    async def return_calls(self, unused: int, *, lost: int = 0, job: str = "") -> None:
        del lost  # the run counts them; there is no later run to tell
        self._leased[job] -= unused

    async def calls_made(self, job: str = "") -> int:
        return self._made[job]

    async def recall(self, name: str) -> str | None:
        return self._settings.get(name)

    async def remember(self, name: str, value: str) -> None:
        self._settings[name] = value

    def _find(self, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
        seen = self._seen
        wanted = [number for number in numbers if number in seen]
        if not wanted:
            return {}
        choice: Choice[Settlement] = Choice(query)
        recent = self._recent
        rows = {
            number: [_known(key, recent[key]) for key in choice.keys(number) if key in recent]
            for number in wanted
        }
        if self._segments:
            # Only numbers with a missing key here may have more there.
            self._add_spilled(
                {key: rows[number] for number in wanted for key in choice.keys(number) if key not in recent}
            )
        found = {number: choice.best(rows[number]) for number in wanted}
        return {number: settlement for number, settlement in found.items() if settlement is not None}

    def _add_spilled(self, missing: dict[int, list[_Known]]) -> None:
        """Add the rows of each key to its list."""
        for segment in reversed(
            range(self._segments)
        ):  # a key that was settled twice is newer in a later one
            assert self._spill is not None
            marks = ",".join("?" * len(missing))
            select = f"SELECT * FROM segment{segment} WHERE key IN ({marks})"  # noqa: S608
            try:
                rows = self._spill.execute(select, [*missing]).fetchall()
            except sqlite3.Error as trouble:
                raise LedgerError(f"the temporary database cannot be read: {trouble}") from trouble
            for key, at, whatsapp, stored in rows:
                missing.pop(key).append((key, at, whatsapp, settlement_of(number_of(key), stored)))

    def _spill_oldest(self) -> None:
        oldest = [_known(key, kept) for key, kept in islice(self._recent.items(), _SPILLED_AT_ONCE)]
        if self._spill is None:
            self._spill = _open_spill()
        if self._room < len(oldest):
            self._spill.execute(
                f"CREATE TABLE segment{self._segments} "
                "(key INTEGER PRIMARY KEY, at INTEGER, whatsapp INTEGER, packed BLOB)"
            )
            self._segments += 1
            self._room = max(self._segment, len(oldest))
        values: list[int | bool | bytes | None] = []
        for key, at, whatsapp, settlement in sorted(oldest, key=_key_of_known):
            values += key, at, whatsapp, packed(settlement, at / 1e6)
        self._spill.execute(
            f"INSERT OR REPLACE INTO segment{self._segments - 1} VALUES {_ROWS}",  # noqa: S608
            values,
        )
        self._room -= len(oldest)
        for key, *_ in oldest:
            del self._recent[key]


def _known(key: int, kept: tuple[Settlement, float]) -> _Known:
    settlement, now = kept
    _, at, whatsapp = head_of(settlement, endpoint_of(key), now)
    return key, at, whatsapp, settlement


def _key_of_known(known: _Known) -> int:
    return known[0]


def _open_spill() -> sqlite3.Connection:
    connection = sqlite3.connect("", isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection
