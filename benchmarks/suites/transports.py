"""The same stream over accucheck's own transport and over other httpx transports."""

from __future__ import annotations

from benchmarks import machine
from benchmarks.contestants import TRANSPORTS
from benchmarks.harness import Options, apart, compare
from benchmarks.job import Job
from benchmarks.report import Report, Table, number
from benchmarks.servers import delay_server, plain_nginx
from benchmarks.suites.speed import LATENCY


def run(options: Options) -> Report:
    """Measure every transport with immediate replies, and with a real API's latency."""
    report = Report("transports", machine.describe())
    report.caveats.append(
        f"The whole stream, all safety on, {options.workers} calls in flight; medians of {options.repeats} "
        f"interleaved runs of about {options.seconds:g} s each."
    )
    columns = ("transport", "checks/s", "CPU µs per check", "wrong answers")
    low, high = (round(1000 * seconds) for seconds in LATENCY)
    with apart() as core:
        for title, serve in (
            ("At once (nginx)", plain_nginx),
            (f"Replies after {low} to {high} ms", lambda: delay_server(*LATENCY)),
        ):
            options.say(title)
            with serve() as server:  # type: ignore[no-untyped-call]
                job = Job(base_url=server.base_url, workers=options.workers, core=core)
                rows = compare(options.chosen(TRANSPORTS), job, server, options)
            report.figures[title] = [row.to_dict() for row in rows]
            cells: list[tuple[str, ...]] = []
            for row in rows:
                label = row.contestant.label
                if row.skipped:
                    cells.append((label, f"skipped: {row.skipped}", "–", "–"))
                    continue
                figures = [number(row.median(name)) for name in ("checks_per_second", "cpu_us")]
                cells.append((label, *figures, str(sum(run.wrong for run in row.runs))))
            report.tables.append(Table(title, "", columns, cells))
    return report
