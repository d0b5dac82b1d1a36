"""How much memory a long list takes: a stream over a null transport, no ledger, outcomes not kept.

The list is generated as it is read (``--option=generated``) or read from a CSV file that is written first
(``--option=csv``, in a separate process, so that writing it is not measured).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import accucheck
from benchmarks.clients.null_transport import NullTransport
from benchmarks.job import API_ID, API_SECRET, FIRST_NUMBER, Job, report, run_async, stay_on_core

SAMPLES = 20
NOT_BINDING = 1_000_000.0
_WRITE = """\
import sys
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "w") as out:
    out.write("id,nombre,telefono,ciudad\\n")
    for n in range(count):
        out.write(f"{n},Cliente {n},{first + n},Lima\\n")
"""


def rss_mb() -> float:
    """Return the memory that this process holds now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def main(job: Job, numbers: Iterator[str]) -> None:
    """Stream the list and sample the memory at regular steps."""
    step = max(1, job.checks // SAMPLES)
    samples = []
    done = right = 0
    async with (
        accucheck.Client(
            API_ID, API_SECRET, base_url=job.base_url, transport=NullTransport(), rate=NOT_BINDING
        ) as client,
        client.stream(numbers, workers=job.workers) as outcomes,
    ):
        async for outcome in outcomes:
            done += 1
            match outcome:
                case accucheck.Checked(item=number, check=check):
                    right += job.is_right(number, check.whatsapp)
            if done % step == 0:
                samples.append((done, rss_mb()))
    report(checks=done, right=right, samples=samples)


def from_csv(job: Job) -> Iterator[str]:
    """Write the list as a CSV file, then yield its numbers through ``accucheck.files``."""
    from accucheck.files import open_source

    with tempfile.TemporaryDirectory(prefix="accucheck-bench-") as folder:
        path = Path(folder) / "leads.csv"
        arguments = [str(path), str(FIRST_NUMBER), str(job.checks)]
        subprocess.run([sys.executable, "-c", _WRITE, *arguments], check=True)
        with open_source(path) as source:
            for row in source.rows():
                yield row.number


if __name__ == "__main__":
    job = Job.from_arguments()
    stay_on_core(job)
    run_async(job, main(job, from_csv(job) if "csv" in job.option else job.numbers()))
