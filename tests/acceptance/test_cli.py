"""The command line as users see it: a process, its files, its streams and its exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.cli._sandbox import HEADER, leads, write_leads
from accucheck.sandbox import request_id, truth

SEED = 7
PATIENCE = 60.0
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "LC_", "ACCUCHECK_")) and name != "LANG"
}
"""What users have: no PYTHONUNBUFFERED, which hides what goes wrong when the interpreter exits."""


class RunningSandbox:
    """A sandbox process: its address and the calls it received."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def asked(self) -> Counter[str]:
        return Counter(request["number"] for request in self.requests())

    def stats(self) -> dict[str, Any]:
        with urlopen(f"{self.url}/stats") as reply:
            found: dict[str, Any] = json.load(reply)
        return found


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Iterator[Any]:
    processes: list[subprocess.Popen[str]] = []

    def start(**settings: object) -> RunningSandbox:
        log = tmp_path / f"requests-{len(processes)}.jsonl"
        command = [sys.executable, "-m", "accucheck", "sandbox", "--port", "0", "--request-log", str(log)]
        for name, value in {"seed": SEED, **settings}.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        return RunningSandbox(line.removeprefix("listening on ").strip(), log)

    yield start
    for process in processes:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def environment(sandbox: RunningSandbox | None = None, **more: str) -> dict[str, str]:
    settings = {"ACCUCHECK_API_ID": "sandbox", "ACCUCHECK_API_SECRET": "sandbox"}
    if sandbox is not None:
        settings["ACCUCHECK_BASE_URL"] = sandbox.url
    homes = {name: os.environ[name] for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    return {**CLEAN, **homes, "PYTHONWARNINGS": "error", "COLUMNS": "200", **settings, **more}


def accucheck(
    *words: str | Path, sandbox: RunningSandbox | None = None, stdin: str = "", **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "accucheck", *map(str, words)],
        env=environment(sandbox, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def begin(*words: str | Path, sandbox: RunningSandbox, stdin: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "accucheck", *map(str, words)],
        env=environment(sandbox),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # If the tests themselves run under nohup, their child processes would ignore SIGHUP.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )


def wait_until_asked(sandbox: RunningSandbox, calls: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not sandbox.log.exists() or len(sandbox.log.read_text().splitlines()) < calls:
        assert time.monotonic() < deadline, "the run made no calls"
        time.sleep(0.02)


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=";"))


def assert_whole(path: Path, rows: list[list[str]], statuses: set[str]) -> Counter[str]:
    """Assert that every input row is there, in order, unchanged, and that every answer is correct."""
    header, *body = table(path)
    assert header[: len(HEADER)] == HEADER
    assert [row[: len(HEADER)] for row in body] == rows
    found: Counter[str] = Counter()
    for row in body:
        whatsapp, _, _, _, _, status, reason, request, shown, checked_at = row[len(HEADER) :]
        found[status] += 1
        try:
            number = normalize(row[2])
        except InvalidNumber:
            assert (status, whatsapp) == ("INVALID_NUMBER", "")
            assert reason
            assert (shown, checked_at) == ("", "")
            continue
        assert shown == f"+51{number}"
        assert bool(checked_at) == (status == "OK")
        assert status in statuses
        if status == "OK":
            assert whatsapp == truth(number, SEED)["whatsapp"]
            assert request == request_id(number, SEED)
        else:
            assert whatsapp == ""
    return found


def test_check_prints_one_json_line_for_each_number_when_piped(start_sandbox: Any) -> None:
    result = accucheck("check", "+51 987 654 321", "12345", "987654321", sandbox=start_sandbox())
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert first["status"] == third["status"] == "OK"
    assert first["number"] == "+51987654321"
    assert first["whatsapp"] is (truth(987654321, SEED)["whatsapp"] == "yes")
    assert second["status"] == "INVALID_NUMBER"
    assert "too short" in second["reason"]
    assert result.returncode == 1


def test_debug_logs_every_decision_with_masked_numbers(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox, leads = start_sandbox(pending=1, pending_for=0.05), tmp_path / "leads.csv"
    leads.write_text("phone\n987654321\n912345678\nnonsense\n")
    words = ("bulk", leads, "-o", "-", "--ledger", tmp_path / "answers.db", "--debug")
    first = accucheck(*words, sandbox=sandbox).stderr
    for number in ("9876•••21", "9123•••78"):
        assert re.search(rf"{number}: .*; poll in \d", first)
        assert re.search(rf"{number}: OK, (yes|no); poll call, \d", first)
    assert "invalid (letters); no call" in first
    again = accucheck(*words, "--metrics-file", tmp_path / "run.prom", sandbox=sandbox).stderr
    assert again.count("known to the ledger; no call") == 2
    assert not re.search(r"987654321|912345678|api_secret", first + again)
    assert re.search(
        r"^accucheck_rows_known_total\{.*\} 2$", (tmp_path / "run.prom").read_text(), re.MULTILINE
    )


def test_check_succeeds_when_every_number_is_answered(start_sandbox: Any) -> None:
    sandbox = start_sandbox()
    result = accucheck("check", "987654321", "987654321", sandbox=sandbox)
    assert result.returncode == 0
    assert result.stderr == ""
    assert sandbox.asked() == {"987654321": 1}


@pytest.mark.parametrize(
    ("settings", "variables", "code", "words"),
    [
        ({}, {"ACCUCHECK_API_SECRET": "wrong"}, 3, "ACCUCHECK_API_SECRET"),
        ({"expire_after": 0}, {}, 3, "expired"),
        ({"endpoints": "basic"}, {}, 3, "not authorized|may not|permission"),
        ({"quota": 0}, {}, 4, "quota|used up"),
    ],
)
def test_an_error_that_ends_a_run_is_one_line_and_an_exit_code(
    start_sandbox: Any, settings: dict[str, Any], variables: dict[str, str], code: int, words: str
) -> None:
    result = accucheck("check", "987654321", sandbox=start_sandbox(**settings), **variables)
    assert result.returncode == code
    assert json.loads(result.stdout)["status"] == "UNCHECKED"
    (line,) = result.stderr.splitlines()
    assert any(word in line for word in words.split("|"))
    assert "wrong" not in line


@pytest.mark.parametrize(
    ("words", "variables", "told"),
    [
        (["check"], {}, "no number given"),
        (["check", "987654321"], {"ACCUCHECK_API_SECRET": ""}, "ACCUCHECK_API_SECRET"),
        (["check", "987654321"], {"ACCUCHECK_BASE_URL": "http://example.com"}, "https"),
        (["check", "987654321"], {"ACCUCHECK_MAX_CALLS": "many"}, "ACCUCHECK_MAX_CALLS"),
        (["chek"], {}, "check"),
        (["bulk", "leads.csv"], {}, "say where to write"),
        (["bulk", "no-such-file.csv", "-o", "x.csv"], {}, "no-such-file.csv"),
        (["bulk", "-", "-o", "-", "--ledger", "none", "--sample", "5"], {}, "--ledger"),
        (["bulk", "-", "-o", "x.csv", "--rate", "fast"], {}, "fast"),
        (["bulk", "-", "-o", "x.csv", "--ledger", "none", "--retry-failed"], {}, "ledger"),
        (["ledger", "info", "no-such.ledger"], {}, "no-such.ledger"),
        (["ledger", "init", "answers.db"], {}, "postgresql://user@host/database"),
        (["check", "987654321", "--ledger", "mysql://db/leads"], {}, "not mysql://"),
        (["check", "1", "--base-url", "http://localhost", "--proxy", "x"], {}, "The proxy from --proxy"),
        (["bulk", "-", "--output-dir", __file__], {}, "is a file; name a folder"),
        (["sandbox", "--burst", "5"], {}, "rate"),
        (["sandbox", "--port", "80000"], {}, "80000"),
    ],
)
def test_wrong_usage_is_reported_in_a_line_or_two_without_a_traceback(
    words: list[str], variables: dict[str, str], told: str, tmp_path: Path
) -> None:
    result = accucheck(*words, sandbox=None, **variables)
    assert result.returncode == 2
    assert told in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert "Traceback" not in result.stderr


def test_a_list_comes_back_complete_and_correct_and_a_second_run_makes_no_calls(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox(pending=0.1, pending_for=0.3, errors=0.02, latency=5, rate=250, burst=20)
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    write_leads(source, 500, 3)
    first = accucheck("bulk", source, "-o", output, "--rate", "600", sandbox=sandbox)
    found = assert_whole(output, list(leads(500, 3)), {"OK"})
    assert first.returncode == 1  # there are invalid numbers in the list
    assert "phone numbers: column 'Teléfono'" in first.stderr
    assert f"{found['OK']:,}" in first.stderr
    assert str(output) in first.stderr
    assert first.stdout == ""
    assert sandbox.stats()["charged_twice"] == 0
    calls = sum(sandbox.asked().values())
    content = output.read_bytes()
    second = accucheck("bulk", source, "-o", output, "--quiet", sandbox=sandbox)
    assert (second.returncode, second.stderr) == (1, "")
    assert sum(sandbox.asked().values()) == calls
    assert output.read_bytes() == content


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_settles_paid_calls_and_the_same_command_continues(
    start_sandbox: Any, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    sandbox = start_sandbox(latency=40)
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    write_leads(source, 300, 4)
    rows = list(leads(300, 4))
    command = ("bulk", source, "-o", output)
    process = begin(*command, "--rate", "80", sandbox=sandbox)
    wait_until_asked(sandbox, 30)
    process.send_signal(number)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "run the same command again to continue" in told
    found = assert_whole(output, rows, {"OK", "UNCHECKED"})
    assert found["UNCHECKED"] > 0
    bought = sandbox.asked()
    assert {str(normalize(row[2])) for row in table(output) if row[-5] == "OK"} == set(bought)
    again = accucheck(*command, "--rate", "600", sandbox=sandbox)
    assert again.returncode == 1
    assert_whole(output, rows, {"OK"})
    assert set(sandbox.asked().values()) == {1}


def test_a_second_signal_leaves_at_once_and_loses_nothing_that_was_answered(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox(faults="stall=0.2")
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    write_leads(source, 300, 4)
    output.write_text("what was there before\n")
    process = begin(
        "bulk", source, "-o", output, "--rate", "200", "--grace", "60", "--force", sandbox=sandbox
    )
    wait_until_asked(sandbox, 40)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "stalled calls hold the first signal up"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "stopped:" in told
    assert output.read_text() == "what was there before\n"
    info = json.loads(accucheck("ledger", "info", "--json", sandbox=sandbox).stdout)
    answered = [request for request in sandbox.requests() if request["status"] == "OK"]
    assert info["yes"] + info["no"] >= len(answered) * 0.6 > 0


def test_an_empty_account_ends_the_run_with_a_complete_output(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox(quota=50)
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    write_leads(source, 300, 5)
    result = accucheck("bulk", source, "-o", output, "--rate", "300", sandbox=sandbox)
    assert result.returncode == 4
    found = assert_whole(output, list(leads(300, 5)), {"OK", "UNCHECKED"})
    assert found["OK"] >= 50
    assert "once the account has calls again" in result.stderr


def test_max_calls_holds_across_restarts(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    write_leads(source, 200, 5)
    for _ in range(2):
        result = accucheck(
            "bulk", source, "-o", output, "--rate", "300", sandbox=sandbox, ACCUCHECK_MAX_CALLS="30"
        )
        assert result.returncode == 4
    assert sum(sandbox.asked().values()) == 30


def test_standard_streams_carry_every_row_once(start_sandbox: Any) -> None:
    numbers = [f"9{place:08}" for place in range(60)] + ["900000001", "hola"]
    result = accucheck(
        "bulk", "-", "-o", "-", "--rate", "400", sandbox=start_sandbox(), stdin="\n".join(numbers)
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert Counter(row["phone"] for row in rows) == Counter(numbers)
    for row in rows:
        if row["phone"] == "hola":
            assert row["status"] == "INVALID_NUMBER"
        else:
            assert row["whatsapp"] is (truth(row["phone"], SEED)["whatsapp"] == "yes")
    assert result.returncode == 1


def test_ordered_output_is_in_the_order_of_the_input(start_sandbox: Any) -> None:
    sandbox = start_sandbox(pending=0.2, pending_for=0.2)
    numbers = [f"9{place:08}" for place in range(40)]
    command = ("bulk", "-", "-o", "-", "--ordered", "--rate", "400", "--format", "csv")
    result = accucheck(*command, sandbox=sandbox, stdin="\n".join(numbers))
    assert [row[0] for row in csv.reader(result.stdout.splitlines()[1:])] == numbers
    assert result.returncode == 0


def test_rows_that_were_not_checked_are_in_the_stream_too(start_sandbox: Any) -> None:
    numbers = [f"9{place:08}" for place in range(80)]
    sandbox = start_sandbox(quota=20)
    result = accucheck("bulk", "-", "-o", "-", "--rate", "200", sandbox=sandbox, stdin="\n".join(numbers))
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 4
    assert sorted(row["phone"] for row in rows) == numbers
    assert {row["status"] for row in rows} == {"OK", "UNCHECKED"}


def test_a_reader_that_closes_the_pipe_ends_the_run_quietly(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, ledger = tmp_path / "leads.csv", tmp_path / "answers"
    write_leads(source, 3000, 6)
    command = ("bulk", source, "-o", "-", "--ledger", ledger, "--quiet", "--rate", "500")
    with begin(*command, sandbox=sandbox) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(PATIENCE) == 141
    # Calls in flight when the reader left were settled, because they are paid for.
    info = json.loads(accucheck("ledger", "info", ledger, "--json").stdout)
    assert info["yes"] + info["no"] == len(sandbox.requests())


def test_a_sample_is_not_bought_twice(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    write_leads(source, 300, 8)
    command = ("bulk", source, "-o", output, "--rate", "400")
    sample = accucheck(*command, "--sample", "50", "--seed", "1", sandbox=sandbox)
    assert sample.returncode == 0
    assert "95 % interval" in sample.stdout
    assert "the rest" in sample.stdout
    assert not output.exists()
    assert sum(sandbox.asked().values()) == 50
    plan = json.loads(accucheck("plan", source, "--json", sandbox=sandbox).stdout)
    assert plan["known"] == 50
    assert accucheck(*command, sandbox=sandbox).returncode == 1
    assert set(sandbox.asked().values()) == {1}
    assert len(sandbox.asked()) == plan["distinct"]


def test_a_plan_needs_no_account_and_counts_right(tmp_path: Path) -> None:
    source = tmp_path / "leads.csv"
    write_leads(source, 400, 9)
    numbers: Counter[int] = Counter()
    for row in leads(400, 9):
        try:
            numbers[normalize(row[2])] += 1
        except InvalidNumber:
            continue
    command = ("plan", source, "--rate", "20", "--price", "0.002", "--calls-per-number", "1.25", "--json")
    result = accucheck(*command, ACCUCHECK_API_ID="", ACCUCHECK_API_SECRET="")
    plan = json.loads(result.stdout)
    assert result.returncode == 0
    assert plan["rows"] == 400
    assert plan["valid"] == numbers.total()
    assert plan["invalid"] == sum(plan["invalid_by_reason"].values()) == 400 - numbers.total()
    assert plan["distinct"] == plan["to_ask"] == len(numbers)
    assert plan["duplicates"] == numbers.total() - len(numbers)
    assert plan["calls"] == -(-len(numbers) * 5 // 4)
    assert plan["seconds"] == plan["calls"] / 20
    assert float(plan["cost"]) == pytest.approx(len(numbers) * 0.002)
    assert float(plan["cost_at_most"]) == pytest.approx(plan["calls"] * 0.002)


def test_a_ledger_can_be_inspected_exported_and_purged(start_sandbox: Any, tmp_path: Path) -> None:
    ledger, exported = tmp_path / "answers", tmp_path / "answers.csv"
    numbers = [f"9{place:08}" for place in range(20)]
    accucheck("bulk", "-", "-o", "-", "--ledger", ledger, sandbox=start_sandbox(), stdin="\n".join(numbers))
    info = json.loads(accucheck("ledger", "info", ledger, "--json").stdout)
    assert info["answers"] == {"advanced": 20}
    assert info["calls"] == 20
    assert accucheck("ledger", "export", ledger, "-o", exported).returncode == 0
    with exported.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == [f"+51{number}" for number in numbers]
    assert [row["whatsapp"] for row in rows] == [truth(number, SEED)["whatsapp"] for number in numbers]
    overwriting = accucheck("ledger", "export", ledger, "-o", ledger)
    assert overwriting.returncode == 2
    assert accucheck("ledger", "purge", ledger, "--older-than", "1d").returncode == 0
    assert json.loads(accucheck("ledger", "info", ledger, "--json").stdout)["answers"] == {"advanced": 20}
    assert accucheck("ledger", "purge", ledger, "--older-than", "0s", "--yes").returncode == 0
    assert json.loads(accucheck("ledger", "info", ledger, "--json").stdout)["answers"] == {}


def test_two_runs_at_once_share_the_work(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox(latency=100)
    source = tmp_path / "leads.csv"
    write_leads(source, 100, 4)
    outputs = [tmp_path / f"checked-{n}.csv" for n in range(2)]
    runs = [begin("bulk", source, "-o", output, "--rate", "40", sandbox=sandbox) for output in outputs]
    for run in runs:
        _, errors = run.communicate(timeout=PATIENCE)
        assert run.returncode == 1, errors  # the list has invalid numbers
    for output in outputs:
        assert_whole(output, list(leads(100, 4)), {"OK"})
    assert set(sandbox.asked().values()) == {1}


def test_a_second_list_buys_nothing_that_the_first_one_has_bought(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    for name, numbers in (("a", "987650001\n987650002\n"), ("b", "987650002\n987650003\n")):
        (tmp_path / f"{name}.csv").write_text(f"phone\n{numbers}")
    first = accucheck("bulk", tmp_path / "a.csv", "-o", tmp_path / "a-out.csv", sandbox=sandbox)
    second = accucheck("bulk", tmp_path / "b.csv", "-o", tmp_path / "b-out.csv", sandbox=sandbox)
    assert (first.returncode, second.returncode) == (0, 0)
    assert ".ledger (new)" in first.stderr
    assert "(new)" not in second.stderr
    assert "1 number already known (the oldest answer is 0 minutes old)" in second.stderr
    again = accucheck("check", "987650001", sandbox=sandbox)
    assert json.loads(again.stdout)["status"] == "OK"
    assert set(sandbox.asked().values()) == {1}
    fresh = accucheck("check", "987650001", "--fresh-within", "0", sandbox=sandbox)
    assert fresh.returncode == 0
    assert sandbox.asked()["987650001"] == 2


def test_answers_age_by_verdict(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    numbers = [str(987650000 + n) for n in range(20)]
    yes = [number for number in numbers if truth(number, SEED)["whatsapp"] == "yes"]
    assert 0 < len(yes) < 20
    assert accucheck("check", *numbers, sandbox=sandbox).returncode == 0
    assert accucheck("check", *numbers, "--fresh-within", "yes=1d,no=0d", sandbox=sandbox).returncode == 0
    assert {number for number, asked in sandbox.asked().items() if asked == 1} == set(yes)


def test_a_budget_can_be_raised_by_a_number_of_calls(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source = tmp_path / "leads.csv"
    source.write_text("phone\n" + "".join(f"{987650000 + n}\n" for n in range(50)))
    command = ("bulk", source, "-o", tmp_path / "out.csv", "--max-calls")
    first = accucheck(*command, "20", sandbox=sandbox)
    assert first.returncode == 4
    assert "this job has used 20 calls; the cap is 20" in first.stderr
    assert "--max-calls +20" in first.stderr
    assert accucheck(*command, "+10", sandbox=sandbox).returncode == 4
    assert len(sandbox.requests()) == 30
    assert accucheck(*command, "+20", sandbox=sandbox).returncode == 0
    assert len(sandbox.requests()) == 50


def test_a_persons_numbers_can_be_erased_and_a_month_listed(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    accucheck("check", "987650001", "987650002", sandbox=sandbox)
    month = time.strftime("%Y-%m", time.gmtime(time.time() - 5 * 3600))
    statement = accucheck("ledger", "statement", "--month", month, sandbox=sandbox)
    rows = list(csv.DictReader(io.StringIO(statement.stdout)))
    assert sorted(row["request_id"] for row in rows) == sorted(
        request_id(int(number), SEED) for number in ("987650001", "987650002")
    )
    assert "answers" in statement.stderr
    assert accucheck("ledger", "forget", "+51 987 650 001", sandbox=sandbox).returncode == 0
    exported = accucheck("ledger", "export", "-o", "-", sandbox=sandbox).stdout
    assert "987650002" in exported
    assert "987650001" not in exported
    listed = accucheck("ledger", "list", sandbox=sandbox).stdout
    assert "1 answer" in listed


def test_purging_everything_asks_first(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    accucheck("check", "987650001", sandbox=sandbox)
    refused = accucheck("ledger", "purge", "--older-than", "0d", sandbox=sandbox)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert json.loads(accucheck("ledger", "info", "--json", sandbox=sandbox).stdout)["answers"]
    assert accucheck("ledger", "purge", "--older-than", "0d", "--yes", sandbox=sandbox).returncode == 0
    assert not json.loads(accucheck("ledger", "info", "--json", sandbox=sandbox).stdout)["answers"]


def test_a_list_mistaken_for_a_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("phone\n")
    (tmp_path / "mine.csv.ledger").write_text("x")
    result = accucheck("ledger", "info", tmp_path / "mine.csv")
    assert result.returncode == 2
    assert f"mine.csv is not a ledger; did you mean {tmp_path / 'mine.csv.ledger'}?" in result.stderr


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        ("absent/x.csv", 5, "absent"),
        ("leads.csv/x.csv", 5, "leads.csv"),
        ("/proc/x.csv", 5, "/proc/x.csv"),
        ("x.xls", 2, ".xls"),
        ("leads.csv", 2, "would overwrite the input"),
        (".", 2, "directory"),
    ],
)
def test_an_output_that_cannot_be_written_is_reported_before_any_call(
    start_sandbox: Any, tmp_path: Path, output: str, code: int, told: str
) -> None:
    sandbox = start_sandbox()
    source = tmp_path / "leads.csv"
    write_leads(source, 20, 4)
    result = accucheck("bulk", source, "-o", tmp_path / output, "--ledger", "none", sandbox=sandbox)
    assert (result.returncode, result.stdout) == (code, "")
    assert told in result.stderr
    assert sandbox.stats()["charged"] == 0


@pytest.mark.parametrize("stdout", [False, True])
def test_an_api_that_cannot_be_reached_ends_the_run(tmp_path: Path, stdout: bool) -> None:
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    write_leads(source, 60, 4)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        result = accucheck(
            "bulk",
            source,
            "-o",
            "-" if stdout else output,
            "--format",
            "csv",
            "--outage-deadline",
            "1s",
            ACCUCHECK_BASE_URL=f"http://127.0.0.1:{nobody.getsockname()[1]}",
        )
    assert result.returncode == 6
    assert "has gone through for 1 seconds" in result.stderr
    assert "once AccuAuth is reachable, run the same command again" in result.stderr
    if stdout:
        assert sorted(
            row[:5] for row in list(csv.reader(io.StringIO(result.stdout), delimiter=";"))[1:]
        ) == sorted(leads(60, 4))
    else:
        assert_whole(output, list(leads(60, 4)), {"UNCHECKED"})


def test_the_demo_proves_itself(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    result = accucheck("demo", "--rows", "60", "--directory", place)
    assert result.returncode == 0, result.stderr
    assert "answers, 0 of them wrong" in result.stderr
    assert str(place / "checked.csv") in result.stderr
    assert len(table(place / "checked.csv")) == 61
    again = accucheck("demo", "--directory", place)
    assert again.returncode == 2
    assert "already exists" in again.stderr


def test_without_its_packages_the_command_line_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules.update(cyclopts=None, rich=None);"
        "from accucheck.cli import main; sys.exit(main(['check', '987654321']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "accucheck: the command line needs cyclopts and rich: pip install 'accucheck[cli]'"
    ]


def test_without_the_sandbox_the_demo_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules.update(starlette=None);"
        "from accucheck.cli import main; sys.exit(main(['demo']))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "pip install 'accucheck[sandbox]'" in line


def test_the_library_does_not_load_the_command_line() -> None:
    program = (
        "import sys, accucheck; print([name for name in ('cyclopts', 'starlette') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("output", ["answers.db", "./answers.db", "answers.db-wal", "answers.db-shm"])
def test_an_output_never_overwrites_its_ledger(tmp_path: Path, output: str) -> None:
    (tmp_path / "leads.csv").write_text("phone\n987654321\n")
    result = accucheck(
        "bulk", tmp_path / "leads.csv", "-o", tmp_path / output, "--ledger", tmp_path / "answers.db"
    )
    assert result.returncode == 2
    assert "is the ledger" in result.stderr


def test_an_output_never_overwrites_another_lists_ledger(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, ledger = tmp_path / "leads.csv", tmp_path / "others.db"
    source.write_text("phone\n987654321\n")
    assert (
        accucheck("bulk", source, "-o", tmp_path / "a.csv", "--ledger", ledger, sandbox=sandbox).returncode
        == 0
    )
    before = ledger.read_bytes()
    result = accucheck("bulk", source, "-o", ledger, "--format", "csv", sandbox=sandbox)
    assert result.returncode == 2
    assert "would overwrite a ledger" in result.stderr
    assert ledger.read_bytes() == before
    # Its newest answers may still be in the write-ahead log.
    log = tmp_path / "others.db-wal"
    log.write_bytes(bytes.fromhex("377f0682") + bytes(28))
    assert accucheck("bulk", source, "-o", log, "--format", "csv", sandbox=sandbox).returncode == 2
    assert len(sandbox.requests()) == 1


def test_a_stream_to_standard_output_continues_after_a_signal(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox(latency=20)
    source = tmp_path / "leads.csv"
    write_leads(source, 400, 12)
    command = ("bulk", source, "-o", "-", "--rate", "100")
    with begin(*command, sandbox=sandbox) as process:
        wait_until_asked(sandbox, 30)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
    assert "to continue: numbers already answered are not bought again" in errors
    assert len(output.splitlines()) == 400
    again = accucheck(*command, sandbox=sandbox)
    assert again.returncode == 1
    assert len(again.stdout.splitlines()) == 400
    assert '"status":"UNCHECKED"' not in again.stdout
    assert set(sandbox.asked().values()) == {1}


def test_answers_without_a_ledger_are_kept_when_the_output_fails(start_sandbox: Any, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "full.csv"
    source.write_text("phone\n987654321\n912345678\n")
    output.symlink_to("/dev/full")
    result = accucheck("bulk", source, "-o", output, "--ledger", "none", sandbox=sandbox)
    assert result.returncode == 5
    kept = tmp_path / "full.csv.ledger"
    assert f"the answers bought so far are in {kept}" in result.stderr
    command = ("bulk", source, "-o", tmp_path / "checked.csv", "--ledger", kept)
    assert accucheck(*command, sandbox=sandbox).returncode == 0
    assert set(sandbox.asked().values()) == {1}


def test_answers_that_could_not_be_re_checked_are_shown_as_they_are(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    source.write_text("phone\n" + "".join(f"{987650000 + n}\n" for n in range(40)))
    command = ("bulk", source, "-o", output)
    assert accucheck(*command, sandbox=sandbox).returncode == 0
    before = output.read_text()
    result = accucheck(*command, "--fresh-within", "0s", "--max-calls", "50", sandbox=sandbox)
    assert result.returncode == 4
    assert output.read_text().count(",OK,") == before.count(",OK,") == 40


def test_each_list_on_a_shared_ledger_has_its_own_budget(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    ledger = tmp_path / "shared.db"
    for name, first in (("a", 987_650_000), ("b", 912_340_000)):
        (tmp_path / name).with_suffix(".csv").write_text(
            "phone\n" + "".join(f"{first + n}\n" for n in range(30))
        )
        command = ("bulk", tmp_path / f"{name}.csv", "-o", tmp_path / f"{name}-out.csv", "--ledger", ledger)
        assert accucheck(*command, "--max-calls", "30", sandbox=sandbox).returncode == 0
    again = accucheck(
        "bulk",
        tmp_path / "a.csv",
        "-o",
        tmp_path / "c.csv",
        "--ledger",
        ledger,
        "--job",
        "spring",
        "--fresh-within",
        "0s",
        "--max-calls",
        "10",
        sandbox=sandbox,
    )
    assert again.returncode == 4
    once_more = accucheck(
        "bulk",
        tmp_path / "b.csv",
        "-o",
        tmp_path / "d.csv",
        "--ledger",
        ledger,
        "--job",
        "spring",
        "--fresh-within",
        "0s",
        "--max-calls",
        "10",
        sandbox=sandbox,
    )
    assert once_more.returncode == 4
    assert "this job has used 10 calls; the cap is 10" in once_more.stderr
    assert len(sandbox.requests()) == 70


def test_failures_are_shown_apart_with_how_to_retry_them(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox(errors=1)
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    source.write_text("phone\n987654321\n912345678\n")
    command = ("bulk", source, "-o", output, "--tries", "1")
    first = accucheck(*command, sandbox=sandbox)
    assert first.returncode == 1
    assert "2 rows failed" in first.stderr
    assert "--retry-failed" in first.stderr
    second = accucheck(*command, sandbox=sandbox)
    assert "2 numbers that failed before" in second.stderr
    assert "answered from the ledger" not in second.stderr
    assert "--retry-failed" in second.stderr
    assert len(sandbox.requests()) == 2


def test_a_row_on_standard_input_is_answered_before_the_next_one_comes(start_sandbox: Any) -> None:
    sandbox = start_sandbox()
    process = begin("bulk", "-", "-o", "-", "--quiet", sandbox=sandbox, stdin=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("phone\n987654321\n")
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        assert (first["phone"], first["status"]) == ("987654321", "OK")
        process.stdin.write("912345678\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["phone"] == "912345678"
        _, errors = process.communicate("abc\n", timeout=PATIENCE)
        assert errors == ""
        assert process.returncode == 1


def test_a_signal_ends_a_run_that_waits_for_its_input(start_sandbox: Any) -> None:
    sandbox = start_sandbox()
    process = begin("bulk", "-", "-o", "-", "--quiet", sandbox=sandbox, stdin=subprocess.PIPE)
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("phone\n987654321\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None  # later rows must be in the output, too
        output, errors = process.communicate("912345678\n", timeout=PATIENCE)
    assert process.returncode == 130
    assert json.loads(output)["status"] == "UNCHECKED"
    assert "Fatal" not in errors
    assert set(sandbox.asked()) == {"987654321"}


FULL = Path("/dev/full")


@pytest.fixture
def full_disk() -> Iterator[Any]:
    if not FULL.exists():
        pytest.skip("no /dev/full here")
    with FULL.open("w") as full:
        yield full


def run_with(
    streams: dict[str, Any], *words: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with unusual standard streams; ``variables`` go into its environment."""
    return subprocess.run(
        [sys.executable, "-m", "accucheck", *map(str, words)],
        env={**environment(), **variables},
        text=True,
        timeout=PATIENCE,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams},
    )


def test_a_full_disk_under_standard_output_settles_paid_calls(
    start_sandbox: Any, tmp_path: Path, full_disk: Any
) -> None:
    sandbox = start_sandbox(latency=100)
    source = tmp_path / "leads.csv"
    source.write_text("phone\n" + "".join(f"{987650000 + n}\n" for n in range(400)))
    command = ("bulk", source, "-o", "-", "--quiet", "--rate", "200")
    done = run_with({"stdout": full_disk}, *command, ACCUCHECK_BASE_URL=sandbox.url)
    assert done.returncode == 5
    assert "Exception ignored" not in done.stderr
    info = json.loads(accucheck("ledger", "info", "--json", sandbox=sandbox).stdout)
    assert info["yes"] + info["no"] == len(sandbox.requests()) > 0


@pytest.mark.parametrize(
    "words",
    [
        ["bulk", "leads.csv", "-o", "-", "--quiet"],
        ["check", "987654321"],
        ["check", "987654321", "--json"],
        ["plan", "leads.csv"],
        ["plan", "leads.csv", "--json"],
        ["ledger", "info", "answers"],
        ["ledger", "export", "answers", "-o", "-"],
        ["--help"],
        ["--version"],
        ["bulk", "--help"],
    ],
)
def test_every_command_says_so_when_standard_output_cannot_be_written(
    start_sandbox: Any, tmp_path: Path, full_disk: Any, words: list[str]
) -> None:
    sandbox = start_sandbox()
    (tmp_path / "leads.csv").write_text("phone\n987654321\n")
    accucheck("bulk", tmp_path / "leads.csv", "-o", "-", "--ledger", tmp_path / "answers", sandbox=sandbox)
    words = [str(tmp_path / word) if word in ("leads.csv", "answers") else word for word in words]
    done = run_with({"stdout": full_disk}, *words, ACCUCHECK_BASE_URL=sandbox.url)
    assert done.returncode == 5
    assert (
        done.stderr.splitlines()[-1] == "accucheck: cannot write to standard output: No space left on device"
    )
    assert "[Errno" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2), (0, 1, 2)])
def test_closed_standard_streams_lose_no_answer_and_keep_the_exit_code(
    start_sandbox: Any, tmp_path: Path, closed: tuple[int, ...]
) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "checked.csv"
    source.write_text("phone\n987654321\n912345678\n")
    redirections = "".join(f" {descriptor}>&-" for descriptor in closed)
    python = f"{sys.executable} -m accucheck"
    for command in (f"{python} bulk {source} -o {output}", f"{python} check 987654321 --fresh-within 0"):
        done = subprocess.run(
            ["sh", "-c", command + redirections],
            env=environment(sandbox),
            capture_output=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
    with output.open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["OK", "OK"]
    # Nothing was printed into a file that reused the number of a closed descriptor.
    assert json.loads(accucheck("ledger", "info", "--json", sandbox=sandbox).stdout)["answers"] == {
        "advanced": 2
    }


def test_rows_for_a_closed_standard_output_are_refused_before_any_call(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox()
    source = tmp_path / "leads.csv"
    source.write_text("phone\n987654321\n")
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m accucheck bulk {source} -o - >&-"],
        env=environment(sandbox),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 5
    assert "standard output is closed" in done.stderr
    assert not sandbox.log.exists() or sandbox.requests() == []


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "ascii:strict", "utf-8:strict", "utf-16"])
def test_every_answer_is_shown_whatever_the_encoding_of_the_terminal(
    start_sandbox: Any, encoding: str
) -> None:
    sandbox = start_sandbox()
    numbers = [str(987650000 + place) for place in range(30)]
    done = subprocess.run(
        [sys.executable, "-m", "accucheck", "check", *numbers],
        env={**environment(sandbox), "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode(encoding.partition(":")[0]).splitlines()
    assert [json.loads(line)["number"] for line in lines] == [f"+51{number}" for number in numbers]


def test_file_names_that_are_not_utf_8_work(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    folder = os.path.join(os.fsencode(tmp_path), b"a\xf1o")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    source, output = os.path.join(folder, b"campa\xf1a.csv"), os.path.join(folder, b"checked\xf1.csv")
    with open(source, "w") as file:
        file.write("name,phone\nA,987650001\nB,987650002\n")
    for extra in ([], ["--max-calls", "20"]):
        done = subprocess.run(
            [sys.executable, "-m", "accucheck", "bulk", source, "-o", output, *extra],
            env=environment(sandbox),
            capture_output=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
    with open(output) as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["OK", "OK"]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_output_that_an_earlier_run_over_this_list_did_not_write_is_refused(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox()
    for name, numbers in (("a", "987650001"), ("b", "987650002")):
        (tmp_path / f"{name}.csv").write_text(f"phone\n{numbers}\n")
    output, ledger = tmp_path / "notes.csv", tmp_path / "ledger"
    output.write_text("my notes\n")

    def bulk(name: str, *more: str) -> subprocess.CompletedProcess[str]:
        return accucheck(
            "bulk", tmp_path / f"{name}.csv", "-o", output, "--ledger", ledger, *more, sandbox=sandbox
        )

    before = snapshot(tmp_path)
    refused = bulk("a")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did not write it from this list" in refused.stderr
    assert "--force" in refused.stderr
    assert snapshot(tmp_path) == before  # no ledger, no lock, no temporary file
    assert bulk("a", "--force").returncode == 0
    assert bulk("a").returncode == 0
    other = bulk("b")
    assert other.returncode == 2
    assert "another list" in other.stderr
    with output.open("a") as file:
        file.write("a note,by hand\n")
    edited = bulk("a")
    assert edited.returncode == 2
    assert "has been changed" in edited.stderr
    assert "by hand" in output.read_text()
    assert bulk("a", "--force").returncode == 0
    assert len(sandbox.requests()) == 1


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("absent/x.csv", "mkdir -p"),
        ("absent/deeper/x.csv", "does not exist"),
        ("x.pdf", ".pdf"),
        ("leads.csv", "overwrite the input"),
        (".", "directory"),
    ],
)
def test_a_refused_command_creates_no_file(
    start_sandbox: Any, tmp_path: Path, output: str, told: str
) -> None:
    sandbox = start_sandbox()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "leads.csv").write_text("phone\n987654321\n")
    before = snapshot(folder)
    result = accucheck("bulk", folder / "leads.csv", "-o", folder / output, sandbox=sandbox)
    assert result.returncode in (2, 5)
    assert told in result.stderr
    assert snapshot(folder) == before
    assert not sandbox.log.exists() or sandbox.requests() == []


def test_an_export_overwrites_nothing_without_force(start_sandbox: Any, tmp_path: Path) -> None:
    ledger, exported = tmp_path / "answers", tmp_path / "answers.csv"
    accucheck("bulk", "-", "-o", "-", "--ledger", ledger, sandbox=start_sandbox(), stdin="987654321\n")
    exported.write_text("mine")
    refused = accucheck("ledger", "export", ledger, "-o", exported)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert exported.read_text() == "mine"
    assert accucheck("ledger", "export", ledger, "-o", exported, "--force").returncode == 0
    assert "+51987654321" in exported.read_text()


def test_several_lists_share_one_ledger_one_budget_and_one_summary(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox()
    lists, checked = tmp_path / "lists", tmp_path / "checked"
    lists.mkdir()
    (lists / "a.csv").write_text("phone\n987650001\n987650002\n")
    (lists / "b.csv").write_text("")  # cannot be read
    (lists / "c.csv").write_text("phone\n987650002\n987650003\n")
    (tmp_path / "d.jsonl").write_text('{"phone": "987650004"}\n')
    summary = tmp_path / "summary.json"
    command = ("bulk", lists, tmp_path / "d.jsonl", "--output-dir", checked, "--summary-json", summary)
    first = accucheck(*command, sandbox=sandbox)
    assert first.returncode == 2
    assert "b.csv: not written" in first.stderr
    assert "all lists  3 of 4 written" in first.stderr
    with (checked / "c.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["OK", "OK"]
    assert sandbox.asked() == {f"98765000{n}": 1 for n in range(1, 5)}
    whole = json.loads(summary.read_text())
    assert (whole["exit_code"], whole["rows"], whole["calls"], whole["by_status"]) == (2, 5, 4, {"OK": 5})
    assert [each["exit_code"] for each in whole["lists"]] == [0, 2, 0, 0]
    (lists / "b.csv").unlink()
    again = accucheck(*command, sandbox=sandbox)
    assert again.returncode == 0
    assert len(sandbox.requests()) == 4


def test_a_budget_that_is_used_up_leaves_the_other_lists_for_the_next_run(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox()
    for name, first in (("a", 0), ("b", 10), ("c", 20)):
        rows = "".join(f"{987650000 + first + n}\n" for n in range(10))
        (tmp_path / f"{name}.csv").write_text(f"phone\n{rows}")
    lists = [tmp_path / f"{name}.csv" for name in "abc"]
    command: tuple[str | Path, ...] = ("bulk", *lists, "--output-dir", tmp_path / "out")
    result = accucheck(*command, "--max-calls", "15", sandbox=sandbox)
    assert result.returncode == 4
    assert "1 list not started" in result.stderr
    assert len(sandbox.requests()) == 15
    assert accucheck(*command, sandbox=sandbox).returncode == 0
    assert set(sandbox.asked().values()) == {1}


@pytest.mark.parametrize("output", ["file", "stream"])
def test_excluded_rows_are_not_checked_and_stay_in_the_output(
    start_sandbox: Any, tmp_path: Path, output: str
) -> None:
    sandbox = start_sandbox()
    source, refused, checked = tmp_path / "leads.csv", tmp_path / "refused.csv", tmp_path / "checked.csv"
    source.write_text("phone,consent\n987650001,yes\n987650002,no\n987650003,yes\n")
    refused.write_text("987650003\n")
    more = ("--exclude", refused, "--where", "consent=yes", "--format", "csv")
    target = checked if output == "file" else "-"
    result = accucheck("bulk", source, "-o", target, *more, sandbox=sandbox)
    assert result.returncode == 0
    assert set(sandbox.asked()) == {"987650001"}
    text = checked.read_text() if output == "file" else result.stdout
    rows = {row["phone"]: (row["status"], row["reason"]) for row in csv.DictReader(io.StringIO(text))}
    assert rows == {
        "987650001": ("OK", ""),
        "987650002": ("EXCLUDED", "consent is not yes"),
        "987650003": ("EXCLUDED", "listed in refused.csv"),
    }


def test_rows_can_be_split_or_kept_by_verdict(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, ledger = tmp_path / "leads.csv", tmp_path / "ledger"
    numbers = [str(987650000 + n) for n in range(20)]
    source.write_text("phone\n" + "\n".join([*numbers, "hola"]) + "\n")

    def phones(name: str) -> list[str]:
        with (tmp_path / name).open(newline="") as file:
            return [row["phone"] for row in csv.DictReader(file)]

    yes = [number for number in numbers if truth(number, SEED)["whatsapp"] == "yes"]
    command = ("bulk", source, "--ledger", ledger, "--allow-invalid")
    split = accucheck(*command, "-o", tmp_path / "out.csv", "--split", "verdict", sandbox=sandbox)
    assert split.returncode == 0
    assert phones("out.yes.csv") == yes
    assert phones("out.no.csv") == [number for number in numbers if number not in yes]
    assert phones("out.rest.csv") == ["hola"]
    assert not (tmp_path / "out.csv").exists()
    assert accucheck(*command, "-o", tmp_path / "yes.csv", "--only", "yes", sandbox=sandbox).returncode == 0
    assert phones("yes.csv") == yes


def test_a_run_reports_its_cost(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox(pending=0.3, pending_for=0.2)
    source, summary = tmp_path / "leads.csv", tmp_path / "summary.json"
    source.write_text("phone\n" + "".join(f"{987650000 + n}\n" for n in range(40)))
    command = ("bulk", source, "-o", tmp_path / "out.csv", "--price", "0.25", "--price-pending", "0.5")
    sample = accucheck(*command, "--sample", "10", sandbox=sandbox)
    assert "cost of the rest" in sample.stdout
    before = Counter(request["status"] for request in sandbox.requests())
    result = accucheck(*command, "--summary-json", summary, sandbox=sandbox)
    assert result.returncode == 0
    replies = Counter(request["status"] for request in sandbox.requests()) - before
    cost = replies["OK"] * 0.25 + replies["PENDING"] * 0.5
    assert json.loads(summary.read_text())["cost"] == pytest.approx(cost)
    assert f"cost {cost:,.2f} " in " ".join(result.stderr.split())


def test_doctor_checks_everything_without_a_call(start_sandbox: Any) -> None:
    sandbox = start_sandbox()
    result = accucheck("doctor", "--json", sandbox=sandbox)
    assert result.returncode == 0, result.stdout + result.stderr
    found = {each["what"]: each for each in map(json.loads, result.stdout.splitlines())}
    for what in ("versions", "settings", "credentials", "DNS", "TCP", "HTTP", "ledger", "disk", "locks"):
        assert found[what]["state"] == "ok", found[what]
    assert not sandbox.log.exists() or sandbox.requests() == []
    called = accucheck("doctor", "--call", "987654321", sandbox=sandbox)
    assert called.returncode == 0
    assert "on WhatsApp" in called.stdout
    assert len(sandbox.requests()) == 1


def test_doctor_says_what_is_wrong_and_what_to_do() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        result = accucheck("doctor", ACCUCHECK_BASE_URL=url, ACCUCHECK_API_SECRET="")
    assert result.returncode == 1
    assert "ACCUCHECK_API_SECRET" in result.stdout
    assert "Connection refused" in result.stdout
    assert "Traceback" not in result.stderr
