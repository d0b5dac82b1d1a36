"""From the options of a command to a ``Client``: where the credentials come from, and what is checked first.

The secret is never read from the command line, which every user of the machine can see in the process list.
"""

from __future__ import annotations

import getpass
import os
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import tenacity

from accucheck import Client, Policy, Timeouts
from accucheck._errors import ConfigurationError
from accucheck.cli._options import Account, Pace, Patience

__all__ = ["find_secret", "make_client"]


def find_secret(
    secret_file: Path | None,
    *,
    environment: Mapping[str, str] = os.environ,
    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty() and sys.stderr.isatty(),
    ask: Callable[[str], str] = getpass.getpass,
) -> str:
    """Return the API secret: from ``secret_file``, ``ACCUCHECK_API_SECRET`` or a prompt.

    Raises ConfigurationError if the file cannot be read or is empty, or if there is no terminal for a prompt.
    """
    if secret_file is not None:
        try:
            secret = secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the secret from {secret_file}: {_cause(error)}") from error
        if not secret:
            raise ConfigurationError(
                f"{secret_file} is empty; it must contain the API secret and nothing else"
            )
        return secret
    secret = environment.get("ACCUCHECK_API_SECRET", "").strip()
    if secret:
        return secret
    if is_terminal():
        secret = ask("AccuAuth API secret: ").strip()
        if secret:
            return secret
    raise ConfigurationError("no API secret: set ACCUCHECK_API_SECRET, or add --secret-file FILE")


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not text"


def make_client(account: Account, patience: Patience, pace: Pace, *, mobile_only: bool) -> Client:
    """Return the client that the options describe. Raises ConfigurationError if they are wrong."""
    if not account.api_id:
        raise ConfigurationError("no API id: set ACCUCHECK_API_ID, or add --api-id")
    return Client(
        account.api_id,
        find_secret(account.secret_file),
        base_url=account.base_url,
        endpoint=account.endpoint,
        body=account.body,
        timeouts=Timeouts(
            connect=patience.connect_timeout, read=patience.read_timeout, attempt=patience.attempt_timeout
        ),
        proxy=account.proxy,
        verify=_trust(account.ca_file),
        policy=Policy(
            retry_stop=tenacity.stop_after_attempt(patience.tries),
            poll_stop=tenacity.stop_after_delay(patience.poll_deadline),
            refusal_stop=tenacity.stop_after_delay(patience.refusal_deadline),
            on_lost_answer=patience.on_lost_answer,
        ),
        rate=pace.rate,
        burst=pace.burst,
        mobile_only=mobile_only,
    )


def _trust(ca_file: Path | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"cannot read certificates from {ca_file}: {error.strerror or error}"
        ) from error
