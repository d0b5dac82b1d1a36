"""What each layer costs alone, in CPU microseconds, with no network.

Calls accucheck's modules directly, and replaces the client's sender with one that answers at once. Everything runs on
one event loop with the job's number of workers.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
from aiolimiter import AsyncLimiter
from tenacity import retry, stop_after_attempt

import accucheck
from accucheck._gate import AdaptiveGate
from accucheck._http import Sender
from accucheck._phone import normalize
from accucheck._wire import Reply, decode_reply, encode_number
from benchmarks.clients.null_transport import NullTransport, reply_for
from benchmarks.job import API_ID, API_SECRET, CREDENTIALS, Job, report, run_async, stay_on_core

REPEATS = 5
NOT_BINDING = 1_000_000.0

Layer = Callable[[Job], Awaitable[None]]


class AnswerAtOnce:
    """Replaces the sender: writes the body and reads the reply, but has no transport at all."""

    async def __call__(self, national: str) -> Reply:
        body = encode_number("form", national)
        await asyncio.sleep(0)
        return decode_reply(national, 200, reply_for(body))

    def bind(self) -> None:
        """Do nothing: there are no connections."""


def new_client(job: Job) -> accucheck.Client:
    return accucheck.Client(
        API_ID, API_SECRET, base_url=job.base_url, transport=NullTransport(), rate=NOT_BINDING
    )


async def drain(client: accucheck.Client, job: Job, ledger: Path | None = None) -> None:
    async with client, client.stream(job.numbers(), workers=job.workers, ledger=ledger) as outcomes:
        right = 0
        async for outcome in outcomes:
            match outcome:
                case accucheck.Checked(item=number, check=check):
                    right += job.is_right(number, check.whatsapp)
    if right != job.checks:
        raise SystemExit(f"{job.checks - right} answers are wrong or missing")


async def by_workers(job: Job, check: Callable[[str], Awaitable[object]]) -> None:
    """Divide the numbers among workers with as little code as possible: the cheapest loop there is."""
    numbers = job.numbers()

    async def work() -> None:
        for number in numbers:
            await check(number)

    async with asyncio.TaskGroup() as workers:
        for _ in range(job.workers):
            workers.create_task(work())


async def nothing(job: Job) -> None:
    """The loop itself, one suspension for each number."""
    await by_workers(job, lambda number: asyncio.sleep(0))


async def stand_in(job: Job) -> None:
    await by_workers(job, AnswerAtOnce())


async def stream_over_stand_in(job: Job) -> None:
    client = new_client(job)
    client._sender = AnswerAtOnce()  # type: ignore[assignment]
    async with client.stream(job.numbers(), workers=job.workers) as outcomes:
        async for _ in outcomes:
            pass


async def stream_over_null_transport(job: Job) -> None:
    await drain(new_client(job), job)


async def stream_with_ledger(job: Job) -> None:
    with tempfile.TemporaryDirectory(prefix="accucheck-bench-") as folder:
        await drain(new_client(job), job, Path(folder) / "answers.ledger")


async def send_over_null_transport(job: Job) -> None:
    sender = Sender(url=job.url, headers=CREDENTIALS, transport=NullTransport(), connections=job.workers)
    async with sender:
        await by_workers(job, sender)


async def null_transport(job: Job) -> None:
    transport, url, headers = NullTransport(), httpx.URL(job.url), httpx.Headers()

    async def exchange(number: str) -> None:
        body = httpx.ByteStream(b"number=" + number.encode())
        await transport.handle_async_request(httpx.Request("POST", url, headers=headers, stream=body))

    await by_workers(job, exchange)


async def normalizing(job: Job) -> None:
    for number in job.numbers():
        normalize(number)


async def writing_and_reading(job: Job) -> None:
    reply = reply_for(encode_number("form", "987654321"))
    for _ in range(job.checks):
        encode_number("form", "987654321")
        decode_reply("987654321", 200, reply)


async def gate_alone(job: Job) -> None:
    gate = AdaptiveGate(NOT_BINDING)
    for _ in range(job.checks):
        gate.admitted(await gate.acquire())


async def gate_among_workers(job: Job) -> None:
    gate = AdaptiveGate(NOT_BINDING)

    async def pass_through(number: str) -> None:
        sent_at = await gate.acquire()
        await asyncio.sleep(0)
        gate.admitted(sent_at)

    await by_workers(job, pass_through)


async def naive_stack(job: Job) -> None:
    """httpx.post, tenacity and aiolimiter over the same null transport, gathered."""
    slots, limiter = asyncio.Semaphore(job.workers), AsyncLimiter(NOT_BINDING, 1)
    async with httpx.AsyncClient(transport=NullTransport(), headers=CREDENTIALS) as client:

        @retry(stop=stop_after_attempt(3))
        async def check(number: str) -> bool:
            async with slots, limiter:
                response = await client.post(job.url, data={"number": number})
            return response.json()["result"]["whatsapp"] == "yes"

        await asyncio.gather(*(check(number) for number in job.numbers()))


LAYERS: dict[str, Layer] = {
    "a loop of workers that do nothing": nothing,
    "the null transport itself, in that loop": null_transport,
    "a send that answers at once, in that loop": stand_in,
    "normalize": normalizing,
    "write the body, read the reply": writing_and_reading,
    "gate, nobody waiting": gate_alone,
    "gate, all workers passing, in that loop": gate_among_workers,
    "sender over the null transport, in that loop": send_over_null_transport,
    "stream over a send that answers at once": stream_over_stand_in,
    "stream over the null transport": stream_over_null_transport,
    "stream over the null transport, with the ledger": stream_with_ledger,
    "naive stack over the null transport": naive_stack,
}


async def cost(layer: Layer, job: Job) -> float:
    """Return the median CPU microseconds for each number."""
    costs = []
    for _ in range(REPEATS):
        before = time.process_time()
        await layer(job)
        costs.append((time.process_time() - before) / job.checks * 1e6)
    return statistics.median(costs)


async def main(job: Job) -> None:
    """Measure every layer."""
    report(layers={name: await cost(layer, job) for name, layer in LAYERS.items()})


if __name__ == "__main__":
    job = Job.from_arguments()
    stay_on_core(job)
    run_async(job, main(job))
