"""From the caller's items to numbers that need a call: normalize, look up, join, claim, make ready."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from accucheck._arguments import check_kind
from accucheck._attempt import Progress
from accucheck._concurrency import DelayQueue, OutcomeQueue
from accucheck._errors import CheckError, InvalidNumber, RefusedAlike, StillPending, mask
from accucheck._input import Input
from accucheck._models import Check, Failed, Settlement
from accucheck._phone import normalize
from accucheck._store import Bitset, Query, Store

__all__ = [
    "ASKED_AGAIN",
    "FIRST_CLAIM_WAIT",
    "Admission",
    "InFlight",
    "Limits",
    "PendingNumber",
    "first_step_of",
    "next_claim_wait",
]

Item = TypeVar("Item")
logger = logging.getLogger("accucheck")

ASKED_AGAIN: Final = (StillPending, RefusedAlike)
"""Stored failures of numbers that the next run asks for again automatically."""
_CHUNK: Final = 256
"""Items read and numbers claimed in one step, which bounds how long the event loop is blocked."""
FIRST_CLAIM_WAIT: Final = 0.05
_CLAIM_WAIT_GROWTH: Final = 1.6
_LONGEST_CLAIM_WAIT: Final = 1.0
"""Seconds until a number that another process has claimed is claimed again."""


def first_step_of(query: Query) -> Query:
    """Return the query for those numbers that are at the second step of a cascade: basic says "yes"."""
    return msgspec.structs.replace(query, endpoint="basic", no_since=math.inf, failed_since=math.inf)


def next_claim_wait(seconds: float) -> float:
    """Return how long to wait after ``seconds`` were not enough."""
    return min(seconds * _CLAIM_WAIT_GROWTH, _LONGEST_CLAIM_WAIT)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a run; counts are 1 or more."""

    workers: int
    """Maximum calls in flight."""
    delayed: int
    """Maximum numbers waiting for a poll, a retry, or an answer bought elsewhere."""
    buffered: int
    """Maximum outcomes waiting for the caller."""
    grace: float
    """Seconds that calls in flight get to settle when the block is left early."""

    @property
    def ready(self) -> int:
        """Numbers to keep ready, so that no worker waits for the input."""
        return max(2, self.workers)

    @property
    def outstanding(self) -> int:
        """Maximum items read and not yet taken by the caller."""
        return self.delayed + self.buffered + 4 * self.workers


Joined: TypeAlias = Callable[[Settlement | None], None]
"""Called once with the settlement of a number that another run was buying; None if it gave up, so the caller must buy
the number itself."""


class PendingNumber(Progress, eq=False, kw_only=True):
    """A number in progress, and who waits for it: rows of its own run, and other runs of the same client."""

    number: int
    store: Store | None
    more: list[tuple[int, Any]] | None = None
    claim_wait: float = 0.0
    asked_at: datetime | None = None
    """When an earlier run asked for it and left it pending."""
    joined: dict[object, Joined] | None = None
    expedite: Callable[[PendingNumber], None] | None = None
    """Moves it to the front, because a single check waits for it."""

    def settlement(self, result: Check | CheckError) -> Settlement:
        """Return what its calls have come to; in a cascade, those of the present step."""
        return Settlement(self.number, result, self.calls, self.lost)

    def of_both_steps(self, settlement: Settlement) -> Settlement:
        """Return what it has come to, with the first step of a cascade: if only the details failed, that is a "yes"."""
        if self.first is None:
            return settlement
        return Settlement(
            self.number,
            settlement.result if isinstance(settlement.result, Check) else self.first,
            settlement.calls + self.first_calls,
            settlement.possibly_double_charged + self.first_lost,
        )

    def first_answer(self) -> Settlement | None:
        """Return the "yes" of a number at the second step of a cascade, for those who do not wait for the details."""
        return None if self.first is None else self.of_both_steps(self.settlement(self.first))

    def join(self, key: object, joined: Joined) -> None:
        """Have ``joined`` called when it is settled or given up."""
        if self.joined is None:
            self.joined = {}
        self.joined[key] = joined

    def leave(self, key: object) -> None:
        """Remove the one who joined with ``key``."""
        if self.joined is not None:
            self.joined.pop(key, None)

    def tell(self, settlement: Settlement | None) -> None:
        """Tell everyone who joined."""
        joined, self.joined = self.joined, None
        for call in (joined or {}).values():
            call(settlement)


InFlight: TypeAlias = dict[int, PendingNumber]
"""The numbers that a client is buying; others that want one of them join it."""


class Admission(Generic[Item]):
    """Reads the input only as fast as there is room, and claims new numbers.

    ``ready`` holds the numbers to call. ``entries`` holds every number of the run that is not settled yet; a row with
    the same number joins it.
    """

    def __init__(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        number: Callable[[Item], str | int | float | None],
        *,
        mobile_only: bool,
        store: Store,
        query: Query,
        in_flight: InFlight,
        outcomes: OutcomeQueue[Item],
        limits: Limits,
        waiting: Callable[[], int],
        on_ready: Callable[[int], None],
        on_asked: Callable[[PendingNumber, datetime, bool], bool] | None,
        on_joined: Callable[[PendingNumber, PendingNumber, Settlement | None], None],
        expedite: Callable[[PendingNumber], None],
    ) -> None:
        """``waiting`` counts numbers delayed or due again; ``on_ready`` gets how many were added. ``on_joined`` gets
        the settlement of a number that another run of the same client was buying. ``on_asked``, if the run collects,
        may take a number that an earlier run asked for, and returns whether it does. It gets the time, and whether the
        number is known to be pending; if not, the run was killed and may have asked for it.
        """
        self.ready: deque[PendingNumber] = deque()
        self.entries: InFlight = {}
        self.read = self.rejected = self.duplicates = self.known = self.known_failed = 0
        self._items = items
        self._number = number
        self._mobile_only = mobile_only
        self._store = store
        self._query = query
        self._no_failure = msgspec.structs.replace(query, failed_since=math.inf)
        # A run that collects needs a number's failure, however old, to see when it was last asked.
        self._first_query = (
            query if on_asked is None else msgspec.structs.replace(query, failed_since=-math.inf)
        )
        self._in_flight = in_flight
        self._outcomes = outcomes
        self._limits = limits
        self._waiting = waiting
        self._on_ready = on_ready
        self._on_asked = on_asked
        self._on_joined = on_joined
        self._expedite = expedite
        self._unclaimed: deque[PendingNumber] = deque()
        self._news = asyncio.Event()
        self._taken: DelayQueue[PendingNumber] = DelayQueue(self.claim_again)
        self._joined = 0
        self._not_admitted: list[Item] = []
        self._room = asyncio.Event()
        self._awaits_room = False
        self._enough_ready = limits.ready
        self._most_outstanding = limits.outstanding
        self._bought = Bitset()
        self._debugging = logger.isEnabledFor(logging.DEBUG)

    async def read_all(self) -> None:
        """Read to the end of the input. Raises what the input raises, after admitting the items before it."""
        source: Input[Item] | None = None
        try:
            source = Input(self._items)
            while items := await source.read(min(_CHUNK, 2 * self._limits.ready)):
                self._admit(items)
                if len(items) > 1:  # items that arrive one by one are claimed in groups, by the other task
                    await self._claim_some()
                # Admission may not await anything else here; let the workers and the caller run.
                if self._is_full():
                    await self._wait_for_room()
                elif len(items) > 1:
                    await asyncio.sleep(0)
        finally:
            if source is not None:
                try:
                    await source.aclose()
                finally:
                    self._not_admitted += source.left

    async def claim_all(self) -> None:
        """Claim numbers as they arrive, until cancelled. Raises LedgerError."""
        while True:
            if not self._unclaimed:
                self._news.clear()
                await self._news.wait()
            await self._claim_some()
            self.make_room()  # if all were known or taken, no worker does it

    async def _claim_some(self) -> None:
        unclaimed = self._unclaimed
        if len(unclaimed) <= _CHUNK:
            entries = [*unclaimed]
            unclaimed.clear()
        else:
            entries = [unclaimed.popleft() for _ in range(_CHUNK)]
        await self._claim(entries)

    def claim_again(self, entries: Sequence[PendingNumber]) -> None:
        """Claim numbers again that someone else had claimed."""
        self._unclaimed.extend(entries)
        self._news.set()

    def settled(self, entry: PendingNumber) -> None:
        """Take note that a number has an outcome."""
        del self.entries[entry.number]
        if entry.calls and self._store.durable:
            self._bought.add(entry.number)

    def count_known(self, entry: PendingNumber, result: Check | CheckError) -> None:
        """Count a number that this run need not buy.

        With a ledger, its repetitions count as known too, as those that are read later will: it must not matter whether
        they are read with it.
        """
        repeated = len(entry.more or ()) if self._store.durable else 0
        self.known += 1 + repeated
        self.known_failed += 0 if isinstance(result, Check) else 1 + repeated
        self.duplicates -= repeated

    def make_room(self) -> None:
        """Resume reading if there is room again. Called whenever something is taken."""
        if self._awaits_room and self._is_hungry():
            self._awaits_room = False
            self._room.set()

    @property
    def waiting(self) -> int:
        """Numbers waiting for an answer that someone else is buying."""
        return len(self._taken) + self._joined

    def unasked(self) -> list[Item]:
        """Return the items that were read and have no outcome, in the order of the input."""
        rows = [(entry.index, entry.item) for entry in self.entries.values()]
        for entry in self.entries.values():
            rows += entry.more or ()
        return [item for _, item in sorted(rows, key=lambda row: row[0])] + self._not_admitted

    def close(self) -> list[int]:
        """Give up every unsettled number, so that others may buy it; return those to release."""
        self._taken.close()
        given_up = []
        for entry in self.entries.values():
            other = self._in_flight.get(entry.number)
            if other is entry:
                del self._in_flight[entry.number]
                given_up.append(entry)
            elif other is not None:
                other.leave(entry)
        for entry in given_up:
            entry.tell(None)
        return [entry.number for entry in given_up]

    def _admit(self, items: Sequence[Item]) -> None:
        place = 0
        try:
            for item in items:
                self._admit_one(item)
                place += 1
        finally:
            # If the number function raises, keep the rows that were read with this one.
            self._not_admitted += items[place:]
            self._news.set()

    def _admit_one(self, item: Item) -> None:
        text = self._number(item)
        if type(text) is not str:
            check_kind(text, item)
        index = self.read
        self.read += 1
        try:
            number = normalize(text, mobile_only=self._mobile_only)
        except InvalidNumber as error:
            self.rejected += 1
            if self._debugging:
                logger.debug("item %d: invalid (%s); no call", index, error.problem)
            self._outcomes.put(Failed(item=item, error=error, index=index))
            return
        entry = self.entries.get(number)
        if entry is None:
            entry = self.entries[number] = PendingNumber(
                str(number), index, item, number=number, store=self._store, expedite=self._expedite
            )
            self._unclaimed.append(entry)
            return
        self.duplicates += 1
        if entry.more is None:
            entry.more = []
        entry.more.append((index, item))

    async def _claim(self, entries: Sequence[PendingNumber]) -> None:
        in_flight = self._in_flight
        wanted: list[int] = []
        for entry in entries:
            other = in_flight.get(entry.number)
            if other is None:
                in_flight[entry.number] = entry
                wanted.append(entry.number)
            elif other is not entry:
                self._join(entry, other)
        if not wanted:
            return
        claims = await self._store.claim(wanted, self._first_query)
        known, taken, asked = dict(claims.known), set(claims.taken), dict(claims.asked)
        failed = [found for found in known.values() if not isinstance(found.result, Check)]
        if failed:
            await self._claim_failed(failed, known, taken, asked)
        if self._query.endpoint == "cascade":
            await self._find_first_steps(wanted, known, taken)
        if not known and not taken and not failed and not asked:
            granted = entries if len(wanted) == len(entries) else [self.entries[number] for number in wanted]
            self.ready.extend(granted)
            self._on_ready(len(granted))
            return
        self._sort(wanted, known, taken, asked)

    async def _claim_failed(
        self,
        failed: Sequence[Settlement],
        known: dict[int, Settlement],
        taken: set[int],
        asked: dict[int, float],
    ) -> None:
        """Claim numbers that an earlier run left to be asked again, and those to retry."""
        # For the former, no failure counts as known.
        by_query: dict[Query, list[int]] = {}
        for found in failed:
            result = found.result
            if isinstance(result, ASKED_AGAIN):
                by_query.setdefault(self._no_failure, []).append(found.number)
            elif self._first_query is not self._query:
                by_query.setdefault(self._query, []).append(found.number)
            if isinstance(result, StillPending):
                self.entries[found.number].asked_at = result.asked_at
        for query, numbers in by_query.items():
            again = await self._store.claim(numbers, query)
            for number in numbers:
                del known[number]
            known |= again.known
            taken |= again.taken
            asked |= again.asked

    async def _find_first_steps(
        self, wanted: Sequence[int], known: dict[int, Settlement], taken: set[int]
    ) -> None:
        """See which numbers the basic endpoint has answered with "yes": these are at the second step of a cascade."""
        unanswered = [
            number
            for number in wanted
            if number not in taken and (number not in known or not isinstance(known[number].result, Check))
        ]
        found = await self._store.find(unanswered, first_step_of(self._query))
        for number in unanswered:
            first = found.get(number)
            if number in known:
                if first is not None:
                    known[number] = first  # only the details have failed
            elif first is None:
                self.entries[number].basic = True
            else:
                assert isinstance(first.result, Check)
                self.entries[number].first = first.result

    def _sort(
        self,
        wanted: Sequence[int],
        known: Mapping[int, Settlement],
        taken: set[int],
        asked: Mapping[int, float],
    ) -> None:
        """Handle each number by the result of its claim: known, taken by someone else, or ours."""
        ready = 0
        for number in wanted:
            entry = self.entries[number]
            settlement = known.get(number)
            if settlement is not None:
                self._answer(entry, settlement)
                if self._debugging:
                    logger.debug("%s: known to the ledger; no call", mask(number))
            elif number in taken:
                del self._in_flight[number]
                entry.tell(None)
                self._taken.delay(entry, entry.claim_wait or FIRST_CLAIM_WAIT)
                entry.claim_wait = next_claim_wait(entry.claim_wait or FIRST_CLAIM_WAIT)
                if self._debugging:
                    logger.debug("%s: another process is checking it; waiting for its answer", mask(number))
            elif self._on_asked is None or not self._was_asked(entry, asked.get(number)):
                self.ready.append(entry)
                ready += 1
        self._on_ready(ready)

    def _was_asked(self, entry: PendingNumber, left_at: float | None) -> bool:
        """Offer ``on_asked`` a number that an earlier run asked for, or may have asked for when it was killed."""
        assert self._on_asked is not None
        at = entry.asked_at
        is_pending = at is not None
        if left_at is not None:
            killed_at = datetime.fromtimestamp(left_at, UTC)
            at = killed_at if at is None else max(at, killed_at)
        return at is not None and self._on_asked(entry, at, is_pending)

    def _answer(self, entry: PendingNumber, settlement: Settlement) -> None:
        """Answer a number that the store knows."""
        del self.entries[entry.number], self._in_flight[entry.number]
        result = settlement.result
        if self._store.durable and entry.number not in self._bought:
            self.count_known(entry, result)
        else:
            self.duplicates += 1
        self._outcomes.put_settled(settlement, entry.index, entry.item, first=False)
        for index, item in entry.more or ():
            self._outcomes.put_settled(settlement, index, item, first=False)
        entry.tell(None)  # each run decides how old an answer may be

    def _join(self, entry: PendingNumber, other: PendingNumber) -> None:
        self._joined += 1

        def joined(settlement: Settlement | None) -> None:
            self._joined -= 1
            self._on_joined(entry, other, settlement)

        other.join(entry, joined)

    def _is_full(self) -> bool:
        limits = self._limits
        return (
            len(self.ready) + len(self._unclaimed) >= self._enough_ready
            or len(self._outcomes) >= limits.buffered
            or self._waiting() >= limits.delayed
            or self.read - self._outcomes.taken >= self._most_outstanding
        )

    def _is_hungry(self) -> bool:
        """Whether reading should continue; well below full, so that one waking admits many items."""
        limits = self._limits
        return (
            2 * (len(self.ready) + len(self._unclaimed)) <= self._enough_ready
            and 2 * len(self._outcomes) <= limits.buffered
            and self._waiting() < limits.delayed
            and self.read - self._outcomes.taken < self._most_outstanding
        )

    async def _wait_for_room(self) -> None:
        while not self._is_hungry():
            self._room.clear()
            self._awaits_room = True
            await self._room.wait()
