"""Everything that accucheck raises or returns in a ``Failed`` outcome.

AccucheckError
├── ConfigurationError          an argument or a credential is missing or wrong (also a ValueError)
├── CheckError                  one number has no answer; the run continues
│   ├── InvalidNumber           the text cannot be a Peru phone number; no call was made
│   ├── InvalidArgument         AccuAuth refuses the number
│   ├── Undetermined            AccuAuth replied, but could not say yes or no
│   ├── InternalError           AccuAuth failed (INTERNAL_ERROR or any 5xx) on every attempt
│   ├── RateLimited             the account's rate limit allowed no call before the deadline
│   ├── PendingTimeout          AccuAuth was still checking at the deadline
│   ├── StillPending            AccuAuth is still checking; collect the answer later
│   ├── RefusedAlike            one of the refusals that ended a run; nothing is known about it
│   ├── ProtocolError           a reply that AccuAuth's API does not define
│   ├── TransportError          no complete reply on any attempt
│   └── VendorUnavailable       AccuAuth is down, so the number was not checked
└── RunEnded                    the run cannot continue; says how far it got
    ├── Unauthorized            AccuAuth does not accept the credentials
    ├── KeyExpired              the API id has expired
    ├── NoPermission            the account is not allowed to use this API
    ├── OutOfQuota              the account is out of calls
    ├── NotFound                AccuAuth does not know the endpoint
    ├── UniformRefusals         every number is refused for the same reason
    ├── Outage                  no call has succeeded for too long
    ├── BudgetExhausted         ``max_calls`` or ``max_cost`` is used up
    └── LedgerError             an answer could not be stored, or the ledger could not be opened

Errors carry plain data. They can be pickled and copied, two with the same data are equal, ``to_dict`` makes them
ready for JSON, and none ever holds a credential. ``status`` is the word that outputs show: the vendor's own where
there is one ("4. Error Codes" of its page), ours in the same style otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar, Literal

from accucheck._help import with_fields

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
    "Outage",
    "PendingTimeout",
    "ProtocolError",
    "RateLimited",
    "RefusedAlike",
    "RunEnded",
    "StillPending",
    "TransportError",
    "Unauthorized",
    "Undetermined",
    "UniformRefusals",
    "VendorUnavailable",
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


def mask(number: str | int) -> str:
    """Return a number masked for logs: ``9876•••21`` for 987654321.

    Only digits are ever shown, at least three stay hidden, and the country code is left out.
    """
    digits = "".join(filter(str.isdecimal, str(number)))
    if len(digits) > 9:
        digits = digits.removeprefix("00").removeprefix("51")
    if len(digits) >= 9:
        return f"{digits[:4]}•••{digits[-2:]}"
    if len(digits) >= 7:
        return f"{digits[:2]}•••{digits[-2:]}"
    return "•••"


class AccucheckError(Exception):
    """The base class: ``except AccucheckError`` catches everything that this package raises on purpose.

    Examples:
        ```python
        async def whatsapp(client: accucheck.Client, number: str) -> bool | None:
            try:
                return (await client.check(number, deadline=30)).whatsapp
            except accucheck.InvalidNumber as error:
                print("not a Peru number:", error.problem)
            except (accucheck.PendingTimeout, accucheck.StillPending):
                print("AccuAuth has no answer yet: ask later")
            except accucheck.RateLimited as error:
                print("too many calls: retry after", error.retry_after)
            except (accucheck.VendorUnavailable, accucheck.TransportError) as error:
                print("AccuAuth cannot be reached:", error.reason)
            except (accucheck.Undetermined, accucheck.ProtocolError, accucheck.InternalError) as error:
                print("no usable answer:", error.request_id)
            except (accucheck.InvalidArgument, accucheck.RefusedAlike) as error:
                print("AccuAuth refuses the number:", error.reason)
            except (accucheck.Unauthorized, accucheck.KeyExpired, accucheck.NoPermission) as error:
                print("check the credentials:", error)
            except (accucheck.OutOfQuota, accucheck.BudgetExhausted):
                print("top up the account, or raise the cap")
            except (accucheck.NotFound, accucheck.Outage, accucheck.UniformRefusals) as error:
                print("no number can be checked:", error)
            except (accucheck.LedgerError, accucheck.ConfigurationError) as error:
                print("check the setup:", error)
            except accucheck.AccucheckError as error:  # all of the above
                print(error.to_dict())
            return None


        async with accucheck.Client() as client:
            assert await whatsapp(client, "12") is None
        ```
    """

    status: ClassVar[str] = "ERROR"
    retry_after: float | None = None
    """Seconds after which a new check may succeed, or None if unknown, as it is for every error that ends a run."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def reason(self) -> str:
        """One readable sentence: what happened, and what to do next."""
        return str(self.args[0]) if self.args else ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        with_fields(cls)

    def __str__(self) -> str:
        return self.reason

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.args == other.args and self._data() == other._data()

    def __hash__(self) -> int:
        return hash((type(self), self.args))

    def to_dict(self) -> dict[str, Any]:
        """Return ``status``, ``reason`` and the error's own fields as plain JSON-ready values.

        For msgspec, which knows no exceptions: ``msgspec.json.encode(outcome, enc_hook=AccucheckError.to_dict)``.
        """
        plain = {"status": self.status, "reason": self.reason} | self._data()
        for name, value in plain.items():
            if isinstance(value, datetime):
                plain[name] = value.isoformat()
        return plain

    __json__ = to_dict  # what Celery's JSON serializer (kombu) calls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "object"}

    def _data(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class ConfigurationError(AccucheckError, ValueError):
    """An argument or a credential is missing or wrong; the message says what to do.

    Examples:
        ```python
        try:
            accucheck.Client(rate=-1)
        except accucheck.ConfigurationError as error:
            print(error)
        ```
    """

    status = "CONFIGURATION_ERROR"


class CheckError(AccucheckError):
    """One number has no answer. The run continues; nothing is known about the number, so it is never a "no".

    Examples:
        ```python
        async with accucheck.Client() as client:
            try:
                await client.check("987654321", deadline=30)
            except accucheck.CheckError as error:
                print(error.status, error.reason, error.calls, error.retry_after)
        ```
    """

    status = "CHECK_ERROR"

    def __init__(
        self,
        message: str = "",
        *,
        number: str = "",
        request_id: str = "",
        http_status: int | None = None,
        calls: int = 0,
        retry_after: float | None = None,
        possibly_double_charged: int = 0,
    ) -> None:
        super().__init__(message)
        self.number = number
        """The number in E.164 (``+51`` and the national number), or ``""``. ``str()`` shows it masked."""
        self.request_id = request_id
        """The vendor's id of the last request, or ``""``."""
        self.http_status = http_status
        """The HTTP code of the last reply, or None if none came."""
        self.calls = calls
        """Calls that were made for the number."""
        self.retry_after = retry_after
        """Seconds after which a new check may succeed, or None if unknown."""
        self.possibly_double_charged = possibly_double_charged
        """Calls whose answer was lost after they were sent; AccuAuth may have charged for them too."""

    def __str__(self) -> str:
        return f"{mask(self.number)}: {self.reason}" if self.number else self.reason


class InvalidNumber(CheckError):
    """The text is not a Peru phone number, so no call was made.

    Examples:
        ```python
        try:
            accucheck.normalize("98765432")
        except accucheck.InvalidNumber as error:
            problem: accucheck.NumberProblem | None = error.problem
            print(problem, error.reason)
        ```
    """

    status = "INVALID_NUMBER"

    def __init__(self, message: str = "", *, problem: NumberProblem = "not_peruvian") -> None:
        super().__init__(message)
        self.problem: NumberProblem = problem
        """The reason as one word, for counting."""


class InvalidArgument(CheckError):
    """AccuAuth refuses the number (INVALID_ARGUMENT)."""

    status = "INVALID_ARGUMENT"


class Undetermined(CheckError):
    """AccuAuth replied, but could not say yes or no: "unavailable", NOT_HIT, or an unknown status.

    The reason contains AccuAuth's own word. Try again another day (``retry_failed=True`` with a ledger).
    """

    status = "UNDETERMINED"


class InternalError(CheckError):
    """AccuAuth failed (INTERNAL_ERROR, or any 5xx) on every attempt."""

    status = "INTERNAL_ERROR"


class RateLimited(CheckError):
    """The account's rate limit (RATE_LIMIT_EXCEEDED, HTTP 429) allowed no call for the number before the deadline."""

    status = "RATE_LIMIT_EXCEEDED"


class PendingTimeout(CheckError):
    """AccuAuth was still checking (PENDING) at the deadline. Try again later."""

    status = "PENDING_TIMEOUT"


class StillPending(CheckError):
    """AccuAuth is still checking when the run ends (``pending="later"``). The next run collects the answer."""

    status = "PENDING"

    def __init__(
        self,
        message: str = "",
        *,
        number: str = "",
        request_id: str = "",
        http_status: int | None = None,
        calls: int = 0,
        retry_after: float | None = None,
        possibly_double_charged: int = 0,
        asked_at: datetime | None = None,
    ) -> None:
        super().__init__(
            message,
            number=number,
            request_id=request_id,
            http_status=http_status,
            calls=calls,
            retry_after=retry_after,
            possibly_double_charged=possibly_double_charged,
        )
        self.asked_at = asked_at
        """When the number was last asked for, in UTC."""


class RefusedAlike(CheckError):
    """One of the numbers whose refusals ended a run with ``UniformRefusals``; nothing is known about it.

    It occurs only in a ledger. The next run asks for the number again.
    """

    status = "REFUSED_ALIKE"


class ProtocolError(CheckError):
    """A reply that AccuAuth's API does not define; it may have been charged, so the number is not checked again."""

    status = "PROTOCOL_ERROR"


class TransportError(CheckError):
    """No complete reply arrived (connection, timeout, truncation) on any attempt."""

    status = "TRANSPORT_ERROR"


class VendorUnavailable(CheckError):
    """AccuAuth is down (the circuit is open), so the number was not checked. ``retry_after`` is the next probe."""

    status = "VENDOR_UNAVAILABLE"


class RunEnded(AccucheckError):
    """The run cannot continue. Raised after every outcome that was already paid for.

    ``check`` raises it too, when no number can be checked: the account is empty, for example.

    Examples:
        ```python
        async with accucheck.Client() as client:
            try:
                outcomes = await client.check_many(["987654321", "912345678"], max_calls=1)
            except accucheck.RunEnded as error:
                print(error.status, error)
        ```
    """

    status = "RUN_ENDED"

    def __init__(self, message: str = "", *, request_id: str = "", http_status: int | None = None) -> None:
        super().__init__(message)
        self.request_id = request_id
        """The vendor's id of the request that ended the run, or ``""``."""
        self.http_status = http_status
        """The HTTP code of that reply, or None."""
        self.done = 0
        """Items that have an outcome."""
        self.not_done = 0
        """Items read from the input that have no outcome."""
        self._outcomes: tuple[Any, ...] = ()

    @property
    def outcomes(self) -> list[Any]:
        """The outcomes that ``check_many`` had when the run ended, in order; empty for a stream."""
        return list(self._outcomes)

    @outcomes.setter
    def outcomes(self, outcomes: Iterable[Any]) -> None:
        self._outcomes = tuple(outcomes)


class Unauthorized(RunEnded):
    """AccuAuth does not accept the credentials (UNAUTHORIZED)."""

    status = "UNAUTHORIZED"


class KeyExpired(RunEnded):
    """The API id has expired (KEY_EXPIRED)."""

    status = "KEY_EXPIRED"


class NoPermission(RunEnded):
    """The account is not allowed to use this API (NO_PERMISSION)."""

    status = "NO_PERMISSION"


class OutOfQuota(RunEnded):
    """The account is out of calls (OUT_OF_QUOTA)."""

    status = "OUT_OF_QUOTA"


class NotFound(RunEnded):
    """AccuAuth does not know the endpoint (NOT_FOUND)."""

    status = "NOT_FOUND"


class UniformRefusals(RunEnded):
    """Call after call was refused with the same status and reason, and none succeeded.

    That points to a wrong setting, not a list of bad numbers; the message says what to try.
    """

    status = "UNIFORM_REFUSALS"

    def __init__(
        self,
        message: str = "",
        *,
        vendor_status: str = "",
        vendor_reason: str = "",
        numbers: int = 0,
        request_id: str = "",
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, http_status=http_status)
        self.vendor_status = vendor_status
        """The status that all of them had."""
        self.vendor_reason = vendor_reason
        """The reason that all of them gave, or ``""``."""
        self.numbers = numbers
        """How many numbers in a row were refused."""


class Outage(RunEnded):
    """No call has succeeded for ``outage_after``."""

    status = "OUTAGE"

    def __init__(
        self,
        message: str = "",
        *,
        host: str = "",
        cause: str = "",
        request_id: str = "",
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, request_id=request_id, http_status=http_status)
        self.host = host
        """The vendor's host."""
        self.cause = cause
        """How the last call ended, in a few words."""


class BudgetExhausted(RunEnded):
    """``max_calls`` calls have been made, or ``max_cost`` has been spent."""

    status = "BUDGET_EXHAUSTED"

    def __init__(
        self,
        message: str = "",
        *,
        request_id: str = "",
        http_status: int | None = None,
        cap: Literal["max_calls", "max_cost"] = "max_calls",
    ) -> None:
        super().__init__(message, request_id=request_id, http_status=http_status)
        self.cap: Literal["max_calls", "max_cost"] = cap
        """Which cap was reached."""


class LedgerError(RunEnded):
    """The ledger could not be opened, or an answer could not be stored in it."""

    status = "LEDGER_ERROR"


CHECK_ERRORS: dict[str, type[CheckError]] = {
    kind.status: kind
    for kind in (
        InvalidArgument,
        Undetermined,
        InternalError,
        RateLimited,
        PendingTimeout,
        RefusedAlike,
        StillPending,
        ProtocolError,
        TransportError,
        VendorUnavailable,
    )
}
"""The errors of numbers that were admitted, by the status that the ledger and the outputs keep."""


# For pydantic, and thus FastAPI: lets errors and records be fields and return types. Only pydantic calls these.


def pydantic_schema(kind: type, convert: Callable[[Any], Any] | None = None) -> Any:
    """Return the schema of a record: accepts an instance (or what ``convert`` turns into one), writes ``to_dict``."""
    from pydantic_core import core_schema

    instance = core_schema.is_instance_schema(kind)
    if convert is None:
        schema: Any = instance
    else:
        converted = core_schema.no_info_plain_validator_function(convert)
        schema = core_schema.union_schema([instance, converted])
    written = core_schema.plain_serializer_function_ser_schema(lambda record: record.to_dict())
    return core_schema.no_info_after_validator_function(
        _itself, schema, serialization=written, ref=f"accucheck.{kind.__name__}:{id(kind)}"
    )


def _itself(record: Any) -> Any:
    return record
