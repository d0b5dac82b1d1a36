"""The benchmarks run, end what they start, and count what a server's log says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import report, traffic
from benchmarks.job import Job
from benchmarks.traffic import Traffic

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = [sys.executable, "-m", "benchmarks"]


def test_the_smoke_suite_runs_and_every_answer_is_right(tmp_path: Path) -> None:
    clients = ["accucheck-fast-asyncio", "accucheck-plain", "accucheck-ledger", "accucheck-storm-asyncio"]
    only = [f"--only={name}" for name in clients]
    done = subprocess.run(
        [*BENCHMARKS, "smoke", *only, "--output", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "smoke.json").read_text())
    assert sorted(written["figures"]) == sorted(clients)
    assert all(target["met"] for target in written["targets"])
    assert len(written["targets"]) == len(clients)
    assert (
        "| accucheck stream, plain install (asyncio) | 200 right answers |"
        in (tmp_path / "smoke.md").read_text()
    )


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_an_interrupted_benchmark_leaves_nothing_running(tmp_path: Path) -> None:
    marked = {
        **os.environ,
        "TMPDIR": str(tmp_path),
    }  # inherited by every child process, which identifies them
    running = subprocess.Popen(
        [*BENCHMARKS, "wan", "--only=accucheck-plain", "--output", str(tmp_path)],
        cwd=ROOT,
        env=marked,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not {"benchmarks.delay_server", "benchmarks.clients.accucheck_stream"} <= _modules(tmp_path):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 130
    assert errors.strip().endswith("interrupted, nothing written")
    assert _modules(tmp_path) == set()
    assert list(tmp_path.iterdir()) == []


def _modules(marker: Path) -> set[str]:
    """Return the modules that run as ``python -m`` in processes that carry the marker."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:  # it has ended, or belongs to another user
            continue
        if f"TMPDIR={marker}\0".encode() in environment and "-m" in words:
            found.add(words[words.index("-m") + 1])
    return found - {"benchmarks"}


def test_a_job_survives_its_command_line() -> None:
    job = Job(
        base_url="http://127.0.0.1:1", checks=7, rate=2.5, loop="uvloop", core=0, option=("plain", "auto")
    )
    assert Job.from_arguments(job.arguments()) == job
    assert Job.from_arguments(["--base-url=http://127.0.0.1:1"]) == Job(base_url="http://127.0.0.1:1")


def test_an_answer_for_another_number_is_not_right() -> None:
    job = Job(base_url="http://127.0.0.1:1")
    assert job.is_right("900000001", True)
    assert job.is_right("900000002", False)
    assert not job.is_right("900000001", False)
    assert not job.is_right("900000002", True)


def test_traffic_is_counted_from_the_first_request() -> None:
    seen = Traffic([100.0 + tick / 10 for tick in range(100)], [103.05, 104.05])
    assert seen.began == 100.0
    assert seen.requests(until=3.0) == 30
    assert seen.utilization(10, (0.0, 10.0)) == pytest.approx(1.0)
    assert seen.utilization(20, (5.0, 10.0)) == pytest.approx(0.5)
    assert seen.refused_share((3.0, 4.0)) == pytest.approx(1 / 11)
    assert seen.refused_share((50.0, 60.0)) == 0
    assert seen.per_second(4) == ([10, 10, 10, 10], [0, 0, 0, 1])


def test_reaching_the_limit_means_keeping_the_share_for_a_while() -> None:
    slow = [tick / 5 for tick in range(20)]  # 5/s for 4 s
    fast = [4 + tick / 10 for tick in range(60)]  # then 10/s
    seen = Traffic([*slow, *fast], [])
    # Two seconds of which 3.6 hold 1.6 s at full speed and 0.4 s at half: 18 of 20.
    assert seen.seconds_to_reach(10, (0.0, 10.0)) == pytest.approx(3.6, abs=0.11)
    assert seen.seconds_to_reach(20, (0.0, 10.0)) is None


def test_the_longest_silence_includes_the_ends_of_the_span() -> None:
    seen = Traffic([0.0, 1.0, 1.5, 4.0], [2.5])
    assert seen.longest_silence((0.0, 5.0)) == pytest.approx(2.5)
    assert seen.longest_silence((0.0, 9.0)) == pytest.approx(5.0)


def test_the_log_of_nginx_is_read_by_when_a_request_came(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("10.050 0.050 200\n10.020 0.000 403\n11.500 0.500 499\n")
    seen = traffic.from_nginx(log)
    assert seen.admitted == pytest.approx(
        [0.0, 1.0]
    )  # a reply that the client did not wait for was admitted, too
    assert seen.refused == pytest.approx([0.02])


def test_polls_are_counted_from_the_log_of_the_sandbox(tmp_path: Path) -> None:
    lines = [
        {"t": 1.0, "number": "900000001", "status": "PENDING"},
        {"t": 1.1, "number": "900000002", "status": "OK"},
        {"t": 1.2, "number": "900000001", "status": "RATE_LIMIT_EXCEEDED"},
        {"t": 2.0, "number": "900000001", "status": "PENDING"},
        {"t": 3.0, "number": "900000003", "status": "PENDING"},
        {"t": 4.0, "number": "900000001", "status": "OK"},
        {"t": 5.0, "number": "900000003", "status": "OK"},
        {"t": 6.0, "number": "900000004", "status": "PENDING"},
    ]
    log = tmp_path / "requests.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    seen = traffic.from_sandbox(log)
    assert len(seen.admitted) == 7
    assert len(seen.refused) == 1
    assert seen.polls_per_pending == pytest.approx(
        1.5
    )  # two polls and one more; the fourth is not answered yet


def test_a_missing_measurement_misses_its_target() -> None:
    missing = float("nan")
    assert not report.at_most("cost", missing, 1.0).met
    assert not report.at_least("speed", missing, 1.0).met
    assert report.at_most("cost", 1.0, 1.0).met
    assert report.at_least("speed", 1.0, 1.0).met
    assert report.at_most("cost", missing, 1.0).measured == "–"
