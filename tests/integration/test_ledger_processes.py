"""Several real processes on one ledger: every number is bought once, caps are exact, kills release everything."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from accucheck._store import Ledger
from tests.unit.ledger_samples import MOBILE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as on Unix")

BUYER = """
    import asyncio, os, sys
    from accucheck._store import Query, SQLiteStore
    from tests.unit.ledger_samples import MOBILE, answered

    IN_FLIGHT = 20

    async def buy(path, log, numbers, max_calls):
        store = SQLiteStore(path)
        await store.open()
        sent = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        query, left = Query(), 0
        wanted, known = list(numbers), set()
        while wanted:
            chunk, wanted = wanted[:IN_FLIGHT], wanted[IN_FLIGHT:]
            claims = await store.claim(chunk, query)
            known.update(claims.known)
            granted = [n for n in chunk if n not in claims.known and n not in claims.taken]
            for place, number in enumerate(granted):
                if left == 0:
                    left = await store.lease_calls(30, max_calls=max_calls, job="list")
                    if left == 0:
                        await store.release(granted[place:])
                        break
                left -= 1
                store.note_call("list")
                os.write(sent, b"%d\\n" % number)  # the call is charged
                await asyncio.sleep(0)
            else:
                await store.settle([answered(number, calls=1) for number in granted], job="list")
                known.update(granted)
                wanted += claims.taken
                if len(claims.taken) == len(chunk):
                    await asyncio.sleep(0.01)
                continue
            await store.settle([answered(number, calls=1) for number in granted[:place]], job="list")
            break
        await store.return_calls(left, job="list")
        print(len(known), await store.calls_made("list"), flush=True)
        await store.aclose()

    first, count, seed, cap = map(int, sys.argv[3:7])
    import random
    numbers = random.Random(seed).sample(range(first, first + count), count)
    asyncio.run(buy(sys.argv[1], sys.argv[2], numbers, cap or None))
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BUYER), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, int]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    known, calls = out.split()
    return int(known), int(calls)


def charged(log: Path) -> Counter[int]:
    return Counter(int(line) for line in log.read_text().split())


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_on_one_list_share_the_work(tmp_path: Path, processes: int) -> None:
    path, log = tmp_path / "leads.db", tmp_path / "log"
    buyers = [start(path, log, MOBILE, 3_000, seed, 0) for seed in range(processes)]
    assert [ended(buyer)[0] for buyer in buyers] == [3_000] * processes, "each has the whole list"
    times = charged(log)
    assert len(times) == 3_000
    assert set(times.values()) == {1}, "every number was bought once"
    info = Ledger(path).info()
    assert (info.yes, info.calls, info.running) == (3_000, 3_000, [])


def test_a_cap_is_exact_across_processes(tmp_path: Path) -> None:
    path, log = tmp_path / "leads.db", tmp_path / "log"
    buyers = [start(path, log, MOBILE, 3_000, seed, 1_111) for seed in range(4)]
    for buyer in buyers:
        ended(buyer)
    again = start(
        path, log, MOBILE, 3_000, 9, 1_111
    )  # one process had leased the last calls while another found none
    assert ended(again)[1] == 1_111
    assert charged(log).total() == 1_111
    assert set(charged(log).values()) == {1}


def test_random_kills_lose_and_double_only_calls_in_flight(tmp_path: Path) -> None:
    path, log = tmp_path / "leads.db", tmp_path / "log"
    chance = random.Random(4)
    rows, kills, cap = 4_000, 12, 6_000
    buyers = [start(path, log, MOBILE, rows, seed, cap) for seed in range(3)]
    for kill in range(kills):
        time.sleep(0.15 + chance.random() / 10)
        victim = buyers.pop(chance.randrange(len(buyers)))
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        buyers.append(start(path, log, MOBILE, rows, 100 + kill, cap))
    for buyer in buyers:
        ended(buyer)
    last_known, calls = ended(start(path, log, MOBILE, rows, 999, cap))
    assert last_known == rows
    times = charged(log)
    assert len(times) == rows
    assert times.total() - rows <= 20 * kills, "doubles are at most what was in flight"
    # A kill between counting and sending counts one call too many.
    assert times.total() <= calls <= times.total() + kills
    assert Ledger(path).info().perhaps_lost_in_kills >= times.total() - rows
    assert [file.name for file in tmp_path.iterdir() if ".run-" in file.name] == []


def test_after_a_kill_unsent_calls_are_not_spent(tmp_path: Path) -> None:
    """Reserving is not calling: a later cap of 300 must not fail because 512 calls were once reserved."""
    path, log = tmp_path / "leads.db", tmp_path / "log"
    program = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from accucheck._store import Query, SQLiteStore
        from tests.unit.ledger_samples import MOBILE, answered

        async def buy(path):
            store = SQLiteStore(path)
            await store.open()
            print(await store.lease_calls(512, max_calls=None, job="list"), flush=True)
            await store.claim(range(MOBILE, MOBILE + 29), Query())
            for n in range(29):
                store.note_call("list")
            await store.settle([answered(MOBILE + n, calls=1) for n in range(29)], job="list")
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(buy(sys.argv[1]))
        """
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (killed.returncode, killed.stdout.strip()) == (-9, "512")
    assert Ledger(path).info().calls == 29
    known, calls = ended(start(path, log, MOBILE, 200, 1, 300))
    assert (known, calls) == (200, 200)
    assert charged(log).total() == 171


@pytest.fixture
def stopped_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(tmp_path / "leads.db", tmp_path / "log", MOBILE, 100_000, 1, 0)
    yield process
    process.kill()
    process.communicate()


def test_a_suspended_process_keeps_its_claims(tmp_path: Path, stopped_process: subprocess.Popen[str]) -> None:
    while not (tmp_path / "log").exists() or not charged(tmp_path / "log"):
        time.sleep(0.01)
    stopped_process.send_signal(signal.SIGSTOP)
    assert len(Ledger(tmp_path / "leads.db").running()) == 1
    stopped_process.kill()
    stopped_process.wait()
    assert Ledger(tmp_path / "leads.db").running() == []


BUSY = """
    import asyncio, json, os, sys, time
    from accucheck._store import Query, SQLiteStore
    from tests.unit.ledger_samples import answered

    async def work(path, first, count):
        store = SQLiteStore(path)
        await store.open()
        for start in range(first, first + count, 100):
            await store.claim(range(start, start + 100), Query())
            await store.settle([answered(n) for n in range(start, start + 100)])
        await store.aclose()

    asyncio.run(work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def test_processes_that_write_at_once_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "leads.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(BUSY), str(path), str(MOBILE + 10_000 * n), "2000"],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert Ledger(path).info().yes == 8_000


ENDPOINT_BUYER = """
    import asyncio, os, sys
    import httpx
    import accucheck

    endpoint, ledger, log, first, count = sys.argv[1:4] + [int(number) for number in sys.argv[4:6]]

    async def reply(request):
        number = (await request.aread()).decode().partition("=")[2]
        sent = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(sent, f"{request.url.path[-8:]} {number}\\n".encode())
        os.close(sent)
        await asyncio.sleep(0.002)
        whatsapp = "yes" if int(number) % 2 else "no"
        result = {"number": "+51" + number, "whatsapp": whatsapp}
        return httpx.Response(200, json={"status": "OK", "result": result, "request_id": "T"})

    async def main():
        async with accucheck.Client(
            "id", "secret", base_url="http://localhost:1", endpoint=endpoint, body="form",
            transport=httpx.MockTransport(reply), ledger=ledger, gate=accucheck.AdaptiveGate(5000),
        ) as client:
            leads = [str(first + n) for n in range(count)]
            done = await client.check_many(leads, workers=10)
            assert all(isinstance(one, accucheck.Checked) for one in done)
            assert all(one.check.whatsapp == bool(int(one.item) % 2) for one in done)

    asyncio.run(main())
"""


@pytest.mark.parametrize(
    "endpoints", [("advanced", "basic", "basic"), ("cascade", "cascade", "basic", "advanced")]
)
def test_endpoints_wait_for_each_others_answers(tmp_path: Path, endpoints: tuple[str, ...]) -> None:
    """A "no" is bought once for both endpoints; a "yes" at most once per endpoint."""
    path, log, rows = tmp_path / "leads.db", tmp_path / "log", 120
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", textwrap.dedent(ENDPOINT_BUYER), endpoint),
                *(str(path), str(log), str(MOBILE), str(rows)),
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for endpoint in endpoints
    ]
    for process in processes:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    bought = Counter(tuple(line.split()) for line in log.read_text().splitlines())
    assert set(bought.values()) == {1}
    no = Counter(number for _, number in bought if not int(number) % 2)
    assert (len(no), set(no.values())) == (rows // 2, {1})
