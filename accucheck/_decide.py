"""What one reply means for its number: pure rules, no clock, no I/O, no randomness of their own.

Every row of the vendor's error table ("4. Error Codes") is one row of ``decide``. Time, chance and
what the run knows come in with the attempt; what to do comes out as a value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, assert_never

import msgspec
import tenacity
from tenacity.stop import stop_base
from tenacity.wait import wait_base

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
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply

LONGEST_WAIT: Final = 300.0
"""Seconds. A longer Retry-After is cut to this, lest one odd header stop a run for a day."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When to ask again, and when to give up. Any tenacity wait or stop strategy fits.

    A strategy sees ``attempt_number`` (from 1), ``seconds_since_start`` (since the first try, PENDING or
    refusal, whichever the strategy is for), ``idle_for`` and ``upcoming_sleep``.
    """

    retry_wait: wait_base = field(default_factory=lambda: tenacity.wait_exponential(multiplier=1, max=30))
    """The longest wait before the next try after a failure; the wait itself is drawn evenly from 0 to
    it (full jitter: M. Brooker, "Exponential Backoff And Jitter", 2015)."""
    retry_stop: stop_base = field(default_factory=lambda: tenacity.stop_after_attempt(5))
    """When a number that fails is given up. Default: after its fifth failed try."""
    poll_wait: wait_base | None = None
    """The wait before asking a PENDING number again; None learns it from how long answers take."""
    poll_stop: stop_base = field(default_factory=lambda: tenacity.stop_after_delay(600))
    """When a PENDING number is given up. Default: 10 minutes after it was first asked."""
    refusal_stop: stop_base = field(default_factory=lambda: tenacity.stop_after_delay(900))
    """When a number that is refused for frequency is given up. Default: after 15 minutes of it."""
    on_lost_answer: Literal["retry", "fail"] = "retry"
    """Whether to make a call again whose answer was lost after it was sent, and may have been charged."""
    retry_budget: float = 0.5
    """Retries that the run may make for each answered call, 0 to 1, beyond a first allowance and ten a second.
    With none left a number waits for its turn: the run slows down, and no number fails for it."""

    def __post_init__(self) -> None:
        if self.on_lost_answer not in ("retry", "fail"):
            raise ConfigurationError(f"on_lost_answer is 'retry' or 'fail', not {self.on_lost_answer!r}")
        if not 0 <= self.retry_budget <= 1:
            raise ConfigurationError(f"retry_budget is a share from 0 to 1, not {self.retry_budget!r}")


class AttemptHistory(msgspec.Struct, frozen=True, kw_only=True):
    """How far a number has come, at the moment that a reply to it arrived."""

    failures: int = 0
    """Failed tries before this one."""
    failing_for: float = 0.0
    """Seconds since the first failed try was sent."""
    polls: int = 0
    """PENDING replies before this one."""
    pending_for: float = 0.0
    """Seconds since the number was first asked."""
    refusals: int = 0
    """Refusals for frequency before this one."""
    refused_for: float = 0.0
    """Seconds since the first of them."""
    waited: float = 0.0
    """Seconds spent between tries so far."""
    learned_poll_wait: float = 2.0
    """Seconds until the next poll, as learned by the run; used when the policy brings no ``poll_wait``."""
    budget_wait: float = 0.0
    """Seconds until the run's shared retry budget has one for this number."""


class Done(msgspec.Struct, frozen=True):
    """The number is settled: by an answer, or by an error that is its own."""

    result: Check | CheckError


class Wait(msgspec.Struct, frozen=True):
    """Ask again after so many seconds. A refusal's wait holds everyone; the gate owns it."""

    seconds: float
    then: Literal["retry", "poll", "refused"]


class Stop(msgspec.Struct, frozen=True):
    """The run cannot go on; the number has no answer."""

    error: RunEnded


Decision: TypeAlias = Done | Wait | Stop

_ENDINGS: Final[dict[str, tuple[type[RunEnded], str]]] = {
    "UNAUTHORIZED": (
        Unauthorized,
        "AccuAuth does not accept the credentials: check ACCUCHECK_API_ID and ACCUCHECK_API_SECRET",
    ),
    "KEY_EXPIRED": (KeyExpired, "the AccuAuth API id has expired: renew it with AccuAuth"),
    "NO_PERMISSION": (NoPermission, "the AccuAuth account may not use this API: ask AccuAuth to enable it"),
    "OUT_OF_QUOTA": (OutOfQuota, "the AccuAuth account's calls are used up: top it up, then start again"),
    "NOT_FOUND": (NotFound, "AccuAuth does not know this endpoint: check base_url and endpoint"),
}


def decide(attempt: AttemptHistory, reply: Reply, policy: Policy, chance: float) -> Decision:
    """Return what a reply means for its number.

    ``chance`` is drawn once by the caller, evenly from [0, 1), and is all the randomness there is.
    """
    match reply:
        case Answered(check):
            return Done(check)
        case StatusReply():
            return _decide_status(attempt, reply, policy, chance)
        case Malformed():
            return Done(ProtocolError(reply.seen, request_id=reply.request_id, http_status=reply.http_status))
        case Broken():
            error = TransportError(f"{reply.phase} failed: {reply.message}")
            if reply.sent and policy.on_lost_answer == "fail":
                return Done(error)
            return _retry_or_fail(attempt, policy, chance, error, reply.retry_after)
        case _:  # pragma: no cover
            assert_never(reply)


def _decide_status(attempt: AttemptHistory, reply: StatusReply, policy: Policy, chance: float) -> Decision:
    if reply.status == "PENDING":
        return _poll_or_fail(attempt, reply, policy)
    if reply.status == "RATE_LIMIT_EXCEEDED":
        seconds = min(reply.retry_after or 0.0, LONGEST_WAIT)
        state = _state(attempt.refusals + 1, attempt.refused_for, attempt.waited, seconds)
        if policy.refusal_stop(state):
            return Done(_error(RateLimited, reply, f"refused for frequency {attempt.refusals + 1} times"))
        return Wait(seconds, "refused")
    if reply.status == "INTERNAL_ERROR":
        error = _error(InternalError, reply, f"AccuAuth failed (HTTP {reply.http_status})")
        return _retry_or_fail(attempt, policy, chance, error, reply.retry_after)
    if reply.status == "INVALID_ARGUMENT":
        return Done(_error(InvalidArgument, reply, "AccuAuth refuses the number"))
    ending, advice = _ENDINGS[reply.status]
    said = f" ({reply.reason})" if reply.reason else ""
    return Stop(ending(advice + said, request_id=reply.request_id, http_status=reply.http_status))


def _poll_or_fail(attempt: AttemptHistory, reply: StatusReply, policy: Policy) -> Decision:
    seconds = attempt.learned_poll_wait
    state = _state(attempt.polls + 1, attempt.pending_for, attempt.waited, seconds)
    if policy.poll_wait is not None:
        seconds = state.upcoming_sleep = _keepable(policy.poll_wait(state))
    if policy.poll_stop(state):
        asked = attempt.polls + 1
        advice = f"still PENDING after {attempt.pending_for:.0f} s and {asked} calls: ask again later"
        return Done(PendingTimeout(advice, request_id=reply.request_id, http_status=reply.http_status))
    return Wait(seconds, "poll")


def _retry_or_fail(
    attempt: AttemptHistory, policy: Policy, chance: float, error: CheckError, retry_after: float | None
) -> Decision:
    state = _state(attempt.failures + 1, attempt.failing_for, attempt.waited, 0.0)
    at_least = max(min(retry_after or 0.0, LONGEST_WAIT), attempt.budget_wait)
    seconds = state.upcoming_sleep = max(chance * _keepable(policy.retry_wait(state)), at_least)
    if policy.retry_stop(state):
        return Done(error)
    return Wait(seconds, "retry")


def _keepable(seconds: float) -> float:
    """Return a strategy's wait as one that a clock can keep: people bring their own strategies."""
    if 0 <= seconds < math.inf:
        return float(seconds)
    return LONGEST_WAIT if seconds == math.inf else 0.0


def _error(kind: type[CheckError], reply: StatusReply, otherwise: str) -> CheckError:
    return kind(reply.reason or otherwise, request_id=reply.request_id, http_status=reply.http_status)


_NOT_RETRYING: Final[Any] = None
_NO_FUNCTION: Final[Callable[..., Any] | None] = None


def _state(
    attempt_number: int, seconds: float, idle_for: float, upcoming_sleep: float
) -> tenacity.RetryCallState:
    """Return what tenacity's strategies look at. They only read it: no retrying object stands behind it."""
    state = tenacity.RetryCallState(_NOT_RETRYING, _NO_FUNCTION, (), {})
    state.attempt_number = attempt_number
    state.start_time = 0.0
    state.outcome_timestamp = seconds
    state.idle_for = idle_for
    state.upcoming_sleep = upcoming_sleep
    return state
