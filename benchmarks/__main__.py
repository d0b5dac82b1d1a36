"""``python -m benchmarks SUITE``: run a suite, write its results, and report which targets are met."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from benchmarks.harness import Options
from benchmarks.report import RESULTS, Report
from benchmarks.servers import Unavailable

ALSO = """also, each with --help:
  python -m benchmarks.ledger          what a ledger stores, finds and leaves of a stream's full speed
  python -m benchmarks.lists           files read and written, rows per CPU second, beside another commit
  python -m benchmarks.instructions    instructions per check, which a busy machine does not change"""
SUITES = {
    "speed": "checks/s and CPU per check beside the peers: at once, with latency, over TLS, with a ledger",
    "transports": "the same stream over its own transport and over others",
    "wan": "200 ms away: checks/s against workers / round trip",
    "rate": "riding an account's limit beside the peers",
    "account": "one account, several processes: its limit used and not exceeded",
    "layers": "what each layer costs alone, and everything but the send",
    "telemetry": "what OpenTelemetry costs a check",
    "memory": "memory against the length of the list",
    "startup": "import time and time to the first result",
    "storm": "cancelled calls: leaks, and the speed afterwards",
    "smoke": "under a minute: every client runs and every answer is right",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the suites; return 1 if a target is missed, 2 if a suite could not run here."""
    options = _parse(arguments)
    # A SIGTERM unwinds like Ctrl-C, so that no server is left running.
    signal.signal(signal.SIGTERM, _interrupt)
    suites = [name for name in SUITES if name != "smoke"] if options.suite == "all" else [options.suite]
    code = 0
    for name in suites:
        print(f"== {name}: {SUITES[name]}", flush=True)
        try:
            report: Report = importlib.import_module(f"benchmarks.suites.{name}").run(_options(options))
        except Unavailable as missing:
            print(f"{name}: {missing}", file=sys.stderr)
            code = 2
            continue
        except KeyboardInterrupt:
            print(f"{name}: interrupted, nothing written", file=sys.stderr)
            return 130
        print("\n" + report.to_markdown())
        for path in report.write(options.output):
            print(f"wrote {path}")
        if not all(target.met for target in report.targets):
            code = max(code, 1)
    return code


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    suites = "\n".join(f"  {name:9} {what}" for name, what in SUITES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\nsuites:\n{suites}\n  all       all of them but smoke\n\n{ALSO}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("suite", choices=[*SUITES, "all"], metavar="SUITE")
    add("--output", type=Path, default=RESULTS, help="folder for the results (default: benchmarks/results)")
    add(
        "--seconds",
        type=_positive(float),
        default=3.0,
        help="length of a measured run (default: %(default)s)",
    )
    add(
        "--repeats",
        type=_positive(int),
        default=5,
        help="interleaved runs of each client (default: %(default)s)",
    )
    add("--workers", type=_positive(int), default=200, help="calls in flight (default: %(default)s)")
    add("--quick", action="store_true", help="shorter runs, for a first look")
    add(
        "--full",
        action="store_true",
        help="memory: lists of up to 10,000,000 numbers (takes a quarter of an hour)",
    )
    add(
        "--limits", type=_limits, default=(20, 100, 500), help="rate: limits in calls/s (default: 20,100,500)"
    )
    add("--parallel", type=_positive(int), default=1, help="rate: clients at a time (default: %(default)s)")
    add("--only", action="append", default=[], metavar="CLIENT", help="this client alone; repeatable")
    add(
        "--case",
        action="append",
        default=[],
        help="rate, account: this case alone, such as token or unknown-4; repeatable",
    )
    add(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="speed: measure with this interpreter too",
    )
    return parser.parse_args(arguments)


def _options(parsed: argparse.Namespace) -> Options:
    return Options(
        seconds=1.0 if parsed.quick else parsed.seconds,
        repeats=min(parsed.repeats, 3) if parsed.quick else parsed.repeats,
        workers=parsed.workers,
        quick=parsed.quick,
        full=parsed.full,
        parallel=parsed.parallel,
        limits=parsed.limits,
        only=tuple(parsed.only),
        cases=tuple(parsed.case),
        pythons=tuple(parsed.python),
        say=lambda text: print(text, flush=True),
    )


def _positive(kind: type[int | float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    read.__name__ = "number"  # argparse shows it in its message
    return read


def _limits(text: str) -> tuple[int, ...]:
    try:
        limits = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 20,100,500") from None
    if min(limits) < 1:
        raise argparse.ArgumentTypeError("a limit is 1 or more")
    return limits


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
