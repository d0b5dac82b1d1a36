"""A run on a ledger: group commit, failures of the disk, calls."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from accucheck import ConfigurationError, InternalError, Ledger, LedgerError
from accucheck._store._old import _journal, _mover, _session
from accucheck._store._old._jobs import block_size
from accucheck._store._old._session import Session
from tests.unit.ledger_samples import MOBILE, NOW, Clock, Listener, answered, failed, told

FULL = sqlite3.OperationalError("database or disk is full")
FULL.sqlite_errorcode = sqlite3.SQLITE_FULL


def numbers_in(path: Path) -> set[int]:
    with Ledger(path) as ledger:
        return {settlement.number for _, settlement in ledger.settlements()}


class Gate:
    """Holds the writer before its commits until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, step: str) -> None:
        if step == "before_commit":
            self.reached.set()
            assert self.open.wait(10)


class Fault:
    """Fails commits while it is on."""

    def __init__(self, error: Exception = FULL) -> None:
        self.error: Exception | None = error

    def __call__(self, step: str) -> None:
        if step == "before_commit" and self.error is not None:
            raise self.error


@contextmanager
def steps(path: Path, on_step: Callable[[str], None], *, reserve: int = 0) -> Iterator[Session]:
    with Ledger(path, on_step=on_step, reserve=reserve) as ledger:
        yield ledger.session()


async def test_what_was_committed_is_found_and_is_in_the_file(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        heard = Listener(session)
        settlements = [answered(MOBILE + n, whatsapp=n % 3 == 0) for n in range(2_500)]
        for settlement in settlements:
            session.settle(settlement)
        await session.flush()
        assert heard.committed == settlements
        assert session.find([MOBILE + 7, MOBILE + 5_000]) == {MOBILE + 7: settlements[7]}
        await session.aclose()
        assert ledger.find([settlement.number for settlement in settlements]) == {
            settlement.number: settlement for settlement in settlements
        }


async def test_nothing_is_told_before_it_is_on_disk(tmp_path: Path) -> None:
    gate = Gate()
    with steps(tmp_path / "leads.db", gate) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        flushed = asyncio.create_task(session.flush())
        await asyncio.to_thread(gate.reached.wait)
        assert heard.committed == []
        assert not flushed.done()
        gate.open.set()
        await flushed
        assert [settlement.number for settlement in heard.committed] == [MOBILE]
        await session.aclose()


async def test_while_one_batch_is_committed_the_next_one_gathers(tmp_path: Path) -> None:
    gate = Gate()
    with steps(tmp_path / "leads.db", gate) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        await asyncio.sleep(0)
        await asyncio.to_thread(gate.reached.wait)
        for n in range(1, 101):
            session.settle(answered(MOBILE + n))
        gate.open.set()
        await session.flush()
        assert [len(batch) for batch in heard.batches] == [1, 100]
        await session.aclose()


async def test_a_lone_answer_is_committed_without_anybody_asking(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        stored = asyncio.Event()
        session.start(lambda batch: stored.set(), lambda error: None)
        for n in range(3):
            stored.clear()
            session.settle(answered(MOBILE + n))
            await asyncio.wait_for(stored.wait(), 10)
        await session.aclose()


async def test_many_answers_are_not_kept_waiting_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "GATHER_SECONDS", 3_600)
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        stored = asyncio.Event()
        session.start(lambda batch: stored.set(), lambda error: None)
        for count in (1, _session.GATHER_ANSWERS):  # the first after a silence is not kept waiting either
            stored.clear()
            for n in range(count):
                session.settle(answered(MOBILE + n))
            await asyncio.wait_for(stored.wait(), 10)
        await session.aclose()


async def test_no_batch_is_larger_than_what_is_read_at_once_after_a_kill(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        heard = Listener(session)
        for n in range(3 * _journal.LARGEST_BATCH + 1):
            session.settle(answered(MOBILE + n))
        await session.flush()
        assert max(map(len, heard.batches)) == _journal.LARGEST_BATCH
        assert len(heard.committed) == 3 * _journal.LARGEST_BATCH + 1
        await session.aclose()


@pytest.mark.parametrize("count", [1, 31, 33, 100, 1_024, 1_400])
async def test_a_batch_of_any_size_is_stored_whole(tmp_path: Path, count: int) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        for n in range(count):
            session.settle(answered(MOBILE + n))
        await session.aclose()
        assert len(ledger.find([MOBILE + n for n in range(count)])) == count


async def test_a_flush_that_is_cancelled_loses_nothing(tmp_path: Path) -> None:
    gate = Gate()
    with steps(tmp_path / "leads.db", gate) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        flushed = asyncio.create_task(session.flush())
        await asyncio.to_thread(gate.reached.wait)
        flushed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushed
        session.settle(answered(MOBILE + 1))
        gate.open.set()
        await session.flush()
        assert [settlement.number for settlement in heard.committed] == [MOBILE, MOBILE + 1]
        await session.aclose()


async def test_flush_with_nothing_to_store_returns(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        await session.flush()
        await session.aclose()
        await session.aclose()


async def test_a_session_that_was_never_started_lets_go(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        await ledger.session().aclose()
        ledger.session().close()


# A disk that fails


async def test_a_failed_commit_is_told_once_and_acknowledges_nothing(tmp_path: Path) -> None:
    fault = Fault()
    with steps(tmp_path / "leads.db", fault) as session:
        heard = Listener(session)
        for n in range(3):
            session.settle(answered(MOBILE + n))
        with pytest.raises(LedgerError, match=r"disk is full: free some space.*3 answers are not stored"):
            await session.flush()
        session.settle(answered(MOBILE + 3))
        with pytest.raises(LedgerError, match="4 answers are not stored"):
            await session.flush()
        assert heard.committed == []
        assert len(heard.errors) == 1
        with pytest.raises(LedgerError, match="4 answers are not stored"):
            await session.aclose()
    assert numbers_in(tmp_path / "leads.db") == set()


async def test_what_could_not_be_stored_is_stored_when_there_is_room_again(tmp_path: Path) -> None:
    fault = Fault()
    with steps(tmp_path / "leads.db", fault) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        session.settle(failed(MOBILE + 1))
        with pytest.raises(LedgerError):
            await session.flush()
        session.settle(answered(MOBILE + 2))
        fault.error = None
        await session.flush()
        assert [settlement.number for settlement in heard.committed] == [MOBILE, MOBILE + 1, MOBILE + 2]
        session.settle(answered(MOBILE + 3))
        await session.flush()
        assert len(heard.errors) == 1
        await session.aclose()
    assert numbers_in(tmp_path / "leads.db") == {MOBILE, MOBILE + 1, MOBILE + 2, MOBILE + 3}


async def test_closing_makes_a_last_attempt(tmp_path: Path) -> None:
    fault = Fault()
    with steps(tmp_path / "leads.db", fault) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        with pytest.raises(LedgerError):
            await session.flush()
        fault.error = None
        await session.aclose()
        assert len(heard.errors) == 1
    assert numbers_in(tmp_path / "leads.db") == {MOBILE}


async def test_what_is_under_way_when_the_disk_becomes_full_is_stored_in_the_room_kept_for_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "leads.db"
    reserve = tmp_path / "leads.db.reserve"

    def full_until_there_is_room(step: str) -> None:
        if step == "before_commit" and reserve.exists():
            raise FULL

    with steps(path, full_until_there_is_room, reserve=4_096) as session:
        heard = Listener(session)
        assert reserve.stat().st_size == 4_096
        assert stat.S_IMODE(reserve.stat().st_mode) == 0o600
        session.settle(answered(MOBILE))
        while not heard.errors:
            await asyncio.sleep(0.001)
        for n in range(1, 5):  # what was under way comes in while the run ends
            session.settle(answered(MOBILE + n))
        await session.flush()
        assert [settlement.number for settlement in heard.committed] == [MOBILE + n for n in range(5)]
        assert "the disk is full" in heard.errors[0].reason
        assert "not stored" not in heard.errors[0].reason
        await session.aclose()
    assert numbers_in(path) == {MOBILE + n for n in range(5)}
    assert [file.name for file in tmp_path.iterdir()] == ["leads.db"]


async def test_a_disk_that_stays_full_tells_how_many_answers_it_did_not_take(tmp_path: Path) -> None:
    with steps(tmp_path / "leads.db", Fault(), reserve=4_096) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        with pytest.raises(LedgerError, match="1 answer is not stored"):
            await session.flush()
        assert len(heard.errors) == 1
        with pytest.raises(LedgerError, match="1 answer is not stored"):
            await session.aclose()


async def test_a_run_whose_reserve_has_no_room_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def no_room(descriptor: int, content: bytes) -> int:
        if len(content) > 4_096:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content)

    monkeypatch.setattr(os, "write", no_room)
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        heard = Listener(session)
        session.settle(answered(MOBILE))
        await session.flush()
        await session.aclose()
        assert len(heard.committed) == 1


async def test_the_last_calls_of_a_budget_are_not_lost_between_a_commit_and_its_news(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        assert session.lease_calls(1, 2) == 1  # blocks of one: the other comes with the next batch
        session.settle(answered(MOBILE))
        await asyncio.sleep(0)
        batch = session._under_way
        assert batch is not None
        while not batch.stored:  # without a turn of the event loop, so that it has not heard of it
            time.sleep(0.001)
        assert session.lease_calls(1, 2) == 1
        await session.flush()
        assert session.lease_calls(1, 2) == 0
        await session.aclose()
        assert ledger.calls == 2


async def test_after_a_failure_nothing_is_tried_until_it_is_asked_for(tmp_path: Path) -> None:
    attempts = 0

    def fail(step: str) -> None:
        nonlocal attempts
        attempts += 1
        raise FULL

    with steps(tmp_path / "leads.db", fail) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        while not heard.errors:
            await asyncio.sleep(0.001)
        for n in range(1, 50):
            session.settle(answered(MOBILE + n))
            await asyncio.sleep(0)
        assert attempts == 1
        with pytest.raises(LedgerError, match="50 answers"):
            await session.aclose()


async def test_any_error_of_the_writer_is_told(tmp_path: Path) -> None:
    with steps(tmp_path / "leads.db", Fault(OSError(5, "Input/output error"))) as session:
        heard = Listener(session)
        session.settle(answered(MOBILE))
        with pytest.raises(LedgerError, match=r"Input/output error; 1 answer is not stored"):
            await session.flush()
        assert heard.errors
        with pytest.raises(LedgerError):
            session.close()


async def test_closing_without_a_flush_stores_what_was_gathered(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        for n in range(2_000):
            session.settle(answered(MOBILE + n))
        session.close()
    assert len(numbers_in(tmp_path / "leads.db")) == 2_000


# What is known


async def test_an_answer_takes_the_failure_away(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        session.settle(failed(MOBILE))
        session.settle(failed(MOBILE + 1))
        await session.flush()
        session.settle(answered(MOBILE))
        await session.aclose()
        assert [told(settlement) for _, settlement in ledger.settlements()] == [
            told(answered(MOBILE)),
            told(failed(MOBILE + 1)),
        ]


@pytest.mark.parametrize("count", [1, 31, 33, 300, 1_400])
async def test_any_number_of_failures_is_kept_and_taken_away(tmp_path: Path, count: int) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        for n in range(count):
            session.settle(failed(MOBILE + n))
        await session.flush()
        assert ledger.info().failures == {"INTERNAL_ERROR": count}
        for n in range(count - 1):
            session.settle(answered(MOBILE + n))
        await session.aclose()
        assert ledger.info().failures == {"INTERNAL_ERROR": 1}
        assert ledger.info().yes == count - 1


async def test_a_failure_and_its_answer_in_one_batch_leave_the_answer(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        session.settle(failed(MOBILE))
        session.settle(answered(MOBILE))
        await session.aclose()
        assert ledger.info().failures == {}


async def test_a_failure_never_replaces_an_answer(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        session.settle(answered(MOBILE))
        await session.flush()
        session.settle(failed(MOBILE))
        await session.flush()
        assert session.find([MOBILE]) == {MOBILE: answered(MOBILE)}
        await session.aclose()
        assert ledger.find([MOBILE]) == {MOBILE: answered(MOBILE)}


async def test_a_failure_of_this_run_is_known_to_it_even_when_failures_are_asked_again(
    tmp_path: Path,
) -> None:
    clock = Clock()
    with Ledger(tmp_path / "leads.db", now=clock) as ledger:
        first = ledger.session()
        Listener(first)
        first.settle(failed(MOBILE))
        await first.aclose()
        clock.seconds += 10
        second = ledger.session(retry_failed=True)
        Listener(second)
        assert second.find([MOBILE]) == {}
        second.settle(failed(MOBILE, InternalError("again")))
        await second.flush()
        assert second.find([MOBILE])[MOBILE].result.reason == "again"  # type: ignore[union-attr]
        await second.aclose()


async def test_an_old_answer_is_bought_anew_and_replaced(tmp_path: Path) -> None:
    clock = Clock()
    with Ledger(tmp_path / "leads.db", now=clock) as ledger:
        first = ledger.session()
        Listener(first)
        first.settle(answered(MOBILE))
        await first.aclose()
        clock.seconds += 31 * 86_400
        second = ledger.session(fresh_within=30 * 86_400)
        Listener(second)
        assert second.find([MOBILE]) == {}
        newer = answered(MOBILE, checked_at=NOW.replace(year=2027), whatsapp=False)
        second.settle(newer)
        await second.flush()
        assert second.find([MOBILE]) == {MOBILE: newer}
        await second.aclose()
        assert [settlement for _, settlement in ledger.settlements()] == [newer]


async def test_freshness_counts_from_the_start_of_the_run(tmp_path: Path) -> None:
    clock = Clock()
    with Ledger(tmp_path / "leads.db", now=clock) as ledger:
        first = ledger.session()
        Listener(first)
        first.settle(answered(MOBILE))
        await first.aclose()
        second = ledger.session(fresh_within=60)
        Listener(second)
        clock.seconds += 61
        assert MOBILE in second.find([MOBILE])
        await second.aclose()


async def test_an_advanced_answer_serves_basic_and_not_the_other_way_round(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        rich = ledger.session()
        Listener(rich)
        rich.settle(answered(MOBILE))
        await rich.aclose()
        basic = ledger.session(endpoint="basic")
        Listener(basic)
        assert basic.find([MOBILE]) == {MOBILE: answered(MOBILE)}
        newer = answered(MOBILE, checked_at=NOW.replace(year=2027), signature=None)
        basic.settle(newer)
        basic.settle(answered(MOBILE + 1))
        await basic.flush()
        assert basic.find([MOBILE])[MOBILE] == newer, "of two the newer one"
        await basic.aclose()
        assert ledger.find([MOBILE, MOBILE + 1]) == {MOBILE: answered(MOBILE)}
        assert ledger.info().answers == {"advanced": 1, "basic": 2}


@pytest.mark.parametrize("count", [0, 1, 3, 5, 255, 256, 257, 700])
async def test_any_number_of_numbers_is_looked_up(tmp_path: Path, count: int) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        for n in range(0, 700, 2):
            session.settle(answered(MOBILE + n) if n % 4 else failed(MOBILE + n))
        await session.flush()
        asked = [MOBILE + n for n in range(count)]
        expected = {number for number in asked if number % 2 == 0}
        assert set(session.find(asked)) == expected
        await session.aclose()
        assert set(ledger.find(asked)) == expected


async def test_answers_are_found_while_they_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mover, "MOVE_AT", 300)
    monkeypatch.setattr(_mover, "MOVED_AT_ONCE", 150)
    chance = random.Random(1)
    order = [MOBILE + n for n in range(3_000)]
    chance.shuffle(order)
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        for done, number in enumerate(order, 1):
            session.settle(answered(number))
            if done % 97 == 0:
                await session.flush()
                asked = chance.sample(order, 64)
                here = set(order[:done])
                assert set(session.find(asked)) == {number for number in asked if number in here}
                assert set(ledger.find(asked)) == {number for number in asked if number in here}
                assert ledger.info().yes == done
        with closing(sqlite3.connect(tmp_path / "leads.db")) as connection:
            (moved,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        assert moved > 1_000, "the journal was moved during the run"
        await session.aclose()
        assert ledger.info().yes == 3_000


async def test_the_journal_is_bounded_however_large_the_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mover, "MOVE_AT", 2_000)
    most = 0
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        with closing(sqlite3.connect(tmp_path / "leads.db")) as connection:
            for start in range(0, 30_000, 1_500):
                for n in range(start, start + 1_500):
                    session.settle(answered(MOBILE + n * 7919 % 100_003))
                await session.flush()
                held = connection.execute("SELECT sum(length(answers)) FROM journal").fetchone()[0] or 0
                most = max(most, held // 60)
        await session.aclose()
    assert most < 4 * 2_000


async def test_a_slice_that_cannot_be_moved_ends_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mover, "MOVE_AT", 10)

    def fail(connection: sqlite3.Connection, answers: object) -> None:
        raise FULL

    with Ledger(tmp_path / "leads.db") as ledger:
        with monkeypatch.context() as broken:
            broken.setattr(_journal, "move", fail)
            session = ledger.session()
            heard = Listener(session)
            for n in range(10):
                session.settle(answered(MOBILE + n))
            await session.flush()
            session.settle(answered(MOBILE + 10))
            while not heard.errors:
                await asyncio.sleep(0.001)
            assert len(session.find([MOBILE + n for n in range(11)])) >= 10
            await session.aclose()
        assert len(heard.errors) == 1
        assert ledger.info().yes == 11


# Calls


async def test_calls_are_counted_over_runs_and_unused_ones_given_back(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        for run in range(1, 4):
            session = ledger.session()
            Listener(session)
            granted = session.lease_calls(1_000, 10_000)
            assert 0 < granted <= block_size(10_000)
            session.settle(answered(MOBILE + run, calls=granted - 3, lost=1))
            await session.flush()
            session.return_calls(3, lost=2)
            await session.aclose()
            assert ledger.calls == run * (granted - 3)
        info = ledger.info()
        assert info.possibly_double_charged == 9
        assert info.perhaps_lost_in_kills == 0


@pytest.mark.parametrize("max_calls", [1, 2, 10, 199, 777, 100_000])
async def test_no_more_calls_are_granted_than_the_cap_over_all_runs(tmp_path: Path, max_calls: int) -> None:
    granted = 0
    with Ledger(tmp_path / "leads.db") as ledger:
        while True:
            session = ledger.session()
            Listener(session)
            here = 0
            while here < max(1, max_calls // 3) and (some := session.lease_calls(1_000, max_calls)):
                here += some
                session.settle(answered(MOBILE + granted + here, calls=some))
                await session.flush()
            await session.aclose()
            granted += here
            if not here:
                break
    assert granted == max_calls


async def test_a_grant_is_no_larger_than_what_was_wanted(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        assert [session.lease_calls(1, None) for _ in range(10)] == [1] * 10
        session.return_calls(0)
        await session.aclose()
        assert ledger.calls == 10


async def test_each_job_has_a_cap_of_its_own(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        for job in ("january", "february"):
            session = ledger.session(job=job)
            Listener(session)
            granted = 0
            while some := session.lease_calls(100, 20):
                granted += some
            assert granted == 20
            await session.aclose()
        assert ledger.calls == 40


async def test_a_lease_after_a_failed_commit_is_not_counted_twice(tmp_path: Path) -> None:
    fault = Fault()
    with Ledger(tmp_path / "leads.db", on_step=fault) as ledger:
        session = ledger.session()
        Listener(session)
        assert session.lease_calls(1_000, None) == 256  # the next block is to come with the next batch
        session.settle(answered(MOBILE))
        with pytest.raises(LedgerError):
            await session.flush()
        fault.error = None
        await session.flush()
        assert session.lease_calls(1_000, None) == 256
        await session.aclose()
        assert ledger.calls == 512


async def test_a_run_holds_two_blocks_of_calls_at_most(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        assert session.lease_calls(1_000, None) == 256
        session.settle(answered(MOBILE))
        await asyncio.sleep(0.001)  # it is handed over, and brings the next block …
        assert session.lease_calls(1_000, None) == 256  # … which is not heard of yet
        session.settle(answered(MOBILE + 1))
        await session.flush()
        assert ledger.calls <= 3 * 256
        await session.aclose()


def test_blocks_are_a_small_share_of_the_cap() -> None:
    for max_calls in (1, 50, 1_000, 10**7):
        assert 1 <= block_size(max_calls) <= max(1, max_calls // 100)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_freshness_that_is_none_is_refused(tmp_path: Path, seconds: float) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        with pytest.raises(ConfigurationError):
            ledger.session(fresh_within=seconds)
        with pytest.raises(ConfigurationError):
            ledger.purge(seconds)
        ledger.session().close()
