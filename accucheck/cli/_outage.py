"""Tells a person that calls are held back because nearly all of them fail, and ends a run that waits too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from accucheck._events import CallEnded, CircuitChanged, Event
from accucheck.cli._messages import say
from accucheck.cli._render import duration

__all__ = ["OutageWatch"]

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
