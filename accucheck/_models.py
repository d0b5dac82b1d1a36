"""The records that travel through accucheck: frozen, slotted, picklable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Generic, Literal, NoReturn, TypeAlias, TypeVar

import msgspec

from accucheck._errors import CheckError, pydantic_schema
from accucheck._help import with_fields

__all__ = ["Check", "Checked", "Endpoint", "Failed", "Outcome", "Settlement", "Stats"]

Endpoint: TypeAlias = Literal["advanced", "basic"]
"""AccuAuth's lookups with this contract; stores keep answers by their place here."""
Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


@with_fields
class Check(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The vendor's answer for one number ("3. Response Params" of its page).

    Examples:
        ```python
        import json

        endpoint: accucheck.Endpoint = "advanced"
        async with accucheck.Client(endpoint=endpoint) as client:
            check: accucheck.Check = await client.check("987654321")
        print(check.number, check.whatsapp, check.status_update)
        print(json.dumps(check.to_dict()))
        ```
    """

    number: str
    """E.164: ``+51`` and the national number."""
    whatsapp: bool
    """Whether the number is registered on WhatsApp."""
    status_update: date | None = None
    """When the status text was last changed; None if the vendor does not say."""
    signature: str | None = None
    """The user's own status text: a stranger wrote it, so escape it before you show it."""
    business_user: bool | None = None
    """Whether it is a WhatsApp Business account; None if the vendor does not say."""
    avatar: bool | None = None
    """Whether the account shows a picture; None if the vendor does not say."""
    request_id: str = ""
    """The vendor's id of the request that returned this answer."""
    checked_at: datetime
    """When the answer arrived, in UTC."""
    extra: Mapping[str, Any] = {}
    """Fields of the result that AccuAuth's page does not list, unchanged."""

    def __bool__(self) -> NoReturn:
        """Raise TypeError: ``if check`` would take every "no" for a "yes"."""
        raise TypeError('a Check is neither true nor false, even if it says "no": use check.whatsapp')

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values (dates in ISO 8601)."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    __json__ = to_dict  # what Celery's JSON serializer (kombu) calls

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(cls, lambda plain: msgspec.convert(plain, cls, strict=False))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return _json_schema_of_check()

    def __hash__(self) -> int:
        return hash((self.number, self.whatsapp, self.request_id, self.checked_at))


@with_fields
class Checked(msgspec.Struct, Generic[Item_co], frozen=True, kw_only=True):
    """The outcome of an item whose number has an answer.

    Examples:
        ```python
        async with accucheck.Client() as client:
            outcomes: list[accucheck.Outcome[str]] = await client.check_many(["987654321"])
        print([outcome.item for outcome in outcomes if isinstance(outcome, accucheck.Checked)])
        ```
    """

    item: Item_co
    """The caller's own item, unchanged."""
    check: Check
    """The answer."""
    calls: int = 0
    """Calls made for this number in this run, including retries and polls; 0 if the answer was known."""
    possibly_double_charged: int = 0
    """Calls whose answer was lost after they were sent; AccuAuth may have charged for them too."""
    index: int = 0
    """The item's place in the input, from 0."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values: ``status`` is "OK", ``check`` holds the answer.

        What JSON has no form for inside ``item`` becomes its ``str()``.
        """
        return _plain(self, status="OK", check=self.check.to_dict())

    __json__ = to_dict

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(Checked)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return _json_schema_of_outcome({"check": _json_schema_of_check()})


@with_fields
class Failed(msgspec.Struct, Generic[Item_co], frozen=True, kw_only=True):
    """The outcome of an item whose number has no answer; never a "no".

    Examples:
        ```python
        async with accucheck.Client() as client:
            (outcome,) = await client.check_many(["n/a"])
        assert isinstance(outcome, accucheck.Failed)
        print(outcome.item, outcome.error.status, outcome.error.reason)
        ```
    """

    item: Item_co
    """The caller's own item, unchanged."""
    error: CheckError
    """Why there is no answer: ``InvalidNumber`` if no call was made, another CheckError otherwise."""
    calls: int = 0
    """Calls made for this number in this run, including retries and polls."""
    possibly_double_charged: int = 0
    """Calls whose answer was lost after they were sent; AccuAuth may have charged for them too."""
    index: int = 0
    """The item's place in the input, from 0."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values: ``status`` is the error's, ``error`` holds all of it.

        What JSON has no form for inside ``item`` becomes its ``str()``.
        """
        return _plain(self, status=self.error.status, error=self.error.to_dict())

    __json__ = to_dict

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        return pydantic_schema(Failed)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return _json_schema_of_outcome({"error": {"type": "object"}})


Outcome = Checked[Item] | Failed[Item]


def _plain(outcome: Checked[Any] | Failed[Any], **first: Any) -> dict[str, Any]:
    rest = {name: getattr(outcome, name) for name in ("calls", "possibly_double_charged", "index")}
    return {"item": msgspec.to_builtins(outcome.item, enc_hook=str, str_keys=True)} | first | rest


def _json_schema_of_check() -> dict[str, Any]:
    schema: dict[str, Any] = msgspec.json.schema_components([Check])[1]["Check"]
    schema["description"] = "The answer for one phone number."
    schema["properties"]["checked_at"]["format"] = "date-time"
    return schema


def _json_schema_of_outcome(own: dict[str, Any]) -> dict[str, Any]:
    counts = {name: {"type": "integer"} for name in ("calls", "possibly_double_charged", "index")}
    properties = {"item": {}, "status": {"type": "string"}} | own | counts
    return {"type": "object", "properties": properties, "required": list(properties)}


@with_fields
class Settlement(msgspec.Struct, frozen=True):
    """What is known about one number once it is settled; the unit that the ledger keeps.

    Examples:
        ```python
        async with accucheck.Client(ledger="answers.db") as client:
            await client.check("987654321")
        with accucheck.Ledger("answers.db") as ledger:
            settlement: accucheck.Settlement = ledger.find([987654321])[987654321]
        print(settlement.result, settlement.calls)
        ```
    """

    number: int
    """The national number; Peru has no leading zeros, so an integer is exact."""
    result: Check | CheckError
    """The answer, or why there is none."""
    calls: int = 0
    """Calls made for it."""
    possibly_double_charged: int = 0
    """Of these, calls whose answer was lost after they were sent."""


@with_fields
class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a run; all counts are since its start.

    ``read`` is always ``rejected + duplicates + known + yes + no + failed + unsettled``.

    Examples:
        ```python
        async with accucheck.Client() as client:
            await client.check_many(["987654321", "912345678"])
            stats: accucheck.Stats = client.stats
        print(f"{stats.yes} of {stats.read} are on WhatsApp, after {stats.calls} calls")
        ```
    """

    read: int = 0
    """Items taken from the input."""
    rejected: int = 0
    """Items whose text is not a Peru number; no call was made."""
    duplicates: int = 0
    """Items that repeat a number of this run; each number is checked once."""
    known: int = 0
    """Items whose number had an answer or an error in the ledger, repeated ones included; no call was made."""
    known_failed: int = 0
    """Of these, items whose number failed in an earlier run (``retry_failed`` asks for them again)."""
    calls: int = 0
    """Calls made: first tries, retries, polls and refused ones."""
    yes: int = 0
    """Numbers answered: on WhatsApp (known ones not counted)."""
    no: int = 0
    """Numbers answered: not on WhatsApp (known ones not counted)."""
    failed: int = 0
    """Numbers without an answer (invalid ones not counted)."""
    in_flight: int = 0
    """Calls in flight now."""
    delayed: int = 0
    """Numbers waiting for a poll or a retry now, without a worker or a connection."""
    pending: int = 0
    """Numbers that were PENDING at least once; in a cascade, at each endpoint."""
    pending_now: int = 0
    """Of these, numbers still waiting for an answer."""
    polls: int = 0
    """Polls of PENDING numbers."""
    retries: int = 0
    """Retries after a failure."""
    refusals: int = 0
    """Calls that AccuAuth rate-limited."""
    possibly_double_charged: int = 0
    """Calls whose answer was lost after they were sent."""
    delivered: int = 0
    """Outcomes that the caller has taken."""
    replies: Mapping[str, int] = {}
    """Calls by their result: ``OK`` or another name in the status table. Costs are computed from these."""
    basic_replies: Mapping[str, int] = {}
    """Of these, the calls of a cascade to the basic endpoint."""
    rate: float | None = None
    """Calls per second that the gate allows now; None if it does not limit them."""
    elapsed: float = 0.0
    """Seconds since the start."""

    @property
    def unsettled(self) -> int:
        """Numbers without an outcome yet; at the end, those that were never asked or that their callers gave up."""
        settled = self.yes + self.no + self.failed
        return self.read - self.rejected - self.duplicates - self.known - settled


def total(runs: Sequence[Stats], *, rate: float | None, elapsed: float) -> Stats:
    """Return the sum of the counts of several runs."""
    apart = ("rate", "elapsed", "replies", "basic_replies")
    names = [name for name in Stats.__struct_fields__ if name not in apart]
    replies: Counter[str] = Counter()
    basic_replies: Counter[str] = Counter()
    for run in runs:
        replies.update(run.replies)
        basic_replies.update(run.basic_replies)
    return Stats(
        **{name: sum(getattr(run, name) for run in runs) for name in names},
        replies=dict(replies),
        basic_replies=dict(basic_replies),
        rate=rate,
        elapsed=elapsed,
    )
