"""The client without ``await``, for scripts and threads. An event loop in a background thread does the work."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from accucheck._arguments import Timeouts
from accucheck._client import Client, ClientOptions, LedgerLike, Numeric, StreamOptions
from accucheck._events import Event, EventReader
from accucheck._models import Check, Outcome, Stats
from accucheck._stream import Stream

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

__all__ = ["SyncClient", "SyncStream", "check_sync"]

Item = TypeVar("Item")
NumericItem = TypeVar("NumericItem", bound=Numeric)


class SyncStream(Generic[Item]):
    """Outcomes as they finish: ``with client.stream(...) as outcomes: for outcome in outcomes``.

    Created by ``SyncClient.stream``. See ``Stream`` for its guarantees.

    Examples:
        ```python
        with accucheck.SyncClient() as client:
            outcomes: accucheck.SyncStream[str]
            with client.stream(["987654321", "912345678"]) as outcomes:
                print(sum(isinstance(outcome, accucheck.Checked) for outcome in outcomes))
        ```
    """

    def __init__(self, portal: BlockingPortal, make: Callable[[], Stream[Item]]) -> None:
        self._portal = portal
        self._make = make
        self._stream: Stream[Item] | None = None
        self._context: AbstractContextManager[Any] | None = None

    def __enter__(self) -> Self:
        self._stream = self._portal.call(self._make)
        self._context = self._portal.wrap_async_context_manager(self._stream)
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._context is not None
        self._context.__exit__(kind, error, traceback)

    def __iter__(self) -> Iterator[Outcome[Item]]:
        return self

    def __next__(self) -> Outcome[Item]:
        if self._stream is None:
            raise RuntimeError("enter the stream first: with client.stream(...) as outcomes")
        try:
            return self._portal.call(self._stream.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def stop(self) -> None:
        """Take no more items: calls in flight return, their outcomes are yielded, then the iteration ends."""
        if self._stream is not None:
            self._portal.call(self._stream.stop)

    @property
    def stats(self) -> Stats:
        """A snapshot of the run."""
        return Stats() if self._stream is None else self._stream.stats

    @property
    def run_id(self) -> str:
        """The id of this run in its events and in telemetry; ``""`` before the block is entered."""
        return "" if self._stream is None else self._stream.run_id

    def undelivered(self) -> list[Outcome[Item]]:
        """Take the outcomes that you did not iterate over. Call it after leaving the block."""
        return [] if self._stream is None else self._stream.undelivered()

    @property
    def unasked(self) -> list[Item]:
        """Items that were read and have no outcome. Read it after leaving the block."""
        return [] if self._stream is None else self._stream.unasked


class SyncClient:
    """``Client`` for code without an event loop; use it as a context manager.

    Takes the same arguments as ``Client``, and so do its methods. Several threads may share one client. ``items``,
    ``number`` and ``on_event`` of a stream run in the client's thread.

    Raises:
        ConfigurationError: An argument is wrong, or credentials are missing.

    Examples:
        ```python
        leads = [{"name": "Ana", "phone": "987654321"}]
        with accucheck.SyncClient() as client:
            print(client.check("987 654 321").whatsapp)
            with client.stream(leads, number=lambda row: row["phone"]) as outcomes:
                for outcome in outcomes:
                    print(outcome.item["name"], isinstance(outcome, accucheck.Checked))
        ```
    """

    def __init__(
        self, api_id: str | None = None, api_secret: str | None = None, **options: Unpack[ClientOptions]
    ) -> None:
        self._make: Callable[[], Client] = partial(Client, api_id, api_secret, **options)
        self._make()  # wrong arguments are reported here; the client itself is made in its thread
        self._exit = ExitStack()
        self._portal: BlockingPortal | None = None
        self._client: Client | None = None
        self._closed = False

    def __enter__(self) -> Self:
        _refuse_a_loop("SyncClient", "await client.check(number)")
        if self._portal is not None:
            raise RuntimeError(
                f"the client is {'closed' if self._closed else 'already open'}: create a new one"
            )
        with ExitStack() as stack:
            portal = stack.enter_context(_portal())
            client = portal.call(self._make)
            stack.enter_context(portal.wrap_async_context_manager(client))
            self._exit = stack.pop_all()
        _keep(self)
        self._portal, self._client = portal, client
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()
        self._exit.__exit__(kind, error, traceback)

    def close(self) -> None:
        """Settle the calls in flight and close every connection. A context manager closes by itself."""
        self._end()
        self._exit.close()

    def _end(self) -> None:
        self._closed = True
        _open.discard(self)

    @property
    def stats(self) -> Stats:
        """A snapshot of the client's totals so far."""
        _, client = self._opened()
        return client.stats

    @property
    def events(self) -> Iterator[Event]:
        """The events from now on: ``for event in client.events``, in another thread. Ends when the client is closed.

        Each use is another reader; one that falls 10,000 events behind misses the oldest.

        Examples:
            ```python
            from collections.abc import Iterable
            from threading import Thread


            def watch(events: Iterable[accucheck.Event]) -> None:
                for event in events:
                    print(event)


            with accucheck.SyncClient() as client:
                Thread(target=watch, args=(client.events,)).start()
                client.check("987654321")
            ```
        """
        portal, client = self._opened()
        return _read(portal, portal.call(client._events.read))

    def check(
        self,
        number: str | int,
        *,
        deadline: timedelta | float | None = None,
        timeout: Timeouts | float | None = None,
        ledger: LedgerLike | None = None,
        key: object = None,
    ) -> Check:
        """Check one number; see ``Client.check`` for the arguments.

        Raises:
            CheckError: The number has no answer; an ``InvalidNumber`` cost no call.
            RunEnded: No number can be checked, such as ``OutOfQuota`` or ``LedgerError``.
            RuntimeError: The client is not open: use it as a context manager.
        """
        portal, client = self._opened()
        return portal.call(
            partial(client.check, number, deadline=deadline, timeout=timeout, ledger=ledger, key=key)
        )

    @overload
    def check_many(
        self,
        numbers: Iterable[NumericItem] | AsyncIterable[NumericItem],
        *,
        number: None = None,
        **options: Unpack[StreamOptions],
    ) -> list[Outcome[NumericItem]]: ...

    @overload
    def check_many(
        self,
        numbers: Iterable[Item] | AsyncIterable[Item],
        *,
        number: Callable[[Item], Numeric],
        **options: Unpack[StreamOptions],
    ) -> list[Outcome[Item]]: ...

    def check_many(
        self,
        numbers: Iterable[Any] | AsyncIterable[Any],
        *,
        number: Callable[[Any], Numeric] | None = None,
        **options: Unpack[StreamOptions],
    ) -> list[Outcome[Any]]:
        """Check many numbers and return all their outcomes, in order; see ``Client.check_many`` for the arguments.

        Raises:
            RunEnded: The run ended early. ``error.outcomes`` holds the outcomes up to then, in order.
            ConfigurationError: An argument is wrong.
            RuntimeError: The client is not open: use it as a context manager.
        """
        portal, client = self._opened()

        async def check_many() -> list[Outcome[Any]]:
            return await client.check_many(numbers, number=number, **options)

        return portal.call(check_many)

    @overload
    def stream(
        self,
        items: Iterable[NumericItem] | AsyncIterable[NumericItem],
        *,
        number: None = None,
        **options: Unpack[StreamOptions],
    ) -> SyncStream[NumericItem]: ...

    @overload
    def stream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        number: Callable[[Item], Numeric],
        **options: Unpack[StreamOptions],
    ) -> SyncStream[Item]: ...

    def stream(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        number: Callable[[Any], Numeric] | None = None,
        **options: Unpack[StreamOptions],
    ) -> SyncStream[Any]:
        """Check many numbers: ``with client.stream(rows) as outcomes``; see ``Client.stream`` for the arguments.

        Raises:
            ConfigurationError: An argument is wrong; raised on entering.
            RunEnded: By the iteration, after every outcome that was already paid for, such as ``OutOfQuota``.
            RuntimeError: The client is not open: use it as a context manager.
        """
        portal, client = self._opened()
        return SyncStream(
            portal,
            lambda: client.stream(items, number=number, **options),
        )

    def _opened(self) -> tuple[BlockingPortal, Client]:
        if self._portal is None or self._client is None:
            raise RuntimeError("open the client first: with accucheck.SyncClient() as client")
        if self._closed:
            raise RuntimeError("the client is closed: create a new one")
        return self._portal, self._client


def _read(portal: BlockingPortal, reader: EventReader) -> Iterator[Event]:
    with suppress(StopAsyncIteration, RuntimeError):  # RuntimeError: the loop has ended with the client
        while True:
            yield portal.call(reader.__anext__)
    yield from reader.rest()


def check_sync(
    number: str | int,
    *,
    api_id: str | None = None,
    api_secret: str | None = None,
    deadline: timedelta | float | None = None,
    timeout: Timeouts | float | None = None,
    **options: Unpack[ClientOptions],
) -> Check:
    """Check one number and return its answer, without an event loop; see ``Client.check``.

    ``options`` are those of ``Client``. It opens and closes a client each time; for many numbers, use ``SyncClient``.

    Raises:
        RuntimeError: An event loop is running, as in a notebook; use ``await client.check(...)`` there.

    Examples:
        ```python
        print(accucheck.check_sync("987 654 321", deadline=10).whatsapp)
        ```
    """
    _refuse_a_loop("check_sync()", "await client.check(number)")

    async def check() -> Check:
        async with Client(api_id, api_secret, **options) as client:
            return await client.check(number, deadline=deadline, timeout=timeout)

    return asyncio.run(check())


_open: set[SyncClient] = set()
"""Clients to close when the interpreter exits."""
_exit_is_known = False


def _keep(client: SyncClient) -> None:
    global _exit_is_known
    _open.add(client)
    if not _exit_is_known:
        _exit_is_known = True
        # As concurrent.futures does it: at atexit's own time a loop can no longer use its executor.
        getattr(threading, "_register_atexit", atexit.register)(_close_all)


def _close_all() -> None:
    for client in tuple(_open):
        client.close()


def _refuse_a_loop(what: str, instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        f"{what} cannot run inside an event loop (a notebook has one): "
        f"async with accucheck.Client() as client: {instead}"
    )


@contextmanager
def _portal() -> Iterator[BlockingPortal]:
    """Run an event loop in a thread, which does not keep the interpreter from exiting, as anyio's own would."""
    from anyio.from_thread import BlockingPortal

    started: Future[BlockingPortal] = Future()

    async def serve() -> None:
        async with BlockingPortal() as portal:
            started.set_result(portal)
            await portal.sleep_until_stopped()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="accucheck-client", daemon=True)
    thread.start()
    portal = started.result()
    try:
        yield portal
    finally:
        portal.call(portal.stop, True)  # with what is left, such as a stream whose block was never left
        thread.join()
