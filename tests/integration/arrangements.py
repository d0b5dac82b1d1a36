"""The ways in which a sender can reach a server, each put through the same tests."""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any

import httpx

from accucheck._http import Sender
from accucheck._http._parsers import H11Parser, LlhttpParser
from accucheck._http._stock import OneCallTransports
from accucheck._http._transport import LeanTransport

LEAN = ("lean-httptools", "lean-h11")
ARRANGEMENTS = (*LEAN, "stock")
LOOPS = ("asyncio", "uvloop")
HEADERS = {"X-DF-API-ID": "the-api-id", "X-DF-API-SECRET": "the-api-secret"}

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # a new one for each transport would take 20 ms


def backend(loop: str) -> tuple[str, dict[str, Any]]:
    """What anyio's pytest plugin wants to hear."""
    return "asyncio", {"use_uvloop": loop == "uvloop"}


def make_sender(
    arrangement: str, url: str, *, verify: ssl.SSLContext | None = None, **arguments: Any
) -> Sender:
    """Return a sender to ``url``; every proxy setting of the environment has been taken away."""
    if arrangement == "stock":
        make = partial(httpx.AsyncHTTPTransport, verify=verify or _NO_TLS)
        return Sender(url=url, headers=HEADERS, transport=OneCallTransports(make), **arguments)
    sender = Sender(url=url, headers=HEADERS, verify=verify, **arguments)
    assert isinstance(sender._transport, LeanTransport)
    sender._transport._make_parser = {"lean-h11": H11Parser, "lean-httptools": LlhttpParser}[arrangement]
    return sender
