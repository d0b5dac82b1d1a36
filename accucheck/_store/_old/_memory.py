"""The store of a run without a ledger: exact, and flat in memory however long the list."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from datetime import date, datetime
from itertools import islice
from typing import Final

import msgspec

from accucheck._errors import CHECK_ERRORS, CheckError, LedgerError
from accucheck._models import Check, Settlement
from accucheck._store._old._protocol import OnCommit, OnFailure
from accucheck._store._old._seen import SeenNumbers

_KEPT: Final = 20_000
"""Settlements kept as they are, the latest ones (15 MB): a duplicate is mostly close to its first."""
_SPILLED_AT_ONCE: Final = 512
"""Moved out together: about 2 ms of the event loop."""
_SEGMENT: Final = 128 * 1024
"""Settlements a table. Each fits in SQLite's cache while it is filled, so that every page is written once; in
one table of millions every row would rewrite a page. The price is a look-up in every table for an old duplicate."""
_CACHE_KIB: Final = 16_384


class OldMemoryStore:
    """Knows every number that was settled since it was made; see ``AnswerStore`` for its methods.

    A bitmap tells whether a number was settled. The latest settlements are kept as they are; older ones go to
    a temporary database without a name, which the system removes with the process (SQLITE_TMPDIR tells where).
    """

    def __init__(self, *, kept: int = _KEPT, segment: int = _SEGMENT) -> None:
        self._kept = kept
        self._segment = segment
        self._seen = SeenNumbers()
        self._recent: dict[int, Settlement] = {}
        self._spill: sqlite3.Connection | None = None
        self._segments = 0
        self._room = 0  # in the newest segment
        self._uncommitted: list[Settlement] = []
        self._spent = 0
        self._trouble: LedgerError | None = None

    def start(self, on_commit: OnCommit, on_failure: OnFailure) -> None:
        self._on_commit, self._on_failure = on_commit, on_failure
        self._loop = asyncio.get_running_loop()

    def find(self, numbers: Sequence[int]) -> dict[int, Settlement]:
        seen = self._seen
        wanted = [number for number in numbers if number in seen]
        if not wanted:
            return {}
        recent = self._recent
        found = {number: recent[number] for number in wanted if number in recent}
        if len(found) < len(wanted):
            self._find_spilled([number for number in wanted if number not in recent], found)
        return found

    def settle(self, settlement: Settlement) -> None:
        number = settlement.number
        self._seen.add(number)
        self._recent[number] = settlement
        if not self._uncommitted:
            self._loop.call_soon(self._commit)
        self._uncommitted.append(settlement)

    def _commit(self) -> None:
        settlements, self._uncommitted = self._uncommitted, []
        if settlements:
            self._on_commit(settlements)
        if len(self._recent) >= self._kept + _SPILLED_AT_ONCE and self._trouble is None:
            try:
                self._spill_oldest()
            except sqlite3.Error as trouble:
                # Without its answer a duplicate would be bought again.
                self._trouble = LedgerError(
                    f"no room in the temporary directory ({trouble}): free some space, name another directory "
                    "in SQLITE_TMPDIR, or keep a ledger"
                )
                self._on_failure(self._trouble)

    async def flush(self) -> None:
        if self._uncommitted:
            self._commit()

    def lease_calls(self, wanted: int, max_calls: int | None) -> int:
        granted = wanted if max_calls is None else max(0, min(wanted, max_calls - self._spent))
        self._spent += granted
        return granted

    def return_calls(self, unused: int, *, lost: int = 0) -> None:
        del lost  # it is told in the run's own counts; there is no later run to tell
        self._spent -= unused

    async def aclose(self) -> None:
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    def _spill_oldest(self) -> None:
        oldest = list(islice(self._recent.values(), _SPILLED_AT_ONCE))
        if self._spill is None:
            self._spill = _open_spill()
        if self._room < len(oldest):
            self._spill.execute(
                f"CREATE TABLE segment{self._segments} (number INTEGER PRIMARY KEY, row BLOB)"
            )
            self._segments += 1
            self._room = max(self._segment, len(oldest))
        values: list[int | bytes] = []
        for settlement in sorted(oldest, key=_number_of):
            values += settlement.number, _packed(settlement)
        self._spill.execute(
            f"INSERT OR REPLACE INTO segment{self._segments - 1} VALUES {_PAIRS}",  # noqa: S608
            values,
        )
        self._room -= len(oldest)
        for settlement in oldest:
            del self._recent[settlement.number]

    def _find_spilled(self, wanted: list[int], found: dict[int, Settlement]) -> None:
        for segment in reversed(range(self._segments)):  # a number settled twice is newer in a later one
            if not wanted:
                return
            assert self._spill is not None
            marks = ",".join("?" * len(wanted))
            select = f"SELECT number, row FROM segment{segment} WHERE number IN ({marks})"  # noqa: S608
            try:
                rows = self._spill.execute(select, wanted).fetchall()
            except sqlite3.Error as trouble:
                raise LedgerError(f"the temporary database cannot be read: {trouble}") from trouble
            for number, packed in rows:
                found[number] = _unpacked(number, packed)
            if rows:
                wanted = [number for number in wanted if number not in found]


_PAIRS: Final = ",".join(["(?,?)"] * _SPILLED_AT_ONCE)


def _number_of(settlement: Settlement) -> int:
    return settlement.number


def _open_spill() -> sqlite3.Connection:
    connection = sqlite3.connect("", isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


class _Answer(msgspec.Struct, array_like=True, tag="A", gc=False):
    """An answer as it is spilled: a quarter of the time that a ledger's row takes, and as small."""

    whatsapp: bool
    status_update: date | None
    signature: str | None
    business_user: bool | None
    avatar: bool | None
    request_id: str
    checked_at: datetime
    extra: str | None
    calls: int
    lost: int


class _Failure(msgspec.Struct, array_like=True, tag="F", gc=False):
    """A failure as it is spilled."""

    status: str
    reason: str
    request_id: str
    http_status: int | None
    calls: int
    lost: int


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Answer | _Failure).decode


def _packed(settlement: Settlement) -> bytes:
    result, calls, lost = settlement.result, settlement.calls, settlement.possibly_double_charged
    if isinstance(result, Check):
        return _encode(
            _Answer(
                result.whatsapp,
                result.status_update,
                result.signature,
                result.business_user,
                result.avatar,
                result.request_id,
                result.checked_at,
                json.dumps(dict(result.extra), default=str) if result.extra else None,
                calls,
                lost,
            )
        )
    return _encode(_Failure(result.status, result.reason, result.request_id, result.http_status, calls, lost))


def _unpacked(number: int, packed: bytes) -> Settlement:
    row = _decode(packed)
    if isinstance(row, _Failure):
        kind = CHECK_ERRORS.get(row.status, CheckError)
        error = kind(row.reason, request_id=row.request_id, http_status=row.http_status)
        return Settlement(number, error, row.calls, row.lost)
    check = Check(
        number=f"+51{number}",
        whatsapp=row.whatsapp,
        status_update=row.status_update,
        signature=row.signature,
        business_user=row.business_user,
        avatar=row.avatar,
        request_id=row.request_id,
        checked_at=row.checked_at,
        extra={} if row.extra is None else json.loads(row.extra),
    )
    return Settlement(number, check, row.calls, row.lost)
