"""The ledger's file: permissions, what is refused, deletion, and what it reports about itself."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from accucheck import LedgerError
from accucheck._store import Ledger, Query, SQLiteStore, _file, account_ledger_path, account_ledgers
from tests.unit.ledger_samples import MOBILE, NOW, answered, failed, told

ANY = Query()


async def filled(path: Path, count: int = 50) -> None:
    store = SQLiteStore(path)
    await store.open()
    await store.settle([*(answered(MOBILE + n) for n in range(count)), failed(MOBILE + count)])
    await store.aclose()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Who may read it


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_read_a_ledger_and_the_files_next_to_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = SQLiteStore(tmp_path / "leads.db")
        await store.open()
        await store.settle([answered(MOBILE)])
        beside = {path.name.partition(".run-")[0]: oct(mode_of(path)) for path in tmp_path.iterdir()}
        assert len(list(tmp_path.iterdir())) == 4
        assert set(beside) == {"leads.db", "leads.db-wal", "leads.db-shm"}
        assert set(beside.values()) == {"0o600"}
        await store.aclose()
    finally:
        os.umask(before)


async def test_a_closed_ledger_is_one_file(tmp_path: Path) -> None:
    await filled(tmp_path / "leads.db")
    with Ledger(tmp_path / "leads.db") as ledger:
        ledger.info()
        list(ledger.settlements())
        ledger.find([MOBILE])
    assert [path.name for path in tmp_path.iterdir()] == ["leads.db"]


async def test_a_ledger_is_never_half_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(path: Path) -> None:
        raise OSError("the power went")

    monkeypatch.setattr(_file, "_sync", cut)
    with pytest.raises(LedgerError, match="the power went"):
        await SQLiteStore(tmp_path / "leads.db").open()
    assert list(tmp_path.iterdir()) == []


async def test_remains_of_a_ledger_whose_creation_was_killed_are_removed(tmp_path: Path) -> None:
    old, young = tmp_path / "leads.db.new-1", tmp_path / "leads.db.new-2"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3_600,) * 2)
    await filled(tmp_path / "leads.db")
    assert {path.name for path in tmp_path.iterdir()} == {"leads.db", young.name}


async def test_a_ledger_can_be_created_where_links_are_impossible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    await filled(tmp_path / "leads.db")
    assert Ledger(tmp_path / "leads.db").info().yes == 50


def test_a_ledger_is_recognized_by_its_first_page(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    _file.create_ledger(path)
    with closing(_file.open_reader(path)) as connection:
        name = _file.name_of(connection)
    assert name.encode() in path.read_bytes()[: _file.PAGE_BYTES]


# Where it is


def test_an_account_has_its_own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_data_path", lambda name, appauthor: tmp_path / name)
    path = account_ledger_path("127.0.0.1:8080", "secret-id")
    assert path.parent == tmp_path / "accucheck"
    assert path.name.startswith("127.0.0.1_8080-")
    assert "secret" not in str(path)
    assert path == account_ledger_path("127.0.0.1:8080", "secret-id")
    assert path != account_ledger_path("127.0.0.1:8080", "other-id")
    assert account_ledgers() == []


async def test_the_accounts_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_data_path", lambda name, appauthor: tmp_path / "share" / name)
    path = account_ledger_path("vendor.example", "id")
    await filled(path)
    assert mode_of(path.parent) == 0o700
    assert mode_of(path) == 0o600
    assert account_ledgers() == [path]


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/home/ana", "ext4"), ("/mnt/team share/lists", "nfs4"), ("/mnt", "ext4"), ("/mnt/cifs/x", "cifs")],
)
def test_the_file_system_is_that_of_the_nearest_mount(tmp_path: Path, folder: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:40 / /mnt/team\\040share rw - nfs4 server:/team rw\n"
        "41 22 0:41 / /mnt/cifs rw - cifs //server/x rw\n"
    )
    assert _file._file_system(Path(folder) / "leads.db", mounts) == kind
    assert _file._file_system(Path(folder) / "leads.db", tmp_path / "none") == ""


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_file, "_file_system", lambda path: "nfs4")
    with pytest.raises(LedgerError, match=r"network file system \(nfs4\).*PostgreSQL"):
        await SQLiteStore(tmp_path / "leads.db").open()
    assert list(tmp_path.iterdir()) == []


# What is refused, and left as it is


async def refused(path: Path, words: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LedgerError, match=words) as caught:
        await SQLiteStore(path).open()
    assert str(path) in caught.value.reason
    assert "\n" not in caught.value.reason
    if before is not None:
        assert path.read_bytes() == before


async def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text("phone\n987654321\n" * 100)
    await refused(path, "not an accucheck ledger.*was not changed")


async def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    path.touch()
    await refused(path, "the file is empty")


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    await refused(tmp_path, "it is a folder")


async def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    await refused(tmp_path / "nowhere" / "leads.db", "No such file or directory")


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE answers (key INTEGER PRIMARY KEY)")
    await refused(path, "belongs to another program")


async def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    await refused(path, r"created by a newer accucheck \(version 2, this one supports 1\): upgrade")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
async def test_a_ledger_that_was_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "leads.db"
    await filled(path, 2_000)
    os.truncate(path, int(path.stat().st_size * share))
    await refused(path, "damaged")


def without_free_pages(path: Path) -> None:
    """Damage to a free page is no damage."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")


@pytest.mark.parametrize("page", range(1, 30, 3))
async def test_a_ledger_with_a_damaged_page_is_refused(tmp_path: Path, page: int) -> None:
    path = tmp_path / "leads.db"
    await filled(path, 2_000)
    without_free_pages(path)
    with path.open("r+b") as file:
        file.seek(4_096 * page)
        file.write(b"\xa5" * 4_096)
    await refused(path, "damaged")


async def test_damage_found_later_is_reported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "leads.db"
    await filled(path, 2_000)
    without_free_pages(path)
    monkeypatch.setattr(_file, "_SMALL_BYTES", 0)  # pretend that it is too large to be checked at once
    with path.open("r+b") as file:
        file.seek(4_096 * 12)
        file.write(b"\xa5" * 4_096 * 8)
    with Ledger(path) as ledger:
        with pytest.raises(LedgerError, match=r"damaged.*ledger repair"):
            for n in range(2_000):
                ledger.find([MOBILE + n])
        with pytest.raises(LedgerError, match="damaged"):
            list(ledger.settlements())
        with pytest.raises(LedgerError, match="damaged"):
            ledger.info()
    store = SQLiteStore(path)
    await store.open()
    with pytest.raises(LedgerError, match="damaged"):
        for n in range(2_000):
            await store.find([MOBILE + n], ANY)
    await store.aclose()


@pytest.mark.parametrize("left", [b"", b"\x93\x01\x02", "a text", 7, None])
async def test_an_answer_that_cannot_be_read_is_damage(tmp_path: Path, left: object) -> None:
    path = tmp_path / "leads.db"
    await filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE answers SET packed = ? WHERE key >> 3 = ?", (left, MOBILE + 7))
    with Ledger(path) as ledger:
        assert ledger.find([MOBILE + 6]) == {MOBILE + 6: answered(MOBILE + 6)}
        with pytest.raises(LedgerError, match="damaged"):
            ledger.find([MOBILE + 7])


async def test_an_error_in_the_callers_code_is_not_a_ledger_error(tmp_path: Path) -> None:
    await filled(tmp_path / "leads.db")
    with pytest.raises(OSError, match="the output's disk is full"):
        for _ in Ledger(tmp_path / "leads.db").settlements():
            raise OSError("the output's disk is full")


# Deleting


def seconds_of(settlement_time: float) -> datetime:
    return datetime.fromtimestamp(settlement_time, UTC)


def assert_gone(folder: Path, *, but: bytes = b"\0\0never") -> None:
    for file in folder.iterdir():
        left = file.read_bytes()
        assert left.count(b"hola, soy") == left.count(b"hola, soy " + but), file
        assert b"the vendor failed" not in left


async def test_purged_answers_are_gone_from_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path, now=lambda: time.time() - 91 * 86_400)
    await store.open()
    old = seconds_of(time.time() - 91 * 86_400)
    await store.settle([answered(MOBILE + 2 * n, checked_at=old) for n in range(500)])
    await store.settle([answered(MOBILE + 2 * n + 1, checked_at=old) for n in range(500)])  # pages split
    recent = answered(MOBILE + 9_999, checked_at=seconds_of(time.time()))
    await store.settle([failed(MOBILE + 5_000), recent])
    await store.aclose()
    size = path.stat().st_size
    assert b"hola, soy 900000123" in path.read_bytes()
    with Ledger(path) as ledger:
        assert ledger.purge(90 * 86_400) == 1_001
        assert [told(settlement) for _, settlement in ledger.settlements()] == [told(recent)]
        assert ledger.find([MOBILE + 1, MOBILE + 500]) == {}
    assert path.stat().st_size < size / 2
    assert_gone(tmp_path, but=b"900009999")
    assert mode_of(path) == 0o600


async def test_forgotten_numbers_are_gone_from_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.settle([answered(MOBILE + 2 * n) for n in range(600)])
    await store.settle([answered(MOBILE + 2 * n + 1) for n in range(600)], endpoint="basic")
    await store.settle([failed(MOBILE + 3), answered(MOBILE + 77_777)])
    await store.aclose()
    with Ledger(path) as ledger:
        assert ledger.forget(MOBILE + n for n in range(2_000)) == 1_200
        assert ledger.forget([MOBILE]) == 0
        assert ledger.info().yes == 1
    assert_gone(tmp_path, but=b"900077777")


async def test_replaced_answers_are_in_the_statement_until_they_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    times = [NOW + timedelta(days=n) for n in range(3)]
    for at in (times[0], times[1], times[1], times[2]):  # a batch that is stored again is not another answer
        await store.settle([answered(MOBILE, checked_at=at)])
    await store.settle([answered(MOBILE + 1)])
    await store.aclose()
    with Ledger(path) as ledger:
        kept = [(at, one.number) for _, at, one in ledger.settled_between(0, 1e11)]
        assert sorted(kept) == sorted([(at, MOBILE) for at in times] + [(times[0], MOBILE + 1)])
        assert [at for at, _ in kept] == sorted(at for at, _ in kept)
        only = [at for _, at, _ in ledger.settled_between(times[1].timestamp(), times[2].timestamp())]
        assert only == [times[1]]
        assert ledger.info().yes + ledger.info().no == 2
        assert ledger.forget([MOBILE]) == 1
        assert [one.number for *_, one in ledger.settled_between(0, 1e11)] == [MOBILE + 1]
        assert ledger.purge(0) == 1
        assert not [*ledger.settled_between(0, 1e11)]


async def test_nothing_is_deleted_from_under_a_run(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.settle([answered(MOBILE)])
    with Ledger(path) as ledger:
        with pytest.raises(LedgerError, match=rf"process {os.getpid()} on .* is using it"):
            ledger.purge(0)
        with pytest.raises(LedgerError, match="is using it"):
            ledger.forget([MOBILE])
        assert ledger.info().yes == 1
        await store.aclose()
        assert ledger.purge(0) == 1


# Inspecting it


async def test_the_facts_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    ledger = Ledger(path)
    assert ledger.info().oldest is None
    await store.lease_calls(10, max_calls=None, job="list")
    for _ in range(4):
        store.note_call("list")
    await store.settle(
        [
            answered(MOBILE, checked_at=seconds_of(1_700_000_000)),
            answered(MOBILE + 1, whatsapp=False, checked_at=seconds_of(1_800_000_000)),
            failed(MOBILE + 2, lost=2),
            failed(MOBILE + 3),
            answered(MOBILE + 3, checked_at=seconds_of(1_900_000_000)),
        ],
        job="list",
    )
    await store.settle([answered(MOBILE, checked_at=seconds_of(1_750_000_000))], endpoint="basic")
    during = ledger.info()
    assert len(during.running) == 1
    assert f"process {os.getpid()} on " in during.running[0]
    assert during.calls == 4
    await store.return_calls(6, job="list")
    await store.aclose()
    info = ledger.info()
    assert (info.answers, info.yes, info.no) == ({"advanced": 3, "basic": 1}, 3, 1)
    assert info.failures in ({"INTERNAL_ERROR": 1}, {"INTERNAL_ERROR": 2})
    assert (info.oldest, info.newest) == ("2023-11-14T22:13:20+00:00", "2030-03-17T17:46:40+00:00")
    assert (info.calls, info.possibly_double_charged, info.running) == (4, 2, [])
    assert info.bytes == path.stat().st_size
    assert [(job.job, job.calls) for job in ledger.jobs()] == [("list", 4)]


async def test_running_processes_are_reported_without_their_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/accucheck", "bulk", "--api-id", "hush", "leads.csv"])
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    assert "(accucheck bulk) since 20" in Ledger(tmp_path / "leads.db").running()[0]
    for file in tmp_path.iterdir():
        assert b"hush" not in file.read_bytes()
    await store.aclose()


async def test_settings_can_be_read_during_a_run(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    await store.remember("rate", "49.5")
    assert Ledger(tmp_path / "leads.db").recall("rate") == "49.5"
    assert Ledger(tmp_path / "leads.db").recall("other") is None
    await store.aclose()


async def test_another_name_of_the_file_is_the_same_ledger(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "leads.db")
    await filled(tmp_path / "link.db")
    assert Ledger(tmp_path / "leads.db").info().yes == 50
    assert {path.name for path in tmp_path.iterdir()} == {"leads.db", "link.db"}


def test_inspecting_a_missing_ledger_does_not_create_it(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="No such file"):
        Ledger(tmp_path / "leads.db").info()
    with pytest.raises(LedgerError, match="no such file"):
        Ledger(tmp_path / "leads.db").purge(0)
    assert list(tmp_path.iterdir()) == []
