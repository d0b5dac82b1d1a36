"""``accucheck report``: one HTML page on a checked list."""

from __future__ import annotations

import locale
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from accucheck._errors import ConfigurationError
from accucheck.cli._console import say
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._options import DEFAULT_TALK, Talk
from accucheck.report import Run
from accucheck.report import report as write_report

__all__ = ["report"]


def report(
    checked: Path,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    by: tuple[str, ...] = (),
    language: Literal["en", "es"] | None = None,
    title: str | None = None,
    price: float | None = None,
    currency: str = "USD",
    summary: Path | None = None,
    column: str | None = None,
    talk: Talk = DEFAULT_TALK,
) -> ExitCode:
    """Run the command.

    Parameters
    ----------
    checked
        A list that bulk has written.
    output
        The HTML file to write.
    by
        A column of your own to compare by, such as Ciudad; repeat it for more. Default: every column with few values.
    language
        en or es. Default: the language of your system, or English.
    title
        The heading. Default: the name of the list.
    price
        The price of one answer, for the cost.
    currency
        Shown after the cost.
    summary
        The file that bulk wrote with --summary-json: adds calls, duration and the limit that was found.
    column
        The column of the phone numbers, if there are several.
    """
    write_report(
        checked,
        output,
        title=title,
        language=language or _system_language(),
        by=by or None,
        price=price,
        currency=currency,
        run=Run() if summary is None else _read_summary(summary),
        column=column,
    )
    if not talk.quiet:
        say(f"report written to {output}: open it in a browser, or print it")
    return ExitCode.ALL_ANSWERED


def _system_language() -> Literal["en", "es"]:
    name = locale.getlocale()[0] or ""
    return "es" if name.lower().startswith(("es", "spanish")) else "en"


def _read_summary(path: Path) -> Run:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Run)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"{path} is not the summary of a run ({error}): give the file that bulk wrote with --summary-json"
        ) from error
