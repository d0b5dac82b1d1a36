"""Runs with a ledger, over real sockets: no answer is bought twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from accucheck import AdaptiveGate, BudgetExhausted, Checked, Client, Failed, LedgerError, OutOfQuota, Policy
from accucheck._models import Settlement
from accucheck._store import Ledger, SQLiteStore
from accucheck.sandbox import Settings, serve
from tests.integration.test_client import assert_true, client_for, collect, numbers


async def test_a_second_run_asks_nothing_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    async with serve(Settings(pending=0.1, pending_for=0.1)) as sandbox, client_for(sandbox) as client:
        first = await collect(client, numbers(300), ledger=path, ordered=True)
        made = sandbox.counts.requests
        async with client.stream(numbers(300), ledger=path, ordered=True) as outcomes:
            second = [outcome async for outcome in outcomes]
        assert sandbox.counts.requests == made
    assert all(isinstance(outcome, Checked) for outcome in first)
    assert [getattr(outcome, "check", None) for outcome in first] == [
        getattr(outcome, "check", None) for outcome in second
    ]
    assert all(outcome.calls == 0 for outcome in second)
    assert outcomes.stats.known == 300
    assert os.stat(path).st_mode & 0o777 == 0o600


async def test_a_run_that_ran_out_of_money_continues_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    async with serve(Settings(quota=120)) as sandbox, client_for(sandbox) as client:
        with pytest.raises(OutOfQuota):
            await collect(client, numbers(300), ledger=path)
        charges = sandbox.charges()
    async with serve(Settings()) as sandbox, client_for(sandbox) as client:
        outcomes = await collect(client, numbers(300), ledger=path)
        assert not set(charges) & set(sandbox.charges())
    for outcome in outcomes:
        assert_true(outcome)


async def test_max_calls_holds_over_runs(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    async with serve(Settings()) as sandbox:
        for _ in range(3):
            async with client_for(sandbox) as client:
                with pytest.raises(BudgetExhausted):
                    await collect(client, numbers(500), ledger=path, max_calls=100)
        assert sandbox.counts.requests == 100


async def test_each_job_of_a_shared_ledger_has_its_own_cap(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    async with serve(Settings()) as sandbox, client_for(sandbox) as client:
        for job in ("one", "two"):
            with pytest.raises(BudgetExhausted):
                await collect(client, numbers(500), ledger=path, max_calls=50, job=job)
        assert sandbox.counts.requests == 100


async def test_old_answers_are_re_checked_with_fresh_within(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    async with serve(Settings()) as sandbox, client_for(sandbox) as client:
        await collect(client, numbers(20), ledger=path)
        await collect(client, numbers(20), ledger=path, fresh_within=timedelta(days=1))
        assert sandbox.counts.requests == 20
        await collect(client, numbers(20), ledger=path, fresh_within=timedelta(0))
        assert sandbox.counts.requests == 40


async def test_failures_are_kept_and_retried_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    policy = Policy(retry_wait=lambda _state: 0.0)  # type: ignore[arg-type]
    async with serve(Settings(errors=1.0)) as sandbox, client_for(sandbox, policy=policy) as client:
        (failed,) = await collect(client, ["987654321"], ledger=path)
    assert isinstance(failed, Failed)
    async with serve(Settings()) as sandbox, client_for(sandbox) as client:
        (known,) = await collect(client, ["987654321"], ledger=path)
        assert isinstance(known, Failed)
        assert known.error.status == failed.error.status
        assert sandbox.counts.requests == 0
        (answered,) = await collect(client, ["987654321"], ledger=path, retry_failed=True)
        assert isinstance(answered, Checked)
        (again,) = await collect(client, ["987654321"], ledger=path)
        assert isinstance(again, Checked)
        assert sandbox.counts.requests == 1


async def test_two_streams_and_checks_share_one_ledger_and_every_number_is_one_call(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    leads = numbers(120)
    async with serve(Settings(latency=20)) as sandbox, client_for(sandbox, ledger=path) as client:
        checks = [client.check(number) for number in leads[::10] for _ in range(2)]
        first, second, *answers = await asyncio.gather(
            collect(client, leads, ledger=path, workers=7),
            collect(client, reversed(leads), workers=9),
            *checks,
        )
        assert sandbox.counts.requests == 120
        assert set(sandbox.charges().values()) == {1}
    by_number = {outcome.check.number: outcome.check for outcome in first}
    assert {outcome.check.number: outcome.check for outcome in second} == by_number
    assert all(by_number[answer.number] == answer for answer in answers)
    assert sum(outcome.calls for outcome in (*first, *second)) <= 120


async def test_a_commit_that_fails_ends_the_run_and_acknowledges_nothing(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    broken = False

    class FailingStore(SQLiteStore):
        async def settle(self, settlements: Sequence[Settlement], **options: Any) -> None:
            if broken:
                raise LedgerError("the disk is full")
            await super().settle(settlements, **options)

    seen: list[Any] = []
    store = FailingStore(path)
    async with serve(Settings()) as sandbox, client_for(sandbox) as client:
        with pytest.raises(LedgerError, match=r"the disk is full; .* not stored"):
            async with client.stream(numbers(2_000), ledger=store, workers=4) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome.item)
                    broken = len(seen) >= 100
        assert sandbox.counts.requests < 2_000
    await store.aclose()
    stored = {str(settlement.number) for settlement in _settlements(path)}
    assert set(seen) <= stored


def _settlements(path: Path) -> list[Settlement]:
    with Ledger(path) as ledger:
        return [settlement for _, settlement in ledger.settlements()]


async def test_leaving_early_stores_the_answers_bought(tmp_path: Path) -> None:
    chance = random.Random(3)
    async with serve(Settings(latency=10)) as sandbox, client_for(sandbox) as client:
        for n in range(10):
            path = tmp_path / f"{n}.db"
            before = sandbox.counts.charged
            async with client.stream(numbers(500, n * 500), ledger=path, workers=20) as outcomes:
                wanted = chance.randrange(1, 60)
                async for _ in outcomes:
                    wanted -= 1
                    if not wanted:
                        break
            assert len(_settlements(path)) == sandbox.counts.charged - before


async def test_the_next_run_starts_at_the_learned_rate(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    async with serve(Settings(rate=60, burst=3)) as sandbox:
        async with Client("sandbox", "sandbox", base_url=sandbox.url, rate=(30.0, 500.0)) as client:
            await collect(client, numbers(150), ledger=path)
        store = SQLiteStore(path)
        await store.open()
        learned = await store.recall(f"rate {sandbox.url.removeprefix('http://')}")
        await store.aclose()
        assert learned is not None
        assert 20 < float(learned) < 120
        async with Client("sandbox", "sandbox", base_url=sandbox.url) as client:
            async with client.stream(numbers(20, 1_000), ledger=path) as outcomes:
                await anext(outcomes)
                assert outcomes.stats.rate == pytest.approx(0.9 * float(learned), rel=0.1)


@pytest.mark.parametrize(("age", "begins_at"), [(3_600, 20.0), (8 * 86_400, 2.0)])
async def test_the_next_run_starts_near_a_rate_that_was_never_refused(
    tmp_path: Path, age: float, begins_at: float
) -> None:
    path = tmp_path / "leads.db"
    async with serve(Settings()) as sandbox:
        async with Client("sandbox", "sandbox", base_url=sandbox.url, rate=(300.0, 500.0)) as client:
            await collect(client, numbers(400), ledger=path)
        store = SQLiteStore(path)
        await store.open()
        name = f"not refused rate {sandbox.url.removeprefix('http://')}"
        rate, _, at = (await store.recall(name) or "").partition(" ")
        assert 300 <= float(rate) <= 500
        assert abs(float(at) - time.time()) < 60
        await store.remember(name, f"{rate} {float(at) - age:.0f}")
        await store.aclose()
        gate = AdaptiveGate()
        async with Client("sandbox", "sandbox", base_url=sandbox.url, gate=gate) as client:
            async with client.stream(numbers(3, 1_000), ledger=path) as outcomes:
                assert gate.rate == pytest.approx(begins_at, rel=0.2)
                async for _ in outcomes:
                    pass


async def test_a_quota_holds_over_the_runs_of_a_day_and_the_streams_of_a_client(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"

    async def check(client: Client, wanted: Sequence[str]) -> int:
        """Return how many numbers are answered before the daily quota makes the rest wait."""
        answered = 0
        async with client.stream(wanted, ledger=path) as outcomes:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    async for _ in outcomes:
                        answered += 1
        return answered

    async with serve(Settings()) as sandbox:
        async with Client("sandbox", "sandbox", base_url=sandbox.url, rate="100/s,50/d") as client:
            assert await check(client, numbers(20)) == 20
            assert await check(client, numbers(20, 100)) == 20
        async with Client("sandbox", "sandbox", base_url=sandbox.url, rate="100/s,60/d") as client:
            assert await check(client, numbers(40, 200)) == 20
        assert sandbox.counts.requests == 60


async def test_the_calls_of_a_quota_are_kept_while_the_run_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accucheck._open_stores._KEEP_USAGE", 0.05)
    path = tmp_path / "leads.db"
    async with serve(Settings()) as sandbox:
        async with (
            Client("sandbox", "sandbox", base_url=sandbox.url, rate="100/s,5/d", burst=1) as client,
            client.stream(numbers(10), ledger=path) as outcomes,
        ):
            for _ in range(5):
                await anext(outcomes)
            store = SQLiteStore(path)
            await store.open()
            kept = None
            while kept is None or sum(calls for _, calls in json.loads(kept)["86400"]) < 5:
                await asyncio.sleep(0.02)
                kept = await store.recall(f"quota rate {sandbox.url.removeprefix('http://')}")
            await store.aclose()
