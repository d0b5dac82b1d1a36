"""``max_cost`` under kills: however processes die, and whatever the others on the job pay, it is not exceeded."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 100
MOST = 900
"""As many answers, at a price of 1."""
SECONDS_A_KILL = 10
PRICES = (1, 3)


def one_run(folder: Path, max_cost: int, kill_after: int, seed: int, price: int = 1, count: int = 60) -> None:
    """Check numbers; the process is killed at its nth call, before or after the charge."""
    import asyncio

    import httpx

    import accucheck

    chance = random.Random(seed)
    charged = os.open(folder / "charged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    calls = 0

    class Vendor(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal calls
            number = (await request.aread()).decode().removeprefix("number=")
            calls += 1
            dies = calls == kill_after
            if dies and chance.random() < 0.3:
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(0)
            if chance.random() < 0.4:
                return httpx.Response(400, json={"status": "PENDING"})
            os.write(charged, b"1" * price)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return httpx.Response(
                200, json={"status": "OK", "result": {"number": f"+51{number}", "whatsapp": "yes"}}
            )

    async def main() -> None:
        client = accucheck.Client(
            "id", "secret", transport=Vendor(), rate=100_000, policy=accucheck.Policy.fast(), body="form"
        )
        numbers = [f"9{seed:04d}{n:04d}" for n in range(count)]
        async with (
            client,
            client.stream(
                numbers,
                workers=5,
                ledger=folder / "answers.ledger",
                job="list",
                max_cost=max_cost,
                prices=accucheck.Prices(price),
            ) as outcomes,
        ):
            async for _ in outcomes:
                pass

    try:
        asyncio.run(main())
    except accucheck.BudgetExhausted:
        (folder / "exhausted").touch()
        (folder / f"exhausted at {price}").touch()


def series(folder: Path) -> None:
    """Fork runs, sometimes two at once; each is killed at a random call."""
    import accucheck.testing  # noqa: F401 (imported once, not in every child)

    chance = random.Random(11)
    kills = 0
    while kills < KILLS:
        children: list[int] = []
        for _ in range(chance.choice((1, 1, 2))):
            kill_after, seed = chance.randint(1, 20), kills * 10 + len(children)
            child = os.fork()
            if child == 0:
                one_run(folder, MOST, kill_after, seed)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        kills += len(children)
    for seed in range(9_000, 9_020):  # later runs spend what killed ones did not
        child = os.fork()
        if child == 0:
            one_run(folder, MOST, 0, seed)
            os._exit(0)
        os.waitpid(child, 0)
        if (folder / "exhausted").exists():
            return


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_hundred_kills_never_take_the_cost_over_the_cap(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.integration.test_cost_kills", str(tmp_path)],
        check=True,
        timeout=KILLS * SECONDS_A_KILL,
        cwd=Path(__file__).parents[2],
    )
    charged = (tmp_path / "charged").stat().st_size
    assert (tmp_path / "exhausted").exists()
    assert charged <= MOST
    # Each kill counts at most its five calls in flight as spent, although only one may have been charged.
    assert charged >= MOST - KILLS * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_pay_different_prices_share_one_cap(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integration.test_cost_kills", str(tmp_path), str(price)],
            cwd=Path(__file__).parents[2],
        )
        for price in PRICES
    ]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert all((tmp_path / f"exhausted at {price}").exists() for price in PRICES)
    assert MOST - max(PRICES) < (tmp_path / "charged").stat().st_size <= MOST


def at_one_price(folder: Path, price: int) -> None:
    (folder / f"ready at {price}").touch()
    while not all((folder / f"ready at {other}").exists() for other in PRICES):
        time.sleep(0.01)
    one_run(folder, MOST, kill_after=0, seed=price, price=price, count=2 * MOST)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        series(Path(sys.argv[1]))
    else:
        at_one_price(Path(sys.argv[1]), int(sys.argv[2]))
