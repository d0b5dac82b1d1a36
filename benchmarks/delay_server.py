"""A vendor that takes its time: answers every number after a delay, over a bare asyncio protocol.

nginx-light cannot delay a reply. This server does little else, so that it handles thousands of calls a second
on one core. A number that ends in an odd digit is on WhatsApp. ``GET /stats`` returns its counts.

Run as ``python -m benchmarks.delay_server --low 0.02 --high 0.08``; it prints its address and serves until
SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import time
from collections import Counter
from typing import cast

TICK = 0.1
"""Seconds: the grain of the counts over time."""

_NUMBER = re.compile(rb"number\W+(\d{8,9})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REPLY = (
    b'{"status": "OK", "result": {"number": "+51%b", "whatsapp": "%b", "status_update": "20231212", '
    b'"signature": "Hello world", "business_user": "no", "avatar": "yes"}, "request_id": "TID%026d"}'
)


class Counts:
    """What the server has seen since its start."""

    def __init__(self) -> None:
        self.requests = 0
        self.connections = 0
        self.open_connections = 0
        self.arrivals: Counter[int] = Counter()
        self.replies: Counter[int] = Counter()

    def to_json(self) -> bytes:
        return json.dumps(
            {
                "requests": self.requests,
                "connections": self.connections,
                "open_connections": self.open_connections,
                "tick": TICK,
                "arrivals": sorted(self.arrivals.items()),
                "replies": sorted(self.replies.items()),
            }
        ).encode()


class DelayedReplies(asyncio.Protocol):
    """One connection, one request at a time (no client here pipelines)."""

    def __init__(self, counts: Counts, low: float, high: float) -> None:
        self._counts = counts
        self._low, self._high = low, high
        self._received = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._counts.connections += 1
        self._counts.open_connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._counts.open_connections -= 1

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank_line, body = self._received.partition(b"\r\n\r\n")
        if not blank_line:
            return
        length = _LENGTH.search(head)
        if length is not None and len(body) < int(length[1]):
            return
        self._received = b""
        if head.startswith(b"GET "):
            self._reply(self._counts.to_json())
            return
        self._counts.requests += 1
        self._counts.arrivals[int(time.monotonic() / TICK)] += 1
        number = _NUMBER.search(body)
        digits = number[1] if number else b""
        whatsapp = b"yes" if digits[-1:] in (b"1", b"3", b"5", b"7", b"9") else b"no"
        reply = _REPLY % (digits, whatsapp, self._counts.requests)
        delay = random.uniform(self._low, self._high)
        if delay > 0:
            self._loop.call_later(delay, self._reply, reply)
        else:
            self._reply(reply)

    def _reply(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        self._counts.replies[int(time.monotonic() / TICK)] += 1
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )


async def serve(low: float, high: float) -> None:
    """Serve on a free loopback port until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    counts = Counts()
    server = await loop.create_server(lambda: DelayedReplies(counts, low, high), "127.0.0.1", 0, backlog=1024)
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    server.close()


def main() -> None:
    """Read the delays from the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--low", type=float, default=0.0, help="shortest delay in seconds")
    parser.add_argument("--high", type=float, default=0.0, help="longest delay in seconds")
    options = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        runner.run(serve(options.low, options.high))


if __name__ == "__main__":
    main()
