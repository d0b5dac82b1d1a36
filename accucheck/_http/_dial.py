"""From a host name to a connected socket, or to a proxy in between, and which certificates TLS trusts.

Happy Eyeballs (RFC 8305) for both asyncio's loop and uvloop: uvloop's ``create_connection`` has no
``happy_eyeballs_delay``, and asyncio's has had problems with cancellation, so the race is run here on ``sock_connect``,
which both have.

The proxy comes from the argument, or from ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` in upper or
lower case, or from the system's settings on macOS and Windows, as the standard library reads them. This machine is
never reached through a proxy: plain http is allowed only to it, and a proxy would read the credentials.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TypeAlias
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import anyio
import httpx

from accucheck._arguments import is_loopback
from accucheck._errors import ConfigurationError
from accucheck._http._limits import check_descriptor
from accucheck._http._reply import connect_error, os_words, read_whole

__all__ = [
    "ProxyTransport",
    "ResolverCache",
    "Verify",
    "bypasses",
    "connect",
    "default_context",
    "proxy_for",
    "tls_context",
]

Address: TypeAlias = tuple[socket.AddressFamily, Any]
Verify: TypeAlias = ssl.SSLContext | str | os.PathLike[str] | bool
"""As in httpx: True for the system's roots, a context, or the path of CA certificates."""

HEAD_START = 0.25
"""Seconds before the next address is also tried (RFC 8305, section 5)."""
_REMEMBERED_SECONDS = 10.0


class ResolverCache:
    """The addresses of one host. Hundreds of connections opened at once ask the resolver only once.

    ``localhost`` and its subdomains are this machine whatever a resolver says (RFC 6761, section 6.3), because plain
    HTTP is allowed to it and must not go anywhere else.
    """

    def __init__(self, host: str, port: int) -> None:
        self._is_local = is_loopback(host)
        self._host = "localhost" if host.rstrip(".").lower().endswith(".localhost") else host
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
        """Ask again next time, because the known addresses did not work."""
        self._lookup = None  # not cancelled: others may be waiting for it

    async def _look_up(self, loop: asyncio.AbstractEventLoop) -> list[Address]:
        found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = [(family, address) for family, _, _, _, address in found]
        if self._is_local:
            addresses = [one for one in addresses if is_loopback(str(one[1][0]))] or [
                (socket.AF_INET, ("127.0.0.1", self._port)),
                (socket.AF_INET6, ("::1", self._port)),
            ]
        return interleaved(addresses)


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
        check_descriptor(sock.fileno())
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
        raise _all_failed(problems)
    return winner


def _all_failed(problems: Sequence[BaseException]) -> BaseException:
    """Return one error for all addresses, with their common errno or that of the first one."""
    for problem in problems:
        if not isinstance(problem, OSError):
            return problem
    said = list(dict.fromkeys(os_words(problem) for problem in problems if isinstance(problem, OSError)))
    if len(said) == 1:
        return problems[0]
    return OSError("; ".join(said) or "the host name has no IP address")


def _close_loser(attempt: asyncio.Task[socket.socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _retrieve(lookup: asyncio.Task[list[Address]]) -> None:
    """Retrieve the error of an abandoned look-up, so that asyncio does not complain."""
    if not lookup.cancelled():
        lookup.exception()


def default_context() -> ssl.SSLContext:
    """Return a context that verifies chain and host name against the system's roots.

    As in OpenSSL, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` count as the system's. If there are none at all (a bare
    container, a python.org build on macOS), certifi's roots, which httpx installs, are used.
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not _has_roots(ssl.get_default_verify_paths().capath):
        import certifi

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def tls_context(verify: Verify) -> ssl.SSLContext | None:
    """Return the context for ``verify``; None for the system's roots, which are read when needed.

    Raises ConfigurationError if it would not verify the server's certificate, or does not exist.
    """
    if verify is True:
        return None
    if isinstance(verify, ssl.SSLContext):
        if verify.verify_mode is not ssl.CERT_REQUIRED or not verify.check_hostname:
            raise ConfigurationError(
                "verify: this context does not verify the server's certificate and host name;"
                " start from ssl.create_default_context()"
            )
        return verify
    if verify is False:
        raise ConfigurationError(
            "verify=False is not supported, because every call carries your credentials: pass the CA that signed"
            " the server's certificate, as verify='ca.pem'"
        )
    if not isinstance(verify, str | os.PathLike):
        raise ConfigurationError(
            f"verify must be True, an ssl.SSLContext or the path of a CA file or folder, not {verify!r}"
        )
    path = Path(verify)
    if path.is_dir():
        if not _has_roots(path):
            raise ConfigurationError(
                f"verify: {path} contains no certificates that OpenSSL can find: run openssl rehash"
            )
        context = ssl.create_default_context(capath=str(path))
    else:
        try:
            context = ssl.create_default_context(cafile=str(path))
        except ssl.SSLError:
            raise ConfigurationError(f"verify: {path} is not a file of CA certificates in PEM form") from None
        except (OSError, ValueError) as error:
            words = os_words(error) if isinstance(error, OSError) else str(error)
            raise ConfigurationError(f"verify: {path} cannot be read: {words}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _has_roots(folder: str | os.PathLike[str] | None) -> bool:
    """Whether OpenSSL finds certificates in a folder, which it reads only later."""
    return folder is not None and any(name.endswith(".0") for name in os.listdir(folder))


_SCHEMES = ("http", "https", "socks5", "socks5h")
_CLOSING_SECONDS = 2.0


def proxy_for(url: httpx.URL, argument: str | httpx.URL | httpx.Proxy | None = None) -> httpx.Proxy | None:
    """Return the proxy to reach ``url`` through, or None.

    Raises ConfigurationError for an invalid address if it would be used or is an argument. The error does not show the
    address, which may contain a password.
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

    An entry is ``*``, a domain, which includes its subdomains, with or without a leading dot or ``*.``,
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
    """Calls through a proxy: httpx's stock transport, one per call in flight, most recently used first.

    A single stock transport for all calls leaks pool slots when calls are cancelled, until every call fails with
    PoolTimeout, and is slow. With one connection each, there is no pool to leak from, and a failed exchange discards
    its transport. Replies are read completely, up to 64 KiB.
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
        """Close the idle connections; those of calls in flight close with their calls."""
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
