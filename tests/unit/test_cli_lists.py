from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from accucheck._errors import ConfigurationError
from accucheck.cli import main
from accucheck.cli._lists import Leads, expand, make_exclusion, outputs_in, reports_on
from accucheck.cli._options import ListOptions, Skipping
from accucheck.files import FileError, open_source


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(*names: str, text: str = "phone\n987654321\n") -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_folders_and_patterns_become_their_lists_in_order_and_once() -> None:
    write("b.csv", "a.csv", "lists/2.csv", "lists/1.jsonl.gz", "lists/deep/3.xlsx", "lists/notes.docx")
    write("lists/.hidden.csv", "lists/~$open.xlsx")
    assert expand(["b.csv", "lists", "*.csv", "-"]) == [
        "b.csv",
        os.path.join("lists", "1.jsonl.gz"),
        os.path.join("lists", "2.csv"),
        os.path.join("lists", "deep", "3.xlsx"),
        "a.csv",
        "-",
    ]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file() -> None:
    write("leads[1].csv")
    assert expand(["leads[1].csv"]) == ["leads[1].csv"]


@pytest.mark.parametrize("name", ["empty", "no*.csv"])
def test_a_folder_or_pattern_without_a_list_is_an_error(name: str) -> None:
    Path("empty").mkdir()
    with pytest.raises(FileError, match=r"empty|no\*"):
        expand([name])


def test_results_keep_their_names_in_a_format_that_can_be_written() -> None:
    assert outputs_in("out", ["x/a.csv", "b.xls", "c.csv.gz", "d.parquet", "e", "-"]) == [
        os.path.join("out", name)
        for name in ("a.csv", "b.xlsx", "c.csv.gz", "d.parquet", "e.csv", "stdin.csv")
    ]


def test_lists_of_the_same_name_keep_the_folders_in_which_they_differ() -> None:
    assert outputs_in("out", ["in/a.csv", "in/x/A.csv", "in/x/b.csv"]) == [
        os.path.join("out", name) for name in ("a.csv", os.path.join("x", "A.csv"), "b.csv")
    ]


def test_two_lists_never_share_an_output() -> None:
    with pytest.raises(ConfigurationError, match=r"x/a.xls and x/a.xlsb would both be"):
        outputs_in("out", ["x/a.xls", "x/a.xlsb"])


def test_results_in_the_folder_of_the_lists_are_not_read_as_lists() -> None:
    for folder in ("in/checked", "in/.hidden", "in/sub"):
        os.makedirs(folder)
        write(f"{folder}/a.csv", text="phone\n987654321\n")
    write("in/~$x.xlsx", text="open in Excel")
    assert expand(["in"], apart_from="in/checked") == ["in/sub/a.csv"]
    assert expand(["in/*/a.csv"], apart_from="in/checked") == ["in/sub/a.csv"]
    assert expand(["in/checked/a.csv"], apart_from="in/checked") == ["in/checked/a.csv"]


def test_reports_on_lists_of_the_same_name_have_different_names() -> None:
    pages = reports_on(Path("r.html"), ["x/a.csv", "y/a.csv"])
    assert pages == [Path("r-x-a.csv.html"), Path("r-y-a.csv.html")]


def test_rows_are_left_out_by_number_and_by_column() -> None:
    write("refused.csv", text="tel\n+51 987 654 321\nnone\n")
    write("leads.csv", text="phone,Consentimiento\n987654321,Sí\n912345678,SI \n911111111,no\nhola,sí\n")
    exclusion = make_exclusion(Skipping(exclude=(Path("refused.csv"),), where=("consentimiento=sí",)))
    with open_source("leads.csv") as source:
        leads = Leads(source, ListOptions(), exclusion)
        assert [leads.why_not(row) for row in source.rows()] == [
            "listed in refused.csv",
            "",
            "Consentimiento is not sí",
            "",
        ]
        assert list(leads.texts()) == [None, "912345678", None, "hola"]


def test_a_condition_on_a_column_that_is_not_there_is_an_error_that_lists_them() -> None:
    write("leads.csv", text="phone,city\n987654321,Lima\n")
    with open_source("leads.csv") as source, pytest.raises(FileError, match="the columns are phone, city"):
        Leads(source, ListOptions(), make_exclusion(Skipping(where=("consent=yes",))))
    write("crm.csv", text="phone,¿Acepta?\n987654321,SI\n")
    with open_source("crm.csv") as source, pytest.raises(FileError, match=r"did you mean '¿Acepta\?'\?"):
        Leads(source, ListOptions(), make_exclusion(Skipping(where=("acepta=si",))))
    with pytest.raises(ConfigurationError, match="COLUMN=VALUE"):
        make_exclusion(Skipping(where=("consent",)))


def test_an_exclusion_list_reports_what_was_read(capsys: pytest.CaptureFixture[str]) -> None:
    write("refused.csv", text="name,phone\nAna,913456789\nEva,\nLuis,ext. 12\n")
    assert make_exclusion(Skipping(exclude=(Path("refused.csv"),))) is not None
    said = capsys.readouterr().err
    assert "refused.csv: 1 number to leave out, from column 'phone'" in said
    assert "refused.csv: 1 row without a valid number" in said
    make_exclusion(Skipping(exclude=(Path("refused.csv"),)), quiet=True)
    assert "never" not in capsys.readouterr().err


def test_an_exclusion_list_without_a_number_is_an_error() -> None:
    write("refused.csv", text="phone\nAna\nEva\n")
    with pytest.raises(FileError, match="has no phone numbers, so nothing would be excluded"):
        make_exclusion(Skipping(exclude=(Path("refused.csv"),)))


def test_without_options_every_row_is_asked() -> None:
    write("leads.csv")
    assert make_exclusion(Skipping()) is None
    with open_source("leads.csv") as source:
        assert list(Leads(source, ListOptions()).texts()) == ["987654321"]


def test_a_plan_leaves_out_excluded_rows(capsys: pytest.CaptureFixture[str]) -> None:
    write("leads.csv", text="phone,ok\n987654321,yes\n912345678,no\n913456789,yes\n")
    write("refused.txt", text="913456789\n")
    assert (
        main(["plan", "leads.csv", "--where", "ok=yes", "--exclude", "refused.txt", "--json", "--quiet"]) == 0
    )
    plan = json.loads(capsys.readouterr().out)
    assert (plan["rows"], plan["excluded"], plan["to_ask"], plan["valid"]) == (3, 2, 1, 1)


def test_diff_shows_who_joined_and_who_left(capsys: pytest.CaptureFixture[str]) -> None:
    head = "phone,whatsapp\n"
    write("old.csv", text=head + "987654321,no\n912345678,yes\n913456789,yes\n914567890,\n915678901,yes\n")
    write("new.csv", text=head + "987654321,yes\n912345678,no\n913456789,yes\n914567890,no\n916789012,yes\n")
    assert main(["diff", "old.csv", "new.csv", "--json"]) == 0
    changes = {
        each["number"]: each["change"] for each in map(json.loads, capsys.readouterr().out.splitlines())
    }
    assert changes == {
        "+51987654321": "joined WhatsApp",
        "+51912345678": "left WhatsApp",
        "+51914567890": "newly answered, not on WhatsApp",
        "+51915678901": "gone, was on WhatsApp",
        "+51916789012": "new, on WhatsApp",
    }
    assert main(["diff", "old.csv", "new.csv"]) == 0
    assert "joined WhatsApp" in capsys.readouterr().out


def test_diff_compares_the_numbers_that_the_answers_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    head = "phone,other,whatsapp,status,reason,number\n"
    landline, mobile = "054-258369,987654321", "054-258369,912345678"
    write(
        "old.csv", text=f"{head}{landline},no,OK,,+5154258369\n{mobile},no,OK,,+5154258369\n1,,,EXCLUDED,,\n"
    )
    write(
        "new.csv",
        text=f"{head}{landline},yes,OK,,+51987654321\n{mobile},no,OK,,+5154258369\n987650000,,,EXCLUDED,,\n",
    )
    assert main(["diff", "old.csv", "new.csv", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"number": "+51987654321", "old": None, "new": "yes", "change": "new, on WhatsApp"}
    ]


def test_diff_distinguishes_an_unchanged_answer_from_none(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("old.csv", "new.csv"):
        write(name, text="phone,whatsapp\n987654321,yes\n912345678,\n")
    assert main(["diff", "old.csv", "new.csv"]) == 0
    facts = capsys.readouterr().out.splitlines()
    assert [fact.split(maxsplit=1)[0] for fact in facts] == ["numbers", "same", "no"]
    assert facts[1].split() == ["same", "1"]
    assert facts[2].split() == ["no", "answer", "in", "both", "1"]


def test_diff_reads_every_number_of_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    head = "phone,whatsapp,status,number,whatsapp_2,status_2,number_2\n"
    write("old.csv", text=f"{head}987654321 / 912345678,no,OK,+51987654321,no,OK,+51912345678\n")
    write("new.csv", text=f"{head}987654321 / 912345678,no,OK,+51987654321,yes,OK,+51912345678\n")
    assert main(["diff", "old.csv", "new.csv", "--json"]) == 0
    (change,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (change["number"], change["change"]) == ("+51912345678", "joined WhatsApp")


def test_diff_of_a_list_that_was_not_checked_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    write("old.csv", "new.csv")
    assert main(["diff", "old.csv", "new.csv"]) == 2
    assert "no column whatsapp" in capsys.readouterr().err
