"""For each failure, whether it may have been charged."""

from __future__ import annotations

import errno
import socket
import ssl
import zlib

import httpx
import pytest

from accucheck import Timeouts
from accucheck._errors import ConfigurationError
from accucheck._http._reply import (
    MAX_BODY,
    AttemptTimeout,
    Truncated,
    UnreadableBody,
    broken,
    connect_error,
    decoded,
    lacks_descriptors,
)

FATES = [
    (httpx.ConnectTimeout(""), "connect", False),
    (httpx.ConnectError("refused"), "connect", False),
    (httpx.PoolTimeout(""), "connect", False),
    (httpx.ProxyError("407"), "connect", False),
    (httpx.UnsupportedProtocol("ftp"), "connect", False),
    (AttemptTimeout(""), "timeout", True),
    (httpx.ReadTimeout(""), "read", True),
    (httpx.ReadError(""), "read", True),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), "read", True),
    (httpx.WriteTimeout(""), "write", True),
    (httpx.WriteError(""), "write", True),
    (Truncated("x"), "truncated", True),
    (
        httpx.RemoteProtocolError("peer closed connection without sending complete message body"),
        "truncated",
        True,
    ),
    (httpx.RemoteProtocolError("illegal status line"), "protocol", True),
    (httpx.LocalProtocolError("x"), "protocol", True),
]


@pytest.mark.parametrize(("error", "phase", "sent"), FATES, ids=lambda value: repr(value)[:40])
def test_each_failure_has_a_phase_and_says_whether_it_may_have_been_charged(
    error: httpx.TransportError, phase: str, sent: bool
) -> None:
    outcome = broken(error)
    assert (outcome.phase, outcome.sent) == (phase, sent)
    assert outcome.message


def os_error(number: int, said: str = "asyncio's own words") -> OSError:
    return OSError(number, said)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (os_error(errno.ECONNREFUSED), "Connection refused (ECONNREFUSED)"),
        (os_error(errno.ENETUNREACH), "Network is unreachable (ENETUNREACH)"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (
            ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] expired"),
            "CERTIFICATE_VERIFY_FAILED",
        ),
        (OSError("one refuses; another is silent"), "one refuses; another is silent"),
    ],
)
def test_a_failed_connection_names_the_host_and_the_systems_error(error: OSError, words: str) -> None:
    failure = connect_error("vendor.test:443", error)
    assert type(failure) is httpx.ConnectError
    assert str(failure).startswith("vendor.test:443: ")
    assert words in str(failure)
    assert words in broken(failure).message


def wrapped(error: OSError) -> Exception:
    """As httpcore and httpx raise it."""
    try:
        try:
            raise error
        except OSError as cause:
            raise httpx.ConnectError("All connection attempts failed") from cause
    except httpx.ConnectError as told:
        return told


@pytest.mark.parametrize(
    ("error", "lacks"),
    [
        (connect_error("vendor.test:443", os_error(errno.EMFILE)), True),
        (connect_error("vendor.test:443", os_error(errno.ENFILE)), True),
        (wrapped(os_error(errno.EMFILE)), True),
        (wrapped(os_error(errno.ECONNREFUSED)), False),
        (connect_error("vendor.test:443", os_error(errno.ECONNREFUSED)), False),
        (httpx.ReadError("x"), False),
        (os_error(errno.EMFILE), False),  # not while connecting: something may have been sent
    ],
)
def test_a_lack_of_file_descriptors_is_distinguished_from_a_network_fault(
    error: Exception, lacks: bool
) -> None:
    assert lacks_descriptors(error) is lacks


@pytest.mark.parametrize("seconds", [0, -1, True, float("inf"), float("nan"), "10", None])
@pytest.mark.parametrize("phase", ["connect", "read", "attempt"])
def test_a_timeout_that_is_not_a_positive_finite_number_is_refused(phase: str, seconds: object) -> None:
    with pytest.raises(ConfigurationError, match=phase):
        Timeouts(**{phase: seconds})  # type: ignore[arg-type]


def squeeze(body: bytes, window_bits: int) -> bytes:
    compressor = zlib.compressobj(9, wbits=window_bits)
    return compressor.compress(body) + compressor.flush()


@pytest.mark.parametrize(
    ("body", "encodings"),
    [
        (b"hello", ""),
        (b"hello", "identity"),
        (squeeze(b"hello", 31), "gzip"),
        (squeeze(b"hello", 31), "X-GZIP"),
        (squeeze(b"hello", 15), "deflate"),
        (squeeze(b"hello", -15), "deflate"),
        (squeeze(squeeze(b"hello", 15), 31), "deflate, gzip"),
    ],
)
def test_a_body_is_decoded_as_its_encodings_say(body: bytes, encodings: str) -> None:
    assert decoded(body, encodings) == b"hello"


@pytest.mark.parametrize(
    ("body", "encodings", "why"),
    [
        (b"hello", "br", "not requested"),
        (b"hello", "gzip", "not valid gzip"),
        (b"hello", "deflate", "not valid deflate"),
        (b"", "gzip", "ends early"),
        (squeeze(b"hello" * 100, 31)[:-9], "gzip", "ends early"),
        (squeeze(bytes(MAX_BODY + 1), 31), "gzip", "larger"),
        (b"hello", "gzip, gzip, gzip", "more than twice"),
    ],
)
def test_a_body_that_cannot_be_decoded_within_the_cap_is_unreadable(
    body: bytes, encodings: str, why: str
) -> None:
    with pytest.raises(UnreadableBody, match=why):
        decoded(body, encodings)


def test_a_body_of_exactly_the_cap_is_read() -> None:
    assert decoded(squeeze(bytes(MAX_BODY), 31), "gzip") == bytes(MAX_BODY)
