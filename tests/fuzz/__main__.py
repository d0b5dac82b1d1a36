"""Feed damaged lists to every reader, and damaged replies to the decoder, for as long as you like.

    python -m tests.fuzz --minutes 20 [--seed 1] [--keep tests/fuzz/corpus]

The only allowed results are rows, a FileError or an InvalidNumber. Nothing may take long, a second reading may not lose
rows, and an output must contain what was read. A case that breaks a rule is written to ``--keep``; small ones found
earlier are in ``tests/fuzz/corpus`` and run as unit tests.
"""

from __future__ import annotations

import argparse
import gzip
import html
import io
import random
import re
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from accucheck import InvalidNumber
from accucheck._phone import normalize, numbers_in
from accucheck._wire import decode_reply
from accucheck.files import FileError, FileSink, ResultColumns, open_source

SLOW = 20.0
"""Seconds that no small file may take."""

PHONES = [
    "987654321",
    "+51 987 654 321",
    "01 4567890",
    "987654321 / 912345678",
    "p:+51987654321",
    "9.87654321E8",
    "",
    "n/a",
    "DNI 12345678\nhttps://wa.me/51987654321",
    "987654321\n912345678",
    '"',
    "=A1",
    "９８７６５４３２１",
    "12/05/2024",
]
WORDS = [
    "Ana",
    "Núñez, José",
    "Lima;Cusco",
    '"Lucho"',
    "\u202eabc",
    "x" * 300,
    "a\tb",
    "",
    "#N/A",
    "😀",
    "\0",
    "\ud800",
]
NAMES = ["Nombre", "Celular", "DNI", "Teléfono fijo", "notas", "WhatsApp", ""]


def table(chance: random.Random) -> tuple[list[str], list[list[str]]]:
    """Return a realistic header and rows."""
    columns = chance.sample(NAMES, chance.randint(1, 5))
    rows = []
    for _ in range(chance.randint(0, 12)):
        width = len(columns) + chance.choice([0, 0, 0, -1, 1])
        rows.append([chance.choice(chance.choice([PHONES, WORDS])) for _ in range(width)])
    return columns, rows


def as_csv(chance: random.Random) -> bytes:
    columns, rows = table(chance)
    delimiter, end = chance.choice(",;\t|"), chance.choice(["\n", "\r\n", "\r\r\n", "\r"])
    text = end.join(
        delimiter.join(quoted(cell, delimiter, chance) for cell in row) for row in [columns, *rows]
    )
    encoding = chance.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
    return text.encode(encoding, "replace")


def quoted(cell: str, delimiter: str, chance: random.Random) -> str:
    if chance.random() < 0.9 and any(sign in cell for sign in f'{delimiter}"\n\r'):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def as_json(chance: random.Random) -> bytes:
    import json

    columns, rows = table(chance)
    items = [dict(zip(columns, row, strict=False)) for row in rows]
    match chance.randrange(5):
        case 0:
            return "\n".join(json.dumps(item) for item in items).encode()
        case 1:
            return json.dumps(items, indent=chance.choice([None, 1])).encode()
        case 2:
            return json.dumps({"data": items, "total": len(items)}).encode()
        case 3:
            return json.dumps([cell for row in rows for cell in row]).encode()
        case _:
            return repr(items).encode("utf-8", "replace")


def as_vcard(chance: random.Random) -> bytes:
    cards = [
        f"BEGIN:VCARD\r\nFN:{chance.choice(WORDS)}\r\nTEL;TYPE=CELL:{chance.choice(PHONES)}\r\nEND:VCARD\r\n"
        for _ in range(chance.randint(1, 4))
    ]
    return "".join(cards).encode("utf-8", "replace")


def as_html(chance: random.Random) -> bytes:
    columns, rows = table(chance)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in [columns, *rows])
    return f"<html><body><table>{body}</table></body></html>".encode("utf-8", "replace")


def as_xlsx(chance: random.Random) -> bytes:
    import xlsxwriter

    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True}) as book:
        for _ in range(chance.randint(1, 2)):
            sheet = book.add_worksheet()
            for line, cells in enumerate([*table(chance)[1], *table(chance)[1]]):
                for place, cell in enumerate(cells):
                    sheet.write_string(line, place, cell.replace("\ud800", "").replace("\0", ""))
                if chance.random() < 0.2:
                    sheet.set_row(line, None, None, {"hidden": True})
            if chance.random() < 0.3:
                sheet.write_formula(
                    chance.randrange(9), 0, "=A1", None, chance.choice(["", "#N/A", "987654321"])
                )
    return out.getvalue()


def ods(rows: Sequence[Sequence[str]]) -> bytes:
    """Return the table as LibreOffice writes it: text, with runs of blanks as elements."""

    def cell(text: str) -> str:
        words = re.sub("  +", lambda blanks: f' <text:s text:c="{len(blanks[0]) - 1}"/>', html.escape(text))
        return f'<table:table-cell office:value-type="string"><text:p>{words}</text:p></table:table-cell>'

    namespace = "urn:oasis:names:tc:opendocument:xmlns"
    body = "".join(f"<table:table-row>{''.join(map(cell, row))}</table:table-row>" for row in rows)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        archive.writestr(
            "META-INF/manifest.xml",
            f'<manifest:manifest xmlns:manifest="{namespace}:manifest:1.0"/>',
        )
        archive.writestr(
            "content.xml",
            f'<?xml version="1.0" encoding="UTF-8"?><office:document-content xmlns:office="{namespace}:office:1.0"'
            f' xmlns:table="{namespace}:table:1.0" xmlns:text="{namespace}:text:1.0"><office:body>'
            f'<office:spreadsheet><table:table table:name="Hoja1">{body}</table:table></office:spreadsheet>'
            "</office:body></office:document-content>",
        )
    return out.getvalue()


def as_ods(chance: random.Random) -> bytes:
    columns, rows = table(chance)
    plain = [[cell.replace("\0", "").replace("\ud800", "") for cell in row] for row in [columns, *rows]]
    return ods(plain)


def as_parquet(chance: random.Random) -> bytes:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    columns, rows = table(chance)
    cells: dict[str, list[str | None]] = {}
    for place, name in enumerate(columns):
        column = [row[place] if place < len(row) else None for row in rows]
        cells[name or "x"] = [cell and cell.encode("utf-8", "replace").decode() for cell in column]
    out = io.BytesIO()
    parquet.write_table(arrow.table(cells), out)
    return out.getvalue()


def as_zip(chance: random.Random) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("leads.csv", as_csv(chance))
    return out.getvalue()


MAKERS: list[Callable[[random.Random], bytes]] = [
    as_csv, as_csv, as_json, as_json, as_vcard, as_html, as_xlsx, as_xlsx, as_ods, as_parquet, as_zip,
    lambda chance: gzip.compress(as_csv(chance)),
]  # fmt: skip
SUFFIXES = [".csv", ".tsv", ".txt", ".json", ".jsonl", ".xls", ".xlsx", ".vcf", ".zip", ".parquet", ""]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return the bytes with a few of them changed, left out, repeated or cut."""
    data = bytearray(content)
    for _ in range(chance.choice([0, 1, 1, 2, 5])):
        if not data:
            break
        place = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place : place + chance.choice([1, 4, 64])]
            case 2:
                data[place:place] = chance.choice(
                    [b'"', b",", b"\n", b"\r", b"\0", b"<", b"[", b"{", b"\xff", b"987654321"]
                )
            case 3:
                data[place:place] = data[max(0, place - 40) : place]
            case _:
                del data[place:]
    return bytes(data)


def try_list(path: Path, folder: Path, suffix: str) -> int:
    """Read a list twice and write it; return its rows. Raises AssertionError if a rule is broken."""
    began = time.monotonic()
    try:
        with open_source(path) as source:
            first = [row.number for row in source.rows()]
            assert first == list(source.numbers()), "two passes differ"
            for number in first:
                for read in (normalize, numbers_in):
                    with suppress(InvalidNumber):
                        read(number)
            with FileSink(folder / f"out{suffix}", source, fsync=lambda descriptor: None) as sink:
                written = 0
                for row in source.rows():
                    sink.write(row, ResultColumns(status="OK"))
                    written += 1
            assert written == len(first)
            count = len(first)
    except FileError:
        count = 0
    assert time.monotonic() - began < SLOW, "it took too long"
    return count


def try_reply(content: bytes, status: int) -> None:
    """Decode a reply; every reply must have a fate."""
    decode_reply("987654321", status, content)


REPLIES = [
    b'{"status":"OK","request_id":"TID1","result":{"number":"+51987654321","whatsapp":"yes","status_update":"20231212"}}',
    b'{"status":"PENDING","request_id":"TID1"}',
    b'{"status":"RATE_LIMIT_EXCEEDED","message":"slow down"}',
    b"<html><body>502 Bad Gateway</body></html>",
]


def run(minutes: float, seed: int, keep: Path) -> int:
    """Fuzz until the time is up; return how many cases broke a rule."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    ends = time.monotonic() + 60 * minutes
    while time.monotonic() < ends:
        counts["cases"] += 1
        case = random.Random(chance.getrandbits(64))
        maker = case.choice(MAKERS)
        content, suffix = damaged(maker(case), case), case.choice(SUFFIXES)
        written = case.choice([".csv", ".jsonl", ".xlsx", ".parquet"])
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, f"leads{suffix}")
            path.write_bytes(content)
            try:
                counts["rows"] += try_list(path, Path(name), written)
                counts["left over"] += len([each for each in Path(name).iterdir() if each.suffix == ".tmp"])
                try_reply(damaged(case.choice(REPLIES), case), case.choice([200, 400, 403, 429, 500, 502]))
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                counts["broken"] += 1
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{type(error).__name__}-{counts['broken']}{suffix or '.none'}").write_bytes(content)
                print(f"--- {suffix} to {written}", file=sys.stderr)
                traceback.print_exc()
    print(dict(counts))
    return counts["broken"]


def corpus(folder: Path) -> Iterator[Path]:
    """Yield the cases that were found."""
    yield from sorted(path for path in folder.glob("*") if path.is_file())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    options = parser.parse_args()
    sys.exit(bool(run(options.minutes, options.seed, options.keep)))
