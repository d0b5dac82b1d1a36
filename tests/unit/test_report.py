"""The report: what it counts, what it escapes and hides, and how a browser renders it."""

from __future__ import annotations

import ast
import csv
import inspect
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import _phone
from accucheck.files import FileError, ResultColumns
from accucheck.report import Run, report
from accucheck.report._tally import Tally, Timeline, confidence_interval, mask_digits
from accucheck.report._words import reason_in
from accucheck.sandbox import request_id as sandbox_id
from tests.servers import program

COLUMNS = [
    "Ciudad",
    "Celular",
    "whatsapp",
    "status_update",
    "business_user",
    "avatar",
    "status",
    "reason",
    "number",
    "checked_at",
]
START = datetime(2026, 11, 26, 8, tzinfo=UTC)


def a_row(number: int, city: str = "Lima", **changes: str) -> dict[str, str]:
    row = {
        "Ciudad": city,
        "Celular": f"9{number:08}",
        "whatsapp": "yes",
        "status_update": "2026-11-01",
        "business_user": "no",
        "avatar": "yes",
        "status": "OK",
        "reason": "",
        "number": f"+519{number:08}",
        "checked_at": (START + timedelta(seconds=number)).isoformat(),
    }
    return row | changes


def a_list(path: Path, rows: list[dict[str, str]], columns: list[str] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def made(tmp_path: Path, rows: list[dict[str, str]], **options: Any) -> str:
    output = tmp_path / "report.html"
    report(a_list(tmp_path / "checked.csv", rows), output, **options)
    return output.read_text("utf-8")


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def cells_of(page: str, first: str) -> list[str]:
    """Return the cells of the table row that begins with ``first``."""
    found = re.search(rf'<tr><th scope="row">{re.escape(first)}</th>(.*?)</tr>', page)
    assert found is not None, first
    return [cell.replace("\u202f", "") for cell in re.findall(r"<td[^>]*>([^<]*)", found[1])]


def test_every_row_is_in_the_table_of_outcomes(tmp_path: Path) -> None:
    rows = [a_row(n) for n in range(6)]
    rows += [a_row(n, whatsapp="no") for n in range(6, 9)]
    rows += [
        a_row(9, whatsapp="", status="INVALID_NUMBER", reason="too short"),
        a_row(10, whatsapp="", status="ODD"),
    ]
    page = made(tmp_path, rows)
    assert cells_of(page, "On WhatsApp")[:2] == ["6", "54.5 %"]
    assert cells_of(page, "Not on WhatsApp")[:2] == ["3", "27.3 %"]
    assert cells_of(page, "No usable number")[0] == "1"
    assert cells_of(page, "ODD")[0] == "1"


def test_the_share_is_of_the_answered_rows_only(tmp_path: Path) -> None:
    rows = [a_row(n, "Lima") for n in range(30)] + [a_row(n, "Cusco", whatsapp="no") for n in range(10)]
    rows += [a_row(n, "Cusco", whatsapp="", status="PENDING") for n in range(30)]
    page = made(tmp_path, rows)
    assert cells_of(page, "Lima")[:3] == ["30", "30", "100.0 %"]
    assert cells_of(page, "Cusco")[:3] == ["40", "10", "0.0 %"]


def test_the_same_city_in_capitals_is_one_group(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(n, ["Lima", "LIMA ", "lima", "Cusco"][n % 4]) for n in range(40)])
    assert cells_of(page, "Lima")[0] == "30"
    assert cells_of(page, "Cusco")[0] == "10"


def test_a_column_of_names_is_not_broken_down(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(n, city=f"Person {n}") for n in range(500)])
    assert "WhatsApp share by Ciudad" not in page


def test_a_list_checked_twice_shows_its_last_answers(tmp_path: Path) -> None:
    columns = ["Celular", "whatsapp", "status", "accucheck_whatsapp", "accucheck_status"]
    row = dict(zip(columns, ["987654321", "no", "OK", "yes", "OK"], strict=True))
    output = tmp_path / "report.html"
    report(a_list(tmp_path / "twice.csv", [row, row], columns), output)
    assert cells_of(output.read_text("utf-8"), "On WhatsApp")[0] == "2"


def test_untrusted_text_is_escaped(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>\u202e\x1b[2J"
    rows = [a_row(n, city=hostile) for n in range(20)] + [a_row(n, city="Lima") for n in range(20)]
    rows.append(a_row(99, whatsapp="", status=hostile))
    page = made(tmp_path, rows, title=hostile)
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert page.count("</script>") == 3  # the data, the chart library and the page's own


def test_no_phone_number_is_in_the_page(tmp_path: Path) -> None:
    rows = [
        a_row(n, whatsapp="", status="INVALID_NUMBER", reason=f'"9876543{n}1" has 10 digits (typo?)')
        | {"Celular": text}
        for n, text in enumerate(["9876543210", "+51 987 654 3211", "(98) 765-43-213"])
    ]
    page = made(tmp_path, rows)
    assert cells_of(page, "The cell has 10 digits (typo?)")[0] == "3"
    assert not re.search(r"987\W?654", page)
    assert "98••••••••" in page


def test_the_page_may_load_nothing(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(n) for n in range(5)])
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "unsafe" not in policy[1]
    assert not re.search(r'(?:src|href)="', page)


def test_calls_cost_and_speed_of_the_run_are_shown(tmp_path: Path) -> None:
    run = Run(calls=7, polls=1, retries=1, refusals=0, elapsed=75, limit=50)
    page = made(tmp_path, [a_row(n) for n in range(12)], price=0.01, run=run)
    assert "0.12" in page
    assert "1 min 15 s" in page
    assert data_of(page)["speed"]["limit"] == [50] * 12


def test_calls_are_drawn_against_the_limit_as_it_was_found(tmp_path: Path) -> None:
    moments = [START.timestamp() + second for second in range(9)]
    speed = ((moments[0], 10.0, None), *((moment, 20.5, 25.0) for moment in moments[1:]))
    page = made(tmp_path, [a_row(1)], run=Run(calls=30, speed=speed))
    assert data_of(page)["speed"] == {
        "x": moments,
        "y": [10.0, *[20.5] * 8],
        "limit": [None, *[25.0] * 8],
    }
    assert cells_of(page, "2026-11-26 03:00:00") == ["10.0", "–"]
    assert cells_of(page, "2026-11-26 03:00:01") == ["20.5", "25.0"]


def test_a_number_in_two_rows_is_paid_for_once(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(1), a_row(1), a_row(2)], price=0.25, currency="PEN")
    assert "0.50 PEN" in page


def test_in_a_row_with_two_numbers_the_better_answer_counts(tmp_path: Path) -> None:
    columns = ["Celular", "whatsapp", "status", "whatsapp_2", "status_2"]
    rows = [
        dict(zip(columns, ["987654321 / 912345678", "no", "OK", "yes", "OK"], strict=True)),
        dict(zip(columns, ["987654322", "no", "OK", "", ""], strict=True)),
    ]
    output = tmp_path / "report.html"
    report(a_list(tmp_path / "two.csv", rows, columns), output)
    assert cells_of(output.read_text("utf-8"), "On WhatsApp")[0] == "1"
    assert cells_of(output.read_text("utf-8"), "Not on WhatsApp")[0] == "1"


def test_examples_of_several_cells_are_one_line() -> None:
    tally = Tally([], source="x")
    for text in ("98765432\n", "98765432\n1234567"):
        tally.count([], ResultColumns(status="INVALID_NUMBER", reason="x"), text)
    assert tally.examples["x"] == ["98••••••", "98•••••• / 12•••••"]


@pytest.mark.parametrize("value", ["987654321", "+51 912 345 678", "ana@example.com"])
def test_no_column_with_personal_data_is_broken_down(tmp_path: Path, value: str) -> None:
    rows = [a_row(n, city=["", "no phone", value][n % 3]) for n in range(60)]
    page = made(tmp_path, rows)
    assert "WhatsApp share by Ciudad" not in page
    assert value not in page
    assert "not grouped by Ciudad" in made(tmp_path, rows, by=["Ciudad"])


def test_a_file_that_is_not_a_report_is_not_overwritten(tmp_path: Path) -> None:
    checked = a_list(tmp_path / "checked.csv", [a_row(1)])
    before = checked.read_bytes()
    with pytest.raises(FileError, match="is not a report"):
        report(checked, checked)
    assert checked.read_bytes() == before
    with pytest.raises(FileError, match=r"the folder .* does not exist"):
        report(checked, tmp_path / "missing" / "report.html")
    for _ in range(2):  # an older report is replaced
        report(checked, tmp_path / "report.html")


def test_a_report_can_be_in_spanish(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(1)], language="es")
    assert '<html lang="es">' in page
    assert "Verificación de WhatsApp" in page


def test_a_list_that_was_not_checked_is_refused(tmp_path: Path) -> None:
    path = a_list(tmp_path / "leads.csv", [{"Celular": "987654321"}], ["Celular"])
    with pytest.raises(FileError, match="no column whatsapp"):
        report(path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_column_to_group_by_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no column 'Campaign'"):
        made(tmp_path, [a_row(1)], by=["Campaign"])


def test_an_empty_list_has_a_report(tmp_path: Path) -> None:
    path = tmp_path / "checked.jsonl"
    path.write_text('{"phone": "x", "whatsapp": null, "status": "INVALID_NUMBER", "reason": ""}\n')
    report(path, tmp_path / "report.html")
    assert cells_of((tmp_path / "report.html").read_text("utf-8"), "No usable number")[0] == "1"


@given(st.lists(st.floats(0, 3e8), max_size=700))
def test_a_timeline_keeps_every_answer_in_few_steps(seconds: list[float]) -> None:
    timeline = Timeline()
    for moment in seconds:
        timeline.add(1.7e9 + moment)
    moments, rates = timeline.points()
    assert len(moments) <= Timeline.MOST_STEPS
    assert round(sum(rates) * timeline.step) == len(seconds)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_interval_holds_its_share(yes: int, no: int) -> None:
    low, high = confidence_interval(yes, yes + no)
    assert 0 <= low <= high <= 1
    if yes + no:
        assert low - 1e-12 <= yes / (yes + no) <= high + 1e-12


@pytest.mark.parametrize(
    ("text", "masked"),
    [("987654321", "98•••••••"), ("+51 987-654-321", "+51 •••-•••-•••"), ("call 12", "call 12"), ("", "")],
)
def test_long_runs_of_digits_are_hidden(text: str, masked: str) -> None:
    assert mask_digits(text) == masked


def test_a_browser_draws_both_charts(tmp_path: Path) -> None:
    browser = program("chromium", package="chromium")
    made(tmp_path, [a_row(n) for n in range(300)])
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=5000",
        "--enable-logging=stderr",
    ]
    run = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path / 'report.html'}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.count("<canvas") == 2
    assert "Content Security Policy" not in run.stderr


def test_the_command_writes_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from accucheck.cli import _app

    checked, output = a_list(tmp_path / "checked.csv", [a_row(n) for n in range(4)]), tmp_path / "r.html"
    summary = tmp_path / "run.json"
    summary.write_text('{"calls": 11, "elapsed": 3.5, "something": "else"}')
    code = _app.run(
        ["report", str(checked), "-o", str(output), "--language", "es", "--summary", str(summary)]
    )
    assert code == 0
    assert "Consultas" in output.read_text("utf-8")
    assert "report written" in capsys.readouterr().err


def test_an_invalid_summary_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from accucheck.cli import _app

    checked = a_list(tmp_path / "checked.csv", [a_row(1)])
    code = _app.run(["report", str(checked), "-o", str(tmp_path / "r.html"), "--summary", str(checked)])
    assert code == 2
    assert "--summary-json" in capsys.readouterr().err


def messages() -> list[str]:
    """Return every reason that the normalizer can give, from its source, with 12 for what varies."""
    tree = ast.parse(inspect.getsource(_phone))
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "_refuse" and len(call.args) == 3:
            why = call.args[2]
            parts = why.values if isinstance(why, ast.JoinedStr) else [why]
            found.append(
                "".join(str(part.value) if isinstance(part, ast.Constant) else "12" for part in parts)
            )
    return found


@pytest.mark.parametrize("why", messages())
def test_every_reason_has_spanish_words(why: str) -> None:
    tally = Tally([], source="x")
    reason = f"“987” {why}."
    tally.count([], ResultColumns(status="INVALID_NUMBER", reason=reason), "")
    (kind,) = tally.reasons
    assert reason_in("es", kind) != kind, kind


def test_a_run_without_calls_still_shows_what_the_answers_cost(tmp_path: Path) -> None:
    run = Run(calls=0, cost=0.0, elapsed=0.1, speed=((START.timestamp(), 0.0, None),) * 9)
    page = made(tmp_path, [a_row(n) for n in range(4)], price=0.002, currency="PEN", run=run)
    assert "0.008 PEN" in page
    assert "4 numbers answered, 0.002 each · 0.00 in this run" in page
    assert "Calls in this run" not in page
    assert "Calls per second" not in page


def test_dates_and_columns_of_many_values_are_not_compared_by_unless_asked_for(tmp_path: Path) -> None:
    dates = [a_row(n, city=f"2026-01-{1 + n % 5:02}") for n in range(200)]
    assert "by Ciudad" not in made(tmp_path, dates)
    assert "by Ciudad" in made(tmp_path, dates, by=["Ciudad"])
    assert "by Ciudad" not in made(tmp_path, [a_row(n, city=f"V{n % 40}") for n in range(200)])
    assert "by Ciudad" in made(tmp_path, [a_row(n, city=f"V{n % 20}") for n in range(200)])


def test_different_numbers_are_counted_once(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(1), a_row(1), a_row(1), a_row(2)])
    assert "of 2 answered" in page


def test_the_answers_of_a_sandbox_are_called_simulated(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(1)], run=Run(server="127.0.0.1"))
    assert "Simulated: these answers come from 127.0.0.1" in page
    assert "Simulated" not in made(tmp_path, [a_row(1)])


@pytest.mark.parametrize(
    ("request_id", "simulated"), [(sandbox_id("987654321"), True), ("TID" + 32 * "0", False)]
)
def test_a_list_with_simulated_answers_is_recognized(
    tmp_path: Path, request_id: str, simulated: bool
) -> None:
    rows = [a_row(1, status="UNCHECKED", whatsapp="", request_id=""), a_row(2, request_id=request_id)]
    a_list(tmp_path / "checked.csv", rows, [*COLUMNS, "request_id"])
    report(tmp_path / "checked.csv", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert ("Simulated: these answers come from accucheck sandbox" in page) is simulated


def test_a_cost_of_more_numbers_than_the_list_shows_is_not_explained_by_these(tmp_path: Path) -> None:
    page = made(tmp_path, [a_row(1), a_row(2)], price=0.02, run=Run(calls=3, cost=0.06))
    assert "0.06" in page
    assert "0.02 each" not in page
    assert "0.02 each" in made(tmp_path, [a_row(1), a_row(2)], price=0.02, run=Run(calls=2, cost=0.04))
