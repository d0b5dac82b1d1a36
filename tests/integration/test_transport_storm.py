"""After 40 waves of 40 cancelled calls, a sender works as before."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import ssl
from typing import Any

import pytest
import trustme

from accucheck._wire import Answered
from tests.integration.arrangements import ARRANGEMENTS, LOOPS, backend, make_sender
from tests.integration.scripted_server import Peer, ScriptedServer, answer, eventually, reply

AUTHORITY = trustme.CA()
WAVES, CALLS = 40, 40


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


def contexts(secure: bool) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    if not secure:
        return None, None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    return server, client


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors as Linux shows them")
@pytest.mark.parametrize(
    ("arrangement", "secure"), [*((name, False) for name in ARRANGEMENTS), ("fast", True)]
)
async def test_a_storm_of_cancellations_leaves_nothing_behind(arrangement: str, secure: bool) -> None:
    chance = random.Random(7)

    async def slow(peer: Peer) -> None:
        while True:
            number = await peer.asked()
            if not calm.is_set():
                await asyncio.sleep(chance.random() * 0.01)
            await peer.send(reply(answer(number)))

    async def storm(number: str) -> None:
        async with asyncio.timeout(chance.random() * 0.01):
            await sender(number)

    calm = asyncio.Event()
    server_context, client_context = contexts(secure)
    async with ScriptedServer(slow, server_context) as server:
        await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 80)  # starts the resolver's threads
        gc.collect()
        tasks, files = len(asyncio.all_tasks()), descriptors()
        sender = make_sender(arrangement, server.url, verify=client_context, connections=CALLS)
        ends: list[BaseException | None] = []
        for _ in range(WAVES):
            numbers = [f"987{chance.randrange(10**6):06}" for _ in range(CALLS)]
            ends += await asyncio.gather(*map(storm, numbers), return_exceptions=True)
        assert {type(end) for end in ends} <= {TimeoutError, type(None)}
        assert sum(isinstance(end, TimeoutError) for end in ends) > WAVES * CALLS / 4
        calm.set()

        numbers = [f"986{n:06}" for n in range(200)]
        outcomes = await asyncio.gather(*map(sender, numbers))
        for number, outcome in zip(numbers, outcomes, strict=True):
            assert isinstance(outcome, Answered)
            assert outcome.check.number == f"+51{number}"

        await sender.aclose()
        del outcomes
        await eventually(lambda: server.open == 0)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        gc.collect()  # a forgotten socket or future warns here
        await eventually(lambda: descriptors() <= files)
