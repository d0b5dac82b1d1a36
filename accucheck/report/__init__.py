"""A report on a checked list: one self-contained HTML file for the person who ordered the check.

The page loads nothing from the network, contains no phone numbers, and escapes text written by strangers.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from accucheck._errors import ConfigurationError
from accucheck.files import FileError, Source, open_source
from accucheck.files._origin import translate_output_errors
from accucheck.files._sink import AtomicFile, is_stream
from accucheck.report._page import render
from accucheck.report._tally import CheckedColumns, Tally
from accucheck.report._words import Language

__all__ = ["Run", "report"]

_FIRST_LINE = b"<!doctype html>"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a run that the checked list does not contain; every field is optional."""

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
    server: str | None = None
    """Whose answers these are, if it is not AccuAuth: the address of a sandbox."""
    limit: float | None = None
    """The account's limit in calls per second, if it was found."""
    speed: tuple[tuple[float, float, float | None], ...] = ()
    """Points in time order: seconds since 1970, calls per second up to then, the limit known at the time."""


def report(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    title: str | None = None,
    language: Language = "en",
    by: Iterable[str] | None = None,
    price: float | None = None,
    currency: str = "",
    run: Run | None = None,
    column: str | int | None = None,
    sheet: str | int | None = None,
    watch: Callable[[Source, Tally], AbstractContextManager[object]] | None = None,
) -> None:
    """Write an HTML report on a list that accucheck has checked.

    Args:
        source: The output of ``accucheck bulk``, in any format that it writes.
        output: The HTML file, readable only by its owner. It may replace an older report, but no other file.
        title: The heading. Default: the name of the list.
        language: ``en`` or ``es``.
        by: The list's own columns to break down the share of WhatsApp by. Default: every column with few distinct
            values.
        price: What one answer costs, 0 or more. The cost is left out if neither this nor ``run.cost`` is given.
            Each distinct number counts once.
        currency: Shown after the cost, such as ``USD``.
        run: Calls, cost and speed of the run, which the list does not contain.
        column: The column of the phone numbers, by name or position from 1. None: found automatically.
        sheet: The sheet of a workbook, by name or place from 1; the one with the answers if None.
        watch: Entered for the pass over the list, to show how far it has come.

    Raises:
        FileError: The list cannot be read, was not written by accucheck, or the report cannot be written.
        ConfigurationError: An argument is wrong.

    Examples:
        ```python
        import polars
        from accucheck.report import report

        leads = polars.DataFrame({"phone": ["987654321", "912345678"]})
        async with accucheck.Client() as client:
            checked = await accucheck.frames.enrich_async(leads, number="phone", client=client)
        checked.write_csv("checked.csv")
        report("checked.csv", "report.html", price=0.002, currency="USD")
        ```
    """
    if language not in ("en", "es"):
        raise ConfigurationError(f"language must be 'en' or 'es', not {language!r}")
    if price is not None and not 0 <= price < float("inf"):
        raise ConfigurationError(f"price must be the cost of one answer, 0 or more, not {price!r}")
    check_path(output)
    with open_source(source, column=column, sheet=sheet, checked=True) as rows:
        names = rows.all_columns()
        columns = CheckedColumns(names, rows.name)
        phones = [each.index for each in rows.number_columns]
        tally = Tally(names, source=rows.name, numbers=phones, by=by)
        with watch(rows, tally) if watch else nullcontext():
            for row in rows.rows():
                cells = rows.values(row)
                tally.count(cells, columns.result(cells), row.number)
    run = run or Run()
    if columns.simulated and run.server is None:
        run = msgspec.structs.replace(run, server="accucheck sandbox")
    page = render(
        tally,
        title=title or Path(os.fspath(source)).name,
        source=Path(os.fspath(source)).name,
        language=language,
        price=price,
        currency=currency,
        run=run,
    )
    write(page, output)


def check_path(output: str | os.PathLike[str]) -> None:
    """Raise FileError if a report cannot be written to ``output``: no folder, or a file that is not a report."""
    path = Path(output)
    if not path.parent.exists():
        raise FileError(f"the folder {path.parent} does not exist\nmkdir -p {shlex.quote(str(path.parent))}")
    with translate_output_errors(str(path)):
        if path.is_dir():
            raise FileError(f"{path} is a directory; name a file in it, such as {path / 'report.html'}")
        if path.exists() and not is_stream(str(path)):
            with path.open("rb") as old:
                if (begin := old.read(len(_FIRST_LINE))) and begin.lower() != _FIRST_LINE:
                    raise FileError(f"{path} is not a report and is left as it is; name another file")


def write(page: str, output: str | os.PathLike[str]) -> None:
    """Replace the file as a whole, so that half of a new report is never visible."""
    with translate_output_errors(os.fspath(output)):
        file = AtomicFile(Path(output))
        try:
            file.stream.write(page.encode())
        except BaseException:
            file.discard()
            raise
        file.commit()
