"""Under a minute, for CI: does every client still run, and is every answer right? Nothing is timed."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.contestants import ACCUCHECK, LEDGER, SPEED_PEERS
from benchmarks.harness import ClientFailed, Options, apart, command, figures
from benchmarks.harness import run as run_client
from benchmarks.job import Job
from benchmarks.report import Report, Table, Target
from benchmarks.servers import Unavailable, delay_server, plain_nginx
from benchmarks.suites import storm

CHECKS = 200


def run(options: Options) -> Report:
    """Run each client once over a short list, and accucheck's storm."""
    report = Report("smoke", machine.describe())
    rows = []
    with apart() as core, delay_server(0.0, 0.01) as server:
        for client in options.chosen([*ACCUCHECK, LEDGER, *SPEED_PEERS]):
            job = Job(base_url=server.base_url, checks=CHECKS, workers=20, core=core)
            try:
                done = run_client(client, job, server)
            except ClientFailed as failure:
                rows.append((client.label, f"skipped: {failure}"))
                # A peer may not be installed; accucheck must be.
                if not client.is_peer:
                    report.targets.append(Target(client.label, "it runs", str(failure), met=False))
                continue
            right = done.checks - done.wrong
            report.figures[client.name] = {"checks": done.checks, "right": right}
            report.targets.append(
                Target(client.label, f"{CHECKS} right answers", str(right), met=right == CHECKS)
            )
            rows.append((client.label, f"{right} right answers"))
        _storm(report, options, server.base_url, core)
    report.tables.append(Table("Smoke", "", ("client", "result"), rows))
    report.caveats.append(_with_nginx())
    return report


def _storm(report: Report, options: Options, base_url: str, core: int | None) -> None:
    for client in options.chosen(storm.CLIENTS):
        job = Job(base_url=base_url, checks=500, workers=20, core=core)
        try:
            seen = figures(command(client, job))
        except ClientFailed as failure:
            report.targets.append(Target(f"{client.label}: storm", "it runs", str(failure), met=False))
            continue
        report.figures[client.name] = seen
        wanted = 2 * job.checks
        report.targets.append(
            Target(
                f"{client.label}: storm",
                f"{wanted} right answers",
                str(seen["right"]),
                seen["right"] == wanted,
            )
        )


def _with_nginx() -> str:
    """Start nginx as the other suites do, to find out if it rejects their configuration."""
    try:
        with plain_nginx() as server:
            return f"nginx runs and has counted {server.requests()} requests."
    except Unavailable as missing:
        return f"Without nginx: {missing}"
