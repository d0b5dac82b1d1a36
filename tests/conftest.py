"""For all tests: the asyncio backend, and no connections to anything but loopback."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.postgres import Server, running_server

# The same examples every time, so that results do not depend on chance. To look for new ones:
# python -m pytest --hypothesis-profile=explore
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("same")

LOCAL_NAMES = {"localhost", ""}


def _is_loopback(address: object) -> bool:
    if not isinstance(address, tuple):  # a unix socket's path
        return True
    host = address[0]
    if host in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refuse_strangers(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and not _is_loopback(arguments[1]):
        raise RuntimeError(f"a test tried to connect to {arguments[1]!r}; only loopback is allowed")


sys.addaudithook(_refuse_strangers)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let workers of ``-n`` take tests from each other: some files take minutes, and halves of the list are uneven."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server for the whole session; skips where none is installed."""
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_ambient_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the developer's credentials, proxies, settings and ledgers away from the tests, and the other way around."""
    home = tmp_path_factory.mktemp("home")
    for name, folder in (("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(name, str(home / folder))
    for name in list(os.environ):
        if name.startswith("ACCUCHECK_") or name.lower() in {
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "no_proxy",
        }:
            monkeypatch.delenv(name)
