"""Outputs: complete or absent, private, synced in the right order, and never over the input."""

from __future__ import annotations

import csv
import errno
import gc
import gzip
import io
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from accucheck.files import (
    RESULT_COLUMNS,
    FileError,
    FileSink,
    ResultColumns,
    Source,
    StreamSink,
    open_source,
)

ANSWER = ResultColumns(whatsapp=True, status="OK")


@pytest.fixture
def leads(tmp_path: Path) -> Path:
    path = tmp_path / "leads.csv"
    path.write_text("phone,name\n987654321,Ana\n912345678,Luis\n")
    return path


@pytest.fixture
def output(tmp_path: Path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory / "checked.csv"


def write(source: Source, output: Path, **hooks: Any) -> None:
    with FileSink(output, source, **hooks) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)


def write_one_and_raise(sink: FileSink | StreamSink, source: Source, error: BaseException) -> None:
    sink.write(next(source.rows()), ANSWER)
    raise error


def test_the_file_is_synced_before_it_is_renamed_and_its_directory_after(leads: Path, output: Path) -> None:
    steps = []

    def fsync(descriptor: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        if steps[-1] == "sync file":
            assert os.fstat(descriptor).st_size > 0, "everything was handed to the system before"

    def replace(temporary: str, target: str) -> None:
        assert Path(temporary).parent == Path(target).parent
        steps.append("rename")
        os.replace(temporary, target)

    with open_source(leads) as source:
        write(source, output, fsync=fsync, replace=replace)
    assert steps == ["sync file", "rename", "sync directory"]
    assert output.read_text().count("OK") == 2


def test_the_output_is_private_and_an_old_one_keeps_its_mode(leads: Path, output: Path) -> None:
    with open_source(leads) as source:
        write(source, output)
        assert stat.S_IMODE(output.stat().st_mode) == 0o600
        output.chmod(0o640)
        write(source, output)
        assert stat.S_IMODE(output.stat().st_mode) == 0o640


def test_the_output_does_not_exist_before_it_is_complete(leads: Path, output: Path) -> None:
    output.write_text("old")
    with open_source(leads) as source, FileSink(output, source) as sink:
        for row in source.rows():
            sink.write(row, ANSWER)
        (temporary,) = set(output.parent.iterdir()) - {output}
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o644 & stat.S_IMODE(output.stat().st_mode)
        assert output.read_text() == "old"
    assert list(output.parent.iterdir()) == [output]
    assert output.read_text() != "old"


@pytest.mark.parametrize(
    "name", ["checked.csv", "checked.csv.gz", "checked.jsonl.zst", "checked.parquet", "checked.xlsx"]
)
def test_a_failure_leaves_the_old_output_and_no_temporary_file(leads: Path, output: Path, name: str) -> None:
    output = output.with_name(name)
    output.write_text("old")
    with open_source(leads) as source, pytest.raises(KeyboardInterrupt), FileSink(output, source) as sink:
        write_one_and_raise(sink, source, KeyboardInterrupt())
    assert list(output.parent.iterdir()) == [output]
    assert output.read_text() == "old"


@pytest.mark.parametrize("name", ["checked.csv.gz", "checked.jsonl.zst"])
def test_a_failed_output_does_not_fail_again_when_it_is_garbage_collected(
    leads: Path, output: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with open_source(leads) as source, pytest.raises(KeyboardInterrupt):
        with FileSink(output.with_name(name), source) as sink:
            write_one_and_raise(sink, source, KeyboardInterrupt())
    assert sink._stream.closed
    del sink
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_at_the_end_is_a_clear_error_and_no_half_output(
    leads: Path, output: Path, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    output.write_text("old")
    with (
        open_source(leads) as source,
        pytest.raises(FileError, match=r"checked\.csv: No space left on device$"),
    ):
        write(source, output, **{step: fail})
    assert list(output.parent.iterdir()) == [output]
    assert output.read_text() == "old"


def test_a_full_disk_while_rows_are_written_is_a_clear_error(leads: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open_source(leads) as source, pytest.raises(FileError, match="No space left on device"):
        write(source, Path("/dev/full"))
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode), "a device is not replaced by a file"


def test_a_full_disk_is_reported_at_the_row_that_does_not_fit(leads: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    leads.write_text("phone,name\n" + "987654321,Ana\n" * 50_000)
    written = []
    with open_source(leads) as source, pytest.raises(FileError, match="No space left on device"):
        with FileSink("/dev/full", source) as sink:
            for row in source.rows():
                sink.write(row, ANSWER)
                written.append(row)
    assert 0 < len(written) < 50_000


def test_an_output_that_cannot_be_started_leaves_nothing(leads: Path, output: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with open_source(leads) as source, pytest.raises(FileError, match=r"pip install 'accucheck\[xlsx\]'"):
        FileSink(output.with_name("checked.xlsx"), source)
    assert not list(output.parent.iterdir())


def test_a_long_list_is_written_in_pieces_and_completely(leads: Path, output: Path) -> None:
    leads.write_text("phone,name\n" + "987654321,Ana\n" * 5_000)
    for name in ("checked.csv", "checked.jsonl"):
        with open_source(leads) as source:
            write(source, output.with_name(name))
        with open_source(output.with_name(name)) as back:
            assert list(back.numbers()) == ["987654321"] * 5_000


def test_the_input_is_never_the_output(leads: Path) -> None:
    link = leads.with_name("link.csv")
    link.symlink_to(leads)
    with open_source(leads) as source:
        for name in (leads, link, leads.parent / "x" / ".." / "leads.csv"):
            (leads.parent / "x").mkdir(exist_ok=True)
            with pytest.raises(FileError, match="would overwrite the input"):
                FileSink(name, source)
    assert leads.read_text().startswith("phone,name\n987")


def test_a_link_keeps_pointing_to_the_renewed_file(leads: Path, output: Path) -> None:
    output.write_text("old")
    link = leads.with_name("link.csv")
    link.symlink_to(output)
    with open_source(leads) as source:
        write(source, link)
    assert link.is_symlink()
    assert output.read_text().count("OK") == 2


def test_a_directory_that_is_missing_or_in_the_way_is_a_clear_error(leads: Path, output: Path) -> None:
    with open_source(leads) as source:
        with pytest.raises(FileError, match="there is no directory"):
            FileSink(output.parent / "none" / "checked.csv", source)
        with pytest.raises(FileError, match="this is a directory"):
            FileSink(output.parent, source)


def test_temporary_files_of_killed_runs_are_removed_and_those_of_live_runs_are_not(
    leads: Path, output: Path
) -> None:
    left = output.parent / ".checked.csv.abc.tmp"
    left.write_text("half")
    others = output.parent / ".other.csv.abc.tmp"
    others.write_text("half")
    with open_source(leads) as source:
        with FileSink(output, source) as first:
            assert not left.exists()
            write(source, output)
            for row in source.rows():
                first.write(row, ResultColumns(status="FIRST"))
        assert output.read_text().count("FIRST") == 2
    assert set(output.parent.iterdir()) == {output, others}


@pytest.mark.parametrize("name", ["checked.csv.gz", "checked.jsonl.gz"])
def test_the_name_selects_gzip_and_the_same_rows_give_the_same_bytes(
    leads: Path, output: Path, name: str
) -> None:
    output = output.with_name(name)
    with open_source(leads) as source:
        write(source, output)
        first = output.read_bytes()
        write(source, output)
    assert output.read_bytes() == first
    assert gzip.decompress(first).count(b"OK") == 2


def test_the_name_selects_zstd(leads: Path, output: Path) -> None:
    output = output.with_name("checked.csv.zst")
    with open_source(leads) as source:
        write(source, output)
    with open_source(output) as back:
        assert list(back.numbers()) == ["987654321", "912345678"]


@pytest.mark.parametrize("name", ["checked", ".checked", "checked.csv"])
def test_no_suffix_means_the_format_of_the_input(leads: Path, output: Path, name: str) -> None:
    output = output.with_name(name)
    with open_source(leads) as source:
        write(source, output)
    assert output.read_text().startswith("phone,name,whatsapp,")


@pytest.mark.parametrize(
    "name", ["checked.out", "checked.docx", "checked.csv.bz2", "checked.data.gz", "v1.2"]
)
def test_an_unknown_suffix_is_refused_with_the_known_ones(leads: Path, output: Path, name: str) -> None:
    told = r"cannot write \.\w+; use \.csv, \.tsv, \.jsonl, \.parquet or \.xlsx, or set --format"
    with open_source(leads) as source, pytest.raises(FileError, match=told):
        write(source, output.with_name(name))
    assert not list(output.parent.iterdir())


@pytest.mark.parametrize("name", ["checked.json", "checked.JSON", "checked.json.gz"])
def test_a_json_document_as_output_is_refused_in_favor_of_json_lines(
    leads: Path, output: Path, name: str
) -> None:
    with open_source(leads) as source, pytest.raises(FileError, match=r"name the output \.jsonl"):
        write(source, output.with_name(name))
    assert not list(output.parent.iterdir())


@pytest.mark.parametrize("name", ["checked.csv", "checked.json", "checked.docx"])
def test_a_format_can_be_named(leads: Path, output: Path, name: str) -> None:
    output = output.with_name(name)
    with open_source(leads) as source:
        write(source, output, file_format="jsonl")
    assert output.read_text().startswith('{"phone":"987654321"')


def test_a_checked_list_can_be_checked_again(leads: Path, output: Path) -> None:
    with open_source(leads) as source:
        write(source, output)
    again = output.with_name("again.csv")
    with open_source(output) as source:
        assert source.number_column.name == "phone"
        write(source, again)
    assert "accucheck_status" in again.read_text().splitlines()[0]


def test_a_stream_gives_each_row_at_once_if_asked(leads: Path) -> None:
    stream = io.BytesIO()
    with open_source(leads) as source, StreamSink(stream, source, every_row=True) as sink:
        for count, row in enumerate(source.rows(), start=1):
            sink.write(row, ANSWER)
            assert stream.getvalue().count(b"\n") == count
    assert not stream.closed


def test_a_stream_delivers_the_answers_so_far_when_the_run_fails(leads: Path) -> None:
    stream = io.BytesIO()
    with open_source(leads) as source, pytest.raises(RuntimeError), StreamSink(stream, source) as sink:
        write_one_and_raise(sink, source, RuntimeError())
    assert stream.getvalue().count(b"OK") == 1


def test_a_reader_that_went_away_is_a_broken_pipe(leads: Path) -> None:
    class Closed(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    with open_source(leads) as source, pytest.raises(BrokenPipeError):
        with StreamSink(Closed(), source, every_row=True) as sink:
            sink.write(next(source.rows()), ANSWER)


@pytest.mark.parametrize("name", ["parquet", "xlsx"])
def test_formats_that_are_not_lines_are_not_streamed(leads: Path, name: str) -> None:
    with open_source(leads) as source, pytest.raises(FileError, match="cannot be written to standard output"):
        StreamSink(io.BytesIO(), source, file_format=name)


STREAMED = """
import sys
from accucheck.files import FileSink, ResultColumns, open_source
with open_source(sys.argv[1]) as source, FileSink(sys.argv[2], source, file_format="csv") as sink:
    for row in source.rows():
        sink.write(row, ResultColumns(status="OK"))
"""


@pytest.mark.skipif(os.name != "posix", reason="names of open files")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link", "link to a link"])
def test_text_that_others_wrote_to_the_same_redirected_output_stays(
    leads: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    (tmp_path / "link to a link").symlink_to("link")
    log = tmp_path / "log"
    target = name if name.startswith("/") else str(tmp_path / name)
    with log.open("wb") as stream:
        stream.write(b"before\n")
        stream.flush()
        subprocess.run(
            [sys.executable, "-c", STREAMED, str(leads), target], check=True, stdout=stream, timeout=60
        )
        stream.seek(0, os.SEEK_END)
        stream.write(b"after\n")
    lines = log.read_text().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ("before", "after", 5)
    assert lines[2].startswith("987654321,Ana,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["leads.csv", "link", "link to a link", "log"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_pipe_with_a_name_is_written_through(leads: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.extend(pipe.read_text().splitlines()))
    reader.start()
    with open_source(leads) as source:
        write(source, pipe)
    reader.join(30)
    assert len(read) == 3
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_the_descriptor_that_is_written_through_stays_open(leads: Path) -> None:
    reading, writing = os.pipe()
    with open_source(leads) as source:
        write(source, Path(f"/dev/fd/{writing}"), file_format="csv")
    os.write(writing, b"after\n")
    os.close(writing)
    with open(reading) as stream:
        assert stream.read().splitlines()[-1] == "after"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
def test_a_row_can_have_the_results_of_several_numbers(tmp_path: Path, suffix: str) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("phone,status_2\n987654321 / 912345678,x\n987654321,y\n")
    output = tmp_path / f"out{suffix}"
    second = ResultColumns(whatsapp=False, status="OK", number="+51912345678")
    for _ in range(2):  # the second time from the format itself
        with open_source(leads) as source, FileSink(output, source, numbers=2) as sink:
            first, last = source.rows()
            sink.write(first, ANSWER, second)
            sink.write(last, ANSWER)
        if suffix == ".xlsx":
            break
        leads = tmp_path / f"copy{suffix}"
        leads.write_bytes(output.read_bytes())
    with open_source(output, column="phone") as source:
        names = source.all_columns()
        rows = [dict(zip(names, source.values(row), strict=False)) for row in source.rows()]
    yes, no = (True, False) if suffix in (".jsonl", ".parquet") else ("yes", "no")
    assert [row["whatsapp"] for row in rows] == [yes, yes]
    assert [row["status_2"] for row in rows] == ["x", "y"]
    assert rows[0]["whatsapp_2"] == no
    assert rows[1]["whatsapp_2"] in (None, "")
    assert rows[0]["accucheck_status_2"] == "OK"
    assert rows[1]["accucheck_status_2"] in (None, "")
    assert rows[0]["number_2"] == "+51912345678"


DOCUMENTED: dict[str, Callable[[Any], bool]] = {
    # CSV and TSV
    "`yes`, `no` or nothing": lambda cell: cell in ("yes", "no", ""),
    "as `whatsapp`": lambda cell: cell in ("yes", "no", ""),
    "`2023-12-31`": lambda cell: not cell or bool(re.fullmatch(r"\d{4}-\d\d-\d\d", cell)),
    "`+51987654321`": lambda cell: not cell or bool(re.fullmatch(r"\+51\d{8,9}", cell)),
    "`2026-11-26T08:47:23Z`": lambda cell: not cell or bool(re.fullmatch(r"[\d-]{10}T[\d:]{8}Z", cell)),
    # JSON lines
    "true, false, null": lambda cell: cell in (True, False, None),
    '`"2023-12-31"`, null': lambda cell: cell is None or bool(re.fullmatch(r"\d{4}-\d\d-\d\d", cell)),
    "string": lambda cell: isinstance(cell, str),
    "string, null": lambda cell: cell is None or isinstance(cell, str),
    # Parquet
    "bool": lambda kind: kind == "bool",
    "date32": lambda kind: kind == "date32[day]",
    "timestamp[us, UTC]": lambda kind: kind == "timestamp[us, tz=UTC]",
    # Excel
    "text `yes`, `no`": lambda cell: cell in ("yes", "no", None),
    "text": lambda cell: cell is None or isinstance(cell, str),
    "date": lambda cell: cell is None or (isinstance(cell, datetime) and cell.hour == 0),
    "date and time, UTC": lambda cell: cell is None or isinstance(cell, datetime),
}


def documented_types() -> dict[str, dict[str, str]]:
    """Return the documented type of each column in each format."""
    table = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in (ResultColumns.__doc__ or "").replace("``", "`").splitlines()
        if line.strip().startswith("|") and "---" not in line
    ]
    return {row[0].strip("`"): dict(zip(table[0][1:], row[1:], strict=True)) for row in table[1:]}


@pytest.mark.parametrize("leads_format", ["csv", "xlsx"])
def test_every_column_has_its_documented_type_in_every_format(tmp_path: Path, leads_format: str) -> None:
    leads = tmp_path / f"leads.{leads_format}"
    if leads_format == "csv":
        leads.write_text("phone\n987654321\n14441234\nx\n")
    else:  # here the output is a copy of the workbook
        with pytest.importorskip("xlsxwriter").Workbook(leads) as book:
            book.add_worksheet().write_column(0, 0, ["phone", "987654321", "14441234", "x"])
    answers = [
        ResultColumns(
            True, date(2023, 12, 31), False, True, "Hola", "OK", "", "TID1", "+51987654321",
            datetime(2026, 11, 26, 8, 47, 23, tzinfo=UTC),
        ),
        ResultColumns(status="PENDING_TIMEOUT", reason="why", request_id="TID2", number="+5114441234"),
        ResultColumns(status="INVALID_NUMBER", reason="why"),
    ]  # fmt: skip
    documented = documented_types()
    assert tuple(documented) == RESULT_COLUMNS
    found: dict[str, list[dict[str, Any]]] = {}
    for suffix in ("csv", "tsv", "jsonl", "parquet", "xlsx"):
        output = tmp_path / f"out.{suffix}"
        with open_source(leads) as source, FileSink(output, source) as sink:
            for row, answer in zip(source.rows(), answers, strict=True):
                sink.write(row, answer)
        if suffix in ("csv", "tsv"):
            with output.open(newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file, delimiter="\t" if suffix == "tsv" else ","))
        elif suffix == "jsonl":
            rows = [json.loads(line) for line in output.read_text().splitlines()]
        elif suffix == "parquet":
            schema = pytest.importorskip("pyarrow.parquet").read_schema(output)
            rows = [{field.name: str(field.type) for field in schema}]
        else:
            lines = list(pytest.importorskip("openpyxl").load_workbook(output).active.values)
            rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
        found["CSV, TSV" if suffix in ("csv", "tsv") else suffix] = rows
    titles = {"CSV, TSV": "CSV, TSV", "jsonl": "JSON lines", "parquet": "Parquet", "xlsx": "Excel"}
    for column, kinds in documented.items():
        for name, rows in found.items():
            kind = kinds[titles[name]]
            if name == "CSV, TSV" and kind == "text":
                kind = "string"
            for cells in rows:
                assert DOCUMENTED[kind](cells[column]), (column, name, kind, cells[column])


def test_columns_that_are_renamed_are_announced(tmp_path: Path) -> None:
    leads = tmp_path / "leads.csv"
    leads.write_text("celular,whatsapp,status,number\n987654321,no,OK,+51987654321\n")
    with open_source(leads) as source, FileSink(tmp_path / "out.csv", source) as sink:
        assert not [note for note in source.notes if "'number'" in note]
        assert [
            note for note in sink.notes if "accucheck_whatsapp, accucheck_status, accucheck_number" in note
        ]
