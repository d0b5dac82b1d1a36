"""Creates a ``Client`` from a command's options: finds the credentials and checks them first.

The secret is never read from the command line, which every user of the machine can see in the process list.
"""

from __future__ import annotations

import codecs
import getpass
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import tenacity

from accucheck import Client, Policy, Timeouts
from accucheck._errors import ConfigurationError
from accucheck.cli._console import say
from accucheck.cli._options import Account, Pace, Patience

SECRET_COMMAND_SECONDS = 60.0
"""Seconds that a secret command may take, since some ask for a fingerprint or a passphrase."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""The byte order marks that PowerShell and Notepad write."""


def make_client(
    account: Account,
    patience: Patience,
    pace: Pace,
    *,
    mobile_only: bool,
    ledger: str | None = None,
    max_calls: int | None = None,
) -> Client:
    """Return the client that the options describe. Raises ConfigurationError if they are wrong."""
    if "://" not in account.base_url:
        raise ConfigurationError(f"--base-url needs http:// or https:// in front, not {account.base_url!r}")
    return Client(
        find_id(account.api_id),
        find_secret(account.secret_file, account.secret_command),
        base_url=account.base_url,
        endpoint=account.endpoint,
        body=account.body,
        timeouts=Timeouts(
            connect=patience.connect_timeout, read=patience.read_timeout, attempt=patience.attempt_timeout
        ),
        proxy=account.proxy,
        verify=account.ca_file or True,
        policy=Policy(
            retry_stop=tenacity.stop_after_attempt(patience.tries),
            poll_stop=(
                None if patience.poll_deadline is None else tenacity.stop_after_delay(patience.poll_deadline)
            ),
            refusal_stop=tenacity.stop_after_delay(patience.refusal_deadline),
            on_lost_answer=patience.on_lost_answer,
        ),
        rate=pace.rate_with_hours,
        burst=pace.burst,
        mobile_only=mobile_only,
        ledger=ledger,
        max_calls=max_calls,
    )


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def find_id(
    api_id: str | None, *, is_terminal: Callable[[], bool] = _at_terminal, ask: Callable[[str], str] = _ask
) -> str:
    """Return the API id: ``api_id``, or a prompt. Raises ConfigurationError if there is neither."""
    found = (api_id or "").strip()
    if not found and is_terminal():
        found = ask("AccuAuth API id: ").strip()
    if not found:
        raise ConfigurationError("no API id: set ACCUCHECK_API_ID, or add --api-id")
    return found


def find_secret(
    secret_file: Path | None,
    secret_command: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    is_terminal: Callable[[], bool] = _at_terminal,
    ask: Callable[[str], str] = getpass.getpass,
) -> str:
    """Return the API secret: from a file, a command, ``ACCUCHECK_API_SECRET`` or a prompt, in this order.

    Raises ConfigurationError if the file or command yields none, or if there is no terminal for a prompt.
    """
    if secret_file is not None:
        return read_secret_file(secret_file)
    if secret_command is not None:
        return _run_secret_command(secret_command)
    secret = environment.get("ACCUCHECK_API_SECRET", "").strip()
    if not secret and is_terminal():
        secret = ask("AccuAuth API secret: ").strip()
    if not secret:
        raise ConfigurationError("no API secret: set ACCUCHECK_API_SECRET, or add --secret-file FILE")
    return secret


def read_secret_file(path: Path) -> str:
    """Return the secret in a file, and warn if other users of the machine can read it."""
    try:
        content = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"cannot read the secret from {path}: {error.strerror}") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    try:
        secret = content.decode(encoding).strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"cannot read the secret from {path}: it is not a text file") from None
    if not secret:
        raise ConfigurationError(f"{path} is empty; it must contain only the API secret")
    if os.name == "posix" and stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        say(f"other users of this machine can read the API secret in {path}", hint=f"chmod 600 {path}")
    return secret


def _run_secret_command(command: str) -> str:
    """Return what ``command`` prints. Messages never contain its output, which may be the secret."""
    try:
        words = shlex.split(command)
        done = subprocess.run(  # noqa: S603 the user's own command, from their command line or settings
            words, stdout=subprocess.PIPE, timeout=SECRET_COMMAND_SECONDS, check=False
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"cannot run the secret command {command!r}: {reason}") from error
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"the secret command {command!r} did not finish within {SECRET_COMMAND_SECONDS:.0f} s"
        ) from None
    if done.returncode:
        raise ConfigurationError(f"the secret command {command!r} failed with exit code {done.returncode}")
    secret = done.stdout.decode("utf-8", "replace").strip()
    if not secret:
        raise ConfigurationError(f"the secret command {command!r} printed nothing")
    return secret
