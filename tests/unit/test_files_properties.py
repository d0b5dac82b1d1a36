"""Whatever the table and the format: every row comes out once with its own cells, and every number is asked."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize
from accucheck.files import RESULT_COLUMNS, FileError, FileSink, ResultColumns, open_source
from tests.fuzz import __main__ as fuzz

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
xlsxwriter = pytest.importorskip("xlsxwriter")

every_time_the_same = settings(
    derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)

COLUMNS = ["Nombre", "Celular", "Nota"]
cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12).map(str.strip)
phones = st.sampled_from(
    ["987654321", "+51 912 345 678", "(01) 456-7890", "n/a", "987654321 / 912345678", "x1"]
)
tables = st.lists(st.tuples(cells, phones, cells), min_size=1, max_size=15)


def no_sync(descriptor: int) -> None:
    """Take no time."""


def as_csv(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def as_tsv(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-16") as file:
        csv.writer(file, delimiter="\t", lineterminator="\r\n").writerows([COLUMNS, *rows])


def as_json(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.write_text(json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in rows], indent=1))


def as_jsonl(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.write_text("".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows))


def as_parquet(path: Path, rows: list[tuple[str, ...]]) -> None:
    parquet.write_table(
        arrow.table(dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))), path
    )


def as_xlsx(path: Path, rows: list[tuple[str, ...]]) -> None:
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for line, row in enumerate([tuple(COLUMNS), *rows]):
            for place, cell in enumerate(row):
                sheet.write_string(line, place, cell)


MAKERS = {
    ".csv": as_csv,
    ".tsv": as_tsv,
    ".json": as_json,
    ".jsonl": as_jsonl,
    ".parquet": as_parquet,
    ".xlsx": as_xlsx,
}


def rows_of(path: Path) -> list[dict[str, Any]]:
    with open_source(path, column="Celular") as source:
        names = source.all_columns()
        return [dict(zip(names, source.values(row), strict=False)) for row in source.rows()]


def text(cell: object) -> str:
    return "" if cell is None else str(cell)


@pytest.mark.parametrize("output", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
@pytest.mark.parametrize("suffix", list(MAKERS))
@every_time_the_same
@given(rows=tables)
def test_rows_and_cells_are_kept_and_numbers_are_asked(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, output: str, rows: list[tuple[str, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    leads, checked = folder / f"leads{suffix}", folder / f"checked{output}"
    MAKERS[suffix](leads, rows)
    readable = Counter(number for row in rows if (number := national(row[1])))
    asked: Counter[int] = Counter()
    with open_source(leads, column="Celular") as source, FileSink(checked, source, fsync=no_sync) as sink:
        for row in source.rows():
            number = national(row.number)
            asked.update([number] if number else [])
            sink.write(row, ResultColumns(status="OK", number=str(number or "")))
    assert asked == readable
    after = rows_of(checked)
    own = Counter(tuple(text(row[name]) for name in COLUMNS) for row in after)
    assert own == Counter(rows)
    assert {tuple(row)[-len(RESULT_COLUMNS) :] for row in after} == {RESULT_COLUMNS}
    assert [text(row["number"]) for row in after] == [str(national(row[1]) or "") for row in rows]


def national(cell: str) -> int | None:
    try:
        return normalize(cell)
    except InvalidNumber:
        return None


@pytest.mark.parametrize(
    "path", list(fuzz.corpus(Path(fuzz.__file__).with_name("corpus"))), ids=lambda path: path.name
)
@pytest.mark.parametrize("output", [".csv", ".jsonl", ".xlsx", ".parquet"])
def test_what_fuzzing_found_is_read_or_refused(path: Path, output: str, tmp_path: Path) -> None:
    leads = tmp_path / f"leads{path.suffix.replace('.none', '')}"
    leads.write_bytes(path.read_bytes())
    fuzz.try_list(leads, tmp_path, output)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_end_in_rows_or_in_one_clear_line(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    for maker in fuzz.MAKERS:
        leads = tmp_path / f"leads{chance.choice(fuzz.SUFFIXES)}"
        leads.write_bytes(fuzz.damaged(maker(chance), chance))
        fuzz.try_list(leads, tmp_path, chance.choice([".csv", ".jsonl", ".xlsx", ".parquet"]))


@pytest.mark.parametrize("suffix", [".json", ".jsonl.gz", ".parquet", ".xlsx"])
def test_a_cut_file_never_passes_for_a_whole_one(tmp_path: Path, suffix: str) -> None:
    rows: list[tuple[str, ...]] = [("Ana", f"9{place:08d}", "x") for place in range(300)]
    leads = tmp_path / f"leads{suffix}"
    if suffix == ".jsonl.gz":
        as_jsonl(tmp_path / "plain", rows)
        leads.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    else:
        MAKERS[suffix](leads, rows)
    whole = leads.read_bytes()
    for share in (0.3, 0.6, 0.9, 0.99):
        leads.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(FileError), open_source(leads) as source:
            list(source.rows())


def test_a_damaged_reply_has_a_fate() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        fuzz.try_reply(
            fuzz.damaged(chance.choice(fuzz.REPLIES), chance), chance.choice([200, 400, 403, 429, 502])
        )


def test_a_name_with_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/a\xf1o"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    leads = Path(os.fsdecode(folder + b"/campa\xf1a.csv"))
    leads.write_bytes(b"name,phone\nA,987650001\n")
    with open_source(leads) as source, FileSink(os.fsdecode(folder + b"/out\xf1.csv"), source) as sink:
        for row in source.rows():
            sink.write(row, ResultColumns(status="OK"))
        source.name.encode()
    assert os.path.exists(folder + b"/out\xf1.csv")
    with pytest.raises(FileError) as refused:
        open_source(leads, column="x")
    str(refused.value).encode()
