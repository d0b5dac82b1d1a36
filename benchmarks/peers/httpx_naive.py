"""The naive stack: httpx + asyncio.Semaphore + tenacity + aiolimiter, gathered."""

from __future__ import annotations

import asyncio

import httpx
from aiolimiter import AsyncLimiter
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from benchmarks.job import CREDENTIALS, Answers, Job, measure

NOT_BINDING = 1_000_000.0


class TryAgain(Exception):
    """The call was rate-limited, or the vendor failed."""


async def check_all(job: Job) -> Answers:
    workers = asyncio.Semaphore(job.workers)
    limiter = AsyncLimiter(job.rate or NOT_BINDING, 1)
    limits = httpx.Limits(max_connections=job.workers, max_keepalive_connections=job.workers)
    answers: dict[str, bool] = {}

    async with httpx.AsyncClient(
        headers=CREDENTIALS, limits=limits, verify=job.ssl_context() or True, timeout=30
    ) as client:

        @retry(
            retry=retry_if_exception_type((TryAgain, httpx.TransportError)),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            stop=stop_after_attempt(20),
        )
        async def check(number: str) -> bool:
            async with workers, limiter:
                response = await client.post(job.url, data={"number": number})
            reply = response.json()
            if reply["status"] in ("RATE_LIMIT_EXCEEDED", "PENDING", "INTERNAL_ERROR"):
                raise TryAgain(reply["status"])
            return reply["result"]["whatsapp"] == "yes"

        async def record(number: str) -> None:
            answers[number] = await check(number)

        await asyncio.gather(*(record(number) for number in job.numbers()))
    return answers


if __name__ == "__main__":
    measure(check_all)
