"""Telemetry, checked with the SDK's in-memory exporters."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import accucheck
import accucheck.otel
from accucheck import Policy, Prices
from tests.unit.test_checks import Vendor, client_of, numbers, ok
from tests.virtual_time import run

NUMBER = "987654321"
SERVER = {"server.address": "cloudapi.peru.accuauth.com", "server.port": 443}
POST = {"http.request.method": "POST", **SERVER}


class Telemetry:
    """Both providers, and what they exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def of(self, client: accucheck.Client, **options: Any) -> accucheck.Client:
        accucheck.otel.instrument(client, tracer_provider=self.tracers, meter_provider=self.meters, **options)
        return client

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def points(self, name: str) -> dict[tuple[object, ...], Any]:
        """The points of a metric, by attributes other than the server's."""
        data = self._reader.get_metrics_data()
        return {
            tuple(value for key, value in (point.attributes or {}).items() if key not in POST): point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def values(self, name: str) -> dict[tuple[object, ...], float]:
        return {key: point.value for key, point in self.points(name).items()}

    def everything(self) -> str:
        return repr([span.to_json() for span in self.spans]) + repr(self._reader.get_metrics_data())


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def scripted(vendor: Vendor, *replies: dict[str, Any] | None) -> None:
    waiting = iter(replies)

    def reply(national: str) -> httpx.Response:
        document = next(waiting, None)
        return ok(national) if document is None else httpx.Response(400, json=document)

    vendor.reply = reply


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_check_is_one_client_span_a_call_below_the_callers(telemetry: Telemetry) -> None:
    vendor = Vendor(latency=0.25)
    scripted(vendor, {"status": "PENDING"}, {"status": "INTERNAL_ERROR", "reason": f"no {NUMBER}"})

    async def main() -> None:
        async with telemetry.of(client_of(vendor, policy=Policy.fast())) as client:
            with telemetry.tracers.get_tracer("app").start_as_current_span("request"):
                await client.check(NUMBER, key=NUMBER)

    run(main())
    *calls, request = telemetry.spans
    assert request.context is not None
    assert [(call.name, call.kind) for call in calls] == [("POST", SpanKind.CLIENT)] * 3
    assert {call.parent.span_id for call in calls if call.parent} == {request.context.span_id}
    common = {**POST, "url.full": "https://cloudapi.peru.accuauth.com/check/whatsapp_advanced"}
    assert [attributes(call) for call in calls] == [
        {
            **common,
            "http.response.status_code": 400,
            "accucheck.status": "PENDING",
            "accucheck.call.kind": "first",
        },
        {
            **common,
            "http.response.status_code": 400,
            "error.type": "INTERNAL_ERROR",
            "accucheck.status": "INTERNAL_ERROR",
            "accucheck.call.kind": "poll",
            "http.request.resend_count": 1,
        },
        {
            **common,
            "http.response.status_code": 200,
            "accucheck.status": "OK",
            "accucheck.call.kind": "retry",
            "http.request.resend_count": 2,
        },
    ]
    assert [call.status.status_code for call in calls] == [
        StatusCode.UNSET,
        StatusCode.ERROR,
        StatusCode.UNSET,
    ]
    for call in calls:
        assert call.start_time is not None
        assert call.end_time is not None
        assert call.end_time - call.start_time == pytest.approx(250_000_000)
    scopes = {call.instrumentation_scope for call in calls if call.instrumentation_scope}
    assert [(scope.name, scope.version) for scope in scopes] == [("accucheck", accucheck.__version__)]
    assert NUMBER not in telemetry.everything()


def test_a_stream_is_one_span_linked_with_its_failed_calls(telemetry: Telemetry) -> None:
    vendor = Vendor()
    scripted(vendor, {"status": "INVALID_ARGUMENT"}, {"status": "PENDING"})

    async def main() -> str:
        client = client_of(vendor, policy=Policy.fast())
        async with telemetry.of(client):
            with telemetry.tracers.get_tracer("app").start_as_current_span("job"):
                async with client.stream(numbers(10), workers=1) as outcomes:
                    async for _ in outcomes:
                        pass
        return outcomes.run_id

    run_id = run(main())
    by_name: dict[str, list[ReadableSpan]] = {}
    for span in telemetry.spans:
        by_name.setdefault(span.name, []).append(span)
    (job,), (whole,), (failed,) = by_name["job"], by_name["accucheck.stream"], by_name["POST"]
    assert job.context is not None
    assert whole.context is not None
    assert failed.context is not None
    assert whole.parent is not None
    assert whole.parent.span_id == job.context.span_id
    assert attributes(failed)["error.type"] == "INVALID_ARGUMENT"
    assert attributes(failed)["accucheck.item.index"] == 0
    assert failed.parent is None
    assert failed.context.trace_id != whole.context.trace_id
    assert [link.context.span_id for link in failed.links] == [whole.context.span_id]
    assert [link.context.span_id for link in whole.links] == [failed.context.span_id]
    told = attributes(whole)
    assert told.pop("accucheck.run.id") == attributes(failed)["accucheck.run.id"] == run_id
    assert told == {
        "accucheck.run.read": 10,
        "accucheck.run.calls": 11,
        "accucheck.run.yes": 9,
        "accucheck.run.no": 0,
        "accucheck.run.failed": 1,
        "accucheck.run.known": 0,
        "accucheck.run.rejected": 0,
        "accucheck.run.duplicates": 0,
    }
    assert whole.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(("which", "spans"), [("all", 5), ("none", 0)])
def test_the_calls_of_a_stream_that_become_spans_can_be_chosen(
    telemetry: Telemetry, which: str, spans: int
) -> None:
    async def main() -> None:
        async with telemetry.of(client_of(Vendor()), stream_spans=which) as client:
            with pytest.raises(accucheck.BudgetExhausted):
                await client.check_many(numbers(9), max_calls=5)

    run(main())
    assert [span.name for span in telemetry.spans].count("POST") == spans
    (whole,) = [span for span in telemetry.spans if span.name == "accucheck.stream"]
    assert whole.status.status_code is StatusCode.ERROR
    assert attributes(whole)["error.type"] == "BUDGET_EXHAUSTED"


def test_durations_answers_replies_and_spend_are_counted(telemetry: Telemetry) -> None:
    vendor = Vendor(latency=0.25)
    scripted(vendor, None, {"status": "PENDING"}, {"status": "INVALID_ARGUMENT"})

    async def main() -> None:
        client = client_of(vendor, policy=Policy.fast())
        async with telemetry.of(client, prices=Prices("0.5", pending="0.25")):
            await client.check(NUMBER)
            await client.check_many(numbers(3), workers=1)

    run(main())
    durations = telemetry.points("http.client.request.duration")
    assert {key: (point.count, point.sum) for key, point in durations.items()} == {
        (400,): (1, pytest.approx(0.25)),
        (400, "INVALID_ARGUMENT"): (1, pytest.approx(0.25)),
        (200,): (3, pytest.approx(0.75)),
    }
    assert durations[200,].explicit_bounds[0] == 0.005
    assert telemetry.values("accucheck.answers") == {("yes",): 3, ("no",): 0, ("failed",): 1}
    assert telemetry.values("accucheck.replies") == {
        ("PENDING", "first"): 1,
        ("INVALID_ARGUMENT", "first"): 1,
        ("OK", "first"): 2,
        ("OK", "poll"): 1,
    }
    assert telemetry.values("accucheck.spend") == {(): 1.75}


def test_current_values_are_observed_and_summed_over_clients(telemetry: Telemetry) -> None:
    vendor = Vendor(latency=1.0)
    scripted(vendor, *[{"status": "PENDING"}] * 2)
    seen: list[dict[str, Any]] = []
    names = ("in_flight", "delayed", "permits.rate", "permits.limit", "circuit.open")

    async def main() -> None:
        one, other = client_of(vendor, rate=40.0), client_of(vendor, rate=2.0)
        async with telemetry.of(one), telemetry.of(other):
            async with one.stream(numbers(4), workers=4) as outcomes:
                await anext(outcomes)
                seen.append({name: telemetry.values(f"accucheck.{name}") for name in names})
                stats = one.stats
        seen.append({name: telemetry.values(f"accucheck.{name}") for name in names})
        assert stats.in_flight + stats.delayed > 0
        assert seen[0] == {
            "in_flight": {(): stats.in_flight},
            "delayed": {(): stats.delayed},
            "permits.rate": {(): pytest.approx(42)},
            "permits.limit": {},
            "circuit.open": {(): 0},
        }
        assert seen[1] == {name: {} for name in names}  # closed

    run(main())


def test_a_collected_client_is_forgotten_and_its_counts_stay(telemetry: Telemetry) -> None:
    async def main() -> weakref.ref[accucheck.Client]:
        async with telemetry.of(client_of(Vendor())) as client:
            await client.check(NUMBER)
        return weakref.ref(client)

    gone = run(main())
    gc.collect()
    assert gone() is None
    assert telemetry.values("accucheck.answers") == {("yes",): 1, ("no",): 0, ("failed",): 0}


def test_a_client_is_instrumented_once_until_it_is_uninstrumented(telemetry: Telemetry) -> None:
    async def main() -> None:
        async with telemetry.of(telemetry.of(client_of(Vendor()))) as client:
            assert bool(client._events.tell)
            await client.check(NUMBER)
            accucheck.otel.uninstrument(client)
            accucheck.otel.uninstrument(client)
            assert not client._events.tell, "nobody listens, so no event should be made"
            await client.check("987654322")

    run(main())
    assert len(telemetry.spans) == 1
    assert telemetry.values("accucheck.answers") == {("yes",): 1, ("no",): 0, ("failed",): 0}


def test_a_wrong_choice_is_refused() -> None:
    with pytest.raises(accucheck.ConfigurationError, match="stream_spans"):
        accucheck.otel.instrument(client_of(Vendor()), stream_spans="some")  # type: ignore[arg-type]


def test_without_the_package_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None; import accucheck\n"
        "try: accucheck.otel\n"
        "except accucheck.ConfigurationError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'accucheck[otel]'" in done.stdout


def test_a_collection_in_the_middle_of_a_stream_has_every_duration_so_far(telemetry: Telemetry) -> None:
    vendor = Vendor(latency=0.25)
    scripted(vendor, {"status": "PENDING"})
    seen: list[tuple[int, int]] = []

    async def main() -> None:
        async with telemetry.of(client_of(vendor, policy=Policy.fast())) as client:
            async with client.stream(numbers(100), workers=7) as outcomes:
                async for _ in outcomes:
                    ended = client.stats.calls - client.stats.in_flight
                    points = telemetry.points("http.client.request.duration").values()
                    seen.append((ended, sum(point.count for point in points)))

    run(main())
    assert [measured for _, measured in seen] == [ended for ended, _ in seen]
    assert seen[-1] == (101, 101)
