"""decide() has an answer to everything, the same to the same, and no wait that a clock could not keep."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import tenacity
from hypothesis import given
from hypothesis import strategies as st
from tenacity.stop import stop_base
from tenacity.wait import wait_base

from accucheck._decide import LONGEST_WAIT, AttemptHistory, Decision, Done, Policy, Stop, Wait, decide
from accucheck._models import Check
from accucheck._wire import KNOWN_STATUSES, Answered, Broken, Malformed, Reply, StatusReply

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
    waited=seconds,
    learned_poll_wait=st.floats(0, 3_600),
    budget_wait=st.floats(0, 3_600),
)
codes = st.integers(100, 599)
replies: st.SearchStrategy[Reply] = st.one_of(
    st.just(Answered(CHECK)),
    st.builds(
        StatusReply,
        status=st.sampled_from(sorted(KNOWN_STATUSES - {"OK"})),
        http_status=codes,
        reason=st.text(),
        request_id=st.text(),
        retry_after=st.none() | st.floats(0, 1e12),
    ),
    st.builds(Malformed, http_status=codes, seen=st.text(), request_id=st.text()),
    st.builds(
        Broken,
        phase=st.sampled_from(["connect", "write", "read", "timeout", "protocol", "truncated", "gateway"]),
        message=st.text(),
        sent=st.booleans(),
        retry_after=st.none() | st.floats(0, 1e12),
    ),
)
# People bring their own strategies; some of them are careless.
waits: st.SearchStrategy[wait_base] = st.one_of(
    st.builds(tenacity.wait_fixed, st.floats(-1e6, 1e6) | st.sampled_from([math.inf, -math.inf, math.nan])),
    st.builds(tenacity.wait_exponential, multiplier=st.floats(0, 100), max=st.floats(0, 1e6)),
    st.builds(tenacity.wait_exponential, exp_base=st.just(1e300)),
    st.builds(tenacity.wait_incrementing, start=st.floats(0, 100), increment=st.floats(-100, 100)),
    st.builds(tenacity.wait_none),
)
stops: st.SearchStrategy[stop_base] = st.one_of(
    st.just(tenacity.stop_never),
    st.builds(tenacity.stop_after_attempt, st.integers(0, 20)),
    st.builds(tenacity.stop_after_delay, seconds),
    st.builds(tenacity.stop_before_delay, seconds),
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
chances = st.floats(0, 1, exclude_max=True)


def shown(decision: Decision) -> object:
    """A decision as values; two errors are never equal by themselves."""
    match decision:
        case Done(Exception() as error) | Stop(error):
            return type(decision), type(error), error.args, vars(error)
    return decision


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


@given(attempts, replies, policies, chances)
def test_the_same_question_has_the_same_answer(
    attempt: AttemptHistory, reply: Reply, policy: Policy, chance: float
) -> None:
    assert shown(decide(attempt, reply, policy, chance)) == shown(decide(attempt, reply, policy, chance))


@given(attempts, replies, chances)
def test_under_the_default_policy_every_wait_is_short_and_every_number_ends(
    attempt: AttemptHistory, reply: Reply, chance: float
) -> None:
    decision = decide(attempt, reply, Policy(), chance)
    if isinstance(decision, Wait):
        assert decision.seconds <= max(LONGEST_WAIT, attempt.learned_poll_wait)
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
