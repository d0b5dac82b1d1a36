"""Credentials appear nowhere but in the request headers."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import traceback
from typing import Any

import msgspec
import pytest

from accucheck._arguments import Credentials
from accucheck._errors import ConfigurationError

ID, SECRET = "id-0123456789", "hush-9876543210"


@pytest.fixture
def credentials() -> Credentials:
    return Credentials(ID, SECRET)


def hides(text: str) -> bool:
    return ID not in text and SECRET not in text


def test_the_headers_are_the_vendors(credentials: Credentials) -> None:
    assert credentials.headers() == {"X-DF-API-ID": ID, "X-DF-API-SECRET": SECRET}


def test_no_way_of_printing_shows_them(credentials: Credentials) -> None:
    shown = [
        repr(credentials),
        str(credentials),
        f"{credentials}",
        f"{credentials!r:>80}",
        f"{credentials:>80}",
        "%s %r" % (credentials, credentials),  # noqa: UP031
        "{0} {0!s}".format(credentials),  # noqa: UP032
        repr([credentials, {"c": credentials}]),
        pprint.pformat({"c": credentials}),
        ascii(credentials),
    ]
    assert all(map(hides, shown))
    assert all("•••" in text or "\\u2022" in text for text in shown)


def test_no_log_record_shows_them(credentials: Credentials, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("accucheck").debug("using %s and %r", credentials, credentials)
    assert hides(caplog.text)
    assert "•••" in caplog.text


def test_no_traceback_with_local_variables_shows_them(credentials: Credentials) -> None:
    def fail(inner: Credentials) -> None:
        raise ValueError(f"trouble with {inner}")

    with pytest.raises(ValueError) as caught:
        fail(credentials)
    shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    text = "".join(shown)
    assert "inner = Credentials" in text
    assert hides(text.replace(f"ID = {ID!r}", ""))


def test_they_have_no_attributes_to_dump(credentials: Credentials) -> None:
    with pytest.raises(TypeError):
        vars(credentials)
    with pytest.raises(AttributeError):
        credentials.other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_they_refuse_to_be_pickled_and_say_what_to_do(credentials: Credentials, protocol: int) -> None:
    with pytest.raises(TypeError, match="let each process read them from its own environment") as caught:
        pickle.dumps({"client": credentials}, protocol)
    assert hides(str(caught.value))


def test_they_refuse_to_be_written_as_json(credentials: Credentials) -> None:
    for write in (json.dumps, msgspec.json.encode, msgspec.to_builtins):
        with pytest.raises(TypeError) as caught:
            write(credentials)
        assert hides(str(caught.value))


def test_a_copy_is_the_same_object_since_nothing_can_change(credentials: Credentials) -> None:
    assert copy.copy(credentials) is credentials
    assert copy.deepcopy([credentials])[0] is credentials


# Finding them

BOTH = {"ACCUCHECK_API_ID": "env-id", "ACCUCHECK_API_SECRET": "env-secret"}


@pytest.mark.parametrize(
    ("api_id", "api_secret", "environment", "found"),
    [
        ("a", "b", {}, ("a", "b")),
        ("a", "b", BOTH, ("a", "b")),
        (None, None, BOTH, ("env-id", "env-secret")),
        ("a", None, BOTH, ("a", "env-secret")),
        (None, "b", BOTH, ("env-id", "b")),
        (" a\n", "\tb ", {}, ("a", "b")),
        (None, None, {name: f" {value}\n" for name, value in BOTH.items()}, ("env-id", "env-secret")),
    ],
)
def test_arguments_come_before_the_environment_and_stray_space_is_cut(
    api_id: str | None, api_secret: str | None, environment: dict[str, str], found: tuple[str, str]
) -> None:
    assert tuple(Credentials.find(api_id, api_secret, environment).headers().values()) == found


def test_the_processs_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BOTH.items():
        monkeypatch.setenv(name, value)
    assert list(Credentials.find(None, None).headers().values()) == ["env-id", "env-secret"]


@pytest.mark.parametrize(
    ("api_id", "api_secret", "missing"),
    [
        (None, None, "set ACCUCHECK_API_ID and ACCUCHECK_API_SECRET in"),
        ("a", None, "set ACCUCHECK_API_SECRET in"),
        (None, "b", "set ACCUCHECK_API_ID in"),
        ("", "b", "set ACCUCHECK_API_ID in"),
        ("a", " \n", "set ACCUCHECK_API_SECRET in"),
    ],
)
def test_only_missing_credentials_are_named(api_id: str | None, api_secret: str | None, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        Credentials.find(api_id, api_secret, {})


def test_an_empty_argument_does_not_fall_back_to_the_environment() -> None:
    with pytest.raises(ConfigurationError, match="ACCUCHECK_API_ID"):
        Credentials.find("", None, BOTH)


@pytest.mark.parametrize(
    "bad", ["contraseña", "two\nlines", "a\r\nX-Evil: 1", "nul\x00", "tab\there", "•••", "\x7f"]
)
@pytest.mark.parametrize("place", ["api_id", "api_secret"])
def test_a_value_that_no_header_can_carry_is_refused_without_being_shown(bad: str, place: str) -> None:
    values: dict[str, Any] = {"api_id": "good-id", "api_secret": "good-secret"} | {place: bad}
    with pytest.raises(ConfigurationError, match=f"{place} contains a character") as caught:
        Credentials(**values)
    for text in (str(caught.value), repr(caught.value)):
        assert bad not in text
        assert "good-" not in text
