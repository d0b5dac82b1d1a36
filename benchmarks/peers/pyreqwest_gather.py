"""Raw pyreqwest (Rust's reqwest), semaphore and gather. No retry, no limit, no dedupe."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pyreqwest.client import ClientBuilder

from benchmarks.job import CREDENTIALS, Answers, Job, measure


async def check_all(job: Job) -> Answers:
    workers = asyncio.Semaphore(job.workers)
    builder = ClientBuilder().default_headers(CREDENTIALS).pool_max_idle_per_host(job.workers)
    if job.ca_file:
        builder = builder.add_root_certificate_pem(Path(job.ca_file).read_bytes())
    answers: dict[str, bool] = {}

    async with builder.build() as client:

        async def check(number: str) -> None:
            async with workers:
                response = await client.post(job.url).form({"number": number}).build().send()
                reply = await response.json()
            answers[number] = reply["result"]["whatsapp"] == "yes"

        await asyncio.gather(*(check(number) for number in job.numbers()))
    return answers


if __name__ == "__main__":
    measure(check_all)
