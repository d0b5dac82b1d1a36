"""The ledger of before behind today's ``Store``, until it has one of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

from accucheck._models import Settlement
from accucheck._store._old import _jobs
from accucheck._store._old._errors import translate_errors
from accucheck._store._old._ledger import Ledger
from accucheck._store._old._lookup import ALWAYS
from accucheck._store._old._rows import microseconds
from accucheck._store._old._session import Session
from accucheck._store._protocol import Claims, Endpoint, Query


class OldLedgerStore:
    """See ``Store``."""

    durable = True

    def __init__(self, ledger: Ledger | str | os.PathLike[str], *, endpoint: Endpoint) -> None:
        self._given = ledger
        self._endpoint: Endpoint = endpoint
        self._session: Session | None = None
        self._claimed: set[int] = set()

    async def open(self) -> None:
        if self._session is None:
            given = self._given
            self._ledger = given if isinstance(given, Ledger) else Ledger(given)
            self._session = self._ledger.session(endpoint=self._endpoint)
            self._session.start(lambda _: None, lambda _: None)

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    async def find(self, numbers: Sequence[int], query: Query) -> Mapping[int, Settlement]:
        assert self._session is not None
        since, failed_since = _instant(query.yes_since), _instant(query.failed_since)
        with translate_errors(self._ledger.path):
            return self._session._lookup.find(numbers, since=since, failed_since=failed_since)

    async def claim(self, numbers: Sequence[int], query: Query) -> Claims:
        known = await self.find(numbers, query)
        taken = {number for number in numbers if number in self._claimed and number not in known}
        self._claimed.update(number for number in numbers if number not in known)
        return Claims(known, taken)

    async def release(self, numbers: Sequence[int], *, endpoint: Endpoint = "advanced") -> None:
        self._claimed.difference_update(numbers)

    async def settle(
        self, settlements: Sequence[Settlement], *, endpoint: Endpoint = "advanced", job: str = ""
    ) -> None:
        session = self._session
        assert session is not None
        if not session._failed:
            for settlement in settlements:
                session.settle(settlement)
        await session.flush()
        self._claimed.difference_update(settlement.number for settlement in settlements)

    async def lease_calls(self, wanted: int, *, max_calls: int | None, job: str = "") -> int:
        assert self._session is not None
        if self._session._job != job:
            self._session._job = job
            self._session._writer.run(lambda connection: _jobs.begin(connection, job))
        return self._session.lease_calls(wanted, max_calls)

    def note_call(self, job: str = "") -> None:
        pass

    async def return_calls(self, unused: int, *, lost: int = 0, job: str = "") -> None:
        assert self._session is not None
        self._session.return_calls(unused, lost=lost)

    async def calls_made(self, job: str = "") -> int:
        return self._ledger.calls

    async def recall(self, name: str) -> str | None:
        return self._ledger.recall(name)

    async def remember(self, name: str, value: str) -> None:
        self._ledger.remember(name, value)


def _instant(seconds: float) -> int:
    return ALWAYS if seconds == -math.inf else microseconds(min(seconds, 1e11))
