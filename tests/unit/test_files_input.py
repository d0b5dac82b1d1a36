"""Inputs: files, compressed files, standard input spooled and live; damaged ones give one clear error."""

from __future__ import annotations

import gzip
import io
import os
import random
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest

from accucheck.files import FileError, Source, open_source

zstandard = pytest.importorskip("zstandard")

LIST = b"name,phone\n" + b"Ana,987654321\n" * 2000


def numbers_of(source: Source) -> list[str]:
    with source:
        return list(source.numbers())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("leads.csv.gz", gzip.compress(LIST, mtime=0)),
        ("leads.csv", gzip.compress(LIST, mtime=0)),
        ("leads.csv.gz", gzip.compress(LIST[:11], mtime=0) + gzip.compress(LIST[11:], mtime=0)),
        ("leads.csv.gz", LIST),
        ("leads.csv.zst", zstandard.compress(LIST)),
        ("leads.csv.zst", zstandard.compress(LIST[:11]) + zstandard.compress(LIST[11:])),
        ("leads", zstandard.compress(LIST)),
        ("LEADS.CSV.GZ", gzip.compress(LIST, mtime=0)),
    ],
)
def test_compression_is_recognized_by_the_first_bytes(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert numbers_of(open_source(path)) == ["987654321"] * 2000


@pytest.mark.parametrize(
    "content",
    [gzip.compress(LIST, mtime=0)[:-20], zstandard.compress(random.Random(1).randbytes(2000) + LIST)[:-20]],
)
def test_a_torn_compressed_file_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "leads.csv.gz"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"leads\.csv\.gz: the compressed data is damaged or cut off"):
        open_source(path)


def test_a_damaged_compressed_file_is_a_clear_error(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(LIST, mtime=0))
    content[-6] ^= 0xFF
    path = tmp_path / "leads.csv.gz"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"leads\.csv\.gz: "):
        open_source(path)


def test_highly_compressed_zstd_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv.zst"
    path.write_bytes(zstandard.compress(b"phone,name\n" + b"987654321,Ana\n" * 300_000))
    assert sum(1 for _ in open_source(path).numbers()) == 300_000


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing.csv", "no such file"),
        (".", "this is a directory"),
        ("pipe", "not a regular file"),
    ],
)
def test_a_file_that_cannot_be_opened_is_a_clear_error(tmp_path: Path, name: str, told: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    descriptor = os.open(tmp_path / "pipe", os.O_RDWR)  # opening it would otherwise wait for a writer
    try:
        with pytest.raises(FileError, match=told):
            open_source(tmp_path / name)
    finally:
        os.close(descriptor)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv"
    path.touch(0o000)
    with pytest.raises(FileError, match="no permission"):
        open_source(path)


def test_a_file_that_is_torn_while_it_is_read_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "leads.csv.gz"
    path.write_bytes(gzip.compress(LIST, mtime=0))
    with open_source(path) as source:
        path.write_bytes(gzip.compress(LIST, mtime=0)[:-20])
        with pytest.raises(FileError, match="damaged"):
            list(source.rows())


def test_standard_input_is_spooled_privately_and_read_as_often_as_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = open_source("-", stdin=io.BytesIO(gzip.compress(LIST, mtime=0)))
    left = list(tmp_path.iterdir())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in left)
    first, second = source.rows(), source.rows()
    assert [row.number for row in first] == [row.number for row in second] == ["987654321"] * 2000
    assert (source.name, source.repeatable) == ("stdin", True)
    source.close()
    source.close()
    assert not list(tmp_path.iterdir())


def test_a_copy_that_fails_on_the_way_leaves_neither_a_file_nor_a_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BrokenPipe(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(100)
            if not data:
                raise OSError(5, "Input/output error")
            return data

    torn = io.BytesIO()
    with zipfile.ZipFile(torn, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("leads.csv", b"phone\n" + bytes(range(256)) * 40)
    content = bytearray(torn.getvalue())
    content[60] ^= 0xFF
    (tmp_path / "leads.zip").write_bytes(content)
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(spool))
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    with pytest.raises(FileError):
        open_source("-", stdin=BrokenPipe(LIST))
    with pytest.raises(FileError):
        open_source(tmp_path / "leads.zip")
    assert not list(spool.iterdir())
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_copy_of_standard_input_that_cannot_be_read_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for content in (b"", b"a,b\nx,y\n", gzip.compress(LIST, mtime=0)[:-20]):
        with pytest.raises(FileError, match="stdin"):
            open_source("-", stdin=io.BytesIO(content))
    assert not list(tmp_path.iterdir())


def test_parquet_comes_through_standard_input(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"phone": ["987654321"]}), tmp_path / "leads.parquet")
    content = (tmp_path / "leads.parquet").read_bytes()
    for live in (False, True):  # its index is at the end, so it is always copied first
        assert numbers_of(open_source("-", live=live, stdin=io.BytesIO(content))) == ["987654321"]


def test_a_live_row_can_be_read_before_the_next_one_is_written() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stdin, open(writing, "wb", buffering=0) as writer:
        writer.write(b"phone,name\n987654321,Ana\n")
        source = open_source("-", live=True, stdin=stdin)
        rows = source.rows()
        assert next(rows).number == "987654321"
        writer.write(b"912345678,Luis\n")
        assert next(rows).number == "912345678"
        writer.close()
        assert list(rows) == []
    assert (source.repeatable, source.name) == (False, "stdin")


@pytest.mark.parametrize("content", [LIST, gzip.compress(LIST, mtime=0), zstandard.compress(LIST)])
def test_live_input_may_be_compressed(content: bytes) -> None:
    assert numbers_of(open_source("-", live=True, stdin=io.BytesIO(content))) == ["987654321"] * 2000


def test_no_live_input_is_a_clear_error() -> None:
    with pytest.raises(FileError, match="stdin: there is no input"):
        open_source("-", live=True, stdin=io.BytesIO())


def test_a_format_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "leads.data"
    path.write_bytes(b"a,b\t987654321\nc\t912345678\n")
    assert numbers_of(open_source(path, file_format="tsv")) == ["987654321", "912345678"]
    with pytest.raises(
        FileError, match="'word' is not a format; the formats are csv, tsv, jsonl, parquet, xlsx"
    ):
        open_source(path, file_format="word")


@pytest.mark.parametrize(
    ("extra", "name"), [("zstd", "leads.zst"), ("parquet", "leads.parquet"), ("xlsx", "leads.xlsx")]
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str, name: str
) -> None:
    (tmp_path / "leads.zst").write_bytes(zstandard.compress(LIST))
    (tmp_path / "leads.parquet").write_bytes(b"PAR1")
    (tmp_path / "leads.xlsx").write_bytes(b"PK\x03\x04")
    for library in ("zstandard", "pyarrow", "python_calamine"):
        monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(FileError, match=rf"pip install 'accucheck\[{extra}\]'"):
        open_source(tmp_path / name)
