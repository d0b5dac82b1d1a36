"""``accucheck sandbox``: the simulated AccuAuth, with all its settings as options."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter
from cyclopts.config import Env
from cyclopts.types import UInt16

from accucheck._errors import ConfigurationError
from accucheck.cli._exit import ExitCode
from accucheck.cli._options import read_by
from accucheck.sandbox import Faults, Settings, Soft, run
from accucheck.sandbox._settings import parse_outage, parse_rate_at

__all__ = ["app"]

DEFAULTS = Settings()


LIMIT = Group("Rate limit", sort_key=1)
TROUBLE = Group("Trouble", sort_key=2)
ACCOUNT = Group("The simulated account", sort_key=3)

# A separate prefix: ACCUCHECK_RATE is for the client and must not change the sandbox.
app = App(
    name="sandbox",
    help_epilogue="",
    config=Env("ACCUCHECK_SANDBOX_", command=False),
)


@app.default
def sandbox(
    *,
    host: str = "127.0.0.1",
    port: UInt16 = 8000,
    rate: Annotated[float | None, Parameter(group=LIMIT)] = None,
    burst: Annotated[int | None, Parameter(group=LIMIT)] = None,
    window: Annotated[Literal["token", "fixed", "sliding"], Parameter(group=LIMIT)] = DEFAULTS.window,
    window_seconds: Annotated[float | None, Parameter(group=LIMIT)] = None,
    rate_at: Annotated[
        tuple[tuple[float, float], ...],
        read_by(parse_rate_at, "SECONDS:RATE,…", show_default=False, group=LIMIT),
    ] = DEFAULTS.rate_at,
    retry_after: Annotated[bool, Parameter(group=LIMIT)] = False,
    pending: Annotated[float, Parameter(group=TROUBLE)] = DEFAULTS.pending,
    pending_for: Annotated[float, Parameter(group=TROUBLE)] = DEFAULTS.pending_for,
    queue_rate: Annotated[float | None, Parameter(group=TROUBLE)] = None,
    soft: Annotated[
        Soft, read_by(Soft.parse, "NAME=SHARE,…", show_default=False, group=TROUBLE)
    ] = DEFAULTS.soft,
    errors: Annotated[float, Parameter(group=TROUBLE)] = DEFAULTS.errors,
    outage: Annotated[
        tuple[float, float] | None, read_by(parse_outage, "START:SECONDS", show_default=False, group=TROUBLE)
    ] = DEFAULTS.outage,
    faults: Annotated[
        Faults, read_by(Faults.parse, "KIND=SHARE,…", show_default=False, group=TROUBLE)
    ] = DEFAULTS.faults,
    latency: Annotated[float, Parameter(group=TROUBLE)] = DEFAULTS.latency,
    quota: Annotated[int | None, Parameter(group=ACCOUNT)] = None,
    expire_after: Annotated[int | None, Parameter(group=ACCOUNT)] = None,
    price: Annotated[float, Parameter(group=ACCOUNT)] = DEFAULTS.price,
    price_basic: Annotated[float | None, Parameter(group=ACCOUNT)] = None,
    invoice_timezone: Annotated[str, Parameter(group=ACCOUNT)] = DEFAULTS.invoice_timezone,
    body: Annotated[Literal["any", "form", "json"], Parameter(group=ACCOUNT)] = DEFAULTS.body,
    endpoints: Annotated[
        tuple[Literal["advanced", "basic"], ...],
        Parameter(group=ACCOUNT, consume_multiple=True, show_default=False),
    ] = DEFAULTS.endpoints,
    seed: Annotated[int, Parameter(group=ACCOUNT)] = DEFAULTS.seed,
    api_id: Annotated[str, Parameter(group=ACCOUNT)] = DEFAULTS.api_id,
    api_secret: Annotated[str, Parameter(group=ACCOUNT)] = DEFAULTS.api_secret,
    request_log: Annotated[Path | None, Parameter(group=ACCOUNT)] = None,
) -> ExitCode:
    """Run a simulated AccuAuth on this machine.

    Parameters
    ----------
    host
        Address to listen on. 127.0.0.1 is not reachable from other machines.
    port
        Port to listen on; 0 picks a free one.
    rate
        Calls per second to admit. Default: no limit.
    burst
        Size of the token bucket. Default: 10.
    window
        How calls are limited: a token bucket, fixed windows or a sliding window.
    window_seconds
        Length of a fixed or sliding window in seconds. Default: 1.
    rate_at
        Rate changes, as seconds after the first call and the new rate: 30:50,60:200.
    retry_after
        Send Retry-After when a call is rate-limited.
    pending
        Share of numbers that are PENDING at first, 0 to 1.
    pending_for
        Seconds that they stay PENDING.
    queue_rate
        Numbers per second that AccuAuth's own queue processes. Pending numbers then wait for those before them,
        instead of for --pending-for.
    soft
        Shares of numbers with soft answers or statuses that are not on AccuAuth's page:
        checking=0.1,unavailable=0.05,NOT_HIT=0.01. Also QUERY_FAILED, ABNORMAL_BEHAVIOURS_DETECTED and any
        name in capital letters.
    errors
        Share of calls that fail with INTERNAL_ERROR, 0 to 1.
    outage
        Fail every call for a while, as seconds after the first call and duration: 30:20.
    faults
        Shares of replies that are damaged on the way: reset=0.01,cut=0.01,stall=0.001,bad_gateway=0.01.
    latency
        Average milliseconds per call.
    quota
        Answers until OUT_OF_QUOTA. Default: unlimited.
    expire_after
        Calls until KEY_EXPIRED. Default: unlimited.
    price
        What a yes or a no costs on the invoice at /invoice. Everything else is free.
    price_basic
        The same for the basic endpoint. Default: --price.
    invoice_timezone
        Time zone of the invoice's days.
    body
        The only body encoding to accept, to see what happens with the wrong one.
    endpoints
        Endpoints that the account may use. Default: both. Others answer NO_PERMISSION.
    seed
        Seed of the answers and of all randomness.
    api_id
        API id to accept.
    api_secret
        API secret to accept. Never use a real one here.
    request_log
        File that gets one JSON line for every call.
    """
    try:
        settings = Settings(
            rate=rate,
            burst=burst,
            window=window,
            window_seconds=window_seconds,
            rate_at=rate_at,
            retry_after=retry_after,
            pending=pending,
            pending_for=pending_for,
            queue_rate=queue_rate,
            soft=soft,
            errors=errors,
            outage=outage,
            faults=faults,
            latency=latency,
            quota=quota,
            expire_after=expire_after,
            price=price,
            price_basic=price_basic,
            invoice_timezone=invoice_timezone,
            body=body,
            endpoints=endpoints,
            seed=seed,
            api_id=api_id,
            api_secret=api_secret,
            request_log=request_log,
        )
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    try:
        run(settings, host=host, port=port, announce=lambda line: _announce(line, api_id, api_secret))
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; --port 0 picks a free port"
        ) from error
    return ExitCode.ALL_ANSWERED


def _announce(line: str, api_id: str, api_secret: str) -> None:
    """Print where the sandbox listens, and for a person what to run in another terminal."""
    print(line, flush=True)
    if not sys.stderr.isatty():
        return
    where, setting = (
        ("PowerShell", "$env:{}='{}'") if os.name == "nt" else ("another terminal", "export {}={}")
    )
    values = {
        "ACCUCHECK_BASE_URL": line.removeprefix("listening on ").strip(),
        "ACCUCHECK_API_ID": api_id,
        "ACCUCHECK_API_SECRET": api_secret,
    }
    print(f"\nTo use it, run this in {where}:\n", file=sys.stderr)
    for name, value in values.items():
        print(f"  {setting.format(name, value if os.name == 'nt' else shlex.quote(value))}", file=sys.stderr)
    print("\nOpen the address in a browser to watch it. Ctrl-C stops it.\n", file=sys.stderr, flush=True)
