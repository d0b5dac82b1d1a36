"""One connection: one request out, one reply in, and never an answer for the wrong number."""

from __future__ import annotations

import asyncio
import math
import select
import socket
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import httpx

from accucheck._http._reply import AttemptTimeout, ReplyParser, os_words

__all__ = ["Connection", "ConnectionOwner"]

_HIGH_WATER = 256 * 1024
"""Bytes of a streamed body that may wait for the reader before the server must wait."""


class ConnectionOwner(Protocol):
    """The owner of the connections."""

    def lost(self, connection: Connection) -> None:
        """The connection is closed."""

    def left_idle(self, connection: Connection, seconds: float) -> None:
        """The server closed it after this long without a request."""


class Connection(asyncio.Protocol):
    """One exchange at a time. An exchange that does not end with a complete reply also ends the connection.

    ``exchange`` is for a small request with a reply read at once; ``begin``, ``drain``, ``wait_for_head`` and
    ``wait_for_body`` are for all others. ``parser`` has what has arrived of the reply. Both ways end with ``settle``.
    """

    __slots__ = (
        "_busy",
        "_deadline",
        "_error",
        "_has_news",
        "_heard",
        "_is_paused",
        "_loop",
        "_must_wait_to_write",
        "_owner",
        "_silence",
        "_streams",
        "_timeout",
        "_transport",
        "_waiter",
        "parser",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: ConnectionOwner) -> None:
        self.parser = ReplyParser()
        self._loop = loop
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._busy = False  # from the request to the end of its reply
        self._streams = False  # the reply is read as it arrives
        self._waiter: asyncio.Future[None] | None = None
        self._error: httpx.TransportError | None = None
        self._heard = 0.0  # when the last byte came or, at first, when the request left
        self._silence = self._deadline = math.inf
        self._timeout: type[httpx.TransportError] = httpx.ReadTimeout  # what silence is called
        self._is_paused = self._must_wait_to_write = False

    # For the caller, who has checked ``is_fit`` or just opened the connection:

    def exchange(self, message: bytes, silence: float, deadline: float) -> asyncio.Future[None]:
        """Write a request; the future ends when the whole reply is in ``parser``.

        The future raises httpx.TransportError after ``silence`` seconds without a byte, at ``deadline`` on the loop's
        clock, or if the exchange fails.
        """
        assert self._transport is not None
        self.parser.begin()
        self._busy = True
        self._streams = False
        self._heard = self._loop.time()
        self._silence = silence
        self._deadline = deadline
        self._timeout = httpx.ReadTimeout
        self._waiter = waiter = self._loop.create_future()
        self._transport.write(message)
        return waiter

    def begin(self, *, head_only: bool) -> None:
        """Start an exchange whose reply is read as it arrives; ``head_only`` is for the method HEAD."""
        self.parser.begin(head_only=head_only, cap=None)
        self._busy = self._streams = True
        self._deadline = math.inf

    async def write(self, data: bytes, seconds: float) -> bool:
        """Write a part of the request; wait while the server does not accept it, up to the timeout.

        Returns False once the reply has begun, since the server will not read the rest. Raises httpx.WriteError,
        httpx.WriteTimeout.
        """
        if self._error is None and self._transport is not None and not self.parser.status:
            self._transport.write(data)
            while self._must_wait_to_write and not self.parser.status and self._error is None:
                await self._wait(seconds, httpx.WriteTimeout)
            if self._error is None and not self.parser.status:
                return True
        if self.parser.status:
            return False
        raise (
            self._error if isinstance(self._error, httpx.WriteTimeout) else httpx.WriteError(str(self._error))
        )

    async def wait_for_head(self, seconds: float) -> None:
        """Wait until ``parser`` has the head of the final reply, up to the timeout for each byte."""
        while not self.parser.status:
            await self._next(seconds)

    async def wait_for_body(self, seconds: float) -> bytes:
        """Return the next part of the body, b"" at its end; wait up to the timeout."""
        while not (self.parser.body_size or self.parser.is_complete):
            await self._next(seconds)
        chunk = self.parser.take_body()
        if self._is_paused and self.is_open():
            assert self._transport is not None
            self._is_paused = False
            self._transport.resume_reading()
        return chunk

    def settle(self) -> bool:
        """End the exchange; return whether the connection can be used again. If not, it is closed."""
        if self._busy:  # given up: the rest of the reply is still to come, and must never be read
            self._busy = False
            self.abort()
        self._waiter = self._error = None
        return self.is_open()

    def is_open(self) -> bool:
        """Whether the connection is open, as far as the event loop knows."""
        return self._transport is not None and not self._transport.is_closing()

    def is_fit(self) -> bool:
        """Whether another request may be written.

        If a server closes a connection just as we write, the call may have been charged. So check whether data, or its
        end, has arrived that the event loop has not reported yet. This is worth a system call: some servers close after
        a number of requests without announcing it.
        """
        return self.is_open() and not self._has_news()

    def sweep(self, now: float, idleness: float) -> None:
        """Enforce the time limits: those of the exchange, else ``idleness``."""
        quiet = now - self._heard
        if self._waiter is not None:
            if now >= self._deadline:
                self._fail(AttemptTimeout(""))
            elif quiet >= self._silence:
                self._fail(self._timeout(""))
        elif not self._busy and quiet >= idleness:
            self.close()

    def close(self) -> None:
        """Close properly (TLS sends its close_notify)."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, message: str) -> None:
        """Abort; a call in flight fails with ``message``."""
        self._fail(httpx.ReadError(message))

    async def _next(self, seconds: float) -> None:
        if self._error is not None:
            raise self._error
        await self._wait(seconds, httpx.ReadTimeout)

    async def _wait(self, seconds: float, timeout: type[httpx.TransportError]) -> None:
        self._heard = self._loop.time()
        self._silence = seconds
        self._timeout = timeout
        self._waiter = self._loop.create_future()
        await self._waiter

    # What the event loop calls:

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._has_news = _watch(transport.get_extra_info("socket"))
        self._heard = self._loop.time()

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.abort()  # unrequested bytes could only be mistaken for another number's answer
            return
        self._heard = self._loop.time()
        try:
            is_complete = self.parser.feed(data)
        except httpx.TransportError as error:
            self._fail(error)
            return
        if is_complete:
            self._complete()
        elif self._streams:
            self._wake()
            if self.parser.body_size > _HIGH_WATER and not self._is_paused and self.is_open():
                assert self._transport is not None
                self._is_paused = True
                self._transport.pause_reading()

    def eof_received(self) -> None:
        if not self._busy:
            self._owner.left_idle(self, self._loop.time() - self._heard)
        else:
            try:
                self.parser.feed_eof()
            except httpx.TransportError as error:
                self._fail(error)
            else:
                self._complete()
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        words = os_words(error) if isinstance(error, OSError) else str(error or "")
        self._fail(httpx.ReadError(words))
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self._must_wait_to_write = True

    def resume_writing(self) -> None:
        self._must_wait_to_write = False
        if self._streams:
            self._wake()

    def _complete(self) -> None:
        self._busy = False
        if not self.parser.is_reusable or self._must_wait_to_write:
            self.close()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if waiter.done():  # its task was cancelled in this moment, and gives the exchange up
            self.abort()
        else:
            waiter.set_result(None)

    def _fail(self, error: httpx.TransportError) -> None:
        if self._busy:
            self._busy = False
            self._error = error
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        self.abort()


def _watch(sock: socket.socket) -> Callable[[], object]:
    """Return a function that returns whether the socket has something to read, including its end."""
    if not hasattr(select, "poll"):  # Windows
        return lambda: select.select([sock], [], [], 0)[0]
    poll = select.poll()  # select() fails for descriptors from 1,024 on
    poll.register(sock.fileno(), select.POLLIN)
    return partial(poll.poll, 0)
