"""Through a proxy, as httpx users expect: the argument, or the environment."""

from __future__ import annotations

import asyncio
import contextlib
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
    """Carries plain requests (absolute form) and CONNECT tunnels to where they ask; refuses if told to."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.refusal = refusal
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            method, target, _ = head.split("\r\n")[0].split(" ")
            if self.refusal:
                writer.write(self.refusal)
            else:
                authority = target if method == "CONNECT" else target.split("/")[2]
                host, _, port = authority.rpartition(":")
                upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
                if method == "CONNECT":
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    path = "/" + target.split("/", 3)[3]
                    upstream_writer.write(head.replace(target, path, 1).encode())
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
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    return server, client


async def test_a_plain_request_goes_through_the_given_proxy() -> None:
    proxy = Proxy()
    async with ScriptedServer(answers_all) as server, running(proxy) as address:
        async with Sender(url=server.url, headers=HEADERS, proxy=address) as sender:
            assert isinstance(await sender("987654321"), Answered)
            assert isinstance(await sender("987654322"), Answered)
        assert proxy.heads[0].startswith(f"POST {server.url} HTTP/1.1\r\n")
        assert "proxy-authorization: basic" in proxy.heads[0].lower()
        assert len(proxy.heads) == 1


async def test_a_tls_request_goes_through_a_tunnel_and_the_proxy_sees_no_credentials() -> None:
    proxy = Proxy()
    server_context, client_context = tls()
    async with ScriptedServer(answers_all, server_context) as server, running(proxy) as address:
        async with Sender(url=server.url, headers=HEADERS, proxy=address, verify=client_context) as sender:
            assert isinstance(await sender("987654321"), Answered)
        assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} ")
        assert "the-api-secret" not in "".join(proxy.heads)


async def test_the_environments_proxy_is_used_and_no_proxy_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with ScriptedServer(answers_all) as server, running(proxy) as address:
        monkeypatch.setenv("HTTP_PROXY", address)
        async with Sender(url=server.url, headers=HEADERS) as sender:
            assert isinstance(await sender("987654321"), Answered)
        assert len(proxy.heads) == 1
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with Sender(url=server.url, headers=HEADERS) as sender:
            assert isinstance(await sender("987654322"), Answered)
        assert len(proxy.heads) == 1


async def test_a_proxy_that_refuses_the_tunnel_costs_nothing_and_keeps_its_password() -> None:
    proxy = Proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    _, client_context = tls()
    async with (
        running(proxy) as address,
        Sender(url="https://127.0.0.1:1/", headers=HEADERS, proxy=address, verify=client_context) as sender,
    ):
        outcome = await sender("987654321")
    assert isinstance(outcome, Broken)
    assert (outcome.phase, outcome.sent) == ("connect", False)
    assert "the-proxy-password" not in outcome.message + repr(sender)


async def test_a_proxy_that_is_not_there_costs_nothing() -> None:
    async with Sender(url="http://127.0.0.1:1/", headers=HEADERS, proxy="http://127.0.0.1:2") as sender:
        outcome = await sender("987654321")
    assert isinstance(outcome, Broken)
    assert (outcome.phase, outcome.sent) == ("connect", False)
