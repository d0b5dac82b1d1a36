"""Our own httpx transport: as many keep-alive connections as there are calls under way, and no pool."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from accucheck._http._body import WholeBody
from accucheck._http._connection import Connection
from accucheck._http._dial import ResolverCache, connect
from accucheck._http._parsers import Headers, best_parser
from accucheck._http._request import RequestHead
from accucheck._http._response import whole_response
from accucheck._timeouts import Timeouts

__all__ = ["LeanTransport"]

IDLE_SECONDS = 30.0
"""How long a connection may lie idle, unless the server says or shows that it waits less."""
_GOODBYE_SECONDS = 1.0
"""How long TLS may take to say good-bye."""
_GRANULARITY = 0.1
"""Limits are looked at so often, in seconds: one timer for all connections instead of one for each call."""
_SAFE_SHARE = 0.8
"""Part of a server's own idle limit that we use: a request must arrive before it, not just leave before."""


class LeanTransport(httpx.AsyncBaseTransport):
    """Carries the requests of a ``RequestMaker`` to one origin, over HTTP/1.1, on one event loop.

    ``context`` None means plain HTTP. It enforces all the timeouts itself, and answers with bodies that are
    whole. Raises httpx.TransportError's children; a cancelled call closes its connection and no other.
    """

    def __init__(
        self,
        origin: httpx.URL,
        timeouts: Timeouts,
        context: ssl.SSLContext | None,
    ) -> None:
        self._context = context
        self._host = origin.raw_host.decode("ascii")
        self._timeouts = timeouts
        self._loop: asyncio.AbstractEventLoop | None = None  # the sender sees to it that there is but one
        self._make_parser = best_parser()
        self._addresses = ResolverCache(self._host, origin.port or (443 if context else 80))
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._idle_seconds = IDLE_SECONDS
        self._tick_seconds = min(_GRANULARITY, timeouts.read / 4, timeouts.attempt / 4)
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_lost = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        head, body = request.headers, request.stream
        if type(head) is not RequestHead or type(body) is not WholeBody:
            raise httpx.UnsupportedProtocol("this transport carries accucheck's own requests only")
        if self._closed:
            raise httpx.ConnectError("the client is closed")
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeouts.attempt
        connection = self._take_idle()
        fresh = connection is None
        if connection is None:
            connection = await self._dial(loop)
        # From here to the end of the exchange there is one await, so there is one place to be cancelled in.
        try:
            reply = await connection.exchange(head.wire + body.content, deadline)
        finally:
            if connection.settle() and not self._closed:
                self._idle.append(connection)
        if fresh:
            self._heed_announced_limit(reply.headers)
        return whole_response(reply)

    async def aclose(self) -> None:
        """Close every connection; calls under way fail. Returns when the sockets are closed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in tuple(self._open):
            connection.fail("the client was closed")
        if self._open:
            await self._all_lost.wait()
        self._idle.clear()

    # What a connection tells (see ConnectionOwner):

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()

    def left_idle(self, seconds: float) -> None:
        if seconds >= 1.0:
            self._idle_seconds = min(self._idle_seconds, _SAFE_SHARE * seconds)

    def _take_idle(self) -> Connection | None:
        """The last one used first, so that those not needed grow old and are closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fit():
                return connection
            connection.close()
        return None

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> Connection:
        seconds = min(self._timeouts.connect, self._timeouts.attempt)
        try:
            async with asyncio.timeout(seconds):
                sock = await connect(await self._addresses.addresses())
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._make_parser(), self),
                    sock=sock,
                    ssl=self._context,
                    server_hostname=self._host.rstrip(".") if self._context else None,
                    ssl_shutdown_timeout=_GOODBYE_SECONDS if self._context else None,
                )
        except TimeoutError:
            self._addresses.forget()
            raise httpx.ConnectTimeout("") from None
        except OSError as error:  # ssl.SSLError and socket.gaierror are children of it
            self._addresses.forget()
            raise httpx.ConnectError(str(error)) from None
        if self._closed or not connection.is_open():
            connection.abort()
            raise httpx.ConnectError("closed as soon as it was open")
        # Not earlier: if this is cancelled at the last moment, uvloop never tells the connection of its end.
        self._all_lost.clear()
        self._open.add(connection)
        if self._timer is None:
            self._schedule_sweep(loop)
        return connection

    def _heed_announced_limit(self, headers: Headers) -> None:
        """Stay below ``Keep-Alive: timeout=5``; looked for on a connection's first reply only."""
        for name, value in headers:
            if name.lower() == b"keep-alive":
                for parameter in value.lower().split(b","):
                    key, _, seconds = parameter.strip().partition(b"=")
                    if key == b"timeout" and seconds.isdigit():
                        self._idle_seconds = min(self._idle_seconds, _SAFE_SHARE * int(seconds[:9]))

    def _schedule_sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._tick_seconds, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for connection in tuple(self._open):
            connection.sweep(now, self._timeouts.read, self._idle_seconds)
        if self._open:
            self._schedule_sweep(loop)
