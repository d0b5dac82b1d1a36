"""``accucheck report``: one HTML page on a checked list. ``accucheck diff``: what changed between two."""

from __future__ import annotations

import locale
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from accucheck._errors import ConfigurationError, InvalidNumber
from accucheck._phone import e164, normalize
from accucheck.cli._console import print_json, say, thousands
from accucheck.cli._console import report as print_facts
from accucheck.cli._exit import ExitCode
from accucheck.cli._job import Job
from accucheck.cli._options import Talk
from accucheck.cli._progress import PassMeter, showing
from accucheck.cli._run import Ending
from accucheck.files import ResultColumns, Row, Source, open_source
from accucheck.files._excel_writer import SummarySheet
from accucheck.files._sink import format_of_output
from accucheck.report import Run, check_path, write
from accucheck.report import report as write_report
from accucheck.report._page import render, summary_lines
from accucheck.report._tally import CheckedColumns, Tally, best_of
from accucheck.report._words import WORDS, Language


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
    sheet: str | None = None,
    talk: Talk = Talk(),
) -> ExitCode:
    """Run the command.

    Parameters
    ----------
    checked
        A list that bulk wrote.
    output
        The HTML file to write.
    by
        Your own column to group by, such as Ciudad. Repeatable. Default: each with 2 to 30 values, except dates.
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
    sheet
        The sheet of a workbook. Default: the one with the answers.
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
        watch=lambda rows, tally: showing(
            PassMeter(f"reading {checked.name}", lambda: tally.total.rows, lambda: rows.fraction), talk.shown
        ),
        sheet=sheet,
    )
    if not talk.quiet:
        say(f"report written to {output}: open it in a browser, or print it")
    return ExitCode.ALL_ANSWERED


class Paper:
    """Counts the rows of an output as they are written, for its report and its summary sheet.

    Args:
        job: Says where the report goes and how it is worded.
        source: The list.
    """

    def __init__(self, job: Job, source: Source) -> None:
        self._job = job
        self._source = source
        self._language: Language = job.language or system_language()
        self.run = Run()
        """Calls, cost and speed of the run, once it is over."""
        phones = [column.index for column in source.number_columns]
        self._tally = Tally(source.all_columns(), source=source.name, numbers=phones, by=job.by or None)
        if job.report is not None:
            check_path(job.report)

    @property
    def sheet(self) -> SummarySheet:
        """The sheet for a workbook."""
        return SummarySheet(
            WORDS[self._language]["sheet"],
            lambda: summary_lines(
                self._tally, self.run, self._language, self._job.cost.currency, self._price
            ),
        )

    def count(self, row: Row, results: Sequence[ResultColumns]) -> None:
        """Count one row with the results of its numbers."""
        result = best_of(results)
        self._tally.count(self._source.values(row), result, row.number)

    def write(self, path: Path) -> None:
        """Write the report. Raises FileError."""
        name = Path(self._source.name).name
        page = render(
            self._tally,
            title=name,
            source=name,
            language=self._language,
            price=self._price,
            currency=self._job.cost.currency,
            run=self.run,
        )
        write(page, path)

    @property
    def _price(self) -> float | None:
        """The price of an answer; None where answers have two, those of a cascade."""
        job = self._job
        return (
            float(job.cost.prices.answer)
            if job.cost.prices is not None and job.account.endpoint != "cascade"
            else None
        )


def make_paper(job: Job, source: Source) -> Paper | None:
    """Return the counter for the rows of this job; None if it is not needed. Raises FileError."""
    workbook = any(
        format_of_output(Path(output), source, job.format).name == "xlsx" for output in job.outputs.values()
    )
    return Paper(job, source) if workbook or job.report is not None else None


def run_figures(ending: Ending, job: Job) -> Run:
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
        server=job.host if job.host in _SANDBOXES else None,
    )


_SANDBOXES = ("127.0.0.1", "localhost", "::1")


def system_language() -> Language:
    """Return the system's language if reports exist in it; otherwise English."""
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


_WORDS = {
    ("no", "yes"): "joined WhatsApp",
    ("yes", "no"): "left WhatsApp",
    (None, "yes"): "new, on WhatsApp",
    (None, "no"): "new, not on WhatsApp",
    ("yes", None): "gone, was on WhatsApp",
    ("no", None): "gone, was not on WhatsApp",
    ("", "yes"): "newly answered, on WhatsApp",
    ("", "no"): "newly answered, not on WhatsApp",
    ("yes", ""): "no answer now, was on WhatsApp",
    ("no", ""): "no answer now, was not on WhatsApp",
}
"""The meaning of a change of verdict; "" is a number without an answer, None one that is not in the list."""


def diff(
    old: Path,
    new: Path,
    /,
    *,
    json: Annotated[bool, Parameter()] = False,
    talk: Talk = Talk(),
) -> ExitCode:
    """Compare two checked lists.

    Parameters
    ----------
    old
        The earlier output of bulk.
    new
        The later one.
    json
        Print one JSON object per number that has changed.
    """
    before, after = _verdicts(old, talk), _verdicts(new, talk)
    counts: Counter[str] = Counter()
    for number, was, now in changes(before, after):
        words = _WORDS.get((was, now))
        if words is None:
            continue
        counts[words] += 1
        if json:
            print_json({"number": e164(number), "old": was, "new": now, "change": words})
    if not json:
        same = Counter(verdict for number, verdict in after.items() if before.get(number) == verdict)
        print_facts(
            [
                ("numbers", f"{thousands(len(before))} before, {thousands(len(after))} now"),
                ("same", thousands(same["yes"] + same["no"])),
                *([("no answer in both", thousands(same[""]))] if same[""] else []),
                *((words, thousands(counts[words])) for words in _WORDS.values() if counts[words]),
            ],
            sys.stdout,
        )
    return ExitCode.ALL_ANSWERED


def changes(before: dict[int, str], after: dict[int, str]) -> Iterator[tuple[int, str | None, str | None]]:
    """Yield every number whose verdict has changed, with the old and the new one; None if it is not in the list."""
    for number in sorted(before.keys() | after.keys()):
        was, now = before.get(number), after.get(number)
        if was != now:
            yield number, was, now


def _verdicts(path: Path, talk: Talk) -> dict[int, str]:
    """Return ``yes``, ``no`` or ``""`` for every number of a checked list. An answer wins over a row without one."""
    with closing(open_source(path, checked=True)) as source:
        columns = CheckedColumns(source.all_columns(), str(path), needed=("whatsapp",))
        verdicts: dict[int, str] = {}
        read = 0
        with showing(PassMeter(f"reading {path.name}", lambda: read, lambda: source.fraction), talk.shown):
            for read, row in enumerate(source.rows(), start=1):  # noqa: B007 (it is the progress)
                results = columns.results(source.values(row))
                for result in results:
                    if result.status == "EXCLUDED":
                        continue
                    try:  # of a row with several numbers, the one that was answered need not be the first
                        number = normalize(result.number or row.number)
                    except InvalidNumber:
                        continue
                    verdict = {True: "yes", False: "no", None: ""}[result.whatsapp]
                    if verdict or number not in verdicts:
                        verdicts[number] = verdict
    return verdicts
