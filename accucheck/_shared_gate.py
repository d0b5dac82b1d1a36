"""One rate for all processes that call one account: a ``Gate`` whose permits come from the store.

Permits are leased in blocks of a tenth of a second; each request for a lease reports the outcomes of earlier calls. One
process at a time, the leader, gets all outcomes and runs the ``RateController`` on them; if it falls silent, another
takes over. Within a process, permits go to callers as in ``PacedGate``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from operator import itemgetter
from typing import Final

from accucheck._errors import LedgerError
from accucheck._gate import _QUEUE, Waiters, closed_error
from accucheck._rate import Phase, RateController
from accucheck._rate._constants import CRUISE_SHARE
from accucheck._schedule import Rate, RatePlan, Schedule
from accucheck._store import HORIZON, Outcomes, Pacing, PermitRequest, Permits, PermitStore

__all__ = ["SharedGate"]

logger = logging.getLogger("accucheck")

_TICK: Final = 0.05
"""Seconds between requests while there is something to request or report."""
_STARTUP_TICK: Final = 0.02
"""The same for the leader while the rate grows with every call."""
_EXPIRY: Final = 0.02
"""Seconds after which an unused permit is lost."""
_KEPT: Final = 2 * _TICK
"""The same for a block worth no more than that at the rate: used at once, it is what late permits may be."""
_REPORTED: Final = 0.12
"""Seconds after which the leader knows everything: two requests, and the round trip to the store."""
_SENT, _ADMITTED, _REFUSED = range(3)
_MOMENT: Final = itemgetter(0, 1)
"""When it happened, a call before its reply. Not by what follows, which cannot always be compared."""
_LAG: Final = 0.27
"""Seconds from what a controller learns to the last call that does not heed it yet: reports, a request, a block."""
_FIRST_HOLD: Final = 1.5
"""How many calls' time a process waits after its own refusal, until the leader knows about it."""
_LOOK_AGAIN: Final = 60.0
"""Seconds between checks of a pause required by hours or quotas."""
_SEATS: Final = itertools.count(1)
_LONGEST_CALL: Final = 600.0
_QUIET: Final = 1.0
"""Seconds without calls after which a process stops requesting, and another may lead."""


class SharedGate:
    """The ``Gate`` of a client that shares its account with other processes through ``store``.

    Args:
        store: Where permits come from. Must be open, and stay open until the gate is closed.
        account: Name of the account, the same for everyone who shares it; never a secret.
        rate: Calls per second, quotas and hours, as for ``AdaptiveGate``. Quotas and hours should be the same in all
            processes; each process also keeps to its own ceiling.
        learned: The limit that an earlier run found, in calls per second.
        floor: If it found none, a rate at which it was not refused.
        wall: Returns seconds since 1970.

    Raises:
        ConfigurationError: ``rate`` is wrong.
    """

    def __init__(
        self,
        store: PermitStore,
        account: str,
        rate: Rate | RatePlan = "auto",
        *,
        learned: float | None = None,
        floor: float | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._account = account
        plan = rate if isinstance(rate, RatePlan) else RatePlan.read(rate)
        self._quotas = plan.quotas
        self._hours = Schedule((), plan.hours, wall=wall) if plan.hours is not None else None
        self._allowed = str(Schedule(plan.quotas, plan.hours))
        self._paused = False
        self._quota_at = -math.inf
        """The quotas allow no call before."""
        self._unused = 0
        self._seat = next(_SEATS)
        self._low, self._high, self._start = plan.low, plan.high, plan.start_near(learned)
        self._from_floor = floor
        self._found: float | None = None
        self._floor: float | None = None
        self._first_rate = self._new_controller(self._start).rate(0.0)
        self._waiters = Waiters()
        self._permits: deque[float] = deque()  # moments of the loop
        self._expiry = _EXPIRY
        self._single = False
        """Whether the permit is for the one call that everybody waits for."""
        self._not_tried = False
        self._outcomes = Outcomes()
        self._controller: RateController | None = None  # while this process leads
        self._published: Pacing | None = None
        self._heard: list[tuple[float, int, float, float | None]] = []
        self._rate: float | None = None
        self._offset = 0.0  # the store's clock minus the loop's
        self._least_trip = math.inf
        self._epoch = 0
        self._alone = True
        self._hold_until = self._digested = self._told_at = -math.inf
        self._used_at = self._ceiling_at = -math.inf
        self._sent_lately: deque[float] = deque()
        self._loop_time: Callable[[], float] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._ask_at = -math.inf
        self._urgent = False
        self._closed = False

    @property
    def rate(self) -> float:
        """Calls per second that all processes together may make."""
        return self._rate or self._first_rate

    @property
    def learned(self) -> float | None:
        """The account's limit in calls per second, once a refusal has shown it to this process."""
        if self._controller is not None and self._controller.learned is not None:
            self._found = self._controller.learned
        return self._found

    @property
    def pause(self) -> float:
        """Seconds until quotas and hours allow a call."""
        closed_for = self._hours.wait() if self._hours is not None else 0.0
        return max(self._quota_at - self._now(), closed_for, 0.0)

    @property
    def floor(self) -> float | None:
        """A rate at which nothing was refused while this process set it; None once a refusal was seen."""
        if self._controller is not None:
            self._floor = self._controller.floor
        return self._floor

    def try_acquire(self) -> float | None:
        if self._closed:
            raise closed_error()
        now = self._now()
        if self._waiters or not self._take(now):
            return None
        return now

    async def acquire(self, *, urgent: bool = False) -> float:
        now = self.try_acquire()
        if now is not None:
            return now
        waiter = self._waiters.join(urgent=urgent)
        self._urgent = not self._permits
        self._pump()
        try:
            return await waiter
        except asyncio.CancelledError:
            self._waiters.leave(waiter)
            raise

    def admitted(self, sent_at: float) -> None:
        now = self._now()
        self._outcomes.admitted.append((self._sane(sent_at, now), now + self._offset))
        self._used_at = now
        if self._timer is None and self._asking is None:
            self._pump()

    def refused(self, sent_at: float, retry_after: float | None = None) -> None:
        now = self._now()
        makes_sense = retry_after is not None and 0 < retry_after < math.inf
        self._outcomes.refused.append(
            (self._sane(sent_at, now), now + self._offset, retry_after if makes_sense else None)
        )
        self._hold_until = now + _FIRST_HOLD / (self._rate or 1.0)
        if self._alone:
            self._void()  # as the store does; others keep theirs, or the limit would lie idle
        self._used_at = now
        self._urgent = True
        self._pump()

    def _now(self) -> float:
        if self._loop_time is None:
            # Kept: up to Python 3.11 asking for the running loop is a system call.
            self._loop_time = asyncio.get_running_loop().time
        return self._loop_time()

    def _sane(self, sent_at: float, now: float) -> float:
        """Return the store's time of a moment in the past minutes; now for any other."""
        return (sent_at if now - _LONGEST_CALL < sent_at <= now else now) + self._offset

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._waiters.fail(closed_error())
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            await asyncio.wait([self._asking])
        self._void()
        if self._rate is not None:
            with contextlib.suppress(LedgerError, RuntimeError):
                await self._store.lease_permits(self._request(0, leaves=True))

    def _void(self) -> None:
        if self._single and self._permits:
            self._not_tried = True
        self._unused += len(self._permits)
        self._permits.clear()

    # Permits -> callers

    def _take(self, now: float) -> bool:
        """Take a permit if one is due."""
        permits = self._permits
        while permits and permits[0] <= now - self._expiry and not self._single:
            permits.popleft()
            self._unused += 1
        if not permits or permits[0] > now or self._hold_until > now:
            return False
        if self._controller is None and self._high < math.inf:
            if now < self._ceiling_at:
                return False
            self._ceiling_at = max(self._ceiling_at, now - _EXPIRY) + 1 / self._high
        if self._hours is not None and self._hours.wait():
            return False
        permits.popleft()
        self._used_at = now
        self._outcomes.sent.append(now + self._offset)
        self._sent_lately.append(now)
        return True

    def _pump(self) -> None:
        """Give permits to the waiters, make a request to the store if worthwhile, and schedule the next turn."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        paused = self._pause(now) if self._waiters else 0.0
        while self._waiters and self._take(now):
            self._waiters.give(now)
        if self._single and not self._waiters:
            self._void()
        if self._asking is None and self._is_worth_asking(now) and (self._urgent or now >= self._ask_at):
            self._urgent = False
            starting = self._controller is not None and self._controller.phase is Phase.STARTUP
            self._ask_at = now + (_STARTUP_TICK if starting else _TICK)
            # An empty context, because it makes requests for all callers.
            self._asking = loop.create_task(
                self._ask(), name="accucheck permits", context=contextvars.Context()
            )
            self._asking.add_done_callback(self._on_answer)
        if not self._waiters and not self._outcomes and not self._not_tried and now - self._used_at > _QUIET:
            return  # nothing to request or report: another may lead
        due = [] if self._asking is not None else [max(self._ask_at, now + 0.001)]
        if paused and due and not self._outcomes:
            due = [now + min(paused, _LOOK_AGAIN)]
        if self._permits and self._waiters:
            due.append(max(self._permits[0], self._hold_until, self._ceiling_at))
        if due:
            self._timer = loop.call_at(min(due), self._pump)

    def _pause(self, now: float) -> float:
        """Return the seconds until hours and quotas allow a call."""
        closed_for = self._hours.wait() if self._hours is not None else 0.0
        if closed_for:
            self._void()
        seconds = max(self._quota_at - now, closed_for, 0.0)
        if seconds > _LOOK_AGAIN and not self._paused:
            logger.info("no calls for %s: %s", timedelta(seconds=round(seconds)), self._allowed)
        self._paused = seconds > 0
        return seconds

    def _on_answer(self, asking: asyncio.Task[None]) -> None:
        self._asking = None
        if asking.cancelled():
            return
        error = asking.exception()
        if error is not None:
            if not isinstance(error, LedgerError):
                logger.error("internal error (please report it): no permits", exc_info=error)
            self._waiters.fail(error)
        self._pump()

    # The store

    def _is_worth_asking(self, now: float) -> bool:
        if self._outcomes.refused or self._not_tried:
            return True
        if self._quota_at > now or (self._hours is not None and self._hours.wait()):
            return bool(self._outcomes)  # another may lead
        if self._controller is not None:
            return True
        if not self._waiters:
            return bool(self._outcomes)
        return not self._permits or self._permits[-1] - now < _TICK

    def _request(self, wanted: int, *, leaves: bool = False) -> PermitRequest:
        outcomes, self._outcomes = self._outcomes, Outcomes()
        unused, self._unused = self._unused, 0
        not_tried, self._not_tried = self._not_tried, False
        pacing = None
        if self._controller is not None:
            self._hear(outcomes)
            pacing = self._published = self._pacing(self._controller)
        return PermitRequest(
            account=self._account,
            wanted=wanted,
            start=Pacing(self._first_rate),
            pacing=pacing,
            outcomes=outcomes,
            seat=self._seat,
            quotas=self._quotas,
            unused=unused,
            not_tried=not_tried,
            leaves=leaves,
        )

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._sent_lately and self._sent_lately[0] < now - 4 * _TICK:
            self._sent_lately.popleft()
        wanted = 0
        # Others may use what nobody waits for here.
        controller = self._controller if self._alone and not self._quotas else None
        if self._waiters or (controller is not None and controller.phase is not Phase.LOCKOUT):
            wanted = len(self._waiters) + len(self._sent_lately) - len(self._permits)
        if self._controller is None and self._high < math.inf:
            wanted = min(wanted, math.ceil(self._high * HORIZON))
        request = self._request(max(wanted, 0))
        permits = await self._store.lease_permits(request)
        after = loop.time()
        if after - now <= self._least_trip:
            self._least_trip, self._offset = after - now, permits.now - (now + after) / 2
        self._rate, self._alone = permits.rate, permits.members == 1
        if permits.epoch != self._epoch:
            self._epoch = permits.epoch
            self._void()
        self._quota_at = after + permits.wait if permits.wait else -math.inf
        first_at = permits.first_at - self._offset
        if permits.granted:
            self._hold_until = min(self._hold_until, first_at)  # the store knows of our refusals by now
            self._single = permits.single
            self._expiry = _KEPT if permits.granted <= _EXPIRY * permits.rate else _EXPIRY
        self._permits.extend(first_at + n / permits.rate for n in range(permits.granted))
        if not permits.leads:
            self._controller = None
            self._heard.clear()
        else:
            if self._controller is None:
                self._controller = self._new_controller(self._start_from(permits))
                if not permits.limit and self._start is None:
                    self._controller.resume_startup(permits.rate)
                self._hear(request.outcomes)
            for report in permits.reports:
                self._hear(report)
            pacing, published = self._pacing(self._controller), self._published
            if published is None or (pacing.hold_until, pacing.single) != (
                published.hold_until,
                published.single,
            ):
                self._urgent = True  # the rate may wait for the next request

    def _new_controller(self, start: float | None) -> RateController:
        return RateController(low=self._low, high=self._high, start=start, floor=self._from_floor)

    def _start_from(self, permits: Permits) -> float | None:
        """Return where to continue as the new leader; None to begin."""
        if not permits.limit:
            return self._start
        return min(max(CRUISE_SHARE * permits.limit, self._low), self._high)

    # The leader

    def _hear(self, outcomes: Outcomes) -> None:
        """Take in the outcomes of calls, our own or another process's."""
        heard = self._heard
        heard += [(sent_at, _SENT, sent_at, None) for sent_at in outcomes.sent]
        heard += [(at, _ADMITTED, sent_at, None) for sent_at, at in outcomes.admitted]
        heard += [(at, _REFUSED, sent_at, retry_after) for sent_at, at, retry_after in outcomes.refused]
        heard.sort(key=_MOMENT)

    def _digest(self, controller: RateController) -> float:
        """Tell the controller what happened, in order and at the true times; return up to when.

        It runs slightly in the past: a limit is measured by the calls sent until a refusal, and would be found too low
        if some of them were not reported yet.
        """
        now = self._now() + self._offset
        at_once = self._alone or controller.phase is Phase.LOCKOUT
        controller.lag = 0.0 if self._alone else _LAG
        self._digested = until = max(self._digested, now if at_once else now - _REPORTED)
        heard = 0
        for at, kind, sent_at, retry_after in self._heard:
            if at > until:
                break
            heard += 1
            if at < self._told_at:
                at = self._told_at
            else:
                self._told_at = at
            if kind == _SENT:
                controller.sent(at)
            elif kind == _ADMITTED:
                controller.admitted(at, sent_at)
            else:
                controller.refused(at, sent_at, retry_after)
        del self._heard[:heard]
        self._told_at = until
        return until

    def _pacing(self, controller: RateController) -> Pacing:
        # A busy machine loses permits because it is late, which does not mean a lack of demand.
        controller.queued = len(self._waiters) > 1 + _QUEUE * (self._rate or 0.0)
        rate = controller.rate(self._digest(controller))
        return Pacing(
            rate=rate,
            hold_until=max(controller.resume_at, 0.0),
            single=controller.phase is Phase.LOCKOUT,
            limit=controller.limit or 0.0,
        )
