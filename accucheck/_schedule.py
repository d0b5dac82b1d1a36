"""The user's own limits: calls per second, quotas over longer windows, and hours of the day."""

from __future__ import annotations

import json
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from datetime import time as time_of_day
from typing import Final, NamedTuple, TypeAlias

from accucheck._errors import ConfigurationError

__all__ = ["HOME", "Hours", "Quota", "Rate", "RatePlan", "Schedule", "time_zone"]

Rate: TypeAlias = float | tuple[float, float] | str
"""Calls per second: a ceiling (50), a range to search (5, 200), or "auto", which finds the limit from refusals.

Text may add quotas and hours of the day: "50/s,10000/d", "auto,2000/h,08:00-20:00 America/Lima". Units are s, min, h
and d; a quota holds for every span of that length, whenever it starts.
"""

_LOWEST: Final = 0.02
"""The lowest rate that a search uses: one call in 50 s."""
_UNITS: Final = {"min": 60.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_QUOTA: Final = re.compile(r"(?P<calls>\d+)/(?P<unit>min|m|h|d)")
_PER_SECOND: Final = re.compile(r"(?P<low>[\d.]+)(?::(?P<high>[\d.]+))?(?P<unit>/s)?")
_SLOTS: Final = 600
_HOURS: Final = re.compile(r"(\d\d?:\d\d)\s*-\s*(\d\d?:\d\d)(?:\s+(\S+))?")
HOME: Final = "America/Lima"


class Quota(NamedTuple):
    """At most ``calls`` in any span of ``seconds``."""

    calls: int
    seconds: float


class Hours(NamedTuple):
    """The hours of the day in which calls are made, such as ``08:00-20:00 America/Lima``."""

    opens: time_of_day
    closes: time_of_day
    zone: tzinfo
    text: str

    @classmethod
    def read(cls, text: str) -> Hours:
        """Read ``HH:MM-HH:MM`` with an IANA time zone, Lima by default.

        Hours that end before they start run past midnight. Raises ConfigurationError for anything else.
        """
        match = _HOURS.fullmatch(text.strip()) if isinstance(text, str) else None
        try:
            if match is None:
                raise ValueError
            opens, closes = (datetime.strptime(match[part], "%H:%M").time() for part in (1, 2))
            if opens == closes:
                raise ValueError
        except ValueError:
            raise ConfigurationError(
                f"hours must be two times of day, such as '08:00-20:00' or '08:00-20:00 America/Lima', not {text!r}"
            ) from None
        return cls(opens, closes, time_zone(match[3] or HOME), text.strip())

    def wait(self, wall: float) -> float:
        """Return the seconds from a moment (since 1970) until calls may be made; 0 if they may."""
        now = datetime.fromtimestamp(wall, self.zone)
        local = now.time()
        if self.opens < self.closes:
            is_open = self.opens <= local < self.closes
        else:
            is_open = local >= self.opens or local < self.closes
        if is_open:
            return 0.0
        return self._until(self.opens, now)

    def span(self, wall: float, seconds: float) -> float:
        """Return how long it takes from a moment until this many seconds of open hours have passed."""
        end = wall
        while True:
            end += self.wait(end)
            left = self._until(self.closes, datetime.fromtimestamp(end, self.zone))
            if seconds <= left:
                return end + seconds - wall
            end, seconds = end + left, seconds - left

    def _until(self, moment: time_of_day, now: datetime) -> float:
        day = now.date() if now.time() < moment else now.date() + timedelta(days=1)
        return max(datetime.combine(day, moment, self.zone).timestamp() - now.timestamp(), 0.001)


class RatePlan(NamedTuple):
    """A parsed ``Rate``."""

    low: float
    high: float
    start: float | None
    """Where to begin; None if that is for the search to say."""
    quotas: tuple[Quota, ...] = ()
    hours: Hours | None = None

    def seconds_for(self, calls: int) -> float | None:
        """Return the least time that this many calls take, ignoring hours; None if unknown."""
        if self.high == math.inf and not self.quotas:
            return None
        waits = [(calls - 1) // quota.calls * quota.seconds for quota in self.quotas if calls]
        return max([calls / self.high, *waits])

    def start_near(self, learned: float | None) -> float | None:
        """Return where to begin if an earlier run found this limit: at 90 % of it, unless the rate is a number."""
        if self.start is not None or learned is None or not 0 < learned < math.inf:
            return self.start
        return min(max(0.9 * learned, self.low), self.high)

    @classmethod
    def read(cls, rate: Rate) -> RatePlan:
        """Parse a user's ``rate``; raises ConfigurationError if it is not one."""
        match rate:
            case str():
                return cls._read_text(rate)
            case (low, high):
                return cls._range(_calls_per_second(low, rate), _calls_per_second(high, rate), rate)
            case _:
                return cls._ceiling(_calls_per_second(rate, rate))

    @classmethod
    def _ceiling(cls, rate: float) -> RatePlan:
        return cls(min(_LOWEST, rate), rate, rate)

    @classmethod
    def _range(cls, low: float, high: float, rate: Rate) -> RatePlan:
        if low > high:
            raise ConfigurationError(f"rate must be a range (low, high) with low below high, not {rate!r}")
        return cls(low, high, None)

    @classmethod
    def _read_text(cls, text: str) -> RatePlan:
        plan: RatePlan | None = None
        quotas: list[Quota] = []
        hours: Hours | None = None
        for given in text.split(","):
            if "-" in given and ":" in given:
                hours = Hours.read(given)
                continue
            part = given.strip().lower()
            if match := _QUOTA.fullmatch(part):
                if not int(match["calls"]):
                    raise _not_a_rate(text)
                quotas.append(Quota(int(match["calls"]), _UNITS[match["unit"]]))
                continue
            if plan is not None:
                raise ConfigurationError(f"rate can set calls per second only once, not {text!r}")
            if part == "auto":
                plan = cls(_LOWEST, math.inf, None)
            elif (match := _PER_SECOND.fullmatch(part)) and (match["unit"] or match["high"]):
                low = _calls_per_second(_number(match["low"]), text)
                high = match["high"]
                plan = (
                    cls._ceiling(low)
                    if high is None
                    else cls._range(low, _calls_per_second(_number(high), text), text)
                )
            else:
                raise _not_a_rate(text)
        return (plan or cls(_LOWEST, math.inf, None))._replace(quotas=tuple(quotas), hours=hours)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _calls_per_second(value: object, rate: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _not_a_rate(rate)
    return float(value)


def _not_a_rate(rate: object) -> ConfigurationError:
    return ConfigurationError(
        "rate is calls per second above zero (such as 50 or 0.5), a range (low, high), 'auto', or text with quotas"
        f" (such as '50/s,10000/d'), not {rate!r}"
    )


def time_zone(name: str) -> tzinfo:
    """Return an IANA time zone. Raises ConfigurationError if there is none of the name."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # here: most runs need none

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if name == HOME:
            return timezone(timedelta(hours=-5))  # Peru has not changed its clocks since 1994
        raise ConfigurationError(
            f"the time zone {name!r} is unknown here: use a name such as 'America/Lima', or pip install tzdata"
        ) from None


class _Window:
    """Counts the calls of the last ``seconds`` in slots. A call is forgotten up to a slot late, never early."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._slot_seconds = quota.seconds / _SLOTS
        self._slots: deque[list[int]] = deque()  # slot, calls
        self._calls = 0

    def room(self, wall: float) -> int:
        slots = self._slots
        while slots and self._leaves_at(slots[0][0]) <= wall:
            self._calls -= slots.popleft()[1]
        return max(0, self.quota.calls - self._calls)

    def wait(self, wall: float) -> float:
        slots = self._slots
        if self.room(wall):
            return 0.0
        missing = self._calls - self.quota.calls + 1
        for slot, calls in slots:
            missing -= calls
            if missing <= 0:
                return self._leaves_at(slot) - wall
        raise AssertionError("a window with calls has slots")  # pragma: no cover

    def count(self, wall: float, calls: int = 1) -> None:
        slot = math.floor(wall / self._slot_seconds)
        self._calls += calls
        if (
            self._slots and self._slots[-1][0] >= slot
        ):  # or the clock was set back: rather too late than too early
            self._slots[-1][1] += calls
        else:
            self._slots.append([slot, calls])

    def take_back(self, calls: int) -> None:
        slots = self._slots
        while slots and calls > 0:
            back = min(calls, slots[-1][1])
            slots[-1][1] -= back
            self._calls -= back
            calls -= back
            if not slots[-1][1]:
                slots.pop()

    def _leaves_at(self, slot: int) -> float:
        return (slot + 1) * self._slot_seconds + self.quota.seconds

    def to_list(self) -> list[list[float]]:
        return [[slot * self._slot_seconds, calls] for slot, calls in self._slots]


def _span(seconds: float) -> str:
    return {60.0: "minute", 3600.0: "hour", 86_400.0: "day"}.get(seconds, f"{seconds:g} s")


class Schedule:
    """When quotas and hours allow the next call. ``wall`` returns seconds since 1970 (UTC)."""

    def __init__(
        self,
        quotas: Iterable[Quota] = (),
        hours: Hours | None = None,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._windows = [_Window(quota) for quota in quotas]
        self._hours = hours
        self._wall = wall

    def __bool__(self) -> bool:
        return bool(self._windows or self._hours)

    def __str__(self) -> str:
        quotas = [
            f"{window.quota.calls:,} calls in any {_span(window.quota.seconds)}" for window in self._windows
        ]
        return " and ".join([*quotas, *([f"hours {self._hours.text}"] if self._hours else [])])

    def wait(self) -> float:
        """Return the seconds until a call may be made; 0 if it may be made now."""
        wall = self._wall()
        until = max((window.wait(wall) for window in self._windows), default=0.0)
        if self._hours is None:
            return until
        return until + self._hours.wait(wall + until)

    def count(self, calls: int = 1) -> None:
        """Note calls that are made now."""
        wall = self._wall()
        for window in self._windows:
            window.count(wall, calls)

    def take_back(self, calls: int) -> None:
        """Forget this many of the last counted calls, which were not made."""
        for window in self._windows:
            window.take_back(calls)

    def room(self) -> int | None:
        """Return how many calls may be made at once now; None if no quota limits them."""
        wall = self._wall()
        return min((window.room(wall) for window in self._windows), default=None)

    def usage(self) -> str:
        """Return the calls that still count against a quota, as text for ``restore``."""
        self.wait()
        return json.dumps({f"{window.quota.seconds:g}": window.to_list() for window in self._windows})

    def restore(self, usage: str) -> None:
        """Also count the calls of earlier runs. Ignores what it cannot read."""
        try:
            counted = json.loads(usage)
            for window in self._windows:
                for moment, calls in counted.get(f"{window.quota.seconds:g}", ()):
                    if math.isfinite(moment) and isinstance(calls, int) and 0 < calls < 10**12:
                        window.count(min(float(moment), self._wall()), calls)
        except (ValueError, TypeError, AttributeError):
            return
