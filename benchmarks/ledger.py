"""The ledger alone: how fast it stores and finds, how large its file is, what it costs beside a busy event loop.

``python -m benchmarks.ledger --rows 10000000`` for the figures of a long list; 200,000 rows by default. Numbers are
distinct mobiles in random order, answers as large as the vendor's: a status text of 15 characters on average.
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

from accucheck import Check, Ledger
from accucheck._models import Settlement
from accucheck._store import AnswerStore
from accucheck._store import OldMemoryStore as MemoryStore

FIRST_MOBILE, MOBILES = 900_000_000, 10**8
CHUNK = 256
"""Numbers a look-up, as the engine admits them."""
TURN = 40
"""Answers a turn of the event loop: as with 200 workers at full speed."""
OUTSTANDING = 4_000
"""Answers that are not stored yet, at most."""
EXPOSED = 200
"""The same in a run with 200 workers: beyond it the engine makes no call."""
WORK = 35e-6
"""Seconds of the event loop that the rest of a check takes."""


class Numbers:
    """Distinct mobiles in random order, in no memory: a walk over all of them with a step that is prime to 10^8."""

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


async def store_all(store: AnswerStore, numbers: Numbers, rows: int) -> dict[str, float]:
    """Settle ``rows`` answers as fast as they are stored; making them is not counted."""
    stored = 0

    def on_commit(batch: Any) -> None:
        nonlocal stored, batches
        stored += len(batch)
        batches += 1

    def on_failure(error: Exception) -> None:
        raise SystemExit(f"the store failed: {error}")

    batches = 0
    store.start(on_commit, on_failure)
    seconds = cpu = 0.0
    slowest = 0.0
    for start in range(0, rows, 20_000):
        made = list(settlements(numbers, start, min(start + 20_000, rows)))
        began, cpu_began = time.perf_counter(), time.process_time()
        for place in range(0, len(made), TURN):
            turn = time.perf_counter()
            for settlement in made[place : place + TURN]:
                store.settle(settlement)
            await asyncio.sleep(0)
            slowest = max(slowest, time.perf_counter() - turn)
            while start + place - stored > OUTSTANDING:
                await asyncio.sleep(0.0005)
        await store.flush()
        seconds += time.perf_counter() - began
        cpu += time.process_time() - cpu_began
    return {
        "settled_per_second": rows / seconds,
        "cpu_microseconds_per_row": cpu / rows * 1e6,
        "rows_per_batch": rows / max(batches, 1),
        "longest_turn_milliseconds": slowest * 1e3,
    }


def find_all(store: AnswerStore, numbers: Numbers, rows: int, sought: int) -> dict[str, float]:
    """Look known numbers up in random order, then unknown ones."""
    chance = random.Random(3)
    known = [numbers.at(chance.randrange(rows)) for _ in range(sought)]
    began = time.perf_counter()
    found = sum(len(store.find(known[start : start + CHUNK])) for start in range(0, sought, CHUNK))
    seconds = time.perf_counter() - began
    assert found >= sought * 0.99, (
        f"only {found} of {sought} were found"
    )  # a number may come twice in a chunk
    unknown = [numbers.at(rows + place) for place in range(min(sought, MOBILES - rows))]
    began = time.perf_counter()
    none = sum(len(store.find(unknown[start : start + CHUNK])) for start in range(0, len(unknown), CHUNK))
    assert none == 0
    return {
        "known_found_per_second": sought / seconds,
        "unknown_asked_per_second": len(unknown) / (time.perf_counter() - began),
    }


async def measure_ledger(path: Path, rows: int, sought: int) -> dict[str, float]:
    numbers = Numbers(7)
    with Ledger(path) as ledger:
        session = ledger.session()
        figures = await store_all(session, numbers, rows)
        began = time.perf_counter()
        await session.aclose()
        figures["close_seconds"] = time.perf_counter() - began
        figures["file_megabytes"] = path.stat().st_size / 1e6
        figures["bytes_per_row"] = path.stat().st_size / rows
        began = time.perf_counter()
        session = ledger.session()
        figures["open_seconds"] = time.perf_counter() - began
        session.start(lambda batch: None, lambda error: None)
        figures |= find_all(session, numbers, rows, sought)
        await session.aclose()
        began = time.perf_counter()
        assert sum(ledger.info().answers.values()) == rows
        figures["info_seconds"] = time.perf_counter() - began
    return figures


async def run_busily(store: AnswerStore, made: list[Settlement]) -> dict[str, float]:
    """Settle as a run at full speed does: each answer after other work, and not too many ahead of the disk."""
    stored = commits = 0

    def on_commit(batch: Any) -> None:
        nonlocal stored, commits
        stored += len(batch)
        commits += 1

    def on_failure(error: Exception) -> None:
        raise SystemExit(f"the store failed: {error}")

    store.start(on_commit, on_failure)
    began, loop_began, all_began = time.perf_counter(), time.thread_time(), time.process_time()
    for place, settlement in enumerate(made):
        ready = time.thread_time() + WORK
        while time.thread_time() < ready:
            pass
        store.settle(settlement)
        if place % TURN == 0:
            await asyncio.sleep(0)
        while place - stored >= EXPOSED:
            await asyncio.sleep(0)
    await store.flush()
    seconds, loop, everything = (
        time.perf_counter() - began,
        time.thread_time() - loop_began,
        time.process_time() - all_began,
    )
    return {
        "settled_per_second": len(made) / seconds,
        "rows_per_batch": len(made) / commits,
        "loop_cpu_microseconds_per_row": loop / len(made) * 1e6,
        "writer_cpu_microseconds_per_row": (everything - loop) / len(made) * 1e6,
    }


async def measure_busy_run(directory: Path, checks: int, repeats: int) -> dict[str, float]:
    """Compare runs with and without a ledger, in turn; medians. The loop's own work is in both."""
    runs: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    numbers = Numbers(5)
    for repeat in range(repeats):
        made = list(settlements(numbers, repeat * checks, (repeat + 1) * checks))
        memory = MemoryStore()
        runs["without"].append(await run_busily(memory, made))
        await memory.aclose()
        path = directory / f"busy{repeat}.db"
        with Ledger(path) as ledger:
            session = ledger.session()
            figures = await run_busily(session, made)
            began = time.process_time()
            await session.aclose()
            figures["closing_cpu_microseconds_per_row"] = (time.process_time() - began) / checks * 1e6
        runs["with"].append(figures)
    middle = {name: statistics.median(run[name] for run in runs["with"]) for name in runs["with"][0]}
    without = statistics.median(run["loop_cpu_microseconds_per_row"] for run in runs["without"])
    middle["loop_cpu_microseconds_per_row_without"] = without
    middle["speed_with_over_without"] = statistics.median(
        here["settled_per_second"] / there["settled_per_second"]
        for here, there in zip(runs["with"], runs["without"], strict=True)
    )
    return middle


async def measure_memory(rows: int, sought: int) -> dict[str, float]:
    numbers = Numbers(11)
    before = resident_megabytes()
    store = MemoryStore()
    figures = await store_all(store, numbers, rows)
    figures["resident_megabytes_added"] = resident_megabytes() - before
    figures |= find_all(store, numbers, rows, min(sought, 20_000))
    await store.aclose()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--sought", type=int, default=200_000, help="numbers looked up")
    parser.add_argument("--directory", type=Path, help="where the ledger is made; a temporary one by default")
    parser.add_argument("--only", choices=("ledger", "busy", "memory"))
    parser.add_argument("--repeats", type=int, default=5, help="of the busy runs")
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
        if options.only in (None, "ledger"):
            figures["ledger"] = asyncio.run(
                measure_ledger(directory / "leads.db", options.rows, options.sought)
            )
        if options.only in (None, "busy"):
            checks = min(options.rows, 40_000)
            figures["beside a busy loop"] = asyncio.run(measure_busy_run(directory, checks, options.repeats))
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
