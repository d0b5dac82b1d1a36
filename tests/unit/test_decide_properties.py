"""decide() has a decision for every reply, is deterministic, and never returns an impossible wait."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime

import msgspec
import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from accucheck._decide import LONGEST_WAIT, AttemptHistory, Done, Policy, Stop, Wait, decide
from accucheck._errors import InternalError
from accucheck._models import Check
from accucheck._statuses import STATUSES
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply


def stop_when_event(is_set: bool) -> stop_base:
    event = threading.Event()
    if is_set:
        event.set()
    return tenacity.stop_when_event_set(event)


CHECK = Check(number="+51987654321", whatsapp=False, checked_at=datetime(2026, 11, 23, tzinfo=UTC))

seconds = st.floats(0, 1e9)
counts = st.integers(0, 10_000)
attempts = st.builds(
    AttemptHistory,
    failures=counts,
    failing_for=seconds,
    polls=counts,
    pending_for=seconds,
    refusals=counts,
    refused_for=seconds,
    unclear=st.integers(0, 3),
    now=st.floats(0, 1e9),
    waited=seconds,
    learned_poll_wait=st.floats(0, 3_600),
    budget_wait=st.floats(0, 3_600),
)
codes = st.integers(100, 599)
replies: st.SearchStrategy[Reply] = st.one_of(
    st.just(Answered(CHECK)),
    st.builds(
        StatusReply,
        status=st.sampled_from([*(STATUSES.keys() - {"OK"}), "SHINY_NEW"]),
        http_status=codes,
        reason=st.text(),
        request_id=st.text(),
        retry_after=st.none() | st.floats(0, 1e12),
    ),
    st.builds(Malformed, http_status=codes, reason=st.text(), request_id=st.text()),
    st.builds(
        Broken,
        phase=st.sampled_from(["connect", "write", "read", "timeout", "protocol", "truncated", "gateway"]),
        message=st.text(),
        sent=st.booleans(),
        retry_after=st.none() | st.floats(0, 1e12),
    ),
)
# Users bring their own strategies, and some are careless.
fixed_waits = st.builds(
    tenacity.wait_fixed, st.floats(-1e6, 1e6) | st.sampled_from([math.inf, -math.inf, math.nan])
)
plain_waits: st.SearchStrategy[wait_base] = st.one_of(
    fixed_waits,
    st.builds(tenacity.wait_exponential, multiplier=st.floats(0, 100), max=st.floats(0, 1e6)),
    st.builds(tenacity.wait_exponential, exp_base=st.just(1e300)),
    st.builds(tenacity.wait_incrementing, start=st.floats(0, 100), increment=st.floats(-100, 100)),
    st.builds(tenacity.wait_none),
    st.builds(tenacity.wait_exception, st.just(lambda error: len(str(error)) + (error.retry_after or 0.0))),
)
"""All of tenacity's strategies that draw nothing from the global random."""
random_waits: st.SearchStrategy[wait_base] = st.one_of(
    st.builds(tenacity.wait_random, min=st.floats(0, 5), max=st.floats(5, 50)),
    st.builds(tenacity.wait_random_exponential, multiplier=st.floats(0, 100), max=st.floats(0, 1e6)),
    st.builds(tenacity.wait_exponential_jitter, jitter=st.floats(0, 100), max=st.floats(0, 1e6)),
)


def combined(inner: st.SearchStrategy[wait_base]) -> st.SearchStrategy[wait_base]:
    return st.one_of(
        st.builds(tenacity.wait_combine, inner, inner),
        st.lists(inner, min_size=1, max_size=4).map(lambda waits: tenacity.wait_chain(*waits)),
    )


exact_waits = st.recursive(plain_waits, combined, max_leaves=4)
waits = st.recursive(plain_waits | random_waits, combined, max_leaves=4)
plain_stops: st.SearchStrategy[stop_base] = st.one_of(
    st.just(tenacity.stop_never),
    st.builds(tenacity.stop_after_attempt, st.integers(0, 20)),
    st.builds(tenacity.stop_after_delay, seconds),
    st.builds(tenacity.stop_before_delay, seconds),
    st.booleans().map(stop_when_event),
)
stops: st.SearchStrategy[stop_base] = st.recursive(
    plain_stops,
    lambda inner: st.one_of(
        st.builds(tenacity.stop_any, inner, inner), st.builds(tenacity.stop_all, inner, inner)
    ),
    max_leaves=4,
)
policies = st.builds(
    Policy,
    retry_wait=waits,
    retry_stop=stops,
    poll_wait=st.none() | waits,
    poll_stop=stops,
    refusal_stop=stops,
    on_lost_answer=st.sampled_from(["retry", "fail"]),
)
exact_policies = st.builds(
    Policy,
    retry_wait=exact_waits,
    retry_stop=stops,
    poll_wait=st.none() | exact_waits,
    poll_stop=stops,
    refusal_stop=stops,
    on_lost_answer=st.sampled_from(["retry", "fail"]),
)
chances = st.floats(0, 1, exclude_max=True)


@given(attempts, replies, policies, chances)
def test_every_reply_has_a_fate_and_no_wait_is_negative_or_no_number(
    attempt: AttemptHistory, reply: Reply, policy: Policy, chance: float
) -> None:
    decision = decide(attempt, reply, policy, chance)
    match decision:
        case Wait():
            assert 0 <= decision.seconds < math.inf
            assert decision.then in ("retry", "poll", "refused")
        case Done() | Stop():
            pass
        case _:
            raise AssertionError(decision)


@given(attempts, replies, exact_policies, chances)
def test_the_same_question_has_the_same_answer(
    attempt: AttemptHistory, reply: Reply, policy: Policy, chance: float
) -> None:
    assert decide(attempt, reply, policy, chance) == decide(attempt, reply, policy, chance)


@given(attempts, replies, chances)
def test_under_the_default_policy_every_wait_is_short_and_every_number_ends(
    attempt: AttemptHistory, reply: Reply, chance: float
) -> None:
    decision = decide(attempt, reply, Policy(), chance)
    if isinstance(decision, Wait):
        assert decision.seconds <= max(LONGEST_WAIT, attempt.learned_poll_wait, attempt.budget_wait)
        if reply.row.fate == "ask_once_more":
            assert attempt.unclear == 0
        else:
            assert attempt.failures < 5 or decision.then != "retry"
        assert attempt.pending_for < 600 or decision.then != "poll"
        assert attempt.refused_for < 900 or decision.then != "refused"


@given(attempts, replies, policies, chances)
def test_only_an_answer_gives_a_check(
    attempt: AttemptHistory, reply: Reply, policy: Policy, chance: float
) -> None:
    decision = decide(attempt, reply, policy, chance)
    has_check = isinstance(decision, Done) and isinstance(decision.result, Check)
    assert has_check == isinstance(reply, Answered)


@given(attempts, policies, chances)
def test_a_malformed_reply_is_never_asked_again(
    attempt: AttemptHistory, policy: Policy, chance: float
) -> None:
    assert isinstance(decide(attempt, Malformed(200, "not JSON"), policy, chance), Done)


@given(attempts, exact_waits, chances)
def test_a_wait_strategy_is_taken_as_it_is(attempt: AttemptHistory, wait: wait_base, chance: float) -> None:
    """What tenacity itself would wait, for any chance; waits are never negative or infinite."""
    retrying = tenacity.Retrying(wait=wait)
    state = tenacity.RetryCallState(retrying, None, (), {})
    state.attempt_number = attempt.failures + 1
    error = InternalError("reason")
    state.outcome = tenacity.Future.construct(state.attempt_number, error, has_exception=True)
    expected = float(wait(state))
    expected = LONGEST_WAIT if expected == math.inf else expected if expected > 0 else 0.0
    policy = Policy(retry_wait=wait, retry_stop=tenacity.stop_never)
    decision = decide(attempt, StatusReply("INTERNAL_ERROR", 500, "reason"), policy, chance)
    assert decision == Wait(max(expected, attempt.budget_wait), "retry")


@given(attempts, stops, chances)
def test_a_stop_strategy_is_taken_as_it_is(attempt: AttemptHistory, stop: stop_base, chance: float) -> None:
    attempt = msgspec.structs.replace(attempt, now=0.0)  # so that no float is rounded
    state = tenacity.RetryCallState(tenacity.Retrying(stop=stop), None, (), {})
    state.attempt_number = attempt.failures + 1
    state.start_time, state.outcome_timestamp = -attempt.failing_for, 0.0
    state.upcoming_sleep = max(5.0, attempt.budget_wait)
    policy = Policy(retry_wait=tenacity.wait_fixed(5), retry_stop=stop)
    decision = decide(attempt, StatusReply("INTERNAL_ERROR", 500), policy, chance)
    assert isinstance(decision, Done) == bool(stop(state))
