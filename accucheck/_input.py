"""Reads the caller's items from any kind of iterable, and closes it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

__all__ = ["Input"]

Item = TypeVar("Item")

_LONGEST_READ: Final = 0.01
"""Seconds that one read may hold the event loop, unless a single item takes longer."""
_SLOW: Final = 0.02
_SLOW_ITEMS: Final = 3
"""Once this many items took this many seconds each, the iterator is read in a thread. Not earlier: some iterators are
bound to their thread (a sqlite3 cursor), and of these usually only the first item is slow."""
_CLOSING_SECONDS: Final = 1.0
"""How long to wait for a thread to finish its item; after that, it closes the iterator on its own time."""


class Input(Generic[Item]):
    """The items of one stream. One task reads. Generators are closed in the task or thread that read them."""

    def __init__(self, items: Iterable[Item] | AsyncIterable[Item]) -> None:
        self._async: AsyncIterator[Item] | None = None
        self._plain: Iterator[Item] | None = None
        self._thread: _ReadingThread[Item] | None = None
        self._slow = 0
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            self._plain = iter(items)

    @property
    def left(self) -> list[Item]:
        """Items that the thread has read and nobody has taken."""
        return [] if self._thread is None else self._thread.left

    async def read(self, most: int) -> list[Item]:
        """Return up to ``most`` items; none at the end. Raises what the iterable raises, after the items before it."""
        if self._thread is not None:
            return await self._thread.read(most)
        if self._async is not None:
            try:
                return [await anext(self._async)]
            except StopAsyncIteration:
                return []
        if self._slow >= _SLOW_ITEMS:
            assert self._plain is not None
            self._thread = _ReadingThread(self._plain)
            return await self._thread.read(most)
        return self._read_here(most)

    async def aclose(self) -> None:
        """Close a generator, and with it the file or cursor that it holds open."""
        if self._thread is not None:
            await self._thread.aclose()
        elif isinstance(self._async, AsyncGenerator):
            await self._async.aclose()
        elif isinstance(self._plain, Generator):
            self._plain.close()

    def _read_here(self, most: int) -> list[Item]:
        assert self._plain is not None
        items: list[Item] = []
        clock = time.monotonic
        began = before = clock()
        try:
            for item in self._plain:
                items.append(item)
                now = clock()
                if now - before >= _SLOW:
                    self._slow += 1
                if len(items) >= most or now - began >= _LONGEST_READ:
                    break
                before = now
        except Exception as error:
            if not items:
                raise
            self._plain = _raising(error)
        return items


def _raising(error: Exception) -> Iterator[Any]:
    """Raise ``error`` in place of the next item."""
    yield from ()
    raise error


class _ReadingThread(Generic[Item]):
    """Reads from a blocking iterator. A daemon thread, because a read that never ends cannot be interrupted."""

    def __init__(self, iterator: Iterator[Item]) -> None:
        self.left: list[Item] = []
        self._iterator = iterator
        self._loop = asyncio.get_running_loop()
        self._wanted: SimpleQueue[int] = SimpleQueue()
        self._stopping = False
        self._reading = False
        self._items: asyncio.Queue[list[Item] | BaseException | None] = asyncio.Queue()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name="accucheck input", daemon=True).start()

    async def read(self, most: int) -> list[Item]:
        if not self._reading:
            self._reading = True
            self._wanted.put(most)
        reply = await self._items.get()
        self._reading = False
        if isinstance(reply, BaseException):
            raise reply
        return reply or []

    async def aclose(self) -> None:
        """Wait until the iterator is closed, after the current item, if that does not take too long."""
        self._stopping = True
        self._wanted.put(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                while (reply := await self._items.get()) is not None:
                    if isinstance(reply, list):
                        self.left += reply

    def _run(self) -> None:
        try:
            while (most := self._wanted.get()) and not self._stopping:
                items, error = self._read(most)
                if items or error is None:
                    self._send(items)
                if error is not None:
                    self._send(error)
        finally:
            with suppress(Exception):
                if isinstance(self._iterator, Generator):
                    self._iterator.close()
            self._send(None)

    def _read(self, most: int) -> tuple[list[Item], BaseException | None]:
        items: list[Item] = []
        began = time.monotonic()
        try:
            for item in self._iterator:
                items.append(item)
                if len(items) >= most or self._stopping or time.monotonic() - began >= _LONGEST_READ:
                    break
        except BaseException as error:  # noqa: BLE001 (raised by the reading task)
            return items, error
        return items, None

    def _send(self, reply: list[Item] | BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any longer
            self._loop.call_soon_threadsafe(self._items.put_nowait, reply)
