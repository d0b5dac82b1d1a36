"""``accucheck bulk``: a list in, the same list with the answers out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from accucheck._errors import ConfigurationError
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job, LedgerChoice
from accucheck.cli._options import (
    DEFAULT_ACCOUNT,
    DEFAULT_LIST_OPTIONS,
    DEFAULT_PACE,
    DEFAULT_PATIENCE,
    DEFAULT_TALK,
    STANDARD_STREAM,
    Account,
    Duration,
    ListOptions,
    Pace,
    Patience,
    StreamOrPath,
    Talk,
)

__all__ = ["bulk"]

_OUTPUT = Group("Output", sort_key=5)
_MEMORY = Group("What is already known", sort_key=15)


def bulk(
    input: StreamOrPath,  # noqa: A002 it is what the help shows
    /,
    *,
    output: Annotated[StreamOrPath, Parameter(alias="-o", group=_OUTPUT)],
    format: Annotated[str | None, Parameter(group=_OUTPUT)] = None,  # noqa: A002
    ordered: Annotated[bool, Parameter(group=_OUTPUT)] = False,
    ledger: Annotated[Path | None, Parameter(group=_MEMORY)] = None,
    no_ledger: Annotated[bool, Parameter(group=_MEMORY)] = False,
    fresh_within: Annotated[Duration | None, Parameter(group=_MEMORY)] = None,
    retry_failed: Annotated[bool, Parameter(group=_MEMORY)] = False,
    sample: Annotated[PositiveInt | None, Parameter(group=_MEMORY)] = None,
    seed: Annotated[int | None, Parameter(group=_MEMORY)] = None,
    grace: NonNegativeFloat = 5.0,
    account: Account = DEFAULT_ACCOUNT,
    pace: Pace = DEFAULT_PACE,
    patience: Patience = DEFAULT_PATIENCE,
    reading: ListOptions = DEFAULT_LIST_OPTIONS,
    talk: Talk = DEFAULT_TALK,
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Check a whole list: a file in, the same file with the answers out."""
