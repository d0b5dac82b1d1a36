"""What all calls of a client to one host share: the circuit, the retry budget, and how the body is encoded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from accucheck._circuit import Circuit, RetryBudget
from accucheck._errors import Undetermined
from accucheck._events import CircuitChanged, Listeners
from accucheck._polls import PollTimes
from accucheck._statuses import UNSUPPORTED_BODY
from accucheck._wire import BodyStyle, Reply, StatusReply

__all__ = ["BodyChoice", "Host"]

logger = logging.getLogger("accucheck")


class Host:
    """What all calls of a client to one host share: the circuit, the retry budget, and how long answers take."""

    def __init__(self, name: str, *, retries: RetryBudget, events: Listeners) -> None:
        self.name = name
        self.circuit = Circuit()
        self.retries = retries
        self.polls = PollTimes()
        self.body = BodyChoice("form")
        """How the number is encoded; with ``Client(body="auto")``, it finds out."""
        self.use_body: Callable[[BodyStyle], None] = lambda style: None
        """Called with the encoding of the next call when it changes."""
        self.first_call = asyncio.Lock()
        """Held by the call that finds out the body encoding."""
        self.cause = ""
        """Why the last failed call failed, in a few words."""
        self.was_open = False
        self.listeners: set[Callable[[], None]] = set()
        """Called when the circuit opens or closes, and when a probe may be sent."""
        self._events = events
        self._timer: asyncio.TimerHandle | None = None

    def recall_body(self, remembered: str | None) -> None:
        """Use what an earlier run found out about the body, unless this client has started to find out."""
        if remembered is not None and not self.body.settled and not self.first_call.locked():
            self.take_up_body(remembered)

    def take_up_body(self, remembered: str | None) -> None:
        """Use what was found out about the body elsewhere."""
        self.body = BodyChoice(remembered)
        self.use_body(self.body.style)

    def follow(self, now: float) -> None:
        """Announce changes of the circuit. Called after every call while it is open or just was."""
        circuit = self.circuit
        if circuit.opened != self.was_open:
            self.was_open = circuit.opened
            if circuit.opened:
                logger.warning(
                    "%s: nearly every call fails (%s); pausing, with a test call now and then",
                    self.name,
                    self.cause,
                )
            else:
                logger.warning("%s: calls succeed again; resuming", self.name)
            self._events.broadcast(CircuitChanged(circuit.opened))
            self._tell()
        self.close()
        if circuit.opened:
            # A millisecond late, because uvloop's timers fire up to one early.
            delay = max(circuit.retry_at - now, 0.0) + 0.001
            self._timer = asyncio.get_running_loop().call_later(delay, self._tell)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()


class BodyChoice:
    """Finds out how the vendor wants the number encoded (``body="auto"``), which its page does not say.

    A form is tried first. If the first call is refused in the way that a wrong encoding would be, its number is asked
    once more, as JSON. The account remembers what worked and what did not, so it makes at most two extra calls ever,
    and none after anything has succeeded.
    """

    def __init__(self, remembered: str | None = None) -> None:
        """``remembered`` is the ``memory`` of an earlier run."""
        self.style: BodyStyle = "json" if remembered == "json" else "form"
        """The encoding of the next call."""
        self.known = remembered in ("form", "json")
        """Whether a call has succeeded with ``style``, so nothing more can be learned."""
        self.settled = self.known
        """Whether no other encoding will be tried."""
        self.memory: str | None = None
        """What to remember for later runs of the account; None if there is nothing new."""
        tried = remembered or ""
        self._tried = int(tried) if tried.isdecimal() else 0

    def heard(self, reply: Reply) -> bool:
        """Learn from a reply; return whether to ask the same number again at once, with the new ``style``."""
        row = reply.row
        if self.known or not row.vendor_up or row.fate in ("slow_down", "end"):
            return False  # a failure, a rate limit or the credentials say nothing about the body
        if row.fate in ("answer", "poll"):
            self.known = self.settled = True
            self.memory = self.style
            return False
        if self.settled or row.error is Undetermined:
            self.settled = True
            return False
        if self.style == "json":
            self.style, self.settled = "form", True
            return False
        if self._tried < _MOST_BODY_TRIALS and _is_refusal_of_body(reply):
            self._tried += 1
            self.style, self.memory = "json", str(self._tried)
            return True
        self.settled = True
        return False


_MOST_BODY_TRIALS: Final = 2


def _is_refusal_of_body(reply: Reply) -> bool:
    if isinstance(reply, StatusReply):
        return reply.status == "INVALID_ARGUMENT" and "not found" in reply.reason.lower()
    return reply.row is UNSUPPORTED_BODY
