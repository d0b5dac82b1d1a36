"""Everything that accucheck raises, or hands out in a ``Failed`` outcome.

AccucheckError
├── ConfigurationError          an argument or a credential is missing or wrong (also a ValueError)
├── InvalidNumber               the text cannot be a Peru phone number; no call was made
├── CheckError                  one number could not be settled; the run goes on
│   ├── InvalidArgument         the vendor refuses the number
│   ├── InternalError           the vendor failed (INTERNAL_ERROR or any 5xx), every try
│   ├── RateLimited             the vendor refused for frequency until the deadline
│   ├── PendingTimeout          the vendor was still checking at the deadline
│   ├── ProtocolError           a reply that the vendor's page does not allow
│   └── TransportError          no whole reply came back, every try
└── RunEnded                    the run cannot go on; tells how far it came
    ├── Unauthorized            the vendor does not know the credentials
    ├── KeyExpired              the vendor says that the API id has expired
    ├── NoPermission            the account may not use this API
    ├── OutOfQuota              the account's calls are used up
    ├── NotFound                the vendor does not know the endpoint
    ├── BudgetExhausted         our own ``max_calls`` is used up
    └── LedgerError             an answer could not be stored, or the ledger could not be opened

Errors carry plain data, can be pickled, and never hold a credential. ``status`` is the word that
outputs show: the vendor's own where there is one ("4. Error Codes" of its page), ours in the same
style otherwise.
"""

from __future__ import annotations

from typing import ClassVar, Literal

__all__ = [
    "AccucheckError",
    "BudgetExhausted",
    "CheckError",
    "ConfigurationError",
    "InternalError",
    "InvalidArgument",
    "InvalidNumber",
    "KeyExpired",
    "LedgerError",
    "NoPermission",
    "NotFound",
    "OutOfQuota",
    "PendingTimeout",
    "ProtocolError",
    "RateLimited",
    "RunEnded",
    "TransportError",
    "Unauthorized",
]

NumberProblem = Literal[
    "empty",
    "too_short",
    "too_long",
    "letters",
    "other_country",
    "unknown_area",
    "not_mobile",
    "not_peruvian",
    "several",
]


class AccucheckError(Exception):
    """The root: ``except AccucheckError`` catches all that this package raises on purpose."""

    status: ClassVar[str] = "ERROR"

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def reason(self) -> str:
        """One sentence for a person: what was wrong."""
        return str(self)


class ConfigurationError(AccucheckError, ValueError):
    """An argument or a credential is missing or wrong; the message says what to do."""

    status = "CONFIGURATION_ERROR"


class InvalidNumber(AccucheckError):
    """The text cannot be a Peru phone number, so no call was spent on it."""

    status = "INVALID_NUMBER"

    def __init__(self, message: str = "", *, problem: NumberProblem = "not_peruvian") -> None:
        super().__init__(message)
        self.problem: NumberProblem = problem
        """Why, as one word: fit to count by."""


class CheckError(AccucheckError):
    """One number could not be settled. The run goes on."""

    status = "CHECK_ERROR"

    def __init__(self, message: str = "", *, request_id: str = "", http_status: int | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id
        """The vendor's id of the last request, or ``""``."""
        self.http_status = http_status
        """The HTTP code of the last reply, or None if none came."""


class InvalidArgument(CheckError):
    """The vendor refuses the number (INVALID_ARGUMENT)."""

    status = "INVALID_ARGUMENT"


class InternalError(CheckError):
    """The vendor failed (INTERNAL_ERROR, or any 5xx) at every try."""

    status = "INTERNAL_ERROR"


class RateLimited(CheckError):
    """The vendor refused for frequency (RATE_LIMIT_EXCEEDED, HTTP 429) until the deadline."""

    status = "RATE_LIMIT_EXCEEDED"


class PendingTimeout(CheckError):
    """The vendor was still checking (PENDING) at the deadline. Ask again later."""

    status = "PENDING_TIMEOUT"


class ProtocolError(CheckError):
    """A reply that the vendor's page does not allow; it may have been charged, so it is not asked again."""

    status = "PROTOCOL_ERROR"


class TransportError(CheckError):
    """No whole reply came back (connection, timeout, truncation) at every try."""

    status = "TRANSPORT_ERROR"


class RunEnded(AccucheckError):
    """The run cannot go on. Raised after every outcome that was already paid for."""

    status = "RUN_ENDED"

    def __init__(self, message: str = "", *, request_id: str = "", http_status: int | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.http_status = http_status
        self.done = 0
        """Items that have an outcome."""
        self.not_done = 0
        """Items read from the input that have none."""


class Unauthorized(RunEnded):
    """The vendor does not accept the credentials (UNAUTHORIZED)."""

    status = "UNAUTHORIZED"


class KeyExpired(RunEnded):
    """The API id has expired (KEY_EXPIRED)."""

    status = "KEY_EXPIRED"


class NoPermission(RunEnded):
    """The account may not use this API (NO_PERMISSION)."""

    status = "NO_PERMISSION"


class OutOfQuota(RunEnded):
    """The account's calls are used up (OUT_OF_QUOTA)."""

    status = "OUT_OF_QUOTA"


class NotFound(RunEnded):
    """The vendor does not know the endpoint (NOT_FOUND)."""

    status = "NOT_FOUND"


class BudgetExhausted(RunEnded):
    """``max_calls`` calls have been made."""

    status = "BUDGET_EXHAUSTED"


class LedgerError(RunEnded):
    """The ledger could not be opened, or an answer could not be stored in it."""

    status = "LEDGER_ERROR"


CHECK_ERRORS: dict[str, type[CheckError]] = {
    kind.status: kind
    for kind in (InvalidArgument, InternalError, RateLimited, PendingTimeout, ProtocolError, TransportError)
}
"""The errors of one number, by the word that the ledger and the outputs keep."""
