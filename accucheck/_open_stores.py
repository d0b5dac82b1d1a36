"""The stores that a client has open, what it remembers in them, and the gate for its calls."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, cast

from accucheck._admission import FIRST_CLAIM_WAIT, InFlight, next_claim_wait
from accucheck._concurrency import EngineTask, settled
from accucheck._errors import ConfigurationError, LedgerError
from accucheck._gate import AdaptiveGate, Gate
from accucheck._host import Host
from accucheck._schedule import RatePlan
from accucheck._shared_gate import SharedGate
from accucheck._store import Ledger, PermitStore, Query, Store

__all__ = ["OpenStores", "Passage", "SharedStore", "check_ledger", "ledger_name"]

_KEEP_FLOOR: Final = 7 * 86_400.0
"""Seconds that a rate at which nothing was refused is a starting point for the search."""
_NO_NUMBER: Final = 0
"""Claimed by the process that finds out about the body."""
_KEEP_USAGE: Final = 5.0
"""Seconds between saves of the calls that count against a quota; a kill loses the calls since the last one."""


class SharedStore:
    """One store, and the numbers that a client is buying with it."""

    def __init__(self, store: Store, *, owned: bool) -> None:
        self.store = store
        self.owned = owned
        self.in_flight: InFlight = {}
        self.users = 0
        self._rate_key = ""
        self._learned: float | None = None
        self._floor: float | None = None
        """A rate at which earlier runs were not refused, if they found no limit."""
        self._usage: str | None = None
        self.body: str | None = None
        """What earlier runs found out about the body encoding."""
        self._keeping: dict[AdaptiveGate, EngineTask[None]] = {}
        self._gates: dict[str, SharedGate] = {}
        self._opening: EngineTask[None] | None = None

    async def open(self, rate_key: str) -> None:
        """Open the store, once for all callers. Raises LedgerError."""
        if self._opening is None:
            self._opening = EngineTask(
                self._open(rate_key),
                name="opening",
                on_cancel=lambda: None,
                context=contextvars.Context(),
            )
        await settled(self._opening)
        self._opening.result()

    async def _open(self, rate_key: str) -> None:
        await self.store.open()
        self._rate_key = rate_key
        remembered = await self.store.recall(rate_key)
        self._learned = None if remembered is None else float(remembered)
        if self._learned is None:
            rate, _, at = (await self.store.recall(self._floor_key) or "").partition(" ")
            if rate and time.time() - float(at) < _KEEP_FLOOR:
                self._floor = float(rate)
        self._usage = await self.store.recall(self._usage_key)
        self.body = await self.store.recall(self._body_key)

    @property
    def _usage_key(self) -> str:
        return f"quota {self._rate_key}"

    @property
    def _floor_key(self) -> str:
        return f"not refused {self._rate_key}"

    @property
    def _body_key(self) -> str:
        return f"body {self._rate_key}"

    def gate_for(self, account: str, plan: RatePlan | None) -> SharedGate | None:
        """Return the gate that all processes on this store share for an account; None if it cannot be shared."""
        if plan is None or not hasattr(self.store, "lease_permits"):
            return None
        gate = self._gates.get(account)
        if gate is None:
            gate = SharedGate(
                cast("PermitStore", self.store), account, plan, learned=self._learned, floor=self._floor
            )
            self._gates[account] = gate
        return gate

    def prepare(self, gate: Gate) -> None:
        """Tell a gate what earlier runs found, and from now on save the calls that count against its quotas."""
        if not isinstance(gate, AdaptiveGate) or gate in self._keeping:
            return
        gate.start_from(self._learned, floor=self._floor)
        if gate.usage is not None and self.store.durable:
            gate.restore_usage(self._usage or "{}")
            self._keeping[gate] = EngineTask(
                self._keep_usage(gate), name="quota", on_cancel=lambda: None, context=contextvars.Context()
            )

    async def _keep_usage(self, gate: AdaptiveGate) -> None:
        kept = self._usage
        while True:
            await asyncio.sleep(_KEEP_USAGE)
            usage = gate.usage
            if usage is not None and usage != kept:
                # A store that fails here also fails when it stores answers, and that error is raised.
                with contextlib.suppress(LedgerError):
                    await self.store.remember(self._usage_key, usage)
                    kept = usage

    async def keep_found(self, gate: Gate, body: str | None) -> None:
        """Save what was found about the rate and the body for the next run. May raise LedgerError."""
        if not self.store.durable:
            return
        await self._keep_body(body)
        if not isinstance(gate, AdaptiveGate | SharedGate):
            return
        if gate.learned is not None:
            await self.store.remember(self._rate_key, repr(gate.learned))
        elif gate.floor is not None and self._learned is None:
            # Not lower than before for a short run, unless that was long ago.
            floor = max(gate.floor, self._floor or 0.0)
            await self.store.remember(self._floor_key, f"{floor!r} {time.time():.0f}")
        if isinstance(gate, AdaptiveGate) and gate.usage is not None:
            await self.store.remember(self._usage_key, gate.usage)

    async def _keep_body(self, body: str | None) -> None:
        if body is not None and body != self.body:
            await self.store.remember(self._body_key, body)
            self.body = body

    @contextlib.asynccontextmanager
    async def body_turn(self, host: Host) -> AsyncIterator[None]:
        """Let one process of the account at a time find out about the body, and the next one know what it found.

        May raise LedgerError.
        """
        wait = FIRST_CLAIM_WAIT
        while (await self.store.claim([_NO_NUMBER], Query())).taken:
            await asyncio.sleep(wait)
            wait = next_claim_wait(wait)
        try:
            remembered = await self.store.recall(self._body_key)
            if remembered != self.body:
                self.body = remembered
                host.take_up_body(remembered)
            yield
            await self._keep_body(host.body.memory)
        finally:
            await self.store.release([_NO_NUMBER])

    async def aclose(self) -> None:
        """Stop saving, and close the store if it is ours."""
        tasks, self._keeping = [*self._keeping.values()], {}
        for task in tasks:
            task.end()
        if tasks:
            await asyncio.wait(tasks)
        gates, self._gates = [*self._gates.values()], {}
        for gate in gates:
            await gate.aclose()
        if self.owned:
            await self.store.aclose()


class Passage:
    """One use of a client's stores: where its answers are kept, and the gate for its calls."""

    __slots__ = ("body_turn", "gate", "in_flight", "pacing", "shared")

    def __init__(
        self,
        gate: Gate,
        shared: SharedStore | None,
        pacing: SharedStore | None,
        *,
        in_flight: InFlight,
        body_turn: Callable[[], AbstractAsyncContextManager[None]] | None,
    ) -> None:
        self.gate = gate
        self.shared = shared
        self.pacing = pacing
        """The store that the gate's permits come from, if that is a store."""
        self.in_flight = in_flight
        """The numbers that the client is buying for those answers."""
        self.body_turn = body_turn
        """What a call that finds out about the body is made in; None if no other process hears of it."""


class OpenStores:
    """The stores that a client has open, each path or object once, and the gate for its calls."""

    def __init__(
        self,
        make_store: Callable[[Any], Store],
        *,
        host: Host,
        account: str,
        gate: Gate,
        plan: RatePlan | None,
    ) -> None:
        """``make_store`` turns a path or an address into a store, which remembers the rate of ``host`` and its body.

        ``gate`` is the client's own. With ``plan``, a store that can pace all processes of the ``account`` replaces it
        with its own gate.
        """
        self.gate = gate
        """The gate of all calls without their own rate."""
        self._make_store = make_store
        self._host = host
        self._account = account
        self._own_gate = gate
        self._plan = plan
        self._in_flight: InFlight = {}  # of those who keep no ledger
        self._shared: dict[object, SharedStore] = {}
        self._pacing: SharedStore | None = None
        self._passages: set[Passage] = set()

    async def use(self, ledger: Any) -> SharedStore:
        """Return the open store for a path, an address, a ``Ledger`` or a store. Pass it to ``enter``."""
        owned = not hasattr(ledger, "settle")
        key = ledger_name(ledger)
        shared = self._shared.get(key)
        if shared is None:
            shared = SharedStore(self._make_store(ledger), owned=owned)
            self._shared[key] = shared
        shared.users += 1
        try:
            await shared.open(f"rate {self._host.name}")
        except BaseException:
            await self._let_go(shared)
            raise
        self._host.recall_body(shared.body)
        return shared

    def enter(self, shared: SharedStore | None, own: Gate | None = None) -> Passage:
        """Choose the gate for calls whose answers are kept in ``shared``. Call ``leave`` when done.

        ``own`` is the gate of a stream with its own rate. All other calls of the client pass one gate: the client's
        own, or that of the first open store that can pace all processes of the account, unless calls already pass
        the client's own.
        """
        plan = self._plan if own is None else None
        if self._pacing is not None and not self._pacing.users:  # just closed
            self._pacing, self.gate = None, self._own_gate
        gate, pacing = own or self.gate, None
        if self._pacing is None and shared is not None:
            # Not while others use the client's own gate: it must not change under them, and two would exceed the rate.
            in_use = any(passage.gate is self._own_gate for passage in self._passages)
            paced = None if in_use else shared.gate_for(self._account, plan)
            if paced is None:
                shared.prepare(gate)
            else:
                self._pacing, self.gate = shared, paced
        if plan is not None and self._pacing is not None:
            gate, pacing = self.gate, self._pacing
            pacing.users += 1
        passage = Passage(
            gate,
            shared,
            pacing,
            in_flight=self._in_flight if shared is None else shared.in_flight,
            body_turn=(
                partial(shared.body_turn, self._host) if shared is not None and shared.store.durable else None
            ),
        )
        self._passages.add(passage)
        return passage

    async def leave(self, passage: Passage) -> None:
        """End a use, and save what was found; see ``keep_found``. May raise LedgerError."""
        self._passages.discard(passage)
        try:
            if passage.shared is not None:
                await self._leave(passage.shared, passage.gate, self._host.body.memory)
        finally:
            if passage.pacing is not None:
                await self._leave(passage.pacing, passage.gate, None)

    async def _leave(self, shared: SharedStore, gate: Gate, body: str | None) -> None:
        try:
            await shared.keep_found(gate, body)
        finally:
            await self._let_go(shared)

    async def _let_go(self, shared: SharedStore) -> None:
        shared.users -= 1
        if shared.users == 0:
            self._shared = {key: other for key, other in self._shared.items() if other is not shared}
            await shared.aclose()


def ledger_name(ledger: Any) -> object:
    """Return the same name for all paths of a file; a store is its own name."""
    if hasattr(ledger, "settle"):
        return ledger
    text: str = os.fspath(getattr(ledger, "place", ledger))
    return text if "://" in text else os.path.realpath(text)


def check_ledger(ledger: object) -> None:
    """Raise ConfigurationError unless it is a path, an address, a ``Ledger``, a ``Store`` or None."""
    # Not isinstance(ledger, Store): that would evaluate the protocol's properties.
    known = (str, os.PathLike, Ledger)
    if not (ledger is None or isinstance(ledger, known) or hasattr(ledger, "settle")):
        raise ConfigurationError(f"ledger must be a path or a Store, not {ledger!r}")
    if ledger == "":
        raise ConfigurationError("ledger is an empty string: pass the path of a file")
