"""Who takes part: accucheck's entries and its peers."""

from __future__ import annotations

import dataclasses

from benchmarks.job import Loop


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A client to measure: a module to run, on one event loop, with its own options."""

    name: str
    label: str
    module: str
    loop: Loop = "asyncio"
    options: tuple[str, ...] = ()

    @property
    def is_peer(self) -> bool:
        """Whether this is not accucheck."""
        return not self.name.startswith("accucheck")


def _stream(name: str, label: str, loop: Loop, *options: str) -> Contestant:
    return Contestant(f"accucheck-{name}", label, "benchmarks.clients.accucheck_stream", loop, options)


ACCUCHECK = (
    _stream("fast-uvloop", "accucheck stream, fast extra (uvloop)", "uvloop"),
    _stream("fast-asyncio", "accucheck stream, fast extra (asyncio)", "asyncio"),
    _stream("plain", "accucheck stream, plain install (asyncio)", "asyncio", "plain"),
)

TRANSPORTS = (
    ACCUCHECK[0],
    ACCUCHECK[1],
    ACCUCHECK[2],
    _stream("over-pyreqwest", "over pyreqwest's httpx transport (uvloop)", "uvloop", "over-pyreqwest"),
    _stream("over-aiohttp", "over httpx-aiohttp (uvloop)", "uvloop", "over-aiohttp"),
    _stream("over-httpx-each", "over httpx's own, one for each call (uvloop)", "uvloop", "over-httpx-each"),
    _stream("over-httpx", "over httpx's own, one pool (uvloop)", "uvloop", "over-httpx"),
)
"""The same stream over other httpx transports: what ``Client(transport=...)`` takes."""

LEDGER = _stream("ledger", "accucheck stream, fast extra, with the ledger (uvloop)", "uvloop", "ledger")

SPEED_PEERS = (
    Contestant("httpx-naive", "httpx + semaphore + tenacity + aiolimiter", "benchmarks.peers.httpx_naive"),
    Contestant("aiometer", "aiometer + httpx", "benchmarks.peers.aiometer_httpx"),
    Contestant("aiohttp", "raw aiohttp gather + semaphore", "benchmarks.peers.aiohttp_gather"),
    Contestant(
        "aiohttp-uvloop",
        "raw aiohttp gather + semaphore (uvloop)",
        "benchmarks.peers.aiohttp_gather",
        "uvloop",
    ),
    Contestant("aiohttp-retry", "aiohttp + aiohttp-retry", "benchmarks.peers.aiohttp_retry_gather"),
    Contestant("scrapy", "Scrapy", "benchmarks.peers.scrapy_spider"),
    Contestant("pyreqwest", "raw pyreqwest gather + semaphore", "benchmarks.peers.pyreqwest_gather"),
    Contestant(
        "pyreqwest-uvloop",
        "raw pyreqwest gather + semaphore (uvloop)",
        "benchmarks.peers.pyreqwest_gather",
        "uvloop",
    ),
)

WRK = Contestant("wrk", "wrk (C; the ceiling)", "benchmarks.peers.wrk")
