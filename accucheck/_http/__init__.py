"""One HTTP attempt over an httpx transport, as a reply value. The only package that knows httpx.

The workers bound the calls under way already, so nobody needs a pool's queue; and httpx's pool is what costs (it
scans its connections for every request) and what breaks (calls that are cancelled leak its slots until all the
others die of PoolTimeout). So requests are handed straight to a transport, httpx's own public seam:

- a transport of the caller's, as it is; else
- where a proxy is set, httpx's stock transport, one for each call under way (``ProxyTransport``); else
- our own, ``FastTransport``: keep-alive connections on an asyncio protocol, the last one used first, parsed by llhttp.

The path of a call: ``_sender`` (slots, deadline, reply value) -> ``_transport`` (an idle connection, or a new one by
``_dial``) -> ``_connection`` (bytes out, bytes in) -> ``_reply`` (parse, cap, decode, or what a
failure means); ``_limits`` how many calls may run and for how long. ``python -m benchmarks transports`` compares.
"""

from accucheck._http._limits import raise_open_files_limit
from accucheck._http._sender import Sender
from accucheck._http._transport import FastTransport

__all__ = ["FastTransport", "Sender", "raise_open_files_limit"]
