"""``accucheck doctor``: what works on this machine and what does not, without a call unless requested."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import shutil
import socket
import sqlite3
import ssl
import sys
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
from rich.filesize import decimal

from accucheck._errors import AccucheckError, ConfigurationError, LedgerError
from accucheck._events import CallEnded, Event, OnEvent
from accucheck._http._dial import proxy_for
from accucheck._models import Checked
from accucheck._store import SQLiteStore, is_postgres
from accucheck.cli._account import find_id, find_secret, make_client
from accucheck.cli._console import count, folded, print_json, short_path, terminal_safe
from accucheck.cli._exit import ExitCode, Interruption, exit_code_of
from accucheck.cli._ledger import chosen_ledger
from accucheck.cli._options import (
    Account,
    Pace,
    Patience,
    Talk,
)
from accucheck.cli._run import run_to_end
from accucheck.cli._settings import FILE_NAME, user_file

_SECONDS = 10.0
_SKEW_SECONDS = 60.0
_FREE_BYTES = 200 * 1024 * 1024
_CERTIFICATE_DAYS = 14
_INDENT = 23
"""Columns before what was found."""


class Finding(NamedTuple):
    """The result of one check."""

    what: str
    state: Literal["ok", "warning", "failed"]
    found: str
    advice: str = ""


def doctor(
    *,
    call: Annotated[str | None, Parameter(metavar="NUMBER")] = None,
    json: bool = False,
    ledger: str | None = None,
    account: Account = Account(),
    patience: Patience = Patience(),
    talk: Talk = Talk(),
    interruption: Annotated[Interruption, Parameter(parse=False)],
) -> ExitCode:
    """Check what a run needs: credentials, network, clock, ledger and disk.

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
    found, advice = terminal_safe(finding.found), terminal_safe(finding.advice)
    print(folded(f"{finding.state:<8} {finding.what:<13} {found}", sys.stdout, _INDENT))
    if advice:
        print(folded(f"{'':{_INDENT}}{advice}", sys.stdout, _INDENT))


def _versions() -> Iterator[Finding]:
    named = f"accucheck {importlib.metadata.version('accucheck')}, Python {platform.python_version()}"
    yield Finding("versions", "ok", f"{named}, SQLite {sqlite3.sqlite_version}, {platform.system()}")
    try:
        import uvloop  # noqa: F401
    except ImportError:
        yield Finding(
            "uvloop", "warning", "not installed", "pip install 'accucheck[fast]' makes runs use less CPU"
        )


def _settings() -> Iterator[Finding]:
    files = [path for path in (Path.cwd() / FILE_NAME, user_file()) if path.is_file()]
    found = ", ".join(short_path(str(path)) for path in files) or "no settings file"
    yield Finding("settings", "ok", found, "accucheck config show lists what is in effect")


def _credentials(account: Account) -> Iterator[Finding]:
    try:
        api_id = find_id(account.api_id, is_terminal=lambda: False)
        find_secret(account.secret_file, account.secret_command, is_terminal=lambda: False)
    except ConfigurationError as error:
        yield Finding("credentials", "failed", str(error))
        return
    source = "ACCUCHECK_API_SECRET"
    if account.secret_file is not None:
        source = short_path(str(account.secret_file))
    elif account.secret_command is not None:
        source = "secret_command"
    where = "from ACCUCHECK_API_ID" if os.environ.get("ACCUCHECK_API_ID") == account.api_id else "as given"
    yield Finding("credentials", "ok", f"API id {api_id[:2]}… {where}, secret from {source}")


def _network(account: Account) -> Iterator[Finding]:
    parts = urlsplit(account.base_url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        proxy = proxy_for(httpx.URL(account.base_url), account.proxy)
    except (ConfigurationError, httpx.InvalidURL) as error:
        yield Finding("proxy", "failed", str(error))
        return
    try:
        context = ssl.create_default_context(cafile=None if account.ca_file is None else str(account.ca_file))
    except (OSError, ssl.SSLError) as error:
        advice = "--ca-file needs a PEM file of certificates"
        yield Finding("CA file", "failed", f"{account.ca_file}: {_in_words(error)}", advice)
        return
    if proxy is None:
        yield Finding("proxy", "ok", "none is used")
    else:
        option, environment = "--proxy, ACCUCHECK_PROXY or a settings file", "HTTPS_PROXY or ALL_PROXY"
        source = environment if account.proxy is None else option
        yield Finding("proxy", "ok", f"{proxy.url}, from {source}")  # without the password
    began = time.perf_counter()
    try:
        addresses = sorted(
            {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
        )
    except OSError as error:
        found = f"{host}: {error.strerror or error}"
        if proxy is None:
            yield Finding("DNS", "failed", found, "check --base-url and the network")
            return
        yield Finding("DNS", "ok", f"{found}; the proxy resolves it")
        yield from _answer(account, proxy, context)
        return
    yield Finding("DNS", "ok", f"{host} is {', '.join(addresses)} ({_ms(began)})")
    if proxy is None:
        began = time.perf_counter()
        try:
            with socket.create_connection((host, port), timeout=_SECONDS) as raw:
                yield Finding("TCP", "ok", f"connected to port {port} ({_ms(began)})")
                if parts.scheme == "https":
                    certificate = _certificate(raw, host, context)
                    yield certificate
                    if certificate.state == "failed":
                        return
        except OSError as error:
            if isinstance(error, ConnectionRefusedError):
                advice = "nothing is listening there: check --base-url, or set --proxy"
            else:
                advice = "a firewall may block it: ask your network administrator, or set --proxy"
            yield Finding("TCP", "failed", f"{host}:{port}: {_in_words(error)}", advice)
            return
    yield from _answer(account, proxy, context)


def _in_words(error: Exception) -> str:
    """Return what happened to a connection, in clearer words than the system's libraries if possible."""
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {_SECONDS:g} s"
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "the server answers without TLS"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _certificate(raw: socket.socket, host: str, context: ssl.SSLContext) -> Finding:
    try:
        with context.wrap_socket(raw, server_hostname=host) as wrapped:
            certificate: dict[str, Any] = wrapped.getpeercert() or {}
            version = wrapped.version()
    except ssl.SSLCertVerificationError as error:
        advice = "if a proxy or virus scanner intercepts TLS, pass its certificate with --ca-file"
        if "expired" in error.verify_message or "not yet valid" in error.verify_message:
            advice = f"is this machine's clock right? It says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return Finding("TLS", "failed", error.verify_message, advice)
    except (OSError, ssl.SSLError) as error:
        return Finding(
            "TLS",
            "failed",
            _in_words(error),
            "check that this is an https port and that nothing intercepts the connection",
        )
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


def _answer(account: Account, proxy: httpx.Proxy | None, context: ssl.SSLContext) -> Iterator[Finding]:
    """Check the server with a plain GET, which is not a call, and compare its clock."""
    parts = urlsplit(account.base_url)
    began = time.perf_counter()
    try:
        with httpx.Client(proxy=proxy, verify=context, timeout=_SECONDS, trust_env=False) as client:
            reply = client.get(f"{parts.scheme}://{parts.netloc}/", follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        advice = "check the network" if proxy is None else "check the proxy: its address, name and password"
        yield Finding("HTTP", "failed", _in_words(error), advice)
        return
    through = "" if proxy is None else " through the proxy"
    yield Finding("HTTP", "ok", f"HTTP {reply.status_code}{through} ({_ms(began)})")
    try:
        ahead = (datetime.now(UTC) - parsedate_to_datetime(reply.headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        yield Finding("clock", "ok", "not compared: the server did not send the time")
        return
    if abs(ahead) > _SKEW_SECONDS:
        side = "ahead of" if ahead > 0 else "behind"
        advice = "set this machine's clock: statements and --fresh-within depend on it"
        yield Finding("clock", "warning", f"{abs(ahead):,.0f} s {side} the server's", advice)
    else:
        yield Finding("clock", "ok", "agrees with the server's")


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
        f"{decimal(free)} free",
        "" if free >= _FREE_BYTES else "free some space: a run stops when the disk is full",
    )
    yield _locks(folder)


def _locks(folder: Path) -> Finding:
    """Create a ledger in the folder, and delete it again."""

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
        advice = "use a local folder that you may write to: --ledger PATH"
        return Finding("locks", "failed", f"no ledger can be kept in {folder}: {error}", advice)
    return Finding("locks", "ok", "a ledger can be written and locked there")


async def _call(number: str, account: Account, patience: Patience) -> tuple[Finding, ExitCode | None]:
    calls: list[CallEnded] = []
    client = make_client(account, patience, Pace(), mobile_only=False)
    began = time.perf_counter()
    code: ExitCode | None = None
    state: Literal["ok", "warning", "failed"] = "ok"
    try:
        async with client, client.stream([number], keep_going=True, on_event=_keep(calls)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, Checked):
                    verdict = "on WhatsApp" if outcome.check.whatsapp else "not on WhatsApp"
                    found = f"{verdict}, request {outcome.check.request_id or 'without an id'}"
                else:
                    state, found = "warning", f"{outcome.error.status}: {outcome.error}"
                    code = exit_code_of(outcome.error)
    except AccucheckError as error:
        state, found, code = "failed", f"{error.status}: {error}", exit_code_of(error)
    replies = ", ".join(f"{call.reply} in {call.seconds * 1000:,.0f} ms" for call in calls[:_CALLS_SHOWN])
    more = "" if len(calls) <= _CALLS_SHOWN else ", …"
    detail = "no call was made"
    if calls:
        made = count(len(calls), "call")
        detail = f"{made} ({replies}{more}), body sent as {client._host.body.style}, {_ms(began)} in total"
    return Finding("call", state, found, detail), code


_CALLS_SHOWN = 5


def _keep(calls: list[CallEnded]) -> OnEvent:
    def keep(event: Event) -> None:
        if isinstance(event, CallEnded):
            calls.append(event)

    return keep


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:,.0f} ms"
