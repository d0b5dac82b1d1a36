"""The poll schedule against simulated vendors, in virtual time."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck._polls import LaterPolls, PollTimes

TimeToAnswer = Callable[[random.Random, float], float]
"""Draws how long the vendor takes for a number asked at a moment."""


@dataclass
class Polled:
    """One number: when it was first asked, its polls, and how late its answer was fetched."""

    asked_at: float
    polls: int
    late: float


def poll(
    vendor: TimeToAnswer, *, numbers: int = 3000, per_second: float = 30.0, seed: int = 0
) -> list[Polled]:
    """Ask for numbers that all become PENDING, and poll them as ``PollTimes`` says."""
    chance = random.Random(seed)
    schedule = PollTimes()
    due = [(number / per_second + 0.05, number, 0.05, 0) for number in range(numbers)]
    answer_after = [vendor(chance, number / per_second) for number in range(numbers)]
    heapq.heapify(due)
    done: list[Polled] = []
    still_pending_at = [0.0] * numbers
    while due:
        now, number, pending_for, polls = heapq.heappop(due)
        if pending_for >= answer_after[number]:
            schedule.answered(pending_for, still_pending_at[number])
            done.append(Polled(number / per_second, polls, pending_for - answer_after[number]))
            continue
        still_pending_at[number] = pending_for
        wait = schedule.next_wait(pending_for, polls, chance.random())
        heapq.heappush(due, (now + wait, number, pending_for + wait, polls + 1))
    return done


def mean_polls(numbers: list[Polled]) -> float:
    return sum(number.polls for number in numbers) / len(numbers)


def mean_late(numbers: list[Polled]) -> float:
    return sum(number.late for number in numbers) / len(numbers)


def after(seconds: float, numbers: list[Polled]) -> list[Polled]:
    return [number for number in numbers if number.asked_at >= seconds]


def five_seconds(chance: random.Random, asked_at: float) -> float:
    return 5.0


def about_five_seconds(chance: random.Random, asked_at: float) -> float:
    return chance.uniform(4.5, 5.5)


def five_seconds_on_average(chance: random.Random, asked_at: float) -> float:
    return chance.expovariate(1 / 5)


def one_second_or_twenty(chance: random.Random, asked_at: float) -> float:
    return 1.0 if chance.random() < 0.7 else 20.0


@pytest.mark.parametrize(
    ("vendor", "most_polls", "latest"),
    [
        (five_seconds, 1.2, 1.5),
        (about_five_seconds, 1.2, 1.5),
        (five_seconds_on_average, 1.4, 12.0),
        (one_second_or_twenty, 1.6, 25.0),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_learned_schedule_spends_little_over_one_poll_on_a_number(
    vendor: TimeToAnswer, most_polls: float, latest: float, seed: int
) -> None:
    numbers = after(30.0, poll(vendor, seed=seed))
    assert mean_polls(numbers) <= most_polls
    assert mean_late(numbers) <= latest


def test_a_whole_run_against_a_five_second_vendor_stays_under_the_target() -> None:
    assert mean_polls(poll(five_seconds, numbers=1800)) <= 1.6


def test_a_vendor_that_becomes_faster_is_noticed() -> None:
    numbers = poll(lambda chance, asked_at: 5.0 if asked_at < 40 else 1.0, numbers=3600)
    assert mean_late(after(100.0, numbers)) <= 0.8
    assert mean_polls(after(100.0, numbers)) <= 1.3


def test_a_vendor_that_becomes_slower_is_noticed() -> None:
    numbers = poll(lambda chance, asked_at: 2.0 if asked_at < 40 else 20.0, numbers=3600)
    assert mean_polls(after(90.0, numbers)) <= 1.3
    assert mean_late(after(90.0, numbers)) <= 5.0


def test_before_anything_is_learned_the_waits_grow_from_two_seconds_to_thirty() -> None:
    schedule = PollTimes()
    waits = [schedule.next_wait(1.0, polls, 0.0) for polls in range(9)]
    assert waits == pytest.approx([2.0, 3.2, 5.12, 8.192, 13.1072, 20.97152, 30.0, 30.0, 30.0])


def test_waits_are_spread_by_chance() -> None:
    schedule = PollTimes()
    waits = [schedule.next_wait(1.0, 0, chance / 10) for chance in range(10)]
    assert waits == sorted(set(waits))
    assert max(waits) <= 2.0 * 1.1


def test_one_number_in_eight_is_polled_early_to_see_whether_answers_come_sooner() -> None:
    schedule = PollTimes()
    for _ in range(50):
        schedule.answered(5.0, 4.8)
    chances = [number / 800 for number in range(800)]
    planned = schedule.next_wait(0.0, 1, 0.0)
    assert sum(schedule.next_wait(0.0, 0, chance) < planned for chance in chances) == 100
    assert sum(schedule.next_wait(0.0, 1, chance) < planned for chance in chances) == 0


def test_a_number_that_outlasts_all_known_answers_is_polled_as_if_nothing_were_known() -> None:
    schedule = PollTimes()
    for _ in range(200):
        schedule.answered(1.0, 0.9)
    assert schedule.next_wait(40.0, 3, 0.0) == pytest.approx(2.0 * 1.6**3)


def test_an_answer_found_without_knowing_the_last_pending_counts_as_late_as_it_was_found() -> None:
    schedule = PollTimes()
    for _ in range(20):
        schedule.answered(5.0)
    assert 5.0 <= schedule.next_wait(0.0, 0, 0.5) <= 5.0 * 1.1 * 1.1


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, -math.inf])
def test_impossible_times_teach_nothing(seconds: float) -> None:
    schedule = PollTimes()
    for _ in range(20):
        schedule.answered(seconds)
    assert schedule.next_wait(1.0, 0, 0.0) == 2.0


@given(
    answers=st.lists(
        st.tuples(
            st.floats(allow_nan=True, allow_infinity=True), st.none() | st.floats(min_value=-1, max_value=1e4)
        ),
        max_size=40,
    ),
    pending_for=st.floats(min_value=-10.0, max_value=1e6),
    polls=st.integers(min_value=0, max_value=10_000),
    chance=st.floats(min_value=0.0, max_value=1.0, exclude_max=True),
)
def test_a_wait_is_always_positive_and_never_absurd(
    answers: list[tuple[float, float | None]], pending_for: float, polls: int, chance: float
) -> None:
    schedule = PollTimes()
    for seconds, still_pending_at in answers:
        schedule.answered(seconds, still_pending_at)
    assert 0.1 <= schedule.next_wait(pending_for, polls, chance) <= 800.0


# pending="later": minutes and hours


@dataclass
class Collected:
    """How a list was collected: polls and lateness per pending number, the end, and the shortest time between asks."""

    polls: float
    late: float
    end: float
    shortest: float
    looks: float


def collect(vendor: TimeToAnswer, *, numbers: int, per_second: float = 50.0, seed: int = 0) -> Collected:
    """Ask for numbers that all become PENDING, and collect them as ``LaterPolls`` says."""
    chance = random.Random(seed)
    schedule = LaterPolls()
    asked_at = [number / per_second for number in range(numbers)]
    answer_after = [vendor(chance, at) for at in asked_at]
    asked: list[float | None] = [None] * numbers
    place, polls = [0] * numbers, [0] * numbers
    late = end = 0.0
    shortest, looks = math.inf, 0
    due = [(at + 0.3, number) for number, at in enumerate(asked_at)]
    while due:
        now, number = heapq.heappop(due)
        age = now - asked_at[number]
        last = asked[number]
        if last is None:
            place[number] = schedule.enlist(age)
            last = asked[number] = age
        looks += 1
        wait = schedule.next_look(place[number], last, age, polls[number])
        if wait == 0:
            polls[number] += 1
            shortest = min(shortest, age - last)
            if age >= answer_after[number]:
                schedule.ended(place[number], age)
                late += age - answer_after[number]
                end = max(end, now)
                continue
            schedule.still_pending(place[number], age)
            last = asked[number] = age
            wait = schedule.next_look(place[number], last, age, polls[number])
        heapq.heappush(due, (now + wait, number))
    return Collected(sum(polls) / numbers, late / numbers, end, shortest, looks / numbers)


def one_to_sixty_minutes(chance: random.Random, asked_at: float) -> float:
    return chance.uniform(60.0, 3_600.0)


def a_queue(served_per_second: float) -> TimeToAnswer:
    """A queue that is filled at 50/s: the wait grows with its length."""
    return lambda chance, asked_at: max(2.0, (asked_at * 50.0 + 1) / served_per_second - asked_at)


@pytest.mark.parametrize(
    ("vendor", "most_polls", "latest"),
    [
        (five_seconds, 1.0, 30.0),
        (five_seconds_on_average, 1.1, 30.0),
        (one_second_or_twenty, 1.1, 30.0),
        (one_to_sixty_minutes, 1.6, 2_000.0),
        (lambda chance, asked_at: chance.uniform(300.0, 900.0), 1.6, 700.0),
        (lambda chance, asked_at: min(60.0 * chance.lognormvariate(1, 1), 7_200.0), 1.6, 600.0),
        (lambda chance, asked_at: 3_600.0, 1.6, 300.0),
        (a_queue(20.0), 1.3, 60.0),
        (a_queue(5.0), 1.4, 150.0),
        (a_queue(1.0), 1.5, 700.0),
    ],
)
@pytest.mark.parametrize("numbers", [300, 3_000])
def test_a_list_with_slow_answers_needs_little_over_one_poll_per_number(
    vendor: TimeToAnswer, most_polls: float, latest: float, numbers: int
) -> None:
    collected = collect(vendor, numbers=numbers)
    assert collected.polls <= most_polls
    assert collected.late <= latest
    assert collected.looks <= 60


@pytest.mark.parametrize("numbers", [1, 2, 17, 30])
@pytest.mark.parametrize("vendor", [five_seconds, one_to_sixty_minutes, a_queue(1.0)])
def test_a_short_list_is_collected_too(vendor: TimeToAnswer, numbers: int) -> None:
    collected = collect(vendor, numbers=numbers)
    assert collected.polls <= 10 if numbers <= 2 else collected.polls <= 2.5
    assert collected.end <= 8_000


@pytest.mark.parametrize("vendor", [five_seconds, one_to_sixty_minutes, a_queue(5.0), one_second_or_twenty])
def test_no_number_is_asked_twice_within_twenty_seconds(vendor: TimeToAnswer) -> None:
    assert collect(vendor, numbers=500).shortest >= 20.0 - 1e-6


def test_the_floor_is_a_setting() -> None:
    schedule = LaterPolls(floor=90.0)
    place = schedule.enlist(0.5)
    assert schedule.next_look(place, 0.5, 0.5, 0) == 90.0
    assert schedule.next_look(place, 0.5, 90.0, 0) > 0
    assert schedule.next_look(place, 0.5, 90.5, 0) == 0.0


def test_a_number_whose_scouts_never_finish_is_polled_once_an_hour() -> None:
    schedule = LaterPolls()
    schedule.enlist(0.0)
    place = schedule.enlist(0.0)
    assert schedule.next_look(place, 0.0, 3_599.0, 0) > 0
    assert schedule.next_look(place, 0.0, 3_600.0, 0) == 0.0


@given(
    st.lists(st.tuples(st.integers(0, 99), st.floats(0, 1e5), st.booleans()), max_size=60),
    st.integers(0, 99),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
    st.integers(0, 1_000),
)
def test_the_next_look_is_never_in_the_past_and_never_far_away(
    heard: list[tuple[int, float, bool]], place: int, asked: float, passed: float, polls: int
) -> None:
    schedule = LaterPolls()
    for _ in range(100):
        schedule.enlist(0.5)
    for other, age, ended in heard:
        (schedule.ended if ended else schedule.still_pending)(other, age)
    wait = schedule.next_look(place, asked, asked + passed, polls)
    assert 0 <= wait <= max(20.0, (asked + passed) / 8)
    if passed < 19.9:
        assert wait > 0
    if passed > max(3_600.0, asked):
        assert wait == 0.0
