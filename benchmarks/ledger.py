"""The ledger: how fast it stores and finds answers, how large its file is, and how much it slows down a stream.

``python -m benchmarks.ledger --rows 10000000`` measures a long list; the default is 200,000 rows. Numbers are distinct
mobiles in random order. Answers are as large as the vendor's: a status text of 15 characters on average.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import random
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from accucheck import Check, Checked, Client, Ledger
from accucheck._models import Settlement
from accucheck._store import MemoryStore, Query, SQLiteStore, Store
from benchmarks.clients.null_transport import NullTransport
from benchmarks.job import API_ID, API_SECRET

ANY = Query()
FIRST_MOBILE, MOBILES = 900_000_000, 10**8
CHUNK = 256
"""Numbers a look-up, as the engine admits them."""
EXPOSED = 200
"""Answers a batch, as the engine stores them in a run with 200 workers."""
NO_SERVER = "http://127.0.0.1:9"
NOT_BINDING = 1_000_000.0


class Numbers:
    """Distinct mobiles in random order, without memory: walks through all of them in steps coprime to 10^8."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.start = chance.randrange(MOBILES)
        self.step = chance.randrange(MOBILES // 3, MOBILES // 2) | 1
        while math.gcd(self.step, MOBILES) != 1:
            self.step += 2

    def at(self, place: int) -> int:
        return FIRST_MOBILE + (self.start + place * self.step) % MOBILES


def settlements(numbers: Numbers, start: int, end: int) -> Iterator[Settlement]:
    """Yield answers that differ in everything that makes a row large."""
    chance = random.Random(start)
    today, now = date(2026, 11, 23), datetime(2026, 11, 23, tzinfo=UTC)
    for place in range(start, end):
        number = numbers.at(place)
        on_whatsapp = chance.random() < 0.6
        yield Settlement(
            number,
            Check(
                number=f"+51{number}",
                whatsapp=on_whatsapp,
                status_update=today - timedelta(chance.randrange(3_000)),
                signature="Disponible ¡hoy! 24h"[: chance.randrange(10, 21)],
                business_user=chance.random() < 0.2,
                avatar=on_whatsapp,
                request_id=f"TID{chance.getrandbits(128):032x}",
                checked_at=now + timedelta(milliseconds=place),
            ),
            1,
        )


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


async def store_all(store: Store, numbers: Numbers, rows: int, batch: int = EXPOSED) -> dict[str, float]:
    """Claim and settle ``rows`` answers in batches; creating the answers is not timed."""
    seconds = cpu = slowest = 0.0
    for start in range(0, rows, 20_000):
        made = list(settlements(numbers, start, min(start + 20_000, rows)))
        began, cpu_began = time.perf_counter(), time.process_time()
        for place in range(0, len(made), batch):
            some = made[place : place + batch]
            claims = await store.claim([settlement.number for settlement in some], ANY)
            assert not claims.known
            before = time.perf_counter()
            await store.settle(some)
            slowest = max(slowest, time.perf_counter() - before)
        seconds += time.perf_counter() - began
        cpu += time.process_time() - cpu_began
    return {
        "settled_per_second": rows / seconds,
        "cpu_microseconds_per_row": cpu / rows * 1e6,
        "longest_commit_milliseconds": slowest * 1e3,
    }


async def find_all(store: Store, numbers: Numbers, rows: int, sought: int) -> dict[str, float]:
    """Look known numbers up in random order, then unknown ones."""
    chance = random.Random(3)
    known = [numbers.at(chance.randrange(rows)) for _ in range(sought)]
    began = time.perf_counter()
    found = 0
    for start in range(0, sought, CHUNK):
        found += len(await store.find(known[start : start + CHUNK], ANY))
    seconds = time.perf_counter() - began
    assert found >= sought * 0.99, (
        f"only {found} of {sought} were found"
    )  # a number may occur twice in a chunk
    unknown = [numbers.at(rows + place) for place in range(min(sought, MOBILES - rows))]
    began = time.perf_counter()
    for start in range(0, len(unknown), CHUNK):
        assert not await store.find(unknown[start : start + CHUNK], ANY)
    return {
        "known_found_per_second": sought / seconds,
        "unknown_asked_per_second": len(unknown) / (time.perf_counter() - began),
    }


async def measure_ledger(path: Path, rows: int, sought: int) -> dict[str, float]:
    numbers = Numbers(7)
    store = SQLiteStore(path)
    await store.open()
    figures = await store_all(store, numbers, rows)
    began = time.perf_counter()
    await store.aclose()
    figures["close_seconds"] = time.perf_counter() - began
    figures["file_megabytes"] = path.stat().st_size / 1e6
    figures["bytes_per_row"] = path.stat().st_size / rows
    began = time.perf_counter()
    await store.open()
    figures["open_seconds"] = time.perf_counter() - began
    figures |= await find_all(store, numbers, rows, sought)
    await store.aclose()
    began = time.perf_counter()
    assert sum(Ledger(path).info().answers.values()) == rows
    figures["info_seconds"] = time.perf_counter() - began
    return figures


async def run_stream(path: Path | None, numbers: Numbers, start: int, checks: int) -> dict[str, float]:
    """Check numbers at full speed, over a transport that answers at once, with 200 workers."""
    items = [str(numbers.at(place)) for place in range(start, start + checks)]
    client = Client(API_ID, API_SECRET, base_url=NO_SERVER, transport=NullTransport(), rate=NOT_BINDING)
    async with client, client.stream(items, workers=200, ledger=path) as outcomes:
        # Opening and closing the file are not timed: a run of several hours does both once.
        answered, began = 0, time.perf_counter()
        loop_began, all_began = time.thread_time(), time.process_time()
        async for outcome in outcomes:
            answered += isinstance(outcome, Checked)
        seconds, loop = time.perf_counter() - began, time.thread_time() - loop_began
        everything = time.process_time() - all_began
    assert answered == checks, f"{checks - answered} answers are missing"
    return {
        "checks_per_second": checks / seconds,
        "loop_cpu_microseconds_per_check": loop / checks * 1e6,
        "thread_cpu_microseconds_per_check": (everything - loop) / checks * 1e6,
    }


def measure_streams(path: Path, checks: int, repeats: int, *, before: int, fast: bool) -> dict[str, float]:
    """Compare streams with and without a ledger, interleaved. The ledger at ``path`` holds ``before`` answers."""
    runs: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    numbers = Numbers(7)
    factory = None
    if fast:
        import uvloop

        factory = uvloop.new_event_loop
    for repeat in range(repeats):
        for name in ("without", "with"):
            place = path if before else path.with_name(f"stream{repeat}.db")
            with asyncio.Runner(loop_factory=factory) as runner:
                run = run_stream(place if name == "with" else None, numbers, before + repeat * checks, checks)
                runs[name].append(runner.run(run))
    middle = {
        f"{figure}_{name}_ledger": statistics.median(run[figure] for run in runs[name])
        for figure in runs["with"][0]
        for name in ("with", "without")
    }
    middle["speed_with_over_without"] = statistics.median(
        here["checks_per_second"] / there["checks_per_second"]
        for here, there in zip(runs["with"], runs["without"], strict=True)
    )
    return middle


async def measure_memory(rows: int, sought: int) -> dict[str, float]:
    numbers = Numbers(11)
    before = resident_megabytes()
    store = MemoryStore()
    figures = await store_all(store, numbers, rows)
    figures["resident_megabytes_added"] = resident_megabytes() - before
    figures |= await find_all(store, numbers, rows, min(sought, 20_000))
    await store.aclose()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--sought", type=int, default=200_000, help="numbers looked up")
    parser.add_argument("--directory", type=Path, help="where the ledger is made; a temporary one by default")
    parser.add_argument("--only", choices=("ledger", "stream", "held", "memory"))
    parser.add_argument("--repeats", type=int, default=5, help="of the streams")
    parser.add_argument("--uvloop", action="store_true", help="streams on uvloop in place of asyncio")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "rows": options.rows,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "cores": os.cpu_count(),
    }
    with tempfile.TemporaryDirectory(prefix="accucheck-ledger-", dir=options.directory) as name:
        directory = Path(name)
        if options.only in (None, "ledger", "held"):
            figures["ledger"] = asyncio.run(
                measure_ledger(directory / "leads.db", options.rows, options.sought)
            )
        checks = min(options.rows, 100_000)
        if options.only in (None, "stream"):
            figures["streams at full speed"] = measure_streams(
                directory / "stream.db", checks, options.repeats, before=0, fast=options.uvloop
            )
        if options.only in (None, "held"):
            figures["streams beside all rows in the file"] = measure_streams(
                directory / "leads.db", checks, options.repeats, before=options.rows, fast=options.uvloop
            )
    if options.only in (None, "memory"):
        figures["memory"] = asyncio.run(measure_memory(options.rows, options.sought))
    if options.json:
        json.dump(figures, sys.stdout, indent=2)
        print()
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            print(name)
            for figure, amount in value.items():
                print(f"  {figure.replace('_', ' '):<40}{amount:>14,.2f}")
        else:
            print(f"{name:<42}{value:>14}")


if __name__ == "__main__":
    main()
