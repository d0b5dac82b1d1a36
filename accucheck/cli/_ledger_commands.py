"""``accucheck ledger``: look into a ledger, export it, delete from it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import msgspec
from cyclopts import App, Parameter

from accucheck._models import Settlement
from accucheck._store import Ledger, LedgerInfo
from accucheck.cli._console import print_json, report, say, standard_output
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._ledger import existing_ledger
from accucheck.cli._options import DEFAULT_TALK, STANDARD_STREAM, Duration, StreamOrPath, Talk
from accucheck.cli._output import check_output
from accucheck.cli._render import thousands
from accucheck.cli._rows import columns_of
from accucheck.files import FileError, FileSink, NumberColumn, Row, Source, StreamSink

__all__ = ["LedgerRows", "app"]


class _LedgerFile:
    """The ledger as the source of a sink: a file that must not be overwritten."""

    head = b""
    repeatable = True
    fraction = 0.0

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.name = str(path)

    def open(self) -> BinaryIO:
        raise NotImplementedError("a ledger is not read as a stream of bytes")

    def close(self) -> None:
        """Do nothing: nothing was opened."""


class LedgerRows(Source):
    """The entries of a ledger as rows: answers first, then failures."""

    format = "jsonl"

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(_LedgerFile(ledger.path))
        self._ledger = ledger
        self.columns = ["endpoint", "calls", "possibly_double_charged"]
        self.number_columns = [NumberColumn("number", 0, "name")]

    def _rows(self) -> Iterator[Row]:
        for endpoint, settlement in self._ledger.settlements():
            yield Row(str(settlement.number), (endpoint, settlement))

    def values(self, row: Row) -> Sequence[object]:
        """Return the endpoint, and at what cost the number was settled."""
        endpoint, settlement = cast("tuple[str, Settlement]", row.record)
        return endpoint, settlement.calls, settlement.possibly_double_charged


app = App(name="ledger", help_epilogue="")


@app.command
def info(path: Path, /, *, json: bool = False, talk: Talk = DEFAULT_TALK) -> ExitCode:
    """Show what is in a ledger. Works while a run uses it.

    $ accucheck ledger info checked.csv.ledger

    $ accucheck ledger info checked.csv.ledger --json

    Parameters
    ----------
    path
        The ledger, for example checked.csv.ledger.
    json
        Print one JSON object.
    """
    with existing_ledger(path) as ledger:
        facts = ledger.info()
    if json:
        print_json(msgspec.to_builtins(facts))
    else:
        report(_as_facts(facts), sys.stdout)
    return ExitCode.ALL_ANSWERED


@app.command
def purge(path: Path, /, *, older_than: Duration, talk: Talk = DEFAULT_TALK) -> ExitCode:
    """Delete old answers and failures, and overwrite their bytes: phone numbers are personal data.

    $ accucheck ledger purge checked.csv.ledger --older-than 180d

    $ accucheck ledger purge checked.csv.ledger --older-than 0d

    Parameters
    ----------
    path
        The ledger. No run may be using it.
    older_than
        Age from which to delete: 90d. 0d deletes everything, after a question.
    """
    with existing_ledger(path) as ledger:
        deleted = ledger.purge(older_than.total_seconds())
        left = ledger.info()
    if not talk.quiet:
        say(f"deleted {thousands(deleted)} numbers; {path} is {_size(left.bytes)} now")
    return ExitCode.ALL_ANSWERED


@app.command
def export(
    path: Path,
    /,
    *,
    output: Annotated[StreamOrPath, Parameter(alias="-o")],
    format: str | None = None,  # noqa: A002 the option's name
    force: bool = False,
    talk: Talk = DEFAULT_TALK,
) -> ExitCode:
    """Write a ledger to a file: answers first, then failures.

    $ accucheck ledger export checked.csv.ledger -o answers.xlsx

    $ accucheck ledger export checked.csv.ledger -o -

    Parameters
    ----------
    path
        The ledger.
    output
        File to write; its suffix sets the format. - writes JSON lines to standard output.
    format
        Output format, whatever the file's suffix: csv, tsv, jsonl, parquet or xlsx.
    force
        Overwrite an existing file.
    """
    if not force and output != STANDARD_STREAM and os.path.isfile(output):
        raise FileError(f"{output} exists\nname another output, or add --force to overwrite it")
    with existing_ledger(path) as ledger:
        rows = LedgerRows(ledger)
        if output != STANDARD_STREAM:
            check_output(output, rows, format)
        if output == STANDARD_STREAM:
            sink: FileSink | StreamSink = StreamSink(standard_output(), rows, file_format=format or "jsonl")
        else:
            sink = FileSink(output, rows, file_format=format)
        with sink:
            for row in rows.rows():
                sink.write(row, columns_of(row.record[1].result, row.record[1].number))
    if not talk.quiet:
        say(f"wrote {thousands(rows.rows_total or 0)} numbers to {output}")
    return ExitCode.ALL_ANSWERED


def _as_facts(facts: LedgerInfo) -> list[tuple[str, str]]:
    answered = facts.yes + facts.no
    answers = thousands(answered)
    if answered:
        answers += f" ({thousands(facts.yes)} on WhatsApp, {facts.yes / answered:.1%})"
    lines = [
        ("ledger", f"{facts.path} ({_size(facts.bytes)}, version {facts.version})"),
        ("answers", answers),
    ]
    lines.extend((f"  {endpoint}", thousands(numbers)) for endpoint, numbers in facts.answers.items())
    if facts.oldest and facts.newest:
        lines.append(("  from", f"{facts.oldest[:16]} to {facts.newest[:16]} UTC".replace("T", " ", 2)))
    lines.append(("failures", thousands(sum(facts.failures.values()))))
    lines.extend((f"  {status}", thousands(numbers)) for status, numbers in facts.failures.items())
    lines.append(("calls", thousands(facts.calls)))
    lines.append(("lost replies", f"{thousands(facts.possibly_double_charged)} (their calls may be charged)"))
    if facts.perhaps_lost_in_kills:
        kills = thousands(facts.perhaps_lost_in_kills)
        lines.append(("", f"and at most {kills} in flight when a run was killed"))
    if facts.running:
        lines.append(("in use", f"by {facts.running}"))
    return lines


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
