"""The whole command on the lists that people really have: several numbers, several sheets, a redirected output."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_cli import accucheck, start_sandbox

__all__ = ["start_sandbox"]

xlsxwriter = pytest.importorskip("xlsxwriter")
openpyxl = pytest.importorskip("openpyxl")

SEVERAL = 'nombre,telefonos\nAna,987650001 ::: 987650002\nLuis,"987650001, 987650003"\nEva,987650003\nLeo,x\n'


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("several", "numbers"),
    [
        ("first", [["+51987650001"], ["+51987650001"], ["+51987650003"], [""]]),
        (
            "each",
            [
                ["+51987650001", "+51987650002"],
                ["+51987650001", "+51987650003"],
                ["+51987650003", ""],
                ["", ""],
            ],
        ),
    ],
)
def test_several_numbers_in_a_cell_are_each_checked_once(
    start_sandbox: Any, tmp_path: Path, several: str, numbers: list[list[str]]
) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "out.csv"
    source.write_text(SEVERAL)
    result = accucheck("bulk", source, "-o", output, "--several", several, sandbox=sandbox)
    assert result.returncode == 1, result.stderr  # Leo has none
    rows = rows_of(output.read_text())
    assert [row["nombre"] for row in rows] == ["Ana", "Luis", "Eva", "Leo"]
    assert [[row[name] for name in row if name in ("number", "number_2")] for row in rows] == numbers
    wanted = {number.removeprefix("+51") for each in numbers for number in each if number}
    assert sandbox.asked() == dict.fromkeys(wanted, 1)


def test_the_best_of_several_columns_is_kept(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "out.csv"
    source.write_text("Celular,Teléfono fijo\n987650001,014441234\n987650002,\n", encoding="utf-8")
    command = ("bulk", source, "-o", output, "--column", "Celular", "--column", "2", "--several", "best")
    assert accucheck(*command, sandbox=sandbox).returncode == 0
    assert [row["status"] for row in rows_of(output.read_text())] == ["OK", "OK"]
    assert set(sandbox.asked()) == {"987650001", "987650002", "14441234"}


def test_a_sheet_is_chosen_and_its_workbook_comes_back(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.xlsx", tmp_path / "out.xlsx"
    with xlsxwriter.Workbook(source) as book:
        for name, number in (("Enero", 987650001), ("Febrero", 987650002)):
            sheet = book.add_worksheet(name)
            sheet.write_row(0, 0, ["Celular", "DNI"])
            sheet.write_row(1, 0, [number, 1234567], book.add_format({"num_format": "00000000"}))
    asked = accucheck("bulk", source, "-o", output, sandbox=sandbox)
    assert asked.returncode == 2
    assert "2 sheets hold phone numbers: 'Enero' (2 rows), 'Febrero' (2 rows)" in asked.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if "leads" in path.name or "out" in path.name) == [
        "leads.xlsx"
    ]
    assert accucheck("bulk", source, "-o", output, "--sheet", "Febrero", sandbox=sandbox).returncode == 0
    assert sandbox.asked() == {"987650002": 1}
    book = openpyxl.load_workbook(output)
    assert book["Febrero"]["B2"].number_format == "00000000"
    assert (book["Febrero"]["H2"].value, book["Enero"].max_column) == ("OK", 2)


def test_a_list_on_one_line_and_contacts_are_read(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    line, contacts = tmp_path / "line.txt", tmp_path / "c.vcf"
    line.write_text("987650001, 987650002\n")
    contacts.write_text("BEGIN:VCARD\nFN:Ana\nTEL:987650003\nEND:VCARD\n")
    for source in (line, contacts):
        assert accucheck("bulk", source, "-o", source.with_suffix(".csv"), sandbox=sandbox).returncode == 0
    assert set(sandbox.asked()) == {"987650001", "987650002", "987650003"}
