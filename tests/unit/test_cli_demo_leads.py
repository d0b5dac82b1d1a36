from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.cli._sandbox import HEADER, leads, write_leads


def test_the_same_seed_gives_the_same_leads() -> None:
    assert list(leads(200, seed=3)) == list(leads(200, seed=3))
    assert list(leads(200, seed=3)) != list(leads(200, seed=4))


def test_the_demo_leads_are_messy_in_every_documented_way() -> None:
    rows = list(leads(3000))
    problems: Counter[str] = Counter()
    numbers: Counter[int] = Counter()
    for row in rows:
        try:
            numbers[normalize(row[HEADER.index("Teléfono")])] += 1
        except InvalidNumber as error:
            problems[error.problem] += 1
    assert len(rows) == 3000
    assert {"empty", "too_short", "letters", "other_country"} <= set(problems)
    assert 150 < sum(problems.values()) < 350
    assert sum(count - 1 for count in numbers.values()) > 150
    assert any(number < 900_000_000 for number in numbers)
    assert not "".join(row[1] for row in rows).isascii()


def test_the_demo_file_reads_back_complete(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    write_leads(path, 500)
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file, delimiter=";")) == [HEADER, *leads(500)]


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_leads(path, 5)
    assert path.read_text() == "mine"
