"""For tests of code that uses accucheck: a fake vendor without sockets, and a sandbox in its own thread.

With pytest, use the fixtures of ``accucheck.pytest_plugin`` instead. Needs ``accucheck[testing]``.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Self

import httpx

from accucheck._help import with_fields
from accucheck._http._transport import stand_in
from accucheck.sandbox import (
    Counts,
    Faults,
    InvoiceLine,
    Sandbox,
    Script,
    Scripted,
    Settings,
    Soft,
    serve,
    truth,
)
from accucheck.sandbox._account import Account
from accucheck.sandbox._app import KEPT_REQUESTS, call_from, request_line
from accucheck.sandbox._truth import Scripts, written_out

__all__ = ["FakeVendor", "Faults", "SandboxThread", "Script", "Scripted", "Settings", "Soft", "truth"]

for _record in (Counts, Faults, InvoiceLine, Scripted, Settings, Soft):
    with_fields(_record)  # here, because the sandbox imports nothing of the client

Replies = Mapping[str | int, Script | Iterable[Script]]
"""Replies by number: one reply for all calls of a number, or a list with one reply per call. See ``Script``."""


class Written:
    """What the fake vendor and the sandbox have in common: scripted replies, and a record of requests."""

    _scripts: Scripts

    strict: bool | None = None
    """Whether a number without a scripted reply is refused and fails the test. None: once any reply is scripted; until
    then, every number gets the sandbox's default answer (``truth``)."""

    def answers(self, replies: Replies) -> None:
        """Set each number's replies for the whole test: ``{"987654321": "yes", "912345678": ["PENDING", "no"]}``.

        A single reply is for all calls. A list has one reply per call; its last one is for all later calls. Raises
        ValueError for a number that is not Peruvian and for a misspelt reply.
        """
        for number, reply in replies.items():
            if isinstance(reply, str | Mapping | Scripted) or not isinstance(reply, Iterable):
                self._scripts.answers({number: reply})
            elif several := [written_out(one) for one in reply]:
                self._scripts.script(number, several[:-1])
                self._scripts.answers({number: several[-1]})
            else:
                raise ValueError(f"the list of replies for {number} is empty: it needs at least one")
        self._tighten()

    def script(self, number: str | int, replies: Iterable[Script]) -> None:
        """Set one reply for each of a number's next calls; after those, ``answers`` applies again."""
        self._scripts.script(number, replies)
        self._tighten()

    @property
    def unexpected(self) -> list[str]:
        """Numbers that were checked without a scripted reply, while strict."""
        return list(self._scripts.unexpected)

    def assert_all_expected(self) -> None:
        """Raise AssertionError if a number without a scripted reply was checked, while strict."""
        if self._scripts.unexpected:
            numbers = ", ".join(self._scripts.unexpected)
            raise AssertionError(
                f"accucheck checked numbers that this test has no answer for: {numbers}; name them in "
                "answers({...}), or allow any number with strict=False"
            )

    def _tighten(self) -> None:
        self._scripts.strict = self.strict is not False

    def forget(self) -> None:
        """Clear the scripted replies and the unexpected numbers."""
        self._scripts.clear()

    def be_strict(self, strict: bool | None) -> None:
        """Set ``strict``, even in mid-test."""
        self.strict = strict
        self._scripts.strict = bool(strict)


class FakeVendor(Written, httpx.AsyncBaseTransport):
    """AccuAuth as an httpx transport: no sockets, no threads, any event loop. Accepts any credentials.

    Args:
        replies: Scripted replies; see ``answers``.
        settings: How the account behaves: rate limit, quota, errors, soft answers, prices.
        strict: See ``strict``.

    An unexpected number is refused (``InvalidArgument``), and the client that uses this transport raises AssertionError
    when it closes, so that the test fails even if the code under test swallows the first error. Used as a context
    manager, the vendor raises it itself.

    A reply lost on purpose raises the httpx error that a socket would: ``reset`` ReadError, ``cut``
    RemoteProtocolError, ``stall`` ReadTimeout (immediately, since a test should not wait).

    Examples:
        ```python
        from accucheck.testing import FakeVendor

        vendor = FakeVendor({"987654321": "yes", "912345678": ["PENDING", "no"]})
        async with accucheck.Client(
            "id", "secret", transport=vendor, policy=accucheck.Policy.fast(), rate=1000
        ) as client:
            assert not (await client.check("912345678")).whatsapp
        assert len(vendor.requests) == 2
        ```
    """

    def __init__(
        self, replies: Replies | None = None, *, settings: Settings | None = None, strict: bool | None = None
    ) -> None:
        self._settings = settings or Settings()
        self._account = Account(self._settings, time.monotonic(), time.time() - time.monotonic())
        self._scripts = self._account.scripts
        self._requests: deque[dict[str, object]] = deque(maxlen=KEPT_REQUESTS)
        self.be_strict(strict)
        if replies is not None:
            self.answers(replies)

    @property
    def requests(self) -> list[dict[str, object]]:
        """The last 10,000 calls, oldest first: ``number``, ``endpoint``, ``status``, ``call`` (from 1), ``t``."""
        return list(self._requests)

    @property
    def counts(self) -> Counts:
        """A snapshot of the counters."""
        return self._account.counts(time.monotonic())

    def charges(self) -> dict[str, int]:
        """Return how often each national number was charged at the advanced endpoint."""
        return self._account.charges()

    def invoice(self) -> list[InvoiceLine]:
        """Return what was charged, by day and endpoint."""
        return self._account.invoice()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.assert_all_expected()

    async def aclose(self) -> None:
        """Called by the client that closes. Raises AssertionError, see ``assert_all_expected``."""
        self.assert_all_expected()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        call = call_from(
            request.method,
            request.url.path,
            {
                **request.headers,
                "x-df-api-id": self._settings.api_id,
                "x-df-api-secret": self._settings.api_secret,
            },
            body,
        )
        now = time.monotonic()
        reply = self._account.answer(call, now)
        self._requests.append(request_line(call, reply, time.time()))
        if reply.delay:
            await asyncio.sleep(reply.delay)
        lost = "the fake vendor dropped this reply on purpose"
        if reply.fault == "reset":
            raise httpx.ReadError(lost, request=request)
        if reply.fault == "cut":
            raise httpx.RemoteProtocolError(lost, request=request)
        if reply.fault == "stall":
            raise httpx.ReadTimeout(lost, request=request)
        headers = {"Content-Type": reply.content_type}
        if reply.retry_after is not None:
            headers["Retry-After"] = str(reply.retry_after)
        return httpx.Response(reply.http_status, headers=headers, content=reply.body, request=request)


class SandboxThread(Written):
    """The sandbox on a free loopback port, in its own thread, for code that opens its own sockets.

    A context manager, which raises AssertionError at its end if an unexpected number was checked. It answers clients
    that have its ``url`` as ``base_url``, with the credentials "sandbox" and "sandbox"; with ``standing_in``, it
    answers every client in AccuAuth's place.

    Examples:
        ```python
        from accucheck.testing import SandboxThread

        with SandboxThread() as vendor:
            vendor.answers({"987654321": "yes"})
            async with accucheck.Client("sandbox", "sandbox", base_url=vendor.url) as client:
                assert (await client.check("987654321")).whatsapp
        ```
    """

    def __init__(self, settings: Settings | None = None, *, strict: bool | None = None) -> None:
        self._settings = settings
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="accucheck-sandbox", daemon=True)
        self._sandbox: Sandbox | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._wants_strict = strict

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error
        self._scripts = self.sandbox.scripts
        self.be_strict(self._wants_strict)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.assert_all_expected()

    @contextmanager
    def standing_in(self, *, quick: bool = True) -> Iterator[Self]:
        """Answer, in AccuAuth's place, every client of this process that is created meanwhile, and child processes.

        Starts the sandbox, unless it is running. Meanwhile, ACCUCHECK_BASE_URL, ACCUCHECK_API_ID and
        ACCUCHECK_API_SECRET of the environment are the sandbox's, which is how child processes find it. With ``quick``,
        clients of this process that have no ``policy`` use ``Policy.fast()``, and ``rate="auto"`` does not search for a
        limit.

        Examples:
            ```python
            from accucheck.testing import SandboxThread

            with SandboxThread().standing_in() as sandbox:
                sandbox.answers({"987654321": "yes"})
                assert accucheck.check_sync("987654321").whatsapp
            ```
        """
        with self if self._sandbox is None else nullcontext(self):
            settings = self.sandbox.settings
            ours = {
                "ACCUCHECK_BASE_URL": self.url,
                "ACCUCHECK_API_ID": settings.api_id,
                "ACCUCHECK_API_SECRET": settings.api_secret,
            }
            before = {name: os.environ.get(name) for name in ours}
            transport = _Redirect(self, quick)
            os.environ.update(ours)
            stand_in.append(transport)
            try:
                yield self
            finally:
                stand_in.remove(transport)
                for name, value in before.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value

    def _run(self) -> None:
        async def serving() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            async with serve(self._settings) as self._sandbox:
                self._started.set()
                await self._stop.wait()

        try:
            asyncio.run(serving())
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits for the start
            self._error = error
        finally:
            self._started.set()

    @property
    def sandbox(self) -> Sandbox:
        """The running sandbox itself."""
        if self._sandbox is None:
            raise RuntimeError("the sandbox is not running: use it as a context manager")
        return self._sandbox

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.sandbox.url

    @property
    def requests(self) -> list[dict[str, object]]:
        """The last 10,000 calls, oldest first: ``number``, ``endpoint``, ``status``, ``call`` (from 1), ``t``."""
        return self.sandbox.requests

    @property
    def counts(self) -> Counts:
        """A snapshot of the counters."""
        return self.sandbox.counts

    def charges(self) -> dict[str, int]:
        """Return how often each national number was charged at the advanced endpoint."""
        return self.sandbox.charges()

    def invoice(self) -> list[InvoiceLine]:
        """Return what was charged, by day and endpoint."""
        return self.sandbox.invoice()

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that takes every request to this sandbox, with its credentials, whatever its host."""
        return _Redirect(self, quick=False)


class _Redirect(httpx.AsyncBaseTransport):
    """One connection for each call: it belongs to no event loop, and leaves nothing to close."""

    def __init__(self, sandbox: SandboxThread, quick: bool) -> None:
        self._sandbox = sandbox
        self.quick = quick

    @property
    def url(self) -> str:
        return self._sandbox.url

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        settings = self._sandbox.sandbox.settings
        url = httpx.URL(self._sandbox.url).join(request.url.raw_path.decode())
        headers = {
            "Content-Type": request.headers.get("Content-Type", ""),
            "X-DF-API-ID": settings.api_id,
            "X-DF-API-SECRET": settings.api_secret,
        }
        extensions: dict[str, Any] = {"timeout": request.extensions.get("timeout", {})}
        redirected = httpx.Request(request.method, url, headers=headers, content=body, extensions=extensions)
        async with httpx.AsyncHTTPTransport(trust_env=False) as transport:
            response = await transport.handle_async_request(redirected)
            content = await response.aread()
        kept = {
            name: response.headers[name]
            for name in ("Content-Type", "Retry-After")
            if name in response.headers
        }
        return httpx.Response(response.status_code, headers=kept, content=content, request=request)
