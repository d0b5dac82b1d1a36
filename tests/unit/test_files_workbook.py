"""A workbook is read as a person sees it: sheets, hidden rows, styles, and cells without a value."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck.files import RESULT_COLUMNS, FileError, FileSink, ResultColumns, open_source
from accucheck.files._excel import facts_in
from accucheck.files._origin import OutputError
from accucheck.files._sheets import SheetFacts

calamine = pytest.importorskip("python_calamine")
xlsxwriter = pytest.importorskip("xlsxwriter")
openpyxl = pytest.importorskip("openpyxl")

AT = datetime(2026, 11, 26, 8, 47, 23, tzinfo=UTC)
ANSWER = ResultColumns(
    True, date(2023, 12, 12), False, None, "¡Hola! <&> \x07", "OK", "", "TID1", "+51987650001", AT
)
OURS = ("yes", datetime(2023, 12, 12), "no", None, "¡Hola! <&> ", "OK", None, "TID1", "+51987650001",
        datetime(2026, 11, 26, 8, 47, 23))  # fmt: skip
N1, N2, N3 = 987650001, 987650002, 987650003


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    return tmp_path / "leads.xlsx"


Dress = Callable[[Any, dict[str, Any]], None]


def make(path: Path, sheets: dict[str, list[list[Any]]], dress: Dress | None = None) -> Path:
    with xlsxwriter.Workbook(path) as book:
        made = {}
        for name, rows in sheets.items():
            made[name] = sheet = book.add_worksheet(name)
            for line, cells in enumerate(rows):
                sheet.write_row(line, 0, cells)
        if dress is not None:
            dress(book, made)
    return path


def checked(leads: Path, **options: Any) -> Path:
    output = leads.with_name("output.xlsx")
    with open_source(leads, **options) as source, FileSink(output, source) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    return output


def rewritten(path: Path, change: Callable[[bytes], bytes], part: str = "xl/worksheets/sheet1.xml") -> Path:
    """Change one part of a workbook, as if another program had written it."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts[part] = change(parts[part])
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    return path


LEADS: list[list[Any]] = [["Nombre", "Celular"], ["Ana", N1], ["Luis", N2]]


def test_the_sheet_with_numbers_is_read_and_the_others_are_named(leads: Path) -> None:
    make(
        leads, {"Portada": [["Reporte 2026"]], "Leads": LEADS, "Notas": [["DNI", "nota"], ["12345678", "x"]]}
    )
    with open_source(leads) as source:
        assert list(source.numbers()) == [str(N1), str(N2)]
        assert source.notes == ["these sheets are skipped: 'Portada', 'Notas'; choose one with --sheet"]


def test_several_sheets_with_numbers_must_be_chosen_from(leads: Path) -> None:
    make(leads, {"Lima": LEADS, "Cusco": [["Celular"], [N3]]})
    with pytest.raises(
        FileError, match=r"2 sheets contain phone numbers: 'Lima' \(2 rows\), 'Cusco' \(1 row\); choose"
    ):
        open_source(leads)
    for wanted, numbers in (
        ("Cusco", [N3]),
        ("cusco", [N3]),
        (2, [N3]),
        ("1", [N1, N2]),
        ("all", [N1, N2, N3]),
    ):
        with open_source(leads, sheet=wanted) as source:
            assert list(source.numbers()) == list(map(str, numbers))
    with pytest.raises(FileError, match="there is no sheet 'Puno'; its sheets are 1 'Lima', 2 'Cusco'"):
        open_source(leads, sheet="Puno")


@pytest.mark.parametrize(
    "note", ["Llamar a Rosa 999 111 222 si hay dudas", "Informes: llamar al (01) 445-1234 de lunes a viernes"]
)
def test_a_sentence_with_a_number_does_not_make_a_sheet_a_list(leads: Path, note: str) -> None:
    make(leads, {"Notas": [["Notas"], ["Base de mayo"], [note]], "Leads": LEADS})
    with open_source(leads) as source:
        assert list(source.numbers()) == [str(N1), str(N2)]
        assert source.notes == ["these sheets are skipped: 'Notas'; choose one with --sheet"]
    make(leads, {"VIP": [["Rosa - 999 111 222 (Claro)"]], "Leads": LEADS})
    with pytest.raises(FileError, match=r"2 sheets contain phone numbers"):
        open_source(leads)


def test_the_sheet_with_the_answers_of_a_checked_workbook_can_be_requested(leads: Path) -> None:
    make(leads, {"Lima": LEADS, "Cusco": [["Celular", "whatsapp", "status"], [N3, "yes", "OK"]]})
    with open_source(leads, checked=True) as source:
        assert list(source.numbers()) == [str(N3)]
    with open_source(leads, checked=True, sheet="Lima") as source:
        assert list(source.numbers()) == [str(N1), str(N2)]


def test_sheets_without_numbers_are_listed(leads: Path) -> None:
    make(leads, {"A": [["x"], ["y"]], "B": [["nombre", "nota"], ["Ana", "x"]]})
    with pytest.raises(
        FileError, match=r"no sheet contains phone numbers: 'A' \(1 row\), 'B' \(1 row\); choose one"
    ):
        open_source(leads)


def test_hidden_sheets_are_not_read_and_named(leads: Path) -> None:
    make(leads, {"Leads": LEADS, "Viejo": [["Celular"], [N3]]}, lambda book, sheets: sheets["Viejo"].hide())
    with open_source(leads) as source:
        assert list(source.numbers()) == [str(N1), str(N2)]
        assert source.notes == ["these sheets are skipped: 'Viejo' (hidden); choose one with --sheet"]
    with open_source(leads, sheet="Viejo") as source:
        assert list(source.numbers()) == [str(N3)]


def test_several_sheets_share_common_column_names(leads: Path) -> None:
    make(leads, {"Lima": LEADS, "Cusco": [["Celular", "DNI"], [N3, "x"]], "Nota": [["hola"]]})
    with open_source(leads, sheet="all") as source:
        assert source.columns == ["sheet", "Nombre", "Celular", "DNI"]
        assert [list(source.values(row)) for row in source.rows()] == [
            ["Lima", "Ana", N1, None],
            ["Lima", "Luis", N2, None],
            ["Cusco", None, N3, "x"],
        ]
        assert source.notes == ["these sheets are skipped: 'Nota'; choose one with --sheet"]
    book = openpyxl.load_workbook(checked(leads, sheet="all"))
    assert [cell.value for cell in book["Lima"][2]][:3] == ["Ana", N1, "yes"]
    assert [cell.value for cell in book["Cusco"][1]][:3] == ["Celular", "DNI", "whatsapp"]
    assert [cell.value for cell in book["Cusco"][2]][:3] == [N3, "x", "yes"]
    assert book["Nota"].max_column == 1


def test_a_sheet_is_asked_for_only_where_there_are_some(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text("phone\n987654321\n")
    with pytest.raises(FileError, match="this file has no sheets"):
        open_source(path, sheet="Leads")


def test_hidden_and_filtered_rows_are_reported_and_left_out_if_asked(leads: Path) -> None:
    def dress(book: Any, sheets: dict[str, Any]) -> None:
        sheets["Leads"].set_row(2, None, None, {"hidden": True})

    make(leads, {"Leads": [*LEADS, ["Eva", N3]]}, dress)
    with open_source(leads) as source:
        assert list(source.numbers()) == [str(N1), str(N2), str(N3)]
        assert source.notes == [
            "1 row of sheet 'Leads' that are hidden or filtered out are included; --visible-only skips them"
        ]
    with open_source(leads, visible_only=True) as source:
        assert list(source.numbers()) == [str(N1), str(N3)]
    sheet = openpyxl.load_workbook(checked(leads, visible_only=True)).active
    assert [sheet.cell(line, 3).value for line in range(1, 5)] == ["whatsapp", "yes", None, "yes"]
    assert sheet.row_dimensions[3].hidden


def formulas(book: Any, sheets: dict[str, Any]) -> None:
    sheet = sheets["Leads"]
    sheet.write_formula(1, 1, '="9"&A2', None, "")
    sheet.write_formula(2, 1, "=NA()", None, "#N/A")
    sheet.write_formula(3, 1, "=A4", None, str(N3))
    sheet.write_formula(3, 2, "=A4", None, "#REF!")


def test_a_formula_without_a_value_and_an_error_are_not_empty_cells(leads: Path) -> None:
    rows: list[list[Any]] = [
        ["Nombre", "Celular", "x"],
        ["Ana", "", ""],
        ["Luis", "", ""],
        ["Eva", "", ""],
        *[["Leo", N1, "y"]] * 4,
    ]
    make(leads, {"Leads": rows}, formulas)
    with open_source(leads) as source:
        read = list(source.rows())
        assert [row.number for row in read] == ["", "", str(N3), *[str(N1)] * 4]
        assert 'contains the formula ="9"&A2 without a saved value: open the file in Excel' in read[0].fault
        assert read[1].fault == "The cell contains the error #N/A."
        assert list(source.values(read[0])) == ["Ana", '="9"&A2', ""]
        assert list(source.values(read[1])) == ["Luis", "#N/A", ""]
        assert list(source.values(read[2])) == ["Eva", str(N3), "#REF!"]
    before, after = openpyxl.load_workbook(leads).active, openpyxl.load_workbook(checked(leads)).active
    assert [[cell.value for cell in row[:3]] for row in after] == [
        [cell.value for cell in row] for row in before
    ]


CELLS = [
    '<c r="{}" t="inlineStr"><is><t>Calle #5</t></is></c>',
    '<c r="{}"><v>987654321</v></c>',
    '<c r="{}" s="1"/>',
    '<c r="{}"><f>A1+1</f><v>7</v></c>',
    '<c r="{}"><f ca="1">A1&amp;"x"</f></c>',
    '<c r="{}"><f t="shared" si="0"/><v></v></c>',
    '<c r="{}" t="str">\n<f>B2</f>\n<v />\n</c>',
    '<c r="{}" t="e"><f>VLOOKUP(A1,Hoja2!A:B,2,0)</f><v>#N/A</v></c>',
    '<c r="{}" t="e"><v>#REF!</v></c>',
]
ROW_STARTS = ["", ' hidden="1"', ' hidden="true"', ' hidden="false"']


@given(
    rows=st.lists(
        st.tuples(st.sampled_from(ROW_STARTS), st.lists(st.sampled_from(range(len(CELLS))), max_size=4)),
        max_size=12,
    ),
    prefix=st.sampled_from(["", "x:"]),
    size=st.integers(40, 300),
)
def test_oddities_in_a_sheet_are_found_wherever_its_xml_is_split(
    rows: list[tuple[str, list[int]]], prefix: str, size: int
) -> None:
    rows.insert(0, ("", [4]))  # a shared formula
    facts, xml = SheetFacts(), ""
    for line, (start, cells) in enumerate(rows, start=1):
        if "1" in start or "true" in start:
            facts.hidden.add(line)
        texts = {
            place: text
            for place, kind in enumerate(cells, start=1)
            if (text := {4: '=A1&"x"', 5: "=", 6: "=B2", 7: "#N/A", 8: "#REF!"}.get(kind))
        }
        for odd in (facts.errors, facts.unsaved):
            if own := {
                place: text for place, text in texts.items() if (text[0] == "#") == (odd is facts.errors)
            }:
                odd[line] = own
        xml += f'<row r="{line}"{start}>'
        xml += (
            "".join(CELLS[kind].format(f"{chr(64 + at)}{line}") for at, kind in enumerate(cells, start=1))
            + "</row>"
        )
    xml = f'<worksheet xmlns:x="main"><sheetData>{xml}</sheetData></worksheet>'
    xml = re.sub(r"<(/?)(\w)", rf"<\1{prefix}\2", xml)
    assert facts_in(BytesIO(xml.encode()), size) == facts


def test_cells_with_several_numbers_are_noticed_on_any_of_several_sheets(tmp_path: Path) -> None:
    first = [["Nombre", "Celular"], ["A", "987650001 / 987650002"], ["B", "987650003"]]
    leads = make(tmp_path / "leads.xlsx", {"Uno": first, "Dos": [["Nombre", "Celular"], ["C", "987650004"]]})
    with open_source(leads, sheet="all") as source:
        assert source.several is not None


def test_a_column_of_formulas_without_values_is_refused(leads: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["Nombre", "Celular"], ["P1", '="+51"&"987650001"'], ["P2", '="+51"&"987650002"']):
        book.active.append(row)
    book.save(leads)
    with pytest.raises(
        FileError, match=r"column 'Celular' of sheet 'Sheet' contains formulas without saved values"
    ):
        open_source(leads)


def dressed(book: Any, sheets: dict[str, Any]) -> None:
    sheet = sheets["Leads"]
    bold = book.add_format({"bold": True, "bg_color": "#FFCC00"})
    sheet.write_row(0, 0, ["Nombre", "Celular", "DNI", "Nacimiento", "Monto", "Web"], bold)
    for line in (1, 2):
        sheet.write(line, 2, 1234567, book.add_format({"num_format": "00000000"}))
        sheet.write_datetime(line, 3, datetime(1990, 2, line), book.add_format({"num_format": "dd/mm/yyyy"}))
        sheet.write(line, 4, 1500.5, book.add_format({"num_format": '"S/" #,##0.00'}))
        sheet.write_url(line, 5, "https://example.pe/x", string="ver")
        sheet.write_rich_string(line, 0, "Ana ", bold, "María")
    sheet.write_formula(3, 4, "=SUM(E2:E3)", None, 3001)
    sheet.write_blank(2, 8, None, bold)
    sheet.set_column(0, 0, 33.5)
    sheet.freeze_panes(1, 1)
    sheet.autofilter(0, 0, 3, 5)
    sheet.merge_range("A6:C6", "Total", bold)
    sheet.conditional_format("E2:E3", {"type": "cell", "criteria": ">", "value": 5, "format": bold})
    sheet.data_validation("A2", {"validate": "list", "source": ["a", "b"]})
    sheet.write_comment("A1", "nota")
    sheet.set_tab_color("red")
    sheets["Otra"].write_formula("A1", "=Leads!B2", None, N1)
    book.define_name("Clientes", "=Leads!$A$2:$B$3")


def facts_of(path: Path) -> dict[str, Any]:
    book = openpyxl.load_workbook(path, rich_text=True)
    sheet = book["Leads"]
    return {
        "names": book.sheetnames,
        "defined": list(book.defined_names),
        "other": book["Otra"]["A1"].value,
        "cells": {
            cell.coordinate: (cell.value, cell.number_format, cell.font.b, cell.fill.fgColor.rgb)
            for row in sheet["A1:F6"]
            for cell in row
        },
        "links": [link.target for link in sheet._hyperlinks],
        "widths": {name: sheet.column_dimensions[name].width for name in "ABCDEF"},
        "freeze": sheet.freeze_panes,
        "filter": sheet.auto_filter.ref,
        "merged": [str(each) for each in sheet.merged_cells.ranges],
        "conditional": [str(each.sqref) for each in sheet.conditional_formatting],
        "validation": [str(each.sqref) for each in sheet.data_validations.dataValidation],
        "comment": sheet["A1"].comment.text,
        "tab": sheet.sheet_properties.tabColor.rgb,
    }


def test_everything_in_a_workbook_stays_as_it_is(leads: Path) -> None:
    rows: list[list[Any]] = [["Nombre", "Celular"], ["", N1], ["", N2], ["Suma", ""]]
    make(leads, {"Leads": rows, "Otra": [["x"]]}, dressed)
    output = checked(leads, sheet="Leads")
    assert facts_of(output) == facts_of(leads)
    sheet = openpyxl.load_workbook(output)["Leads"]
    # Line 4 has a sum but no number, line 6 a total: they cannot be told from rows of the list.
    for line in (2, 3, 4):
        assert tuple(cell.value for cell in sheet[line][6:16]) == OURS
    assert [cell.value for cell in sheet[1][6:16]] == list(RESULT_COLUMNS)
    assert sheet["G1"].font.b, "our names look like theirs"
    assert (sheet["H2"].number_format, sheet["P2"].number_format) == (
        r"yyyy\-mm\-dd",
        r"yyyy\-mm\-dd\ hh:mm:ss",
    )
    assert calamine.load_workbook(output).get_sheet_by_name("Leads").to_python()[1][6:8] == [
        "yes",
        date(2023, 12, 12),
    ]
    with zipfile.ZipFile(leads) as before, zipfile.ZipFile(output) as after:
        assert set(before.namelist()) == set(after.namelist())
        changed = {name for name in before.namelist() if before.read(name) != after.read(name)}
        assert changed == {"xl/worksheets/sheet1.xml", "xl/styles.xml"}
        assert re.findall(rb'<c r="I3"', after.read("xl/worksheets/sheet1.xml")) == [b'<c r="I3"']


def test_a_workbook_that_was_checked_can_be_checked_again(leads: Path) -> None:
    make(leads, {"Leads": LEADS})
    output = checked(leads)
    output.rename(leads)
    sheet = openpyxl.load_workbook(checked(leads)).active
    assert [cell.value for cell in sheet[1]][2:] == [
        *RESULT_COLUMNS,
        *(f"accucheck_{name}" for name in RESULT_COLUMNS),
    ]
    assert tuple(cell.value for cell in sheet[3][12:]) == OURS


@pytest.mark.parametrize(
    "change",
    [
        lambda xml: re.sub(rb"<(/?)(?=\w)", rb"<\1x:", xml).replace(b"xmlns=", b"xmlns:x="),
        lambda xml: xml.replace(b"<row", b"\n  <row").replace(b"</row>", b"\n</row>"),
        lambda xml: re.sub(rb'<row r="\d+"', b"<row", xml),
        lambda xml: re.sub(rb"<dimension[^>]*>", b"", xml),
        lambda xml: xml.replace(b"</sheetData>", b'<row r="9" ht="20"/></sheetData>'),
    ],
)
def test_other_programs_write_other_xml(leads: Path, change: Callable[[bytes], bytes]) -> None:
    make(leads, {"Leads": LEADS})
    rewritten(leads, change)
    sheet = openpyxl.load_workbook(checked(leads)).active
    assert [cell.value for cell in sheet[1]][:3] == ["Nombre", "Celular", "whatsapp"]
    assert tuple(cell.value for cell in sheet[3][2:]) == OURS


def test_a_list_in_the_middle_of_a_sheet_is_read(leads: Path) -> None:
    with xlsxwriter.Workbook(leads) as book:
        sheet = book.add_worksheet()
        for line, cells in enumerate([["REPORTE"], [], *LEADS, [], ["Eva", N3]]):
            sheet.write_row(line + 2, 3, cells)
    sheet = openpyxl.load_workbook(checked(leads)).active
    assert [[cell.value for cell in row[3:6]] for row in sheet.iter_rows(min_row=3)] == [
        ["REPORTE", None, None],
        [None, None, None],
        ["Nombre", "Celular", "whatsapp"],
        ["Ana", N1, "yes"],
        ["Luis", N2, "yes"],
        [None, None, None],
        ["Eva", N3, "yes"],
    ]


def test_a_second_row_of_names_below_a_merged_cell_is_not_a_lead(leads: Path) -> None:
    def dress(book: Any, sheets: dict[str, Any]) -> None:
        sheets["Leads"].merge_range("B1:C1", "Teléfonos")

    make(
        leads,
        {"Leads": [["Cliente", "", ""], ["Nombre", "Fijo", "Celular"], ["Ana", "014567890", N1]]},
        dress,
    )
    with open_source(leads) as source:
        assert source.columns == ["Cliente Nombre", "Teléfonos Fijo", "Teléfonos Celular"]
        assert source.number_column.index == 2
        assert list(source.numbers()) == [str(N1)]
    sheet = openpyxl.load_workbook(checked(leads)).active
    assert [sheet.cell(line, 4).value for line in (1, 2, 3)] == [None, "whatsapp", "yes"]


def test_macros_are_not_in_an_xlsx_output_and_it_says_so(leads: Path) -> None:
    make(leads, {"Leads": LEADS}, lambda book, sheets: None)
    with zipfile.ZipFile(leads, "a") as parts:
        parts.writestr("xl/vbaProject.bin", b"x")
    with open_source(leads) as source, FileSink(leads.with_name("out.xlsx"), source) as sink:
        assert sink.notes == [
            "the output does not contain the input's macros: an .xlsx workbook cannot hold them"
        ]
        for row in source.rows():
            sink.write(row, ANSWER)
    assert "xl/vbaProject.bin" not in zipfile.ZipFile(leads.with_name("out.xlsx")).namelist()


def test_losses_in_a_new_workbook_are_reported_before_the_first_call(leads: Path) -> None:
    make(leads, {"Leads": [["Ana", N1], ["Luis", N2]]})
    with open_source(leads) as source, FileSink(leads.with_name("out.xlsx"), source) as sink:
        assert sink.notes == [
            "the output is a new workbook without the input's styles, formulas and other sheets:"
            " the sheet has no header row, which the new columns need"
        ]


def test_a_workbook_with_some_of_the_rows_holds_no_others(leads: Path) -> None:
    make(leads, {"Leads": LEADS})
    output = leads.with_name("out.xlsx")
    with open_source(leads) as source, FileSink(output, source, partial=True) as sink:
        assert sink.notes == [
            "the output is a new workbook without the input's styles, formulas and other sheets:"
            " only some of its rows are written"
        ]
        sink.write(list(source.rows())[1], ANSWER)
    assert [row[:2] for row in openpyxl.load_workbook(output).active.values] == [
        ("Nombre", "Celular"),
        ("Luis", N2),
    ]


def test_rows_out_of_order_are_an_internal_error(leads: Path) -> None:
    make(leads, {"Leads": LEADS})
    with open_source(leads) as source, pytest.raises(ValueError, match="in their order"):
        with FileSink(leads.with_name("out.xlsx"), source) as sink:
            for row in reversed(list(source.rows())):
                sink.write(row, ANSWER)
    assert sorted(path.name for path in leads.parent.iterdir()) == ["leads.xlsx"]


def test_text_that_excel_would_read_as_a_character_is_escaped(leads: Path) -> None:
    make(leads, {"Leads": LEADS})
    output = leads.with_name("output.xlsx")
    with open_source(leads) as source, FileSink(output, source) as sink:
        for row in source.rows():
            sink.write(row, ANSWER._replace(signature="_x0041_"))
    assert b"<t>_x005F_x0041_</t>" in zipfile.ZipFile(output).read("xl/worksheets/sheet1.xml")


def test_dates_of_a_workbook_that_counts_from_1904(leads: Path) -> None:
    with xlsxwriter.Workbook(leads, {"date_1904": True}) as book:
        sheet = book.add_worksheet()
        for line, cells in enumerate(LEADS):
            sheet.write_row(line, 0, cells)
    sheet = openpyxl.load_workbook(checked(leads)).active
    assert sheet["D2"].value == datetime(2023, 12, 12)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_reported_for_the_output(leads: Path) -> None:
    make(leads, {"Leads": [*LEADS, *[["x" * 50, f"9{place:08d}"] for place in range(20_000)]]})
    with open_source(leads) as source, pytest.raises(OutputError, match="/dev/full: No space left on device"):
        with FileSink("/dev/full", source, file_format="xlsx") as sink:
            for row in source.rows():
                sink.write(row, ANSWER)


@pytest.mark.parametrize("widths", [None, (0, 0, 20), (0, 9, 20), (2, 40, 20)])
def test_the_new_columns_are_wide_enough_and_those_of_the_list_stay(
    tmp_path: Path, widths: tuple[int, int, int] | None
) -> None:
    leads = tmp_path / "leads.xlsx"
    with xlsxwriter.Workbook(leads) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["Nombre", "Celular"])
        sheet.write_row(1, 0, ["Ana", 987654321])
        if widths is not None:
            sheet.set_column(*widths)
    with open_source(leads) as source, FileSink(tmp_path / "out.xlsx", source) as sink:
        for row in source.rows():
            sink.write(row, ResultColumns(whatsapp=True, status="OK"))
    columns = openpyxl.load_workbook(tmp_path / "out.xlsx").active.column_dimensions
    if widths is None or widths[1] < 2:
        assert columns["L"].width > 18  # checked_at
    if widths is not None:
        assert columns["A" if not widths[0] else "C"].width == pytest.approx(20, abs=1)
