"""One bulk job: its options, and how its list, ledger and stream are opened."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar

from accucheck._budgets import spent_so_far
from accucheck._client import Client
from accucheck._costs import Cost, Prices
from accucheck._errors import BudgetExhausted, ConfigurationError
from accucheck._events import OnEvent
from accucheck._polls import FLOOR as POLL_FLOOR
from accucheck._store import EndpointChoice, Store, is_postgres
from accucheck._store._file import files_of
from accucheck._stream import Stream
from accucheck.cli._console import say
from accucheck.cli._ledger import ANY_AGE, Freshness
from accucheck.cli._lists import Exclusion
from accucheck.cli._options import (
    DEFAULT_LIST_OPTIONS,
    DEFAULT_PACE,
    DEFAULT_PATIENCE,
    DEFAULT_TALK,
    STANDARD_STREAM,
    CostCap,
    ListOptions,
    Pace,
    Talk,
)
from accucheck.cli._run import GRACE, Ending, MetricsFile
from accucheck.files import Source, full_name, is_remote, open_source
from accucheck.files._formats import split_suffixes

__all__ = ["Job", "Only", "open_list", "with_job_totals"]

Item = TypeVar("Item")
Only = Literal["yes", "no", "answered", "unanswered"]
"""Which rows an output keeps."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to do with one list. Each field is an option of ``accucheck bulk``."""

    input: str
    output: str
    endpoint: EndpointChoice = "advanced"
    format: str | None = None
    ordered: bool = False
    ledger: str | None = None
    """A path or URL; None for none."""
    job: str | None = None
    fresh: Freshness = ANY_AGE
    retry_failed: bool = False
    sample: int | None = None
    seed: int | None = None
    exclusion: Exclusion | None = None
    only: Only | None = None
    split: bool = False
    allow_invalid: bool = False
    force: bool = False
    summary_json: Path | None = None
    metrics_file: Path | None = None
    report: Path | None = None
    by: tuple[str, ...] = ()
    language: Literal["en", "es"] | None = None
    currency: str = ""
    grace: float = GRACE
    outage_deadline: timedelta = DEFAULT_PATIENCE.outage_deadline
    host: str = "AccuAuth"
    keep_going: bool = False
    pending: Literal["wait", "later"] = "wait"
    poll_floor: timedelta | None = None
    prices: Prices | None = None
    max_cost: CostCap | None = None
    pace: Pace = DEFAULT_PACE
    reading: ListOptions = DEFAULT_LIST_OPTIONS
    talk: Talk = DEFAULT_TALK

    def __post_init__(self) -> None:
        if self.ledger is None:
            for option, given in (
                ("--fresh-within", self.fresh != ANY_AGE),
                ("--retry-failed", self.retry_failed),
                ("--sample", self.sample),
            ):
                if given:
                    raise ConfigurationError(f"{option} needs a ledger, but --ledger none turns it off")
        if self.ledger is not None and not self.to_stdout and not is_postgres(self.ledger):
            ledger = os.path.realpath(self.ledger)
            for output in self.outputs.values():
                if full_name(output) in {str(path) for path in files_of(Path(ledger))}:
                    raise ConfigurationError(f"{output} is the ledger; write the output to another file")
        if self.max_cost is not None and self.prices is None:
            raise ConfigurationError("--max-cost needs the price of an answer: add --price 0.005")
        if self.endpoint == "cascade" and self.prices is not None and self.prices.basic is None:
            raise ConfigurationError("--endpoint cascade has two prices: add --price-basic")
        if self.endpoint != "cascade" and self.prices is not None and self.prices.basic is not None:
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

    def metrics(self, cost: Callable[[], Cost | None]) -> MetricsFile | None:
        """The writer of ``--metrics-file``; None without one."""
        return None if self.metrics_file is None else MetricsFile(self.metrics_file, self.name, cost)

    async def max_calls(self, store: Store) -> int | None:
        """Return the most calls that the job may have made when this run ends."""
        cap = self.pace.max_calls
        if cap is None:
            return None
        return cap.calls + (await store.calls_made(self.name) if cap.more else 0)

    async def _max_cost(self, store: Store | None) -> Decimal | None:
        """Return the most that the job may have spent when this run ends."""
        cap = self.max_cost
        if cap is None:
            return None
        return cap.amount + (await spent_so_far(store, self.name) if cap.more and store is not None else 0)

    async def stream(
        self,
        client: Client,
        items: Iterable[Item] | AsyncIterable[Item],
        store: Store | None,
        *,
        on_event: OnEvent,
        number: Callable[[Item], str | int | None] | None = None,
    ) -> Stream[Item]:
        """Return the stream of this job over ``items``. Its grace is 0, because ``run_stream`` adds it."""
        cap = self.pace.max_calls
        return client.stream(
            items,
            number=number or _itself,
            workers=self.pace.workers,
            ordered=self.ordered,
            max_calls=await self.max_calls(store) if store is not None else cap and cap.calls,
            max_cost=await self._max_cost(store),
            prices=self.prices,
            ledger=store,
            job=self.name if store is not None else "",
            fresh_within=self.fresh.as_given if store is not None else None,
            retry_failed=self.retry_failed,
            grace=0,
            outage_after=self.outage_deadline or None,
            keep_going=self.keep_going,
            pending=self.pending,
            poll_floor=POLL_FLOOR if self.poll_floor is None else self.poll_floor,
            on_event=on_event,
        )


async def with_job_totals(ending: Ending, job: Job, store: Store) -> Ending:
    """Return ``ending`` with the calls and the cost of all runs of the job, where a cap has ended it."""
    if not isinstance(ending.error, BudgetExhausted):
        return ending
    return replace(
        ending, job_calls=await store.calls_made(job.name), job_spent=await spent_so_far(store, job.name)
    )


def _itself(item: Any) -> Any:
    return item


def open_list(
    name: str, reading: ListOptions, talk: Talk, *, file_format: str | None = None, live: bool = False
) -> Source:
    """Open a lead list and print which column has the numbers. ``live``: read standard input as it arrives."""
    source = open_source(
        name,
        column=reading.column or None,
        sheet=reading.sheet,
        visible_only=reading.visible_only,
        encoding=reading.encoding,
        file_format=file_format,
        live=live,
        # Not sys.stdin: if a thread holds its lock when the interpreter exits, the process crashes.
        stdin=open(0, "rb", buffering=0, closefd=False) if live else None,  # noqa: SIM115
    )
    if not talk.quiet:
        say("phone numbers: column " + " and ".join(map(str, source.number_columns)))
        for note in source.notes:
            if not (reading.several and "--several" in note):  # advice that was taken
                say(note)
    return source
