"""Excel: numbers, dates and text keep their type; nothing becomes a formula; limits are reported."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from accucheck.files import RESULT_COLUMNS, FileError, FileSink, ResultColumns, open_source

calamine = pytest.importorskip("python_calamine")
xlsxwriter = pytest.importorskip("xlsxwriter")

AT = datetime(2026, 11, 26, 8, 47, 23, 500_000, UTC)
ANSWER = ResultColumns(
    True, date(2023, 12, 12), False, None, '=HYPERLINK("x")\x1b', "OK", "", "TID591c", "+51987654321", AT
)


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    return tmp_path / "leads.xlsx"


def make(path: Path, rows: list[list[Any]], *, first_sheets: int = 0) -> None:
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd"}) as book:
        for _ in range(first_sheets):
            book.add_worksheet()
        sheet = book.add_worksheet("Leads")
        for line, cells in enumerate(rows):
            sheet.write_row(line, 0, cells)


def checked(leads: Path, suffix: str = ".xlsx", **options: Any) -> Path:
    output = leads.with_name(f"output{suffix}")
    with open_source(leads, **options) as source, FileSink(output, source) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    return output


def cells_of(path: Path) -> list[list[Any]]:
    rows: list[list[Any]] = calamine.load_workbook(path).get_sheet_by_index(0).to_python()
    return rows


def test_values_keep_their_kind_and_results_follow(leads: Path) -> None:
    make(
        leads,
        [["name", "Celular", "when"], ["José", 987654321, date(2024, 1, 2)], ["Ana", "051912345678", True]],
    )
    rows = cells_of(checked(leads))
    assert rows[0][:4] == ["name", "Celular", "when", "whatsapp"]
    assert rows[1] == [
        "José",
        987654321.0,
        date(2024, 1, 2),
        "yes",
        date(2023, 12, 12),
        "no",
        "",
        '=HYPERLINK("x")',
        "OK",
        "",
        "TID591c",
        "+51987654321",
        datetime(2026, 11, 26, 8, 47, 23),
    ]
    assert rows[2][:3] == ["Ana", "051912345678", True]


def test_a_number_cell_reads_as_its_digits(leads: Path) -> None:
    make(leads, [["phone"], [987654321], ["+51 912 345 678"], [None], [14567890]])
    with open_source(leads) as source:
        assert list(source.numbers()) == ["987654321", "+51 912 345 678", "14567890"]
        assert (source.rows_total, source.fraction) == (3, 1.0)


def test_the_first_sheet_that_holds_rows_is_read(leads: Path) -> None:
    make(leads, [["phone"], ["987654321"]], first_sheets=2)
    with open_source(leads) as source:
        assert source.sheet == "Leads"  # type: ignore[attr-defined]


def test_a_sheet_without_a_header_gets_one(leads: Path) -> None:
    make(leads, [["Ana", 987654321], ["Luis", 912345678]])
    assert [row[:3] for row in cells_of(checked(leads))] == [
        ["column_1", "phone", "whatsapp"],
        ["Ana", 987654321.0, "yes"],
        ["Luis", 912345678.0, "yes"],
    ]


def test_csv_becomes_excel_as_text(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("phone,formula,link\n0987654321,=1+1,http://example.pe\n")
    assert cells_of(checked(leads))[1][:3] == ["0987654321", "=1+1", "http://example.pe"]


def test_excel_becomes_csv(leads: Path) -> None:
    make(leads, [["phone", "when", "share"], [987654321, date(2024, 1, 2), 0.5]])
    output = checked(leads, ".csv").read_bytes()
    assert output.startswith(b"\xef\xbb\xbfphone,when,share,whatsapp"), "or Excel shows two letters for one"
    assert output.splitlines()[1].startswith(b"987654321,2024-01-02,0.5,yes,")


def test_odd_values_do_not_stop_the_output(tmp_path: Path) -> None:
    leads = tmp_path / "leads.jsonl"
    leads.write_text(
        '{"phone":"987654321","big":12345678901234567890,"float":1e300,"list":[1],"half":"\\ud800"}\n'
    )
    assert cells_of(checked(leads))[1][:5] == ["987654321", "12345678901234567890", 1e300, "[1]", "?"]


def test_times_before_excel_began_are_text(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    leads = tmp_path / "leads.parquet"
    parquet.write_table(arrow.table({"phone": ["987654321"], "born": [datetime(1850, 1, 1)]}), leads)
    assert str(cells_of(checked(leads))[1][1]).startswith("1850-01-01")


def test_the_same_rows_make_the_same_bytes(leads: Path) -> None:
    make(leads, [["phone"], [987654321]])
    assert checked(leads).read_bytes() == checked(leads).read_bytes()


def refused(leads: Path, *, match: str) -> None:
    """Assert that the output is refused before the first row is written, and so before any call."""
    output = leads.with_name("output.xlsx")
    with open_source(leads) as source:
        with pytest.raises(FileError, match=match):
            FileSink(output, source)
    assert list(leads.parent.iterdir()) == [leads]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("leads.csv", "phone,text\n987654321," + "x" * 40_000 + "\n"),
        ("leads.jsonl", '{"phone":"987654321","list":["' + "x" * 39_996 + '"]}\n'),
    ],
)
def test_a_cell_that_excel_cannot_hold_is_refused_before_the_first_call(
    tmp_path: Path, name: str, text: str
) -> None:
    leads = tmp_path / name
    leads.write_text(text)
    refused(leads, match=r"row 1: a cell has 40,000 characters.*write \.csv or \.parquet instead")


def test_a_cell_that_excel_cannot_hold_is_reported_at_its_row_if_the_rows_come_once(tmp_path: Path) -> None:
    live = io.BytesIO(b"phone,text\n987654321," + b"x" * 40_000 + b"\n")
    with open_source("-", live=True, stdin=live) as source:
        with pytest.raises(FileError, match="row 1: a cell has 40,000 characters"):
            with FileSink(tmp_path / "output.xlsx", source) as sink:
                sink.write(next(source.rows()), ANSWER)
    assert not list(tmp_path.iterdir())


def test_a_long_signature_does_not_cost_the_output(leads: Path) -> None:
    make(leads, [["phone"], [987654321]])
    output = leads.with_name("output.xlsx")
    with open_source(leads) as source, FileSink(output, source) as sink:
        sink.write(next(source.rows()), ANSWER._replace(signature="x" * 60_000))
    assert cells_of(output)[1][5] == "x" * 32_767


@pytest.mark.parametrize("name", ["leads.csv", "leads.jsonl", "leads.parquet"])
def test_more_rows_than_a_sheet_holds_are_refused_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("accucheck.files._excel_writer.MOST_ROWS", 4)
    leads = tmp_path / name
    plain = tmp_path / "plain.csv"
    plain.write_text("phone\n" + "987654321\n" * 3)
    with open_source(plain) as source, FileSink(leads, source) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    checked(leads)
    monkeypatch.setattr("accucheck.files._excel_writer.MOST_ROWS", 3)
    leads.with_name("output.xlsx").unlink()
    plain.unlink(missing_ok=name != "leads.csv")
    refused(leads, match=r"holds at most 3 rows and the output has .*; write \.csv or \.parquet instead")


def test_more_rows_than_a_sheet_holds_are_reported_at_the_row_if_they_come_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accucheck.files._excel_writer.MOST_ROWS", 2)
    live = io.BytesIO(b"phone\n987654321\n987654322\n")
    with open_source("-", live=True, stdin=live) as source:
        with pytest.raises(FileError, match="at most 2 rows"):
            with FileSink(tmp_path / "output.xlsx", source) as sink:
                for row in source.rows():
                    sink.write(row, ANSWER)


def test_more_columns_than_a_sheet_holds_are_refused_before_the_first_call(tmp_path: Path) -> None:
    leads = tmp_path / "leads.jsonl"
    leads.write_bytes(msgspec.json.encode({"phone": "987654321"} | {f"c{n}": n for n in range(16_380)}))
    refused(leads, match=f"16,384 columns and the output has {16_381 + len(RESULT_COLUMNS):,}")


def test_a_file_that_is_not_a_workbook_is_a_clear_error(leads: Path) -> None:
    leads.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(FileError, match=r"leads\.xlsx: the file is damaged or is not Excel"):
        open_source(leads)


def test_a_torn_workbook_is_a_clear_error(leads: Path) -> None:
    make(leads, [["phone"], [987654321]])
    leads.write_bytes(leads.read_bytes()[:-200])
    with pytest.raises(FileError, match="damaged"):
        open_source(leads)


def test_an_empty_workbook_is_a_clear_error(leads: Path) -> None:
    make(leads, [])
    with pytest.raises(FileError, match="contains no rows"):
        open_source(leads)


def test_old_workbooks_are_read_and_not_written(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("phone\n987654321\n")
    with open_source(leads) as source, pytest.raises(FileError, match=r"\.xls can be read but not written"):
        FileSink(tmp_path / "out.xls", source)


def test_a_title_takes_rows_of_the_sheet_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("LISTA,\nphone,name\n987654321,Ana\n")
    monkeypatch.setattr("accucheck.files._excel_writer.MOST_ROWS", 3)
    assert len(cells_of(checked(leads))) == 3
    leads.with_name("output.xlsx").unlink()
    monkeypatch.setattr("accucheck.files._excel_writer.MOST_ROWS", 2)
    refused(leads, match="at most 2 rows")


def test_a_workbook_named_csv_is_read_as_a_workbook(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    make(leads, [["phone"], [987654321]])
    with open_source(leads) as source:
        assert (source.format, list(source.numbers())) == ("xlsx", ["987654321"])


def test_a_stray_cell_in_the_last_corner_is_refused_before_it_asks_for_all_memory(leads: Path) -> None:
    with xlsxwriter.Workbook(leads) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["phone", "name"])
        sheet.write(1_048_575, 16_383, "x")
    with pytest.raises(FileError, match="out to column XFD and row 1,048,576; delete everything outside"):
        open_source(leads)


def test_a_sheet_that_only_claims_to_be_huge_is_read(leads: Path) -> None:
    with xlsxwriter.Workbook(leads) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["phone", "name"])
        sheet.write_row(1, 0, [987654321, "Ana"])
        sheet.write_blank(1_048_575, 16_383, None, book.add_format({"bold": True}))
    with open_source(leads) as source:
        assert list(source.numbers()) == ["987654321"]


def test_a_workbook_that_unpacks_to_more_than_memory_is_refused(
    leads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accucheck.files._excel._MOST_BYTES", 50 << 20)
    make(leads, [["phone", "x"], [987654321, "Ana"]])
    with zipfile.ZipFile(leads, "a", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("xl/media/zeros", b"0" * (60 << 20))
    assert leads.stat().st_size < 1 << 20
    with pytest.raises(FileError, match=r"expands to 60 MiB; save the list as CSV"):
        open_source(leads)


@pytest.mark.parametrize("left", [0, 1, 3])
@pytest.mark.parametrize("top", [0, 2])
@pytest.mark.parametrize("named", [True, False])
def test_positions_count_the_empty_columns_before_the_table(
    tmp_path: Path, left: int, top: int, named: bool
) -> None:
    head = [["Nombre", "Celular", "Ciudad"]] if named else []
    table: list[list[Any]] = [*head, *(["Ana", 987654321 + n, "Lima"] for n in range(5))]
    rows: list[list[Any]] = [[] for _ in range(top)]
    rows += [[None for _ in range(left)] + cells for cells in table]
    make(tmp_path / "leads.xlsx", rows)
    (tmp_path / "leads.csv").write_text(
        "".join(",".join("" if cell is None else str(cell) for cell in row) + "\n" for row in rows), "utf-8"
    )
    for name in ("leads.xlsx", "leads.csv"):
        with open_source(tmp_path / name) as source:
            assert f"(column {left + 2}, found by" in str(source.number_column)
        with open_source(tmp_path / name, column=left + 2) as source:
            assert [row.number for row in source.rows()] == [str(987654321 + n) for n in range(5)]
    with pytest.raises(FileError, match=f"{left + 2} '"):
        open_source(tmp_path / "leads.xlsx", column=9)
