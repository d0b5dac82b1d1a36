"""From the caller's items to numbers that need a call: normalize, know, join, or stand ready."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Generic, TypeVar

import msgspec

from accucheck._attempt import Progress
from accucheck._errors import InvalidNumber
from accucheck._models import Check, Failed
from accucheck._outcome_queue import OutcomeQueue
from accucheck._phone import normalize
from accucheck._store import AnswerStore

Item = TypeVar("Item")

_CHUNK = 256
"""Items admitted in one step: one look-up in the ledger, and a bound on how long the event loop is held."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a run; counts are 1 or more."""

    workers: int
    """Calls under way at once."""
    parked: int
    """Numbers waiting for a poll or a retry."""
    buffered: int
    """OutcomeQueue waiting for the caller."""
    grace: float
    """Seconds that calls under way get to settle when the block is left early."""

    @property
    def ready(self) -> int:
        """Numbers that should stand ready, so that no worker waits for the input."""
        return max(2, self.workers)

    @property
    def outstanding(self) -> int:
        """Items read and not yet taken by the caller."""
        return self.parked + self.buffered + 4 * self.workers


class PendingNumber(Progress, Generic[Item]):
    """A number under way, and the rows of the input that wait for it."""

    __slots__ = ("index", "item", "more", "number")

    def __init__(self, number: int, index: int, item: Item) -> None:
        super().__init__(str(number))
        self.number = number
        self.index = index
        self.item = item
        self.more: list[tuple[int, Item]] | None = None


class Admission(Generic[Item]):
    """Reads the input as fast as there is room, and no faster.

    ``ready`` holds the new numbers, ``flights`` every number that is not settled yet: the same number
    again joins the one under way.
    """

    def __init__(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        number: Callable[[Item], str | int | float | None],
        *,
        mobile_only: bool,
        store: AnswerStore,
        durable: bool,
        outcomes: OutcomeQueue[Item],
        limits: Limits,
        waiting: Callable[[], int],
        on_ready: Callable[[int], None],
    ) -> None:
        """``durable`` says whether the store may know answers of earlier runs. ``waiting`` counts the numbers
        parked or due again; ``on_ready`` is told how many were added.
        """
        self.ready: deque[PendingNumber[Item]] = deque()
        self.flights: dict[int, PendingNumber[Item]] = {}
        self.read = self.rejected = self.duplicates = self.known = self.known_failed = 0
        self._items = items
        self._number = number
        self._mobile_only = mobile_only
        self._store = store
        self._durable = durable
        self._outcomes = outcomes
        self._limits = limits
        self._waiting = waiting
        self._on_ready = on_ready
        self._room = asyncio.Event()
        self._started = datetime.now(UTC)

    async def run(self) -> None:
        """Read to the end of the input. Raises what the input raises, after admitting what came before."""
        if isinstance(self._items, AsyncIterable):
            iterator = aiter(self._items)
            try:
                async for item in iterator:
                    self._admit([item])
                    if self._is_full():
                        await self._wait_for_room()
            finally:
                # What was made here is closed here, with the file or the cursor that it holds open.
                if iterator is not self._items and isinstance(iterator, AsyncGenerator):
                    await iterator.aclose()
        else:
            plain = iter(self._items)
            while self._admit_chunk(plain):
                # Admission does not wait by itself; the workers and the caller must have their turn.
                await (self._wait_for_room() if self._is_full() else asyncio.sleep(0))

    def make_room(self) -> None:
        """Go on reading, if there is room again. Called when something was taken away."""
        if not self._room.is_set() and self._is_hungry():
            self._room.set()

    def _admit_chunk(self, iterator: Iterator[Item]) -> bool:
        """Admit what there is room for; return False at the end of the input."""
        chunk: list[Item] = []
        try:
            for _ in range(min(_CHUNK, 2 * self._limits.ready - len(self.ready))):
                chunk.append(next(iterator))  # noqa: PERF401 (an error must not take the chunk along)
        except StopIteration:
            return False
        finally:
            self._admit(chunk)
        return True

    def _admit(self, items: Sequence[Item]) -> None:
        fresh: list[PendingNumber[Item]] = []
        try:
            for item in items:
                flight = self._flight_for(item)
                if flight is not None:
                    fresh.append(flight)
        finally:
            # A number function that raises must not strand the numbers read before it.
            if fresh:
                self._look_up(fresh)

    def _flight_for(self, item: Item) -> PendingNumber[Item] | None:
        """Return the item's number if it is new to this run's numbers under way."""
        text = self._number(item)
        index = self.read
        self.read += 1
        try:
            number = normalize(text, mobile_only=self._mobile_only)
        except InvalidNumber as error:
            self.rejected += 1
            self._outcomes.put(Failed(item=item, error=error, index=index))
            return None
        flight = self.flights.get(number)
        if flight is None:
            flight = self.flights[number] = PendingNumber(number, index, item)
            return flight
        self.duplicates += 1
        if flight.more is None:
            flight.more = []
        flight.more.append((index, item))
        return None

    def _look_up(self, fresh: list[PendingNumber[Item]]) -> None:
        known = self._store.find([flight.number for flight in fresh])
        if not known:
            self.ready.extend(fresh)
            self._on_ready(len(fresh))
            return
        for flight in fresh:
            settlement = known.get(flight.number)
            if settlement is None:
                self.ready.append(flight)
                continue
            del self.flights[flight.number]
            result = settlement.result
            if not self._durable or (isinstance(result, Check) and result.checked_at >= self._started):
                self.duplicates += 1
            else:
                self.known += 1
                self.known_failed += not isinstance(result, Check)
            self._outcomes.put_settled(settlement, flight.index, flight.item, first=False)
            for index, item in flight.more or ():
                self._outcomes.put_settled(settlement, index, item, first=False)
        self._on_ready(len(fresh) - len(known))

    def _is_full(self) -> bool:
        limits = self._limits
        return (
            len(self.ready) >= limits.ready
            or len(self._outcomes) >= limits.buffered
            or self._waiting() >= limits.parked
            or self.read - self._outcomes.taken >= limits.outstanding
        )

    def _is_hungry(self) -> bool:
        """Whether reading should go on; well below full, so that one waking admits many items."""
        limits = self._limits
        return (
            2 * len(self.ready) <= limits.ready
            and 2 * len(self._outcomes) <= limits.buffered
            and self._waiting() < limits.parked
            and self.read - self._outcomes.taken < limits.outstanding
        )

    async def _wait_for_room(self) -> None:
        while not self._is_hungry():
            self._room.clear()
            await self._room.wait()
