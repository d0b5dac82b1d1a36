"""Where the credentials come from: never the secret from the command line, which every process list shows."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from accucheck._errors import ConfigurationError

__all__ = ["find_secret"]


def find_secret(
    secret_file: Path | None,
    *,
    environment: Mapping[str, str] = os.environ,
    is_terminal: Callable[[], bool] = lambda: sys.stdin.isatty() and sys.stderr.isatty(),
    ask: Callable[[str], str] = getpass.getpass,
) -> str:
    """Return the API secret: from ``secret_file``, else ``ACCUCHECK_API_SECRET``, else by asking a person.

    Raises ConfigurationError if the file cannot be read or is empty, or if there is nobody to ask.
    """
    if secret_file is not None:
        try:
            secret = secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read the secret from {secret_file}: {_cause(error)}") from error
        if not secret:
            raise ConfigurationError(
                f"{secret_file} is empty; it should hold the API secret and nothing else"
            )
        return secret
    secret = environment.get("ACCUCHECK_API_SECRET", "").strip()
    if secret:
        return secret
    if is_terminal():
        secret = ask("AccuAuth API secret: ").strip()
        if secret:
            return secret
    raise ConfigurationError(
        "no API secret: set ACCUCHECK_API_SECRET, or name a file that holds it with --secret-file"
    )


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not text"
