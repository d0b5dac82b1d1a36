"""Our own httpx transport: as many keep-alive connections as there are requests in flight, and no pool.

httpx's pool scans its connections for every request, and requests cancelled in its queue leak its slots until all
others fail with PoolTimeout. Here, a request takes an idle connection or opens one, and there is no queue.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from accucheck._arguments import Timeouts
from accucheck._http._connection import Connection
from accucheck._http._dial import ProxyTransport, ResolverCache, Verify, connect, default_context, tls_context
from accucheck._http._reply import Headers, WholeReply, connect_error
from accucheck._wire import not_sent

__all__ = [
    "FastTransport",
    "GuardedTransport",
    "Origin",
    "diallers",
    "is_in_tests",
    "is_quick",
    "stand_in",
    "stand_in_url",
]

_GOODBYE_SECONDS = 1.0
"""Seconds that TLS may take to close."""
_GRANULARITY = 0.1
"""Seconds between checks of time limits: one timer for all connections instead of one per call."""
_FINEST = 0.001
_SAFE_SHARE = 0.8
"""The share of a server's idle limit that we use, because a request must arrive before it, not just be sent."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110, section 5.6.2: methods and header names."""
_FIELD_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?")
"""RFC 9110, section 5.5: no control characters, no blanks at either end."""
_TARGET = re.compile(rb"[!-~\x80-\xff]+")


class Origin:
    """One scheme, host and port: where to connect, and the idle connections, most recently used first."""

    __slots__ = ("addresses", "host", "idle", "idle_seconds", "is_tls", "place", "server_name")

    def __init__(self, scheme: str, host: str, port: int, server_name: str, idle_seconds: float) -> None:
        self.host = host
        self.is_tls = scheme == "https"
        self.server_name = server_name
        self.place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.addresses = ResolverCache(host, port)
        self.idle: list[Connection] = []
        self.idle_seconds = idle_seconds

    def take_idle(self) -> Connection | None:
        """Return the most recently used one, so that unneeded ones grow old and are closed."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_fit():
                return connection
            connection.close()
        return None

    def heed_announced_limit(self, headers: Headers) -> None:
        """Stay below ``Keep-Alive: timeout=5``; looked for on a connection's first reply only."""
        for name, value in headers:
            if name.lower() == b"keep-alive":
                for parameter in value.lower().split(b","):
                    key, _, seconds = parameter.strip().partition(b"=")
                    if key == b"timeout" and seconds.isdigit():
                        self.limit_idleness(int(seconds[:9]))

    def limit_idleness(self, seconds: float) -> None:
        """Keep idle connections for less time than the server does."""
        self.idle_seconds = min(self.idle_seconds, _SAFE_SHARE * seconds)


class FastTransport(httpx.AsyncBaseTransport):
    """An httpx transport for many small requests: ``httpx.AsyncClient(transport=accucheck.FastTransport())``.

    HTTP/1.1 over keep-alive connections on asyncio, with or without uvloop, for any method, headers and body, with
    streamed replies and httpx's own timeouts and exceptions. The request extensions ``timeout``, ``sni_hostname`` and
    ``target`` work. It opens a connection whenever none is idle, so limit the number of requests in flight yourself. It
    connects to servers directly, never through a proxy, and opens no tunnels (CONNECT, Upgrade).

    Args:
        verify: What TLS trusts, as in httpx: True for the system's roots, an ``ssl.SSLContext``, or the path of a CA
            file or folder in PEM format. Certificates are always verified; False is an error.
        keepalive_expiry: Seconds that a connection may be idle; less if the server announces or shows less.

    Raises:
        ConfigurationError: An argument is wrong.

    Examples:
        ```python
        import httpx

        async with httpx.AsyncClient(transport=accucheck.FastTransport()) as web:
            print(web.is_closed)
        ```
    """

    def __init__(self, *, verify: Verify = True, keepalive_expiry: float = 30.0) -> None:
        self._context = tls_context(verify)
        self._idle_seconds = keepalive_expiry
        self._origins: dict[tuple[str, str, int, str], Origin] = {}
        self._open: dict[Connection, Origin] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tick_seconds = _GRANULARITY
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_lost = asyncio.Event()

    def __repr__(self) -> str:
        return f"<FastTransport, {len(self._open)} connections>"

    # httpx's way: any request, a streamed reply

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response as soon as the head has arrived; close its stream when done.

        Raises subclasses of httpx.TransportError, and RuntimeError on a different event loop or once closed.
        """
        self.bind()
        timeouts = request.extensions.get("timeout", {})
        read, write = _seconds(timeouts, "read"), _seconds(timeouts, "write")
        self.quicken(min(read, write))
        head, length = _request_head(request)
        origin = self.origin(request.url, request.extensions.get("sni_hostname"))
        connection = origin.take_idle() or await self._dial(origin, _seconds(timeouts, "connect"))
        body = _Body(self, origin, connection, read)
        try:
            connection.begin(head_only=request.method == "HEAD")
            body.sent_all = await _send(connection, head, request.stream, length, write)
            await connection.wait_for_head(read)
        except BaseException:
            await body.aclose()
            raise
        parser = connection.parser
        origin.heed_announced_limit(parser.headers)
        extensions = {"http_version": b"HTTP/" + parser.http_version.encode(), "reason_phrase": parser.reason}
        return httpx.Response(parser.status, headers=parser.headers, stream=body, extensions=extensions)

    async def aclose(self) -> None:
        """Close every connection; requests in flight fail. Returns when the sockets are closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in tuple(self._open):
            connection.fail("the client was closed")
        if self._open:
            await self._all_lost.wait()
        for origin in self._origins.values():
            origin.idle.clear()

    # The short path for accucheck's own calls: a finished message, and a reply read at once

    async def exchange(self, origin: Origin, message: bytes, timeouts: Timeouts) -> WholeReply:
        """Write ``message`` once and return the reply, up to 64 KiB. Avoids httpx objects, which halves the CPU.

        The caller has called ``bind`` and ``quicken``. Raises subclasses of httpx.TransportError; a cancellation
        while dialing says that nothing was sent.
        """
        loop = self._loop
        assert loop is not None
        deadline = loop.time() + timeouts.attempt
        connection = origin.take_idle()
        is_new = connection is None
        if connection is None:
            try:
                connection = await self._dial(origin, min(timeouts.connect, timeouts.attempt))
            except asyncio.CancelledError as error:
                raise not_sent(error) from None
        # From here to the end of the exchange there is only one await where it can be cancelled.
        try:
            await connection.exchange(message, timeouts.read, deadline)
        finally:
            self.release(origin, connection)
        parser = connection.parser
        if is_new:
            origin.heed_announced_limit(parser.headers)
        return WholeReply(parser.status, parser.headers, parser.take_body())

    def origin(self, url: httpx.URL, server_name: str | None = None) -> Origin:
        """Return where requests to ``url`` go. Raises httpx.UnsupportedProtocol unless it is http or https."""
        scheme, host = url.scheme, url.raw_host.decode("ascii")
        if scheme not in ("http", "https") or not host:
            raise httpx.UnsupportedProtocol(
                f"FastTransport supports http:// and https:// URLs, not {scheme!r}"
            )
        port = url.port or (443 if scheme == "https" else 80)
        key = (scheme, host, port, server_name or host)
        origin = self._origins.get(key)
        if origin is None:
            if scheme == "https" and self._context is None:
                self._context = default_context()
            origin = self._origins[key] = Origin(*key, self._idle_seconds)
        return origin

    def bind(self) -> None:
        """Bind this transport and its connections to the running event loop.

        Raises RuntimeError on a different one, under trio, and once the transport is closed.
        """
        if self._closed:
            raise RuntimeError("this transport is closed: create a new one")
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
        elif self._loop is not running:
            raise RuntimeError("this transport belongs to another event loop: create one transport per loop")

    def quicken(self, seconds: float) -> None:
        """Check limits often enough for one of this many seconds."""
        if seconds / 4 < self._tick_seconds:
            self._tick_seconds = max(seconds / 4, _FINEST)
            if self._timer is not None and self._loop is not None:
                self._timer.cancel()
                self._schedule_sweep(self._loop)

    def release(self, origin: Origin, connection: Connection) -> None:
        """Take back a connection after an exchange, no matter how it ended."""
        if connection.settle() and not self._closed:
            origin.idle.append(connection)

    # Called by connections (see ConnectionOwner)

    def lost(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        if not self._open:
            self._all_lost.set()

    def left_idle(self, connection: Connection, seconds: float) -> None:
        if (
            seconds >= 1.0 and connection in self._open
        ):  # less is an accident, no limit that a server would have
            self._open[connection].limit_idleness(seconds)

    async def _dial(self, origin: Origin, seconds: float) -> Connection:
        loop = self._loop
        assert loop is not None
        try:
            async with asyncio.timeout(seconds if seconds < math.inf else None):
                sock = await connect(await origin.addresses.addresses())
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self),
                    sock=sock,
                    ssl=self._context if origin.is_tls else None,
                    server_hostname=origin.server_name.rstrip(".") if origin.is_tls else None,
                    ssl_shutdown_timeout=_GOODBYE_SECONDS if origin.is_tls else None,
                )
        except TimeoutError:
            origin.addresses.forget()
            raise httpx.ConnectTimeout(f"{origin.place}: no connection within {seconds:g} s") from None
        except OSError as error:  # ssl.SSLError and socket.gaierror are children of it
            origin.addresses.forget()
            raise connect_error(origin.place, error) from error
        if self._closed or not connection.is_open():
            connection.abort()
            raise httpx.ConnectError(f"{origin.place}: closed as soon as it was opened")
        # Not earlier: if this is cancelled at the last moment, uvloop never reports the end to the connection.
        self._all_lost.clear()
        self._open[connection] = origin
        if self._timer is None:
            self._schedule_sweep(loop)
        return connection

    def _schedule_sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._tick_seconds, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for connection, origin in tuple(self._open.items()):
            connection.sweep(now, origin.idle_seconds)
        if self._open:
            self._schedule_sweep(loop)


class _Body(httpx.AsyncByteStream):
    """A response's body as it arrives. Closing it, or reading it to its end, returns the connection."""

    def __init__(
        self, transport: FastTransport, origin: Origin, connection: Connection, read_seconds: float
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection: Connection | None = connection
        self._read_seconds = read_seconds
        self.sent_all = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while self._connection is not None:
                chunk = await self._connection.wait_for_body(self._read_seconds)
                if not chunk:
                    break
                yield chunk
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if not self.sent_all:  # the reply came before the server had read the request
                connection.abort()
            self._transport.release(self._origin, connection)


def _seconds(timeouts: dict[str, float | None], phase: str) -> float:
    """Return a limit from httpx's ``timeout`` extension; None means no limit."""
    seconds = timeouts.get(phase)
    return math.inf if seconds is None else seconds


def _request_head(request: httpx.Request) -> tuple[bytes, int | None]:
    """Return the bytes of the request's head, and its body's length: None for chunked.

    Raises httpx.LocalProtocolError for invalid content, such as a line break in a header's value.
    """
    method = request.method.encode("latin-1")
    target: Any = request.extensions.get("target", request.url.raw_path)
    if method == b"CONNECT":
        raise httpx.UnsupportedProtocol("FastTransport does not open tunnels (CONNECT)")
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise httpx.LocalProtocolError("the method or the target cannot be sent")
    length: int | None = 0
    lines = [method + b" " + target + b" HTTP/1.1"]
    names = set()
    for name, value in request.headers.raw:
        if not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise httpx.LocalProtocolError(
                f"the header {name!r} cannot be sent: line break or control character"
            )
        lines.append(name + b": " + value)
        names.add(key := name.lower())
        if key == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise httpx.LocalProtocolError("chunked is the only transfer encoding that can be sent")
            length = None
        elif key == b"content-length":
            if not value.isdigit():
                raise httpx.LocalProtocolError("Content-Length is not a number")
            length = int(value)
    if {b"content-length", b"transfer-encoding"} <= names:
        raise httpx.LocalProtocolError("Content-Length together with Transfer-Encoding")
    if b"host" not in names:
        lines.insert(1, b"Host: " + request.url.netloc)
    return b"\r\n".join(lines) + b"\r\n\r\n", length


async def _send(
    connection: Connection, head: bytes, body: object, length: int | None, seconds: float
) -> bool:
    """Write a request; return whether all of it was sent, or False if the reply came first.

    Raises httpx.LocalProtocolError if the body is longer or shorter than its headers say.
    """
    sent = 0
    if not isinstance(body, httpx.ByteStream):
        await connection.write(
            head, seconds
        )  # at once: anything received before the request is not its reply
        head = b""
    async with aclosing(_chunks(body)) as chunks:
        async for chunk in chunks:
            if not chunk:
                continue
            sent += len(chunk)
            if length is None:
                chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
            elif sent > length:
                raise httpx.LocalProtocolError("the body is longer than its Content-Length")
            if not await connection.write(head + chunk, seconds):
                return False
            head = b""
    if length is not None and sent < length:
        raise httpx.LocalProtocolError("the body is shorter than its Content-Length")
    end = head + (b"0\r\n\r\n" if length is None else b"")
    return not end or await connection.write(end, seconds)


async def _chunks(body: object) -> AsyncGenerator[bytes, None]:
    if isinstance(body, httpx.AsyncByteStream):
        async for chunk in body:
            yield chunk
    elif isinstance(body, Iterable):
        for chunk in body:
            yield chunk
    else:
        raise TypeError("the request's body is not a stream of bytes")


_REAL_CALLS = "ACCUCHECK_REAL_CALLS_IN_TESTS"
_VENDOR = "accuauth.com"
_RUNNERS = {
    "unittest.main",
    "unittest.loader",
    "unittest.runner",
    "unittest.suite",
    "unittest.case",
    "django.test.runner",
}
"""While a test is imported or runs, a function of one of these is on some thread's stack, whatever started the test."""

stand_in: list[httpx.AsyncBaseTransport] = []
"""What answers in the vendor's place; the last one counts. Filled by ``SandboxThread.standing_in``."""


def stand_in_url() -> str | None:
    """Where the stand-in listens, or None without one."""
    return getattr(stand_in[-1], "url", None) if stand_in else None


def is_quick() -> bool:
    """Whether new clients are to wait as little as they can: a stand-in answers, and its test did not object."""
    return bool(stand_in) and getattr(stand_in[-1], "quick", False)


def is_in_tests(url: httpx.URL) -> bool:
    """Whether ``url`` is the real vendor's, and a stand-in is active, or a test of pytest, unittest or Django runs."""
    if url.host != _VENDOR and not url.host.endswith(f".{_VENDOR}"):
        return False
    return bool(stand_in) or (os.environ.get(_REAL_CALLS) != "1" and _is_test_running())


def _is_test_running() -> bool:
    if "PYTEST_VERSION" in os.environ or "PYTEST_CURRENT_TEST" in os.environ:
        return True
    if "unittest.case" not in sys.modules:
        return False
    for frame in sys._current_frames().values():  # of every thread, since a web framework's tests use others
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_globals.get("__name__") in _RUNNERS:
                return True
            caller = caller.f_back
    return False


def diallers(transport: object, depth: int = 4) -> list[object]:
    """Return the transport if it opens sockets, or those inside it that do, as in a retrier or a cache of one's own."""
    if isinstance(transport, FastTransport | ProxyTransport | httpx.AsyncHTTPTransport):
        return [transport]
    inside: Iterable[object] = ()
    if isinstance(transport, list | tuple):
        inside = transport
    elif isinstance(transport, dict):
        inside = transport.values()
    elif isinstance(transport, httpx.AsyncBaseTransport | httpx.AsyncClient):
        inside = getattr(transport, "__dict__", {}).values()
    return [found for part in inside for found in diallers(part, depth - 1)] if depth else []


class GuardedTransport(httpx.AsyncBaseTransport):
    """Answers with the running test's stand-in, or with a given transport if respx or pytest-httpx replaces what dials.

    Otherwise a call raises RuntimeError, because a test without a mock would cost money.
    """

    def __init__(self, given: httpx.AsyncBaseTransport | None = None) -> None:
        self._given = given

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if stand_in:
            return await stand_in[-1].handle_async_request(request)
        dialling = diallers(self._given)
        if (
            dialling
            and _is_mocked()
            and not any(isinstance(one, FastTransport | ProxyTransport) for one in dialling)
        ):
            assert self._given is not None
            return await self._given.handle_async_request(request)
        raise RuntimeError(
            f"a test tried to call the real AccuAuth ({request.url.host}), which costs money. Use the fixture "
            "accucheck_sandbox; without pytest, SandboxThread().standing_in() of accucheck.testing; for one client, "
            "transport=FakeVendor(), or base_url= or ACCUCHECK_BASE_URL with the address of a sandbox. With respx or "
            "pytest-httpx, give transport=httpx.AsyncHTTPTransport(). To pay for real calls, or to record and replay "
            f"them with a tool such as VCR, set {_REAL_CALLS}=1."
        )

    async def aclose(self) -> None:
        if self._given is not None:
            await self._given.aclose()


def _is_mocked() -> bool:
    """Whether respx (which replaces httpcore's pool) or pytest-httpx (httpx's transport) is at work.

    A recorder such as VCR also replaces them, but would call AccuAuth for anything not recorded yet.
    """
    import httpcore

    seams = (httpx.AsyncHTTPTransport.handle_async_request, httpcore.AsyncConnectionPool.handle_async_request)
    owners = {
        Path(code.co_filename).parent.name for seam in seams if (code := getattr(seam, "__code__", None))
    }
    return bool(owners & {"pytest_httpx", "respx"})
