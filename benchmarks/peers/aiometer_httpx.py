"""aiometer over httpx: ``max_at_once`` bounds the calls in flight, ``max_per_second`` is the user's guess.

aiometer does not retry, so a refused number has no answer here. (Retrying would cost this peer more calls.)
"""

from __future__ import annotations

import aiometer
import httpx

from benchmarks.job import CREDENTIALS, Answers, Job, measure


async def check_all(job: Job) -> Answers:
    limits = httpx.Limits(max_connections=job.workers, max_keepalive_connections=job.workers)
    answers: dict[str, bool] = {}

    async with httpx.AsyncClient(
        headers=CREDENTIALS, limits=limits, verify=job.ssl_context() or True, timeout=30
    ) as client:

        async def check(number: str) -> None:
            response = await client.post(job.url, data={"number": number})
            reply = response.json()
            if reply["status"] == "OK":
                answers[number] = reply["result"]["whatsapp"] == "yes"

        await aiometer.run_on_each(
            check, list(job.numbers()), max_at_once=job.workers, max_per_second=job.rate
        )
    return answers


if __name__ == "__main__":
    measure(check_all)
