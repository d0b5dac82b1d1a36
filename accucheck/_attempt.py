"""One turn of one number: send, tell the gate, decide. ``check`` sleeps between turns, ``stream`` parks."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from accucheck._circuit import Circuit, RetryBudget
from accucheck._decide import AttemptHistory, Decision, Done, Policy, Wait, decide
from accucheck._events import CallEnded, CallKind, OnEvent
from accucheck._gate import PacedGate
from accucheck._polls import PollTimes
from accucheck._statuses import UNKNOWN
from accucheck._wire import Answered, Broken, NoAnswer, Reply, StatusReply

logger = logging.getLogger("accucheck")

Send: TypeAlias = Callable[[str], Awaitable[Reply]]
"""Makes exactly one HTTP attempt for a national number; a failure is a value too."""


_MOST_WARNINGS = 10
"""Unknown words that are named in warnings."""


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
        "unclear",
        "waited",
    )

    def __init__(self, national: str) -> None:
        self.national = national
        self.calls = 0
        self.failures = 0
        self.polls = 0
        self.refusals = 0
        self.lost = 0
        self.unclear = 0
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
        self._unknown: set[str] = set()

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
            detail = reply.reason if isinstance(reply, Broken) else ""
            self._on_event(CallEnded(reply.row.name, progress.next, self.gate.now() - sent_at, detail))
        if isinstance(reply, Answered):
            # The common way, told apart so that a good reply builds no AttemptHistory and draws no chance.
            self.gate.admitted(sent_at)
            self.circuit.record(True, sent_at, probe=probe)
            self._retries.refill()
            if progress.polls:
                first = progress.first_sent_at
                self._polls.answered(self.gate.now() - first, progress.pending_at - first)
            return Done(reply.check)
        return self._decide(progress, reply, sent_at, probe)

    def _decide(self, progress: Progress, reply: NoAnswer, sent_at: float, probe: bool) -> Decision:
        now = self.gate.now()
        chance = self._chance()
        row = reply.row
        if row is UNKNOWN:
            self._warn_of_unknown(reply)
        if isinstance(reply, Broken) and reply.sent:
            progress.lost += 1
            self.counters.lost += 1
        refused = row.fate == "slow_down"
        failing = row.fate == "retry"
        if refused:
            self.gate.refused(sent_at, reply.retry_after)
            if not progress.refusals:
                progress.refused_since = sent_at
        elif not isinstance(reply, Broken) or reply.sent:
            # What never reached the vendor was not let through by it either.
            self.gate.admitted(sent_at)
        if failing and not progress.failures:
            progress.failing_since = sent_at
        self.circuit.record(row.vendor_up, now, probe=probe)
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
            learned_poll_wait=(
                self._polls.next_wait(pending_for, progress.polls, chance) if row.fate == "poll" else 0.0
            ),
            # While the circuit is open it paces the retries by itself.
            budget_wait=self._retries.wait(now)
            if row.draws_retry_budget and not self.circuit.opened
            else 0.0,
        )
        decision = decide(attempt, reply, self._policy, chance)
        self._advance(progress, reply, decision, sent_at, now)
        return decision

    def _advance(
        self, progress: Progress, reply: NoAnswer, decision: Decision, sent_at: float, now: float
    ) -> None:
        self.counters.refusals += reply.row.fate == "slow_down"
        self.counters.pending += reply.row.fate == "poll" and not progress.polls
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
            case "retry" if reply.row.fate == "ask_once_more":
                progress.unclear += 1
            case "retry":
                progress.failures += 1
                if reply.row.draws_retry_budget and not self.circuit.opened:
                    self._retries.take(now)

    def _warn_of_unknown(self, reply: NoAnswer) -> None:
        """Name a word of the vendor's that we do not know, once each, and not without end."""
        word = reply.status if isinstance(reply, StatusReply) else reply.row.name
        if word not in self._unknown and len(self._unknown) < _MOST_WARNINGS:
            self._unknown.add(word)
            logger.warning(
                "AccuAuth answers “%s”, which accucheck does not know: each such number is asked once more, "
                "then it is UNDETERMINED",
                word,
            )

    def _count_again(self, progress: Progress) -> None:
        if progress.next == "poll":
            self.counters.polls += 1
        elif progress.next == "retry":
            self.counters.retries += 1
