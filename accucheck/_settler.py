"""Group commit: answers are gathered, stored together, and only then delivered."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from accucheck._concurrency import EngineTask
from accucheck._errors import LedgerError
from accucheck._models import Settlement
from accucheck._store import Endpoint, Store

__all__ = ["FirstStep", "Settler"]

Number = TypeVar("Number")
logger = logging.getLogger("accucheck")

GATHER_SECONDS: Final = 0.01
"""Commits of a durable store start at least this far apart; the first one after a pause starts at once. Each takes CPU,
and nobody waits for one: a worker continues once its number is settled."""
GATHER_ANSWERS: Final = 80
"""With this many answers waiting, a commit starts at once. A stream stops calling while twice its workers' answers are
unstored, so waiting for more made 200 workers at full speed a tenth slower."""


class FirstStep(Generic[Number]):
    """What the basic endpoint brought in a cascade: stored as that endpoint's, apart from the rest of the run."""

    endpoint: Final[Endpoint] = "basic"

    def __init__(
        self, *, is_last: bool, deliver: Callable[[Sequence[Number], Sequence[Settlement]], None]
    ) -> None:
        """``is_last`` says that no second step follows, and so the claim ends; ``deliver`` as for ``Settler``."""
        self.release: Final = is_last
        self.deliver: Final = deliver


class Settler(Generic[Number]):
    """Stores the settlements of one run, in order of arrival, and delivers them once they are durable.

    Settlements that could not be stored were paid for: they are kept, together with all later ones, and stored by the
    next ``flush`` that succeeds.
    """

    def __init__(
        self,
        store: Store,
        *,
        endpoint: Endpoint,
        job: str,
        deliver: Callable[[Sequence[Number], Sequence[Settlement]], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """``deliver`` gets what ``add`` got once it is stored; ``on_failure`` is called if a batch cannot be stored."""
        self._store = store
        self._endpoint: Endpoint = endpoint
        self._job = job
        self._deliver = deliver
        self._on_failure = on_failure
        self._gather_seconds = GATHER_SECONDS if store.durable else 0.0
        self._loop = asyncio.get_running_loop()
        self._numbers: list[Number] = []
        self._settlements: list[Settlement] = []
        self._first_steps: list[tuple[FirstStep[Number], Number, Settlement]] = []
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

    @property
    def failed(self) -> Exception | None:
        """Why the last batch could not be stored; None if it was."""
        return self._failed

    @property
    def unstored(self) -> int:
        """Settlements that are not stored yet."""
        return len(self._settlements) + len(self._first_steps)

    def add(self, number: Number, settlement: Settlement) -> None:
        """Queue one settlement to be stored. Returns immediately."""
        self._numbers.append(number)
        self._settlements.append(settlement)
        sleeper = self._sleeper
        if sleeper is not None and len(self._settlements) >= self._wake_at:
            self._sleeper = None
            sleeper.set_result(None)

    def add_first_step(self, step: FirstStep[Number], number: Number, settlement: Settlement) -> None:
        """Take a settlement of a cascade's first step. Returns at once."""
        self._first_steps.append((step, number, settlement))
        if self._sleeper is not None and self.unstored >= self._wake_at:
            self._wake()

    async def flush(self) -> None:
        """Return once everything added so far is stored and delivered; after a failure, try again.

        Raises what the store raises, as a LedgerError that says how many answers are not stored.
        """
        if not self.unstored and not self._busy:
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
            if self._failed is not None or not (self._settlements or self._first_steps):
                self._answer_flushes(None)
                if self._closing:
                    return
                await self._sleep(1 if self._failed is None else math.inf)
                continue
            # With few answers, each one is stored at once.
            wait = began + self._gather_seconds - self._loop.time()
            if wait > 0 and not self._flushing and not self._closing and self.unstored < GATHER_ANSWERS:
                await self._sleep(GATHER_ANSWERS, wait)
            began = self._loop.time()
            await self._store_gathered()

    async def _store_gathered(self) -> None:
        if self._first_steps:
            await self._store_first_steps()
            if self._failed is not None:
                return
        numbers, settlements = self._numbers, self._settlements
        if not settlements:
            return
        self._numbers, self._settlements = [], []
        self._busy = True
        try:
            await self._store.settle(settlements, endpoint=self._endpoint, job=self._job)
        except Exception as error:  # noqa: BLE001 (reported to the run, and raised by flush)
            self._numbers[:0], self._settlements[:0] = numbers, settlements
            self._fail(error)
            return
        finally:
            self._busy = False
        self._hand_on(self._deliver, numbers, settlements)

    async def _store_first_steps(self) -> None:
        step = self._first_steps[0][0]
        these = [one for one in self._first_steps if one[0] is step]
        self._first_steps = [one for one in self._first_steps if one[0] is not step]
        settlements = [settlement for _, _, settlement in these]
        self._busy = True
        try:
            await self._store.settle(settlements, endpoint=step.endpoint, job=self._job, release=step.release)
        except Exception as error:  # noqa: BLE001 (told to the run, and raised by flush)
            self._first_steps[:0] = these
            self._fail(error)
            return
        finally:
            self._busy = False
        self._hand_on(step.deliver, [number for _, number, _ in these], settlements)

    def _fail(self, error: Exception) -> None:
        self._failed = self._not_stored(error)
        self._answer_flushes(self._failed)
        self._on_failure(self._failed)

    def _hand_on(
        self,
        deliver: Callable[[Sequence[Number], Sequence[Settlement]], None],
        numbers: Sequence[Number],
        settlements: Sequence[Settlement],
    ) -> None:
        try:
            deliver(numbers, settlements)
        except Exception as error:
            logger.exception("internal error (please report it): stored answers could not be delivered")
            self._on_failure(error)

    def _not_stored(self, error: Exception) -> Exception:
        if not isinstance(error, LedgerError):
            return error
        left = self.unstored
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
