"""Tells a person that calls are held back because nearly all of them fail, and when they go again."""

from __future__ import annotations

from accucheck._events import CallEnded, CircuitChanged, Event
from accucheck.cli._messages import say

__all__ = ["OutageTeller"]

WORDS = {
    "BROKEN": "no connection, or no whole reply",
    "MALFORMED": "replies that are not AccuAuth's",
}
"""What the words of a call that ended mean to a person; the vendor's own words are shown as they are."""


class OutageTeller:
    """A hook for the events of a run."""

    def __init__(self) -> None:
        self._last_reply = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self._last_reply = event.reply
        elif isinstance(event, CircuitChanged):
            if event.opened:
                seen = WORDS.get(self._last_reply, self._last_reply)
                say(
                    f"nearly all calls fail ({seen}): one is tried now and then until they go again",
                    hint="check --base-url, network and proxy; Ctrl-C stops, and what is answered is kept",
                )
            else:
                say("calls go again")
