"""Happy Eyeballs, without a network: which address is tried when, which wins, and what happens to the rest."""

from __future__ import annotations

import asyncio
import socket

import pytest

from accucheck._http._dial import Address, ResolverCache, connect, default_context, interleaved

SIX, FOUR = socket.AF_INET6, socket.AF_INET


class Network:
    """Addresses that answer, refuse or stay silent."""

    def __init__(self, **behavior: str) -> None:
        self._behavior = behavior
        self.tried: list[str] = []
        self.cancelled: list[str] = []
        self.sockets: dict[str, socket.socket] = {}

    async def connect_to(self, address: Address) -> socket.socket:
        name = str(address[1])
        self.tried.append(name)
        try:
            if self._behavior[name] == "silent":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        if self._behavior[name] == "refuses":
            raise ConnectionRefusedError(f"{name} refuses")
        self.sockets[name] = socket.socket(FOUR, socket.SOCK_STREAM)
        return self.sockets[name]

    def addresses(self) -> list[Address]:
        return [(FOUR, name) for name in self._behavior]


async def test_the_next_address_is_tried_when_the_first_stays_silent() -> None:
    network = Network(first="silent", second="answers")
    with await connect(network.addresses(), 0.001, network.connect_to) as winner:
        assert winner is network.sockets["second"]
    await asyncio.sleep(0)
    assert network.cancelled == ["first"]


async def test_the_next_address_is_tried_at_once_when_the_first_refuses() -> None:
    network = Network(first="refuses", second="answers")
    with await connect(network.addresses(), 3600, network.connect_to):
        assert network.tried == ["first", "second"]


async def test_no_other_address_is_tried_when_the_first_answers() -> None:
    network = Network(first="answers", second="answers")
    with await connect(network.addresses(), 3600, network.connect_to):
        assert network.tried == ["first"]


async def test_the_socket_of_the_slower_attempt_is_closed() -> None:
    network = Network(first="answers", second="answers")
    with await connect(network.addresses(), 0, network.connect_to) as winner:
        await asyncio.sleep(0.01)
        assert [sock.fileno() != -1 for sock in network.sockets.values() if sock is not winner] in (
            [],
            [False],
        )


async def test_all_reasons_are_reported_when_nobody_answers() -> None:
    network = Network(first="refuses", second="refuses")
    with pytest.raises(OSError, match="first refuses; second refuses"):
        await connect(network.addresses(), 3600, network.connect_to)


async def test_a_host_without_address_is_an_error() -> None:
    with pytest.raises(OSError, match="no IP address"):
        await connect([])


async def test_cancellation_ends_every_attempt() -> None:
    network = Network(first="silent", second="silent", third="silent")
    race = asyncio.create_task(connect(network.addresses(), 0, network.connect_to))
    while len(network.tried) < 3:
        await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    await asyncio.sleep(0)
    assert sorted(network.cancelled) == ["first", "second", "third"]


def test_address_families_alternate_starting_with_the_resolvers_first_choice() -> None:
    found: list[Address] = [(SIX, "a"), (SIX, "b"), (SIX, "c"), (FOUR, "d")]
    assert interleaved(found) == [(SIX, "a"), (FOUR, "d"), (SIX, "b"), (SIX, "c")]


async def test_concurrent_look_ups_ask_the_resolver_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = 0

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        nonlocal lookups
        lookups += 1
        await asyncio.sleep(0)
        return [(FOUR, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    book = ResolverCache("vendor.test", 80)
    found = await asyncio.gather(*(book.addresses() for _ in range(50)))
    assert found == [[(FOUR, ("127.0.0.1", 80))]] * 50
    assert lookups == 1
    book.forget()
    await book.addresses()
    assert lookups == 2


async def test_one_callers_cancellation_leaves_the_look_up_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        await resolved.wait()
        return [(FOUR, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]

    resolved = asyncio.Event()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    book = ResolverCache("vendor.test", 80)
    first, second = (asyncio.create_task(book.addresses()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    resolved.set()
    assert await second == [(FOUR, ("127.0.0.1", 80))]
    assert first.cancelled()


def test_certifis_roots_serve_where_the_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    monkeypatch.setenv("SSL_CERT_DIR", "/nowhere")
    context = default_context()
    assert context.cert_store_stats()["x509_ca"] > 50
    assert context.check_hostname
