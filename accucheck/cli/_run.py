"""One run of a stream: event loop, progress, signals, outages, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import anyio

from accucheck._errors import RunEnded
from accucheck._events import CallEnded, CircuitChanged, Event
from accucheck._models import Outcome, Stats
from accucheck._stream import Stream
from accucheck.cli._console import say
from accucheck.cli._interruption import Interruption
from accucheck.cli._progress import Total, reporting
from accucheck.cli._render import duration

__all__ = ["GRACE", "Ending", "OutageWatch", "run_stream", "run_to_end"]

Value = TypeVar("Value")


def run_to_end(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """Run ``coroutine`` in a new event loop and return its value."""
    try:
        import uvloop
    except ImportError:
        loop_factory = None
    else:
        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(coroutine)


WORDS = {
    "BROKEN": "no connection, or no whole reply",
    "MALFORMED": "replies that are not AccuAuth's",
}
"""What the words of a call that ended mean to a person; the vendor's own words are shown as they are."""


class OutageWatch:
    """A hook for the events of a run.

    Without an end to it, a wrong --base-url would be tried for days: each number is given up after a few probes,
    and there is one probe every few seconds.
    """

    def __init__(self, deadline: timedelta) -> None:
        """``deadline`` is how long an outage may last; 0 is for ever."""
        self.on_deadline: Callable[[], object] = lambda: None
        """Called once, when no call has gone through for so long."""
        self.lasted = False
        """Whether the deadline was reached."""
        self._deadline = deadline.total_seconds()
        self._timer: asyncio.TimerHandle | None = None
        self._last_reply = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self._last_reply = event.reply
        elif isinstance(event, CircuitChanged):
            if event.opened:
                self._begins()
            else:
                self._ends()

    def _begins(self) -> None:
        seen = WORDS.get(self._last_reply, self._last_reply)
        at_most = f", for {duration(self._deadline)} at most" if self._deadline else ""
        say(
            f"nearly all calls fail ({seen}): one is tried now and then until they go again{at_most}",
            hint="check --base-url, network and proxy; Ctrl-C stops, and what is answered is kept",
        )
        if self._deadline:
            self._timer = asyncio.get_running_loop().call_later(self._deadline, self._too_long)

    def _ends(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        say("calls go again")

    def _too_long(self) -> None:
        self.lasted = True
        self.on_deadline()
        say(f"no call has gone through for {duration(self._deadline)}: the run ends here")


Item = TypeVar("Item")

GRACE = 5.0
"""Seconds that calls under way get to settle after the first signal, unless the user says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run ended."""

    stats: Stats
    """The counts at its end."""
    error: RunEnded | None = None
    """What ended it early: the account, the budget or the ledger. None if nothing did."""
    outage: bool = False
    """Whether it was ended because no call had gone through for too long."""
    left_at_once: bool = False
    """Whether a second signal cut off the calls that were under way."""


async def run_stream(
    stream: Stream[Item],
    take: Callable[[Outcome[Item]], object],
    *,
    interruption: Interruption,
    outage: OutageWatch,
    total: Total,
    grace: float = GRACE,
    quiet: bool = False,
) -> Ending:
    """Hand every outcome of ``stream`` to ``take``, and return how the run ended.

    The first signal stops the stream and gives the calls under way ``grace`` seconds to settle; the second
    leaves at once. An ``outage`` that lasts too long is like the first. Make the stream with ``grace=0``: it would
    add its own.

    Raises what entering the stream raises (no call was made then), what reading its input raises, and
    OSError if ``take`` did (the reader of a pipe went away, the disk is full): then the calls under way were
    settled first.
    """
    loop = asyncio.get_running_loop()
    entered = second = False
    error: RunEnded | None = None
    not_taken: OSError | None = None

    def deliver(outcome: Outcome[Item]) -> None:
        nonlocal not_taken
        if not_taken is not None:
            return
        try:
            take(outcome)
        except OSError as error_of_take:
            # Calls under way are paid for: where there is a ledger, their answers belong in it.
            not_taken = error_of_take
            settle()

    def settle() -> None:
        stream.stop()
        loop.call_later(grace, scope.cancel)

    def stop() -> None:
        settle()
        say("stopping: the calls under way are settled first; once more to leave at once")

    def leave() -> None:
        nonlocal second
        second = True
        scope.cancel()

    outage.on_deadline = settle
    with (
        anyio.CancelScope() as scope,
        interruption.phase(
            first=lambda: loop.call_soon_threadsafe(stop), second=lambda: loop.call_soon_threadsafe(leave)
        ),
    ):
        try:
            async with stream:
                entered = True
                async with reporting(lambda: stream.stats, total, quiet=quiet):
                    async for outcome in stream:
                        deliver(outcome)
        except RunEnded as ended:
            if not entered:
                raise
            error = ended
    if scope.cancelled_caught:
        # What was settled before the calls were cut off is still in the channel, and it is paid for.
        try:
            async for outcome in stream:
                deliver(outcome)
        except RunEnded as ended:
            error = ended
    if not_taken is not None:
        raise not_taken
    return Ending(stats=stream.stats, error=error, outage=outage.lasted, left_at_once=second)
