"""How much of an account's limit each client uses, and how often it is refused.

The limiters: nginx ``limit_req`` (a token bucket) in front of replies that take 20 to 80 ms, and the sandbox's
fixed windows and PENDING numbers. All results are read from the server's log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from benchmarks import machine, plots, traffic
from benchmarks.contestants import Contestant
from benchmarks.harness import ROOT, ClientFailed, Options, apart, command
from benchmarks.job import Job
from benchmarks.report import Report, Table, Target, at_least, at_most, number, percent
from benchmarks.servers import LimitingServer, Server, Unavailable, limiting_nginx, process, sandbox
from benchmarks.traffic import Span, Traffic

WORKERS = 50
FIRST_REQUEST_TIMEOUT = 30.0
"""Seconds that a client may take to send its first request."""
SETTLE = 10.0
"""Seconds before the figures count."""
TIE = 0.002
"""Two shares that differ by less are alike: at 100 calls/s that is one call in five seconds."""
KNOWN = 0.98
"""The share of a known limit that is asked for."""
LATENCY_MS = 50
PENDING_SECONDS = 5

Serve = Callable[[int], AbstractContextManager[Server]]


@dataclasses.dataclass(frozen=True)
class Rider:
    """A contestant, and the rate its user sets, as a share of the true limit."""

    contestant: Contestant
    guess: float | None = None

    def rate(self, limit: int) -> float | None:
        """Return the rate that this client is given, in calls per second."""
        return None if self.guess is None else self.guess * limit


def _accucheck(name: str, label: str, guess: float | None, *options: str) -> Rider:
    module = "benchmarks.clients.accucheck_stream"
    return Rider(Contestant(f"accucheck-{name}", f"accucheck {label}", module, "uvloop", options), guess)


def _peer(name: str, label: str, module: str, guess: float | None = None) -> Rider:
    return Rider(Contestant(name, label, f"benchmarks.peers.{module}"), guess)


AUTO = _accucheck("auto", 'rate="auto"', None, "auto")
FIXED = _accucheck("known", f"rate={KNOWN}×limit", KNOWN)
NAIVE = "httpx + semaphore + tenacity"
UNKNOWN_LIMIT = (
    AUTO,
    _peer("naive", NAIVE, "httpx_naive"),
    _peer("aiometer-half", "aiometer, guess ½×limit", "aiometer_httpx", 0.5),
    _peer("aiometer-double", "aiometer, guess 2×limit", "aiometer_httpx", 2.0),
    _peer("botocore", "botocore adaptive + httpx", "botocore_adaptive"),
    _peer("autothrottle", "Scrapy AutoThrottle", "scrapy_autothrottle"),
)
KNOWN_LIMIT = (
    FIXED,
    _peer("naive-known", f"{NAIVE} + aiolimiter, {KNOWN}×limit", "httpx_naive", KNOWN),
    _peer("aiometer-known", f"aiometer, {KNOWN}×limit", "aiometer_httpx", KNOWN),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A limiter to run against."""

    name: str
    title: str
    serve: Serve
    riders: tuple[Rider, ...]
    seconds: float
    changes_to: float | None = None
    """The limit after half of the time, as a share of the first."""
    whole: bool = False
    """Whether the client checks a list to its end, and all of that counts: ``seconds`` of the limit's calls."""
    back_in: float = 0.0
    """Seconds after the change by which the new limit is to be used; from then on it stays so."""

    @property
    def change_at(self) -> float:
        """When the limit changes, in seconds after the first request, if it does."""
        return self.seconds / 2

    def limits(self, limit: int) -> list[float]:
        """Return the limit in each second of the run."""
        later = limit * (self.changes_to or 1)
        return [later if second >= self.change_at else limit for second in range(int(self.seconds))]


@dataclasses.dataclass(frozen=True)
class Ride:
    """What the server saw of one client in one case."""

    case: Case
    rider: Rider
    limit: int
    traffic: Traffic
    changed_at: float
    """Seconds after the first request at which the limit did change."""

    @property
    def span(self) -> Span:
        """The part of the run that is evaluated: after the start, after the change, or all of it."""
        if self.case.whole:
            return (0.0, max([*self.traffic.admitted[-1:], *self.traffic.refused[-1:]]))
        return (self.changed_at if self.case.changes_to else SETTLE, self.case.seconds)

    @property
    def limit_in_span(self) -> float:
        """Calls per second that the limiter admits in that part."""
        return self.limit * (self.case.changes_to or 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the results, JSON-ready."""
        seen, start = self.traffic, self.span[0]
        end = min(start + 5, self.case.seconds)
        admitted, refused = seen.per_second(int(self.case.seconds))
        return {
            "client": self.rider.contestant.name,
            "label": self.rider.contestant.label,
            "utilization": seen.utilization(self.limit_in_span, self.span),
            "refused_share": seen.refused_share(self.span),
            "utilization_once_back": seen.utilization(
                self.limit_in_span, (start + self.case.back_in, self.case.seconds)
            ),
            "refused_share_of_first_5_s": seen.refused_share((start, end)),
            "seconds_to_90_percent": seen.seconds_to_reach(
                self.limit_in_span, (start if self.case.changes_to else 0.0, self.case.seconds)
            ),
            "longest_silence": seen.longest_silence((0.0, min(self.case.seconds, self.span[1]))),
            "requests": seen.requests(max(self.case.seconds, self.span[1] + 1)),
            "polls_per_pending": seen.polls_per_pending,
            "admitted_per_second": admitted,
            "refused_per_second": refused,
        }


def cases(options: Options) -> list[Case]:
    """Return the cases; ``quick`` shortens them and leaves out the minute-long window."""
    seconds = 30.0 if options.quick else 60.0
    found = [
        Case("known", "limit known", _nginx, KNOWN_LIMIT, seconds),
        Case("start", "limit unknown, a list from start to end", _nginx, (AUTO,), 55.0, whole=True),
        Case("token", "limit unknown, token bucket", _nginx, UNKNOWN_LIMIT, seconds),
        Case("fixed-1", "limit unknown, fixed window 1 s", _window(1), UNKNOWN_LIMIT, seconds),
        Case("fixed-60", "limit unknown, fixed window 60 s", _window(60), UNKNOWN_LIMIT, 120.0),
        Case("halves", "limit halves", _nginx_to(0.5), UNKNOWN_LIMIT, seconds, changes_to=0.5, back_in=5),
        Case(
            "doubles",
            "limit doubles",
            _nginx_to(2.0),
            UNKNOWN_LIMIT,
            seconds,
            changes_to=2.0,
            back_in=10 if options.quick else 15,
        ),
        Case("pending", "30 % pending for 5 s", _pending, (AUTO, *KNOWN_LIMIT[:2]), seconds),
    ]
    return [case for case in found if not options.quick or case.seconds < 100]


def run(options: Options) -> Report:
    """Run every client against every limiter at every limit."""
    report = Report("rate", machine.describe())
    report.caveats += [
        f"{WORKERS} calls in flight at most. nginx limit_req: burst of a tenth of a second's calls, 5 at "
        f"the least, nodelay. Sandbox: replies after {LATENCY_MS} ms on average; its windows begin when it "
        "starts, a second or so before the client.",
        f"Figures are read from the server's log: utilization and refused share from {SETTLE:g} s on, or from "
        "the change of the limit; time to 90 % from the first request or from the change, the share then held "
        "for 2 s (0 after a limit has halved: the old rate is over it); used once back is from 5 s after a "
        "halving on, from 15 s after a doubling; longest silence is the longest time with no call admitted.",
        "A window of 60 s can admit the calls of the seconds to come: then more than 100 % of a part of the run "
        "is used.",
        "A list from start to end is as many numbers as the limit admits in 55 s (5,500 at 100/s).",
        f"{options.parallel} client(s) at a time.",
    ]
    chosen = [case for case in cases(options) if not options.cases or case.name in options.cases]
    tasks = [
        (case, rider, limit)
        for limit in options.limits
        for case in chosen
        for rider in case.riders
        if not options.only or rider.contestant.name in options.only
    ]
    with apart() as core, ThreadPoolExecutor(options.parallel) as threads:

        def ride_or_reason(task: tuple[Case, Rider, int]) -> Ride | str:
            case, rider, limit = task
            try:
                done = ride(case, rider, limit, core)
            except (ClientFailed, Unavailable) as failure:
                options.say(f"  {limit}/s, {case.title}, {rider.contestant.label}: skipped, {failure}")
                return str(failure)
            seen = done.to_dict()
            options.say(
                f"  {limit}/s, {case.title}, {rider.contestant.label}: used {percent(seen['utilization'])}, "
                f"refused {percent(seen['refused_share'])}"
            )
            return done

        outcomes = list(threads.map(ride_or_reason, tasks))
    for limit in options.limits:
        grid = []
        for case in chosen:
            rides = [
                (rider, outcome)
                for (of_case, rider, of_limit), outcome in zip(tasks, outcomes, strict=True)
                if of_case.name == case.name and of_limit == limit
            ]
            if rides:
                _tell(report, case, limit, rides)
                grid.append((case.title, [_lane(each) for _, each in rides if isinstance(each, Ride)]))
        image = plots.lanes(f"limit {limit}/s", grid) if grid else None
        if image:
            report.plots[f"-{limit}"] = image
    return report


def ride(case: Case, rider: Rider, limit: int, core: int | None) -> Ride:
    """Run one client against one limiter for the case's time, and read the server's log."""
    most = (
        int(limit * case.seconds)
        if case.whole
        else int(limit * max(case.changes_to or 1, 1) * (case.seconds + 10) * 2)
    )
    with case.serve(limit) as server, contextlib.ExitStack() as stack:
        job = Job(
            base_url=server.base_url,
            checks=most,
            workers=WORKERS,
            rate=rider.rate(limit),
            core=core,
        )
        errors = server.folder / "client.err"
        with errors.open("w") as stderr:
            client = stack.enter_context(
                process(command(rider.contestant, job), cwd=ROOT, stdout=stderr, stderr=stderr)
            )
        log = server.log if isinstance(server, LimitingServer) else server.folder / "requests.jsonl"
        read = traffic.from_nginx if isinstance(server, LimitingServer) else traffic.from_sandbox
        began = time.monotonic()
        while not (log.exists() and log.stat().st_size):
            if client.poll() is not None or time.monotonic() - began > FIRST_REQUEST_TIMEOUT:
                said = errors.read_text().strip().splitlines() or ["sent nothing"]
                raise ClientFailed(said[-1][:200])
            time.sleep(0.01)
        first = read(log).began  # wall clock, as in the server's log
        changed_at = case.change_at
        if case.changes_to is not None and isinstance(server, LimitingServer):
            _sleep_until(first + case.change_at)
            server.change_limit()
            changed_at = time.time() - first
        if case.whole:
            _wait_for(client, first + 4 * case.seconds)
        else:
            _sleep_until(first + case.seconds)
        if client.poll() is not None and (client.returncode or not case.whole):
            said = errors.read_text().strip().splitlines() or [f"exit code {client.returncode}"]
            raise ClientFailed(f"ended before the time was over: {said[-1][:160]}")
        stack.close()
        return Ride(case, rider, limit, read(log), changed_at)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def _wait_for(client: subprocess.Popen[Any], until: float) -> None:
    while client.poll() is None:
        if time.time() > until:
            raise ClientFailed("did not come to the end of the list")
        time.sleep(0.05)


def _burst(limit: int) -> int:
    return max(5, limit // 10)


def _nginx(limit: int) -> AbstractContextManager[Server]:
    return limiting_nginx(rate=limit, burst=_burst(limit))


def _nginx_to(share: float) -> Serve:
    return lambda limit: limiting_nginx(rate=limit, burst=_burst(limit), then_rate=int(limit * share))


def _window(seconds: int) -> Serve:
    return lambda limit: sandbox(
        f"--rate={limit}", "--window=fixed", f"--window-seconds={seconds}", f"--latency={LATENCY_MS}"
    )


def _pending(limit: int) -> AbstractContextManager[Server]:
    return sandbox(
        f"--rate={limit}",
        f"--burst={_burst(limit)}",
        f"--latency={LATENCY_MS}",
        "--pending=0.3",
        f"--pending-for={PENDING_SECONDS}",
    )


def _lane(ride: Ride) -> plots.Lane:
    admitted, refused = ride.traffic.per_second(int(ride.case.seconds))
    return ride.rider.contestant.label, admitted, refused, ride.case.limits(ride.limit)


def _tell(report: Report, case: Case, limit: int, rides: Sequence[tuple[Rider, Ride | str]]) -> None:
    columns = ["client", "used", "refused", "to 90 %, s", "longest silence, s", "requests"]
    columns += ["used once back", "refused, first 5 s"] * (case.changes_to is not None)
    columns += ["polls per pending"] * (case.name == "pending")
    rows, seen = [], {}
    for rider, ride in rides:
        label = rider.contestant.label
        if isinstance(ride, str):
            rows.append([label, f"skipped: {ride}", *["–"] * (len(columns) - 2)])
            if not rider.contestant.is_peer:
                report.targets.append(Target(f"{limit}/s, {case.title}, {label}", "it runs", ride, met=False))
            continue
        figures = seen[rider.contestant.name] = ride.to_dict()
        row = [label, percent(figures["utilization"]), percent(figures["refused_share"])]
        row += [number(figures["seconds_to_90_percent"]), number(figures["longest_silence"])]
        row += [f"{figures['requests']:,}"]
        if case.changes_to is not None:
            row += [percent(figures["utilization_once_back"]), percent(figures["refused_share_of_first_5_s"])]
        row += [number(figures["polls_per_pending"])] * (case.name == "pending")
        rows.append(row)
    report.figures[f"{limit}/s {case.name}"] = list(seen.values())
    report.tables.append(Table(f"{limit}/s, {case.title}", "", tuple(columns), rows))
    for name, figures in seen.items():
        if name.startswith("accucheck"):
            report.targets += _judge(f"{limit}/s, {case.title}, {figures['label']}", case, limit, figures)
    ours = next((figures for name, figures in seen.items() if name.startswith("accucheck")), None)
    peers = [figures for name, figures in seen.items() if not name.startswith("accucheck")]
    if ours and peers:
        report.targets.append(_ahead(f"{limit}/s, {case.title}", ours, peers))


def _judge(what: str, case: Case, limit: int, seen: dict[str, Any]) -> list[Target]:
    """Compare a run of accucheck with the targets for its case."""
    used, refused = seen["utilization"] * 100, seen["refused_share"] * 100
    late, back = _or_nan(seen["seconds_to_90_percent"]), seen["utilization_once_back"] * 100
    if case.name == "pending":
        return [
            at_least(f"{what}: permits used", used, 95, " %"),
            at_most(f"{what}: polls per pending", _or_nan(seen["polls_per_pending"]), 1.6),
        ]
    if case.name == "halves":
        early = seen["refused_share_of_first_5_s"] * 100
        return [
            at_least(f"{what}: used from 5 s on", back, 90, " %"),
            at_most(f"{what}: refused in those 5 s", early, 5, " %"),
        ]
    if case.name == "doubles":
        return [
            at_most(f"{what}: seconds to 90 %", late, 15),
            at_least(f"{what}: used from {case.back_in:g} s on", back, 90, " %"),
            at_most(f"{what}: refused", refused, 1, " %"),
        ]
    if case.whole:
        share = 94 if limit <= 100 else 80
        return [at_least(f"{what}: used", used, share, " %"), at_most(f"{what}: refused", refused, 0.3, " %")]
    least, most = {"known": (97, 0.2), "token": (97, 0.5), "fixed-1": (95, 1), "fixed-60": (92, 2)}[case.name]
    return [at_least(f"{what}: used", used, least, " %"), at_most(f"{what}: refused", refused, most, " %")]


def _or_nan(figure: float | None) -> float:
    return float("nan") if figure is None else figure


def _ahead(what: str, ours: dict[str, Any], peers: Sequence[dict[str, Any]]) -> Target:
    """Return whether a peer did better: no worse in both measures, and clearly better in one."""
    better = []
    for peer in peers:
        more_used = peer["utilization"] - ours["utilization"]
        less_refused = ours["refused_share"] - peer["refused_share"]
        if min(more_used, less_refused) >= 0 and (more_used > TIE or less_refused > TIE):
            better.append(peer["label"])
    return Target(f"{what}: peers ahead", "none", ", ".join(better) or "none", not better)
