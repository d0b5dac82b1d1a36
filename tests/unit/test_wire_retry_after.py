"""The Retry-After header: seconds, a date, or anything else (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from accucheck._wire import StatusReply, decode_reply, parse_retry_after

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def parse(text: str | None) -> float | None:
    return parse_retry_after(text, lambda: NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("007", 7.0),
        ("Mon, 23 Nov 2026 09:01:30 GMT", 90.0),
        ("Mon, 23 Nov 2026 09:01:30 -0000", 90.0),
        ("Mon, 23 Nov 2026 10:01:30 +0100", 90.0),
        ("Monday, 23-Nov-26 09:01:30 GMT", 90.0),
        ("Mon, 23 Nov 2026 08:59:00 GMT", 0.0),
        ("Mon, 23 Nov 1926 08:59:00 GMT", 0.0),
    ],
)
def test_seconds_and_dates_are_read(text: str, seconds: float) -> None:
    assert parse(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        " ",
        "soon",
        "-5",
        "+5",
        "1.5",
        "1e3",
        "nan",
        "inf",
        "0x10",
        "٣",
        "5, 6",
        "Mon, 99 Nov 2026 09:00:00 GMT",
        "Mon, 23 Nov 2026 99:00:00 GMT",
        "Mon, 23 Nov 99999999999999999999 09:00:00 GMT",
        "Mon, 23 Nov 2026 09:00:00 +99999999999999999999",
        "Mon, 23 Nov 2026 09:00:00 +9999",
    ],
)
def test_anything_else_is_ignored(text: str | None) -> None:
    assert parse(text) is None


def test_an_absurd_number_of_digits_is_a_finite_time() -> None:
    seconds = parse("9" * 5_000)
    assert seconds is not None
    assert math.isfinite(seconds)


DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Mon", "Monday", "?"]),
    st.integers(-1, 40),
    st.sampled_from(["Nov", "Feb", "Novem", "11"]),
    st.integers(-1, 10**30),
    st.integers(-1, 99),
    st.integers(-1, 99),
    st.integers(-1, 99),
    st.sampled_from(["GMT", "-0000", "+2400", "EST", "", "+99999", "-" + "9" * 40]),
)


@given(st.one_of(st.text(), DATES, st.integers().map(str), st.floats().map(str)))
@example("Fri, 31 Dec 9999 23:59:59 -2300")
@example("Mon, 01 Jan 0001 00:00:00 +2300")
def test_any_text_is_none_or_a_finite_wait_that_is_not_negative(text: str) -> None:
    seconds = parse(text)
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        (403, b'{"status":"RATE_LIMIT_EXCEEDED"}'),
        (400, b'{"status":"PENDING"}'),
        (500, b'{"status":"INTERNAL_ERROR"}'),
        (429, b"slow down"),
        (503, b"<html>"),
    ],
)
def test_the_header_is_kept_with_every_status_that_may_ask_to_wait(http_status: int, body: bytes) -> None:
    reply = decode_reply("987654321", http_status, body, "Mon, 23 Nov 2026 09:00:12 GMT", now=lambda: NOW)
    assert isinstance(reply, StatusReply)
    assert reply.retry_after == 12.0
