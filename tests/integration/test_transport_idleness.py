"""How long idle connections are kept, and how the transport learns the server's limit."""

from __future__ import annotations

import asyncio
import socket

import pytest

from accucheck import FastTransport
from accucheck._http import Sender, _dial, _transport
from accucheck._http._dial import Address
from accucheck._wire import Answered, Broken
from tests.integration.arrangements import HEADERS
from tests.integration.scripted_server import Peer, ScriptedServer, answer, answers_all, eventually, reply


async def test_a_connection_idle_for_too_long_is_closed() -> None:
    async with (
        ScriptedServer(answers_all) as server,
        Sender(url=server.url, headers=HEADERS) as sender,
    ):
        sender._origin.idle_seconds = 0.05
        sender._transport.quicken(0.05)  # type: ignore[attr-defined]
        assert isinstance(await sender("987654321"), Answered)
        await eventually(lambda: server.open == 0)
        assert isinstance(await sender("987654322"), Answered)
        assert server.connections == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Keep-Alive: timeout=5, max=100", 4.0),
        ("Keep-Alive: max=100,Timeout=10", 8.0),
        ("Keep-Alive: timeout=3600", 30.0),
        ("Keep-Alive: timeout=soon", 30.0),
        ("Connection: keep-alive", 30.0),
    ],
)
async def test_an_announced_limit_is_kept_with_a_margin(header: str, seconds: float) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.send(reply(answer(await peer.asked()), header))

    async with ScriptedServer(script) as server, Sender(url=server.url, headers=HEADERS) as sender:
        assert isinstance(await sender("987654321"), Answered)
        assert sender._origin.idle_seconds == pytest.approx(seconds)


async def test_a_server_that_closes_idle_connections_teaches_its_limit() -> None:
    async with ScriptedServer(answers_all) as server, Sender(url=server.url, headers=HEADERS) as sender:
        assert isinstance(await sender("987654321"), Answered)
        transport, origin = sender._transport, sender._origin
        assert isinstance(transport, FastTransport)
        [connection] = origin.idle
        transport.left_idle(connection, 0.2)  # a restart or an accident, not a server's idle limit
        assert origin.idle_seconds == 30.0
        transport.left_idle(connection, 5.0)
        assert origin.idle_seconds == pytest.approx(4.0)
        transport.left_idle(connection, 10.0)
        assert origin.idle_seconds == pytest.approx(4.0)


async def test_the_connection_used_last_is_used_first() -> None:
    """So that connections not needed become idle and are closed."""
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            number = await peer.asked()
            if len(server.requests) == 3:
                arrived.set()
            await arrived.wait()
            used.append(peer.index)
            await peer.send(reply(answer(number)))

    used: list[int] = []
    async with ScriptedServer(script) as server, Sender(url=server.url, headers=HEADERS) as sender:
        await asyncio.gather(*map(sender, ("987654321", "987654322", "987654323")))
        for _ in range(5):
            assert isinstance(await sender("987654324"), Answered)
        assert server.connections == 3
        assert len(set(used[3:])) == 1


async def test_a_connection_that_opens_after_the_sender_was_closed_sends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect_late(addresses: list[Address]) -> socket.socket:
        sock = await _dial.connect(addresses)
        connected.set()
        await closed.wait()
        return sock

    connected, closed = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(_transport, "connect", connect_late)
    async with ScriptedServer(answers_all) as server:
        sender = Sender(url=server.url, headers=HEADERS)
        call = asyncio.create_task(sender("987654321"))
        await connected.wait()
        await sender.aclose()
        closed.set()
        outcome = await call
        assert isinstance(outcome, Broken)
        assert not outcome.sent
        await eventually(lambda: server.open == 0)
        assert server.numbers == []
