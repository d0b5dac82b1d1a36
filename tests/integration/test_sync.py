"""The client without await, against the sandbox in a thread."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import accucheck
from accucheck._sync import SyncClient, check_sync
from accucheck.sandbox import Sandbox, Settings, serve


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox in another thread."""
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


def test_one_number_is_checked(sandbox: Sandbox) -> None:
    assert check_sync("987 654 321", **arguments(sandbox)).number == "+51987654321"


def test_a_client_checks_and_streams(sandbox: Sandbox) -> None:
    leads = [{"phone": f"98765{n:04}"} for n in range(50)]
    with SyncClient(**arguments(sandbox)) as client:
        assert client.check("987650000").number == "+51987650000"
        with client.stream(leads, number=lambda row: row["phone"], ordered=True) as outcomes:
            found = list(outcomes)
        assert [outcome.item for outcome in found] == leads
        assert outcomes.stats.read == 50


def test_events_are_read_in_another_thread_until_the_client_is_closed(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor() as threads, SyncClient(**arguments(sandbox)) as client:
        seen = threads.submit(list, client.events)
        late = client.events
        client.check("987654321")
        client.close()
        for events in (seen.result(10), list(late)):  # the second is read only now
            assert [type(event) for event in events] == [accucheck.CallEnded, accucheck.Settled]


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
        with pytest.raises(RuntimeError, match="the client is already open: create a new one"):
            client.__enter__()
    with pytest.raises(RuntimeError, match="the client is closed: create a new one"):
        client.check("987654321")
    with pytest.raises(RuntimeError, match="the client is closed: create a new one"):
        client.__enter__()


async def test_inside_an_event_loop_the_error_names_the_async_client() -> None:
    with pytest.raises(RuntimeError, match=r"await client\.check"):
        check_sync("987654321")
    with pytest.raises(RuntimeError, match=r"await client\.check"):
        SyncClient("id", "secret").__enter__()


def test_an_interpreter_that_exits_with_an_open_client_ends_and_keeps_the_answers(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    ledger = tmp_path / "answers.db"
    script = f"""
import accucheck
client = accucheck.SyncClient("sandbox", "sandbox", base_url={sandbox.url!r}, ledger={str(ledger)!r}).__enter__()
print(client.check("987654321").whatsapp, client.stats.calls)
stream = client.stream(range(987000000, 987000100)).__enter__()
next(stream)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=without_pytest()
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[1] == "1"
    with SyncClient(**arguments(sandbox), ledger=ledger) as client:
        client.check("987654321")
        assert client.stats.calls == 0


def test_a_client_can_be_closed_while_another_thread_waits_for_an_answer(sandbox: Sandbox) -> None:
    sandbox.scripts.answers({"987654321": "PENDING"})
    client = SyncClient(**arguments(sandbox)).__enter__()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.check, "987654321")
        while not sandbox.requests:
            time.sleep(0.01)
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            waiting.result(30)


def without_pytest() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
