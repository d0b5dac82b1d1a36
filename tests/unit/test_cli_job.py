from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from accucheck._errors import (
    BudgetExhausted,
    ConfigurationError,
    LedgerError,
    OutOfQuota,
    RunEnded,
    Unauthorized,
)
from accucheck._events import CallEnded, CircuitChanged
from accucheck._models import Stats
from accucheck.cli._job import Job
from accucheck.cli._run import OutageWatch
from accucheck.cli._summary import calls_facts, how_to_continue


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"input": "-", "output": "-", "sample": 5}, "--sample needs a ledger"),
        ({"input": "-", "output": "-", "retry_failed": True}, "--retry-failed needs a ledger"),
        ({"input": "-", "output": "-", "fresh_within": timedelta(days=1)}, "--fresh-within needs a ledger"),
        ({"no_ledger": True, "sample": 5}, "--sample needs a ledger"),
        ({"no_ledger": True, "ledger": Path("x")}, "not both"),
        ({"seed": 5}, "--sample"),
        ({"ordered": True}, "-o -"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Job(**{"input": "leads.csv", "output": "out.csv", **options})


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, Path("out.csv.ledger")),
        ({"ledger": Path("shared")}, Path("shared")),
        ({"no_ledger": True}, None),
        ({"output": "-"}, Path("leads.csv.ledger")),
        ({"input": "-"}, Path("out.csv.ledger")),
        ({"input": "-", "output": "-"}, None),
        ({"output": "-", "ledger": Path("shared")}, Path("shared")),
    ],
)
def test_the_ledger_is_beside_the_output_unless_it_was_said_otherwise(
    options: dict[str, Any], path: Path
) -> None:
    assert Job(**{"input": "leads.csv", "output": "out.csv", **options}).ledger_path == path


def test_a_run_without_a_ledger_leaves_none_behind() -> None:
    with Job(input="leads.csv", output="out.csv", no_ledger=True).opened_ledger() as ledger:
        assert ledger.path.exists()
    assert not ledger.path.parent.exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, "run the same command again to continue"),
        (BudgetExhausted("x"), "higher --max-calls"),
        (OutOfQuota("x"), "once the account has calls again"),
        (Unauthorized("x"), "fix that and run the same command again"),
        (LedgerError("x"), "fix that and run the same command again"),
    ],
)
def test_a_run_that_did_not_finish_says_how_to_continue(error: RunEnded | None, told: str) -> None:
    job = Job(input="leads.csv", output="out.csv")
    assert told in how_to_continue(job, error)
    assert "not bought again" in how_to_continue(job, error)
    assert "starts from zero" in how_to_continue(Job(input="a", output="b", no_ledger=True), error)


def test_the_summary_shows_what_the_run_cost() -> None:
    stats = Stats(
        calls=130, yes=60, no=38, failed=2, pending=10, polls=14, retries=6, refusals=3,
        possibly_double_charged=1, known=50, elapsed=2.0,
    )  # fmt: skip
    assert dict(calls_facts(stats)) == {
        "calls": "130 for 100 distinct numbers (1.30 each)",
        "  polls": "14 for 10 pending numbers (1.40 each)",
        "  retries": "6",
        "  rate limit": "slowed down 3 times by AccuAuth's rate limit",
        "  lost replies": "1; that call may have been charged and was made again",
        "known": "50 rows answered from the ledger, at no cost",
        "time": "2 s (49 checks/s)",
    }


def test_an_outage_is_reported_once_with_its_cause_and_so_is_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell = OutageWatch(timedelta(0))
    tell(CallEnded("NOT_SENT", "first", 0.1))
    tell(CircuitChanged(True))
    tell(CallEnded("OK", "retry", 0.1))
    tell(CircuitChanged(False))
    first, hint, last = capsys.readouterr().err.splitlines()
    assert "cannot reach AccuAuth (no reply)" in first
    assert "--base-url" in hint
    assert last == "accucheck: calls succeed again; resuming"


async def test_an_outage_that_lasts_ends_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    watch = OutageWatch(timedelta(seconds=0.02))
    reached = anyio.Event()
    watch.on_deadline = reached.set
    watch(CircuitChanged(True))
    with anyio.fail_after(10):
        await reached.wait()
    assert watch.lasted
    assert "the run ends" in capsys.readouterr().err


async def test_one_call_that_succeeds_restarts_the_deadline() -> None:
    watch = OutageWatch(timedelta(seconds=0.05))
    watch(CircuitChanged(True))
    watch(CircuitChanged(False))
    await anyio.sleep(0.1)
    assert not watch.lasted
