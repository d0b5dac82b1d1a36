"""The one thread that writes."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


class _Task(NamedTuple):
    work: Callable[[sqlite3.Connection], None]
    on_done: Callable[[], None] | None
    on_error: Callable[[Exception], None]


class Writer:
    """Runs work on the writing connection, one piece after the other, and tells the event loop.

    The thread is a daemon: a run that is left without ``stop`` does not hold the interpreter up.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._turn = threading.Lock()
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; what it has to tell is called in ``loop``."""
        self._thread = threading.Thread(target=self._run, args=(loop,), name="accucheck ledger", daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[[sqlite3.Connection], None],
        *,
        on_done: Callable[[], None] | None = None,
        on_error: Callable[[Exception], None],
    ) -> None:
        """Have ``work`` done in the thread, after all that was submitted before."""
        self._tasks.put(_Task(work, on_done, on_error))

    def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do ``work`` in the calling thread, between two pieces of the writer's own."""
        with self._turn:
            return work(self._connection)

    def stop(self) -> None:
        """Wait until all that was submitted is done, and end the thread."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                with self._turn:
                    task.work(self._connection)
            except Exception as error:  # noqa: BLE001 (it is told, whatever it is: the thread must go on)
                _tell(loop, task.on_error, error)
            else:
                if task.on_done is not None:
                    _tell(loop, task.on_done)


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: there is nobody left to tell
        loop.call_soon_threadsafe(callback, *arguments)
