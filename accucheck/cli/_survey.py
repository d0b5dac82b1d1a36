"""A pass over a list without a single call: what is in it, and what is left to ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.cli._ledger import Find
from accucheck.cli._rows import CHUNK

__all__ = ["DistinctNumbers", "Survey", "survey"]

FIRST_MOBILE = 900_000_000
MOBILES = 100_000_000


class DistinctNumbers:
    """A set of national numbers: one bit for each possible Peru mobile, a plain set for the few others.

    The bits take 12.5 MB of address space, of which the system allocates only the pages that are used.
    """

    def __init__(self) -> None:
        self._mobiles = bytearray(MOBILES // 8)
        self._others: set[int] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> bool:
        """Add ``number`` and return whether it is new."""
        place = number - FIRST_MOBILE
        if 0 <= place < MOBILES:
            byte, bit = place >> 3, 1 << (place & 7)
            if self._mobiles[byte] & bit:
                return False
            self._mobiles[byte] |= bit
        elif number in self._others:
            return False
        else:
            self._others.add(number)
        self._count += 1
        return True


@dataclass(kw_only=True)
class Survey:
    """What is in a list."""

    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be a Peru number, by the reason in one word."""
    duplicates: int = 0
    """Rows that repeat an earlier number; each number is checked once."""
    known: int = 0
    """Distinct numbers that are in the ledger: they cost nothing."""
    to_ask: int = 0
    """Distinct numbers that are left; each costs one call or more."""

    @property
    def distinct(self) -> int:
        """Distinct valid numbers."""
        return self.known + self.to_ask


def survey(
    numbers: Iterator[str],
    find: Find,
    *,
    mobile_only: bool = False,
    on_unknown: Callable[[int], object] = lambda number: None,
) -> Survey:
    """Read a list to its end and return what is in it.

    ``on_unknown`` is called with every distinct national number that ``find`` does not know.
    """
    found = Survey()
    seen = DistinctNumbers()
    while chunk := list(islice(numbers, CHUNK)):
        found.rows += len(chunk)
        new: list[int] = []
        for text in chunk:
            try:
                number = normalize(text, mobile_only=mobile_only)
            except InvalidNumber as error:
                found.invalid[error.problem] += 1
                continue
            if seen.add(number):
                new.append(number)
            else:
                found.duplicates += 1
        known = find(new)
        found.known += len(known)
        found.to_ask += len(new) - len(known)
        for number in new:
            if number not in known:
                on_unknown(number)
    return found
