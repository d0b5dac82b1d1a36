"""One of several processes that call one account: the same bare calls for all, only what paces them differs.

Words (``--option``): ``shared=LEDGER`` takes permits from the store that all processes share; ``alone`` lets each
process find the limit for itself; ``pyrate=URL`` and ``throttled=URL`` ask the peers' limiters on Redis. Calls go on
until SIGTERM; then one line tells how many were answered. A file ``LEDGER.leader`` names the process that sets the
rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

import accucheck
from accucheck._shared_gate import SharedGate
from accucheck._store import SQLiteStore
from benchmarks.job import CREDENTIALS, FIRST_NUMBER, Job, report, run_async, stay_on_core

Acquire = Callable[[], Awaitable[accucheck.Gate | None]]
KEY = "benchmark"
PEER_BURST = 10
"""Calls that a peer's bucket holds: a twentieth of a second's."""


@asynccontextmanager
async def gate_of(job: Job) -> AsyncIterator[accucheck.Gate]:
    """Give the gate that the job names."""
    kind, _, place = job.option[0].partition("=")
    rate = job.rate or "auto"
    gate: accucheck.Gate
    if kind == "alone":
        yield accucheck.AdaptiveGate(rate)
    elif kind == "shared":
        store = SQLiteStore(place)
        await store.open()
        gate = SharedGate(store, KEY, rate)
        told = asyncio.create_task(_tell_who_leads(gate, Path(f"{place}.leader")))
        try:
            yield gate
        finally:
            told.cancel()
            await gate.aclose()
            await store.aclose()
    else:
        assert job.rate is not None
        yield await (_pyrate if kind == "pyrate" else _throttled)(place, job.rate)


async def _tell_who_leads(gate: SharedGate, file: Path) -> None:
    while True:
        if gate._controller is not None:  # nothing public tells
            file.write_text(str(os.getpid()))
        await asyncio.sleep(0.1)


class PeerGate(accucheck.UnlimitedGate):
    """A peer's limiter, asked before each call. It hears of no refusal."""

    def __init__(self, acquire: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._acquire = acquire

    async def acquire(self, *, urgent: bool = False) -> float:
        await self._acquire()
        return asyncio.get_running_loop().time()

    def refused(self, sent_at: float, retry_after: float | None = None) -> None:
        pass


async def _pyrate(url: str, rate: float) -> accucheck.Gate:
    from pyrate_limiter import Limiter, Rate, RedisBucket
    from redis.asyncio import Redis

    rates = [Rate(round(rate), 1000)]
    limiter = Limiter(await RedisBucket.init(rates, Redis.from_url(url), KEY))
    return PeerGate(lambda: limiter.try_acquire_async(KEY))


async def _throttled(url: str, rate: float) -> accucheck.Gate:
    from throttled.asyncio import RateLimiterType, RedisStore, Throttled, rate_limiter

    throttle = Throttled(
        using=RateLimiterType.GCRA.value,
        quota=rate_limiter.per_sec(round(rate), burst=PEER_BURST),
        store=RedisStore(server=url),
        timeout=60.0,
    )
    return PeerGate(lambda: throttle.limit(KEY))


async def call_until_told(job: Job) -> int:
    """Call with as many tasks as there are workers; return how many calls were answered."""
    answered = 0
    numbers = itertools.count(FIRST_NUMBER)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with gate_of(job) as gate, httpx.AsyncClient(transport=accucheck.FastTransport()) as http:

        async def work() -> None:
            nonlocal answered
            while not stopped.is_set():
                sent_at = gate.try_acquire() if not isinstance(gate, PeerGate) else None
                if sent_at is None:
                    sent_at = await gate.acquire()
                try:
                    reply = await http.post(job.url, data={"number": str(next(numbers))}, headers=CREDENTIALS)
                except httpx.TransportError:
                    continue
                if reply.status_code == 403:
                    gate.refused(sent_at)
                else:
                    gate.admitted(sent_at)
                    answered += 1

        tasks = [asyncio.create_task(work()) for _ in range(job.workers)]
        ended: asyncio.Future[Any] = asyncio.gather(*tasks)
        await asyncio.wait(
            [asyncio.ensure_future(stopped.wait()), ended], return_when=asyncio.FIRST_COMPLETED
        )
        ended.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ended
    return answered


if __name__ == "__main__":
    the_job = Job.from_arguments()
    stay_on_core(the_job)
    report(calls=run_async(the_job, call_until_told(the_job)))
