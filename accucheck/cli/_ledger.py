"""The ledger of a command: what it knows of numbers, and the temporary one of a run with --no-ledger."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

from accucheck._errors import ConfigurationError, LedgerError
from accucheck._models import Settlement
from accucheck._store import Ledger
from accucheck.cli._console import say

__all__ = ["Find", "existing_ledger", "known_in", "nothing_known", "private_ledger"]

Find = Callable[[Sequence[int]], Awaitable[Mapping[int, Settlement]]]
"""Returns what is known about some national numbers."""


def known_in(
    ledger: Ledger,
    endpoint: Literal["advanced", "basic"],
    *,
    fresh_within: timedelta | None = None,
    retry_failed: bool = False,
    now: Callable[[], float] = time.time,
) -> Find:
    """Return a look-up in ``ledger``.

    Ages count from now, not from each look-up: an answer that is fresh when a run begins does not expire in mid-run.
    With ``retry_failed`` a number that failed before now counts as unknown.
    """
    began = now()

    async def find(numbers: Sequence[int]) -> Mapping[int, Settlement]:
        options: dict[str, int] = {"failed_since": int(began * 1_000_000)} if retry_failed else {}
        age = None if fresh_within is None else fresh_within.total_seconds() + now() - began
        return ledger.find(numbers, endpoint=endpoint, fresh_within=age, **options)

    return find


async def nothing_known(numbers: Sequence[int]) -> Mapping[int, Settlement]:
    """Know nothing, for want of a ledger."""
    return {}


@contextmanager
def existing_ledger(path: Path) -> Iterator[Ledger]:
    """Open a ledger that must exist: looking into one does not create it."""
    if not path.exists():
        raise ConfigurationError(f"{path} does not exist; bulk keeps its ledger as OUTPUT.ledger")
    with Ledger(path) as ledger:
        yield ledger


@contextmanager
def private_ledger(output: Path) -> Iterator[Ledger]:
    """Open a ledger in the temporary directory, which is deleted if the block succeeds.

    If it raises, ``output`` was not written and the answers are nowhere else: then the ledger is kept, next to
    the output if possible.
    """
    directory = Path(tempfile.mkdtemp(prefix="accucheck-"))
    private = directory / "ledger"
    try:
        with Ledger(private) as ledger:
            yield ledger
    except BaseException:
        if _holds_answers(private):
            kept = _moved(private, Path(f"{output}.ledger"))
            say(
                f"{output} was not written; the answers bought so far are in {kept}",
                hint=f"continue with the same command and --ledger {kept} instead of --no-ledger",
            )
            if kept == private:
                raise
        shutil.rmtree(directory, ignore_errors=True)
        raise
    shutil.rmtree(directory, ignore_errors=True)


def _holds_answers(private: Path) -> bool:
    try:
        return private.exists() and bool(Ledger(private).info().answers)
    except LedgerError:
        return True  # unknown, and keeping it costs nothing


def _moved(private: Path, beside: Path) -> Path:
    """Move the ledger next to the output and return its new path, or the old one if that is impossible."""
    log = private.with_name(f"{private.name}-wal")
    if beside.exists() or (log.exists() and log.stat().st_size):
        return private  # without its log it would be incomplete
    unfinished = beside.with_name(f"{beside.name}.new")
    try:
        try:
            with unfinished.open("xb") as copy, private.open("rb") as original:
                os.chmod(unfinished, 0o600)
                shutil.copyfileobj(original, copy)
                copy.flush()
                os.fsync(copy.fileno())
            unfinished.rename(beside)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError:  # perhaps the disk that was too full for the output
        return private
    return beside
