"""What each layer costs on its own: everything in a check but the network."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.contestants import Contestant
from benchmarks.harness import ClientFailed, Options, apart, command, figures
from benchmarks.job import Job
from benchmarks.report import Report, Table, Target, at_most, number

MODULE = "benchmarks.clients.accucheck_layers"
LOOPS = (
    Contestant("accucheck-layers-uvloop", "uvloop", MODULE, "uvloop"),
    Contestant("accucheck-layers-asyncio", "asyncio", MODULE, "asyncio"),
)
NO_SERVER = "http://127.0.0.1:9"
"""Nothing is sent there."""


def run(options: Options) -> Report:
    """Measure the layers on each event loop."""
    report = Report("layers", machine.describe())
    checks = 5_000 if options.quick else 20_000
    report.caveats.append(
        f"CPU µs for each number, medians of 5 runs over {checks:,} numbers, {options.workers} workers, one "
        "process. A stream includes its send: what stands in for the network is in the first rows."
    )
    seen: dict[str, dict[str, float]] = {}
    with apart() as core:
        for loop in options.chosen(LOOPS):
            job = Job(base_url=NO_SERVER, checks=checks, workers=options.workers, core=core)
            try:
                seen[loop.label] = figures(command(loop, job))["layers"]
            except ClientFailed as failure:
                report.targets.append(Target(f"layers on {loop.label}", "it runs", str(failure), met=False))
    for label, costs in seen.items():
        for layer in ("stream over a send that answers at once", "stream over the null transport"):
            report.targets.append(at_most(f"{layer}, {label}", costs[layer], 30, " µs"))
    report.figures = dict(seen)
    layers = next(iter(seen.values()), {})
    rows = [(layer, *(number(costs[layer]) for costs in seen.values())) for layer in layers]
    report.tables.append(Table("Layers", "", ("layer", *(f"{label}, µs" for label in seen)), rows))
    return report
