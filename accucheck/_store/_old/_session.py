"""A run's way to the ledger: look-ups, group commit, and calls leased ahead. Lives on the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from accucheck._errors import LedgerError
from accucheck._models import Check, Settlement
from accucheck._store._old import _jobs, _journal
from accucheck._store._old._errors import is_full, ledger_error, translate_errors
from accucheck._store._old._file import open_reader, open_writer
from accucheck._store._old._journal import LARGEST_BATCH, Batch, OnStep
from accucheck._store._old._lock import RunLock
from accucheck._store._old._lookup import Lookup
from accucheck._store._old._mover import Mover
from accucheck._store._old._protocol import OnCommit, OnFailure
from accucheck._store._old._reserve import Reserve
from accucheck._store._old._rows import (
    ENDPOINT_CODES,
    KEY_SHIFT,
    Endpoint,
    FailureRow,
    failure_row,
    microseconds,
    packed,
)
from accucheck._store._old._schema import Migration, in_transaction
from accucheck._store._old._writer import Writer

GATHER_SECONDS: Final = 0.01
"""Commits begin at least this far apart; the first after a silence begins at once. Every commit costs 0.4
milliseconds of CPU beside a busy loop, and nobody waits for one: a worker goes on when it has settled."""
GATHER_ANSWERS: Final = 80
"""So many answers are not kept waiting. The engine makes no more calls while ``workers`` answers are not stored, and
as many again come in while these are written: with 200 workers at full speed (26,000 checks/s without a ledger) a
commit begun at 80 kept 0.94 of the speed, one begun at 130 kept 0.90, at 160 or by the clock alone 0.83 to 0.88."""


class Session:
    """One run on a ledger; made by ``Ledger.session``. See ``AnswerStore`` for its methods.

    A batch that cannot be stored is kept, with all that is settled after it, and tried again by ``flush`` and
    ``close``.
    """

    def __init__(
        self,
        path: Path,
        lock: RunLock,
        *,
        migrations: Sequence[Migration],
        endpoint: Endpoint,
        job: str,
        since: int,
        failed_since: int,
        now: Callable[[], float],
        on_step: OnStep,
        reserve: int,
    ) -> None:
        """Take over ``lock``, which ``close`` releases; instants are microseconds since 1970."""
        self._path = path
        self._lock = lock
        self._endpoint_code = ENDPOINT_CODES[endpoint]
        self._job = job
        self._since, self._failed_since = since, failed_since
        self._now = now
        self._on_step = on_step

        self._gathered: list[Settlement] = []
        self._under_way: Batch | None = None
        self._unstored: deque[Batch] = deque()  # begins with the batch that failed
        self._failed = False  # then only `flush` and `close` try again
        self._told = False
        self._timer: asyncio.Handle | None = None
        self._last_commit = -1.0
        self._taken = self._stored = 0
        self._waiters: list[asyncio.Future[LedgerError | None]] = []

        self._spare = 0  # leased and not granted yet
        self._leases_ahead = False
        self._max_calls: int | None = None
        self._unused = self._lost = 0
        self._closed = False

        with ExitStack() as undo:
            self._writing = undo.enter_context(closing(open_writer(path, migrations)))
            with translate_errors(path):
                _journal.move_all(self._writing, check=True)  # what a killed run left there
                _jobs.begin(self._writing, job)
                self._next_id = _journal.next_id(self._writing)
                answers, failures = self._writing.execute(
                    "SELECT EXISTS (SELECT 1 FROM answers), EXISTS (SELECT 1 FROM failures)"
                ).fetchone()
            self._reading = undo.enter_context(closing(open_reader(path, migrations)))
            undo.pop_all()
        self._reserve = Reserve(path, reserve)
        self._writer = Writer(self._writing)
        self._lookup = Lookup(self._reading, endpoint=endpoint)
        self._lookup.table_is_empty = not answers
        self._lookup.failures_known = bool(failures)
        self._mover = Mover(self._writer, self._lookup, self._on_not_moved)

    # Before and after the run

    def start(self, on_commit: OnCommit, on_failure: OnFailure) -> None:
        self._on_commit, self._on_failure = on_commit, on_failure
        self._loop = asyncio.get_running_loop()
        self._writer.start(self._loop)

    async def aclose(self) -> None:
        with suppress(LedgerError):  # `close` tries once more, and tells
            await self.flush()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Make a last attempt to store what is left, and let go of the file. Blocks; ``aclose`` does not.

        Raises:
            LedgerError: some settlements could not be stored; says how many.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._writer.stop()
            self._reserve.release()
            self._store_the_rest()
            # All is stored; what is not tidied now, the next session tidies.
            with suppress(sqlite3.Error, msgspec.MsgspecError):
                self._tidy()
        finally:
            try:
                self._reading.close()
                self._writing.close()
            finally:
                self._lock.release()

    def _store_the_rest(self) -> None:
        batches = deque(self._unstored)
        if self._under_way is not None and self._under_way not in batches:
            batches.appendleft(self._under_way)
            self._spare += self._under_way.granted if self._under_way.stored else 0
        try:
            with translate_errors(self._path):
                while batches or self._gathered:
                    if not batches:
                        batches.append(self._next_batch())
                    if not batches[0].stored:
                        self._store(batches[0], self._writing)
                    batches.popleft()
        except LedgerError as error:
            left = sum(len(batch.settlements) for batch in batches if not batch.stored) + len(self._gathered)
            raise self._not_stored_error(error, left) from error.__cause__

    def _tidy(self) -> None:
        _journal.move_all(self._writing, check=False)
        _jobs.finish(self._writing, self._job, self._unused + self._spare, self._lost)
        self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # Look-ups

    def find(self, numbers: Sequence[int]) -> dict[int, Settlement]:
        with translate_errors(self._path):
            return self._lookup.find(numbers, since=self._since, failed_since=self._failed_since)

    # Settling: gather, hand over, hear that it is stored

    def settle(self, settlement: Settlement) -> None:
        self._gathered.append(settlement)
        self._taken += 1
        if self._under_way is None and not self._failed:
            if self._timer is None:
                self._schedule()
            elif len(self._gathered) == GATHER_ANSWERS:
                self._hand_over()

    async def flush(self) -> None:
        target = self._taken
        while self._stored < target:
            if self._under_way is None:
                self._hand_over()
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            error = await waiter
            if error is not None:
                raise error

    def _schedule(self) -> None:
        wait = self._last_commit + GATHER_SECONDS - self._loop.time()
        if wait <= 0 or len(self._gathered) >= GATHER_ANSWERS:
            self._timer = self._loop.call_soon(self._hand_over)
        else:
            self._timer = self._loop.call_later(wait, self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = self._unstored[0] if self._unstored else self._next_batch()
        self._under_way = batch
        self._last_commit = self._loop.time()
        self._writer.submit(
            partial(self._store, batch),
            on_done=partial(self._on_stored, batch),
            on_error=partial(self._on_not_stored, batch),
        )
        if not self._failed:
            self._mover.move_some(len(batch.answers))

    def _store(self, batch: Batch, connection: sqlite3.Connection) -> None:
        _journal.store(connection, batch, self._on_step)

    def _next_batch(self) -> Batch:
        """Take what was gathered, up to a batch, in the form in which it will be written."""
        settlements = self._gathered[:LARGEST_BATCH]
        code = self._endpoint_code
        keys: list[int] = []
        answers: list[bytes] = []
        failures: list[FailureRow] = []
        calls = lost = 0
        for settlement in settlements:
            result = settlement.result
            if isinstance(result, Check):
                keys.append(settlement.number << KEY_SHIFT | code)
                answers.append(packed(settlement, result))
                calls += settlement.calls
                lost += settlement.possibly_double_charged
            else:
                failures.append(failure_row(code, settlement, result, microseconds(self._now())))
        del self._gathered[: len(settlements)]
        lookup = self._lookup
        lookup.failures_known = lookup.failures_known or bool(failures)
        batch = Batch(
            settlements=settlements,
            id=self._next_id,
            keys=keys,
            answers=answers,
            calls=calls,
            possibly_double_charged=lost,
            failures=failures,
            clears_failures=bool(answers) and lookup.failures_known,
            job=self._job,
            leases=self._leases_ahead,
            max_calls=self._max_calls,
        )
        self._next_id += 1
        self._leases_ahead = False
        return batch

    def _on_stored(self, batch: Batch) -> None:
        if self._closed:
            return
        self._under_way = None
        if self._unstored:
            self._unstored.popleft()
        self._failed = bool(self._unstored)
        self._mover.add(batch)
        self._stored += len(batch.settlements)
        self._spare += batch.granted
        try:
            self._on_commit(batch.settlements)
        finally:
            if self._gathered and self._timer is None and not self._failed:
                self._schedule()
            self._wake(None)

    def _on_not_stored(self, batch: Batch, trouble: Exception) -> None:
        if self._closed:
            return
        self._under_way = None
        batch.granted = 0
        if not self._unstored:
            self._unstored.append(batch)
        error = ledger_error(self._path, trouble)
        if is_full(trouble) and self._reserve.release():
            # The run ends, and what is under way has room now: whoever waits for it hears how that went.
            self._tell(error)
            self._hand_over()
            return
        left = sum(len(batch.settlements) for batch in self._unstored) + len(self._gathered)
        self._fail(self._not_stored_error(error, left))

    def _on_not_moved(self, trouble: Exception) -> None:
        if not self._closed:
            self._fail(ledger_error(self._path, trouble))

    def _fail(self, error: LedgerError) -> None:
        self._failed = True
        try:
            self._tell(error)
        finally:
            self._wake(error)

    def _tell(self, error: LedgerError) -> None:
        told, self._told = self._told, True
        if not told:
            self._on_failure(error)

    def _not_stored_error(self, error: LedgerError, left: int) -> LedgerError:
        answers = "1 answer is" if left == 1 else f"{left} answers are"
        return LedgerError(f"{error.reason}; {answers} not stored")

    def _wake(self, error: LedgerError | None) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(error)

    # Calls

    def lease_calls(self, wanted: int, max_calls: int | None) -> int:
        if self._spare == 0:
            with translate_errors(self._path):
                self._spare = self._writer.run(partial(self._lease, max_calls=max_calls))
        granted = min(wanted, self._spare)
        self._spare -= granted
        if self._spare == 0 and not self._lease_is_coming():
            # The next block comes with the next batch, for no sync of its own.
            self._leases_ahead, self._max_calls = True, max_calls
        return granted

    def _lease(self, connection: sqlite3.Connection, max_calls: int | None) -> int:
        batch = self._under_way
        if batch is not None and batch.stored and batch.granted:
            # It came with a batch that is stored, and has not been told of yet. It may be the last one.
            granted, batch.granted = batch.granted, 0
            return granted
        return in_transaction(connection, partial(_jobs.lease, job=self._job, max_calls=max_calls))

    def _lease_is_coming(self) -> bool:
        """Whether a batch that is not stored yet brings a block: a run holds two at most, the one in use and this."""
        batches = (self._under_way, *self._unstored)
        return any(batch is not None and batch.leases for batch in batches)

    def return_calls(self, unused: int, *, lost: int = 0) -> None:
        self._unused += unused
        self._lost += lost
