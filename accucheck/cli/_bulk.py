"""``accucheck bulk``: a list in, the same list with the answers out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cyclopts import Group, Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from accucheck._errors import ConfigurationError
from accucheck.cli._account import find_id, make_client
from accucheck.cli._exit import ExitCode, Interruption
from accucheck.cli._job import Job, Only
from accucheck.cli._jobs import run_file_jobs, run_pipe_job
from accucheck.cli._ledger import ANY_AGE, chosen_ledger
from accucheck.cli._lists import expand, make_exclusion, outputs_in, reports_on
from accucheck.cli._options import (
    DEFAULT_ACCOUNT,
    DEFAULT_LIST_OPTIONS,
    DEFAULT_PACE,
    DEFAULT_PATIENCE,
    DEFAULT_SPENDING,
    DEFAULT_TALK,
    EXCLUSION,
    PATIENCE,
    Account,
    Age,
    Duration,
    ListOptions,
    OutputFormat,
    Pace,
    Patience,
    Spending,
    StreamOrPath,
    Talk,
)
from accucheck.cli._output import refuse_files_beside
from accucheck.cli._survey import run_sample_job
from accucheck.files import is_remote

__all__ = ["bulk"]

_OUTPUT = Group("Output", sort_key=5)
_REPORT = Group("Report", sort_key=6)
_KNOWN = Group("Ledger and earlier answers", sort_key=15)
_SAMPLE = Group("Sample", sort_key=8)


def bulk(
    *lists: StreamOrPath,
    output: Annotated[StreamOrPath | None, Parameter(alias="-o", group=_OUTPUT)] = None,
    output_dir: Annotated[str | None, Parameter(group=_OUTPUT, metavar="PATH")] = None,
    format: Annotated[OutputFormat, Parameter(group=_OUTPUT)] = None,  # noqa: A002 the option's name
    only: Annotated[Only | None, Parameter(group=_OUTPUT)] = None,
    split: Annotated[Literal["verdict"] | None, Parameter(group=_OUTPUT)] = None,
    force: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    allow_invalid: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    summary_json: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    metrics_file: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    ordered: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    report: Annotated[Path | None, Parameter(group=_REPORT)] = None,
    by: Annotated[tuple[str, ...], Parameter(group=_REPORT)] = (),
    language: Annotated[Literal["en", "es"] | None, Parameter(group=_REPORT)] = None,
    sample: Annotated[PositiveInt | None, Parameter(group=_SAMPLE)] = None,
    seed: Annotated[int | None, Parameter(group=_SAMPLE)] = None,
    exclude: Annotated[tuple[Path, ...], Parameter(group=EXCLUSION)] = (),
    where: Annotated[tuple[str, ...], Parameter(group=EXCLUSION)] = (),
    ledger: Annotated[str | None, Parameter(group=_KNOWN)] = None,
    job: Annotated[str | None, Parameter(group=_KNOWN)] = None,
    fresh_within: Annotated[Age | None, Parameter(group=_KNOWN)] = None,
    retry_failed: Annotated[bool, Parameter(group=_KNOWN)] = False,
    grace: Annotated[NonNegativeFloat, Parameter(group=PATIENCE)] = 5.0,
    pending: Annotated[Literal["wait", "later"], Parameter(group=PATIENCE)] = "wait",
    poll_floor: Annotated[Duration | None, Parameter(group=PATIENCE)] = None,
    account: Account = DEFAULT_ACCOUNT,
    pace: Pace = DEFAULT_PACE,
    cost: Spending = DEFAULT_SPENDING,
    patience: Patience = DEFAULT_PATIENCE,
    reading: ListOptions = DEFAULT_LIST_OPTIONS,
    talk: Talk = DEFAULT_TALK,
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Check a list: reads a file and writes it back with the answers.

    Parameters
    ----------
    lists
        One or more lists: files, folders, patterns or addresses such as s3://bucket/leads.csv. CSV, TSV, JSON lines,
        Parquet or Excel, optionally .gz or .zst; - reads standard input.
    output
        File to write, or an address such as s3://bucket/checked.csv; its suffix sets the format. - writes JSON lines
        to standard output as answers arrive.
    output_dir
        Folder for the results of several lists; each file keeps its name.
    only
        Write only these rows: yes, no, answered (both), or unanswered (the rest).
    split
        Write three files instead of one: OUTPUT.yes, OUTPUT.no and OUTPUT.rest.
    summary_json
        File to write a summary of the run to, as JSON.
    metrics_file
        File for the run's metrics, written every 5 seconds for Prometheus' textfile collector: FILE.prom.
    report
        HTML report to write, to send or print; with several lists, one for each: report-LIST.html.
    by
        Your own column to group by, such as Ciudad. Repeatable. Default: each with 2 to 30 values, except dates.
    language
        Language of the report and of a workbook's summary sheet: en or es. Default: your system's, or English.
    exclude
        List of numbers to leave out, in any input format. Repeatable.
    where
        Check only rows where COLUMN=VALUE, such as consent=yes. Repeatable; all conditions must hold.
    ordered
        With -o -, keep the input's order; a slow number then holds back the ones after it.
    ledger
        Where answers are kept: a file, postgresql://… or none. Default: your account's own ledger, so a number
        bought for one list is free in the next.
    job
        Name under which --max-calls and --max-cost add up across runs and samples. Default: the output's path.
    fresh_within
        Re-check answers older than this: 30d, or yes=90d,no=14d.
    retry_failed
        Re-check numbers that failed in an earlier run.
    sample
        Check only this many random numbers and estimate the rest. Writes no output.
    seed
        Seed of the sample; the same seed draws the same numbers.
    allow_invalid
        Exit with 0 even if some rows are blank or invalid, as long as all other rows are answered.
    force
        Overwrite the output even if it does not come from an earlier run on this list.
    grace
        Seconds for calls in flight to finish after Ctrl-C.
    pending
        What to do with PENDING numbers: wait polls each until it is answered; later asks for the whole list first,
        then collects the answers. If some are still PENDING at the end, run the same command again later.
    poll_floor
        With --pending later: minimum time between two calls for a number, across all runs. Default: 20s.
    """
    if not lists:
        raise ConfigurationError(
            "name a list: accucheck bulk leads.csv -o checked.csv\naccucheck bulk --help"
        )
    names = expand(lists, apart_from=None if output_dir is None or is_remote(output_dir) else output_dir)
    if output_dir is not None and os.path.isfile(output_dir):
        raise ConfigurationError(f"--output-dir {output_dir} is a file; name a folder")
    if output is not None and output_dir is not None:
        raise ConfigurationError("use either -o or --output-dir, not both")
    if len(names) > 1 and output_dir is None:
        raise ConfigurationError("several lists need a folder for their results: add --output-dir checked")
    if sample is not None and output is None:
        output = _absolute(names[0])  # names the job; nothing is written
    if output is None and output_dir is None:
        raise ConfigurationError(
            "say where to write the results: accucheck bulk leads.csv -o checked.csv\naccucheck bulk --help"
        )
    outputs = [output] if output is not None else outputs_in(output_dir or "", names)
    account = replace(account, api_id=find_id(account.api_id))
    common = Job(
        input=names[0],
        output=outputs[0],
        endpoint=account.endpoint,
        format=format,
        ordered=ordered,
        ledger=chosen_ledger(ledger, account.api_id, account.base_url),
        job=job if job is not None or output_dir is None else _absolute(output_dir),
        fresh=fresh_within or ANY_AGE,
        retry_failed=retry_failed,
        sample=sample,
        seed=seed,
        exclusion=make_exclusion(exclude, where, quiet=talk.quiet),
        only=only,
        split=split is not None,
        force=force,
        allow_invalid=allow_invalid,
        summary_json=summary_json,
        metrics_file=metrics_file,
        by=by,
        language=language,
        currency=cost.currency,
        grace=grace,
        outage_deadline=patience.outage_deadline,
        host=urlsplit(account.base_url).hostname or account.base_url,
        pace=pace,
        keep_going=patience.keep_going,
        pending=pending,
        poll_floor=poll_floor,
        prices=cost.prices,
        max_cost=cost.max_cost,
        reading=reading,
        talk=talk,
    )
    jobs = [
        replace(common, input=name, output=path, report=page)
        for name, path, page in zip(names, outputs, reports_on(report, names), strict=True)
    ]
    refuse_files_beside(jobs)
    client = make_client(account, patience, pace, mobile_only=reading.mobile_only)
    if sample is not None:
        if len(jobs) > 1:
            raise ConfigurationError("--sample takes one list")
        return run_sample_job(jobs[0], sample, client, interruption)
    if common.to_stdout:
        return run_pipe_job(jobs[0], client, interruption)
    if output_dir is not None and not is_remote(output_dir):
        for path in outputs:
            os.makedirs(os.path.dirname(path), exist_ok=True)
    return run_file_jobs(jobs, client, interruption)


def _absolute(path: str) -> str:
    return path if is_remote(path) else os.path.abspath(path)
