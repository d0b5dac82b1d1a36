"""Counts add up no matter how a run ends: rows of the list and the output, the summary, and AccuAuth's count."""

from __future__ import annotations

import csv
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_cli import PATIENCE, begin, start_sandbox, wait_until_asked

__all__ = ["start_sandbox"]

ROWS = 120
BLANK = 3


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    """A list with repeated numbers, cells with two numbers, cells without one, and empty rows."""
    path = tmp_path / "leads.csv"
    cells = [
        "" if place % 20 == 3 else "1234" if place % 20 == 7 else f"{987_650_000 + place - place % 15 // 14}"
        for place in range(ROWS)
    ]
    cells[5] += " / 987651000"
    lines = [f"{phone},{'norte' if place % 4 else 'sur'}" for place, phone in enumerate(cells)]
    path.write_text("\n".join(["celular,zona", *lines[:50], *[","] * BLANK, *lines[50:]]) + "\n")
    return path


ENDINGS: dict[str, tuple[dict[str, object], tuple[str, ...], signal.Signals | None, int]] = {
    "finished": ({}, (), None, 1),
    "polls and retries": ({"pending": 0.3, "pending_for": 0.2, "errors": 0.1}, (), None, 1),
    "soft answers": ({"soft": "checking=0.1,unavailable=0.1,NOT_HIT=0.1"}, ("--tries", "2"), None, 1),
    "lost replies": ({"faults": "reset=0.1,cut=0.05"}, (), None, 1),
    "pending for later": (
        {"pending": 0.3, "pending_for": 1},
        ("--pending", "later", "--poll-floor", "1s"),
        None,
        1,
    ),
    "calls used up": ({}, ("--max-calls", "20"), None, 4),
    "money used up": ({}, ("--price", "1", "--max-cost", "20"), None, 4),
    "account empty": ({"quota": 20}, (), None, 4),
    "key expired": ({"expire_after": 20}, (), None, 3),
    "outage": ({"outage": "0.1:60"}, ("--outage-deadline", "1s", "--tries", "2"), None, 6),
    "all refused alike": ({"soft": "NOT_HIT=1"}, (), None, 3),
    "Ctrl-C": ({"latency": 50}, ("--rate", "40"), signal.SIGINT, 130),
    "SIGTERM": ({"latency": 50}, ("--rate", "40"), signal.SIGTERM, 143),
    "only answered": ({}, ("--only", "answered"), None, 1),
    "several each": ({}, ("--several", "each"), None, 1),
    "several best": ({}, ("--several", "best"), None, 1),
    "some excluded": ({}, ("--where", "zona=norte"), None, 1),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_counts_add_up_no_matter_how_a_run_ends(
    start_sandbox: Any, leads: Path, tmp_path: Path, ending: str
) -> None:
    settings, options, signaled, code = ENDINGS[ending]
    sandbox = start_sandbox(**settings)
    output, summary = tmp_path / "out.csv", tmp_path / "summary.json"
    command: tuple[str | Path, ...] = ("bulk", leads, "-o", output, "--summary-json", summary, *options)
    if "--rate" not in options:
        command += ("--rate", "300")
    process = begin(*command, sandbox=sandbox)
    if signaled is not None:
        wait_until_asked(sandbox, 15)
        process.send_signal(signaled)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, told

    found = json.loads(summary.read_text())
    with output.open(newline="") as file:
        written = Counter(row["status"] for row in csv.DictReader(file))
    if "--only" in options:
        assert written == {"OK": found["by_status"]["OK"]}
    else:
        assert written == found["by_status"]
    assert found["rows"] == sum(found["by_status"].values()) == ROWS
    assert found["calls"] == len(sandbox.requests()) == sandbox.stats()["requests"]
