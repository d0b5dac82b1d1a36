"""Rows of a stream that is still being written, read beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from accucheck.files import Row

__all__ = ["LiveRows"]

_AHEAD = 1_000
"""Rows read and not yet taken, at most: a writer that is quicker than the account waits."""


class LiveRows:
    """Reads ``rows`` in a thread of its own, since the next one may be long in coming.

    The thread is a daemon: when a run ends before its input does, it is left where it waits.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._ready: deque[Row] = deque()
        self._room = threading.Semaphore(_AHEAD)
        self._more = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._taken = 0
        self._unanswered: dict[int, Row] = {}

    def answered(self, place: int) -> None:
        """Note that the row at ``place``, from 0, has its outcome."""
        self._unanswered.pop(place, None)

    def rest(self) -> Iterator[Row]:
        """Yield every row that has no outcome, to the end of the input; waits for that."""
        yield from self._unanswered.values()
        while True:
            self._more.clear()
            while self._ready:
                yield self._pop()
            if self._ended and not self._ready:
                break
            self._more.wait()
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[Row]:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=self._read, args=(loop, news), name="accucheck input", daemon=True).start()
        while True:
            news.clear()
            while self._ready:
                row = self._unanswered[self._taken] = self._pop()
                self._taken += 1
                yield row
            if self._ended and not self._ready:
                break
            await news.wait()
        if self._error is not None:
            raise self._error

    def _pop(self) -> Row:
        self._room.release()
        return self._ready.popleft()

    def _read(self, loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
        def tell() -> None:
            self._more.set()
            with suppress(RuntimeError):  # the run is over, and its event loop closed
                loop.call_soon_threadsafe(news.set)

        try:
            for row in self._rows:
                self._room.acquire()
                self._ready.append(row)
                if len(self._ready) == 1:
                    tell()
        except BaseException as error:  # noqa: BLE001 (it is raised again, where the rows are taken)
            self._error = error
        self._ended = True
        tell()
