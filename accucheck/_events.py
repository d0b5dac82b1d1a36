"""What a run tells a program that keeps its own metrics. No number and no secret is in any of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

__all__ = ["CallEnded", "CircuitChanged", "Event", "OnEvent", "Settled"]

CallKind: TypeAlias = Literal["first", "retry", "poll", "refused"]
"""Why a call is made; ``refused`` is one that was refused for frequency, made again."""


class CallEnded(msgspec.Struct, frozen=True):
    """One call has ended."""

    reply: str
    """``OK``, or another name in the status table: the vendor's word, or ours (``ANSWER_LOST``, ``MALFORMED``)."""
    kind: CallKind
    seconds: float
    """From the permit to the reply."""
    detail: str = ""
    """Where no whole reply came back: what went wrong, as one clause."""


class CircuitChanged(msgspec.Struct, frozen=True):
    """The circuit opened (calls are held back, one probe at a time) or closed."""

    opened: bool


class Settled(msgspec.Struct, frozen=True):
    """One number is settled, and stored."""

    status: str
    """``OK``, or the status of the error."""
    calls: int


Event: TypeAlias = CallEnded | CircuitChanged | Settled
OnEvent: TypeAlias = Callable[[Event], None]


def guarded(on_event: OnEvent) -> OnEvent:
    """Return a hook that cannot harm the run: what it raises is logged, once."""
    complained = False

    def tell(event: Event) -> None:
        nonlocal complained
        try:
            on_event(event)
        except Exception:
            if not complained:
                logging.getLogger("accucheck").exception("on_event failed; the run goes on")
                complained = True

    return tell
