"""What the engine needs of a store of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from accucheck._errors import LedgerError
from accucheck._models import Settlement

OnCommit = Callable[[Sequence[Settlement]], None]
OnFailure = Callable[[LedgerError], None]


class AnswerStore(Protocol):
    """Where one run finds what is known and puts what it buys.

    A store belongs to one run on one event loop. Every method is called from that loop's thread, and the two
    callbacks run there, never from inside a call to the store.
    """

    def start(self, on_commit: OnCommit, on_failure: OnFailure) -> None:
        """Begin; must be called in the running loop, once.

        ``on_commit`` gets the settlements, in the order of ``settle`` and in batches, once they are as durable
        as the store makes them. ``on_failure`` is called once, the first time that something could not be
        stored.
        """

    def find(self, numbers: Sequence[int]) -> dict[int, Settlement]:
        """Return what is known of the national ``numbers``; those that are not known are left out.

        What was settled but is not committed yet may be missing. Blocks for microseconds a number.

        Raises:
            LedgerError: the store cannot be read.
        """

    def settle(self, settlement: Settlement) -> None:
        """Take one settlement to be stored. Returns at once; ``on_commit`` tells when it is durable."""

    async def flush(self) -> None:
        """Return once everything settled so far is committed and ``on_commit`` has been called for it.

        After a failure this is a new attempt to store what could not be stored.

        Raises:
            LedgerError: some of it could not be stored; it is kept in memory for the next attempt.
        """

    def lease_calls(self, wanted: int, max_calls: int | None) -> int:
        """Reserve calls before they are made; return how many were granted, at most ``wanted``.

        0 means that ``max_calls`` calls have been reserved since the job began, across restarts. A grant is
        counted as spent until it is given back, so a budget holds whatever happens to the process.

        Raises:
            LedgerError: the reservation could not be stored.
        """

    def return_calls(self, unused: int, *, lost: int = 0) -> None:
        """Give back ``unused`` calls of earlier grants, before ``aclose``.

        ``lost`` is how many calls were cut off under way: the vendor may have charged for them, and will
        again when their numbers are asked once more.
        """

    async def aclose(self) -> None:
        """Store what is left, then let go of everything. To be shielded from cancellation by the caller.

        Closing again does nothing.

        Raises:
            LedgerError: some settlements could not be stored; says how many.
        """
