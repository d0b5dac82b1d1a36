"""A storm of cancelled calls, then a full stream: how fast the client is again, and what leaked.

The server answers after 20 to 80 ms; each wave of checks is cancelled in the middle of that.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections import Counter
from collections.abc import Iterator

import accucheck
from benchmarks.job import API_ID, API_SECRET, FIRST_NUMBER, Job, report, run_async, stay_on_core

WAVES, CALLS = 40, 40
BUCKET = 0.1
"""Seconds: the grain in which the speed is looked at."""
NOT_BINDING = 1_000_000.0


def new_client(job: Job) -> accucheck.Client:
    return accucheck.Client(API_ID, API_SECRET, base_url=job.base_url, rate=NOT_BINDING)


async def speed(client: accucheck.Client, job: Job, numbers: Iterator[str]) -> tuple[list[int], int, int]:
    """Run a stream; return the outcomes per time bucket, how many there were, and how many were right."""
    buckets: Counter[int] = Counter()
    done = right = 0
    started = time.perf_counter()
    async with client.stream(numbers, workers=job.workers) as outcomes:
        async for outcome in outcomes:
            buckets[int((time.perf_counter() - started) / BUCKET)] += 1
            done += 1
            match outcome:
                case accucheck.Checked(item=number, check=check):
                    right += job.is_right(number, check.whatsapp)
    return [buckets[index] for index in range(max(buckets) + 1)], done, right


async def storm(client: accucheck.Client, numbers: Iterator[str]) -> int:
    """Start checks in waves and cancel each wave in the middle; return how many were cancelled."""
    cancelled = 0
    for _ in range(WAVES):
        tasks = [asyncio.ensure_future(client.check(next(numbers))) for _ in range(CALLS)]
        await asyncio.sleep(random.uniform(0.0, 0.03))
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled += sum(isinstance(each, asyncio.CancelledError) for each in ended)
    return cancelled


def open_files() -> int:
    """Count this process's file descriptors, sockets among them."""
    return len(os.listdir("/proc/self/fd"))


async def main(job: Job) -> None:
    """Measure an undisturbed stream, then the storm, then a second stream."""
    numbers = (str(number) for number in range(FIRST_NUMBER, FIRST_NUMBER + 10**7))
    async with new_client(job) as client:
        await client.check(next(numbers))  # the event loop opens files on its first connection
    files_before, tasks_before = open_files(), len(asyncio.all_tasks())
    async with new_client(job) as client:
        before, done_before, right_before = await speed(client, job, _take(numbers, job.checks))
        cancelled = await storm(client, numbers)
        after, done_after, right_after = await speed(client, job, _take(numbers, job.checks))
    await asyncio.sleep(0.1)  # closed transports notify their protocols in later iterations of the loop
    gc.collect()
    # Leave out the first buckets (starting up) and the last (running dry): the rest is full speed.
    steady = sorted(before[2:-2] or before)
    full = steady[len(steady) // 2]
    reached = next((index for index, count in enumerate(after) if count >= 0.9 * full), None)
    report(
        checks=done_before + done_after,
        right=right_before + right_after,
        cancelled=cancelled,
        full_speed=full / BUCKET,
        # The end of the first whole bucket at full speed.
        seconds_to_full_speed=None if reached is None else (reached + 1) * BUCKET,
        leaked_tasks=len(asyncio.all_tasks()) - tasks_before,
        leaked_files=open_files() - files_before,
    )


def _take(numbers: Iterator[str], count: int) -> Iterator[str]:
    return (next(numbers) for _ in range(count))


if __name__ == "__main__":
    job = Job.from_arguments()
    stay_on_core(job)
    run_async(job, main(job))
