"""The counts of a checked list as one HTML page that needs no network, and as the summary sheet of a workbook."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Final

from accucheck._costs import in_money
from accucheck.files._excel_writer import Heading, Share
from accucheck.files._rows import printable
from accucheck.files._sheets import MARK
from accucheck.report._tally import (
    AGES,
    MOST_GROUPS,
    MOST_ROWS,
    Breakdown,
    Counts,
    Tally,
    confidence_interval,
    ranked,
)
from accucheck.report._words import STATUS_WORDS, WORDS, Language, reason_in

if TYPE_CHECKING:
    from accucheck.report import Run

__all__ = ["render", "summary_lines"]

MOST_TABLES: Final = 8
LIMA: Final = timezone(timedelta(hours=-5))
"""Peru has not changed its clocks since 1994."""
FEWEST_POINTS: Final = 8
"""A chart of fewer points, or of a few seconds, shows nothing useful."""


def render(
    tally: Tally,
    *,
    title: str,
    source: str,
    language: Language,
    price: float | None,
    currency: str,
    run: Run,
) -> str:
    """Return the page. Everything that comes from the list is escaped."""
    words = WORDS[language]
    sections = [
        _tiles(tally, run, price, currency, words),
        _outcomes(tally, language),
        *_breakdowns(tally, words),
        _ages(tally, words),
        _reasons(tally, language),
        _speed(tally, run, words),
    ]
    data = {
        "words": {
            "time": words["time"],
            "per_second": words["calls_per_second" if _has_speed(run) else "per_second"],
            "limit": words["limit"],
        },
        "speed": _speed_data(tally, run),
        "age": _age_data(tally, words),
    }
    scripts = [_asset("uplot.min.js"), _asset("page.js")]
    styles = [_asset("uplot.min.css"), _asset("page.css")]
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"script-src {_hashes(scripts)}; style-src {_hashes(styles)}"
    )
    stamp = f"{datetime.now(LIMA):%Y-%m-%d %H:%M} (Lima)"
    warning = (
        [f'<p class="warning">{_text(words["simulated"].format(host=run.server))}</p>'] if run.server else []
    )
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="{language}"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{escape(words['title'])}: {_text(title)}</title>",
            *(f"<style>{style}</style>" for style in styles),
            "</head><body><main>",
            f"<h1>{escape(words['title'])}: {_text(title)}</h1>",
            f'<p class="soft">{escape(words["list"])}: {_text(source)} · {escape(words["created"])}: {stamp}</p>',
            *warning,
            *sections,
            f'</main><footer class="soft"><p>{escape(words["made_by"])}</p></footer>',
            f'<script type="application/json" id="data">{_json(data)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body></html>\n",
        ]
    )


@cache
def _asset(name: str) -> str:
    """Return a file of this package; uPlot (MIT license, see uplot.LICENSE) draws the charts."""
    return resources.files("accucheck.report").joinpath(name).read_text("utf-8")


def _hashes(texts: Iterable[str]) -> str:
    return " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts
    )


def _json(data: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _text(text: str) -> str:
    """Return a stranger's text for HTML: escaped, without control characters, isolated in its text direction."""
    shown = printable(text)
    return f"<bdi>{escape(shown)}</bdi>" if not shown.isascii() else escape(shown)


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _percent(part: float, whole: float) -> str:
    return "–" if not whole else f"{100 * part / whole:.1f} %"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _money(amount: float, currency: str = "") -> str:
    return in_money(Decimal(str(round(amount, 6))), currency)


def cost_of(tally: Tally, run: Run, price: float | None) -> float | None:
    """Return what the answers of the list cost, those of earlier runs included; None if no price is known."""
    if price is None:
        return run.cost
    return max(price * tally.distinct, run.cost or 0.0)


def _tiles(tally: Tally, run: Run, price: float | None, currency: str, words: dict[str, str]) -> str:
    total = tally.total
    low, high = confidence_interval(total.yes, total.answered)
    tiles = [
        (words["rows"], _count(total.rows), ""),
        (
            words["on_whatsapp"],
            _percent(total.yes, total.answered),
            words["of_answered"].format(n=_count(total.answered))
            + (f" · {100 * low:.1f}–{100 * high:.1f} %" if total.answered else ""),
        ),
        (
            words["numbers"],
            _count(tally.distinct_yes),
            words["of_answered"].format(n=_count(tally.distinct)),
        ),
        (words["business"], _percent(total.business, total.yes), words["of_whatsapp"]),
        (words["avatar"], _percent(total.avatar, total.yes), words["of_whatsapp"]),
        (words["invalid"], _count(tally.by_status["INVALID_NUMBER"]), ""),
    ]
    if run.calls:
        detail = words["retries"].format(
            polls=_count(run.polls), retries=_count(run.retries), refusals=_count(run.refusals)
        )
        tiles.append((words["calls"], _count(run.calls), detail))
    cost = cost_of(tally, run, price)
    if cost is not None:
        detail = words["spent"]
        if (
            price is not None and cost <= price * tally.distinct
        ):  # else numbers were bought that the list leaves out
            detail = words["price_each"].format(n=_count(tally.distinct), price=f"{price:g}")
            if run.cost is not None:
                detail += " · " + words["in_this_run"].format(cost=_money(run.cost))
        tiles.append((words["cost"], _money(cost, currency), detail))
    elapsed = run.elapsed
    if elapsed is not None and run.calls != 0:
        tiles.append((words["duration"], _seconds(elapsed), ""))
    cells = (
        f'<div class="tile"><dt>{escape(name)}</dt><dd class="figure">{escape(figure)}</dd>'
        f'<dd class="soft">{escape(detail)}</dd></div>'
        for name, figure, detail in tiles
    )
    return f'<dl class="tiles">{"".join(cells)}</dl>'


def _table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    bar: int | None = None,
    words: int | None = None,
) -> str:
    """Return a table; cells are HTML already. ``bar`` is the column that holds drawings, ``words`` one of text."""
    # A narrow window scrolls it: it must be reachable by keyboard, and have a name.
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(printable(title))}">'
    head = "".join(
        f'<th scope="col"{_class(place, bar, words)}>{escape(name)}</th>' if name else '<td class="bar"></td>'
        for place, name in enumerate(heads)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row">{cell}</th>' if not place else f"<td{_class(place, bar, words)}>{cell}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"{region}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _class(place: int, bar: int | None, words: int | None) -> str:
    return ' class="bar"' if place == bar else ' class="words"' if place == words else ""


def _bar(share: float, kind: str = "", interval: tuple[float, float] | None = None) -> str:
    """Return a bar as wide as ``share``; the next cell shows the number."""
    line = (
        ""
        if interval is None
        else (
            f'<line class="whisker" x1="{100 * interval[0]:.2f}" x2="{100 * interval[1]:.2f}" y1="5" y2="5"/>'
        )
    )
    return (
        '<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" width="100" height="10"/>'
        f'<rect class="fill {kind}" width="{100 * share:.2f}" height="10"/>{line}</svg>'
    )


def _groups(tally: Tally) -> list[tuple[str, int]]:
    """Return how many rows ended how."""
    statuses = [(name, rows) for name, rows in tally.by_status.most_common() if name != "OK"]
    return [each for each in (("yes", tally.total.yes), ("no", tally.total.no), *statuses) if each[1]]


def _outcomes(tally: Tally, language: Language) -> str:
    words, names = WORDS[language], STATUS_WORDS[language]
    total = tally.total
    rows = [
        (
            _text(names.get(name, name)),
            _count(count),
            _percent(count, total.rows),
            _bar(count / total.rows, name if name in ("yes", "no") else "other"),
        )
        for name, count in _groups(tally)
    ]
    if not rows:
        return f"<h2>{escape(words['outcomes'])}</h2><p>{escape(words['none'])}</p>"
    return f"<h2>{escape(words['outcomes'])}</h2>" + _table(
        words["outcomes"], (words["outcome"], words["rows"], words["share"], ""), rows, bar=3
    )


def _breakdowns(tally: Tally, words: dict[str, str]) -> list[str]:
    useful = [breakdown for _, breakdown in tally.breakdowns if breakdown.useful]
    sections = [_breakdown(breakdown, words) for breakdown in useful[:MOST_TABLES]]
    if sections:
        sections.append(f'<p class="soft">{escape(words["interval_note"])}</p>')
    for _, breakdown in tally.breakdowns:
        if breakdown.wanted and breakdown.abandoned:
            note = escape(words["not_grouped"].format(column="\0", n=MOST_GROUPS))
            sections.append(f"<p>{note.replace(chr(0), _text(breakdown.name))}</p>")
    return sections


def _breakdown(breakdown: Breakdown, words: dict[str, str]) -> str:
    rows = [_group_row(_text(name), counts) for name, counts in ranked(breakdown, words)]
    heading = escape(words["by"].format(column="\0")).replace("\0", _text(breakdown.name))
    heads = (breakdown.name, words["rows"], words["answered"], words["on_whatsapp"], words["interval"], "")
    return f"<h2>{heading}</h2>" + _table(words["by"].format(column=breakdown.name), heads, rows, bar=5)


def _group_row(name: str, counts: Counts) -> tuple[str, ...]:
    if not counts.answered:
        return name, _count(counts.rows), "0", "–", "–", ""
    interval = confidence_interval(counts.yes, counts.answered)
    return (
        name,
        _count(counts.rows),
        _count(counts.answered),
        _percent(counts.yes, counts.answered),
        f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f} %",
        _bar(counts.yes / counts.answered, "yes", interval),
    )


def _age_names(words: dict[str, str]) -> list[str]:
    names = []
    for days in AGES:
        if days < 365:
            names.append(words["days"].format(n=days))
        else:
            names.append(words["year"] if days == 365 else words["years"].format(n=days // 365))
    return [*names, words["older"], words["unknown"]]


def _age_data(tally: Tally, words: dict[str, str]) -> dict[str, object] | None:
    if not sum(tally.by_age):
        return None
    return {"x": _age_names(words), "y": [*tally.by_age, tally.age_unknown]}


def _ages(tally: Tally, words: dict[str, str]) -> str:
    if not sum(tally.by_age):
        return ""
    rows = [
        (escape(name), _count(count), _percent(count, tally.total.yes))
        for name, count in zip(_age_names(words), [*tally.by_age, tally.age_unknown], strict=True)
    ]
    return (
        f'<h2>{escape(words["age"])}</h2><p class="soft">{escape(words["age_note"])}</p>'
        '<div class="chart" id="age"></div>'
        f"<details><summary>{escape(words['table'])}</summary>"
        + _table(words["age"], (words["age"], words["accounts"], words["share"]), rows)
        + "</details>"
    )


def _reasons(tally: Tally, language: Language) -> str:
    words = WORDS[language]
    if not tally.reasons:
        return ""
    rows = [
        (
            _text(reason_in(language, reason)),
            _count(count),
            ", ".join(_text(example) for example in tally.examples[reason] if example),
        )
        for reason, count in tally.reasons.most_common(MOST_ROWS)
    ]
    return f"<h2>{escape(words['reasons'])}</h2>" + _table(
        words["reasons"], (words["reason"], words["rows"], words["examples"]), rows, words=2
    )


def _has_speed(run: Run) -> bool:
    """Whether the speed is that of the run's calls; otherwise it is that of the answers in the list."""
    return bool(run.speed) and run.calls != 0


def _points(tally: Tally, run: Run) -> list[tuple[float, float, float | None]]:
    """Return moments, rates and limits; none if they are too few for a chart."""
    answers = zip(*tally.timeline.points(), strict=True)
    points = (
        list(run.speed)
        if _has_speed(run)
        else [(float(at), round(rate, 3), run.limit) for at, rate in answers]
    )
    return points if len(points) >= FEWEST_POINTS else []


def _speed_data(tally: Tally, run: Run) -> dict[str, object] | None:
    points = _points(tally, run)
    return (
        dict(zip(("x", "y", "limit"), map(list, zip(*points, strict=True)), strict=True)) if points else None
    )


def _speed(tally: Tally, run: Run, words: dict[str, str]) -> str:
    """Draw calls against the limit if the run is known, or else answers over time, from the list."""
    points = _points(tally, run)
    if not points:
        return ""
    of_run = _has_speed(run)
    kind = "run_speed" if of_run else "speed"
    heads = [words["time"], words["calls_per_second" if of_run else "per_second"]]
    heads += [words["limit"]] * of_run
    step = -(-len(points) // MOST_ROWS)
    rows = []
    for place in range(0, len(points), step):
        some = points[place : place + step]
        limit = some[-1][2]
        row = [f"{datetime.fromtimestamp(some[0][0], LIMA):%Y-%m-%d %H:%M:%S}"]
        row.append(f"{sum(rate for _, rate, _ in some) / len(some):.1f}")
        rows.append([*row, "–" if limit is None else f"{limit:.1f}"] if of_run else row)
    return (
        f'<h2>{escape(words[kind])}</h2><p class="soft">{escape(words[f"{kind}_note"])}</p>'
        '<div class="chart" id="speed"></div>'
        f"<details><summary>{escape(words['table'])}</summary>"
        + _table(words[kind], heads, rows)
        + "</details>"
    )


def summary_lines(
    tally: Tally, run: Run, language: Language, currency: str = "", price: float | None = None
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
    lines += [[names.get(name, name), rows, share(rows, total.rows)] for name, rows in _groups(tally)]
    lines.append([words["all_rows"], total.rows])
    table(words["figure"], words["rows"], words["share"])
    low, high = confidence_interval(total.yes, total.answered)
    lines.append([words["answered"], total.answered, share(total.answered, total.rows)])
    lines.append([words["on_whatsapp"], total.yes, share(total.yes, total.answered)])
    if total.answered:
        lines.append([words["interval"], None, Share(low), Share(high)])
    lines.append([words["numbers"], tally.distinct_yes, share(tally.distinct_yes, tally.distinct)])
    lines.append([words["business"], total.business, share(total.business, total.yes)])
    lines.append([words["avatar"], total.avatar, share(total.avatar, total.yes)])
    for breakdown in [each for _, each in tally.breakdowns if each.useful][:MOST_TABLES]:
        table(breakdown.name, words["rows"], words["answered"], words["on_whatsapp"], words["share"])
        for name, counts in ranked(breakdown, words):
            lines.append([name, counts.rows, counts.answered, counts.yes, share(counts.yes, counts.answered)])
    if tally.reasons:
        table(words["reasons"], words["rows"])
        lines += [
            [reason_in(language, reason), rows] for reason, rows in tally.reasons.most_common(MOST_ROWS)
        ]
    cost = cost_of(tally, run, price)
    if cost is not None:
        lines.append([f"{words['cost']} {currency}".rstrip(), round(cost, 6)])
    if run.server:
        lines.append([words["simulated"].format(host=run.server)])
    if run.calls:
        table(words["this_run"])
        lines.append([words["calls"], run.calls])
        if run.cost is not None and price is not None:
            lines.append([f"{words['cost']} {currency}".rstrip(), run.cost])
        if run.elapsed is not None:
            lines.append([words["seconds"], round(run.elapsed)])
        if run.limit is not None:
            lines.append([words["limit_found"], round(run.limit, 1)])
    return lines
