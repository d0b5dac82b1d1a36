"""The ASGI application: the vendor's endpoints by hand, the pages by Starlette.

The endpoints are plain ASGI because the sandbox shares its machine with the client under test:
Starlette's routing, request and response objects would double the cost of a call.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from accucheck.sandbox._account import MAX_BODY, Account, Call, Reply, raw_number
from accucheck.sandbox._page import page
from accucheck.sandbox._settings import Endpoint, Settings
from accucheck.sandbox._truth import Fault


class RequestLog:
    """Appends to a file that only its owner can read. Raises ``OSError`` if it cannot be opened or written.

    Each line is one ``write`` to the file, with nothing buffered in this process: a reader, or a
    test after a kill, finds every call that was answered. It is not synced to the disk: the sandbox
    is meant to outlive its clients, not the machine.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, line: dict[str, object]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


ENDPOINTS: Final[dict[str, Endpoint]] = {
    "/check/whatsapp_advanced": "advanced",
    "/check/whatsapp_basic": "basic",
}
PAGES: Final = frozenset({"/", "/stats", "/stats/history", "/invoice"})

TRANSPORT: Final = "accucheck.transport"
"""Where the server leaves the connection in the scope's ``state``, so that faults can be done to it."""

# SO_LINGER on, 0 seconds: closing the socket sends RST in place of FIN.
_LINGER_NOT = struct.pack("ii", 1, 0)

_LONGEST_LOGGED = 40

KEPT_REQUESTS: Final = 10_000


class SandboxApp:
    """The simulated vendor as an ASGI application.

    ``clock`` gives monotonic seconds, ``wall`` the Unix time at the start for the log; both, and
    ``sleep``, can be replaced to test without waiting.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        request_log: RequestLog | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock = clock
        self._clock_to_wall = wall() - clock()
        self.account = Account(settings, clock(), self._clock_to_wall)
        self.requests: deque[dict[str, object]] = deque(maxlen=KEPT_REQUESTS)
        """The last calls, as in the request log."""
        self._log = request_log
        self._sleep = sleep
        self._pages = Starlette(
            routes=[
                Route("/", self._show_page),
                Route("/stats", self._show_stats),
                Route("/stats/history", self._show_history),
                Route("/invoice", self._show_invoice),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["path"] in PAGES and scope["method"] in ("GET", "HEAD")):
            await self._pages(scope, receive, send)
            return
        try:
            await self._check(scope, receive, send)
        except asyncio.CancelledError:
            # Only a closing server cancels, and nobody is left to answer; uvicorn would log it as a crash.
            return

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        call = call_from(scope["method"], scope["path"], headers, body)
        now = self.clock()
        reply = self.account.answer(call, now)
        line = request_line(call, reply, now + self._clock_to_wall)
        self.requests.append(line)
        if self._log is not None:
            self._log.write(line)
        if reply.delay:
            await self._sleep(reply.delay)
        if reply.fault is None:
            await _send(reply, send, whole=len(body) <= MAX_BODY)
        else:
            await _send_badly(reply, reply.fault, scope, receive, send)

    async def _show_page(self, request: Request) -> HTMLResponse:
        now = self.clock()
        account = self.account
        markup = page(account.settings, account.counts(now), account.history(), account.invoice())
        return HTMLResponse(
            markup,
            headers={
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
                "Cache-Control": "no-store",
            },
        )

    async def _show_stats(self, request: Request) -> JSONResponse:
        return JSONResponse(asdict(self.account.counts(self.clock())))

    async def _show_history(self, request: Request) -> JSONResponse:
        return JSONResponse([asdict(entry) for entry in self.account.history()])

    async def _show_invoice(self, request: Request) -> JSONResponse:
        lines = [asdict(line) for line in self.account.invoice()]
        return JSONResponse({"lines": lines, "total": f"{self.account.spent:f}"})


def call_from(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Return the call that a request makes. The names of ``headers`` are in lower case."""
    return Call(
        ENDPOINTS.get(path) if method == "POST" else None,
        headers.get("x-df-api-id", ""),
        headers.get("x-df-api-secret", ""),
        headers.get("content-type", ""),
        body,
    )


def request_line(call: Call, reply: Reply, wall: float) -> dict[str, object]:
    """Return what the request log holds of a call made at ``wall``, in seconds since 1970."""
    number = raw_number(call.body, call.content_type)
    line: dict[str, object] = {
        "t": round(wall, 6),
        "number": None if number is None else str(number)[:_LONGEST_LOGGED],
        "endpoint": call.endpoint,
        "status": reply.status,
        "call": reply.nth,
    }
    if reply.fault:
        line["fault"] = reply.fault
    return line


async def _read(receive: Receive) -> bytes | None:
    """Return the request body, or its beginning if it is longer than allowed; None if the client left."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


async def _send(reply: Reply, send: Send, *, whole: bool = True) -> None:
    """Send a reply; where the request was not read whole, the connection cannot be used again."""
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
    ]
    if reply.retry_after is not None:
        headers.append((b"retry-after", str(reply.retry_after).encode()))
    if not whole:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_badly(reply: Reply, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    """Do a fault to the connection instead of, or in the middle of, the reply."""
    transport: asyncio.Transport | None = scope.get("state", {}).get(TRANSPORT)
    if transport is None:
        # No socket to spoil: an application called in-process fails its caller in the same way.
        raise ConnectionResetError(f"the sandbox dropped this reply on purpose ({fault})")
    if fault == "reset":
        raw_socket: socket.socket = transport.get_extra_info("socket")
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    elif fault == "cut":
        length = str(len(reply.body)).encode()
        headers = [(b"content-type", reply.content_type.encode()), (b"content-length", length)]
        await send({"type": "http.response.start", "status": reply.http_status, "headers": headers})
        half = reply.body[: len(reply.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        transport.close()
    # A stalled call does nothing but wait for the client to go away.
    while (await receive())["type"] != "http.disconnect":
        pass
