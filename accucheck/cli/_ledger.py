"""The ledger of a command: what it knows of numbers, and the temporary one of a run with --no-ledger."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Literal

from accucheck._errors import ConfigurationError, LedgerError
from accucheck._models import Settlement
from accucheck._store import Ledger
from accucheck.cli._console import say

__all__ = ["Find", "existing_ledger", "known_in", "nothing_known", "private_ledger"]

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


@contextmanager
def private_ledger(output: Path) -> Iterator[Ledger]:
    """Give a ledger in the temporary directory, which is deleted when the block has ended well.

    If it has not, ``output`` was not written, and what was bought is nowhere else: then the ledger is kept, beside
    the output if that can be.
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
                f"{output} was not written; what was bought is kept in {kept}",
                hint=f"go on from there: the same command with --ledger {kept} in place of --no-ledger",
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
        return True  # nobody knows: it costs nothing to keep


def _moved(private: Path, beside: Path) -> Path:
    """Move the ledger beside the output and return its new path; return the old one if that cannot be."""
    log = private.with_name(f"{private.name}-wal")
    if beside.exists() or (log.exists() and log.stat().st_size):
        return private  # without its log it would not be whole
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
    except OSError:  # the disk that has no room for the output, say
        return private
    return beside
