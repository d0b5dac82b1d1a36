"""Memory by length of the list: flat for accucheck, and what gather costs its peers."""

from __future__ import annotations

from benchmarks import machine, plots
from benchmarks.contestants import SPEED_PEERS, Contestant
from benchmarks.harness import ClientFailed, Options, apart, command, figures
from benchmarks.job import Job
from benchmarks.report import Report, Table, at_most, number
from benchmarks.servers import Server, plain_nginx

MODULE = "benchmarks.clients.accucheck_memory"
OURS = (
    Contestant("accucheck-generated", "accucheck, generated list", MODULE, "uvloop", ("generated",)),
    Contestant("accucheck-csv", "accucheck, from a CSV file", MODULE, "uvloop", ("csv",)),
)
PEERS = tuple(peer for peer in SPEED_PEERS if peer.name in ("aiohttp-uvloop", "pyreqwest-uvloop"))
MOST_MB, MOST_GROWTH_MB = 120.0, 5.0
LONGEST_FOR_PEERS = 1_000_000
CLIENT_TIMEOUT = 3600.0


def run(options: Options) -> Report:
    """Run lists of increasing length; accucheck without a network, the peers against nginx."""
    report = Report("memory", machine.describe())
    lengths = [10_000, 100_000] if options.quick else [10_000, 100_000, 1_000_000]
    lengths += [10_000_000] if options.full else []
    report.caveats.append(
        "accucheck: a stream over a transport that answers at once, no ledger, outcomes not kept. Peers: "
        "every number gathered, against nginx. Growth: the most memory in the second half of the list less "
        "the most in the first half. Without --full the longest list is 1,000,000 numbers."
    )
    rows: list[tuple[str, ...]] = []
    peaks: dict[str, list[tuple[int, float]]] = {}
    with apart() as core, plain_nginx() as server:
        for client in options.chosen([*OURS, *PEERS]):
            for length in lengths:
                if client.is_peer and length > (
                    LONGEST_FOR_PEERS if options.full else LONGEST_FOR_PEERS // 10
                ):
                    continue
                row = _run(report, options, client, server, length, core, peaks)
                rows.append((client.label, f"{length:,}", *row))
    columns = ("client", "numbers", "peak RSS MB", "growth MB", "wrong answers")
    report.tables.append(Table("Memory", "", columns, rows))
    for client in options.chosen(OURS):
        for length, peak in peaks.get(client.name, [])[-1:]:
            what = f"{client.label}, {length:,} numbers"
            seen = report.figures[f"{client.name} {length}"]
            report.targets.append(at_most(f"{what}: peak RSS", peak, MOST_MB, " MB"))
            report.targets.append(at_most(f"{what}: growth", seen["growth_mb"], MOST_GROWTH_MB, " MB"))
    labels = {client.name: client.label for client in (*OURS, *PEERS)}
    series = [
        (labels[name], [x for x, _ in points], [y for _, y in points]) for name, points in peaks.items()
    ]
    image = (
        plots.curves("Peak memory against the length of the list", "numbers", "MB", series)
        if series
        else None
    )
    if image:
        report.plots[""] = image
    return report


def _run(
    report: Report,
    options: Options,
    client: Contestant,
    server: Server,
    length: int,
    core: int | None,
    peaks: dict[str, list[tuple[int, float]]],
) -> tuple[str, str, str]:
    job = Job(base_url=server.base_url, checks=length, workers=options.workers, core=core)
    try:
        seen = figures(command(client, job), timeout=CLIENT_TIMEOUT)
    except ClientFailed as failure:
        return f"skipped: {failure}", "–", "–"
    samples = [megabytes for _, megabytes in seen.get("samples", [])]
    half = len(samples) // 2
    if half:
        seen["growth_mb"] = max(samples[half:]) - max(samples[:half])
    peaks.setdefault(client.name, []).append((length, seen["peak_rss_mb"]))
    report.figures[f"{client.name} {length}"] = seen
    options.say(f"  {client.label}, {length:,}: {seen['peak_rss_mb']:.0f} MB")
    growth = number(seen["growth_mb"]) if half else "–"
    return number(seen["peak_rss_mb"]), growth, str(seen["checks"] - seen["right"])
