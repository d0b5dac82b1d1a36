"""``accucheck diff``: what has changed between two checked lists."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from accucheck._errors import InvalidNumber
from accucheck._phone import e164, normalize
from accucheck.cli._console import print_json, report
from accucheck.cli._exit_codes import ExitCode
from accucheck.cli._options import DEFAULT_TALK, Talk
from accucheck.cli._render import thousands
from accucheck.files import FileError, open_source

__all__ = ["changes", "diff"]

_WORDS = {
    ("no", "yes"): "joined WhatsApp",
    ("yes", "no"): "left WhatsApp",
    (None, "yes"): "new, on WhatsApp",
    (None, "no"): "new, not on WhatsApp",
    ("yes", None): "gone, was on WhatsApp",
    ("no", None): "gone, was not on WhatsApp",
    ("", "yes"): "newly answered, on WhatsApp",
    ("", "no"): "newly answered, not on WhatsApp",
    ("yes", ""): "no answer now, was on WhatsApp",
    ("no", ""): "no answer now, was not on WhatsApp",
}
"""What a change of verdict means: "" is a number without an answer, None one that is not in the list."""


def diff(
    old: Path,
    new: Path,
    /,
    *,
    json: Annotated[bool, Parameter()] = False,
    talk: Talk = DEFAULT_TALK,
) -> ExitCode:
    """Compare two checked lists.

    Parameters
    ----------
    old
        The earlier output of bulk.
    new
        The later one.
    json
        Print one JSON object per number that has changed.
    """
    before, after = _verdicts(old), _verdicts(new)
    counts: Counter[str] = Counter()
    for number, was, now in changes(before, after):
        words = _WORDS.get((was, now))
        if words is None:
            continue
        counts[words] += 1
        if json:
            print_json({"number": e164(number), "old": was, "new": now, "change": words})
    if not json:
        same = sum(1 for number, verdict in after.items() if before.get(number) == verdict)
        report(
            [
                ("numbers", f"{thousands(len(before))} before, {thousands(len(after))} now"),
                ("same", thousands(same)),
                *((words, thousands(counts[words])) for words in _WORDS.values() if counts[words]),
            ],
            sys.stdout,
        )
    return ExitCode.ALL_ANSWERED


def changes(before: dict[int, str], after: dict[int, str]) -> Iterator[tuple[int, str | None, str | None]]:
    """Yield every number whose verdict has changed, with the old and the new one; None if it is not in the list."""
    for number in sorted(before.keys() | after.keys()):
        was, now = before.get(number), after.get(number)
        if was != now:
            yield number, was, now


def _verdicts(path: Path) -> dict[int, str]:
    """Return ``yes``, ``no`` or ``""`` for every number of a checked list. An answer wins over a row without one."""
    with closing(open_source(path)) as source:
        columns = [column.casefold() for column in source.all_columns()]
        found = [
            place for place, column in enumerate(columns) if column in ("whatsapp", "accucheck_whatsapp")
        ]
        if not found:
            raise FileError(f"{path} has no column whatsapp: is it an output of accucheck bulk?")
        place = found[-1]  # of a list that was checked twice, the newer one
        verdicts: dict[int, str] = {}
        for row in source.rows():
            try:
                number = normalize(row.number)
            except InvalidNumber:
                continue
            cells = source.values(row)
            cell = cells[place] if place < len(cells) else None
            verdict = {"true": "yes", "false": "no"}.get(word := str(cell).strip().lower(), word)
            if verdict in ("yes", "no") or number not in verdicts:
                verdicts[number] = verdict if verdict in ("yes", "no") else ""
    return verdicts
