"""Failures of one exchange: an operating-system error -> an httpx exception -> words and a ``Broken`` value.

The question that costs money is ``sent``: may the request have reached the vendor? No, only where no byte of it
can have left (no address, no connection, no TLS, no way through the proxy); yes in every case of doubt.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Sequence

import httpx

from accucheck._wire import Broken, Phase

__all__ = [
    "AttemptTimeout",
    "BodyOverCap",
    "TooManyOpenFiles",
    "Truncated",
    "broken",
    "connect_error",
    "lacks_descriptors",
    "os_words",
]

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


class AttemptTimeout(httpx.TimeoutException):
    """The attempt as a whole took too long, after the request was written."""


class Truncated(httpx.RemoteProtocolError):
    """The connection ended inside a reply."""


class BodyOverCap(httpx.TransportError):
    """A reply's body is larger than we are willing to hold; the reply's HTTP code is known."""

    def __init__(self, message: str, *, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class TooManyOpenFiles(httpx.ConnectError):
    """No file descriptor was left for another connection: a limit of this machine, not a network fault."""


def os_words(error: OSError) -> str:
    """Return what the operating system, the resolver or OpenSSL says, the same on every event loop."""
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

    Looks for the cause too: other transports wrap the operating system's error in one of httpx's.
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


# The first row that fits decides: (exception, phase, sent, what happened in words).
_FATES: Sequence[tuple[type[httpx.TransportError], Phase, bool, str]] = (
    (httpx.ConnectTimeout, "connect", False, "could not connect in time"),
    (httpx.ConnectError, "connect", False, "no connection"),
    (httpx.PoolTimeout, "connect", False, "no connection of the transport became free in time"),
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
"""What they say names the host and the cause; the phase says the rest."""

# httpcore tells these apart by text alone (they are h11's and httpcore's own words).
_CUT_SHORT = ("without sending complete message body", "incomplete chunked read")
_NO_REPLY = "disconnected without sending a response"


def broken(error: httpx.TransportError) -> Broken:
    """Return what ``error`` means for the call. Never raises; the message is one clause, safe to print."""
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
