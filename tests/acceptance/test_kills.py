"""A run killed at any step loses nothing and buys nothing twice: a hundred kills."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.crashing import POINTS
from tests.acceptance.kill_harness import kill_repeatedly


@pytest.mark.parametrize("seed", range(5))
def test_twenty_kills_lose_nothing_and_buy_nothing_twice(tmp_path: Path, seed: int) -> None:
    # Every other list has pending numbers, so that some kills hit numbers that wait for a poll.
    options = ["--pending", "0.1", "--pending-for", "0.2"] if seed % 2 else []
    findings = kill_repeatedly(
        tmp_path,
        rows=700,
        kills=20,
        seed=seed,
        rate=1_000,
        furthest={
            "steps": 30,
            "moment": 60,
            "before_commit": 6,
            "after_commit": 6,
            "after_admit": 2,
        },
        options=options,
    )
    assert set(findings.kills) == set(POINTS)
    assert findings.kills.total() >= 16  # a run may end before it reaches the trap
