"""Which proxy the environment selects."""

from __future__ import annotations

import httpx
import pytest

from accucheck._arguments import is_loopback
from accucheck._errors import ConfigurationError
from accucheck._http._dial import bypasses, proxy_for

URL = httpx.URL("https://cloudapi.peru.accuauth.com/check/whatsapp_advanced")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.test:3128"}, "http://proxy.test:3128"),
        ({"https_proxy": "proxy.test:3128"}, "http://proxy.test:3128"),
        ({"ALL_PROXY": "http://proxy.test:3128"}, "http://proxy.test:3128"),
        ({"HTTP_PROXY": "http://proxy.test:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": "accuauth.com"}, None),
        ({"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": "other.test"}, "http://proxy.test:3128"),
        (
            {"HTTPS_PROXY": "http://proxy.test:3128", "ALL_PROXY": "socks://one.test:1080"},
            "http://proxy.test:3128",
        ),
        ({"ALL_PROXY": "socks://one.test:1080", "NO_PROXY": ".accuauth.com"}, None),
        ({"HTTP_PROXY": "nonsense"}, None),
        ({"HTTPS_PROXY": "http://one.test:1", "ALL_PROXY": "http://two.test:2"}, "http://one.test:1"),
    ],
)
def test_the_environment_is_read_as_httpx_users_expect(
    environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(URL)
    assert (str(proxy.url) if proxy else None) == expected


def test_the_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://one.test:1")
    monkeypatch.setenv("NO_PROXY", "*")
    proxy = proxy_for(URL, "http://two.test:2")
    assert proxy is not None
    assert str(proxy.url) == "http://two.test:2"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nonsense",
        "ftp://user:password@proxy.test",
        "http://",
        "http://proxy.test:port",
        "user:password@proxy.test",
        "socks://user:password@proxy.test:1080",
    ],
)
def test_an_invalid_proxy_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        proxy_for(URL, address)
    assert "password" not in str(caught.value)


def test_socks_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'httpx\[socks\]'"):
        proxy_for(URL, "socks5://127.0.0.1:1080")


LOCAL = [
    "127.0.0.1",
    "127.1.2.3",
    "[::1]",
    "localhost",
    "LOCALHOST.",
    "sandbox.localhost",
    "[::ffff:127.0.0.1]",
]


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("address", ["http://proxy.test:3128", "socks://proxy.test:1080", "nonsense"])
def test_this_machine_is_never_reached_through_a_proxy(
    host: str, scheme: str, name: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, address)
    assert is_loopback(host)
    assert proxy_for(httpx.URL(f"{scheme}://{host}:29100/check")) is None
    assert proxy_for(httpx.URL(f"{scheme}://{host}:29100/check"), "http://proxy.test:3128") is None


@pytest.mark.parametrize(
    "host", ["", "10.0.0.1", "localhost.test", "notlocalhost", "127.0.0.1.test", "[::2]", "0.0.0.0"]
)
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_a_proxy_that_cannot_be_used_is_an_error_when_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://proxy.test:1080")
    with pytest.raises(ConfigurationError, match="The proxy from ALL_PROXY cannot be used"):
        proxy_for(URL)


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "expected"),
    [
        ("", "vendor.test", 443, False),
        ("*", "vendor.test", 443, True),
        ("a.test, *", "vendor.test", 443, True),
        ("vendor.test", "vendor.test", 443, True),
        ("Vendor.TEST.", "vendor.test", 443, True),
        ("vendor.test", "api.vendor.test", 443, True),
        ("vendor.test", "othervendor.test", 443, False),
        (".vendor.test", "api.vendor.test", 443, True),
        (".vendor.test", "vendor.test", 443, True),
        ("*.vendor.test", "api.vendor.test", 443, True),
        ("other.test vendor.test", "vendor.test", 443, True),
        ("vendor.test:443", "vendor.test", 443, True),
        ("vendor.test:8443", "vendor.test", 443, False),
        (".vendor.test:8443", "api.vendor.test", 8443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3/8", "10.9.9.9", 443, True),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:8443", "10.1.2.3", 443, False),
        ("10.1.2.3:443", "10.1.2.3", 443, True),
        ("2", "10.1.2.2", 443, False),
        ("2.3", "10.1.2.3", 443, False),
        ("10.0.0.0/99,/,:,[,]:1,*.", "10.1.2.3", 443, False),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd12::1", "fd12::1", 443, True),
        ("[fd12::1]", "[fd12:0::1]", 443, True),
        ("[fd12::1]:443", "fd12::1", 443, True),
        ("[fd12::1]:8443", "fd12::1", 443, False),
    ],
)
def test_no_proxy_exempts_names_addresses_networks_and_ports(
    no_proxy: str, host: str, port: int, expected: bool
) -> None:
    assert bypasses(host, port, no_proxy) is expected
