"""The ledger against real disks, permissions and other programs."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from accucheck import LedgerError
from accucheck._store import Ledger, Query, SQLiteStore, _file
from tests.unit.ledger_samples import MOBILE, answered

ROOT = Path(__file__).parents[2]
ANY = Query()
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, modes and limits as on Unix")


def run(program: str, *arguments: object) -> str:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def numbers_in(path: Path) -> set[int]:
    return {settlement.number for _, settlement in Ledger(path).settlements()}


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    if libc.mount(b"none", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()) != 0:
        pytest.skip("only root may mount a small disk; the limit on the file's size is tested too")
    try:
        yield folder
    finally:
        assert libc.umount2(str(folder).encode(), 2) == 0


async def fill(store: SQLiteStore) -> tuple[int, LedgerError]:
    """Buy until the store refuses; return the next number and the error."""
    number = MOBILE
    while True:
        batch = range(number, number + 50)
        try:
            claims = await store.claim(batch, ANY)
        except LedgerError as error:
            return number, error
        assert not claims.taken
        await store.settle([answered(one) for one in batch])
        number += 50


async def test_a_full_disk_ends_buying_and_calls_in_flight_are_still_stored(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "2500k") as disk:
        store = SQLiteStore(disk / "leads.db")
        await store.open()
        number, error = await fill(store)
        assert "the disk is full" in error.reason
        await store.settle([answered(number + n) for n in range(200)])
        await store.aclose()
        assert numbers_in(disk / "leads.db") == set(range(MOBILE, number + 200))


async def test_a_full_disk_without_a_reserve_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "900k") as disk:
        store = SQLiteStore(disk / "leads.db", reserve=0)
        await store.open()
        stored = 0
        with pytest.raises(LedgerError, match="the disk is full"):
            while True:
                await store.settle([answered(MOBILE + stored + n) for n in range(20)])
                stored += 20
        with contextlib.suppress(LedgerError):
            await store.aclose()
        for suffix in ("", "-wal"):
            if (here := disk / f"leads.db{suffix}").exists():
                shutil.copy(here, tmp_path / f"copy.db{suffix}")
    assert numbers_in(tmp_path / "copy.db") >= set(range(MOBILE, MOBILE + stored))
    assert stored


async def test_space_freed_in_time_is_used(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "1500k") as disk:
        (ballast := disk / "ballast").write_bytes(bytes(400_000))
        store = SQLiteStore(disk / "leads.db", reserve=0)
        await store.open()
        number = MOBILE
        while True:
            batch = [answered(number + n) for n in range(100)]
            try:
                await store.settle(batch)
            except LedgerError:
                break
            number += 100
        ballast.unlink()
        await store.settle(batch)
        await store.aclose()
        assert numbers_in(disk / "leads.db") == set(range(MOBILE, number + 100))


def test_a_file_size_limit_ends_the_run_like_a_full_disk(tmp_path: Path) -> None:
    out = run(
        """
        import asyncio, resource, sys
        from accucheck import LedgerError
        from accucheck._store import SQLiteStore
        from tests.unit.ledger_samples import MOBILE, answered

        async def buy(path):
            store = SQLiteStore(path, reserve=0)
            await store.open()
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
            stored = 0
            try:
                while True:
                    await store.settle([answered(MOBILE + stored + n) for n in range(20)])
                    stored += 20
            except LedgerError as error:
                print(error)
            print(stored)

        asyncio.run(buy(sys.argv[1]))
        """,
        tmp_path / "leads.db",
    )
    message, stored = out.splitlines()
    assert "disk" in message
    assert int(stored) > 0
    assert numbers_in(tmp_path / "leads.db") >= set(range(MOBILE, MOBILE + int(stored)))


# Permissions

AS_NOBODY = """
    import asyncio, os, sys
    from accucheck import LedgerError
    from accucheck._store import Ledger, SQLiteStore
    import encodings.idna, socket
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    def attempt(work):
        try:
            print("ok", work())
        except LedgerError as error:
            print(error)
    def opened():
        asyncio.run(SQLiteStore(sys.argv[1]).open())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that anyone may enter. Modes do not stop root, so these tests run as nobody."""
    folder = Path(tempfile.mkdtemp(prefix="accucheck-modes-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_is_reported(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    out = run(AS_NOBODY + "    attempt(opened)\n", open_folder / "leads.db")
    assert "Permission denied" in out
    assert list(open_folder.iterdir()) == []


async def test_a_ledger_in_a_read_only_folder_can_be_read(open_folder: Path) -> None:
    path = open_folder / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.lease_calls(5, max_calls=5)
    store.note_call()
    await store.aclose()
    path.chmod(0o444)
    open_folder.chmod(0o555)
    out = run(
        AS_NOBODY
        + "    attempt(lambda: Ledger(sys.argv[1]).info().calls)\n"
        + "    attempt(opened)\n"
        + "    attempt(lambda: Ledger(sys.argv[1]).purge(0))\n",
        path,
    )
    first, second, third = out.splitlines()
    assert first == "ok 1"
    for line in (second, third):
        assert "permission" in line.lower()


async def test_someone_elses_ledger_is_refused(open_folder: Path) -> None:
    path = open_folder / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    await store.aclose()
    if os.getuid() != 0:
        path.chmod(0)
    out = run(AS_NOBODY + "    attempt(lambda: Ledger(sys.argv[1]).info())\n", path)
    assert "permission" in out.lower()


# Another program


async def test_another_program_that_writes_for_long_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "leads.db"
    store = SQLiteStore(path)
    await store.open()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="another program is writing to it"):
            await store.settle([answered(MOBILE)])
        with pytest.raises(LedgerError, match="another program is writing to it"):
            await store.claim([MOBILE], ANY)
        other.execute("ROLLBACK")
    await store.settle([answered(MOBILE)])
    assert await store.find([MOBILE], ANY) == {MOBILE: answered(MOBILE)}
    await store.aclose()


async def test_opening_a_large_ledger_does_not_block_the_loop(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "leads.db")
    await store.open()
    for start in range(0, 40_000, 5_000):
        await store.settle([answered(MOBILE + start + n) for n in range(5_000)])
    await store.aclose()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    await SQLiteStore(tmp_path / "leads.db").open()
    counting.cancel()
    assert turns > 20, "other tasks ran while the whole file was checked"
