"""Ray Data on one machine: every row answered once, lazily, with the secret nowhere in the plan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import accucheck
from tests.servers import program

ray = pytest.importorskip("ray", reason="needs ray: pip install 'accucheck[ray]'")
pytestmark = pytest.mark.filterwarnings("default")  # Ray's own deprecations


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A sandbox and a local cluster; the URL of the sandbox."""
    log = tmp_path_factory.mktemp("ray") / "calls.jsonl"
    command = [sys.executable, "-u", "-m", "accucheck", "sandbox", "--port", "0", "--request-log", str(log)]
    sandbox = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert sandbox.stdout is not None
    url = sandbox.stdout.readline().split()[-1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCUCHECK_API_ID", "sandbox")
        patch.setenv("ACCUCHECK_API_SECRET", "sandbox")
        patch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
        patch.setenv("CALLS", str(log))
        ray.init(
            "local", num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False, logging_level="ERROR",
            log_to_driver=False,
        )  # fmt: skip
        try:
            yield url
        finally:
            ray.shutdown()
            sandbox.terminate()
            sandbox.communicate(timeout=10)


def test_every_row_is_answered_once(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from accucheck.ray import check

    calls = Path(os.environ["CALLS"])
    rows = [{"id": n, "phone": f"98{n:07}"} for n in range(3_000)]
    checked = check(
        ray.data.from_items(rows),
        number="phone",
        ledger=None,
        actors=2,
        client={"base_url": cluster},
        rate=5_000,
    )
    assert not calls.read_text(), "nothing is bought before the dataset is consumed"
    found = checked.take_all()
    assert sorted(row["id"] for row in found) == list(range(3_000))
    assert {row["status"] for row in found} == {"OK"}
    assert all(row["number"] == "+51" + row["phone"] for row in found)
    assert len(calls.read_text().splitlines()) == 3_000


@pytest.mark.parametrize(
    "options",
    [
        {"actors": 0},
        {"workers": True},
        {"buffer": 0},
        {"client": {"api_secret": "hush"}},
        {"ledger": "postgresql://me:hush@host/accucheck"},
        {"ledger": "postgresql://me@host/accucheck?password=hush"},
        {"actors": 2, "max_calls": 100},
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(options: dict[str, object]) -> None:
    from accucheck.ray import check

    with pytest.raises(accucheck.ConfigurationError) as caught:
        check(None, number="phone", **{"ledger": None, **options})  # type: ignore[arg-type]
    assert "hush" not in str(caught.value)


def test_the_example_loses_a_node_and_no_answer(tmp_path: Path) -> None:
    """examples/ray: two nodes, one killed; the result of one process, and only calls in flight made twice."""
    program("initdb", package="postgresql", folders="usr/lib/postgresql/*/bin")
    script = Path(__file__).parents[2] / "examples/ray/kill_a_node.py"
    example = subprocess.Popen(
        [sys.executable, str(script), "--rows", "2000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    try:
        shown, _ = example.communicate(timeout=300)
    finally:
        if example.poll() is None:
            os.killpg(example.pid, signal.SIGTERM)
    assert example.returncode == 0, shown[-5000:]
    assert "same result as a single process: yes" in shown
    assert "numbers bought: 2,000" in shown
