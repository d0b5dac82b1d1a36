"""The store of a run without a ledger."""

from __future__ import annotations

import random
import sqlite3
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import LedgerError
from accucheck._store import Endpoint, MemoryStore, Query, _memory, _packing
from accucheck._store._memory import Bitset
from tests.unit.ledger_samples import MOBILE, answered, failed, told

ANY = Query()


@given(st.lists(st.integers(0, 999_999_999)), st.lists(st.integers(0, 999_999_999)))
def test_a_number_is_in_a_bitset_exactly_if_it_was_put_in(put: list[int], others: list[int]) -> None:
    bits = Bitset()
    for place, number in enumerate(put):
        assert bits.add(number) == (number not in put[:place])
    around = [number + step for number in put for step in (-1, 1, 8, 1 << 14) if number + step >= 0]
    for number in [*put, *others, *around]:
        assert (number in bits) == (number in set(put))
    assert len(bits) == len(set(put))


def test_an_endpoint_is_answered_by_no_other_one_unless_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    new = cast("Endpoint", "telegram_advanced")
    monkeypatch.setitem(_packing.ENDPOINT_CODES, new, 2)
    assert set(_packing.Choice(Query(endpoint=new)).keys(MOBILE)) == {MOBILE << 3 | 2, MOBILE << 3 | 6}


async def test_old_settlements_are_read_back_as_they_were() -> None:
    store = MemoryStore(kept=1_000, segment=3_000)
    chance = random.Random(2)
    settlements = {}
    for number in chance.sample(range(MOBILE, MOBILE + 10**8), 12_000):
        settlements[number] = failed(number) if number % 5 == 0 else answered(number, calls=number % 7)
        await store.settle([settlements[number]])
    assert len(store._recent) < 2_000
    assert store._segments > 2
    numbers = list(settlements)
    for start in range(0, 12_000, 256):
        found = await store.find(numbers[start : start + 256], ANY)
        for number in numbers[start : start + 256]:
            assert told(found[number]) == told(settlements[number])
    assert await store.find([MOBILE - 1, *(number + 1 for number in numbers[:100])], ANY) == {}
    await store.aclose()


async def test_a_number_that_is_settled_again_has_its_last_settlement() -> None:
    store = MemoryStore(kept=0, segment=1)
    for turn in range(3):
        for n in range(600):
            await store.settle([answered(MOBILE + n, calls=turn)])
    found = await store.find([MOBILE + n for n in range(600)], ANY)
    assert {settlement.calls for settlement in found.values()} == {2}
    await store.aclose()


async def test_a_full_temporary_directory_ends_buying_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> sqlite3.Connection:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(_memory, "_open_spill", full)
    store = MemoryStore(kept=10)
    for n in range(2_000):
        await store.settle([answered(MOBILE + n)])
    assert len(await store.find([MOBILE + n for n in range(2_000)], ANY)) == 2_000
    with pytest.raises(LedgerError, match="SQLITE_TMPDIR"):
        await store.claim([MOBILE + 5_000], ANY)
    with pytest.raises(LedgerError, match="SQLITE_TMPDIR"):
        await store.lease_calls(1, max_calls=None)
    await store.aclose()
