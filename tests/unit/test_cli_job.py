from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from accucheck._errors import (
    BudgetExhausted,
    ConfigurationError,
    LedgerError,
    Outage,
    OutOfQuota,
    RunEnded,
    Unauthorized,
)
from accucheck._events import CallEnded, CircuitChanged
from accucheck._models import Stats
from accucheck.cli._job import Job
from accucheck.cli._ledger import chosen_ledger
from accucheck.cli._run import RunNotice
from accucheck.cli._summary import calls_facts, how_to_continue


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ledger": "none", "sample": 5}, "--sample needs a ledger"),
        ({"ledger": "none", "retry_failed": True}, "--retry-failed needs a ledger"),
        ({"ledger": "none", "fresh_within": timedelta(days=1)}, "--fresh-within needs a ledger"),
        ({"ledger": "x", "seed": 5}, "--sample"),
        ({"ordered": True}, "-o -"),
        ({"split": "verdict", "only": "yes"}, "not both"),
        ({"split": "verdict", "output": "-"}, "need an output file"),
        ({"ledger": "out.csv"}, "is the ledger"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Job(**{"input": "leads.csv", "output": "out.csv", **options})


@pytest.mark.parametrize(
    ("given", "api_id", "place"),
    [
        ("none", "id", None),
        ("shared", "id", "shared"),
        ("postgresql://db/leads", "id", "postgresql://db/leads"),
        (None, None, None),
    ],
)
def test_the_ledger_is_the_one_that_was_named(
    given: str | None, api_id: str | None, place: str | None
) -> None:
    assert chosen_ledger(given, api_id, "https://example.com") == place


def test_by_default_every_account_has_its_own_ledger() -> None:
    places = {
        chosen_ledger(None, api_id, url)
        for api_id in ("a", "b")
        for url in ("https://one.example", "https://two.example/")
    }
    assert len(places) == 4
    assert all(place and "/a" not in place.rpartition("/")[2] for place in places)


def test_the_outputs_of_a_split_keep_their_suffixes() -> None:
    assert Job(input="a", output="out/x.csv.gz", split="verdict").outputs == {
        "yes": "out/x.yes.csv.gz",
        "no": "out/x.no.csv.gz",
        "rest": "out/x.rest.csv.gz",
    }


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, "run the same command again to continue"),
        (BudgetExhausted("x"), "higher --max-calls"),
        (OutOfQuota("x"), "once the account has calls again"),
        (Unauthorized("x"), "fix that and run the same command again"),
        (Outage("x"), "once AccuAuth is reachable"),
        (LedgerError("x"), "fix that and run the same command again"),
    ],
)
def test_a_run_that_did_not_finish_says_how_to_continue(error: RunEnded | None, told: str) -> None:
    job = Job(input="leads.csv", output="out.csv", ledger="answers")
    assert told in how_to_continue(job, error)
    assert "not bought again" in how_to_continue(job, error)
    assert "starts over" in how_to_continue(Job(input="a", output="b"), error)


def test_the_summary_shows_what_the_run_cost() -> None:
    stats = Stats(
        calls=130, yes=60, no=38, failed=2, pending=10, polls=14, retries=6, refusals=3,
        possibly_double_charged=1, known=50, elapsed=2.0,
    )  # fmt: skip
    assert dict(calls_facts(stats)) == {
        "numbers": "yes 60 (61.2%), no 38, failed 2",
        "calls": "130 for 100 distinct numbers (1.30 each)",
        "  polls": "14 for 10 pending numbers (1.40 each)",
        "  retries": "6",
        "  rate limit": "slowed down 3 times by AccuAuth's rate limit",
        "  lost replies": "1; that call may have been charged and was made again",
        "known": "50 rows answered from the ledger, at no cost",
        "time": "2.0 s (49 checks/s)",
    }


def test_an_outage_is_reported_once_with_its_cause_and_so_is_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    notice = RunNotice("api.example.com", timedelta(minutes=15))
    notice(CallEnded("BROKEN", "first", 0.1, "name not found"))
    notice(CircuitChanged(True))
    notice(CallEnded("OK", "retry", 0.1))
    notice(CircuitChanged(False))
    first, hint, last = capsys.readouterr().err.splitlines()
    assert first == "accucheck: cannot reach api.example.com (name not found); retrying for up to 15 min 00 s"
    assert "--base-url" in hint
    assert last == "accucheck: calls succeed again; resuming"
