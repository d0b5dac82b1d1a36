"""The client without await, against the sandbox in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import accucheck
from accucheck._sync import SyncClient, check_sync
from accucheck.sandbox import Sandbox, Settings, serve


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox in another thread, as a server is."""
    ready: list[Any] = []
    started = threading.Event()

    async def run() -> None:
        stop = asyncio.Event()
        async with serve(Settings()) as running:
            ready.extend((running, asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    started.wait(10)
    running, loop, stop = ready
    yield running
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


def arguments(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "api_id": sandbox.settings.api_id,
        "api_secret": sandbox.settings.api_secret,
        "base_url": sandbox.url,
    }


def test_one_number(sandbox: Sandbox) -> None:
    assert check_sync("987 654 321", **arguments(sandbox)).number == "+51987654321"


def test_a_client_and_a_stream(sandbox: Sandbox) -> None:
    leads = [{"phone": f"98765{n:04}"} for n in range(50)]
    with SyncClient(**arguments(sandbox)) as client:
        assert client.check("987650000").number == "+51987650000"
        with client.stream(leads, number=lambda row: row["phone"], ordered=True) as outcomes:
            found = list(outcomes)
        assert [outcome.item for outcome in found] == leads
        assert outcomes.stats.read == 50


def test_several_threads_share_a_client(sandbox: Sandbox) -> None:
    with SyncClient(**arguments(sandbox)) as client, ThreadPoolExecutor(8) as pool:
        checks = list(pool.map(client.check, [f"98765{n:04}" for n in range(40)]))
    assert len({check.number for check in checks}) == 40


def test_leaving_a_stream_early_keeps_the_answers(sandbox: Sandbox) -> None:
    with SyncClient(**arguments(sandbox)) as client:
        with client.stream((f"98765{n:04}" for n in range(1000)), workers=5) as outcomes:
            next(outcomes)
        assert outcomes.stats.calls < 1000
    assert all(count == 1 for count in sandbox.charges().values())


def test_an_error_that_ends_the_run_reaches_the_loop(sandbox: Sandbox) -> None:
    with (
        SyncClient(**arguments(sandbox)) as client,
        client.stream([f"98765{n:04}" for n in range(20)], max_calls=3) as outcomes,
    ):
        taken: list[Any] = []
        with pytest.raises(accucheck.BudgetExhausted):
            taken.extend(outcomes)
        assert outcomes.stats.calls == 3


def test_wrong_arguments_are_reported_at_once() -> None:
    with pytest.raises(accucheck.ConfigurationError):
        SyncClient("id", "secret", base_url="ftp://x")


def test_a_client_that_is_not_open_says_so(sandbox: Sandbox) -> None:
    client = SyncClient(**arguments(sandbox))
    with pytest.raises(RuntimeError, match="open the client first"):
        client.check("987654321")
    with client:
        pass
    with pytest.raises(RuntimeError):
        client.check("987654321")


async def test_inside_an_event_loop_the_way_out_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"await client\.check"):
        check_sync("987654321")
