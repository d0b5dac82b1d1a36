"""One HTTP attempt over an httpx transport, as a reply value. The only package that knows httpx.

The workers already limit the calls in flight, so no pool is needed. httpx's pool is slow (it scans its connections for
every request) and breaks (cancelled calls leak its slots until all others fail with PoolTimeout). So requests go
straight to a transport, httpx's own public interface:

- the caller's own transport, if given; or
- with a proxy, httpx's stock transport, one per call in flight (``ProxyTransport``); or
- ours, ``FastTransport``: keep-alive connections on an asyncio protocol, most recently used first, parsed by llhttp.

The path of a call: ``_sender`` (slots, deadline, reply value) -> ``_transport`` (an idle connection, or a new one by
``_dial``) -> ``_connection`` (bytes out, bytes in) -> ``_reply`` (parse, cap, decode, or interpret a failure).
``_limits`` decides how many calls may run and for how long. ``python -m benchmarks transports`` compares transports.
"""

from accucheck._http._limits import raise_open_files_limit
from accucheck._http._sender import Sender
from accucheck._http._transport import FastTransport, is_quick, stand_in_url

__all__ = ["FastTransport", "Sender", "is_quick", "raise_open_files_limit", "stand_in_url"]
