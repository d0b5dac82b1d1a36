"""A list to standard output: every row as soon as it is answered, and the unanswered ones at the end."""

from __future__ import annotations

import sys

from accucheck._client import Client
from accucheck._models import Checked, Outcome
from accucheck.cli._answer_columns import Tally, columns_of
from accucheck.cli._event_loop import run_to_end
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._going_on import how_to_go_on
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job, open_list, row_total
from accucheck.cli._known import nothing_known
from accucheck.cli._messages import complain, say
from accucheck.cli._output_pass import answered_rows
from accucheck.cli._render import standard_output
from accucheck.cli._run import Ending, run_stream
from accucheck.cli._summary import summarise
from accucheck.files import Row, Source, StreamSink

__all__ = ["run_pipe_job"]


class Places:
    """Places in a list, one bit for each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, place: int) -> None:
        """Note ``place``, from 0."""
        byte = place >> 3
        if byte >= len(self._bits):
            self._bits.extend(bytes(max(byte + 1 - len(self._bits), 1024)))
        self._bits[byte] |= 1 << (place & 7)

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
        open_list(job.input, job.reading, job.talk) as source,
        StreamSink(standard_output(), source, file_format=job.format or "jsonl", every_row=True) as sink,
    ):

        def write(outcome: Outcome[Row]) -> None:
            if isinstance(outcome, Checked):
                columns = columns_of(outcome.check)
            else:
                columns = columns_of(outcome.error)
                if outcome.item.fault:
                    columns = columns._replace(reason=outcome.item.fault)
            sink.write(outcome.item, columns)
            written.add(outcome.index)
            tally.count(columns)

        async def answer() -> Ending:
            async with client:
                return await run_stream(
                    job.stream(client, source.rows(), job.ledger_path, number=lambda row: row.number),
                    write,
                    interruption=interruption,
                    total=row_total(source),
                    grace=job.grace,
                    # The rows themselves show how far it is.
                    quiet=job.talk.quiet or sys.stdout.isatty(),
                )

        ending = run_to_end(answer())
        if not ending.left_at_once:
            _write_the_rest(source, sink, written, tally, mobile_only=job.reading.mobile_only)
    if not job.talk.quiet:
        summarise(tally, ending.stats, [("ledger", str(job.ledger_path))] if job.ledger_path else [])
    if ending.error is not None:
        code = complain(ending.error)
    elif interruption.first is not None:
        code = interruption.exit_code
    else:
        code = ExitCode.ALL_ANSWERED if tally.answered == tally.rows else ExitCode.SOME_NOT_ANSWERED
    if ending.error is not None or interruption.first is not None:
        say("not every number was checked", hint=how_to_go_on(job, ending.error))
    return code


def _write_the_rest(
    source: Source, sink: StreamSink, written: Places, tally: Tally, *, mobile_only: bool
) -> None:
    if source.rows_total is not None and tally.rows == source.rows_total:
        return
    every_row = answered_rows(source.rows(), nothing_known, mobile_only=mobile_only)
    for place, (row, columns) in enumerate(every_row):
        if place not in written:
            sink.write(row, columns)
            tally.count(columns)
