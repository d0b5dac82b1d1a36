"""``--metrics-file``: always complete, readable by others, and never the reason that a run ends."""

from __future__ import annotations

import asyncio
import re
import stat
from decimal import Decimal
from pathlib import Path

import pytest

from accucheck._costs import Cost
from accucheck._errors import ConfigurationError
from accucheck._models import Stats
from accucheck.cli import _run
from accucheck.cli._run import MetricsFile
from tests.virtual_time import run

SAMPLE = re.compile(
    r'accucheck_([a-z_]+)\{accucheck_job="((?:[^"\\]|\\.)*)"(?:,([a-z]+)="([A-Za-z_]+)")?\} (\S+)'
)


def samples(path: Path) -> dict[tuple[str, str | None], float]:
    """Read the file as Prometheus does: one sample a line, each below the type of its metric."""
    found: dict[tuple[str, str | None], float] = {}
    kinds: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            kind = kinds[f"accucheck_{match[1]}"]
            assert (kind == "counter") == match[1].endswith("_total")
            assert (match[1], match[4]) not in found
            found[match[1], match[4]] = float(match[5])
    return found


def test_the_file_follows_the_run_and_says_when_it_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "leads.prom"
    stats = Stats(yes=3, no=1, calls=7, replies={"OK": 4, "PENDING": 3}, rate=12.5, in_flight=2)

    async def main() -> None:
        nonlocal stats
        kept = MetricsFile(path, "leads", lambda: Cost(Decimal("0.02"), Decimal("0.03")))
        async with kept.keep(lambda: stats):
            first = samples(path)
            assert first["answers_total", "yes"] == 3
            assert first["replies_total", "PENDING"] == 3
            assert (first["permits_per_second", None], first["spend_total", None]) == (12.5, 0.02)
            assert first["running", None] == 1
            stats = Stats(yes=4)
            await asyncio.sleep(_run.PERIOD + 1)
            assert samples(path)["answers_total", "yes"] == 4
            stats = Stats(yes=5)
        assert samples(path)["answers_total", "yes"] == 5
        assert samples(path)["running", None] == 0

    run(main())
    assert [entry.name for entry in tmp_path.iterdir()] == ["leads.prom"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044  # the collector is another user


def test_without_a_rate_and_a_price_there_is_no_such_sample(tmp_path: Path) -> None:
    async def main() -> None:
        async with MetricsFile(tmp_path / "x.prom", "x").keep(Stats):
            pass

    run(main())
    names = {name for name, _ in samples(tmp_path / "x.prom")}
    assert not names & {"permits_per_second", "spend_total", "replies_total"}


def test_any_job_name_is_a_valid_label(tmp_path: Path) -> None:
    async def main() -> None:
        async with MetricsFile(tmp_path / "x.prom", 'a "b"\\\nc').keep(Stats):
            pass

    run(main())
    assert r'{accucheck_job="a \"b\"\\\nc"}' in (tmp_path / "x.prom").read_text("utf-8")
    assert samples(tmp_path / "x.prom")


def test_a_file_that_cannot_be_written_is_refused_before_the_first_call(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match=r"--metrics-file .*No such file or directory"):
            async with MetricsFile(tmp_path / "missing" / "x.prom", "x").keep(Stats):
                raise AssertionError("entered")

    run(main())


def test_a_disk_that_fails_later_is_reported_once_and_does_not_end_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()

    async def main() -> None:
        async with MetricsFile(folder / "x.prom", "x").keep(Stats):
            (folder / "x.prom").unlink()
            folder.rmdir()
            await asyncio.sleep(3 * _run.PERIOD)

    run(main())
    assert capsys.readouterr().err.count("cannot be written") == 1
