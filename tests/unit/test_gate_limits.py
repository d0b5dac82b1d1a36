"""Which rates and bursts a caller can set."""

from __future__ import annotations

import math
from typing import Any

import pytest

from accucheck._errors import ConfigurationError
from accucheck._gate import AdaptiveGate
from tests.virtual_time import run


def first_rate(gate: AdaptiveGate) -> float:
    async def main() -> float:
        await gate.acquire()
        return gate.rate

    return run(main())


@pytest.mark.parametrize(
    ("rate", "learned", "expected"),
    [
        (50, None, 50.0),
        (0.5, None, 0.5),
        (50, 10.0, 50.0),  # a number was set, so it is used at once
        ("auto", 100.0, 90.0),
        ((1, 200), 100.0, 90.0),
        ((95, 200), 100.0, 95.0),
        ((1, 20), 100.0, 20.0),
        ((30, 30), None, 30.0),
        ([30, 30], None, 30.0),
    ],
)
def test_the_first_pace_is_the_requested_or_learned_one(
    rate: Any, learned: float | None, expected: float
) -> None:
    assert first_rate(AdaptiveGate(rate, learned=learned)) == pytest.approx(expected)


def test_without_anything_learned_auto_starts_slowly() -> None:
    assert 0 < first_rate(AdaptiveGate("auto")) <= 10


def test_a_range_without_anything_learned_begins_inside_it() -> None:
    assert 40 <= first_rate(AdaptiveGate((40, 60))) <= 60


def test_a_number_is_a_ceiling_that_the_search_never_exceeds() -> None:
    async def main() -> float:
        gate = AdaptiveGate(20.0, burst=1)
        for _ in range(2_000):
            gate.admitted(await gate.acquire())
        return gate.rate

    assert run(main()) == 20.0


NO_RATES = [
    0,
    -1,
    0.0,
    -0.0,
    -0.5,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    "50",
    "fast",
    "",
    None,
    b"5",
    1j,
]


@pytest.mark.parametrize("rate", [*NO_RATES, (), (5,), (1, 2, 3), {}, {"rate": 5}, object()])
def test_an_invalid_rate_is_refused_with_an_example(rate: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"such as 50 or 0\.5.*'auto'"):
        AdaptiveGate(rate)


@pytest.mark.parametrize("bad", NO_RATES)
def test_an_invalid_rate_is_not_an_end_of_a_range(bad: Any) -> None:
    for ends in ((bad, 10), (10, bad)):
        with pytest.raises(ConfigurationError, match="rate is calls per second above zero"):
            AdaptiveGate(ends)


def test_a_reversed_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="low below high"):
        AdaptiveGate((20, 10))


@pytest.mark.parametrize("burst", [0, -1, 1.5, 2.0, True, False, "5", math.nan, math.inf, [1]])
def test_an_invalid_burst_is_refused(burst: Any) -> None:
    with pytest.raises(ConfigurationError, match="burst must be a whole number of calls, 1 or more"):
        AdaptiveGate(50, burst)
