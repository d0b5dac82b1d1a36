"""40 waves of 40 cancelled calls, then a full stream: the speed recovers, and nothing leaks."""

from __future__ import annotations

import time

from benchmarks import machine
from benchmarks.contestants import Contestant
from benchmarks.harness import ClientFailed, Options, apart, command, figures
from benchmarks.job import Job
from benchmarks.report import Report, Table, at_most, number
from benchmarks.servers import delay_server
from benchmarks.suites.speed import LATENCY

CLIENTS = (
    Contestant(
        "accucheck-storm-uvloop", "accucheck (uvloop)", "benchmarks.clients.accucheck_storm", "uvloop"
    ),
    Contestant("accucheck-storm-asyncio", "accucheck (asyncio)", "benchmarks.clients.accucheck_storm"),
)
CLIENT_TIMEOUT = 60.0
"""Seconds: a client that hangs after the storm is a finding, not a reason to wait."""


def run(options: Options) -> Report:
    """Run the storm on each event loop."""
    report = Report("storm", machine.describe())
    rows = []
    with apart() as core:
        for client in options.chosen(CLIENTS):
            with delay_server(*LATENCY) as server:
                checks = 2_000 if options.quick else 12_000
                job = Job(base_url=server.base_url, checks=checks, workers=options.workers, core=core)
                try:
                    seen = figures(command(client, job), timeout=CLIENT_TIMEOUT)
                except ClientFailed as failure:
                    rows.append((client.label, f"failed: {failure}", *["–"] * 5))
                    continue
                time.sleep(0.2)  # the server notices the last closed connections
                # The query itself uses one connection.
                seen["open_connections"] = server.stats()["open_connections"] - 1
            report.figures[client.name] = seen
            options.say(f"  {client.label}: {seen}")
            late = seen["seconds_to_full_speed"]
            late = float("nan") if late is None else late
            leaked = seen["leaked_tasks"] + seen["leaked_files"] + seen["open_connections"]
            rows.append(
                (
                    client.label,
                    number(seen["full_speed"]),
                    str(seen["cancelled"]),
                    number(late),
                    str(seen["leaked_tasks"]),
                    str(seen["leaked_files"]),
                    str(seen["checks"] - seen["right"]),
                )
            )
            report.targets += [
                at_most(f"{client.label}: seconds to full speed", late, 1.0),
                at_most(f"{client.label}: leaked tasks, file descriptors and connections", leaked, 0),
                at_most(f"{client.label}: wrong answers", seen["checks"] - seen["right"], 0),
            ]
    columns = (
        "client",
        "full speed, checks/s",
        "calls cancelled",
        "seconds to full speed",
        "leaked tasks",
        "leaked files",
        "wrong answers",
    )
    report.tables.append(Table("Cancel storm", "", columns, rows))
    return report
