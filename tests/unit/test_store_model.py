"""After any operations in any order, a store agrees with a model made of dictionaries."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from accucheck import Check
from accucheck._models import Settlement
from accucheck._store import Endpoint, MemoryStore, Query, SQLiteStore, Store
from tests.unit.ledger_samples import MOBILE, Clock, answered, failed, told

NUMBERS = [MOBILE + n for n in range(8)]
ENDPOINTS: tuple[Endpoint, ...] = ("advanced", "basic")
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where syncing costs nothing: this is about what is known, not about the disk."""
CAP = 60

numbers = st.lists(st.sampled_from(NUMBERS), unique=True)
endpoints = st.sampled_from(ENDPOINTS)
questions = st.sampled_from([*ENDPOINTS, "cascade"])
ages = st.sampled_from([math.inf, 0.0, 2.5, 20.0])
which = st.integers(0, 1)


class StoreMachine(RuleBasedStateMachine):
    """One or two stores that share answers; each may close or die at any time, and is reopened."""

    def make(self) -> Store:
        raise NotImplementedError

    count = 1

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="accucheck-model-", dir=FOLDER))
        self.answers: dict[tuple[int, Endpoint], tuple[Settlement, float]] = {}
        self.failures: dict[tuple[int, Endpoint], tuple[Settlement, float]] = {}
        self.claims: dict[int, int] = {}
        self.left: dict[int, float] = {}
        """Numbers that were claimed when their owner died, and when that was."""
        self.leased: list[int] = [0] * self.count
        self.made = 0
        self.stores = [self.make() for _ in range(self.count)]
        self.dead: list[Any] = []
        for store in self.stores:
            self.runner.run(store.open())

    def teardown(self) -> None:
        for store in self.stores:
            self.runner.run(store.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(seconds=st.sampled_from([0.375, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.seconds += seconds

    def query(self, endpoint: Any, yes: float, no: float, failure: float) -> Query:
        now = self.clock.seconds
        return Query(endpoint=endpoint, yes_since=now - yes, no_since=now - no, failed_since=now - failure)

    def expected(self, query: Query) -> dict[int, Any]:
        known = {}
        for number in NUMBERS:
            given = [
                (settlement, at, endpoint)
                for endpoint in ENDPOINTS
                for settlement, at in [self.answers.get((number, endpoint), (None, 0.0))]
                if settlement is not None
            ]
            stored = [
                (settlement, at)
                for settlement, at, endpoint in given
                if endpoint == "advanced"
                or query.endpoint == "basic"
                or (isinstance(settlement.result, Check) and not settlement.result.whatsapp)
            ]
            fresh = [
                (settlement, at)
                for settlement, at in stored
                if isinstance(settlement.result, Check)
                and at >= (query.yes_since if settlement.result.whatsapp else query.no_since)
            ]
            if fresh:
                known[number] = told(max(fresh, key=lambda one: one[1])[0])
                continue
            failures = []
            for endpoint in ENDPOINTS if query.endpoint == "cascade" else (query.endpoint,):
                settlement, at = self.failures.get((number, endpoint), (None, 0.0))
                answers = [(one, when) for one, when, _ in given] if endpoint == "basic" else stored
                after = max((when for _, when in answers), default=-math.inf)
                if settlement is not None and at >= query.failed_since and at >= after:
                    failures.append((settlement, at))
            if failures:
                known[number] = told(max(failures, key=lambda one: one[1])[0])
        return known

    @rule(who=which, endpoint=questions, yes=ages, no=ages, failure=ages)
    def find(self, who: int, endpoint: Any, yes: float, no: float, failure: float) -> None:
        query = self.query(endpoint, yes, no, failure)
        found = self.runner.run(self.stores[who % self.count].find(NUMBERS, query))
        assert {number: told(settlement) for number, settlement in found.items()} == self.expected(query)

    @rule(who=which, wanted=numbers, endpoint=questions, yes=ages, no=ages, failure=ages)
    def claim(
        self, who: int, wanted: list[int], endpoint: Any, yes: float, no: float, failure: float
    ) -> None:
        who %= self.count
        query = self.query(endpoint, yes, no, failure)
        claims = self.runner.run(self.stores[who].claim(wanted, query))
        known = {number: told for number, told in self.expected(query).items() if number in wanted}
        taken = {number for number in wanted if number in self.claims}
        assert set(claims.taken) <= taken, "only what somebody has claimed"
        assert {
            number: told(settlement) for number, settlement in claims.known.items()
        }.items() <= known.items()
        assert set(claims.known) | set(claims.taken) >= set(known), "what is known is not granted"
        assert set(claims.known) | set(claims.taken) >= taken, "what is claimed is not granted again"
        for number in wanted:
            if number not in claims.known and number not in claims.taken:
                self.claims[number] = who
                if number in self.left:
                    # It was asked before its owner died, and is not asked again too early.
                    assert claims.asked[number] >= self.left.pop(number)
                else:
                    assert number not in claims.asked

    @rule(who=which, wanted=numbers)
    def release(self, who: int, wanted: list[int]) -> None:
        who %= self.count
        self.runner.run(self.stores[who].release(wanted))
        for number in wanted:
            if self.claims.get(number) == who:
                del self.claims[number]

    @rule(
        who=which,
        chosen=numbers,
        failing=st.sets(st.sampled_from(NUMBERS)),
        endpoint=endpoints,
        release=st.booleans(),
    )
    def settle(
        self, who: int, chosen: list[int], failing: set[int], endpoint: Endpoint, release: bool
    ) -> None:
        who %= self.count
        self.clock.seconds += 1
        now = self.clock.seconds
        batch = [
            failed(number, calls=2, lost=1)
            if number in failing
            else answered(
                number, checked_at=datetime.fromtimestamp(now, UTC), whatsapp=(number + int(now)) % 2 == 0
            )
            for number in chosen
        ]
        self.runner.run(self.stores[who].settle(batch, endpoint=endpoint, release=release))
        for settlement in batch:
            kept = self.answers if isinstance(settlement.result, Check) else self.failures
            kept[settlement.number, endpoint] = settlement, now
            if release and self.claims.get(settlement.number) == who:
                del self.claims[settlement.number]

    @rule(who=which, wanted=st.integers(1, 20), used=st.integers(0, 20), unused=st.booleans())
    def call(self, who: int, wanted: int, used: int, unused: bool) -> None:
        who %= self.count
        store = self.stores[who]
        self.leased[who] += self.runner.run(store.lease_calls(wanted, max_calls=CAP))
        for _ in range(min(used, self.leased[who])):
            store.note_call()
            self.made += 1
            self.leased[who] -= 1
        if unused:
            self.runner.run(store.return_calls(self.leased[who]))
            self.leased[who] = 0
        assert self.made + sum(self.leased) <= CAP
        assert self.runner.run(store.calls_made()) == self.made

    @rule(who=which)
    def close(self, who: int) -> None:
        who %= self.count
        if not self.stores[who].durable:
            return
        self.runner.run(self.stores[who].aclose())
        self._come_back(who)

    def _come_back(self, who: int) -> None:
        self.claims = {key: owner for key, owner in self.claims.items() if owner != who}
        self.leased[who] = 0
        self.stores[who] = self.make()
        self.runner.run(self.stores[who].open())

    @invariant()
    def calls_are_exact(self) -> None:
        made = Counter(self.runner.run(store.calls_made()) for store in self.stores)
        assert set(made) == {self.made}


class MemoryMachine(StoreMachine):
    def make(self) -> Store:
        return MemoryStore(now=self.clock)


class SQLiteMachine(StoreMachine):
    count = 2

    def make(self) -> Store:
        return SQLiteStore(self.folder / "leads.db", now=self.clock, reserve=0)

    @rule(who=which)
    def die(self, who: int) -> None:
        """Kill the process: its lock is released, and everything else stays unchanged."""
        store = self.stores[who]
        assert isinstance(store, SQLiteStore)
        owner = store._ledger.tables.owner
        owner._counters.release()
        owner._map.close()
        os.close(owner._descriptor)
        store._thread = None
        store._finalizer.detach()
        self.dead.append(store)
        now = self.clock.seconds
        self.left |= {number: now for number, owner in self.claims.items() if owner == who}
        self._come_back(who)


TestMemoryStore = MemoryMachine.TestCase
TestSQLiteStores = SQLiteMachine.TestCase
for machine in (TestMemoryStore, TestSQLiteStores):
    machine.settings = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
