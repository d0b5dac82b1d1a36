"""The ledger against a dictionary: whatever is done to it, in whatever order, it knows what the dictionary knows."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from accucheck import Check, Ledger
from accucheck._models import Settlement
from accucheck._store._old import _mover
from accucheck._store._old._session import Session
from tests.unit.ledger_samples import MOBILE, Clock, Listener, answered, failed, told

NUMBERS = [MOBILE + n for n in range(40)]
CAP = 60
ENDPOINTS = ("advanced", "basic")
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where syncing costs nothing: this is about what is known, not about the disk."""
Known = dict[tuple[int, str], tuple[Settlement, float]]


class LedgerMachine(RuleBasedStateMachine):
    """Runs follow each other on one ledger; each is ended by a close or by a crash."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(prefix="accucheck-model-", dir=MEMORY))
        self.copies = 0
        self.answers: Known = {}
        self.failures: Known = {}
        self.waiting: dict[int, tuple[Settlement, float]] = {}  # settled, not known to be committed
        self.spent = self.lost = 0
        self.session: Session | None = None
        self.patch = mock.patch.multiple(_mover, MOVE_AT=12, MOVED_AT_ONCE=5)
        self.patch.start()
        self.ledger = Ledger(self.directory / "leads.db", now=self.clock)

    def teardown(self) -> None:
        if self.session is not None:
            self.session.close()
        self.ledger.close()
        self.runner.close()
        self.patch.stop()
        shutil.rmtree(self.directory)

    # A run

    @initialize()
    def first(self) -> None:
        self._begin("advanced", None, retry_failed=False)

    @precondition(lambda self: self.session is None)
    @rule(
        endpoint=st.sampled_from(ENDPOINTS),
        fresh_within=st.none() | st.floats(0, 2_000),
        retry_failed=st.booleans(),
    )
    def begin(self, endpoint: Any, fresh_within: float | None, retry_failed: bool) -> None:
        self._begin(endpoint, fresh_within, retry_failed=retry_failed)

    def _begin(self, endpoint: Any, fresh_within: float | None, *, retry_failed: bool) -> None:
        self.clock.seconds += 1
        self.endpoint = endpoint
        self.since = float("-inf") if fresh_within is None else self.clock.seconds - fresh_within
        self.failed_since = self.clock.seconds if retry_failed else self.since
        self.session = self.ledger.session(
            endpoint=endpoint, fresh_within=fresh_within, retry_failed=retry_failed
        )
        self.unused = 0
        self.runner.run(self._start())

    async def _start(self) -> None:
        assert self.session is not None
        self.heard = Listener(self.session)

    @precondition(lambda self: self.session is not None)
    @rule(chosen=st.lists(st.sampled_from(NUMBERS), unique=True), data=st.data())
    def settle(self, chosen: list[int], data: st.DataObject) -> None:
        if not self.waiting:
            self.clock.seconds += 1
        fresh = [number for number in chosen if number not in self.waiting]
        failing = data.draw(st.sets(st.sampled_from(fresh))) if fresh else set()

        async def settle_all() -> None:
            assert self.session is not None
            at = datetime.fromtimestamp(self.clock.seconds, UTC)
            for number in fresh:
                settlement = (
                    failed(number, calls=2, lost=1)
                    if number in failing
                    else answered(number, checked_at=at, whatsapp=number % 2 == 0, calls=3)
                )
                self.session.settle(settlement)
                self.waiting[number] = settlement, self.clock.seconds

        self.runner.run(settle_all())

    @precondition(lambda self: self.session is not None)
    @rule()
    def flush(self) -> None:
        assert self.session is not None
        self.runner.run(self.session.flush())
        assert {settlement.number for settlement in self.heard.committed} >= set(self.waiting)
        self._commit(self.waiting)

    def _commit(self, settled: dict[int, tuple[Settlement, float]]) -> None:
        for number, (settlement, at) in settled.items():
            key = number, self.endpoint
            if isinstance(settlement.result, Check):
                self.answers[key] = settlement, at
                self.failures.pop(key, None)
            else:
                self.failures[key] = settlement, at
            self.lost += settlement.possibly_double_charged
        self.waiting = {}

    @precondition(lambda self: self.session is not None)
    @rule(wanted=st.integers(1, 300), unused=st.integers(0, 5))
    def lease(self, wanted: int, unused: int) -> None:
        assert self.session is not None
        granted = self.session.lease_calls(wanted, CAP)
        assert 0 <= granted <= wanted
        back = min(unused, granted)
        self.session.return_calls(back)
        self.unused += back
        self.spent += granted
        assert self.spent <= CAP

    # Its end

    @precondition(lambda self: self.session is not None)
    @rule()
    def close(self) -> None:
        assert self.session is not None
        self.runner.run(self.session.aclose())
        self.session = None
        self._commit(self.waiting)
        self.spent -= self.unused
        assert self.ledger.info().calls == self.spent

    @precondition(lambda self: self.session is not None)
    @rule()
    def crash(self) -> None:
        """Go on with a copy of the files as they are at this instant: what was committed must be there."""
        assert self.session is not None
        self.copies += 1
        copy = self.directory / f"copy{self.copies}.db"
        for suffix in ("", "-wal"):
            here = self.ledger.path.with_name(self.ledger.path.name + suffix)
            if here.exists():
                shutil.copy(here, copy.with_name(copy.name + suffix))
        self.session.close()
        self.ledger.close()
        self.ledger, self.session = Ledger(copy, now=self.clock), None
        self.ledger.session().close()  # recovers
        there = [(endpoint, told(settlement)) for endpoint, settlement in self.ledger.settlements()]
        arrived = {
            number: (settlement, at)
            for number, (settlement, at) in self.waiting.items()
            if (self.endpoint, told(settlement)) in there
        }
        self._commit(arrived)
        info = self.ledger.info()
        assert info.calls >= self.spent, "what a killed run had leased counts as spent"
        self.spent = info.calls

    # Between runs

    @precondition(lambda self: self.session is None)
    @rule(older_than=st.floats(0, 3_000))
    def purge(self, older_than: float) -> None:
        self.clock.seconds += 1
        before = self.clock.seconds - older_than
        kept = [
            {key: known for key, known in table.items() if round(known[1] * 1e6) >= round(before * 1e6)}
            for table in (self.answers, self.failures)
        ]
        removed = len(self.answers) + len(self.failures) - sum(map(len, kept))
        assert self.ledger.purge(older_than) == removed
        self.answers, self.failures = kept

    @precondition(lambda self: not self.waiting)  # a failure is dated when its batch is made
    @rule(seconds=st.floats(0, 1_000))
    def wait(self, seconds: float) -> None:
        self.clock.seconds += round(seconds, 3)

    # What is known

    @precondition(lambda self: self.session is not None)
    @rule(asked=st.lists(st.sampled_from([*NUMBERS, MOBILE + 99]), unique=True))
    def find(self, asked: list[int]) -> None:
        assert self.session is not None
        found = self.session.find(asked)
        expected = self._expected(asked, self.endpoint, self.since, self.failed_since)
        for number in asked:
            if number in self.waiting:
                continue  # it may be committed by now, or not
            assert (told(found[number]) if number in found else None) == expected.get(number)

    @rule(asked=st.lists(st.sampled_from(NUMBERS), unique=True), endpoint=st.sampled_from(ENDPOINTS))
    def look_up(self, asked: list[int], endpoint: Any) -> None:
        found = self.ledger.find(asked, endpoint=endpoint)
        expected = self._expected(asked, endpoint, float("-inf"), float("-inf"))
        for number in asked:
            if number not in self.waiting:
                assert (told(found[number]) if number in found else None) == expected.get(number)

    def _expected(
        self, asked: list[int], endpoint: str, since: float, failed_since: float
    ) -> dict[int, tuple[Any, ...]]:
        expected = {}
        for number in asked:
            rich = ENDPOINTS if endpoint == "basic" else (endpoint,)
            here = [self.answers[number, one] for one in rich if (number, one) in self.answers]
            fresh = [known for known in here if known[1] >= since]
            if fresh:
                expected[number] = told(max(fresh, key=lambda known: known[1])[0])
            elif (failure := self.failures.get((number, endpoint))) and failure[1] >= max(
                since, failed_since
            ):
                expected[number] = told(failure[0])
        return expected

    @invariant()
    def knows_what_the_dictionary_knows(self) -> None:
        if self.session is None:
            there = sorted((endpoint, told(s)[0], s.calls) for endpoint, s in self.ledger.settlements())
            model = [
                (key[1], key[0], known[0].calls)
                for key, known in (*self.answers.items(), *self.failures.items())
            ]
            assert there == sorted(model)


LedgerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_the_ledger_knows_what_a_dictionary_knows = LedgerMachine.TestCase
