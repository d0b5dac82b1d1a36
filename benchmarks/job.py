"""What a client process is asked to do, and the one JSON line it reports.

A client is a module with a function that takes a :class:`Job` and returns the answers it got, as
``{national number: is it on WhatsApp}``. ``measure`` runs it and counts the CPU of this process alone,
from after the imports to the last answer, so that start-up is not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import resource
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args

Loop = Literal["asyncio", "uvloop"]
Answers = Mapping[str, bool]
Result = TypeVar("Result")

API_ID = API_SECRET = "sandbox"
CREDENTIALS = {"X-DF-API-ID": API_ID, "X-DF-API-SECRET": API_SECRET}
PATH = "/check/whatsapp_advanced"
FIRST_NUMBER = 900_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The same task for every client: how many numbers to check, and how many in flight."""

    base_url: str
    checks: int = 1000
    workers: int = 200
    rate: float | None = None
    """Calls per second that the client may make; None if it is to find out, or if nothing limits it."""
    loop: Loop = "asyncio"
    ca_file: str | None = None
    """The certificate authority to trust, for an https base URL."""
    core: int | None = None
    """The processor core to stay on."""
    option: tuple[str, ...] = ()
    """Words that only this client knows."""

    @property
    def url(self) -> str:
        """The whole address of the endpoint."""
        return self.base_url + PATH

    def numbers(self) -> Iterator[str]:
        """Yield the national numbers to check, all different."""
        return (str(number) for number in range(FIRST_NUMBER, FIRST_NUMBER + self.checks))

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context that trusts the benchmark's authority, or None for plain http."""
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None

    def is_right(self, number: str, whatsapp: bool) -> bool:
        """Return whether this is the server's answer: numbers that end in an odd digit are on WhatsApp."""
        return whatsapp is (number[-1] in "13579")

    def arguments(self) -> list[str]:
        """Return the command line that ``from_arguments`` reads back."""
        line: list[str] = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            items = value if isinstance(value, tuple) else () if value is None else (value,)
            line += [f"--{field.name.replace('_', '-')}={item}" for item in items]
        return line

    @classmethod
    def from_arguments(cls, arguments: list[str] | None = None) -> Job:
        """Read a job from the command line of a client."""
        parser = argparse.ArgumentParser(description="Check numbers, then print one JSON line of figures.")
        parser.add_argument("--base-url", required=True)
        parser.add_argument("--checks", type=int, default=1000)
        parser.add_argument("--workers", type=int, default=200)
        parser.add_argument("--rate", type=float)
        parser.add_argument("--loop", choices=get_args(Loop), default="asyncio")
        parser.add_argument("--ca-file")
        parser.add_argument("--core", type=int)
        parser.add_argument("--option", action="append", default=[])
        values = vars(parser.parse_args(arguments))
        return cls(**{**values, "option": tuple(values["option"])})


def run_async(job: Job, main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on the event loop that the job names."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if job.loop == "uvloop":
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(main)


def stay_on_core(job: Job) -> None:
    """Pin this process, and every thread it starts from now on, to the job's core."""
    if job.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {job.core})


def peak_rss_mb() -> float:
    """Return the most memory this process has held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def measure(check_all: Callable[[Job], Answers | Coroutine[Any, Any, Answers]]) -> None:
    """Run a client on the job from the command line and print the measurements."""
    job = Job.from_arguments()
    stay_on_core(job)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    outcome = check_all(job)
    answers = run_async(job, outcome) if isinstance(outcome, Coroutine) else outcome
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    report(
        checks=len(answers),
        right=sum(job.is_right(number, whatsapp) for number, whatsapp in answers.items()),
        seconds=seconds,
        cpu_user=after.ru_utime - before.ru_utime,
        cpu_system=after.ru_stime - before.ru_stime,
    )


def report(**figures: Any) -> None:
    """Print the one line that the harness reads."""
    line = {**figures, "peak_rss_mb": peak_rss_mb(), "python": platform.python_version()}
    print(json.dumps(line), flush=True)
