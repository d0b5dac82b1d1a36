"""The ledger of a run that is to leave none: gone with the run, unless its answers would be lost with it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accucheck._errors import LedgerError
from accucheck._store import Ledger
from accucheck.cli._messages import say

__all__ = ["private_ledger"]


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
