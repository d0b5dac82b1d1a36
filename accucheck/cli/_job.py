"""One bulk run as it was asked for, and what its kinds have in common: the list, the ledger, the client."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeVar

from accucheck._client import Client
from accucheck._errors import ConfigurationError
from accucheck._ledger import Ledger
from accucheck._models import Stats
from accucheck._stream import Stream
from accucheck.cli._messages import say
from accucheck.cli._options import (
    DEFAULT_LIST_OPTIONS,
    DEFAULT_PACE,
    DEFAULT_TALK,
    STANDARD_STREAM,
    ListOptions,
    Pace,
    Talk,
)
from accucheck.cli._outage import OutageTeller
from accucheck.cli._progress import Total
from accucheck.cli._run import GRACE
from accucheck.files import Source, open_source

__all__ = ["Job", "open_list", "row_total"]

Item = TypeVar("Item")

QUICKLY_COUNTED = 4_000_000
"""Bytes of a file whose rows are counted before the run: a fraction of a second, for an exact total."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a bulk run is to do. See the options of ``accucheck bulk`` for each."""

    input: str
    output: str
    endpoint: Literal["advanced", "basic"] = "advanced"
    format: str | None = None
    ordered: bool = False
    ledger: Path | None = None
    no_ledger: bool = False
    fresh_within: timedelta | None = None
    retry_failed: bool = False
    sample: int | None = None
    seed: int | None = None
    grace: float = GRACE
    pace: Pace = DEFAULT_PACE
    reading: ListOptions = DEFAULT_LIST_OPTIONS
    talk: Talk = DEFAULT_TALK

    def __post_init__(self) -> None:
        if self.ledger_path is None:
            for name in ("fresh_within", "retry_failed", "sample"):
                if getattr(self, name):
                    option = f"--{name.replace('_', '-')}"
                    raise ConfigurationError(f"{option} needs a ledger: name one with --ledger")
        if self.no_ledger and self.ledger is not None:
            raise ConfigurationError("--ledger and --no-ledger exclude each other")
        if self.seed is not None and self.sample is None:
            raise ConfigurationError("--seed goes with --sample")
        if self.ordered and (not self.to_stdout or self.sample):
            raise ConfigurationError("--ordered is for -o -; a file is always in the order of the input")

    @property
    def to_stdout(self) -> bool:
        """Whether the rows go to standard output, as they are answered."""
        return self.output == STANDARD_STREAM

    @property
    def ledger_path(self) -> Path | None:
        """Where answers are kept: beside the output unless it was said otherwise; None for nowhere."""
        if self.no_ledger:
            return None
        if self.ledger is not None:
            return self.ledger
        return None if self.to_stdout else Path(f"{self.output}.ledger")

    def stream(
        self,
        client: Client,
        items: Iterable[Item],
        ledger: Ledger | Path | None,
        *,
        number: Callable[[Item], str | int | None] | None = None,
    ) -> Stream[Item]:
        """Return the stream of this job over ``items``; ``run_stream`` gives the calls their grace."""
        return client.stream(
            items,
            number=number,
            workers=self.pace.workers,
            ordered=self.ordered,
            max_calls=self.pace.max_calls,
            ledger=ledger,
            fresh_within=self.fresh_within,
            retry_failed=self.retry_failed,
            grace=0,
            on_event=OutageTeller(),
        )

    @contextmanager
    def opened_ledger(self) -> Iterator[Ledger]:
        """Give the job's ledger, or a private one that is gone when the block ends."""
        if self.ledger_path is not None:
            with Ledger(self.ledger_path) as ledger:
                yield ledger
            return
        with (
            tempfile.TemporaryDirectory(prefix="accucheck-") as directory,
            Ledger(Path(directory) / "ledger") as ledger,
        ):
            yield ledger


def open_list(name: str, reading: ListOptions, talk: Talk, *, file_format: str | None = None) -> Source:
    """Open a lead list, and say which column holds the numbers."""
    column = reading.column
    source = open_source(
        name,
        column=int(column) if column is not None and column.isdecimal() else column,
        encoding=reading.encoding,
        file_format=file_format,
    )
    try:
        if not talk.quiet:
            say(f"numbers are in column {source.number_column}")
        path = source.origin.path
        if source.rows_total is None and path is not None and os.stat(path).st_size <= QUICKLY_COUNTED:
            for _ in source.numbers():
                pass
    except BaseException:
        source.close()
        raise
    return source


def row_total(source: Source) -> Total:
    """Return what tells how many rows there are: exactly once they were counted, by the bytes read before."""

    def total(stats: Stats) -> tuple[int, bool] | None:
        if source.rows_total is not None:
            return source.rows_total, True
        fraction = source.fraction
        return (round(stats.read / fraction), False) if fraction > 0 and stats.read else None

    return total
