"""A command's ledger: which one it is, what it knows about numbers, and a temporary one for ``--ledger none``."""

from __future__ import annotations

import glob
import math
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from accucheck._admission import ASKED_AGAIN, first_step_of
from accucheck._arguments import FreshWithin, as_ages
from accucheck._errors import ConfigurationError, LedgerError
from accucheck._models import Check, Settlement
from accucheck._store import (
    EndpointChoice,
    Query,
    SQLiteStore,
    Store,
    account_ledger_path,
    account_ledgers,
    as_store,
    is_postgres,
)
from accucheck._store._ledger import Ledger
from accucheck.cli._console import count, say, short_path
from accucheck.cli._options import Which

NONE = "none"
"""The value of --ledger that turns the ledger off."""
Find = Callable[[Sequence[int]], Awaitable[Mapping[int, Settlement]]]
"""Returns what is known about some national numbers."""


def chosen_ledger(given: str | None, api_id: str | None, base_url: str) -> str | None:
    """Return the path or URL of the ledger that a command uses: the given one, or the account's; None for none."""
    if given == NONE:
        return None
    if given is not None:
        return given
    if not api_id:
        return None
    return str(account_ledger_path(urlsplit(base_url).netloc, api_id))


@dataclass(frozen=True)
class Book:
    """An open ledger."""

    store: Store
    name: str
    """For messages; "" for a temporary one."""
    is_new: bool = False
    rescued: int = 0
    """How many answers were imported that an earlier run could not write to the ledger."""

    @property
    def path(self) -> str:
        """Where it is now; if the file vanishes mid-run, the ledger continues in another one."""
        return (
            short_path(str(self.store.path))
            if isinstance(self.store, SQLiteStore) and self.name
            else self.name
        )

    def say(self) -> None:
        """Print which ledger this is."""
        if self.name:
            say(f"ledger: {self.name}" + (" (new)" if self.is_new else ""))
        if self.rescued:
            answers = count(self.rescued, "answer")
            say(f"imported {answers} that an earlier run could not write to the ledger")


@asynccontextmanager
async def open_book(place: str | None, output: Path) -> AsyncIterator[Book]:
    """Open the ledger at ``place``, or a temporary one that is deleted if the block succeeds."""
    if place is None:
        async with _temporary_book(output) as book:
            yield book
        return
    store = as_store(place)
    if is_postgres(place):
        book = Book(store, getattr(store, "name", "PostgreSQL"))
    else:
        _refuse_missing_folder(Path(place))
        book = Book(store, short_path(place), is_new=not ledger_exists(place))
    await book.store.open()
    try:
        if isinstance(book.store, SQLiteStore):
            book = replace(book, rescued=await _take_in_rescued(book.store))
        yield book
    finally:
        await book.store.aclose()


async def _take_in_rescued(store: SQLiteStore) -> int:
    """Store what runs wrote to rescue files, because their ledger was replaced or damaged, and return how much.

    The files stay as they are. A newer answer in the ledger wins.
    """
    path, taken = Path(store.path), 0
    for rescued in sorted(path.parent.glob(f"{glob.escape(path.name)}.rescue-*[0-9]")):
        name = f"rescued {rescued.name}"
        with suppress(LedgerError, OSError):  # a file of that name that is not one of ours
            if await store.recall(name) == str(rescued.stat().st_mtime_ns):
                continue
            settlements = Ledger(rescued).settlements()
            while some := list(islice(settlements, _TAKEN_AT_ONCE)):
                for endpoint in {endpoint for endpoint, _ in some}:
                    await store.settle(
                        [settlement for of, settlement in some if of == endpoint],
                        endpoint=endpoint,
                        release=False,
                    )
                taken += len(some)
            await store.remember(name, str(rescued.stat().st_mtime_ns))
    return taken


_TAKEN_AT_ONCE = 1000


def ledger_exists(place: str | None) -> bool:
    """Whether there is a ledger at ``place``; one in a database is assumed to exist."""
    return place is not None and (is_postgres(place) or os.path.exists(place))


def _refuse_missing_folder(path: Path) -> None:
    accounts = account_ledger_path("", "").parent  # made when it is needed
    if not path.parent.exists() and path.parent != accounts:
        raise LedgerError(
            f"the folder {path.parent} does not exist\nmkdir -p {shlex.quote(str(path.parent))}"
        )


def known_in(
    store: Store,
    endpoint: EndpointChoice,
    *,
    fresh_within: FreshWithin | None = None,
    retry_failed: bool = False,
    to_ask: bool = False,
    now: Callable[[], float] = time.time,
) -> Find:
    """Return a look-up in ``store``. With ``to_ask``, what a run asks for again by itself is unknown.

    Ages count from now, not from each look-up: an answer that is fresh when a run begins does not expire during it.
    With ``retry_failed`` a number that failed before now counts as unknown. Of a cascade whose second step has brought
    no details, the answer of the first step is known, except with ``to_ask``.
    """
    query = _query(endpoint, fresh_within, retry_failed=retry_failed, now=now())

    async def first_steps(
        numbers: Sequence[int], found: Mapping[int, Settlement]
    ) -> Mapping[int, Settlement]:
        rest = [
            number for number in numbers if number not in found or not isinstance(found[number].result, Check)
        ]
        return await store.find(rest, first_step_of(query))

    async def find(numbers: Sequence[int]) -> Mapping[int, Settlement]:
        found = await store.find(numbers, query)
        if not to_ask:
            return found if endpoint != "cascade" else {**found, **await first_steps(numbers, found)}
        return {number: one for number, one in found.items() if not isinstance(one.result, ASKED_AGAIN)}

    return find


def _query(
    endpoint: EndpointChoice, fresh_within: FreshWithin | None, *, retry_failed: bool, now: float
) -> Query:
    """Return what counts as known at ``now``."""
    ages = as_ages(fresh_within, default=None)
    yes, no = (-math.inf if age is None else now - age for age in ages)
    return Query(
        endpoint=endpoint,
        yes_since=yes,
        no_since=no,
        failed_since=now if retry_failed else min(yes, no),
    )


async def nothing_known(numbers: Sequence[int]) -> Mapping[int, Settlement]:
    """Return nothing, because there is no ledger."""
    return {}


def existing_ledger(given: str | None, which: Which) -> Ledger:
    """Return the ledger to read: the given one, the account's, or that of the only account.

    Raises ConfigurationError if there is none, since reading does not create one.
    """
    place = chosen_ledger(given, which.api_id, which.base_url)
    if place is None:
        known = account_ledgers()
        if len(known) != 1:
            names = "".join(f"\n  {short_path(str(path))}" for path in known)
            raise ConfigurationError(
                "there is no ledger yet; bulk and check create one"
                if not known
                else f"which ledger? name one, or add --api-id{names}"
            )
        place = str(known[0])
    if is_postgres(place):
        return Ledger(place)
    path = Path(place)
    if not path.exists():
        beside = Path(f"{place}.ledger")
        raise ConfigurationError(
            f"{place} does not exist; "
            + (f"did you mean {beside}?" if beside.exists() else "see accucheck ledger list")
        )
    beside = Path(f"{place}.ledger")
    if beside.exists() and not _is_database(path):
        raise ConfigurationError(f"{place} is not a ledger; did you mean {beside}?")
    return Ledger(path)


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\x00"


@asynccontextmanager
async def _temporary_book(output: Path) -> AsyncIterator[Book]:
    """Open a ledger in the temporary directory, and delete it if the block succeeds.

    If the block raises, ``output`` was not written and the answers exist nowhere else, so the ledger is kept, next to
    the output if possible.
    """
    directory = Path(tempfile.mkdtemp(prefix="accucheck-"))
    private = directory / "ledger"
    try:
        store = SQLiteStore(private)
        await store.open()
        try:
            yield Book(store, "")
        finally:
            await store.aclose()
    except BaseException:
        if _holds_answers(private):
            kept = _moved(private, Path(f"{output}.ledger"))
            say(
                f"{output} was not written; the answers bought so far are in {kept}",
                hint=f"continue with the same command and --ledger {kept}",
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
