"""``accucheck report``: one HTML page on a checked list."""

from __future__ import annotations

import locale
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from accucheck._errors import ConfigurationError
from accucheck.cli._console import say
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._job import Job
from accucheck.cli._options import DEFAULT_TALK, Talk
from accucheck.cli._run import Ending
from accucheck.files import ResultColumns, Row, Source
from accucheck.files._sink import format_of_output
from accucheck.files._summary import SummarySheet
from accucheck.report import Run, check_path, write
from accucheck.report import report as write_report
from accucheck.report._page import summary_lines
from accucheck.report._tally import Tally, best_of
from accucheck.report._words import WORDS, Language

__all__ = ["Paper", "make_paper", "report", "run_figures", "system_language"]


def report(
    checked: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    by: tuple[str, ...] = (),
    language: Language | None = None,
    title: str | None = None,
    price: float | None = None,
    currency: str = "",
    summary: Path | None = None,
    column: str | None = None,
    talk: Talk = DEFAULT_TALK,
) -> ExitCode:
    """Run the command.

    Parameters
    ----------
    checked
        A list that bulk wrote.
    output
        The HTML file to write.
    by
        A column of yours to compare by, such as Ciudad. Repeatable. Default: every column with few values.
    language
        en or es. Default: the language of your system, or English.
    title
        The heading. Default: the name of the list.
    price
        Price of one answer, for the cost; each number counts once.
    currency
        Currency to show after the cost, such as PEN.
    summary
        The file that bulk wrote with --summary-json: adds calls, cost, duration, and speed against the limit.
    column
        The column with the phone numbers, if there are several.
    """
    write_report(
        checked,
        output,
        title=title,
        language=language or system_language(),
        by=by or None,
        price=price,
        currency=currency,
        run=Run() if summary is None else _read_summary(summary),
        column=column,
    )
    if not talk.quiet:
        say(f"report written to {output}: open it in a browser, or print it")
    return ExitCode.ALL_ANSWERED


class Paper:
    """Counts the rows of an output as they are written: for its report, and for the sheet that sums it up.

    Args:
        job: Says where the report goes and how it is worded.
        source: The list.
    """

    def __init__(self, job: Job, source: Source) -> None:
        self._job = job
        self._source = source
        self._language: Language = job.language or system_language()
        self.run = Run()
        """Figures of the run, once it is over."""
        phones = [column.index for column in source.number_columns]
        self._tally = Tally(source.all_columns(), source=source.name, numbers=phones, by=job.by or None)
        if job.report is not None:
            check_path(job.report)

    @property
    def sheet(self) -> SummarySheet:
        """The sheet for a workbook."""
        return SummarySheet(
            WORDS[self._language]["sheet"],
            lambda: summary_lines(self._tally, self.run, self._language, self._job.currency),
        )

    def count(self, row: Row, results: Sequence[ResultColumns]) -> None:
        """Count one row with the results of its numbers."""
        result = best_of(results)
        self._tally.count(self._source.values(row), result, row.number)

    def write(self, path: Path) -> None:
        """Write the report. Raises FileError."""
        name = Path(self._source.name).name
        write(
            self._tally,
            path,
            title=name,
            source=name,
            language=self._language,
            currency=self._job.currency,
            run=self.run,
        )


def make_paper(job: Job, source: Source) -> Paper | None:
    """Return what counts the rows of this job; None if nobody wants to know. Raises FileError."""
    workbook = any(
        format_of_output(Path(output), source, job.format).name == "xlsx" for output in job.outputs.values()
    )
    return Paper(job, source) if workbook or job.report is not None else None


def run_figures(ending: Ending) -> Run:
    """Return what a report shows of a run."""
    stats = ending.stats
    return Run(
        calls=stats.calls,
        polls=stats.polls,
        retries=stats.retries,
        refusals=stats.refusals,
        cost=None if ending.cost is None else float(ending.cost.likely),
        elapsed=stats.elapsed,
        limit=ending.limit,
        speed=ending.speed,
    )


def system_language() -> Language:
    """Return the language of this system, if the report is there in it; English otherwise."""
    name = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    if not name and os.name == "nt":
        name = locale.getlocale()[0] or ""
    return "es" if name.lower().startswith(("es", "spanish")) else "en"


def _read_summary(path: Path) -> Run:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"{path} is not the summary of a run ({error}): use the file that bulk wrote with --summary-json"
        ) from error
