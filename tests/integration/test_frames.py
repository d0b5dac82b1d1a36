"""Dataframes of each kind against the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import accucheck
from accucheck.frames import ANSWER_COLUMNS, enrich, enrich_async
from accucheck.sandbox import Settings, serve

pl = pytest.importorskip("polars")
pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")
duckdb = pytest.importorskip("duckdb")

PHONES = ["987 650 001", None, "not a number", "987650002", "987650001", "987650003"]
NAMES = ["a", "b", "c", "d", "e", "f"]


@asynccontextmanager
async def a_client(**settings: Any) -> AsyncIterator[accucheck.Client]:
    async with (
        serve(Settings(**settings)) as sandbox,
        accucheck.Client(
            sandbox.settings.api_id, sandbox.settings.api_secret, base_url=sandbox.url
        ) as client,
    ):
        yield client


FRAMES = [
    pytest.param(lambda: pl.DataFrame({"name": NAMES, "phone": PHONES}), pl.DataFrame, id="polars"),
    pytest.param(lambda: pd.DataFrame({"name": NAMES, "phone": PHONES}), pd.DataFrame, id="pandas"),
    pytest.param(lambda: pa.table({"name": NAMES, "phone": PHONES}), pa.Table, id="pyarrow"),
    pytest.param(
        lambda: duckdb.from_arrow(pa.table({"name": NAMES, "phone": PHONES})), pa.Table, id="duckdb"
    ),
]


def as_rows(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of any kind of frame as plain dictionaries, a missing value as None."""
    if isinstance(frame, pa.Table):
        return frame.to_pylist()
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    return [
        {
            name: None if value is None or value is pd.NA or value is pd.NaT else value
            for name, value in row.items()
        }
        for row in frame.to_dict("records")
    ]


@pytest.mark.parametrize(("make", "kind"), FRAMES)
async def test_every_row_of_a_frame_gets_an_answer(make: Any, kind: type) -> None:
    async with a_client() as client:
        checked = await enrich_async(make(), number="phone", client=client)
    assert isinstance(checked, kind)
    rows = as_rows(checked)
    assert list(rows[0]) == ["name", "phone", *ANSWER_COLUMNS]
    assert [row["name"] for row in rows] == NAMES
    assert [row["status"] for row in rows] == ["OK", "INVALID_NUMBER", "INVALID_NUMBER", "OK", "OK", "OK"]
    assert rows[0]["whatsapp"] == rows[4]["whatsapp"]
    assert rows[0]["number"] == "+51987650001"
    # A missing answer is never a "no".
    assert [row["whatsapp"] for row in rows[1:3]] == [None, None]
    assert all(isinstance(row["whatsapp"], bool) for row in rows if row["status"] == "OK")


async def test_the_index_of_a_pandas_frame_stays() -> None:
    frame = pd.DataFrame({"phone": PHONES}, index=list("uvwxyz"))
    async with a_client() as client:
        checked = await enrich_async(frame, number="phone", client=client)
    assert list(checked.index) == list("uvwxyz")
    assert checked.loc["u", "number"] == "+51987650001"


async def test_a_column_of_the_frame_is_never_replaced() -> None:
    frame = pl.DataFrame({"phone": ["987650001"], "status": ["new lead"]})
    async with a_client() as client:
        checked = await enrich_async(frame, number="phone", client=client)
    assert checked["status"].to_list() == ["new lead"]
    assert checked["accucheck_status"].to_list() == ["OK"]


async def test_columns_added_by_an_earlier_run_are_not_replaced_either() -> None:
    frame = pd.DataFrame({"phone": ["987650001"], "status": ["mine"], "accucheck_status": ["earlier"]})
    async with a_client() as client:
        checked = await enrich_async(frame, number="phone", client=client)
    assert checked[["status", "accucheck_status", "accucheck_status_2"]].values.tolist() == [
        ["mine", "earlier", "OK"]
    ]


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(lambda: pd.array([987650001, None], dtype="Int64"), id="Int64"),
        pytest.param(lambda: pd.array([987650001, None], dtype="Float64"), id="Float64"),
        pytest.param(lambda: pd.array(["987650001", None], dtype="string"), id="string"),
        pytest.param(lambda: pd.Categorical(["987650001", None]), id="category"),
        pytest.param(lambda: [987650001.0, float("nan")], id="float"),
        pytest.param(lambda: ["987650001", pd.NaT], id="object"),
    ],
)
async def test_a_missing_number_is_one_whatever_pandas_type_it_has(column: Any) -> None:
    async with a_client() as client:
        checked = await enrich_async(pd.DataFrame({"phone": column()}), number="phone", client=client)
    assert checked["status"].tolist() == ["OK", "INVALID_NUMBER"]


async def test_a_run_that_ends_early_keeps_the_answers_so_far() -> None:
    frame = pl.DataFrame({"phone": [f"98765{n:04}" for n in range(20)]})
    async with a_client() as client:
        with pytest.raises(accucheck.BudgetExhausted) as caught:
            await enrich_async(frame, number="phone", client=client, max_calls=5)
    statuses = caught.value.frame["status"].to_list()  # type: ignore[attr-defined]
    assert statuses.count("OK") == 5
    assert statuses.count("UNCHECKED") == 15


async def test_progress_ends_with_the_whole_run() -> None:
    seen: list[accucheck.Stats] = []
    async with a_client() as client:
        await enrich_async(
            pl.DataFrame({"phone": PHONES}), number="phone", client=client, progress=seen.append
        )
    assert seen[-1].read == len(PHONES)


async def test_an_empty_frame_gets_its_columns() -> None:
    async with a_client() as client:
        frame = pl.DataFrame({"phone": []}, schema={"phone": pl.String})
        checked = await enrich_async(frame, number="phone", client=client)
    assert checked.columns == ["phone", *ANSWER_COLUMNS]


async def test_anything_but_a_frame_is_refused() -> None:
    async with a_client() as client:
        with pytest.raises(accucheck.ConfigurationError, match="not a dataframe"):
            await enrich_async([{"phone": "987650001"}], number="phone", client=client)
        with pytest.raises(accucheck.ConfigurationError, match="collect"):
            await enrich_async(pl.LazyFrame({"phone": []}), number="phone", client=client)
        with pytest.raises(accucheck.ConfigurationError, match="no column 'fono'; its columns: phone"):
            await enrich_async(pl.DataFrame({"phone": []}), number="fono", client=client)
        with pytest.raises(RuntimeError, match="enrich_async"):
            enrich(pl.DataFrame({"phone": []}), number="phone")


async def test_a_script_needs_no_event_loop() -> None:
    async with serve(Settings()) as sandbox:
        arguments = {
            "api_id": sandbox.settings.api_id,
            "api_secret": sandbox.settings.api_secret,
            "base_url": sandbox.url,
        }
        frame = pl.DataFrame({"phone": ["987650001"]})
        checked = await asyncio.to_thread(enrich, frame, number="phone", client=arguments)
    assert checked["status"].to_list() == ["OK"]
