"""The sandbox over real sockets, inside a running event loop or as a separate process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as HttpProtocol
from uvicorn.server import ServerState

from accucheck.sandbox._app import TRANSPORT, SandboxApp, open_log
from accucheck.sandbox._counts import Counts, InvoiceLine, Second
from accucheck.sandbox._settings import Endpoint, Settings
from accucheck.sandbox._truth import Script, Scripts

_BACKLOG = 2048
# As nginx has it. uvicorn's own 5 s would close connections under clients that pause for a poll.
_KEEP_ALIVE_SECONDS = 75


class Sandbox:
    """A running sandbox. Created by ``serve``."""

    def __init__(self, app: SandboxApp, url: str) -> None:
        self._app = app
        self.url = url
        """Where it listens, without a trailing slash; use it as the client's ``base_url``."""
        self.settings = app.account.settings

    @property
    def counts(self) -> Counts:
        """A snapshot of the counters; the same as ``GET /stats``."""
        return self._app.account.counts(self._app.clock())

    @property
    def history(self) -> list[Second]:
        """The calls per second for the last 600 s; the same as ``GET /stats/history``."""
        return self._app.account.history()

    @property
    def scripts(self) -> Scripts:
        """The scripted replies for single numbers."""
        return self._app.account.scripts

    @property
    def requests(self) -> list[dict[str, object]]:
        """The last 10,000 calls, oldest first, as in the request log: ``number``, ``status``, ``call``, …"""
        return list(self._app.requests)

    def answers(self, replies: Mapping[str | int, Script]) -> None:
        """Give each number one reply for all its calls: ``{"987654321": "yes", "912345678": "NOT_HIT"}``."""
        self.scripts.answers(replies)

    def script(self, number: str | int, replies: Iterable[Script]) -> None:
        """Give a number's next calls one reply each: ``"987654321", ["PENDING", "reset", "yes"]``."""
        self.scripts.script(number, replies)

    def invoice(self) -> list[InvoiceLine]:
        """Return what was charged, by day and endpoint; the same as ``GET /invoice``."""
        return self._app.account.invoice()

    def charges(self, endpoint: Endpoint = "advanced") -> dict[str, int]:
        """Return how often each national number was charged; those never charged are left out."""
        return self._app.account.charges(endpoint)

    def set_rate(self, rate: float) -> None:
        """Allow ``rate`` calls per second from now on. Raises ``ValueError`` if it has no limit."""
        self._app.account.set_rate(rate, self._app.clock())


class _Protocol(HttpProtocol):
    """uvicorn's, that leaves its connection where the application finds it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, TRANSPORT: transport}
        super().connection_made(transport)


@contextlib.asynccontextmanager
async def serve(
    settings: Settings | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Sandbox]:
    """Run a sandbox in the current event loop while the block runs.

    ``port`` 0 picks a free one; ``settings=None`` means the defaults. Leaving the block drops open connections at once.
    It leaves signal handlers alone.

    Raises ``OSError`` if the address or the request log cannot be opened.

    Examples:
        ```python
        from accucheck.sandbox import Settings, serve

        async with (
            serve(Settings(pending=0.2, pending_for=0.1)) as sandbox,
            accucheck.Client("sandbox", "sandbox", base_url=sandbox.url) as client,
        ):
            await client.check("987654321")
            print(sandbox.counts)
        ```
    """
    settings = settings or Settings()
    with contextlib.ExitStack() as stack:
        log = None if settings.request_log is None else stack.enter_context(open_log(settings.request_log))
        app = SandboxApp(settings, request_log=log)
        config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()
        state = ServerState()

        # Not uvicorn.Server: it takes over the signals, and needs 0.1 s and more to close.
        def connection() -> _Protocol:
            return _Protocol(config=config, server_state=state, app_state={})

        listener = stack.enter_context(_listen(host, port))
        server = await asyncio.get_running_loop().create_server(connection, sock=listener, backlog=_BACKLOG)
        try:
            yield Sandbox(app, _url(listener))
        finally:
            server.close()
            await _drop(state)


def run(
    settings: Settings | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    announce: Callable[[str], object] = lambda line: print(line, flush=True),
) -> None:
    """Run a sandbox until SIGINT or SIGTERM. Uses uvloop if it is installed.

    ``announce`` gets ``listening on http://127.0.0.1:8000`` once connections are accepted; ``port`` 0 picks a free one.

    Raises ``OSError`` if the address or the request log cannot be opened.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(settings, host, port, announce))


async def _run(settings: Settings | None, host: str, port: int, announce: Callable[[str], object]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serve(settings, host=host, port=port) as sandbox:
        for number in (signal.SIGINT, signal.SIGTERM):
            # Windows loops have no signal handlers; there Ctrl-C raises KeyboardInterrupt out of the runner.
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, stop.set)
        announce(f"listening on {sandbox.url}")
        await stop.wait()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # So that a sandbox can be restarted on the same port while old connections are in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _url(listener: socket.socket) -> str:
    address: tuple[Any, ...] = listener.getsockname()
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _drop(state: ServerState) -> None:
    """Close every connection at once, and wait until the calls on them have ended."""
    while state.connections:
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
    # Stalled calls end by themselves now that their client is gone; those that sleep are woken.
    calls = list(state.tasks)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
