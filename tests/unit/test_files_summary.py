"""The summary sheet: in a new workbook and in a copy, and never mistaken for leads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accucheck.files import FileError, FileSink, ResultColumns, open_source
from accucheck.files._excel_writer import Heading, Share, SummarySheet, free_sheet_name
from accucheck.files._sheets import MARK
from tests.unit.test_files_workbook import LEADS, make, rewritten

openpyxl = pytest.importorskip("openpyxl")
LINES = [
    Heading([f"{MARK}Verificación"]),
    [],
    Heading(["Ciudad", "Filas"]),
    ["=Lima & <Cusco>", 987654321, Share(0.5)],
]


def checked(
    leads: Path, output: Path, lines: Sequence[Any] = LINES, name: str = "Resumen", **options: Any
) -> Path:
    sheet = SummarySheet(name, lambda: lines)
    with open_source(leads, **options) as source, FileSink(output, source, summary=sheet) as sink:
        for row in source.rows():
            sink.write(row, ResultColumns(True, status="OK"))
    return output


@pytest.fixture(params=["copy", "new"])
def leads(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "copy":
        return make(tmp_path / "leads.xlsx", {"Leads": LEADS})
    path = tmp_path / "leads.csv"
    path.write_text("".join(",".join(map(str, cells)) + "\n" for cells in LEADS))
    return path


def test_the_second_sheet_summarizes_the_list(leads: Path, tmp_path: Path) -> None:
    book = openpyxl.load_workbook(checked(leads, tmp_path / "output.xlsx"))
    assert len(book.sheetnames) == 2
    sheet = book["Resumen"]
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [
        [f"{MARK}Verificación", None, None],
        [None, None, None],
        ["Ciudad", "Filas", None],
        ["=Lima & <Cusco>", 987654321, 0.5],
    ]
    assert sheet["A4"].data_type in ("s", "inlineStr")  # not a formula
    assert sheet["C4"].number_format == "0.00%"
    assert sheet["A1"].font.b
    assert not sheet["A4"].font.b


def test_reading_the_output_back_gives_the_leads(leads: Path, tmp_path: Path) -> None:
    output = checked(leads, tmp_path / "output.xlsx")
    with open_source(output) as source:
        assert [row.number for row in source.rows()] == [str(cells[1]) for cells in LEADS[1:]]
        assert not [note for note in source.notes if "not read" in note]
    with open_source(output, sheet="all") as source:
        assert len(list(source.rows())) == 2


def test_a_list_checked_again_has_one_summary_with_the_new_counts(leads: Path, tmp_path: Path) -> None:
    first = checked(leads, tmp_path / "first.xlsx")
    second = checked(
        first, tmp_path / "second.xlsx", [Heading([f"{MARK}Check"]), ["Rows", 2]], name="Summary"
    )
    book = openpyxl.load_workbook(second)
    assert len(book.sheetnames) == 2
    assert book.worksheets[1]["A1"].value == f"{MARK}Check"
    assert book.worksheets[1].max_row == 2


def test_a_sheet_of_that_name_is_kept(tmp_path: Path) -> None:
    leads = make(
        tmp_path / "leads.xlsx", {"RESUMEN": [["mine"]], "Leads": LEADS, "Resumen 2": [["mine too"]]}
    )
    book = openpyxl.load_workbook(checked(leads, tmp_path / "output.xlsx", sheet="Leads"))
    assert book.sheetnames == ["RESUMEN", "Leads", "Resumen 2", "Resumen 3"]
    assert book["RESUMEN"]["A1"].value == "mine"


@pytest.mark.parametrize(
    ("taken", "free"),
    [([], "Resumen"), (["resumen"], "Resumen 2"), (["Resumen", "RESUMEN 2"], "Resumen 3")],
)
def test_a_free_name_is_found_in_any_case(taken: list[str], free: str) -> None:
    assert free_sheet_name("Resumen", taken) == free


def test_a_long_name_is_cut_to_what_excel_allows() -> None:
    assert len(free_sheet_name("x" * 40, ["x" * 31])) == 31


def test_styles_with_one_font_and_prefixes_get_a_bold_one(tmp_path: Path) -> None:
    leads = make(tmp_path / "leads.xlsx", {"Leads": LEADS})

    def prefixed(xml: bytes) -> bytes:
        import re

        xml = re.sub(rb"<(/?)(\w)", rb"<\1x:\2", xml)
        return xml.replace(b"xmlns=", b"xmlns:x=")

    rewritten(leads, prefixed, "xl/styles.xml")
    book = openpyxl.load_workbook(checked(leads, tmp_path / "output.xlsx"))
    assert book["Resumen"]["A1"].font.b
    assert book["Resumen"]["C4"].number_format == "0.00%"


def test_a_workbook_without_a_list_of_its_parts_is_refused(tmp_path: Path) -> None:
    leads = make(tmp_path / "leads.xlsx", {"Leads": LEADS})
    rewritten(leads, lambda xml: xml.replace(b"</Types>", b""), "[Content_Types].xml")
    with pytest.raises(FileError, match="save it again"):
        checked(leads, tmp_path / "output.xlsx")
