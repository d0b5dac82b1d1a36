"""What runs in a Ray Data actor, without Ray: one bounded stream for all its batches, sharing the ledger."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

import accucheck
from accucheck.ray import _ActorStream
from accucheck.testing import FakeVendor

SECONDS = 120
"""Until a test gives up; none takes so long."""


def numbers(count: int, start: int = 0) -> list[str]:
    return [f"98{n:07}" for n in range(start, start + count)]


def actor(vendor: httpx.AsyncBaseTransport, *, ledger: Path | None = None, **options: Any) -> _ActorStream:
    client = {"api_id": "id", "api_secret": "secret", "transport": vendor, "ledger": ledger, "rate": 1e5}
    return _ActorStream(client, {"workers": 5, "buffer": 20} | options)


class Slow(httpx.AsyncBaseTransport):
    """Holds every call until ``go`` is set."""

    def __init__(self) -> None:
        self.vendor = FakeVendor()
        self.go = threading.Event()
        self.waiting = self.most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        import asyncio

        self.waiting += 1
        self.most = max(self.most, self.waiting)
        while not self.go.is_set():
            await asyncio.sleep(0.001)
        self.waiting -= 1
        return await self.vendor.handle_async_request(request)


class Read(Sequence[str]):
    """Texts that count how many of them were read."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.seen: set[int] = set()

    def __getitem__(self, place: Any) -> Any:
        self.seen.add(place)
        return self.texts[place]

    def __len__(self) -> int:
        return len(self.texts)


def test_batches_share_one_stream_and_get_their_own_answers() -> None:
    vendor = FakeVendor()
    with closing(actor(vendor)) as stream:
        asked = [numbers(7, start) for start in range(0, 700, 7)]
        for texts, done in zip(asked, [stream.submit(texts) for texts in asked], strict=True):
            answers = done.result(SECONDS)
            assert [getattr(answer, "check").number for answer in answers] == ["+51" + t for t in texts]  # noqa: B009
    assert len(vendor.requests) == 700


def test_no_more_rows_are_in_an_actor_than_workers_and_buffer() -> None:
    vendor = Slow()
    with closing(actor(vendor, workers=5, buffer=20)) as stream:
        texts = [Read(numbers(30, start)) for start in (0, 100, 200)]
        done = [stream.submit(each) for each in texts]
        while not vendor.waiting:
            time.sleep(0.01)
        assert sum(len(each.seen) for each in texts) <= 25
        vendor.go.set()
        for each in done:
            each.result(SECONDS)
    assert 1 <= vendor.most <= 5
    assert [len(each.seen) for each in texts] == [30, 30, 30]


def test_a_task_that_runs_twice_at_the_same_time_buys_every_number_once(tmp_path: Path) -> None:
    vendor = FakeVendor()
    ledger = tmp_path / "answers.db"
    with closing(actor(vendor, ledger=ledger)) as first, closing(actor(vendor, ledger=ledger)) as second:
        texts = numbers(200)
        both = [first.submit(texts), second.submit(texts)]
        answers = [[getattr(a, "check").request_id for a in done.result(SECONDS)] for done in both]  # noqa: B009
    assert answers[0] == answers[1]
    assert set(Counter(request["number"] for request in vendor.requests).values()) == {1}


def test_an_error_that_ends_the_run_is_raised_by_every_batch() -> None:
    vendor = FakeVendor({"980000003": "OUT_OF_QUOTA"}, strict=False)
    with closing(actor(vendor, workers=1)) as stream:
        for _ in range(2):
            with pytest.raises(accucheck.OutOfQuota):
                stream.submit(numbers(30)).result(SECONDS)
        asked = len(vendor.requests)
        with pytest.raises(accucheck.OutOfQuota):
            stream.submit(numbers(5, 500)).result(SECONDS)
    assert len(vendor.requests) == asked


def test_a_client_that_cannot_be_made_fails_the_batch_and_does_not_hang() -> None:
    with closing(_ActorStream({"base_url": "ftp://x"}, {"workers": 1, "buffer": 1})) as stream:
        with pytest.raises(accucheck.ConfigurationError):
            stream.submit(numbers(1)).result(SECONDS)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    for _ in range(3_000):  # a store's own thread may end a moment later on a busy machine
        if threading.active_count() <= before:
            return
        time.sleep(0.01)
    assert threading.active_count() <= before, threading.enumerate()
