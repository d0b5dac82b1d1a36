"""Validates a client's arguments: credentials, timeouts, ages, addresses. Each check raises ConfigurationError.

Credentials never show in a repr, and are sent without TLS only to this machine.
"""

from __future__ import annotations

import hashlib
import inspect
import ipaddress
import math
import os
import re
from collections.abc import AsyncIterable, Iterable, Mapping
from datetime import timedelta
from typing import Final, Literal, NoReturn, SupportsIndex, TypeAlias
from urllib.parse import urlsplit

import msgspec

from accucheck._errors import ConfigurationError
from accucheck._help import with_fields

BASE_URL: Final = "https://cloudapi.peru.accuauth.com"
"""The vendor's base URL ("1. API Specification")."""
FreshWithin: TypeAlias = timedelta | Mapping[Literal["yes", "no"], timedelta]
"""How old a known answer may be, overall or by verdict; a verdict that is left out never expires."""
_PHONE_NAME: Final = re.compile("phone|mobile|whats|tel|cel|n[uú]m|m[oó]vil", re.IGNORECASE)
"""Field names that often hold the number; used only in a message."""
_RECORDS: Final = ("__dataclass_fields__", "__struct_fields__", "__pydantic_fields__", "__attrs_attrs__")
_HIDDEN = "Credentials(api_id='•••', api_secret='•••')"


class _Headers(dict[str, str]):
    """Headers whose repr shows only their names."""

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


class Credentials:
    """An API id and secret ("2.1 Request Header" of the vendor's page).

    Hidden in repr, str and format, and therefore in logs and tracebacks that show local variables. Cannot be pickled.
    Only ``headers()`` returns them.
    """

    __slots__ = ("_values",)

    def __init__(self, api_id: str, api_secret: str) -> None:
        for name, value in (("api_id", api_id), ("api_secret", api_secret)):
            if not value.isascii() or not value.isprintable():
                # Keep the value out of the message: it may be a secret with a stray character.
                raise ConfigurationError(
                    f"{name} contains a character that an HTTP header cannot carry: copy it again"
                )
        self._values = (api_id, api_secret)

    @classmethod
    def find(
        cls, api_id: str | None, api_secret: str | None, environment: Mapping[str, str] | None = None
    ) -> Credentials:
        """Use the arguments, or else ACCUCHECK_API_ID and ACCUCHECK_API_SECRET.

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
        """Eight hexadecimal digits that replace the API id wherever it must not be stored."""
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
    """Whether a host name or address is this machine: 127.0.0.0/8, ::1, localhost and its subdomains.

    Plain http is allowed for such a host, and it is never reached through a proxy, which would see the credentials.
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


@with_fields
class Timeouts(msgspec.Struct, frozen=True):
    """Time limits of one HTTP attempt, in seconds: positive and finite.

    Raises ConfigurationError for anything else.

    Examples:
        ```python
        client = accucheck.Client(timeouts=accucheck.Timeouts(connect=2, read=10))
        ```
    """

    connect: float = 10.0
    """For name resolution, connecting and the TLS handshake together."""
    read: float = 30.0
    """The longest wait for the next byte of the reply."""
    attempt: float = 60.0
    """For the whole attempt, including connecting."""

    def __post_init__(self) -> None:
        for phase in self.__struct_fields__:
            seconds = getattr(self, phase)
            if (
                isinstance(seconds, bool)
                or not isinstance(seconds, int | float)
                or not 0 < seconds < math.inf
            ):
                raise ConfigurationError(
                    f"The {phase} timeout must be a positive, finite number of seconds, not {seconds!r}."
                )


def check_items(items: object) -> None:
    """Raise ConfigurationError unless ``items`` is an iterable of items."""
    kind = type(items)
    if isinstance(items, str | bytes):
        raise ConfigurationError(
            "items must be a collection of numbers, not one string; use check() for a single number"
        )
    if hasattr(kind, "columns") and hasattr(kind, "shape"):
        raise ConfigurationError(
            f"items is a whole {kind.__name__}: pass one of its columns, or use"
            " accucheck.frames.enrich(frame, number=...), which appends the answers to it"
        )
    if isinstance(items, Iterable | AsyncIterable):
        return
    if inspect.iscoroutine(items):
        items.close()
        raise ConfigurationError("items is a coroutine: await it first")
    if callable(items):
        raise ConfigurationError("items is a function: call it and pass what it returns")
    raise ConfigurationError(f"items must be an iterable or an async iterable, not {items!r}")


def check_number_function(number: object) -> None:
    if isinstance(number, str):
        raise ConfigurationError(f"number must be a function, such as number=lambda row: row[{number!r}]")
    if inspect.iscoroutinefunction(number) or inspect.iscoroutinefunction(getattr(number, "__call__", None)):  # noqa: B004
        raise ConfigurationError(
            "number must not be an async function: await in an async generator, and pass that as the items"
        )
    check_callables(number=number)


def check_kind(number: object, item: object) -> None:
    """Raise ConfigurationError if ``number`` has a type that cannot be a number."""
    if number is None or isinstance(number, str | int | float | bytes):
        return
    where = "the items are" if number is item else "number= returned"
    if inspect.isawaitable(number):
        if inspect.iscoroutine(number):
            number.close()
        raise ConfigurationError(
            f"{where} coroutines: await them in an async generator, and pass that instead"
        )
    if isinstance(number, Mapping):
        name = next((name for name in number if _PHONE_NAME.search(str(name))), next(iter(number), "phone"))
        raise ConfigurationError(
            f"{where} {type(number).__name__} objects: say which field holds the number, such as"
            f" number=lambda row: row[{name!r}]"
        )
    if isinstance(number, Iterable) or any(hasattr(number, mark) for mark in _RECORDS):
        raise ConfigurationError(
            f"{where} {type(number).__name__} objects, not numbers: pass number=, a function that returns the"
            " number of an item"
        )


def as_timeouts(timeout: Timeouts | float) -> Timeouts:
    """Return the time limits for each call of one check."""
    if isinstance(timeout, Timeouts):
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ConfigurationError(
            f"timeout must be a positive number of seconds, or a Timeouts such as Timeouts(read=10), not {timeout!r}"
        )
    usual = Timeouts()
    return Timeouts(
        connect=min(usual.connect, timeout), read=min(usual.read, timeout), attempt=float(timeout)
    )


def check_counts(**counts: object) -> None:
    """Raise ConfigurationError unless each is a whole number of 1 or more."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigurationError(f"{name} must be a whole number, 1 or more, not {value!r}")


def check_instance(name: str, value: object, kind: type, what: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be {what}, not {value!r}")


def check_callables(**functions: object) -> None:
    """Raise ConfigurationError unless each is a function, or None."""
    for name, value in functions.items():
        if value is not None and not callable(value):
            raise ConfigurationError(f"{name} must be a function, not {value!r}")


def check_choice(name: str, value: object, *choices: str) -> None:
    if value not in choices:
        *others, last = map(repr, choices)
        raise ConfigurationError(f"{name} must be {', '.join(others)} or {last}, not {value!r}")


def as_ages(fresh_within: FreshWithin | None, *, default: float | None) -> tuple[float | None, float | None]:
    """Return the seconds for which a "yes" and a "no" count as known."""
    if not isinstance(fresh_within, Mapping):
        age = as_seconds("fresh_within", fresh_within)
        return (default, default) if age is None else (age, age)
    if strange := set(fresh_within) - {"yes", "no"}:
        raise ConfigurationError(
            f"fresh_within can have the keys 'yes' and 'no', not {', '.join(map(repr, strange))}"
        )
    return as_seconds("fresh_within", fresh_within.get("yes")), as_seconds(
        "fresh_within", fresh_within.get("no")
    )


def as_seconds(name: str, value: object) -> float | None:
    """Return a time span in seconds; raise ConfigurationError if it is not one."""
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ConfigurationError(
            f"{name} must be a timedelta or a number of seconds, 0 or more, not {value!r}"
        )
    return float(seconds)


def as_base_url(base_url: str) -> str:
    """Return the base URL without a trailing slash, if credentials may be sent there."""
    try:
        parts = urlsplit(base_url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"base_url is not a URL: {base_url!r}") from None
    if parts.username is not None or parts.password is not None:
        # Keep the URL out of the message: it contains a password.
        raise ConfigurationError(
            "base_url must not contain a user name or password: use api_id and api_secret"
        )
    if parts.query or parts.fragment or "?" in base_url or "#" in base_url:
        raise ConfigurationError(
            "base_url must not contain a query or a fragment: remove everything from ? or #"
        )
    if not host or parts.scheme not in ("https", "http"):
        raise ConfigurationError(f"base_url must look like {BASE_URL}, not {base_url!r}")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            "base_url must be https, because calls carry your credentials (http works for localhost only),"
            f" not {base_url!r}"
        )
    return base_url.strip().rstrip("/")
