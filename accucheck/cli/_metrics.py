"""``--metrics-file``: the figures of a run for Prometheus, by the textfile collector of its node exporter.

The format is "Text-based format" of https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

from accucheck._costs import Cost
from accucheck._errors import ConfigurationError
from accucheck._models import Stats
from accucheck.cli._console import say

__all__ = ["MetricsFile"]

PERIOD = 5.0
"""Seconds between two writings: node exporters are asked every 15 s or more."""
Samples = list[tuple[Mapping[str, str], float]]


class MetricsFile:
    """A file that is replaced every few seconds, so that no reader ever sees half of it.

    Args:
        path: The file; the collector reads those that end in ``.prom``.
        job: Name of the job: the label ``accucheck_job`` of every sample, which tells the files of several jobs apart.
        cost: Gives what the calls have cost; None without a price.
    """

    def __init__(self, path: Path, job: str, cost: Callable[[], Cost | None] = lambda: None) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._job = job
        self._cost = cost
        self._complained = False

    @contextlib.asynccontextmanager
    async def keep(self, stats: Callable[[], Stats]) -> AsyncIterator[None]:
        """Write the file now, every few seconds, and at the end of the block.

        Raises ConfigurationError if it cannot be written at first; afterwards that is reported and costs nothing else.
        """
        try:
            self._write(stats(), running=True)
        except OSError as error:
            raise ConfigurationError(
                f"--metrics-file {self._path} cannot be written: {error.strerror or error}"
            ) from error
        task = asyncio.create_task(self._rewrite(stats))
        try:
            yield
        finally:
            task.cancel()
            self._try_to_write(stats(), running=False)

    async def _rewrite(self, stats: Callable[[], Stats]) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self._try_to_write(stats(), running=True)

    def _try_to_write(self, stats: Stats, *, running: bool) -> None:
        try:
            self._write(stats, running=running)
        except OSError as error:
            if not self._complained:
                self._complained = True
                say(f"--metrics-file {self._path} cannot be written: {error.strerror or error}")

    def _write(self, stats: Stats, *, running: bool) -> None:
        text = "".join(self._lines(stats, running=running))
        try:
            # Not AtomicFile: the collector runs as another user, who must be able to read it, and no fsync is needed.
            self._temporary.write_text(text, "utf-8")
            os.replace(self._temporary, self._path)
        except OSError:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            raise

    def _lines(self, stats: Stats, *, running: bool) -> Iterator[str]:
        one: Mapping[str, str] = {}
        cost = self._cost()
        metrics: list[tuple[str, str, str, Samples]] = [
            (
                "answers_total",
                "counter",
                "Numbers settled in this run, by verdict.",
                [({"verdict": name}, getattr(stats, name)) for name in ("yes", "no", "failed")],
            ),
            ("calls_total", "counter", "Calls made, polls and retries included.", [(one, stats.calls)]),
            (
                "replies_total",
                "counter",
                "Calls that ended, by what they brought.",
                [({"status": name}, count) for name, count in sorted(stats.replies.items())],
            ),
            ("polls_total", "counter", "Calls that asked again after PENDING.", [(one, stats.polls)]),
            ("retries_total", "counter", "Retries after a failure.", [(one, stats.retries)]),
            ("rate_limited_total", "counter", "Calls that were rate-limited.", [(one, stats.refusals)]),
            ("rows_read_total", "counter", "Rows read from the input.", [(one, stats.read)]),
            ("rows_known_total", "counter", "Rows answered from the ledger.", [(one, stats.known)]),
            (
                "possibly_double_charged_total",
                "counter",
                "Calls whose answer was lost after they were sent.",
                [(one, stats.possibly_double_charged)],
            ),
            ("in_flight", "gauge", "Calls under way.", [(one, stats.in_flight)]),
            ("delayed", "gauge", "Numbers that wait for a poll or a retry.", [(one, stats.delayed)]),
            (
                "permits_per_second",
                "gauge",
                "Calls per second that the gate lets through.",
                [] if stats.rate is None else [(one, stats.rate)],
            ),
            (
                "spend_total",
                "counter",
                "What the calls have probably cost.",
                [] if cost is None else [(one, float(cost.likely))],
            ),
            ("elapsed_seconds", "gauge", "Seconds since the start of the run.", [(one, stats.elapsed)]),
            ("running", "gauge", "1 while the run is under way, 0 once it has ended.", [(one, running)]),
            ("updated_timestamp_seconds", "gauge", "When this file was written.", [(one, time.time())]),
        ]
        for name, kind, meaning, samples in metrics:
            if samples:
                yield f"# HELP accucheck_{name} {meaning}\n# TYPE accucheck_{name} {kind}\n"
            for labels, value in samples:
                pairs = {"accucheck_job": self._job, **labels}
                shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in pairs.items())
                yield f"accucheck_{name}{{{shown}}} {float(value):.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
