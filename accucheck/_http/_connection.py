"""One connection: one request out, one reply in, and never one number's answer for another's."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import httpx

from accucheck._http._failures import AttemptTimeout
from accucheck._http._parsers import RawReply, ReplyParser

__all__ = ["Connection", "ConnectionOwner"]


class ConnectionOwner(Protocol):
    """Who keeps the connections."""

    def lost(self, connection: Connection) -> None:
        """It is gone for good."""

    def left_idle(self, seconds: float) -> None:
        """The server closed it after so long without a request."""


class Connection(asyncio.Protocol):
    """At most one exchange at a time. Whatever ends an exchange but a whole reply ends the connection too."""

    __slots__ = ("_deadline", "_has_news", "_heard", "_loop", "_owner", "_parser", "_transport", "_waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, parser: ReplyParser, owner: ConnectionOwner) -> None:
        self._loop = loop
        self._parser = parser
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[RawReply] | None = None
        self._heard = 0.0  # when the last byte came or, at first, when the request left
        self._deadline = 0.0

    def exchange(self, message: bytes, deadline: float) -> asyncio.Future[RawReply]:
        """Write a request; the future brings the reply, or raises an httpx.TransportError.

        Call ``settle`` when done with the future, however that went. The caller has checked ``is_open``.
        """
        assert self._transport is not None
        self._parser.begin()
        self._heard = self._loop.time()
        self._deadline = deadline
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(message)
        return waiter

    def settle(self) -> bool:
        """End the exchange; return whether the connection can be used again. If not, it is closed."""
        if self._waiter is not None:  # cancelled: the reply is still to come, and must never be read
            self._waiter = None
            self.abort()
        return self.is_open()

    def is_open(self) -> bool:
        """Whether neither side has closed the connection, as far as the event loop has told."""
        return self._transport is not None and not self._transport.is_closing()

    def is_fit(self) -> bool:
        """Whether another request may be written.

        A server that closes a connection just as we write leaves us with a call that may have been charged.
        So we look whether something (data, or its end) has come in that the event loop has not told us yet.
        That is worth its 1 µs: some servers close after a number of requests and do not announce it.
        """
        return self.is_open() and not self._has_news()

    def sweep(self, now: float, silence: float, idleness: float) -> None:
        """Enforce the time limits: ``silence`` and the deadline for an exchange, else ``idleness``."""
        quiet = now - self._heard
        if self._waiter is None:
            if quiet >= idleness:
                self.close()
        elif now >= self._deadline:
            self._fail(AttemptTimeout(""))
        elif quiet >= silence:
            self._fail(httpx.ReadTimeout(""))

    def close(self) -> None:
        """Say good-bye as the protocol has it (TLS sends its close_notify)."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once. A call under way is left to its own end."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, message: str) -> None:
        """Abort; a call under way fails with ``message``."""
        self._fail(httpx.ReadError(message))

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._has_news = _watch(transport.get_extra_info("socket"))
        self._heard = self._loop.time()

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.abort()  # nobody asked: these bytes could only ever be taken for another number's answer
            return
        self._heard = self._loop.time()
        try:
            reply = self._parser.feed(data)
        except httpx.TransportError as error:
            self._fail(error)
            return
        if reply is not None:
            self._deliver(reply)

    def eof_received(self) -> None:
        waiter = self._waiter
        if waiter is None:
            self._owner.left_idle(self._loop.time() - self._heard)
        elif not waiter.done():
            try:
                self._deliver(self._parser.feed_eof())
            except httpx.TransportError as error:
                self._fail(error)
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(httpx.ReadError(str(error) if error is not None else ""))
        self._owner.lost(self)

    def _deliver(self, reply: RawReply) -> None:
        waiter, self._waiter = self._waiter, None
        assert waiter is not None
        waiter.set_result(reply)
        if not reply.reusable:
            self.close()

    def _fail(self, error: httpx.TransportError) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.abort()


def _watch(sock: socket.socket) -> Callable[[], object]:
    """Return a function whose answer is true if the socket has something to read, its end included."""
    if not hasattr(select, "poll"):  # Windows
        return lambda: select.select([sock], [], [], 0)[0]
    poll = select.poll()  # select() fails for descriptors from 1,024 on
    poll.register(sock.fileno(), select.POLLIN)
    return partial(poll.poll, 0)
