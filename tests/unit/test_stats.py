"""The counts add up, no matter how checks and streams end. In virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck import AccucheckError, Client, VendorUnavailable
from accucheck._models import Stats
from tests.unit.test_checks import Ledger, Vendor, client_of, numbers, ok
from tests.virtual_time import run

REPLIES: dict[str, Callable[[str], httpx.Response]] = {
    "answer": ok,
    "pending": lambda national: httpx.Response(400, json={"status": "PENDING"}),
    "internal error": lambda national: httpx.Response(500, json={"status": "INTERNAL_ERROR"}),
    "invalid": lambda national: httpx.Response(400, json={"status": "INVALID_ARGUMENT"}),
    "quota": lambda national: httpx.Response(403, json={"status": "OUT_OF_QUOTA"}),
}
"""What the vendor says to a number."""


class Moody(Vendor):
    """Sends each number its scripted replies, one after the other, and then answers."""

    def __init__(self, moods: dict[str, list[str]], outage: tuple[float, float]) -> None:
        super().__init__(latency=0.3)
        self.moods = moods
        self.outage = outage
        self.started = 0.0
        self.reply = self._next_reply

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        began, ended = self.outage
        self.down = began <= asyncio.get_running_loop().time() - self.started < ended
        return await super().handle_async_request(request)

    def _next_reply(self, national: str) -> httpx.Response:
        moods = self.moods.get(national)
        return REPLIES[moods.pop(0) if moods else "answer"](national)


LEADS = numbers(8)
MOODS = st.dictionaries(st.sampled_from(LEADS), st.lists(st.sampled_from(sorted(REPLIES)), max_size=4))
TIMES = st.floats(0, 12, width=16)
CHECKS = st.lists(
    st.tuples(
        TIMES,
        st.sampled_from(LEADS),
        st.one_of(st.none(), st.floats(0.125, 8, width=16)),  # the deadline
        st.one_of(st.none(), st.floats(0, 4, width=16)),  # the caller gives up
    ),
    max_size=25,
)
STREAMS = st.lists(
    st.tuples(TIMES, st.lists(st.sampled_from([*LEADS, "nonsense"]), max_size=12), st.integers(0, 14)),
    max_size=2,
)


def adds_up(stats: Stats) -> bool:
    settled = stats.yes + stats.no + stats.failed
    known = stats.rejected + stats.duplicates + stats.known
    return stats.unsettled >= 0 and stats.read == known + settled + stats.unsettled


@given(
    moods=MOODS,
    outage=st.tuples(TIMES, TIMES),
    checks=CHECKS,
    streams=STREAMS,
    durable=st.booleans(),
    closes_at=st.one_of(st.none(), TIMES),
    endpoint=st.sampled_from(["advanced", "cascade"]),
)
@settings(max_examples=100, deadline=None)
def test_every_number_read_is_answered_known_refused_failed_or_unsettled(
    moods: dict[str, list[str]],
    outage: tuple[float, float],
    checks: list[tuple[float, str, float | None, float | None]],
    streams: list[tuple[float, list[str], int]],
    durable: bool,
    closes_at: float | None,
    endpoint: str,
) -> None:
    ends: Counter[str] = Counter()
    unasked: Counter[str] = Counter()

    async def check(
        client: Client, at: float, number: str, deadline: float | None, patience: float | None
    ) -> None:
        await asyncio.sleep(at)
        try:
            async with asyncio.timeout(patience):
                await client.check(number, deadline=deadline)
            ends["answered"] += 1
        except (AccucheckError, RuntimeError) as error:
            ends["closed" if "is closed" in str(error) else "error"] += 1
        except TimeoutError:
            ends["gave up"] += 1

    async def stream(client: Client, at: float, items: list[str], take: int) -> None:
        await asyncio.sleep(at)
        try:
            async with client.stream(items, keep_going=True, grace=1, workers=3) as outcomes:
                async for _ in outcomes:
                    assert adds_up(outcomes.stats)
                    if outcomes.stats.delivered >= take:
                        break
        except (AccucheckError, RuntimeError) as error:
            if "is closed" in str(error):
                return
        left = Counter(set(outcomes.unasked))
        assert adds_up(outcomes.stats)
        assert outcomes.stats.unsettled == len(left)
        unasked.update(left)

    async def main() -> Stats:
        vendor = Moody(moods, outage)
        vendor.started = asyncio.get_running_loop().time()
        client = client_of(vendor, ledger=Ledger() if durable else None, endpoint=endpoint)
        async with client:
            work: list[Awaitable[Any]] = [check(client, *each) for each in checks]
            work += [stream(client, *each) for each in streams]
            doing = asyncio.gather(*work)
            if closes_at is not None:
                await asyncio.sleep(closes_at)
                assert adds_up(client.stats)
                await client.aclose()
            await doing
        return client.stats

    stats = run(main())
    assert adds_up(stats)
    assert stats.in_flight == 0
    assert stats.unsettled <= ends["gave up"] + unasked.total()
    if not ends["gave up"]:
        assert stats.unsettled == unasked.total()


def test_checks_of_a_vendor_that_is_down_count_as_failed() -> None:
    async def main() -> Stats:
        vendor = Vendor()
        vendor.down = True
        async with client_of(vendor) as client:
            checks = [client.check(number) for number in numbers(20)]
            errors = await asyncio.gather(*checks, return_exceptions=True)
            assert all(isinstance(error, VendorUnavailable) for error in errors)
            return client.stats

    stats = run(main())
    assert (stats.read, stats.failed, stats.unsettled) == (20, 20, 0)
