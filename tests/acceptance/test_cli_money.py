"""Money at the command line: caps, forecasts, what a run says it cost, and the sandbox's invoice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_cli import accucheck, start_sandbox

__all__ = ["start_sandbox"]


def leads(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "leads.csv"
    path.write_text("phone\n" + "".join(f"{987650000 + n}\n" for n in range(count)))
    return path


def test_max_cost_holds_over_runs_and_can_be_raised(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox(pending=0.3, pending_for=0.05)
    command = ("bulk", leads(tmp_path, 60), "-o", tmp_path / "out.csv", "--price", "0.5", "--max-cost")
    first = accucheck(*command, "10.40", sandbox=sandbox)
    assert first.returncode == 4
    assert "this job has spent 10.00; the cap is 10.40" in first.stderr
    assert "to allow 10.40 more: --max-cost +10.40" in first.stderr
    assert "run the command again with a higher --max-cost" in first.stderr
    assert sandbox.stats()["charged"] == 20
    assert accucheck(*command, "10.40", sandbox=sandbox).returncode == 4
    assert sandbox.stats()["charged"] == 20
    assert accucheck(*command, "+5", sandbox=sandbox).returncode == 4
    assert sandbox.stats()["charged"] == 30
    assert accucheck(*command, "+15", sandbox=sandbox).returncode == 0
    assert sandbox.stats()["charged"] == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-cost", "20"), "--max-cost needs the price of an answer: add --price 0.005"),
        (("--max-cost", "free", "--price", "1"), "'free' is not an amount of money"),
        (("--max-cost", "0", "--price", "1"), "'0' is not an amount of money"),
    ],
)
def test_a_cap_that_is_none_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = accucheck("bulk", leads(tmp_path, 1), "-o", tmp_path / "out.csv", *options)
    assert result.returncode == 2
    assert message in result.stderr
