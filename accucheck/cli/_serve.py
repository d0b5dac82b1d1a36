"""``accucheck serve``: AccuAuth's API over HTTP, with the ledger, the rate limit and the retries behind it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from accucheck._errors import ConfigurationError
from accucheck.cli._account import find_id, make_client
from accucheck.cli._console import say
from accucheck.cli._exit import ExitCode, Interrupted
from accucheck.cli._ledger import chosen_ledger
from accucheck.cli._options import (
    Account,
    Pace,
    Patience,
    Talk,
)
from accucheck.serve import make_app, run

_SERVER = Group("Server", sort_key=1)


def serve(
    *,
    host: Annotated[str, Parameter(group=_SERVER)] = "127.0.0.1",
    port: Annotated[int, Parameter(group=_SERVER)] = 8765,
    certificate: Annotated[Path | None, Parameter(group=_SERVER)] = None,
    private_key: Annotated[Path | None, Parameter(group=_SERVER)] = None,
    queue: Annotated[int, Parameter(group=_SERVER)] = 1_000,
    wait: Annotated[float, Parameter(group=_SERVER)] = 25.0,
    ledger: Annotated[str | None, Parameter(group=_SERVER)] = None,
    mobile_only: Annotated[bool, Parameter(group=_SERVER)] = False,
    account: Account = Account(),
    pace: Pace = Pace(),
    patience: Patience = Patience(),
    talk: Talk = Talk(),
) -> ExitCode:
    """Run the command.

    Parameters
    ----------
    host
        Address to listen on. 127.0.0.1 is not reachable from other machines.
    port
        Port to listen on; 0 picks a free one.
    certificate
        PEM file with the certificate, for https.
    private_key
        PEM file with the private key of the certificate.
    queue
        Maximum checks in progress or waiting; beyond that, callers get 429 with Retry-After.
    wait
        Seconds before a caller gets PENDING. The check continues; sending the same request again returns its answer.
    ledger
        Where answers are kept: a file, postgresql://… or none. Default: your account's own ledger.
    mobile_only
        Reject landlines without making a call.
    """
    key = (os.environ.get("ACCUCHECK_SERVE_API_ID", ""), os.environ.get("ACCUCHECK_SERVE_API_SECRET", ""))
    if not all(key):
        raise ConfigurationError(
            "callers need a key: set ACCUCHECK_SERVE_API_ID and ACCUCHECK_SERVE_API_SECRET to values of your choice;"
            " never give them your AccuAuth secret"
        )
    if key[1] == os.environ.get("ACCUCHECK_API_SECRET"):
        raise ConfigurationError(
            "callers would get your AccuAuth secret: set ACCUCHECK_SERVE_API_SECRET to a different value"
        )
    if not 0 <= port <= 65_535:
        raise ConfigurationError(f"--port is a number from 0 to 65535, not {port}")
    if (certificate is None) != (private_key is None):
        raise ConfigurationError("https needs both --certificate and --private-key")
    if pace.max_calls is not None and pace.max_calls.more:
        raise ConfigurationError(
            "--max-calls +N only works with bulk; use a plain number of calls with serve"
        )
    cap = None if pace.max_calls is None else pace.max_calls.amount
    account = replace(account, api_id=find_id(account.api_id))
    place = chosen_ledger(ledger, account.api_id, account.base_url)
    app = make_app(
        lambda: make_client(account, patience, pace, mobile_only=mobile_only, ledger=place, max_calls=cap),
        key=key,
        endpoint=account.endpoint,
        queue=queue,
        wait=wait,
    )
    if certificate is None and not _is_loopback(host) and not talk.quiet:
        say(
            "keys and numbers travel unencrypted",
            hint="put a proxy with TLS in front, or give --certificate and --private-key",
        )
    try:
        # uvicorn raises the signal that stopped it once more when all is settled.
        with suppress(Interrupted):
            run(
                app,
                host=host,
                port=port,
                certificate=None if certificate is None else str(certificate),
                private_key=None if private_key is None else str(private_key),
                announce=lambda line: None if talk.quiet else print(line, file=sys.stderr, flush=True),
            )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free port"
        ) from error
    # Not the exit code of a signal, which a service manager would treat as a failure.
    if not talk.quiet:
        say("stopped; every call in progress has finished")
    return ExitCode.ALL_ANSWERED


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
