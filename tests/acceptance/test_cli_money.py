"""Money on the command line: caps, forecasts, the reported cost, and the sandbox's invoice."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.acceptance.test_cli import accucheck, start_sandbox

__all__ = ["start_sandbox"]


def leads(tmp_path: Path, count: int) -> Path:
    path = tmp_path / "leads.csv"
    path.write_text("phone\n" + "".join(f"{987650000 + n}\n" for n in range(count)))
    return path


def test_max_cost_holds_across_runs_and_can_be_raised(start_sandbox: Any, tmp_path: Path) -> None:
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


def test_earlier_runs_count_at_the_price_they_had(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, output = leads(tmp_path, 20), tmp_path / "out.csv"
    assert accucheck("bulk", source, "-o", output, "--price", "0.5", sandbox=sandbox).returncode == 0
    source = leads(tmp_path, 60)
    capped = ("bulk", source, "-o", output, "--force", "--price", "0.25", "--max-cost", "12")
    second = accucheck(*capped, sandbox=sandbox)
    assert second.returncode == 4, second.stderr
    assert "this job has spent 12.00; the cap is 12" in second.stderr
    assert sandbox.stats()["charged"] == 28


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-cost", "20"), "--max-cost needs the price of an answer: add --price 0.005"),
        (("--max-cost", "free", "--price", "1"), "'free' is not an amount of money"),
        (("--max-cost", "0", "--price", "1"), "'0' is not an amount of money"),
    ],
)
def test_an_invalid_cap_is_refused(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    result = accucheck("bulk", leads(tmp_path, 1), "-o", tmp_path / "out.csv", *options)
    assert result.returncode == 2
    assert message in result.stderr


def test_numbers_pending_at_the_end_are_collected_by_the_same_command_later(
    start_sandbox: Any, tmp_path: Path
) -> None:
    busy = start_sandbox(pending=1, pending_for=100_000)
    output, ledger = tmp_path / "out.csv", ("--ledger", tmp_path / "answers.ledger")
    command = ("bulk", leads(tmp_path, 40), "-o", output, "--pending", "later", "--poll-floor", "1s", *ledger)
    first = accucheck(*command, "--poll-deadline", "1s", sandbox=busy)
    assert first.returncode == 1
    assert output.read_text().count(",PENDING,") == 40
    assert "40 rows still PENDING" in first.stderr
    assert "run the same command again later" in first.stderr
    assert "--retry-failed" not in first.stderr
    assert set(busy.asked().values()) <= {1, 2}
    done = start_sandbox()
    second = accucheck(*command, sandbox=done)
    assert second.returncode == 0, second.stderr
    assert output.read_text().count(",OK,") == 40
    assert len(done.asked()) == 40
    assert set(done.asked().values()) == {1}
    assert "for 40 pending numbers" in second.stderr


def test_a_poll_floor_without_later_is_refused(tmp_path: Path) -> None:
    result = accucheck("bulk", leads(tmp_path, 1), "-o", tmp_path / "out.csv", "--poll-floor", "5s")
    assert result.returncode == 2
    assert "--poll-floor needs --pending later" in result.stderr


def test_a_wrong_setting_does_not_burn_a_list_and_the_same_command_retries(
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


def test_the_statement_agrees_with_the_invoice(start_sandbox: Any, tmp_path: Path) -> None:
    """With re-checks, lost replies, pending numbers, retried failures, and both endpoints."""
    sandbox = start_sandbox(pending=0.2, pending_for=0.05, faults="reset=0.05,cut=0.05", soft="NOT_HIT=0.1")
    command = ("bulk", leads(tmp_path, 120), "-o", tmp_path / "out.csv", "--base-url", sandbox.url)
    ledger = ("--ledger", tmp_path / "answers.ledger")
    for extra in ((), ("--fresh-within", "0s"), ("--retry-failed",), ("--fresh-within", "0s")):
        assert accucheck(*command, *ledger, *extra, sandbox=sandbox).returncode == 1
    basic = accucheck(*("check", "912345678", "912345679", "--endpoint", "basic", *ledger), sandbox=sandbox)
    assert basic.returncode in (0, 1)
    rows = []
    for month in {f"{datetime.now(UTC) - timedelta(hours=hours):%Y-%m}" for hours in (5, 6)}:
        result = accucheck("ledger", "statement", tmp_path / "answers.ledger", "--month", month)
        assert result.returncode == 0
        rows += list(csv.DictReader(io.StringIO(result.stdout)))
    answers = [row for row in rows if row["whatsapp"]]
    lost = sandbox.stats()["charged_but_lost"]
    with urlopen(f"{sandbox.url}/invoice") as reply:
        invoice = json.load(reply)["lines"]
    charged = sum(line["yes"] + line["no"] for line in invoice)
    assert lost > 0
    assert len(answers) + lost == charged
    for endpoint in ("advanced", "basic"):
        ours = [row for row in rows if row["endpoint"] == endpoint]
        theirs = sum(line["yes"] + line["no"] for line in invoice if line["endpoint"] == endpoint)
        certain = sum(row["whatsapp"] != "" for row in ours)
        assert certain <= theirs <= certain + sum(int(row["possibly_double_charged"]) for row in ours)


MIXES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "every number is answered": ({}, ("--price", "0.005")),
    "pending and soft answers": (
        {"pending": 0.3, "pending_for": 0.05, "soft": "NOT_HIT=0.03,unavailable=0.03,checking=0.1"},
        ("--price", "0.005"),
    ),
    "a cascade": (
        {"price_basic": 0.002, "soft": "unavailable=0.03"},
        ("--price", "0.005", "--price-basic", "0.002"),
    ),
}


@pytest.mark.parametrize("mix", MIXES)
def test_the_plan_is_within_two_percent_of_the_invoice(start_sandbox: Any, tmp_path: Path, mix: str) -> None:
    settings, prices = MIXES[mix]
    sandbox = start_sandbox(price=0.005, **settings)
    source, ledger = leads(tmp_path, 1_200), ("--ledger", str(tmp_path / "answers.ledger"))
    cascade = "--price-basic" in prices
    endpoint = ("--endpoint", "cascade") if cascade else ()
    sampled = accucheck(
        *("bulk", source, "--sample", "500", "--seed", "5", *ledger, *endpoint), sandbox=sandbox
    )
    assert sampled.returncode == 0, sampled.stderr
    before = total_of_invoice(sandbox)
    planned = accucheck("plan", source, "--json", *prices, *endpoint, *ledger)
    plan = json.loads(planned.stdout)
    assert plan["to_ask"] == 700
    done = accucheck(
        *("bulk", source, "-o", tmp_path / "out.csv", *prices, *endpoint, *ledger), sandbox=sandbox
    )
    assert done.returncode in (0, 1), done.stderr
    charged = total_of_invoice(sandbox) - before
    assert float(plan["cost"]) == pytest.approx(charged, rel=0.02)
    assert charged <= float(plan["cost_at_most"])


def total_of_invoice(sandbox: Any) -> float:
    with urlopen(f"{sandbox.url}/invoice") as reply:
        return float(json.load(reply)["total"])


def test_a_cascade_calls_the_expensive_endpoint_only_for_numbers_on_whatsapp(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox(price=0.5, price_basic=0.1, pending=0.1, pending_for=0.05)
    output = tmp_path / "out.csv"
    command = ("bulk", leads(tmp_path, 80), "-o", output, "--endpoint", "cascade")
    prices = ("--price", "0.5", "--price-basic", "0.1")
    capped = accucheck(*command, *prices, "--max-cost", "20", sandbox=sandbox)
    assert capped.returncode == 4
    assert total_of_invoice(sandbox) == pytest.approx(20, abs=0.5)
    assert total_of_invoice(sandbox) <= 20
    more = accucheck(*command, *prices, "--max-cost", "+50", sandbox=sandbox)
    assert more.returncode == 0, more.stderr
    rows = list(csv.DictReader(output.read_text().splitlines()))
    yes = {row["phone"] for row in rows if row["whatsapp"] == "yes"}
    assert 0 < len(yes) < 80
    assert sum(row["whatsapp"] == "no" for row in rows) == 80 - len(yes)
    assert {row["whatsapp"] for row in rows if row["business_user"]} == {"yes"}
    asked = {
        kind: {call["number"] for call in sandbox.requests() if call["endpoint"] == kind}
        for kind in ("basic", "advanced")
    }
    assert asked["advanced"] == yes
    assert len(asked["basic"]) == 80
    assert total_of_invoice(sandbox) == pytest.approx(80 * 0.1 + len(yes) * 0.5)
    calls = len(sandbox.requests())
    again = accucheck(*command, *prices, sandbox=sandbox)
    assert again.returncode == 0
    assert len(sandbox.requests()) == calls
    assert "cost" in again.stderr


def test_answers_of_both_endpoints_serve_a_cascade(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, ledger = leads(tmp_path, 40), ("--ledger", str(tmp_path / "answers.ledger"))
    accucheck("bulk", source, "-o", tmp_path / "one.csv", *ledger, sandbox=sandbox)
    calls = len(sandbox.requests())
    done = accucheck(
        *("bulk", source, "-o", tmp_path / "two.csv", "--endpoint", "cascade", *ledger), sandbox=sandbox
    )
    assert done.returncode == 0, done.stderr
    assert len(sandbox.requests()) == calls


def test_a_cascade_works_in_pipes_samples_and_single_checks(start_sandbox: Any, tmp_path: Path) -> None:
    """The reported costs agree with the invoice."""
    sandbox = start_sandbox(price=0.5, price_basic=0.1, pending=0.1, pending_for=0.05)
    source, before = leads(tmp_path, 200), 0.0
    prices = ("--endpoint", "cascade", "--price", "0.5", "--price-basic", "0.1")
    ledger = ("--ledger", str(tmp_path / "answers.ledger"))
    for command, stdin in (
        (("bulk", source, "--sample", "50"), ""),
        (("bulk", source, "-o", "-"), ""),
        (("bulk", "-", "-o", "-"), "phone\n" + "".join(f"{912000000 + n}\n" for n in range(60))),
    ):
        done = accucheck(*command, *prices, *ledger, sandbox=sandbox, stdin=stdin)
        assert done.returncode == 0, done.stderr
        total = total_of_invoice(sandbox)
        shown = re.search(r"^cost +(?:likely )?([0-9.]+)", done.stdout + done.stderr, re.MULTILINE)
        assert shown is not None, done.stdout + done.stderr
        assert float(shown[1]) == pytest.approx(total - before, abs=0.01)
        before = total
    found = accucheck(
        *("check", "987650001", "913000000", "913000001", "--json", "--endpoint", "cascade", *ledger),
        sandbox=sandbox,
    )
    assert found.returncode == 0, found.stderr
    for line in found.stdout.splitlines():
        answer = json.loads(line)
        assert (answer["signature"] is not None) or not answer["whatsapp"]
    charged = {
        kind: [
            call["number"]
            for call in sandbox.requests()
            if call["endpoint"] == kind and call["status"] == "OK"
        ]
        for kind in ("basic", "advanced")
    }
    for numbers in charged.values():
        assert len(numbers) == len(set(numbers))
    assert len(charged["basic"]) == 262
    assert set(charged["advanced"]) < set(charged["basic"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--yes-share", "0.3"), "--endpoint cascade"),
        (("--yes-share", "0.7"), "--endpoint advanced"),
        ((), "cascade is cheaper if less than 60.0% are on WhatsApp"),
    ],
)
def test_a_plan_compares_two_prices(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    result = accucheck(
        "plan", leads(tmp_path, 100), "--price", "0.5", "--price-basic", "0.2", "--ledger", "none", *options
    )
    assert result.returncode == 0, result.stderr
    assert says in result.stdout
