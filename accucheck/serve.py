"""``accucheck serve``: one process that uses an AccuAuth account and offers AccuAuth's own API over HTTP.

Programs in any language get the ledger, the rate limit, polling and retries by changing a URL::

    POST /check/whatsapp_advanced        X-DF-API-ID, X-DF-API-SECRET: this server's own key
    number=987654321                     a form, like the vendor's, or JSON

If an answer takes longer than ``wait``, the reply is PENDING, as with the vendor. Ask again for the answer: meanwhile
the check continues here, and its call is never made twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import socket
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from accucheck._errors import (
    AccucheckError,
    BudgetExhausted,
    ConfigurationError,
    InvalidArgument,
    InvalidNumber,
    NoPermission,
    OutOfQuota,
    PendingTimeout,
    RateLimited,
    RunEnded,
    VendorUnavailable,
)
from accucheck._models import Check, Stats

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from starlette.routing import Route
except ImportError as error:  # pragma: no cover (an environment without the extra)
    raise ImportError("accucheck serve needs extra packages: pip install 'accucheck[serve]'") from error

__all__ = ["Checker", "make_app", "run"]

logger = logging.getLogger("accucheck")

MAX_BODY: Final = 8192
"""Bytes of a request; a number needs 30."""
RETRY_AFTER: Final = 1
"""Seconds after which a client that found the queue full should ask again."""


_UNHEALTHY_SECONDS: Final = 60.0
"""How long /healthz reports that the account cannot be used, since a load balancer sends no check to clear it."""


class Checker(Protocol):
    """What the server needs from a client, such as an ``accucheck.Client``."""

    async def check(self, number: str) -> Check: ...

    @property
    def stats(self) -> Stats: ...


class _Service:
    """The queue of checks in progress, and the counts for /metrics."""

    def __init__(
        self,
        open_client: Callable[[], contextlib.AbstractAsyncContextManager[Checker]],
        *,
        key: tuple[str, str],
        endpoint: str,
        queue: int,
        wait: float,
        grace: float,
        clock: Callable[[], float],
    ) -> None:
        self._open_client = open_client
        self._key = tuple(part.encode() for part in key)
        self._endpoint = _offered(endpoint)
        self._queue = queue
        self._wait = wait
        self._grace = grace
        self._clock = clock
        self._client: Checker | None = None
        self._under_way: dict[str, asyncio.Task[Check]] = {}
        self._closing = False
        self.replies: Counter[str] = Counter()
        self.ended: tuple[float, RunEnded] | None = None
        """When the account could no longer be used, and why, such as OutOfQuota; None once a check succeeds."""

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Open the client; at the end, let the checks in progress settle."""
        async with self._open_client() as client:
            self._client = client
            try:
                yield
            finally:
                self._closing = True
                await self._settle()

    async def _settle(self) -> None:
        """Wait for the checks in progress, but not for numbers that AccuAuth keeps PENDING."""
        if not self._under_way:
            return
        _, slow = await asyncio.wait([*self._under_way.values()], timeout=self._grace)
        for task in slow:
            task.cancel()  # the client still lets a call in flight settle
        if slow:
            await asyncio.wait(slow)

    # The vendor's contract

    async def check(self, request: Request) -> Response:
        """Answer ``POST /check/whatsapp_advanced``."""
        if not self._is_allowed(request):
            return self._refuse(
                401, "UNAUTHORIZED", "X-DF-API-ID and X-DF-API-SECRET must hold this server's own key"
            )
        try:
            number = _number_in(await _body(request), request.headers.get("content-type", ""))
        except ClientDisconnect:
            return Response(status_code=499)
        except ValueError as error:
            return self._refuse(400, "INVALID_ARGUMENT", str(error))
        if self._closing:
            return self._refuse(503, "INTERNAL_ERROR", "the server is shutting down", RETRY_AFTER)
        task = self._under_way.get(number)
        if task is None:
            if len(self._under_way) >= self._queue:
                return self._refuse(
                    429, "RATE_LIMIT_EXCEEDED", "the queue is full: ask again later", RETRY_AFTER
                )
            assert self._client is not None
            task = self._under_way[number] = asyncio.create_task(self._client.check(number))
            task.add_done_callback(lambda done: self._settled(number, done))
        # Not awaited itself: a client that disconnects must not cut off a call that is paid for.
        done, _ = await asyncio.wait([task], timeout=self._wait)
        if not done:
            return self._refuse(400, "PENDING", "Operation in progress")
        return self._answer(task)

    def _settled(self, number: str, task: asyncio.Task[Check]) -> None:
        del self._under_way[number]
        if not task.cancelled():
            error = task.exception()
            self.ended = (self._clock(), error) if isinstance(error, RunEnded) else None

    def _answer(self, task: asyncio.Task[Check]) -> Response:
        try:
            check = task.result()
        except AccucheckError as error:
            return next(
                self._refuse(code, status, error.reason, retry_after)
                for kind, code, status, retry_after in _ERRORS
                if isinstance(error, kind)
            )
        self.replies["OK"] += 1
        return JSONResponse({"status": "OK", "result": self._result(check), "request_id": check.request_id})

    def _result(self, check: Check) -> dict[str, Any]:
        result: dict[str, Any] = {"number": check.number, "whatsapp": "yes" if check.whatsapp else "no"}
        if self._endpoint == "advanced":
            result |= {
                "status_update": "" if check.status_update is None else f"{check.status_update:%Y%m%d}",
                "signature": check.signature or "",
                "business_user": _yes_no(check.business_user),
                "avatar": _yes_no(check.avatar),
            }
        return result | dict(check.extra)

    def _refuse(self, code: int, status: str, reason: str, retry_after: int | None = None) -> Response:
        self.replies[status] += 1
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        # AccuAuth's page promises an id for each request; answers keep AccuAuth's own.
        request_id = f"TID{uuid.uuid4().hex}"
        return JSONResponse({"status": status, "reason": reason, "request_id": request_id}, code, headers)

    def _is_allowed(self, request: Request) -> bool:
        given = (request.headers.get("x-df-api-id", ""), request.headers.get("x-df-api-secret", ""))
        # Always compare both, so that the time taken reveals nothing.
        matches = [hmac.compare_digest(a.encode(), b) for a, b in zip(given, self._key, strict=True)]
        return all(matches)

    # For operators

    async def health(self, _request: Request) -> Response:
        """Answer ``GET /healthz``: 200 while checks can be made, else 503 and why."""
        if self._closing:
            return PlainTextResponse("shutting down\n", 503)
        if self.ended is not None and self._clock() < self.ended[0] + _UNHEALTHY_SECONDS:
            return PlainTextResponse(f"{self.ended[1].status}: {self.ended[1].reason}\n", 503)
        return PlainTextResponse("ok\n")

    async def metrics(self, _request: Request) -> Response:
        """Answer ``GET /metrics`` in Prometheus's text format, version 0.0.4."""
        assert self._client is not None
        stats = self._client.stats
        replies = {f'{{status="{status}"}}': count for status, count in sorted(self.replies.items())}
        lines: list[str] = []
        for name, kind, text, value in (
            ("replies_total", "counter", "Requests answered, by the status word sent.", replies),
            ("queue", "gauge", "Checks in progress or waiting.", len(self._under_way)),
            ("calls_total", "counter", "Calls made to AccuAuth.", stats.calls),
            ("polls_total", "counter", "Calls that asked again after PENDING.", stats.polls),
            ("retries_total", "counter", "Retries after a failure.", stats.retries),
            ("refusals_total", "counter", "Calls refused by AccuAuth's rate limit.", stats.refusals),
            (
                "possibly_double_charged_total",
                "counter",
                "Calls whose reply was lost.",
                stats.possibly_double_charged,
            ),
            ("in_flight", "gauge", "Calls to AccuAuth in flight.", stats.in_flight),
            ("rate", "gauge", "Calls per second allowed now.", stats.rate),
        ):
            if value is not None:
                name = f"accucheck_{name}"
                values = value if isinstance(value, dict) else {"": value}
                lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
                lines += [f"{name}{label} {number:.16g}" for label, number in values.items()]
        return PlainTextResponse(
            "\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def openapi(self, _request: Request) -> Response:
        """Answer ``GET /openapi.json``."""
        return JSONResponse(_openapi(self._endpoint))

    async def page(self, _request: Request) -> Response:
        """Answer ``GET /``: how to call this server."""
        fields = "".join(
            _table_row(f"<code>{name}</code>", text) for name, text in _fields(self._endpoint).items()
        )
        replies = "".join(
            _table_row(str(code), f"<code>{status}</code>", text) for code, status, text in _REPLIES
        )
        return HTMLResponse(
            _PAGE.format(path=f"/check/whatsapp_{self._endpoint}", fields=fields, replies=replies),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )


def make_app(
    open_client: Callable[[], contextlib.AbstractAsyncContextManager[Checker]],
    *,
    key: tuple[str, str],
    endpoint: str = "advanced",
    queue: int = 1_000,
    wait: float = 25.0,
    grace: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """Return the ASGI application.

    Args:
        open_client: Creates the client of the account, such as ``lambda: accucheck.Client(ledger="account")``.
        key: The id and the secret that callers must send. They are this server's own, never the vendor's.
        endpoint: The vendor's endpoint to offer: the same as the client's. A client with "cascade" offers the advanced
            one.
        queue: Maximum checks in progress or waiting, 1 or more; beyond it, callers get 429 and Retry-After.
        wait: Seconds until a caller gets PENDING. Keep it below the 30 s after which most HTTP clients give up.
        grace: Seconds that checks in progress get when the server stops. Calls in flight always settle.
        clock: Returns seconds; for tests.

    Raises:
        ConfigurationError: The key is empty, or an argument is wrong.
    """
    if not all(key):
        raise ConfigurationError("serve needs its own key: an id and a secret that callers must send")
    if queue < 1:
        raise ConfigurationError(f"queue must be a whole number of checks, 1 or more, not {queue!r}")
    for name, seconds in (("wait", wait), ("grace", grace)):
        if not 0 <= seconds < float("inf"):
            raise ConfigurationError(f"{name} must be a number of seconds, 0 or more, not {seconds!r}")
    service = _Service(
        open_client, key=key, endpoint=endpoint, queue=queue, wait=wait, grace=grace, clock=clock
    )

    path = f"/check/whatsapp_{_offered(endpoint)}"

    async def not_found(_request: Request, _error: Exception) -> Response:
        return service._refuse(404, "NOT_FOUND", f"this server offers {path}")

    async def internal_error(_request: Request, error: Exception) -> Response:
        logger.error("internal error (please report it): %s", type(error).__name__, exc_info=error)
        return service._refuse(500, "INTERNAL_ERROR", "internal error of this server; its log says more")

    return Starlette(
        routes=[
            Route(path, service.check, methods=["POST"]),
            Route("/", service.page),
            Route("/healthz", service.health),
            Route("/metrics", service.metrics),
            Route("/openapi.json", service.openapi),
        ],
        exception_handlers={404: not_found, 405: not_found, 500: internal_error},
        lifespan=service.lifespan,
    )


def run(
    app: Starlette,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    certificate: str | None = None,
    private_key: str | None = None,
    announce: Callable[[str], object] = lambda line: print(line, flush=True),
) -> None:
    """Serve ``app`` until SIGINT or SIGTERM, then let the checks in progress settle.

    ``announce`` gets the line ``listening on http://127.0.0.1:8765`` once requests are accepted; ``port`` 0 picks a
    free one. ``certificate`` and ``private_key`` are PEM files for https.

    Raises:
        OSError: It cannot listen on the address, or a file cannot be read.
    """
    try:
        import uvicorn
    except ImportError as error:  # pragma: no cover (an environment without the extra)
        raise ImportError("accucheck serve needs extra packages: pip install 'accucheck[serve]'") from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listener:
        config = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ssl_certfile=certificate,
            ssl_keyfile=private_key,
            timeout_keep_alive=75,
        )
        scheme, bound = "http" if certificate is None else "https", listener.getsockname()[1]
        announce(f"listening on {scheme}://{f'[{host}]' if ':' in host else host}:{bound}")
        uvicorn.Server(config).run(sockets=[listener])


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ValueError("the body is too long: send only the field number")
    return body


def _number_in(body: bytes, content_type: str) -> str:
    """Return the field ``number``; raises ValueError with the vendor's own words where there is none."""
    number: object = None
    try:
        if content_type.partition(";")[0].strip().lower() == "application/json":
            fields = json.loads(body)
            number = fields.get("number") if isinstance(fields, dict) else None
        else:
            number = parse_qs(body.decode(), max_num_fields=20).get("number", [None])[0]
    except (ValueError, RecursionError):
        number = None
    if isinstance(number, int) and not isinstance(number, bool):
        number = str(number)
    if not isinstance(number, str) or not number.strip():
        raise ValueError("argument 'number': not found")
    return number.strip()


def _yes_no(flag: bool | None) -> str:
    return "" if flag is None else "yes" if flag else "no"


_ERRORS: Final[tuple[tuple[type[AccucheckError], int, str, int | None], ...]] = (
    (InvalidNumber, 400, "INVALID_ARGUMENT", None),
    (InvalidArgument, 400, "INVALID_ARGUMENT", None),
    (PendingTimeout, 400, "PENDING", None),
    (RateLimited, 429, "RATE_LIMIT_EXCEEDED", RETRY_AFTER),
    (VendorUnavailable, 503, "INTERNAL_ERROR", RETRY_AFTER),
    (NoPermission, 403, "NO_PERMISSION", None),
    (OutOfQuota, 403, "OUT_OF_QUOTA", None),
    (BudgetExhausted, 403, "OUT_OF_QUOTA", None),
    (
        AccucheckError,
        500,
        "INTERNAL_ERROR",
        None,
    ),  # also if AccuAuth refused our credentials, not the caller's
)
"""For the first class that an error has: HTTP code, status and Retry-After of the reply."""
_REPLIES: Final = (
    (200, "OK", "The answer. A number that was answered before costs nothing."),
    (
        400,
        "PENDING",
        "The check is taking longer: send the same request again. It continues and is paid for once.",
    ),
    (400, "INVALID_ARGUMENT", "The number is missing or not Peruvian; no call was made."),
    (401, "UNAUTHORIZED", "The id and the secret are not this server's own key."),
    (403, "NO_PERMISSION", "The account behind this server may not use this API."),
    (403, "OUT_OF_QUOTA", "The account's calls, or those that this server may make, are used up."),
    (429, "RATE_LIMIT_EXCEEDED", "The queue is full: send it again after Retry-After seconds."),
    (404, "NOT_FOUND", "There is nothing at this address."),
    (500, "INTERNAL_ERROR", "There is no answer; reason says why."),
    (
        503,
        "INTERNAL_ERROR",
        "AccuAuth is down or this server is stopping: send it again after Retry-After seconds.",
    ),
)
"""HTTP code, status, and what it means."""
_FIELDS: Final = {
    "number": "The phone number, +51 and the national number",
    "whatsapp": "yes or no",
    "status_update": "Date of the status text, such as 20231212, or empty",
    "signature": "The status text, or empty",
    "business_user": "yes, no, or empty if unknown",
    "avatar": "yes, no, or empty if unknown",
}
"""Of the result. The basic endpoint has the first two."""


def _offered(endpoint: str) -> str:
    return "advanced" if endpoint == "cascade" else endpoint


def _fields(endpoint: str) -> dict[str, str]:
    return {
        name: text
        for name, text in _FIELDS.items()
        if endpoint == "advanced" or name in ("number", "whatsapp")
    }


def _openapi(endpoint: str) -> dict[str, Any]:
    text = {"type": "string"}

    def record(**properties: Any) -> dict[str, Any]:
        return {"type": "object", "required": [*properties], "properties": properties}

    def reply(description: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    number = {"schema": record(number=text)}
    result = record(**{name: {**text, "description": meaning} for name, meaning in _fields(endpoint).items()})
    result["required"] = ["number", "whatsapp"]
    check = {
        "summary": "Check whether a Peru phone number is on WhatsApp",
        "security": [{"id": [], "secret": []}],
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": number, "application/json": number},
        },
        "responses": {
            "200": reply("The answer", record(status={"const": "OK"}, result=result, request_id=text)),
            "default": reply(
                " ".join(f"{code} {status}: {meaning}" for code, status, meaning in _REPLIES[1:]),
                record(status=text, reason=text, request_id=text),
            ),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "accucheck serve", "version": "1"},
        "components": {
            "securitySchemes": {
                "id": {"type": "apiKey", "in": "header", "name": "X-DF-API-ID"},
                "secret": {"type": "apiKey", "in": "header", "name": "X-DF-API-SECRET"},
            }
        },
        "paths": {f"/check/whatsapp_{endpoint}": {"post": check}},
    }


def _table_row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


# Nothing is loaded from anywhere: the page works where there is no internet.
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>accucheck serve</title><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ overflow-x: auto; padding: .75rem 1rem; border: 1px solid #8886; border-radius: .5rem; }}
table {{ border-collapse: collapse; width: 100%; }}
td {{ border-top: 1px solid #8884; padding: .25rem .75rem .25rem 0; vertical-align: top; }}
</style></head><body><main><h1>accucheck serve</h1>
<p>Checks Peru phone numbers on WhatsApp. It works like AccuAuth's API, with this server's own key:</p>
<pre>curl https://THIS-HOST{path} \\
  -H 'X-DF-API-ID: …' -H 'X-DF-API-SECRET: …' \\
  -d number=987654321</pre>
<p>The body is a form or JSON with one field: <code>number</code>, with or without country code.</p>
<h2>result</h2><table>{fields}</table>
<h2>Replies</h2><table>{replies}</table>
<p>Every reply has <code>status</code> and <code>request_id</code>; all but OK have <code>reason</code>.</p>
<ul><li><a href="openapi.json">OpenAPI description</a></li><li><a href="metrics">Metrics for Prometheus</a></li>
<li><a href="healthz">Health</a></li></ul></main></body></html>
"""
