from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck._errors import CHECK_ERRORS, CheckError, PendingTimeout
from accucheck._models import Check, Settlement
from accucheck._phone import normalize, numbers_in
from accucheck.cli import _output
from accucheck.cli._ledger import Find
from accucheck.cli._output import UNCHECKED, Tally, answered_rows, columns_of
from accucheck.files import ResultColumns, Row


def read_one(text: str) -> list[int]:
    return [normalize(text)]


def read_mobile(text: str) -> list[int]:
    return [normalize(text, mobile_only=True)]


def yes(number: int) -> Check:
    return Check(
        number=f"+51{number}", whatsapp=True, request_id=f"TID{number}", checked_at=datetime.now(UTC)
    )


def known(settled: dict[int, Check | CheckError]) -> Find:
    async def find(numbers: Sequence[int]) -> dict[int, Settlement]:
        assert len(set(numbers)) == len(numbers)
        return {number: Settlement(number, settled[number]) for number in numbers if number in settled}

    return find


async def test_each_row_gets_what_is_known_about_its_number() -> None:
    rows = [
        Row("987654321", 0),
        Row("hola", 1),
        Row("+51 987 654 321", 2),
        Row("912345678", 3),
        Row("911111111", 4),
        Row("", 5, fault="Line 6 is not JSON."),
    ]
    find = known({987654321: yes(987654321), 912345678: PendingTimeout("too long", request_id="TID9")})
    found = [(row, columns) async for row, (columns,) in answered_rows(iter(rows), find, read=read_one)]
    assert [row for row, _ in found] == rows
    columns = [columns for _, columns in found]
    assert [each.status for each in columns] == [
        "OK",
        "INVALID_NUMBER",
        "OK",
        "PENDING_TIMEOUT",
        "UNCHECKED",
        "INVALID_NUMBER",
    ]
    assert [each.whatsapp for each in columns] == [True, None, True, None, None, None]
    assert columns[3].request_id == "TID9"
    assert [each.number for each in columns] == [
        "+51987654321",
        "",
        "+51987654321",
        "+51912345678",
        "+51911111111",
        "",
    ]
    assert [each.checked_at is not None for each in columns] == [True, False, True, False, False, False]
    assert columns[5].reason == "Line 6 is not JSON."


async def test_landlines_are_refused_with_mobile_only() -> None:
    rows = iter([Row("(01) 456-7890", 0)])
    ((columns,),) = [columns async for _, columns in answered_rows(rows, known({}), read=read_mobile)]
    assert columns.status == "INVALID_NUMBER"


@given(
    st.lists(st.integers(900_000_000, 900_000_020), max_size=60),
    st.sets(st.integers(900_000_000, 900_000_020)),
)
def test_rows_come_out_once_and_in_order_for_any_chunking(numbers: list[int], settled: set[int]) -> None:
    rows = [Row(str(number), place) for place, number in enumerate(numbers)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_output, "CHUNK", 7)

        async def read() -> list[tuple[Row, ResultColumns]]:
            find = known({number: yes(number) for number in settled})
            return [
                (row, columns) async for row, (columns,) in answered_rows(iter(rows), find, read=read_one)
            ]

        found = asyncio.run(read())
    assert [row.record for row, _ in found] == list(range(len(numbers)))
    assert [columns.status == "OK" for _, columns in found] == [number in settled for number in numbers]


@pytest.mark.parametrize("status", sorted(CHECK_ERRORS))
def test_a_failed_number_shows_its_status_and_reason_and_no_answer(status: str) -> None:
    columns = columns_of(CHECK_ERRORS[status]("why", request_id="TID3"))
    assert columns == ResultColumns(status=status, reason="why", request_id="TID3")


def test_the_tally_counts_rows_by_status() -> None:
    tally = Tally()
    for columns in (
        columns_of(yes(987654321)),
        UNCHECKED,
        UNCHECKED,
        ResultColumns(whatsapp=False, status="OK"),
    ):
        tally.count(columns)
    assert (tally.rows, tally.answered, tally.yes, tally.unchecked) == (4, 2, 1, 2)


async def test_the_best_answer_of_a_row_or_all_of_them() -> None:
    texts = ["987654321 / 912345678 / 911111111", "987654321, 911111111", "912345678", "987654321, 914444444"]
    rows = [Row(text, place) for place, text in enumerate([*texts, "987654321 / 913333333 / 911111111"])]
    answers: dict[int, Check | CheckError] = {
        987654321: no(987654321),
        912345678: yes(912345678),
        914444444: no(914444444),
        913333333: CHECK_ERRORS["UNDETERMINED"]("why"),
    }
    find = known(answers)
    best = [columns async for _, columns in answered_rows(iter(rows), find, read=numbers_in)]
    assert [[(each.number, each.status) for each in columns] for columns in best] == [
        [("+51912345678", "OK")],
        [("+51911111111", "UNCHECKED")],  # it may still become a yes
        [("+51912345678", "OK")],
        [("+51987654321", "OK")],
        [("+51911111111", "UNCHECKED")],
    ]
    each_of_them = [
        columns async for _, columns in answered_rows(iter(rows), find, read=numbers_in, keep_best=False)
    ]
    assert [[each.status for each in columns] for columns in each_of_them] == [
        ["OK", "OK", "UNCHECKED"],
        ["OK", "UNCHECKED"],
        ["OK"],
        ["OK", "OK"],
        ["OK", "UNDETERMINED", "UNCHECKED"],
    ]


def no(number: int) -> Check:
    return Check(number=f"+51{number}", whatsapp=False, request_id="", checked_at=datetime.now(UTC))
