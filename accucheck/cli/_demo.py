"""``accucheck demo``: a whole run against a simulated AccuAuth in half a minute, and its proof.

The proof reads the output with the standard library and compares each row with the sandbox's truth. It shares
nothing with the writer of the output but the file, so that a bug there cannot hide here.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from accucheck._client import Client
from accucheck._errors import ConfigurationError, InvalidNumber
from accucheck._phone import normalize
from accucheck.cli._console import report, say
from accucheck.cli._demo_leads import write_leads
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._file_job import run_file_job
from accucheck.cli._interruption import Interruption
from accucheck.cli._job import Job
from accucheck.cli._options import DEFAULT_TALK, Talk
from accucheck.cli._render import thousands
from accucheck.sandbox import request_id, truth

__all__ = ["Proof", "demo", "prove"]

SEED = 7
TROUBLE = {
    "rate": "150",
    "burst": "15",
    "pending": "0.1",
    "pending-for": "2.5",
    "errors": "0.02",
    "latency": "40",
}
"""What the simulated vendor does to the client; refusals come of the rate, which the client is not told."""
START_SECONDS = 20.0
"""How long the sandbox may take to start: much, so that a slow first import does not look like a fault."""


def demo(
    *,
    rows: PositiveInt = 2500,
    directory: Path | None = None,
    talk: Talk = DEFAULT_TALK,
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """See it at work on made-up leads and a simulated AccuAuth; no account needed.

    Parameters
    ----------
    rows
        Leads to make up.
    directory
        A new directory for list, output and ledger. By default one in the system's temporary directory.
    """
    place = _new_directory(directory)
    leads, checked = place / "leads.csv", place / "checked.csv"
    write_leads(leads, rows, SEED)
    with _sandbox() as url:
        if not talk.quiet:
            say(f"{thousands(rows)} made-up leads are in {leads}")
            say(f"a simulated AccuAuth is at {url}: open it in a browser to watch")
        code = run_file_job(
            Job(input=str(leads), output=str(checked), talk=talk),
            Client("sandbox", "sandbox", base_url=url),
            interruption,
        )
    if code not in (ExitCode.ALL_ANSWERED, ExitCode.SOME_NOT_ANSWERED):
        return code
    proof = prove(leads, checked, SEED)
    _tell(proof)
    return ExitCode.ALL_ANSWERED if proof.holds else ExitCode.UNEXPECTED


def _new_directory(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="accucheck-demo-"))
    try:
        wanted.mkdir(parents=True)
    except FileExistsError:
        raise ConfigurationError(f"{wanted} is there already; name a new directory") from None
    return wanted


@contextmanager
def _sandbox() -> Iterator[str]:
    """Run the simulated vendor as a process of its own, and give its address."""
    command = [sys.executable, "-m", "accucheck.sandbox", "--port", "0", "--seed", str(SEED)]
    for name, value in TROUBLE.items():
        command += [f"--{name}", value]
    # In a group of its own: Ctrl-C is for the client, which still needs the sandbox to settle its calls.
    process = subprocess.Popen(  # noqa: S603 our own module
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            _, trouble = process.communicate(timeout=START_SECONDS)
            reason = trouble.strip().rpartition("\n")[2] or "it ended at once"
            raise ConfigurationError(f"the sandbox did not start: {reason}")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.communicate()


def _tell(proof: Proof) -> None:
    report(
        [
            ("verified", f"{thousands(proof.answers)} answers, {thousands(proof.wrong)} of them wrong"),
            ("", f"{thousands(proof.invalid)} invalid numbers, {thousands(proof.misjudged)} by mistake"),
            ("", f"{thousands(proof.rows)} rows in order, {thousands(proof.misplaced)} missing or changed"),
        ]
    )


@dataclass(kw_only=True)
class Proof:
    """What the comparison found."""

    rows: int = 0
    """Rows of the input."""
    answers: int = 0
    """Rows of the output with an answer."""
    wrong: int = 0
    """Answers that differ from the truth."""
    invalid: int = 0
    """Rows rightly told to be no Peru number."""
    misjudged: int = 0
    """Rows told to be no Peru number that are one, or the other way round."""
    misplaced: int = 0
    """Rows that are missing, repeated, out of place or changed."""

    @property
    def holds(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.wrong or self.misjudged or self.misplaced)


def prove(leads: Path, checked: Path, seed: int) -> Proof:
    """Compare an output with its input, row by row, and with what the sandbox knows."""
    proof = Proof()
    inputs, outputs = _rows(leads), _rows(checked)
    header = next(inputs)
    phone = header.index("Teléfono")
    if next(outputs)[: len(header)] != header:
        proof.misplaced += 1
    for own in inputs:
        proof.rows += 1
        row = next(outputs, None)
        if row is None or row[: len(own)] != own:
            proof.misplaced += 1
            continue
        _judge(proof, own[phone], row[len(own) :], seed)
    proof.misplaced += sum(1 for _ in outputs)
    return proof


def _judge(proof: Proof, phone: str, results: list[str], seed: int) -> None:
    whatsapp, status_update, business_user, avatar, _, status, _, request = results
    try:
        number = normalize(phone)
    except InvalidNumber:
        if status == "INVALID_NUMBER" and not whatsapp:
            proof.invalid += 1
        else:
            proof.misjudged += 1
        return
    if status == "INVALID_NUMBER":
        proof.misjudged += 1
    if status != "OK":
        proof.wrong += bool(whatsapp)
        return
    proof.answers += 1
    true = truth(number, seed)
    said = (whatsapp, status_update.replace("-", ""), business_user, avatar, request)
    expected = (
        true["whatsapp"],
        true.get("status_update", ""),
        true.get("business_user", ""),
        true.get("avatar", ""),
        request_id(number, seed),
    )
    proof.wrong += said != expected


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.reader(file, delimiter=";")
