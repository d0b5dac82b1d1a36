"""What a ledger knows of numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

from accucheck._errors import ConfigurationError
from accucheck._models import Settlement
from accucheck._store import Ledger

__all__ = ["Find", "existing_ledger", "known_in", "nothing_known"]

Find = Callable[[Sequence[int]], dict[int, Settlement]]
"""Returns what is known of some national numbers."""


def known_in(
    ledger: Ledger,
    endpoint: Literal["advanced", "basic"],
    *,
    fresh_within: timedelta | None = None,
    retry_failed: bool = False,
    now: Callable[[], float] = time.time,
) -> Find:
    """Return a look-up in ``ledger``.

    How old an answer may be counts from now, not from each look-up: what is fresh enough when a run begins
    does not go stale on the way. With ``retry_failed`` a number that failed before now is as good as unknown.
    """
    began = now()

    def find(numbers: Sequence[int]) -> dict[int, Settlement]:
        options: dict[str, int] = {"failed_since": int(began * 1_000_000)} if retry_failed else {}
        age = None if fresh_within is None else fresh_within.total_seconds() + now() - began
        return ledger.find(numbers, endpoint=endpoint, fresh_within=age, **options)

    return find


def nothing_known(numbers: Sequence[int]) -> dict[int, Settlement]:
    """Know nothing: where there is no ledger."""
    return {}


@contextmanager
def existing_ledger(path: Path) -> Iterator[Ledger]:
    """Open a ledger that must be there already: looking into one does not make one."""
    if not path.exists():
        raise ConfigurationError(f"{path}: there is no ledger; bulk keeps one as OUTPUT.ledger")
    with Ledger(path) as ledger:
        yield ledger
