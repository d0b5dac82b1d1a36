"""The whole command on realistic lists: several numbers, several sheets, a redirected output."""

from __future__ import annotations

import csv
import io
import json
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
    assert "2 sheets contain phone numbers: 'Enero' (1 row), 'Febrero' (1 row)" in asked.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if "leads" in path.name or "out" in path.name) == [
        "leads.xlsx"
    ]
    assert accucheck("bulk", source, "-o", output, "--sheet", "Febrero", sandbox=sandbox).returncode == 0
    assert sandbox.asked() == {"987650002": 1}
    book = openpyxl.load_workbook(output)
    assert book["Febrero"]["B2"].number_format == "00000000"
    assert (book["Febrero"]["H2"].value, book["Enero"].max_column) == ("OK", 2)


def test_a_plan_does_not_count_an_error_as_empty(tmp_path: Path) -> None:
    leads = tmp_path / "leads.xlsx"
    with xlsxwriter.Workbook(leads) as book:
        sheet = book.add_worksheet()
        sheet.write_column(0, 0, ["Celular", 987650001])
        sheet.write_formula(2, 0, "=VLOOKUP(1,B:C,2)", None, "#N/A")
        sheet.write_row(3, 0, ["", "Ana"])
    planned = accucheck("plan", leads, "--json")
    assert json.loads(planned.stdout)["invalid_by_reason"] == {"unreadable": 1, "empty": 1}
    shown = accucheck("plan", leads).stdout
    assert "an error, a formula without a saved value, or a damaged line" in shown


def test_a_list_on_one_line_and_contacts_are_read(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    line, contacts = tmp_path / "line.txt", tmp_path / "c.vcf"
    line.write_text("987650001, 987650002\n")
    contacts.write_text("BEGIN:VCARD\nFN:Ana\nTEL:987650003\nEND:VCARD\n")
    for source in (line, contacts):
        assert accucheck("bulk", source, "-o", source.with_suffix(".csv"), sandbox=sandbox).returncode == 0
    assert set(sandbox.asked()) == {"987650001", "987650002", "987650003"}


def test_a_run_writes_its_report_and_a_summary_sheet(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, output, page = tmp_path / "leads.xlsx", tmp_path / "out.xlsx", tmp_path / "report.html"
    with xlsxwriter.Workbook(source) as book:
        sheet = book.add_worksheet("Leads")
        for line, cells in enumerate(
            [["Ciudad", "Celular"], ["Lima", 987650001], ["Cusco", 987650002], ["", "x"]]
        ):
            sheet.write_row(line, 0, cells)
    command = (
        "bulk",
        source,
        "-o",
        output,
        "--report",
        page,
        "--language",
        "es",
        "--price",
        "0.5",
        "--currency",
        "PEN",
    )
    result = accucheck(*command, sandbox=sandbox)
    assert result.returncode == 1, result.stderr
    assert str(page) in result.stderr
    html = page.read_text("utf-8")
    assert "1.00 PEN" in html
    assert "Consultas de esta ejecución" in html
    assert "987650001" not in html
    book = openpyxl.load_workbook(output)
    assert book.sheetnames == ["Leads", "Resumen"]
    sums = {row[0]: row[1] for row in book["Resumen"].iter_rows(values_only=True)}
    assert (sums["Todas las filas"], sums["Sin número utilizable"], sums["Costo PEN"]) == (3, 1, 1)
    # The output can be used as a list again: nothing is bought, and the summary's numbers are not leads.
    again = accucheck("bulk", output, "-o", tmp_path / "again.xlsx", sandbox=sandbox)
    assert again.returncode == 1, again.stderr
    assert set(sandbox.asked().values()) == {1}


def test_each_of_several_lists_has_its_report(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    for name, number in (("lima.csv", 987650001), ("cusco.csv", 987650002)):
        (tmp_path / name).write_text(f"celular\n{number}\n")
    lists, folder = (tmp_path / "lima.csv", tmp_path / "cusco.csv"), tmp_path / "checked"
    result = accucheck(
        "bulk", *lists, "--output-dir", folder, "--report", tmp_path / "report.html", sandbox=sandbox
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["report-cusco.html", "report-lima.html"]


def test_a_report_that_cannot_be_written_is_reported_before_any_call(
    start_sandbox: Any, tmp_path: Path
) -> None:
    sandbox = start_sandbox()
    source = tmp_path / "leads.csv"
    source.write_text("celular\n987650001\n")
    for page in (tmp_path / "missing" / "report.html", source):
        result = accucheck("bulk", source, "-o", tmp_path / "out.csv", "--report", page, sandbox=sandbox)
        assert result.returncode == 2, result.stderr
    assert not sandbox.asked()
    assert source.read_text() == "celular\n987650001\n"


@pytest.mark.parametrize("option", ["--report", "--summary-json", "--metrics-file"])
@pytest.mark.parametrize("taken", ["input", "foreign", "output", "ledger", "excluded"])
def test_report_summary_and_metrics_files_never_overwrite_other_files(
    tmp_path: Path, option: str, taken: str
) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("input", "foreign", "output", "ledger", "excluded")}
    files["input"].write_text("phone\n987650001\n")
    files["foreign"].write_text('{"mine": true}\n')
    files["excluded"].write_text("phone\n987650009\n")
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    link = tmp_path / "link"
    link.symlink_to(files[taken])
    command = ("bulk", files["input"], "-o", files["output"], "--ledger", files["ledger"], "--force",
               "--exclude", files["excluded"])  # fmt: skip
    for path in (files[taken], link):
        refused = accucheck(*command, option, path)
        assert (refused.returncode, refused.stderr.count("name another file")) == (2, 1), refused.stderr
    link.unlink()
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


def test_metrics_and_summaries_are_replaced_and_can_be_streamed(start_sandbox: Any, tmp_path: Path) -> None:
    sandbox = start_sandbox()
    source, output = tmp_path / "leads.csv", tmp_path / "out.csv"
    source.write_text("phone\n987650001\n")
    beside = (
        "--summary-json",
        tmp_path / "s.json",
        "--metrics-file",
        tmp_path / "m.prom",
        "--report",
        tmp_path / "r.html",
    )
    for _ in range(2):
        assert accucheck("bulk", source, "-o", output, *beside, sandbox=sandbox).returncode == 0
    assert json.loads((tmp_path / "s.json").read_text())["rows"] == 1
    shown = accucheck("bulk", source, "-o", output, "--summary-json", "/dev/stdout", sandbox=sandbox)
    assert json.loads(shown.stdout)["rows"] == 1
    refused = accucheck("bulk", source, "-o", output, "--metrics-file", "/dev/stdout", sandbox=sandbox)
    assert (refused.returncode, "name a file" in refused.stderr) == (2, True)
