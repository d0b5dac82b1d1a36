"""A look through a list without a single call: what is in it, and what is still to be asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.cli._distinct import DistinctNumbers
from accucheck.cli._known import Find
from accucheck.cli._output_pass import CHUNK

__all__ = ["Survey", "survey"]


@dataclass(kw_only=True)
class Survey:
    """What is in a list."""

    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be a Peru number, by the reason in a word."""
    duplicates: int = 0
    """Rows whose number came before: it is asked once."""
    known: int = 0
    """Distinct numbers that the ledger has settled: they cost nothing."""
    to_ask: int = 0
    """Distinct numbers that are left: each costs one call or more."""

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

    ``on_unknown`` is called with every distinct national number that ``find`` knows nothing of.
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
