"""What the engine needs of a store: answers, claims, the call budget and small settings of one account."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from accucheck._help import with_fields
from accucheck._models import Settlement

__all__ = ["COUNTS_MONEY", "Claims", "Endpoint", "Query", "Store"]

COUNTS_MONEY: Final = "\x1f"
"""The name of a job that begins so counts money instead of calls: see ``max_cost``."""
Endpoint: TypeAlias = Literal["advanced", "basic"]
ALSO_ANSWERED_BY: Final[Mapping[Endpoint, tuple[Endpoint, ...]]] = {"basic": ("advanced",)}
"""Endpoints whose answers hold all that an endpoint asks for. No others are known to it."""


@with_fields
class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as known. Times are seconds since 1970 (UTC); by default any age does."""

    endpoint: Endpoint | Literal["cascade"] = "advanced"
    """Answers of "advanced" serve "basic" too, and a "no" of "basic", which says all there is to say, serves
    "advanced". "cascade" takes what "advanced" takes, and a failure of either endpoint."""
    yes_since: float = -math.inf
    """An answer "on WhatsApp" counts if it was given at this time or later."""
    no_since: float = -math.inf
    """The same for an answer "not on WhatsApp"."""
    failed_since: float = -math.inf
    """A failure counts if it happened at this time or later. The start of the run asks for earlier failures again,
    and still asks once for a number that stands in two rows."""


@with_fields
class Claims(msgspec.Struct, frozen=True):
    """What became of the numbers given to ``Store.claim``. Those in neither are now claimed for the caller."""

    known: Mapping[int, Settlement]
    """What is known of them already."""
    taken: AbstractSet[int]
    """Claimed by somebody else: another process, another client, another task of this one. Claim them again later:
    by then they are known, or free."""
    asked: Mapping[int, float] = {}
    """Of those claimed now, the numbers that a process had claimed when it died, with a time (seconds since 1970)
    after which it cannot have asked for them any more."""


class Store(Protocol):
    """Answers, claims, the call budget and small settings of one account.

    One object serves any number of streams and single checks of one event loop at once. No method blocks the loop,
    and what a method has returned from is as durable as the store makes it. A batch that raised may be given again.

    Every method raises ``LedgerError`` if the store cannot be read or written, with one sentence that says what
    happened and what to do. ``claim`` and ``lease_calls`` also raise it while answers can still be stored and no more
    should be bought: the disk is nearly full, or the file has vanished.
    """

    @property
    def durable(self) -> bool:
        """Whether answers survive the process. If so, a kill loses what is bought and not yet settled."""

    async def open(self) -> None:
        """Open files or connections, and make the tables if there are none. Opening again does nothing."""

    async def aclose(self) -> None:
        """Release every claim and unused call of this store, and close it. Closing again does nothing."""

    async def find(self, numbers: Sequence[int], query: Query) -> Mapping[int, Settlement]:
        """Return what is known of national ``numbers``; those that are not known are left out.

        An answer wins over a failure, and of two answers the newer one.
        """

    async def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        """Return what is known, and claim the rest, atomically.

        A number is claimed for all endpoints: what one brings may serve the others. A claim ends with ``settle``,
        ``release``, ``aclose`` or the death of the process.
        """

    async def release(self, numbers: Sequence[int]) -> None:
        """Give up claims of this store whose numbers will not be settled. Others are left alone."""

    async def settle(
        self,
        settlements: Sequence[Settlement],
        *,
        endpoint: Endpoint = "advanced",
        job: str = "",
        release: bool = True,
    ) -> None:
        """Store answers and failures, and end their claims if ``release``.

        A settlement is stored whether or not its number is still claimed: it was paid for. An older answer does not
        replace a newer one, and a failure does not replace an answer.
        """

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "") -> int:
        """Reserve calls before they are made; return how many were granted, at most ``wanted``.

        0 means that ``job`` has reserved ``max_calls`` calls, over all its processes and runs. Some of these may come
        back: the cap is reached once ``calls_made`` says so. ``job`` is any name.
        """

    def note_call(self, job: str = "", calls: int = 1) -> None:
        """Note that a leased call is being sent. Called before every call; takes a microsecond and never raises.

        Of the calls that a killed process had leased, those it noted are spent and the others come back. A negative
        number takes back what was noted before.
        """

    async def return_calls(self, unused: int, *, lost: int = 0, job: str = "") -> None:
        """Give back ``unused`` leased calls. ``lost`` counts calls that were cut off: they may be charged for."""

    async def calls_made(self, job: str = "") -> int:
        """Return how many calls ``job`` has made so far, over all its processes and runs."""

    async def recall(self, name: str) -> str | None:
        """Return what was kept under ``name``, or None."""

    async def remember(self, name: str, value: str) -> None:
        """Keep a small thing for later runs, such as the rate that was found. Never a secret."""
