"""What comes back: a reply, parsed by llhttp, capped at 64 KiB and decompressed if needed, or a failure.

llhttp is Node's strict and fast parser, from httptools. For cases that it does not handle (an endless head, bytes after
the end, replies to HEAD), the rules are here.

A megabyte of gzip can expand to gigabytes. We request ``identity``; if a server compresses anyway, the same cap applies
to the result.

A failure is an error of the operating system or of httpx, turned into words and a ``Broken`` value. The question that
costs money is ``sent``: may the request have reached the vendor? No only if not a byte of it can have left (no address,
no connection, no TLS, no way through the proxy); yes in every case of doubt.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import httptools
import httpx

from accucheck._wire import Broken, Phase

__all__ = [
    "MAX_BODY",
    "AttemptTimeout",
    "BodyOverCap",
    "Headers",
    "ReplyParser",
    "TooManyOpenFiles",
    "Truncated",
    "UnreadableBody",
    "WholeReply",
    "broken",
    "connect_error",
    "decoded",
    "lacks_descriptors",
    "os_words",
    "read_whole",
]

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class AttemptTimeout(httpx.TimeoutException):
    """The attempt as a whole took too long, after the request was written."""


class Truncated(httpx.RemoteProtocolError):
    """The connection ended inside a reply."""


class BodyOverCap(httpx.TransportError):
    """A reply's body is over the cap; its HTTP code is known."""

    def __init__(self, message: str, *, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class TooManyOpenFiles(httpx.ConnectError):
    """No file descriptor was left for another connection: a limit of this machine, not a network error."""


def os_words(error: OSError) -> str:
    """Return the message of the operating system, the resolver or OpenSSL, the same on every event loop."""
    if isinstance(error, ssl.SSLError):
        return str(error)
    if isinstance(error, socket.gaierror):
        return f"the host name could not be resolved: {error.strerror or error}"
    if (
        error.errno is not None and error.errno in errno.errorcode
    ):  # asyncio and uvloop word strerror in their own ways
        return f"{os.strerror(error.errno)} ({errno.errorcode[error.errno]})"
    return str(error) or type(error).__name__


def connect_error(place: str, error: OSError) -> httpx.ConnectError:
    """Return the httpx exception for a connection to ``place`` (host:port) that could not be opened."""
    if error.errno in _NO_DESCRIPTORS:
        return TooManyOpenFiles(f"{place}: {os_words(error)}")
    return httpx.ConnectError(f"{place}: {os_words(error)}")


def lacks_descriptors(error: BaseException) -> bool:
    """Whether the process (EMFILE) or the machine (ENFILE) had no file descriptor left for the connection.

    Also checks the cause, because other transports wrap the operating system's error in one of httpx's.
    """
    if not isinstance(error, httpx.ConnectError):
        return False
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, TooManyOpenFiles) or getattr(seen, "errno", None) in _NO_DESCRIPTORS:
            return True
        if seen is None:
            return False
        if isinstance(seen, BaseExceptionGroup):  # anyio tries several addresses at once
            return any(getattr(one, "errno", None) in _NO_DESCRIPTORS for one in seen.exceptions)
        seen = seen.__cause__ or seen.__context__
    return False


# The first matching row decides: (exception, phase, sent, what happened in words).
_FATES: Sequence[tuple[type[httpx.TransportError], Phase, bool, str]] = (
    (httpx.ConnectTimeout, "connect", False, "could not connect in time"),
    (httpx.ConnectError, "connect", False, "no connection"),
    (httpx.PoolTimeout, "connect", False, "no connection became free in time"),
    (httpx.ProxyError, "connect", False, "the proxy refused"),
    (httpx.UnsupportedProtocol, "connect", False, "the transport does not support this URL's protocol"),
    (AttemptTimeout, "timeout", True, "the reply was not complete in time"),
    (httpx.ReadTimeout, "read", True, "no reply arrived in time"),
    (httpx.ReadError, "read", True, "the connection broke before the reply was complete"),
    (httpx.WriteTimeout, "write", True, "the server did not accept the request in time"),
    (httpx.WriteError, "write", True, "the connection broke while sending the request"),
    (Truncated, "truncated", True, "the reply was cut short"),
    (httpx.RemoteProtocolError, "protocol", True, "the reply is not valid HTTP"),
    (httpx.TransportError, "protocol", True, "the exchange failed"),
)

_SAYS_IT_ALL = (httpx.ConnectTimeout, httpx.ConnectError)
"""Errors whose own message names the host and the cause."""

# httpcore distinguishes these only by text (h11's and httpcore's own words).
_CUT_SHORT = ("without sending complete message body", "incomplete chunked read")
_NO_REPLY = "disconnected without sending a response"


def broken(error: httpx.TransportError) -> Broken:
    """Return what ``error`` means for the call. Never raises; the message is one clause and safe to print."""
    detail = " ".join(str(error).split())[:200]
    if isinstance(error, httpx.RemoteProtocolError):
        if any(words in detail for words in _CUT_SHORT):
            return Broken("truncated", detail, True)
        if _NO_REPLY in detail:
            return Broken("read", detail, True)
    phase, sent, words = next(row[1:] for row in _FATES if isinstance(error, row[0]))
    if detail and not isinstance(error, _SAYS_IT_ALL):
        detail = f"{words}: {detail}"
    return Broken(phase, detail or words, sent)


MAX_BODY = 64 * 1024
"""Bytes of a reply's body, before and after decompression. A real one has about 300."""
MAX_HEAD = 32 * 1024
"""Bytes of a reply's status line and headers, interim replies included."""
MAX_WIRE = 16 * MAX_BODY
"""Bytes of a whole reply on the wire: a body in chunks of one byte each has six times its size."""
_MOST_ENCODINGS = 2

Headers: TypeAlias = list[tuple[bytes, bytes]]


class WholeReply(NamedTuple):
    """A complete, final (not 1xx) reply, with its body as it arrived."""

    status: int
    headers: Headers
    body: bytes


class ReplyParser:
    """Parses the replies of one connection, one after another; does no I/O.

    Pass bytes to ``feed`` and the end of the connection to ``feed_eof``. ``status`` is 0 until the final reply's head
    is complete; ``is_complete`` says whether the reply is. httptools calls the ``on_…`` methods.
    """

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._is_stale = False  # llhttp does not know that a reply to HEAD has no body
        self.begin()

    def begin(self, *, head_only: bool = False, cap: int | None = MAX_BODY) -> None:
        """Forget the last reply, because a request is on its way.

        ``head_only``: the request is HEAD, so the reply has no body whatever its headers say. ``cap``: maximum bytes of
        the body; None for any number, which the reader then takes out with ``take_body``.
        """
        if self._is_stale:
            self._parser = httptools.HttpResponseParser(self)
        self._is_stale = self._head_only = head_only
        self._cap = cap
        self._fed = 0
        self.status = 0
        self._reason: list[bytes] = []
        self.headers: Headers = []
        self._body: list[bytes] = []
        self.body_size = 0
        self.is_complete = False
        self.is_reusable = False
        """Whether the connection can carry another request: kept alive, with nothing after the reply."""
        self._has_oversized_head = False

    @property
    def http_version(self) -> str:
        """``1.1`` or ``1.0``, once the head is complete."""
        return str(self._parser.get_http_version())

    @property
    def reason(self) -> bytes:
        """The reason phrase of the status line."""
        return b"".join(self._reason)

    def take_body(self) -> bytes:
        """Return the part of the body that has arrived since the last time."""
        body, self._body = b"".join(self._body), []
        self.body_size = 0
        return body

    def feed(self, data: bytes) -> bool:
        """Parse received bytes; return whether the reply is complete.

        Raises httpx.RemoteProtocolError for anything but HTTP, BodyOverCap for a body over the cap.
        """
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_complete:
                raise httpx.RemoteProtocolError(f"{type(error).__name__}: {error}") from None
            self.is_reusable = False
        if self._has_oversized_head:
            raise _oversized()
        if self._cap is not None and self.body_size > self._cap:
            raise BodyOverCap("the body is larger than 64 KiB", http_status=self.status)
        if self._fed > MAX_HEAD and not self.is_complete:
            # A reply must not continue endlessly in its head, chunk extensions or trailers.
            if not self.status:
                raise _oversized()
            if self._cap is not None and self._fed > MAX_WIRE:
                raise _oversized()
        if self._head_only and not data.endswith(b"\n"):
            self.is_reusable = False  # a body despite that: it would be read as the next reply
        return self.is_complete

    def feed_eof(self) -> None:
        """Process the end of the connection, which completes a reply of unknown length.

        Raises Truncated inside a reply, httpx.ReadError before its first byte.
        """
        if self.is_complete:
            return
        if not self._fed:
            raise httpx.ReadError("the server closed the connection without a reply")
        names = {name.lower() for name, _ in self.headers}
        # RFC 9112, section 6.3: with neither, the end of the connection is the end of the body.
        if not self.status or b"content-length" in names or b"transfer-encoding" in names:
            raise Truncated("the connection closed in the middle of the reply")
        self.is_complete = True

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.is_reusable = False
        else:
            self.headers, self._reason = [], []

    def on_status(self, reason: bytes) -> None:
        if not self.is_complete:
            self._reason.append(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is a trailer
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.is_complete:
            return
        self.status = self._parser.get_status_code()
        if self._fed > MAX_HEAD:  # it came in one piece with the body, or is too large itself
            self._has_oversized_head = _size(self.headers) > MAX_HEAD
        if self._head_only and self.status >= 200:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()

    def on_body(self, chunk: bytes) -> None:
        if self.is_complete:
            self.is_reusable = False
            return
        self.body_size += len(chunk)
        if self._cap is None or self.body_size <= self._cap:
            self._body.append(chunk)

    def on_message_complete(self) -> None:
        if self.is_complete:
            return
        if self.status >= 200:
            self.is_complete = True
            self.is_reusable = self._parser.should_keep_alive()
        else:  # 1xx: the final one follows (RFC 9110, section 15.2)
            self.status = 0


def _oversized() -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError("the reply is implausibly large")


def _size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + len(": \r\n") for name, value in headers)


async def read_whole(response: httpx.Response) -> bytes:
    """Return the raw body of another transport's response, and close its stream.

    Raises BodyOverCap as soon as it is larger than MAX_BODY, and what the transport raises.
    """
    stream = response.stream
    if type(stream) is httpx.ByteStream:  # in memory already, and nothing to close
        body = b"".join(stream)
    elif isinstance(stream, httpx.AsyncByteStream):
        read = bytearray()
        try:
            async for chunk in stream:
                read += chunk
                if len(read) > MAX_BODY:
                    break
        finally:
            await stream.aclose()
        body = bytes(read)
    else:
        raise TypeError("the transport answered with a body that cannot be read in async code")
    if len(body) > MAX_BODY:
        raise BodyOverCap("the body is larger than 64 KiB", http_status=response.status_code)
    return body


class UnreadableBody(ValueError):
    """A complete body that cannot be decoded; the message says why."""


def decoded(body: bytes, encodings: str) -> bytes:
    """Undo the Content-Encoding ``encodings`` (RFC 9110, section 8.4), at most two of them.

    Raises UnreadableBody if one is unknown, if the data is invalid or ends early, or if it expands to more than
    MAX_BODY bytes; no more than that is ever held.
    """
    names = [name for item in encodings.split(",") if (name := item.strip().lower()) not in ("", "identity")]
    if len(names) > _MOST_ENCODINGS:
        raise UnreadableBody("the body is compressed more than twice")
    for name in reversed(names):
        decoder = _DECODERS.get(name)
        if decoder is None:
            raise UnreadableBody("the body has a content encoding that was not requested")
        try:
            body = decoder(body)
        except zlib.error as error:
            raise UnreadableBody(f"the body is not valid {name}") from error
    return body


def _inflate(body: bytes, window_bits: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    plain = inflater.decompress(body, MAX_BODY + 1)
    if len(plain) > MAX_BODY:
        raise UnreadableBody("the body is larger than 64 KiB once decompressed")
    if not inflater.eof:
        raise UnreadableBody("the compressed body ends early")
    return plain


def _gzip(body: bytes) -> bytes:
    return _inflate(body, 16 + zlib.MAX_WBITS)


def _deflate(body: bytes) -> bytes:
    try:
        return _inflate(body, zlib.MAX_WBITS)
    except zlib.error:  # many servers leave out the zlib frame that the standard asks for
        return _inflate(body, -zlib.MAX_WBITS)


_DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate}
