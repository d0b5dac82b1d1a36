"""The circuit breaker and the retry budget: what an outage costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accucheck._circuit import (
    FAILURES_TO_OPEN,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    WINDOW,
    Circuit,
    RetryBudget,
)


def opened_at(now: float = 100.0) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN):
        circuit.record(False, now, probe=False)
    return circuit


def probe(circuit: Circuit, ok: bool, now: float) -> None:
    assert circuit.admits(now)
    assert circuit.sending()
    circuit.record(ok, now, probe=True)


# Opening


def test_a_new_circuit_is_closed_and_sends_no_probe() -> None:
    circuit = Circuit()
    assert not circuit.opened
    assert circuit.admits(0.0)
    assert not circuit.sending()
    assert circuit.admits(0.0)


def test_it_opens_at_the_eleventh_failure_and_not_before() -> None:
    circuit = Circuit()
    for n in range(1, FAILURES_TO_OPEN + 1):
        assert not circuit.opened
        circuit.record(False, float(n), probe=False)
    assert circuit.opened
    assert circuit.retry_at == FAILURES_TO_OPEN + FIRST_PAUSE


def test_it_opens_on_the_recent_window_no_matter_how_well_the_run_went_before() -> None:
    circuit = Circuit()
    for _ in range(1_000_000):
        circuit.record(True, 0.0, probe=False)
    for _ in range(FAILURES_TO_OPEN):
        circuit.record(False, 1.0, probe=False)
    assert circuit.opened


def test_one_success_in_the_window_does_not_keep_it_closed_but_two_do() -> None:
    one, two = Circuit(), Circuit()
    for n in range(WINDOW):
        one.record(n == 5, 0.0, probe=False)
        two.record(n in (2, 7), 0.0, probe=False)
    assert one.opened
    assert not two.opened


def test_half_of_all_calls_failing_forever_does_not_open_it() -> None:
    circuit = Circuit()
    for n in range(10_000):
        circuit.record(n % 2 == 0, float(n), probe=False)
        assert not circuit.opened


def test_a_success_never_opens_it() -> None:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN - 1):
        circuit.record(False, 0.0, probe=False)
    circuit.record(True, 0.0, probe=False)
    assert not circuit.opened


# While open


def test_while_open_no_call_is_made_before_the_pause_is_over() -> None:
    circuit = opened_at(100.0)
    assert not circuit.admits(100.0)
    assert not circuit.admits(100.0 + FIRST_PAUSE - 0.001)
    assert circuit.admits(100.0 + FIRST_PAUSE)


def test_after_the_pause_a_single_probe_is_made() -> None:
    circuit = opened_at(100.0)
    assert circuit.admits(101.0)
    assert circuit.sending()
    assert not circuit.admits(101.0)
    assert not circuit.admits(9_999.0)
    assert not circuit.sending()  # a call that slips through is not mistaken for the probe
    assert not circuit.admits(101.0)


def test_a_probe_that_succeeds_closes_it() -> None:
    circuit = opened_at()
    probe(circuit, True, 101.0)
    assert not circuit.opened
    assert circuit.admits(101.0)


def test_after_closing_the_window_starts_empty() -> None:
    circuit = opened_at()
    probe(circuit, True, 101.0)
    for _ in range(FAILURES_TO_OPEN - 1):
        circuit.record(False, 102.0, probe=False)
    assert not circuit.opened
    circuit.record(False, 102.0, probe=False)
    assert circuit.opened


def test_pauses_double_up_to_the_cap() -> None:
    circuit, now, pauses = opened_at(0.0), 0.0, []
    for _ in range(6):
        pauses.append(circuit.retry_at - now)
        now = circuit.retry_at
        probe(circuit, False, now)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert max(pauses) == LONGEST_PAUSE


def test_an_outage_of_twenty_seconds_costs_a_handful_of_probes() -> None:
    circuit, probes = opened_at(0.0), 0
    while circuit.retry_at < 20.0:
        probe(circuit, False, circuit.retry_at)
        probes += 1
    assert probes <= 6
    assert circuit.retry_at <= 20.0 + LONGEST_PAUSE


def test_the_next_outage_begins_with_the_first_pause_again() -> None:
    circuit = opened_at(0.0)
    for _ in range(4):
        probe(circuit, False, circuit.retry_at)
    probe(circuit, True, circuit.retry_at)
    for _ in range(FAILURES_TO_OPEN):
        circuit.record(False, 1_000.0, probe=False)
    assert circuit.retry_at == 1_000.0 + FIRST_PAUSE


@pytest.mark.parametrize("ok", [True, False])
def test_calls_sent_before_it_opened_change_nothing(ok: bool) -> None:
    circuit = opened_at(100.0)
    for _ in range(50):
        circuit.record(ok, 100.5, probe=False)
    assert circuit.opened
    assert circuit.retry_at == 100.0 + FIRST_PAUSE


def test_an_old_call_that_ends_during_the_probe_does_not_admit_another_probe() -> None:
    circuit = opened_at(100.0)
    circuit.sending()
    circuit.record(False, 101.5, probe=False)
    assert not circuit.admits(102.0)


def test_an_abandoned_probe_makes_way_for_another_at_once() -> None:
    circuit = opened_at(100.0)
    assert circuit.sending()
    circuit.abandon_probe()
    assert circuit.opened
    assert circuit.admits(101.0)
    probe(circuit, True, 101.0)
    assert not circuit.opened


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 3)), max_size=200))
def test_at_most_one_probe_is_in_flight_and_one_is_always_possible(
    happenings: list[tuple[bool, bool, float]],
) -> None:
    circuit, now, probing = Circuit(), 0.0, False
    for ok, cancelled, gap in happenings:
        now += gap
        if not circuit.admits(now):
            assert circuit.opened
            assert probing or circuit.retry_at - now <= LONGEST_PAUSE
            now = max(now, circuit.retry_at)
        if circuit.admits(now):
            probing = circuit.sending()
            assert probing == circuit.opened
            if probing:
                assert not circuit.admits(now)
            if cancelled:
                if probing:
                    circuit.abandon_probe()
            else:
                circuit.record(ok, now, probe=probing)
            probing = False


# The retry budget


def test_the_allowance_may_be_retried_at_once_and_then_ten_a_second() -> None:
    budget, waits = RetryBudget(allowance=3, share=0.2), []
    for _ in range(6):
        waits.append(budget.wait(100.0))
        budget.take(100.0)
    assert waits == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3])


def test_five_answers_buy_one_retry_at_a_share_of_a_fifth() -> None:
    budget = RetryBudget(allowance=1, share=0.2)
    budget.take(100.0)
    for _ in range(4):
        budget.refill()
        assert budget.wait(100.0) > 0
    budget.refill()
    assert budget.wait(100.0) == pytest.approx(0)


def test_answers_and_time_never_save_up_more_than_the_allowance() -> None:
    budget = RetryBudget(allowance=2, share=0.5)
    assert budget.wait(0.0) == 0
    for _ in range(1_000):
        budget.refill()
    assert budget.wait(10_000.0) == 0
    taken = 0
    while not budget.wait(10_000.0):
        budget.take(10_000.0)
        taken += 1
    assert taken == 2


def test_with_a_share_of_zero_only_time_refills_the_budget() -> None:
    budget = RetryBudget(allowance=1, share=0.0)
    budget.take(100.0)
    for _ in range(1_000):
        budget.refill()
    assert budget.wait(100.0) == pytest.approx(0.1)
    assert budget.wait(100.1) == pytest.approx(0)


def test_a_clock_that_goes_back_adds_nothing() -> None:
    budget = RetryBudget(allowance=1, share=0.2)
    budget.take(100.0)
    assert budget.wait(50.0) == pytest.approx(0.1)
    assert budget.wait(100.0) == pytest.approx(0.1)


@given(st.integers(1, 50), st.floats(0, 1), st.lists(st.tuples(st.booleans(), st.floats(0, 2)), max_size=300))
def test_retries_never_exceed_the_budget(
    allowance: int, share: float, happenings: list[tuple[bool, float]]
) -> None:
    budget, goes, answers, now = RetryBudget(allowance=allowance, share=share), [], 0, 0.0
    for answered, pause in happenings:
        now += pause
        if answered:
            budget.refill()
            answers += 1
        else:
            goes.append(now + budget.wait(now))
            budget.take(now)
    for moment in goes:
        assert sum(go <= moment for go in goes) <= allowance + share * answers + 10 * moment + 1e-6
