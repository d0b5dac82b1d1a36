"""One account, several processes: how much of its limit they use together, and how often they are refused.

Every process checks numbers with the same ``Client`` against one nginx ``limit_req`` (a token bucket); only their
pacing differs. All results but fairness are read from the server's log. Then what sharing costs: the CPU per check of
one process at a given rate, and the speed of processes without a rate limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from benchmarks import machine, traffic
from benchmarks.contestants import Contestant
from benchmarks.harness import ROOT, ClientFailed, Options, apart, command
from benchmarks.job import Job
from benchmarks.report import Report, Table, Target, at_least, at_most, number, percent
from benchmarks.servers import (
    LimitingServer,
    Server,
    Unavailable,
    _free_port,
    _listens,
    limiting_nginx,
    plain_nginx,
    process,
    require,
)
from benchmarks.traffic import Traffic
from tests.postgres import new_ledger, running_server

LIMIT = 200
WORKERS = 50
SETTLE = 15.0
"""Seconds before the figures count."""
KNOWN = 0.98
BACK_IN = 3.0
"""Seconds after the death of the process that sets the rate by which the limit is used again."""

COSTS_AT = 500
"""Calls per second at which the CPU that sharing takes is measured."""
NOT_BINDING = 100_000.0
FULL_SPEED_WORKERS = 200

Pacer = Literal["shared", "private", "alone", "pyrate", "throttled"]
Change = Literal["", "halves", "killed"]
LABELS: dict[Pacer, str] = {
    "shared": "accucheck, one ledger",
    "private": "accucheck, a ledger and a gate for itself",
    "alone": "accucheck, each for itself",
    "pyrate": "pyrate-limiter on Redis",
    "throttled": "throttled-py (GCRA) on Redis",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A number of processes with one kind of pacing."""

    pacer: Pacer
    processes: int
    known: bool
    change: Change = ""
    """What happens after half of the time."""
    seconds: float = 45.0

    @property
    def title(self) -> str:
        """Its name in tables."""
        limit = "limit known" if self.known else "limit unknown"
        change = {"": "", "halves": ", halves", "killed": ", the process that sets the rate is killed"}[
            self.change
        ]
        return f"{limit}{change}"

    @property
    def name(self) -> str:
        """Its name for ``--case``."""
        return f"{self.change or ('known' if self.known else 'unknown')}-{self.processes}"

    @property
    def change_at(self) -> float:
        """Seconds after the first request at which it happens."""
        return self.seconds - 15.0


def cases(options: Options) -> list[Case]:
    """Return the cases with a rate limit; ``quick`` leaves out 1, 2 and 8 processes."""
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
        "The shared ledger is a SQLite file; the processes have different numbers.",
        f"Costs: one process at {COSTS_AT}/s, with a ledger, sharing the rate through it or keeping a gate of its own. "
        f"Full speed: {FULL_SPEED_WORKERS} calls in flight in each process, a rate that does not bind, nginx answers "
        "at once, nothing is kept to one core; checks in the seconds in which all run.",
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
    if rows:
        report.tables.append(Table(f"{LIMIT}/s", "", columns, rows))
    if not options.only or "shared" in options.only:
        if not options.cases or "cost" in options.cases:
            _cost(report, options)
        if not options.cases or "full-speed" in options.cases:
            _full_speed(report, options)
    return report


def _cost(report: Report, options: Options) -> None:
    """Measure the CPU per check of a process that shares its rate, and of one that does not."""
    pacers: tuple[Pacer, Pacer] = ("shared", "private")
    spent: dict[Pacer, list[float]] = {pacer: [] for pacer in pacers}
    with apart() as core, plain_nginx() as server:
        for repeat in range(options.repeats):
            for pacer in pacers if repeat % 2 else pacers[::-1]:
                with tempfile.TemporaryDirectory(prefix="accucheck-bench-") as folder:
                    job = Job(base_url=server.base_url, workers=WORKERS, rate=COSTS_AT, core=core)
                    words = (f"{pacer}={folder}/account.ledger",)
                    (seen,) = _run_for(options.seconds, [(pacer, job, words)], server)
                spent[pacer].append(seen["cpu_seconds"] / seen["calls"] * 1e6)
    cost = {pacer: statistics.median(values) for pacer, values in spent.items()}
    report.figures["cost"] = spent
    rows = [[LABELS[pacer], number(cost[pacer])] for pacer in pacers]
    report.tables.append(Table(f"One process at {COSTS_AT}/s", "", ("paced by", "CPU µs per check"), rows))
    ratio = cost["shared"] / cost["private"]
    report.targets.append(at_most("CPU per check, shared / private", ratio, 1.15, " ×"))
    options.say(f"  CPU per check: shared {cost['shared']:.0f} µs, private {cost['private']:.0f} µs")


def _full_speed(report: Report, options: Options) -> None:
    """Measure processes on one ledger without a rate limit."""
    rows = []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(plain_nginx())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="accucheck-bench-"))
        database = stack.enter_context(running_server(fsync=True))
        for kind, least in (("SQLite", 8_000), ("PostgreSQL", 5_000)):
            place = f"{folder}/account.ledger" if kind == "SQLite" else asyncio.run(new_ledger(database))
            job = Job(base_url=server.base_url, workers=FULL_SPEED_WORKERS, rate=NOT_BINDING)
            pacer: Pacer = "shared"
            processes = [(pacer, job, (f"shared={place}", f"index={index}")) for index in range(4)]
            seen = _run_for(options.seconds + 4, processes, server)
            span = range(
                max(min(map(int, each["seconds"])) for each in seen) + 1,
                min(max(map(int, each["seconds"])) for each in seen),
            )
            checks = sum(each["seconds"].get(str(second), 0) for each in seen for second in span)
            speed = checks / max(len(span), 1)
            failed = sum(each["failed"] for each in seen)
            cpu = sum(each["cpu_seconds"] for each in seen) / sum(each["calls"] for each in seen) * 1e6
            report.targets.append(at_least(f"{kind}, 4 processes, no limit: checks/s", speed, least))
            rows.append([kind, number(speed), number(cpu), str(failed)])
            options.say(f"  {kind}, 4 processes, no limit: {speed:.0f} checks/s, {cpu:.0f} µs of CPU each")
    columns = ("ledger", "checks/s in all", "CPU µs per check", "failed")
    report.tables.append(Table("No limit, 4 processes", "", columns, rows))


def _run_for(
    seconds: float, processes: Sequence[tuple[Pacer, Job, tuple[str, ...]]], server: Server
) -> list[dict[str, Any]]:
    """Run processes for ``seconds`` after they start; return what each reports."""
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(_process(pacer, job, words, server.folder)) for pacer, job, words in processes
        ]
        time.sleep(seconds)
        return _end(children, server)


def _end(children: list[subprocess.Popen[str]], server: Server) -> list[dict[str, Any]]:
    for child in children:
        child.send_signal(signal.SIGTERM)
    said = [child.communicate(timeout=30)[0] for child in children]
    found = [json.loads(out.splitlines()[-1]) for out in said if out.strip()]
    if len(found) < len(children):
        raise ClientFailed(_said(server) or "a process ended early")
    return found


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
            stack.enter_context(_start(case, index, server, place, core)) for index in range(case.processes)
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
        alive = [child for child in children if child.poll() is None]
        if len(alive) < case.processes - (case.change == "killed"):
            raise ClientFailed(_said(server) or "a process ended early")
        made = [each["calls"] for each in _end(alive, server)]
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
    case: Case, index: int, server: LimitingServer, place: str, core: int | None
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    words = (f"{case.pacer}={place}", f"index={index}", f"leader={place}.leader")
    job = Job(
        base_url=server.base_url, workers=WORKERS, rate=KNOWN * LIMIT if case.known else None, core=core
    )
    return _process(case.pacer, job, words if case.pacer == "shared" else words[:2], server.folder)


def _process(
    pacer: Pacer, job: Job, words: tuple[str, ...], folder: Path
) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    contestant = Contestant(pacer, LABELS[pacer], "benchmarks.clients.account_process", "uvloop", words)
    errors = (folder / "client.err").open("a")
    return process(command(contestant, job), cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)


def _said(server: Server) -> str:
    lines = (server.folder / "client.err").read_text().strip().splitlines()
    return lines[-1][:200] if lines else ""


@contextlib.contextmanager
def _place(case: Case) -> Iterator[str]:
    """Yield what the processes share: a ledger's path, or the address of a Redis started for them."""
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
