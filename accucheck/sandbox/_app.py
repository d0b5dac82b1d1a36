"""The ASGI application: the vendor's endpoints by hand, the pages by Starlette.

The endpoints are plain ASGI because the sandbox shares its machine with the client under test:
Starlette's routing, request and response objects would double the cost of a call.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from html import escape
from pathlib import Path
from typing import BinaryIO, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from accucheck.sandbox._account import MAX_BODY, Account, Call, Reply, raw_number
from accucheck.sandbox._counts import Counts, InvoiceLine, Second
from accucheck.sandbox._settings import Endpoint, Settings
from accucheck.sandbox._truth import Fault

_SCRIPT = """
const live = document.getElementById("live"), pause = document.getElementById("pause");
pause.hidden = false;
document.getElementById("reload").hidden = true;
pause.onclick = () => pause.setAttribute("aria-pressed", pause.getAttribute("aria-pressed") !== "true");
setInterval(async () => {
  if (document.hidden || pause.getAttribute("aria-pressed") === "true" || getSelection().toString()) return;
  const state = document.getElementById("state");
  try {
    const text = await (await fetch(location.href)).text();
    const next = new DOMParser().parseFromString(text, "text/html").getElementById("live");
    live.replaceChildren(...next.childNodes);
    state.textContent = "";
  } catch {
    state.textContent = "The sandbox does not answer any more.";
  }
}, 2000);
"""
"""Brings the counts up to date every two seconds, unless it is paused, text is selected or the page is hidden."""

_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'"
)

_CHART_SECONDS = 60
_CHART_HEIGHT = 120
_BAR_WIDTH = 10

# Nobody needs to see these: the first two are credentials, the last is a path of the machine.
_NOT_SHOWN = frozenset({"api_id", "api_secret", "request_log"})

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882;
  --dim: light-dark(#555, #aaa); --good: #1a9850; --bad: #d95f0e; --else: #7a7f87 }
html { background: light-dark(#fff, #16181c); color: light-dark(#1c2430, #e8ecf2) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1rem; margin: 2rem 0 .5rem }
p { margin: .3rem 0 0; color: var(--dim) } a { color: inherit }
button { font: inherit; padding: .1rem .8rem } button[aria-pressed=true] { font-weight: bold }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem;
  margin: 1.5rem 0 }
dl div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem }
dt { font-size: .85rem; color: var(--dim) } dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums }
svg { width: 100%; height: 9rem; background: var(--soft); border-radius: .5rem }
.admitted { fill: var(--good) } .refused { fill: var(--bad) } .other { fill: var(--else) }
.key { display: inline-block; width: .8em; height: .8em; border-radius: .15em; margin: 0 .35em 0 1em }
.key:first-of-type { margin-left: 0 }
.key.admitted { background: var(--good) }
.key.refused { background: var(--bad) } .key.other { background: var(--else) }
.note { font-size: .85rem; max-width: 45rem; margin-top: 1rem }
.tables { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 3rem }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: normal; overflow-wrap: anywhere }
thead th + th { text-align: right; overflow-wrap: normal }
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
<title>accucheck sandbox</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>accucheck sandbox</h1>
<p><button type="button" id="pause" aria-pressed="false" hidden>Pause</button>
<a id="reload" href="">Reload</a> <span id="state" role="status"></span></p>
<div id="live">
<p>A simulated AccuAuth, up for {escape(_duration(counts.uptime))}. Nothing here costs real money.</p>
<dl>{"".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in tiles)}</dl>
{_chart(int(counts.uptime), history)}
<div><span class="key admitted"></span>admitted<span class="key refused"></span>refused by the rate limit<span
 class="key other"></span>refused for other reasons</div>
<p class="note"><b>Charged twice</b> counts numbers that were paid for more than once at the same endpoint. A careful
client causes this only when it must ask again after a reply was lost on the way (<b>charged but lost</b>), because
AccuAuth has no way to look up a call. If charged twice exceeds charged but lost, the client wastes money by
asking again unnecessarily.</p>
<div class="tables">
<section><h2>By status</h2>{_table(statuses)}</section>
<section><h2>Faults injected</h2>{_table(faults)}</section>
<section><h2>Invoice</h2>{_invoice(invoice)}</section>
<section><h2>Settings</h2>{_table(_settings_rows(settings))}</section>
</div>
</div>
</main>
<script>{_SCRIPT}</script>
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
    head = "".join(f'<th scope="col">{name}</th>' for name in ("day, endpoint", "yes", "no", "amount"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


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


def open_log(path: Path) -> BinaryIO:
    """Open a file to append to that only its owner can read. Raises ``OSError``.

    Nothing is buffered: each line is one ``write``, so a reader, or a test after a kill, finds every call that was
    answered. It is not synced to the disk: the sandbox is meant to outlive its clients, not the machine.
    """
    return open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))


ENDPOINTS: Final[dict[str, Endpoint]] = {
    "/check/whatsapp_advanced": "advanced",
    "/check/whatsapp_basic": "basic",
}
PAGES: Final = frozenset({"/", "/stats", "/stats/history", "/invoice"})

TRANSPORT: Final = "accucheck.transport"
"""Where the server leaves the connection in the scope's ``state``, so that faults can be done to it."""

# SO_LINGER on, 0 seconds: closing the socket sends RST in place of FIN.
_LINGER_NOT = struct.pack("ii", 1, 0)

_LONGEST_LOGGED = 40

KEPT_REQUESTS: Final = 10_000


class SandboxApp:
    """The simulated vendor as an ASGI application.

    ``clock`` gives monotonic seconds, ``wall`` the Unix time at the start for the log; both, and
    ``sleep``, can be replaced to test without waiting.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        request_log: BinaryIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.clock = clock
        self._clock_to_wall = wall() - clock()
        self.account = Account(settings, clock(), self._clock_to_wall)
        self.requests: deque[dict[str, object]] = deque(maxlen=KEPT_REQUESTS)
        """The last calls, as in the request log."""
        self._log = request_log
        self._sleep = sleep
        self._pages = Starlette(
            routes=[
                Route("/", self._show_page),
                Route("/stats", self._show_stats),
                Route("/stats/history", self._show_history),
                Route("/invoice", self._show_invoice),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["path"] in PAGES and scope["method"] in ("GET", "HEAD")):
            await self._pages(scope, receive, send)
            return
        try:
            await self._check(scope, receive, send)
        except asyncio.CancelledError:
            # Only a closing server cancels, and nobody is left to answer; uvicorn would log it as a crash.
            return

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        call = call_from(scope["method"], scope["path"], headers, body)
        now = self.clock()
        reply = self.account.answer(call, now)
        line = request_line(call, reply, now + self._clock_to_wall)
        self.requests.append(line)
        if self._log is not None:
            self._log.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        if reply.delay:
            await self._sleep(reply.delay)
        if reply.fault is None:
            await _send(reply, send, whole=len(body) <= MAX_BODY)
        else:
            await _send_badly(reply, reply.fault, scope, receive, send)

    async def _show_page(self, request: Request) -> HTMLResponse:
        now = self.clock()
        account = self.account
        markup = page(account.settings, account.counts(now), account.history(), account.invoice())
        return HTMLResponse(
            markup,
            headers={
                "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
                "Cache-Control": "no-store",
            },
        )

    async def _show_stats(self, request: Request) -> JSONResponse:
        return JSONResponse(asdict(self.account.counts(self.clock())))

    async def _show_history(self, request: Request) -> JSONResponse:
        return JSONResponse([asdict(entry) for entry in self.account.history()])

    async def _show_invoice(self, request: Request) -> JSONResponse:
        lines = [asdict(line) for line in self.account.invoice()]
        return JSONResponse({"lines": lines, "total": f"{self.account.spent:f}"})


def call_from(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Return the call that a request makes. The names of ``headers`` are in lower case."""
    return Call(
        ENDPOINTS.get(path) if method == "POST" else None,
        headers.get("x-df-api-id", ""),
        headers.get("x-df-api-secret", ""),
        headers.get("content-type", ""),
        body,
    )


def request_line(call: Call, reply: Reply, wall: float) -> dict[str, object]:
    """Return what the request log holds of a call made at ``wall``, in seconds since 1970."""
    number = raw_number(call.body, call.content_type)
    line: dict[str, object] = {
        "t": round(wall, 6),
        "number": None if number is None else str(number)[:_LONGEST_LOGGED],
        "endpoint": call.endpoint,
        "status": reply.status,
        "call": reply.nth,
    }
    if reply.fault:
        line["fault"] = reply.fault
    return line


async def _read(receive: Receive) -> bytes | None:
    """Return the request body, or its beginning if it is longer than allowed; None if the client left."""
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


async def _send(reply: Reply, send: Send, *, whole: bool = True) -> None:
    """Send a reply; where the request was not read whole, the connection cannot be used again."""
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
    ]
    if reply.retry_after is not None:
        headers.append((b"retry-after", str(reply.retry_after).encode()))
    if not whole:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_badly(reply: Reply, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    """Do a fault to the connection instead of, or in the middle of, the reply."""
    transport: asyncio.Transport | None = scope.get("state", {}).get(TRANSPORT)
    if transport is None:
        # No socket to spoil: an application called in-process fails its caller in the same way.
        raise ConnectionResetError(f"the sandbox dropped this reply on purpose ({fault})")
    if fault == "reset":
        raw_socket: socket.socket = transport.get_extra_info("socket")
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    elif fault == "cut":
        length = str(len(reply.body)).encode()
        headers = [(b"content-type", reply.content_type.encode()), (b"content-length", length)]
        await send({"type": "http.response.start", "status": reply.http_status, "headers": headers})
        half = reply.body[: len(reply.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        transport.close()
    # A stalled call does nothing but wait for the client to go away.
    while (await receive())["type"] != "http.disconnect":
        pass
