"""A ``Client`` made from the options of a command."""

from __future__ import annotations

import ssl
from pathlib import Path

import tenacity

from accucheck import Client, Policy, Timeouts
from accucheck._errors import ConfigurationError
from accucheck.cli._credentials import find_secret
from accucheck.cli._options import Account, Pace, Patience

__all__ = ["make_client"]


def make_client(account: Account, patience: Patience, pace: Pace, *, mobile_only: bool) -> Client:
    """Return the client that the options describe; raises ConfigurationError if they cannot work."""
    if not account.api_id:
        raise ConfigurationError("no API id: set ACCUCHECK_API_ID, or give --api-id")
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
