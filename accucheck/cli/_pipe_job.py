"""A list to standard output: every row as soon as it is answered, and the unanswered ones at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from accucheck._client import Client
from accucheck._models import Checked, Outcome
from accucheck.cli._answer_columns import Tally, columns_of
from accucheck.cli._conclusion import conclude
from accucheck.cli._event_loop import run_to_end
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job, open_list, row_total
from accucheck.cli._known import nothing_known
from accucheck.cli._live_rows import LiveRows
from accucheck.cli._messages import say
from accucheck.cli._options import STANDARD_STREAM
from accucheck.cli._outage import OutageWatch
from accucheck.cli._output_pass import answered_rows
from accucheck.cli._render import standard_output
from accucheck.cli._run import Ending, run_stream
from accucheck.files import Row, Source, StreamSink

__all__ = ["run_pipe_job"]


class Places:
    """Places in a list, one bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, place: int) -> None:
        """Note ``place``, from 0, once."""
        byte = place >> 3
        if byte >= len(self._bits):
            self._bits.extend(bytes(max(byte + 1 - len(self._bits), 1024)))
        self._bits[byte] |= 1 << (place & 7)
        self._count += 1

    def __contains__(self, place: int) -> bool:
        byte = place >> 3
        return byte < len(self._bits) and bool(self._bits[byte] & 1 << (place & 7))


def run_pipe_job(job: Job, client: Client, interruption: Interruption) -> ExitCode:
    """Do the job; return its exit code. Raises BrokenPipeError if nobody reads any more."""
    written = Places()
    tally = Tally()
    if job.ledger_path is None and not job.talk.quiet:
        say("no ledger: a run that is cut off starts anew; --ledger PATH keeps the answers")
    with (
        open_list(job.input, job.reading, job.talk, live=job.input == STANDARD_STREAM) as source,
        StreamSink(standard_output(), source, file_format=job.format or "jsonl", every_row=True) as sink,
    ):
        live = None if source.repeatable else LiveRows(source.rows())

        def write(outcome: Outcome[Row]) -> None:
            if isinstance(outcome, Checked):
                columns = columns_of(outcome.check)
            else:
                columns = columns_of(outcome.error)
                if outcome.item.fault:
                    columns = columns._replace(reason=outcome.item.fault)
            sink.write(outcome.item, columns)
            if live is not None:
                live.answered(outcome.index)
            else:
                written.add(outcome.index)
            tally.count(columns)

        async def answer() -> Ending:
            outage = OutageWatch(job.outage_deadline)
            async with client:
                return await run_stream(
                    job.stream(
                        client,
                        live or source.rows(),
                        job.ledger_path,
                        on_event=outage,
                        number=lambda row: row.number,
                    ),
                    write,
                    interruption=interruption,
                    outage=outage,
                    total=row_total(source),
                    grace=job.grace,
                    # The rows themselves show how far it is.
                    quiet=job.talk.quiet or sys.stdout.isatty(),
                )

        ending = run_to_end(answer())
        if not ending.left_at_once:
            rest = _unwritten(source, written) if live is None else live.rest()
            for row, columns in answered_rows(rest, nothing_known, mobile_only=job.reading.mobile_only):
                sink.write(row, columns)
                tally.count(columns)
    return conclude(job, ending, tally, interruption, [])


def _unwritten(source: Source, written: Places) -> Iterator[Row]:
    """Yield the rows that have no outcome, from a second pass if there are any."""
    if source.rows_total is None or source.rows_total != len(written):
        yield from (row for place, row in enumerate(source.rows()) if place not in written)
