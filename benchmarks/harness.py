"""Runs clients in separate processes, interleaved, and takes the medians.

The clients of a comparison take turns (a, b, c, a, b, c), so that a machine that slows down slows all of
them. How many checks a client says it made is compared with the server's count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.contestants import Contestant
from benchmarks.job import Job
from benchmarks.servers import Server, process

ROOT = Path(__file__).resolve().parent.parent
CLIENT_TIMEOUT = 300.0
"""Seconds after which a client that has not ended is ended."""
CALIBRATION_SECONDS = 0.5
FEWEST_CHECKS, MOST_CHECKS = 500, 400_000


class ClientFailed(Exception):
    """A client could not run; the message is the last line it printed."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The command-line options that every suite takes."""

    seconds: float
    """How long one measured run is meant to take."""
    repeats: int
    workers: int
    quick: bool
    full: bool
    parallel: int
    limits: tuple[int, ...]
    only: tuple[str, ...]
    """Contestants to run, by name; empty for all."""
    cases: tuple[str, ...]
    """Cases of the rate suite to run; empty for all."""
    pythons: tuple[str, ...]
    """Further interpreters to measure accucheck with."""
    say: Callable[[str], None]
    """Tells a person how far it has come."""

    def chosen(self, contestants: Sequence[Contestant]) -> list[Contestant]:
        """Return the contestants that ``--only`` leaves."""
        return [each for each in contestants if not self.only or each.name in self.only]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one client."""

    checks: int
    """Checks that the client claims and the server has counted too."""
    wrong: int
    """Answers that were not the server's answer for that number."""
    calls: int
    """Requests that the server counted."""
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float
    python: str

    @property
    def checks_per_second(self) -> float:
        """Checks in each second of the run."""
        return self.checks / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU (user and system) of the client process for each check."""
        return self.cpu_seconds / max(self.checks, 1) * 1e6


@dataclasses.dataclass
class Row:
    """One contestant's runs in a comparison, or why there are none."""

    contestant: Contestant
    runs: list[Run] = dataclasses.field(default_factory=list)
    skipped: str = ""

    def median(self, figure: str) -> float:
        """Return the median of a measurement over the runs; nan if one of them failed."""
        values = [] if self.skipped else [getattr(run, figure) for run in self.runs]
        return statistics.median(values) if values else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: the medians, and every run."""
        if self.skipped:
            return {"name": self.contestant.name, "label": self.contestant.label, "skipped": self.skipped}
        return {
            "name": self.contestant.name,
            "label": self.contestant.label,
            "checks_per_second": self.median("checks_per_second"),
            "cpu_us_per_check": self.median("cpu_us"),
            "peak_rss_mb": self.median("peak_rss_mb"),
            "wrong": sum(run.wrong for run in self.runs),
            "python": self.runs[0].python,
            "runs": [dataclasses.asdict(run) for run in self.runs],
        }


@contextlib.contextmanager
def apart() -> Iterator[int | None]:
    """Pin this process and the servers it starts to one core; return the core left for the client."""
    server_core, client_core = machine.cores()
    if server_core is None:
        yield None
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {server_core})
    try:
        yield client_core
    finally:
        os.sched_setaffinity(0, before)


def command(contestant: Contestant, job: Job, python: str = sys.executable) -> list[str]:
    """Return the command line that runs a contestant over a job."""
    job = dataclasses.replace(job, loop=contestant.loop, option=(*contestant.options, *job.option))
    return [python, "-m", contestant.module, *job.arguments()]


def figures(
    line: Sequence[str], *, timeout: float = CLIENT_TIMEOUT, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a client to its end and return the measurements it printed. Raises ClientFailed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with process(line, cwd=ROOT, env={**os.environ, **(environment or {})}, **pipes) as child:
        try:
            out, errors = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as late:
            raise ClientFailed(f"did not end within {timeout:g} s") from late
    # A client that reports its results and then crashes on exit has still done its work.
    for text in out.splitlines():
        if text.startswith("{"):
            reported: dict[str, Any] = json.loads(text)
            return reported
    said = (errors.strip() or "no figures").splitlines()[-1]
    if "No module named" in said:
        said += " (pip install -r benchmarks/requirements.txt)"
    raise ClientFailed(said[:200])


def run(contestant: Contestant, job: Job, server: Server, *, python: str = sys.executable) -> Run:
    """Run one client over one job against one server. Raises ClientFailed."""
    before = server.requests()
    reported = figures(command(contestant, job, python))
    calls = server.requests() - before
    return Run(
        checks=min(reported["checks"], calls),
        wrong=reported["checks"] - reported["right"],
        calls=calls,
        seconds=reported["seconds"],
        cpu_seconds=reported["cpu_user"] + reported["cpu_system"],
        peak_rss_mb=reported["peak_rss_mb"],
        python=reported["python"],
    )


def calibrate(
    contestant: Contestant, job: Job, server: Server, seconds: float, *, python: str = sys.executable
) -> int:
    """Return how many checks this client makes in about ``seconds``. Raises ClientFailed."""
    checks = FEWEST_CHECKS
    while True:
        first = run(contestant, dataclasses.replace(job, checks=checks), server, python=python)
        if first.seconds >= CALIBRATION_SECONDS or checks >= MOST_CHECKS:
            return int(min(max(first.checks_per_second * seconds, FEWEST_CHECKS), MOST_CHECKS))
        checks *= 4


def compare(
    contestants: Sequence[Contestant],
    job: Job,
    server: Server,
    options: Options,
    *,
    python: str = sys.executable,
) -> list[Row]:
    """Run the contestants in turn, ``options.repeats`` times, each for about ``options.seconds``."""
    rows = [Row(contestant) for contestant in contestants]
    checks: dict[str, int] = {}
    for repeat in range(options.repeats):
        for row in rows:
            name = row.contestant.name
            if row.skipped:
                continue
            try:
                if repeat == 0:
                    checks[name] = calibrate(row.contestant, job, server, options.seconds, python=python)
                sized = dataclasses.replace(job, checks=checks[name])
                row.runs.append(run(row.contestant, sized, server, python=python))
            except ClientFailed as failure:
                row.skipped = str(failure)
                options.say(f"  {row.contestant.label}: skipped, {failure}")
                continue
            last = row.runs[-1]
            options.say(
                f"  {row.contestant.label}: {last.checks_per_second:,.0f} checks/s, {last.cpu_us:,.0f} µs"
                + (f", {last.wrong} WRONG ANSWERS" if last.wrong else "")
            )
    return rows
