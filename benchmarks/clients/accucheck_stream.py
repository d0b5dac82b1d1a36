"""accucheck's ``stream`` with all its safeguards: retries, gate, per-phase timeouts, body cap, dedupe.

Values of ``--option``: ``plain`` hides the fast extra's uvloop; ``ledger`` stores every
answer in a new file; ``auto`` lets accucheck find the rate; ``over-aiohttp``, ``over-pyreqwest``, ``over-httpx`` and
``over-httpx-each`` use another httpx transport. Without ``auto`` or a rate, the gate does not slow anything down.
"""

from __future__ import annotations

import ssl
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

# Simulates an install without the fast extra: importing these fails.
if "--option=plain" in sys.argv:
    sys.modules["uvloop"] = None  # type: ignore[assignment]

import httpx

import accucheck
from benchmarks.job import API_ID, API_SECRET, Answers, Job, measure

NOT_BINDING = 1_000_000.0


def other_transport(job: Job) -> httpx.AsyncBaseTransport | None:
    """Return the transport that the job names; None for accucheck's own."""
    limits = httpx.Limits(max_connections=job.workers, max_keepalive_connections=job.workers)
    if "over-aiohttp" in job.option:
        from httpx_aiohttp import AiohttpTransport

        return AiohttpTransport(limits=limits)
    if "over-pyreqwest" in job.option:
        from pyreqwest.compatibility.httpx import HttpxTransport

        return HttpxTransport()
    if "over-httpx" in job.option:
        return httpx.AsyncHTTPTransport(limits=limits)
    if "over-httpx-each" in job.option:
        from accucheck._http._dial import ProxyTransport

        return ProxyTransport(None, ssl.create_default_context())
    return None


async def check_all(job: Job) -> Answers:
    rate = job.rate or ("auto" if "auto" in job.option else NOT_BINDING)
    answers: dict[str, bool] = {}
    with ExitStack() as stack:
        ledger = None
        if "ledger" in job.option:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="accucheck-bench-"))
            ledger = Path(folder) / "answers.ledger"
        async with (
            accucheck.Client(
                API_ID,
                API_SECRET,
                base_url=job.base_url,
                transport=other_transport(job),
                verify=job.ssl_context() or True,
                rate=rate,
            ) as client,
            client.stream(job.numbers(), workers=job.workers, ledger=ledger) as outcomes,
        ):
            async for outcome in outcomes:
                match outcome:
                    case accucheck.Checked(item=number, check=check):
                        answers[number] = check.whatsapp
                    case accucheck.Failed(item=number, error=error):
                        print(f"{number}: {error!r}", file=sys.stderr)
    return answers


if __name__ == "__main__":
    measure(check_all)
