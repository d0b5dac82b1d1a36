"""Group commit: answers are gathered, stored together, and only then delivered."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from accucheck._concurrency import EngineTask
from accucheck._errors import LedgerError
from accucheck._models import Settlement
from accucheck._store import Endpoint, Store

__all__ = ["Settler", "Step"]

Number = TypeVar("Number")
Deliver: TypeAlias = Callable[[Sequence[Number], Sequence[Settlement]], None]
logger = logging.getLogger("accucheck")

GATHER_SECONDS: Final = 0.01
"""Commits of a durable store start at least this far apart; the first one after a pause starts at once. Each takes CPU,
and nobody waits for one: a worker continues once its number is settled."""
GATHER_ANSWERS: Final = 80
"""With this many answers waiting, a commit starts at once. A stream stops calling while twice its workers' answers are
unstored, so waiting for more made 200 workers at full speed a tenth slower."""


class Step(Generic[Number]):
    """A step of a run: how its answers are stored, and who gets them. A run has one, a cascade has three."""

    __slots__ = ("deliver", "endpoint", "numbers", "release", "settlements")

    def __init__(self, endpoint: Endpoint, deliver: Deliver[Number], *, release: bool) -> None:
        self.endpoint: Final = endpoint
        self.deliver: Final = deliver
        self.release: Final = release
        self.numbers: list[Number] = []
        self.settlements: list[Settlement] = []


class Settler(Generic[Number]):
    """Stores the settlements of one run, in groups, and delivers them once they are durable.

    Settlements that could not be stored were paid for: they are kept, together with all later ones, and stored by the
    next ``flush`` that succeeds.
    """

    def __init__(self, store: Store, *, job: str, on_failure: Callable[[Exception], None]) -> None:
        """``on_failure`` is called if a group cannot be stored."""
        self._store = store
        self._job = job
        self._on_failure = on_failure
        self._gather_seconds = GATHER_SECONDS if store.durable else 0.0
        self._loop = asyncio.get_running_loop()
        self._steps: list[Step[Number]] = []
        self._waiting = 0
        self._failed: Exception | None = None
        self._busy = False
        self._closing = False
        self._sleeper: asyncio.Future[None] | None = None
        self._wake_at = 1.0
        self._flushing: list[asyncio.Future[None]] = []
        # An empty context, because it may outlive the request that made the first check.
        self._task = EngineTask(
            self._run(), name="settler", on_cancel=lambda: None, context=contextvars.Context()
        )

    def step(self, endpoint: Endpoint, deliver: Deliver[Number], *, release: bool = True) -> Step[Number]:
        """Return a new step. ``deliver`` gets what ``add`` got once it is stored; ``release`` says that claims end."""
        step = Step(endpoint, deliver, release=release)
        self._steps.append(step)
        return step

    @property
    def failed(self) -> Exception | None:
        """Why the last batch could not be stored; None if it was."""
        return self._failed

    @property
    def unstored(self) -> int:
        """Settlements that are not stored yet, without those that are being stored."""
        return self._waiting

    def add(self, step: Step[Number], number: Number, settlement: Settlement) -> None:
        """Queue one settlement to be stored. Returns immediately."""
        step.numbers.append(number)
        step.settlements.append(settlement)
        self._waiting += 1
        sleeper = self._sleeper
        if sleeper is not None and self._waiting >= self._wake_at:
            self._sleeper = None
            sleeper.set_result(None)

    async def flush(self) -> None:
        """Return once everything added so far is stored and delivered; after a failure, try again.

        Raises what the store raises, as a LedgerError that says how many answers are not stored.
        """
        if not self._waiting and not self._busy:
            return
        self._failed = None
        stored = self._loop.create_future()
        self._flushing.append(stored)
        self._wake()
        await stored

    async def close(self) -> None:
        """End the task. Whatever is not stored by now stays unstored."""
        self._closing = True
        self._wake()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        began = -math.inf
        while True:
            if self._failed is not None or not self._waiting:
                self._answer_flushes(None)
                if self._closing:
                    return
                await self._sleep(1 if self._failed is None else math.inf)
                continue
            # With few answers, each one is stored at once.
            wait = began + self._gather_seconds - self._loop.time()
            if wait > 0 and not self._flushing and not self._closing and self._waiting < GATHER_ANSWERS:
                await self._sleep(GATHER_ANSWERS, wait)
            began = self._loop.time()
            for step in self._steps:
                if step.settlements and self._failed is None:
                    await self._store_step(step)

    async def _store_step(self, step: Step[Number]) -> None:
        numbers, settlements = step.numbers, step.settlements
        step.numbers, step.settlements = [], []
        self._waiting -= len(settlements)
        self._busy = True
        try:
            await self._store.settle(settlements, endpoint=step.endpoint, job=self._job, release=step.release)
        except Exception as error:  # noqa: BLE001 (reported to the run, and raised by flush)
            step.numbers[:0], step.settlements[:0] = numbers, settlements
            self._waiting += len(settlements)
            self._failed = self._not_stored(error)
            self._answer_flushes(self._failed)
            self._on_failure(self._failed)
            return
        finally:
            self._busy = False
        try:
            step.deliver(numbers, settlements)
        except Exception as error:
            logger.exception("internal error (please report it): stored answers could not be delivered")
            self._on_failure(error)

    def _not_stored(self, error: Exception) -> Exception:
        if not isinstance(error, LedgerError):
            return error
        left = self._waiting
        answers = "1 answer is" if left == 1 else f"{left} answers are"
        told = LedgerError(f"{error.reason}; {answers} not stored")
        told.__cause__ = error.__cause__
        return told

    def _answer_flushes(self, error: Exception | None) -> None:
        flushing, self._flushing = self._flushing, []
        for stored in flushing:
            if stored.done():
                continue
            if error is None:
                stored.set_result(None)
            else:
                stored.set_exception(error)

    async def _sleep(self, wake_at: float, seconds: float | None = None) -> None:
        """Sleep until there are ``wake_at`` settlements, ``seconds`` have passed, or ``_wake`` is called."""
        self._sleeper = sleeper = self._loop.create_future()
        self._wake_at = wake_at
        timer = None if seconds is None else self._loop.call_later(seconds, self._wake)
        try:
            await sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)
