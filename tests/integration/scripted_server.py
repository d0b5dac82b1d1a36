"""A server on loopback that sends exactly the bytes a test sets, and remembers its requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Self
from urllib.parse import parse_qs


def answer(number: str) -> bytes:
    """The vendor's answer for a number, as JSON."""
    result = {"number": f"+51{number}", "whatsapp": "yes", "signature": f"I am {number}"}
    return json.dumps({"status": "OK", "result": result, "request_id": f"TID{number}"}).encode()


def reply(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """A whole HTTP reply of known length."""
    lines = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Peer:
    """The server's end of one connection."""

    def __init__(
        self, server: ScriptedServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.index = server.connections
        server.connections += 1

    async def asked(self) -> str:
        """Read one request and return its number. Raises IncompleteReadError when the client has gone."""
        line, headers, content = await self.request()
        body = content.decode()
        number = json.loads(body)["number"] if body.startswith("{") else parse_qs(body)["number"][0]
        self.server.requests.append((line, headers, number))
        return str(number)

    async def head(self) -> tuple[str, dict[str, str]]:
        """Read a request's head: its first line, and its headers by their names in lower case."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        return lines[0], {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }

    async def request(self) -> tuple[str, dict[str, str], bytes]:
        """Read any request: its first line, its headers and its body."""
        line, headers = await self.head()
        if headers.get("transfer-encoding") != "chunked":
            return line, headers, await self.reader.readexactly(int(headers.get("content-length", "0")))
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return line, headers, body

    async def send(self, *pieces: bytes) -> None:
        """Send the pieces one by one, so that they probably arrive one by one."""
        for piece in pieces:
            if self.writer.transport.is_closing():  # uvloop's raises RuntimeError for that
                raise ConnectionResetError("the client has gone")
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def until_gone(self) -> None:
        """Wait until the client closes the connection."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


async def answers_all(peer: Peer) -> None:
    """The script of a well-behaved server."""
    while True:
        await peer.send(reply(answer(await peer.asked())))


class ScriptedServer:
    """Runs a script for each connection; the connection is closed when the script ends."""

    def __init__(
        self, script: Script, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._script = script
        self._context = context
        self._host = host
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        """Connections accepted so far."""
        self.open = 0
        """Connections open now, by the server's account."""
        self.requests: list[tuple[str, dict[str, str], str]] = []
        """(request line, headers, number) of every request."""

    @property
    def numbers(self) -> list[str]:
        return [number for _, _, number in self.requests]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, self._host, 0, ssl=self._context, backlog=1000, limit=1 << 20
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http{'s' if self._context else ''}://{host}:{self.port}/check"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        try:
            await self._script(Peer(self, reader, writer))
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the client disconnected, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            self.open -= 1


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, for at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
