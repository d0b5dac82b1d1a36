"""For any table and format, every row comes out once with its own cells, and every number is asked."""

from __future__ import annotations

import csv
import gzip
import html
import io
import json
import os
import random
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accucheck._errors import InvalidNumber
from accucheck._phone import normalize, numbers_in
from accucheck.files import RESULT_COLUMNS, FileError, FileSink, ResultColumns, open_source
from tests.fuzz import __main__ as fuzz

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
xlsxwriter = pytest.importorskip("xlsxwriter")
zstandard = pytest.importorskip("zstandard")

every_time_the_same = settings(
    derandomize=True, deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow]
)

COLUMNS = ["Nombre", "Celular", "Nota"]
cells = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12).map(str.strip)
phones = st.sampled_from(
    ["987654321", "+51 912 345 678", "(01) 456-7890", "n/a", "987654321 / 912345678", "x1"]
)
tables = st.lists(st.tuples(cells, phones, cells), min_size=1, max_size=15)


def no_sync(descriptor: int) -> None:
    """Skip fsync."""


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
    write_sheets(path, {"Leads": [tuple(COLUMNS), *rows]})


SURE = ("", "987654321", "in every sheet")
"""A sheet without a single number is not read, and named in a note."""


def as_two_sheets(path: Path, rows: list[tuple[str, ...]]) -> None:
    lines = [tuple(COLUMNS), *rows[::2], SURE]
    turned = [tuple(reversed(row)) for row in [tuple(COLUMNS), *rows[1::2], SURE]]
    write_sheets(path, {"Enero": lines, "Notas": [("Solo", "texto")], "Febrero": turned})


def write_sheets(path: Path, sheets: dict[str, list[tuple[str, ...]]]) -> None:
    with xlsxwriter.Workbook(path) as book:
        for name, lines in sheets.items():
            sheet = book.add_worksheet(name)
            for line, row in enumerate(lines):
                for place, cell in enumerate(row):
                    sheet.write_string(line, place, cell)


def as_xls(path: Path, rows: list[tuple[str, ...]]) -> None:
    book = pytest.importorskip("xlwt").Workbook(encoding="utf-8")
    sheet = book.add_sheet("Leads")
    for line, row in enumerate([tuple(COLUMNS), *rows]):
        for place, cell in enumerate(row):
            sheet.write(line, place, cell)
    book.save(str(path))


def as_ods(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.write_bytes(fuzz.ods([tuple(COLUMNS), *rows]))


def as_html(path: Path, rows: list[tuple[str, ...]]) -> None:
    lines = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in [tuple(COLUMNS), *rows])
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    path.write_text(f"<html><meta charset=utf-8><table>{body}</table></html>", encoding="utf-8")


def as_contacts(path: Path, rows: list[tuple[str, ...]]) -> None:
    def escaped(cell: str) -> str:
        return re.sub(r"([\\\\,;])", r"\\\1", cell)

    cards = (
        f"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:{escaped(name)}\r\nTEL;TYPE=CELL:{escaped(phone)}\r\n"
        f"EMAIL:{escaped(note)}\r\nEND:VCARD\r\n"
        for name, phone, note in rows
    )
    path.write_text("".join(cards), encoding="utf-8", newline="")


def packed(make: Callable[[Path, list[tuple[str, ...]]], None], pack: Callable[[bytes], bytes]) -> Any:
    def packing(path: Path, rows: list[tuple[str, ...]]) -> None:
        make(path, rows)
        path.write_bytes(pack(path.read_bytes()))

    return packing


def zipped(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("export/leads", content)
    return out.getvalue()


MAKERS: dict[str, Callable[[Path, list[tuple[str, ...]]], None]] = {
    "leads.csv": as_csv,
    "leads.tsv": as_tsv,
    "leads.json": as_json,
    "leads.jsonl": as_jsonl,
    "leads.parquet": as_parquet,
    "leads.xlsx": as_xlsx,
    "two sheets.xlsx": as_two_sheets,
    "leads.xls": as_xls,
    "leads.ods": as_ods,
    "page.xls": as_html,
    "contacts.vcf": as_contacts,
    "leads.csv.gz": packed(as_csv, gzip.compress),
    "leads.jsonl.zst": packed(as_jsonl, lambda content: zstandard.compress(content)),
    "leads.zip": packed(as_csv, zipped),
    "workbook.zip": packed(as_xlsx, zipped),
}
CONTACTS = {"Nombre": "name", "Celular": "phone", "Nota": "email"}


def rows_of(path: Path) -> list[dict[str, Any]]:
    with open_source(path, column="phone" if "vcf" in path.name else "Celular") as source:
        names = source.all_columns()
        return [dict(zip(names, source.values(row), strict=False)) for row in source.rows()]


def text(cell: object) -> str:
    return "" if cell is None else str(cell)


@pytest.mark.parametrize("output", ["out.csv", "out.tsv.gz", "out.jsonl.zst", "out.parquet", "out.xlsx"])
@pytest.mark.parametrize("leads", list(MAKERS))
@every_time_the_same
@given(rows=tables, several=st.booleans())
def test_rows_and_cells_are_kept_and_numbers_are_asked(
    tmp_path_factory: pytest.TempPathFactory,
    leads: str,
    output: str,
    several: bool,
    rows: list[tuple[str, ...]],
) -> None:
    folder = tmp_path_factory.mktemp("table")
    path, checked = folder / leads, folder / output
    MAKERS[leads](path, rows)
    if leads.startswith("page"):  # browsers collapse whitespace
        rows = [tuple(re.sub(" +", " ", cell) for cell in row) for row in rows]
    if leads.startswith("two"):
        rows = [*rows[::2], SURE, *rows[1::2], SURE]
    names = CONTACTS if leads.endswith("vcf") else dict(zip(COLUMNS, COLUMNS, strict=True))
    read = all_numbers if several else one_number
    count = 2 if several else 1
    asked: Counter[int] = Counter()
    column, sheet = names["Celular"], "all" if leads.startswith("two") else None
    with (
        open_source(path, column=column, sheet=sheet) as source,
        FileSink(checked, source, fsync=no_sync, numbers=count) as sink,
    ):
        for row in source.rows():
            numbers = read(row.number)
            asked.update(numbers)
            results = [ResultColumns(status="OK", number=str(number)) for number in numbers]
            sink.write(row, *(results or [ResultColumns(status="INVALID_NUMBER")]))
    assert asked == Counter(number for row in rows for number in read(row[1]))
    if leads.startswith("two") and output.endswith("xlsx"):  # the copy has the results in each of its sheets
        after = []
        for place in ("Enero", "Febrero"):
            with open_source(checked, column="Celular", sheet=place) as source:
                after += [dict(zip(source.columns, source.values(row), strict=True)) for row in source.rows()]
    else:
        with open_source(checked, column=column) as source:
            own = source.all_columns()
            after = [dict(zip(own, source.values(row), strict=False)) for row in source.rows()]
    assert Counter(tuple(text(row[name]) for name in names.values()) for row in after) == Counter(rows)
    ours = [name if place == 1 else f"{name}_2" for place in range(1, count + 1) for name in RESULT_COLUMNS]
    assert {tuple(row)[-len(ours) :] for row in after} == {tuple(ours)}
    found = [[text(row[name]) for name in ours if name.startswith("number") and row[name]] for row in after]
    assert found == [[str(number) for number in read(row[1])] for row in rows]


def one_number(cell: str) -> list[int]:
    try:
        return [normalize(cell)]
    except InvalidNumber:
        return []


def all_numbers(cell: str) -> list[int]:
    try:
        return numbers_in(cell)
    except InvalidNumber:
        return []


@pytest.mark.parametrize(
    "path", list(fuzz.corpus(Path(fuzz.__file__).with_name("corpus"))), ids=lambda path: path.name
)
@pytest.mark.parametrize("output", [".csv", ".jsonl", ".xlsx", ".parquet"])
def test_inputs_found_by_fuzzing_are_read_or_refused(path: Path, output: str, tmp_path: Path) -> None:
    leads = tmp_path / f"leads{path.suffix.replace('.none', '')}"
    leads.write_bytes(path.read_bytes())
    fuzz.try_list(leads, tmp_path, output)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_end_in_rows_or_a_clear_error(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    for maker in fuzz.MAKERS:
        leads = tmp_path / f"leads{chance.choice(fuzz.SUFFIXES)}"
        leads.write_bytes(fuzz.damaged(maker(chance), chance))
        fuzz.try_list(leads, tmp_path, chance.choice([".csv", ".jsonl", ".xlsx", ".parquet"]))


@pytest.mark.parametrize("suffix", [".json", ".jsonl.gz", ".parquet", ".xlsx"])
def test_a_truncated_file_is_never_taken_for_complete(tmp_path: Path, suffix: str) -> None:
    rows: list[tuple[str, ...]] = [("Ana", f"9{place:08d}", "x") for place in range(300)]
    leads = tmp_path / f"leads{suffix}"
    if suffix == ".jsonl.gz":
        as_jsonl(tmp_path / "plain", rows)
        leads.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    else:
        MAKERS[f"leads{suffix}"](leads, rows)
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


def test_a_name_with_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
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
