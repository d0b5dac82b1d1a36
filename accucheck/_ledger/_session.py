"""A run's way to the ledger: look-ups, group commit, and calls leased ahead. Lives on the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from accucheck._errors import CheckError, LedgerError
from accucheck._ledger import _jobs, _journal
from accucheck._ledger._journal import LARGEST_BATCH, Batch, Point
from accucheck._ledger._lock import RunLock
from accucheck._ledger._lookup import Lookup
from accucheck._ledger._rows import (
    ENDPOINT_CODES,
    AnswerRow,
    Endpoint,
    FailureRow,
    answer_row,
    failure_row,
    microseconds,
)
from accucheck._ledger._schema import in_transaction
from accucheck._ledger._store import OnCommit, OnFailure
from accucheck._ledger._trouble import ledger_error, told_plainly
from accucheck._ledger._writer import Writer
from accucheck._models import Check, Settlement

GATHER_SECONDS: Final = 0.01
"""Commits begin at least this far apart; the first after a silence begins at once. Every commit costs a
millisecond of CPU beside a busy loop, and nobody waits for one: a worker goes on when it has settled."""
MOVE_AT: Final = 100_000
"""Answers in the journal when they are moved. It bounds what the look-up keeps in memory (11 MB)."""
_ALWAYS: Final = -(1 << 63)


class Session:
    """One run on a ledger; made by ``Ledger.session``. See ``AnswerStore`` for its methods.

    A batch that cannot be stored is kept, with all that is settled after it, and tried again by ``flush`` and
    ``close``.
    """

    def __init__(
        self,
        path: Path,
        *,
        writing: sqlite3.Connection,
        reading: sqlite3.Connection,
        lock: RunLock,
        endpoint: Endpoint,
        job: str,
        fresh_within: float | None,
        retry_failed: bool,
        now: Callable[[], float],
        before_commit: Point,
        after_commit: Point,
        move_at: int = MOVE_AT,
    ) -> None:
        self._path = path
        self._writing = writing
        self._reading = reading
        self._lock = lock
        self._writer = Writer(writing)
        self._endpoint_code = ENDPOINT_CODES[endpoint]
        self._job = job
        self._fresh_within = fresh_within
        self._now = now
        self._before_commit = before_commit
        self._after_commit = after_commit
        self._move_at = move_at
        self._failures_known = bool(writing.execute("SELECT EXISTS (SELECT 1 FROM failures)").fetchone()[0])

        self._recent: dict[int, int] = {}  # key -> journal id
        self._next_id = 1
        self._lookup = Lookup(reading, endpoint=endpoint, with_failures=not retry_failed, recent=self._recent)
        self._to_move: list[int] = []  # keys of the generation that is being moved, in descending order
        self._last_to_move = 0

        self._gathered: list[Settlement] = []
        self._under_way: Batch | None = None
        self._unstored: deque[Batch] = deque()  # begins with the batch that failed
        self._failed = False
        self._timer: asyncio.Handle | None = None
        self._last_commit = -1.0
        self._taken = self._stored = 0
        self._waiters: list[asyncio.Future[LedgerError | None]] = []

        self._spare = 0  # leased and not granted yet
        self._leases_ahead = False
        self._max_calls: int | None = None
        self._unused = self._lost = 0
        self._closed = False

    # Before and after the run

    def start(self, on_commit: OnCommit, on_failure: OnFailure) -> None:
        self._on_commit, self._on_failure = on_commit, on_failure
        self._loop = asyncio.get_running_loop()
        self._writer.start(self._loop)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._writer.stop()
            self._store_the_rest()
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
        try:
            with told_plainly(self._path):
                while batches or self._gathered:
                    if not batches:
                        batches.append(self._next_batch())
                    if not batches[0].stored:
                        self._store(batches[0], self._writing)
                    batches.popleft()
                _journal.move_all(self._writing)
                _jobs.finish(self._writing, self._job, self._unused + self._spare, self._lost)
        except LedgerError as error:
            left = sum(len(batch.settlements) for batch in batches if not batch.stored) + len(self._gathered)
            if left:
                raise self._not_stored_error(error, left) from error.__cause__
            raise

    # Look-ups

    def find(self, numbers: Sequence[int]) -> dict[int, Settlement]:
        fresh_within = self._fresh_within
        since = _ALWAYS if fresh_within is None else microseconds(self._now() - fresh_within)
        with told_plainly(self._path):
            return self._lookup.find(numbers, since)

    # Settling: gather, hand over, hear that it is stored

    def settle(self, settlement: Settlement) -> None:
        self._gathered.append(settlement)
        self._taken += 1
        if self._timer is None and self._under_way is None and not self._failed:
            self._schedule()

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
        if wait <= 0:
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
            self._move_some(len(batch.answers))

    def _store(self, batch: Batch, connection: sqlite3.Connection) -> None:
        _journal.store(connection, batch, self._before_commit, self._after_commit)

    def _next_batch(self) -> Batch:
        """Take what was gathered, up to a batch, as the rows that will be written."""
        settlements = self._gathered[:LARGEST_BATCH]
        code, now = self._endpoint_code, microseconds(self._now())
        answers: list[AnswerRow] = []
        failures: list[FailureRow] = []
        for settlement in settlements:
            result = settlement.result
            if isinstance(result, Check):
                answers.append(answer_row(code, settlement, result))
            else:
                failures.append(failure_row(code, settlement, result, now))
        del self._gathered[: len(settlements)]
        batch = Batch(
            settlements=settlements,
            first_id=self._next_id,
            answers=answers,
            failures=failures,
            clears_failures=self._failures_known and bool(answers),
            job=self._job,
            leases=self._leases_ahead,
            max_calls=self._max_calls,
        )
        self._next_id += len(answers)
        self._failures_known = self._failures_known or bool(failures)
        self._leases_ahead = False
        return batch
