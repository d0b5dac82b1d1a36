"""The server as a process, between a client of ours and the sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import accucheck
from accucheck.sandbox import Settings, serve


async def test_our_own_client_works_against_the_server_unchanged(tmp_path: Path) -> None:
    async with serve(Settings()) as sandbox:
        environment = {
            **os.environ,
            "ACCUCHECK_API_ID": sandbox.settings.api_id,
            "ACCUCHECK_API_SECRET": sandbox.settings.api_secret,
            "ACCUCHECK_SERVE_API_ID": "team",
            "ACCUCHECK_SERVE_API_SECRET": "own",
        }
        command = [sys.executable, "-m", "accucheck", "serve", "--port", "0", "--base-url", sandbox.url]
        command += ["--ledger", str(tmp_path / "answers.db")]
        server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            assert line.startswith("listening on "), line
            async with accucheck.Client("team", "own", base_url=line.split()[-1]) as client:
                check = await client.check("987 654 321")
            async with accucheck.Client("team", "own", base_url=line.split()[-1]) as client:
                assert (await client.check("987654321")).request_id == check.request_id, "bought twice"
                assert check.number == "+51987654321"
                assert check.request_id.startswith("TID")
            assert sum(sandbox.charges().values()) == 1
        finally:
            server.send_signal(signal.SIGTERM)
            _, rest = server.communicate(timeout=20)
        assert "has finished" in rest
        assert server.returncode == 0


def test_the_vendors_secret_is_not_given_to_callers(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "ACCUCHECK_API_ID": "sandbox",
        "ACCUCHECK_API_SECRET": "the vendor's",
        "ACCUCHECK_SERVE_API_ID": "team",
        "ACCUCHECK_SERVE_API_SECRET": "the vendor's",
    }
    command = [sys.executable, "-m", "accucheck", "serve", "--port", "0", "--ledger", "none"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2
    assert "callers would get your AccuAuth secret" in done.stderr
    assert "the vendor's" not in done.stderr
