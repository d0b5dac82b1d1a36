"""From a host name to a connected socket: Happy Eyeballs (RFC 8305), for asyncio's loop and uvloop alike.

uvloop's ``create_connection`` has no ``happy_eyeballs_delay``, and asyncio's race has had trouble with
cancellation, so the race is run here, over ``sock_connect``, which both have.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any, TypeAlias

__all__ = ["ResolverCache", "connect"]

Address: TypeAlias = tuple[socket.AddressFamily, Any]

HEAD_START = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305, section 5)."""
_REMEMBERED_SECONDS = 10.0


class ResolverCache:
    """The addresses of one host; hundreds of connections that open at once ask the resolver once."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lookup: asyncio.Task[list[Address]] | None = None
        self._expires = 0.0

    async def addresses(self) -> list[Address]:
        """Return the addresses in the order to try them. Raises OSError if there are none."""
        loop = asyncio.get_running_loop()
        if self._lookup is None or (self._lookup.done() and loop.time() >= self._expires):
            self._lookup = loop.create_task(self._look_up(loop))
            self._lookup.add_done_callback(_retrieve)
            self._expires = loop.time() + _REMEMBERED_SECONDS
        # One caller's cancellation must not be the others' failure.
        return await asyncio.shield(self._lookup)

    def forget(self) -> None:
        """Ask again next time: what we know did not work."""
        self._lookup = None  # not cancelled: others may be waiting for it

    async def _look_up(self, loop: asyncio.AbstractEventLoop) -> list[Address]:
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        return interleaved((family, address) for family, _, _, _, address in found)


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """Alternate between the families, the resolver's first choice first (RFC 8305, section 4)."""
    families: dict[socket.AddressFamily, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    return [address for address in chain(*zip_longest(*families.values())) if address is not None]


async def _connect(address: Address) -> socket.socket:
    family, target = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    connected = False
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, target)
        connected = True
    finally:
        if not connected:
            sock.close()
    return sock


async def connect(
    addresses: Sequence[Address],
    head_start: float = HEAD_START,
    connect_to: Callable[[Address], Coroutine[Any, Any, socket.socket]] = _connect,
) -> socket.socket:
    """Return a socket connected to the first address that answers. Raises OSError if none does."""
    if len(addresses) == 1:
        return await connect_to(addresses[0])
    waiting = list(reversed(addresses))
    attempts: set[asyncio.Task[socket.socket]] = set()
    winner: socket.socket | None = None
    problems: list[BaseException] = []
    try:
        while winner is None and (waiting or attempts):
            if waiting:
                attempts.add(asyncio.create_task(connect_to(waiting.pop())))
            finished, _ = await asyncio.wait(
                attempts, timeout=head_start if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in finished:
                if (problem := attempt.exception()) is not None:
                    attempts.discard(attempt)
                    problems.append(problem)
                elif winner is None:
                    attempts.discard(attempt)
                    winner = attempt.result()
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_close_loser)
            attempt.cancel()
    if winner is None:
        raise OSError("; ".join(dict.fromkeys(map(str, problems))) or "the host has no address")
    return winner


def _close_loser(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _retrieve(lookup: asyncio.Task[list[Address]]) -> None:
    """Take the error of a look-up that everybody stopped waiting for, so that asyncio does not complain."""
    if not lookup.cancelled():
        lookup.exception()
