"""What goes into a row comes out of it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import Check, CheckError
from accucheck._errors import CHECK_ERRORS
from accucheck._models import Settlement
from accucheck._store._old._rows import (
    FAILURE_WIDTH,
    failure_row,
    failure_settlement,
    head,
    instant,
    key_of,
    packed,
    unpacked,
)
from tests.unit.ledger_samples import MOBILE, answered, failed, told

numbers = st.integers(10_000_000, 999_999_999)
counts = st.integers(0, 10_000)
request_ids = st.one_of(
    st.just(""),
    st.text(max_size=40),
    st.binary(min_size=16, max_size=16).map(lambda raw: "TID" + raw.hex()),
    st.binary(min_size=16, max_size=16).map(lambda raw: "TID" + raw.hex().upper()),
    st.text("0123456789abcdef \t", min_size=32, max_size=32).map("TID".__add__),
)
optional_flags = st.none() | st.booleans()
extras = st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists), max_size=3)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


def through_sqlite(row: tuple[Any, ...]) -> tuple[Any, ...]:
    connection = sqlite3.connect(":memory:")
    try:
        marks = ",".join("?" * len(row))
        return tuple(connection.execute(f"SELECT {marks}", row).fetchone())
    finally:
        connection.close()


@given(
    number=numbers,
    check=st.builds(
        Check,
        number=st.just(""),
        whatsapp=st.booleans(),
        status_update=st.none() | st.dates(),
        signature=st.none() | st.text(),
        business_user=optional_flags,
        avatar=optional_flags,
        request_id=request_ids,
        checked_at=instants,
        extra=extras,
    ),
    calls=counts,
    lost=counts,
)
def test_an_answer_comes_back_as_it_was(number: int, check: Check, calls: int, lost: int) -> None:
    fields = {name: getattr(check, name) for name in check.__struct_fields__}
    whole = Check(**(fields | {"number": f"+51{number}"}))
    settlement = Settlement(number, whole, calls, lost)
    stored = packed(settlement, whole)
    back = unpacked(number, stored)
    assert back == settlement
    checked_at, whatsapp = head(stored)
    assert (instant(checked_at), whatsapp) == (whole.checked_at, whole.whatsapp)
    assert isinstance(back.result, Check)
    assert type(back.result.whatsapp) is bool


@given(
    number=numbers,
    kind=st.sampled_from(list(CHECK_ERRORS.values())),
    reason=st.text(),
    request_id=request_ids,
    http_status=st.none() | st.integers(100, 599),
    calls=counts,
    lost=counts,
)
def test_a_failure_comes_back_as_it_was(
    number: int,
    kind: type[CheckError],
    reason: str,
    request_id: str,
    http_status: int | None,
    calls: int,
    lost: int,
) -> None:
    error = kind(reason, request_id=request_id, http_status=http_status)
    settlement = Settlement(number, error, calls, lost)
    row = through_sqlite(failure_row(1, settlement, error, 1_700_000_000_000_000))
    assert len(row) == FAILURE_WIDTH
    assert told(failure_settlement(row)) == told(settlement)  # type: ignore[arg-type]


def test_a_failure_of_a_kind_that_is_not_known_here_is_still_one() -> None:
    settlement = failed(MOBILE)
    assert isinstance(settlement.result, CheckError)
    row = list(failure_row(0, settlement, settlement.result, 0))
    row[1] = "SOMETHING_NEWER"
    assert type(failure_settlement(tuple(row)).result) is CheckError  # type: ignore[arg-type]


def test_half_a_character_does_not_fail_its_batch() -> None:
    settlement = answered(MOBILE, signature="a\ud800b", request_id="\udfff", extra={"note": "\ud800"})
    assert isinstance(settlement.result, Check)
    back = unpacked(MOBILE, packed(settlement, settlement.result))
    assert isinstance(back.result, Check)
    assert back.result.signature == "a?b"
    assert back.result.request_id == "?"


def test_the_usual_request_id_takes_sixteen_bytes() -> None:
    settlement = answered(MOBILE)
    assert isinstance(settlement.result, Check)
    assert bytes.fromhex(settlement.result.request_id[3:]) in packed(settlement, settlement.result)


def test_a_usual_answer_is_small() -> None:
    settlement = answered(MOBILE, signature="Disponible")
    assert isinstance(settlement.result, Check)
    assert len(packed(settlement, settlement.result)) <= 62


@given(st.binary(max_size=80), st.integers(0, 60))
def test_bytes_that_are_no_answer_are_refused_and_not_misread(noise: bytes, cut: int) -> None:
    settlement = answered(MOBILE)
    assert isinstance(settlement.result, Check)
    whole = packed(settlement, settlement.result)
    for bad in (noise, whole[:cut], whole + noise[:1] + b".", "text", 7):
        with pytest.raises(msgspec.MsgspecError):
            unpacked(MOBILE, bad)  # type: ignore[arg-type]


def test_each_number_and_endpoint_has_a_key_of_its_own() -> None:
    keys = {
        key_of(number, endpoint)
        for number in (10_000_000, MOBILE, MOBILE + 1)
        for endpoint in ("advanced", "basic")
    }
    assert len(keys) == 6


@pytest.mark.parametrize("day", [date.min, date(2024, 2, 29), date.max])
def test_every_day_has_its_place(day: date) -> None:
    settlement = answered(MOBILE, status_update=day)
    assert isinstance(settlement.result, Check)
    back = unpacked(MOBILE, packed(settlement, settlement.result))
    assert isinstance(back.result, Check)
    assert back.result.status_update == day
