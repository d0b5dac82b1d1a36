"""``python -m benchmarks.sandbox_stream``: checks/s and CPU per check of ``stream`` against the sandbox.

The sandbox, a separate process, is the slower of the two: use this for CPU per check, and the ``speed`` suite for
the highest checks/s. Every answer is compared with the sandbox's truth.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics

from accucheck import Checked, Client
from accucheck.sandbox import truth
from benchmarks.servers import sandbox


async def once(url: str, numbers: list[str], workers: int) -> tuple[float, float, int]:
    """Return checks/s, CPU µs per check, and how many answers were wrong or missing."""
    before, wrong = os.times(), 0
    async with Client("sandbox", "sandbox", base_url=url, rate=1e6) as client:
        async with client.stream(numbers, workers=workers) as outcomes:
            kept = [outcome async for outcome in outcomes]
        elapsed = outcomes.stats.elapsed
    after = os.times()
    for outcome in kept:
        right = isinstance(outcome, Checked) and outcome.check.whatsapp == (
            truth(outcome.item)["whatsapp"] == "yes"
        )
        wrong += not right
    cpu = (after.user + after.system - before.user - before.system) / len(numbers) * 1e6
    return len(numbers) / elapsed, cpu, wrong + len(numbers) - len(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--numbers", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        run, loop = asyncio.run, "asyncio"
    else:
        run, loop = uvloop.run, "uvloop"
    numbers = [str(900_000_000 + 4_987 * n % 99_999_989) for n in range(options.numbers)]
    with sandbox() as server:
        runs = [run(once(server.base_url, numbers, options.workers)) for _ in range(options.repeats)]
    rates, cpus, wrong = zip(*runs, strict=True)
    print(
        f"{options.numbers:,} numbers, {options.workers} workers, {loop}, medians of {options.repeats} runs: "
        f"{statistics.median(rates):,.0f} checks/s, {statistics.median(cpus):.0f} µs of CPU per check, "
        f"{sum(wrong)} wrong or missing"
    )


if __name__ == "__main__":
    main()
