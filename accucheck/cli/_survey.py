"""A pass over a list without a single call: what is in it, and what is left to ask."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from accucheck._errors import InvalidNumber
from accucheck._models import Check
from accucheck._phone import normalize
from accucheck._store._memory import Bitset
from accucheck.cli._console import say
from accucheck.cli._ledger import Find
from accucheck.cli._lists import ReadNumbers, WhyNot, numbers_to_ask
from accucheck.cli._options import Talk
from accucheck.cli._progress import PassMeter, reporting
from accucheck.cli._render import age, count
from accucheck.cli._rows import CHUNK
from accucheck.files import Source

__all__ = ["PROBLEMS", "UNREADABLE", "Survey", "name_faults", "survey", "survey_list"]

_MOSTLY_INVALID = 0.5
_ENOUGH_ROWS = 20

UNREADABLE = "unreadable"
PROBLEMS = {
    "empty": "empty",
    UNREADABLE: "an error, a formula without a saved value, or a torn line",
    "too_short": "too short",
    "too_long": "too long",
    "several": "more than one number in the cell",
    "letters": "text",
    "other_country": "from another country",
    "unknown_area": "landline without a valid area code",
    "not_mobile": "landline (--mobile-only)",
    "not_peruvian": "not Peruvian",
}
"""The normalizer's reasons in words."""


@dataclass(kw_only=True)
class Survey:
    """What is in a list."""

    rows: int = 0
    invalid: Counter[str] = field(default_factory=Counter)
    """Rows that cannot be a Peru number, by the reason in one word."""
    excluded: int = 0
    """Rows that must not be asked (``--exclude``, ``--where``)."""
    duplicates: int = 0
    """Rows that repeat an earlier number; each number is checked once."""
    known: int = 0
    """Distinct numbers that are in the ledger: they cost nothing."""
    to_ask: int = 0
    """Distinct numbers that are left; each costs one call or more."""
    yes: int = 0
    no: int = 0
    failed: int = 0
    """Of those in the ledger: what is known of them."""
    oldest: datetime | None = None
    """When the oldest of the known answers was given."""

    @property
    def distinct(self) -> int:
        """Distinct valid numbers."""
        return self.known + self.to_ask


def name_faults(found: Survey, source: Source) -> None:
    """Tell the rows that could not be read from the empty ones, after a pass over ``source``."""
    if rows := min(source.faulty_rows, found.invalid["empty"]):
        found.invalid = +(found.invalid - Counter(empty=rows) + Counter({UNREADABLE: rows}))


async def survey(
    numbers: Iterator[str | None],
    find: Find,
    *,
    read: ReadNumbers = lambda text: [normalize(text)],
    on_unknown: Callable[[int], object] = lambda number: None,
    found: Survey | None = None,
) -> Survey:
    """Read a list to its end and return what is in it.

    A text of None stands for a row that must not be asked; ``read`` reads the numbers of any other. ``on_unknown`` is
    called with every distinct national number that ``find`` does not know. ``found`` is counted up on the way, for
    whoever shows the progress.
    """
    found = found or Survey()
    seen = Bitset()
    while chunk := list(islice(numbers, CHUNK)):
        found.rows += len(chunk)
        new: list[int] = []
        for text in chunk:
            if text is None:
                found.excluded += 1
                continue
            try:
                numbers_of_row = read(text)
            except InvalidNumber as error:
                found.invalid[error.problem] += 1
                continue
            for number in numbers_of_row:
                if seen.add(number):
                    new.append(number)
                else:
                    found.duplicates += 1
        known = await find(new)
        found.known += len(known)
        found.to_ask += len(new) - len(known)
        for settlement in known.values():
            answer = settlement.result
            if not isinstance(answer, Check):
                found.failed += 1
            elif answer.whatsapp:
                found.yes += 1
            else:
                found.no += 1
            if isinstance(answer, Check) and (found.oldest is None or answer.checked_at < found.oldest):
                found.oldest = answer.checked_at
        for number in new:
            if number not in known:
                on_unknown(number)
        await asyncio.sleep(0)  # the progress is shown, and a signal is noticed
    return found


async def survey_list(
    talk: Talk,
    source: Source,
    find: Find,
    *,
    read: ReadNumbers,
    reason: WhyNot | None = None,
    on_unknown: Callable[[int], object] = lambda number: None,
) -> Survey:
    """Read the list once, and print what is in it and what is known already."""
    found = Survey()
    async with reporting(
        PassMeter("reading the list", lambda: found.rows, lambda: source.fraction), talk.shown
    ):
        await survey(numbers_to_ask(source, reason), find, read=read, on_unknown=on_unknown, found=found)
        name_faults(found, source)
    if not talk.quiet:
        say(_in_words(found))
        problem, rows = next(iter(found.invalid.most_common(1)), ("", 0))
        if rows > found.rows * _MOSTLY_INVALID and rows >= _ENOUGH_ROWS:
            say(
                f"{rows / found.rows:.0%} of the rows have no usable number: {PROBLEMS[problem]}",
                hint="is this the right column? Choose one with --column",
            )
    return found


def _in_words(found: Survey) -> str:
    parts = [f"{count(found.to_ask, 'number')} to check"]
    if found.known:
        oldest = f" (the oldest answer is {age(found.oldest)} old)" if found.oldest is not None else ""
        parts.append(f"{count(found.known, 'number')} already known{oldest}")
    if found.excluded:
        parts.append(f"{count(found.excluded, 'row')} excluded")
    if found.duplicates:
        parts.append(count(found.duplicates, "duplicate"))
    if found.invalid:
        parts.append(f"{count(found.invalid.total(), 'row')} without a valid number")
    return f"{count(found.rows, 'row')}: {', '.join(parts)}"
