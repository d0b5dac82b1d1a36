"""What every ``Store`` must do, as tests for any implementation.

Subclass ``StoreConformance`` with a fixture ``make_store`` that returns a new, unopened store on each call. If the
store is durable, all stores of one test share their answers, like several processes.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from accucheck import Check
from accucheck._models import Settlement
from accucheck._store import COUNTS_MONEY, Query, Store
from tests.unit.ledger_samples import MOBILE, NOW, answered, failed, told

ANY = Query()


def all_told(settlements: Any) -> dict[int, Any]:
    return {number: told(settlement) for number, settlement in settlements.items()}


class StoreConformance:
    """The tests; ``make_store`` and ``now`` are the implementation's."""

    @pytest.fixture
    async def store(self, make_store: Callable[[], Store]) -> AsyncIterator[Store]:
        store = make_store()
        await store.open()
        yield store
        await store.aclose()

    # Kills

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    async def test_unused_leases_of_a_killed_process_come_back(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        if not store.durable:
            pytest.skip("its stores share nothing")
        money = f"{COUNTS_MONEY}0.1 list"

        async def buy() -> None:
            store = make_store()
            await store.open()
            await store.claim(range(MOBILE, MOBILE + 30), ANY)
            for job, each in (("list", 1), (money, 30)):
                assert await store.lease_calls(100 * each, max_calls=1_000 * each, job=job) == 100 * each
                for _ in range(9):
                    store.note_call(job, each)
            store.note_call(money, -25)  # one was free
            await store.settle([answered(MOBILE + n, calls=1) for n in range(7)], job="list")
            os.kill(os.getpid(), signal.SIGKILL)

        child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(buy()))
        await asyncio.to_thread(child.start)
        await asyncio.to_thread(child.join)
        assert child.exitcode == -signal.SIGKILL
        for job, most, made in (("list", 1_000, 9), (money, 30_000, 9 * 30 - 25)):
            granted = 0
            while grant := await store.lease_calls(most, max_calls=most, job=job):
                granted += grant
            assert granted == most - made
            assert await store.calls_made(job) == made
        assert not (await store.claim(range(MOBILE + 7, MOBILE + 30), ANY)).taken

    # Answers

    async def test_a_settled_answer_is_found_unchanged(self, store: Store) -> None:
        given = [
            answered(MOBILE, calls=3, lost=1),
            answered(MOBILE + 1, whatsapp=False, status_update=None, signature=None, request_id="other"),
            answered(MOBILE + 2, extra={"new": [1, "x"]}, business_user=None),
            failed(MOBILE + 3),
            answered(14_567_890),
        ]
        await store.settle(given)
        found = await store.find([settlement.number for settlement in given] + [MOBILE + 9], ANY)
        assert all_told(found) == {settlement.number: told(settlement) for settlement in given}

    @pytest.mark.parametrize("count", [0, 1, 3, 255, 256, 257, 1_400, 5_000])
    async def test_any_number_of_settlements_is_stored_and_found(self, store: Store, count: int) -> None:
        numbers = range(MOBILE, MOBILE + 2 * count, 2)
        await store.settle(
            [answered(number) if number % 3 else failed(number) for number in numbers], job="list"
        )
        assert set(await store.find(range(MOBILE, MOBILE + 2 * count), ANY)) == set(numbers)

    async def test_a_newer_answer_replaces_an_older_one_and_not_the_other_way_round(
        self, store: Store
    ) -> None:
        new = answered(MOBILE, whatsapp=False, checked_at=NOW + timedelta(days=1))
        await store.settle([answered(MOBILE)])
        await store.settle([new])
        await store.settle([answered(MOBILE)])
        assert await store.find([MOBILE], ANY) == {MOBILE: new}

    async def test_the_newer_of_two_answers_in_one_batch_is_kept(self, store: Store) -> None:
        new = answered(MOBILE, whatsapp=False, checked_at=NOW + timedelta(days=1))
        await store.settle([new, answered(MOBILE)])
        assert await store.find([MOBILE], ANY) == {MOBILE: new}

    async def test_a_batch_may_be_settled_twice(self, store: Store) -> None:
        batch = [answered(MOBILE, lost=1), failed(MOBILE + 1)]
        await store.settle(batch)
        await store.settle(batch)
        found = await store.find([MOBILE, MOBILE + 1], ANY)
        assert all_told(found) == {settlement.number: told(settlement) for settlement in batch}

    async def test_a_failure_does_not_replace_an_answer_and_an_answer_replaces_a_failure(
        self, store: Store
    ) -> None:
        await store.settle([answered(MOBILE), failed(MOBILE + 1)])
        await store.settle([failed(MOBILE)])
        fresh = answered(MOBILE + 1, checked_at=NOW + timedelta(days=1))
        await store.settle([fresh])
        found = await store.find([MOBILE, MOBILE + 1], ANY)
        assert found == {MOBILE: answered(MOBILE), MOBILE + 1: fresh}

    async def test_freshness_depends_on_the_verdict(self, store: Store) -> None:
        yes, no = answered(MOBILE), answered(MOBILE + 1, whatsapp=False)
        await store.settle([yes, no])
        at = NOW.timestamp()
        for query, found in (
            (Query(yes_since=at, no_since=at), {MOBILE, MOBILE + 1}),
            (Query(yes_since=at + 1), {MOBILE + 1}),
            (Query(no_since=at + 1), {MOBILE}),
            (Query(yes_since=math.inf, no_since=math.inf), set()),
        ):
            assert set(await store.find([MOBILE, MOBILE + 1], query)) == found

    async def test_earlier_failures_are_asked_again_and_later_ones_are_not(
        self, store: Store, now: Callable[[], float]
    ) -> None:
        await store.settle([failed(MOBILE)])
        assert set(await store.find([MOBILE], Query(failed_since=now() - 1))) == {MOBILE}
        assert await store.find([MOBILE], Query(failed_since=now() + 1)) == {}

    async def test_a_failed_re_check_is_found_by_whoever_asked_for_it(
        self, store: Store, now: Callable[[], float]
    ) -> None:
        await store.settle([answered(MOBILE)])
        await store.settle([failed(MOBILE)])
        wants_new = Query(yes_since=NOW.timestamp() + 0.5, failed_since=now() - 1)
        assert all_told(await store.find([MOBILE], wants_new)) == {MOBILE: told(failed(MOBILE))}
        assert await store.find([MOBILE], ANY) == {MOBILE: answered(MOBILE)}

    async def test_a_failure_before_an_answer_is_forgotten(
        self, store: Store, now: Callable[[], float]
    ) -> None:
        await store.settle([failed(MOBILE)])
        late = answered(MOBILE, checked_at=NOW + timedelta(days=20_000))
        await store.settle([late])
        assert await store.find([MOBILE], Query(yes_since=math.inf, no_since=math.inf)) == {}

    async def test_an_advanced_answer_serves_basic_and_not_the_other_way_round(self, store: Store) -> None:
        await store.settle([answered(MOBILE)])
        await store.settle([answered(MOBILE + 1)], endpoint="basic")
        numbers = [MOBILE, MOBILE + 1]
        assert set(await store.find(numbers, Query(endpoint="advanced"))) == {MOBILE}
        assert set(await store.find(numbers, Query(endpoint="basic"))) == set(numbers)

    async def test_a_basic_no_also_serves_advanced(self, store: Store) -> None:
        no = answered(MOBILE, whatsapp=False)
        await store.settle([no], endpoint="basic")
        for endpoint in ("advanced", "basic", "cascade"):
            assert await store.find([MOBILE], Query(endpoint=endpoint)) == {MOBILE: no}
        assert await store.find([MOBILE], Query(no_since=NOW.timestamp() + 1)) == {}

    async def test_a_cascade_knows_a_number_by_its_last_step(self, store: Store) -> None:
        cascade = Query(endpoint="cascade")
        await store.settle([failed(MOBILE), failed(MOBILE + 1)], endpoint="basic")
        assert set(await store.find([MOBILE, MOBILE + 1], cascade)) == {MOBILE, MOBILE + 1}
        assert await store.find([MOBILE], ANY) == {}, "the failure of a question that was not asked"
        late = NOW + timedelta(days=20_000)
        await store.settle([answered(MOBILE, checked_at=late)], endpoint="basic")
        assert await store.find([MOBILE], cascade) == {}, "it has come to the next step"
        await store.settle([failed(MOBILE)])
        assert all_told(await store.find([MOBILE], cascade)) == {MOBILE: told(failed(MOBILE))}
        advanced = answered(MOBILE, checked_at=late)
        await store.settle([advanced])
        assert await store.find([MOBILE], cascade) == {MOBILE: advanced}

    async def test_a_lone_surrogate_does_not_fail_its_batch(self, store: Store) -> None:
        await store.settle(
            [answered(MOBILE, signature="a\ud800b", request_id="\udfff"), answered(MOBILE + 1)]
        )
        found = await store.find([MOBILE, MOBILE + 1], ANY)
        assert len(found) == 2
        assert isinstance(check := found[MOBILE].result, Check)
        assert check.signature in ("a?b", "a\ud800b"), "one that keeps it as text cannot store it"

    # Claims

    async def test_an_unknown_number_is_claimed_once(self, store: Store) -> None:
        await store.settle([answered(MOBILE)])
        first = await store.claim([MOBILE, MOBILE + 1, MOBILE + 2], ANY)
        assert (dict(first.known), set(first.taken)) == ({MOBILE: answered(MOBILE)}, set())
        second = await store.claim([MOBILE, MOBILE + 1, MOBILE + 3], ANY)
        assert (set(second.known), set(second.taken)) == ({MOBILE}, {MOBILE + 1})
        third = await store.claim([MOBILE + 3], ANY)
        assert set(third.taken) == {MOBILE + 3}

    async def test_a_claim_ends_when_it_is_settled_or_released(self, store: Store) -> None:
        await store.claim([MOBILE, MOBILE + 1, MOBILE + 2], ANY)
        await store.settle([answered(MOBILE), failed(MOBILE + 1)])
        await store.release([MOBILE + 2])
        again = await store.claim([MOBILE, MOBILE + 1, MOBILE + 2], ANY)
        assert set(again.known) == {MOBILE, MOBILE + 1}
        assert again.taken == set()

    async def test_a_failed_number_may_be_claimed_for_a_retry(
        self, store: Store, now: Callable[[], float]
    ) -> None:
        await store.settle([failed(MOBILE)])
        claims = await store.claim([MOBILE], Query(failed_since=now() + 1))
        assert (dict(claims.known), set(claims.taken)) == ({}, set())

    async def test_a_number_is_claimed_for_all_endpoints(self, store: Store) -> None:
        queries = [Query(endpoint="basic"), Query(endpoint="advanced"), Query(endpoint="cascade")]
        for query in queries:
            assert (await store.claim([MOBILE], query)).taken == set()
            for other in queries:
                assert (await store.claim([MOBILE], other)).taken == {MOBILE}
            await store.release([MOBILE])

    async def test_an_answer_that_is_only_the_first_keeps_its_claim(self, store: Store) -> None:
        await store.claim([MOBILE], Query(endpoint="cascade"))
        await store.settle([answered(MOBILE)], endpoint="basic", release=False)
        assert set(await store.find([MOBILE], Query(endpoint="basic"))) == {MOBILE}
        assert (await store.claim([MOBILE], ANY)).taken == {MOBILE}
        await store.settle([answered(MOBILE)])
        assert set((await store.claim([MOBILE], ANY)).known) == {MOBILE}
        assert (await store.claim([MOBILE], Query(yes_since=math.inf))).taken == set()

    async def test_an_answer_without_a_claim_is_still_stored(self, store: Store) -> None:
        await store.claim([MOBILE], ANY)
        await store.release([MOBILE])
        await store.settle([answered(MOBILE)])
        assert set(await store.find([MOBILE], ANY)) == {MOBILE}

    async def test_releasing_an_unclaimed_number_does_nothing(self, store: Store) -> None:
        await store.release([MOBILE])
        await store.release([])
        assert (await store.claim([MOBILE], ANY)).taken == set()

    async def test_a_number_listed_twice_in_a_claim_is_claimed_once(self, store: Store) -> None:
        claims = await store.claim([MOBILE, MOBILE + 1, MOBILE], ANY)
        assert (dict(claims.known), set(claims.taken)) == ({}, set())

    async def test_tasks_that_claim_at_once_share_the_numbers(self, store: Store) -> None:
        numbers = range(MOBILE, MOBILE + 500)
        claims = await asyncio.gather(*(store.claim(numbers, ANY) for _ in range(5)))
        granted = [number for claim in claims for number in numbers if number not in claim.taken]
        assert sorted(granted) == list(numbers)

    # Several stores

    async def test_several_stores_share_answers_claims_and_calls(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        if not store.durable:
            pytest.skip("it is shared with nobody")
        other = make_store()
        await other.open()
        await store.claim([MOBILE, MOBILE + 1], ANY)
        assert (await other.claim([MOBILE, MOBILE + 2], ANY)).taken == {MOBILE}
        await other.release([MOBILE])
        assert (await other.claim([MOBILE], ANY)).taken == {MOBILE}, "it is not the other's claim"
        await store.settle([answered(MOBILE)])
        assert (await other.claim([MOBILE], ANY)).known == {MOBILE: answered(MOBILE)}
        assert (await other.claim([MOBILE + 1], Query(endpoint="basic"))).taken == {MOBILE + 1}
        assert (await store.claim([MOBILE + 2], ANY)).taken == {MOBILE + 2}
        await other.aclose()
        closed = await store.claim([MOBILE + 2], ANY)
        assert closed.taken == set(), "who closes releases its claims"
        assert not closed.asked, "and has settled what it asked for"

    async def test_settled_answers_outlive_the_store(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        if not store.durable:
            pytest.skip("it keeps nothing")
        await store.settle([answered(MOBILE)])
        await store.remember("rate", "12.5")
        await store.aclose()
        other = make_store()
        await other.open()
        assert await other.find([MOBILE], ANY) == {MOBILE: answered(MOBILE)}
        assert await other.recall("rate") == "12.5"
        await other.aclose()

    @pytest.mark.parametrize("max_calls", [1, 2, 10, 199, 777])
    async def test_a_cap_is_exact_across_all_stores(
        self, make_store: Callable[[], Store], max_calls: int
    ) -> None:
        stores = [make_store() for _ in range(3)]
        if not stores[0].durable:
            del stores[1:]
        granted = 0
        for store in stores:
            await store.open()
        while True:
            grants = [await store.lease_calls(64, max_calls=max_calls) for store in stores]
            for store, grant in zip(stores, grants, strict=True):
                for _ in range(grant):
                    store.note_call()
            granted += sum(grants)
            if not any(grants):
                break
        assert granted == max_calls
        assert await stores[0].calls_made() == max_calls
        for store in stores:
            await store.aclose()

    # Calls

    async def test_no_more_calls_are_granted_than_requested(self, store: Store) -> None:
        for wanted in (1, 7, 64):
            assert 1 <= await store.lease_calls(wanted, max_calls=None) <= wanted

    async def test_unused_calls_come_back(self, store: Store) -> None:
        granted = 0
        while grant := await store.lease_calls(50, max_calls=100):
            granted += grant
        assert granted == 100
        for _ in range(95):
            store.note_call()
        await store.return_calls(5, lost=1)
        assert await store.calls_made() == 95
        again = 0
        while grant := await store.lease_calls(50, max_calls=100):
            again += grant
        assert again == 5

    async def test_a_cap_that_is_raised_grants_more(self, store: Store) -> None:
        while await store.lease_calls(50, max_calls=100):
            pass
        granted = 0
        while grant := await store.lease_calls(50, max_calls=120):
            granted += grant
        assert granted == 20

    async def test_each_job_has_its_own_cap(self, store: Store) -> None:
        for job in ("", "one", "two words, é"):
            granted = 0
            while grant := await store.lease_calls(50, max_calls=60, job=job):
                granted += grant
                for _ in range(grant):
                    store.note_call(job)
            assert granted == 60
            assert await store.calls_made(job) == 60
        assert await store.calls_made("never heard of") == 0

    async def test_money_is_granted_for_whole_calls(self, store: Store) -> None:
        job, price = f"{COUNTS_MONEY}list", 250_000_000
        granted = 0
        while grant := await store.lease_calls(4 * price + 7, max_calls=10 * price + 9, job=job, each=price):
            assert grant % price == 0
            granted += grant
        assert granted == 10 * price
        assert await store.lease_calls(5, max_calls=10 * price + 9, job=job, each=3) == 3

    async def test_a_call_that_was_noted_can_be_taken_back(self, store: Store) -> None:
        assert await store.lease_calls(10, max_calls=20) == 10
        store.note_call("", 8)
        store.note_call("", -5)
        assert await store.calls_made() == 3
        await store.return_calls(7)
        assert await store.calls_made() == 3
        again = 0
        while grant := await store.lease_calls(50, max_calls=20):
            again += grant
        assert again == 17

    # Settings, opening and closing

    async def test_settings_are_remembered(self, store: Store) -> None:
        assert await store.recall("rate") is None
        await store.remember("rate", "50.0")
        await store.remember("rate", "60.0")
        await store.remember("ñandú", "né\n")
        assert await store.recall("rate") == "60.0"
        assert await store.recall("ñandú") == "né\n"

    async def test_opening_and_closing_twice_does_nothing(self, make_store: Callable[[], Store]) -> None:
        store = make_store()
        await store.open()
        await store.open()
        await store.settle([answered(MOBILE)])
        assert set(await store.find([MOBILE], ANY)) == {MOBILE}
        await store.aclose()
        await store.aclose()

    async def test_a_store_that_was_never_opened_may_be_closed(self, make_store: Callable[[], Store]) -> None:
        await make_store().aclose()

    async def test_settlements_do_not_depend_on_their_order(self, store: Store) -> None:
        ages = [3, 1, 2]
        batches: list[list[Settlement]] = [
            [answered(MOBILE + n, checked_at=NOW + timedelta(days=age)) for n in range(3)] for age in ages
        ]
        await asyncio.gather(*(store.settle(batch) for batch in batches))
        assert await store.find(range(MOBILE, MOBILE + 3), ANY) == {s.number: s for s in batches[0]}
