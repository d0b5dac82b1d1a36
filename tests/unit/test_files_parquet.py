"""Parquet: schema and values are kept, results are typed, a damaged file gives one clear error."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from accucheck.files import FileError, FileSink, ResultColumns, open_source
from accucheck.files._parquet import cells_of

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

AT = datetime(2026, 11, 26, 8, 47, 23, 500_000, UTC)
ANSWER = ResultColumns(
    True, date(2023, 12, 12), False, None, "=Hola\x1b", "OK", "", "TID591c", "+51987654321", AT
)


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    return tmp_path / "leads.parquet"


def checked(leads: Path, suffix: str = ".parquet") -> Path:
    output = leads.with_name(f"output{suffix}")
    with open_source(leads) as source, FileSink(output, source) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    return output


def test_schema_metadata_values_and_compression_are_kept(leads: Path) -> None:
    table = arrow.table(
        {
            "phone": arrow.array(["987654321", None, "x"]),
            "when": arrow.array([1, 2, None], arrow.timestamp("ns")),
            "amount": arrow.array([Decimal("1.50"), None, Decimal("-2.00")], arrow.decimal128(9, 2)),
            "tags": [["a"], [], None],
            "kind": arrow.array(["a", "b", "a"]).dictionary_encode(),
        }
    ).replace_schema_metadata({"made by": "us"})
    parquet.write_table(table, leads, compression="gzip")
    output = parquet.ParquetFile(checked(leads))
    own = output.read().select(table.column_names)
    assert own.cast(table.schema).equals(table)
    assert output.schema_arrow.metadata[b"made by"] == b"us"
    assert output.metadata.row_group(0).column(0).compression == "GZIP"


def test_results_have_types(leads: Path) -> None:
    parquet.write_table(arrow.table({"phone": ["987654321"]}), leads)
    table = parquet.read_table(checked(leads))
    assert table.to_pylist() == [
        {
            "phone": "987654321",
            "whatsapp": True,
            "status_update": date(2023, 12, 12),
            "business_user": False,
            "avatar": None,
            "signature": "=Hola",
            "status": "OK",
            "reason": "",
            "request_id": "TID591c",
            "number": "+51987654321",
            "checked_at": AT,
        }
    ]
    assert table.schema.field("status_update").type == arrow.date32()
    assert table.schema.field("checked_at").type == arrow.timestamp("us", "UTC")


@pytest.mark.parametrize(
    "numbers",
    [
        arrow.array([987654321, None], arrow.int64()),
        arrow.array([987654321.0, None], arrow.float64()),
        arrow.array(["987654321", None]).dictionary_encode(),
        arrow.array(["987654321", None], arrow.large_string()),
        arrow.array([Decimal(987654321), None], arrow.decimal128(12, 0)),
    ],
)
def test_the_number_column_may_have_any_type(leads: Path, numbers: object) -> None:
    parquet.write_table(arrow.table({"name": ["a", "b"], "celular": numbers}), leads)
    with open_source(leads) as source:
        assert source.number_column.name == "celular"
        assert list(source.numbers()) == ["987654321", ""]
        assert [row.number for row in source.rows()] == ["987654321", ""]


def test_rows_are_counted_without_reading_them(leads: Path) -> None:
    parquet.write_table(arrow.table({"phone": ["987654321"] * 70_000}), leads, row_group_size=30_000)
    with open_source(leads) as source:
        assert (source.rows_total, source.fraction) == (70_000, 0.0)
        assert sum(1 for _ in source.numbers()) == 70_000
        assert source.fraction == 1.0
    assert parquet.read_metadata(checked(leads)).num_rows == 70_000


def test_a_row_costs_the_same_whatever_the_order_of_the_answers(
    leads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = 0

    def counted(library: Any, column: Any) -> list[object]:
        nonlocal converted
        converted += len(column)
        return cells_of(library, column)

    parquet.write_table(arrow.table({"phone": ["987654321"] * 70_000, "place": range(70_000)}), leads)
    with open_source(leads) as source:
        rows = list(source.rows())
        monkeypatch.setattr("accucheck.files._parquet.cells_of", counted)
        # The order of answers at the end of a batch: one from the old, one from the new.
        pairs = list(zip(rows[64_000:65_000], rows[66_000:67_000], strict=True))
        assert [[source.values(row)[1] for row in pair] for pair in pairs] == [
            [64_000 + place, 66_000 + place] for place in range(1000)
        ]
    assert converted < 2 * 2 * 1200


def test_rows_are_converted_once_in_their_order_and_let_go(leads: Path) -> None:
    parquet.write_table(arrow.table({"phone": ["987654321"] * 10_000}), leads)
    with open_source(leads) as source:
        rows = list(source.rows())
        for row in rows:
            assert source.values(row) == ("987654321",)
        held = sum(row.record[0].cells is not None for row in rows)
    assert held <= 32 * 64


def test_answers_in_any_order_make_whole_row_groups(leads: Path) -> None:
    places = arrow.array(range(5000))
    table = arrow.table(
        {"phone": ["987654321"] * 5000, "place": places, "kind": places.cast("string").dictionary_encode()}
    )
    parquet.write_table(table, leads, row_group_size=1500)
    output = leads.with_name("output.parquet")
    with open_source(leads) as source, FileSink(output, source) as sink:
        rows = list(source.rows())
        for early, late in zip(rows[:2500], rows[2500:], strict=True):
            sink.write(late, ANSWER)
            sink.write(early, ANSWER)
    written = parquet.ParquetFile(output)
    assert written.num_row_groups == 1
    expected = [place for early in range(2500) for place in (early + 2500, early)]
    assert written.read()["place"].to_pylist() == expected
    assert written.read()["kind"].to_pylist() == list(map(str, expected))


def test_values_that_python_cannot_hold_do_not_stop_the_output(leads: Path) -> None:
    table = arrow.table(
        {
            "phone": arrow.array(["987654321"]),
            "nested": arrow.array([[1]], arrow.list_(arrow.timestamp("ns"))),
            "far": arrow.array([{"at": 2**62}], arrow.struct([("at", arrow.timestamp("us"))])),
            "for": arrow.array([[("a", 1)]], arrow.map_(arrow.string(), arrow.duration("ns"))),
            "bad": arrow.array([b"Jos\xe9"], arrow.binary()).view(arrow.string()),
            "huge": arrow.array([2**64 - 1], arrow.uint64()),
            "whole": arrow.array([7], arrow.int64()),
        }
    )
    parquet.write_table(table, leads)
    own = parquet.read_table(checked(leads)).select(table.column_names)
    assert own.schema.equals(table.schema)
    assert own.equals(table)
    (row,) = csv.DictReader(io.StringIO(checked(leads, ".csv").read_text()))
    assert row["nested"] == '["1970-01-01 00:00:00.000000001"]'
    assert "4611686018427387904" in row["far"]
    assert row["for"] == '[["a", "1"]]'
    assert (row["bad"], row["huge"], row["whole"]) == ("Jos�", "18446744073709551615", "7")


def test_a_number_that_is_not_text_does_not_stop_the_output(leads: Path) -> None:
    bad = arrow.array([b"\xff", b"987654321"], arrow.binary()).view(arrow.string())
    parquet.write_table(arrow.table({"phone": bad}), leads)
    with open_source(leads) as source:
        assert list(source.numbers()) == ["�", "987654321"]


def test_columns_of_the_same_name_are_distinguished_by_their_place(leads: Path) -> None:
    columns = [arrow.array(["912345678"]), arrow.array(["Ana"]), arrow.array(["987654321"])]
    parquet.write_table(arrow.Table.from_arrays(columns, names=["phone", "name", "phone"]), leads)
    with open_source(leads, column=3) as source:
        assert list(source.numbers()) == [row.number for row in source.rows()] == ["987654321"]


def test_rows_with_long_cells_are_read_and_written_a_few_at_a_time(leads: Path) -> None:
    long = ["x" * 100_000 + str(place) for place in range(1000)]
    parquet.write_table(arrow.table({"phone": ["987654321"] * 1000, "text": long}), leads)
    with open_source(leads) as source:
        batches = {id(row.record[0].batch): row.record[0].batch for row in list(source.rows())}
        assert max(batch.nbytes for batch in batches.values()) < 16_000_000
    output = parquet.ParquetFile(checked(leads))
    assert output.num_row_groups == 2
    assert output.read()["text"].to_pylist() == long


def test_rows_may_be_left_out_of_the_output(leads: Path) -> None:
    parquet.write_table(arrow.table({"phone": [str(987_654_000 + place) for place in range(100)]}), leads)
    output = leads.with_name("output.parquet")
    with open_source(leads) as source, FileSink(output, source) as sink:
        for place, row in enumerate(source.rows()):
            if place % 10 == 3:
                sink.write(row, ANSWER)
    assert parquet.read_table(output)["phone"].to_pylist() == [
        str(987_654_003 + place) for place in range(0, 100, 10)
    ]


def test_parquet_becomes_csv(leads: Path) -> None:
    table = {
        "phone": [987654321],
        "at": [datetime(2024, 1, 2, 3, 4)],
        "tags": [["a", "é"]],
        "none": [None],
        "ok": [True],
    }
    parquet.write_table(arrow.table(table), leads)
    assert checked(leads, ".csv").read_text().splitlines()[1] == (
        '987654321,2024-01-02 03:04:00.000000,"[""a"", ""é""]",,true,yes,2023-12-12,no,,\'=Hola,OK,,TID591c,'
        "+51987654321,2026-11-26T08:47:23Z"
    )


def test_csv_becomes_parquet_as_text(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_bytes("phone,code,año\n987654321,007,José\n912345678\n".encode("cp1252"))
    rows = parquet.read_table(checked(leads)).to_pylist()
    assert [(row["phone"], row["code"], row["año"], row["whatsapp"]) for row in rows] == [
        ("987654321", "007", "José", True),
        ("912345678", None, None, True),
    ]


def test_a_table_without_rows_is_a_list(leads: Path) -> None:
    parquet.write_table(arrow.table({"phone": arrow.array([], arrow.string())}), leads)
    assert parquet.read_table(checked(leads)).num_rows == 0


@pytest.mark.parametrize("keep", [8, 0.5, -8])
def test_a_torn_file_is_a_clear_error(leads: Path, keep: float) -> None:
    parquet.write_table(arrow.table({"phone": ["987654321"] * 1000}), leads)
    content = leads.read_bytes()
    leads.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(
        FileError, match=r"leads\.parquet: the file is damaged or is not what its name says"
    ) as told:
        open_source(leads)
    assert "\n" not in str(told.value)


def test_parquet_inside_gzip_or_zstd_is_refused_as_output(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("phone\n987654321\n")
    with open_source(leads) as source, pytest.raises(FileError, match=r"remove \.gz from the name"):
        FileSink(tmp_path / "out.parquet.gz", source)
