"""Traces and metrics with OpenTelemetry. Needs ``accucheck[otel]``, which installs only its API; you bring the SDK.

Spans follow the stable conventions for HTTP clients. Each call of ``check`` is a ``POST`` span below the caller's. A
stream is one ``accucheck.stream`` span. Its calls, which may be a million, are not below it: each failed call is a span
in a separate trace, linked with it both ways. A PENDING reply is not an error, although its HTTP code is 400.

| metric | kind | what |
|---|---|---|
| ``http.client.request.duration`` | histogram | seconds from the permit to the reply |
| ``accucheck.replies`` | counter | calls that ended, by ``accucheck.status`` and ``accucheck.call.kind`` |
| ``accucheck.answers`` | counter | numbers settled, by ``accucheck.verdict`` (yes, no, failed) |
| ``accucheck.spend`` | counter | likely cost of the calls; with ``prices`` |
| ``accucheck.permits.rate`` | gauge | calls per second that the gate allows now |
| ``accucheck.permits.limit`` | gauge | the account's limit, once a refusal has shown it |
| ``accucheck.in_flight`` | up-down | calls in flight |
| ``accucheck.delayed`` | up-down | numbers waiting for a poll or a retry |
| ``accucheck.circuit.open`` | up-down | clients whose circuit is open: AccuAuth cannot be reached |

``accucheck.call.kind`` is "first", "retry", "poll" or "refused". No attribute contains a phone number, a credential or
your ``key``.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from accucheck import __version__
from accucheck._costs import Prices, spent
from accucheck._errors import ConfigurationError
from accucheck._events import CallEnded, Event, OnEvent, RunFinished, RunStarted, Settled, guarded

try:
    from opentelemetry import context as otel_context
    from opentelemetry import metrics, trace
except ImportError as missing:
    raise ConfigurationError("telemetry needs an extra package: pip install 'accucheck[otel]'") from missing

if TYPE_CHECKING:
    from accucheck._client import Client

__all__ = ["instrument", "uninstrument"]

_BOUNDARIES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Of the conventions for http.client.request.duration."""
_HEALTHY: Final = frozenset(("OK", "PENDING"))
"""Not errors, although PENDING is HTTP 400: otherwise alerts on error rates would go off for no reason."""
_LINKS: Final = 100
"""Failed calls that the span of a run links to: SDKs keep 128 links of a span."""
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.28.0"
_NANOSECONDS: Final = 1_000_000_000
_ROOT: Final = otel_context.Context()
_NO_SPAN: Final = otel_context.set_value("accucheck", True, _ROOT)
"""Unlike an empty context, which the SDK takes for none given, this one spares it a look for the current span."""
_BATCH: Final = 64
"""Durations of a stream that are recorded together, which takes less CPU than one at a time."""

_hooks: weakref.WeakKeyDictionary[Client, tuple[OnEvent, _Meters]] = weakref.WeakKeyDictionary()


def instrument(
    client: Client,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    prices: Prices | None = None,
    stream_spans: Literal["failed", "all", "none"] = "failed",
) -> None:
    """Report a client's calls, checks and streams from now on. Does nothing if the client is already instrumented.

    Args:
        client: The client, open or not.
        tracer_provider: Default: the global one.
        meter_provider: Default: the global one.
        prices: What calls cost, for ``accucheck.spend``.
        stream_spans: Which calls of streams become spans: "failed" (neither OK nor PENDING), "all", or "none". A
            span takes more CPU than the call itself.

    Raises:
        ConfigurationError: An argument is wrong.

    Examples:
        ```python
        import accucheck.otel

        async with accucheck.Client() as client:
            accucheck.otel.instrument(client, prices=accucheck.Prices("0.005"))
            await client.check("987654321")
        ```
    """
    if stream_spans not in ("failed", "all", "none"):
        raise ConfigurationError(f"stream_spans is 'failed', 'all' or 'none', not {stream_spans!r}")
    if client in _hooks:
        return
    meters = _meters_of(meter_provider)
    target = _Target(client._base_url, client._url)
    listener = _Listener(
        trace.get_tracer("accucheck", __version__, tracer_provider, schema_url=_SCHEMA),
        meters.duration,
        target,
        meters.totals(target, prices),
        stream_spans,
    )
    meters.clients[client] = target
    hook = guarded(listener)
    client._events.add(hook)
    _hooks[client] = hook, meters


def uninstrument(client: Client) -> None:
    """Stop reporting a client."""
    found = _hooks.pop(client, None)
    if found is not None:
        hook, meters = found
        client._events.remove(hook)
        meters.clients.pop(client, None)


class _Target:
    """The address that a client calls, as attributes."""

    def __init__(self, base_url: str, url: str) -> None:
        parts = urlsplit(base_url)
        self.metrics: dict[str, Any] = {
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        }
        self.call: dict[str, Any] = {"http.request.method": "POST", **self.metrics}
        self.span: dict[str, Any] = {**self.call, "url.full": url}
        self.key = (self.metrics["server.address"], self.metrics["server.port"])


class _Replies:
    """The calls of one kind with the same reply."""

    __slots__ = ("attributes", "count", "kind", "name", "unrecorded")

    def __init__(self, name: str, kind: str, attributes: dict[str, Any]) -> None:
        self.name = name
        self.kind = kind
        self.attributes = attributes
        """Those of the duration."""
        self.count = 0
        self.unrecorded: deque[float] = deque()
        """Durations not yet in the histogram."""

    def record(self, histogram: metrics.Histogram) -> None:
        """Update the histogram. May be called from any thread."""
        record, attributes, take = histogram.record, self.attributes, self.unrecorded.popleft
        try:
            while True:
                record(take(), attributes, _NO_SPAN)
        except IndexError:
            pass


class _Totals:
    """The totals of all calls to one address, including those of closed clients, because counters never fall."""

    def __init__(self, target: _Target) -> None:
        self.target = target
        self.replies: dict[tuple[str, str, int | None], _Replies] = {}
        self.yes = self.no = self.failed = 0
        self.prices: Prices | None = None


class _Listener:
    """Turns events into spans, and counts them."""

    def __init__(
        self,
        tracer: trace.Tracer,
        duration: metrics.Histogram,
        target: _Target,
        totals: _Totals,
        stream_spans: Literal["failed", "all", "none"],
    ) -> None:
        self._tracer = tracer
        self._duration = duration
        self._target = target
        self._totals = totals
        self._replies = totals.replies
        self._stream_spans = stream_spans
        self._runs: dict[str, tuple[trace.Span, int]] = {}

    def __call__(self, event: Event) -> None:
        if type(event) is CallEnded:
            self._on_call(event)
        elif type(event) is Settled:
            if event.whatsapp is None:
                self._totals.failed += 1
            elif event.whatsapp:
                self._totals.yes += 1
            else:
                self._totals.no += 1
        elif isinstance(event, RunStarted):
            span = self._tracer.start_span("accucheck.stream", attributes={"accucheck.run.id": event.run_id})
            self._runs[event.run_id] = span, 0
        elif isinstance(event, RunFinished):
            self._on_finish(event)

    def _on_call(self, event: CallEnded) -> None:
        reply, kind, http_status = event.reply, event.kind, event.http_status
        replies = self._replies.get((reply, kind, http_status))
        if replies is None:
            replies = _Replies(reply, kind, self._of_reply(reply, http_status))
            self._replies[reply, kind, http_status] = replies
        replies.count += 1
        if not event.run_id:
            self._duration.record(event.seconds, replies.attributes)
            self._span(event, replies.attributes)
            return
        replies.unrecorded.append(event.seconds)
        if len(replies.unrecorded) >= _BATCH:
            replies.record(self._duration)
        if self._stream_spans == "all" or (reply not in _HEALTHY and self._stream_spans == "failed"):
            self._span_of_run(event, replies.attributes)

    def _of_reply(self, reply: str, http_status: int | None) -> dict[str, Any]:
        attributes = dict(self._target.call)
        if http_status is not None:
            attributes["http.response.status_code"] = http_status
        if reply not in _HEALTHY:
            attributes["error.type"] = reply
        return attributes

    def _span_of_run(self, event: CallEnded, attributes: dict[str, Any]) -> None:
        run, linked = self._runs.get(event.run_id, (None, 0))
        if run is None:
            return
        own = self._span(event, attributes, context=_ROOT, links=[trace.Link(run.get_span_context())])
        if linked < _LINKS and event.reply not in _HEALTHY and own.is_valid:
            run.add_link(own)
            self._runs[event.run_id] = run, linked + 1

    def _span(
        self,
        event: CallEnded,
        attributes: dict[str, Any],
        *,
        context: otel_context.Context | None = None,
        links: list[trace.Link] | None = None,
    ) -> trace.SpanContext:
        ended = time.time_ns()
        span = self._tracer.start_span(
            "POST",
            context=context,
            kind=trace.SpanKind.CLIENT,
            attributes={
                **self._target.span,
                **attributes,
                "accucheck.call.kind": event.kind,
                "accucheck.status": event.reply,
            },
            links=links,
            start_time=ended - int(event.seconds * _NANOSECONDS),
        )
        if span.is_recording():
            if event.call > 1:
                span.set_attribute("http.request.resend_count", event.call - 1)
            if event.run_id:
                span.set_attribute("accucheck.run.id", event.run_id)
            if event.index is not None:
                span.set_attribute("accucheck.item.index", event.index)
            if event.reply not in _HEALTHY:
                span.set_status(trace.StatusCode.ERROR)
        span.end(ended)
        return span.get_span_context()

    def _on_finish(self, event: RunFinished) -> None:
        span, _ = self._runs.pop(event.run_id, (None, 0))
        if span is None:
            return
        stats = event.stats
        for name in ("read", "calls", "yes", "no", "failed", "known", "rejected", "duplicates"):
            span.set_attribute(f"accucheck.run.{name}", getattr(stats, name))
        if event.status != "OK":
            span.set_attribute("error.type", event.status)
            span.set_status(trace.StatusCode.ERROR)
        span.end()


class _Meters:
    """The instruments of one meter provider. Observable ones sum over all clients of an address."""

    def __init__(self, provider: metrics.MeterProvider | None) -> None:
        self.clients: weakref.WeakKeyDictionary[Client, _Target] = weakref.WeakKeyDictionary()
        self._totals: dict[tuple[str, int], _Totals] = {}
        meter = metrics.get_meter("accucheck", __version__, provider, schema_url=_SCHEMA)
        self.duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        meter.create_observable_counter(
            "accucheck.replies", [self._replies], "{call}", "Calls that ended, by reply"
        )
        meter.create_observable_counter(
            "accucheck.answers", [self._answers], "{number}", "Numbers settled, by verdict"
        )
        meter.create_observable_counter(
            "accucheck.spend", [self._spend], "{currency}", "Likely cost of the calls"
        )
        meter.create_observable_up_down_counter(
            "accucheck.circuit.open",
            [self._gauge(lambda client: int(client._host.circuit.opened))],
            "{client}",
            "Clients whose circuit is open",
        )
        meter.create_observable_up_down_counter(
            "accucheck.in_flight",
            [self._gauge(lambda client: client.stats.in_flight)],
            "{call}",
            "Calls in flight",
        )
        meter.create_observable_up_down_counter(
            "accucheck.delayed",
            [self._gauge(lambda client: client.stats.delayed)],
            "{number}",
            "Numbers that wait for a poll or a retry",
        )
        meter.create_observable_gauge(
            "accucheck.permits.rate",
            [self._gauge(lambda client: client.stats.rate)],
            "{call}/s",
            "Calls that the gate allows",
        )
        meter.create_observable_gauge(
            "accucheck.permits.limit",
            [self._gauge(lambda client: getattr(client._stores.gate, "learned", None))],
            "{call}/s",
            "The account's limit, as found",
        )

    def totals(self, target: _Target, prices: Prices | None) -> _Totals:
        """Return the totals of an address."""
        totals = self._totals.setdefault(target.key, _Totals(target))
        totals.prices = prices or totals.prices
        return totals

    def _replies(self, _: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
        # Readers call back before they look at the histogram.
        for totals in tuple(self._totals.values()):
            counts: Counter[tuple[str, str]] = Counter()
            for replies in tuple(totals.replies.values()):
                replies.record(self.duration)
                counts[replies.name, replies.kind] += replies.count
            for (name, kind), count in counts.items():
                names = {"accucheck.status": name, "accucheck.call.kind": kind}
                yield metrics.Observation(count, {**totals.target.metrics, **names})

    def _answers(self, _: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
        for totals in tuple(self._totals.values()):
            for verdict in ("yes", "no", "failed"):
                names = {**totals.target.metrics, "accucheck.verdict": verdict}
                yield metrics.Observation(getattr(totals, verdict), names)

    def _spend(self, _: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
        for totals in tuple(self._totals.values()):
            if totals.prices is not None:
                counts: Counter[str] = Counter()
                for replies in tuple(totals.replies.values()):
                    counts[replies.name] += replies.count
                yield metrics.Observation(float(spent(counts, totals.prices).likely), totals.target.metrics)

    def _gauge(
        self, read: Callable[[Client], float | None]
    ) -> Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]:
        """Return a callback that sums over the open clients of each address."""

        def observe(_: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
            sums: dict[tuple[str, int], float] = {}
            targets = {}
            for client, target in [*self.clients.items()]:
                value = None if client._closing is not None else _read(read, client)
                if value is not None:
                    targets[target.key] = target
                    sums[target.key] = sums.get(target.key, 0) + value
            for key, total in sums.items():
                yield metrics.Observation(total, targets[key].metrics)

        return observe


def _read(read: Callable[[Client], float | None], client: Client) -> float | None:
    """Read from the exporter's thread what the client's thread may be changing."""
    for _ in range(5):
        try:
            return read(client)
        except RuntimeError:  # a dictionary changed in mid-iteration
            continue
    return None


_meters: weakref.WeakKeyDictionary[metrics.MeterProvider, _Meters] = weakref.WeakKeyDictionary()
_global: list[_Meters] = []
"""Those of the global provider, which may be set later."""


def _meters_of(provider: metrics.MeterProvider | None) -> _Meters:
    if provider is None:
        if not _global:
            _global.append(_Meters(None))
        return _global[0]
    found = _meters.get(provider)
    if found is None:
        found = _meters[provider] = _Meters(provider)
    return found
