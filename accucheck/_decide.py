"""What one reply means for its number: pure rules without a clock, I/O or randomness.

Each reply has its row of the status table. ``decide`` turns the row's fate, the number's history and the policy into
what to do next. Time, chance and what the run knows are inputs.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, assert_never

import msgspec
import tenacity
from tenacity.stop import StopBaseT
from tenacity.wait import WaitBaseT

from accucheck._errors import CheckError, ConfigurationError, RunEnded, StillPending, Undetermined
from accucheck._help import with_fields
from accucheck._models import Check
from accucheck._wire import Answered, Broken, NoAnswer, Reply, StatusReply

POLLED_FOR: Final = 600.0
POLLED_LATER_FOR: Final = 6 * 3_600.0
"""Seconds: how long a number is polled by default."""
LONGEST_WAIT: Final = 300.0
"""Seconds. A longer Retry-After is reduced to this, so that one odd header cannot stop a run for a day."""


class _FullJitter(tenacity.wait_exponential):
    """Uniform from 0 to the exponential wait (M. Brooker, "Exponential Backoff And Jitter", 2015).

    This is tenacity's ``wait_random_exponential``, but with the attempt's chance instead of the global ``random``.
    """

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        chance = retry_state.chance if isinstance(retry_state, CallState) else random.random()
        return chance * super().__call__(retry_state)


@with_fields
@dataclass(frozen=True, kw_only=True)
class Policy:
    """When to ask again, and when to give up. Accepts any tenacity wait or stop strategy.

    A strategy gets a full ``tenacity.RetryCallState``: ``outcome`` holds the CheckError that the number would fail
    with now, and ``args`` its number. ``attempt_number`` counts from 1. ``seconds_since_start`` counts from the first
    call of its kind: the first failed try, the first request of a PENDING number, or the first rate-limited call.
    ``idle_for`` is the time spent waiting so far, and ``upcoming_sleep`` (for a stop) the next wait.

    The vendor's Retry-After (up to 5 minutes) and the retry budget can make a wait longer, never shorter.

    Examples:
        ```python
        from tenacity import RetryCallState, stop_after_delay, wait_fixed


        def unless_refused(state: RetryCallState) -> bool:
            return state.outcome is not None and isinstance(state.outcome.exception(), accucheck.RateLimited)


        policy = accucheck.Policy(
            retry_wait=wait_fixed(5),  # exactly 5 s before every retry
            retry_stop=unless_refused,
            poll_wait=wait_fixed(20),
            poll_stop=stop_after_delay(3_600),
        )
        client = accucheck.Client(policy=policy)
        ```
    """

    retry_wait: WaitBaseT = field(default_factory=lambda: _FullJitter(multiplier=1, max=30))
    """The wait before the next try after a failure. Default: random, up to 1 s at first, then up to 2, 4 … 30 s."""
    retry_stop: StopBaseT = field(default_factory=lambda: tenacity.stop_after_attempt(5))
    """When to give up on a failing number. Default: after its fifth failed try."""
    poll_wait: WaitBaseT | None = None
    """The wait before polling a PENDING number; None learns it from how long answers take."""
    poll_stop: StopBaseT | None = None
    """When to give up on a PENDING number. None: 10 minutes after its first call (``pending="later"``: 6 hours)."""
    refusal_stop: StopBaseT = field(default_factory=lambda: tenacity.stop_after_delay(900))
    """When to give up on a number whose calls are refused for the account's rate (RATE_LIMIT_EXCEEDED). Default: 15
    minutes after the first of them. It does not concern INVALID_ARGUMENT, which is never tried again."""
    long_wait: float = 60.0
    """Seconds until a number is asked once more if its reply was unclear (an unknown status, or
    ABNORMAL_BEHAVIOURS_DETECTED). After a second unclear reply, it is ``Undetermined``."""
    on_lost_answer: Literal["retry", "fail"] = "retry"
    """Whether to repeat a call whose answer was lost after it was sent; the lost call may have been charged."""
    retry_budget: float = 0.5
    """Retries allowed for each answered call, 0 to 1. On top of these, a run may make 100 retries and one per worker at
    its start, and 10 per second. When none are left, numbers wait: the run slows down, but no number fails for it."""

    @classmethod
    def fast(cls) -> Policy:
        """Return a policy for tests: the usual number of tries, with waits of a hundredth of a second."""
        wait = tenacity.wait_fixed(0.01)
        return cls(
            retry_wait=wait, poll_wait=wait, poll_stop=tenacity.stop_after_attempt(100), long_wait=0.01
        )

    def __post_init__(self) -> None:
        for name in ("retry_wait", "retry_stop", "poll_wait", "poll_stop", "refusal_stop"):
            strategy = getattr(self, name)
            if not callable(strategy) and not (name.startswith("poll") and strategy is None):
                example = "tenacity.wait_fixed(5)" if "wait" in name else "tenacity.stop_after_attempt(5)"
                raise ConfigurationError(
                    f"{name} must be a tenacity strategy such as {example}, not {strategy!r}"
                )
        if not 0 <= self.long_wait < math.inf:
            raise ConfigurationError(
                f"long_wait must be a number of seconds, 0 or more, not {self.long_wait!r}"
            )
        if self.on_lost_answer not in ("retry", "fail"):
            raise ConfigurationError(f"on_lost_answer must be 'retry' or 'fail', not {self.on_lost_answer!r}")
        if not 0 <= self.retry_budget <= 1:
            raise ConfigurationError(f"retry_budget must be a share from 0 to 1, not {self.retry_budget!r}")


class AttemptHistory(msgspec.Struct, frozen=True, kw_only=True):
    """How far a number has come when a reply to it arrives."""

    number: str = ""
    """In E.164."""
    now: float = 0.0
    """The clock, in seconds."""
    calls: int = 0
    """Calls made for the number, including this one."""
    lost: int = 0
    """Calls whose answer was lost after they were sent, including this one."""
    failures: int = 0
    """Failed tries before this one."""
    failing_for: float = 0.0
    """Seconds since the first failed try was sent."""
    polls: int = 0
    """PENDING replies before this one."""
    pending_for: float = 0.0
    """Seconds since the number's first call."""
    refusals: int = 0
    """Rate-limited calls before this one."""
    refused_for: float = 0.0
    """Seconds since the first of them."""
    unclear: int = 0
    """Unclear replies before this one."""
    waited: float = 0.0
    """Seconds spent between tries so far."""
    learned_poll_wait: float = 2.0
    """Seconds until the next poll, as learned by the run; used if the policy has no ``poll_wait``."""
    collects_later: bool = False
    """Whether PENDING may last for hours (``pending="later"``)."""
    budget_wait: float = 0.0
    """Seconds until the run's shared retry budget allows this number a retry."""


class Done(msgspec.Struct, frozen=True):
    """The number is settled, by an answer or by an error of this number only."""

    result: Check | CheckError


class Wait(msgspec.Struct, frozen=True):
    """Ask again after this many seconds. After a refusal, everyone waits, and the gate decides how long."""

    seconds: float
    then: Literal["retry", "poll", "refused"]


class Stop(msgspec.Struct, frozen=True):
    """The run cannot continue; the number has no answer."""

    error: RunEnded


Decision: TypeAlias = Done | Wait | Stop


def decide(attempt: AttemptHistory, reply: Reply, policy: Policy, chance: float) -> Decision:
    """Return what a reply means for its number.

    ``chance`` is the only randomness: one draw from [0, 1), made by the caller.
    """
    if isinstance(reply, Answered):
        return Done(reply.check)
    match reply.row.fate:
        case "poll":
            return _poll_or_fail(attempt, reply, policy, chance)
        case "retry":
            return _retry_or_fail(attempt, reply, policy, chance)
        case "slow_down":
            return _slow_down_or_fail(attempt, reply, policy, chance)
        case "ask_once_more":
            if attempt.unclear:
                return Done(_error(attempt, reply))
            return Wait(max(policy.long_wait, _asked_for(reply)), "retry")
        case "final" | "answer":  # never an answer without a check: the wire makes that BAD_RESULT
            return Done(_error(attempt, reply))
        case "end":
            return Stop(_ending(reply))
        case fate:  # pragma: no cover
            assert_never(fate)


def _poll_or_fail(attempt: AttemptHistory, reply: NoAnswer, policy: Policy, chance: float) -> Decision:
    asked = attempt.polls + 1
    word = reply.status if isinstance(reply, StatusReply) else reply.row.name
    gave_up = f"still {word} after {attempt.pending_for:.0f} s and {asked} calls: try again later"
    error = _error(attempt, reply, gave_up, kind=StillPending if attempt.collects_later else None)
    state = CallState(attempt, error, attempt_number=asked, seconds=attempt.pending_for, chance=chance)
    seconds = attempt.learned_poll_wait if policy.poll_wait is None else _keepable(policy.poll_wait(state))
    state.upcoming_sleep = seconds
    if policy.poll_stop is not None:
        gives_up = policy.poll_stop(state)
    else:
        gives_up = attempt.pending_for >= (POLLED_LATER_FOR if attempt.collects_later else POLLED_FOR)
    return Done(error) if gives_up else Wait(seconds, "poll")


def _slow_down_or_fail(attempt: AttemptHistory, reply: NoAnswer, policy: Policy, chance: float) -> Decision:
    asked = attempt.refusals + 1
    error = _error(attempt, reply)
    state = CallState(attempt, error, attempt_number=asked, seconds=attempt.refused_for, chance=chance)
    seconds = state.upcoming_sleep = _asked_for(reply)
    return Done(error) if policy.refusal_stop(state) else Wait(seconds, "refused")


def _retry_or_fail(attempt: AttemptHistory, reply: NoAnswer, policy: Policy, chance: float) -> Decision:
    error = _error(attempt, reply)
    if isinstance(reply, Broken) and reply.sent and policy.on_lost_answer == "fail":
        return Done(error)
    asked = attempt.failures + 1
    state = CallState(attempt, error, attempt_number=asked, seconds=attempt.failing_for, chance=chance)
    at_least = max(_asked_for(reply), attempt.budget_wait)
    seconds = state.upcoming_sleep = max(_keepable(policy.retry_wait(state)), at_least)
    return Done(error) if policy.retry_stop(state) else Wait(seconds, "retry")


def _asked_for(reply: NoAnswer) -> float:
    return min(reply.retry_after or 0.0, LONGEST_WAIT)


def _keepable(seconds: float) -> float:
    """Return a strategy's wait as a finite number of seconds, 0 or more, since users supply strategies."""
    if 0 <= seconds < math.inf:
        return float(seconds)
    return LONGEST_WAIT if seconds == math.inf else 0.0


def _error(
    attempt: AttemptHistory, reply: NoAnswer, message: str = "", *, kind: type[CheckError] | None = None
) -> CheckError:
    """Return the error that the number would fail with after this reply."""
    kind = kind or reply.row.error  # type: ignore[assignment]
    assert kind is not None
    assert issubclass(kind, CheckError)
    said = reply.reason
    if not message:
        message = _filled(reply)
        if issubclass(kind, Undetermined):  # keep the vendor's word
            message += f" ({said})" if said else ""
        elif said:
            message = said
    return kind(
        message,
        number=attempt.number,
        request_id=reply.request_id,
        http_status=reply.http_status,
        calls=attempt.calls,
        retry_after=reply.retry_after,
        possibly_double_charged=attempt.lost,
    )


def _ending(reply: NoAnswer) -> RunEnded:
    kind = reply.row.error
    assert kind is not None
    assert issubclass(kind, RunEnded)
    said = f" ({reply.reason})" if reply.reason else ""
    return kind(_filled(reply) + said, request_id=reply.request_id, http_status=reply.http_status)


def _filled(reply: NoAnswer) -> str:
    word = reply.status if isinstance(reply, StatusReply) else reply.row.name
    return reply.row.message.format(word=word, http=reply.http_status)


class CallState(tenacity.RetryCallState):
    """What a strategy gets. No ``Retrying`` drives it, but it has everything that strategies read."""

    def __init__(
        self,
        attempt: AttemptHistory,
        error: CheckError,
        *,
        attempt_number: int,
        seconds: float,
        chance: float,
    ) -> None:
        super().__init__(_RETRYING, check, (attempt.number,), {})
        self.attempt_number = attempt_number
        self.start_time = attempt.now - seconds
        self.outcome = tenacity.Future.construct(attempt_number, error, has_exception=True)
        self.outcome_timestamp = attempt.now
        self.idle_for = attempt.waited
        self.chance = chance
        """The attempt's draw from [0, 1)."""


def check(number: str) -> Check:
    """A stand-in for ``Client.check`` in tenacity's strategies and logs."""
    raise NotImplementedError


_RETRYING: Final = tenacity.Retrying()
