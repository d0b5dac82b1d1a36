from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck.cli._survey import Reservoir
from accucheck.report._tally import confidence_interval


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (5, 10, 0.2366, 0.7634)],
)
def test_wilson_agrees_with_published_tables(hits: int, trials: int, low: float, high: float) -> None:
    assert confidence_interval(hits, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 5000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_wilson_holds_the_share_and_stays_a_share(case: tuple[int, int]) -> None:
    hits, trials = case
    low, high = confidence_interval(hits, trials)
    assert 0 <= low <= high <= 1
    if trials:
        assert low <= hits / trials + 1e-9
        assert high >= hits / trials - 1e-9


@given(st.integers(1, 20), st.integers(0, 100), st.integers())
def test_a_reservoir_holds_distinct_places_and_no_more_than_asked(size: int, length: int, seed: int) -> None:
    reservoir: Reservoir[int] = Reservoir(size, Random(seed))
    for value in range(length):
        reservoir.offer(value)
    assert len(reservoir.chosen) == len(set(reservoir.chosen)) == min(size, length)
    assert reservoir.offered == length


def test_every_value_has_the_same_chance_to_be_in_the_sample() -> None:
    seen: Counter[int] = Counter()
    chance = Random(1)
    for _ in range(4000):
        reservoir: Reservoir[int] = Reservoir(5, chance)
        for value in range(20):
            reservoir.offer(value)
        seen.update(reservoir.chosen)
    # Each value is expected 1,000 times, with a standard deviation of 27.
    assert min(seen[value] for value in range(20)) > 880
    assert max(seen[value] for value in range(20)) < 1120
