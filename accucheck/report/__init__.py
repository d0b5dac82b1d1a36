"""A report on a checked list: one self-contained HTML file for whoever ordered the check.

    accucheck.report("checked.csv", "report.html", price=0.002)

The page loads nothing from anywhere, holds no phone number, and escapes what strangers wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from accucheck._errors import ConfigurationError
from accucheck.files import open_source
from accucheck.files._atomic import AtomicFile
from accucheck.report._page import render
from accucheck.report._tally import Tally
from accucheck.report._words import Language

__all__ = ["Run", "report"]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What a list does not tell of the run that checked it; every field may be left out."""

    calls: int | None = None
    """Calls sent."""
    polls: int = 0
    retries: int = 0
    refusals: int = 0
    """Calls that the vendor's rate limit refused."""
    cost: float | None = None
    """Money spent, in the currency of ``price``."""
    elapsed: float | None = None
    """Seconds from the first call to the last answer."""
    limit: float | None = None
    """The account's limit in calls a second, where it was found."""


def report(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    title: str | None = None,
    language: Language = "en",
    by: Iterable[str] | None = None,
    price: float | None = None,
    currency: str = "USD",
    run: Run | None = None,
    column: str | int | None = None,
) -> None:
    """Write an HTML report on a list that accucheck has checked.

    Args:
        source: The output of ``accucheck bulk``, in any format that it writes.
        output: The HTML file; replaced if it exists, readable by its owner alone.
        title: A heading; by default the name of the list.
        language: ``en`` or ``es``.
        by: The list's own columns to break the share of WhatsApp down by; by default every one with few
            distinct values.
        price: What one answer costs, 0 or more; the cost is left out if neither this nor ``run.cost`` is given.
        currency: Shown behind the cost.
        run: Figures of the run itself.
        column: The column of the phone numbers, by name or place from 1; found by itself if None.

    Raises:
        FileError: The list cannot be read, was not written by accucheck, or the report cannot be written.
        ConfigurationError: An argument is wrong.
    """
    if language not in ("en", "es"):
        raise ConfigurationError(f"language is 'en' or 'es', not {language!r}")
    if price is not None and not 0 <= price < float("inf"):
        raise ConfigurationError(f"price is what one answer costs, 0 or more, not {price!r}")
    with open_source(source, column=column) as rows:
        names = rows.all_columns()
        tally = Tally(names, source=rows.name, by=by)
        for row in rows.rows():
            tally.count(rows.values(row), row.number)
    page = render(
        tally,
        title=title or Path(os.fspath(source)).name,
        source=Path(os.fspath(source)).name,
        language=language,
        price=price,
        currency=currency,
        run=run or Run(),
        now=datetime.now(UTC),
    )
    _write(Path(output), page)


def _write(path: Path, text: str) -> None:
    """Put the file in place whole: whoever has the old report open never sees half of the new one."""
    file = AtomicFile(path)
    try:
        file.stream.write(text.encode())
    except BaseException:
        file.discard()
        raise
    file.commit()
