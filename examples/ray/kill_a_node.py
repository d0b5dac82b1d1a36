"""Checks a Parquet list on a Ray cluster of two nodes, kills one in the middle, and proves that nothing was lost.

    pip install '.[ray,postgres,sandbox,fast]'                # and PostgreSQL: apt-get install postgresql
    python examples/ray/kill_a_node.py --rows 20000

Everything runs on this machine and costs nothing: the cluster, PostgreSQL for the ledger, and a simulated AccuAuth that
logs every call. The result is compared with that of a single process. Only numbers that the lost node had in flight
may be called twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.cluster_utils import Cluster

import accucheck.frames
import accucheck.ray

FILES = 10
VARIES = ["request_id", "checked_at"]
"""Columns that differ from run to run."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--workers", type=int, default=20, help="calls in flight on each node")
    options.add_argument("--latency", type=float, default=20, help="milliseconds that a simulated call takes")
    options.add_argument(
        "--ledger", help="postgresql://… of an empty database; by default a server is started"
    )
    given = options.parse_args()
    os.environ |= {"ACCUCHECK_API_ID": "sandbox", "ACCUCHECK_API_SECRET": "sandbox"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="accucheck-ray-")))
        leads, checked, log = folder / "leads", folder / "checked", folder / "calls.jsonl"
        write_leads(leads, given.rows)
        url = stack.enter_context(sandbox(log, given.latency))
        ledger = given.ledger or stack.enter_context(postgres())
        subprocess.run([sys.executable, "-m", "accucheck", "ledger", "init", ledger], check=True)
        cluster = stack.enter_context(two_nodes())

        ds = accucheck.ray.check(
            ray.data.read_parquet(str(leads), override_num_blocks=FILES),
            number="phone",
            ledger=ledger,
            actors=2,  # Ray Data spreads them over the nodes
            workers=given.workers,
            client={"base_url": url, "rate": 100_000},
        )
        began = time.monotonic()
        killing = asyncio.run(run_and_kill(ds, checked, cluster, log, after=given.rows // 3))
        took = time.monotonic() - began

        found = pq.read_table(checked).sort_by("id").drop(VARIES)
        numbers = called(log)
        extra = sum(numbers.values()) - len(numbers)
        with sandbox(folder / "alone.jsonl", 0) as other:
            alone = accucheck.frames.enrich(
                pq.read_table(leads), number="phone", client={"base_url": other, "rate": 100_000}
            )
        same = found.equals(alone.sort_by("id").drop(VARIES))
    print(f"{given.rows:,} rows checked in {took:.1f} s on two nodes, one killed after {killing:,} calls")
    print(f"same result as a single process: {'yes' if same else 'NO'}")
    print(f"numbers bought: {len(numbers):,}; calls made twice: {extra} (in flight at most: {given.workers})")
    if not same or len(numbers) != len(set(found["number"].to_pylist())) or extra > given.workers:
        sys.exit("the proof failed")


async def run_and_kill(ds: ray.data.Dataset, target: Path, cluster: Cluster, log: Path, *, after: int) -> int:
    """Write the dataset; after ``after`` calls, kill the second node. Return the calls made by then."""
    writing = asyncio.create_task(asyncio.to_thread(ds.write_parquet, str(target)))
    while (calls := lines(log)) < after:
        if writing.done():
            await writing
            sys.exit("the run ended before a node could be killed: give it more --rows or --latency")
        await asyncio.sleep(0.02)
    cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    await writing
    return calls


def write_leads(folder: Path, rows: int) -> None:
    folder.mkdir()
    for part in range(FILES):
        ids = range(part, rows, FILES)
        phones = [f"9{10_000_000 + 37 * n % 89_999_999:08d}" for n in ids]
        pq.write_table(pa.table({"id": ids, "phone": phones}), folder / f"{part}.parquet")


def called(log: Path) -> Counter[str]:
    with log.open() as calls:
        return Counter(json.loads(call)["number"] for call in calls)


def lines(log: Path) -> int:
    with log.open("rb") as calls:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: calls.read(1 << 20), b""))


@contextmanager
def two_nodes() -> Iterator[Cluster]:
    node: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 150 * 2**20}
    # Notice a lost node within a second instead of half a minute.
    noticed = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 300,
        "health_check_failure_threshold": 3,
    }
    head = {**node, "include_dashboard": False, "_system_config": noticed}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def sandbox(log: Path, latency: float) -> Iterator[str]:
    """Run a simulated AccuAuth; yield its URL."""
    command = [sys.executable, "-u", "-m", "accucheck", "sandbox", "--port", "0"]
    command += ["--request-log", str(log), "--latency", str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server in a temporary folder; yield its URL."""
    places = [
        os.environ.get("PATH", ""),
        *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    ]
    server = shutil.which("postgres", path=os.pathsep.join(places))
    if server is None:
        sys.exit("PostgreSQL is not installed: apt-get install postgresql, or give --ledger postgresql://…")
    programs = Path(server).resolve().parent
    # PostgreSQL refuses to run as root.
    whom: dict[str, Any] = {} if os.getuid() else {"user": pwd.getpwnam("nobody").pw_uid}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="accucheck-postgres-") as name:
        if whom:
            os.chown(name, whom["user"], -1)
        data = Path(name, "data")
        initdb = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=name, **whom)
        command = [
            str(programs / "postgres"),
            "-D",
            str(data),
            "-p",
            port,
            "-c",
            "listen_addresses=127.0.0.1",
        ]
        command += ["-c", f"unix_socket_directories={name}"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=name, **whom)
        try:
            ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", port]
            while subprocess.run(ready, check=False).returncode:
                if process.poll() is not None:
                    sys.exit("PostgreSQL did not start")
                time.sleep(0.05)
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(2)  # a fast shutdown
            process.wait()


if __name__ == "__main__":
    main()
