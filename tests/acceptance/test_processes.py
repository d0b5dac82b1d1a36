"""Several processes of the command line on one ledger: numbers bought once, caps exact, no matter what is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.acceptance.processes_harness import Plan, run
from tests.postgres import Server, new_ledger


@pytest.mark.parametrize("kills", [0, 3])
def test_processes_on_one_file_buy_each_number_once(tmp_path: Path, kills: int) -> None:
    found = run(Plan(rows=400, processes=3, kills=kills, every=0.7), tmp_path)
    assert found.answers - found.doubles == 400
    if not kills:
        assert found.doubles == 0


def test_a_cap_is_exact_across_processes(tmp_path: Path) -> None:
    found = run(Plan(rows=300, processes=3, max_calls=211), tmp_path)
    assert found.requests == found.answers == 211
    assert found.exits.keys() == {4}


def test_a_killed_database_server_costs_nothing(tmp_path: Path, postgres_server: Server) -> None:
    url = asyncio.run(new_ledger(postgres_server))
    found = run(
        Plan(rows=600, processes=2, rate=150, server_kills=1, every=1.0), tmp_path, url, postgres_server
    )
    assert found.server_kills == 1
    assert found.doubles == 0
