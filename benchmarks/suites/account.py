"""One account, several processes: how much of its limit they use together, and how often they are refused.

Every process makes the same bare calls against one nginx ``limit_req`` (a token bucket); only what paces them
differs. Every figure but the fairness is read from the server's log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from benchmarks import machine, traffic
from benchmarks.contestants import Contestant
from benchmarks.harness import ROOT, ClientFailed, Options, apart, command
from benchmarks.job import Job
from benchmarks.report import Report, Table, Target, at_least, at_most, number, percent
from benchmarks.servers import (
    LimitingServer,
    Unavailable,
    _free_port,
    _listens,
    limiting_nginx,
    process,
    require,
)
from benchmarks.traffic import Traffic

LIMIT = 200
WORKERS = 50
SETTLE = 15.0
"""Seconds before the figures count."""
KNOWN = 0.98
BACK_IN = 3.0
"""Seconds after the death of the process that sets the rate by which the limit is used again."""

Pacer = Literal["shared", "alone", "pyrate", "throttled"]
Change = Literal["", "halves", "killed"]
LABELS: dict[Pacer, str] = {
    "shared": "accucheck, one shared gate",
    "alone": "accucheck, each for itself",
    "pyrate": "pyrate-limiter on Redis",
    "throttled": "throttled-py (GCRA) on Redis",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """So many processes with one kind of pacer."""

    pacer: Pacer
    processes: int
    known: bool
    change: Change = ""
    """What happens after half of the time."""
    seconds: float = 45.0

    @property
    def title(self) -> str:
        """What a table calls it."""
        limit = "limit known" if self.known else "limit unknown"
        change = {"": "", "halves": ", halves", "killed": ", the process that sets the rate is killed"}[
            self.change
        ]
        return f"{limit}{change}"

    @property
    def name(self) -> str:
        """What ``--case`` calls it."""
        return f"{self.change or ('known' if self.known else 'unknown')}-{self.processes}"

    @property
    def change_at(self) -> float:
        """Seconds after the first request at which it happens."""
        return self.seconds - 15.0


def cases(options: Options) -> list[Case]:
    """Return the cases; ``quick`` leaves out 1, 2 and 8 processes."""
    counts = (4,) if options.quick else (1, 2, 4, 8)
    return [
        *(Case("shared", processes, known=True) for processes in counts),
        *(Case("shared", processes, known=False) for processes in counts),
        Case("shared", 4, known=False, change="halves"),
        Case("shared", 4, known=False, change="killed"),
        Case("alone", 4, known=False),
        Case("alone", 4, known=True),
        Case("pyrate", 4, known=True),
        Case("throttled", 4, known=True),
    ]


def run(options: Options) -> Report:
    """Run every case once."""
    report = Report("account", machine.describe())
    report.caveats += [
        f"nginx limit_req at {LIMIT}/s, burst of a tenth of a second's calls, nodelay; replies after 20 to 80 ms.",
        f"{WORKERS} calls in flight at most in each process. A known limit is given as {KNOWN} of it, to each process: "
        "one that is alone with it has no way to know of the others.",
        f"Used and refused from {SETTLE:g} s on; after a halving from 5 s after it; after a kill from {BACK_IN:g} s "
        "after it. Fair: the calls of the process that made fewest, as a share of the mean.",
        "The shared gate's store is one SQLite ledger. Calls are made without accucheck's engine.",
    ]
    chosen = [
        case
        for case in cases(options)
        if (not options.cases or case.name in options.cases)
        and (not options.only or case.pacer in options.only)
    ]
    rows = []
    figures: list[dict[str, Any]] = []
    with apart() as core:
        for case in chosen:
            try:
                seen = measure(case, core)
            except (ClientFailed, Unavailable) as failure:
                options.say(f"  {case.title}, {case.processes}, {LABELS[case.pacer]}: skipped, {failure}")
                rows.append(
                    [LABELS[case.pacer], case.title, str(case.processes), f"skipped: {failure}", "", "", ""]
                )
                continue
            figures.append(seen)
            rows.append(
                [
                    LABELS[case.pacer],
                    case.title,
                    str(case.processes),
                    percent(seen["used"]),
                    percent(seen["refused"]),
                    number(seen["to_90"]),
                    percent(seen["fair"]),
                ]
            )
            options.say(
                f"  {case.title}, {case.processes} processes, {LABELS[case.pacer]}: used {percent(seen['used'])}, "
                f"refused {percent(seen['refused'])}, fair {percent(seen['fair'])}"
            )
            if case.pacer == "shared":
                report.targets += _judge(case, seen)
    report.figures["account"] = figures
    columns = ("paced by", "case", "processes", "used", "refused", "to 90 %, s", "fair")
    report.tables.append(Table(f"{LIMIT}/s", "", columns, rows))
    return report


def measure(case: Case, core: int | None) -> dict[str, Any]:
    """Run the processes of a case and read the server's log."""
    half = LIMIT // 2
    with (
        limiting_nginx(rate=LIMIT, burst=LIMIT // 10, then_rate=half) as server,
        _place(case) as place,
        contextlib.ExitStack() as stack,
    ):
        began = time.time()
        children = [
            stack.enter_context(_start(case, server, place, core, began)) for _ in range(case.processes)
        ]
        while not server.log.exists() or not server.log.stat().st_size:
            if time.time() > began + 30 or any(child.poll() is not None for child in children):
                raise ClientFailed(_said(server) or "sent nothing")
            time.sleep(0.01)
        first = traffic.from_nginx(server.log).began
        changed_at = case.seconds
        if case.change:
            time.sleep(max(0.0, first + case.change_at - time.time()))
            if case.change == "halves":
                server.change_limit()
            else:
                leader = int(Path(f"{place}.leader").read_text())
                os.kill(leader, signal.SIGKILL)
            changed_at = time.time() - first
        time.sleep(max(0.0, first + case.seconds - time.time()))
        made = []
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            out, _ = child.communicate(timeout=20)
            if out.strip():
                made.append(json.loads(out.splitlines()[-1])["calls"])
        if len(made) < case.processes - (case.change == "killed"):
            raise ClientFailed(_said(server) or "a process ended early")
        return _figures(case, traffic.from_nginx(server.log), changed_at, made)


def _figures(case: Case, seen: Traffic, changed_at: float, made: list[int]) -> dict[str, Any]:
    limit, start = float(LIMIT), SETTLE
    if case.change == "halves":
        limit, start = LIMIT / 2, changed_at + 5
    elif case.change == "killed":
        start = changed_at + BACK_IN
    span = (start, case.seconds)
    admitted, refused = seen.per_second(int(case.seconds))
    return {
        "pacer": case.pacer,
        "case": case.name,
        "processes": case.processes,
        "used": seen.utilization(limit, span),
        "refused": seen.refused_share(span),
        "refused_after_change": seen.refused_share((changed_at, case.seconds)) if case.change else None,
        "to_90": seen.seconds_to_reach(LIMIT, (0.0, changed_at)),
        "fair": min(made) / (sum(made) / len(made)) if sum(made) else float("nan"),
        "admitted_per_second": admitted,
        "refused_per_second": refused,
    }


def _judge(case: Case, seen: dict[str, Any]) -> list[Target]:
    what = f"{case.title}, {case.processes} processes"
    used, refused = seen["used"] * 100, seen["refused"] * 100
    found = [at_least(f"{what}: fair", seen["fair"] * 100, 80, " %")] if case.change != "killed" else []
    match case.change:
        case "halves":
            return [*found, at_least(f"{what}: used from 5 s after it on", used, 90, " %")]
        case "killed":
            return [at_least(f"{what}: used from {BACK_IN:g} s after it on", used, 90, " %")]
    least, most = (97, 0.2) if case.known else (95, 1)
    return [
        *found,
        at_least(f"{what}: used", used, least, " %"),
        at_most(f"{what}: refused", refused, most, " %"),
    ]


def _start(
    case: Case, server: LimitingServer, place: str, core: int | None, began: float
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    word = case.pacer if case.pacer == "alone" else f"{case.pacer}={place}"
    contestant = Contestant(
        case.pacer, LABELS[case.pacer], "benchmarks.clients.account_process", "uvloop", (word,)
    )
    job = Job(
        base_url=server.base_url, workers=WORKERS, rate=KNOWN * LIMIT if case.known else None, core=core
    )
    errors = (server.folder / "client.err").open("a")
    return process(command(contestant, job), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)


def _said(server: LimitingServer) -> str:
    lines = (server.folder / "client.err").read_text().strip().splitlines()
    return lines[-1][:200] if lines else ""


@contextlib.contextmanager
def _place(case: Case) -> Iterator[str]:
    """Give what the processes share: a ledger's path, or the address of a Redis of their own."""
    with tempfile.TemporaryDirectory(prefix="accucheck-bench-") as folder:
        if case.pacer in ("shared", "alone"):
            yield str(Path(folder) / "account.ledger")
            return
        port = _free_port()
        line = [
            require("redis-server"),
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ]
        with process(line, stdout=subprocess.DEVNULL):
            deadline = time.monotonic() + 10
            while not _listens(port):
                if time.monotonic() > deadline:
                    raise Unavailable("redis-server did not start")
                time.sleep(0.02)
            yield f"redis://127.0.0.1:{port}/0"
