"""One number, one HTTP attempt, one reply value."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Mapping
from threading import get_ident
from types import TracebackType
from typing import Any, Self

import httpx

from accucheck._arguments import Timeouts
from accucheck._errors import ConfigurationError
from accucheck._http._dial import ProxyTransport, Verify, default_context, proxy_for, tls_context
from accucheck._http._limits import Deadlines, Slots, open_files_limit
from accucheck._http._reply import (
    AttemptTimeout,
    BodyOverCap,
    UnreadableBody,
    WholeReply,
    broken,
    decoded,
    lacks_descriptors,
    read_whole,
)
from accucheck._http._transport import FastTransport, GuardedTransport, diallers, is_in_tests
from accucheck._wire import (
    CONTENT_TYPES,
    Answered,
    BodyStyle,
    Broken,
    Malformed,
    Reply,
    decode_reply,
    encode_number,
    not_sent,
)

__all__ = ["Sender"]

_limits_logger = logging.getLogger("accucheck.limits")
"""Apart from the rest, so that the command line can show what it says."""

_SHORTEST_SECRET = 6
"""Shorter values are not masked: they are not secrets, and would match everywhere by chance."""
_DESCRIPTOR_WAIT = 0.25
"""Seconds until a call that found no file descriptor tries again if no other call is in flight."""


class Sender:
    """Asks the vendor about one number at a time: ``await sender("987654321")``.

    url          where to post.
    headers      those of ``Credentials``, which has checked them; never in a repr, message or log.
    body         how the number is encoded: "form" or "json".
    timeouts     time limits for each phase of an attempt.
    transport    any httpx transport, used unchanged and closed with the sender; None for our own.
    proxy        the proxy's URL; None for the environment's. Never used for loopback.
    verify       what TLS trusts, as in httpx: True for the system's roots, a context, the path of a CA file.
    connections  maximum calls in flight; others wait in line.

    Redirects are never followed, because they would carry the credentials to another host.
    Raises ConfigurationError for arguments that are wrong or contradict each other.
    """

    def __init__(
        self,
        *,
        url: str,
        headers: Mapping[str, str],
        body: BodyStyle = "form",
        timeouts: Timeouts | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        proxy: str | httpx.URL | httpx.Proxy | None = None,
        verify: Verify = True,
        connections: int = 100,
    ) -> None:
        self._style: BodyStyle = body
        self._timeouts = timeouts or Timeouts()
        self._deadlines = Deadlines(self._timeouts.attempt)
        self._slots = Slots(connections)
        self._has_warned = False
        self._starved_since: float | None = None  # since when no connection at all could be opened
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._closed = False
        self._secrets = [value for value in headers.values() if len(value) >= _SHORTEST_SECRET]
        self._url = httpx.URL(url)
        self._headers = _request_headers(self._url, headers, body)
        self._transport = _chosen_transport(self._url, transport, proxy, verify)
        if isinstance(self._transport, FastTransport):
            self._transport.quicken(min(self._timeouts.read, self._timeouts.attempt))
            self._origin = self._transport.origin(self._url)
            self._exchange = self._exchange_fast
        else:
            self._exchange = self._exchange_httpx
        # Only the body and its length change from call to call; the rest is built once for each kind of exchange.
        self._heads: dict[int, bytes] = {}
        self._prototypes: dict[int, _SecretHeaders] = {}
        self._limits = _as_httpx(self._timeouts)

    def at(self, url: str) -> Sender:
        """Return a sender to another URL of the same server: over the same connections, and closed with this one."""
        other = copy.copy(self)
        other._url = httpx.URL(url)
        other._headers = _SecretHeaders(self._headers)
        other._heads, other._prototypes = {}, {}
        fast = isinstance(self._transport, FastTransport)
        other._exchange = other._exchange_fast if fast else other._exchange_httpx
        return other

    @property
    def body(self) -> BodyStyle:
        """How the number is encoded. May be changed between calls."""
        return self._style

    @body.setter
    def body(self, style: BodyStyle) -> None:
        if style != self._style:
            self._style = style
            self._headers["Content-Type"] = CONTENT_TYPES[style]
            self._heads.clear()
            self._prototypes.clear()

    def __repr__(self) -> str:
        return f"<Sender {self._url} by {type(self._transport).__name__}>"

    async def __call__(self, national: str, timeouts: Timeouts | None = None) -> Reply:
        """Post one national number (without country code) once and return the result.

        ``timeouts`` replaces the sender's for this call. A transport failure (httpx.TransportError) is a value. Any
        other exception of a transport is a bug in it and propagates. Raises RuntimeError on a different event loop than
        before, and once closed; ConfigurationError if no connection is possible. If cancelled while it waits for a
        slot, a descriptor or a connection, it says so; see ``was_not_sent``.
        """
        # Up to Python 3.11 asking for the running loop is a system call: 5 % of a check's CPU.
        if self._loop is None or self._thread != get_ident() or self._closed or not self._loop.is_running():
            self.bind()
        body = encode_number(self._style, national)
        slots = self._slots
        is_short = False
        while True:
            if not slots.try_take():
                try:
                    await slots.take(first=is_short)
                except asyncio.CancelledError as error:
                    raise not_sent(error) from None
            try:
                reply = await self._exchange(body, timeouts)
                break
            except BodyOverCap as error:
                return Malformed(error.http_status, str(error))
            except httpx.TransportError as error:
                if not lacks_descriptors(error):
                    return self._broken(error)
                # Nothing was sent: this call waits for another call's connection, or for a descriptor.
                others = slots.withhold()
            finally:
                slots.give_back()
            is_short = True
            try:
                await self._wait_for_descriptor(others)
            except asyncio.CancelledError as error:
                raise not_sent(error) from None
        self._starved_since = None
        return self._decode(national, reply)

    async def _wait_for_descriptor(self, others: bool) -> None:
        """Warn once that file descriptors are short; wait if no other call in flight can free one.

        Raises ConfigurationError if not a single connection could be opened for as long as a connect timeout.
        """
        assert self._loop is not None
        limit = open_files_limit()
        ulimit = "" if limit is None else f" (ulimit -n {limit})"
        if not self._has_warned:
            self._has_warned = True
            _limits_logger.warning(
                "too many open files%s, so fewer calls run at once; raise the limit to use all workers: "
                "ulimit -n 4096",
                ulimit,
            )
        if others:
            return
        now = self._loop.time()
        if self._starved_since is None:
            self._starved_since = now
        elif now - self._starved_since >= self._timeouts.connect:
            raise ConfigurationError(
                f"too many open files{ulimit}: no connection can be opened; raise the limit: ulimit -n 4096"
            )
        await asyncio.sleep(_DESCRIPTOR_WAIT)

    # The two kinds of exchange

    async def _exchange_fast(self, body: bytes, timeouts: Timeouts | None) -> WholeReply:
        """Over our own transport: bytes out, bytes in."""
        assert isinstance(self._transport, FastTransport)
        if timeouts is None:
            timeouts = self._timeouts
        else:
            self._transport.quicken(min(timeouts.read, timeouts.attempt))
        head = self._heads.get(len(body))
        if head is None:
            head = self._heads[len(body)] = self._wire_head(len(body))
        return await self._transport.exchange(self._origin, head + body, timeouts)

    def _wire_head(self, length: int) -> bytes:
        """Return the request's head for bodies of ``length`` bytes."""
        lines = [b"POST " + self._url.raw_path + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self._headers.raw]
        lines.append(b"Content-Length: %d" % length)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    async def _exchange_httpx(self, body: bytes, timeouts: Timeouts | None) -> WholeReply:
        """Over any other transport: a complete httpx request with its body, which the transport may keep or change."""
        assert self._loop is not None
        request = self._request(body)
        if timeouts is not None:
            request.extensions = {"timeout": _as_httpx(timeouts)}
            limit = asyncio.timeout(timeouts.attempt)
            try:
                async with limit:
                    response = await self._transport.handle_async_request(request)
                    return WholeReply(response.status_code, response.headers.raw, await read_whole(response))
            except TimeoutError as error:
                if not limit.expired():
                    raise  # the transport's own, which is a mistake in it
                raise AttemptTimeout("") from error
        call = self._deadlines.begin(self._loop)
        try:
            response = await self._transport.handle_async_request(request)
            reply = WholeReply(response.status_code, response.headers.raw, await read_whole(response))
        except BaseException as error:
            try:
                self._deadlines.end(call, error)
            except TimeoutError:
                raise AttemptTimeout("") from error
            raise
        self._deadlines.end(call)
        return reply

    def _request(self, body: bytes) -> httpx.Request:
        headers = self._prototypes.get(len(body))
        if headers is None:
            headers = self._prototypes[len(body)] = _SecretHeaders(self._headers)
            headers["Content-Length"] = str(len(body))
        return _PreparedRequest(self._url, _SecretHeaders(headers), body, {"timeout": dict(self._limits)})

    # The reply

    def _decode(self, national: str, raw: WholeReply) -> Reply:
        content = raw.body
        retry_after = None
        encodings: list[str] = []
        for name, value in raw.headers:
            match name.lower():
                case b"content-encoding":
                    encodings.append(value.decode("latin-1"))
                case b"retry-after":
                    retry_after = value.decode("latin-1")
        if encodings:
            try:
                content = decoded(content, ",".join(encodings))
            except UnreadableBody as error:
                return Malformed(raw.status, str(error))
        reply = decode_reply(national, raw.status, content, retry_after)
        if not isinstance(reply, Answered):
            plain = content
            for secret in self._secrets:  # an error page may repeat our own headers
                plain = plain.replace(secret.encode(), b"***")
            if plain != content:
                return decode_reply(national, raw.status, plain, retry_after)
        return reply

    def _broken(self, error: httpx.TransportError) -> Broken:
        reply = broken(error)
        message = reply.message
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return Broken(reply.phase, message, reply.sent)

    # The life of a sender

    def bind(self) -> None:
        """Bind this sender and its connections to the running event loop.

        Raises RuntimeError on a different one, where calls would wait forever, under trio, and once closed.
        """
        if self._closed:
            raise RuntimeError("this client is closed: create a new one")
        self._bind_loop()

    def _bind_loop(self) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "accucheck needs a running asyncio event loop (trio is not supported)"
            ) from None
        if self._loop is None:
            # Here rather than on creation, since a test may use a client that a module made when it was imported.
            if is_in_tests(self._url) and diallers(self._transport):
                self._transport, self._exchange = GuardedTransport(self._transport), self._exchange_httpx
            elif isinstance(self._transport, FastTransport):
                self._transport.bind()
            self._loop, self._thread = running, get_ident()
        elif self._loop is not running:
            raise RuntimeError("This client belongs to another event loop: create one client per loop.")

    async def aclose(self) -> None:
        """Close every connection and the given transport. Calls in flight fail.

        Raises RuntimeError on another event loop than the calls'.
        """
        self._bind_loop()
        self._closed = True
        self._deadlines.close()
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        self.bind()
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bind_loop()
        self._closed = True
        self._deadlines.close()
        await self._transport.__aexit__(kind, error, trace)


def _as_httpx(timeouts: Timeouts) -> dict[str, float]:
    connect, read = timeouts.connect, timeouts.read
    return {"connect": connect, "read": read, "write": read, "pool": connect}


class _SecretHeaders(httpx.Headers):
    """Headers that never show a value, because httpx's own repr would show the credentials."""

    def __repr__(self) -> str:
        return f"<headers: {', '.join(self.keys())}>"


class _PreparedRequest(httpx.Request):
    """A POST built from prepared parts, which is faster than httpx's own constructor."""

    def __init__(
        self, url: httpx.URL, headers: httpx.Headers, body: bytes, extensions: dict[str, Any]
    ) -> None:
        self.method = "POST"
        self.url = url
        self.headers = headers
        self.extensions = extensions
        self.stream = httpx.ByteStream(body)
        self._body = body

    @property
    def content(self) -> bytes:
        return self._body

    def read(self) -> bytes:
        return self._body

    async def aread(self) -> bytes:
        return self._body


def _request_headers(url: httpx.URL, credentials: Mapping[str, str], style: BodyStyle) -> _SecretHeaders:
    """Return the headers that every call has."""
    from importlib.metadata import version  # here, for it would add 10 ms to the package's import

    return _SecretHeaders(
        {
            "Host": url.netloc.decode("ascii"),
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Connection": "keep-alive",
            "User-Agent": f"accucheck/{version('accucheck')}",
            "Content-Type": CONTENT_TYPES[style],
            **credentials,
        }
    )


def _chosen_transport(
    url: httpx.URL,
    transport: httpx.AsyncBaseTransport | None,
    proxy: str | httpx.URL | httpx.Proxy | None,
    verify: Verify,
) -> httpx.AsyncBaseTransport:
    """Return the given transport, or httpx's own if a proxy is set, or else ours."""
    if transport is not None:
        if not isinstance(transport, httpx.AsyncBaseTransport):
            raise ConfigurationError(f"transport must be an httpx.AsyncBaseTransport, not {transport!r}")
        if proxy is not None or verify is not True:
            raise ConfigurationError(
                "proxy and verify are settings of the transport: set them on the transport you pass."
            )
        return transport
    address = proxy_for(url, proxy)
    if address is None:
        return FastTransport(verify=verify)
    return ProxyTransport(address, tls_context(verify) or default_context())
