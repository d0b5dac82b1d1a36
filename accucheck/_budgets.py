"""The caps of a run: on its calls and on what they may cost. Exact across processes, runs and kills."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any, Final

from accucheck._concurrency import EngineTask, settled
from accucheck._costs import Money, Prices, money
from accucheck._errors import BudgetExhausted, ConfigurationError
from accucheck._statuses import Charge, Row
from accucheck._store import COUNTS_MONEY, Store

__all__ = ["CallBudget", "CallCap", "Caps", "CostBudget", "spent_so_far"]


class CallCap:
    """A hard cap on the calls of one client, kept in memory: ``Client(max_calls=...)``."""

    __slots__ = ("left",)

    def __init__(self, max_calls: int) -> None:
        self.left = max_calls

    def take(self) -> bool:
        """Take one call; return False if none is left."""
        if self.left == 0:
            return False
        self.left -= 1
        return True

    def give_back(self) -> None:
        """Return a call that was taken and not made."""
        self.left += 1

    def sending(self) -> None:
        """Do nothing: what was taken is spent."""

    not_sent = give_back

    async def wait(self) -> None:
        """Raise BudgetExhausted if no call is left."""
        if not self.left:
            raise budget_exhausted()


_BLOCK: Final = 1_000
"""Calls leased at once. Fewer under a cap, because others cannot use what one process has leased."""
_BLOCKS_IN_A_CAP: Final = 50
_AHEAD: Final = 4
"""The next block is leased when a quarter of this one is left, so that nobody waits for it."""
_IDLE: Final = 0.5
"""Seconds between checks whether leased calls are used at all."""
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 0.5
"""Seconds until the next request for a lease while others hold the last calls of a cap."""


class CallBudget:
    """Calls leased from a store in blocks; with ``max_calls``, a cap across processes and runs.

    The cap is reached when ``max_calls`` calls were made, not when they are leased: calls that others lease and do not
    use come back, and this waits for them. Nobody keeps unused calls for long, so the wait is short.
    """

    def __init__(self, store: Store, *, job: str = "", max_calls: int | None = None, each: int = 1) -> None:
        """``each`` is what one call takes from the budget."""
        self._store = store
        self._each = each
        self._job = job
        self._max_calls = max_calls
        self._block = _BLOCK * each
        if max_calls is not None:
            self._block = min(max(max_calls // _BLOCKS_IN_A_CAP, each), self._block)
        self._left = 0
        self._left_before = -1
        """What was left at the last ``_look``."""
        self._busy: EngineTask[None] | None = None
        """The task that leases or gives back."""
        self._napping = False
        self._waiting = 0
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    def take(self) -> bool:
        """Take one call; return False if it must wait for a block."""
        left = self._left
        if left < self._each:
            return False
        self._left = left = left - self._each
        if left * _AHEAD < self._block and self._busy is None and self._error is None:
            self._begin(self._lease())
        return True

    def give_back(self) -> None:
        """Return a call that was taken and not made."""
        self._left += self._each
        self._news.set()

    def sending(self) -> None:
        """Note that a call that was taken is being sent."""
        self._store.note_call(self._job, self._each)

    def not_sent(self) -> None:
        """Note that a call was not sent after all, and return it."""
        self._store.note_call(self._job, -self._each)
        self.give_back()

    async def wait(self) -> None:
        """Wait until there is a call to take. Raises BudgetExhausted if the cap is reached, or LedgerError."""
        self._waiting += 1
        try:
            while self._left < self._each:
                if self._error is not None:
                    raise self._error
                if self._busy is None:
                    self._begin(self._lease())
                self._news.clear()
                await self._news.wait()
        finally:
            self._waiting -= 1

    async def close(self, *, lost: int) -> None:
        """Give back what was not used. ``lost`` counts calls that were cut off."""
        self._error = self._error or RuntimeError("the run is over")
        if self._timer is not None:
            self._timer.cancel()
        if self._busy is not None:
            if self._napping:
                self._busy.end()
            await settled(self._busy)
        unused, self._left = self._left, 0
        if unused or lost:
            await self._store.return_calls(unused, lost=lost, job=self._job)

    @property
    def _may_come_back(self) -> bool:
        """Whether calls in flight may turn out not to count."""
        return False

    def _exhausted(self) -> BudgetExhausted:
        return budget_exhausted()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # An empty context, because it leases for many numbers.
        self._busy = EngineTask(work, name="lease", on_cancel=lambda: None, context=contextvars.Context())

    async def _lease(self) -> None:
        store, wait = self._store, _FIRST_WAIT
        try:
            while True:
                granted = await store.lease_calls(
                    self._block, max_calls=self._max_calls, job=self._job, each=self._each
                )
                self._left += granted
                if granted:
                    self._watch()
                    return
                if self._max_calls is None or (
                    not self._may_come_back
                    and await store.calls_made(self._job) + self._each > self._max_calls
                ):
                    self._error = self._exhausted()
                    return
                if self._left >= self._each or not self._waiting or self._error is not None:
                    return
                if self._left:  # less than a call needs: let another process have it
                    unused, self._left = self._left, 0
                    await store.return_calls(unused, job=self._job)
                self._napping = True
                await asyncio.sleep(wait)
                self._napping = False
                wait = min(2 * wait, _LONGEST_WAIT)
        except Exception as error:  # noqa: BLE001 (it is raised again, where a call is reserved)
            self._error = error
        finally:
            self._busy = None
            self._news.set()

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_IDLE, self._look)

    def _look(self) -> None:
        """Give back calls that nobody has used since the last look, because another process may be waiting for them."""
        self._timer = None
        if self._error is not None and self._left == 0:
            return
        idle, self._left_before = self._left == self._left_before, self._left
        if idle and self._left and self._busy is None:
            self._begin(self._give_idle_back())
        elif self._left or self._busy is not None:
            self._watch()

    async def _give_idle_back(self) -> None:
        unused, self._left = self._left, 0
        try:
            await self._store.return_calls(unused, job=self._job)
        except Exception:  # noqa: BLE001 (the next use of the store raises it, too)
            self._left += unused
            self._watch()
        finally:
            self._busy = None
            self._news.set()


def budget_exhausted() -> BudgetExhausted:
    return BudgetExhausted("max_calls calls have been made: raise max_calls to continue")


class CostBudget(CallBudget):
    """A cap on what calls may cost. Each call takes the price of the most expensive reply from a budget of money.

    Money is counted in billionths, so it is exact in whole numbers, whatever prices the processes of a job have. Prices
    are rounded up. The store leases billionths as it leases calls, for a separate job. If a reply turns out to be
    cheaper, the difference comes back. So after a kill, only the calls in flight count as spent. Created by ``open``.
    """

    def __init__(self, store: Store, prices: Prices, limit: int | None, job: str) -> None:
        """``limit`` is the most that ``job`` may spend, over all its processes and runs; None only counts."""
        super().__init__(store, job=job, max_calls=limit, each=_billionths(prices.dearest))
        charges: tuple[Charge, ...] = ("answer", "pending", "refusal", "unknown", "nothing")
        self._back, self._back_of_basic = (
            {charge: self._each - _billionths(price._at_most(charge)) for charge in charges}
            for price in (prices, prices.basic or prices)
        )
        self._under_way = 0

    @classmethod
    async def open(
        cls, store: Store, max_cost: Money | None, prices: Prices, *, job: str = ""
    ) -> CostBudget | None:
        """Return the budget of a job; None if calls are free. Without a ``max_cost`` it only counts, for later runs.

        What was spent at other prices counts as it was spent. Calls that the job made before it had a price count as
        charged, at the most that a call costs now.

        Raises ConfigurationError and LedgerError.
        """
        most = None if max_cost is None else money("max_cost", max_cost)
        if not prices.dearest:
            return None
        if prices.dearest > _DEAREST:
            raise ConfigurationError(f"a call may cost {_DEAREST:,} at most, not {prices.dearest:,}")
        before = await store.recall(_BEFORE + job)
        if before is None:
            # Nobody counted what these calls cost, so each counts as charged.
            before = str(await store.calls_made(job) * prices.dearest)
            await store.remember(_BEFORE + job, before)
        limit = None if most is None else int(max(most - Decimal(before), Decimal(0)) / _BILLIONTH)
        return cls(store, prices, limit, COUNTS_MONEY + job)

    def sending(self) -> None:
        """Note that a call is being sent; until its reply arrives, it counts as charged."""
        self._under_way += 1
        super().sending()

    def not_sent(self) -> None:
        self._under_way -= 1
        super().not_sent()

    def settle(self, row: Row, *, basic: bool = False) -> None:
        """Note a reply, of the basic endpoint of a cascade or not, and return what it did not cost."""
        self._under_way -= 1
        back = (self._back_of_basic if basic else self._back)[row.charge]
        if back:
            self._store.note_call(self._job, -back)
            self._left += back
            self._news.set()

    @property
    def _may_come_back(self) -> bool:
        return self._under_way > 0

    def _exhausted(self) -> BudgetExhausted:
        return BudgetExhausted("max_cost is used up: raise max_cost to continue", cap="max_cost")


class Caps:
    """The caps of a run: each call needs all of them."""

    def __init__(
        self, *, cap: CallCap | None = None, cost: CostBudget | None = None, budget: CallBudget | None = None
    ) -> None:
        self._cost = cost
        self._all = [each for each in (budget, cost, cap) if each is not None]

    def __bool__(self) -> bool:
        return bool(self._all)

    def take(self) -> bool:
        """Take a call from every cap, or from none; return whether it did."""
        for place, each in enumerate(self._all):
            if not each.take():
                for taken in self._all[:place]:
                    taken.give_back()
                return False
        return True

    async def reserve(self) -> None:
        """Wait until every cap has a call, and take it. Raises BudgetExhausted if one is reached.

        Holds nothing while it waits, so that others can make those calls.
        """
        while not self.take():
            for each in reversed(self._all):  # the client's own first: others cannot give it calls
                await each.wait()

    def give_back(self) -> None:
        """Return a call that was taken and not made."""
        for each in self._all:
            each.give_back()

    def sending(self) -> None:
        """Note that the call is being sent."""
        for each in self._all:
            each.sending()

    def not_sent(self) -> None:
        """Note that it was not sent after all, and return it."""
        for each in self._all:
            each.not_sent()

    def settle(self, row: Row, *, basic: bool) -> None:
        """Note its reply, and return what it did not cost."""
        if self._cost is not None:
            self._cost.settle(row, basic=basic)


async def spent_so_far(store: Store, job: str = "") -> Decimal:
    """Return what the calls of a job may have cost, over all its processes and runs.

    Runs without prices count until the first that had some.
    """
    before = Decimal(await store.recall(_BEFORE + job) or 0)
    return before + _BILLIONTH * await store.calls_made(COUNTS_MONEY + job)


_BILLIONTH: Final = Decimal("1e-9")
_DEAREST: Final = 1_000_000
"""Stores count billionths in 64 bits, so a job may spend 9,000 times as much."""
_BEFORE: Final = "spent before max_cost of "


def _billionths(amount: Decimal) -> int:
    return math.ceil(amount / _BILLIONTH)
