from __future__ import annotations

import pytest

from accucheck.cli import main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("bulk in.csv -o out.csv --price-per-call 3", "unknown option --price-per-call"),
        ("check 987654321 --calls-per-number 3", "--calls-per-number belongs to accucheck plan"),
        ("bulk in.csv", "say where to write the results: accucheck bulk leads.csv -o checked.csv"),
        ("bulk", "name a list: accucheck bulk"),
        ("plan", "name a list: accucheck plan"),
        ("bulk in.csv -o out.csv --resume", "run the same command again and it continues"),
        ("bulk in.csv -o out.csv --concurrency 5", "did you mean --workers?"),
        ("bulk in.csv -o out.csv --timeout 5", "did you mean --read-timeout"),
        ("bulk in.csv -o out.csv --secret x", "ACCUCHECK_API_SECRET"),
        ("bulk in.csv -o out.csv --dry-run", "accucheck plan"),
        ("bulk in.csv -o out.csv --max-call 5", "did you mean --max-calls?"),
        ("bulk in.csv -o out.csv --rate", "--rate needs a value"),
        ("bulk in.csv -o", "-o needs a value"),
        ("check 987654321 --zzz", "unknown option --zzz\n"),
        ("chek", 'Did you mean "check"'),
    ],
)
def test_wrong_usage_says_what_to_write_instead(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert "--help" in shown
    assert len(shown.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("bulk leads.csv -o a.csv -o b.csv", "-o was given more than once"),
        ("report checked.csv", "say where to write the report: accucheck report checked.csv -o report.html"),
        ("diff old.csv", "name two checked lists: accucheck diff old.csv new.csv"),
        (
            "check 987654321 --price 1",
            "--price belongs to accucheck bulk, accucheck plan and accucheck report",
        ),
    ],
)
def test_missing_or_misplaced_arguments_are_reported_with_an_example(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    assert told in capsys.readouterr().err


def test_check_does_not_take_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["check", "-"]) == 2
    assert "accucheck bulk - -o -" in capsys.readouterr().err
