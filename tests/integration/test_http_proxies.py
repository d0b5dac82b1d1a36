"""Through a proxy, as httpx users expect: the argument, or the environment."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from accucheck._http import Sender
from accucheck._wire import Answered, Broken
from tests.integration.arrangements import HEADERS
from tests.integration.scripted_server import ScriptedServer, answers_all

AUTHORITY = trustme.CA()


class Proxy:
    """A proxy that tunnels every host to this machine and records what it receives."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.refusal = refusal
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            method, target, _ = head.split("\r\n")[0].split(" ")
            if self.refusal or method != "CONNECT":
                writer.write(self.refusal or b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
            else:
                port = int(target.rpartition(":")[2])
                upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(pipe(reader, upstream_writer), pipe(upstream_reader, writer))
        writer.close()


async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
    sink.close()


@contextlib.asynccontextmanager
async def running(proxy: Proxy) -> AsyncIterator[str]:
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        yield f"http://user:the-proxy-password@127.0.0.1:{server.sockets[0].getsockname()[1]}"


def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("vendor.test").configure_cert(server)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    return server, client


def beyond(server: ScriptedServer) -> str:
    """The server's address under a name that only the proxy can reach."""
    return f"https://vendor.test:{server.port}/check"


async def test_a_request_goes_through_a_tunnel_and_the_proxy_sees_no_credentials() -> None:
    proxy = Proxy()
    server_context, client_context = tls()
    async with ScriptedServer(answers_all, server_context) as server, running(proxy) as address:
        url = beyond(server)
        async with Sender(url=url, headers=HEADERS, proxy=address, verify=client_context) as sender:
            assert isinstance(await sender("987654321"), Answered)
            assert isinstance(await sender("987654322"), Answered)
        assert proxy.heads[0].startswith(f"CONNECT vendor.test:{server.port} ")
        assert "proxy-authorization: basic" in proxy.heads[0].lower()
        assert "the-api-secret" not in "".join(proxy.heads)
        assert len(proxy.heads) == 1


async def test_the_environments_proxy_is_used_and_no_proxy_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    server_context, client_context = tls()
    async with ScriptedServer(answers_all, server_context) as server, running(proxy) as address:
        monkeypatch.setenv("HTTPS_PROXY", address)
        async with Sender(url=beyond(server), headers=HEADERS, verify=client_context) as sender:
            assert isinstance(await sender("987654321"), Answered)
        assert len(proxy.heads) == 1
        monkeypatch.setenv("NO_PROXY", "vendor.test")
        async with Sender(url=beyond(server), headers=HEADERS, verify=client_context) as sender:
            outcome = await sender("987654322")
        assert isinstance(outcome, Broken)  # nobody else can reach it
        assert f"vendor.test:{server.port}" in outcome.message
        assert len(proxy.heads) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "sandbox.localhost"])
async def test_plain_http_to_this_machine_never_goes_to_a_proxy(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy()
    async with ScriptedServer(answers_all) as server, running(proxy) as address:
        for name in ("http_proxy", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        monkeypatch.setenv("no_proxy", "other.test")
        url = f"http://{host}:{server.port}/check"
        for given in (None, address):
            async with Sender(url=url, headers=HEADERS, proxy=given) as sender:
                assert isinstance(await sender("987654321"), Answered)
        assert proxy.heads == []


async def test_a_resolver_that_sends_localhost_elsewhere_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lying(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    async with ScriptedServer(answers_all) as server:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lying)
        async with Sender(url=f"http://localhost:{server.port}/check", headers=HEADERS) as sender:
            assert isinstance(await sender("987654321"), Answered)


async def test_a_proxy_that_refuses_the_tunnel_costs_nothing_and_keeps_its_password() -> None:
    proxy = Proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    _, client_context = tls()
    async with (
        running(proxy) as address,
        Sender(url="https://vendor.test:1/", headers=HEADERS, proxy=address, verify=client_context) as sender,
    ):
        outcome = await sender("987654321")
    assert isinstance(outcome, Broken)
    assert (outcome.phase, outcome.sent) == ("connect", False)
    assert "the-proxy-password" not in outcome.message + repr(sender)


async def test_a_proxy_that_is_not_there_costs_nothing() -> None:
    async with Sender(url="https://vendor.test:1/", headers=HEADERS, proxy="http://127.0.0.1:2") as sender:
        outcome = await sender("987654321")
    assert isinstance(outcome, Broken)
    assert (outcome.phase, outcome.sent) == ("connect", False)
