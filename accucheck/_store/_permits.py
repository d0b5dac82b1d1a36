"""Shared permits of one account: the store decides who may call when, timed only by its own clock.

A pace gives out the slots of one schedule, ``rate`` per second, in blocks. So processes that call one account together
call as evenly as one process would. Unused blocks are lost, so the limit can be missed but never exceeded.
"""

from __future__ import annotations

import json
import math
from typing import Final, Protocol

import msgspec

from accucheck._schedule import Quota, Schedule

__all__ = [
    "HORIZON",
    "Outcomes",
    "Pace",
    "Pacing",
    "PermitRequest",
    "PermitStore",
    "Permits",
    "lease",
    "seat_of",
]

_SEAT_BITS: Final = 16

HORIZON: Final = 0.1
"""Seconds of the schedule that all processes hold together; after that, everyone heeds a refusal."""
_LATE: Final = 0.01
"""Seconds of the schedule that may be made up for if nobody leased them in time."""
_ACTIVE: Final = 1.0
"""A process that has made no request for this many seconds gets no share of the permits."""
_LEADS: Final = 1.0
"""Seconds without a sign of the leader, who sets the rate, after which another one leads."""
_PAUSE: Final = 60.0
"""Seconds without a leader after which the search starts over. A shorter gap is an unreachable store or a restart."""
_FIRST_HOLD: Final = 1.5
"""How many calls' time everyone waits after a refusal, until the leader knows about it."""
_LONGEST_HOLD: Final = 60.0
"""The most seconds that everyone waits just because the vendor says so."""
_TRIAL: Final = 5.0
"""The most seconds that everyone waits for the reply to a single call."""
_TOLD: Final = 0.15
"""Seconds until the leader knows that reply and has decided how to continue."""


class Pacing(msgspec.Struct, frozen=True):
    """How fast to call; set by one process for all."""

    rate: float
    """Calls per second."""
    hold_until: float = 0.0
    """No calls before this time; like all times here, seconds on the store's clock."""
    single: bool = False
    """After that, one call is made, and no other before its reply."""
    limit: float = 0.0
    """The limit in calls per second, once it was found; the next leader continues from it."""


class Pace(msgspec.Struct, kw_only=True):
    """The state of an account's schedule."""

    rate: float
    next_at: float = 0.0
    """The first slot that is still available."""
    hold_until: float = 0.0
    refused_until: float = 0.0
    """The same, from the refusals that the leader has not heard of yet."""
    single: bool = False
    limit: float = 0.0
    trial_until: float = 0.0
    """A single call is out, or its reply is; nobody follows before the leader has heard of it."""
    trial_by: int = -1
    epoch: int = 0
    """Permits of an earlier epoch are void, because a long hold came after them."""
    leader: int = -1
    """Who sets the rate."""
    leader_until: float = 0.0
    callers: dict[int, tuple[float, float]] = {}
    """When each process made its last request, and until when its fair share is used."""
    usage: str = "{}"
    """The calls that count against quotas."""


class Outcomes(msgspec.Struct, omit_defaults=True):
    """The outcomes of a process's calls since its last report."""

    sent: list[float] = []
    admitted: list[tuple[float, float]] = []
    """When sent, when answered."""
    refused: list[tuple[float, float, float | None]] = []
    """When sent, when refused, and how long the vendor asks to wait."""

    def __bool__(self) -> bool:
        return bool(self.sent or self.admitted or self.refused)


class PermitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A process's request to the store."""

    account: str
    """What the pace is kept for: the vendor's host and the API id's hash."""
    wanted: int
    start: Pacing
    """For an account without callers so far."""
    pacing: Pacing | None = None
    """From the leader: how fast to call from now on."""
    outcomes: Outcomes
    seat: int = 0
    """Tells several gates on one store apart."""
    quotas: tuple[Quota, ...] = ()
    """The most calls in any span of this length, over all processes."""
    unused: int = 0
    """Permits that were granted earlier and have expired: they count against no quota."""
    not_tried: bool = False
    """Whether a single call that was granted is not made: nobody wants it any more."""
    leaves: bool = False
    """Whether this is the process's last request."""


class Permits(msgspec.Struct, frozen=True, kw_only=True):
    """The store's reply."""

    now: float
    granted: int
    first_at: float
    """The moment of the first permit; the others follow at the ``rate``."""
    rate: float
    epoch: int
    """If it has changed, permits granted before are void."""
    single: bool = False
    """Whether everyone waits for the reply to this one call: it must be made, no matter how late."""
    limit: float = 0.0
    """See ``Pacing.limit``."""
    wait: float = 0.0
    """Seconds until the quotas allow a call."""
    members: int
    """Processes that call the account now."""
    leads: bool
    """Whether this process is to set the rate."""
    reports: list[Outcomes] = []
    """For the leader: the outcomes of the others' calls."""


class PermitStore(Protocol):
    """A store that can also pace the calls of all its processes."""

    async def lease_permits(self, request: PermitRequest) -> Permits:
        """Lease permits, and report the outcomes of calls. Raises LedgerError."""


def seat_of(owner: int, request: PermitRequest) -> int:
    """Return who asks: a gate of a process."""
    return owner << _SEAT_BITS | request.seat & ((1 << _SEAT_BITS) - 1)


def lease(pace: Pace, request: PermitRequest, *, owner: int, now: float, wall: float) -> Permits:
    """Lease permits to ``owner``, and bring the pace up to date; ``wall`` is seconds since 1970."""
    pace.callers = {other: call for other, call in pace.callers.items() if abs(now - call[0]) < _ACTIVE}
    _, share_at = pace.callers.pop(owner, (0.0, 0.0))
    members = len(pace.callers) + 1
    wanted, wait, schedule = request.wanted, 0.0, None
    if request.quotas:
        schedule = Schedule(request.quotas, wall=lambda: wall)
        schedule.restore(pace.usage)
        schedule.take_back(request.unused)
        wait = schedule.wait() if wanted else 0.0
        wanted = min(wanted, schedule.room() or 0)
    leads = _lead(pace, request, owner=owner, members=members, now=now)
    granted, first_at, share_at = _grant(
        pace, request, wanted, owner=owner, share_at=share_at, members=members, now=now
    )
    if schedule is not None:
        if granted:
            schedule.count(granted)
        pace.usage = json.dumps(json.loads(pace.usage) | json.loads(schedule.usage()))
    if not request.leaves:
        pace.callers[owner] = now, share_at
    return Permits(
        now=now,
        granted=granted,
        first_at=first_at,
        rate=pace.rate,
        epoch=pace.epoch,
        single=pace.single,
        limit=pace.limit,
        wait=wait,
        members=members,
        leads=leads,
    )


def _lead(pace: Pace, request: PermitRequest, *, owner: int, members: int, now: float) -> bool:
    """Return whether ``owner`` is to set the rate, and take the rate that it sets."""
    leads = pace.leader == owner or now >= pace.leader_until
    if leads and pace.leader != owner and members == 1 and now >= pace.leader_until + _PAUSE:
        pace.rate, pace.single, pace.limit = request.start.rate, False, 0.0
    if leads:
        pace.leader, pace.leader_until = owner, now + _LEADS
        if request.leaves:  # and nobody stays: then the next one begins with what it knows
            pace.leader_until = now - (_PAUSE if members == 1 else 0.0)
        if request.pacing is not None:
            pace.rate, pace.single = request.pacing.rate, request.pacing.single
            pace.limit = request.pacing.limit
            pace.hold_until = request.pacing.hold_until
    return leads


def _grant(
    pace: Pace,
    request: PermitRequest,
    wanted: int,
    *,
    owner: int,
    share_at: float,
    members: int,
    now: float,
) -> tuple[int, float, float]:
    """Return how many permits are granted, the moment of the first, and up to when the share is used then."""
    if request.outcomes.refused and request.pacing is None:
        asked = [
            min(seconds, _LONGEST_HOLD) for *_, seconds in request.outcomes.refused if seconds is not None
        ]
        pace.refused_until = max(
            pace.refused_until, now + max([min(_FIRST_HOLD / pace.rate, HORIZON), *asked])
        )
    if pace.trial_by == owner and (request.outcomes.admitted or request.outcomes.refused):
        pace.trial_by, pace.trial_until = -1, now + _TOLD
    elif pace.trial_by == owner and request.not_tried:
        pace.trial_by, pace.trial_until = -1, now
    held_until = max(pace.hold_until, pace.refused_until)
    if pace.next_at > now and (held_until > now + HORIZON or (request.outcomes.refused and members == 1)):
        # What was leased is void, and the schedule begins again at the end of the hold.
        pace.epoch += 1
        pace.next_at = now
    if wanted <= 0:
        return 0, now, share_at
    if pace.single:
        if now < max(held_until, pace.trial_until):
            return 0, now, share_at
        pace.trial_by, pace.trial_until = owner, now + _TRIAL
        return 1, now, share_at
    start = max(pace.next_at, held_until, now - _LATE)
    share_at = max(share_at, now - HORIZON)
    until = now + HORIZON
    if share_at > until:
        until = now + HORIZON / 2  # more only of what the others leave
    if start > until:
        return 0, now, share_at
    free = min(until - start, HORIZON / members) * pace.rate
    granted = min(wanted, max(1, math.floor(free)))
    pace.next_at = start + granted / pace.rate
    return granted, start, share_at + granted * members / pace.rate
