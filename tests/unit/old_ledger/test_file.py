"""The file itself: who may read it, what is refused, its versions, what is deleted from it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accucheck import Ledger, LedgerError
from accucheck._store._old import _file, _schema
from accucheck._store._old._schema import MIGRATIONS
from tests.unit.ledger_samples import MOBILE, NOW, Clock, Listener, answered, failed, told


async def filled(path: Path, count: int = 50, *, now: Callable[[], float] = NOW.timestamp) -> None:
    with Ledger(path, now=now) as ledger:
        session = ledger.session()
        Listener(session)
        for n in range(count):
            session.settle(answered(MOBILE + n))
        session.settle(failed(MOBILE + count))
        await session.aclose()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Who may read it


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
async def test_only_the_owner_may_read_a_ledger_and_what_is_beside_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Ledger(tmp_path / "leads.db") as ledger:
            session = ledger.session()
            Listener(session)
            session.settle(answered(MOBILE))
            await session.flush()
            beside = {path.name: oct(mode_of(path)) for path in tmp_path.iterdir()}
            files = ("leads.db", "leads.db-wal", "leads.db-shm", "leads.db.lock", "leads.db.reserve")
            assert set(beside) == set(files)
            assert set(beside.values()) == {"0o600"}
            await session.aclose()
    finally:
        os.umask(before)


async def test_a_ledger_is_never_there_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        assert mode_of(self) == 0o600
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    Ledger(tmp_path / "leads.db").close()
    assert seen == [["leads.db.lock", "leads.db.new"]]


def test_what_a_killed_run_left_of_a_new_ledger_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "leads.db.new").write_bytes(b"half")
    Ledger(tmp_path / "leads.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["leads.db"]


def test_a_ledger_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(LedgerError):
        Ledger(tmp_path / "leads.db", migrations=(broken,))
    assert list(tmp_path.iterdir()) == []


async def test_a_closed_ledger_is_one_file(tmp_path: Path) -> None:
    await filled(tmp_path / "leads.db")
    with Ledger(tmp_path / "leads.db") as ledger:
        ledger.info()
        list(ledger.settlements())
        ledger.remember("rate", "50")
    assert [path.name for path in tmp_path.iterdir()] == ["leads.db"]


# What is refused, and left as it is


def refused(path: Path, words: str, **options: object) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LedgerError, match=words) as caught:
        Ledger(path, **options).session()  # type: ignore[arg-type]
    assert str(path) in caught.value.reason
    assert "\n" not in caught.value.reason
    if before is not None:
        assert path.read_bytes() == before


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text("phone\n987654321\n" * 100)
    refused(path, "no accucheck ledger and was left as it is")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    path.touch()
    refused(path, "the file is empty")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "it is a directory")


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere" / "leads.db", "No such file or directory")


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE answers (key INTEGER PRIMARY KEY)")
    refused(path, "belongs to another program")


async def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    refused(path, r"made by a newer accucheck \(version 3, this one knows 2\): pip install")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
async def test_a_ledger_that_was_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "leads.db"
    await filled(path, 2_000)
    os.truncate(path, int(path.stat().st_size * share))
    refused(path, "damaged")


def packed(path: Path) -> None:
    """Leave no free page: damage there is none."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")


@pytest.mark.parametrize("page", range(1, 40, 3))
async def test_a_ledger_with_a_damaged_page_is_refused(tmp_path: Path, page: int) -> None:
    path = tmp_path / "leads.db"
    await filled(path, 2_000)
    packed(path)
    with path.open("r+b") as file:
        file.seek(4_096 * page)
        file.write(b"\xa5" * 4_096)
    refused(path, "damaged")


async def test_damage_that_is_met_later_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "leads.db"
    await filled(path, 2_000)
    packed(path)
    monkeypatch.setattr(_file, "_SMALL_BYTES", 0)  # as if it were too large to be checked at once
    with path.open("r+b") as file:
        file.seek(4_096 * 10)
        file.write(b"\xa5" * 4_096 * 8)
    with Ledger(path) as ledger:
        with pytest.raises(LedgerError, match="damaged"):
            for n in range(2_000):
                ledger.find([MOBILE + n])
        with pytest.raises(LedgerError, match="damaged"):
            list(ledger.settlements())
        with pytest.raises(LedgerError, match="damaged"):
            ledger.info()


async def killed(path: Path, count: int, **fields: object) -> None:
    """Make a ledger as a killed run leaves it, with answers in the journal."""
    with Ledger(path) as ledger:
        session = ledger.session()
        Listener(session)
        for n in range(count):
            session.settle(answered(MOBILE + n, **fields))
        await session.flush()
        for suffix in ("", "-wal"):
            here = path.with_name(path.name + suffix)
            shutil.copy(here, path.with_name("killed.db" + suffix))
        await session.aclose()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda answers: answers[:-1], id="cut short"),
        pytest.param(lambda answers: answers + b"\0", id="too long"),
        pytest.param(lambda answers: b"", id="empty"),
        pytest.param(lambda answers: b"\x92\x90\x91\xc4\0", id="an answer without a key"),
        pytest.param(lambda answers: answers.replace(b"\xc3\xd7\xff", b"\xc0\xd7\xff", 1), id="no yes or no"),
        pytest.param(lambda answers: answers.replace(b"TID", b"\xff\xff\xff"), id="no UTF-8"),
        pytest.param(lambda answers: "text", id="a text"),
    ],
)
async def test_a_journal_that_cannot_be_read_is_told_and_left_as_it_is(
    tmp_path: Path, damage: Callable[[bytes], object]
) -> None:
    await killed(tmp_path / "leads.db", 300, request_id="TID of another kind")
    path = tmp_path / "killed.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        row, before = connection.execute("SELECT max(id), answers FROM journal").fetchone()
        left = damage(before)
        assert left != before
        connection.execute("UPDATE journal SET answers = ? WHERE id = ?", (left, row))
    with Ledger(path) as ledger:
        with pytest.raises(LedgerError, match="damaged"):
            ledger.session()
        with pytest.raises(LedgerError, match="damaged"):
            ledger.purge(0)
        with pytest.raises(LedgerError, match="damaged"):
            list(ledger.settlements())
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT answers FROM journal WHERE id = ?", (row,)).fetchone() == (left,)


async def test_what_a_killed_run_left_in_the_journal_is_seen_by_readers_and_moved_by_the_next_run(
    tmp_path: Path,
) -> None:
    await killed(tmp_path / "leads.db", 300)
    with Ledger(tmp_path / "killed.db") as ledger:
        assert len(list(ledger.settlements())) == ledger.info().yes == 300
        assert ledger.find([MOBILE + 7]) == {MOBILE + 7: answered(MOBILE + 7)}
        ledger.session().close()
        assert len(list(ledger.settlements())) == ledger.info().yes == 300
        assert ledger.find([MOBILE + 7]) == {MOBILE + 7: answered(MOBILE + 7)}


async def test_what_a_killed_run_left_in_the_journal_is_purged_too(tmp_path: Path) -> None:
    await killed(tmp_path / "leads.db", 300)
    path = tmp_path / "killed.db"
    with Ledger(path) as ledger:
        assert ledger.purge(0) == 300
    assert b"hola, soy" not in path.read_bytes()
    assert not path.with_name("killed.db-wal").exists()


async def test_a_readers_own_error_is_not_the_ledgers(tmp_path: Path) -> None:
    await filled(tmp_path / "leads.db")
    with Ledger(tmp_path / "leads.db") as ledger, pytest.raises(OSError, match="the output's disk is full"):
        for _ in ledger.settlements():
            raise OSError("the output's disk is full")


# Versions


def later(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE later (x INTEGER)")
    connection.execute("INSERT INTO later SELECT count(*) FROM answers")


def last(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE later ADD COLUMN y INTEGER NOT NULL DEFAULT 7")


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_a_ledger_of_every_earlier_version_is_brought_up_to_date(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "leads.db"
    every = (*MIGRATIONS, later, last)
    with Ledger(path, migrations=every[: len(MIGRATIONS) + steps]) as ledger:
        session = ledger.session()
        Listener(session)
        session.settle(answered(MOBILE))
        await session.aclose()
    with Ledger(path, migrations=every) as ledger:
        assert ledger.info().version == len(every)
        assert ledger.find([MOBILE]) == {MOBILE: answered(MOBILE)}
        ledger.session().close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT x, y FROM later").fetchall() == [(int(steps == 0), 7)]


async def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    await filled(path)

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM answers")
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(LedgerError):
        Ledger(path, migrations=(*MIGRATIONS, later, broken))
    with Ledger(path, migrations=(*MIGRATIONS, later)) as ledger:
        assert ledger.info().version == len(MIGRATIONS) + 1
        assert ledger.info().yes == 50


async def test_a_ledger_that_is_being_used_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    with Ledger(path) as ledger:
        session = ledger.session()
        with pytest.raises(LedgerError, match="is using it"):
            Ledger(path, migrations=(*MIGRATIONS, later))
        await session.aclose()


def test_the_statements_of_the_first_version_never_change(tmp_path: Path) -> None:
    """A released step is history: a file that was made by it must be what later steps begin with."""
    with closing(sqlite3.connect(":memory:")) as connection:
        _schema.migrate(connection, MIGRATIONS[:1])
        columns = {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
            ).fetchall()
        }
    answer = [
        "whatsapp", "status_update", "business_user", "avatar", "signature", "request_id", "checked_at",
        "calls", "possibly_double_charged", "extra",
    ]  # fmt: skip
    assert columns == {
        "answers": ["key", *answer],
        "failures": [
            "key", "status", "reason", "request_id", "http_status", "failed_at", "calls",
            "possibly_double_charged",
        ],
        "jobs": [
            "name", "calls_leased", "calls_settled", "possibly_double_charged", "lost_to_kills",
            "unsettled_at_start",
        ],
        "journal": ["id", "key", *answer],
        "journal_end": ["id"],
        "known_answers": ["key", *answer],
        "settings": ["name", "value"],
    }  # fmt: skip


# Deleting


async def test_what_is_purged_is_gone_from_the_bytes(tmp_path: Path) -> None:
    clock = Clock()
    path = tmp_path / "leads.db"
    await filled(path, 500, now=clock)
    clock.seconds += 91 * 86_400
    with Ledger(path, now=clock) as ledger:
        session = ledger.session()
        Listener(session)
        recent = answered(MOBILE + 9_999, checked_at=instant(clock.seconds))
        session.settle(recent)
        await session.aclose()
        size = path.stat().st_size
        assert b"hola, soy 900000123" in path.read_bytes()
        assert ledger.purge(90 * 86_400) == 501
        assert [told(settlement) for _, settlement in ledger.settlements()] == [told(recent)]
        assert ledger.find([MOBILE + 1, MOBILE + 500]) == {}
    assert path.stat().st_size < size / 2
    for file in tmp_path.iterdir():
        left = file.read_bytes()
        assert left.count(b"hola, soy") == left.count(b"hola, soy 900009999")
        assert b"the vendor failed" not in left
    assert mode_of(path) == 0o600


def instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def test_nothing_is_purged_from_under_a_run(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    await filled(path)
    with Ledger(path) as ledger:
        session = ledger.session()
        with pytest.raises(LedgerError, match="is using it"):
            ledger.purge(0)
        assert ledger.info().yes == 50
        await session.aclose()


# Looking into it


async def test_the_facts_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    clock = Clock()
    with Ledger(path, now=clock) as ledger:
        assert ledger.info().oldest is None
        session = ledger.session()
        Listener(session)
        session.settle(answered(MOBILE, checked_at=instant(1_700_000_000)))
        session.settle(answered(MOBILE + 1, whatsapp=False, checked_at=instant(1_800_000_000)))
        session.settle(failed(MOBILE + 2, lost=2))
        await session.flush()
        during = ledger.info()
        assert during.running is not None
        assert f"process {os.getpid()} on " in during.running
        await session.aclose()
        info = ledger.info()
    assert (info.answers, info.yes, info.no) == ({"advanced": 2}, 1, 1)
    assert info.failures == {"INTERNAL_ERROR": 1}
    assert (info.oldest, info.newest) == ("2023-11-14T22:13:20+00:00", "2027-01-15T08:00:00+00:00")
    assert info.possibly_double_charged == 2
    assert info.running is None
    assert info.bytes == path.stat().st_size
    assert info.version == len(MIGRATIONS)


def test_small_things_are_remembered(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        assert ledger.recall("rate") is None
        ledger.remember("rate", "49.5")
        ledger.remember("rate", "50.5")
        assert ledger.recall("rate") == "50.5"
    with Ledger(tmp_path / "leads.db") as again:
        assert again.recall("rate") == "50.5"


async def test_something_is_remembered_beside_a_run(tmp_path: Path) -> None:
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        Listener(session)
        session.settle(answered(MOBILE))
        ledger.remember("rate", "50")
        await session.aclose()
        assert ledger.recall("rate") == "50"
        assert repr(ledger) == f"Ledger({str(tmp_path / 'leads.db')!r})"
