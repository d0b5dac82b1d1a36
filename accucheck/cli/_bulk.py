"""``accucheck bulk``: a list in, the same list with the answers out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from accucheck.cli._account import make_client
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._file_job import run_file_job
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job
from accucheck.cli._options import (
    DEFAULT_ACCOUNT,
    DEFAULT_LIST_OPTIONS,
    DEFAULT_PACE,
    DEFAULT_PATIENCE,
    DEFAULT_TALK,
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
_KNOWN = Group("What is already known", sort_key=15)


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
    sample: Annotated[PositiveInt | None, Parameter(group=_KNOWN)] = None,
    seed: Annotated[int | None, Parameter(group=_KNOWN)] = None,
    grace: NonNegativeFloat = 5.0,
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
        The list: CSV, TSV, JSON lines, Parquet or Excel, also .gz and .zst; - is standard input.
    output
        Where to write: the suffix tells the format. - is standard output: JSON lines, as they are answered.
    format
        Format of the output, whatever its name: csv, tsv, jsonl, parquet or xlsx.
    ordered
        With -o -: in the order of the input; a slow number holds back those behind it.
    ledger
        Where answers are kept; by default OUTPUT.ledger, or INPUT.ledger with -o -. Lists that share one buy
        no number twice.
    no_ledger
        Leave no ledger behind: a run that is cut off starts anew.
    job
        Whose calls --max-calls caps, over all runs that name it, those of --sample too; by default the list's,
        told by its output.
    fresh_within
        Buy answers anew that are older than this: 30d.
    retry_failed
        Ask again for numbers that failed in an earlier run.
    sample
        Check only this many, drawn at random, and say what they tell of the rest; writes no output.
    seed
        What the sample is drawn from, to draw the same one again from the same list.
    grace
        Seconds that calls under way get to settle after the first Ctrl-C.
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
        grace=grace,
        outage_deadline=patience.outage_deadline,
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
    return run_file_job(task, client, interruption)
