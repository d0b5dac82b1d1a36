"""``accucheck sandbox``: the simulated AccuAuth, with its settings as options. ``accucheck demo``: a run against it.

The demo proves its results: it reads the output with the standard library and compares each row with the sandbox's
truth. The proof shares only the file with the code that wrote the output, so a bug there cannot hide here.
"""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

from cyclopts import App, Group, Parameter
from cyclopts.config import Env
from cyclopts.types import PositiveInt, UInt16

from accucheck._client import Client
from accucheck._errors import ConfigurationError, InvalidNumber
from accucheck._phone import e164, normalize
from accucheck.cli._bulk import run_file_jobs
from accucheck.cli._console import report, say, thousands
from accucheck.cli._exit import ExitCode, Interruption
from accucheck.cli._job import Job
from accucheck.cli._options import Account, Talk, read_by
from accucheck.sandbox import Faults, Settings, Soft, request_id, run, truth
from accucheck.sandbox._settings import Endpoint, Window, parse_outage, parse_rate_at

_LIMIT = Parameter(group=Group("Rate limit", sort_key=1))
_TROUBLE = Parameter(group=Group("Trouble", sort_key=2))
_ACCOUNT = Group("The simulated account", sort_key=3)

# A separate prefix: ACCUCHECK_RATE is for the client and must not change the sandbox.
app = App(
    name="sandbox",
    help_epilogue="",
    config=Env("ACCUCHECK_SANDBOX_", command=False),
)


@Parameter(name="*", group=_ACCOUNT)
class Options(Settings):
    """The settings, with how the command line groups and reads some of them."""

    rate: Annotated[float | None, _LIMIT]
    burst: Annotated[int | None, _LIMIT]
    window: Annotated[Window, _LIMIT]
    window_seconds: Annotated[float | None, _LIMIT]
    rate_at: Annotated[
        tuple[tuple[float, float], ...], _LIMIT, read_by(parse_rate_at, "SECONDS:RATE,…", show_default=False)
    ]
    retry_after: Annotated[bool, _LIMIT]
    pending: Annotated[float, _TROUBLE]
    pending_for: Annotated[float, _TROUBLE]
    queue_rate: Annotated[float | None, _TROUBLE]
    soft: Annotated[Soft, _TROUBLE, read_by(Soft.parse, "NAME=SHARE,…", show_default=False)]
    errors: Annotated[float, _TROUBLE]
    outage: Annotated[
        tuple[float, float] | None, _TROUBLE, read_by(parse_outage, "START:SECONDS", show_default=False)
    ]
    faults: Annotated[Faults, _TROUBLE, read_by(Faults.parse, "KIND=SHARE,…", show_default=False)]
    latency: Annotated[float, _TROUBLE]
    endpoints: Annotated[tuple[Endpoint, ...], Parameter(consume_multiple=True, show_default=False)]

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ValueError as error:
            raise ConfigurationError(str(error)) from error


@app.default
def sandbox(*, host: str = "127.0.0.1", port: UInt16 = 8000, settings: Options = Options()) -> ExitCode:
    """Run a simulated AccuAuth on this machine.

    Parameters
    ----------
    host
        Address to listen on. 127.0.0.1 is not reachable from other machines.
    port
        Port to listen on; 0 picks a free one.
    """
    try:
        run(settings, host=host, port=port, announce=lambda line: _announce(line, settings))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free port"
        ) from error
    return ExitCode.ALL_ANSWERED


def _announce(line: str, settings: Settings) -> None:
    """Print where the sandbox listens, and for a person what to run in another terminal."""
    print(line, flush=True)
    if not sys.stderr.isatty():
        return
    where, setting = (
        ("PowerShell", "$env:{}='{}'") if os.name == "nt" else ("another terminal", "export {}={}")
    )
    values = {
        "ACCUCHECK_BASE_URL": line.removeprefix("listening on ").strip(),
        "ACCUCHECK_API_ID": settings.api_id,
        "ACCUCHECK_API_SECRET": settings.api_secret,
    }
    print(f"\nTo use it, run this in {where}:\n", file=sys.stderr)
    for name, value in values.items():
        print(f"  {setting.format(name, value if os.name == 'nt' else shlex.quote(value))}", file=sys.stderr)
    print("\nOpen the address in a browser to watch it. Ctrl-C stops it.\n", file=sys.stderr, flush=True)


HEADER = ["Nº", "Nombre", "Teléfono", "Distrito", "Observación"]

FIRST_NAMES = [
    "José",
    "María",
    "Ñusta",
    "Ángel",
    "Lucía",
    "Íñigo",
    "Rosa",
    "Óscar",
    "Belén",
    "César",
    "Zoë",
    "Iván",
]
LAST_NAMES = [
    "Quispe",
    "Huamán",
    "Núñez",
    "Peña",
    "Yupanqui",
    "Muñoz",
    "Ávila",
    "Cóndor",
    "O'Brien",
    "Güímac",
]
DISTRICTS = [
    "Breña",
    "Jesús María",
    "San Martín de Porres",
    "Rímac",
    "Ancón",
    "Lurín",
    "Áncash; Huaraz",
    "Cañete",
]
NOTES = [
    "",
    "",
    "llamar mañana",
    'dijo "más tarde"',
    "línea 1\nlínea 2",
    "cliente; antiguo",
    "¿habla inglés?",
    "✓",
]

MOBILE_FORMATS: list[Callable[[str], str]] = [
    lambda n: n,
    lambda n: n,
    lambda n: n,
    lambda n: f"+51{n}",
    lambda n: f"51{n}",
    lambda n: f"+51 {n[:3]} {n[3:6]} {n[6:]}",
    lambda n: f"{n[:3]}-{n[3:6]}-{n[6:]}",
    lambda n: f"{n[:3]} {n[3:6]} {n[6:]}",
    lambda n: f"0051{n}",
    lambda n: f"{n}.0",
    lambda n: f" {n} ",
    lambda n: f"(+51) {n[:3]} {n[3:6]} {n[6:]}",
    lambda n: f"tel:+51-{n[:3]}-{n[3:6]}-{n[6:]}",
    lambda n: "".join(chr(ord(digit) + 0xFEE0) for digit in n),  # full-width digits
    lambda n: f"{n[:3]}\u2009{n[3:6]}\u2009{n[6:]}",  # thin spaces
]
LANDLINE_FORMATS: list[Callable[[str], str]] = [
    lambda n: f"(01) {n[:3]}-{n[3:]}",
    lambda n: f"+51 1 {n[:3]}{n[3:]}",
    lambda n: f"01 {n}",
]
INVALID = [
    "",
    "no tiene",
    "98765432",
    "+1 202 555 0143",
    "123",
    "9876543210123",
    "-",
    "987 65X 321",
    "+34 612 345 678",
]


def leads(count: int, seed: int = 7) -> Iterator[list[str]]:
    """Yield ``count`` leads as rows under ``HEADER``: about one in twelve invalid, one in ten a duplicate."""
    chance = Random(seed)
    mobiles: list[str] = []
    for place in range(1, count + 1):
        draw = chance.random()
        if draw < 0.08:
            phone = chance.choice(INVALID)
        elif draw < 0.12:
            phone = chance.choice(LANDLINE_FORMATS)(f"{chance.randrange(2_000_000, 7_999_999)}")
        else:
            if draw < 0.22 and mobiles:
                mobile = chance.choice(mobiles)
            else:
                mobile = f"9{chance.randrange(10_000_000, 99_999_999)}"
                mobiles.append(mobile)
            phone = chance.choice(MOBILE_FORMATS)(mobile)
        name = f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"
        yield [str(place), name, phone, chance.choice(DISTRICTS), chance.choice(NOTES)]


def write_leads(path: Path, count: int, seed: int = 7) -> None:
    """Write ``count`` leads to a new file as Spanish Excel would: semicolons, a byte order mark, CR LF."""
    with path.open("x", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(HEADER)
        writer.writerows(leads(count, seed))


SEED = 7
TROUBLE = {
    "rate": "150",
    "burst": "15",
    "pending": "0.1",
    "pending-for": "2.5",
    "errors": "0.02",
    "latency": "40",
}
"""The sandbox's settings; the client does not know its rate limit."""
START_SECONDS = 20.0
"""Seconds that the sandbox may take to start; generous, since a first import can be slow."""


def demo(
    *,
    rows: PositiveInt = 2500,
    directory: Path | None = None,
    talk: Talk = Talk(),
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Try accucheck on made-up leads and a simulated AccuAuth. Needs no account.

    Parameters
    ----------
    rows
        Number of leads.
    directory
        New directory for list, output and ledger. Default: one in the system's temporary directory.
    """
    place = _new_directory(directory)
    leads, checked = place / "leads.csv", place / "checked.csv"
    write_leads(leads, rows, SEED)
    with _running_sandbox() as url:
        if not talk.quiet:
            say(f"made-up leads: {leads} ({thousands(rows)} rows)")
            say(f"simulated AccuAuth: {url} (open it in a browser to watch)")
        account = Account(api_id="sandbox", base_url=url)
        code = run_file_jobs(
            [
                Job(
                    input=str(leads),
                    output=str(checked),
                    ledger=f"{checked}.ledger",
                    account=account,
                    talk=talk,
                )
            ],
            Client("sandbox", "sandbox", base_url=url),
            interruption,
        )
    if code not in (ExitCode.ALL_ANSWERED, ExitCode.SOME_NOT_ANSWERED):
        return code
    proof = prove(leads, checked, SEED)
    _report_proof(proof)
    return ExitCode.ALL_ANSWERED if proof.holds else ExitCode.UNEXPECTED


def _new_directory(wanted: Path | None) -> Path:
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="accucheck-demo-"))
    try:
        wanted.mkdir(parents=True)
    except FileExistsError:
        raise ConfigurationError(f"{wanted} already exists; choose a new directory") from None
    return wanted


@contextmanager
def _running_sandbox() -> Iterator[str]:
    """Run the sandbox as a separate process and yield its URL."""
    command = [sys.executable, "-m", "accucheck", "sandbox", "--port", "0", "--seed", str(SEED)]
    for name, value in TROUBLE.items():
        command += [f"--{name}", value]
    # In its own process group: Ctrl-C must reach the client only, which still has calls to settle.
    process = subprocess.Popen(  # noqa: S603 our own module
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("ACCUCHECK_SANDBOX_")},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            _, trouble = process.communicate(timeout=START_SECONDS)
            reason = trouble.strip().rpartition("\n")[2] or "it exited at once"
            raise ConfigurationError(f"the sandbox did not start: {reason}")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.communicate()


def _report_proof(proof: Proof) -> None:
    report(
        [
            ("verified", f"{thousands(proof.answers)} answers, {thousands(proof.wrong)} of them wrong"),
            ("", f"{thousands(proof.invalid)} invalid numbers, {thousands(proof.misjudged)} misjudged"),
            ("", f"{thousands(proof.rows)} rows in order, {thousands(proof.misplaced)} missing or changed"),
        ]
    )


@dataclass(kw_only=True)
class Proof:
    """The result of the comparison."""

    rows: int = 0
    """Rows of the input."""
    answers: int = 0
    """Output rows with an answer."""
    wrong: int = 0
    """Answers that differ from the truth."""
    invalid: int = 0
    """Rows correctly reported as invalid."""
    misjudged: int = 0
    """Rows reported as invalid that are valid, or the other way round."""
    misplaced: int = 0
    """Rows that are missing, repeated, out of order or changed."""

    @property
    def holds(self) -> bool:
        """Whether everything was correct."""
        return not (self.wrong or self.misjudged or self.misplaced)


def prove(leads: Path, checked: Path, seed: int) -> Proof:
    """Compare an output row by row with its input and with the sandbox's truth."""
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
    whatsapp, status_update, business_user, avatar, _, status, _, request, shown, _ = results
    try:
        number = normalize(phone)
    except InvalidNumber:
        if status == "INVALID_NUMBER" and not whatsapp:
            proof.invalid += 1
        else:
            proof.misjudged += 1
        return
    if status == "INVALID_NUMBER" or shown != e164(number):
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
