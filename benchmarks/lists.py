"""Reading and writing lists: rows per second in each format, and memory against the length of the list.

``python -m benchmarks.lists --python OTHER/bin/python`` also measures another installed version, interleaved with this
one; CPU time, medians. ``--memory`` runs ``accucheck bulk`` on lists of 0.5 and 5 million rows whose numbers are all in
the ledger: the whole path of a file, without a call.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROWS = {"csv": 500_000, "jsonl": 300_000, "parquet": 500_000, "xlsx": 60_000}
HEADER = ["Nombre", "DNI", "Celular", "Distrito", "Nota"]
DISTINCT = 20_000
"""Numbers in the lists of ``--memory``."""

# Runs in the interpreter being measured, so it uses only what every version has.
READ = """
import sys, time
from accucheck.files import open_source
began = time.process_time()
with open_source(sys.argv[1]) as source:
    count = sum(1 for number in source.numbers() if number)
print(count / (time.process_time() - began))
"""
WRITE = """
import sys, time
from accucheck.files import FileSink, ResultColumns, open_source
answer = ResultColumns(whatsapp=True, status="OK", signature="Hola", request_id="TID1")
began, count = time.process_time(), 0
with open_source(sys.argv[1]) as source, FileSink(sys.argv[2], source) as sink:
    for row in source.rows():
        sink.write(row, answer)
        count += 1
print(count / (time.process_time() - began))
"""


def rows(count: int, distinct: int = 100_000_000) -> Iterator[list[str]]:
    """Yield realistic rows: some quoted cells, some numbers with a prefix."""
    chance = random.Random(count)
    for place in range(count):
        number = 900_000_000 + chance.randrange(distinct)
        phone = f"+51 {number}" if place % 5 == 0 else str(number)
        note = "vuelve a llamar, tarde" if place % 7 == 0 else "interesado"
        yield [f"Persona {place}", f"{chance.randrange(10**8):08}", phone, "San Juan de Lurigancho", note]


def write_list(path: Path, count: int, distinct: int = 100_000_000) -> None:
    """Write a list in the format that its suffix names."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER])
            csv.writer(file).writerows(rows(count, distinct))
    elif path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in rows(count))
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        columns = zip(*rows(count), strict=True)
        pyarrow.parquet.write_table(
            pyarrow.table(dict(zip(HEADER, map(list, columns), strict=True))), path, row_group_size=100_000
        )
    else:
        import xlsxwriter

        with xlsxwriter.Workbook(path, {"constant_memory": True}) as book:
            sheet = book.add_worksheet()
            for line, row in enumerate([HEADER, *rows(count)]):
                sheet.write_row(line, 0, row)


def speed(formats: Sequence[str], pythons: Sequence[str], repeats: int, folder: Path) -> None:
    """Print rows per second of CPU time, for each format and interpreter."""
    print("| format | rows | pass |" + "".join(f" {name} |" for name in pythons))
    print("|---|---|---|" + "---|" * len(pythons))
    for name in formats:
        count = ROWS[name]
        leads = folder / f"leads.{name}"
        write_list(leads, count)
        for label, code in (("read", READ), ("read and write", WRITE)):
            found: dict[str, list[float]] = {python: [] for python in pythons}
            for _ in range(repeats):
                for python in pythons:
                    output = folder / f"out.{name}"
                    command = [python, "-c", code, str(leads), str(output)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
                    found[python].append(float(done.stdout))
                    output.unlink(missing_ok=True)
            rates = "".join(f" {statistics.median(each):,.0f}/s |" for each in found.values())
            print(f"| {name} | {count:,} | {label} |{rates}", flush=True)
        leads.unlink()


def memory(counts: Sequence[int], folder: Path) -> None:
    """Print the largest memory of ``accucheck bulk`` over lists of known numbers."""
    environment = {
        **os.environ, "HOME": str(folder), "ACCUCHECK_API_ID": "sandbox", "ACCUCHECK_API_SECRET": "sandbox",
    }  # fmt: skip
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "accucheck", "sandbox", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert sandbox.stdout is not None
        environment["ACCUCHECK_BASE_URL"] = sandbox.stdout.readline().removeprefix("listening on ").strip()
        first = folder / "first.csv"
        first.write_text("phone\n" + "".join(f"{900_000_000 + place}\n" for place in range(DISTINCT)))
        bulk(first, environment, "--rate", "5000")
        for count in counts:
            leads = folder / "leads.csv"
            write_list(leads, count, DISTINCT)
            size = leads.stat().st_size >> 20
            began = time.monotonic()
            peak, output = bulk(leads, environment)
            with output.open("rb") as file:
                written = sum(1 for _ in file) - 1
            print(
                f"{count:,} rows ({size:,} MiB): {peak:.0f} MiB at most, {written:,} rows written"
                f" in {time.monotonic() - began:.0f} s",
                flush=True,
            )
            output.unlink()
    finally:
        sandbox.terminate()
        sandbox.wait()


def bulk(leads: Path, environment: dict[str, str], *options: str) -> tuple[float, Path]:
    """Check a list; return the largest memory of the process in MiB, and the output."""
    output = leads.with_suffix(".out.csv")
    command = [sys.executable, "-m", "accucheck", "bulk", str(leads), "-o", str(output), "--force", "--quiet"]
    process = subprocess.Popen([*command, *options], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bulk ended with {process.returncode}")
    return usage.ru_maxrss / 1024, output


def main() -> None:
    """Run the measurements that the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", default=[], help="a further interpreter to measure")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--memory", action="store_true", help="measure memory, not speed")
    parser.add_argument("--rows", type=int, nargs="+", default=[500_000, 5_000_000], help="for --memory")
    options = parser.parse_args()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load}\n")
    with tempfile.TemporaryDirectory() as name:
        if options.memory:
            memory(options.rows, Path(name))
        else:
            speed(
                options.formats,
                [sys.executable, *map(os.path.abspath, options.python)],
                options.repeats,
                Path(name),
            )


if __name__ == "__main__":
    main()
