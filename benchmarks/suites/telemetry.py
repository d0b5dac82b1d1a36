"""What telemetry costs: off, with OpenTelemetry's API alone, and with its SDK."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.contestants import Contestant
from benchmarks.harness import Options, apart, command, figures
from benchmarks.job import Job
from benchmarks.report import Report, Table, at_most, number

MODULE = "benchmarks.clients.accucheck_telemetry"
LOOPS = (
    Contestant("accucheck-telemetry-uvloop", "uvloop", MODULE, "uvloop"),
    Contestant("accucheck-telemetry-asyncio", "asyncio", MODULE, "asyncio"),
)
NO_SERVER = "http://127.0.0.1:9"
"""Nothing is sent there."""
BOUNDS = {"off, after uninstrument()": 1.0, "on, API alone": 4.0, "on, SDK": 8.0}


def run(options: Options) -> Report:
    """Measure the cases on each event loop."""
    report = Report("telemetry", machine.describe())
    checks = 5_000 if options.quick else 20_000
    report.caveats.append(
        f"CPU µs a check, medians of interleaved runs over {checks:,} numbers, {options.workers} workers, one process, "
        "over a transport that answers at once. In brackets what it is more than off, in the same turn."
    )
    seen: dict[str, dict[str, list[float]]] = {}
    with apart() as core:
        for loop in options.chosen(LOOPS):
            job = Job(base_url=NO_SERVER, checks=checks, workers=options.workers, core=core)
            found = figures(command(loop, job))
            seen[loop.label] = found["telemetry"]
            report.caveats.append(
                f"{loop.label}: Histogram.record() of OpenTelemetry's SDK {found['sdk']} alone takes "
                f"{number(found['record'])} µs with the four attributes of the conventions."
            )
    for label, costs in seen.items():
        for case, bound in BOUNDS.items():
            report.targets.append(at_most(f"{case}, {label}: more than off", costs[case][1], bound, " µs"))
    report.figures = dict(seen)
    rows = [
        (case, *(f"{number(costs[case][0])} ({costs[case][1]:+.1f})" for costs in seen.values()))
        for case in next(iter(seen.values()), {})
    ]
    report.tables.append(Table("Telemetry", "", ("case", *(f"{label}, µs" for label in seen)), rows))
    return report
