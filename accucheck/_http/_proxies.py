"""Which proxy, if any: the argument, else the environment that httpx users know.

``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` in either case, and the system's settings on
macOS and Windows, all read by the standard library.
"""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass

import httpx

from accucheck._errors import ConfigurationError

__all__ = ["proxy_for"]

_SCHEMES = ("http", "https", "socks5", "socks5h")


def proxy_for(url: httpx.URL, argument: str | None = None) -> httpx.Proxy | None:
    """Return the proxy to reach ``url`` through, or None.

    Raises ConfigurationError for an address that cannot be a proxy's; it does not show the address, which may
    hold a password.
    """
    if argument is not None:
        return _parse(argument, "proxy=")
    proxies = getproxies()
    for name in (url.scheme, "all"):
        if address := proxies.get(name):
            hosts = {url.host, url.netloc.decode("ascii")}
            return None if any(map(proxy_bypass, hosts)) else _parse(address, f"{name.upper()}_PROXY")
    return None


def _parse(address: str, origin: str) -> httpx.Proxy:
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in _SCHEMES or not url.host:
        raise ConfigurationError(
            f"The proxy from {origin} is no address such as http://host:3128 "
            f"({', '.join(_SCHEMES)} are possible)."
        )
    if url.scheme.startswith("socks"):
        try:
            import socksio  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                f"The proxy from {origin} speaks SOCKS: pip install 'httpx[socks]'."
            ) from None
    return httpx.Proxy(url)
