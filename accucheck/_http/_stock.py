"""httpx's stock transport, one for each call under way: for proxies, which it knows and we do not.

One stock transport for all calls leaks its pool's slots when calls are cancelled, until every call dies of
PoolTimeout, and takes 2.3 ms of CPU for each. One connection each has no pool to leak from (0.5 ms), and an
exchange that did not end well takes its transport with it.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import httpx

from accucheck._http._body import WholeBody, read_whole

__all__ = ["OneCallTransports"]

_CLOSING_SECONDS = 2.0


class OneCallTransports(httpx.AsyncBaseTransport):
    """Lends each call a transport of its own, the last one given back first."""

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._idle.pop() if self._idle else self._make()
        whole = False
        try:
            response = await transport.handle_async_request(request)
            body = await read_whole(response)
            whole = True
        finally:
            if whole and not self._closed:
                self._idle.append(transport)
            else:
                with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
                    await transport.aclose()
        return httpx.Response(response.status_code, headers=response.headers, stream=WholeBody(body))

    async def aclose(self) -> None:
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()
