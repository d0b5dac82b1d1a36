"""``python -m accucheck.sandbox``: a simulated AccuAuth as a process."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from accucheck.sandbox import run
from accucheck.sandbox._settings import (
    BodyType,
    Endpoint,
    Faults,
    Settings,
    Soft,
    Window,
    parse_outage,
    parse_rate_at,
)

Value = TypeVar("Value")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sandbox; return the exit code: 0 stopped by a signal, 1 cannot listen, 2 usage."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    options["endpoints"] = tuple(options["endpoints"])
    try:
        settings = Settings(**options)
    except ValueError as error:
        parser.error(str(error))
    try:
        run(settings, host=host, port=port)
    except OSError as error:
        print(f"cannot start on {host}:{port}: {error}. Try --port 0 for a free port.", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m accucheck.sandbox", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8000, help="port to listen on; 0 picks a free one (default: %(default)s)")
    add("--rate", type=float, help="calls per second to admit (default: no limit)")
    add("--burst", type=int, help="size of the token bucket (default: 10)")
    add(
        "--window",
        choices=get_args(Window),
        default=defaults.window,
        help="kind of limit (default: %(default)s)",
    )
    add("--window-seconds", type=float, help="length of the fixed or sliding window (default: 1)")
    add(
        "--rate-at",
        type=_argument(parse_rate_at),
        default=(),
        metavar="SECONDS:RATE,...",
        help="change the rate in mid-run: seconds after the first call, new rate; e.g. 30:50,60:200",
    )
    add("--retry-after", action="store_true", help="send Retry-After when a call is rate-limited")
    add("--pending", type=float, default=defaults.pending, help="share of numbers that are PENDING at first")
    add(
        "--pending-for",
        type=float,
        default=defaults.pending_for,
        help="seconds that they stay PENDING (default: %(default)s)",
    )
    add(
        "--queue-rate",
        type=float,
        help="numbers per second that the vendor's queue processes: pending numbers wait for those before them",
    )
    add(
        "--soft",
        type=_argument(Soft.parse),
        default=defaults.soft,
        metavar="NAME=SHARE,...",
        help="shares of numbers with soft answers or unknown statuses: checking, unavailable, NOT_HIT, "
        "QUERY_FAILED, ABNORMAL_BEHAVIOURS_DETECTED or a name you make up; e.g. checking=0.1,unavailable=0.05",
    )
    add("--errors", type=float, default=defaults.errors, help="share of calls that fail with INTERNAL_ERROR")
    add(
        "--outage",
        type=_argument(parse_outage),
        metavar="START:SECONDS",
        help="fail every call with INTERNAL_ERROR for a while, starting START seconds after the first call",
    )
    add(
        "--faults",
        type=_argument(Faults.parse),
        default=defaults.faults,
        metavar="KIND=SHARE,...",
        help="shares of replies lost on the way: reset, cut, stall, bad_gateway; e.g. reset=0.01,cut=0.01",
    )
    add(
        "--latency",
        type=float,
        default=defaults.latency,
        help="average milliseconds per call (default: %(default)s)",
    )
    add("--quota", type=int, help="OK answers until OUT_OF_QUOTA (default: unlimited)")
    add("--expire-after", type=int, help="calls until KEY_EXPIRED (default: unlimited)")
    add(
        "--price",
        type=float,
        default=defaults.price,
        help="what a yes or a no costs on the invoice (default: %(default)s)",
    )
    add("--price-basic", type=float, help="the same for the basic endpoint (default: the same price)")
    add(
        "--invoice-timezone",
        default=defaults.invoice_timezone,
        help="time zone of the invoice's days (default: %(default)s)",
    )
    add(
        "--body",
        choices=get_args(BodyType),
        default=defaults.body,
        help="the body encoding to accept (default: %(default)s)",
    )
    add(
        "--endpoints",
        nargs="+",
        choices=get_args(Endpoint),
        default=defaults.endpoints,
        help="endpoints that the account may use; any other answers NO_PERMISSION (default: both)",
    )
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        help="seed of the answers and of all randomness (default: %(default)s)",
    )
    add("--api-id", default=defaults.api_id, help="the X-DF-API-ID to accept (default: %(default)s)")
    add(
        "--api-secret",
        default=defaults.api_secret,
        help="the X-DF-API-SECRET to accept (default: %(default)s)",
    )
    add("--request-log", type=Path, metavar="PATH", help="JSONL file for one line per call")
    return parser


def _argument(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """Let argparse show the parser's own sentence in place of ``invalid … value``."""

    def parsed(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


if __name__ == "__main__":
    sys.exit(main())
