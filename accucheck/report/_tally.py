"""Counts for a report from one pass over a checked list, in constant memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from math import sqrt
from typing import Any, Final

import msgspec

from accucheck._errors import InvalidNumber
from accucheck._phone import numbers_in
from accucheck._store import Bitset
from accucheck.files import RESULT_COLUMNS, FileError, ResultColumns
from accucheck.files._rows import CLASH_PREFIX
from accucheck.sandbox._truth import SIMULATED

__all__ = [
    "AGES",
    "MOST_GROUPS",
    "MOST_ROWS",
    "Breakdown",
    "CheckedColumns",
    "Counts",
    "Tally",
    "Timeline",
    "best_of",
    "confidence_interval",
    "ranked",
]

MOST_GROUPS: Final = 200
"""Columns with more distinct values than this are left out of the report; they are not campaigns or cities."""
MOST_USEFUL_GROUPS: Final = 30
"""Columns that were not requested are compared by up to this many values: 25 departments, some misspelled."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}")
MOST_ROWS: Final = 25
"""Rows of one table; what is beyond is summed up in a last one."""
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

    def __init__(self, name: str, *, wanted: bool = False) -> None:
        self.name = name
        self.wanted = wanted
        """Whether it was requested."""
        self.groups: dict[str, Counts] = {}
        """Groups by the value as first written; ``Lima`` and ``LIMA`` are one."""
        self._folded: dict[str, Counts] = {}
        self.abandoned = False
        """Whether the column has too many distinct values to group by, or holds personal data."""

    def group(self, value: object) -> Counts | None:
        """Return the counts of a value's group, or None once the column was abandoned."""
        if self.abandoned:
            return None
        text = "" if value is None else " ".join(str(value).split())[:LONGEST_VALUE]
        folded = text.casefold()
        counts = self._folded.get(folded)
        if counts is None:
            if len(self.groups) >= MOST_GROUPS or _is_personal(text):
                self.abandoned = True
                self.groups.clear()
                self._folded.clear()
                return None
            counts = self._folded[folded] = self.groups[text] = Counts()
        return counts

    @property
    def useful(self) -> bool:
        """Whether it is informative: two groups or more, and not one for every few rows."""
        if self.wanted:
            return bool(self.groups)
        rows = sum(counts.rows for counts in self.groups.values())
        filled = [name for name in self.groups if name]
        return (
            2 <= len(self.groups) <= MOST_USEFUL_GROUPS
            and rows >= 2 * len(self.groups)
            and not all(map(_DATE.match, filled))
        )


def ranked(breakdown: Breakdown, words: Mapping[str, str]) -> list[tuple[str, Counts]]:
    """Return the groups of a breakdown, the largest first; those beyond ``MOST_ROWS`` are one in the end."""
    groups = sorted(breakdown.groups.items(), key=lambda group: (-group[1].rows, group[0]))
    shown = [(name or words["empty"], counts) for name, counts in groups[:MOST_ROWS]]
    if rest := groups[MOST_ROWS:]:
        others = Counts()
        for _, counts in rest:
            others.rows += counts.rows
            others.yes += counts.yes
            others.no += counts.no
        shown.append((words["others"].format(n=len(rest)), others))
    return shown


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


_RESULTS: Final = "|".join(RESULT_COLUMNS)
_OURS: Final = re.compile(rf"({CLASH_PREFIX})?({_RESULTS}|calls)(?:_(\d+))?", re.IGNORECASE)
"""The name of a result column: of a list that was checked again with the prefix, of a row's second number with 2."""


class CheckedColumns:
    """Where a checked list keeps its answers.

    Args:
        names: Its columns.
        source: Its name, for messages.
        needed: The columns that it must have.

    Raises:
        FileError: It has no answers.
    """

    def __init__(
        self, names: Sequence[str], source: str, needed: Sequence[str] = ("whatsapp", "status")
    ) -> None:
        runs: dict[int, dict[str, int]] = {}
        further: dict[int, dict[str, int]] = {}
        for place, name in enumerate(names):
            if (match := _OURS.fullmatch(name or "")) is None:
                continue
            again = int(match[3] or 1)
            if match[1] or again == 1:  # of the latest run
                runs.setdefault(again if match[1] else 0, {})[match[2].lower()] = place
            else:  # of a further number in the same row
                further.setdefault(again, {})[match[2].lower()] = place
        latest: dict[str, int] = {}
        for _, found in sorted(runs.items()):
            latest |= found
        for name in needed:
            if name not in latest:
                raise FileError(
                    f"{source} has no column {name}: use a list that accucheck bulk wrote, such as checked.csv"
                )
        self._request = latest.get("request_id")
        self.simulated = False
        """Whether an answer comes from the sandbox."""
        numbered = [places for places in further.values() if "status" in places]
        self._groups = [latest, *numbered] if set(runs) == {0} else [latest]

    def result(self, cells: Sequence[Any]) -> ResultColumns:
        """Return the result of a row; of several numbers, the most informative one."""
        return best_of(self.results(cells))

    def results(self, cells: Sequence[Any]) -> list[ResultColumns]:
        """Return the result of every number of a row."""
        first, *more = self._groups
        if self._request is not None and not self.simulated:
            self.simulated = str(cells[self._request] or "").startswith(SIMULATED)
        further = [_result(cells, places) for places in more if cells[places["status"]]]
        return [_result(cells, first), *further]


def _result(cells: Sequence[Any], places: Mapping[str, int]) -> ResultColumns:
    def cell(name: str) -> Any:
        place = places.get(name)
        return None if place is None else cells[place]

    return ResultColumns(
        whatsapp=_flag(cell("whatsapp")),
        status_update=_date(cell("status_update")),
        business_user=_flag(cell("business_user")),
        avatar=_flag(cell("avatar")),
        status=str(cell("status") or "UNCHECKED")[:LONGEST_VALUE],
        reason=str(cell("reason") or ""),
        number=str(cell("number") or ""),
        checked_at=_moment(cell("checked_at")),
    )


def best_of(results: Sequence[ResultColumns]) -> ResultColumns:
    """Return the result of a row: a yes; else a number without an answer, unchecked before failed; else a no.

    A row is a "no" only if each of its numbers is one.
    """
    return max(
        results,
        key=lambda result: (bool(result.whatsapp), result.status == "UNCHECKED", result.status != "OK"),
    )


class Tally:
    """The contents of a report on a checked list.

    Args:
        names: The columns of the list.
        source: Its name, for messages.
        numbers: The places of its phone columns: never grouped by.
        by: The columns to group by; None takes every one of the list's own that has few values.

    Raises:
        FileError: There is no column of that name.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        source: str,
        numbers: Collection[int] = (),
        by: Iterable[str] | None = None,
    ) -> None:
        places = [
            place
            for place, name in enumerate(names)
            if place not in numbers and not _OURS.fullmatch(name or "")
        ]
        if by is not None:
            known = {names[place].casefold(): place for place in places}
            by = list(by)
            for name in by:
                if name.casefold() not in known:
                    there = ", ".join(names[place] for place in places) or "none"
                    raise FileError(f"{source} has no column {name!r} to group by; its columns are {there}")
            places = [known[name.casefold()] for name in by]
        self.total = Counts()
        self.by_status: Counter[str] = Counter()
        self.by_age = [0] * (len(AGES) + 1)
        self.age_unknown = 0
        self.reasons: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.breakdowns = [(place, Breakdown(names[place], wanted=by is not None)) for place in places]
        self.timeline = Timeline()
        self._distinct = Bitset()
        self._distinct_yes = Bitset()

    @property
    def distinct(self) -> int:
        """Distinct numbers with an answer: what the answers cost follows from these."""
        return len(self._distinct)

    @property
    def distinct_yes(self) -> int:
        """Of these, numbers on WhatsApp."""
        return len(self._distinct_yes)

    def count(self, cells: Sequence[Any], result: ResultColumns, number: str) -> None:
        """Count one row; ``number`` is the text of its number cell."""
        groups = [self.total]
        for place, breakdown in self.breakdowns:
            group = breakdown.group(cells[place])
            if group is not None:
                groups.append(group)
        whatsapp = result.whatsapp
        for group in groups:
            group.rows += 1
            group.yes += whatsapp is True
            group.no += whatsapp is False
            group.business += result.business_user is True
            group.avatar += result.avatar is True
        status = result.status
        self.by_status[status if status in self.by_status or len(self.by_status) < 50 else "OTHER"] += 1
        if result.checked_at is not None:
            self.timeline.add(result.checked_at.timestamp())
        if whatsapp is not None and result.number[1:].isdecimal():
            self._distinct.add(int(result.number[1:]))
            if whatsapp:
                self._distinct_yes.add(int(result.number[1:]))
        if whatsapp:
            self._count_age(result)
        if status == "INVALID_NUMBER":
            self._count_reason(result.reason, number)

    def _count_age(self, result: ResultColumns) -> None:
        updated = result.status_update
        if updated is None:
            self.age_unknown += 1
            return
        days = ((result.checked_at or datetime.now(UTC)).date() - updated).days
        self.by_age[sum(days > edge for edge in AGES)] += 1

    def _count_reason(self, reason: str, number: str) -> None:
        quoted = re.sub(r"[\"“”'][^\"“”']*[\"“”']", "", reason)
        kind = " ".join(mask_digits(quoted).split()).strip(" :;,.") or "?"
        if kind not in self.reasons and len(self.reasons) >= MOST_REASONS:
            kind = "…"
        self.reasons[kind] += 1
        examples = self.examples.setdefault(kind, [])
        cells = " / ".join(part for part in map(str.strip, number.splitlines()) if part)
        masked = mask_digits(cells)[:LONGEST_VALUE]
        if len(examples) < EXAMPLES and masked not in examples:
            examples.append(masked)


def mask_digits(text: str) -> str:
    """Return ``text`` with all but the first two digits of each long run hidden: numbers are personal data."""
    return re.sub(r"\d(?:[\s().-]*\d){4,}", lambda run: run[0][:2] + re.sub(r"\d", "•", run[0][2:]), text)


def _is_personal(text: str) -> bool:
    """Return whether a value is a phone number or an email address: those do not go into a report."""
    if "@" in text:
        return True
    try:
        return bool(numbers_in(text))
    except InvalidNumber:
        return False


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


def _moment(value: object) -> datetime | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value or ""))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
