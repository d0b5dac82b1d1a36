"""Replies that a test writes for single numbers, in place of what seed and settings would give."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from accucheck.sandbox._truth import COUNTRY_CODE, is_national

Fault: TypeAlias = Literal["reset", "cut", "stall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """One reply, written out. What is left out is as the vendor would send it."""

    status: str = "OK"
    """Any text: ``OK``, a status of the vendor's page, or one that nobody knows."""
    result: Mapping[str, Any] | None = None
    """For OK: fields of the result that differ from the number's own; ``{"whatsapp": "yes"}``."""
    reason: str | None = None
    """For the others; None is the vendor's sentence for the status."""
    http_status: int | None = None
    """None is the code of the vendor's page; 400 for a status that is not on it."""
    body: bytes | None = None
    """The whole body, word for word, in place of all the above but ``http_status`` (then 200 by default)."""
    content_type: str = "application/json;charset=UTF-8"
    retry_after: int | None = None
    """Seconds, for the ``Retry-After`` header."""
    delay: float = 0.0
    """Seconds until it is sent."""
    fault: Fault | None = None
    """What happens to the reply on its way: ``reset``, ``cut``, or ``stall`` (none comes)."""


Script: TypeAlias = str | Mapping[str, Any] | Scripted
"""One reply, for short: ``"yes"``, ``"no"``, ``"checking"``, ``"unavailable"``; a status such as
``"PENDING"``; a fault: ``"reset"``, ``"cut"``, ``"stall"``, ``"bad_gateway"``; a mapping with fields of the
result; or :class:`Scripted`."""

_VERDICTS = frozenset({"yes", "no", "checking", "unavailable"})
_BAD_GATEWAY = Scripted(
    http_status=502,
    body=b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n",
    content_type="text/html",
)


def written_out(reply: Script) -> Scripted:
    """Return the reply that a short form stands for. Raises ``TypeError`` for anything else."""
    if isinstance(reply, Scripted):
        return reply
    if isinstance(reply, Mapping):
        return Scripted(result=dict(reply))
    if not isinstance(reply, str):
        raise TypeError(f"{reply!r} is not a reply: use a word, a mapping or Scripted(...)")
    if reply in _VERDICTS:
        return Scripted(result={"whatsapp": reply})
    if reply == "bad_gateway":
        return _BAD_GATEWAY
    if reply in ("reset", "cut", "stall"):
        return Scripted(fault=reply)  # type: ignore[arg-type]  # narrowed by the line above
    return Scripted(status=reply)


class Scripts:
    """What is written for which number. ``strict`` refuses numbers that nothing is written for."""

    def __init__(self) -> None:
        self.strict = False
        self.unexpected: list[str] = []
        """Numbers that were asked although nothing was written for them, while strict; as asked."""
        self._answers: dict[str, Scripted] = {}
        self._next: dict[str, deque[Scripted]] = {}

    def answers(self, replies: Mapping[str | int, Script]) -> None:
        """Give each number one reply for all its calls, in addition to what is written already."""
        self._answers.update({_national(number): written_out(reply) for number, reply in replies.items()})

    def script(self, number: str | int, replies: Iterable[Script]) -> None:
        """Give a number's next calls one reply each; from then on it is answered as without a script."""
        if isinstance(replies, str):
            replies = [replies]
        self._next.setdefault(_national(number), deque()).extend(map(written_out, replies))

    def clear(self) -> None:
        """Forget all that is written and all that was unexpected."""
        self._answers.clear()
        self._next.clear()
        self.unexpected.clear()

    def take(self, national: str) -> Scripted | None:
        """Return the reply to the next call for a number, None if it has none of its own."""
        if waiting := self._next.get(national):
            return waiting.popleft()
        reply = self._answers.get(national)
        if reply is None and self.strict and national not in self._next:
            self.unexpected.append(national)
            return Scripted(status="INVALID_ARGUMENT", reason="the test did not expect this number")
        return reply

    def left(self) -> Mapping[str, Sequence[Scripted]]:
        """Return the replies that no call has asked for yet, by number."""
        return {number: tuple(replies) for number, replies in self._next.items() if replies}


def _national(number: str | int) -> str:
    national = str(number).removeprefix(COUNTRY_CODE)
    if not is_national(national):
        raise ValueError(f"{number!r} is not a Peruvian national number, such as 987654321 or 14567890")
    return national
