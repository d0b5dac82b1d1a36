"""``accucheck bulk``: a list in, the same list with the answers out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Group, Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from accucheck.cli._account import make_client
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._file_job import run_file_jobs
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job
from accucheck.cli._options import (
    DEFAULT_ACCOUNT,
    DEFAULT_LIST_OPTIONS,
    DEFAULT_PACE,
    DEFAULT_PATIENCE,
    DEFAULT_TALK,
    PATIENCE,
    Account,
    Duration,
    ListOptions,
    Pace,
    Patience,
    StreamOrPath,
    Talk,
)
from accucheck.cli._pipe_job import run_pipe_job
from accucheck.cli._sample import run_sample_job

__all__ = ["bulk"]

_OUTPUT = Group("Output", sort_key=5)
_KNOWN = Group("Ledger and earlier answers", sort_key=15)
_SAMPLE = Group("Sample", sort_key=8)


def bulk(
    input: StreamOrPath,  # noqa: A002 the word that the help shows
    /,
    *,
    output: Annotated[StreamOrPath, Parameter(alias="-o", group=_OUTPUT)],
    format: Annotated[str | None, Parameter(group=_OUTPUT)] = None,  # noqa: A002 the option's name
    ordered: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    ledger: Annotated[Path | None, Parameter(group=_KNOWN)] = None,
    no_ledger: Annotated[bool, Parameter(group=_KNOWN)] = False,
    job: Annotated[str | None, Parameter(group=_KNOWN)] = None,
    fresh_within: Annotated[Duration | None, Parameter(group=_KNOWN)] = None,
    retry_failed: Annotated[bool, Parameter(group=_KNOWN)] = False,
    sample: Annotated[PositiveInt | None, Parameter(group=_SAMPLE)] = None,
    seed: Annotated[int | None, Parameter(group=_SAMPLE)] = None,
    allow_invalid: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    force: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    grace: Annotated[NonNegativeFloat, Parameter(group=PATIENCE)] = 5.0,
    account: Account = DEFAULT_ACCOUNT,
    pace: Pace = DEFAULT_PACE,
    patience: Patience = DEFAULT_PATIENCE,
    reading: ListOptions = DEFAULT_LIST_OPTIONS,
    talk: Talk = DEFAULT_TALK,
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Check a whole list: a file in, the same file with the answers out.

    Parameters
    ----------
    input
        The list: CSV, TSV, JSON lines, Parquet or Excel, plain or as .gz or .zst; - reads standard input.
    output
        File to write; its suffix sets the format. - writes JSON lines to standard output as numbers are answered.
    format
        Output format, whatever the file's suffix: csv, tsv, jsonl, parquet or xlsx.
    ordered
        With -o -: keep the order of the input; a slow number holds back those behind it.
    ledger
        File that keeps the answers. Default: OUTPUT.ledger, or INPUT.ledger with -o -. Lists that share a ledger
        never buy a number twice.
    no_ledger
        Keep no ledger: an interrupted run starts from zero.
    job
        Name under which --max-calls counts calls, over all runs and samples. Default: the path of the output.
    fresh_within
        Check again what was answered longer ago than this: 30d.
    retry_failed
        Check again what failed in an earlier run.
    sample
        Check only this many random numbers and estimate the rest. Writes no output.
    seed
        Seed of the random sample, to draw the same one again.
    allow_invalid
        Exit with 0 even if rows are blank or invalid, as long as every other row is answered.
    force
        Overwrite an output that an earlier run over this list did not write.
    grace
        Seconds that calls in flight get to finish after Ctrl-C.
    """
    task = Job(
        input=input,
        output=output,
        format=format,
        ordered=ordered,
        ledger=ledger,
        no_ledger=no_ledger,
        job=job,
        fresh_within=fresh_within,
        retry_failed=retry_failed,
        sample=sample,
        seed=seed,
        allow_invalid=allow_invalid,
        force=force,
        grace=grace,
        outage_deadline=patience.outage_deadline,
        host=urlsplit(account.base_url).hostname or account.base_url,
        endpoint=account.endpoint,
        pace=pace,
        reading=reading,
        talk=talk,
    )
    client = make_client(account, patience, pace, mobile_only=reading.mobile_only)
    if sample is not None:
        return run_sample_job(task, sample, client, interruption)
    if task.to_stdout:
        return run_pipe_job(task, client, interruption)
    return run_file_jobs([task], client, interruption)
