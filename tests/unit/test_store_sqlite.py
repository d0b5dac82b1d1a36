"""The store in a file: cancelled callers, full disks, vanished files, other processes' claims and calls."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from accucheck import LedgerError
from accucheck._store import Ledger, Query, SQLiteStore, _owner, _tables, repair
from tests.unit.ledger_samples import MOBILE, NOW, Clock, answered, failed, told

ANY = Query()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    yield store
    await store.aclose()


def numbers_in(path: Path) -> set[int]:
    return {settlement.number for _, settlement in Ledger(path).settlements()}


def block_thread(store: SQLiteStore) -> threading.Event:
    """Keep the store's thread busy until the event is set."""
    gate = threading.Event()
    assert store._thread is not None
    store._thread.submit(lambda _: gate.wait(10))
    return gate


# Cancelled callers


async def test_the_claim_of_a_cancelled_caller_is_released(store: SQLiteStore) -> None:
    gate = block_thread(store)
    caller = asyncio.create_task(store.claim([MOBILE], ANY))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (await_taken := asyncio.create_task(store.claim([MOBILE], ANY)))
    await asyncio.sleep(0)
    gate.set()
    assert (await await_taken).taken == {MOBILE}, "until it is known whether it was granted"
    assert (await store.claim([MOBILE], ANY)).taken == set()


async def test_answers_are_stored_even_if_their_caller_was_cancelled(store: SQLiteStore) -> None:
    gate = block_thread(store)
    caller = asyncio.create_task(store.settle([answered(MOBILE)]))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    assert set(await store.find([MOBILE], ANY)) == {MOBILE}


async def test_a_number_claimed_again_after_it_was_settled_stays_claimed(store: SQLiteStore) -> None:
    again = Query(yes_since=math.inf, no_since=math.inf)
    other = SQLiteStore(store.path)
    await other.open()
    try:
        await store.claim([MOBILE, MOBILE + 1], ANY)
        await store.settle([answered(MOBILE), answered(MOBILE + 1)])
        assert not (await store.claim([MOBILE], again)).taken
        async with asyncio.timeout(
            10
        ):  # the other claim is dropped as soon as the store has nothing else to do
            while (await other.claim([MOBILE + 1], again)).taken:
                await asyncio.sleep(0.02)
        assert (await other.claim([MOBILE], again)).taken == {MOBILE}
    finally:
        await other.aclose()


async def test_a_slow_disk_does_not_block_the_loop(store: SQLiteStore) -> None:
    gate = block_thread(store)
    work = [
        asyncio.create_task(store.settle([answered(MOBILE)])),
        asyncio.create_task(store.claim([MOBILE + 1], ANY)),
        asyncio.create_task(store.lease_calls(1, max_calls=None)),
        asyncio.create_task(store.find([MOBILE], ANY)),
        asyncio.create_task(store.recall("x")),
    ]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(task.done() for task in work)
    gate.set()
    await asyncio.gather(*work)


async def test_a_batch_of_the_largest_answers_is_stored_completely(store: SQLiteStore) -> None:
    largest = [
        answered(MOBILE + n, signature="';--\x00\n\ud800" + "ñ" * 60_000, calls=2, lost=1) for n in range(12)
    ]
    await store.settle(largest, job="it's; DROP TABLE answers --")
    found = await store.find([MOBILE + n for n in range(12)], ANY)
    signatures = {settlement.result.signature for settlement in found.values()}  # type: ignore[union-attr]
    assert len(found) == 12
    assert signatures == {"';--\x00\n?" + "ñ" * 60_000}
    jobs = {job.job: job.possibly_double_charged for job in Ledger(store.path).jobs()}
    assert jobs == {"it's; DROP TABLE answers --": 12}


async def test_a_failed_batch_leaves_no_transaction_open(store: SQLiteStore) -> None:
    tables = store._ledger.tables
    with closing(sqlite3.connect(store.path, isolation_level=None)) as stranger:
        stranger.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    with pytest.raises(LedgerError, match="refused"):
        await store.settle([answered(MOBILE, lost=1)], job="leads")
    assert not tables._connection.in_transaction
    assert not await store.find([MOBILE], ANY)
    with closing(sqlite3.connect(store.path, isolation_level=None)) as stranger:
        stranger.execute("DROP TRIGGER refuse")
    await store.settle([answered(MOBILE, lost=1)], job="leads")
    assert set(await store.find([MOBILE], ANY)) == {MOBILE}


async def test_a_store_that_is_not_open_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "leads.db")
    with pytest.raises(RuntimeError, match="not open"):
        await store.find([MOBILE], ANY)
    await store.open()
    await store.aclose()
    with pytest.raises(RuntimeError, match="not open"):
        await store.settle([answered(MOBILE)])
    store.note_call()


async def test_a_store_may_be_opened_again(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "leads.db")
    for n in range(3):
        await store.open()
        await store.settle([answered(MOBILE + n)])
        await store.aclose()
    assert numbers_in(tmp_path / "leads.db") == {MOBILE, MOBILE + 1, MOBILE + 2}


async def test_a_store_that_is_left_open_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())  # threads of earlier stores may still be ending
    store: SQLiteStore | None = SQLiteStore(tmp_path / "leads.db")
    assert store is not None
    await store.open()
    (thread,) = set(threading.enumerate()) - before
    store = None
    gc.collect()
    for _ in range(200):
        if not thread.is_alive():
            break
        await asyncio.sleep(0.01)
    assert not thread.is_alive()


# Full disks


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def fail(monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception], *, times: int) -> None:
    original, left = _tables.upsert, times

    def upsert(*arguments: Any, **options: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error()
        original(*arguments, **options)

    monkeypatch.setattr(_tables, "upsert", upsert)


async def test_on_a_full_disk_the_reserve_takes_the_answers_in_flight_and_buying_ends(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [path.stat().st_size for path in tmp_path.iterdir() if ".run-" in path.name]
    assert sizes[0] > _owner.RESERVE_BYTES
    fail(monkeypatch, full, times=1)
    await store.settle([answered(MOBILE)])
    assert set(await store.find([MOBILE], ANY)) == {MOBILE}
    sizes = [path.stat().st_size for path in tmp_path.iterdir() if ".run-" in path.name]
    assert sizes[0] < 10_000
    for work in (store.claim([MOBILE + 1], ANY), store.lease_calls(1, max_calls=None)):
        with pytest.raises(LedgerError, match="the disk is full"):
            await work
    await store.settle([answered(MOBILE + 1)])


async def test_a_disk_that_stays_full_is_reported_and_the_batch_may_be_given_again(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, full, times=3)
    batch = [answered(MOBILE), answered(MOBILE + 1)]
    with pytest.raises(LedgerError, match="the disk is full"):
        await store.settle(batch)
    with pytest.raises(LedgerError, match="the disk is full"):
        await store.settle(batch)
    await store.settle(batch)
    assert len(await store.find([MOBILE, MOBILE + 1], ANY)) == 2


async def test_an_error_of_the_disk_is_reported_and_the_batch_may_be_given_again(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, lambda: sqlite3.OperationalError("disk I/O error"), times=1)
    with pytest.raises(LedgerError, match="disk I/O error"):
        await store.settle([answered(MOBILE)])
    await store.settle([answered(MOBILE)])
    assert set(await store.find([MOBILE], ANY)) == {MOBILE}


# Files that vanish


def delete(path: Path) -> None:
    path.unlink()


def delete_all(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere.db"))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("phone\n987654321\n")
    other.replace(path)


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def truncate(path: Path) -> None:
    os.truncate(path, 5_000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(b"phone\n987654321\n" * 2_000)


def overwrite_all_but_the_beginning(path: Path, by: bytes = b"phone\n987654321\n") -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(by * (path.stat().st_size // 16 - 256))


def erase_all_but_the_beginning(path: Path) -> None:
    overwrite_all_but_the_beginning(path, bytes(16))


def delete_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.usefixtures("at_once")
async def test_a_backup_restored_during_a_run_is_noticed(tmp_path: Path, grows: bool) -> None:
    """Even one of the same file, in place, that differs only in content."""
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.settle([answered(MOBILE + n) for n in range(2_000)])
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    backup = path.read_bytes()
    first = MOBILE + 2_000 if grows else MOBILE
    newer = NOW + timedelta(days=1)
    await store.settle([answered(first + n, checked_at=newer) for n in range(2_000)])
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    await store.claim([MOBILE + 9_000], ANY)  # what the run itself does to the file is no reason
    with path.open("r+b") as file:
        file.write(backup)
        file.truncate()
    with pytest.raises(LedgerError, match=r"rolled back to an earlier state.*no more calls are made"):
        await store.claim([MOBILE + 9_001], ANY)
    await store.settle([answered(MOBILE + 9_000)])
    with pytest.raises(LedgerError, match="rolled back"):
        await store.lease_calls(1, max_calls=None)
    await store.aclose()
    assert store.path != path
    assert MOBILE + 9_000 in numbers_in(store.path)


VANISH = [
    *(delete, delete_all, move, replace, remove_folder, truncate, empty, overwrite),
    *(overwrite_all_but_the_beginning, erase_all_but_the_beginning, delete_log),
]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the file every time, not four times a second."""
    monkeypatch.setattr("accucheck._store._sqlite._WATCH_SECONDS", 0.0)


@pytest.mark.parametrize("vanish", VANISH)
@pytest.mark.usefixtures("at_once")
async def test_a_ledger_that_vanishes_ends_buying_and_loses_nothing(
    tmp_path: Path, vanish: Callable[[Path], None]
) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    path = folder / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.settle([answered(MOBILE + n) for n in range(300)])
    await store.claim([MOBILE + 1_000], ANY)
    vanish(path)
    with pytest.raises(
        LedgerError, match=r"while it was in use, so no more calls are made.* is in "
    ) as caught:
        await store.claim([MOBILE + 1_001], ANY)
    with pytest.raises(LedgerError):
        await store.lease_calls(1, max_calls=None)
    await store.settle([answered(MOBILE + 1_000)])
    assert len(await store.find(range(MOBILE, MOBILE + 2_000), ANY)) == 301
    assert str(store.path) in caught.value.reason
    await store.aclose()
    assert len(numbers_in(store.path)) == 301
    assert (store.path == path) == (vanish in (delete, delete_all, move, remove_folder))
    if vanish is replace:
        assert path.read_text() == "phone\n987654321\n"
    if vanish is overwrite:
        assert path.read_bytes() == b"phone\n987654321\n" * 2_000


@pytest.mark.parametrize("vanish", VANISH)
@pytest.mark.usefixtures("at_once")
async def test_an_answer_that_comes_first_after_the_ledger_has_vanished_is_stored(
    tmp_path: Path, vanish: Callable[[Path], None]
) -> None:
    (tmp_path / "lists").mkdir()
    store = SQLiteStore(tmp_path / "lists" / "leads.db")
    await store.open()
    await store.settle([answered(MOBILE)])
    vanish(store.path)
    await store.settle([answered(MOBILE + 1)])
    await store.settle([answered(MOBILE + 2)])
    with pytest.raises(LedgerError, match="while it was in use"):
        await store.aclose()
    assert numbers_in(store.path) == {MOBILE, MOBILE + 1, MOBILE + 2}


async def test_a_ledger_that_vanishes_at_the_end_is_noticed_on_closing(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    await store.settle([answered(MOBILE)])
    (tmp_path / "leads.db").unlink()
    with pytest.raises(LedgerError, match="was deleted or moved while it was in use"):
        await store.aclose()
    assert numbers_in(tmp_path / "leads.db") == {MOBILE}


async def test_damage_to_pages_not_in_memory_is_noticed_on_closing(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.settle([answered(MOBILE + n) for n in range(300)])
    with path.open("r+b") as file:  # the answers are in the log, so reading them does not show this
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(LedgerError, match="ledger repair"):
        await store.aclose()
    assert repair(path).answers == 300


async def test_a_ledger_that_cannot_be_saved_reports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise full()

    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    monkeypatch.setattr(_tables.Tables, "copy_to", no_room)
    monkeypatch.setattr("accucheck._store._sqlite._WATCH_SECONDS", 0.0)
    (tmp_path / "leads.db").unlink()
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"could not be recovered .*the disk is full"):
            await store.settle([answered(MOBILE)])
    monkeypatch.undo()
    await store.settle([answered(MOBILE)])
    with pytest.raises(LedgerError, match="while it was in use"):
        await store.aclose()
    assert numbers_in(tmp_path / "leads.db") == {MOBILE}


@pytest.mark.usefixtures("at_once")
async def test_a_ledger_that_grows_shrinks_and_is_shared_is_not_taken_for_one_that_vanished(
    tmp_path: Path,
) -> None:
    one, two = SQLiteStore(tmp_path / "leads.db"), SQLiteStore(tmp_path / "leads.db")
    await one.open()
    await two.open()
    for start in range(0, 20_000, 1_000):
        await one.settle([answered(MOBILE + start + n) for n in range(1_000)])
        await two.claim([MOBILE + 50_000 + start], ANY)
    with closing(sqlite3.connect(tmp_path / "leads.db")) as connection:
        connection.execute("DELETE FROM answers WHERE key > ?", (MOBILE + 1_000 << 3,))
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for store in (one, two):
        await store.settle([answered(MOBILE + 99_999)])
        await store.aclose()


@pytest.mark.usefixtures("at_once")
async def test_a_ledger_of_long_answers_is_not_taken_for_one_that_was_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    for n in range(40):
        await store.settle([answered(MOBILE + n, extra={"a": "x" * 5_000 * (1 + n % 3)})])
        with closing(sqlite3.connect(path)) as other:
            other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        await store.claim([MOBILE + 1_000 + n], ANY)
    await store.aclose()


async def test_closing_one_store_leaves_the_locks_of_another_in_place(tmp_path: Path) -> None:
    """Closing a descriptor of the file would drop them: then whoever closes last elsewhere would delete the log."""
    path = tmp_path / "leads.db"
    one, two = SQLiteStore(path), SQLiteStore(path)
    await one.open()
    await two.open()
    await two.aclose()
    Ledger(path).info()
    program = f"""
import sqlite3
connection = sqlite3.connect({str(path)!r})
connection.execute("SELECT count(*) FROM answers").fetchone()
connection.close()
"""
    process = await asyncio.create_subprocess_exec("python3", "-c", program)
    assert await process.wait() == 0
    assert path.with_name("leads.db-wal").exists(), "the other process did not take itself for the last one"
    await one.settle([answered(MOBILE)])
    await one.aclose()
    assert numbers_in(path) == {MOBILE}


# Repair


async def damaged(path: Path) -> dict[int, object]:
    store = SQLiteStore(path)
    await store.open()
    settled = {MOBILE + 3 * n: answered(MOBILE + 3 * n) for n in range(3_000)}
    settled |= {MOBILE + 1: failed(MOBILE + 1)}
    await store.settle([*settled.values()])
    await store.remember("rate", "12.0")
    await store.aclose()
    return {number: told(settlement) for number, settlement in settled.items()}


def told_in(path: Path) -> dict[int, object]:
    return {settlement.number: told(settlement) for _, settlement in Ledger(path).settlements()}


async def test_an_undamaged_ledger_is_the_same_after_a_repair(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    settled = await damaged(path)
    repaired = repair(path)
    assert (repaired.answers, repaired.failures) == (3_000, 1)
    assert told_in(path) == settled
    assert Ledger(path).recall("rate") == "12.0"
    assert Path(repaired.damaged).exists()


@pytest.mark.parametrize("page", [0, 1, 2, 5, 20])
async def test_a_page_that_is_lost_takes_only_its_own_answers(tmp_path: Path, page: int) -> None:
    path = tmp_path / "leads.db"
    settled = await damaged(path)
    with path.open("r+b") as file:
        file.seek(4_096 * page)
        file.write(os.urandom(4_096))
    repair(path)
    left = told_in(path)
    assert left.items() <= settled.items()
    assert len(left) >= 2_900


async def test_the_readable_part_of_a_truncated_file_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    settled = await damaged(path)
    os.truncate(path, path.stat().st_size // 2)
    repair(path)
    left = told_in(path)
    assert left.items() <= settled.items()
    assert len(left) > 1_000


async def test_answers_too_long_for_a_page_are_saved_too(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    long = answered(MOBILE + 7, signature="ñ" * 9_000)
    await store.settle([answered(MOBILE), long])
    await store.aclose()
    repair(path)
    assert told_in(path) == {MOBILE: told(answered(MOBILE)), MOBILE + 7: told(long)}


async def test_a_ledger_in_use_is_not_repaired(store: SQLiteStore) -> None:
    with pytest.raises(LedgerError, match=f"process {os.getpid()} .* uses it"):
        repair(store.path)


# Other processes, simulated by their files and rows


def die(store: SQLiteStore) -> None:
    """Leave a store as a killed process does: its lock is gone, its rows and its counters are there."""
    owner = store._ledger.tables.owner
    owner._counters.release()
    owner._map.close()
    os.close(owner._descriptor)  # the lock goes with it
    store._thread = None  # it never reports again
    store._finalizer.detach()
    KEPT.append(store)


KEPT: list[SQLiteStore] = []
"""Killed stores, kept so that nothing of theirs is closed."""


async def test_a_dead_process_gives_its_claims_and_unused_calls_back_at_once(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    dead = SQLiteStore(path)
    await dead.open()
    await dead.claim([MOBILE, MOBILE + 1], ANY)
    granted = 0
    while grant := await dead.lease_calls(100, max_calls=100, job="list"):
        granted += grant
    for _ in range(29):
        dead.note_call("list")
    await dead.settle([answered(MOBILE + 5, calls=20)], job="list")
    store = SQLiteStore(path)
    await store.open()
    assert (await store.claim([MOBILE], ANY)).taken == {MOBILE}
    assert await store.lease_calls(10, max_calls=100, job="list") == 0
    assert await store.calls_made("list") == 29
    die(dead)
    assert (await store.claim([MOBILE], ANY)).taken == set()
    again = 0
    while grant := await store.lease_calls(100, max_calls=100, job="list"):
        again += grant
    assert again == 71
    assert await store.calls_made("list") == 29
    assert Ledger(path).info().perhaps_lost_in_kills == 9
    await store.aclose()
    assert [file.name for file in tmp_path.iterdir() if ".run-" in file.name] == []


async def test_after_a_power_cut_a_lease_counts_as_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = SQLiteStore(tmp_path / "leads.db")
    await dead.open()
    granted = await dead.lease_calls(10, max_calls=100)
    dead.note_call()
    die(dead)
    monkeypatch.setattr("accucheck._store._owner.boot_id", lambda: "another start of the machine")
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    assert await store.calls_made() == granted
    await store.aclose()


async def test_a_process_that_sleeps_too_long_loses_its_claims_and_keeps_its_calls(tmp_path: Path) -> None:
    clock = Clock()
    asleep, store = (
        SQLiteStore(tmp_path / "leads.db", now=clock),
        SQLiteStore(tmp_path / "leads.db", now=clock),
    )
    await asleep.open()
    await store.open()
    await asleep.claim([MOBILE], ANY)
    while await asleep.lease_calls(100, max_calls=100):
        pass
    clock.seconds += 59
    assert (await store.claim([MOBILE], ANY)).taken == {MOBILE}
    clock.seconds += 2
    assert (await store.claim([MOBILE], ANY)).taken == set()
    assert await store.lease_calls(100, max_calls=100) == 0
    await asleep.settle([answered(MOBILE)])
    assert (await asleep.claim([MOBILE], ANY)).known == {MOBILE: answered(MOBILE)}
    await asleep.aclose()
    await store.aclose()


async def test_claims_are_renewed_while_the_store_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accucheck._store._sqlite._RENEW_SECONDS", 0.0)
    clock = Clock()
    one, two = SQLiteStore(tmp_path / "leads.db", now=clock), SQLiteStore(tmp_path / "leads.db", now=clock)
    await one.open()
    await two.open()
    await one.claim([MOBILE], ANY)
    for _ in range(5):
        clock.seconds += 50
        await one.settle([answered(MOBILE + 1)])
    assert (await two.claim([MOBILE], ANY)).taken == {MOBILE}
    await one.aclose()
    await two.aclose()


async def test_the_claim_of_another_is_not_dropped_by_a_late_answer(tmp_path: Path) -> None:
    """The fence: a process that lost a claim stores what it bought, and leaves the claim to its new owner."""
    clock = Clock()
    late, new = SQLiteStore(tmp_path / "leads.db", now=clock), SQLiteStore(tmp_path / "leads.db", now=clock)
    third = SQLiteStore(tmp_path / "leads.db", now=clock)
    for store in (late, new, third):
        await store.open()
    wants_new = Query(yes_since=clock.seconds + 1_000)
    await late.claim([MOBILE], wants_new)
    clock.seconds += 61
    await new.claim([MOBILE], wants_new)
    await new._run(lambda ledger: ledger.tables.renew())
    await late.settle([answered(MOBILE)])
    await late.find([MOBILE], ANY)
    assert (await third.claim([MOBILE], wants_new)).taken == {MOBILE}
    for store in (late, new, third):
        await store.aclose()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe" * 3_000])
async def test_other_remains_of_a_killed_process_block_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "leads.db.run-0badf00d").write_bytes(content)
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    assert len(Ledger(tmp_path / "leads.db").running()) == 1
    await store.aclose()


async def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    async def use() -> None:
        store = SQLiteStore(tmp_path / "leads.db")
        await store.open()
        await store.settle([answered(MOBILE)])
        await store.aclose()
        with Ledger(tmp_path / "leads.db") as ledger:
            ledger.find([MOBILE])
            ledger.info()

    await use()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await use()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_jobs_beyond_the_counters_are_refused_and_counters_are_used_again(store: SQLiteStore) -> None:
    for n in range(3 * _owner.SLOTS):
        assert await store.lease_calls(1, max_calls=None, job=f"job {n}") == 1
        store.note_call(f"job {n}")
        await store.return_calls(0, job=f"job {n}")
    assert await store.calls_made("job 5") == 1
    for n in range(_owner.SLOTS):
        await store.lease_calls(2, max_calls=None, job=f"job {n}")
    with pytest.raises(LedgerError, match="at the same time"):
        await store.lease_calls(2, max_calls=None, job="one too many")


# Files of processes


async def test_a_process_killed_before_it_was_in_the_ledger_leaves_nothing_for_long(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    (tmp_path / "leads.db.run-0badf00d").write_bytes(bytes(4096))
    alive = _owner.Owner(path, reserve=0)
    store = SQLiteStore(path)
    await store.open()
    assert len(_owner.leftovers(path)) == 2
    assert not _owner.dead(path, alive.token)
    await store.aclose()
    assert _owner.leftovers(path) == [alive.token]
    alive.close()
    assert _owner.leftovers(path) == []


def test_a_file_that_another_looks_at_while_it_is_made_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, looked_at = _owner._try_lock, []

    def busy_once(descriptor: int) -> bool:
        looked_at.append(descriptor)
        return len(looked_at) > 1 and lock(descriptor)

    monkeypatch.setattr(_owner, "_try_lock", busy_once)
    owner = _owner.Owner(tmp_path / "leads.db", reserve=0)
    assert _owner.leftovers(tmp_path / "leads.db") == [owner.token]
    owner.close()


async def test_a_repair_skips_rows_that_hold_sql(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.settle([answered(MOBILE + n, extra={"a": "x" * 9_000}) for n in range(3)])
    await store.aclose()
    with closing(sqlite3.connect(path)) as stranger, stranger:
        stranger.execute(
            "UPDATE answers SET at = '1,1,NULL); DROP TABLE settings' WHERE key = ?", (MOBILE << 3,)
        )
    assert repair(path).answers == 2
    assert numbers_in(path) == {MOBILE + 1, MOBILE + 2}
