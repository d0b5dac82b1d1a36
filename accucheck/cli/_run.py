"""One run of a stream under the eyes of a person: progress, signals, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

import anyio

from accucheck import Stream
from accucheck._errors import RunEnded
from accucheck._models import Outcome, Stats
from accucheck.cli._interruption import Interruption
from accucheck.cli._messages import say
from accucheck.cli._progress import Total, reporting

__all__ = ["Ending", "run_stream"]

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended."""

    stats: Stats
    """The counts at its end."""
    error: RunEnded | None = None
    """What ended it early: the account, the budget or the ledger. None if nothing did."""
    left_at_once: bool = False
    """Whether a second signal cut off the calls that were under way."""


async def run_stream(
    opening: AbstractAsyncContextManager[Stream[Item]],
    take: Callable[[Outcome[Item]], None],
    *,
    interruption: Interruption,
    total: Total,
    quiet: bool,
) -> Ending:
    """Hand every outcome of a stream to ``take``, and return how the run ended.

    The first signal stops the stream, which settles the calls under way; the second leaves at once.
    Raises what opening the stream raises: then no call was made.
    """
    loop = asyncio.get_running_loop()
    error: RunEnded | None = None
    with anyio.CancelScope() as scope:
        async with opening as stream:

            def stop() -> None:
                say("stopping: waiting for the calls under way (once more to leave at once)")
                stream.stop()

            with interruption.phase(
                first=lambda: loop.call_soon_threadsafe(stop),
                second=lambda: loop.call_soon_threadsafe(scope.cancel),
            ):
                async with reporting(lambda: stream.stats, total, quiet=quiet):
                    try:
                        async for outcome in stream:
                            take(outcome)
                    except RunEnded as ended:
                        error = ended
    return Ending(stats=stream.stats, error=error, left_at_once=scope.cancelled_caught)
