"""``pending="later"`` under kill -9: no number is asked again too early, no matter which run asked last."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

from accucheck._store import PostgresStore
from tests.postgres import Server, new_ledger

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals as on Unix")

FLOOR = 1.5
NUMBERS = 40

RUN = """
    import asyncio, json, os, signal, sys, time
    import httpx
    import accucheck

    ledger, log, floor, count, dies_after = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:6])
    asked = 0

    async def reply(request):
        global asked
        asked += 1
        number = (await request.aread()).decode().partition("=")[2]
        with open(log, "a") as file:
            print(number, time.time(), file=file)
        if asked == dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if dies_after:
            return httpx.Response(400, json={"status": "PENDING", "request_id": "T"})
        result = {"number": "+51" + number, "whatsapp": "no"}
        return httpx.Response(200, json={"status": "OK", "result": result, "request_id": "T"})

    async def main():
        async with accucheck.Client(
            "id", "secret", base_url="http://localhost:1", body="form",
            transport=httpx.MockTransport(reply), ledger=ledger, rate=1000,
        ) as client:
            leads = [str(900_000_000 + n) for n in range(int(count))]
            done = await client.check_many(leads, pending="later", poll_floor=floor)
            assert all(isinstance(one, accucheck.Checked) for one in done)

    asyncio.run(main())
"""


def run(ledger: str, log: Path, *, dies_after: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(RUN), *map(str, (ledger, log, FLOOR, NUMBERS, dies_after))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if dies_after else 0), done.stderr


def check_the_floor(log: Path) -> None:
    asked: dict[str, list[float]] = {}
    for line in log.read_text().splitlines():
        number, at = line.split()
        asked.setdefault(number, []).append(float(at))
    assert len(asked) == NUMBERS
    assert max(map(len, asked.values())) >= 2
    assert min(after - before for times in asked.values() for before, after in pairwise(times)) >= FLOOR


@pytest.mark.parametrize("dies_after", [NUMBERS // 2, NUMBERS])
def test_a_number_that_was_asked_before_a_kill_is_not_asked_before_its_time(
    tmp_path: Path, dies_after: int
) -> None:
    ledger, log = str(tmp_path / "leads.db"), tmp_path / "log"
    run(ledger, log, dies_after=dies_after)
    run(ledger, log, dies_after=0)
    check_the_floor(log)


async def test_a_number_asked_before_a_kill_is_not_asked_early_with_postgresql(
    tmp_path: Path, postgres_server: Server
) -> None:
    url, log = await new_ledger(postgres_server), tmp_path / "log"
    await asyncio.to_thread(run, url, log, dies_after=NUMBERS)
    store = PostgresStore(url)
    await store.open()

    async def expire(connection: object) -> None:  # as ten seconds do
        await connection.execute(  # type: ignore[attr-defined]
            "UPDATE accucheck.owners SET expires = clock_timestamp() WHERE id <> %s", (store._owner,)
        )

    await store._do(expire)
    await store.aclose()
    await asyncio.to_thread(run, url, log, dies_after=0)
    check_the_floor(log)
