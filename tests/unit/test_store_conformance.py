"""accucheck's own stores pass the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from accucheck._store import MemoryStore, SQLiteStore, Store
from tests.store_conformance import StoreConformance
from tests.unit.ledger_samples import Clock


@pytest.fixture
def now() -> Clock:
    return Clock()


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def make_store(self, now: Clock) -> Callable[[], Store]:
        return lambda: MemoryStore(now=now)


class TestMemoryStoreThatSpills(StoreConformance):
    @pytest.fixture
    def make_store(self, now: Clock) -> Callable[[], Store]:
        return lambda: MemoryStore(kept=0, segment=600, now=now)


class TestSQLiteStore(StoreConformance):
    @pytest.fixture
    def make_store(self, now: Clock, tmp_path: Path) -> Callable[[], Store]:
        return lambda: SQLiteStore(tmp_path / "leads.db", now=now)
