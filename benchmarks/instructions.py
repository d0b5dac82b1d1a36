"""Instructions per check, counted by valgrind's cachegrind: the same on a busy machine as on a quiet one.

    python -m benchmarks.instructions                     # every layer below; a minute each
    python -m benchmarks.instructions --tree ../before    # another working tree, to compare with

A short run is subtracted from a long one, so that imports and start-up are not counted.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.servers import require

LAYERS = ("stream_over_stand_in", "stream_over_null_transport", "stream_with_ledger")
SHORT, LONG = 2_000, 6_000
_CLIENT = """
import sys
from benchmarks.clients import accucheck_layers
from benchmarks.job import Job, run_async

async def main():
    for checks in (500, int(sys.argv[2])):  # the first warms up
        job = Job(base_url="http://127.0.0.1:9", checks=checks, workers=200)
        await getattr(accucheck_layers, sys.argv[1])(job)

run_async(Job(base_url="http://127.0.0.1:9"), main())
"""


def instructions(layer: str, checks: int, tree: Path, python: str) -> int:
    """Return the instructions of a whole process that makes ``checks`` checks."""
    command = [require("valgrind"), "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [*command, python, "-c", _CLIENT, layer, str(checks)],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    counted = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode or counted is None:
        raise SystemExit(done.stderr[-2_000:])
    return int(counted[1].replace(",", ""))


def main() -> None:
    """Count, and print a line for each layer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tree", type=Path, default=Path.cwd(), help="a working tree (default: this one)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has its dependencies")
    parser.add_argument("--layer", action="append", choices=LAYERS, help="this one alone; repeatable")
    arguments = parser.parse_args()
    for layer in arguments.layer or LAYERS:
        short, long = (
            instructions(layer, checks, arguments.tree.resolve(), arguments.python)
            for checks in (SHORT, LONG)
        )
        print(f"{layer:30} {(long - short) / (LONG - SHORT):10,.0f} instructions per check", flush=True)


if __name__ == "__main__":
    main()
