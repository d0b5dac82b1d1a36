"""Checks per second and CPU per check, compared with peers: immediate replies, a real API's latency, TLS.

200 calls in flight, server and client on different cores, interleaved runs, medians.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import machine, plots
from benchmarks.contestants import ACCUCHECK, LEDGER, SPEED_PEERS, WRK, Contestant
from benchmarks.harness import Options, Row, apart, compare
from benchmarks.job import Job
from benchmarks.report import Report, Table, at_least, at_most, number
from benchmarks.servers import Server, delay_server, plain_nginx

LATENCY = (0.02, 0.08)
"""Seconds: shortest and longest, evenly spread."""
LEAN = ("aiohttp", "aiohttp-uvloop", "pyreqwest-uvloop")


def run(options: Options) -> Report:
    """Measure every section and evaluate its targets."""
    report = Report("speed", machine.describe())
    report.caveats += [
        f"{options.workers} calls in flight; medians of {options.repeats} interleaved runs of about "
        f"{options.seconds:g} s each; CPU is user and system time of the client process, start-up apart.",
        "httpx's own pool is bistable with this many calls in flight: depending on how its callers start, "
        "one run is several times another.",
        "The raw clients do no retry, no limit, no dedupe and no checking of replies; accucheck does all.",
    ]
    lean = [peer for peer in SPEED_PEERS if peer.name in LEAN]
    naive = [peer for peer in SPEED_PEERS if peer.name == "httpx-naive"]
    with apart() as core:
        job = Job(base_url="", workers=options.workers, core=core)
        with plain_nginx() as server:
            everyone = (*ACCUCHECK, *SPEED_PEERS, WRK)
            at_once = _section(report, "at once (nginx)", everyone, job, server, options)
            kept = _section(report, "with the ledger (nginx)", (ACCUCHECK[0], LEDGER), job, server, options)
            for python in options.pythons:
                some = (*ACCUCHECK[:2], *(peer for peer in lean if "aiohttp" in peer.name))
                _section(report, f"other Python: {python}", some, job, server, options, python)
        with delay_server(*LATENCY) as server:
            title = f"replies after {LATENCY[0] * 1000:.0f} to {LATENCY[1] * 1000:.0f} ms"
            slow = _section(report, title, (*ACCUCHECK, *naive, *lean), job, server, options)
        with plain_nginx(tls=True) as server:
            tls = _section(report, "over TLS (nginx)", (*ACCUCHECK[:2], *lean), job, server, options)
    _judge(report, at_once, kept, slow, tls)
    _draw(report, at_once, slow)
    return report


def _section(
    report: Report,
    title: str,
    contestants: Sequence[Contestant],
    job: Job,
    server: Server,
    options: Options,
    python: str | None = None,
) -> dict[str, Row]:
    options.say(title)
    ca_file = str(server.ca_file) if server.ca_file else None
    job = Job(base_url=server.base_url, workers=job.workers, core=job.core, ca_file=ca_file)
    chosen = options.chosen(contestants)
    rows = (
        compare(chosen, job, server, options, python=python)
        if python
        else compare(chosen, job, server, options)
    )
    report.figures[title] = [row.to_dict() for row in rows]
    columns = ("client", "checks/s", "CPU µs per check", "peak RSS MB", "wrong answers")
    report.tables.append(Table(title[:1].upper() + title[1:], "", columns, [_cells(row) for row in rows]))
    return {row.contestant.name: row for row in rows}


def _cells(row: Row) -> tuple[str, ...]:
    if row.skipped:
        return row.contestant.label, f"skipped: {row.skipped}", "–", "–", "–"
    figures = [number(row.median(name)) for name in ("checks_per_second", "cpu_us", "peak_rss_mb")]
    return row.contestant.label, *figures, str(sum(run.wrong for run in row.runs))


def _judge(
    report: Report, at_once: dict[str, Row], kept: dict[str, Row], slow: dict[str, Row], tls: dict[str, Row]
) -> None:
    for place, rows in (("at once", at_once), ("20 to 80 ms", slow), ("TLS", tls)):
        for ours, theirs in (
            ("accucheck-fast-uvloop", "aiohttp-uvloop"),
            ("accucheck-fast-asyncio", "aiohttp"),
        ):
            what = f"{place}: CPU per check, {ours} / {theirs}"
            report.targets.append(at_most(what, _ratio(rows, ours, theirs, "cpu_us"), 0.75, " ×"))
    for place, rows in (("at once", at_once), ("20 to 80 ms", slow)):
        what = f"{place}: checks/s, accucheck-plain / httpx-naive"
        ratio = _ratio(rows, "accucheck-plain", "httpx-naive", "checks_per_second")
        report.targets.append(at_least(what, ratio, 5, " ×"))
    ratio = _ratio(kept, LEDGER.name, "accucheck-fast-uvloop", "checks_per_second")
    report.targets.append(at_least("checks/s with the ledger / without", ratio, 0.85, " ×"))


def _ratio(rows: dict[str, Row], ours: str, theirs: str, figure: str) -> float:
    """Return the ratio of two medians; nan if one of them was not measured."""
    if ours not in rows or theirs not in rows:
        return float("nan")
    return rows[ours].median(figure) / rows[theirs].median(figure)


def _draw(report: Report, at_once: dict[str, Row], slow: dict[str, Row]) -> None:
    for name, place, rows in (
        ("", "replies at once", at_once),
        ("-latency", "replies after 20 to 80 ms", slow),
    ):
        drawn = [
            (row.contestant.label, row.median("cpu_us"), not row.contestant.is_peer)
            for row in rows.values()
            if not row.skipped
        ]
        image = (
            plots.bars(f"CPU per check, {place}", "µs of CPU per check (less is better)", drawn)
            if drawn
            else None
        )
        if image:
            report.plots[name] = image
