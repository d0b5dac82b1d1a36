"""The SQL on an open ledger file; used by one thread at a time.

Statements pass many rows at once. Python releases the interpreter lock at every row and up to four times a statement,
and next to a busy event loop, a thread may wait milliseconds to get it back. So what runs for every check is written as
text, of numbers and hexadecimal digits only: `executescript` releases the lock once.
"""

from __future__ import annotations

import json
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from accucheck._errors import LedgerError
from accucheck._models import Settlement
from accucheck._store import _owner
from accucheck._store._file import (
    SET_BACK,
    FileWatch,
    check_small,
    name_of,
    open_ledger,
    open_reader,
)
from accucheck._store._owner import Owner
from accucheck._store._packing import KEY_SHIFT, Choice, Row, claim_key, number_of, settlement_of
from accucheck._store._permits import Outcomes, Pace, PermitRequest, Permits, lease, seat_of
from accucheck._store._protocol import Claims, Query

__all__ = ["Tables", "find", "in_transaction", "upsert"]

_EXPIRY_SECONDS: Final = 60.0
"""Seconds after which a live process that does not renew its claims, perhaps because it was suspended, loses them."""
_LEFT_FOR: Final = 86_400.0
"""Seconds for which the claims of a dead process are kept: longer than any wait before asking a number again."""
_LOOKED_UP_AT_ONCE: Final = 1_000
_DROPPED_AT_ONCE: Final = 1_000
_DROP_SECONDS: Final = 1.0
"""Claims on settled numbers are dropped this many at a time, or after this long. Next to a busy event loop each
statement waits about a millisecond for the interpreter lock, and so does each change of `synchronous`."""
_MANY: Final = 64
"""Storing this many rows at once means thousands of checks per second: there, changing `synchronous` costs more than
a sync."""
_SAMPLE: Final = 32
"""How many settled rows of a run to remember, to detect if the file was rolled back."""
_MOST_TEXT: Final = 400_000
"""Characters of SQL to run at once. SQLite takes a million, and one row may have half of that."""

_FIND: Final = f"""SELECT json_group_array(json_array(answers.key, at, whatsapp, hex(packed)))
    FROM json_each(?) AS n CROSS JOIN answers
    WHERE answers.key BETWEEN n.value << {KEY_SHIFT} AND n.value << {KEY_SHIFT} | {(1 << KEY_SHIFT) - 1}"""  # noqa: S608
_NEWER: Final = """ON CONFLICT (key) DO UPDATE
    SET at = excluded.at, whatsapp = excluded.whatsapp, packed = excluded.packed WHERE excluded.at >= answers.at"""
_CLAIM_NEW: Final = f"""INSERT OR IGNORE INTO claims SELECT value, %d FROM json_each('%s') AS n WHERE NOT EXISTS
    (SELECT 1 FROM answers WHERE key BETWEEN n.value & ~{(1 << KEY_SHIFT) - 1} AND n.value | {(1 << KEY_SHIFT) - 1})"""  # noqa: S608
"""For numbers that are unknown and unclaimed; leaves out the others."""
_CLAIM: Final = """INSERT INTO claims SELECT value, ? FROM json_each(?) WHERE true ON CONFLICT (key) DO UPDATE
    SET owner = excluded.owner
    WHERE owner = excluded.owner
    OR NOT EXISTS (SELECT 1 FROM owners WHERE id = claims.owner AND expires > ?)"""
_LEFT: Final = """SELECT json_group_array(json_array(key, min(coalesce(expires, -owner), :now)))
    FROM claims LEFT JOIN owners ON id = owner
    WHERE key IN (SELECT value FROM json_each(:keys)) AND owner <> :owner AND coalesce(expires, 0) <= :now"""
"""What others had claimed that have died since, or were not heard of for too long, and until when they may have asked
for it. The owner of a claim whose process is dead is that time, negative."""
_CLAIMED: Final = """SELECT json_group_array(key) FROM claims
    WHERE owner = ? AND key IN (SELECT value FROM json_each(?))"""
_UNCLAIM: Final = "DELETE FROM claims WHERE owner = %d AND key IN (SELECT value FROM json_each('%s'))"
_SPENT: Final = """SELECT coalesce((SELECT calls FROM jobs WHERE name = :job), 0)
    + coalesce((SELECT sum(granted) FROM leases WHERE job = :job), 0),
    (SELECT count(*) FROM leases WHERE job = :job AND owner <> :owner)"""
_COUNT: Final = """INSERT INTO jobs VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
    calls = calls + excluded.calls,
    possibly_double_charged = possibly_double_charged + excluded.possibly_double_charged,
    lost_to_kills = lost_to_kills + excluded.lost_to_kills"""

_pace_of: Final = msgspec.json.Decoder(Pace, strict=False).decode
_reports_of: Final = msgspec.json.Decoder(list[Outcomes]).decode
_left_of: Final = msgspec.json.Decoder(list[tuple[int, float]]).decode
_rows_of: Final = msgspec.json.Decoder(list[tuple[int, int, int | None, str]]).decode


@contextmanager
def in_transaction(connection: sqlite3.Connection) -> Generator[None, None, None]:
    """Store everything that the block writes, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise


def find(connection: sqlite3.Connection, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
    """Return what is known about numbers.

    Raises:
        sqlite3.Error: the file cannot be read.
        msgspec.MsgspecError: an answer cannot be read.
    """
    choice: Choice[str] = Choice(query)
    found: dict[int, Settlement] = {}
    for start in range(0, len(numbers), _LOOKED_UP_AT_ONCE):
        some = numbers[start : start + _LOOKED_UP_AT_ONCE]
        (text,) = connection.execute(_FIND, (json.dumps([*some]),)).fetchone()
        by_number: dict[int, list[tuple[int, int, bool | None, str]]] = {}
        for key, at, whatsapp, packed in _rows_of(text):
            row = key, at, None if whatsapp is None else whatsapp == 1, packed
            by_number.setdefault(number_of(key), []).append(row)
        for number, rows in by_number.items():
            best = choice.best(rows)
            if best is not None:
                found[number] = settlement_of(number, bytes.fromhex(best))
    return found


def upsert(connection: sqlite3.Connection, rows: Iterable[Row], *, also: str = "") -> None:
    """Store rows, each unless there is a newer one, and run the statement ``also`` in the last transaction."""
    values: list[str] = []
    length = 0
    for key, at, whatsapp, packed in rows:
        if length > _MOST_TEXT:
            _run(connection, f"INSERT INTO answers VALUES {','.join(values)} {_NEWER}")  # noqa: S608
            values.clear()
            length = 0
        value = f"({key:d},{at:d},{'NULL' if whatsapp is None else int(whatsapp)},x'{packed.hex()}')"
        values.append(value)
        length += len(value)
    insert = f"INSERT INTO answers VALUES {','.join(values)} {_NEWER}" if values else ""  # noqa: S608
    if also:
        insert = f"BEGIN IMMEDIATE; {insert}; {also}; COMMIT"
    _run(connection, insert)


def _run(connection: sqlite3.Connection, text: str) -> int:
    """Run SQL without parameters, outside a transaction; return how many rows it has changed."""
    before = connection.total_changes
    try:
        connection.executescript(text)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return connection.total_changes - before


def _keys(numbers: Iterable[int]) -> str:
    return json.dumps([claim_key(number) for number in numbers])


class Tables:
    """An open ledger and this process's share of it: its claims, leased calls and counters.

    Raises, as all methods do, what SQLite, the system and unreadable answers raise; LedgerError when opening.
    """

    def __init__(self, path: Path, *, now: Callable[[], float], reserve: int) -> None:
        self.path = path
        self._now = now
        self._clock = time.monotonic  # one for all processes of the machine, and nobody sets it
        self._boot = _owner.boot_id()
        self._slots: dict[str, int] = {}
        self._settled: set[int] = set()
        self._dropped_at = -math.inf
        self._sample: list[tuple[int, int]] = []
        self._seen = 0
        self._new_list = True
        self._synchronous = "FULL"
        self._settling_many = False
        with ExitStack() as undo:
            self._connection = undo.enter_context(closing(open_ledger(path, create=True)))
            self.owner = Owner(path, reserve=reserve)
            undo.callback(self.owner.close)
            with self._transaction(durable=False):
                self._id: int | None = self._connection.execute(
                    "INSERT INTO owners (token, boot, expires) VALUES (?, ?, ?)",
                    (self.owner.token, self._boot, now() + _EXPIRY_SECONDS),
                ).lastrowid
            self._watch = FileWatch(path, name_of(self._connection))
            undo.callback(self._watch.close)
            self.reap()
            self._sweep()
            undo.pop_all()

    def trouble(self) -> str | None:
        """Return what happened to the file; None if it is fine."""
        trouble = self._watch.trouble()
        if trouble is None and self._watch.written and not self._sample_is_there():
            return SET_BACK
        return trouble

    def _sample_is_there(self) -> bool:
        """Whether rows settled here are in the file, which someone may have rolled back."""
        try:
            # A connection that has none of the pages in memory.
            with closing(open_reader(self.path)) as reader:
                (missing,) = reader.execute(
                    """SELECT count(*) FROM json_each(?) AS kept WHERE NOT EXISTS (SELECT 1 FROM answers
                    WHERE key = json_extract(kept.value, '$[0]') AND at >= json_extract(kept.value, '$[1]'))""",
                    (json.dumps(self._sample),),
                ).fetchone()
        except (sqlite3.DatabaseError, LedgerError):
            return False
        return not missing

    def _remember_some(self, row: Row) -> None:
        """Remember a uniform random sample of the settled rows."""
        self._seen += 1
        if len(self._sample) < _SAMPLE:
            self._sample.append((row[0], row[1]))
        elif (place := random.randrange(self._seen)) < _SAMPLE:
            self._sample[place] = row[0], row[1]

    def renew(self) -> None:
        """Renew the claims."""
        self._synchronize("NORMAL")
        self._connection.execute(
            "UPDATE owners SET expires = ? WHERE id = ?", (self._now() + _EXPIRY_SECONDS, self._id)
        )

    # Answers and claims

    def find(self, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
        return find(self._connection, numbers, query)

    def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        """Return what is known and what others have claimed; claim the rest."""
        settled = self._settled
        is_due = len(settled) >= _DROPPED_AT_ONCE or self._clock() - self._dropped_at >= _DROP_SECONDS
        if is_due or not settled.isdisjoint(numbers):  # before one of them is claimed again
            self.drop_settled()
        claims = self._claim(numbers, query)
        if claims.taken and self.reap():
            more = self._claim([*claims.taken], query)
            claims = Claims({**claims.known, **more.known}, more.taken, {**claims.asked, **more.asked})
        return claims

    def _claim(self, numbers: Sequence[int], query: Query) -> Claims:
        connection = self._connection
        if self._new_list:
            # The common case for most lists: one statement, and no answers to fetch.
            self._synchronize("NORMAL")
            if _run(connection, _CLAIM_NEW % (self._id, _keys(numbers))) == len(numbers):
                return Claims({}, frozenset())
        with self._transaction(durable=False):
            known = find(connection, numbers, query)
            self._new_list = not known
            rest = [claim_key(number) for number in numbers if number not in known]
            if not rest:
                return Claims(known, frozenset())
            keys, now = json.dumps(rest), self._now()
            (left,) = connection.execute(_LEFT, {"owner": self._id, "keys": keys, "now": now}).fetchone()
            asked = {number_of(key): at for key, at in _left_of(left)}
            if connection.execute(_CLAIM, (self._id, keys, now)).rowcount == len(rest):
                return Claims(known, frozenset(), asked)
            (granted,) = connection.execute(_CLAIMED, (self._id, keys)).fetchone()
        return Claims(known, {number_of(key) for key in set(rest).difference(json.loads(granted))}, asked)

    def release(self, numbers: Sequence[int]) -> None:
        self._synchronize("NORMAL")
        _run(self._connection, _UNCLAIM % (self._id, _keys(numbers)))

    def settle(
        self, rows: Sequence[Row], *, job: str, possibly_double_charged: int, release: bool = True
    ) -> None:
        """Store rows durably. This process's claims on them are left for `drop_settled`, if to be released."""
        self._synchronize("FULL")
        also = ""
        if possibly_double_charged:
            name = f"CAST(x'{job.encode().hex()}' AS TEXT)"
            also = _COUNT.replace("?, ?, ?, ?", f"{name}, 0, {possibly_double_charged}, 0")
        upsert(self._connection, rows, also=also)
        if release:
            self._settled.update([number_of(row[0]) for row in rows])
        self._settling_many = len(rows) >= _MANY
        if rows:
            self._remember_some(rows[0])

    def drop_settled(self) -> None:
        """Drop the claims on settled numbers. Not urgent: a look-up finds the answer first."""
        self._dropped_at = self._clock()
        if self._settled:
            self.release([*self._settled])
            self._settled.clear()

    # Calls

    def lease(self, wanted: int, *, max_calls: int | None, job: str, each: int) -> tuple[int, int]:
        """Lease calls; return how many, and the slot of the job's counters."""
        granted = self._lease(wanted, max_calls, job, each)
        if not granted and self.reap():
            granted = self._lease(wanted, max_calls, job, each)
        return granted, self._slots.get(job, -1)

    def _lease(self, wanted: int, max_calls: int | None, job: str, each: int) -> int:
        connection = self._connection
        with self._transaction(durable=False):
            spent, sharers = connection.execute(_SPENT, {"job": job, "owner": self._id}).fetchone()
            if max_calls is not None:
                # Half of a fair share: so that nobody holds the last calls while others have none.
                left = max_calls - spent
                wanted = min(wanted, left, max(each, left // (2 * (sharers + 1))))
            wanted -= wanted % each
            if wanted <= 0:
                return 0
            if job not in self._slots:
                if len(self._slots) == _owner.SLOTS:
                    self._end_spent()
                if len(self._slots) == _owner.SLOTS:
                    raise LedgerError(
                        f"ledger {self.path}: more than {_owner.SLOTS} jobs at the same time in one process"
                    )
                self._slots[job] = self.owner.take_slot()
            connection.execute(
                """INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT (owner, job) DO UPDATE
                SET granted = granted + excluded.granted""",
                (self._id, job, self._slots[job], wanted),
            )
        return wanted

    def return_calls(self, unused: int, *, lost: int, job: str) -> bool:
        """Take back leased calls; return whether the job is finished here and its counters are gone.

        Not before its calls are settled: until then, the counters show which answers a kill may lose.
        """
        connection = self._connection
        with self._transaction(durable=False):
            if lost:
                connection.execute(_COUNT, (job, 0, lost, 0))
            slot = self._slots.get(job)
            if slot is None:
                return True
            (granted,) = connection.execute(
                "SELECT granted - ? FROM leases WHERE owner = ? AND job = ?", (unused, self._id, job)
            ).fetchone()
            counters = self.owner.counters(slot)
            if counters.made < granted or counters.settled < counters.made:
                connection.execute(
                    "UPDATE leases SET granted = ? WHERE owner = ? AND job = ?", (granted, self._id, job)
                )
                return False
            self._end_lease(self._id, job, granted, counters, killed=False)
        self.owner.free_slot(self._slots.pop(job))
        return True

    def _end_spent(self) -> None:
        """Make room for the counters of other jobs, within a transaction."""
        for job, slot in [*self._slots.items()]:
            counters = self.owner.counters(slot)
            ended = self._connection.execute(
                "SELECT 1 FROM leases WHERE owner = ? AND job = ? AND granted <= ?",
                (self._id, job, counters.made),
            ).fetchone()
            if ended:
                self._end_lease(self._id, job, counters.made, counters, killed=False)
                self.owner.free_slot(self._slots.pop(job))

    def calls_made(self, job: str) -> int:
        """Return the calls that all processes of a job have made so far."""
        row = self._connection.execute("SELECT calls FROM jobs WHERE name = ?", (job,)).fetchone()
        made: int = row[0] if row else 0
        for owner, token, slot, granted in self._connection.execute(
            "SELECT owner, token, slot, granted FROM leases JOIN owners ON id = owner WHERE job = ?", (job,)
        ).fetchall():
            if owner == self._id:
                made += self.owner.counters(slot).made
            else:
                counters = _owner.counters_of(self.path, token, slot)
                made += granted if counters is None else counters.made
        return made

    def _end_lease(
        self, owner: int | None, job: str, granted: int, counters: _owner.Counters | None, *, killed: bool
    ) -> None:
        """Count a lease's calls as spent, within a transaction: those made, or all if that is unknown."""
        made = granted if counters is None else min(counters.made, granted)
        lost = max(0, counters.made - counters.settled) if killed and counters is not None else 0
        self._connection.execute(_COUNT, (job, made, 0, lost))
        self._connection.execute("DELETE FROM leases WHERE owner = ? AND job = ?", (owner, job))

    # Permits

    def lease_permits(self, request: PermitRequest) -> Permits:
        connection, account = self._connection, request.account
        with self._transaction(durable=False):
            row = connection.execute("SELECT boot, pace FROM paces WHERE account = ?", (account,)).fetchone()
            if row is None:
                pace = Pace(rate=request.start.rate)
            else:
                pace = _pace_of(row[1])
                if row[0] != self._boot:
                    pace = Pace(rate=pace.rate, usage=pace.usage)
            permits = lease(
                pace, request, owner=seat_of(self._id or 0, request), now=self._clock(), wall=self._now()
            )
            if permits.leads and not request.leaves:
                (found,) = connection.execute(
                    "SELECT json_group_array(json(outcomes)) FROM reports WHERE account = ?", (account,)
                ).fetchone()
                if found != "[]":
                    permits.reports.extend(_reports_of(found))
                    connection.execute("DELETE FROM reports WHERE account = ?", (account,))
            elif request.outcomes:
                connection.execute(
                    "INSERT INTO reports (account, outcomes) VALUES (?, ?)",
                    (account, msgspec.json.encode(request.outcomes).decode()),
                )
            connection.execute(
                "INSERT OR REPLACE INTO paces VALUES (?, ?, ?)",
                (account, self._boot, msgspec.json.encode(pace).decode()),
            )
        return permits

    # Other processes

    def reap(self) -> bool:
        """Free the claims and unused calls of processes that have died; return whether there were any."""
        connection, found = self._connection, False
        for owner, token, boot, expires in connection.execute(
            "SELECT id, token, boot, expires FROM owners WHERE id <> ?", (self._id,)
        ).fetchall():
            if not _owner.dead(self.path, token):
                continue
            with self._transaction(durable=False):
                if connection.execute("DELETE FROM owners WHERE id = ?", (owner,)).rowcount:
                    for job, slot, granted in connection.execute(
                        "SELECT job, slot, granted FROM leases WHERE owner = ?", (owner,)
                    ).fetchall():
                        # After a power cut the counters may be older than the lease.
                        known = _owner.counters_of(self.path, token, slot) if boot == self._boot else None
                        self._end_lease(owner, job, granted, known, killed=True)
                    # So the next one to claim its numbers knows that they may just have been asked.
                    connection.execute(
                        "UPDATE claims SET owner = ? WHERE owner = ?",
                        (-math.ceil(min(expires, self._now())), owner),
                    )
            _owner.remove(self.path, token)
            found = True
        return found

    def _sweep(self) -> None:
        """Remove leftovers: claims of processes that died long ago, and files that no row names.

        The files are of processes killed before they wrote their row, or while they reaped others.
        """
        with self._transaction(durable=False):
            self._connection.execute(
                "DELETE FROM claims WHERE owner BETWEEN ? AND -1", (-int(self._now() - _LEFT_FOR),)
            )
        tokens = _owner.leftovers(self.path)
        known = {token for (token,) in self._connection.execute("SELECT token FROM owners")}
        for token in tokens:
            if token not in known and _owner.dead(self.path, token):
                _owner.remove(self.path, token)

    # Settings

    def recall(self, name: str) -> str | None:
        row = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def remember(self, name: str, value: str) -> None:
        with self._transaction(durable=False):
            self._connection.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))

    # The end

    def close(self) -> None:
        """Release what this process holds and close the file; raise what is wrong with it after closing."""
        try:
            with self._transaction(durable=False):
                for job, slot, granted in self._connection.execute(
                    "SELECT job, slot, granted FROM leases WHERE owner = ?", (self._id,)
                ).fetchall():
                    self._end_lease(self._id, job, granted, self.owner.counters(slot), killed=False)
                self._connection.execute("DELETE FROM claims WHERE owner = ?", (self._id,))
                self._connection.execute("DELETE FROM owners WHERE id = ?", (self._id,))
        finally:
            self.abandon()
        # On a connection without cached pages: this one would not notice changes to the file below its cache.
        with closing(open_reader(self.path)) as reader:
            check_small(reader, self.path)

    def copy_to(self, path: Path) -> None:
        """Copy everything in the ledger to a new file, even if its own file was deleted."""
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def abandon(self) -> None:
        """Close the file without further work."""
        try:
            self._connection.close()
        finally:
            self._watch.close()
            self.owner.close()

    @contextmanager
    def _transaction(self, *, durable: bool) -> Generator[None, None, None]:
        """Write; if ``durable``, it is on disk when the block ends, otherwise with the next durable write.

        What only matters while the machine runs need not wait for the disk.
        """
        self._synchronize("FULL" if durable else "NORMAL")
        with in_transaction(self._connection):
            yield

    def _synchronize(self, synchronous: str) -> None:
        if synchronous != self._synchronous and (synchronous == "FULL" or not self._settling_many):
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
