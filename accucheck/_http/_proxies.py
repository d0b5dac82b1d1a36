"""Proxies: which one the argument or the environment means, and how calls go through it.

``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` in either case, else the system's settings on macOS
and Windows, as the standard library reads them. This machine is never reached through a proxy: plain http is
allowed to it alone, and a proxy would read the credentials.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import anyio
import httpx

from accucheck._credentials import is_loopback
from accucheck._errors import ConfigurationError
from accucheck._http._failures import connect_error
from accucheck._http._limits import check_descriptor
from accucheck._http._reply import read_whole

__all__ = ["ProxyTransport", "bypasses", "proxy_for"]

_SCHEMES = ("http", "https", "socks5", "socks5h")
_CLOSING_SECONDS = 2.0


def proxy_for(url: httpx.URL, argument: str | httpx.URL | httpx.Proxy | None = None) -> httpx.Proxy | None:
    """Return the proxy to reach ``url`` through, or None.

    Raises ConfigurationError for an address that cannot be a proxy's, if it would be used or is an argument; it
    does not show the address, which may hold a password.
    """
    given = None if argument is None else _parse(argument, "proxy=")
    if is_loopback(url.host):
        return None
    if given is not None:
        return given
    in_environment = getproxies_environment()
    proxies = in_environment or getproxies()
    for name in (url.scheme, "all"):
        if address := proxies.get(name):
            port = url.port or (443 if url.scheme == "https" else 80)
            if bypasses(url.host, port, proxies.get("no", "")):
                return None
            if not in_environment and proxy_bypass(url.host):  # the exceptions of macOS or Windows
                return None
            return _parse(address, f"{name.upper()}_PROXY")
    return None


def bypasses(host: str, port: int, no_proxy: str) -> bool:
    """Whether ``no_proxy`` (entries separated by commas or blanks) exempts a host and port.

    An entry is ``*``, a domain, which stands for the names below it too, with or without a leading dot or ``*.``,
    an IP address, or a network such as ``10.0.0.0/8``; each but ``*`` and networks may end in ``:port``.
    """
    host = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        if entry == "*":
            return True
        bracketed = re.fullmatch(r"\[(.*)\](?::(\d+))?", entry)
        named = re.fullmatch(r"([^:]*):(\d+)", entry)
        name, entry_port = (bracketed or named).groups() if bracketed or named else (entry, None)  # type: ignore[union-attr]
        name = name.removeprefix("*").strip(".")
        if not name or (entry_port is not None and int(entry_port) != port):
            continue
        if host == name or (address is None and host.endswith(f".{name}")):
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(name, strict=False):
                    return True
            except ValueError:
                continue
    return False


def _parse(address: str | httpx.URL | httpx.Proxy, origin: str) -> httpx.Proxy:
    if isinstance(address, httpx.Proxy):
        proxy = address
    else:
        try:
            text = str(address) if isinstance(address, str | httpx.URL) else ""
            if "://" not in text:
                text = (
                    f"http://{text}" if re.search(r":\d+/?$", text) else ""
                )  # a name alone may be a typing error
            proxy = httpx.Proxy(text)
        except (httpx.InvalidURL, ValueError):
            raise _unusable(origin) from None
    if proxy.url.scheme not in _SCHEMES or not proxy.url.host:
        raise _unusable(origin)
    if proxy.url.scheme.startswith("socks"):
        try:
            import socksio  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                f"The proxy from {origin} is a SOCKS proxy: pip install 'httpx[socks]'."
            ) from None
    return proxy


def _unusable(origin: str) -> ConfigurationError:
    return ConfigurationError(
        f"The proxy from {origin} cannot be used: set an address such as http://host:3128"
        f" ({', '.join(_SCHEMES)} are supported)."
    )


class ProxyTransport(httpx.AsyncBaseTransport):
    """Calls through a proxy: httpx's stock transport, one for each call under way, the last one used first.

    One stock transport for all calls leaks its pool's slots when calls are cancelled, until every call dies of
    PoolTimeout, and takes 2.3 ms of CPU for each. With one connection each there is no pool to leak from, and an
    exchange that did not end well takes its transport with it. Replies come whole, of 64 KiB at most.
    """

    def __init__(self, proxy: httpx.Proxy | None, context: ssl.SSLContext) -> None:
        self._proxy = proxy
        self._context = context
        self._limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0)
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return the whole response. Raises httpx.TransportError's children."""
        transport = self._idle.pop() if self._idle else self._new(request.url)
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
        return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(body))

    async def aclose(self) -> None:
        """Close the idle connections; those of calls under way close with them."""
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()

    def _new(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        try:  # whether a connection may be opened at all: httpx does not know what the ledger needs
            with socket.socket() as probe:
                check_descriptor(probe.fileno())
        except OSError as error:
            raise connect_error(url.host, error) from error
        return httpx.AsyncHTTPTransport(
            verify=self._context, proxy=self._proxy, limits=self._limits, retries=0, trust_env=False
        )
