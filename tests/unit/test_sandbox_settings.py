"""Settings that are wrong or have no effect are refused in one sentence."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from accucheck.sandbox import Faults, Settings
from accucheck.sandbox._account import Account
from accucheck.sandbox._app import page
from accucheck.sandbox._settings import Soft, parse_outage, parse_rate_at


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rate": 0}, "rate is 0: it must be above 0"),
        ({"rate": -1}, "rate is -1"),
        ({"rate": math.nan}, "rate is nan"),
        ({"rate": math.inf}, "rate is inf"),
        ({"burst": 5}, "burst has no effect without a rate"),
        ({"window": "fixed"}, "window 'fixed' has no effect without a rate"),
        ({"window_seconds": 5}, "window_seconds has no effect without a rate"),
        ({"rate_at": ((1, 2),)}, "rate_at has no effect without a rate"),
        ({"retry_after": True}, "retry_after has no effect without a rate"),
        ({"rate": 5, "window": "leaky"}, "window is 'leaky': use token or fixed or sliding"),
        ({"rate": 5, "burst": 0}, "burst is 0: it must be at least 1"),
        ({"rate": 5, "window_seconds": 2}, "window_seconds only works with a fixed or sliding window"),
        ({"rate": 5, "window": "fixed", "burst": 3}, "burst only works with the token bucket"),
        ({"rate": 5, "window": "sliding", "window_seconds": 0}, "window_seconds is 0"),
        ({"rate": 0.5, "window": "fixed"}, "no call is ever admitted"),
        ({"rate": 5, "rate_at": ((-1, 2),)}, "rate_at seconds is -1"),
        ({"rate": 5, "rate_at": ((1, math.nan),)}, "rate_at rate is nan"),
        ({"pending": 1.1}, "pending is 1.1: it must be a share from 0 to 1"),
        ({"pending_for": -1}, "pending_for is -1"),
        ({"errors": math.nan}, "errors is nan"),
        ({"outage": (-1, 5)}, "outage start is -1"),
        ({"outage": (1, 0)}, "outage seconds is 0"),
        ({"latency": math.inf}, "latency is inf"),
        ({"quota": -1}, "quota is -1"),
        ({"expire_after": -1}, "expire_after is -1"),
        ({"endpoints": ("fancy",)}, "endpoint is 'fancy': use advanced or basic"),
        ({"api_secret": ""}, "must not be empty"),
        ({"api_id": 5}, "api_id is 5: it must be text"),
        ({"rate": "5"}, "rate is '5': it must be a number"),
        ({"pending": True}, "pending is True: it must be a number"),
        ({"pending": None}, "pending is None: it must be a number"),
        ({"latency": "x"}, "latency is 'x': it must be a number"),
        ({"quota": 1.5}, "quota is 1.5: it must be a whole number"),
        ({"rate": 5, "burst": "3"}, "burst is '3': it must be a whole number"),
        ({"seed": "x"}, "seed is 'x': it must be a whole number"),
        ({"rate": 5, "retry_after": 1}, "retry_after is 1: it must be True or False"),
        ({"soft": 0.5}, r"soft is 0.5: write it like {'checking': 0.1} or 'checking=0.1'"),
        ({"soft": "maybe=0.5"}, "soft holds 'maybe'"),
        ({"soft": {1: 0.5}}, "soft holds 1"),
        ({"soft": {"checking": "x"}}, "soft.checking is 'x': it must be a number"),
        ({"faults": 1}, r"faults is 1: write it like {'reset': 0.01} or 'reset=0.01'"),
        ({"faults": {"rest": 1}}, "there is no fault 'rest': use reset, cut"),
        ({"faults": {"reset": "1"}}, "faults.reset is '1': it must be a number"),
        ({"outage": "30"}, "outage is '30': write two numbers with a colon"),
        ({"outage": 30}, "outage has 30, which is not a pair of numbers"),
        ({"outage": ("30", "20")}, "which is not a pair of numbers"),
        ({"rate": 5, "rate_at": 30}, "rate_at is 30: write it like"),
        ({"rate": 5, "rate_at": (30, 50)}, "rate_at has 30, which is not a pair of numbers"),
        ({"endpoints": 5}, "endpoints is 5: use advanced or basic"),
        ({"request_log": 5}, "request_log is 5: it must be a path"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Settings(**settings)


def test_settings_are_also_read_from_the_command_lines_text_and_from_dicts() -> None:
    expected = Settings(
        rate=5,
        rate_at=((30.0, 50.0), (60.0, 200.0)),
        soft=Soft({"checking": 1.0}),
        faults=Faults(reset=0.5),
        outage=(30.0, 20.0),
        endpoints=("basic",),
        request_log=Path("calls"),
    )
    text: dict[str, Any] = {
        "rate_at": "30:50,60:200",
        "soft": "checking=1.0",
        "faults": "reset=0.5",
        "outage": "30:20",
        "endpoints": "basic",
        "request_log": "calls",
    }
    assert Settings(rate=5, **text) == expected
    plain: dict[str, Any] = {
        "rate_at": [[30, 50], [60, 200]],
        "soft": {"checking": 1},
        "faults": {"reset": 0.5},
        "outage": [30, 20],
        "endpoints": ["basic"],
    }
    assert Settings(rate=5, **{**text, **plain}) == expected


def test_a_limit_has_defaults() -> None:
    assert Settings(rate=5).effective_burst == 10
    assert Settings(rate=5, burst=1).effective_burst == 1
    assert Settings(rate=5, window="fixed").effective_window_seconds == 1
    assert Settings(rate=5, window="fixed", window_seconds=60).effective_window_seconds == 60


def test_settings_are_frozen_and_hide_the_secret() -> None:
    settings = Settings(api_secret="s3cr3t")
    assert "s3cr3t" not in repr(settings)
    with pytest.raises(FrozenInstanceError):
        settings.seed = 8  # type: ignore[misc]


def test_changes_of_rate_are_read_from_text() -> None:
    assert parse_rate_at("30:50,60:200") == ((30, 50), (60, 200))
    assert parse_outage("30:20.5") == (30, 20.5)


@pytest.mark.parametrize("text", ["30", "30:", "a:5", "30:50:1"])
def test_a_wrong_change_of_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="rate_at"):
        parse_rate_at(text)


def test_faults_are_read_from_the_text_that_they_are_shown_as() -> None:
    faults = Faults(reset=0.01, stall=0.25)
    assert str(faults) == "reset=0.01, stall=0.25"
    assert Faults.parse(str(faults)) == faults
    assert str(Faults()) == "none"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("explode=1", "there is no fault 'explode': use reset, cut, stall, bad_gateway"),
        ("reset", "faults needs a number"),
        ("reset=2", "faults.reset is 2.0"),
        ("reset=0.6,cut=0.6", "add up to 1.2"),
    ],
)
def test_wrong_faults_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Faults.parse(text)


def test_every_setting_that_is_given_is_on_the_page(tmp_path: Path) -> None:
    given: dict[str, object] = {
        "rate": 50.0,
        "burst": 12,
        "window": "sliding",
        "window_seconds": 2.0,
        "rate_at": ((30.0, 60.0),),
        "retry_after": True,
        "pending": 0.25,
        "pending_for": 7.0,
        "queue_rate": 20.0,
        "soft": Soft.parse("checking=0.125,SHINY_NEW=0.0625"),
        "errors": 0.03,
        "outage": (20.0, 2.0),
        "faults": Faults.parse("reset=0.07"),
        "latency": 15.0,
        "quota": 4_321,
        "expire_after": 98_765,
        "price": 0.005,
        "price_basic": 0.002,
        "invoice_timezone": "Asia/Tokyo",
        "body": "form",
        "endpoints": ("basic",),
        "seed": 99,
    }
    secrets = {"api_id": "hush", "api_secret": "hush", "request_log": tmp_path / "hush"}
    assert {setting.name for setting in fields(Settings)} == set(given) | set(secrets)
    together = {name: value for name, value in given.items() if name not in ("burst", "pending_for")}
    settings = Settings(**together, **secrets)  # type: ignore[arg-type]
    apart = Settings(rate=50, burst=12, pending=0.25, pending_for=7.0)
    shown = "".join(page(each, Account(each, 0.0).counts(0.0), [], []) for each in (settings, apart))
    for name in given:
        assert f">{name.replace('_', ' ')}</th>" in shown, name
    for value in ("checking=0.125, SHINY_NEW=0.0625", "0.005", "0.002", "form", "98765", "20:2", "30:60"):
        assert value in shown, value
    assert "hush" not in shown
