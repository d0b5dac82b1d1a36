"""One attempt: its effect on the gate, the circuit, the counts and its number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, cast

import pytest
import tenacity

from accucheck._attempt import Attempt, Progress
from accucheck._budgets import CallBudget, CallCap, Caps
from accucheck._circuit import FAILURES_TO_OPEN, RetryBudget
from accucheck._decide import Decision, Done, Policy, Stop, Wait
from accucheck._errors import (
    ConfigurationError,
    InvalidArgument,
    OutOfQuota,
    PendingTimeout,
    RateLimited,
    TransportError,
    Undetermined,
)
from accucheck._events import CallEnded, CallKind, Event, Listeners
from accucheck._gate import PacedGate
from accucheck._host import Host
from accucheck._models import Check
from accucheck._rate import RateController
from accucheck._statuses import BAD_RESULT, VALUES
from accucheck._store import MemoryStore
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply, not_sent
from tests.virtual_time import START, run

LATENCY = 0.25
ANSWER = Answered(Check(number="+51987654321", whatsapp=True, checked_at=datetime(2026, 11, 23, tzinfo=UTC)))
PENDING = StatusReply("PENDING", 400)
REFUSAL = StatusReply("RATE_LIMIT_EXCEEDED", 403, retry_after=3.0)
FAILURE = StatusReply("INTERNAL_ERROR", 500)
LOST = Broken("read", "timed out", sent=True)
UNSENT = Broken("connect", "refused", sent=False)
STRANGE = Malformed(200, "not JSON")
INVALID = StatusReply("INVALID_ARGUMENT", 400)
QUOTA = StatusReply("OUT_OF_QUOTA", 403)


class FakePace(RateController):
    """A pace without a limit that records what it learns."""

    resume_at = 0.0
    queued = False

    def __init__(self) -> None:
        self.told: list[tuple[str, float, float | None]] = []

    def rate(self, now: float) -> float:
        return 1e6

    def sent(self, now: float) -> None:
        pass

    def admitted(self, now: float, sent_at: float) -> None:
        self.told.append(("admitted", now - sent_at, None))

    def refused(self, now: float, sent_at: float, retry_after: float | None = None) -> None:
        self.told.append(("refused", now - sent_at, retry_after))


class FakePolls:
    """Poll times that record what they are asked and told."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, int, float]] = []
        self.answers: list[float] = []

    def next_wait(self, pending_for: float, polls: int, chance: float) -> float:
        self.asked.append((pending_for, polls, chance))
        return 7.0

    def answered(self, seconds: float, still_pending_at: float | None = None) -> None:
        self.answers.append(seconds)


class Chosen:
    """A caller with one number."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def wait(self, change: int) -> None:
        pass

    def wants(self) -> bool:
        return True

    def choose(self) -> Progress:
        return self.progress


class Bench:
    """An attempt with a scripted vendor that answers after LATENCY."""

    def __init__(
        self,
        *script: Reply | BaseException,
        policy: Policy | None = None,
        allowance: float = 100,
        share: float = 0.5,
    ) -> None:
        self.script = list(script)
        self.asked: list[str] = []
        self.pace = FakePace()
        self.polls = FakePolls()
        self.events: list[Event] = []
        self.progress = Progress("987654321")
        listeners = Listeners(self.events.append)
        self.retries = RetryBudget(allowance=allowance, share=share)
        self.host = Host("api.example", retries=self.retries, events=listeners)
        self.host.polls = cast("Any", self.polls)
        self.circuit = self.host.circuit
        self.policy = policy or Policy()
        self.listeners = listeners

    @cached_property
    def attempt(self) -> Attempt:
        """Made in the loop that it belongs to."""
        return Attempt(
            send=self.send,
            gate=PacedGate(self.pace),
            policy=self.policy,
            host=self.host,
            events=self.listeners,
            chance=lambda: 0.5,
        )

    async def send(self, national: str) -> Reply:
        self.asked.append(national)
        await asyncio.sleep(LATENCY)
        reply = self.script.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def take(self, progress: Progress | None = None) -> Decision:
        decision = await self.attempt.make(Chosen(progress or self.progress))
        assert decision is not None
        return decision

    async def take_all(self, *, resting: float = 1.0) -> list[Decision]:
        decisions = []
        while self.script:
            decisions.append(await self.take())
            await asyncio.sleep(resting)
        return decisions

    def counts(self) -> dict[str, int]:
        counters = self.attempt.counters
        counts = {name: getattr(counters, name) for name in counters.__slots__ if name != "replies"}
        return {name: count for name, count in counts.items() if count}


def play(bench: Bench) -> list[Decision]:
    return run(bench.take_all())


# The result of a call


@pytest.mark.parametrize(
    ("reply", "decision"),
    [
        (ANSWER, Done(ANSWER.check)),
        (PENDING, Wait(7.0, "poll")),
        (REFUSAL, Wait(3.0, "refused")),
        (FAILURE, Wait(0.5, "retry")),
        (LOST, Wait(0.5, "retry")),
        (UNSENT, Wait(0.5, "retry")),
    ],
)
def test_a_reply_becomes_its_decision(reply: Reply, decision: Decision) -> None:
    bench = Bench(reply)
    assert play(bench) == [decision]
    assert bench.asked == ["987654321"]


def test_a_reply_that_ends_the_run_becomes_a_stop_and_an_invalid_number_a_failure() -> None:
    stop, failed = play(Bench(QUOTA))[0], play(Bench(INVALID))[0]
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, OutOfQuota)
    assert isinstance(failed, Done)
    assert isinstance(failed.result, InvalidArgument)


# Counts


@pytest.mark.parametrize(
    ("script", "counts"),
    [
        ([ANSWER], {"calls": 1}),
        ([PENDING, PENDING, ANSWER], {"calls": 3, "polls": 2, "pending": 1}),
        ([FAILURE, UNSENT, ANSWER], {"calls": 3, "retries": 2}),
        ([LOST, ANSWER], {"calls": 2, "retries": 1, "lost": 1}),
        ([REFUSAL, REFUSAL, ANSWER], {"calls": 3, "refusals": 2}),
        ([STRANGE], {"calls": 1}),
        ([QUOTA], {"calls": 1}),
        (
            [REFUSAL, PENDING, LOST, PENDING, FAILURE, ANSWER],
            {"calls": 6, "refusals": 1, "pending": 1, "polls": 2, "retries": 2, "lost": 1},
        ),
    ],
)
def test_every_call_is_counted_by_its_kind(script: list[Reply], counts: dict[str, int]) -> None:
    bench = Bench(*script)
    play(bench)
    assert bench.counts() == counts


def test_a_number_knows_its_own_calls_and_lost_answers() -> None:
    bench = Bench(LOST, PENDING, REFUSAL, LOST, ANSWER)
    play(bench)
    progress = bench.progress
    assert (progress.calls, progress.lost, progress.polls, progress.refusals, progress.failures) == (
        5,
        2,
        1,
        1,
        2,
    )
    assert progress.waited == 0.5 + 7.0 + 3.0 + 1.0  # the second retry may wait twice as long


def test_calls_in_flight_are_counted() -> None:
    async def main() -> list[int]:
        bench = Bench(ANSWER, ANSWER, ANSWER)
        calls = [asyncio.create_task(bench.take(Progress(str(n)))) for n in range(3)]
        await asyncio.sleep(LATENCY / 2)
        seen = [bench.attempt.counters.in_flight]
        await asyncio.gather(*calls)
        return [*seen, bench.attempt.counters.in_flight]

    assert run(main()) == [3, 0]


def test_the_last_refusal_of_a_number_that_is_given_up_is_counted_too() -> None:
    bench = Bench(REFUSAL, REFUSAL, policy=Policy(refusal_stop=tenacity.stop_after_attempt(2)))
    decision = play(bench)[-1]
    assert isinstance(decision, Done)
    assert isinstance(decision.result, RateLimited)
    assert bench.counts() == {"calls": 2, "refusals": 2}


def test_a_number_that_is_given_up_at_its_first_pending_counts_as_pending() -> None:
    bench = Bench(PENDING, policy=Policy(poll_stop=tenacity.stop_after_attempt(1)))
    [decision] = play(bench)
    assert isinstance(decision, Done)
    assert isinstance(decision.result, PendingTimeout)
    assert bench.counts() == {"calls": 1, "pending": 1}


def test_a_lost_answer_counts_even_when_its_number_is_given_up() -> None:
    bench = Bench(LOST, policy=Policy(on_lost_answer="fail"))
    [decision] = play(bench)
    assert isinstance(decision, Done)
    assert isinstance(decision.result, TransportError)
    assert (bench.progress.lost, bench.counts()) == (1, {"calls": 1, "lost": 1})


# Deadlines by the clock


def test_pending_is_timed_from_the_first_call_of_the_number() -> None:
    bench = Bench(FAILURE, PENDING, PENDING)
    play(bench)
    assert [asked[:2] for asked in bench.polls.asked] == [(1.5, 0), (2.75, 1)]


def test_a_number_is_given_up_ten_minutes_after_it_was_first_asked() -> None:
    bench = Bench(*[PENDING] * 700)

    async def main() -> tuple[float, Decision]:
        while True:
            decision = await bench.take()
            if not isinstance(decision, Wait):
                return asyncio.get_running_loop().time() - START, decision
            await asyncio.sleep(decision.seconds)

    ended_at, decision = run(main())
    assert isinstance(decision, Done)
    assert isinstance(decision.result, PendingTimeout)
    assert 600 <= ended_at < 600 + 7 + 2 * LATENCY


def test_refusals_are_timed_from_the_first_refusal_and_failures_from_the_first_failure() -> None:
    seen: list[tuple[str, float]] = []

    def watch(name: str) -> Any:
        def stop(state: tenacity.RetryCallState) -> bool:
            seen.append((name, cast("float", state.seconds_since_start)))
            return False

        return stop

    policy = Policy(retry_stop=watch("failure"), refusal_stop=watch("refusal"))
    play(Bench(PENDING, REFUSAL, FAILURE, REFUSAL, FAILURE, ANSWER, policy=policy))
    assert seen == [("refusal", 0.25), ("failure", 0.25), ("refusal", 2.75), ("failure", 2.75)]


def test_an_answer_after_polls_teaches_how_long_it_took() -> None:
    bench = Bench(PENDING, PENDING, ANSWER)
    play(bench)
    assert bench.polls.answers == [2.75]


def test_an_answer_at_once_teaches_the_polls_nothing() -> None:
    for script in ([ANSWER], [FAILURE, ANSWER], [REFUSAL, ANSWER]):
        bench = Bench(*script)
        play(bench)
        assert bench.polls.answers == []


# The gate


@pytest.mark.parametrize("reply", [ANSWER, PENDING, FAILURE, LOST, STRANGE, INVALID, QUOTA])
def test_any_reply_but_a_refusal_is_reported_to_the_gate_as_admitted(reply: Reply) -> None:
    bench = Bench(reply)
    play(bench)
    assert bench.pace.told == [("admitted", LATENCY, None)]


def test_a_refusal_is_reported_to_the_gate_with_its_retry_after() -> None:
    bench = Bench(REFUSAL, StatusReply("RATE_LIMIT_EXCEEDED", 429))
    play(bench)
    assert bench.pace.told == [("refused", LATENCY, 3.0), ("refused", LATENCY, None)]


# The circuit and the retry budget


@pytest.mark.parametrize("reply", [FAILURE, LOST, UNSENT, STRANGE])
def test_failures_in_a_row_open_the_circuit(reply: Reply) -> None:
    async def main() -> bool:
        bench = Bench(*[reply] * FAILURES_TO_OPEN)
        for n in range(FAILURES_TO_OPEN):
            assert not bench.circuit.opened
            await bench.take(Progress(str(n)))
        return bench.circuit.opened

    assert run(main())


@pytest.mark.parametrize("reply", [ANSWER, PENDING, REFUSAL, INVALID])
def test_replies_from_the_vendor_do_not_open_the_circuit(reply: Reply) -> None:
    async def main() -> bool:
        bench = Bench(*[reply] * 50)
        for n in range(50):
            await bench.take(Progress(str(n)))
        return bench.circuit.opened

    assert not run(main())


def open_circuit(bench: Bench) -> None:
    for _ in range(FAILURES_TO_OPEN):
        bench.circuit.record(False, START, probe=False)


@pytest.mark.parametrize(
    ("reply", "stays_open"), [(ANSWER, False), (PENDING, False), (FAILURE, True), (LOST, True)]
)
def test_the_first_call_of_an_open_circuit_is_its_probe(reply: Reply, stays_open: bool) -> None:
    async def main() -> Bench:
        bench = Bench(reply)
        open_circuit(bench)
        await asyncio.sleep(2)
        await bench.take()
        return bench

    bench = run(main())
    assert bench.circuit.opened is stays_open
    if stays_open:
        assert bench.circuit.retry_at == START + 2 + LATENCY + 2.0


def test_a_cancelled_probe_makes_way_for_another() -> None:
    async def main() -> bool:
        bench = Bench(ANSWER)
        open_circuit(bench)
        await asyncio.sleep(2)
        probe = asyncio.create_task(bench.take())
        await asyncio.sleep(LATENCY / 2)
        assert not bench.circuit.admits(asyncio.get_running_loop().time())
        probe.cancel()
        await asyncio.wait([probe])
        return bench.circuit.opened and bench.circuit.admits(asyncio.get_running_loop().time())

    assert run(main())


def test_retries_drain_the_budget_and_an_empty_one_makes_numbers_wait() -> None:
    async def main() -> list[Decision]:
        bench = Bench(*[FAILURE] * 8, allowance=0)
        return await asyncio.gather(*(bench.take(Progress(str(n))) for n in range(8)))

    waits = [decision.seconds for decision in run(main()) if isinstance(decision, Wait)]
    # Half of the first second by chance, or the wait for the budget: ten a second.
    assert sorted(waits) == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8])


def test_answers_refill_the_budget_and_other_replies_do_not() -> None:
    async def main() -> list[float]:
        bench = Bench(FAILURE, PENDING, INVALID, ANSWER, ANSWER, allowance=1, share=0.5)
        tokens = []
        for n in range(5):
            await bench.take(Progress(str(n)))
            tokens.append(bench.retries._tokens)
        return tokens

    assert run(main()) == [0, 0, 0, 0.5, 1]


def test_polls_and_refusals_take_nothing_from_the_budget() -> None:
    bench = Bench(*[PENDING, REFUSAL] * 10, allowance=1)
    play(bench)
    assert bench.retries._tokens == 1


@pytest.mark.parametrize("allowance", [0, 1])
def test_while_the_circuit_is_open_failures_neither_drain_the_budget_nor_need_it(allowance: int) -> None:
    async def main() -> tuple[Decision, float]:
        bench = Bench(FAILURE, allowance=allowance)
        open_circuit(bench)
        await asyncio.sleep(2.0)  # a probe may go
        decision = await bench.take()
        return decision, bench.retries._tokens

    assert run(main()) == (Wait(0.5, "retry"), allowance)


# Cancellation


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), RuntimeError("bug")])
def test_a_call_cut_off_is_counted_as_lost_and_propagates(error: BaseException) -> None:
    async def main() -> Bench:
        bench = Bench(error)
        with pytest.raises(type(error)):
            await bench.take()
        return bench

    bench = run(main())
    assert (bench.progress.calls, bench.progress.lost) == (1, 1)
    assert bench.counts() == {"calls": 1, "lost": 1, "cut_off": 1}
    assert bench.events == []
    assert bench.pace.told == []


@pytest.mark.parametrize(
    "error", [not_sent(asyncio.CancelledError()), ConfigurationError("too many open files")]
)
@pytest.mark.parametrize("kind", ["first", "poll", "retry"])
def test_a_call_that_was_not_sent_is_not_counted_and_costs_nothing(
    error: BaseException, kind: CallKind
) -> None:
    async def main() -> tuple[Bench, int, int]:
        bench, store, cap = Bench(error), MemoryStore(), CallCap(1)
        bench.progress.next = kind
        budget = CallBudget(store, max_calls=1)
        bench.attempt._caps, bench.attempt._limited = Caps(cap=cap, budget=budget), True
        with pytest.raises((asyncio.CancelledError, ConfigurationError)):
            await bench.take()
        await budget.close(lost=0)
        return bench, await store.calls_made(), cap.left

    bench, made, left = run(main())
    assert (bench.progress.calls, bench.progress.lost) == (0, 0)
    assert bench.counts() == {}
    assert bench.attempt.counters.by_reply() == {}
    assert (made, left) == (0, 1)


def test_a_probe_that_was_not_sent_makes_way_for_another() -> None:
    async def main() -> bool:
        bench = Bench(not_sent(asyncio.CancelledError()))
        bench.circuit.opened = True
        with pytest.raises(asyncio.CancelledError):
            await bench.take()
        return bench.circuit.admits(asyncio.get_running_loop().time())

    assert run(main())


def test_a_number_cut_off_can_be_asked_again() -> None:
    async def main() -> tuple[Decision, int, int]:
        bench = Bench(ANSWER)
        first = asyncio.create_task(bench.take())
        await asyncio.sleep(LATENCY / 2)
        first.cancel()
        await asyncio.wait([first])
        decision = await bench.take()
        return decision, bench.progress.calls, bench.progress.lost

    assert run(main()) == (Done(ANSWER.check), 2, 1)


# Events


def test_each_call_is_reported_with_its_reply_its_kind_and_its_time_and_no_number() -> None:
    bench = Bench(PENDING, REFUSAL, FAILURE, LOST, STRANGE)
    play(bench)
    assert bench.events == [
        CallEnded("PENDING", "first", LATENCY, http_status=PENDING.http_status, call=1),
        CallEnded("RATE_LIMIT_EXCEEDED", "poll", LATENCY, http_status=REFUSAL.http_status, call=2),
        CallEnded("INTERNAL_ERROR", "refused", LATENCY, http_status=FAILURE.http_status, call=3),
        CallEnded("ANSWER_LOST", "retry", LATENCY, LOST.reason, call=4),
        CallEnded("MALFORMED", "retry", LATENCY, STRANGE.reason, STRANGE.http_status, call=5),
    ]
    assert "987654321" not in repr(bench.events)


def test_an_answer_is_reported_as_ok() -> None:
    bench = Bench(ANSWER)
    play(bench)
    assert bench.events == [CallEnded("OK", "first", LATENCY, http_status=200)]


def test_a_number_in_the_vendors_reason_is_masked_in_the_event() -> None:
    bench = Bench(StatusReply("INVALID_ARGUMENT", 400, "987654321 is not a number"))
    play(bench)
    assert [event.reason for event in bench.events if isinstance(event, CallEnded)] == [
        "9876•••21 is not a number"
    ]


def test_the_hook_and_the_chance_have_defaults() -> None:
    async def send(_national: str) -> Reply:
        return PENDING

    async def main() -> Decision:
        polls = FakePolls()
        listeners = Listeners()
        host = Host("api.example", retries=RetryBudget(allowance=1, share=0), events=listeners)
        host.polls = cast("Any", polls)
        attempt = Attempt(
            send=cast("Callable[[str], Awaitable[Reply]]", send),
            gate=PacedGate(FakePace()),
            policy=Policy(),
            host=host,
            events=listeners,
        )
        decision = await attempt.make(Chosen(Progress("987654321")))
        assert decision is not None
        assert 0 <= polls.asked[0][2] < 1
        return decision

    assert run(main()) == Wait(7.0, "poll")


# Soft answers: the vendor is up

SOFT = [
    StatusReply("unavailable", 200, row=VALUES["unavailable"]),
    StatusReply("checking", 200, row=VALUES["checking"]),
    StatusReply("QUERY_FAILED", 400),
    StatusReply("ABNORMAL_BEHAVIOURS_DETECTED", 400),
    StatusReply("NOT_HIT", 400),
    StatusReply("SHINY_NEW", 400),
    Malformed(200, "OK without a result", row=BAD_RESULT),
]


@pytest.mark.parametrize("reply", SOFT, ids=lambda reply: reply.row.name)
def test_soft_answers_never_open_the_circuit_and_draw_nothing_from_the_retry_budget(reply: Reply) -> None:
    bench = Bench(*[reply] * 50, policy=Policy(retry_stop=tenacity.stop_never), allowance=1, share=0)
    play(bench)
    assert not bench.circuit.opened
    assert bench.retries.wait(START + 1e6) == 0.0


def test_an_unclear_reply_counts_as_a_retry_and_not_as_a_failure() -> None:
    bench = Bench(StatusReply("SHINY_NEW", 400), FAILURE, FAILURE, FAILURE, FAILURE, ANSWER)
    decisions = play(bench)
    assert decisions[0] == Wait(60.0, "retry")
    assert decisions[-1] == Done(ANSWER.check)
    assert bench.counts() == {"calls": 6, "retries": 5}


def test_the_second_unclear_reply_is_final_and_the_error_carries_the_number() -> None:
    bench = Bench(
        LOST, StatusReply("SHINY_NEW", 400), PENDING, StatusReply("STRANGER", 418, request_id="TID7")
    )
    *_, last = play(bench)
    assert isinstance(last, Done)
    assert last.result == Undetermined(
        "AccuAuth replied “STRANGER”, a status accucheck does not know: ask AccuAuth what it means",
        number="+51987654321",
        request_id="TID7",
        http_status=418,
        calls=4,
        possibly_double_charged=1,
    )


def test_an_unknown_status_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    words = ["SHINY_NEW", "SHINY_NEW", "STRANGER", "SHINY_NEW"]
    play(Bench(*[StatusReply(word, 400) for word in words]))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "SHINY_NEW" in caplog.messages[0]
    assert "STRANGER" in caplog.messages[1]


def test_endless_unknown_statuses_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    play(Bench(*[StatusReply(f"WORD {number}", 400) for number in range(100)]))
    assert len(caplog.records) == 10
