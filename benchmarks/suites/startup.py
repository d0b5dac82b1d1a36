"""Start-up cost: import time, and time to the first result."""

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

MODULES = ("accucheck", "httpx", "aiohttp", "scrapy", "botocore.session")
# If click, rich and Pygments are installed, `import httpx` also imports its command line, which takes longer than
# everything else. Installing accucheck does not install all of them, so the plain-install rows hide them.
HIDDEN = ("click", "rich", "pygments", "uvloop")
UNWANTED = ("uvloop", "cyclopts", "pyarrow")
FIRST_RESULT = Contestant(
    "accucheck-first", "accucheck", "benchmarks.clients.accucheck_first_result", "uvloop"
)
LENGTHS = (1_000, 1_000_000)

_IMPORT = """\
import json, sys, time
sys.modules.update(dict.fromkeys({hidden!r}))
bare = len(sys.modules)
started, cpu = time.perf_counter(), time.process_time()
import {module}
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps(dict(seconds=seconds, cpu_seconds=cpu, modules=len(sys.modules) - bare,
                      unwanted=[name for name in {unwanted!r} if sys.modules.get(name)])))
"""


def run(options: Options) -> Report:
    """Measure both, and evaluate accucheck's targets."""
    report = Report("startup", machine.describe())
    repeats = 3 if options.quick else 15
    report.caveats.append(f"Medians of {repeats} fresh processes, byte code cached.")
    rows = []
    with apart():
        for module, hidden in [(each, ()) for each in MODULES] + [(each, HIDDEN) for each in MODULES[:2]]:
            label = f"{module}, plain install" if hidden else module
            seen = [_import(module, hidden) for _ in range(repeats)]
            if not all(seen):
                rows.append((label, "not installed", "–", "–"))
                continue
            wall, cpu = (statistics.median(each[key] for each in seen) for key in ("seconds", "cpu_seconds"))
            modules = seen[0]["modules"]
            report.figures[f"import {label}"] = {"seconds": wall, "cpu_seconds": cpu, "modules": modules}
            rows.append((label, number(wall * 1000), number(cpu * 1000), str(modules)))
            options.say(f"  import {label}: {wall * 1000:.0f} ms, {modules} modules")
            if module == "accucheck":
                report.targets.append(at_most(f"import {label}, seconds", wall, 0.15))
                what = f"import {label}: imports of {', '.join(UNWANTED)}"
                report.targets.append(at_most(what, len(seen[0]["unwanted"]), 0))
    report.tables.append(Table("Import", "", ("module", "ms", "CPU ms", "modules imported"), rows))
    lengths: list[tuple[str, str]] = []
    with apart() as core, plain_nginx() as server:
        for length in LENGTHS:
            job = Job(base_url=server.base_url, checks=length, workers=options.workers, core=core)
            line = command(FIRST_RESULT, job)
            seconds = statistics.median(figures(line)["seconds_to_first_result"] for _ in range(repeats))
            report.figures[f"first result of {length}"] = seconds
            lengths.append((f"{length:,} numbers", number(seconds * 1000)))
            options.say(f"  first result of {length:,} numbers: {seconds * 1000:.1f} ms")
    note = "From making the client, with no connection yet."
    report.tables.append(Table("Time to the first result", note, ("list", "ms"), lengths))
    return report


def _import(module: str, hidden: tuple[str, ...]) -> dict[str, Any]:
    """Import a module in a fresh interpreter; return the measurements, empty if it is not installed."""
    code = _IMPORT.format(module=module, hidden=hidden, unwanted=UNWANTED)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT, timeout=60
    )
    seen: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return seen
