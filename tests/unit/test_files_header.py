"""The header: the first row, or one below a title, or none; rows above it come back unchanged."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from accucheck.files import RESULT_COLUMNS, FileSink, ResultColumns, StreamSink, open_source
from accucheck.files._columns import has_header, header_place

ANSWER = ResultColumns(whatsapp=True, status="OK")
NAMES = ";".join(RESULT_COLUMNS)
ROWS = "12345678;987654321;Ana\n45678912;912345678;Luis\n"


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    return tmp_path / "leads.csv"


def checked(leads: Path, suffix: str = ".csv") -> Path:
    output = leads.with_name(f"output{suffix}")
    with open_source(leads) as source, FileSink(output, source) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    return output


@pytest.mark.parametrize(
    "title",
    [
        "LISTA DE CLIENTES;;\n",
        "LISTA DE CLIENTES\n",
        "\n\nLISTA DE CLIENTES\n\n",
        ";;\n",
        "Base de teléfonos;;\n",
        "Telefonos de clientes\nMayo 2024\n",
        "Empresa;ACME SAC;\nFecha;12/05/2024;\n;;\n",
        "RUC: 20512345678;;\n\n;;\n",
        "LEADS;;\nActualizado: 12/11/2025;;\n",
        "Llamar al 987654321 (Rosa)\n",
        "Informes al (01) 445-1234;;\n;;\nMayo 2024;;\n",
        '"LISTA\nde clientes";;\n',
        '"LISTA\nde clientes"\n',
        '"LISTA ""A"", de clientes";;\n',
        "sep=;\nLISTA DE CLIENTES;;\n",
        "Clientes, mayo 2024\n",
        "1;;\n" * 9,
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_title_above_the_header_comes_back_as_it_was(leads: Path, title: str, line_end: str) -> None:
    leads.write_bytes(f"{title}dni;telefono;nombre\n{ROWS}".replace("\n", line_end).encode())
    for _ in range(2):
        with open_source(leads) as source:
            assert source.columns[:3] == ["dni", "telefono", "nombre"]
            assert str(source.number_column) == "'telefono' (column 2, found by name)"
            assert list(source.numbers()) == ["987654321", "912345678"]
            assert source.rows_total == 2
        output = checked(leads).read_bytes().decode()
        assert output.startswith(f"{title}dni;telefono;nombre;".replace("\n", line_end))
        leads = leads.with_name("output.csv").rename(leads.with_name("again.csv"))


def test_our_columns_are_added_only_to_the_header_and_the_rows(leads: Path) -> None:
    leads.write_text(f"LISTA DE CLIENTES;;\ndni;telefono;nombre\n{ROWS}")
    title, header, *rows = checked(leads).read_text().splitlines()
    assert (title, header) == ("LISTA DE CLIENTES;;", f"dni;telefono;nombre;{NAMES}")
    assert [row[: row.index(";yes;")] for row in rows] == ROWS.splitlines()


def test_names_that_do_not_say_phone_are_a_header_above_numbers(leads: Path) -> None:
    leads.write_text(f"LISTA DE CLIENTES;;\ndocumento;dato;cliente\n{ROWS}")
    with open_source(leads) as source:
        assert source.columns == ["documento", "dato", "cliente"]
        assert (source.number_column.name, source.number_column.found_by) == ("dato", "content")


def test_one_column_may_have_a_title_too(leads: Path) -> None:
    leads.write_text("Lista de clientes\nNro. de celular\n987654321\n912345678\n")
    with open_source(leads) as source:
        assert source.columns == ["Nro. de celular"]
        assert list(source.numbers()) == ["987654321", "912345678"]


def test_a_header_without_rows_is_found_below_a_title(leads: Path) -> None:
    leads.write_text("LISTA DE CLIENTES;;\ndni;telefono;nombre\n")
    with open_source(leads) as source:
        assert (source.columns, list(source.numbers())) == (["dni", "telefono", "nombre"], [])


@pytest.mark.parametrize(
    "text",
    [
        "Ana;987654321;Lima\nnombre;telefono;ciudad\n",
        "987654321;;\ndni;telefono;nombre\n912345678;x;y\n",
        "12/05/2024;987654321;Lima\nnombre;telefono;ciudad\n",
        "Ana;;Lima\nLuis;987654321;Cusco\n",
        ";;\nAna;987654321;Lima\n",
    ],
)
def test_no_row_of_a_list_without_a_header_is_taken_for_a_title(leads: Path, text: str) -> None:
    leads.write_text(text)
    with open_source(leads, column=2) as source:
        assert source.columns == ["column_1", "phone", "column_3"]
        assert len(list(source.numbers())) == sum(any(line.split(";")) for line in text.splitlines())


def test_a_header_that_names_one_column_is_not_a_title(leads: Path) -> None:
    leads.write_text("phone;;\n987654321;Ana;Lima\nx;Luis;Cusco\n")
    with open_source(leads) as source:
        assert source.columns == ["phone", "", ""]


def test_an_open_quote_that_has_swallowed_rows_is_not_a_title(leads: Path) -> None:
    leads.write_text(f'"LISTA;;\n12345678;965432187;Eva\n"\ndni;telefono;nombre\n{ROWS}')
    with open_source(leads, column=2) as source:
        assert source.columns == ["column_1", "phone", "column_3"]
        assert {"987654321", "912345678"} <= set(source.numbers())


def test_bytes_of_a_header_that_do_not_decode_come_back_as_they_were(leads: Path) -> None:
    leads.write_bytes(b"Pe\xf1a;;\nA\xf1o;phone;x\n" + ROWS.encode())
    with open_source(leads, encoding="utf-8") as source:
        "".join(source.columns).encode()
        output = leads.with_name("output.csv")
        with FileSink(output, source):
            pass
    assert output.read_bytes().startswith(b"Pe\xf1a;;\nA\xf1o;phone;x;whatsapp")


def test_a_title_that_comes_live_is_written_first() -> None:
    live = io.BytesIO(f"LISTA;;\ndni;telefono;nombre\n{ROWS}".encode())
    source, stream = open_source("-", live=True, stdin=live), io.BytesIO()
    with StreamSink(stream, source, file_format="csv") as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
    assert stream.getvalue().decode().splitlines()[:2] == ["LISTA;;", f"dni;telefono;nombre;{NAMES}"]


WORDS = ["", " ", "Ana", "Av. Lima 123", "Lima", "telefono", "sin telefono", "Nro. celular", "dni", "x", "-"]
OTHERS = ["987654321", "+51 912 345 678", "12345678", "12/05/2024", "45.50", "20512345678"]
CELLS = st.sampled_from([*WORDS, *OTHERS])


@settings(derandomize=True, deadline=None, max_examples=500)
@example(rows=[["nombre", "dato"], ["Ana", "987654321", "Lima"]])
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=5), min_size=1, max_size=14))
def test_a_list_without_a_title_is_read_as_if_there_were_none(rows: list[list[str]]) -> None:
    # A possible title: a first row that is narrower than a later one above the numbers.
    filled = [sum(map(bool, map(str.strip, row))) for row in rows]
    numbers = [any(cell in ("987654321", "+51 912 345 678", "12345678") for cell in row) for row in rows]
    before = filled[: numbers.index(True) if True in numbers else None]
    assume(filled[0] > 1 and filled[0] >= max(before, default=0))
    assert header_place(rows) == (0 if has_header(rows) else None)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    title=st.lists(st.sampled_from(["LISTA", "Telefonos de clientes", "Mayo 2024", ""]), max_size=8),
    rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=14),
)
def test_the_header_below_any_title_is_found(title: list[str], rows: list[list[str]]) -> None:
    rows[0][1] = "987654321"
    table = [[each, "", "", ""] for each in title] + [["dni", "telefono", "nombre", "monto"], *rows]
    assert header_place(table) == len(title)


def make_workbook(path: Path, rows: list[list[Any]]) -> None:
    xlsxwriter = pytest.importorskip("xlsxwriter")
    with xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd"}) as book:
        sheet = book.add_worksheet()
        for line, cells in enumerate(rows):
            sheet.write_row(line, 0, cells)


def cells_of(path: Path) -> list[list[Any]]:
    calamine = pytest.importorskip("python_calamine")
    return list(calamine.load_workbook(path).get_sheet_by_index(0).iter_rows())


TABLE: list[list[Any]] = [
    ["dni", "Telefono", "nombre"],
    [12345678, 987654321, "Ana"],
    [],
    [45678912, 912345678, "Luis"],
]


@pytest.mark.parametrize(
    "title",
    [
        [["LISTA DE CLIENTES"], [], [], []],
        [["Base de teléfonos"]],
        [["Empresa", "ACME"], ["Fecha", date(2024, 5, 12)], []],
    ],
)
def test_rows_above_the_header_of_a_sheet_stay_there(leads: Path, title: list[list[Any]]) -> None:
    leads = leads.with_suffix(".xlsx")
    make_workbook(leads, [*title, *TABLE])
    with open_source(leads) as source:
        assert source.columns == ["dni", "Telefono", "nombre"]
        assert list(source.numbers()) == ["987654321", "912345678"]
        assert (source.rows_total, source.fraction) == (2, 1.0)
    before, after = cells_of(leads), cells_of(checked(leads, ".xlsx"))
    assert [row[:3] for row in after if any(row)] == [row for row in before if any(row)]
    assert {tuple(row[3:]) for row in after[: len(title)]} == {("",) * len(RESULT_COLUMNS)}
    assert after[len(title)][3:] == list(RESULT_COLUMNS)
    as_csv = list(csv.reader(io.StringIO(checked(leads, ".csv").read_text("utf-8-sig"))))
    assert [row[0] for row in as_csv[: len(title)]] == [row[0] if row else "" for row in title]
    assert as_csv[len(title)][:4] == ["dni", "Telefono", "nombre", "whatsapp"]


@pytest.mark.parametrize("table", [TABLE, TABLE[1:]])
def test_a_sheet_that_begins_with_blank_rows_begins_at_the_first_that_is_not(
    leads: Path, table: list[list[Any]]
) -> None:
    leads = leads.with_suffix(".xlsx")
    make_workbook(leads, [[], [], [], [], *table])
    with open_source(leads) as source:
        assert [row.number for row in source.rows()] == ["987654321", "912345678"]
        assert (source.rows_total, source.fraction) == (2, 1.0)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_formats_without_a_place_for_a_title_leave_it_out(leads: Path, suffix: str) -> None:
    leads.write_text(f"LISTA DE CLIENTES;;\ndni;telefono;nombre\n{ROWS}")
    with open_source(checked(leads, suffix)) as source:
        assert source.columns[:4] == ["dni", "telefono", "nombre", "whatsapp"]
        assert list(source.numbers()) == ["987654321", "912345678"]
