"""Events for programs that keep their own metrics. Apart from ``key``, they contain no numbers and no secrets."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import msgspec

from accucheck._help import with_fields
from accucheck._models import Check, Endpoint, Settlement, Stats

__all__ = [
    "CallEnded",
    "CallKind",
    "CircuitChanged",
    "Event",
    "OnEvent",
    "RunFinished",
    "RunStarted",
    "Settled",
]

_KEPT: Final = 10_000
"""The most events that wait for a slow reader; after that, the oldest are dropped."""

CallKind: TypeAlias = Literal["first", "retry", "poll", "refused"]
"""Why a call is made; ``refused`` is a rate-limited call, made again."""


@with_fields
class CallEnded(msgspec.Struct, frozen=True, gc=False):
    """One call has ended.

    Examples:
        ```python
        def on_event(event: accucheck.Event) -> None:
            if isinstance(event, accucheck.CallEnded):
                kind: accucheck.CallKind = event.kind
                print(event.key, kind, event.reply, event.seconds)


        hook: accucheck.OnEvent = on_event
        key: accucheck.Key = str.strip
        async with accucheck.Client(on_event=hook) as client:
            await client.check_many(["987654321"], key=key)
        ```
    """

    reply: str
    """``OK``, or another name in the status table: the vendor's word, or ours (``ANSWER_LOST``, ``MALFORMED``)."""
    kind: CallKind
    """Why it was made."""
    seconds: float
    """From the permit to the reply."""
    reason: str = ""
    """The vendor's reason, or what went wrong if no complete reply came back. Numbers are masked."""
    http_status: int | None = None
    """The HTTP code of the reply; None if none came."""
    call: int = 1
    """The position of this call among the number's calls, from 1."""
    index: int | None = None
    """The item's place in the input of its stream, from 0; None for a single check. Rows of one number share the
    first one's call."""
    key: Any = None
    """Your own value: what ``stream(key=...)`` returned for the item, or what you passed as ``check(key=...)``."""
    run_id: str = ""
    """The stream's ``run_id``, or ``""`` for a single check."""
    endpoint: Endpoint = "advanced"
    """The endpoint that was called: of a cascade, "basic" first."""


@with_fields
class CircuitChanged(msgspec.Struct, frozen=True, gc=False):
    """The circuit opened (calls are held back, one probe at a time) or closed.

    Examples:
        ```python
        def on_event(event: accucheck.Event) -> None:
            if isinstance(event, accucheck.CircuitChanged):
                print("AccuAuth cannot be reached" if event.opened else "AccuAuth is back")


        client = accucheck.Client(on_event=on_event)
        ```
    """

    opened: bool
    """Whether it opened, rather than closed."""


@with_fields
class Settled(msgspec.Struct, frozen=True, gc=False):
    """One number is settled: it has an answer or an error, which is stored.

    Examples:
        ```python
        from collections import Counter

        verdicts: Counter[bool | None] = Counter()


        def on_event(event: accucheck.Event) -> None:
            if isinstance(event, accucheck.Settled):
                verdicts[event.whatsapp] += 1


        async with accucheck.Client(on_event=on_event) as client:
            await client.check_many(["987654321", "912345678"])
        print(verdicts)
        ```
    """

    status: str
    """``OK``, or the status of the error."""
    calls: int
    """Calls made for the number."""
    whatsapp: bool | None = None
    """The verdict; None without an answer."""
    index: int | None = None
    """See ``CallEnded.index``."""
    key: Any = None
    """See ``CallEnded.key``."""
    run_id: str = ""
    """See ``CallEnded.run_id``."""


def settled_event(
    settlement: Settlement, *, index: int | None = None, key: object = None, run_id: str = ""
) -> Settled:
    """Return the event of a number that is settled."""
    result, calls = settlement.result, settlement.calls
    if isinstance(result, Check):
        return Settled("OK", calls, result.whatsapp, index, key, run_id)
    return Settled(result.status, calls, None, index, key, run_id)


@with_fields
class RunStarted(msgspec.Struct, frozen=True, gc=False):
    """A stream was entered.

    Examples:
        ```python
        def on_event(event: accucheck.Event) -> None:
            if isinstance(event, accucheck.RunStarted):
                print("run", event.run_id, "of job", event.job)


        async with accucheck.Client(on_event=on_event) as client:
            await client.check_many(["987654321"], ledger="answers.db", job="november")
        ```
    """

    run_id: str
    """The stream's ``run_id``, which all its events carry."""
    job: str = ""
    """The stream's ``job``."""


@with_fields
class RunFinished(msgspec.Struct, frozen=True, gc=False):
    """A stream has ended: its last answer is stored.

    Examples:
        ```python
        def on_event(event: accucheck.Event) -> None:
            if isinstance(event, accucheck.RunFinished):
                print(event.status, event.stats.yes, event.stats.calls)


        async with accucheck.Client(on_event=on_event) as client:
            await client.check_many(["987654321"])
        ```
    """

    run_id: str
    """The stream's ``run_id``."""
    stats: Stats
    """The totals of the stream."""
    status: str = "OK"
    """``OK``, or the status of the error that ended it."""


Event: TypeAlias = CallEnded | CircuitChanged | RunFinished | RunStarted | Settled
OnEvent: TypeAlias = Callable[[Event], None]
Key: TypeAlias = Callable[[Any], object]
"""Returns the key that an item's events carry."""


def guarded(on_event: OnEvent) -> OnEvent:
    """Return a hook that cannot harm the run: its first exception is logged, all are ignored."""
    return _harmless(on_event, "on_event raised an exception; the run continues")


def guarded_key(key: Key) -> Key:
    """Return a key function that cannot harm the run: if it raises, the key is None; the first exception is logged."""
    return _harmless(key, "key raised an exception; the run continues without keys")


def _harmless(function: Callable[[Any], Any], complaint: str) -> Callable[[Any], Any]:
    complained = False

    def call(value: Any) -> Any:
        nonlocal complained
        try:
            return function(value)
        except Exception:
            if not complained:
                logging.getLogger("accucheck").exception(complaint)
                complained = True
            return None

    return call


class Listeners:
    """Who listens to the events of a client or of one of its streams. ``tell`` is None while nobody does."""

    def __init__(self, *hooks: OnEvent, parent: Listeners | None = None) -> None:
        self.tell: OnEvent | None = None
        self._hooks = list(hooks)
        self._parent = parent
        self._children: weakref.WeakSet[Listeners] = weakref.WeakSet()
        self._readers: weakref.WeakSet[EventReader] = weakref.WeakSet()
        if parent is not None:
            parent._children.add(self)
        self._refresh()

    def add(self, hook: OnEvent) -> None:
        """Call ``hook``, which must not raise, with every event from now on."""
        self._hooks.append(hook)
        self._refresh()

    def remove(self, hook: OnEvent) -> None:
        """Stop calling a hook that was added."""
        self._hooks.remove(hook)
        self._refresh()

    def read(self) -> EventReader:
        """Return the events from now on, as an asynchronous iterator."""
        reader = EventReader(self)
        self._readers.add(reader)
        self._refresh()
        return reader

    def close(self) -> None:
        """End every reader."""
        for reader in tuple(self._readers):
            reader.end()

    def broadcast(self, event: Event) -> None:
        """Send an event that also concerns every stream of the client."""
        for listeners in (self, *self._children):
            for hook in listeners._hooks:
                hook(event)
        for reader in tuple(self._readers):
            reader.put(event)

    def _refresh(self) -> None:
        """Collect the listeners once, not with every event, which took most of the time."""
        targets = [*self._hooks, *(_weak_put(reader) for reader in tuple(self._readers))]
        if self._parent is not None:
            targets += self._parent._targets
        self._targets: list[OnEvent] = targets
        self.tell = None if not targets else targets[0] if len(targets) == 1 else partial(_tell_all, targets)
        for child in tuple(self._children):
            child._refresh()


def _tell_all(targets: list[OnEvent], event: Event) -> None:
    for target in targets:
        target(event)


def _weak_put(reader: EventReader) -> OnEvent:
    """Return a hook that passes events to a reader without keeping the reader alive."""
    weak = weakref.ref(reader)

    def put(event: Event) -> None:
        alive = weak()
        if alive is not None:
            alive.put(event)

    return put


class EventReader(AsyncIterator[Event]):
    """The events of a client as they happen. Ends with the client; a slow reader misses the oldest events."""

    def __init__(self, listeners: Listeners) -> None:
        self._waiting: deque[Event] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()
        self._ended = False
        # When this reader is gone, nobody may be listening any more.
        weakref.finalize(self, listeners._refresh).atexit = False

    def put(self, event: Event) -> None:
        """Add an event."""
        self._waiting.append(event)
        self._news.set()

    def end(self) -> None:
        """End after the waiting events."""
        self._ended = True
        self._news.set()

    def rest(self) -> Iterator[Event]:
        """Take the waiting events, once the loop has ended."""
        while self._waiting:
            yield self._waiting.popleft()

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()
