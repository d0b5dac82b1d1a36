"""A low limit on open files (``ulimit -n``): fewer connections and one warning; no network error, nothing lost."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

resource = pytest.importorskip("resource")

PATIENCE = 60.0
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ACCUCHECK_"))}
ROWS = 400


class RunningSandbox:
    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def asked(self) -> Counter[str]:
        return Counter(json.loads(line)["number"] for line in self.log.read_text().splitlines())


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[RunningSandbox]:
    log = tmp_path / "requests.jsonl"
    command = [
        sys.executable,
        "-m",
        "accucheck",
        "sandbox",
        "--port",
        "0",
        "--latency",
        "100",
        "--request-log",
        str(log),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield RunningSandbox(process.stdout.readline().removeprefix("listening on ").strip(), log)
    process.terminate()
    process.communicate(timeout=PATIENCE)


def bulk(
    folder: Path, url: str, soft: int, hard: int, *, rows: int = ROWS, workers: int = 200
) -> subprocess.CompletedProcess[str]:
    (folder / "leads.csv").write_text("phone\n" + "".join(f"98769{n:04}\n" for n in range(rows)))
    command = [sys.executable, "-m", "accucheck", "bulk", "leads.csv", "-o", "out.csv", "--base-url", url]
    return subprocess.run(
        [*command, "--rate", "2000", "--workers", str(workers), "--connect-timeout", "1"],
        cwd=folder,
        env=CLEAN | {"ACCUCHECK_API_ID": "sandbox", "ACCUCHECK_API_SECRET": "sandbox", "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )


def answered(folder: Path) -> int:
    with open(folder / "out.csv", newline="", encoding="utf-8-sig") as file:
        return sum(row["whatsapp"] in ("yes", "no") for row in csv.DictReader(file))


@pytest.mark.parametrize("limit", [24, 40, 64])
def test_a_low_limit_means_fewer_connections_and_one_warning(
    limit: int, tmp_path: Path, sandbox: RunningSandbox
) -> None:
    done = bulk(tmp_path, sandbox.url, limit, limit)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"too many open files (ulimit -n {limit})") == 1, done.stderr
    assert answered(tmp_path) == ROWS
    assert set(sandbox.asked().values()) == {1}
    assert "network" not in done.stderr


@pytest.mark.parametrize("soft", [16, 40, 128])
def test_a_low_soft_limit_is_raised_silently(soft: int, tmp_path: Path, sandbox: RunningSandbox) -> None:
    done = bulk(tmp_path, sandbox.url, soft, 4096)
    assert done.returncode == 0, done.stderr
    assert "open files" not in done.stderr
    assert answered(tmp_path) == ROWS
    assert set(sandbox.asked().values()) == {1}


@pytest.mark.parametrize("limit", [6, 8, 10, 12, 14, 16])
def test_a_limit_that_allows_no_connection_is_one_error_and_nothing_is_sent(
    limit: int, tmp_path: Path, sandbox: RunningSandbox
) -> None:
    done = bulk(tmp_path, sandbox.url, limit, limit)
    assert done.returncode != 0
    if limit == 16:  # with fewer, the ledger cannot be opened
        assert "too many open files" in done.stderr.lower(), done.stderr
    assert "Traceback" not in done.stderr
    assert "never awaited" not in done.stderr
    assert sandbox.asked() == Counter()


def test_any_number_of_workers_leaves_the_ledger_enough_files(
    tmp_path: Path, sandbox: RunningSandbox
) -> None:
    done = bulk(tmp_path, sandbox.url, 256, 256, rows=1500, workers=10_000)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("too many open files (ulimit -n 256)") == 1, done.stderr
    assert answered(tmp_path) == 1500
    assert set(sandbox.asked().values()) == {1}
