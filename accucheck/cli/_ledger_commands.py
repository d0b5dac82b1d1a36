"""``accucheck ledger``: read a ledger, export it, delete from it."""

from __future__ import annotations

import asyncio
import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import msgspec
from cyclopts import App, Parameter
from rich.filesize import decimal

from accucheck._errors import ConfigurationError, ProtocolError
from accucheck._models import Check, Settlement
from accucheck._phone import normalize
from accucheck._schedule import HOME, time_zone
from accucheck._store import account_ledgers, init_postgres, is_postgres, repair
from accucheck._store._ledger import Ledger, LedgerInfo
from accucheck.cli._console import (
    count,
    folded,
    print_json,
    report,
    say,
    short_path,
    standard_output,
    thousands,
)
from accucheck.cli._exit import ExitCode
from accucheck.cli._ledger import existing_ledger
from accucheck.cli._options import STANDARD_STREAM, WHICH, Duration, OutputFormat, StreamOrPath, Talk, Which
from accucheck.cli._output import check_output, columns_of, refuse_existing
from accucheck.files import FileSink, NumberColumn, Row, Source, StreamSink
from accucheck.files._origin import Origin


class _LedgerFile(Origin):
    """The ledger as a sink's source: a file that must not be overwritten."""

    head = b""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def open(self) -> BinaryIO:
        raise NotImplementedError("a ledger cannot be read as a stream of bytes")


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


app = App(name="ledger", help_epilogue="", default_parameter=Parameter(negative=""))

Named = Annotated[str | None, Parameter(metavar="LEDGER")]


@app.command(name="list")
def list_ledgers(*, json: bool = False, talk: Talk = Talk()) -> ExitCode:
    """Show the ledgers of your accounts.

    $ accucheck ledger list
    $ accucheck ledger list --json

    Parameters
    ----------
    json
        Print one JSON object per ledger.
    """
    paths = account_ledgers()
    if not paths and not talk.quiet:
        say("there is no ledger yet; bulk and check create one")
    for path in paths:
        facts = Ledger(path).info()
        if json:
            print_json(msgspec.to_builtins(facts))
        else:
            newest = f", last answer {facts.newest[:10]}" if facts.newest else ""
            answers = f"{count(facts.yes + facts.no, 'answer')}, {decimal(facts.bytes)}{newest}"
            print(folded(f"{short_path(facts.path)}  {answers}", sys.stdout))
    return ExitCode.ALL_ANSWERED


@app.command
def info(
    ledger: Named = None, /, *, json: bool = False, which: Which = Which(), talk: Talk = Talk()
) -> ExitCode:
    """Show what is in a ledger. Works while a run is using it.

    $ accucheck ledger info
    $ accucheck ledger info answers.ledger --json

    Parameters
    ----------
    ledger
        The ledger. Default: your account's own.
    json
        Print one JSON object.
    """
    facts = existing_ledger(ledger, which).info()
    if json:
        print_json(msgspec.to_builtins(facts))
    else:
        report(_as_facts(facts), sys.stdout)
    return ExitCode.ALL_ANSWERED


@app.command
def purge(
    ledger: Named = None,
    /,
    *,
    older_than: Duration,
    yes: bool = False,
    which: Which = Which(),
    talk: Talk = Talk(),
) -> ExitCode:
    """Delete old answers and failures, and overwrite their bytes: phone numbers are personal data.

    $ accucheck ledger purge --older-than 180d
    $ accucheck ledger purge answers.ledger --older-than 0d

    Parameters
    ----------
    ledger
        The ledger; no run may be using it. Default: your account's own.
    older_than
        Delete answers older than this: 90d. 0d deletes everything.
    yes
        Do not ask before deleting everything.
    """
    book = existing_ledger(ledger, which)
    facts = book.info()
    held = facts.yes + facts.no
    if not older_than and held and not yes:
        _ask_first(f"delete all {count(held, 'answer')} in {short_path(facts.path)}, which were paid for?")
    deleted = book.purge(older_than.total_seconds())
    if not talk.quiet:
        size = decimal(book.info().bytes)
        say(f"deleted {count(deleted, 'entry', 'entries')}; {short_path(facts.path)} is {size} now")
    return ExitCode.ALL_ANSWERED


def _ask_first(question: str) -> None:
    """Ask a person; raises ConfigurationError unless they say yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigurationError(f"{question} Add --yes to confirm")
    print(f"accucheck: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().casefold() not in ("y", "yes", "s", "si", "sí"):
        raise ConfigurationError("nothing was deleted")


@app.command(usage="Usage: accucheck ledger forget [OPTIONS] NUMBER...")
def forget(
    *numbers: Annotated[str, Parameter(metavar="NUMBER")],
    ledger: Annotated[str | None, Parameter(group=WHICH)] = None,
    which: Which = Which(),
    talk: Talk = Talk(),
) -> ExitCode:
    """Erase everything stored about a person's numbers, and overwrite the bytes in the file.

    $ accucheck ledger forget 987654321
    $ accucheck ledger forget "+51 987 654 321" 912345678 --ledger answers.ledger

    Parameters
    ----------
    numbers
        The numbers to erase.
    ledger
        The ledger; no run may be using it. Default: your account's own.
    """
    if not numbers:
        raise ConfigurationError("name the number: accucheck ledger forget 987654321")
    known = existing_ledger(ledger, which).forget([normalize(text) for text in numbers])
    if not talk.quiet:
        say(
            f"erased {thousands(known)} of {count(len(numbers), 'number')}; the others were not in the ledger"
        )
    return ExitCode.ALL_ANSWERED


@app.command(name="repair")
def repair_ledger(ledger: Named = None, /, *, which: Which = Which(), talk: Talk = Talk()) -> ExitCode:
    """Rebuild a damaged ledger from every answer that can still be read, and keep the damaged file.

    $ accucheck ledger repair
    $ accucheck ledger repair answers.ledger

    Parameters
    ----------
    ledger
        The ledger; no run may be using it. Default: your account's own.
    """
    book = existing_ledger(ledger, which)
    if is_postgres(book.place):
        raise ConfigurationError(
            f"{book.name}: only ledger files can be repaired: restore the database from a backup"
        )
    found = repair(book.path)
    say(
        f"{short_path(found.path)} now holds {count(found.answers, 'answer')} and {count(found.failures, 'failure')};"
        f" the damaged file is kept as {short_path(found.damaged)}"
    )
    return ExitCode.ALL_ANSWERED


@app.command
def init(url: str, /, *, talk: Talk = Talk()) -> ExitCode:
    """Create the tables of a ledger in PostgreSQL.

    $ accucheck ledger init postgresql://owner@db.example.com/leads
    $ accucheck bulk leads.csv -o checked.csv --ledger postgresql://accucheck@db.example.com/leads

    Parameters
    ----------
    url
        postgresql://user@host/database. The password comes from the URL, PGPASSFILE or PGPASSWORD.
    """
    if not is_postgres(url):
        raise ConfigurationError("this is not a PostgreSQL address: write postgresql://user@host/database")
    made = asyncio.run(init_postgres(url))
    if not talk.quiet:
        say("created the tables of the ledger" if made else "the tables already exist")
    return ExitCode.ALL_ANSWERED


@app.command
def export(
    ledger: Named = None,
    /,
    *,
    output: Annotated[StreamOrPath, Parameter(alias="-o")],
    format: OutputFormat = None,  # noqa: A002 the option's name
    force: bool = False,
    which: Which = Which(),
    talk: Talk = Talk(),
) -> ExitCode:
    """Write every answer and failure in a ledger to a file.

    $ accucheck ledger export -o answers.xlsx
    $ accucheck ledger export answers.ledger -o -

    Parameters
    ----------
    ledger
        The ledger. Default: your account's own.
    output
        File to write; its suffix sets the format. - writes JSON lines to standard output.
    force
        Overwrite an existing file.
    """
    rows = LedgerRows(existing_ledger(ledger, which))
    if output == STANDARD_STREAM:
        sink: FileSink | StreamSink = StreamSink(standard_output(), rows, file_format=format or "jsonl")
    else:
        check_output(output, rows, format)
        refuse_existing(output, force=force)
        sink = FileSink(output, rows, file_format=format)
    with sink:
        for row in rows.rows():
            sink.write(row, columns_of(row.record[1].result, row.record[1].number))
    if not talk.quiet:
        say(f"wrote {count(rows.rows_total or 0, 'number')} to {output}")
    return ExitCode.ALL_ANSWERED


@app.command
def statement(
    ledger: Named = None,
    /,
    *,
    month: str,
    timezone: str = HOME,
    output: Annotated[StreamOrPath, Parameter(alias="-o")] = STANDARD_STREAM,
    force: bool = False,
    which: Which = Which(),
    talk: Talk = Talk(),
) -> ExitCode:
    """List a month's answers as CSV, to compare with AccuAuth's invoice.

    $ accucheck ledger statement --month 2026-11 -o november.csv
    $ accucheck ledger statement answers.ledger --month 2026-11

    One row per answer, with its request id, including answers that were replaced later.

    Calls whose reply was lost may also have been charged and are counted separately.

    Totals by day go to standard error. Set --timezone to the invoice's, which decides the days.

    Parameters
    ----------
    ledger
        The ledger. Default: your account's own.
    month
        The month, such as 2026-11.
    timezone
        Time zone of the invoice's days and months: America/Lima, UTC, Asia/Shanghai and so on.
    output
        File to write. Default: standard output.
    force
        Overwrite an existing file.
    """
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise ConfigurationError(f"{month!r} is not a month: write it as 2026-11")
    book = existing_ledger(ledger, which)
    if output != STANDARD_STREAM:
        refuse_existing(output, force=force)
    zone = time_zone(timezone)
    start = datetime.strptime(month, "%Y-%m").replace(tzinfo=zone)
    end = (start + timedelta(days=31)).replace(day=1)
    days: dict[str, list[int]] = {}
    endpoints: Counter[tuple[str, str]] = Counter()
    with ExitStack() as stack:
        target = (
            sys.stdout if output == STANDARD_STREAM else stack.enter_context(open(output, "w", newline=""))
        )
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(_STATEMENT)
        for endpoint, at, settlement in book.settled_between(start.timestamp(), end.timestamp()):
            result = settlement.result
            # A reply that could not be understood may have been an answer.
            possible = settlement.possibly_double_charged + isinstance(result, ProtocolError)
            answered = isinstance(result, Check)
            if not answered and not possible:
                continue
            local = at.astimezone(zone)
            day = days.setdefault(f"{local:%Y-%m-%d}", [0, 0])
            day[0] += answered
            endpoints[f"{local:%Y-%m-%d}", endpoint] += answered
            day[1] += possible
            writer.writerow(
                (
                    f"{local:%Y-%m-%d}",
                    f"{local:%H:%M:%S}",
                    f"+51{settlement.number}",
                    endpoint,
                    ("yes" if result.whatsapp else "no") if isinstance(result, Check) else "",
                    settlement.calls,
                    possible,
                    result.request_id,
                )
            )
    if not talk.quiet:
        names = sorted({endpoint for _, endpoint in endpoints})
        lines: list[tuple[str, str]] = []
        for date, (answers, possible) in sorted(days.items()):
            apart = ", ".join(f"{thousands(endpoints[date, name])} {name}" for name in names)
            each = f" ({apart})" if len(names) > 1 else ""
            lines.append((date, f"{thousands(answers)}{each}, {thousands(possible)} more possible"))
        lines.insert(0, ("days", f"in {timezone} time"))
        answers, possible = (sum(each[place] for each in days.values()) for place in (0, 1))
        lines.append(("answers", f"{thousands(answers)}, {thousands(possible)} more possibly charged"))
        if kills := book.info().perhaps_lost_in_kills:
            lines.append(
                ("kills", f"at most {count(kills, 'call')} in flight when a run was killed, at any time")
            )
        report(lines)
    return ExitCode.ALL_ANSWERED


_STATEMENT = (
    "day",
    "time",
    "number",
    "endpoint",
    "whatsapp",
    "calls",
    "possibly_double_charged",
    "request_id",
)


def _as_facts(facts: LedgerInfo) -> list[tuple[str, str]]:
    answered = facts.yes + facts.no
    answers = thousands(answered)
    if answered:
        answers += f" ({thousands(facts.yes)} on WhatsApp, {facts.yes / answered:.1%})"
    lines = [
        ("ledger", f"{facts.path} ({decimal(facts.bytes)}, version {facts.version})"),
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
        lines.append(("in use", f"by {', '.join(facts.running)}"))
    return lines
