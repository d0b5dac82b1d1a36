"""Run several processes on one ledger and one list, kill them and the database, and count what was charged.

Every process has every number in its input. What must hold: each number is bought once, except those in flight at a
kill; each output is complete and correct; a cap on calls is never exceeded, and used up if there is enough work.

``python -m tests.acceptance.processes_harness --processes 4 --rows 50000 --rate 200 --kills 50 --skew 2`` does this at
length; ``--postgres`` uses a server that is killed ``--server-kills`` times; ``--nginx`` puts ``limit_req`` in front.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from accucheck.sandbox import truth
from benchmarks.servers import LimitingServer, limiting_nginx
from tests.acceptance.kill_harness import ROOT, SEED, logged, sandbox
from tests.postgres import Server, new_ledger, running_server

WORKERS = 8
IN_FLIGHT = 2 * WORKERS
"""Calls that one process may have under way, or answered and not yet stored."""
SERVER_AWAY = 3.0
STARTING = 5.0
"""Seconds in which a process has opened its ledger, on however busy a machine."""
_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@dataclass(kw_only=True)
class Plan:
    """The plan of a run."""

    rows: int
    processes: int = 4
    rate: int | None = None
    """The vendor's limit, which nobody is told."""
    nginx: bool = False
    """The limit is kept by nginx's limit_req in front of the sandbox, not by that."""
    max_calls: int | None = None
    kills: int = 0
    server_kills: int = 0
    every: float = 2.0
    """Seconds between two kills."""
    skew: float = 0.0
    """Seconds by which the clocks of the processes differ, at most; needs libfaketime."""
    seed: int = 1
    patience: float = 3_600.0


@dataclass
class Findings:
    """The result of a run."""

    requests: int = 0
    answers: int = 0
    refused: int = 0
    doubles: int = 0
    kills: int = 0
    server_kills: int = 0
    missing: int = 0
    seconds: float = 0.0
    exits: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.requests} requests, {self.answers} answers, {self.refused} refused,"
            f" {self.doubles} doubles after {self.kills} kills and {self.server_kills} of the server,"
            f" {self.missing} rows missing, exits {dict(self.exits)}, {self.seconds:.0f} s"
        )


class Process:
    """One run of the command line, started again after a kill."""

    def __init__(self, folder: Path, index: int, plan: Plan, url: str, ledger: str) -> None:
        self.index = index
        self.leads, self.output = folder / f"leads-{index}.csv", folder / f"out-{index}.csv"
        self.errors = folder / f"errors-{index}"
        self._arguments = [
            *("bulk", str(self.leads), "-o", str(self.output), "--base-url", url, "--quiet"),
            *("--ledger", ledger, "--job", "harness", "--workers", str(WORKERS)),
        ]
        if plan.rate is None:
            self._arguments += ["--rate", "2000/s"]
        if plan.max_calls is not None:
            self._arguments += ["--max-calls", str(plan.max_calls)]
        self._environment = {**os.environ, "ACCUCHECK_API_ID": "sandbox", "ACCUCHECK_API_SECRET": "sandbox"}
        if plan.skew:
            if not _FAKETIME.exists():
                raise SystemExit("--skew needs libfaketime: apt-get install libfaketime")
            ahead = plan.skew * (2 * index / max(1, plan.processes - 1) - 1)
            self._environment |= {
                "LD_PRELOAD": str(_FAKETIME),
                "FAKETIME": f"{ahead:+.3f}s",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        self.process: subprocess.Popen[bytes]
        self.start()

    def start(self) -> None:
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "accucheck", *self._arguments],
                cwd=ROOT,
                env=self._environment,
                stderr=errors,
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def run(plan: Plan, folder: Path, ledger: str | None = None, server: Server | None = None) -> Findings:
    """Run a plan and check everything that must always hold."""
    chance = random.Random(plan.seed)
    numbers = [f"9{n:08d}" for n in chance.sample(range(100_000_000), plan.rows)]
    for index in range(plan.processes):
        shuffled = chance.sample(numbers, len(numbers))
        (folder / f"leads-{index}.csv").write_text("phone\n" + "\n".join(shuffled) + "\n")
    log = folder / "requests.jsonl"
    with _vendor(plan, log) as (url, nginx):
        began = time.monotonic()
        found = Findings()
        processes = [
            Process(folder, index, plan, url, ledger or str(folder / "shared.ledger"))
            for index in range(plan.processes)
        ]
        try:
            _disturb(plan, found, processes, server, chance, log)
            for process in processes:
                found.exits[process.process.wait(plan.patience)] += 1
        finally:
            for process in processes:
                if not process.ended:
                    process.kill()
        found.seconds = time.monotonic() - began
        statuses = [] if nginx is None else [line.split()[2] for line in nginx.log.read_text().splitlines()]
    _count(plan, found, processes, numbers, log, refused_by_nginx=statuses.count("403"))
    return found


@contextlib.contextmanager
def _vendor(plan: Plan, log: Path) -> Iterator[tuple[str, LimitingServer | None]]:
    limit = (
        [] if plan.rate is None or plan.nginx else ["--rate", str(plan.rate), "--burst", str(plan.rate // 10)]
    )
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(sandbox("--request-log", str(log), "--latency", "0.03", *limit))
        if plan.nginx and plan.rate is not None:
            nginx = limiting_nginx(rate=plan.rate, burst=plan.rate // 10, upstream=url)
            server = stack.enter_context(nginx)
            yield server.base_url, server
        else:
            yield url, None


def _disturb(
    plan: Plan,
    found: Findings,
    processes: list[Process],
    server: Server | None,
    chance: random.Random,
    log: Path,
) -> None:
    while not log.exists() or not log.stat().st_size:
        assert not all(process.ended for process in processes), processes[0].errors.read_text()
        time.sleep(0.01)
    while found.kills < plan.kills or found.server_kills < plan.server_kills:
        time.sleep(plan.every)
        alive = [process for process in processes if not process.ended]
        if len(alive) < 2:
            return
        victim = None
        if found.kills < plan.kills:
            victim = chance.choice(alive)
            victim.kill()
            found.kills += 1
        if found.server_kills < plan.server_kills:
            assert server is not None
            server.kill()
            time.sleep(SERVER_AWAY)
            server.start()
            found.server_kills += 1
        if victim is not None:  # not earlier: a run that starts while the database is down ends at once
            victim.start()
            time.sleep(STARTING if found.server_kills < plan.server_kills else 0)


def _count(
    plan: Plan,
    found: Findings,
    processes: list[Process],
    numbers: list[str],
    log: Path,
    *,
    refused_by_nginx: int,
) -> None:
    lines = logged(log)
    charged = Counter(line["number"] for line in lines if line["status"] == "OK")
    found.requests = len(lines) + refused_by_nginx
    found.answers = charged.total()
    found.refused = sum(line["status"] == "RATE_LIMIT_EXCEEDED" for line in lines) + refused_by_nginx
    found.doubles = charged.total() - len(charged)
    assert set(charged) <= set(numbers), "a number was asked that nobody gave"
    assert found.doubles <= IN_FLIGHT * found.kills, f"more doubles than in flight at the kills: {found}"
    for process in processes:
        with process.output.open(newline="") as file:
            rows = [*csv.DictReader(file)]
        assert len(rows) == plan.rows, f"process {process.index} has {len(rows)} rows"
        for row in rows:
            if row["status"] != "OK":
                found.missing += 1
                continue
            assert row["whatsapp"] == truth(row["phone"], SEED)["whatsapp"], f"crossed: {row}"
    if plan.max_calls is not None:
        assert found.requests <= plan.max_calls, f"the cap was exceeded: {found}"
    else:
        assert len(charged) == plan.rows, f"{plan.rows - len(charged)} numbers were not bought"
        assert not found.missing, f"rows without an answer: {found}"
        assert set(found.exits) == {0}, (found, [process.errors.read_text()[-2000:] for process in processes])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rate", type=int, help="the vendor's limit, calls per second")
    parser.add_argument("--nginx", action="store_true")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--max-calls", type=int)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--server-kills", type=int, default=0)
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--skew", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = vars(parser.parse_args())
    postgres = options.pop("postgres")
    plan = Plan(**options)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ledger = server = None
        if postgres:
            server = stack.enter_context(running_server())
            ledger = asyncio.run(new_ledger(server))
        print(plan)
        print(run(plan, folder, ledger, server))


if __name__ == "__main__":
    main()
