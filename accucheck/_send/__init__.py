"""One HTTP attempt over an httpx transport, as a reply value. The only room that knows httpx.

Why it is arranged as it is. The workers bound the calls under way already, so nobody needs a pool's queue;
and httpx's pool is what costs (it scans its connections for every request) and what breaks (calls that are
cancelled leak its slots until all the others die of PoolTimeout). So requests are handed straight to
``AsyncBaseTransport.handle_async_request``, httpx's own public seam, and behind it stands

- a transport of the caller's, as it is; else
- where a proxy is set, httpx's stock transport, one for each call under way, thrown away after any failure;
- else our own: keep-alive connections on an asyncio protocol, the last one used first, parsed by llhttp
  (``accucheck[fast]`` brings httptools) or h11 (httpx brings it).

CPU per call against nginx, 200 calls under way, client and server pinned to a core each, medians of 5
interleaved runs (CPython 3.11, November 2026, a noisy 2-core machine: read the ratios). All rows but the last
are this sender whole, decoding included:

    our own, llhttp          uvloop  31 µs   asyncio  48 µs     (the seam alone: 23 and 41)
    our own, h11             uvloop  72 µs   asyncio 105 µs
    over pyreqwest           uvloop  76 µs
    over httpx-aiohttp       uvloop 166 µs
    stock, one for each call uvloop 370 µs
    raw aiohttp, gather      uvloop 149 µs   asyncio 153 µs

A protocol of our own is justified only by that, and only because it passes every fault test that the stock
transport passes, and some that it does not: see ``tests/integration/test_transport_*.py``.
"""

from accucheck._send._sender import Sender

__all__ = ["Sender"]
