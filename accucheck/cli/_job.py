"""One bulk job: its options, what they must not contradict, and how its list is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cyclopts import Group, Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from accucheck._errors import ConfigurationError
from accucheck._store import is_postgres
from accucheck._store._file import files_of
from accucheck.cli._ledger import NONE, chosen_ledger
from accucheck.cli._lists import Exclusion
from accucheck.cli._options import (
    PATIENCE,
    STANDARD_STREAM,
    Account,
    Age,
    Duration,
    ListOptions,
    OutputFormat,
    Pace,
    Patience,
    Skipping,
    Spending,
    StreamOrPath,
    Talk,
)
from accucheck.files import full_name, is_remote
from accucheck.files._formats import split_suffixes

Only = Literal["yes", "no", "answered", "unanswered"]
"""Which rows an output keeps."""

_OUTPUT = Parameter(group=Group("Output", sort_key=5))
_REPORT = Parameter(group=Group("Report", sort_key=6))
_SAMPLE = Parameter(group=Group("Sample", sort_key=8))
_KNOWN = Parameter(group=Group("Ledger and earlier answers", sort_key=15))
_PATIENCE = Parameter(group=PATIENCE)
_NO_OPTION = Parameter(parse=False)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Job:
    """What to do with one list: the options of ``accucheck bulk``. Raises ConfigurationError if two contradict."""

    input: Annotated[str, _NO_OPTION] = ""
    exclusion: Annotated[Exclusion | None, _NO_OPTION] = None
    """What ``skipping`` means for the rows."""
    output: Annotated[StreamOrPath, _OUTPUT, Parameter(alias="-o")] = ""
    """File to write, or an address such as s3://bucket/checked.csv; its suffix sets the format. - writes JSON lines to
    standard output as answers arrive."""
    output_dir: Annotated[str | None, _OUTPUT, Parameter(metavar="PATH")] = None
    """Folder for the results of several lists; each file keeps its name."""
    format: Annotated[OutputFormat, _OUTPUT] = None
    only: Annotated[Only | None, _OUTPUT] = None
    """Write only these rows: yes, no, answered (both), or unanswered (the rest)."""
    split: Annotated[Literal["verdict"] | None, _OUTPUT] = None
    """Write three files instead of one: OUTPUT.yes, OUTPUT.no and OUTPUT.rest."""
    force: Annotated[bool, _OUTPUT] = False
    """Overwrite the output even if it does not come from an earlier run on this list."""
    allow_invalid: Annotated[bool, _OUTPUT] = False
    """Exit with 0 even if some rows are blank or invalid, as long as all other rows are answered."""
    summary_json: Annotated[Path | None, _OUTPUT] = None
    """File to write a summary of the run to, as JSON."""
    metrics_file: Annotated[Path | None, _OUTPUT] = None
    """File for the run's metrics, written every 5 seconds for Prometheus' textfile collector: FILE.prom."""
    ordered: Annotated[bool, _OUTPUT] = False
    """With -o -, keep the input's order; a slow number then holds back the ones after it."""
    report: Annotated[Path | None, _REPORT] = None
    """HTML report to write, to send or print; with several lists, one for each: report-LIST.html."""
    by: Annotated[tuple[str, ...], _REPORT] = ()
    """Your own column to group by, such as Ciudad. Repeatable. Default: each with 2 to 30 values, except dates."""
    language: Annotated[Literal["en", "es"] | None, _REPORT] = None
    """Language of the report and of a workbook's summary sheet: en or es. Default: your system's, or English."""
    sample: Annotated[PositiveInt | None, _SAMPLE] = None
    """Check only this many random numbers and estimate the rest. Writes no output."""
    seed: Annotated[int | None, _SAMPLE] = None
    """Seed of the sample; the same seed draws the same numbers."""
    skipping: Skipping = Skipping()
    ledger: Annotated[str | None, _KNOWN] = None
    """Where answers are kept: a file, postgresql://… or none. Default: your account's own ledger, so a number bought
    for one list is free in the next."""
    job: Annotated[str | None, _KNOWN] = None
    """Name under which --max-calls and --max-cost add up across runs and samples. Default: the output's path."""
    fresh_within: Annotated[Age | None, _KNOWN] = None
    """Re-check answers older than this: 30d, or yes=90d,no=14d."""
    retry_failed: Annotated[bool, _KNOWN] = False
    """Re-check numbers that failed in an earlier run."""
    grace: Annotated[NonNegativeFloat, _PATIENCE] = 5.0
    """Seconds for calls in flight to finish after Ctrl-C."""
    pending: Annotated[Literal["wait", "later"], _PATIENCE] = "wait"
    """What to do with PENDING numbers: wait polls each until it is answered; later asks for the whole list first, then
    collects the answers. If some are still PENDING at the end, run the same command again later."""
    poll_floor: Annotated[Duration | None, _PATIENCE] = None
    """With --pending later: minimum time between two calls for a number, across all runs. Default: 20s."""
    account: Account = Account()
    pace: Pace = Pace()
    cost: Spending = Spending()
    patience: Patience = Patience()
    reading: ListOptions = ListOptions()
    talk: Talk = Talk()

    def __post_init__(self) -> None:
        if self.ledger == NONE:
            for option, given in (
                ("--fresh-within", self.fresh_within is not None),
                ("--retry-failed", self.retry_failed),
                ("--sample", self.sample),
            ):
                if given:
                    raise ConfigurationError(f"{option} needs a ledger, but --ledger none turns it off")
        if self.place is not None and not self.to_stdout and not is_postgres(self.place):
            ledger = {str(path) for path in files_of(Path(os.path.realpath(self.place)))}
            for output in self.outputs.values():
                if full_name(output) in ledger:
                    raise ConfigurationError(f"{output} is the ledger; write the output to another file")
        prices, endpoint = self.cost.prices, self.account.endpoint
        if self.cost.max_cost is not None and prices is None:
            raise ConfigurationError("--max-cost needs the price of an answer: add --price 0.005")
        if endpoint == "cascade" and prices is not None and prices.basic is None:
            raise ConfigurationError("--endpoint cascade has two prices: add --price-basic")
        if endpoint != "cascade" and prices is not None and prices.basic is not None:
            raise ConfigurationError(
                "--price-basic goes with --endpoint cascade; give --price for one endpoint"
            )
        if self.poll_floor is not None and self.pending != "later":
            raise ConfigurationError("--poll-floor needs --pending later")
        if self.split and self.only is not None:
            raise ConfigurationError("use either --split or --only, not both")
        if (self.split or self.only) and self.to_stdout:
            raise ConfigurationError("--split and --only need an output file: name one with -o")
        if self.report is not None and (self.to_stdout or self.sample):
            other = "--sample" if self.sample else "-o -"
            raise ConfigurationError(
                f"--report does not work with {other}: it needs the rows of an output file"
            )
        if self.seed is not None and self.sample is None:
            raise ConfigurationError("--seed needs --sample")
        if self.ordered and (not self.to_stdout or self.sample):
            raise ConfigurationError(
                "--ordered only works with -o -; a file always keeps the order of the input"
            )

    @cached_property
    def place(self) -> str | None:
        """The path or URL of the ledger; None for none."""
        return chosen_ledger(self.ledger, self.account.api_id, self.account.base_url)

    @property
    def host(self) -> str:
        """Where calls go, for messages."""
        return urlsplit(self.account.base_url).hostname or self.account.base_url

    @property
    def to_stdout(self) -> bool:
        """Whether rows go to standard output as they are answered."""
        return self.output == STANDARD_STREAM

    @property
    def outputs(self) -> dict[str, str]:
        """Where rows go, by verdict (``yes``, ``no``, ``rest``), or ``""`` for all of them in one file."""
        if not self.split:
            return {"": self.output}
        path = Path(self.output)
        suffixes = "".join(path.suffixes[-2:]) if split_suffixes(path)[1] is not None else path.suffix
        stem = self.output.removesuffix(suffixes)
        return {verdict: f"{stem}.{verdict}{suffixes}" for verdict in ("yes", "no", "rest")}

    @property
    def name(self) -> str:
        """The name under which ``--max-calls`` and ``--max-cost`` count over all runs: the output's or input's path."""
        place = self.input if self.to_stdout else self.output
        name = self.job or (place if is_remote(place) else os.path.abspath(place))
        # A file name may contain bytes that are not UTF-8; a database accepts only text.
        return name.encode("utf-8", "backslashreplace").decode()
