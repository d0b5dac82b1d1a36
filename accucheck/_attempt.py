"""One attempt of one number: permit, send, decide. ``check`` sleeps between attempts, ``stream`` queues."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from accucheck._arguments import Timeouts
from accucheck._budgets import Caps
from accucheck._circuit import Brake
from accucheck._decide import AttemptHistory, Decision, Done, Policy, Stop, Wait, decide
from accucheck._errors import BudgetExhausted, ConfigurationError, StillPending, mask
from accucheck._events import CallEnded, CallKind, Key, Listeners
from accucheck._gate import Gate
from accucheck._host import Host
from accucheck._models import Check, Endpoint, Stats
from accucheck._polls import LaterPolls
from accucheck._statuses import ANSWER_LOST, UNKNOWN
from accucheck._store import EndpointChoice
from accucheck._wire import Answered, Broken, NoAnswer, Reply, StatusReply, was_not_sent

__all__ = ["Attempt", "Counters", "Progress", "Send"]

logger = logging.getLogger("accucheck")


Send: TypeAlias = Callable[..., Awaitable[Reply]]
"""Makes exactly one HTTP attempt for a national number, optionally with ``Timeouts``; returns failures as values."""


_MOST_WARNINGS = 10
"""The most unknown statuses named in warnings."""


class Progress(msgspec.Struct, eq=False):
    """How far one number has come; times are on the gate's clock."""

    national: str
    index: int = -1
    """Its place in the input; -1 for a single check."""
    item: Any = None
    timeouts: Timeouts | None = None
    """Time limits for its calls; None for the client's."""
    calling: bool = False
    """Whether a call for it is in flight."""
    calls: int = 0
    failures: int = 0
    polls: int = 0
    refusals: int = 0
    lost: int = 0
    unclear: int = 0
    waited: float = 0.0
    first_sent_at: float = 0.0
    pending_at: float = 0.0
    """When the last call with a PENDING reply was sent."""
    place: int = -1
    """Its place in the line of numbers collected later; -1 if it is not in it."""
    failing_since: float = 0.0
    refused_since: float = 0.0
    next: CallKind = "first"
    last: NoAnswer | None = None
    """The last reply, unless it was an answer."""
    basic: bool = False
    """Whether it is at the first step of a cascade, and so asked at the basic endpoint."""
    first: Check | None = None
    """The "yes" that the first step of a cascade has brought."""
    first_calls: int = 0
    first_lost: int = 0
    """What the first step took in this run."""


class Counters:
    """The run's counts of calls, kept by plain increments."""

    __slots__ = (
        "basic_replies",
        "calls",
        "cut_off",
        "in_flight",
        "lost",
        "pending",
        "polls",
        "refusals",
        "replies",
        "retries",
    )

    def __init__(self) -> None:
        self.replies: Counter[str] = Counter()
        """Calls without an answer, by the name of their row in the status table."""
        self.basic_replies: Counter[str] = Counter()
        """Calls of a cascade to the basic endpoint, answers included."""
        self.calls = self.cut_off = self.in_flight = self.lost = self.pending = self.polls = self.refusals = (
            self.retries
        ) = 0

    def by_reply(self) -> dict[str, int]:
        """Return the calls that have ended, by the name of their reply; ``OK`` is an answer."""
        answers = self.calls - self.in_flight - self.cut_off - self.replies.total()
        counts = Counter({"OK": answers, ANSWER_LOST.name: self.cut_off}) + self.replies
        return dict(counts)

    def stats(self, **own: Any) -> Stats:
        """Return the totals of a run: these counts, and its ``own``."""
        return Stats(
            calls=self.calls,
            in_flight=self.in_flight,
            pending=self.pending,
            polls=self.polls,
            retries=self.retries,
            refusals=self.refusals,
            possibly_double_charged=self.lost,
            replies=self.by_reply(),
            basic_replies=dict(self.basic_replies),
            **own,
        )


_NOTICEABLE: Final = 0.1
"""The share by which the rate must change before it is logged."""


class Caller(Protocol):
    """Who requests a call: a worker of a stream, or a single check."""

    def wait(self, change: int) -> None:
        """Note that it starts (1) or stops (-1) waiting for a permit."""

    def wants(self) -> bool:
        """Return whether ``choose`` would find a number now."""

    def choose(self) -> Progress | None:
        """Return the number that gets the permit; None if there is none left."""


class _Recorded:
    """A caller that remembers its choice and makes the same one again."""

    def __init__(self, caller: Caller) -> None:
        self.chosen: Progress | None = None
        self.wait = caller.wait
        self._wants = caller.wants
        self._choose = caller.choose

    def wants(self) -> bool:
        return self.chosen is not None or self._wants()

    def choose(self) -> Progress | None:
        if self.chosen is None:
            self.chosen = self._choose()
        return self.chosen


class Attempt:
    """Makes one call for one number and decides what comes of it."""

    def __init__(
        self,
        *,
        send: Send,
        gate: Gate,
        policy: Policy,
        host: Host,
        events: Listeners,
        caps: Caps | None = None,
        brake: Brake | None = None,
        later: LaterPolls | None = None,
        key: Key | None = None,
        run_id: str = "",
        endpoint: EndpointChoice = "advanced",
        send_basic: Send | None = None,
        body_turn: Callable[[], AbstractAsyncContextManager[None]] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``key`` and ``run_id`` go into the events; ``key`` must not raise.

        ``send_basic`` makes the calls of a cascade's first step. In ``body_turn`` no other process of the account is
        finding out about the body.
        """
        self.gate = gate
        self.host = host
        self.brake = brake
        self.basic_brake = None if brake is None or endpoint != "cascade" else Brake()
        """That of the first step: a setting may be wrong for one endpoint alone."""
        self.braked: Brake | None = None
        """The one that has ended the run."""
        self.later = later
        self.counters = Counters()
        self._send = send
        self._send_basic = send_basic or send
        self._body_turn = body_turn
        self._endpoint: Endpoint = "advanced" if endpoint == "cascade" else endpoint
        self._policy = policy
        self._events = events
        self._key = key
        self._run_id = run_id
        self._caps = caps or Caps()
        self._limited = bool(self._caps)
        self._chance = chance
        self._debugging = logger.isEnabledFor(logging.DEBUG)
        self._now = asyncio.get_running_loop().time
        self._logged_rate = gate.rate
        self._unknown: set[str] = set()

    def make(self, caller: Caller, *, urgent: bool = False) -> Awaitable[Decision | None]:
        """Wait for a permit, have ``caller`` choose the number that gets it, send once, and decide.

        Returns None if no call was made: the circuit is open, or there was nothing to choose. Raises
        BudgetExhausted, and what the store and the transport raise.
        """
        # Not a coroutine around another, which would add a frame to every call.
        if self.host.body.settled:
            return self._make(caller, urgent=urgent)
        return self._make_first(caller, urgent=urgent)

    async def _make_first(self, caller: Caller, *, urgent: bool) -> Decision | None:
        """Wait until the body encoding is known, or find it out."""
        async with AsyncExitStack() as turn:
            caller.wait(1)
            try:
                await turn.enter_async_context(self.host.first_call)
                if self._body_turn is not None and not self.host.body.settled:
                    await turn.enter_async_context(self._body_turn())
            finally:
                caller.wait(-1)
            if not self.host.body.settled:
                return await self._find_body(caller, urgent=urgent)
        return await self._make(caller, urgent=urgent)

    async def _find_body(self, caller: Caller, *, urgent: bool) -> Decision | None:
        """Make the call that finds out the body encoding, alone, and if needed once more in the other encoding."""
        body = self.host.body
        style = body.style
        first = _Recorded(caller)
        decision = await self._make(first, urgent=urgent)
        if first.chosen is None or body.style == style or body.settled:
            return decision
        again = await self._make(first, urgent=urgent)
        return decision if again is None else again

    async def _make(self, caller: Caller, *, urgent: bool) -> Decision | None:
        sent_at = self.gate.try_acquire()
        if sent_at is None:
            caller.wait(1)
            try:
                sent_at = await self.gate.acquire(urgent=urgent)
            finally:
                caller.wait(-1)
        host = self.host
        circuit = host.circuit
        if circuit.opened and not circuit.admits(sent_at):
            return None
        caps, limited = self._caps, self._limited
        if limited and not caps.take():
            caller.wait(1)
            try:
                await caps.reserve()
            except BudgetExhausted:
                if caller.wants():
                    raise
                return None  # the cap was just enough
            finally:
                caller.wait(-1)
        progress = caller.choose()
        if progress is None:
            caps.give_back()
            return None
        if limited:
            caps.sending()
        counters = self.counters
        counters.calls += 1
        counters.in_flight += 1
        if progress.next == "first":
            progress.first_sent_at = sent_at
        else:
            self._count_again(progress)
        progress.calls += 1
        probe = circuit.opened and circuit.sending()
        progress.calling = True
        basic = progress.basic
        send = self._send_basic if basic else self._send
        try:
            if progress.timeouts is None:
                reply = await send(progress.national)
            else:
                reply = await send(progress.national, progress.timeouts)
        except BaseException as error:
            if isinstance(error, ConfigurationError) or was_not_sent(error):
                self._take_back(progress)
            else:
                # Cut off during the call: the answer is lost and may have been charged.
                progress.lost += 1
                counters.lost += 1
                counters.cut_off += 1
                if basic:
                    counters.basic_replies[ANSWER_LOST.name] += 1
                caps.settle(ANSWER_LOST, basic=basic)
            if probe:
                circuit.abandon_probe()
                host.follow(self._now())
            raise
        finally:
            counters.in_flight -= 1
            progress.calling = False
        if basic:
            counters.basic_replies[reply.row.name] += 1
        if limited:
            caps.settle(reply.row, basic=basic)
        if self._events.tell is not None:
            self._tell_of(progress, reply, self._now() - sent_at)
        body, brake = host.body, self.basic_brake if basic else self.brake
        ask_again = not body.known and body.heard(reply)
        if isinstance(reply, Answered):
            if brake is not None and not brake.quiet:
                brake.succeeded()
            # The common path, kept separate so that it builds no AttemptHistory and draws no random number.
            self.gate.admitted(sent_at)
            circuit.record(True, sent_at, probe=probe)
            if host.was_open:
                host.follow(self._now())
            host.retries.refill()
            if self._debugging:
                _log_answer(progress, reply, self._now() - sent_at)
            if progress.place >= 0 and self.later is not None:
                self.later.ended(progress.place, self._now() - progress.first_sent_at)
            elif progress.polls:
                first = progress.first_sent_at
                host.polls.answered(self._now() - first, progress.pending_at - first)
            return Done(reply.check)
        decision = self._decide(progress, reply, sent_at, probe)
        if not body.known:
            host.use_body(body.style)
        if ask_again:
            logger.info("%s: %s; asking once more with a %s body", host.name, _cause(reply), body.style)
            progress.next = "retry"
            return Wait(0.0, "retry")
        if brake is not None and not isinstance(decision, Stop):
            if reply.row.fate == "poll":
                brake.succeeded()
            elif (uniform := brake.refused(progress.national, reply)) is not None:
                self.braked = brake
                return Stop(uniform)
        return decision

    def _tell_of(self, progress: Progress, reply: Reply, seconds: float) -> None:
        """Tell the listeners that a call has ended."""
        tell, key = self._events.tell, self._key
        assert tell is not None
        reason = ""
        if not isinstance(reply, Answered) and reply.reason:
            reason = reply.reason.replace(progress.national, mask(progress.national))
        tell(
            CallEnded(
                reply.row.name,
                progress.next,
                seconds,
                reason,
                reply.http_status,
                progress.calls,
                progress.index if progress.index >= 0 else None,
                None if key is None else key(progress.item),
                self._run_id,
                "basic" if progress.basic else self._endpoint,
            )
        )

    def _decide(self, progress: Progress, reply: NoAnswer, sent_at: float, probe: bool) -> Decision:
        now = self._now()
        chance = self._chance()
        host = self.host
        row = reply.row
        progress.last = reply
        self.counters.replies[row.name] += 1
        if row is UNKNOWN:
            self._warn_of_unknown(reply)
        if isinstance(reply, Broken) and reply.sent:
            progress.lost += 1
            self.counters.lost += 1
        refused = row.fate == "slow_down"
        failing = row.fate == "retry"
        if refused:
            self.gate.refused(sent_at, reply.retry_after)
            self._log_refusal(progress, reply.retry_after)
            if not progress.refusals:
                progress.refused_since = sent_at
        elif not isinstance(reply, Broken) or reply.sent:
            # A call that never reached the vendor was not admitted by it.
            self.gate.admitted(sent_at)
        if failing and not progress.failures:
            progress.failing_since = sent_at
        if not row.vendor_up:
            host.cause = _cause(reply)
        host.circuit.record(row.vendor_up, now, probe=probe)
        if host.was_open or host.circuit.opened:
            host.follow(now)
        pending_for = now - progress.first_sent_at
        attempt = AttemptHistory(
            number="+51" + progress.national,
            now=now,
            calls=progress.calls,
            lost=progress.lost,
            failures=progress.failures,
            failing_for=now - progress.failing_since if failing else 0.0,
            polls=progress.polls,
            pending_for=pending_for,
            refusals=progress.refusals,
            refused_for=now - progress.refused_since if refused else 0.0,
            unclear=progress.unclear,
            waited=progress.waited,
            learned_poll_wait=self._poll_wait(progress, now, chance) if row.fate == "poll" else 0.0,
            collects_later=self.later is not None,
            # While the circuit is open, it paces the retries.
            budget_wait=host.retries.wait(now) if row.draws_retry_budget and not host.circuit.opened else 0.0,
        )
        decision = decide(attempt, reply, self._policy, chance)
        self._advance(progress, reply, decision, sent_at, now)
        return decision

    def _advance(
        self, progress: Progress, reply: NoAnswer, decision: Decision, sent_at: float, now: float
    ) -> None:
        self.counters.refusals += reply.row.fate == "slow_down"
        self.counters.pending += reply.row.fate == "poll" and not progress.polls
        if logger.isEnabledFor(logging.DEBUG):
            _log_decision(progress, reply, decision)
        if not isinstance(decision, Wait):
            if isinstance(decision, Done) and isinstance(decision.result, StillPending):
                decision.result.asked_at = _ago(now - sent_at)
            if progress.place >= 0 and self.later is not None:
                self.later.ended(progress.place, now - progress.first_sent_at)
            return
        progress.next = decision.then
        progress.waited += decision.seconds
        match decision.then:
            case "poll":
                progress.polls += 1
                progress.pending_at = sent_at
            case "refused":
                progress.refusals += 1
            case "retry" if reply.row.fate == "ask_once_more":
                progress.unclear += 1
            case "retry":
                progress.failures += 1
                if reply.row.draws_retry_budget and not self.host.circuit.opened:
                    self.host.retries.take(now)

    def _poll_wait(self, progress: Progress, now: float, chance: float) -> float:
        """Return the seconds until a PENDING number should be asked for or looked at again."""
        age = now - progress.first_sent_at
        later = self.later
        if later is None:
            return self.host.polls.next_wait(age, progress.polls, chance)
        if progress.place < 0:
            progress.place = later.enlist(age)
        else:
            later.still_pending(progress.place, age)
        return later.next_look(progress.place, age, age, progress.polls)

    def too_early(self, progress: Progress) -> float:
        """Return how many seconds longer a number should wait after its wait is over, judging by others since."""
        if self.later is None or progress.next != "poll" or self._policy.poll_wait is not None:
            return 0.0
        first = progress.first_sent_at
        asked, age = progress.pending_at - first, self._now() - first
        return self.later.next_look(progress.place, asked, age, progress.polls - 1)

    def still_pending(self, progress: Progress) -> StillPending:
        """Return the error of a number that is still PENDING when the run ends."""
        return StillPending(
            f"still pending after {progress.calls} calls: the next run collects the answer",
            number="+51" + progress.national,
            calls=progress.calls,
            possibly_double_charged=progress.lost,
            asked_at=_ago(self._now() - progress.pending_at),
        )

    def collect(self, progress: Progress, asked_at: datetime) -> float:
        """Put a number that an earlier run left pending in line; return the seconds until it may be asked.

        It was last asked at ``asked_at``; how long it was pending before that is unknown.
        """
        assert self.later is not None
        age = self.later.floor - self.too_soon(asked_at)
        progress.first_sent_at = progress.pending_at = self._now() - age
        progress.next = "poll"
        progress.polls = 1
        progress.place = self.later.enlist(0.0)
        self.counters.pending += 1
        return self.later.next_look(progress.place, 0.0, age, 0)

    def too_soon(self, asked_at: datetime) -> float:
        """Return the seconds until a number that was last asked at ``asked_at`` at the latest may be asked again."""
        assert self.later is not None
        age = (datetime.now(UTC) - asked_at).total_seconds()
        return min(max(self.later.floor - age, 0.0), self.later.floor)

    def to_second_step(self, progress: Progress, first: Check) -> None:
        """Note the "yes" of a cascade's first step: from now on the number is asked at the advanced endpoint."""
        progress.first = first
        progress.first_calls, progress.first_lost = progress.calls, progress.lost
        progress.basic = False
        progress.next = "first"
        progress.calls = progress.failures = progress.polls = progress.refusals = progress.lost = 0
        progress.unclear = 0
        progress.waited = 0.0
        progress.place = -1

    def _warn_of_unknown(self, reply: NoAnswer) -> None:
        """Warn of an unknown status, once each, up to a limit."""
        word = reply.status if isinstance(reply, StatusReply) else reply.row.name
        if word not in self._unknown and len(self._unknown) < _MOST_WARNINGS:
            self._unknown.add(word)
            logger.warning(
                "AccuAuth replied “%s”, a status accucheck does not know: each such number is checked once more, "
                "then reported as UNDETERMINED",
                word,
            )

    def _count_again(self, progress: Progress) -> None:
        if progress.next == "poll":
            self.counters.polls += 1
        elif progress.next == "retry":
            self.counters.retries += 1

    def _take_back(self, progress: Progress) -> None:
        """Undo the count of a call that was not sent, and so cannot have been charged."""
        progress.calls -= 1
        self.counters.calls -= 1
        if progress.next == "poll":
            self.counters.polls -= 1
        elif progress.next == "retry":
            self.counters.retries -= 1
        self._caps.not_sent()

    def _log_refusal(self, progress: Progress, retry_after: float | None) -> None:
        logger.debug("%s: rate-limited, Retry-After %s", mask(progress.national), retry_after)
        rate, before = self.gate.rate, self._logged_rate
        if rate is not None and (before is None or abs(rate - before) > _NOTICEABLE * before):
            self._logged_rate = rate
            logger.info("%s: rate-limited; the rate is %.4g calls/s now", self.host.name, rate)


def _log_answer(progress: Progress, reply: Answered, seconds: float) -> None:
    number, verdict = mask(progress.national), "yes" if reply.check.whatsapp else "no"
    logger.debug("%s: OK, %s; %s call, %.3f s", number, verdict, progress.next, seconds)


def _log_decision(progress: Progress, reply: NoAnswer, decision: Decision) -> None:
    cause = _cause(reply)
    if isinstance(decision, Wait):
        logger.debug("%s: %s; %s in %.2f s", mask(progress.national), cause, decision.then, decision.seconds)
    else:
        logger.debug("%s: %s; given up after %d calls", mask(progress.national), cause, progress.calls)


def _ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


def _cause(reply: NoAnswer) -> str:
    """Return how a call ended, in a few words for a person."""
    return reply.reason or reply.row.name
