"""Lists and outputs at addresses: an S3 server on loopback (moto), HTTP, and fsspec's memory file system."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accucheck.files import FileError, FileSink, ResultColumns, open_source
from accucheck.files._origin import OutputError
from accucheck.files._remote import RemoteFile, fingerprint, is_remote
from accucheck.testing import SandboxThread

fsspec = pytest.importorskip("fsspec", reason="needs pip install 'accucheck[remote]'")

LEADS = "name,phone\nAna,987654321\nJorge,912345678\nBad,12\n"


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    system.pipe("/lists/leads.csv", LEADS.encode())
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server with a bucket named ``bucket``, found through AWS settings. Yields its address."""
    pytest.importorskip("s3fs", reason="needs pip install 'accucheck[remote]'")
    server = pytest.importorskip("moto.server", reason="needs pip install 'moto[server]'")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        running.start()
        host, port = running.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        fsspec.filesystem("s3").mkdir("bucket")
        try:
            yield f"http://{host}:{port}"
        finally:
            fsspec.filesystem("s3").clear_instance_cache()
            running.stop()


def run(
    *arguments: str, sandbox: SandboxThread, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "accucheck", *arguments, "--base-url", sandbox.url]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment}, timeout=60
    )


def test_a_list_in_s3_is_checked_into_s3_and_bought_once(
    s3: str, tmp_path: Path, accucheck_sandbox: SandboxThread
) -> None:
    system = fsspec.filesystem("s3")
    system.pipe("bucket/lists/leads.csv", LEADS.encode())
    command = ["bulk", "s3://bucket/lists/leads.csv", "-o", "s3://bucket/out/checked.parquet"]
    command += ["--ledger", str(tmp_path / "answers.db"), "--allow-invalid"]
    stopped = run(*command, "--max-calls", "1", sandbox=accucheck_sandbox, cwd=tmp_path)
    assert stopped.returncode != 0
    first = run(*command, sandbox=accucheck_sandbox, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "s3://bucket/out/checked.parquet" in first.stderr
    assert "hush" not in first.stdout + first.stderr
    import pyarrow.parquet as parquet

    system.invalidate_cache()
    with system.open("bucket/out/checked.parquet") as file:
        rows = parquet.read_table(file).to_pylist()
    assert [row["name"] for row in rows] == ["Ana", "Jorge", "Bad"]
    assert [row["status"] for row in rows] == ["OK", "OK", "INVALID_NUMBER"]
    asked = len(accucheck_sandbox.requests)
    assert asked == 2

    again = run(*command, sandbox=accucheck_sandbox, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert len(accucheck_sandbox.requests) == asked, "bought twice"

    system.pipe("bucket/out/checked.parquet", b"somebody's own work")
    edited = run(*command, sandbox=accucheck_sandbox, cwd=tmp_path)
    assert edited.returncode != 0
    assert "has been changed since" in edited.stderr
    assert system.cat("bucket/out/checked.parquet") == b"somebody's own work"

    planned = run(
        "plan", "s3://bucket/lists/*.csv".replace("*", "leads"), "--ledger", str(tmp_path / "answers.db"),
        sandbox=accucheck_sandbox, cwd=tmp_path,
    )  # fmt: skip
    assert planned.returncode == 0, planned.stderr


def test_several_lists_matched_by_a_pattern_are_written_to_a_remote_folder(
    s3: str, tmp_path: Path, accucheck_sandbox: SandboxThread
) -> None:
    system = fsspec.filesystem("s3")
    for name in "ab":
        system.pipe(f"bucket/many/{name}.csv", LEADS.encode())
    done = run(
        "bulk", "s3://bucket/many/*.csv", "--output-dir", "s3://bucket/done", "--ledger", "none", "--allow-invalid",
        sandbox=accucheck_sandbox, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    system.invalidate_cache()
    assert sorted(system.ls("bucket/done", detail=False)) == ["bucket/done/a.csv", "bucket/done/b.csv"]
    assert not list(tmp_path.glob("s3:*"))


def test_nothing_is_bought_for_an_output_that_cannot_be_kept(
    s3: str, tmp_path: Path, accucheck_sandbox: SandboxThread
) -> None:
    (tmp_path / "leads.csv").write_text(LEADS)
    before = len(accucheck_sandbox.requests)
    for output, words in (
        ("s3://no-such-bucket/x.csv", "no bucket no-such-bucket"),
        ("nosuch://x/y.csv", "nosuch:// is not supported"),
        ("sftp://me:hush@host/y.csv", "the address contains a password"),
        (f"{s3}/bucket/y.csv?X-Amz-Signature=hush", "the address contains a query"),
    ):
        done = run(
            "bulk", "leads.csv", "-o", output, "--ledger", "none", sandbox=accucheck_sandbox, cwd=tmp_path
        )
        assert done.returncode != 0
        assert words in done.stderr
        assert "hush" not in done.stderr
        assert "Traceback" not in done.stderr
    assert len(accucheck_sandbox.requests) == before


def test_a_list_is_read_over_http(memory: Any, tmp_path: Path) -> None:
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    (tmp_path / "leads.csv").write_text(LEADS)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            with open_source(f"{address}/leads.csv") as source:
                assert [row.number for row in source.rows()] == ["987654321", "912345678", "12"]
            with pytest.raises(FileError, match="there is no such object"):
                open_source(f"{address}/none.csv")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    "name", ["checked.csv", "checked.csv.gz", "checked.jsonl", "checked.xlsx", "checked.parquet"]
)
def test_every_format_round_trips_through_memory(memory: Any, name: str) -> None:
    with open_source("memory://lists/leads.csv") as source:
        with FileSink(f"memory://out/{name}", source) as sink:
            for row in source.rows():
                sink.write(row, ResultColumns(whatsapp=True, status="OK"))
    with open_source(f"memory://out/{name}") as checked:
        assert [row.number for row in checked.rows()] == ["987654321", "912345678", "12"]


def test_an_output_is_either_complete_or_unchanged(memory: Any) -> None:
    memory.pipe("/out.csv", b"old")
    with open_source("memory://lists/leads.csv") as source:
        with contextlib.suppress(KeyboardInterrupt), FileSink("memory://out.csv", source) as sink:
            for row in source.rows():
                sink.write(row, ResultColumns(whatsapp=True, status="OK"))
            assert memory.cat("/out.csv") == b"old"
            raise KeyboardInterrupt
    assert memory.cat("/out.csv") == b"old"
    assert memory.glob("/out*") == ["/out.csv"]


def test_an_upload_that_breaks_off_leaves_the_old_object(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe("/out.csv", b"old")
    file = RemoteFile("memory://out.csv")
    file.stream.write(b"new" * 1000)

    def broken(*_: object) -> None:
        raise OSError("the store says: SlowDown")

    monkeypatch.setattr("shutil.copyfileobj", broken)
    with pytest.raises(OutputError, match="SlowDown"):
        file.commit()
    assert memory.cat("/out.csv") == b"old"


def test_the_input_is_not_overwritten(memory: Any) -> None:
    with open_source("memory://lists/leads.csv") as source:
        with pytest.raises(FileError, match="would overwrite the input"):
            FileSink("memory://lists/leads.csv", source)


def test_a_fingerprint_changes_with_the_object(memory: Any) -> None:
    assert fingerprint("memory://none.csv") is None
    memory.pipe("/one.csv", b"1")
    before = fingerprint("memory://one.csv")
    memory.pipe("/one.csv", b"12")
    assert before != fingerprint("memory://one.csv") is not None


def test_a_missing_package_or_object_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileError, match=r"abfs:// needs an extra package: pip install adlfs"):
        open_source("abfs://container/leads.csv")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(FileError, match=r"s3:// needs an extra package: pip install 'accucheck\[remote\]'"):
        open_source("s3://bucket/leads.csv")


@pytest.mark.parametrize("path", ["leads.csv", "C:\\leads.csv", "c://leads.csv", "/a//b", "-", "x:y"])
def test_local_paths_stay_local(path: str) -> None:
    assert not is_remote(path)


def test_no_credential_is_logged(s3: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="accucheck")
    with pytest.raises(FileError) as caught:
        open_source("s3://bucket/none.csv")
    assert "hush" not in caplog.text + str(caught.value)
