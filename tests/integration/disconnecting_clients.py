"""A web service with one client and one ledger, whose callers disconnect at random.

    python -m tests.integration.disconnecting_clients --seconds 120 --connections 4

runs it under uvicorn and reports how often the sandbox charged for each number: never twice.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from accucheck import CheckError, Client
from accucheck.sandbox import Sandbox, Settings, serve

FIRST = 900_000_000
SETTINGS = Settings(latency=60, pending=0.1, pending_for=0.5, rate=150, burst=30)


@dataclass
class Result:
    """What happened, as the sandbox and the callers counted it."""

    charges: dict[str, int]
    stored: int
    connections: Counter[str] = field(default_factory=Counter)


def web_service(client: Client) -> Starlette:
    """Return an ordinary application that takes no precautions against disconnections."""

    async def check(request: Request) -> Response:
        try:
            answer = await client.check(request.query_params["number"])
        except CheckError as error:
            return JSONResponse(error.to_dict(), status_code=502)
        return JSONResponse(answer.to_dict())

    async def many(request: Request) -> Response:
        first, count = int(request.query_params["first"]), int(request.query_params["count"])

        async def lines() -> AsyncIterator[str]:
            async with client.stream(range(first, first + count), workers=20) as outcomes:
                async for outcome in outcomes:
                    yield f"{outcome.item}\n"

        return StreamingResponse(lines(), media_type="text/plain")

    return Starlette(routes=[Route("/check", check), Route("/many", many)])


@contextlib.asynccontextmanager
async def listening(app: Starlette) -> AsyncIterator[int]:
    """Serve ``app`` under uvicorn; yield its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(100)
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        task = asyncio.create_task(server.serve([sock]))
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            await task


async def visit(port: int, chance: random.Random, result: Result, span: int) -> None:
    """Ask for one number or for many, and hang up at a random moment."""
    first = FIRST + chance.randrange(span)
    path = f"/many?first={first}&count=60" if chance.random() < 0.5 else f"/check?number={first}"
    patience = chance.uniform(0.0, 1.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(patience):
            while await reader.read(4096):
                pass
        result.connections["answered"] += 1
    except TimeoutError:
        result.connections["hung up"] += 1
    finally:
        writer.transport.abort()


async def run(seconds: float, connections: float, *, seed: int, ledger: Path) -> Result:
    """Connect ``connections`` callers per second for ``seconds``."""
    chance = random.Random(seed)
    result = Result({}, 0)
    span = max(100, int(20 * seconds * connections))
    async with serve(SETTINGS) as sandbox:
        async with (
            Client("sandbox", "sandbox", base_url=sandbox.url, ledger=ledger, rate=200.0) as client,
            listening(web_service(client)) as port,
            asyncio.TaskGroup() as visits,
        ):
            loop = asyncio.get_running_loop()
            end = loop.time() + seconds
            while loop.time() < end:
                visits.create_task(visit(port, chance, result, span))
                await asyncio.sleep(chance.expovariate(connections))
        result.charges = dict(sandbox.charges())
        result.stored = await _known(sandbox, ledger)
    return result


async def _known(sandbox: Sandbox, ledger: Path) -> int:
    """Ask the ledger for every number that was charged; return how many it knows."""
    charged = list(sandbox.charges())
    before = sandbox.counts.requests
    async with (
        Client("sandbox", "sandbox", base_url=sandbox.url) as client,
        client.stream(charged, ledger=ledger) as outcomes,
    ):
        async for _ in outcomes:
            pass
    assert sandbox.counts.requests == before
    return outcomes.stats.known


def main() -> None:
    """Run it for as long as the options say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--connections", type=float, default=4.0, help="new ones a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(
            run(options.seconds, options.connections, seed=options.seed, ledger=Path(folder) / "service.db")
        )
    twice = [number for number, times in result.charges.items() if times > 1]
    print(f"connections: {dict(result.connections)}")
    print(f"numbers charged: {len(result.charges)}, of them in the ledger: {result.stored}")
    print(f"numbers charged twice: {len(twice)} {twice[:10]}")
    raise SystemExit(bool(twice) or result.stored < len(result.charges))


if __name__ == "__main__":
    main()
