"""The sandbox over real sockets: in this process, and in a separate one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from accucheck import cli
from accucheck.cli import _sandbox as command
from accucheck.sandbox import Faults, Sandbox, Settings, serve, truth

NUMBER = "987654321"
CREDENTIALS = {"X-DF-API-ID": "sandbox", "X-DF-API-SECRET": "sandbox"}
REQUEST = (
    b"POST /check/whatsapp_advanced HTTP/1.1\r\nHost: sandbox\r\nX-DF-API-ID: sandbox\r\n"
    b"X-DF-API-SECRET: sandbox\r\nContent-Length: 16\r\n\r\nnumber=987654321"
)


async def connect(sandbox: Sandbox) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = httpx.URL(sandbox.url)
    return await asyncio.open_connection(url.host, url.port)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the connection ends, with FIN or RST."""
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""


async def ask(client: httpx.AsyncClient, sandbox: Sandbox, number: str = NUMBER) -> Any:
    response = await client.post(f"{sandbox.url}/check/whatsapp_advanced", data={"number": number})
    return response.json()


async def test_it_answers_over_http_on_a_free_port() -> None:
    async with (
        serve(Settings(seed=3, latency=1)) as sandbox,
        httpx.AsyncClient(headers=CREDENTIALS) as client,
    ):
        replies = await asyncio.gather(*(ask(client, sandbox, str(900_000_000 + step)) for step in range(50)))
        assert [reply["result"] for reply in replies] == [truth(900_000_000 + step, 3) for step in range(50)]
        assert sandbox.url.startswith("http://127.0.0.1:")
        assert (sandbox.counts.admitted, sandbox.counts.charged_twice) == (50, 0)
        assert sandbox.charges() == {str(900_000_000 + step): 1 for step in range(50)}
        assert sum(second.admitted for second in sandbox.history) == 50
        assert "<title>accucheck sandbox</title>" in (await client.get(sandbox.url)).text


async def test_two_run_side_by_side() -> None:
    async with (
        serve(Settings(seed=1)) as one,
        serve(Settings(seed=2)) as two,
        httpx.AsyncClient(headers=CREDENTIALS) as client,
    ):
        replies = [await ask(client, one), await ask(client, two)]
    assert [reply["result"] for reply in replies] == [truth(NUMBER, 1), truth(NUMBER, 2)]


async def test_the_rate_can_be_changed_from_outside() -> None:
    async with serve(Settings(rate=1, burst=1)) as sandbox, httpx.AsyncClient(headers=CREDENTIALS) as client:
        sandbox.set_rate(0)
        statuses = [(await ask(client, sandbox))["status"] for _ in range(3)]
        assert statuses == ["OK", "RATE_LIMIT_EXCEEDED", "RATE_LIMIT_EXCEEDED"]
        assert sandbox.counts.rate == 0
    async with serve() as sandbox:
        with pytest.raises(ValueError, match="start it with --rate"):
            sandbox.set_rate(5)


async def test_a_reset_connection_ends_without_a_byte() -> None:
    async with serve(Settings(faults=Faults(reset=1))) as sandbox:
        reader, writer = await connect(sandbox)
        writer.write(REQUEST)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert sandbox.counts.charged_but_lost == 1


async def test_a_cut_reply_is_shorter_than_it_announces() -> None:
    async with serve(Settings(faults=Faults(cut=1))) as sandbox:
        reader, writer = await connect(sandbox)
        writer.write(REQUEST)
        head, body = (await reader.read()).split(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 200")
    promised = int(dict(line.split(b": ") for line in head.split(b"\r\n")[1:])[b"content-length"])
    assert 0 < len(body) < promised


async def test_a_stalled_reply_never_comes() -> None:
    async with serve(Settings(faults=Faults(stall=1))) as sandbox:
        reader, writer = await connect(sandbox)
        writer.write(REQUEST)
        # The page is answered after the stalled call was received, and nothing has arrived on its connection.
        async with httpx.AsyncClient() as client:
            while (await client.get(f"{sandbox.url}/stats")).json()["faults"] != {"stall": 1}:
                await asyncio.sleep(0)
        pending_read = asyncio.ensure_future(rest(reader))
        await asyncio.sleep(0)
        assert not pending_read.done()
    # Leaving the block drops the connection.
    assert await pending_read == b""
    writer.close()


async def test_closing_during_calls_is_quick_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serve(Settings(latency=3_600_000)) as sandbox:
            connections = [await connect(sandbox) for _ in range(20)]
            for _, writer in connections:
                writer.write(REQUEST)
            while sandbox.counts.admitted < 20:
                await asyncio.sleep(0)
        for reader, writer in connections:
            assert await rest(reader) == b""
            writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [task for task in asyncio.all_tasks() if "run_asgi" in repr(task)] == []


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_not_a_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serve() as sandbox:
        _, writer = await connect(sandbox)
        writer.write(REQUEST[:-5])
        await writer.drain()
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        async with httpx.AsyncClient(headers=CREDENTIALS) as client:
            assert (await ask(client, sandbox, "912345678"))["status"] == "OK"
        assert sandbox.counts.requests == 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_body_over_the_cap_is_refused_and_the_connection_closed() -> None:
    async with serve() as sandbox:
        reader, writer = await connect(sandbox)
        writer.write(REQUEST.replace(b"Content-Length: 16", b"Content-Length: 10000000") + b"x" * 200_000)
        reply = await reader.readuntil(b"}")
        writer.close()
    assert b"connection: close" in reply.lower()
    assert b"INVALID_ARGUMENT" in reply


async def test_a_port_in_use_is_an_error() -> None:
    async with serve() as sandbox:
        port = httpx.URL(sandbox.url).port
        assert port is not None
        with pytest.raises(OSError, match="in use"):
            async with serve(port=port):
                pass


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "ACCUCHECK_API_ID": "mine", "ACCUCHECK_API_SECRET": "mine"}
    started = subprocess.Popen(
        [sys.executable, "-m", "accucheck", "sandbox", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with started:
        try:
            assert started.stdout is not None
            line = started.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:"), line
            yield started, line.split()[-1]
        finally:
            started.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_as_a_process_it_says_where_it_listens_and_stops_by_a_signal(number: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = (
        "--seed",
        "5",
        "--faults",
        "stall=0",
        "--rate",
        "100",
        "--rate-at",
        "60:5",
        "--request-log",
        str(log),
    )
    with process(*options) as (running, url):
        with httpx.Client(headers=CREDENTIALS) as client:
            reply = client.post(f"{url}/check/whatsapp_advanced", data={"number": NUMBER}).json()
            assert reply["result"] == truth(NUMBER, 5)
            assert json.loads(log.read_text())["status"] == "OK"
        running.send_signal(number)
        assert running.wait(10) == 0
        assert running.stderr is not None
        assert running.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rate", "0"], "rate is 0.0: it must be above 0"),
        (["--rate-at", "x"], "write two numbers with a colon between them"),
        (["--faults", "fire=1"], "there is no fault 'fire'"),
        (["--window", "leaky", "--rate", "5"], 'invalid value "leaky" for --window'),
    ],
)
def test_wrong_usage_is_a_clear_error_and_code_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sandbox", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_port_in_use_is_a_clear_error_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["sandbox", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"accucheck: cannot listen on 127.0.0.1:{port}: ")
    assert error.endswith("--port 0 picks a free port\n")
    assert error.count("\n") == 1


def test_every_setting_is_an_option_with_help() -> None:
    options = {each.keys: each for each in command.app.assemble_argument_collection(parse_docstring=True)}
    for setting in fields(Settings):
        option = options[(setting.name,)]
        assert option.name == f"--{setting.name.replace('_', '-')}"
        assert option.parameter.help


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None\nimport accucheck.sandbox"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == (
        f"ImportError: The sandbox needs {missing}, which is not installed: pip install 'accucheck[sandbox]'"
    )
