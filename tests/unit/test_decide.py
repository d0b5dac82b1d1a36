"""The fate of every reply, one line each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import tenacity

from accucheck._decide import LONGEST_WAIT, AttemptHistory, Decision, Done, Policy, Stop, Wait, decide
from accucheck._errors import (
    CheckError,
    ConfigurationError,
    InternalError,
    InvalidArgument,
    KeyExpired,
    NoPermission,
    NotFound,
    OutOfQuota,
    PendingTimeout,
    ProtocolError,
    RateLimited,
    RunEnded,
    TransportError,
    Unauthorized,
)
from accucheck._models import Check
from accucheck._statuses import STATUSES
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply

CHECK = Check(number="+51987654321", whatsapp=True, checked_at=datetime(2026, 11, 23, tzinfo=UTC))
FRESH = AttemptHistory()
POLICY = Policy()


def fate(
    reply: Reply, attempt: AttemptHistory = FRESH, policy: Policy = POLICY, chance: float = 0.5
) -> Decision:
    return decide(attempt, reply, policy, chance)


def ending(decision: Decision) -> type[Exception]:
    """The class of a decision's error."""
    match decision:
        case Done(CheckError() as error) | Stop(error):
            return type(error)
    raise AssertionError(f"no error in {decision}")


# The fate table, row by row


def test_an_answer_settles_its_number() -> None:
    assert fate(Answered(CHECK)) == Done(CHECK)


@pytest.mark.parametrize(
    ("reply", "decision"),
    [
        (StatusReply("PENDING", 400), Wait(2.0, "poll")),
        (StatusReply("PENDING", 200), Wait(2.0, "poll")),
        (StatusReply("PENDING", 500), Wait(2.0, "poll")),
        (StatusReply("RATE_LIMIT_EXCEEDED", 403), Wait(0.0, "refused")),
        (StatusReply("RATE_LIMIT_EXCEEDED", 429), Wait(0.0, "refused")),
        (StatusReply("RATE_LIMIT_EXCEEDED", 429, retry_after=7.0), Wait(7.0, "refused")),
        (StatusReply("RATE_LIMIT_EXCEEDED", 429, retry_after=1e9), Wait(LONGEST_WAIT, "refused")),
        (StatusReply("INTERNAL_ERROR", 500), Wait(0.5, "retry")),
        (StatusReply("INTERNAL_ERROR", 503, retry_after=7.0), Wait(7.0, "retry")),
        (StatusReply("INTERNAL_ERROR", 503, retry_after=1e9), Wait(LONGEST_WAIT, "retry")),
        (Broken("connect", "refused", sent=False), Wait(0.5, "retry")),
        (Broken("write", "reset", sent=True), Wait(0.5, "retry")),
        (Broken("read", "timed out", sent=True), Wait(0.5, "retry")),
        (Broken("timeout", "timed out", sent=True), Wait(0.5, "retry")),
        (Broken("protocol", "not HTTP", sent=True), Wait(0.5, "retry")),
        (Broken("truncated", "cut off", sent=True), Wait(0.5, "retry")),
        (Broken("gateway", "HTTP 504", sent=True), Wait(0.5, "retry")),
        (Broken("gateway", "HTTP 504", sent=True, retry_after=7.0), Wait(7.0, "retry")),
        (Broken("gateway", "HTTP 504", sent=True, retry_after=1e9), Wait(LONGEST_WAIT, "retry")),
    ],
)
def test_a_reply_that_is_not_an_answer_yet_is_asked_again(reply: Reply, decision: Wait) -> None:
    assert fate(reply) == decision


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (StatusReply("INVALID_ARGUMENT", 400), InvalidArgument),
        (Malformed(200, "OK without a result"), ProtocolError),
        (Malformed(302, "a redirect"), ProtocolError),
        (Malformed(200, "not JSON"), ProtocolError),
        (Malformed(200, "a body over the cap"), ProtocolError),
        (Malformed(418, "an unknown status"), ProtocolError),
    ],
)
def test_a_reply_that_no_second_call_would_fix_fails_its_number_at_once(
    reply: Reply, kind: type[CheckError]
) -> None:
    decision = fate(reply)
    assert isinstance(decision, Done)
    assert type(decision.result) is kind


@pytest.mark.parametrize(
    ("http_status", "status", "kind"),
    [
        (401, "UNAUTHORIZED", Unauthorized),
        (401, "KEY_EXPIRED", KeyExpired),
        (403, "NO_PERMISSION", NoPermission),
        (403, "OUT_OF_QUOTA", OutOfQuota),
        (404, "NOT_FOUND", NotFound),
    ],
)
def test_a_reply_that_concerns_the_account_ends_the_run(
    http_status: int, status: str, kind: type[RunEnded]
) -> None:
    decision = fate(StatusReply(status, http_status, "the vendor's reason", "TID1"))
    assert isinstance(decision, Stop)
    assert type(decision.error) is kind
    assert decision.error.status == status
    assert "the vendor's reason" in decision.error.reason
    assert (decision.error.request_id, decision.error.http_status) == ("TID1", http_status)


def test_an_end_without_a_reason_says_what_to_do_without_empty_brackets() -> None:
    for status in ("UNAUTHORIZED", "KEY_EXPIRED", "NO_PERMISSION", "OUT_OF_QUOTA", "NOT_FOUND"):
        decision = fate(StatusReply(status, 403))
        assert isinstance(decision, Stop)
        assert ": " in decision.error.reason
        assert "()" not in decision.error.reason


def test_every_status_of_the_page_has_a_fate() -> None:
    for status in STATUSES.keys() - {"OK"}:
        assert isinstance(fate(StatusReply(status, 400)), Done | Wait | Stop)


# What errors contain


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "INTERNAL_ERROR", "RATE_LIMIT_EXCEEDED"])
def test_the_vendors_reason_and_request_id_are_kept(status: str) -> None:
    never = tenacity.stop_after_attempt(1)
    decision = fate(
        StatusReply(status, 400, "argument 'number': not found", "TID0b"),
        policy=Policy(retry_stop=never, refusal_stop=never),
    )
    assert isinstance(decision, Done)
    assert isinstance(decision.result, CheckError)
    assert decision.result.reason == "argument 'number': not found"
    assert (decision.result.status, decision.result.request_id) == (status, "TID0b")
    assert decision.result.http_status == 400


@pytest.mark.parametrize("status", ["INVALID_ARGUMENT", "INTERNAL_ERROR", "RATE_LIMIT_EXCEEDED"])
def test_without_a_reason_the_error_still_says_something(status: str) -> None:
    never = tenacity.stop_after_attempt(1)
    decision = fate(StatusReply(status, 400), policy=Policy(retry_stop=never, refusal_stop=never))
    assert isinstance(decision, Done)
    assert isinstance(decision.result, CheckError)
    assert len(decision.result.reason) > 10


def test_a_protocol_error_shows_what_was_received() -> None:
    decision = fate(Malformed(200, "OK with the result for a different number", "TID5"))
    assert isinstance(decision, Done)
    assert isinstance(decision.result, ProtocolError)
    assert decision.result.reason == "OK with the result for a different number"
    assert (decision.result.request_id, decision.result.http_status) == ("TID5", 200)


def test_a_transport_error_names_the_phase_and_the_cause() -> None:
    decision = fate(Broken("connect", "connection refused", sent=False), AttemptHistory(failures=4))
    assert isinstance(decision, Done)
    assert isinstance(decision.result, TransportError)
    assert decision.result.reason == "connect failed: connection refused"
    assert decision.result.http_status is None


# Retries

FAILURE = StatusReply("INTERNAL_ERROR", 500)


@pytest.mark.parametrize(("failures", "longest"), [(0, 1), (1, 2), (2, 4), (3, 8)])
def test_retries_back_off_exponentially_with_full_jitter(failures: int, longest: float) -> None:
    attempt = AttemptHistory(failures=failures)
    assert fate(FAILURE, attempt, chance=0.0) == Wait(0.0, "retry")
    assert fate(FAILURE, attempt, chance=0.25) == Wait(longest / 4, "retry")
    assert fate(FAILURE, attempt, chance=0.999) == Wait(0.999 * longest, "retry")


def test_the_backoff_has_a_ceiling() -> None:
    patient = Policy(retry_stop=tenacity.stop_never)
    assert fate(FAILURE, AttemptHistory(failures=5_000), patient, chance=0.5) == Wait(15.0, "retry")


@pytest.mark.parametrize(
    ("reply", "kind"), [(FAILURE, InternalError), (Broken("read", "reset", sent=True), TransportError)]
)
def test_the_fifth_failed_try_is_the_last(reply: Reply, kind: type[CheckError]) -> None:
    assert isinstance(fate(reply, AttemptHistory(failures=3)), Wait)
    assert ending(fate(reply, AttemptHistory(failures=4))) is kind


@pytest.mark.parametrize("reply", [FAILURE, Broken("connect", "refused", sent=False)])
def test_an_empty_retry_budget_makes_the_number_wait_and_not_fail(reply: Reply) -> None:
    assert fate(reply, AttemptHistory(budget_wait=40.0)) == Wait(40.0, "retry")
    assert isinstance(fate(reply, AttemptHistory(failures=4, budget_wait=40.0)), Done)


def test_an_empty_retry_budget_holds_neither_polls_nor_refusals() -> None:
    assert fate(StatusReply("PENDING", 400), AttemptHistory(budget_wait=40.0)) == Wait(2.0, "poll")
    assert fate(StatusReply("RATE_LIMIT_EXCEEDED", 403), AttemptHistory(budget_wait=40.0)) == Wait(
        0.0, "refused"
    )


def test_a_lost_answer_need_not_be_retried() -> None:
    careful = Policy(on_lost_answer="fail")
    assert ending(fate(Broken("read", "reset", sent=True), policy=careful)) is TransportError
    assert ending(fate(Broken("truncated", "cut off", sent=True), policy=careful)) is TransportError


def test_a_call_that_never_went_out_is_retried_even_when_lost_answers_are_not() -> None:
    careful = Policy(on_lost_answer="fail")
    assert fate(Broken("connect", "refused", sent=False), policy=careful) == Wait(0.5, "retry")
    assert fate(FAILURE, policy=careful) == Wait(0.5, "retry")


def test_the_retry_stop_may_look_at_time() -> None:
    policy = Policy(retry_stop=tenacity.stop_after_delay(30))
    assert isinstance(fate(FAILURE, AttemptHistory(failures=50, failing_for=29.9), policy), Wait)
    assert ending(fate(FAILURE, AttemptHistory(failures=1, failing_for=30.0), policy)) is InternalError


def test_the_retry_stop_may_look_at_the_wait_that_would_come() -> None:
    policy = Policy(retry_wait=tenacity.wait_fixed(10), retry_stop=tenacity.stop_before_delay(30))
    assert fate(FAILURE, AttemptHistory(failures=1, failing_for=19.0), policy) == Wait(10.0, "retry")
    assert ending(fate(FAILURE, AttemptHistory(failures=1, failing_for=21.0), policy)) is InternalError


# Polls

PENDING = StatusReply("PENDING", 400, request_id="TID2")


def test_polls_are_given_up_after_ten_minutes_of_pending() -> None:
    assert fate(PENDING, AttemptHistory(polls=99, pending_for=599.9, learned_poll_wait=4.5)) == Wait(
        4.5, "poll"
    )
    decision = fate(PENDING, AttemptHistory(polls=99, pending_for=600.0))
    assert ending(decision) is PendingTimeout
    assert isinstance(decision, Done)
    assert isinstance(decision.result, PendingTimeout)
    assert "600 s and 100 calls" in decision.result.reason
    assert (decision.result.request_id, decision.result.http_status) == ("TID2", 400)


def test_a_pending_number_never_uses_up_its_tries() -> None:
    assert isinstance(fate(PENDING, AttemptHistory(polls=10_000, failures=4, refusals=10_000)), Wait)


def test_the_poll_wait_can_be_customized() -> None:
    policy = Policy(poll_wait=tenacity.wait_incrementing(start=1, increment=2))
    assert [fate(PENDING, AttemptHistory(polls=polls), policy) for polls in range(3)] == [
        Wait(1.0, "poll"),
        Wait(3.0, "poll"),
        Wait(5.0, "poll"),
    ]


@pytest.mark.parametrize("poll_wait", [None, tenacity.wait_fixed(60)])
def test_the_poll_stop_may_look_at_the_wait_that_would_come(poll_wait: Any) -> None:
    policy = Policy(poll_wait=poll_wait, poll_stop=tenacity.stop_before_delay(600))
    attempt = AttemptHistory(polls=1, pending_for=539.0, learned_poll_wait=60.0)
    assert fate(PENDING, attempt, policy) == Wait(60.0, "poll")
    later = AttemptHistory(polls=1, pending_for=541.0, learned_poll_wait=60.0)
    assert ending(fate(PENDING, later, policy)) is PendingTimeout


# Rate limits

REFUSAL = StatusReply("RATE_LIMIT_EXCEEDED", 403)


def test_a_refusal_never_uses_up_the_tries_of_a_number() -> None:
    assert fate(REFUSAL, AttemptHistory(refusals=100_000, failures=4)) == Wait(0.0, "refused")


def test_refusals_are_given_up_after_fifteen_minutes_of_them() -> None:
    assert fate(REFUSAL, AttemptHistory(refusals=50, refused_for=899.9)) == Wait(0.0, "refused")
    decision = fate(REFUSAL, AttemptHistory(refusals=50, refused_for=900.0))
    assert ending(decision) is RateLimited
    assert isinstance(decision, Done)
    assert isinstance(decision.result, RateLimited)
    assert "lower the rate" in decision.result.reason


def test_the_refusal_stop_may_look_at_the_wait_that_would_come() -> None:
    policy = Policy(refusal_stop=tenacity.stop_before_delay(100))
    reply = StatusReply("RATE_LIMIT_EXCEEDED", 429, retry_after=60.0)
    assert fate(reply, AttemptHistory(refusals=1, refused_for=39.0), policy) == Wait(60.0, "refused")
    assert ending(fate(reply, AttemptHistory(refusals=1, refused_for=41.0), policy)) is RateLimited


# The policy itself


def test_a_strategy_sees_how_far_its_own_kind_of_attempt_has_come() -> None:
    seen: list[tuple[str, int, float | None, float, float]] = []

    def watch(name: str) -> Any:
        def stop(state: tenacity.RetryCallState) -> bool:
            times = (state.seconds_since_start, state.idle_for, state.upcoming_sleep)
            seen.append((name, state.attempt_number, *times))
            return False

        return stop

    policy = Policy(retry_stop=watch("retry"), poll_stop=watch("poll"), refusal_stop=watch("refusal"))
    attempt = AttemptHistory(
        failures=1,
        failing_for=10.0,
        polls=2,
        pending_for=20.0,
        refusals=3,
        refused_for=30.0,
        waited=40.0,
        learned_poll_wait=5.0,
    )
    for reply in (FAILURE, PENDING, StatusReply("RATE_LIMIT_EXCEEDED", 429, retry_after=6.0)):
        fate(reply, attempt, policy)
    assert seen == [
        ("retry", 2, 10.0, 40.0, 1.0),
        ("poll", 3, 20.0, 40.0, 5.0),
        ("refusal", 4, 30.0, 40.0, 6.0),
    ]


def test_tenacitys_own_combinations_of_strategies_fit() -> None:
    policy = Policy(
        retry_wait=tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(8))
        + tenacity.wait_fixed(2),
        retry_stop=tenacity.stop_after_attempt(9) | tenacity.stop_after_delay(60),
    )
    assert fate(FAILURE, AttemptHistory(), policy) == Wait(3.0, "retry")
    assert fate(FAILURE, AttemptHistory(failures=1), policy) == Wait(10.0, "retry")
    assert ending(fate(FAILURE, AttemptHistory(failing_for=60.0), policy)) is InternalError


@pytest.mark.parametrize("value", ["ignore", "", None, True, "RETRY"])
def test_an_unknown_rule_for_lost_answers_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="on_lost_answer must be 'retry' or 'fail'"):
        Policy(on_lost_answer=value)


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_retry_budget_that_is_not_a_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="share from 0 to 1"):
        Policy(retry_budget=share)


@pytest.mark.parametrize("share", [0, 0.2, 1])
def test_a_retry_budget_may_be_any_share(share: float) -> None:
    assert Policy(retry_budget=share).retry_budget == share


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.999])
def test_a_wait_of_five_seconds_is_five_seconds(chance: float) -> None:
    assert fate(FAILURE, policy=Policy(retry_wait=tenacity.wait_fixed(5)), chance=chance) == Wait(
        5.0, "retry"
    )


def test_a_retry_after_or_an_empty_budget_makes_any_wait_longer() -> None:
    policy = Policy(retry_wait=tenacity.wait_fixed(5))
    asked_to_wait = StatusReply("INTERNAL_ERROR", 503, retry_after=30.0)
    assert fate(asked_to_wait, policy=policy) == Wait(30.0, "retry")
    assert fate(FAILURE, AttemptHistory(budget_wait=7.0), policy) == Wait(7.0, "retry")


def test_a_wait_may_depend_on_the_error() -> None:
    policy = Policy(
        retry_wait=tenacity.wait_exception(lambda error: 2.0 + (getattr(error, "http_status", None) or 0))
    )
    assert fate(FAILURE, policy=policy) == Wait(502.0, "retry")
    assert fate(Broken("connect", "refused", sent=False), policy=policy) == Wait(2.0, "retry")


def test_a_stop_may_depend_on_the_error() -> None:
    def stop(state: tenacity.RetryCallState) -> bool:
        return tenacity.retry_if_exception_type(TransportError)(state)

    policy = Policy(retry_wait=tenacity.wait_none(), retry_stop=stop)
    assert fate(FAILURE, policy=policy) == Wait(0.0, "retry")
    assert ending(fate(Broken("connect", "refused", sent=False), policy=policy)) is TransportError


def test_a_plain_function_is_a_strategy() -> None:
    policy = Policy(retry_wait=lambda state: 3.0 * state.attempt_number, retry_stop=lambda state: False)
    assert fate(FAILURE, AttemptHistory(failures=1), policy) == Wait(6.0, "retry")


def test_the_default_waits_are_tenacitys_random_exponential() -> None:
    ours, theirs = Policy().retry_wait, tenacity.wait_random_exponential(multiplier=1, max=30)
    state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
    for attempt_number in (1, 2, 5, 50):
        state.attempt_number = attempt_number
        most = min(2.0 ** (attempt_number - 1), 30.0)
        for strategy in (ours, theirs):
            assert all(0 <= strategy(state) <= most for _ in range(50))


@pytest.mark.parametrize(
    ("reply", "kind", "number"),
    [
        (StatusReply("INTERNAL_ERROR", 503, "why", "TID9", 4.0), InternalError, 3),
        (StatusReply("PENDING", 400, "why", "TID9", 4.0), PendingTimeout, 4),
        (StatusReply("RATE_LIMIT_EXCEEDED", 403, "why", "TID9", 4.0), RateLimited, 5),
    ],
)
def test_a_strategy_is_given_a_full_state(reply: Reply, kind: type[CheckError], number: int) -> None:
    seen: list[tenacity.RetryCallState] = []

    def watch(state: tenacity.RetryCallState) -> float:
        seen.append(state)
        return 1.0

    def stop(state: tenacity.RetryCallState) -> bool:
        return bool(watch(state)) and False

    policy = Policy(retry_wait=watch, retry_stop=stop, poll_wait=watch, poll_stop=stop, refusal_stop=stop)
    attempt = AttemptHistory(
        number="+51987654321",
        now=1_000.0,
        calls=9,
        lost=1,
        failures=2,
        failing_for=10.0,
        polls=3,
        pending_for=20.0,
        refusals=4,
        refused_for=30.0,
        waited=40.0,
    )
    fate(reply, attempt, policy)
    state = seen[-1]
    assert state.outcome is not None
    error = state.outcome.exception()
    assert type(error) is kind
    assert (error.number, error.calls, error.possibly_double_charged) == ("+51987654321", 9, 1)
    assert (error.request_id, error.http_status, error.retry_after) == (
        "TID9",
        getattr(reply, "http_status", None),
        4.0,
    )
    assert (state.attempt_number, state.outcome.attempt_number) == (number, number)
    assert state.outcome_timestamp == 1_000.0
    assert state.seconds_since_start in (10.0, 20.0, 30.0)
    assert state.idle_for == 40.0
    assert (state.args, state.kwargs) == (("+51987654321",), {})
    assert state.fn is not None
    assert state.fn.__name__ == "check"
    assert isinstance(state.retry_object, tenacity.Retrying)
    assert "987654321" not in repr(state)
    assert "check" in state.get_fn_name()


@pytest.mark.parametrize("name", ["retry_wait", "retry_stop", "poll_wait", "poll_stop", "refusal_stop"])
@pytest.mark.parametrize("value", [5, "5", {}])
def test_an_invalid_strategy_is_refused_with_an_example(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} must be a tenacity strategy such as tenacity\."):
        Policy(**{name: value})


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_an_infinite_wait_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="long_wait"):
        Policy(long_wait=seconds)


def test_two_policies_share_no_strategy_object() -> None:
    assert Policy().retry_wait is not Policy().retry_wait


@pytest.mark.parametrize(
    ("careless", "seconds"),
    [(-5.0, 0.0), (float("nan"), 0.0), (float("-inf"), 0.0), (float("inf"), LONGEST_WAIT), (7, 7.0)],
)
def test_a_careless_strategy_cannot_hold_a_number_forever(careless: float, seconds: float) -> None:
    wait = tenacity.wait_fixed(careless)
    assert fate(PENDING, policy=Policy(poll_wait=wait)) == Wait(seconds, "poll")
    assert fate(FAILURE, policy=Policy(retry_wait=wait), chance=0.5) == Wait(seconds, "retry")
