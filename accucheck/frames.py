"""Dataframes in, dataframes with the answers out: Polars, pandas, PyArrow, and anything that exports Arrow (DuckDB).

The frame's own columns stay unchanged, followed by the answers (``ANSWER_COLUMNS``).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, Unpack

from accucheck._client import Client, StreamOptions
from accucheck._errors import ConfigurationError, RunEnded
from accucheck._models import Check, Checked, Outcome, Stats

__all__ = ["ANSWER_COLUMNS", "enrich", "enrich_async"]

ANSWER_COLUMNS: Final = (
    "whatsapp",
    "status_update",
    "business_user",
    "avatar",
    "signature",
    "status",
    "reason",
    "request_id",
    "number",
    "checked_at",
)
"""The columns appended to a frame, with the prefix ``accucheck_`` if it already has such a column, and a number at the
end if it has that one too.

whatsapp, business_user and avatar are booleans, status_update a date (pandas: ``datetime64[s]``), checked_at a time in
UTC, the rest text. Without an answer, all but ``status`` and ``reason`` are null; a null is never a "no"."""
_FLAGS: Final = ("whatsapp", "business_user", "avatar")
_PROGRESS_EVERY: Final = 1.0


async def enrich_async(
    frame: Any,
    *,
    number: str,
    client: Client,
    progress: bool | Callable[[Stats], object] = False,
    **options: Unpack[StreamOptions],
) -> Any:
    """Return ``frame`` with the answer of every row appended.

    Args:
        frame: A Polars or pandas DataFrame or a PyArrow Table; the result has the same type. Anything else that exports
            an Arrow stream, such as a DuckDB relation, returns a PyArrow Table.
        number: The column with the phone numbers.
        client: An open client.
        progress: True prints a line to standard error every second; a function gets the ``Stats`` instead.
        options: As for ``Client.stream``: ``ledger``, ``workers``, ``rate``, ``max_calls`` and so on.

    Raises:
        ConfigurationError: It is not a dataframe, or it has no such column.
        RunEnded: The run ended early. ``error.frame`` is the frame with the answers up to then.

    Examples:
        ```python
        import polars

        leads = polars.DataFrame({"phone": ["987654321", "912345678"]})
        async with accucheck.Client() as client:
            checked = await accucheck.frames.enrich_async(leads, number="phone", client=client)
        print(checked["phone", "whatsapp", "status"])
        ```
    """
    table, texts, append = opened(frame, number)
    answers: list[Outcome[int] | None] = [None] * len(texts)
    report = _reporter(progress)
    try:
        async with client.stream(range(len(texts)), number=texts.__getitem__, **options) as outcomes:
            watch = None if report is None else asyncio.create_task(_watch(report, lambda: outcomes.stats))
            try:
                async for outcome in outcomes:
                    answers[outcome.index] = outcome
            finally:
                if watch is not None and report is not None:
                    watch.cancel()
                    report(outcomes.stats)
    except RunEnded as error:
        error.frame = append(table, answer_columns(answers))  # type: ignore[attr-defined]
        raise
    return append(table, answer_columns(answers))


def enrich(
    frame: Any,
    *,
    number: str,
    client: dict[str, Any] | None = None,
    progress: bool | Callable[[Stats], object] = False,
    **options: Unpack[StreamOptions],
) -> Any:
    """Return ``frame`` with the answer of every row appended; see ``enrich_async``.

    Args:
        frame: A Polars or pandas DataFrame, a PyArrow Table, or anything else that exports an Arrow stream.
        number: The column with the phone numbers.
        client: Arguments for ``Client``, such as ``{"mobile_only": True}``. By default, the credentials come from
            ACCUCHECK_API_ID and ACCUCHECK_API_SECRET.
        progress: True prints a line to standard error every second; a function gets the ``Stats`` instead.
        options: As for ``Client.stream``: ``ledger``, ``workers``, ``rate``, ``max_calls`` and so on.

    Raises:
        ConfigurationError: It is not a dataframe, or it has no such column.
        RunEnded: The run ended early. ``error.frame`` is the frame with the answers up to then.
        RuntimeError: An event loop is running, as in a notebook; use ``await enrich_async(...)`` there.

    Examples:
        ```python
        import pandas

        leads = pandas.DataFrame({"phone": ["987654321", "912345678"]})
        checked = accucheck.frames.enrich(leads, number="phone", ledger="leads.db")
        print(checked[["phone", "whatsapp", "status"]])
        ```
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError(
            "enrich() cannot run inside an event loop (a notebook has one):"
            " await accucheck.frames.enrich_async(frame, number=..., client=client)"
        )

    async def run() -> Any:
        async with Client(**(client or {})) as session:
            return await enrich_async(frame, number=number, client=session, progress=progress, **options)

    return asyncio.run(run())


def opened(frame: Any, number: str) -> tuple[Any, list[Any], Callable[[Any, dict[str, list[Any]]], Any]]:
    """Return the frame, the texts of its number column, and a function that appends columns to it."""
    try:
        import narwhals as nw
    except ImportError as error:
        raise ConfigurationError(
            "dataframes need an extra package: pip install 'accucheck[frames]'"
        ) from error
    wrapped = nw.from_native(frame, eager_only=True, pass_through=True)
    if not isinstance(wrapped, nw.DataFrame):
        if not hasattr(frame, "__arrow_c_stream__"):
            raise ConfigurationError(
                f"a {type(frame).__name__} is not a dataframe: give a Polars or pandas DataFrame or a PyArrow Table"
                " (a LazyFrame: .collect() it first)"
            )
        try:
            import pyarrow
        except ImportError as error:
            raise ConfigurationError(
                f"a {type(frame).__name__} needs an extra package: pip install 'accucheck[parquet]'"
            ) from error
        try:
            table = pyarrow.table(frame)
        except (pyarrow.ArrowInvalid, TypeError) as error:
            raise ConfigurationError(
                f"a {type(frame).__name__} is not a dataframe: put it into one with a column for the numbers"
            ) from error
        wrapped = nw.from_native(table, eager_only=True)
    if number not in wrapped.columns:
        raise ConfigurationError(
            f"the frame has no column {number!r}; its columns: {', '.join(wrapped.columns)}"
        )
    return wrapped, [_plain(value) for value in wrapped[number].to_list()], _append


def _plain(value: Any) -> Any:
    # pandas shows a missing value as NaN or NaT, which differ from themselves, or as NA, which cannot be compared.
    try:
        return None if value != value else value
    except TypeError:
        return None


def _append(frame: Any, columns: dict[str, list[Any]]) -> Any:
    import narwhals as nw

    kinds: dict[str, Any] = dict.fromkeys(ANSWER_COLUMNS, nw.String()) | dict.fromkeys(_FLAGS, nw.Boolean())
    kinds |= {"status_update": nw.Date(), "checked_at": nw.Datetime("us", "UTC")}
    taken = {name.casefold() for name in frame.columns}
    names = {name: _free(name, taken) for name in ANSWER_COLUMNS}
    if frame.implementation.is_pandas_like():
        return _append_pandas(frame, columns, names)
    series = [
        nw.new_series(names[name], values, kinds[name], backend=frame.implementation)
        for name, values in columns.items()
    ]
    return frame.with_columns(*series).to_native()


def _free(name: str, taken: set[str]) -> str:
    """Return the name for one of our columns; the frame's own columns keep theirs."""
    if name not in taken:
        return name
    own = name = f"accucheck_{name}"
    number = 1
    while own in taken:
        number += 1
        own = f"{name}_{number}"
    return own


def _append_pandas(frame: Any, columns: dict[str, list[Any]], names: dict[str, str]) -> Any:
    """Append with pandas' nullable types: its plain ``bool`` would turn a missing answer into a "no"."""
    import pandas as pd

    native = frame.to_native()
    kinds = dict.fromkeys(ANSWER_COLUMNS, "string") | dict.fromkeys(_FLAGS, "boolean")
    kinds |= {"status_update": "datetime64[s]", "checked_at": "datetime64[us, UTC]"}
    return native.assign(
        **{
            names[name]: pd.Series(values, index=native.index, dtype=kinds[name])
            for name, values in columns.items()
        }
    )


def answer_columns(answers: Sequence[Outcome[Any] | None]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [None] * len(answers) for name in ANSWER_COLUMNS}
    for place, outcome in enumerate(answers):
        if outcome is None:
            columns["status"][place] = "UNCHECKED"
            columns["reason"][place] = "the run ended before this number was checked"
        elif isinstance(outcome, Checked):
            check: Check = outcome.check
            columns["status"][place] = "OK"
            for name in ANSWER_COLUMNS:
                if name not in ("status", "reason"):
                    columns[name][place] = getattr(check, name)
        else:
            columns["status"][place] = outcome.error.status
            columns["reason"][place] = outcome.error.reason
    return columns


def _reporter(progress: bool | Callable[[Stats], object]) -> Callable[[Stats], object] | None:
    if callable(progress):
        return progress
    return _print_progress if progress else None


def _print_progress(stats: Stats) -> None:
    rate = "" if stats.rate is None else f", {stats.rate:.3g} calls/s"
    print(
        f"accucheck: {stats.delivered:,} of {stats.read:,} numbers read, {stats.yes:,} on WhatsApp{rate}",
        file=sys.stderr,
    )


async def _watch(report: Callable[[Stats], object], stats: Callable[[], Stats]) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_EVERY)
        report(stats())
