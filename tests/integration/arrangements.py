"""The ways in which a sender can reach a server; all run the same tests."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from accucheck import FastTransport
from accucheck._http import Sender
from accucheck._http._dial import ProxyTransport
from accucheck._wire import Reply

ARRANGEMENTS = ("fast", "fast by httpx", "stock")
"""Our transport by its short way, our transport as httpx's client uses any, and httpx's own transports."""
LOOPS = ("asyncio", "uvloop")
HEADERS = {"X-DF-API-ID": "the-api-id", "X-DF-API-SECRET": "the-api-secret"}

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a new one for each transport would take 20 ms


class ByHttpx(httpx.AsyncBaseTransport):
    """Hides a transport's type, so that it is treated like any other."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def backend(loop: str) -> tuple[str, dict[str, Any]]:
    """The backend in the form that anyio's pytest plugin expects."""
    return "asyncio", {"use_uvloop": loop == "uvloop"}


def make_sender(
    arrangement: str, url: str, *, verify: ssl.SSLContext | None = None, **arguments: Any
) -> Sender:
    """Return a sender to ``url``; the environment has no proxy settings."""
    transport: httpx.AsyncBaseTransport
    match arrangement:
        case "stock":
            transport = ProxyTransport(None, verify or _NO_TLS)
        case "fast by httpx":
            transport = ByHttpx(FastTransport(verify=verify or True))
        case _:
            sender = Sender(url=url, headers=HEADERS, verify=verify or True, **arguments)
            assert isinstance(sender._transport, FastTransport)
            return sender
    return Sender(url=url, headers=HEADERS, transport=transport, **arguments)


async def call(sender: Sender, number: str = "987654321") -> Reply:
    """Send one number, and close the sender."""
    async with sender:
        return await sender(number)
