"""The counts of a checked list as the sheet that sums it up in a workbook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accucheck.files._summary import MARK, Heading, Share
from accucheck.report._tally import Tally, confidence_interval, ranked
from accucheck.report._words import STATUS_WORDS, WORDS, Language, reason_in

if TYPE_CHECKING:
    from accucheck.report import Run

__all__ = ["summary_lines"]

MOST_TABLES = 8


def summary_lines(
    tally: Tally, run: Run, language: Language, currency: str = ""
) -> list[Sequence[str | int | float | None]]:
    """Return the lines: outcomes, shares by column, invalid rows by reason, and what the run took."""
    words, names = WORDS[language], STATUS_WORDS[language]
    total = tally.total
    lines: list[Sequence[str | int | float | None]] = [Heading([f"{MARK}{words['title']}"])]

    def table(*heads: str) -> None:
        lines.append([])
        lines.append(Heading(heads))

    def share(part: int, whole: int) -> Share | None:
        return Share(part / whole) if whole else None

    table(words["outcome"], words["rows"], words["share"])
    groups = [("yes", total.yes), ("no", total.no)]
    groups += [(name, rows) for name, rows in tally.by_status.most_common() if name != "OK"]
    lines += [[names.get(name, name), rows, share(rows, total.rows)] for name, rows in groups if rows]
    lines.append([words["all_rows"], total.rows])
    table(words["figure"], words["rows"], words["share"])
    low, high = confidence_interval(total.yes, total.answered)
    lines.append([words["answered"], total.answered, share(total.answered, total.rows)])
    lines.append([words["on_whatsapp"], total.yes, share(total.yes, total.answered)])
    if total.answered:
        lines.append([words["interval"], None, Share(low), Share(high)])
    lines.append([words["business"], total.business, share(total.business, total.yes)])
    lines.append([words["avatar"], total.avatar, share(total.avatar, total.yes)])
    for breakdown in [each for _, each in tally.breakdowns if each.useful][:MOST_TABLES]:
        table(breakdown.name, words["rows"], words["answered"], words["on_whatsapp"], words["share"])
        for name, counts in ranked(breakdown, words):
            lines.append([name, counts.rows, counts.answered, counts.yes, share(counts.yes, counts.answered)])
    if tally.reasons:
        table(words["reasons"], words["rows"])
        lines += [[reason_in(language, reason), rows] for reason, rows in tally.reasons.most_common(25)]
    if run.calls is not None:
        table(words["this_run"])
        lines.append([words["calls"], run.calls])
        if run.cost is not None:
            lines.append([f"{words['cost']} {currency}".rstrip(), run.cost])
        if run.elapsed is not None:
            lines.append([words["seconds"], round(run.elapsed)])
        if run.limit is not None:
            lines.append([words["limit_found"], round(run.limit, 1)])
    return lines
