"""Tasks that no one but the engine ends, and waiting that no cancellation cuts short."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["EngineTask", "settled"]

Result = TypeVar("Result")


class EngineTask(asyncio.Task[Result]):
    """A task of the engine: plain asyncio, so that no cancel scope of the caller's reaches it.

    Whoever cancels every task there is (``asyncio.run`` at its end, a test runner, a shutdown handler) would cut off
    calls that are paid for. Such a cancellation calls ``on_cancel`` instead, which asks the engine to settle and
    leave. Time limits inside the task work as ever: those cancel it from a timer, or from within. So do anyio's task
    groups inside it, which cancel it from their other tasks: httpx's own transport connects that way.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Result],
        *,
        name: str,
        on_cancel: Callable[[], object],
        context: contextvars.Context | None = None,
    ) -> None:
        self._on_cancel = on_cancel
        super().__init__(
            coroutine,
            loop=asyncio.get_running_loop(),
            name=f"accucheck {name}",
            # A copy for each task: under an eager task factory two tasks cannot share a context.
            context=contextvars.copy_context() if context is None else context.copy(),
        )

    def cancel(self, msg: Any | None = None) -> bool:
        loop = self.get_loop()
        # A scope of anyio's that reaches this task was opened in it: it inherits none.
        is_scope = isinstance(msg, str) and msg.startswith(
            ("Cancelled by cancel scope", "Cancelled via cancel scope")
        )
        if is_scope or (loop.is_running() and asyncio.current_task(loop) in (None, self)):
            return super().cancel(msg)
        if not self.done():
            self._on_cancel()
        return False

    def end(self) -> None:
        """Cancel the task, whoever asks."""
        super().cancel()


async def settled(task: asyncio.Future[Any]) -> None:
    """Wait until ``task`` is done, whatever happens to the caller; then let a cancellation take its course.

    Neither cancels the task nor raises what it raised.
    """
    cancelled: asyncio.CancelledError | None = None
    # anyio's scopes cancel again and again until they are obeyed: only a shield stops that.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
