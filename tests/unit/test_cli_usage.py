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
