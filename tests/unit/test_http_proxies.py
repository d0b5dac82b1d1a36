"""Which proxy the environment means."""

from __future__ import annotations

import httpx
import pytest

from accucheck._errors import ConfigurationError
from accucheck._http._proxies import proxy_for

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
    "address", ["", "ftp://user:password@proxy.test", "http://", "http://proxy.test:port"]
)
def test_what_is_no_proxys_address_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        proxy_for(URL, address)
    assert "password" not in str(caught.value)


def test_socks_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'httpx\[socks\]'"):
        proxy_for(URL, "socks5://127.0.0.1:1080")
