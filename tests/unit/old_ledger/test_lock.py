"""One run at a time on one ledger."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from accucheck import Ledger, LedgerError
from accucheck._store._old import _lock
from accucheck._store._old._lock import RunLock, running_on


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lock, "_BETWEEN_TRIES", 0)


def test_a_second_run_is_refused_and_told_who_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/accucheck", "bulk", "--api-id", "hush", "leads.csv"])
    with Ledger(tmp_path / "leads.db") as ledger:
        session = ledger.session()
        with pytest.raises(
            LedgerError, match=rf"process {os.getpid()} on \S+ \(accucheck bulk\) since 20"
        ) as caught:
            ledger.session()
        assert "hush" not in caught.value.reason
        assert b"hush" not in (tmp_path / "leads.db.lock").read_bytes()
        session.close()
        ledger.session().close()


def test_another_name_of_the_file_is_the_same_ledger(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "leads.db")
    session = Ledger(tmp_path / "leads.db").session()
    with pytest.raises(LedgerError, match="is using it"):
        Ledger(tmp_path / "link.db").session()
    session.close()


@pytest.mark.parametrize("left", [b"", b"{}", b"\xff\xfe", b'{"pid":1,"host":"a","since":"b","command":"c"}'])
def test_what_a_killed_run_left_holds_nobody_up(tmp_path: Path, left: bytes) -> None:
    ledger = tmp_path / "leads.db"
    (tmp_path / "leads.db.lock").write_bytes(left)
    assert running_on(ledger) is None
    lock = RunLock(ledger)
    holder = running_on(ledger)
    assert holder is not None
    assert holder.pid == os.getpid()
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    assert running_on(ledger) is None


def test_a_lock_that_was_removed_before_we_held_it_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last holder removes the file between our open and our lock."""
    ledger = tmp_path / "leads.db"
    (tmp_path / "leads.db.lock").touch()
    original, removed = _lock._try_lock, 0

    def remove_first(descriptor: int) -> bool:
        nonlocal removed
        if not removed:
            removed += 1
            (tmp_path / "leads.db.lock").unlink()
        return original(descriptor)

    monkeypatch.setattr(_lock, "_try_lock", remove_first)
    lock = RunLock(ledger)
    assert removed == 1
    with pytest.raises(LedgerError, match="is using it"):
        RunLock(ledger)
    lock.release()


def test_looking_who_runs_does_not_hold_a_run_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path / "leads.db"
    looker = RunLock(ledger)
    original, tries = _lock._try_lock, 0

    def gone_at_the_third(descriptor: int) -> bool:
        nonlocal tries
        tries += 1
        if tries == 3:
            looker.release()
        return original(descriptor)

    monkeypatch.setattr(_lock, "_try_lock", gone_at_the_third)
    RunLock(ledger).release()


def test_a_module_run_goes_by_the_packages_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/accucheck/__main__.py", "-v"])
    assert _lock._this_process().command == "accucheck"


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "leads.db")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(LedgerError):
            RunLock(tmp_path / "leads.db")
        running_on(tmp_path / "leads.db")
    assert len(os.listdir("/proc/self/fd")) == before
    lock.release()
