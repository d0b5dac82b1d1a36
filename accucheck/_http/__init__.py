"""One HTTP attempt over an httpx transport, as a reply value. The only room that knows httpx.

Why it is arranged as it is. The workers bound the calls under way already, so nobody needs a pool's queue;
and httpx's pool is what costs (it scans its connections for every request) and what breaks (calls that are
cancelled leak its slots until all the others die of PoolTimeout). So requests are handed straight to
``AsyncBaseTransport.handle_async_request``, httpx's own public seam, and behind it stands

- a transport of the caller's, as it is; else
- where a proxy is set, httpx's stock transport, one for each call under way, thrown away after any failure;
- else our own: keep-alive connections on an asyncio protocol, the last one used first, parsed by llhttp
  (``accucheck[fast]`` brings httptools) or h11 (httpx brings it).

CPU per check of the whole stream against nginx, 200 calls under way, client and server pinned to a core each
(``python -m benchmarks transports``; CPython 3.11, November 2026, a noisy 2-core machine: read the ratios):

    our own, llhttp            uvloop   49 µs   asyncio  41 µs
    our own, h11               uvloop   98 µs   asyncio 105 µs
    over pyreqwest             uvloop  202 µs
    over httpx-aiohttp         uvloop  257 µs
    stock, one for each call   uvloop  494 µs
    stock, one pool            uvloop 12.9 ms

A protocol of our own is justified only by that, and only because it passes every fault test that the stock
transport passes, and some that it does not: see ``tests/integration/test_transport_*.py``.
"""

from accucheck._http._sender import Sender

__all__ = ["Sender"]
