"""Single checks: one task per number, which all its callers wait for."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from accucheck._admission import FIRST_CLAIM_WAIT, InFlight, PendingNumber, first_step_of, next_claim_wait
from accucheck._arguments import Timeouts
from accucheck._attempt import Attempt
from accucheck._budgets import CallBudget
from accucheck._circuit import Circuit
from accucheck._concurrency import EngineTask, settled
from accucheck._decide import Done, Stop, Wait
from accucheck._errors import (
    CheckError,
    InvalidArgument,
    LedgerError,
    PendingTimeout,
    RateLimited,
    TransportError,
    VendorUnavailable,
)
from accucheck._events import Listeners, settled_event
from accucheck._host import Host
from accucheck._models import Check, Settlement, Stats
from accucheck._open_stores import SharedStore
from accucheck._settler import Settler
from accucheck._store import EndpointChoice, Query

__all__ = ["Checks"]

logger = logging.getLogger("accucheck")

_RECENT_SECONDS: Final = 60.0
"""Seconds that a client without a ledger remembers the answers of its checks, unless ``fresh_within`` is set."""
_RECENT_ANSWERS: Final = 10_000


class _Waiter:
    """A caller of ``check``."""

    __slots__ = ("expires", "future", "run")

    def __init__(self, expires: float | None) -> None:
        self.future: asyncio.Future[Settlement | None] = asyncio.get_running_loop().create_future()
        self.expires = expires
        self.run: _Run | None = None
        """None if it waits for a stream's number."""

    def fails_fast(self, circuit: Circuit) -> bool:
        """Whether it need not wait while the circuit is open: the next probe comes after its deadline."""
        return self.expires is None or self.expires < circuit.retry_at

    def tell(self, result: Settlement | Exception | None) -> None:
        """Let the caller continue; None means that it must get the answer itself."""
        if self.future.done():
            return
        if isinstance(result, Exception):
            if self.run is not None:
                self.run.failed = True
            self.future.set_exception(result)
            self.future.exception()  # mark it as retrieved, in case the caller has just given up
        else:
            if result is not None and self.run is not None:
                self.run.answered = True
            self.future.set_result(result)


class _Run:
    """One number that checks are waiting for, and the task that drives it."""

    __slots__ = (
        "answered",
        "asking",
        "claimed",
        "counted",
        "entry",
        "failed",
        "stored",
        "taken",
        "task",
        "waiters",
    )

    def __init__(self, entry: PendingNumber) -> None:
        self.entry = entry
        self.waiters: set[_Waiter] = set()
        self.task: EngineTask[None] | None = None
        self.taken = False  # by another process, whose answer is waited for
        self.claimed = False
        self.asking = False  # claimed, so only the vendor can answer
        self.counted = False  # as known, answered or failed
        self.answered = False  # a caller was given an answer, perhaps that of the first step only
        self.failed = False  # a caller got an error; it counts unless an answer arrives after all
        self.stored: asyncio.Future[Exception | None] | None = None

    def wait(self, change: int) -> None:
        """Do nothing: each task has one number."""

    def wants(self) -> bool:
        return bool(self.waiters)

    def choose(self) -> PendingNumber | None:
        """Choose the number, if anybody still waits for it."""
        return self.entry if self.waiters else None

    @property
    def paid(self) -> bool:
        """Whether a call that is or may be paid for is in flight or not yet stored."""
        return self.entry.calling or self.stored is not None


class Checks:
    """The single checks of a client, with one task per number, which its callers wait for.

    If a caller gives up, its paid call settles in the background.
    """

    def __init__(
        self,
        *,
        attempt: Attempt,
        shared: SharedStore | None,
        in_flight: InFlight,
        endpoint: EndpointChoice,
        fresh_within: float | None,
        budget: CallBudget | None,
        events: Listeners,
    ) -> None:
        """``shared`` is the client's ledger, None if it has none; ``in_flight`` has the numbers being bought."""
        self._attempt = attempt
        self._host: Host = attempt.host
        self._shared = shared
        self._in_flight = in_flight
        self._endpoint = endpoint
        self._fresh_within = fresh_within
        self._budget = budget
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._runs: dict[int, _Run] = {}
        self._waiters: set[_Waiter] = set()
        self._recent: OrderedDict[int, tuple[float, Settlement]] = OrderedDict()
        self._closed = False
        self._read = self._duplicates = self._known = self._yes = self._no = self._failed = 0
        self._store = None if shared is None else shared.store
        self._settler: Settler[_Run] | None = None
        self._probe: asyncio.Event = asyncio.Event()
        self._host.listeners.add(self._on_circuit)

    # For the caller

    async def check(
        self, number: int, expires: float | None, *, timeouts: Timeouts | None = None, key: object = None
    ) -> Check:
        """Return the answer for a national number, buying it if necessary; see ``Client.check``."""
        self._read += 1
        while True:
            settlement = self._remembered(number)
            if settlement is None:
                settlement = await self._wait_for(number, expires, timeouts, key)
            if settlement is None:
                continue
            if isinstance(settlement.result, CheckError):
                raise _again(settlement.result)
            return settlement.result

    async def _wait_for(
        self, number: int, expires: float | None, timeouts: Timeouts | None, key: object
    ) -> Settlement | None:
        if self._closed:
            self._failed += 1
            raise RuntimeError("the client is closed: create a new one")
        if self._settler is not None and self._settler.failed is not None:
            try:
                await self._settler.flush()  # do not buy answers that cannot be stored
            except Exception:
                self._failed += 1
                raise
        waiter = _Waiter(expires)
        run = self._runs.get(number)
        entry = self._in_flight.get(number) if run is None else run.entry
        joins = entry is not None
        if entry is None:
            run = self._start(number, timeouts, key)
            entry = run.entry
        else:
            self._duplicates += 1
        if run is not None:
            waiter.run = run
            run.waiters.add(waiter)
        else:
            entry.join(waiter, waiter.tell)
            if self._host.circuit.opened and waiter.fails_fast(self._host.circuit):
                entry.leave(waiter)
                raise self._unavailable(number)
            if entry.expedite is not None:
                entry.expedite(entry)
        self._waiters.add(waiter)
        timer = None
        if expires is not None:
            timer = self._loop.call_at(
                expires, lambda: waiter.tell(entry.first_answer() or self._too_late(entry))
            )
        try:
            settlement = await waiter.future
            if settlement is None and joins:
                self._duplicates -= 1  # now this caller asks for it
            return settlement
        except Exception as error:  # noqa: BLE001 (the same error may reach several callers)
            raise _again(error).with_traceback(error.__traceback__) from error.__cause__
        finally:
            if timer is not None:
                timer.cancel()
            self._waiters.discard(waiter)
            if run is None:
                entry.leave(waiter)
            else:
                run.waiters.discard(waiter)
                if not run.waiters and not run.paid and run.task is not None:
                    run.task.end()

    def _too_late(self, entry: PendingNumber) -> CheckError:
        """Return the error of a caller whose deadline has passed, with what the last reply said."""
        if self._host.circuit.opened:
            return self._unavailable(entry.number)
        run, last = self._runs.get(entry.number), entry.last
        limited = last is not None and last.row.fate == "slow_down"
        kind: type[CheckError] = RateLimited
        if entry.calling or entry.polls:
            kind, why = PendingTimeout, "no answer by the deadline"
        elif limited and entry.refusals:
            calls = "call" if entry.refusals == 1 else "calls"
            why = f"AccuAuth refused {entry.refusals} {calls} for its rate limit before the deadline"
        elif entry.failures:
            kind, why = TransportError, f"no answer by the deadline; {self._host.cause}"
        elif run is not None and run.taken:
            kind, why = PendingTimeout, "another process was still checking the number at the deadline"
        else:
            why = "the rate limit left no room for a call before the deadline"
        return kind(
            why if kind is TransportError else f"{why}: try again later",
            number=f"+51{entry.number}",
            calls=entry.calls,
            possibly_double_charged=entry.lost,
            request_id="" if last is None else last.request_id,
            http_status=None if last is None else last.http_status,
            retry_after=None if last is None else last.retry_after,
        )

    def _unavailable(self, number: int) -> VendorUnavailable:
        wait = max(self._host.circuit.retry_at - self._loop.time(), 0.0)
        return VendorUnavailable(
            f"{self._host.name} is unavailable ({self._host.cause}): try again later",
            number=f"+51{number}",
            retry_after=wait,
        )

    def _on_circuit(self) -> None:
        self._probe.set()
        self._probe = asyncio.Event()
        if self._host.circuit.opened:
            self._fail_fast()

    def _fail_fast(self) -> None:
        """Tell callers that the vendor is unavailable, unless the next probe comes before their deadline."""
        for run in tuple(self._runs.values()):
            if run.asking and not run.paid:
                for waiter in tuple(run.waiters):
                    if waiter.fails_fast(self._host.circuit):
                        waiter.tell(run.entry.first_answer() or self._unavailable(run.entry.number))

    # Recent answers, without a ledger

    def _remembered(self, number: int) -> Settlement | None:
        if self._shared is not None:
            return None
        at, settlement = self._recent.get(number, (-math.inf, None))
        keep = _RECENT_SECONDS if self._fresh_within is None else self._fresh_within
        if settlement is None or self._loop.time() - at > keep:
            return None
        self._known += 1
        return settlement

    def _remember(self, settlement: Settlement) -> None:
        if isinstance(settlement.result, Check | InvalidArgument):
            self._recent[settlement.number] = self._loop.time(), settlement
            self._recent.move_to_end(settlement.number)
            while len(self._recent) > _RECENT_ANSWERS:
                self._recent.popitem(last=False)

    # Driving a number

    def _start(self, number: int, timeouts: Timeouts | None, key: object) -> _Run:
        entry = PendingNumber(str(number), -1, key, timeouts, number=number, store=self._store)
        self._in_flight[number] = entry
        run = self._runs[number] = _Run(entry)
        run.task = EngineTask(self._drive(run), name="check", on_cancel=lambda: self._shut_down(run))
        run.task.add_done_callback(lambda _: self._forget(run))  # even if it was ended before it began
        return run

    async def _drive(self, run: _Run) -> None:
        result: Settlement | Exception | None = None
        bought = False
        try:
            result = await self._known_or_claimed(run)
            if result is None:
                result = await self._buy(run)
                bought = result is not None
        except Exception as error:  # noqa: BLE001 (it is raised again, from check)
            result = error
        finally:
            if run.claimed and not bought and run.stored is None:  # what is not stored yet keeps its claim
                await self._release(run.entry.number)
            for waiter in tuple(run.waiters):
                waiter.tell(result)
            run.entry.tell(result if bought and isinstance(result, Settlement) else None)
            self._forget(run)

    def _forget(self, run: _Run) -> None:
        number = run.entry.number
        if self._runs.get(number) is run:
            del self._runs[number]
            if not run.counted:
                self._yes += run.answered
                self._failed += run.failed and not run.answered
        if self._in_flight.get(number) is run.entry:
            del self._in_flight[number]
            run.entry.tell(None)
            for waiter in tuple(run.waiters):
                waiter.tell(None)

    async def _release(self, number: int) -> None:
        assert self._store is not None
        try:
            await self._store.release([number])
        except LedgerError as error:
            logger.warning("a claim could not be released: %s", error.reason)

    async def _known_or_claimed(self, run: _Run) -> Settlement | None:
        """Return what the ledger knows; None if the number is claimed now."""
        if self._store is not None:
            wait = FIRST_CLAIM_WAIT
            number = run.entry.number
            while True:
                claims = await self._store.claim([number], self._query())
                if number in claims.known:
                    self._known += 1
                    run.counted = True
                    return claims.known[number]
                run.taken = number in claims.taken
                if not run.taken:
                    break
                await asyncio.sleep(wait)
                wait = next_claim_wait(wait)
            run.claimed = True
        if self._endpoint == "cascade":
            await self._find_first_step(run.entry)
        run.asking = True
        return None

    async def _find_first_step(self, entry: PendingNumber) -> None:
        found: Mapping[int, Settlement] = {}
        if self._store is not None:
            found = await self._store.find([entry.number], first_step_of(self._query()))
        entry.basic = not found
        for first in found.values():
            assert isinstance(first.result, Check)
            entry.first = first.result

    def _query(self) -> Query:
        since = -math.inf if self._fresh_within is None else time.time() - self._fresh_within
        # A known failure does not answer a single check: it asks again.
        return Query(endpoint=self._endpoint, yes_since=since, no_since=since, failed_since=math.inf)

    async def _buy(self, run: _Run) -> Settlement | None:
        """Call until the number is settled; None if nobody waits for it any longer."""
        entry, circuit = run.entry, self._host.circuit
        while run.waiters:
            if circuit.opened and not circuit.admits(self._loop.time()):
                self._fail_fast()
                await self._probe.wait()
                continue
            decision = await self._attempt.make(run, urgent=True)
            match decision:
                case Done(result):
                    settlement = entry.settlement(result)
                    if entry.basic and isinstance(result, Check) and result.whatsapp:
                        await self._store_it(run, settlement)
                        run.stored = None
                        self._attempt.to_second_step(entry, result)
                        continue
                    return await self._settle(run, settlement)
                case Wait(seconds, then):
                    if circuit.opened:
                        self._fail_fast()
                    if then != "refused" and run.waiters:  # after a refusal, the wait is at the gate
                        await asyncio.sleep(seconds)
                case Stop(error):
                    raise error
                case None:
                    pass
        return None

    async def _store_it(self, run: _Run, settlement: Settlement) -> None:
        """Have an answer stored, if there is a store."""
        if self._store is None:
            return
        if self._settler is None:
            settler: Settler[_Run] = Settler(self._store, job="", on_failure=self._on_not_stored)
            self._settler = settler
            self._first_step = settler.step("basic", self._deliver, release=False)
            self._only_step = settler.step("basic", self._deliver)
            self._last_step = settler.step(
                "advanced" if self._endpoint == "cascade" else self._endpoint, self._deliver
            )
        step = self._last_step
        if run.entry.basic:
            goes_on = isinstance(settlement.result, Check) and settlement.result.whatsapp
            step = self._first_step if goes_on else self._only_step
        run.stored = self._loop.create_future()
        self._settler.add(step, run, settlement)
        await settled(run.stored)
        error = run.stored.result()
        if error is not None:
            raise error

    async def _settle(self, run: _Run, settlement: Settlement) -> Settlement:
        """Have the answer stored, or remembered; return what the callers get."""
        await self._store_it(run, settlement)
        settlement = run.entry.of_both_steps(settlement)
        if self._store is None:
            self._remember(settlement)
        result = settlement.result
        run.counted = True
        self._failed += not isinstance(result, Check)
        self._yes += isinstance(result, Check) and result.whatsapp
        self._no += isinstance(result, Check) and not result.whatsapp
        if self._events.tell is not None:
            self._events.tell(settled_event(settlement, key=run.entry.item))
        return settlement

    def _deliver(self, runs: Sequence[_Run], settlements: Sequence[Settlement]) -> None:
        for run in runs:
            if run.stored is not None and not run.stored.done():
                run.stored.set_result(None)

    def _on_not_stored(self, error: Exception) -> None:
        """Tell the callers; the settler keeps the answers and stores them as soon as possible."""
        for run in self._runs.values():
            if run.stored is not None and not run.stored.done():
                run.stored.set_result(error)

    # The end

    def _shut_down(self, run: _Run) -> None:
        """The event loop is shutting down: end a number that is not paid for."""
        self._closed = True
        if run.task is not None:
            if run.paid:
                run.waiters.clear()
            else:
                run.task.end()

    async def aclose(self, grace: float) -> None:
        """Give paid calls up to ``grace`` seconds to settle, and store what is not stored. May raise LedgerError."""
        self._closed = True
        self._host.listeners.discard(self._on_circuit)
        for run in tuple(self._runs.values()):
            for waiter in tuple(run.waiters):
                waiter.tell(RuntimeError("the client was closed"))
            run.waiters.clear()
            if not run.paid and run.task is not None:
                run.task.end()
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.end()
            if late:
                await asyncio.wait(late)
        for waiter in tuple(self._waiters):  # those waiting for a stream's number
            waiter.tell(RuntimeError("the client was closed"))
        try:
            if self._settler is not None:
                try:
                    await self._settler.flush()
                finally:
                    await self._settler.close()
        finally:
            if self._budget is not None:
                await self._budget.close(lost=self._attempt.counters.cut_off)

    @property
    def stats(self) -> Stats:
        """The totals of the checks."""
        return self._attempt.counters.stats(
            read=self._read,
            duplicates=self._duplicates,
            known=self._known,
            yes=self._yes,
            no=self._no,
            failed=self._failed,
        )


def _again(error: Exception) -> Exception:
    """Return a copy of an error for one of several callers, so that tracebacks do not accumulate."""
    try:
        return copy.copy(error)
    except Exception:  # noqa: BLE001 (not every error of a transport can be copied)
        return error
