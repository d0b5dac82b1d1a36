"""A distant vendor: every reply takes 200 ms, so calls in flight, not CPU, decide the speed."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.contestants import ACCUCHECK, SPEED_PEERS
from benchmarks.harness import ClientFailed, Options, apart
from benchmarks.harness import run as run_client
from benchmarks.job import Job
from benchmarks.report import Report, Table, at_least, number, percent
from benchmarks.servers import delay_server

ROUND_TRIP = 0.2
"""Seconds."""
PEERS = ("httpx-naive", "aiohttp")


def run(options: Options) -> Report:
    """Measure each client over a fixed number of round trips."""
    report = Report("wan", machine.describe())
    rounds = 15 if options.quick else 75
    ideal = options.workers / ROUND_TRIP
    report.caveats.append(
        f"{options.workers} calls in flight, {ROUND_TRIP * 1000:.0f} ms a reply, {rounds} round trips, the "
        f"first connections and the last replies included; ideal: {ideal:,.0f} checks/s."
    )
    clients = options.chosen([*ACCUCHECK, *(peer for peer in SPEED_PEERS if peer.name in PEERS)])
    rows = []
    with apart() as core, delay_server(ROUND_TRIP, ROUND_TRIP) as server:
        for client in clients:
            # The naive stack would take minutes for the whole list; a tenth of it gives the same result.
            checks = options.workers * (rounds // 10 if client.name == "httpx-naive" else rounds)
            job = Job(base_url=server.base_url, checks=checks, workers=options.workers, core=core)
            try:
                done = run_client(client, job, server)
            except ClientFailed as failure:
                rows.append((client.label, f"skipped: {failure}", "–", "–"))
                continue
            share = done.checks_per_second / ideal
            options.say(f"  {client.label}: {percent(share)} of workers / round trip")
            rows.append((client.label, number(done.checks_per_second), percent(share), str(done.wrong)))
            report.figures[client.name] = {
                "checks_per_second": done.checks_per_second,
                "share": share,
                "wrong": done.wrong,
            }
            if not client.is_peer:
                what = f"{client.label}: checks/s against workers / round trip"
                report.targets.append(at_least(what, share * 100, 95, " %"))
    columns = ("client", "checks/s", "of workers / round trip", "wrong answers")
    report.tables.append(Table("Far away", "", columns, rows))
    return report
