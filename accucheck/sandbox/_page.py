"""The page at ``/``: live counts as plain HTML. Works without scripts, loads nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from html import escape

from accucheck.sandbox._counts import Counts, InvoiceLine, Second
from accucheck.sandbox._settings import Settings

_REFRESH_SECONDS = 2
_CHART_SECONDS = 60
_CHART_HEIGHT = 120
_BAR_WIDTH = 10

# Nobody needs to see these: the first two are credentials, the last is a path of the machine.
_NOT_SHOWN = frozenset({"api_id", "api_secret", "request_log"})

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882;
  --good: #1a9850; --bad: #d95f0e; --else: #7a7f87 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .5rem }
p { margin: .3rem 0 0; opacity: .75 }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem }
dt { font-size: .85rem; opacity: .75 } dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums }
svg { width: 100%; height: 9rem; background: var(--soft); border-radius: .5rem }
.admitted { fill: var(--good) } .refused { fill: var(--bad) } .other { fill: var(--else) }
.key { display: inline-block; width: .8em; height: .8em; border-radius: .15em; margin: 0 .35em 0 1em }
.key:first-of-type { margin-left: 0 }
.key.admitted { background: var(--good) }
.key.refused { background: var(--bad) } .key.other { background: var(--else) }
.note { font-size: .85rem; max-width: 45rem; margin-top: 1rem }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 0 3rem }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: normal; white-space: nowrap }
td { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: break-word }
th, td { padding: .2rem 0 .2rem .75rem; border-bottom: 1px solid var(--line) }
th:first-child { padding-left: 0 }
"""


def page(
    settings: Settings, counts: Counts, history: Sequence[Second], invoice: Sequence[InvoiceLine]
) -> str:
    """Return the page as HTML."""
    limit = "no limit" if counts.rate is None else f"{counts.rate:,.4g}"
    tiles = (
        ("requests/s", f"{counts.requests_per_second:,.1f}"),
        ("admitted/s", f"{counts.admitted_per_second:,.1f}"),
        ("limit/s", limit),
        ("requests", f"{counts.requests:,}"),
        ("admitted", f"{counts.admitted:,}"),
        ("refused", f"{counts.refused:,}"),
        ("pending now", f"{counts.pending:,}"),
        ("numbers asked", f"{counts.numbers:,}"),
        ("charged", f"{counts.charged:,}"),
        ("charged twice", f"{counts.charged_twice:,}"),
        ("charged but lost", f"{counts.charged_but_lost:,}"),
        ("invoice", f"{counts.spent:,.2f}"),
    )
    statuses = ((status, f"{count:,}") for status, count in sorted(counts.by_status.items()))
    faults = ((kind, f"{count:,}") for kind, count in sorted(counts.faults.items()))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">
<title>accucheck sandbox</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>accucheck sandbox</h1>
<p>A simulated AccuAuth, up for {escape(_duration(counts.uptime))}. Nothing here costs real money.</p>
<dl>{"".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)}</dl>
{_chart(int(counts.uptime), history)}
<div><span class="key admitted"></span>admitted<span class="key refused"></span>refused by the rate limit<span
 class="key other"></span>refused for other reasons</div>
<p class="note"><b>Charged twice</b> counts numbers that were paid for more than once at the same endpoint. A
careful client causes it only by asking again after a reply was lost on the way (<b>charged but lost</b>), because
AccuAuth has no way to ask what became of a call.</p>
<div class="tables">
<section><h2>By status</h2>{_table(statuses)}</section>
<section><h2>Faults injected</h2>{_table(faults)}</section>
<section><h2>Invoice</h2>{_invoice(invoice)}</section>
<section><h2>Settings</h2>{_table(_settings_rows(settings))}</section>
</div>
</body>
</html>
"""


def _chart(this_second: int, history: Sequence[Second]) -> str:
    """Return a heading, and one stacked bar for each whole second of the last minute."""
    start = this_second - _CHART_SECONDS
    shown = [entry for entry in history if start <= entry.second < this_second]
    most = max((entry.requests for entry in shown), default=0)
    bars = []
    for entry in shown:
        left = (entry.second - start) * _BAR_WIDTH
        top = float(_CHART_HEIGHT)
        for kind, count in (("admitted", entry.admitted), ("refused", entry.refused), ("other", entry.other)):
            height = count / most * _CHART_HEIGHT
            top -= height
            if count:
                place = f'x="{left}" y="{top:.2f}" width="{_BAR_WIDTH - 1}" height="{height:.2f}"'
                bars.append(f'<rect class="{kind}" {place}/>')
    width = _CHART_SECONDS * _BAR_WIDTH
    label = (
        f"Calls per second in the last minute, at most {most:,}" if shown else "No calls in the last minute"
    )
    return (
        f"<h2>{escape(label)}</h2>"
        f'<svg viewBox="0 0 {width} {_CHART_HEIGHT}" preserveAspectRatio="none" role="img">'
        f"<title>{escape(label)}</title>{''.join(bars)}</svg>"
    )


def _invoice(lines: Sequence[InvoiceLine]) -> str:
    """Return the invoice; only a "yes" or a "no" is on it."""
    if not lines:
        return "<p>nothing charged yet</p>"
    body = "".join(
        f'<tr><th scope="row">{line.day} {line.endpoint}</th><td>{line.yes:,}</td><td>{line.no:,}</td>'
        f"<td>{float(line.amount):,.2f}</td></tr>"
        for line in lines
    )
    head = "<tr><th>day (UTC), endpoint</th><td>yes</td><td>no</td><td>amount</td></tr>"
    return f"<table>{head}{body}</table>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows
    )
    return f"<table>{body}</table>" if body else "<p>none</p>"


def _settings_rows(settings: Settings) -> Iterable[tuple[str, str]]:
    """Tell the seed, and what is set otherwise than by default."""
    defaults = Settings()
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if setting.name == "seed" or (
            value != getattr(defaults, setting.name) and setting.name not in _NOT_SHOWN
        ):
            yield setting.name.replace("_", " "), _setting(value)


def _setting(value: object) -> str:
    """Write a setting as the command line takes it."""
    if isinstance(value, tuple):
        between = ", " if any(isinstance(part, str | tuple) for part in value) else ":"
        return between.join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
