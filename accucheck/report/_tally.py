"""One pass over a checked list: the counts that a report shows, in memory that does not grow with the rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from math import sqrt
from typing import Any, Final

import msgspec

from accucheck.files import FileError
from accucheck.files._results import CLASH_PREFIX

__all__ = ["AGES", "Breakdown", "Counts", "Tally", "Timeline", "confidence_interval"]

MOST_GROUPS: Final = 200
"""A column with more distinct values than this is no campaign and no city; it is left out of the report."""
MOST_REASONS: Final = 500
LONGEST_VALUE: Final = 80
EXAMPLES: Final = 3
AGES: Final = (30, 90, 365, 730, 1825)
"""Days: the upper edges of the groups by age of the status text; one more group holds what is older."""
_Z: Final = 1.959964  # the normal distribution's 97.5 % point: a 95 % interval


def confidence_interval(yes: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (E. B. Wilson, 1927): sound for small groups and for 0 and 100 %."""
    if not total:
        return 0.0, 1.0
    share, weight = yes / total, _Z * _Z / total
    middle = (share + weight / 2) / (1 + weight)
    half = _Z * sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


class Counts(msgspec.Struct):
    """Rows of one group."""

    rows: int = 0
    yes: int = 0
    no: int = 0
    business: int = 0
    avatar: int = 0

    @property
    def answered(self) -> int:
        """Rows with an answer, yes or no."""
        return self.yes + self.no


class Breakdown:
    """Counts by the values of one of the list's own columns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.groups: dict[str, Counts] = {}
        self.abandoned = False
        """Whether the column has too many distinct values to group by."""

    def group(self, value: object) -> Counts | None:
        """Return the counts of a value's group, or None once the column was abandoned."""
        if self.abandoned:
            return None
        text = "" if value is None else " ".join(str(value).split())[:LONGEST_VALUE]
        counts = self.groups.get(text)
        if counts is None:
            if len(self.groups) >= MOST_GROUPS:
                self.abandoned = True
                self.groups.clear()
                return None
            counts = self.groups[text] = Counts()
        return counts

    @property
    def useful(self) -> bool:
        """Whether a reader learns something: two groups or more, and not a group for every few rows."""
        rows = sum(counts.rows for counts in self.groups.values())
        return len(self.groups) >= 2 and rows >= 2 * len(self.groups)


class Timeline:
    """Answers over time in at most 300 steps; the steps double in length as the time covered grows."""

    MOST_STEPS: Final = 300

    def __init__(self) -> None:
        self.step = 1
        """Seconds of one step."""
        self._counts: Counter[int] = Counter()

    def add(self, moment: float) -> None:
        """Count an answer that came at ``moment``, in seconds since 1970."""
        self._counts[int(moment) // self.step] += 1
        if len(self._counts) > self.MOST_STEPS:
            self._widen()

    def _widen(self) -> None:
        self.step *= 2
        wider: Counter[int] = Counter()
        for place, count in self._counts.items():
            wider[place // 2] += count
        self._counts = wider

    def points(self) -> tuple[list[int], list[float]]:
        """Return the moments and the answers a second at each, without gaps."""
        while self._counts and max(self._counts) - min(self._counts) >= self.MOST_STEPS:
            self._widen()
        if not self._counts:
            return [], []
        places = range(min(self._counts), max(self._counts) + 1)
        return [place * self.step for place in places], [self._counts[place] / self.step for place in places]


class _Columns(msgspec.Struct, frozen=True):
    """Where a checked list keeps its answers."""

    whatsapp: int
    status: int
    status_update: int | None
    business_user: int | None
    avatar: int | None
    reason: int | None
    checked_at: int | None
    own: tuple[int, ...]


def _find_columns(names: Sequence[str], source: str) -> _Columns:
    """Return the places of the result columns: of a list checked twice, those of the last time."""
    found: dict[str, tuple[int, int]] = {}
    results = ("number", "whatsapp", "status_update", "business_user", "avatar", "signature", "status", "reason",
               "request_id", "checked_at", "calls")  # fmt: skip
    pattern = re.compile(rf"(?:{CLASH_PREFIX})?({'|'.join(results)})(?:_(\d+))?", re.IGNORECASE)
    own = []
    for place, name in enumerate(names):
        match = pattern.fullmatch(name or "")
        if match is None:
            own.append(place)
            continue
        plain = match[1].lower()
        order = 0 if name.lower() == plain else int(match[2] or 1)
        if plain not in found or order >= found[plain][0]:
            found[plain] = order, place
    for needed in ("whatsapp", "status"):
        if needed not in found:
            raise FileError(
                f"{source} has no column {needed}: give a list that accucheck bulk has written, such as checked.csv"
            )
    place_of = {name: place for name, (_, place) in found.items()}
    return _Columns(
        whatsapp=place_of["whatsapp"],
        status=place_of["status"],
        status_update=place_of.get("status_update"),
        business_user=place_of.get("business_user"),
        avatar=place_of.get("avatar"),
        reason=place_of.get("reason"),
        checked_at=place_of.get("checked_at"),
        own=tuple(own),
    )


class Tally:
    """What a report shows of a checked list."""

    def __init__(self, names: Sequence[str], *, source: str, by: Iterable[str] | None = None) -> None:
        """``by`` names the columns to group by; None takes every column of the list that has few values.

        Raises:
            FileError: the list was not written by accucheck, or has no such column.
        """
        self._columns = columns = _find_columns(names, source)
        own = {names[place].casefold(): place for place in columns.own}
        places = columns.own
        if by is not None:
            missing = [name for name in by if name.casefold() not in own]
            if missing:
                known = ", ".join(names[place] for place in columns.own) or "none"
                raise FileError(
                    f"{source} has no column {missing[0]!r} to group by; its own columns: {known}"
                )
            places = tuple(own[name.casefold()] for name in by)
        self.total = Counts()
        self.by_status: Counter[str] = Counter()
        self.by_age = [0] * (len(AGES) + 1)
        self.age_unknown = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.breakdowns = [(place, Breakdown(names[place])) for place in places]
        self.timeline = Timeline()
        self.first: float | None = None
        self.last: float | None = None

    def count(self, cells: Sequence[Any], number: str) -> None:
        """Count one row; ``number`` is the text of its number cell."""
        columns, total = self._columns, self.total
        whatsapp = _flag(cells[columns.whatsapp])
        groups = [total]
        for place, breakdown in self.breakdowns:
            group = breakdown.group(cells[place])
            if group is not None:
                groups.append(group)
        business = columns.business_user is not None and _flag(cells[columns.business_user]) is True
        avatar = columns.avatar is not None and _flag(cells[columns.avatar]) is True
        for group in groups:
            group.rows += 1
            group.yes += whatsapp is True
            group.no += whatsapp is False
            group.business += business
            group.avatar += avatar
        status = str(cells[columns.status] or "UNCHECKED")[:LONGEST_VALUE]
        self.by_status[status if status in self.by_status or len(self.by_status) < 50 else "OTHER"] += 1
        checked_at = None if columns.checked_at is None else _moment(cells[columns.checked_at])
        if checked_at is not None:
            self.timeline.add(checked_at)
            self.first = checked_at if self.first is None else min(self.first, checked_at)
            self.last = checked_at if self.last is None else max(self.last, checked_at)
        if whatsapp:
            self._count_age(cells, checked_at)
        if status == "INVALID_NUMBER":
            self._count_reason(str(cells[columns.reason] or "") if columns.reason is not None else "", number)

    def _count_age(self, cells: Sequence[Any], checked_at: float | None) -> None:
        place = self._columns.status_update
        updated = None if place is None else _date(cells[place])
        if updated is None:
            self.age_unknown += 1
            return
        today = datetime.now(UTC) if checked_at is None else datetime.fromtimestamp(checked_at, UTC)
        days = (today.date() - updated).days
        self.by_age[sum(days > edge for edge in AGES)] += 1

    def _count_reason(self, reason: str, number: str) -> None:
        kind = mask_digits(re.sub(r"[\"“”'][^\"“”']*[\"“”']", "", reason)).strip(" :;,.") or "?"
        if kind not in self.reasons and len(self.reasons) >= MOST_REASONS:
            kind = "…"
        self.reasons[kind] += 1
        examples = self.examples.setdefault(kind, [])
        masked = mask_digits(number)[:LONGEST_VALUE]
        if len(examples) < EXAMPLES and masked not in examples:
            examples.append(masked)


def mask_digits(text: str) -> str:
    """Return ``text`` with all but the first two digits of each long run hidden: numbers are personal data."""
    return re.sub(r"\d(?:[\s().-]*\d){4,}", lambda run: run[0][:2] + re.sub(r"\d", "•", run[0][2:]), text)


def _flag(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    return {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}.get(
        str(value).strip().lower()
    )


def _date(value: object) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value or "")[:10])
    except ValueError:
        return None


def _moment(value: object) -> float | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value or ""))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
