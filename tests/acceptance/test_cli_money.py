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


def test_what_is_pending_at_the_end_is_collected_by_the_same_command_later(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox(pending=1, pending_for=3)
    output = tmp_path / "out.csv"
    command = ("bulk", leads(tmp_path, 40), "-o", output, "--pending", "later", "--poll-floor", "1s")
    first = accucheck(*command, "--poll-deadline", "1s", sandbox=sandbox)
    assert first.returncode == 1
    assert output.read_text().count(",PENDING,") == 40
    assert "40 rows still PENDING" in first.stderr
    assert "run the same command again later" in first.stderr
    assert "--retry-failed" not in first.stderr
    second = accucheck(*command, sandbox=sandbox)
    assert second.returncode == 0, second.stderr
    assert output.read_text().count(",OK,") == 40
    asked = sandbox.asked()
    assert len(asked) == 40
    assert set(asked.values()) <= {3, 4}
    assert "for 40 pending numbers" in second.stderr


def test_a_poll_floor_without_later_is_refused(tmp_path: Path) -> None:
    result = accucheck("bulk", leads(tmp_path, 1), "-o", tmp_path / "out.csv", "--poll-floor", "5s")
    assert result.returncode == 2
    assert "--poll-floor needs --pending later" in result.stderr


def test_a_wrong_setting_costs_no_list_and_the_same_command_asks_again(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox(body="form")
    output = tmp_path / "out.csv"
    command = ("bulk", leads(tmp_path, 100), "-o", output)
    first = accucheck(*command, "--body", "json", sandbox=sandbox)
    assert first.returncode == 3
    assert len(sandbox.requests()) <= 25
    assert "argument 'number': not found" in first.stderr
    assert "--body json or --body form" in first.stderr
    assert "--retry-failed" not in first.stderr
    assert ",REFUSED_ALIKE," in output.read_text()
    second = accucheck(*command, "--body", "form", sandbox=sandbox)
    assert second.returncode == 0
    assert output.read_text().count(",OK,") == 100
