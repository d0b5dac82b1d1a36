"""Time from creating the client to the first result; the length of the list should not matter."""

from __future__ import annotations

import time

import accucheck
from benchmarks.job import API_ID, API_SECRET, Job, report, run_async, stay_on_core


async def main(job: Job) -> None:
    """Open a stream over the whole job and leave it after its first outcome."""
    started = time.perf_counter()
    first = None
    async with (
        accucheck.Client(API_ID, API_SECRET, base_url=job.base_url, rate=1_000_000.0) as client,
        client.stream(job.numbers(), workers=job.workers) as outcomes,
    ):
        async for outcome in outcomes:
            if isinstance(outcome, accucheck.Checked):
                first = time.perf_counter() - started
            break
    if first is None:
        raise SystemExit("the first outcome was a failure")
    report(seconds_to_first_result=first)


if __name__ == "__main__":
    job = Job.from_arguments()
    stay_on_core(job)
    run_async(job, main(job))
