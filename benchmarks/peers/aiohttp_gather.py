"""Raw aiohttp, semaphore and gather: what a user who wants speed writes. No retry, no limit, no dedupe."""

from __future__ import annotations

import asyncio

import aiohttp

from benchmarks.job import CREDENTIALS, Answers, Job, measure


async def check_all(job: Job) -> Answers:
    workers = asyncio.Semaphore(job.workers)
    connector = aiohttp.TCPConnector(limit=job.workers, ssl=job.ssl_context() or True)
    answers: dict[str, bool] = {}

    async with aiohttp.ClientSession(connector=connector, headers=CREDENTIALS) as session:

        async def check(number: str) -> None:
            async with workers, session.post(job.url, data={"number": number}) as response:
                reply = await response.json()
            answers[number] = reply["result"]["whatsapp"] == "yes"

        await asyncio.gather(*(check(number) for number in job.numbers()))
    return answers


if __name__ == "__main__":
    measure(check_all)
