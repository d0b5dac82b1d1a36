"""``accucheck ledger``: look into a ledger, export it, delete from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import msgspec
from cyclopts import App, Parameter

from accucheck._models import Check, Settlement
from accucheck._phone import e164
from accucheck._store import Ledger, LedgerInfo
from accucheck.cli._console import report, say
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._ledger import existing_ledger
from accucheck.cli._options import DEFAULT_TALK, STANDARD_STREAM, Duration, StreamOrPath, Talk
from accucheck.cli._render import json_line, standard_output, thousands
from accucheck.cli._rows import columns_of
from accucheck.files import FileSink, NumberColumn, Row, Source, StreamSink

__all__ = ["LedgerRows", "app"]


class _LedgerFile:
    """The ledger as a sink sees its source: a file that it must not overwrite."""

    head = b""
    repeatable = True
    fraction = 0.0

    def __init__(self, path: Path) -> None:
        self.path: Path | None = path
        self.name = str(path)

    def open(self) -> BinaryIO:
        raise NotImplementedError("a ledger is read by its own room")

    def close(self) -> None:
        """Nothing was opened."""


class LedgerRows(Source):
    """The entries of a ledger: answers first, then failures."""

    format = "jsonl"

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(_LedgerFile(ledger.path))
        self._ledger = ledger
        self.columns = ["number", "endpoint", "checked_at", "calls", "possibly_double_charged"]
        self.number_column = NumberColumn("number", 0, "name")

    def _rows(self) -> Iterator[Row]:
        for endpoint, settlement in self._ledger.settlements():
            yield Row(str(settlement.number), (endpoint, settlement))

    def values(self, row: Row) -> Sequence[object]:
        """Return the number, and when and at what cost it was settled."""
        endpoint, settlement = cast("tuple[str, Settlement]", row.record)
        result = settlement.result
        return (
            e164(settlement.number),
            endpoint,
            result.checked_at.isoformat(timespec="seconds") if isinstance(result, Check) else "",
            settlement.calls,
            settlement.possibly_double_charged,
        )


app = App(name="ledger")


@app.command
def info(path: Path, /, *, json: bool = False, talk: Talk = DEFAULT_TALK) -> ExitCode:
    """Say what is in a ledger; also while a run uses it.

    Parameters
    ----------
    path
        The ledger; bulk keeps it beside its output, as OUTPUT.ledger.
    json
        Print one JSON object.
    """
    with existing_ledger(path) as ledger:
        facts = ledger.info()
    if json:
        print(json_line(msgspec.to_builtins(facts)))
    else:
        report(_as_facts(facts), sys.stdout)
    return ExitCode.ALL_ANSWERED


@app.command
def purge(path: Path, /, *, older_than: Duration, talk: Talk = DEFAULT_TALK) -> ExitCode:
    """Delete what is older than a time, from the file's bytes too: numbers are personal data.

    Parameters
    ----------
    path
        The ledger. No run may be using it.
    older_than
        Delete answers and failures older than this: 90d. 0d deletes all.
    """
    with existing_ledger(path) as ledger:
        deleted = ledger.purge(older_than.total_seconds())
        left = ledger.info()
    if not talk.quiet:
        say(f"{thousands(deleted)} numbers deleted; {path} has {_size(left.bytes)} now")
    return ExitCode.ALL_ANSWERED


@app.command
def export(
    path: Path,
    /,
    *,
    output: Annotated[StreamOrPath, Parameter(alias="-o")],
    format: str | None = None,  # noqa: A002 the option's name
    talk: Talk = DEFAULT_TALK,
) -> ExitCode:
    """Write a ledger to a file: answers first, then the numbers that failed.

    Parameters
    ----------
    path
        The ledger.
    output
        Where to write: the suffix tells the format. - is standard output, as JSON lines.
    format
        Format of the output, whatever its name: csv, tsv, jsonl, parquet or xlsx.
    """
    with existing_ledger(path) as ledger:
        rows = LedgerRows(ledger)
        if output == STANDARD_STREAM:
            sink: FileSink | StreamSink = StreamSink(standard_output(), rows, file_format=format or "jsonl")
        else:
            sink = FileSink(output, rows, file_format=format)
        with sink:
            for row in rows.rows():
                sink.write(row, columns_of(row.record[1].result))
    if not talk.quiet:
        say(f"{thousands(rows.rows_total or 0)} numbers written to {output}")
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
    lines.append(("charged twice", f"possibly {thousands(facts.possibly_double_charged)}"))
    if facts.perhaps_lost_in_kills:
        kills = thousands(facts.perhaps_lost_in_kills)
        lines.append(("", f"and at most {kills} that were under way when a run was killed"))
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
