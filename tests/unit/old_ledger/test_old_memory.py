"""The store of a run without a ledger."""

from __future__ import annotations

import asyncio
import random
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import LedgerError
from accucheck._store import OldMemoryStore
from accucheck._store._old import _memory as _old_memory
from accucheck._store._old._seen import SeenNumbers
from tests.unit.ledger_samples import MOBILE, Listener, answered, failed, told


@given(st.lists(st.integers(0, 999_999_999)), st.lists(st.integers(0, 999_999_999)))
def test_a_number_was_seen_exactly_if_it_was_put_in(put: list[int], others: list[int]) -> None:
    seen = SeenNumbers()
    for number in put:
        seen.add(number)
    around = [number + step for number in put for step in (-1, 1, 8, 1 << 14) if number + step >= 0]
    for number in [*put, *others, *around]:
        assert (number in seen) == (number in set(put))


async def test_what_is_settled_is_told_after_the_call_and_found_at_once() -> None:
    store = OldMemoryStore()
    heard = Listener(store)
    store.settle(answered(MOBILE))
    store.settle(failed(MOBILE + 1))
    assert heard.committed == []
    assert set(store.find([MOBILE, MOBILE + 1, MOBILE + 2])) == {MOBILE, MOBILE + 1}
    await asyncio.sleep(0)
    assert [settlement.number for settlement in heard.committed] == [MOBILE, MOBILE + 1]
    assert len(heard.batches) == 1
    await store.aclose()


async def test_flush_tells_what_was_settled() -> None:
    store = OldMemoryStore()
    heard = Listener(store)
    store.settle(answered(MOBILE))
    await store.flush()
    assert len(heard.committed) == 1
    await asyncio.sleep(0)
    assert len(heard.committed) == 1
    await store.aclose()


async def test_old_settlements_are_read_back_as_they_were() -> None:
    store = OldMemoryStore(kept=1_000, segment=3_000)
    heard = Listener(store)
    chance = random.Random(2)
    settlements = {}
    for number in chance.sample(range(MOBILE, MOBILE + 10**8), 12_000):
        settlements[number] = failed(number) if number % 5 == 0 else answered(number, calls=number % 7)
        store.settle(settlements[number])
        if len(settlements) % 50 == 0:
            await asyncio.sleep(0)
    await store.flush()
    assert len(heard.committed) == 12_000
    assert len(store._recent) < 2_000
    assert store._segments > 2
    numbers = list(settlements)
    for start in range(0, 12_000, 256):
        found = store.find(numbers[start : start + 256])
        for number in numbers[start : start + 256]:
            assert told(found[number]) == told(settlements[number])
    assert store.find([MOBILE - 1, *(number + 1 for number in numbers[:100])]) == {}
    await store.aclose()


async def test_a_number_that_is_settled_again_has_its_last_settlement() -> None:
    store = OldMemoryStore(kept=0, segment=1)
    Listener(store)
    for turn in range(3):
        for n in range(600):
            store.settle(answered(MOBILE + n, calls=turn))
            await asyncio.sleep(0)
    found = store.find([MOBILE + n for n in range(600)])
    assert {settlement.calls for settlement in found.values()} == {2}
    await store.aclose()


async def test_a_full_temporary_directory_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(_old_memory, "_open_spill", full)
    store = OldMemoryStore(kept=10)
    heard = Listener(store)
    for n in range(2_000):
        store.settle(answered(MOBILE + n))
        await asyncio.sleep(0)
    assert len(heard.errors) == 1
    assert isinstance(heard.errors[0], LedgerError)
    assert "SQLITE_TMPDIR" in heard.errors[0].reason
    assert len(heard.committed) == 2_000, "what was bought is told all the same"
    assert len(store.find([MOBILE + n for n in range(2_000)])) == 2_000
    await store.aclose()


async def test_calls_are_capped_and_given_back() -> None:
    store = OldMemoryStore()
    assert store.lease_calls(70, 100) == 70
    assert store.lease_calls(70, 100) == 30
    assert store.lease_calls(1, 100) == 0
    store.return_calls(5, lost=1)
    assert store.lease_calls(70, 100) == 5
    assert store.lease_calls(70, None) == 70
    await store.aclose()
    await store.aclose()
