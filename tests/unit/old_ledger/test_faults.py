"""The ledger against real disks, real processes and real kills."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from accucheck import Ledger, LedgerError
from accucheck._store._old import _file
from accucheck._store._old._jobs import block_size
from tests.unit.ledger_samples import MOBILE, Listener, answered

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals, modes and limits as on Unix")


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(program: str, *arguments: object) -> str:
    process = start(program, *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


# Kills

BUYER = """
    import asyncio, sys
    from accucheck import Ledger
    from tests.unit.ledger_samples import MOBILE, answered, failed

    async def buy(path, first):
        session = Ledger(path).session()
        def tell(batch):
            sys.stdout.write("".join(f"stored {settlement.number}\\n" for settlement in batch))
            sys.stdout.flush()
        session.start(tell, lambda error: None)
        left = 0
        for number in range(first, first + 10**6):
            if not left:
                left = session.lease_calls(1_000, 10**6)
            left -= 1
            print("called", number, flush=True)
            session.settle(failed(number, calls=1) if number % 50 == 0 else answered(number))
            if number % 7 == 0:
                await asyncio.sleep(0)

    asyncio.run(buy(sys.argv[1], int(sys.argv[2])))
"""


def test_what_was_acknowledged_survives_a_kill_at_any_instant(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    chance = random.Random(11)
    acknowledged: set[int] = set()
    called: set[int] = set()
    kills = 6
    for kill in range(kills):
        process = start(BUYER, path, MOBILE + 10**6 * kill)
        assert process.stdout is not None
        first = process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.02, 0.4))
        process.kill()
        lines = (first + process.stdout.read()).splitlines(keepends=True)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):  # the last one may be torn
                word, number = line.split()
                (acknowledged if word == "stored" else called).add(int(number))
        with Ledger(path) as ledger:
            known = {settlement.number for _, settlement in ledger.settlements()}
            assert acknowledged <= known
            assert len(ledger.find(sorted(acknowledged)[-300:])) == min(300, len(acknowledged))
    assert len(acknowledged) > 1_000
    with Ledger(path) as ledger:
        ledger.session().close()
        info = ledger.info()
    most_lost = kills * (2 * block_size(10**6) + 1)  # two blocks, and a call that was not told
    assert len(called) <= info.calls <= len(called) + most_lost
    under_way = len(called - known)
    assert under_way <= info.perhaps_lost_in_kills <= under_way + most_lost


HOLDER = """
    import sys, time
    from accucheck import Ledger
    session = Ledger(sys.argv[1]).session()
    print("running", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    holder = start(HOLDER, path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "running\n"
        with Ledger(path) as ledger:
            with pytest.raises(LedgerError, match=f"process {holder.pid} on .* is using it"):
                ledger.session()
            assert ledger.info().running is not None
            with pytest.raises(LedgerError, match="is using it"):
                ledger.purge(0)
            assert list(ledger.settlements()) == []
            holder.kill()
            holder.wait()
            ledger.session().close()
    finally:
        holder.kill()
        holder.communicate()


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    directory = tmp_path / "disk"
    directory.mkdir()
    if libc.mount(b"none", str(directory).encode(), b"tmpfs", 0, b"size=512k") != 0:
        pytest.skip("only root may mount a small disk; the limit on the file's size is tested too")
    try:
        yield directory
    finally:
        assert libc.umount2(str(directory).encode(), 2) == 0


async def test_a_full_disk_ends_the_run_and_what_is_under_way_is_stored_all_the_same(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    (disk := tmp_path / "disk").mkdir()
    if libc.mount(b"none", str(disk).encode(), b"tmpfs", 0, b"size=1500k") != 0:
        pytest.skip("only root may mount a small disk")
    try:
        with Ledger(disk / "leads.db") as ledger:
            session = ledger.session()
            heard = Listener(session)
            number = MOBILE
            while not heard.errors:
                session.settle(answered(number))
                number += 1
                await asyncio.sleep(0)
            for _ in range(200):
                session.settle(answered(number))
                number += 1
            await session.flush()
            assert [settlement.number for settlement in heard.committed] == list(range(MOBILE, number))
            await session.aclose()
            assert ledger.info().yes == number - MOBILE
    finally:
        assert libc.umount2(str(disk).encode(), 2) == 0


async def test_a_full_disk_ends_the_run_and_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    path = small_disk / "leads.db"
    with Ledger(path, reserve=0) as ledger:
        session = ledger.session()
        heard = Listener(session)
        number = MOBILE
        while not heard.errors:
            session.settle(answered(number))
            number += 1
            await asyncio.sleep(0)
        assert "the disk is full" in heard.errors[0].reason
        assert "stored" in heard.errors[0].reason
        with pytest.raises(LedgerError, match=r"disk is full.*answers? (is|are) not stored"):
            await session.aclose()
    acknowledged = {settlement.number for settlement in heard.committed}
    assert acknowledged
    copy = small_disk.parent / "copy.db"
    for suffix in ("", "-wal"):
        if (here := path.with_name(path.name + suffix)).exists():
            shutil.copy(here, copy.with_name(copy.name + suffix))
    with Ledger(copy) as ledger:
        ledger.session().close()
        assert acknowledged <= {settlement.number for _, settlement in ledger.settlements()}


async def test_room_that_is_made_in_time_is_used(small_disk: Path) -> None:
    (ballast := small_disk / "ballast").write_bytes(bytes(200_000))
    with Ledger(small_disk / "leads.db") as ledger:
        session = ledger.session()
        heard = Listener(session)
        number = MOBILE
        with pytest.raises(LedgerError, match="disk is full"):
            while True:
                for _ in range(100):
                    session.settle(answered(number))
                    number += 1
                await session.flush()
        ballast.unlink()
        await session.flush()
        assert len(heard.committed) == number - MOBILE
        await session.aclose()


def test_a_file_that_may_not_grow_ends_the_run_likewise(tmp_path: Path) -> None:
    out = run(
        """
        import asyncio, resource, sys
        from accucheck import Ledger, LedgerError
        from tests.unit.ledger_samples import MOBILE, Listener, answered

        async def buy(path):
            session = Ledger(path).session()
            heard = Listener(session)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
            number = MOBILE
            while not heard.errors:
                session.settle(answered(number))
                number += 1
                await asyncio.sleep(0)
            try:
                await session.aclose()
            except LedgerError as error:
                print(error)
            print(len(heard.committed))

        asyncio.run(buy(sys.argv[1]))
        """,
        tmp_path / "leads.db",
    )
    message, stored = out.splitlines()
    assert "not stored" in message
    with Ledger(tmp_path / "leads.db") as ledger:
        ledger.session().close()
        assert ledger.info().yes >= int(stored) > 0


AS_NOBODY = """
    import os, sys
    from accucheck import Ledger, LedgerError
    import asyncio, encodings.idna, socket
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    def attempt(work):
        try:
            print("ok", work())
        except LedgerError as error:
            print(error)
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that anybody may enter: root is not stopped by modes, so that tests step down to nobody."""
    directory = Path(tempfile.mkdtemp(prefix="accucheck-modes-"))
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def test_a_directory_that_may_not_be_written_is_told(open_directory: Path) -> None:
    open_directory.chmod(0o555)
    out = run(AS_NOBODY + "    attempt(lambda: Ledger(sys.argv[1]).session())\n", open_directory / "leads.db")
    assert "Permission denied" in out
    assert list(open_directory.iterdir()) == []


def test_a_ledger_is_read_where_nothing_may_be_written(open_directory: Path) -> None:
    path = open_directory / "leads.db"
    session = Ledger(path).session()
    session.lease_calls(5, 5)
    session.close()
    path.chmod(0o444)
    open_directory.chmod(0o555)
    out = run(
        AS_NOBODY
        + "    attempt(lambda: Ledger(sys.argv[1]).info().calls)\n"
        + "    attempt(lambda: Ledger(sys.argv[1]).session())\n"
        + "    attempt(lambda: Ledger(sys.argv[1]).purge(0))\n",
        path,
    )
    first, second, third = out.splitlines()
    assert first == "ok 1"
    assert "Permission denied" in second
    assert "Permission denied" in third


def test_somebody_elses_ledger_is_refused(open_directory: Path) -> None:
    path = open_directory / "leads.db"
    Ledger(path).close()
    if os.getuid() != 0:
        path.chmod(0)
    out = run(AS_NOBODY + "    attempt(lambda: Ledger(sys.argv[1]).info())\n", path)
    assert "Permission denied" in out


# Another program


async def test_another_program_that_writes_for_long_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file, "_BUSY_SECONDS", 0.05)
    path = tmp_path / "leads.db"
    with Ledger(path) as ledger:
        session = ledger.session()
        heard = Listener(session)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            session.settle(answered(MOBILE))
            with pytest.raises(LedgerError, match="another program is writing to it"):
                await session.flush()
            assert heard.committed == []
            other.execute("ROLLBACK")
        await session.aclose()
        assert ledger.find([MOBILE]) == {MOBILE: answered(MOBILE)}
