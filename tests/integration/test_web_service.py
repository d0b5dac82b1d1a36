"""Inside a web service whose clients disconnect at random, nothing is lost and nothing is bought twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration import disconnecting_clients


@pytest.mark.parametrize("seed", [1, 2])
async def test_clients_that_hang_up_lose_no_answer_and_cause_no_second_call(
    seed: int, tmp_path: Path
) -> None:
    result = await disconnecting_clients.run(3.0, 12.0, seed=seed, ledger=tmp_path / "service.db")
    assert result.connections["hung up"] > 0
    assert result.charges
    assert set(result.charges.values()) == {1}
    assert result.stored == len(result.charges)
