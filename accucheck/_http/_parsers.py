"""Bytes from a server -> one whole reply: the rules of HTTP/1.1, left to parsers that the world relies on.

llhttp (Node's parser, by way of httptools) takes 4 µs a reply; h11, which httpx brings anyway, takes 70.
Both are strict, and where they are not of one mind (a head without end, bytes after the end) we decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeAlias

import h11
import httpx

from accucheck._http._body import MAX_BODY
from accucheck._http._failures import BodyOverCap, Truncated

__all__ = ["H11Parser", "LlhttpParser", "RawReply", "ReplyParser", "best_parser"]

MAX_HEAD = 32 * 1024
"""Bytes of a reply's status line and headers, interim replies included."""
MAX_WIRE = 16 * MAX_BODY
"""Bytes of a whole reply on the wire: a body in chunks of one byte each has six times its size."""

Headers: TypeAlias = list[tuple[bytes, bytes]]


class RawReply(NamedTuple):
    """A final (not 1xx) reply, whole."""

    status: int
    headers: Headers
    body: bytes
    reusable: bool
    """Whether the connection is fit for another request: not closed, and nothing came after the reply."""


class ReplyParser(Protocol):
    """Parses the replies of one connection, one after the other; does no I/O."""

    def begin(self) -> None:
        """A request is on its way: forget the last reply."""

    def feed(self, data: bytes) -> RawReply | None:
        """Take bytes as they came; return the reply once it is whole.

        Raises httpx.RemoteProtocolError for what is not HTTP, BodyOverCap for a body over MAX_BODY.
        """

    def feed_eof(self) -> RawReply:
        """Take the end of the connection; return the reply if that is what ends it.

        Raises Truncated inside a reply, httpx.ReadError before its first byte.
        """


class LlhttpParser:
    """Over httptools, which calls the ``on_…`` methods from C."""

    def __init__(self) -> None:
        import httptools

        self._errors = (httptools.HttpParserError, httptools.HttpParserUpgrade)
        self._parser: Any = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        self._fed = 0
        self._status = 0  # 0 until the head is whole
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._body_size = 0
        self._reply: RawReply | None = None
        self._surplus = False
        self._oversized_head = False

    def feed(self, data: bytes) -> RawReply | None:
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except self._errors as error:
            if self._reply is None:
                raise httpx.RemoteProtocolError(f"{type(error).__name__}: {error}") from None
            self._surplus = True
        if self._oversized_head:
            raise _oversized()
        if self._body_size > MAX_BODY:
            raise _over_cap(self._status)
        if self._fed > MAX_HEAD and self._reply is None:
            _check_size(self._fed, whole_head=self._status != 0)
        if self._surplus and self._reply is not None:
            return self._reply._replace(reusable=False)
        return self._reply

    def feed_eof(self) -> RawReply:
        if not self._fed:
            raise _no_reply()
        names = {name.lower() for name, _ in self._headers}
        # RFC 9112, section 6.3: with neither, the end of the connection is the end of the body.
        if not self._status or b"content-length" in names or b"transfer-encoding" in names:
            raise _cut_short()
        return RawReply(self._status, self._headers, b"".join(self._body), reusable=False)

    def on_message_begin(self) -> None:
        if self._reply is not None:
            self._surplus = True
        else:
            self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:  # else it is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._reply is None:
            self._status = self._parser.get_status_code()
            if self._fed > MAX_HEAD:  # it came in one piece with the body, or is too large itself
                self._oversized_head = _size(self._headers) > MAX_HEAD

    def on_body(self, chunk: bytes) -> None:
        if self._reply is None:
            self._body_size += len(chunk)
            if self._body_size <= MAX_BODY:
                self._body.append(chunk)

    def on_message_complete(self) -> None:
        if self._reply is not None:
            return
        if self._status >= 200:
            self._reply = RawReply(
                self._status, self._headers, b"".join(self._body), self._parser.should_keep_alive()
            )
        else:  # 1xx: the real one follows (RFC 9110, section 15.2)
            self._status = 0


class H11Parser:
    """Over h11. It wants to have written the request itself, so it is told of one like ours."""

    _REQUEST = h11.Request(method="POST", target="/", headers=[("Host", "unused"), ("Content-Length", "0")])

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._fed = 0
        self._head: h11.Response | None = None
        self._body = bytearray()

    def begin(self) -> None:
        if self._connection.our_state is h11.DONE:
            self._connection.start_next_cycle()
        self._connection.send(self._REQUEST)
        self._connection.send(h11.EndOfMessage())
        self._fed = 0
        self._head = None
        self._body = bytearray()

    def feed(self, data: bytes) -> RawReply | None:
        self._fed += len(data)
        return self._take(data)

    def feed_eof(self) -> RawReply:
        if not self._fed:
            raise _no_reply()
        try:
            reply = self._take(b"")
        except httpx.RemoteProtocolError:
            raise _cut_short() from None
        if reply is None:
            raise _cut_short()
        return reply

    def _take(self, data: bytes) -> RawReply | None:
        try:
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if isinstance(event, h11.Response):
                    self._head = event
                    if self._fed > MAX_HEAD and _size(event.headers) > MAX_HEAD:
                        raise _oversized()
                    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                        raise httpx.RemoteProtocolError("Content-Length together with Transfer-Encoding")
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > MAX_BODY:
                        raise _over_cap(self._head.status_code if self._head else 0)
                elif isinstance(event, h11.EndOfMessage):
                    return self._whole()
                elif isinstance(event, h11.InformationalResponse):
                    continue
                else:
                    _check_size(self._fed, whole_head=self._head is not None)
                    return None
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from None

    def _whole(self) -> RawReply:
        assert self._head is not None
        reusable = self._connection.their_state is h11.DONE and self._connection.trailing_data == (b"", False)
        return RawReply(self._head.status_code, list(self._head.headers), bytes(self._body), reusable)


def _over_cap(status: int) -> BodyOverCap:
    return BodyOverCap("the body is larger than 64 KiB", http_status=status)


def _oversized() -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError("the reply is larger than any that makes sense")


def _check_size(fed: int, *, whole_head: bool) -> None:
    """Refuse a reply that goes on for ever in its head, its chunks' extensions or its trailers."""
    if fed > (MAX_WIRE if whole_head else MAX_HEAD):
        raise _oversized()


def _size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


def _no_reply() -> httpx.ReadError:
    return httpx.ReadError("the server closed the connection without a reply")


def _cut_short() -> Truncated:
    return Truncated("the connection ended inside the reply")


def best_parser() -> Callable[[], ReplyParser]:
    """Return what makes the fastest parser that is installed."""
    try:
        import httptools  # noqa: F401
    except ImportError:
        return H11Parser
    return LlhttpParser
