from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck import ConfigurationError
from accucheck._schedule import Hours, RatePlan
from accucheck.cli._options import Pace, read_duration, read_rate


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("15min", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("30d", timedelta(days=30)),
        ("2w", timedelta(weeks=2)),
        ("0", timedelta(0)),
        ("1.5 H", timedelta(minutes=90)),
    ],
)
def test_durations_are_read_as_people_write_them(text: str, length: timedelta) -> None:
    assert read_duration(text) == length


@pytest.mark.parametrize("text", ["", "30", "d", "-3d", "3 months", "1e3s", "3dd"])
def test_anything_else_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="write 90s, 15m, 12h, 30d or 2w"):
        read_duration(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("auto", "auto"),
        ("AUTO", "auto"),
        ("50", 50.0),
        ("0.5", 0.5),
        ("5:200", (5.0, 200.0)),
        ("5:5", (5.0, 5.0)),
        ("50/s,10000/D", "50/s,10000/d"),
        (" 2000/h ", "2000/h"),
    ],
)
def test_rates_are_read(text: str, rate: object) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "nan", "inf", "200:5", "5:", ":5", "1:2:3", "fast", "50/x", "50/s,60/s"]
)
def test_anything_else_is_not_a_rate(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a rate|^rate "):
        read_rate(text)


@pytest.mark.parametrize(
    ("rate", "hours", "expected"),
    [
        (50.0, None, 50.0),
        ((5.0, 200.0), None, (5.0, 200.0)),
        (0.5, "08:00-20:00", "0.5/s,08:00-20:00"),
        ((5.0, 200.0), "08:00-20:00 UTC", "5.0:200.0,08:00-20:00 UTC"),
        ("auto", "08:00-20:00", "auto,08:00-20:00"),
        ("50/s,10000/d", "08:00-20:00", "50/s,10000/d,08:00-20:00"),
    ],
)
def test_rate_and_hours_become_one_text_that_the_library_reads(
    rate: Any, hours: str | None, expected: object
) -> None:
    given_rate = Pace(rate=rate, hours=hours).rate_with_hours
    assert given_rate == expected
    plan = RatePlan.read(given_rate)
    assert plan[:4] == RatePlan.read(rate)[:4]
    assert plan.hours == (None if hours is None else Hours.read(hours))


@pytest.mark.parametrize("hours", ["8-20", "always", "50/s"])
def test_invalid_hours_are_reported(hours: str) -> None:
    with pytest.raises(ConfigurationError, match="hours must be two times of day"):
        _ = Pace(hours=hours).rate_with_hours


@given(st.text(max_size=12))
def test_any_text_is_read_or_raises_value_error(text: str) -> None:
    for read in (read_duration, read_rate):
        with suppress(ValueError):
            assert read(text) is not None
