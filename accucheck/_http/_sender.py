"""One number, one HTTP attempt, one reply value."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from threading import get_ident
from types import TracebackType
from typing import Self

import httpx

from accucheck._errors import ConfigurationError
from accucheck._http._body import UnreadableBody, WholeBody, decoded, read_whole
from accucheck._http._deadlines import Deadlines
from accucheck._http._failures import BodyOverCap, broken
from accucheck._http._proxies import proxy_for
from accucheck._http._request import RequestMaker
from accucheck._http._slots import Slots
from accucheck._http._stock import OneCallTransports
from accucheck._http._tls import default_context
from accucheck._http._transport import LeanTransport
from accucheck._timeouts import Timeouts
from accucheck._wire import Answered, BodyStyle, Broken, Malformed, Reply, decode_reply, encode_number

__all__ = ["Sender"]

_SHORTEST_SECRET = 6
"""Shorter values are not blotted out: they are no secrets, and would turn up everywhere by chance."""


class Sender:
    """Asks the vendor about one number at a time: ``await sender("987654321")``.

    url          where to post.
    headers      the credentials; they are in no repr, message or log.
    body         how the number is written: "form" or "json".
    timeouts     limits of each phase of an attempt.
    transport    any httpx transport, used as it is and closed with the sender; None for our own.
    proxy        the proxy's URL; None for what the environment says.
    verify       the TLS context; None for the system's roots.
    connections  calls that may be under way at once; more of them wait their turn.

    Redirects are never followed: they would carry the credentials to another host.
    Raises ConfigurationError for arguments that contradict each other or cannot be sent.
    """

    def __init__(
        self,
        *,
        url: str,
        headers: Mapping[str, str],
        body: BodyStyle = "form",
        timeouts: Timeouts | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        proxy: str | None = None,
        verify: ssl.SSLContext | None = None,
        connections: int = 100,
    ) -> None:
        if connections < 1:
            raise ConfigurationError(f"connections must be 1 or more, not {connections!r}.")
        if transport is not None and (proxy is not None or verify is not None):
            raise ConfigurationError(
                "proxy and verify belong to the transport: set them on the one you give."
            )
        self._style: BodyStyle = body
        timeouts = timeouts or Timeouts()
        self._deadlines = Deadlines(timeouts.attempt)
        self._slots = Slots(connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._secrets = [value for value in headers.values() if len(value) >= _SHORTEST_SECRET]
        self._transport = transport or _own_transport(httpx.URL(url), timeouts, proxy, verify)
        self._exchange = (
            self._transport.handle_async_request
            if isinstance(self._transport, LeanTransport)
            else self._timed_exchange
        )
        limits = httpx.Timeout(timeouts.read, connect=timeouts.connect, pool=timeouts.connect)
        self._requests = RequestMaker(
            url, headers, body, shared=transport is None, extensions={"timeout": limits.as_dict()}
        )

    def __repr__(self) -> str:
        return f"<Sender {self._requests.url} by {type(self._transport).__name__}>"

    async def __call__(self, national: str) -> Reply:
        """Post one national number (without country code) once and return what came of it.

        Every failure but cancellation is a value. Raises RuntimeError on another event loop than before.
        """
        # Up to Python 3.11 asking for the running loop is a system call: 5 % of a check's CPU.
        if self._loop is None or self._thread != get_ident() or not self._loop.is_running():
            self.bind()
        request = self._requests.make(encode_number(self._style, national))
        if not self._slots.try_take():
            await self._slots.take()
        try:
            response = await self._exchange(request)
        except BodyOverCap as error:
            return Malformed(error.http_status, str(error))
        except Exception as error:  # noqa: BLE001  whatever a transport raises, the number has a fate
            return self._broken(error)
        finally:
            self._slots.give_back()
        return self._reply(national, response)

    async def _timed_exchange(self, request: httpx.Request) -> httpx.Response:
        """For transports that know nothing of the whole attempt's limit."""
        assert self._loop is not None
        call = self._deadlines.begin(self._loop)
        try:
            response = await self._transport.handle_async_request(request)
            response.stream = WholeBody(await read_whole(response))
        except BaseException as error:
            self._deadlines.end(call, error)
            raise
        self._deadlines.end(call)
        return response

    def _reply(self, national: str, response: httpx.Response) -> Reply:
        body = response.stream
        assert isinstance(body, WholeBody)
        content = body.content
        retry_after = None
        encodings: list[str] = []
        for name, value in response.headers.raw:
            match name.lower():
                case b"content-encoding":
                    encodings.append(value.decode("latin-1"))
                case b"retry-after":
                    retry_after = value.decode("latin-1")
        if encodings:
            try:
                content = decoded(content, ",".join(encodings))
            except UnreadableBody as error:
                return Malformed(response.status_code, str(error))
        reply = decode_reply(national, response.status_code, content, retry_after)
        if not isinstance(reply, Answered):
            plain = content
            for secret in self._secrets:  # an error page may tell us our own headers
                plain = plain.replace(secret.encode(), b"***")
            if plain != content:
                return decode_reply(national, response.status_code, plain, retry_after)
        return reply

    def _broken(self, error: Exception) -> Broken:
        reply = broken(error)
        message = reply.message
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return Broken(reply.phase, message, reply.sent)

    def bind(self) -> None:
        """Take the running event loop for this sender's own, where its connections live.

        Raises RuntimeError on another one, where a call would wait for them for ever, and under trio.
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("accucheck needs a running asyncio event loop (trio has none)") from None
        if self._loop is None:
            self._loop, self._thread = running, get_ident()
        elif self._loop is not running:
            raise RuntimeError("This client belongs to another event loop: make one for each loop.")

    async def aclose(self) -> None:
        """Close every connection, and the given transport too. Calls under way fail.

        Raises RuntimeError on another event loop than the calls'.
        """
        self.bind()
        self._deadlines.close()
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        self.bind()
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bind()
        self._deadlines.close()
        await self._transport.__aexit__(kind, error, trace)


def _own_transport(
    url: httpx.URL, timeouts: Timeouts, proxy: str | None, verify: ssl.SSLContext | None
) -> httpx.AsyncBaseTransport:
    address = proxy_for(url, proxy)
    if address is None:
        context = (verify or default_context()) if url.scheme == "https" else None
        return LeanTransport(url, timeouts, context)
    context = verify or default_context()
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0)
    return OneCallTransports(
        lambda: httpx.AsyncHTTPTransport(verify=context, proxy=address, limits=limits, retries=0)
    )
