"""One turn of one number: send, tell the gate, decide. ``check`` sleeps between turns, ``stream`` parks."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from accucheck._circuit import Circuit, RetryBudget
from accucheck._decide import AttemptHistory, Decision, Done, Policy, Wait, decide
from accucheck._events import CallEnded, CallKind, OnEvent
from accucheck._gate import PacedGate
from accucheck._models import Check
from accucheck._polls import PollTimes
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply

Send: TypeAlias = Callable[[str], Awaitable[Reply]]
"""Makes exactly one HTTP attempt for a national number; a failure is a value too."""


class Progress:
    """How far one number has come; the times are the gate's clock."""

    __slots__ = (
        "calls",
        "failing_since",
        "failures",
        "first_sent_at",
        "lost",
        "national",
        "next",
        "pending_at",
        "polls",
        "refusals",
        "refused_since",
        "waited",
    )

    def __init__(self, national: str) -> None:
        self.national = national
        self.calls = 0
        self.failures = 0
        self.polls = 0
        self.refusals = 0
        self.lost = 0
        self.waited = 0.0
        self.first_sent_at = 0.0
        self.pending_at = 0.0  # when the last call was sent that was answered PENDING
        self.failing_since = 0.0
        self.refused_since = 0.0
        self.next: CallKind = "first"


class Counters:
    """The run's counts of calls, kept by plain increments."""

    __slots__ = ("calls", "cut_off", "in_flight", "lost", "pending", "polls", "refusals", "retries")

    def __init__(self) -> None:
        self.calls = self.cut_off = self.in_flight = self.lost = self.pending = self.polls = self.refusals = (
            self.retries
        ) = 0


class Attempt:
    """Makes one call for one number and decides what comes of it."""

    def __init__(
        self,
        *,
        send: Send,
        gate: PacedGate,
        policy: Policy,
        polls: PollTimes,
        circuit: Circuit,
        retries: RetryBudget,
        on_event: OnEvent | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.gate = gate
        self.circuit = circuit
        self.counters = Counters()
        self._send = send
        self._policy = policy
        self._polls = polls
        self._retries = retries
        self._on_event = on_event
        self._chance = chance

    async def take(self, progress: Progress, sent_at: float) -> Decision:
        """Send once and decide. The permit was given at ``sent_at``; a call has been reserved."""
        counters = self.counters
        counters.calls += 1
        counters.in_flight += 1
        if progress.next != "first":
            self._count_again(progress)
        if progress.calls == 0:
            progress.first_sent_at = sent_at
        progress.calls += 1
        probe = self.circuit.opened and self.circuit.sending()
        try:
            reply = await self._send(progress.national)
        except BaseException:
            # Cut off in mid-call: the answer is lost, and may have been charged.
            progress.lost += 1
            counters.lost += 1
            counters.cut_off += 1
            if probe:
                self.circuit.abandon_probe()
            raise
        finally:
            counters.in_flight -= 1
        if self._on_event is not None:
            detail = reply.message if isinstance(reply, Broken) else ""
            self._on_event(CallEnded(_name(reply), progress.next, self.gate.now() - sent_at, detail))
        if type(reply) is Answered:
            # The common way, told apart so that a good reply builds no AttemptHistory and draws no chance.
            self.gate.admitted(sent_at)
            self.circuit.record(True, sent_at, probe=probe)
            self._retries.refill()
            if progress.polls:
                first = progress.first_sent_at
                self._polls.answered(self.gate.now() - first, progress.pending_at - first)
            return Done(reply.check)
        return self._decide(progress, reply, sent_at, probe)

    def _decide(self, progress: Progress, reply: Reply, sent_at: float, probe: bool) -> Decision:
        now = self.gate.now()
        chance = self._chance()
        refused = isinstance(reply, StatusReply) and reply.status == "RATE_LIMIT_EXCEEDED"
        pending = isinstance(reply, StatusReply) and reply.status == "PENDING"
        failed = isinstance(reply, Broken | Malformed) or (
            isinstance(reply, StatusReply) and reply.status == "INTERNAL_ERROR"
        )
        if refused:
            assert isinstance(reply, StatusReply)
            self.gate.refused(sent_at, reply.retry_after)
            if not progress.refusals:
                progress.refused_since = sent_at
        elif not isinstance(reply, Broken) or reply.sent:
            # What never reached the vendor was not let through by it either.
            self.gate.admitted(sent_at)
        if failed and not progress.failures:
            progress.failing_since = sent_at
        self.circuit.record(not failed, now, probe=probe)
        pending_for = now - progress.first_sent_at
        attempt = AttemptHistory(
            failures=progress.failures,
            failing_for=now - progress.failing_since if failed else 0.0,
            polls=progress.polls,
            pending_for=pending_for,
            refusals=progress.refusals,
            refused_for=now - progress.refused_since if refused else 0.0,
            waited=progress.waited,
            learned_poll_wait=self._polls.next_wait(pending_for, progress.polls, chance) if pending else 0.0,
            # While the circuit is open it paces the retries by itself.
            budget_wait=self._retries.wait(now) if failed and not self.circuit.opened else 0.0,
        )
        decision = decide(attempt, reply, self._policy, chance)
        self._advance(progress, reply, decision, sent_at, now)
        return decision

    def _advance(
        self, progress: Progress, reply: Reply, decision: Decision, sent_at: float, now: float
    ) -> None:
        if isinstance(reply, Broken) and reply.sent:
            progress.lost += 1
            self.counters.lost += 1
        elif isinstance(reply, StatusReply):
            self.counters.refusals += reply.status == "RATE_LIMIT_EXCEEDED"
            self.counters.pending += reply.status == "PENDING" and not progress.polls
        if not isinstance(decision, Wait):
            return
        progress.next = decision.then
        progress.waited += decision.seconds
        match decision.then:
            case "poll":
                progress.polls += 1
                progress.pending_at = sent_at
            case "refused":
                progress.refusals += 1
            case "retry":
                progress.failures += 1
                if not self.circuit.opened:
                    self._retries.take(now)

    def _count_again(self, progress: Progress) -> None:
        if progress.next == "poll":
            self.counters.polls += 1
        elif progress.next == "retry":
            self.counters.retries += 1


def _name(reply: Reply) -> str:
    match reply:
        case Answered(check):
            assert isinstance(check, Check)
            return "OK"
        case StatusReply():
            return reply.status
        case Malformed():
            return "MALFORMED"
        case Broken():
            return "BROKEN"
