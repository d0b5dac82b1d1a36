"""The store in PostgreSQL: the conformance suite, and what only a server can do to it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from accucheck import ConfigurationError, LedgerError
from accucheck._store import (
    COUNTS_MONEY,
    Ledger,
    PostgresStore,
    Query,
    SQLiteStore,
    Store,
    as_store,
    init_postgres,
)
from accucheck._store._postgres import shown
from tests.postgres import Server, new_ledger
from tests.store_conformance import StoreConformance
from tests.unit.ledger_samples import MOBILE, NOW, Clock, answered, failed, told

ANY = Query()


@pytest.fixture
async def url(postgres_server: Server) -> str:
    return await new_ledger(postgres_server)


class TestPostgresStore(StoreConformance):
    @pytest.fixture
    def now(self) -> Clock:
        return Clock()

    @pytest.fixture
    def make_store(self, url: str, now: Clock) -> Callable[[], Store]:
        return lambda: PostgresStore(url, now=now)


async def test_a_database_without_tables_says_how_to_create_them(postgres_server: Server) -> None:
    url = await asyncio.to_thread(postgres_server.new_database)
    with pytest.raises(LedgerError, match="accucheck ledger init"):
        await PostgresStore(url).open()
    assert await init_postgres(url)
    assert not await init_postgres(url)
    store = PostgresStore(url)
    await store.open()
    await store.aclose()


async def test_processes_that_create_the_tables_at_the_same_time_create_them_once(
    postgres_server: Server,
) -> None:
    url = await asyncio.to_thread(postgres_server.new_database)
    assert sorted(await asyncio.gather(*(init_postgres(url) for _ in range(4)))) == [False] * 3 + [True]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ana:hush@db.example:5433/leads?sslmode=require",
        "postgresql://db.example/leads?password=hush&user=ana",
        "postgresql://ana:hush@[bad",
    ],
)
def test_the_password_is_in_no_message(url: str) -> None:
    assert "hush" not in shown(url)
    assert "hush" not in repr(PostgresStore(url))


async def test_an_unreachable_server_is_reported_without_the_password() -> None:
    store = PostgresStore("postgresql://ana:hush@127.0.0.1:1/leads", patience=0.2)
    with pytest.raises(LedgerError, match=r"postgresql://ana@127.0.0.1:1/leads: the database") as caught:
        await store.open()
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    await store.aclose()


async def test_a_process_of_another_machine_gives_its_claims_and_unused_calls_back_when_it_has_expired(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dead, store = PostgresStore(url), PostgresStore(url)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("accucheck._store._postgres._counters_path", lambda: tmp_path / "elsewhere")
        await dead.open()
    await store.open()
    await dead.claim([MOBILE, MOBILE + 1, MOBILE + 2], ANY)
    granted = 0
    while grant := await dead.lease_calls(100, max_calls=100, job="list"):
        granted += grant
    for _ in range(10):
        dead.note_call("list")
    assert await dead.lease_calls(40, max_calls=400, job=f"{COUNTS_MONEY}0.1 list") == 40
    dead.note_call(f"{COUNTS_MONEY}0.1 list", 30)
    dead.note_call(f"{COUNTS_MONEY}0.1 list", -25)
    assert await dead.calls_made(f"{COUNTS_MONEY}0.1 list") == 5
    await dead.settle([answered(MOBILE, calls=10)], job="list")
    assert (await store.claim([MOBILE + 1], ANY)).taken == {MOBILE + 1}
    assert await store.lease_calls(10, max_calls=100, job="list") == 0

    async def expire(connection: object) -> None:
        await connection.execute(  # type: ignore[attr-defined]
            "UPDATE accucheck.owners SET expires = clock_timestamp() - interval '1 s' WHERE id = %s",
            (dead._owner,),
        )

    await store._do(expire)
    assert (await store.claim([MOBILE + 1], ANY)).taken == set()
    again = 0
    while grant := await store.lease_calls(100, max_calls=100, job="list"):
        again += grant
    assert again >= 87, "the two numbers in flight may have been asked"
    assert await store.calls_made("list") == 100 - again
    # Another machine cannot know what a dead process spent, so everything it had leased counts.
    assert await store.calls_made(f"{COUNTS_MONEY}0.1 list") == 40
    # The other process only slept: it continues as a new owner and loses nothing it bought.
    await dead._do(dead._renew_once)
    await dead.settle([answered(MOBILE + 1)], job="list")
    assert (await dead.claim([MOBILE + 2], ANY)).taken == {MOBILE + 2}
    await dead.aclose()
    await store.aclose()


async def test_a_lost_connection_is_reopened(url: str, postgres_server: Server) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.claim([MOBILE], ANY)
    await asyncio.to_thread(postgres_server.kill)
    settling = asyncio.create_task(store.settle([answered(MOBILE)]))
    claiming = asyncio.create_task(store.claim([MOBILE + 1], ANY))
    await asyncio.sleep(0.3)
    assert not settling.done()
    assert not claiming.done(), "nothing is bought that cannot be stored"
    await asyncio.to_thread(postgres_server.start)
    await settling
    assert (await claiming).taken == set()
    assert await store.find([MOBILE], ANY) == {MOBILE: answered(MOBILE)}
    await store.aclose()


async def test_a_database_that_stays_down_ends_the_run_and_the_batch_can_be_retried(
    url: str, postgres_server: Server
) -> None:
    store = PostgresStore(url, patience=0.5)
    await store.open()
    await asyncio.to_thread(postgres_server.stop)
    try:
        with pytest.raises(LedgerError, match="start it, then run"):
            await store.settle([answered(MOBILE)])
    finally:
        await asyncio.to_thread(postgres_server.start)
    store._patience = 30.0
    await store.settle([answered(MOBILE)])
    assert set(await store.find([MOBILE], ANY)) == {MOBILE}
    await store.aclose()


async def test_the_claim_of_a_cancelled_caller_is_released(url: str) -> None:
    store, other = PostgresStore(url), PostgresStore(url)
    await store.open()
    await other.open()
    caller = asyncio.create_task(store.claim([MOBILE], ANY))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    while (await other.claim([MOBILE], ANY)).taken:
        await asyncio.sleep(0.01)
    await store.aclose()
    await other.aclose()


async def test_a_role_with_the_documented_privileges_can_do_everything(url: str) -> None:
    store = PostgresStore(url)
    await store.open()

    async def grant(connection: object) -> None:
        execute = connection.execute  # type: ignore[attr-defined]
        await execute("DROP ROLE IF EXISTS analyst")
        await execute("CREATE ROLE analyst LOGIN")
        await execute("GRANT USAGE ON SCHEMA accucheck TO analyst")
        await execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA accucheck TO analyst")

    await store._do(grant)
    analyst = PostgresStore(url.replace("postgres@", "analyst@"))
    await analyst.open()
    await analyst.claim([MOBILE], ANY)
    await analyst.settle([answered(MOBILE)])
    await analyst.lease_calls(5, max_calls=10)
    await analyst.remember("rate", "5")
    with pytest.raises(LedgerError):
        await analyst._do(lambda connection: connection.execute("DROP TABLE accucheck.answers"))
    await analyst.aclose()

    async def drop(connection: object) -> None:
        await connection.execute("DROP OWNED BY analyst")  # type: ignore[attr-defined]
        await connection.execute("DROP ROLE analyst")  # type: ignore[attr-defined]

    await store._do(drop)
    await store.aclose()


async def filled(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.lease_calls(10, max_calls=None, job="spring")
    for _ in range(4):
        store.note_call("spring")
    await store.settle(
        [
            answered(MOBILE, lost=1),
            answered(MOBILE + 1, whatsapp=False),
            failed(MOBILE + 2),
            failed(MOBILE),
        ],
        job="spring",
    )
    await store.settle([answered(MOBILE + 3)], endpoint="basic", job="spring")
    await store.remember("rate", "12.5")
    await store.aclose()


async def test_a_ledger_in_postgresql_is_inspected_like_a_file(url: str, tmp_path: Path) -> None:
    await filled(url)
    file = SQLiteStore(tmp_path / "same.db")
    await file.open()
    await file.lease_calls(10, max_calls=None, job="spring")
    for _ in range(4):
        file.note_call("spring")
    with Ledger(url) as ledger:
        kept = [*ledger.settlements()]
        for endpoint, settlement in kept:
            await file.settle([settlement], endpoint=endpoint)
        await file.return_calls(6, job="spring")
        await file.aclose()
        same = Ledger(tmp_path / "same.db")
        assert [(one, told(two)) for one, two in same.settlements()] == [
            (one, told(two)) for one, two in kept
        ]
        there, here = ledger.info(), same.info()
        for name in ("version", "answers", "yes", "no", "failures", "oldest", "newest", "calls", "running"):
            assert getattr(there, name) == getattr(here, name), name
        assert there.possibly_double_charged == 1
        assert there.bytes > 0
        assert [(job.job, job.calls) for job in ledger.jobs()] == [("spring", 4)]
        assert ledger.recall("rate") == "12.5"
        assert ledger.recall("nothing") is None
        found = ledger.find([MOBILE, MOBILE + 1, MOBILE + 9])
        assert {number: told(one) for number, one in found.items()} == {
            MOBILE: told(answered(MOBILE, lost=1)),
            MOBILE + 1: told(answered(MOBILE + 1, whatsapp=False)),
        }
    store = as_store(ledger)
    assert isinstance(store, PostgresStore)
    await store.open()
    assert len(ledger.running()) == 1
    await store.aclose()


async def test_a_ledger_in_postgresql_forgets_and_is_purged(url: str) -> None:
    await filled(url)
    ledger = Ledger(url)
    assert ledger.forget([MOBILE, MOBILE + 1, MOBILE + 50]) == 2
    assert {settlement.number for _, settlement in ledger.settlements()} == {MOBILE + 2, MOBILE + 3}
    assert ledger.purge(10 * 365 * 86_400) == 0
    assert ledger.purge(0) == 2
    assert [*ledger.settlements()] == []
    with pytest.raises(ConfigurationError, match="older_than"):
        ledger.purge(-1)


async def test_replaced_answers_are_in_the_statement_until_they_are_forgotten(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    times = [NOW + timedelta(days=n) for n in range(3)]
    for at in (times[0], times[1], times[1], times[2]):  # a batch that is stored again is not another answer
        await store.settle([answered(MOBILE, checked_at=at)])
    await store.settle([answered(MOBILE + 1)])
    await store.aclose()
    ledger = Ledger(url)
    kept = [(at, one.number) for _, at, one in ledger.settled_between(0, 1e11)]
    assert sorted(kept) == sorted([(at, MOBILE) for at in times] + [(times[0], MOBILE + 1)])
    assert [at for at, _ in kept] == sorted(at for at, _ in kept)
    assert ledger.forget([MOBILE]) == 1
    assert [one.number for *_, one in ledger.settled_between(0, 1e11)] == [MOBILE + 1]
    assert ledger.purge(0) == 1
    assert not [*ledger.settled_between(0, 1e11)]


async def test_an_unreadable_answer_in_postgresql_is_reported_by_every_method(url: str) -> None:
    await filled(url)
    store = PostgresStore(url)
    await store.open()
    await store._query("UPDATE accucheck.answers SET packed = %s", (b"\x93",))
    with pytest.raises(LedgerError, match="an answer cannot be read"):
        await store.find([MOBILE], ANY)
    await store.aclose()
    with Ledger(url) as ledger:
        looks: list[Callable[[], object]] = [
            ledger.info,
            lambda: ledger.find([MOBILE]),
            lambda: [*ledger.settlements()],
            lambda: [*ledger.settled_between(0, 1e11)],
        ]
        for look in looks:
            with pytest.raises(LedgerError, match="an answer cannot be read"):
                look()


async def test_the_claim_of_a_dead_process_is_forgotten_with_its_number(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await store.claim([MOBILE, MOBILE + 1], ANY)
    await store._query("UPDATE accucheck.claims SET owner = -1 WHERE key >> 3 = %s", (MOBILE,))
    Ledger(url).forget([MOBILE, MOBILE + 1])
    assert await store._query("SELECT key >> 3 FROM accucheck.claims", ()) == [(MOBILE + 1,)]
    await store.aclose()


async def test_a_missing_ledger_in_postgresql_says_so(postgres_server: Server) -> None:
    empty = await asyncio.to_thread(postgres_server.new_database)
    with pytest.raises(LedgerError, match="accucheck ledger init"):
        Ledger(empty).info()
    nowhere = Ledger("postgresql://ana:hush@127.0.0.1:1/leads")
    for look in (
        nowhere.info,
        nowhere.jobs,
        lambda: nowhere.forget([MOBILE]),
        lambda: [*nowhere.settlements()],
    ):
        with pytest.raises(LedgerError, match=r"ana@127\.0\.0\.1") as caught:
            look()
        assert "hush" not in str(caught.value)
    assert "hush" not in repr(nowhere)


async def test_the_commands_work_on_a_ledger_in_postgresql(url: str, tmp_path: Path) -> None:
    await filled(url)

    async def run(*words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "accucheck", "ledger", *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    code, out, _ = await run("info", url)
    assert code == 0
    assert "3 (2 on WhatsApp" in out
    assert (await run("export", url, "-o", str(tmp_path / "all.csv")))[0] == 0
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 6
    code, out, _ = await run("statement", url, "--month", "2026-11")
    assert code == 0
    assert len(out.splitlines()) == 4
    code, _, err = await run("forget", f"{MOBILE}", "--ledger", url)
    assert code == 0
    assert "erased 1 of 1 number" in err
    code, _, err = await run("repair", url)
    assert code == 2
    assert "only ledger files can be repaired" in err
    assert (await run("purge", url, "--older-than", "0d", "--yes"))[0] == 0
    assert [*Ledger(url).settlements()] == []
