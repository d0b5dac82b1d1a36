"""Kill a run again and again, let it finish, and compare input, output and the vendor's log.

``python -m tests.acceptance.kill_harness --rows 200000 --kills 20`` does this at length, and compares the
output byte for byte, except checked_at, with that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from accucheck import InvalidNumber, normalize
from accucheck._store._ledger import Ledger
from accucheck.sandbox import truth
from tests.acceptance.crashing import POINTS

ROOT = Path(__file__).parents[2]
SEED = 7
WORKERS = 8


@contextlib.contextmanager
def sandbox(*options: str) -> Iterator[str]:
    """Run the sandbox as a process; yield its URL."""
    command = [sys.executable, "-m", "accucheck", "sandbox", "--port", "0", "--seed", str(SEED), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def write_leads(path: Path, rows: int, chance: random.Random) -> None:
    """Write a list in which a tenth are duplicates and a twentieth cannot be numbers."""
    numbers = [f"9{n:08d}" for n in chance.sample(range(100_000_000), rows)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "phone", "city"])
        for row, number in enumerate(numbers):
            kind = chance.random()
            phone = numbers[chance.randrange(row + 1)] if kind < 0.1 else "n/a" if kind < 0.15 else number
            writer.writerow([f"Lead {row}", phone, "Lima, Perú"])


def bulk(leads: Path, output: Path, url: str, *, rate: float) -> list[str]:
    return [
        *("bulk", str(leads), "-o", str(output), "--base-url", url, "--quiet"),
        *("--ledger", f"{output}.ledger"),
        *("--rate", str(rate), "--workers", str(WORKERS)),
    ]


def run(arguments: list[str], *, crash: tuple[str, int] | None = None) -> int:
    """Run the command line, perhaps with a trap; return its exit code (-9: killed)."""
    environment = {**os.environ, "ACCUCHECK_API_ID": "sandbox", "ACCUCHECK_API_SECRET": "sandbox"}
    entry = ["accucheck"] if crash is None else ["tests.acceptance.crashing", crash[0], str(crash[1])]
    return subprocess.run(
        [sys.executable, "-m", *entry, *arguments], cwd=ROOT, env=environment, check=False, timeout=600
    ).returncode


@dataclass
class Findings:
    """The result of a series of kills."""

    kills: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    """Numbers charged more than once: calls that were in flight at a kill."""
    output: bytes = b""


def committed(ledger: Path) -> set[str]:
    if not ledger.exists():
        return set()
    with Ledger(ledger) as opened:
        return {str(settlement.number) for _, settlement in opened.settlements()}


def logged(log: Path, start: int = 0) -> list[dict[str, str]]:
    if not log.exists():
        return []
    with log.open("rb") as file:
        file.seek(start)
        return [json.loads(line) for line in file]


def kill_repeatedly(
    directory: Path,
    *,
    rows: int,
    kills: int,
    seed: int,
    rate: float,
    furthest: dict[str, int],
    options: list[str],
) -> Findings:
    """Kill ``kills`` runs, let one more finish, and check all guarantees."""
    chance = random.Random(seed)
    leads, output, log = directory / "leads.csv", directory / "out.csv", directory / "log.jsonl"
    ledger = output.with_name(output.name + ".ledger")
    write_leads(leads, rows, chance)
    findings = Findings()
    points = [POINTS[n % len(POINTS)] for n in range(kills)]
    chance.shuffle(points)
    points.sort(key=lambda point: "rename" in point)  # a run that writes its output has nothing left to kill
    with sandbox("--request-log", str(log), *options) as url:
        for point in points:
            nth = 1 if "rename" in point else chance.randint(1, furthest.get(point, furthest["steps"]))
            known = committed(ledger)
            before = log.stat().st_size if log.exists() else 0
            exit_code = run(bulk(leads, output, url, rate=rate), crash=(point, nth))
            findings.kills[point] += exit_code == -9
            asked_again = known & {line["number"] for line in logged(log, before)}
            assert not asked_again, (
                f"{len(asked_again)} numbers were asked again after a committed answer ({point})"
            )
            stored = committed(ledger)
            assert known <= stored, f"answers vanished from the ledger ({point})"
            if exit_code == -9:
                lost = {line["number"] for line in logged(log, before) if line["status"] == "OK"} - stored
                assert len(lost) <= 2 * WORKERS, (
                    f"{len(lost)} answers were lost, more than in flight ({point})"
                )
            if output.exists():
                assert output.read_bytes().count(b"\n") == rows + 1, f"a torn output ({point})"
        assert run(bulk(leads, output, url, rate=rate)) == 1  # the rows that cannot be numbers
    charged = Counter(line["number"] for line in logged(log) if line["status"] == "OK")
    findings.repeated = sum(times - 1 for times in charged.values())
    most = findings.kills.total() * 2 * WORKERS  # in flight, or answered and not yet stored
    assert findings.repeated <= most, f"{findings.repeated} calls were repeated, more than were in flight"
    check_output(leads, output)
    findings.output = output.read_bytes()
    return findings


def check_output(leads: Path, output: Path) -> None:
    """Compare the output with the input and the sandbox's truth, row by row."""
    with leads.open(newline="") as before, output.open(newline="") as after:
        for given, written in zip(csv.DictReader(before), csv.DictReader(after), strict=True):
            assert {name: written[name] for name in given} == given
            try:
                number = str(normalize(given["phone"]))
            except InvalidNumber:
                assert written["status"] == "INVALID_NUMBER"
                assert written["whatsapp"] == ""
            else:
                expected = truth(number, SEED)
                assert (written["status"], written["whatsapp"]) == ("OK", expected["whatsapp"]), written


def without_times(output: bytes) -> bytes:
    """Drop the last column, ``checked_at``, which differs from run to run."""
    return re.sub(rb",[^,\n]*\n", b"\n", output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        share = max(1, options.rows // (options.kills + 2))
        started = time.monotonic()
        findings = kill_repeatedly(
            directory,
            rows=options.rows,
            kills=options.kills,
            seed=options.seed,
            rate=options.rate,
            furthest={
                "steps": share,
                "moment": 4_000,
                "before_commit": 60,
                "after_commit": 60,
                "after_admit": 60,
                **dict.fromkeys(("before_move", "after_move"), 200),
                "before_forget": 40,
            },
            options=[],
        )
        killed = time.monotonic() - started
        calm = directory / "calm.csv"
        with sandbox() as url:
            assert run(bulk(directory / "leads.csv", calm, url, rate=options.rate)) == 1
        same = without_times(calm.read_bytes()) == without_times(findings.output)
        print(
            f"{options.rows} rows, killed {findings.kills.total()} times {dict(findings.kills)}, {killed:.0f} s"
        )
        print(f"charged more than once: {findings.repeated}; output as of an undisturbed run: {same}")
        assert same


if __name__ == "__main__":
    main()
