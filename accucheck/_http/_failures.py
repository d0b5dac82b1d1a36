"""What a failed exchange says about the money: a transport's exception -> a ``Broken`` value.

The one question that costs something is ``sent``: may the request have reached the vendor? No, only where
no byte of it can have left (no address, no connection, no TLS, no way through the proxy); yes in every
case of doubt, so that a call that may have been charged is counted as such.
"""

from __future__ import annotations

from collections.abc import Sequence

import httpx

from accucheck._wire import Broken, Phase

__all__ = ["AttemptTimeout", "BodyOverCap", "Truncated", "broken"]


class AttemptTimeout(httpx.TimeoutException):
    """The attempt as a whole took too long, after the request was written."""


class Truncated(httpx.RemoteProtocolError):
    """The connection ended inside a reply."""


class BodyOverCap(httpx.TransportError):
    """A reply's body is larger than we are willing to hold; the reply's HTTP code is known."""

    def __init__(self, message: str, *, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


# The first row that fits decides: (exception, phase, sent, what to tell when it says nothing itself).
_FATES: Sequence[tuple[type[Exception], Phase, bool, str]] = (
    (httpx.ConnectTimeout, "connect", False, "no connection in time"),
    (httpx.ConnectError, "connect", False, "no connection"),
    (httpx.PoolTimeout, "connect", False, "the transport had no connection free in time"),
    (httpx.ProxyError, "connect", False, "the proxy refused"),
    (httpx.UnsupportedProtocol, "connect", False, "the transport does not speak this URL's protocol"),
    (AttemptTimeout, "timeout", True, "no whole reply in time"),
    (TimeoutError, "timeout", True, "no whole reply in time"),
    (httpx.ReadTimeout, "read", True, "no reply in time"),
    (httpx.ReadError, "read", True, "the connection broke before the reply was whole"),
    (httpx.WriteTimeout, "write", True, "the server did not take the request in time"),
    (httpx.WriteError, "write", True, "the connection broke while the request was sent"),
    (Truncated, "truncated", True, "the reply was cut short"),
    (httpx.RemoteProtocolError, "protocol", True, "the reply is not valid HTTP"),
    (httpx.TransportError, "protocol", True, "the exchange failed"),
)

# httpcore tells these apart by text alone (they are h11's and httpcore's own words).
_CUT_SHORT = ("without sending complete message body", "incomplete chunked read")
_NO_REPLY = "disconnected without sending a response"


def broken(error: Exception) -> Broken:
    """Return what ``error`` means for the call. Never raises; the message is one clause, safe to print."""
    detail = " ".join(str(error).split())[:200]
    if isinstance(error, httpx.RemoteProtocolError):
        if any(words in detail for words in _CUT_SHORT):
            return Broken("truncated", detail, True)
        if _NO_REPLY in detail:
            return Broken("read", detail, True)
    for kind, phase, sent, plain in _FATES:
        if isinstance(error, kind):
            return Broken(phase, f"{plain}: {detail}" if detail else plain, sent)
    # A transport of the caller's own may raise anything. Its text is not ours to trust: the name will do.
    return Broken("protocol", f"the transport raised {type(error).__name__}", True)
