"""What a ledger knows of numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

from accucheck._ledger import Ledger
from accucheck._models import Check, Settlement

__all__ = ["Find", "known_in", "nothing_known"]

Find = Callable[[Sequence[int]], dict[int, Settlement]]
"""Returns what is known of some national numbers."""


@contextmanager
def known_in(
    ledger: Ledger,
    endpoint: Literal["advanced", "basic"],
    *,
    fresh_within: timedelta | None = None,
    retry_failed: bool = False,
) -> Iterator[Find]:
    """Give a look-up in ``ledger`` as it is now; it knows nothing if the file is not there yet.

    With ``retry_failed`` a number that failed is as good as unknown.
    """
    if not ledger.path.exists():
        yield nothing_known
        return
    age = None if fresh_within is None else fresh_within.total_seconds()

    def find(numbers: Sequence[int]) -> dict[int, Settlement]:
        return ledger.find(numbers, endpoint=endpoint, fresh_within=age)

    def find_answers(numbers: Sequence[int]) -> dict[int, Settlement]:
        return {number: known for number, known in find(numbers).items() if isinstance(known.result, Check)}

    yield find_answers if retry_failed else find


def nothing_known(numbers: Sequence[int]) -> dict[int, Settlement]:
    """Know nothing: where there is no ledger."""
    return {}
