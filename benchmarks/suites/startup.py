"""What it costs to begin: the import, and the time to the first result."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import machine
from benchmarks.contestants import Contestant
from benchmarks.harness import ROOT, Options, apart, command, figures
from benchmarks.job import Job
from benchmarks.report import Report, Table, at_most, number
from benchmarks.servers import plain_nginx

PEERS = ("httpx", "aiohttp", "scrapy", "botocore.session")
UNWANTED = ("uvloop", "cyclopts", "pyarrow")
FIRST_RESULT = Contestant(
    "accucheck-first", "accucheck", "benchmarks.clients.accucheck_first_result", "uvloop"
)
LENGTHS = (1_000, 1_000_000)

_IMPORT = """\
import json, sys, time
bare = len(sys.modules)
started = time.perf_counter()
import {module}
seconds = time.perf_counter() - started
print(json.dumps(dict(seconds=seconds, modules=len(sys.modules) - bare,
                      unwanted=[name for name in {unwanted!r} if name in sys.modules])))
"""


def run(options: Options) -> Report:
    """Measure both, and judge accucheck's."""
    report = Report("startup", machine.describe())
    repeats = 3 if options.quick else 15
    report.caveats.append(f"Medians of {repeats} fresh processes, byte code cached.")
    rows = []
    with apart():
        for module in ("accucheck", *PEERS):
            seen = [_import(module) for _ in range(repeats)]
            if not all(seen):
                rows.append((module, "not installed", "–"))
                continue
            seconds = statistics.median(each["seconds"] for each in seen)
            report.figures[f"import {module}"] = {"seconds": seconds, "modules": seen[0]["modules"]}
            rows.append((module, number(seconds * 1000), str(seen[0]["modules"])))
            options.say(f"  import {module}: {seconds * 1000:.0f} ms, {seen[0]['modules']} modules")
            if module == "accucheck":
                report.targets.append(at_most("import accucheck, seconds", seconds, 0.15))
                what = f"of {', '.join(UNWANTED)}: imported by import accucheck"
                report.targets.append(at_most(what, len(seen[0]["unwanted"]), 0))
    report.tables.append(Table("Import", "", ("module", "ms", "modules imported"), rows))
    rows = []
    with apart() as core, plain_nginx() as server:
        for length in LENGTHS:
            job = Job(base_url=server.base_url, checks=length, workers=options.workers, core=core)
            line = command(FIRST_RESULT, job)
            seconds = statistics.median(figures(line)["seconds_to_first_result"] for _ in range(repeats))
            report.figures[f"first result of {length}"] = seconds
            rows.append((f"{length:,} numbers", number(seconds * 1000)))
            options.say(f"  first result of {length:,} numbers: {seconds * 1000:.1f} ms")
    note = "From making the client, with no connection yet."
    report.tables.append(Table("Time to the first result", note, ("list", "ms"), rows))
    return report


def _import(module: str) -> dict[str, Any]:
    """Import a module in a fresh interpreter; return the figures, empty if it is not installed."""
    code = _IMPORT.format(module=module, unwanted=UNWANTED)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    seen: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return seen
