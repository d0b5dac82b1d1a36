"""``accucheck ledger``: look into a ledger, export it, delete from it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

from cyclopts import App, Parameter

from accucheck._ledger import Ledger, LedgerInfo
from accucheck.cli._answer_columns import columns_of
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._ledger_rows import LedgerRows
from accucheck.cli._messages import report, say
from accucheck.cli._options import DEFAULT_TALK, STANDARD_STREAM, Duration, StreamOrPath, Talk
from accucheck.cli._render import TerminalWriter, json_line, thousands
from accucheck.files import FileSink, StreamSink

__all__ = ["app"]

app = App(name="ledger", help="Look into a ledger, export it, or delete from it.")


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
    facts = Ledger(path).info()
    if json:
        print(json_line(_as_json(facts)))
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
    removed = Ledger(path).purge(older_than.total_seconds())
    if not talk.quiet:
        say(
            f"deleted {thousands(removed.answers)} answers and {thousands(removed.failures)} failures; "
            f"{path} has {_size(removed.bytes_after)} where it had {_size(removed.bytes_before)}"
        )
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
    rows = LedgerRows(Ledger(path))
    if output == STANDARD_STREAM:
        on_screen = sys.stdout.isatty()
        target = cast("BinaryIO", TerminalWriter(sys.stdout.buffer)) if on_screen else sys.stdout.buffer
        sink: FileSink | StreamSink = StreamSink(target, rows, file_format=format or "jsonl")
    else:
        sink = FileSink(output, rows, file_format=format)
    with sink:
        for row in rows.rows():
            sink.write(row, columns_of(row.record.settlement.result))
    if not talk.quiet:
        say(f"{thousands(rows.rows_total or 0)} numbers written to {output}")
    return ExitCode.ALL_ANSWERED


def _as_json(facts: LedgerInfo) -> dict[str, Any]:
    running = facts.running
    return {
        "path": facts.path,
        "bytes": facts.size,
        "schema_version": facts.schema_version,
        "answers": {
            endpoint: {"yes": found.yes, "no": found.no} for endpoint, found in facts.answers.items()
        },
        "failures": dict(facts.failures),
        "oldest": facts.oldest.isoformat() if facts.oldest else None,
        "newest": facts.newest.isoformat() if facts.newest else None,
        "calls_spent": facts.calls_spent,
        "possibly_double_charged": facts.possibly_double_charged,
        "lost_to_kills": facts.lost_to_kills,
        "running": str(running) if running else None,
    }


def _as_facts(facts: LedgerInfo) -> list[tuple[str, str]]:
    lines = [("ledger", f"{facts.path} ({_size(facts.size)}, version {facts.schema_version})")]
    for endpoint, found in facts.answers.items():
        answered = found.yes + found.no
        share = f", {found.yes / answered:.1%}" if answered else ""
        lines.append(
            ("answers", f"{thousands(answered)} {endpoint} ({thousands(found.yes)} on WhatsApp{share})")
        )
    if not facts.answers:
        lines.append(("answers", "none"))
    lines.extend((f"  {status}", thousands(numbers)) for status, numbers in facts.failures.items())
    if facts.oldest and facts.newest:
        lines.append(("from", f"{facts.oldest:%Y-%m-%d %H:%M} to {facts.newest:%Y-%m-%d %H:%M} UTC"))
    lines.append(("calls", thousands(facts.calls_spent)))
    lines.append(("charged twice", f"possibly {thousands(facts.possibly_double_charged)}"))
    if facts.lost_to_kills:
        lines.append(("", f"and at most {thousands(facts.lost_to_kills)} that were under way at a kill"))
    if facts.running:
        lines.append(("in use", str(facts.running)))
    return lines


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
