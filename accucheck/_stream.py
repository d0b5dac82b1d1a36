"""The engine: admission, bounded workers, parking, and outcomes as a stream.

The way of one number, with no back and forth::

    items -> Admission -> ready -> a worker: gate, take, turn -> store -> committed -> OutcomeQueue
                            ^                     |
                            +------ DelayQueue <-----+     (a poll or a retry: its worker is free meanwhile)

A stream is a context manager, not an async generator: a task group inside a generator keeps making
paid calls after ``break`` (PEP 789).
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import anyio
import anyio.abc
import msgspec

from accucheck._admission import Admission, Limits, PendingNumber
from accucheck._attempt import Attempt
from accucheck._decide import Decision, Done, Stop, Wait
from accucheck._delay_queue import DelayQueue
from accucheck._errors import BudgetExhausted, LedgerError
from accucheck._events import CircuitChanged, OnEvent, Settled
from accucheck._gate import CallBudget
from accucheck._models import Check, Outcome, Settlement, Stats
from accucheck._outcome_queue import OutcomeQueue
from accucheck._phone import mask
from accucheck._store import AnswerStore

Item = TypeVar("Item")
logger = logging.getLogger("accucheck")


class RunContext(msgspec.Struct, frozen=True):
    """What a run works with; made when the stream is entered, so that one never entered holds nothing."""

    turn: Attempt
    store: AnswerStore
    budget: CallBudget | None
    close: Callable[[], Awaitable[None]]
    """Awaited once, at the end of the run, shielded from cancellation; may raise LedgerError."""
    durable: bool = False
    """Whether a kill can lose what the store has not committed: then that is bounded, too."""


class _Worker:
    """A task that makes calls. Only while it is in one must it be let finish."""

    __slots__ = ("calling", "task")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.calling = False


class Stream(Generic[Item]):
    """OutcomeQueue as they finish: ``async with client.stream(...) as outcomes: async for outcome in outcomes``.

    Errors that end the run are raised from the iteration, after every outcome that was already paid for.
    Made by ``Client.stream``; several tasks may iterate over one stream.
    """

    def __init__(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        number: Callable[[Item], str | int | float | None],
        *,
        equip: Callable[[], RunContext],
        limits: Limits,
        ordered: bool = False,
        mobile_only: bool = False,
        on_event: OnEvent | None = None,
    ) -> None:
        self._items = items
        self._number = number
        self._equip = equip
        self._limits = limits
        self._mobile_only = mobile_only
        self._on_event = on_event
        self._outcomes: OutcomeQueue[Item] = OutcomeQueue(ordered=ordered)
        self._due: deque[PendingNumber[Item]] = deque()
        self._parking: DelayQueue[PendingNumber[Item]] = DelayQueue(self._unpark)
        self._repeated_last = False  # when both wait, repeated and new calls alternate

        self._tasks: anyio.abc.TaskGroup | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._workers: list[_Worker] = []
        self._spawned = 0
        self._idle: list[asyncio.Future[None]] = []
        self._exposed = 0  # calls sent whose answers are not stored yet
        self._most_exposed = sys.maxsize
        self._claims = 0  # workers at the gate, each for one of the numbers that wait
        self._circuit_was_open = False
        self._probe_timer: asyncio.TimerHandle | None = None

        self._exhausted = False  # the input has ended, or is not read any more
        self._stopping = False
        self._all_done = asyncio.Event()
        self._yes = self._no = self._failed = 0
        self._started_at = 0.0
        self._ended_at: float | None = None
        self._shut_down_error: LedgerError | None = None

    # The caller's side

    async def __aenter__(self) -> Stream[Item]:
        if self._tasks is not None:
            raise RuntimeError("a stream can be entered once; make another with client.stream()")
        equipment = self._equip()
        self._turn, self._store = equipment.turn, equipment.store
        self._budget, self._close = equipment.budget, equipment.close
        if equipment.durable:
            # As many answers may wait for the disk as calls may be under way. Half of it cost a quarter of the
            # checks/s at full speed (200 workers, 14,000/s): the workers waited for commits.
            self._most_exposed = 2 * self._limits.workers
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._admission = Admission(
            self._items,
            self._number,
            mobile_only=self._mobile_only,
            store=self._store,
            durable=equipment.durable,
            outcomes=self._outcomes,
            limits=self._limits,
            waiting=self._count_waiting,
            on_ready=self._wake,
        )
        self._store.start(self._committed, self._end)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._supervise, name="accucheck supervisor")
        self._tasks.start_soon(self._read, name="accucheck input")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        self._end(None)
        try:
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(self._limits.grace):
                    await self._all_done.wait()
                self._cancel_workers()
                await self._flush()
        finally:
            self._tasks.cancel_scope.cancel()
            try:
                await self._tasks.__aexit__(None, None, None)
            finally:
                self._finish()
                with anyio.CancelScope(shield=True):
                    await self._shut_down()
        unsaid = self._outcomes.error or self._shut_down_error
        if error is None and isinstance(unsaid, LedgerError):
            # Left early, with an answer that could not be stored: that must not pass in silence.
            raise unsaid

    def __aiter__(self) -> AsyncIterator[Outcome[Item]]:
        return self

    async def __anext__(self) -> Outcome[Item]:
        if self._tasks is None:
            raise RuntimeError("enter the stream first: async with client.stream(...) as outcomes")
        outcome = await self._outcomes.take()
        self._admission.make_room()
        return outcome

    def stop(self) -> None:
        """Stop admission: calls under way settle, their outcomes are yielded, then the iteration ends.

        Nothing is raised for it. Rows without an outcome were not asked, or were still waiting.
        """
        self._end(None)

    @property
    def stats(self) -> Stats:
        """A snapshot of the run; readable at any time, also after the end."""
        if self._tasks is None:
            return Stats()
        calls, admission = self._turn.counters, self._admission
        ended = self._ended_at
        return Stats(
            read=admission.read,
            rejected=admission.rejected,
            duplicates=admission.duplicates,
            known=admission.known,
            known_failed=admission.known_failed,
            calls=calls.calls,
            yes=self._yes,
            no=self._no,
            failed=self._failed,
            in_flight=calls.in_flight,
            parked=self._count_waiting(),
            pending=calls.pending,
            polls=calls.polls,
            retries=calls.retries,
            refusals=calls.refusals,
            possibly_double_charged=calls.lost,
            delivered=self._outcomes.taken,
            rate=self._turn.gate.rate if ended is None else None,
            elapsed=(self._loop.time() if ended is None else ended) - self._started_at,
        )

    # Input -> ready

    async def _read(self) -> None:
        self._reader = asyncio.current_task()
        try:
            if not self._stopping:
                await self._admission.run()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        except Exception as error:  # noqa: BLE001 (it is raised again, from the iteration)
            self._end(error)
        finally:
            self._exhausted = True
            self._check_done()

    def _count_waiting(self) -> int:
        return len(self._parking) + len(self._due)

    # Ready -> call

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        worker = _Worker(task)
        self._workers.append(worker)
        try:
            gate = self._turn.gate
            while not self._stopping:
                if not self._has_job():
                    await self._wait_for_job()
                    continue
                sent_at = gate.try_acquire()
                if sent_at is None:
                    sent_at = await self._wait_at_gate()
                flight = self._take(sent_at)
                if flight is not None:
                    worker.calling = True
                    try:
                        self._act(flight, await self._turn.take(flight, sent_at))
                    finally:
                        worker.calling = False
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        except Exception as error:
            logger.exception("a worker failed; the run ends")
            self._end(error)
        finally:
            self._workers.remove(worker)
            self._check_done()

    def _has_job(self) -> bool:
        if len(self._admission.ready) + len(self._due) <= self._claims:
            return False
        if self._exposed + self._claims >= self._most_exposed:
            return False  # no more may be bought than a kill may lose; the next commit wakes us
        circuit = self._turn.circuit
        return not circuit.opened or circuit.admits(self._turn.gate.now())

    def _take(self, now: float) -> PendingNumber[Item] | None:
        """Choose the number that a permit goes to, and reserve its call; None if no call may go now."""
        ready, due, circuit = self._admission.ready, self._due, self._turn.circuit
        if self._stopping or not (ready or due) or (circuit.opened and not circuit.admits(now)):
            return None
        if self._budget is not None and not self._budget.reserve():
            self._end(BudgetExhausted("the budget of calls (max_calls) is used up: raise it to go on"))
            return None
        # New numbers keep half of the permits while any are waiting, however many polls are due.
        self._repeated_last = bool(due) and (not ready or not self._repeated_last)
        flight = due.popleft() if self._repeated_last else ready.popleft()
        self._exposed += 1
        self._admission.make_room()
        return flight

    async def _wait_at_gate(self) -> float:
        self._claims += 1
        try:
            return await self._turn.gate.acquire()
        finally:
            self._claims -= 1

    def _act(self, flight: PendingNumber[Item], decision: Decision) -> None:
        match decision:
            case Done(result):
                self._store.settle(Settlement(flight.number, result, flight.calls, flight.lost))
            case Wait(seconds, then):
                self._exposed -= 1
                if then == "refused":
                    self._due.appendleft(flight)  # it has waited longest; the gate holds everyone meanwhile
                else:
                    self._parking.park(flight, seconds)
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("%s: %s, again in %.2f s", mask(flight.national), then, seconds)
            case Stop(error):
                self._end(error)
        if self._turn.circuit.opened or self._circuit_was_open:
            self._follow_circuit()

    async def _wait_for_job(self) -> None:
        woken = self._loop.create_future()
        self._idle.append(woken)
        await woken

    def _wake(self, jobs: int) -> None:
        """Put so many workers to work: idle ones, last to rest first, then new ones.

        So no more run than rate and latency keep busy (Little's law), on the warmest connections.
        """
        if self._stopping or self._tasks is None:
            return
        while jobs > 0 and self._idle:
            woken = self._idle.pop()
            if not woken.done():
                woken.set_result(None)
                jobs -= 1
        for _ in range(min(jobs, self._limits.workers - self._spawned)):
            self._spawned += 1
            self._tasks.start_soon(self._work, name="accucheck worker")

    def _unpark(self, flights: list[PendingNumber[Item]]) -> None:
        self._due.extend(flights)
        self._wake(len(flights))

    def _follow_circuit(self) -> None:
        circuit = self._turn.circuit
        if circuit.opened != self._circuit_was_open:
            self._circuit_was_open = circuit.opened
            logger.warning(
                "nearly all calls fail; they are held back" if circuit.opened else "calls go again"
            )
            if self._on_event is not None:
                self._on_event(CircuitChanged(circuit.opened))
            if not circuit.opened:
                self._wake(len(self._admission.ready) + len(self._due))
        if circuit.opened and not self._stopping:
            if self._probe_timer is not None:
                self._probe_timer.cancel()
            delay = max(circuit.retry_at - self._turn.gate.now(), 0.0)
            # A millisecond late, since uvloop's timers fire up to one early.
            self._probe_timer = self._loop.call_later(delay + 0.001, self._wake, 1)

    # Store -> outcomes

    def _committed(self, settlements: Sequence[Settlement]) -> None:
        self._exposed -= len(settlements)
        for settlement in settlements:
            flight = self._admission.flights.pop(settlement.number)
            result = settlement.result
            if not isinstance(result, Check):
                self._failed += 1
            elif result.whatsapp:
                self._yes += 1
            else:
                self._no += 1
            if self._on_event is not None:
                status = "OK" if isinstance(result, Check) else result.status
                self._on_event(Settled(status, settlement.calls))
            self._outcomes.put_settled(settlement, flight.index, flight.item, first=True)
            for index, item in flight.more or ():
                self._outcomes.put_settled(settlement, index, item, first=False)
        if self._idle and self._most_exposed < sys.maxsize:
            self._wake(min(len(settlements), len(self._admission.ready) + len(self._due) - self._claims))
        self._check_done()

    # The end

    def _end(self, error: BaseException | None) -> None:
        """Stop admission; calls under way go on. The first error is the one that is raised."""
        self._outcomes.end_with(error)
        if self._stopping:
            return
        self._stopping = True
        self._parking.close()
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        current = asyncio.current_task()
        if self._reader is not None and self._reader is not current:
            self._reader.cancel()
        for worker in self._workers:
            # Those at the gate or without a job have nothing to settle, and a hold may be long.
            if not worker.calling and worker.task is not current:
                worker.task.cancel()
        self._check_done()

    def _check_done(self) -> None:
        if self._stopping:
            if self._exhausted and not any(worker.calling for worker in self._workers):
                self._all_done.set()
        elif self._exhausted and not self._admission.flights:
            self._all_done.set()

    async def _supervise(self) -> None:
        """Wait for the last call, make sure that its answer is stored, and close the channel."""
        await self._all_done.wait()
        with anyio.CancelScope(shield=True):
            await self._flush()
        self._end(None)
        self._cancel_workers()
        self._finish()

    async def _flush(self) -> None:
        """Wait until every answer so far is stored, and so yielded."""
        try:
            await self._store.flush()
        except LedgerError as error:
            self._end(error)

    def _cancel_workers(self) -> None:
        """Send idle workers home, and cut the calls that did not settle within the grace period."""
        for worker in self._workers:
            worker.task.cancel()

    async def _shut_down(self) -> None:
        try:
            await self._close()
        except LedgerError as error:
            self._shut_down_error = error

    def _finish(self) -> None:
        if self._ended_at is None:
            self._ended_at = self._loop.time()
            self._parking.close()
            self._outcomes.close(read=self._admission.read)
