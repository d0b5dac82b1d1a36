"""``python -m benchmarks.rate_picture``: draws ``docs/explanation/rate.svg``, one run that finds a rate limit.

The simulated account admits 100 calls per second, and only 60 after 20 seconds. Takes half a minute.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
from matplotlib.figure import Figure

from accucheck import Client
from benchmarks.plots import ADMITTED, LIMIT, REFUSED
from benchmarks.servers import sandbox

BEFORE, AFTER, CHANGE, SECONDS = 100, 60, 20, 35
PICTURE = Path(__file__).parents[1] / "docs" / "explanation" / "rate.svg"


async def run(url: str) -> None:
    numbers = (str(900_000_000 + 4_987 * n % 99_999_989) for n in range(BEFORE * SECONDS))
    async with Client("sandbox", "sandbox", base_url=url) as client, client.stream(numbers) as outcomes:
        async for _ in outcomes:
            if outcomes.stats.elapsed > SECONDS:
                break


def main() -> None:
    with sandbox(
        "--rate", str(BEFORE), "--burst", "10", "--rate-at", f"{CHANGE}:{AFTER}", "--latency", "50"
    ) as server:
        asyncio.run(run(server.base_url))
        seconds = httpx.get(f"{server.base_url}/stats/history").json()[: SECONDS + 1]
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(seconds))
    admitted = [second["admitted"] for second in seconds]
    axes.fill_between(
        places, admitted, step="post", color=ADMITTED, alpha=0.85, linewidth=0, label="admitted"
    )
    axes.step(places, [second["refused"] for second in seconds], where="post", color=REFUSED, label="refused")
    limit = [BEFORE if place < CHANGE else AFTER for place in places]
    axes.step(places, limit, where="post", color=LIMIT, linestyle=":", label="the account's limit")
    axes.set_xlabel("seconds")
    axes.set_ylabel("calls per second")
    axes.set_ylim(0, BEFORE * 1.4)
    axes.legend(ncols=3, frameon=False, fontsize=9, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
