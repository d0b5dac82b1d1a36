"""The engine of a stream: admission, bounded workers, delays, and outcomes as they arrive.

The path of one number::

    items -> Input -> Admission -> ready -> a worker: Attempt.make -> Settler -> _deliver -> OutcomeQueue
                          |          ^            |
                          |          +- DelayQueue <-+   (a poll or a retry; the worker is free in the meantime)
                          +-> known to the store, or bought elsewhere: its answer is yielded unchanged

1. ``Input.read`` takes items out of the caller's iterable, in the reader task.
2. ``Admission`` normalizes, joins rows with the same number, and claims numbers in the store, in the claimer task. A
   number that the store knows is an outcome at once. One that another stream or check of this client is buying is
   joined. One that another process is buying is claimed again a little later.
3. The rest are ``ready``. A worker waits for a permit, takes a number (``choose``), sends once and decides, all in
   ``Attempt.make``.
4. ``_act``: a settled number goes to the ``Settler``. One that must wait goes to the ``DelayQueue``, which hands it
   back to ``_due``. An error that ends the run is kept and raised after the outcomes.
5. The settler stores answers in groups; ``_deliver`` turns stored answers into outcomes for the caller.

Every task here is an ``EngineTask``: the caller's cancel scopes do not reach it, and however the block is left, the
supervisor settles what is paid for. A stream is a context manager, not an async generator: a task group inside a
generator keeps making paid calls after ``break`` (PEP 789).
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import os
import sys
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import msgspec

from accucheck._admission import Admission, InFlight, Limits, PendingNumber
from accucheck._attempt import Attempt
from accucheck._budgets import CallBudget
from accucheck._circuit import Brake
from accucheck._concurrency import DelayQueue, EngineTask, OutcomeQueue, settled
from accucheck._decide import Decision, Done, Stop, Wait
from accucheck._errors import (
    AccucheckError,
    CheckError,
    LedgerError,
    Outage,
    PendingTimeout,
    RefusedAlike,
    StillPending,
    UniformRefusals,
)
from accucheck._events import Key, Listeners, RunFinished, RunStarted, settled_event
from accucheck._models import Check, Outcome, Settlement, Stats
from accucheck._settler import Settler
from accucheck._store import Endpoint, Query, Store

__all__ = ["RunContext", "Stream"]

Item = TypeVar("Item")
logger = logging.getLogger("accucheck")

_SECONDS_A_MINUTE: Final = 60
_GIVEN_UP: Final = (PendingTimeout, StillPending)
"""What becomes of a number that stays PENDING."""


class RunContext(msgspec.Struct, frozen=True):
    """What a run works with. Created on entering, so that a stream never entered holds nothing."""

    attempt: Attempt
    store: Store
    query: Query
    in_flight: InFlight
    events: Listeners
    key: Key | None = None
    job: str = ""
    budget: CallBudget | None = None
    close: Callable[[], Awaitable[None]] | None = None
    """Awaited once at the end of the run; may raise LedgerError."""


class _Worker:
    """A task that makes calls. While it has a number, it must be allowed to finish."""

    __slots__ = ("entry", "only", "stream", "task")

    def __init__(self, stream: Stream[Any], only: PendingNumber | None = None) -> None:
        self.stream = stream
        self.task: EngineTask[None] | None = None
        self.entry: PendingNumber | None = None
        self.only = only
        """The only number that it calls; None: it takes the next ones."""

    def wait(self, change: int) -> None:
        """Count the workers at the gate."""
        if self.only is None:
            self.stream._claims += change

    def wants(self) -> bool:
        stream = self.stream
        has_one = self.only is not None or bool(stream._admission.ready or stream._due)
        return has_one and not stream._stopping

    def choose(self) -> PendingNumber | None:
        """Take the number that gets the permit; None if there is none left."""
        stream = self.stream
        if stream._stopping:
            return None
        entry = self.only
        if entry is None:
            ready, due = stream._admission.ready, stream._due
            if not (ready or due):
                return None
            # New numbers get half of the permits while any are waiting, however many polls are due.
            repeat = stream._repeated_last = bool(due) and (not ready or not stream._repeated_last)
            entry = due.popleft() if repeat else ready.popleft()
            stream._admission.make_room()
        stream._exposed += 1
        self.entry = entry
        return entry


class Stream(Generic[Item]):
    """Outcomes as they finish: ``async with client.stream(...) as outcomes: async for outcome in outcomes``.

    Errors that end the run are raised by the iteration, after every outcome that was already paid for. However the
    block is left, calls in flight get a grace period to return. Created by ``Client.stream``; several tasks may iterate
    over one stream.

    Examples:
        ```python
        numbers: list[accucheck.Numeric] = ["987654321", 912345678, None]
        async with accucheck.Client() as client:
            outcomes: accucheck.Stream[accucheck.Numeric]
            async with client.stream(numbers) as outcomes:
                async for outcome in outcomes:
                    print(outcome.item, outcome.calls)
                    if outcomes.stats.failed > 100:
                        outcomes.stop()
        ```
    """

    def __init__(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        number: Callable[[Item], str | int | float | None],
        *,
        enter: Callable[[Stream[Any]], Awaitable[RunContext]],
        limits: Limits,
        ordered: bool = False,
        mobile_only: bool = False,
        outage_after: float | None = None,
    ) -> None:
        self._items = items
        self._number = number
        self._enter = enter
        self._limits = limits
        self._mobile_only = mobile_only
        self._outage_after = outage_after
        self._run_id = os.urandom(8).hex()
        self._outcomes: OutcomeQueue[Item] = OutcomeQueue(ordered=ordered)
        self._due: deque[PendingNumber] = deque()
        self._delayed: DelayQueue[PendingNumber] = DelayQueue(self._release)
        self._repeated_last = False  # if both are waiting, repeated and new calls alternate

        self._entering = self._entered = False
        self._workers: set[_Worker] = set()
        self._spawned = 0
        self._idle: list[asyncio.Future[None]] = []
        self._exposed = 0  # calls sent whose answers are not yet stored
        self._most_exposed = sys.maxsize
        self._unproven: Brake | None = None  # until something has succeeded
        self._claims = 0  # workers at the gate, each waiting for one of the waiting numbers
        self._outage_timer: asyncio.TimerHandle | None = None

        self._exhausted = False  # the input has ended or is no longer read, and is closed
        self._stopping = False
        self._all_done = asyncio.Event()
        self._left = asyncio.Event()
        self._cut_timer: asyncio.TimerHandle | None = None
        self._yes = self._no = self._failed = self._pending_settled = 0
        self._started_at = 0.0
        self._ended_at: float | None = None
        self._closing_error: LedgerError | None = None

    # For the caller

    async def __aenter__(self) -> Stream[Item]:
        if self._entering:
            raise RuntimeError("a stream can be entered once; make another with client.stream()")
        self._entering = True
        self._run = run = await self._enter(self)
        self._attempt, self._host, self._store = run.attempt, run.attempt.host, run.store
        self._unproven = run.attempt.basic_brake or run.attempt.brake
        if run.store.durable:
            # As many answers may wait for the disk as calls may be in flight. With half as many, workers at full speed
            # waited for commits, which cost a quarter of the checks/s.
            self._most_exposed = 2 * self._limits.workers
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._started_at = self._loop.time()
        endpoint = run.query.endpoint
        self._endpoint: Endpoint = "advanced" if endpoint == "cascade" else endpoint
        settler: Settler[PendingNumber] = Settler(run.store, job=run.job, on_failure=self._end)
        self._settler = settler
        self._first_step = settler.step("basic", self._begin_second_step, release=False)
        self._only_step = settler.step("basic", self._deliver)
        self._last_step = settler.step(self._endpoint, self._deliver)
        self._admission = Admission(
            self._items,
            self._number,
            mobile_only=self._mobile_only,
            store=run.store,
            query=run.query,
            in_flight=run.in_flight,
            outcomes=self._outcomes,
            limits=self._limits,
            waiting=self._count_waiting,
            on_ready=self._on_ready,
            on_asked=None if run.attempt.later is None else self._on_asked,
            on_joined=self._on_joined,
            expedite=self._expedite,
        )
        self._entered = True
        if run.events.tell is not None:
            run.events.tell(RunStarted(self._run_id, run.job))
        self._host.listeners.add(self._on_circuit)
        self._on_circuit()
        self._reader = self._spawn(self._read(), "input")
        self._reader.add_done_callback(self._on_read)
        self._claimer = self._spawn(self._claim(), "claims")
        self._supervisor = self._spawn(self._supervise(), "supervisor")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        await settled(self._supervisor)
        self._supervisor.result()
        unsaid = self._outcomes.error or self._closing_error
        if error is None and isinstance(unsaid, LedgerError):
            # The block was left early, with an answer that could not be stored: say so.
            raise unsaid

    def __aiter__(self) -> AsyncIterator[Outcome[Item]]:
        return self

    async def __anext__(self) -> Outcome[Item]:
        if not self._entered:
            raise RuntimeError("enter the stream first: async with client.stream(...) as outcomes")
        outcome = await self._outcomes.take()
        self._admission.make_room()
        return outcome

    def stop(self) -> None:
        """Take no more items: calls in flight return, their outcomes are yielded, then the iteration ends.

        Raises nothing. For items without an outcome, see ``unasked``.
        """
        self._end(None)

    @property
    def run_id(self) -> str:
        """The id of this run in its events and in telemetry: 16 hexadecimal digits."""
        return self._run_id

    def undelivered(self) -> list[Outcome[Item]]:
        """Take the outcomes that you did not iterate over; complete after leaving the block."""
        return self._outcomes.drain()

    @property
    def unasked(self) -> list[Item]:
        """Items that were read from the input and have no outcome, in the order of the input.

        Read it after leaving the block. It includes items whose calls did not return within the grace period.
        """
        return self._admission.unasked() if self._entered else []

    @property
    def pause(self) -> float:
        """Seconds until the quotas and hours of the client's ``rate`` allow a call; 0.0 if they allow one now."""
        return getattr(self._attempt.gate, "pause", 0.0)

    @property
    def stats(self) -> Stats:
        """A snapshot of the run; readable at any time, even after the end."""
        if not self._entered:
            return Stats()
        calls, admission, ended = self._attempt.counters, self._admission, self._ended_at
        return calls.stats(
            read=admission.read,
            rejected=admission.rejected,
            duplicates=admission.duplicates,
            known=admission.known,
            known_failed=admission.known_failed,
            yes=self._yes,
            no=self._no,
            failed=self._failed,
            delayed=self._count_waiting(),
            pending_now=calls.pending - self._pending_settled,
            delivered=self._outcomes.taken,
            rate=self._attempt.gate.rate if ended is None else None,
            elapsed=(self._loop.time() if ended is None else ended) - self._started_at,
        )

    # Input -> ready

    async def _read(self) -> None:
        with self._ending_the_run():
            if not self._stopping:
                await self._admission.read_all()

    def _on_read(self, _task: object) -> None:
        self._exhausted = True
        self._check_done()

    async def _claim(self) -> None:
        with self._ending_the_run():
            await self._admission.claim_all()

    def _on_ready(self, jobs: int) -> None:
        self._wake(jobs)
        if self._exhausted:
            self._check_done()  # the last numbers may have been known

    def _on_asked(self, entry: PendingNumber, asked_at: datetime, is_pending: bool) -> bool:
        """Delay a number that an earlier run left pending, or asked for too recently; return whether it is delayed."""
        if self._stopping:
            return False
        if is_pending:
            seconds = self._attempt.collect(entry, asked_at)
        elif not (seconds := self._attempt.too_soon(asked_at)):
            return False
        self._delayed.delay(entry, seconds)
        return True

    def _count_waiting(self) -> int:
        return len(self._delayed) + len(self._due) + self._admission.waiting

    def _on_joined(self, entry: PendingNumber, other: PendingNumber, settlement: Settlement | None) -> None:
        """Continue with a number that another stream or check of this client was buying."""
        if self._stopping and settlement is None:
            return
        if settlement is None:
            self._admission.claim_again([entry])
            return
        result = settlement.result
        bought = Settlement(entry.number, result if isinstance(result, Check) else copy.copy(result))
        if other.store is self._store:
            self._deliver([entry], [bought])
        elif other.basic or result is other.first:
            self._settler.add(self._only_step, entry, bought)
        else:
            self._settler.add(self._last_step, entry, bought)

    # Ready -> call

    async def _work(self, worker: _Worker) -> None:
        make = self._attempt.make
        with self._ending_the_run(worker):
            while not self._stopping:
                if not self._has_job():
                    await self._wait_for_job()
                    continue
                decision = await make(worker)
                entry, worker.entry = worker.entry, None
                if decision is not None:
                    assert entry is not None
                    self._act(entry, decision)

    def _has_job(self) -> bool:
        if len(self._admission.ready) + len(self._due) <= self._claims:
            return False
        if self._exposed + self._claims >= self._most_exposed:
            return False  # buy no more than a kill may lose; the next commit wakes us
        if self._unproven is not None and not self._unproven.admits(self._calls_begun()):
            return False  # few calls until the first has succeeded, which wakes us
        circuit = self._host.circuit
        return not circuit.opened or circuit.admits(self._loop.time())

    def _calls_begun(self) -> int:
        return self._attempt.counters.in_flight + self._claims

    def _expedite(self, entry: PendingNumber) -> None:
        """Call a ready number before all others, because a single check waits for it."""
        if self._stopping or entry not in self._admission.ready:
            return
        self._admission.ready.remove(entry)
        worker = _Worker(self, only=entry)
        self._workers.add(worker)
        worker.task = self._spawn(self._call_first(worker, entry), "urgent worker")

    async def _call_first(self, worker: _Worker, entry: PendingNumber) -> None:
        with self._ending_the_run(worker):
            decision = await self._attempt.make(worker, urgent=True)
            worker.entry = None
            if decision is not None:
                self._act(entry, decision)
            elif not self._stopping:
                self._admission.ready.appendleft(entry)
                self._wake(1)

    def _act(self, entry: PendingNumber, decision: Decision) -> None:
        match decision:
            case Done():
                self._settle(entry, decision.result)
            case Wait(seconds, then):
                self._exposed -= 1
                if self._stopping and then == "poll" and self._attempt.later is not None:
                    self._settle_pending([entry])
                elif then == "refused":
                    self._due.appendleft(entry)  # it has waited longest; meanwhile the gate holds everyone
                else:
                    self._delayed.delay(entry, seconds)
            case Stop(error):
                self._exposed -= 1
                self._end(error)
        if self._unproven is not None and self._unproven.proven:
            self._unproven = None
            self._wake(len(self._admission.ready) + len(self._due))

    def _settle(self, entry: PendingNumber, result: Check | CheckError) -> None:
        step = self._last_step
        if entry.basic:
            step = self._first_step if isinstance(result, Check) and result.whatsapp else self._only_step
        self._settler.add(step, entry, Settlement(entry.number, result, entry.calls, entry.lost))

    async def _wait_for_job(self) -> None:
        woken = self._loop.create_future()
        self._idle.append(woken)
        await woken

    def _wake(self, jobs: int) -> None:
        """Wake this many workers, most recently idle first, then start new ones.

        This way, only as many run as rate and latency keep busy (Little's law), on the warmest connections.
        """
        if self._stopping or not self._entered:
            return
        while jobs > 0 and self._idle:
            woken = self._idle.pop()
            if not woken.done():
                woken.set_result(None)
                jobs -= 1
        for _ in range(min(jobs, self._limits.workers - self._spawned)):
            self._spawned += 1
            worker = _Worker(self)
            self._workers.add(worker)
            worker.task = self._spawn(self._work(worker), "worker")

    def _release(self, entries: list[PendingNumber]) -> None:
        if self._attempt.later is not None:
            entries = [entry for entry in entries if not self._delay_again(entry)]
        self._due.extend(entries)
        self._wake(len(entries))

    def _delay_again(self, entry: PendingNumber) -> bool:
        """Put back a number whose answer cannot be expected yet, judging by others since."""
        seconds = self._attempt.too_early(entry)
        if seconds > 0:
            self._delayed.delay(entry, seconds)
        return seconds > 0

    def _settle_pending(self, entries: list[PendingNumber]) -> None:
        """Settle numbers as StillPending: the run ends, and a later one collects their answers."""
        for entry in entries:
            if entry.place >= 0 and entry.calls:  # otherwise the store already has it
                self._exposed += 1
                self._settle(entry, self._attempt.still_pending(entry))

    def _on_circuit(self) -> None:
        """React to the circuit, which opened, closed or let one call through."""
        if self._stopping:
            return
        waiting = len(self._admission.ready) + len(self._due)
        if not self._host.circuit.opened:
            if self._outage_timer is not None:
                self._outage_timer.cancel()
                self._outage_timer = None
            self._wake(waiting)
            return
        if self._outage_after is not None and self._outage_timer is None:
            self._outage_timer = self._loop.call_later(self._outage_after, self._give_up)
        self._wake(min(1, waiting))

    def _give_up(self) -> None:
        assert self._outage_after is not None
        host, cause = self._host.name, self._host.cause
        if self._outage_after < _SECONDS_A_MINUTE:
            lasted = f"{self._outage_after:g} seconds"
        else:
            lasted = f"{self._outage_after / _SECONDS_A_MINUTE:g} minutes"
        advice = "check the network, the proxy and the base URL, then start again"
        self._end(
            Outage(
                f"no call to {host} has gone through for {lasted} ({cause}): {advice}", host=host, cause=cause
            )
        )

    # Store -> outcomes

    def _deliver(self, entries: Sequence[PendingNumber], settlements: Sequence[Settlement]) -> None:
        """Turn stored answers into outcomes, for the run's own rows and for everyone who joined."""
        admission, put_settled, in_flight = self._admission, self._outcomes.put_settled, self._run.in_flight
        tell = self._run.events.tell
        for entry, settlement in zip(entries, settlements, strict=True):
            number = entry.number
            admission.settled(entry)
            if entry.calls and (entry.polls or isinstance(settlement.result, _GIVEN_UP)):
                self._pending_settled += 1
            if entry.first is not None:
                settlement = entry.of_both_steps(settlement)
            result = settlement.result
            if not entry.calls:  # bought by another stream or check of this client
                admission.count_known(entry, result)
            else:
                self._exposed -= 1
                if not isinstance(result, Check):
                    self._failed += 1
                elif result.whatsapp:
                    self._yes += 1
                else:
                    self._no += 1
                if tell is not None:
                    key = None if self._run.key is None else self._run.key(entry.item)
                    tell(settled_event(settlement, index=entry.index, key=key, run_id=self._run_id))
            put_settled(settlement, entry.index, entry.item, first=True)
            for index, item in entry.more or ():
                put_settled(settlement, index, item, first=False)
            if entry.calls:
                del in_flight[number]
            if entry.joined is not None:
                entry.tell(settlement)
        if self._idle and self._most_exposed < sys.maxsize:
            self._wake(min(len(settlements), len(admission.ready) + len(self._due) - self._claims))
        self._check_done()

    def _begin_second_step(self, entries: Sequence[PendingNumber], settlements: Sequence[Settlement]) -> None:
        """Ask for the details of numbers with a stored "yes" from the basic endpoint."""
        for entry, settlement in zip(entries, settlements, strict=True):
            assert isinstance(settlement.result, Check)
            self._exposed -= 1
            self._pending_settled += entry.polls > 0
            self._attempt.to_second_step(entry, settlement.result)
        if not self._stopping:
            self._due.extend(entries)
            self._wake(len(entries))
        self._check_done()

    def _deliver_first_answers(self) -> list[int]:
        """Deliver the "yes" of numbers at the second step of a cascade, which the run has not reached: it is paid for.

        Returns the numbers, whose claims are to be released.
        """
        admission, given_up = self._admission, []
        for entry in [*admission.entries.values()]:
            settlement = entry.first_answer()
            if settlement is None:
                continue
            given_up.append(entry.number)
            del admission.entries[entry.number]
            self._run.in_flight.pop(entry.number, None)
            if settlement.calls:
                self._yes += 1
            else:
                admission.known += 1
            self._outcomes.put_settled(settlement, entry.index, entry.item, first=True)
            for index, item in entry.more or ():
                self._outcomes.put_settled(settlement, index, item, first=False)
            entry.tell(settlement)
        return given_up

    # The end

    def _close_soon(self, error: BaseException) -> EngineTask[None]:
        """End as if the block had been left, and raise ``error`` from the iteration. Return a task to wait for."""
        if not self._supervisor.done():
            self._end(error)
            self._leave()
        return self._supervisor

    def _end(self, error: BaseException | None) -> None:
        """Stop admission; calls in flight continue. The first error is raised."""
        if not self._entered:
            return
        self._outcomes.end_with(error)
        if self._stopping:
            return
        self._stopping = True
        if self._attempt.later is not None and not isinstance(error, LedgerError):
            self._settle_pending([*self._delayed.drain(), *self._due])
            self._due.clear()
        self._delayed.close()
        self._host.listeners.discard(self._on_circuit)
        if self._outage_timer is not None:
            self._outage_timer.cancel()
        current = asyncio.current_task(self._loop)
        for task in (self._reader, self._claimer):
            if task is not current:
                task.end()
        for worker in self._workers:
            # Workers at the gate or without a job have nothing to settle, and a hold may be long.
            if worker.entry is None and worker.task is not None and worker.task is not current:
                worker.task.end()
        self._check_done()

    @contextmanager
    def _ending_the_run(self, worker: _Worker | None = None) -> Iterator[None]:
        """End the run with the error that ends one of its tasks, or because anyone but the engine cancels it."""
        try:
            yield
        except asyncio.CancelledError:
            if not self._stopping:
                self._end(
                    RuntimeError("the run ended: an internal task was cancelled from outside accucheck")
                )
        except Exception as error:  # noqa: BLE001 (it is raised again, from the iteration)
            self._end(error)
        finally:
            if worker is not None:
                if worker.entry is not None:  # cut off
                    worker.entry = None
                    self._exposed -= 1
                self._workers.discard(worker)
                self._check_done()

    def _check_done(self) -> None:
        if self._stopping:
            if self._exhausted and not any(worker.entry is not None for worker in self._workers):
                self._all_done.set()
        elif self._exhausted and not self._admission.entries:
            self._all_done.set()

    def _leave(self) -> None:
        """End the run, and give calls in flight their grace period."""
        self._left.set()
        self._end(None)
        if self._cut_timer is None and not self._supervisor.done():
            self._cut_timer = self._loop.call_later(self._limits.grace, self._cut)

    def _cut(self) -> None:
        """Cut off the calls that did not settle within the grace period."""
        self._reader.end()
        for worker in tuple(self._workers):
            if worker.task is not None:
                worker.task.end()

    async def _supervise(self) -> None:
        """Wait for the last call and until its answer is stored, then close the outcomes and release the store."""
        await self._all_done.wait()
        self._end(None)
        await self._flush()
        if isinstance(self._outcomes.error, UniformRefusals) and self._store.durable:
            await self._close(self._forgive(self._outcomes.error))
        given_up = self._deliver_first_answers()
        self._finish()
        if self._settler.unstored:
            # The caller may free disk space before it leaves.
            await self._left.wait()
            await self._flush()
        if self._cut_timer is not None:
            self._cut_timer.cancel()
        await self._settler.close()
        unused = self._admission.close() + given_up
        if self._run.budget is not None:
            await self._close(self._run.budget.close(lost=self._attempt.counters.cut_off))
        if unused:
            await self._close(self._store.release(unused))
        if self._run.close is not None:
            await self._close(self._run.close())

    async def _forgive(self, error: UniformRefusals) -> None:
        """Have the next run ask again for numbers that were refused alike: the refusals say nothing about them."""
        brake = self._attempt.braked
        assert brake is not None
        why = f"{error.numbers} numbers in a row were refused alike ({error.vendor_status}): the next run asks again"
        await self._store.settle(
            [Settlement(int(number), RefusedAlike(why, number=f"+51{number}")) for number in brake.alike],
            endpoint="basic" if brake is self._attempt.basic_brake else self._endpoint,
        )

    async def _flush(self) -> None:
        """Wait until every answer so far is stored, and thus yielded."""
        try:
            await self._settler.flush()
        except Exception as error:  # noqa: BLE001 (it is raised again, from the iteration or the block)
            self._outcomes.end_with(error)
            if isinstance(error, LedgerError):
                self._closing_error = error
        else:
            self._closing_error = None

    async def _close(self, closing: Awaitable[None]) -> None:
        try:
            await closing
        except LedgerError as error:
            self._closing_error = self._closing_error or error
        except Exception:
            logger.exception("internal error (please report it): the run could not be closed")

    def _finish(self) -> None:
        self._ended_at = self._loop.time()
        self._outcomes.close(read=self._admission.read)
        stats, error = self.stats, self._outcomes.error
        if self._run.events.tell is not None:
            status = "OK"
            if error is not None:
                status = error.status if isinstance(error, AccucheckError) else type(error).__name__
            self._run.events.tell(RunFinished(self._run_id, stats, status))
        logger.info(
            "%s: run ended after %.1f s: %d items, %d calls, %d yes, %d no, %d failed, %d known%s",
            self._host.name,
            stats.elapsed,
            stats.read,
            stats.calls,
            stats.yes,
            stats.no,
            stats.failed,
            stats.known,
            f"; {type(error).__name__}" if error is not None else "",
        )

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> EngineTask[None]:
        return EngineTask(work, name=name, on_cancel=self._on_shut_down, context=self._context)

    def _on_shut_down(self) -> None:
        """Settle and leave: the event loop is being shut down, or every task of it is cancelled."""
        self._close_soon(RuntimeError("the run ended: its event loop is shutting down"))
