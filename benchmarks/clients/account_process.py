"""One of several processes that call one account: the same ``Client`` and stream for all, only what paces them differs.

Values of ``--option``: ``shared=LEDGER`` shares a ledger and with it the rate; ``private=LEDGER`` has a ledger but its
own gate; ``alone`` has no ledger, so each process finds the limit by itself; ``pyrate=URL`` and ``throttled=URL`` ask
the peers' limiters on Redis. ``index=N`` tells the processes apart. Numbers are checked until SIGTERM; then one line
reports how many, in which seconds, and the CPU time used. ``leader=FILE`` is a file that names the process that sets
the rate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import accucheck
from accucheck._shared_gate import SharedGate
from benchmarks.job import API_ID, API_SECRET, FIRST_NUMBER, Job, report, run_async, stay_on_core

KEY = "benchmark"
PEER_BURST = 10
"""Calls that a peer's bucket holds: a twentieth of a second's."""
MOST_DRAIN = 5.0
"""Seconds after SIGTERM in which calls under way may end."""
APART = 10_000_000
"""Numbers that are kept for each process: none has another's."""


async def client_of(job: Job, kind: str, place: str) -> accucheck.Client:
    """Return the client that the job names."""
    rate: accucheck.Rate = job.rate or "auto"
    gate: accucheck.Gate | None = None
    if kind == "private":
        gate = accucheck.AdaptiveGate(rate)
    elif kind in ("pyrate", "throttled"):
        assert job.rate is not None
        gate = await (_pyrate if kind == "pyrate" else _throttled)(place, job.rate)
    return accucheck.Client(
        API_ID,
        API_SECRET,
        base_url=job.base_url,
        rate="auto" if gate else rate,
        gate=gate,
        ledger=place if kind in ("shared", "private") else None,
    )


async def _tell_who_leads(client: accucheck.Client, file: Path) -> None:
    while True:
        gate = client._stores.gate  # not public
        if isinstance(gate, SharedGate) and gate._controller is not None:
            whole = file.with_suffix(f".{os.getpid()}")  # a reader must never find the file empty
            whole.write_text(str(os.getpid()))
            whole.replace(file)
        await asyncio.sleep(0.1)


class PeerGate(accucheck.UnlimitedGate):
    """A peer's limiter, asked before each call. It never learns of refusals."""

    def __init__(self, acquire: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._acquire = acquire

    def try_acquire(self) -> float | None:
        return None  # only the limiter knows

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


async def check_until_told(job: Job) -> dict[str, Any]:
    """Check numbers in a stream until SIGTERM; return the measurements."""
    words = dict(option.partition("=")[::2] for option in job.option)
    (kind, place), *_ = words.items()
    stopped = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        stopped.set()
        loop.call_later(
            MOST_DRAIN, task.cancel
        )  # a peer's limiter may delay the last calls by up to a minute

    loop.add_signal_handler(signal.SIGTERM, stop)
    first = FIRST_NUMBER + int(words.get("index", 0)) * APART

    async def numbers() -> AsyncIterator[str]:
        for number in range(first, first + APART):
            if stopped.is_set():
                return
            yield str(number)

    seconds: Counter[int] = Counter()
    failed = 0
    began = time.process_time()
    with contextlib.suppress(asyncio.CancelledError):
        async with await client_of(job, kind, place) as client:
            told = (
                asyncio.create_task(_tell_who_leads(client, Path(words["leader"])))
                if "leader" in words
                else None
            )
            async with client.stream(numbers(), workers=job.workers) as outcomes:
                async for outcome in outcomes:
                    if isinstance(outcome, accucheck.Checked):
                        seconds[int(time.time())] += 1
                    else:
                        failed += 1
            if told is not None:
                told.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await told
    cpu = time.process_time() - began
    return {"calls": seconds.total(), "failed": failed, "cpu_seconds": cpu, "seconds": dict(seconds)}


if __name__ == "__main__":
    the_job = Job.from_arguments()
    stay_on_core(the_job)
    report(**run_async(the_job, check_until_told(the_job)))
