"""What telemetry costs a check, in CPU microseconds, over a transport that answers at once."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

import accucheck
import accucheck.otel
from benchmarks.clients.accucheck_layers import NOT_BINDING
from benchmarks.clients.null_transport import NullTransport
from benchmarks.job import API_ID, API_SECRET, Job, report, run_async, stay_on_core

ROUNDS = 9

Instrument = Callable[[accucheck.Client], None]


class Forget(SpanExporter):
    """An exporter that drops its spans."""

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def nothing(client: accucheck.Client) -> None:
    """Leave the client as it is."""


def taken_back(client: accucheck.Client) -> None:
    """Instrument the client, and undo it."""
    accucheck.otel.instrument(
        client, tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider()
    )
    accucheck.otel.uninstrument(client)


def cases() -> dict[str, Instrument]:
    """Return the cases to compare; the first is the baseline."""
    metrics = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    sampled = TracerProvider(shutdown_on_exit=False)
    sampled.add_span_processor(SimpleSpanProcessor(Forget()))
    unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)

    def api(client: accucheck.Client) -> None:
        accucheck.otel.instrument(
            client, tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider()
        )

    def sdk(client: accucheck.Client) -> None:
        accucheck.otel.instrument(client, tracer_provider=sampled, meter_provider=metrics)

    def unsampled_spans(client: accucheck.Client) -> None:
        accucheck.otel.instrument(
            client, tracer_provider=unsampled, meter_provider=metrics, stream_spans="all"
        )

    def sampled_spans(client: accucheck.Client) -> None:
        accucheck.otel.instrument(client, tracer_provider=sampled, meter_provider=metrics, stream_spans="all")

    return {
        "off": nothing,
        "off, after uninstrument()": taken_back,
        "on, API alone": api,
        "on, SDK": sdk,
        'on, SDK, stream_spans="all", not sampled': unsampled_spans,
        'on, SDK, stream_spans="all", sampled': sampled_spans,
    }


async def cost(job: Job, instrument: Instrument) -> float:
    """Return the CPU microseconds of a check in a stream."""
    client = accucheck.Client(
        API_ID, API_SECRET, base_url=job.base_url, transport=NullTransport(), rate=NOT_BINDING
    )
    instrument(client)
    gc.collect()
    async with client, client.stream(job.numbers(), workers=job.workers) as outcomes:
        before = time.process_time()
        right = 0
        async for outcome in outcomes:
            right += isinstance(outcome, accucheck.Checked)
        used = time.process_time() - before
    if right != job.checks:
        raise SystemExit(f"{job.checks - right} answers are missing")
    return used / job.checks * 1e6


def record() -> float:
    """Return the CPU microseconds that the SDK itself takes to record a duration with our attributes."""
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("benchmark")
    histogram = meter.create_histogram(
        "duration", explicit_bucket_boundaries_advisory=accucheck.otel._BOUNDARIES
    )
    attributes: dict[str, str | int] = {
        "http.request.method": "POST",
        "server.address": "localhost",
        "server.port": 443,
        "http.response.status_code": 200,
    }
    calls = 5_000
    before = time.process_time()
    for _ in range(calls):
        histogram.record(0.05, attributes, accucheck.otel._NO_SPAN)
    return (time.process_time() - before) / calls * 1e6


async def main(job: Job) -> None:
    """Run the cases in rounds; report the median of what each takes more than the first of its round."""
    costs: dict[str, list[float]] = {}
    records: list[float] = []
    for _ in range(ROUNDS):
        records.append(record())
        for name, instrument in cases().items():
            costs.setdefault(name, []).append(await cost(job, instrument))
    off = next(iter(costs.values()))
    more = {
        name: statistics.median(one - base for one, base in zip(seen, off, strict=True))
        for name, seen in costs.items()
    }
    report(
        telemetry={name: [statistics.median(seen), more[name]] for name, seen in costs.items()},
        sdk=version("opentelemetry-sdk"),
        record=statistics.median(records),
    )


if __name__ == "__main__":
    job = Job.from_arguments()
    stay_on_core(job)
    run_async(job, main(job))
