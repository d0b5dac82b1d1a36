"""``accucheck ledger statement`` against the sandbox's invoice, day by day, in the time zone of the invoice."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck import ConfigurationError
from accucheck._store import SQLiteStore
from accucheck.cli._ledger_commands import statement
from accucheck.cli._options import Talk
from accucheck.sandbox._counts import Invoice
from tests.unit.ledger_samples import MOBILE, answered

ZONES = ["America/Lima", "UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu"]
MONTH_END = datetime(2026, 12, 1, tzinfo=UTC)


async def days_of(instants: list[datetime], month: str, zone: str) -> dict[str, int]:
    """Return the answers by day, as the statement says."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "leads.db"
        store = SQLiteStore(path, reserve=0)
        await store.open()
        await store.settle([answered(MOBILE + n, checked_at=at) for n, at in enumerate(instants)])
        await store.aclose()
        output = Path(folder) / "statement.csv"
        statement(str(path), month=month, timezone=zone, output=str(output), talk=Talk(quiet=True))
        rows = list(csv.DictReader(output.read_text().splitlines()))
    return Counter(row["day"] for row in rows)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("month", ["2026-11", "2026-12", "2027-02"])
async def test_every_answer_is_in_the_month_and_day_of_the_zone(zone: str, month: str) -> None:
    around = [
        MONTH_END + timedelta(days=days, hours=hours, seconds=seconds)
        for days in (-30, 0, 31, 62, 90)
        for hours in range(-15, 16)
        for seconds in (-1, 0, 1)
    ]
    expected = Counter(
        f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d}"
        for at in around
        if f"{at.astimezone(ZoneInfo(zone)):%Y-%m}" == month
    )
    assert await days_of(around, month, zone) == expected


@given(
    st.lists(
        st.datetimes(datetime(2026, 10, 30), datetime(2026, 12, 2)), min_size=1, max_size=30, unique=True
    ),
    st.sampled_from(ZONES),
)
@settings(max_examples=25, deadline=None)
async def test_it_agrees_with_the_invoice_of_the_same_zone(times: list[datetime], zone: str) -> None:
    instants = [at.replace(tzinfo=UTC) for at in times]
    invoice = Invoice(zone)
    for at in instants:
        invoice.charge(at.timestamp(), "advanced", yes=True)
    lines = {line.day: line.yes for line in invoice.lines({"advanced": 0.1, "basic": 0.1})}
    november = {day: count for day, count in lines.items() if day.startswith("2026-11")}
    assert await days_of(instants, "2026-11", zone) == november


async def test_a_zone_that_does_not_exist_is_named(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "leads.db", reserve=0)
    await store.open()
    await store.aclose()
    with pytest.raises(ConfigurationError, match="the time zone 'Mars' is unknown"):
        statement(str(tmp_path / "leads.db"), month="2026-11", timezone="Mars")


async def test_a_cascades_days_are_listed_by_endpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, at = tmp_path / "leads.db", datetime(2026, 11, 30, 12, tzinfo=UTC)
    store = SQLiteStore(path, reserve=0)
    await store.open()
    await store.settle([answered(MOBILE + n, checked_at=at) for n in range(3)], endpoint="basic")
    await store.settle([answered(MOBILE, checked_at=at)])
    await store.aclose()
    statement(str(path), month="2026-11")
    assert "2026-11-30  4 (1 advanced, 3 basic), 0 more possible" in capsys.readouterr().err
