"""The store in a SQLite file, for any number of processes on one machine."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar, cast

from accucheck._errors import LedgerError
from accucheck._models import Settlement
from accucheck._store import _repair
from accucheck._store._file import SPOILED, is_full, ledger_error
from accucheck._store._owner import RESERVE_BYTES
from accucheck._store._packing import row_of
from accucheck._store._permits import PermitRequest, Permits
from accucheck._store._protocol import Claims, Endpoint, Query
from accucheck._store._tables import Tables

__all__ = ["SQLiteStore"]

Result = TypeVar("Result")
Subject = TypeVar("Subject")

_RENEW_SECONDS: Final = 10.0
_IDLE_SECONDS: Final = 0.05
"""Seconds without work before the thread does what is not urgent."""
_WATCH_SECONDS: Final = 0.25
"""Seconds between checks that the file is still there while it is used."""


class SQLiteStore:
    """Answers, claims and calls in the ledger at ``path``, created if needed; see ``Store`` for its methods.

    One thread does all the work on the file. While it is used, ``PATH-wal``, ``PATH-shm`` and one ``PATH.run-…`` per
    process appear beside it.

    Args:
        path: Where it is.
        now: Returns seconds since 1970.
        reserve: Bytes of disk space to reserve while the store is open, 0 or more, for the answers in flight when the
            disk fills up.
    """

    durable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        now: Callable[[], float] = time.time,
        reserve: int = RESERVE_BYTES,
    ) -> None:
        self._ledger = _Ledger(Path(os.path.realpath(path)), now, reserve)
        self._now = now
        self._opening = asyncio.Lock()
        self._thread: _Thread[_Ledger] | None = None
        self._claimed: set[int] = set()  # asked for or granted; the thread sees each number once
        self._slots: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"SQLiteStore({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """Where the file is. It differs from the given path if that file vanished while the store was open."""
        return self._ledger.path

    async def open(self) -> None:
        async with self._opening:
            if self._thread is None:
                thread = _Thread(self._ledger, on_error=self._ledger.error, when_idle=self._ledger.idle)
                # A store abandoned without `aclose` does not keep its thread alive.
                self._finalizer = weakref.finalize(self, thread.stop)
                try:
                    await thread.submit(_Ledger.open)
                except BaseException:
                    thread.stop()
                    raise
                self._thread = thread

    async def aclose(self) -> None:
        async with self._opening:
            thread, self._thread = self._thread, None
            if thread is not None:
                self._claimed.clear()
                self._slots.clear()
                try:
                    await thread.submit(_Ledger.close)
                finally:
                    thread.stop()

    async def find(self, numbers: Sequence[int], query: Query) -> dict[int, Settlement]:
        return await self._run(lambda ledger: ledger.tables.find(numbers, query))

    async def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        claimed = self._claimed
        taken = {number for number in numbers if number in claimed}
        free = [number for number in dict.fromkeys(numbers) if number not in taken]
        claimed.update(free)
        work = self._submit(lambda ledger: ledger.claim(free, query))
        # Even if the caller is cancelled, what was claimed for it is recorded or released.
        try:
            claims = await asyncio.shield(work)
        except asyncio.CancelledError:
            work.add_done_callback(partial(self._release_unheard, free))
            raise
        except BaseException:
            claimed.difference_update(free)
            raise
        if claims.known or claims.taken:
            claimed.difference_update(claims.known, claims.taken)
        return Claims(claims.known, taken | claims.taken, claims.asked) if taken else claims

    def _release_unheard(self, numbers: list[int], work: asyncio.Future[Claims]) -> None:
        self._claimed.difference_update(numbers)
        if not work.cancelled() and work.exception() is None and self._thread is not None:
            self._thread.submit(lambda ledger: ledger.tables.release(numbers))

    async def release(self, numbers: Sequence[int]) -> None:
        held = [number for number in numbers if number in self._claimed]
        if held:
            try:
                await self._run(lambda ledger: ledger.tables.release(held))
            finally:
                self._claimed.difference_update(held)

    async def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        endpoint: Endpoint = "advanced",
        job: str = "",
        release: bool = True,
    ) -> None:
        now = self._now()
        rows = [row_of(settlement, endpoint, now) for settlement in settlements]
        calls = sum(settlement.calls for settlement in settlements)
        lost = sum(settlement.possibly_double_charged for settlement in settlements)
        slot = self._slots.get(job)
        await self._run(lambda ledger: ledger.settle(rows, job, slot, calls, lost, release))
        if release:
            self._claimed.difference_update([settlement.number for settlement in settlements])

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1) -> int:
        granted, slot = await self._run(lambda ledger: ledger.lease(wanted, max_calls, job, each))
        if granted:
            self._slots[job] = slot
        return granted

    def note_call(self, job: str = "", calls: int = 1) -> None:
        slot = self._slots.get(job)
        if slot is not None:
            with suppress(ValueError):  # the file is just being replaced by a rescued one
                self._ledger.tables.owner.count_made(slot, calls)

    async def return_calls(self, unused: int, *, lost: int = 0, job: str = "") -> None:
        if await self._run(lambda ledger: ledger.tables.return_calls(unused, lost=lost, job=job)):
            self._slots.pop(job, None)

    async def calls_made(self, job: str = "") -> int:
        return await self._run(lambda ledger: ledger.tables.calls_made(job))

    async def recall(self, name: str) -> str | None:
        return await self._run(lambda ledger: ledger.tables.recall(name))

    async def remember(self, name: str, value: str) -> None:
        await self._run(lambda ledger: ledger.tables.remember(name, value))

    async def lease_permits(self, request: PermitRequest) -> Permits:
        return await self._run(lambda ledger: ledger.tables.lease_permits(request))

    def _submit(self, work: Callable[[_Ledger], Result]) -> asyncio.Future[Result]:
        if self._thread is None:
            raise RuntimeError("the store is not open: call await store.open() first")
        return self._thread.submit(work)

    async def _run(self, work: Callable[[_Ledger], Result]) -> Result:
        return await self._submit(work)


class _Ledger:
    """The open file as the thread sees it: its tables, and what to do if the disk is full or the file vanishes."""

    tables: Tables

    def __init__(self, path: Path, now: Callable[[], float], reserve: int) -> None:
        self.path = path
        self._now = now
        self._reserve = reserve
        self._no_more: LedgerError | None = None
        """Why nothing more should be bought, although answers are still stored."""
        self._vanished: LedgerError | None = None
        self._told = False
        self._renewed_at = self._watched_at = 0.0
        self._opened = False

    def open(self) -> None:
        self.tables = Tables(self.path, now=self._now, reserve=self._reserve)
        self._renewed_at = self._watched_at = time.monotonic()
        self._opened = True

    def close(self) -> None:
        self._opened = False
        self.look()
        self.tables.close()
        if self._vanished is not None and not self._told:
            raise self._vanished

    def error(self, trouble: Exception) -> Exception:
        """Return an error as the store raises it."""
        return trouble if isinstance(trouble, RuntimeError) else ledger_error(self.path, trouble)

    def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        self._check()
        return self.tables.claim(numbers, query)

    def lease(self, wanted: int, max_calls: int | None, job: str, each: int) -> tuple[int, int]:
        self._check()
        return self.tables.lease(wanted, max_calls=max_calls, job=job, each=each)

    def settle(
        self,
        rows: Sequence[tuple[int, int, bool | None, bytes]],
        job: str,
        slot: int | None,
        calls: int,
        lost: int,
        release: bool,
    ) -> None:
        self.tick()
        try:
            self.tables.settle(rows, job=job, possibly_double_charged=lost, release=release)
        except Exception as trouble:
            if is_full(trouble) and self.tables.owner.release_reserve():
                self._no_more = ledger_error(self.path, trouble)
            elif not self.look():
                raise
            self.tables.settle(rows, job=job, possibly_double_charged=lost, release=release)
        if slot is not None:
            self.tables.owner.count_settled(slot, calls)

    def _check(self) -> None:
        """Raise what forbids buying more."""
        self.tick()
        if self._no_more is not None:
            self._told = True
            raise self._no_more

    def idle(self) -> None:
        """Do work that nobody waits for; the next caller gets its error."""
        if self._opened:
            with suppress(sqlite3.Error):
                self.tables.drop_settled()
                self._renew_if_due()  # with every number PENDING nothing else may reach the file for long

    def tick(self) -> None:
        """Do periodic work that is due."""
        now = time.monotonic()
        if now - self._watched_at >= _WATCH_SECONDS:
            self._watched_at = now
            self.look()
        self._renew_if_due()

    def _renew_if_due(self) -> None:
        now = time.monotonic()
        if now - self._renewed_at >= _RENEW_SECONDS:
            self._renewed_at = now
            self.tables.renew()

    def look(self) -> bool:
        """Check that the file is still there. If not, continue with a copy of its contents, and return that."""
        trouble = self.tables.trouble()
        if trouble is None:
            return False
        before = self.path
        try:
            self.path = _repair.rescue(self.tables, trouble)
        except Exception as failure:
            reason = ledger_error(before, failure).reason
            raise LedgerError(
                f"ledger {before}: it {trouble} while it was in use, and could not be recovered ({reason})"
            ) from failure
        self.tables = Tables(self.path, now=self._now, reserve=0)
        saved = "everything it still held" if trouble in SPOILED else "everything it held"
        self._no_more = self._vanished = LedgerError(
            f"ledger {before}: it {trouble} while it was in use, so no more calls are made; "
            f"{saved} and everything bought is in {self.path}"
        )
        return True


class _Thread(Generic[Subject]):
    """Does one piece of work after another on ``subject``, in a thread, and passes the results to event loops.

    It is a daemon thread, so that a store left open does not keep the interpreter alive. Submitted work is done even if
    its caller no longer waits.
    """

    def __init__(
        self, subject: Subject, *, on_error: Callable[[Exception], Exception], when_idle: Callable[[], None]
    ) -> None:
        """``on_error`` returns what the caller gets; ``when_idle`` is called when there is nothing else to do."""
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._subject = subject
        self._on_error = on_error
        threading.Thread(
            target=_serve, args=(self._queue, when_idle), name="accucheck ledger", daemon=True
        ).start()

    def submit(self, work: Callable[[Subject], Result]) -> asyncio.Future[Result]:
        """Queue ``work`` after everything already submitted; the future belongs to the running loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def tell(result: Result | None, error: Exception | None) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
                future.exception()  # seen, though its caller may have gone
            else:
                future.set_result(cast("Result", result))

        def do() -> None:
            result = error = None
            try:
                result = work(self._subject)
            except Exception as trouble:  # noqa: BLE001 (the caller gets it, whatever it is)
                error = self._on_error(trouble)
            with suppress(RuntimeError):  # the loop is closed: nobody is left to hear of it
                loop.call_soon_threadsafe(tell, result, error)

        self._queue.put(do)
        return future

    def stop(self) -> None:
        """End the thread once all submitted work is done."""
        self._queue.put(None)


def _serve(queue: SimpleQueue[Callable[[], None] | None], when_idle: Callable[[], None]) -> None:
    silence = _RENEW_SECONDS
    while True:
        try:
            do = queue.get(timeout=silence)
        except Empty:
            when_idle()
            silence = _RENEW_SECONDS
            continue
        if do is None:
            return
        do()
        del do  # it holds the subject and the result
        silence = _IDLE_SECONDS
