"""FastTransport under ``httpx.AsyncClient``: what httpx documents about transports, for any request and reply."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import shutil
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import accucheck
from tests.integration.arrangements import LOOPS, backend
from tests.integration.scripted_server import Peer, ScriptedServer, eventually, reply

AUTHORITY = trustme.CA()


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


def client(**arguments: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=accucheck.FastTransport(), **arguments)


async def echoes(peer: Peer) -> None:
    """A server that echoes the request."""
    while True:
        line, headers, body = await peer.request()
        shown = "\n".join([line, *(f"{name}: {value}" for name, value in headers.items() if name)])
        content = b"" if line.startswith("HEAD") else shown.encode() + b"\n\n" + body
        await peer.send(reply(content, "X-Twice: 1", "X-Twice: 2", f"X-Peer: {peer.index}"))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND"])
async def test_any_method_is_sent_and_its_reply_read(method: str) -> None:
    async with ScriptedServer(echoes) as server, client() as http:
        for _ in range(2):
            response = await http.request(method, server.url, params={"q": "a b"}, headers={"X-My": "header"})
            assert response.status_code == 200
            assert response.headers.get_list("x-twice") == ["1", "2"]
            if method != "HEAD":
                assert response.text.startswith(
                    f"{method} /check?q=a+b HTTP/1.1\nhost: 127.0.0.1:{server.port}\n"
                )
                assert "x-my: header" in response.text
        assert server.connections == 1


async def parts_later() -> AsyncIterator[bytes]:
    for part in (b"one ", b"", b"two ", b"three"):
        await asyncio.sleep(0)
        yield part


BODIES: dict[str, tuple[dict[str, Any], bytes]] = {
    "bytes": ({"content": b"one two three"}, b"one two three"),
    "text": ({"content": "ñandú"}, "ñandú".encode()),
    "form": ({"data": {"number": "987654321"}}, b"number=987654321"),
    "json": ({"json": {"number": 1}}, b'{"number":1}'),
    "large": ({"content": bytes(5_000_000)}, bytes(5_000_000)),
    "none": ({}, b""),
}


@pytest.mark.parametrize(("arguments", "sent"), BODIES.values(), ids=BODIES)
async def test_any_body_is_sent(arguments: dict[str, Any], sent: bytes) -> None:
    async with ScriptedServer(echoes) as server, client() as http:
        response = await http.post(server.url, **arguments)
        assert response.content.endswith(b"\n\n" + sent)
        assert (await http.post(server.url, **arguments)).headers["x-peer"] == "0"


async def test_bodies_that_come_in_parts_are_sent_as_they_come() -> None:
    async with ScriptedServer(echoes) as server, client() as http:
        response = await http.post(server.url, content=parts_later())
        assert "transfer-encoding: chunked" in response.text
        assert response.text.endswith("\n\none two three")
        response = await http.post(server.url, content=parts_later(), headers={"Content-Length": "13"})
        assert "transfer-encoding" not in response.text
        assert response.text.endswith("\n\none two three")
        response = await http.post(server.url, files={"file": ("a.txt", b"its content")})
        assert "its content" in response.text
        assert server.connections == 1


async def test_a_plain_iterator_can_be_handed_to_the_transport_itself() -> None:
    async with ScriptedServer(echoes) as server, accucheck.FastTransport() as transport:
        request = httpx.Request("POST", server.url, content=iter([b"one ", b"two"]))
        response = await transport.handle_async_request(request)
        assert (await response.aread()).endswith(b"\n\none two")


@pytest.mark.parametrize("length", ["12", "14", "0", "-1", "x"])
async def test_a_body_shorter_or_longer_than_its_header_says_is_never_taken_for_complete(
    length: str,
) -> None:
    async with ScriptedServer(echoes) as server, client() as http:
        with pytest.raises(httpx.LocalProtocolError):
            await http.post(server.url, content=parts_later(), headers={"Content-Length": length})
        await eventually(lambda: server.open == 0)
        assert (await http.get(server.url)).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        (b"X-Evil", b"1\r\nX-Injected: 1"),
        (b"X-Evil: 1\r\nX-Injected", b"1"),
        (b"X-Evil", b"nul\x00"),
        (b"", b"1"),
        (b"Transfer-Encoding", b"gzip"),
    ],
)
async def test_a_header_that_would_break_the_request_is_refused_before_anything_is_sent(
    header: tuple[bytes, bytes],
) -> None:
    async with ScriptedServer(echoes) as server, client() as http:
        with pytest.raises(httpx.LocalProtocolError):
            await http.get(server.url, headers=[header])
        assert server.connections == 0


async def test_a_body_that_raises_ends_the_request_with_its_own_error() -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    async with ScriptedServer(echoes) as server, client() as http:
        with pytest.raises(ZeroDivisionError):
            await http.post(server.url, content=breaks())
        await eventually(lambda: server.open == 0)


REPLIES = {
    "length": ([b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
    "chunked": (
        [
            b"HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2\r\nhe\r\n",
            b"3\r\nllo\r\n0\r\n\r\n",
        ],
        b"hello",
    ),
    "no body": ([b"HTTP/1.1 204 Fine\r\n\r\n"], b""),
    "not modified": ([b"HTTP/1.1 304 Fine\r\nContent-Length: 5\r\n\r\n"], b""),
    "after interim replies": (
        [
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n",
            b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello",
        ],
        b"hello",
    ),
    "empty": ([b"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\n"], b""),
}
LAST_REPLIES = {
    "close": ([b"HTTP/1.1 200 Fine\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
    "until the end": ([b"HTTP/1.1 200 Fine\r\n\r\nhe", b"llo"], b"hello"),
    "HTTP/1.0": ([b"HTTP/1.0 200 Fine\r\nContent-Length: 5\r\n\r\nhello"], b"hello"),
}


@pytest.mark.parametrize("stays_open", [True, False])
@pytest.mark.parametrize("name", [*REPLIES, *LAST_REPLIES])
async def test_every_framing_is_read_and_the_connection_kept_where_it_may_be(
    name: str, stays_open: bool
) -> None:
    pieces, body = (REPLIES | LAST_REPLIES)[name]
    stays_open = stays_open and name in REPLIES

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*pieces)
            if not stays_open:
                return

    async with ScriptedServer(script) as server, client() as http:
        for _ in range(3):
            response = await http.get(server.url)
            assert response.content == body
            assert response.reason_phrase == "Fine"
            assert response.http_version == ("HTTP/1.0" if name == "HTTP/1.0" else "HTTP/1.1")
            if not stays_open:
                await eventually(lambda: server.open == 0)
                await asyncio.sleep(0.01)
        assert server.connections == (1 if stays_open else 3)


async def test_a_compressed_reply_of_any_size_is_decoded_by_httpx() -> None:
    body = bytes(3_000_000)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(reply(gzip.compress(body), "Content-Encoding: gzip"))

    async with ScriptedServer(script) as server, client() as http:
        assert (await http.get(server.url)).content == body


async def test_a_reply_is_streamed_and_a_slow_reader_slows_the_server() -> None:
    part, parts = bytes(100_000), 400
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(parts):
            await peer.send(b"%x\r\n%b\r\n" % (len(part), part))
            sent += 1
        await peer.send(b"0\r\n\r\n")

    async with ScriptedServer(script) as server, client() as http:
        async with http.stream("GET", server.url) as response:
            assert response.status_code == 200
            before = -1
            while before != sent:  # until the server waits
                before = sent
                await asyncio.sleep(0.05)
            assert sent < parts
            assert sum([len(chunk) async for chunk in response.aiter_raw()]) == len(part) * parts


@pytest.mark.parametrize("read", ["nothing", "some", "all"])
async def test_a_stream_left_early_closes_its_connection_and_one_read_to_its_end_keeps_it(read: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", *[bytes(50_000)] * 4)

    async with ScriptedServer(script) as server, client() as http:
        for _ in range(2):
            async with http.stream("GET", server.url) as response:
                if read == "some":
                    async for _chunk in response.aiter_raw():
                        break
                elif read == "all":
                    await response.aread()
        assert server.connections == (1 if read == "all" else 2)


async def test_a_stream_cut_short_is_never_taken_for_complete() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")

    async with ScriptedServer(script) as server, client() as http:
        chunks = []
        with pytest.raises(httpx.RemoteProtocolError):
            async with http.stream("GET", server.url) as response:
                async for chunk in response.aiter_raw():
                    chunks.append(chunk)
        assert chunks == [b"hello"]


async def test_a_reply_before_the_end_of_the_request_is_read_and_the_connection_closed() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(reply(b"too large", status="413 Content Too Large"))
        await peer.until_gone()

    async def endless() -> AsyncIterator[bytes]:
        for _ in itertools.count():
            yield bytes(10_000)

    async with ScriptedServer(script) as server, client() as http:
        for _ in range(2):
            response = await http.post(server.url, content=endless())
            assert (response.status_code, response.content) == (413, b"too large")
            await eventually(lambda: server.open == 0)
        assert server.connections == 2


async def mute(peer: Peer) -> None:
    await peer.request()
    await peer.until_gone()


async def half(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    await peer.until_gone()


async def deaf(peer: Peer) -> None:
    await asyncio.Event().wait()


async def resets(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def leaves(peer: Peer) -> None:
    await peer.request()


async def speaks_another_protocol(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    await peer.until_gone()


async def upgrades(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    await peer.until_gone()


FAILURES = {
    "no reply arrived in time": (mute, httpx.ReadTimeout),
    "half a reply in time": (half, httpx.ReadTimeout),
    "request not taken in time": (deaf, httpx.WriteTimeout),
    "reset": (resets, httpx.ReadError),
    "no reply": (leaves, httpx.ReadError),
    "another protocol": (speaks_another_protocol, httpx.RemoteProtocolError),
    "an upgrade": (upgrades, httpx.RemoteProtocolError),
}


@pytest.mark.parametrize(("script", "error"), FAILURES.values(), ids=FAILURES)
async def test_failures_are_httpxs_own_exceptions_and_close_the_connection(script: Any, error: Any) -> None:
    body = bytes(50_000_000) if script is deaf else b"x"
    timeout = httpx.Timeout(
        5, read=0.05 if script in (mute, half) else 5, write=0.05 if script is deaf else 5
    )
    async with ScriptedServer(script) as server, client(timeout=timeout) as http:
        with pytest.raises(error) as caught:
            await http.post(server.url, content=body)
        assert type(caught.value) is error
        if script is not deaf:
            await eventually(lambda: server.open == 0)


async def test_a_server_that_disconnects_during_the_request_is_a_write_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async def slowly() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1000)
            await asyncio.sleep(0.001)

    async with ScriptedServer(script) as server, client() as http:
        with pytest.raises(httpx.WriteError):
            await http.post(server.url, content=slowly())


async def test_an_unreachable_server_is_a_connect_error() -> None:
    async with ScriptedServer(echoes) as server:
        pass
    async with client() as http:
        with pytest.raises(httpx.ConnectError, match=rf"127\.0\.0\.1:{server.port}: Connection refused"):
            await http.get(server.url)
        with pytest.raises(httpx.ConnectError, match="could not be resolved"):
            await http.get("http://vendor.invalid/")
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.get("ftp://127.0.0.1/")
    async with accucheck.FastTransport() as transport:
        for method, url in (("GET", "ftp://127.0.0.1/"), ("CONNECT", "http://127.0.0.1/")):
            with pytest.raises(httpx.UnsupportedProtocol):
                await transport.handle_async_request(httpx.Request(method, url))


async def test_a_handshake_that_never_ends_is_a_connect_timeout() -> None:
    async def script(peer: Peer) -> None:
        await peer.until_gone()

    async with ScriptedServer(script) as server, client(timeout=0.05) as http:
        with pytest.raises(httpx.ConnectTimeout):
            await http.get(server.url.replace("http:", "https:"))


async def test_cancelling_one_request_closes_its_connection_and_no_other() -> None:
    async def script(peer: Peer) -> None:
        while True:
            line, _, _ = await peer.request()
            if "slow" not in line:
                await peer.send(reply(b"hello"))

    async with ScriptedServer(script) as server, client() as http:
        await asyncio.gather(*(http.get(server.url) for _ in range(5)))
        opened = server.connections
        slow = asyncio.create_task(http.get(server.url + "?slow"))
        await asyncio.sleep(0.02)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        await eventually(lambda: server.open == opened - 1)
        assert (await http.get(server.url)).content == b"hello"
        assert server.connections == opened


async def test_requests_to_several_origins_share_a_transport_and_no_connection() -> None:
    async with ScriptedServer(echoes) as one, ScriptedServer(echoes) as two, client() as http:
        for _ in range(3):
            for server in (one, two):
                response = await http.get(server.url)
                assert f"host: 127.0.0.1:{server.port}" in response.text
        assert (one.connections, two.connections) == (1, 1)


async def test_redirects_cookies_and_hooks_work_as_with_any_transport() -> None:
    async def script(peer: Peer) -> None:
        while True:
            line, headers, _ = await peer.request()
            if "/check" in line:
                moved = reply(b"", "Location: /new", "Set-Cookie: a=b; Path=/", status="302 Found")
                await peer.send(moved)
            else:
                await peer.send(reply(f"{line} {headers.get('cookie')}".encode()))

    async with ScriptedServer(script) as server, client(follow_redirects=True) as http:
        response = await http.get(server.url)
        assert response.text == "GET /new HTTP/1.1 a=b"
        assert response.elapsed.total_seconds() > 0


async def test_tls_is_verified_with_the_name_of_the_host_or_the_one_given() -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("vendor.test").configure_cert(server_context)
    with AUTHORITY.cert_pem.tempfile() as roots:
        transport = accucheck.FastTransport(verify=roots)
    async with (
        ScriptedServer(echoes, server_context) as server,
        httpx.AsyncClient(transport=transport) as http,
    ):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await http.get(server.url)
        assert (await http.get(server.url, extensions={"sni_hostname": "vendor.test"})).status_code == 200


async def test_closing_ends_requests_in_flight_and_every_connection() -> None:
    async with ScriptedServer(mute) as server:
        transport = accucheck.FastTransport()
        request = asyncio.create_task(transport.handle_async_request(httpx.Request("GET", server.url)))
        await eventually(lambda: server.open == 1)
        await transport.aclose()
        await transport.aclose()
        with pytest.raises(httpx.ReadError, match="closed"):
            await request
        await eventually(lambda: server.open == 0)
        with pytest.raises(RuntimeError, match="closed"):
            await transport.handle_async_request(httpx.Request("GET", server.url))


def test_a_transport_serves_one_event_loop() -> None:
    transport = accucheck.FastTransport()

    async def ask() -> None:
        with pytest.raises(httpx.ConnectError):
            await transport.handle_async_request(httpx.Request("GET", "http://127.0.0.1:1/"))

    asyncio.run(ask())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(ask())


@pytest.fixture(scope="module")
def nginx() -> Iterator[str]:
    """A real server's base URL, where one is installed."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    with tempfile.TemporaryDirectory(prefix="accucheck-nginx-", dir="/tmp") as folder:
        Path(folder, "large").write_bytes(bytes(3_000_000))
        port = _free_port()
        Path(folder, "nginx.conf").write_text(f"""
            daemon off; pid {folder}/nginx.pid; error_log stderr; worker_processes 1;
            {"user root;" if Path("/root").owner() == "root" else ""}
            events {{ }}
            http {{
                access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
                keepalive_requests 3; client_max_body_size 1k; gzip on; gzip_types *;
                server {{
                    listen 127.0.0.1:{port}; root {folder};
                    location /ok {{ return 200 "fine"; }}
                    location /none {{ return 204; }}
                    location /post {{ client_max_body_size 1k; proxy_pass http://127.0.0.1:{port}/ok; }}
                }}
            }}
        """)
        process = subprocess.Popen(
            [program, "-p", folder, "-c", f"{folder}/nginx.conf"], stderr=subprocess.PIPE
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.communicate()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_nginx_is_understood(nginx: str) -> None:
    async with client() as http:
        for attempt in range(100):
            try:
                await http.get(f"{nginx}/ok")
                break
            except httpx.ConnectError:
                assert attempt < 99
                await asyncio.sleep(0.05)
        for _ in range(10):  # nginx closes after three requests each
            assert (await http.get(f"{nginx}/ok")).text == "fine"
            assert (await http.head(f"{nginx}/large", headers={"Accept-Encoding": "identity"})).headers[
                "content-length"
            ] == "3000000"
            assert (await http.get(f"{nginx}/none")).status_code == 204
        for encoding in ("identity", "gzip"):
            response = await http.get(f"{nginx}/large", headers={"Accept-Encoding": encoding})
            assert response.content == bytes(3_000_000)
            assert response.headers.get("content-encoding", "identity") == encoding
        etag = response.headers["etag"]
        assert (await http.get(f"{nginx}/large", headers={"If-None-Match": etag})).status_code == 304
        assert (await http.post(f"{nginx}/post", content=parts_later())).text == "fine"
        assert (await http.post(f"{nginx}/post", content=bytes(3_000_000))).status_code == 413
        assert (await http.get(f"{nginx}/missing")).status_code == 404
