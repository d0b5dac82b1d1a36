"""A PostgreSQL server for tests: Debian's package in a temporary folder, started once per session."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers import program


def _binaries() -> Path:
    initdb = program("initdb", package="postgresql", folders="usr/lib/postgresql/*/bin")
    return Path(initdb).resolve().parent


@dataclass
class Server:
    """A server that can be stopped, killed and started again."""

    folder: Path
    port: int
    fsync: bool = False
    """Whether it waits for the disk: needless where processes are killed, not machines."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _made: int = 0

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        binaries = _binaries()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(binaries / "postgres", "-D", self.folder / "data", "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"),
                    *("-c", f"fsync={'on' if self.fsync else 'off'}"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                **_as_whom(),
            )
        for _ in range(600):
            ready = subprocess.run(
                [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            if self._process.poll() is not None:
                break
            subprocess.run(["sleep", "0.05"], check=True)
        raise AssertionError((self.folder / "log").read_text())

    def kill(self) -> None:
        """Kill the server and all its processes, as a power cut would."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._process.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # a fast shutdown
            self._process.wait(30)

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        import psycopg

        self._made += 1
        name = f"test{os.getpid()}_{self._made}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
        return self.url(name)


def _as_whom() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def running_server(*, fsync: bool = False) -> Iterator[Server]:
    """Start a server; skip if none is installed."""
    binaries = _binaries()
    pytest.importorskip("psycopg_pool", reason="needs pip install 'accucheck[postgres]'")
    folder = Path(tempfile.mkdtemp(prefix="accucheck-postgres-"))
    whom = _as_whom()
    if whom:
        os.chown(folder, whom["user"], whom["group"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    subprocess.run(
        [
            binaries / "initdb",
            "-D",
            folder / "data",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        **whom,
    )
    server = Server(folder, port, fsync)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def new_ledger(server: Server) -> str:
    """Create an empty ledger and return its URL."""
    from accucheck._store import init_postgres

    url = await asyncio.to_thread(server.new_database)
    await init_postgres(url)
    return url
