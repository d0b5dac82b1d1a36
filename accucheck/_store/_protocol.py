"""What the engine needs from a store: answers, claims, the call budget and small settings of one account."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from accucheck._help import with_fields
from accucheck._models import Endpoint, Settlement

__all__ = ["COUNTS_MONEY", "Claims", "Endpoint", "EndpointChoice", "Query", "Store"]

COUNTS_MONEY: Final = "\x1f"
"""A job whose name starts with this counts money instead of calls; see ``max_cost``."""
EndpointChoice: TypeAlias = Endpoint | Literal["cascade"]
"""What a run asks: one endpoint, or "basic" first and "advanced" for each yes."""
ALSO_ANSWERED_BY: Final[Mapping[Endpoint, tuple[Endpoint, ...]]] = {"basic": ("advanced",)}
"""For an endpoint, the others whose answers contain everything it returns."""


@with_fields
class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as known. Times are seconds since 1970 (UTC); by default, any age counts.

    Examples:
        ```python
        from time import time

        query = accucheck.Query(endpoint="advanced", yes_since=time() - 90 * 86_400)
        ```
    """

    endpoint: EndpointChoice = "advanced"
    """Answers of "advanced" also serve "basic". A "no" of "basic" also serves "advanced", since there is nothing to
    add. "cascade" accepts what "advanced" accepts, and a failure of either endpoint."""
    yes_since: float = -math.inf
    """An answer "on WhatsApp" counts if it was given at this time or later."""
    no_since: float = -math.inf
    """The same for an answer "not on WhatsApp"."""
    failed_since: float = -math.inf
    """A failure counts if it happened at this time or later. With the start of the run, earlier failures are asked
    again, but a number in two rows is still asked only once."""


@with_fields
class Claims(msgspec.Struct, frozen=True):
    """The result of ``Store.claim``. Numbers in neither ``known`` nor ``taken`` are now claimed for the caller."""

    known: Mapping[int, Settlement]
    """What is already known about them."""
    taken: AbstractSet[int]
    """Claimed by someone else: another process, another client, or another task of this one. Claim them again later,
    when they are known or free."""
    asked: Mapping[int, float] = {}
    """Of those claimed now, the numbers that a process had claimed when it died, each with a time (seconds since 1970)
    after which it cannot have asked for them."""


class Store(Protocol):
    """Answers, claims, the call budget and small settings of one account.

    One object serves any number of streams and single checks of one event loop at once. No method blocks the loop.
    When a method returns, its effect is as durable as the store can make it. A batch that raised may be given again.

    Every method raises ``LedgerError`` if the store cannot be read or written, with one sentence that says what
    happened and what to do. ``claim`` and ``lease_calls`` also raise it if answers can still be stored but no more
    should be bought, because the disk is nearly full or the file has vanished.

    Examples:
        ```python
        store: accucheck.Store = accucheck.MemoryStore()  # or your own, with the same methods
        await store.open()
        claims: accucheck.Claims = await store.claim([987654321], accucheck.Query(endpoint="advanced"))
        print(claims.known, claims.taken)
        await store.aclose()
        ```
    """

    @property
    def durable(self) -> bool:
        """Whether answers survive the process. If so, a kill loses only what is bought and not yet settled."""

    async def open(self) -> None:
        """Open files or connections, and create the tables if there are none. Opening again does nothing."""

    async def aclose(self) -> None:
        """Release every claim and unused call of this store, and close it. Closing again does nothing."""

    async def find(self, numbers: Sequence[int], query: Query) -> Mapping[int, Settlement]:
        """Return what is known about national ``numbers``; unknown ones are left out.

        An answer wins over a failure, and of two answers the newer one.
        """

    async def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        """Return what is known, and claim the rest, atomically.

        A number is claimed for all endpoints, because an answer of one may serve the others. A claim ends with
        ``settle``, ``release``, ``aclose`` or the death of the process.
        """

    async def release(self, numbers: Sequence[int]) -> None:
        """Give up claims of this store whose numbers will not be settled. Claims of others are left alone."""

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

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "", each: int = 1) -> int:
        """Reserve calls before they are made; return how many were granted, at most ``wanted``.

        0 means that ``job`` has reserved ``max_calls`` calls over all its processes and runs. Some of these may be
        returned; the cap is reached only when ``calls_made`` reaches it. ``job`` is any name. For a job that counts
        money, ``each`` is the price of a call, and what is granted is a multiple of it.
        """

    def note_call(self, job: str = "", calls: int = 1) -> None:
        """Note that a leased call is being sent. Called before every call, so it must be fast; never raises.

        Of the calls that a killed process had leased, those it noted are spent and the others are returned. A negative
        number undoes earlier notes.
        """

    async def return_calls(self, unused: int, *, lost: int = 0, job: str = "") -> None:
        """Return ``unused`` leased calls. ``lost`` counts calls that were cut off and may have been charged."""

    async def calls_made(self, job: str = "") -> int:
        """Return how many calls ``job`` has made so far, over all its processes and runs."""

    async def recall(self, name: str) -> str | None:
        """Return the value stored under ``name``, or None."""

    async def remember(self, name: str, value: str) -> None:
        """Store a small value for later runs, such as the rate that was found. Never a secret."""
