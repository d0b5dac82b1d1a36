from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from accucheck._models import Check, Settlement
from accucheck._store import Query, SQLiteStore
from accucheck._store._ledger import Ledger
from accucheck.cli._ledger import Book, open_book
from tests.unit.ledger_samples import NOW, answered


class Trouble(Exception):
    pass


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


async def buy(book: Book) -> None:
    answer = Check(number="+51987654321", whatsapp=True, checked_at=datetime.now(UTC))
    await book.store.settle([Settlement(987654321, answer)])


def answers_in(path: Path) -> int:
    with Ledger(path) as ledger:
        return ledger.info().yes


async def test_a_temporary_ledger_is_deleted_after_success(tmp_path: Path, temporary: Path) -> None:
    async with open_book(None, tmp_path / "out.csv") as book:
        await buy(book)
    assert list(temporary.iterdir()) == []


async def test_answers_are_kept_next_to_an_output_that_could_not_be_written(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Trouble):
        async with open_book(None, tmp_path / "out.csv") as book:
            await buy(book)
            raise Trouble
    kept = tmp_path / "out.csv.ledger"
    assert answers_in(kept) == 1
    assert kept.stat().st_mode & 0o777 == 0o600
    assert f"--ledger {kept}" in capsys.readouterr().err
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("obstacle", ["another ledger", "no directory"])
async def test_a_ledger_that_cannot_be_moved_stays_and_says_where(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str], obstacle: str
) -> None:
    output = tmp_path / ("out.csv" if obstacle == "another ledger" else "absent/out.csv")
    if obstacle == "another ledger":
        Path(f"{output}.ledger").write_text("mine")
    with pytest.raises(Trouble):
        async with open_book(None, output) as book:
            await buy(book)
            raise Trouble
    (directory,) = temporary.iterdir()
    assert answers_in(directory / "ledger") == 1
    assert f"--ledger {directory / 'ledger'}" in capsys.readouterr().err
    if obstacle == "another ledger":
        assert Path(f"{output}.ledger").read_text() == "mine"


async def test_nothing_is_kept_if_nothing_was_bought(
    tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Trouble):
        async with open_book(None, tmp_path / "out.csv"):
            raise Trouble
    assert list(temporary.iterdir()) == []
    assert capsys.readouterr().err == ""


async def test_answers_saved_next_to_a_ledger_are_imported_by_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = tmp_path / "leads.ledger"
    for path, newer, numbers in (
        (ledger, 1, [900_000_001, 900_000_002]),
        (tmp_path / "leads.ledger.rescue-20261126-120000", 0, [900_000_002, 900_000_003]),
        (tmp_path / "leads.ledger.rescue-20261126-120000-2", 0, [900_000_004]),
    ):
        store = SQLiteStore(path)
        await store.open()
        moment = NOW + timedelta(days=newer)
        await store.settle([answered(number, signature=path.name, checked_at=moment) for number in numbers])
        await store.aclose()
    (tmp_path / "leads.ledger.rescue-20261126-130000").write_text("not a ledger")
    for taken in (3, 0):  # once
        async with open_book(str(ledger), tmp_path / "out.csv") as book:
            assert book.rescued == taken
            book.say()
            found = await book.store.find(range(900_000_001, 900_000_005), Query())
        assert len(found) == 4
        assert found[900_000_002].result.signature == "leads.ledger"  # type: ignore[union-attr]
    assert (
        capsys.readouterr().err.count("imported 3 answers that an earlier run could not write to the ledger")
        == 1
    )
