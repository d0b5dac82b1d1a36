"""The account's credentials, in a type that does not show them, and where they may go without TLS."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Mapping
from typing import NoReturn, SupportsIndex

from accucheck._errors import ConfigurationError

_HIDDEN = "Credentials(api_id='•••', api_secret='•••')"


class _Headers(dict[str, str]):
    """Shows its names only."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


class Credentials:
    """An API id and secret ("2.1 Request Header" of the vendor's page).

    Hidden in repr, str and format, and so in logs and in tracebacks that show local variables; refuses
    to be pickled. ``headers()`` is the one way out.
    """

    __slots__ = ("_values",)

    def __init__(self, api_id: str, api_secret: str) -> None:
        for name, value in (("api_id", api_id), ("api_secret", api_secret)):
            if not value.isascii() or not value.isprintable():
                # The value stays out of the message: it may be a secret with a stray character.
                raise ConfigurationError(
                    f"{name} contains a character that an HTTP header cannot carry: copy it again"
                )
        self._values = (api_id, api_secret)

    @classmethod
    def find(
        cls, api_id: str | None, api_secret: str | None, environment: Mapping[str, str] | None = None
    ) -> Credentials:
        """Take the arguments, or else ACCUCHECK_API_ID and ACCUCHECK_API_SECRET.

        Raises ConfigurationError, naming what is missing.
        """
        environment = os.environ if environment is None else environment
        found = {
            "ACCUCHECK_API_ID": (
                api_id if api_id is not None else environment.get("ACCUCHECK_API_ID", "")
            ).strip(),
            "ACCUCHECK_API_SECRET": (
                api_secret if api_secret is not None else environment.get("ACCUCHECK_API_SECRET", "")
            ).strip(),
        }
        missing = [name for name, value in found.items() if not value]
        if missing:
            raise ConfigurationError(
                f"no AccuAuth credentials found: set {' and '.join(missing)} in the environment,"
                " or pass api_id and api_secret"
            )
        return cls(*found.values())

    def headers(self) -> dict[str, str]:
        """Return the two request headers that the vendor's page requires."""
        api_id, api_secret = self._values
        return _Headers({"X-DF-API-ID": api_id, "X-DF-API-SECRET": api_secret})

    @property
    def account(self) -> str:
        """Eight hexadecimal digits that stand for the API id where it must not be stored."""
        return hashlib.sha256(self._values[0].encode()).hexdigest()[:8]

    def __repr__(self) -> str:
        return _HIDDEN

    def __format__(self, _specification: str) -> str:
        return _HIDDEN

    def __copy__(self) -> Credentials:
        return self

    def __deepcopy__(self, _memo: object) -> Credentials:
        return self

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        raise TypeError("credentials cannot be pickled: let each process read them from its own environment")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or address: 127.0.0.0/8, ::1, localhost and names below it.

    Such a host is reached in plain http if need be, and never through a proxy, which would read the credentials.
    """
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)
