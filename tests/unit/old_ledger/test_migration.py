"""From the first version of the file to this one: every field, also when it is killed in the middle."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from accucheck import Check, Ledger, LedgerError
from accucheck._models import Settlement
from accucheck._store._old import _version_2
from accucheck._store._old._file import APPLICATION_ID
from accucheck._store._old._rows import failure_row, key_of
from accucheck._store._old._schema import MIGRATIONS, migrate, version_of
from accucheck._store._old._version_1 import ANSWER_COLUMNS
from tests.unit.ledger_samples import MOBILE, NOW, answered, failed, told

ROOT = Path(__file__).parents[3]
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
RICH = answered(
    MOBILE + 1,
    status_update=date(2020, 2, 29),
    signature="línea\n«dos»",
    business_user=None,
    avatar=False,
    request_id="another kind",
    checked_at=NOW.replace(microsecond=999_999),
    extra={"carrier": {"name": "Claro"}},
    calls=7,
    lost=2,
)
BARE = answered(
    MOBILE + 2,
    whatsapp=False,
    status_update=None,
    signature=None,
    business_user=None,
    avatar=None,
    request_id="",
    checked_at=NOW.replace(microsecond=1),
)


def row_of_version_1(settlement: Settlement, endpoint: Any = "advanced") -> tuple[Any, ...]:
    """Return the row as the first version wrote it."""
    check = settlement.result
    assert isinstance(check, Check)
    day, since = check.status_update, check.checked_at - EPOCH
    usual = check.request_id.startswith("TID")
    return (
        key_of(settlement.number, endpoint),
        check.whatsapp,
        None if day is None else int(day.strftime("%Y%m%d")),
        check.business_user,
        check.avatar,
        check.signature,
        bytes.fromhex(check.request_id[3:]) if usual else check.request_id,
        (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds,
        settlement.calls,
        settlement.possibly_double_charged,
        '{"carrier": {"name": "Claro"}}' if check.extra else None,
    )


def make_version_1(path: Path, answers: list[Settlement], journal: list[Settlement]) -> None:
    """Make a file of the first version, as a run leaves it that was killed with a journal."""
    marks = ",".join("?" * (ANSWER_COLUMNS.count(",") + 1))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(connection, MIGRATIONS[:1])
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO answers VALUES ({marks})", map(row_of_version_1, answers))
        connection.executemany(
            f"INSERT INTO journal VALUES (?, {marks})",
            [(n, *row_of_version_1(settlement)) for n, settlement in enumerate(journal, 101)],
        )
        connection.execute("UPDATE journal_end SET id = 100")
        failure = failed(MOBILE + 3, lost=1)
        assert not isinstance(failure.result, Check)
        connection.execute(
            "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            failure_row(0, failure, failure.result, 1_700_000_000_000_001),
        )
        connection.execute("INSERT INTO jobs VALUES ('january', 500, 300, 4, 6, 100)")
        connection.execute("INSERT INTO settings VALUES ('rate', '49.5')")
        connection.execute("COMMIT")


def what_is_in(path: Path) -> tuple[Any, ...]:
    with Ledger(path) as ledger:
        info = ledger.info()
        return (
            [told(settlement) for _, settlement in ledger.settlements()],
            (info.version, info.calls, info.possibly_double_charged, info.failures),
            ledger.recall("rate"),
        )


def test_every_field_of_the_first_version_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    newer = answered(MOBILE + 1, whatsapp=False, checked_at=NOW.replace(year=2027), lost=5)
    make_version_1(path, [answered(MOBILE), RICH], [BARE, newer])
    settlements, facts, rate = what_is_in(path)
    assert settlements == [
        *map(told, (answered(MOBILE), newer, BARE)),
        told(failed(MOBILE + 3, lost=1)),
    ]
    assert facts == (2, 500, 4 + 5, {"INTERNAL_ERROR": 1})
    assert rate == "49.5"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT checked_at, whatsapp FROM answers ORDER BY key").fetchall() == [
            (row[7], row[1]) for row in map(row_of_version_1, (answered(MOBILE), newer, BARE))
        ]
        assert connection.execute("SELECT failed_at FROM failures").fetchall() == [(1_700_000_000_000_001,)]
        assert connection.execute("SELECT * FROM jobs").fetchall() == [("january", 500, 302, 9, 6, 100)]
        assert connection.execute("SELECT id FROM journal_end").fetchall() == [(102,)]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master").fetchall()}
    assert {"answers", "journal", "failures", "jobs", "settings"} <= names
    assert not {"old_answers", "old_journal", "known_answers"} & names


def test_rich_and_bare_answers_come_over_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    make_version_1(path, [RICH, BARE], [])
    with Ledger(path) as ledger:
        assert ledger.find([MOBILE + 1, MOBILE + 2]) == {MOBILE + 1: RICH, MOBILE + 2: BARE}


def test_a_long_ledger_comes_over_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_version_2, "_SLICE", 64)
    path = tmp_path / "leads.db"
    answers = [answered(MOBILE + 10 + n) for n in range(1_000)]
    journal = [answered(MOBILE + 10 + n, whatsapp=False) for n in range(900, 1_100)]
    make_version_1(path, answers, journal)
    settlements, _, _ = what_is_in(path)
    assert settlements[:-1] == [told(settlement) for settlement in (*answers[:900], *journal)]


def test_the_file_does_not_grow_to_twice_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "leads.db"
    make_version_1(path, [answered(MOBILE + 10 + n) for n in range(30_000)], [])
    before = path.stat().st_size
    monkeypatch.setattr(_version_2, "_SLICE", 1_000)
    Ledger(path).close()
    assert path.stat().st_size < 1.5 * before


MIGRATE = """
    import os, signal, sqlite3, sys
    from accucheck import Ledger
    from accucheck._store._old import _version_2

    left = int(sys.argv[2])
    def die(connection, name=None):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    _version_2._SLICE = 500
    renewed = _version_2._renewed
    def counted(rows):
        for row in renewed(rows):
            die(None)
            yield row
    _version_2._renewed = counted
    Ledger(sys.argv[1]).close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("nth", [1, 700, 20_000, 30_100])
def test_a_kill_in_the_middle_leaves_the_version_before(tmp_path: Path, nth: int) -> None:
    """Also after pages were spilled into the log: 30,000 answers are more than the cache holds."""
    path = tmp_path / "leads.db"
    answers = [answered(MOBILE + 10 + n) for n in range(30_000)]
    journal = [answered(MOBILE + 10 + n, whatsapp=False) for n in range(29_900, 30_100)]
    make_version_1(path, answers, journal)
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MIGRATE), str(path), str(nth)], cwd=ROOT, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with closing(sqlite3.connect(path)) as connection:
        assert version_of(connection) == 1
        assert connection.execute("SELECT count(*) FROM answers").fetchone() == (30_000,)
    settlements, facts, _ = what_is_in(path)
    assert settlements[:-1] == [told(settlement) for settlement in (*answers[:29_900], *journal)]
    assert facts[0] == 2


def test_a_damaged_ledger_of_the_first_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    make_version_1(path, [answered(MOBILE + 10 + n) for n in range(2_000)], [])
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(path)
