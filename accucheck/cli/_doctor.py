"""``accucheck doctor``: what works on this machine and what does not, without a call unless one is asked for."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import shutil
import socket
import sqlite3
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import httpx
from cyclopts import Parameter

from accucheck._errors import AccucheckError, CheckError, ConfigurationError, LedgerError
from accucheck._models import Check
from accucheck._store import SQLiteStore, is_postgres
from accucheck.cli._account import find_id, find_secret, make_client
from accucheck.cli._console import print_json
from accucheck.cli._exit_codes import ExitCode, exit_code_of
from accucheck.cli._interruption import Interruption
from accucheck.cli._ledger import chosen_ledger
from accucheck.cli._options import (
    DEFAULT_ACCOUNT,
    DEFAULT_PACE,
    DEFAULT_PATIENCE,
    DEFAULT_TALK,
    Account,
    Patience,
    Talk,
)
from accucheck.cli._render import short_path, terminal_safe
from accucheck.cli._run import run_to_end
from accucheck.cli._settings import FILE_NAME, user_file

__all__ = ["doctor"]

_SECONDS = 10.0
_SKEW_SECONDS = 60.0
_FREE_BYTES = 200 * 1024 * 1024
_CERTIFICATE_DAYS = 14


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def doctor(
    *,
    call: Annotated[str | None, Parameter(metavar="NUMBER")] = None,
    json: bool = False,
    ledger: str | None = None,
    account: Account = DEFAULT_ACCOUNT,
    patience: Patience = DEFAULT_PATIENCE,
    talk: Talk = DEFAULT_TALK,
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Look at what a run needs: credentials, network, clock, ledger and disk.

    Parameters
    ----------
    call
        Check this number, which takes at least one paid call, and report the result.
    json
        Print one JSON object per line.
    ledger
        Ledger to check. Default: your account's own.
    """
    worst = "ok"
    steps: list[Callable[[], Iterator[Finding]]] = [
        _versions,
        _settings,
        lambda: _credentials(account),
        lambda: _network(account),
        lambda: _ledger(account, ledger),
    ]
    code = ExitCode.ALL_ANSWERED
    for step in steps:
        for finding in step():
            _show(finding, json=json)
            worst = max(worst, finding.state, key=("ok", "warning", "failed").index)
    if worst == "failed":
        code = ExitCode.SOME_NOT_ANSWERED
    if call is not None:
        finding, called = run_to_end(_call(call, account, patience), interruption)
        _show(finding, json=json)
        code = called or code
    return code


def _show(finding: Finding, *, json: bool) -> None:
    if json:
        print_json(finding._asdict())
        return
    print(f"{finding.state:<8}  {finding.what:<12}  {terminal_safe(finding.found)}")
    if finding.advice:
        print(f"{'':<24}{terminal_safe(finding.advice)}")


def _versions() -> Iterator[Finding]:
    named = f"accucheck {importlib.metadata.version('accucheck')}, Python {platform.python_version()}"
    yield Finding("versions", "ok", f"{named}, SQLite {sqlite3.sqlite_version}, {platform.system()}")
    try:
        import uvloop  # noqa: F401
    except ImportError:
        yield Finding(
            "uvloop", "warning", "not installed", "pip install 'accucheck[fast]' makes runs cheaper"
        )


def _settings() -> Iterator[Finding]:
    files = [path for path in (Path.cwd() / FILE_NAME, user_file()) if path.is_file()]
    found = ", ".join(short_path(str(path)) for path in files) or "no settings file"
    yield Finding("settings", "ok", found, "accucheck config show lists what is in effect")


def _credentials(account: Account) -> Iterator[Finding]:
    try:
        find_id(account.api_id, is_terminal=lambda: False)
        find_secret(account.secret_file, account.secret_command, is_terminal=lambda: False)
    except ConfigurationError as error:
        yield Finding("credentials", "failed", str(error))
        return
    source = "ACCUCHECK_API_SECRET"
    if account.secret_file is not None:
        source = short_path(str(account.secret_file))
    elif account.secret_command is not None:
        source = "secret_command"
    yield Finding("credentials", "ok", f"API id set, secret from {source}")


def _network(account: Account) -> Iterator[Finding]:
    parts = urlsplit(account.base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    began = time.perf_counter()
    try:
        addresses = sorted(
            {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        )
    except OSError as error:
        yield Finding(
            "DNS", "failed", f"{host}: {error.strerror or error}", "check --base-url and the network"
        )
        return
    yield Finding("DNS", "ok", f"{host} is {', '.join(addresses)} ({_ms(began)})")
    began = time.perf_counter()
    try:
        with socket.create_connection((host, port), timeout=_SECONDS) as raw:
            yield Finding("TCP", "ok", f"connected to port {port} ({_ms(began)})")
            if parts.scheme == "https":
                yield _certificate(raw, host, account)
    except OSError as error:
        yield Finding(
            "TCP", "warning", f"{host}:{port}: {error.strerror or error}", "a proxy may be the only way out"
        )
    yield _answer(account)


def _certificate(raw: socket.socket, host: str, account: Account) -> Finding:
    try:
        context = ssl.create_default_context(cafile=None if account.ca_file is None else str(account.ca_file))
        with context.wrap_socket(raw, server_hostname=host) as wrapped:
            certificate: dict[str, Any] = wrapped.getpeercert() or {}
            version = wrapped.version()
    except (OSError, ssl.SSLError) as error:
        return Finding("TLS", "failed", str(error), "a proxy that opens TLS needs --ca-file")
    days = int((ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86_400)
    issuer = next(
        (
            value
            for part in certificate.get("issuer", ())
            for name, value in part
            if name == "organizationName"
        ),
        "?",
    )
    state: Literal["ok", "warning"] = "ok" if days >= _CERTIFICATE_DAYS else "warning"
    return Finding("TLS", state, f"{version}, issued by {issuer}, {days} days left")


def _answer(account: Account) -> Finding:
    """Look at the clock of whoever answers a plain GET, which is no call."""
    parts = urlsplit(account.base_url)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    proxied = account.proxy is not None and not loopback
    verify = True if account.ca_file is None else ssl.create_default_context(cafile=str(account.ca_file))
    began = time.perf_counter()
    try:
        with httpx.Client(
            proxy=account.proxy if proxied else None, verify=verify, timeout=_SECONDS, trust_env=not loopback
        ) as client:
            reply = client.get(f"{parts.scheme}://{parts.netloc}/", follow_redirects=False)
    except (httpx.HTTPError, OSError) as error:
        return Finding(
            "HTTP", "failed", str(error) or type(error).__name__, "check the proxy and the network"
        )
    through = "through the proxy" if proxied else "directly or as HTTPS_PROXY says"
    found = f"HTTP {reply.status_code} {through} ({_ms(began)})"
    date = reply.headers.get("date")
    if date is None:
        return Finding("HTTP", "ok", found)
    try:
        skew = abs((parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return Finding("HTTP", "ok", found)
    if skew > _SKEW_SECONDS:
        return Finding("clock", "warning", f"{skew:.0f} s away from the server's", "set this machine's clock")
    return Finding("HTTP", "ok", f"{found}, clocks agree")


def _ledger(account: Account, given: str | None) -> Iterator[Finding]:
    place = chosen_ledger(given, account.api_id, account.base_url)
    if place is None:
        yield Finding("ledger", "warning", "none", "without one an interrupted run loses its answers")
        return
    if is_postgres(place):
        yield Finding("ledger", "ok", "in PostgreSQL")
        return
    path = Path(place)
    state = "exists" if path.exists() else "will be created"
    yield Finding("ledger", "ok", f"{short_path(place)} ({state})")
    folder = next((parent for parent in path.parents if parent.is_dir()), Path.cwd())
    free = shutil.disk_usage(folder).free
    yield Finding(
        "disk",
        "ok" if free >= _FREE_BYTES else "warning",
        f"{free / 1e9:,.1f} GB free",
        "" if free >= _FREE_BYTES else "free some space: a run stops when the disk is full",
    )
    yield _locks(folder)


def _locks(folder: Path) -> Finding:
    """Make a ledger in the folder, and take it away again."""

    async def work() -> None:
        with tempfile.TemporaryDirectory(prefix=".accucheck-doctor-", dir=folder) as place:
            store = SQLiteStore(Path(place) / "ledger", reserve=0)
            await store.open()
            try:
                await store.remember("doctor", "was here")
            finally:
                await store.aclose()

    try:
        asyncio.run(work())
    except (LedgerError, OSError, sqlite3.Error) as error:
        return Finding("locks", "failed", f"no ledger can be kept in {folder}: {error}")
    return Finding("locks", "ok", "a ledger can be written and locked there")


async def _call(number: str, account: Account, patience: Patience) -> tuple[Finding, ExitCode | None]:
    client = make_client(account, patience, DEFAULT_PACE, mobile_only=False)
    began = time.perf_counter()
    try:
        async with client:
            answer: Check = await client.check(number)
    except CheckError as error:
        return Finding("call", "warning", f"{error.status}: {error} ({_ms(began)})"), exit_code_of(error)
    except AccucheckError as error:
        return Finding("call", "failed", f"{error.status}: {error} ({_ms(began)})"), exit_code_of(error)
    verdict = "on WhatsApp" if answer.whatsapp else "not on WhatsApp"
    return Finding("call", "ok", f"{verdict}, request {answer.request_id} ({_ms(began)})"), None


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:,.0f} ms"
