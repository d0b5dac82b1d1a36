"""What a run tells a program that keeps its own metrics. No number and no secret is in any of it."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["CallEnded", "CallKind", "CircuitChanged", "Event", "OnEvent", "Settled"]

_KEPT: Final = 10_000
"""Events that wait for a slow reader at most; then the oldest are dropped."""

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


class Listeners:
    """Who hears of the events of a client, or of one stream of it. ``tell`` is None while nobody does."""

    def __init__(self, *hooks: OnEvent, parent: Listeners | None = None) -> None:
        self.tell: OnEvent | None = None
        self._hooks = list(hooks)
        self._parent = parent
        self._children: weakref.WeakSet[Listeners] = weakref.WeakSet()
        self._readers: weakref.WeakSet[EventReader] = weakref.WeakSet()
        if parent is not None:
            parent._children.add(self)
        self._refresh()

    def read(self) -> EventReader:
        """Return the events from now on, as an asynchronous iterator."""
        reader = EventReader(self)
        self._readers.add(reader)
        self._refresh()
        return reader

    def close(self) -> None:
        """Let every reader come to its end."""
        for reader in tuple(self._readers):
            reader.end()

    def broadcast(self, event: Event) -> None:
        """Tell of an event that concerns every stream of the client, too."""
        for listeners in (self, *self._children):
            for hook in listeners._hooks:
                hook(event)
        for reader in tuple(self._readers):
            reader.put(event)

    def _refresh(self) -> None:
        heard = self._hooks or self._readers or (self._parent is not None and self._parent.tell is not None)
        self.tell = self._tell if heard else None
        for child in tuple(self._children):
            child._refresh()

    def _tell(self, event: Event) -> None:
        for hook in self._hooks:
            hook(event)
        for reader in tuple(self._readers):
            reader.put(event)
        if self._parent is not None and self._parent.tell is not None:
            self._parent.tell(event)


class EventReader(AsyncIterator[Event]):
    """The events of a client, as they happen. Ends with the client; a slow reader misses the oldest."""

    def __init__(self, listeners: Listeners) -> None:
        self._waiting: deque[Event] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()
        self._ended = False
        # Not only to be forgotten with this reader: then nobody may be left who listens.
        weakref.finalize(self, listeners._refresh).atexit = False

    def put(self, event: Event) -> None:
        """Add an event."""
        self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        """End after the events that wait."""
        self._ended = True
        self._news.set()

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()
