"""The client: credentials, ``check()`` and ``stream()``. The only place that wires the modules together."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)
from urllib.parse import urlsplit

import msgspec

from accucheck._admission import Limits
from accucheck._arguments import (
    BASE_URL,
    Credentials,
    FreshWithin,
    Timeouts,
    as_ages,
    as_base_url,
    as_seconds,
    as_timeouts,
    check_callables,
    check_choice,
    check_counts,
    check_instance,
    check_items,
    check_number_function,
)
from accucheck._attempt import Attempt
from accucheck._budgets import CallBudget, CallCap, Caps, CostBudget
from accucheck._checks import Checks
from accucheck._circuit import Brake, RetryBudget
from accucheck._concurrency import EngineTask, settled
from accucheck._costs import Money, Prices, check_costs
from accucheck._decide import Policy
from accucheck._errors import ConfigurationError, RunEnded
from accucheck._events import Event, Key, Listeners, OnEvent, guarded, guarded_key
from accucheck._gate import AdaptiveGate, Gate, Rate, shareable_plan
from accucheck._host import BodyChoice, Host
from accucheck._models import Check, Outcome, Stats, total
from accucheck._open_stores import OpenStores, Passage, check_ledger, ledger_name
from accucheck._phone import normalize
from accucheck._polls import LaterPolls
from accucheck._store import Endpoint, EndpointChoice, Ledger, MemoryStore, Query, Store, as_store
from accucheck._stream import RunContext, Stream
from accucheck._wire import BodyStyle

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "ClientOptions", "LedgerLike", "Numeric", "StreamOptions"]

Item = TypeVar("Item")
Numeric: TypeAlias = str | int | float | None
"""Accepted types of phone numbers: text, or what a spreadsheet or a dataframe turns it into."""
NumericItem = TypeVar("NumericItem", bound=Numeric)
LedgerLike: TypeAlias = Store | Ledger | str | os.PathLike[str]
"""A ledger: the path of a file, or an object that keeps answers (see ``Store``)."""


class ClientOptions(TypedDict, total=False):
    """The options of ``Client`` besides the credentials, for functions that pass them on.

    Examples:
        ```python
        body: accucheck.BodyStyle = "form"
        endpoint: accucheck.EndpointChoice = "cascade"
        ledger: accucheck.LedgerLike = "answers.db"
        rate: accucheck.Rate = (5, 200)
        options: accucheck.ClientOptions = {"body": body, "endpoint": endpoint, "ledger": ledger, "rate": rate}
        async with accucheck.Client(**options) as client:
            print((await client.check("987654321")).whatsapp)
        ```
    """

    base_url: str | None
    endpoint: EndpointChoice
    body: BodyStyle | Literal["auto"]
    timeouts: Timeouts | None
    transport: httpx.AsyncBaseTransport | None
    proxy: str | httpx.URL | httpx.Proxy | None
    verify: ssl.SSLContext | str | os.PathLike[str] | bool
    policy: Policy | None
    rate: Rate
    burst: int | None
    gate: Gate | None
    ledger: LedgerLike | None
    fresh_within: timedelta | None
    max_calls: int | None
    mobile_only: bool
    on_event: OnEvent | None


class StreamOptions(TypedDict, total=False):
    """The options of ``Client.stream`` besides ``items`` and ``number``, for functions that pass them on.

    Examples:
        ```python
        from datetime import timedelta

        fresh_within: accucheck.FreshWithin = {"no": timedelta(days=30)}  # a "yes" never expires
        options: accucheck.StreamOptions = {"workers": 50, "ledger": "leads.db", "fresh_within": fresh_within}
        async with accucheck.Client() as client:
            print(await client.check_many(["987654321", "912345678"], **options))
        ```
    """

    workers: int
    rate: Rate | None
    burst: int | None
    ordered: bool
    max_calls: int | None
    max_cost: Money | None
    prices: Prices | None
    ledger: LedgerLike | None
    fresh_within: FreshWithin | None
    retry_failed: bool
    job: str
    keep_going: bool
    pending: Literal["wait", "later"]
    poll_floor: timedelta | float
    max_delayed: int | None
    buffer: int
    grace: timedelta | float
    outage_after: timedelta | float | None
    on_event: OnEvent | None
    key: Key | None


_PATHS: Final[Mapping[Endpoint, str]] = {
    "advanced": "/check/whatsapp_advanced",
    "basic": "/check/whatsapp_basic",
}
_QUICK_RATE: Final = 10_000
"""Calls per second where a test's sandbox answers: no search for a limit."""
_CONNECTIONS: Final = 10_000
"""The most connections that one client opens; a run's workers limit its calls in flight."""
_DELAYED: Final = 10_000
_DELAYED_LATER: Final = 1_000_000
"""Numbers that wait at most, by default: half a kilobyte and an item each."""
_FIRST_RETRIES: Final = 100
"""Retries that a client may make before it has any answer, besides one per worker."""
_GRACE: Final = 5.0
"""Seconds that calls in flight get to settle when a client is closed."""


class Client:
    """Checks Peru phone numbers on WhatsApp. One client for one event loop; use it as a context manager.

    All checks and streams of a client share one rate, one circuit breaker and one retry budget. A number that several
    of them want at the same time is one call. To never buy an answer twice, give the client a ``ledger``.

    Args:
        api_id: Your AccuAuth API id. Default: the environment variable ACCUCHECK_API_ID.
        api_secret: Your AccuAuth API secret. Default: the environment variable ACCUCHECK_API_SECRET.
        base_url: URL of the API. Must be https, except for localhost. By default ACCUCHECK_BASE_URL of the
            environment, such as that of a sandbox, or else AccuAuth's.
        endpoint: "advanced", or "basic", which is cheaper and only answers ``number`` and ``whatsapp``. "cascade" asks
            basic first, and advanced for the numbers that are on WhatsApp. If only the second step fails, the answer is
            that of the first; with a ledger, ``retry_failed`` asks for the details again.
        body: Encoding of the request body, which AccuAuth's page does not specify. "auto" starts with a form and, if
            the first call is refused because of it, switches to JSON; a ledger remembers which one works. "form" and
            "json" are used as given.
        timeouts: Time limits for each phase of a call. Default: ``Timeouts()``, which allows 10 seconds to connect,
            30 for the next byte of the reply, and 60 for the whole call.
        transport: Any ``httpx.AsyncBaseTransport``; closed with the client. Default: ``FastTransport``.
        proxy: URL of a proxy. Default: HTTPS_PROXY, ALL_PROXY and NO_PROXY. Localhost is always reached directly.
        verify: Which certificate authorities to trust: True for the system's, an ``ssl.SSLContext``, or the path of a
            PEM file or folder. Certificates are always verified; False is an error.
        policy: When to retry and poll, and when to give up.
        rate: Calls per second. "auto" finds the account's limit; a number above 0, such as 50 or 0.5, is a ceiling;
            ``(low, high)`` bounds the search; text can add quotas and hours, such as "50/s,10000/d" (see
            ``AdaptiveGate``). Processes whose clients have the same ledger keep to one rate together. So do streams
            with the same ``ledger`` of their own, if nothing else of their clients is running.
        burst: Calls that may start at the same moment after a pause, 1 or more. Default: 1, plus a hundredth of the
            calls per second: 11 at 1,000 per second. A client with a burst shares its rate with no other process.
        gate: Your own ``Gate`` instead of ``rate`` and ``burst``, such as one that several clients share. You close
            it yourself.
        ledger: Where each answer is stored before you see it, so that it is never bought again: a path, or a
            ``Store``, which the client opens but does not close. Used by ``check``, and by ``stream`` unless it is
            given its own.
        fresh_within: Re-check answers older than this. By default a ledger's answers never expire. Without a ledger,
            ``check`` remembers its last 10,000 answers for 60 seconds (``timedelta(0)``: not at all); streams do not
            use them, so a number that is checked and also streamed is bought twice.
        max_calls: A hard cap on the calls of this client, including polls and retries.
        mobile_only: Treat landlines as invalid instead of checking them.
        on_event: Called with every ``Event``, for metrics. Exceptions it raises are logged and ignored. See ``events``.

    Raises:
        ConfigurationError: An argument is wrong, or credentials are missing.

    Examples:
        ```python
        async with accucheck.Client(rate=50, ledger="answers.db") as client:
            check = await client.check("987 654 321")
            print(check.whatsapp)
        ```
    """

    def __init__(
        self,
        api_id: str | None = None,
        api_secret: str | None = None,
        *,
        base_url: str | None = None,
        endpoint: EndpointChoice = "advanced",
        body: BodyStyle | Literal["auto"] = "auto",
        timeouts: Timeouts | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        proxy: str | httpx.URL | httpx.Proxy | None = None,
        verify: ssl.SSLContext | str | os.PathLike[str] | bool = True,
        policy: Policy | None = None,
        rate: Rate = "auto",
        burst: int | None = None,
        gate: Gate | None = None,
        ledger: LedgerLike | None = None,
        fresh_within: timedelta | None = None,
        max_calls: int | None = None,
        mobile_only: bool = False,
        on_event: OnEvent | None = None,
    ) -> None:
        # Here, since httpx is a quarter of the time that importing accucheck would take.
        from accucheck._http import Sender, is_quick, stand_in_url

        check_choice("endpoint", endpoint, *_PATHS, "cascade")
        check_choice("body", body, "auto", "form", "json")
        check_instance("policy", policy, Policy, "a Policy")
        check_instance("timeouts", timeouts, Timeouts, "a Timeouts, such as Timeouts(read=10)")
        check_callables(on_event=on_event)
        check_ledger(ledger)
        check_counts(max_calls=1 if max_calls is None else max_calls)
        if gate is not None and (rate != "auto" or burst is not None):
            raise ConfigurationError("rate and burst are settings of the gate: set them on the gate you pass")
        if gate is not None and not isinstance(gate, Gate):
            raise ConfigurationError(f"gate must be a Gate (see accucheck.Gate), not {gate!r}")
        credentials = Credentials.find(api_id, api_secret)
        if base_url is None:
            base_url = os.environ.get("ACCUCHECK_BASE_URL") or BASE_URL
            if base_url == stand_in_url():  # set for child processes; here, it answers for the real host
                base_url = BASE_URL
        self._base_url = as_base_url(base_url)
        self._url = self._base_url + _PATHS["advanced" if endpoint == "cascade" else endpoint]
        self._endpoint: EndpointChoice = endpoint
        self._mobile_only = mobile_only
        quick = is_quick()
        self._policy = policy or (Policy.fast() if quick else Policy())
        if quick and gate is None and rate == "auto":
            rate = _QUICK_RATE
        self._own_gate = AdaptiveGate(rate, burst) if gate is None else None
        self._ledger = ledger
        self._fresh_within = as_seconds("fresh_within", fresh_within)
        self._cap = None if max_calls is None else CallCap(max_calls)
        self._events = Listeners(*([] if on_event is None else [guarded(on_event)]))
        place = urlsplit(self._base_url).netloc
        retries = RetryBudget(allowance=_FIRST_RETRIES, share=self._policy.retry_budget)
        answering = stand_in_url() if self._base_url == BASE_URL else None
        name = place if answering is None else f"{urlsplit(answering).netloc} (standing in for {place})"
        self._host = Host(name, retries=retries, events=self._events)
        self._host.body = BodyChoice(None if body == "auto" else body)
        self._host.use_body = self._use_body
        self._stores = OpenStores(
            as_store,
            host=self._host,
            account=f"{place} {credentials.account}",
            gate=self._own_gate or cast("Gate", gate),
            plan=None if self._own_gate is None else shareable_plan(self._own_gate),
        )
        self._checks: Checks | None = None  # those of the client's own ledger
        self._openings: dict[object, EngineTask[Checks]] = {}  # by ledger
        self._checks_opened: list[tuple[Checks, Passage]] = []
        self._streams: set[Stream[Any]] = set()
        self._past: list[Stats] = []
        self._opened_at: float | None = None
        self._closing: EngineTask[None] | None = None
        self._sender = Sender(
            url=self._url,
            headers=credentials.headers(),
            body="form" if body == "auto" else body,
            timeouts=timeouts or Timeouts(),
            transport=transport,
            proxy=proxy,
            verify=verify,
            connections=_CONNECTIONS,
        )
        self._senders = [self._sender]
        if endpoint == "cascade":
            self._senders.append(self._sender.at(self._base_url + _PATHS["basic"]))
        self._make_attempt = partial(
            Attempt,
            send_basic=self._senders[-1],
            endpoint=endpoint,
            policy=self._policy,
            host=self._host,
        )

    def __repr__(self) -> str:
        return f"<accucheck.Client {self._base_url} {self._endpoint}>"

    async def __aenter__(self) -> Self:
        self._bind()
        await self._sender.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop all work, give calls in flight 5 seconds to return and be stored, and close every connection.

        A stream that is still open raises RuntimeError after its last outcome. A closed client cannot be reopened. Used
        as a context manager, a client closes itself.

        Raises:
            LedgerError: An answer could not be stored.
        """
        if self._closing is None:
            self._sender.bind()
            self._closing = EngineTask(self._close(), name="closing", on_cancel=lambda: None)
        await settled(self._closing)
        self._closing.result()

    async def check(
        self,
        number: str | int,
        *,
        deadline: timedelta | float | None = None,
        timeout: Timeouts | float | None = None,
        ledger: LedgerLike | None = None,
        key: object = None,
    ) -> Check:
        """Check one number: poll while it is PENDING, and retry after failures. Goes ahead of all streams.

        Several tasks that check the same number share one call. A task that gives up (a timeout, a disconnected web
        client) does not affect the others, and the answer of its call in flight is still kept.

        Args:
            number: The number in any common notation: ``"987 654 321"``, ``"+51 987 654 321"``, ``"(01) 456-7890"``.
            deadline: Maximum total time to wait; a number means seconds. Default: ``policy`` decides.
            timeout: Time limits for each call, instead of the client's; a number is the seconds for one whole call. A
                call cut short may be charged and is retried, so to limit the wait use ``deadline``.
            ledger: Where to look up and store the answer, instead of the client's.
            key: Your own value, such as a request id, that every event of this number carries; see ``CallEnded.key``.

        Raises:
            InvalidNumber: The text is not a Peru number; no call was made.
            VendorUnavailable: AccuAuth is down: raised immediately, or at the deadline if there is one.
            CheckError: The number has no answer for another reason; at the deadline ``PendingTimeout``,
                ``RateLimited`` or ``TransportError``, depending on what it was waiting for.
            RunEnded: No number can be checked, such as ``OutOfQuota`` or ``LedgerError``.
            RuntimeError: The client is closed, or belongs to another event loop.

        Examples:
            ```python
            async with accucheck.Client() as client:
                try:
                    check = await client.check("987 654 321", deadline=10)
                except accucheck.CheckError as error:  # which is never a "no"
                    print("no answer:", error.reason)
                else:
                    print("on WhatsApp" if check.whatsapp else "not on WhatsApp")
            ```
        """
        seconds = as_seconds("deadline", deadline)
        timeouts = as_timeouts(timeout) if timeout is not None else None
        loop = self._bind()
        expires = None if seconds is None else loop.time() + seconds
        national = normalize(number, mobile_only=self._mobile_only)
        checks = self._checks if ledger is None else None
        if checks is None:
            checks = await self._checks_with(self._ledger if ledger is None else ledger)
        return await checks.check(national, expires, timeouts=timeouts, key=key)

    @overload
    async def check_many(
        self,
        numbers: Iterable[NumericItem] | AsyncIterable[NumericItem],
        *,
        number: None = None,
        **options: Unpack[StreamOptions],
    ) -> list[Outcome[NumericItem]]: ...

    @overload
    async def check_many(
        self,
        numbers: Iterable[Item] | AsyncIterable[Item],
        *,
        number: Callable[[Item], Numeric],
        **options: Unpack[StreamOptions],
    ) -> list[Outcome[Item]]: ...

    async def check_many(
        self,
        numbers: Iterable[Any] | AsyncIterable[Any],
        *,
        number: Callable[[Any], Numeric] | None = None,
        **options: Unpack[StreamOptions],
    ) -> list[Outcome[Any]]:
        """Check many numbers and return all outcomes, in the input's order.

        For lists that fit in memory; ``stream`` yields outcomes as they arrive.

        Args:
            numbers: See ``items`` of ``stream``.
            number: See ``stream``.
            options: As for ``stream``: ``ledger``, ``workers``, ``rate``, ``max_calls`` and so on.

        Raises:
            RunEnded: The run ended early. ``error.outcomes`` holds the outcomes up to then, in order.
            ConfigurationError: An argument is wrong.

        Examples:
            ```python
            async with accucheck.Client() as client:
                for outcome in await client.check_many(["987 654 321", "(01) 456-7890", "n/a"]):
                    if isinstance(outcome, accucheck.Checked):
                        print(outcome.item, outcome.check.whatsapp)
                    else:
                        print(outcome.item, outcome.error.reason)
            ```
        """
        found: list[Outcome[Any]] = []
        try:
            async with self.stream(numbers, number=number, **options) as outcomes:
                async for outcome in outcomes:
                    found.append(outcome)  # noqa: PERF401 (those before an error must be kept)
        except RunEnded as error:
            error.outcomes = sorted(found, key=_index)
            raise
        return sorted(found, key=_index)

    @property
    def stats(self) -> Stats:
        """The totals of all checks and streams of this client so far; ``rate`` is the client's own."""
        runs = [*self._past, *(stream.stats for stream in tuple(self._streams))]
        runs += [checks.stats for checks, _ in self._checks_opened]
        began = self._opened_at
        elapsed = 0.0 if began is None else time.monotonic() - began
        return total(runs, rate=self._stores.gate.rate if began is not None else None, elapsed=elapsed)

    @property
    def events(self) -> AsyncIterator[Event]:
        """The events from now on: ``async for event in client.events``. Ends when the client is closed.

        Each use is another reader; one that falls 10,000 events behind misses the oldest.

        Examples:
            ```python
            import asyncio


            async def watch(client: accucheck.Client) -> None:
                async for event in client.events:
                    print(event)


            async with asyncio.TaskGroup() as tasks, accucheck.Client() as client:
                tasks.create_task(watch(client))  # ends with the client
                await client.check("987654321")
            ```
        """
        return self._events.read()

    @overload
    def stream(
        self,
        items: Iterable[NumericItem] | AsyncIterable[NumericItem],
        *,
        number: None = None,
        **options: Unpack[StreamOptions],
    ) -> Stream[NumericItem]: ...

    @overload
    def stream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        number: Callable[[Item], Numeric],
        **options: Unpack[StreamOptions],
    ) -> Stream[Item]: ...

    def stream(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        number: Callable[[Any], Numeric] | None = None,
        workers: int = 100,
        rate: Rate | None = None,
        burst: int | None = None,
        ordered: bool = False,
        max_calls: int | None = None,
        max_cost: Money | None = None,
        prices: Prices | None = None,
        ledger: LedgerLike | None = None,
        fresh_within: FreshWithin | None = None,
        retry_failed: bool = False,
        job: str = "",
        keep_going: bool = False,
        pending: Literal["wait", "later"] = "wait",
        poll_floor: timedelta | float = 20.0,
        max_delayed: int | None = None,
        buffer: int = 1_000,
        grace: timedelta | float = 5.0,
        outage_after: timedelta | float | None = timedelta(minutes=15),
        on_event: OnEvent | None = None,
        key: Key | None = None,
    ) -> Stream[Any]:
        """Check many numbers: ``async with client.stream(rows) as outcomes: async for outcome in outcomes``.

        Memory does not grow with the input, and a slow reader slows the input down. A number that appears twice is
        checked once. A number that fails is a ``Failed`` outcome. An error that ends the run is raised by the
        iteration, after every outcome that was already paid for.

        However you leave the block, no new calls are made, and calls in flight get ``grace`` to return and be stored.
        Outcomes that you did not iterate over are in ``outcomes.undelivered()``; items that were read but not checked
        are in ``outcomes.unasked``.

        Args:
            items: Any iterable or async iterable. A generator is closed with the block. A slow plain iterable is
                moved to a thread, so that it does not block the event loop: once reading three of its items has
                taken 20 ms each. If yours must stay in one thread, such as a sqlite3 cursor, pass an async generator
                that yields from it.
            number: Function that returns an item's phone number. Default: the item is the number.
            workers: Maximum calls in flight, 1 or more. Only as many are used as rate and latency require.
            rate: A rate for this stream only. Default: the client's, shared with its other calls.
            burst: Like the client's, for a stream with its own ``rate``.
            ordered: Yield in the input's order; an early PENDING row then holds back later ones.
            max_calls: A hard cap on calls, including polls and retries; with a ledger, over all runs of a job.
            max_cost: A hard cap on what calls may cost by ``prices``, as exact as ``max_calls``. It counts every call
                that the vendor may have charged, but none that the status table calls free. With a ledger, it counts
                over all runs and processes of a job that had ``prices``, each at the prices it ran with. Calls in
                flight during a kill, and calls made before the job's first ``prices``, count as charged.
            prices: What calls cost, for ``max_cost`` of this run or a later one of the job. A cascade has two prices,
                such as ``Prices("0.005", basic="0.002")``, and ends where a call of the more expensive endpoint would
                exceed ``max_cost``.
            ledger: Where each answer is stored before it is yielded, so that it is never bought again: a path, or a
                ``Store``. Default: the client's. Without one, answers are kept for this stream only, and other streams
                and later checks buy them again.
            fresh_within: With a ledger: re-check answers older than this, or by verdict:
                ``{"yes": timedelta(days=90), "no": timedelta(days=14)}``. Default: the client's.
            retry_failed: With a ledger: re-check numbers that failed in an earlier run.
            job: With a ledger that several lists share: the name under which ``max_calls`` counts.
            keep_going: Continue even if every number is refused for the same reason. By default the run ends with
                ``UniformRefusals`` after the first 20, or 50 in a row once a call has succeeded, so that a wrong
                setting (such as ``body``) does not use up a list.
            pending: What to do with PENDING numbers. "wait" polls each until it is answered, for up to 10 minutes; use
                it when answers take seconds. "later" requests all numbers first, then collects the answers for up to 6
                hours; use it when AccuAuth has a long queue. Numbers still pending at the end are ``Failed`` with
                ``StillPending``; with a ledger, the next run collects them.
            poll_floor: With "later": minimum time between two polls of a number; a plain number means seconds. Default:
                20 s.
            max_delayed: Maximum numbers waiting for a poll, a retry or another process, in addition to ``workers``.
                Each takes 500 bytes of memory, and its item. Default: 10,000; with "later" 1,000,000.
            buffer: Maximum outcomes waiting for the reader. Default: 1,000.
            grace: How long calls in flight may take to return when you leave the block early; a number means seconds.
                Default: 5 s.
            outage_after: End the run with ``Outage`` when no call has succeeded for this long; a number means seconds.
                None: never. Default: 15 minutes.
            on_event: Called with every ``Event``, for metrics. Exceptions it raises are logged and ignored.
            key: Function that returns the ``key`` of an item's events, such as ``lambda row: row["id"]``. Called only
                while something listens for events.

        Raises:
            ConfigurationError: An argument is wrong.
            LedgerError: On entering, if the ledger cannot be opened.
            RuntimeError: On entering, if the client is closed or belongs to another event loop.
            RunEnded: By the iteration, after every outcome that was already paid for: ``Unauthorized``, ``KeyExpired``,
                ``NoPermission``, ``OutOfQuota``, ``NotFound``, ``UniformRefusals``, ``Outage``, ``BudgetExhausted`` or
                ``LedgerError``. A number that fails is an outcome instead.

        Examples:
            ```python
            leads = [{"name": "Ana", "phone": "987654321"}, {"name": "Rosa", "phone": "912345678"}]
            async with (
                accucheck.Client() as client,
                client.stream(leads, number=lambda row: row["phone"], ledger="leads.db") as outcomes,
            ):
                async for outcome in outcomes:
                    match outcome:
                        case accucheck.Checked(item=row, check=check):
                            print(row["name"], check.whatsapp)
                        case accucheck.Failed(item=row, error=error):
                            print(row["name"], error.reason)
            ```
        """
        check_items(items)
        check_number_function(number)
        check_callables(on_event=on_event, key=key)
        if max_delayed is None:
            max_delayed = _DELAYED if pending == "wait" else _DELAYED_LATER
        check_counts(workers=workers, max_delayed=max_delayed, buffer=buffer)
        check_counts(max_calls=1 if max_calls is None else max_calls)
        if workers > _CONNECTIONS:
            raise ConfigurationError(f"workers must be at most {_CONNECTIONS}, not {workers}")
        check_costs(prices, max_cost, cascade=self._endpoint == "cascade")
        if rate is None and burst is not None:
            raise ConfigurationError("burst needs rate: pass both here, or both to the client")
        check_ledger(ledger)
        if not isinstance(job, str):
            raise ConfigurationError(f"job must be a string, not {job!r}")
        ledger = self._ledger if ledger is None else ledger
        if ledger is None and (fresh_within is not None or retry_failed or job):
            raise ConfigurationError("fresh_within, retry_failed and job need a ledger: pass ledger=PATH")
        ages = as_ages(fresh_within, default=self._fresh_within)
        check_choice("pending", pending, "wait", "later")
        floor = as_seconds("poll_floor", poll_floor) or 0.0
        limits = Limits(
            workers=workers, delayed=max_delayed, buffered=buffer, grace=as_seconds("grace", grace) or 0.0
        )
        return Stream(
            items,
            number if number is not None else _itself,
            enter=partial(
                self._enter,
                own_gate=None if rate is None else AdaptiveGate(rate, burst),
                workers=workers,
                max_calls=max_calls,
                max_cost=max_cost,
                prices=prices,
                ledger=ledger,
                ages=ages,
                retry_failed=retry_failed,
                job=job,
                keep_going=keep_going,
                poll_floor=floor if pending == "later" else None,
                on_event=on_event,
                key=key,
            ),
            limits=limits,
            ordered=ordered,
            mobile_only=self._mobile_only,
            outage_after=as_seconds("outage_after", outage_after),
        )

    async def _enter(
        self,
        stream: Stream[Any],
        *,
        own_gate: AdaptiveGate | None,
        workers: int,
        max_calls: int | None,
        max_cost: Money | None,
        prices: Prices | None,
        ledger: LedgerLike | None,
        ages: tuple[float | None, float | None],
        retry_failed: bool,
        job: str,
        keep_going: bool,
        poll_floor: float | None,
        on_event: OnEvent | None,
        key: Key | None,
    ) -> RunContext:
        self._bind()
        hooks = [] if on_event is None else [guarded(on_event)]
        events = Listeners(*hooks, parent=self._events)
        shared = None if ledger is None else await self._stores.use(ledger)
        self._host.retries.widen(_FIRST_RETRIES + workers)
        store: Store = MemoryStore() if shared is None else shared.store
        budget = None
        if store.durable or max_calls is not None:
            budget = CallBudget(store, job=job, max_calls=max_calls)
        passage = self._stores.enter(shared, own_gate)
        cost = None
        if prices is not None and (max_cost is not None or store.durable):
            try:
                cost = await CostBudget.open(store, max_cost, prices, job=job)
            except BaseException:
                await self._stores.leave(passage)
                raise
        key = None if key is None else guarded_key(key)
        attempt = self._make_attempt(
            send=self._sender,
            gate=passage.gate,
            events=events,
            caps=Caps(cap=self._cap, cost=cost, budget=budget),
            brake=None if keep_going else Brake(),
            later=None if poll_floor is None else LaterPolls(floor=poll_floor),
            key=key,
            run_id=stream.run_id,
            body_turn=passage.body_turn,
        )
        self._streams.add(stream)

        async def close() -> None:
            self._streams.discard(stream)
            ended = msgspec.structs.replace(stream.stats, in_flight=0, delayed=0, pending_now=0)
            self._past = [total([*self._past, ended], rate=None, elapsed=0.0)]
            try:
                if shared is None:
                    await store.aclose()
                elif cost is not None:
                    await cost.close(lost=0)
            finally:
                await self._stores.leave(passage)

        now = time.time()
        yes_since, no_since = (-math.inf if age is None else now - age for age in ages)
        return RunContext(
            attempt=attempt,
            store=store,
            # A number that fails in this run is not asked again for its second row.
            query=Query(
                endpoint=self._endpoint,
                yes_since=yes_since,
                no_since=no_since,
                failed_since=now if retry_failed else min(yes_since, no_since),
            ),
            in_flight=passage.in_flight,
            events=events,
            key=key,
            job=job,
            budget=budget,
            close=close,
        )

    async def _checks_with(self, ledger: LedgerLike | None) -> Checks:
        """Return the ``Checks`` for a ledger, opened once."""
        check_ledger(ledger)
        name = None if ledger is None else ledger_name(ledger)
        opening = self._openings.get(name)
        if opening is None:
            # An empty context, because it serves all later checks.
            opening = self._openings[name] = EngineTask(
                self._open_checks(name, ledger),
                name="opening",
                on_cancel=lambda: None,
                context=contextvars.Context(),
            )
        await settled(opening)
        return opening.result()

    async def _open_checks(self, name: object, ledger: LedgerLike | None) -> Checks:
        try:
            shared = None if ledger is None else await self._stores.use(ledger)
        except BaseException:
            del self._openings[name]  # the next check tries again
            raise
        passage = self._stores.enter(shared)
        budget = CallBudget(shared.store) if shared is not None and shared.store.durable else None
        checks = Checks(
            attempt=self._make_attempt(
                send=self._sender,
                gate=passage.gate,
                events=self._events,
                caps=Caps(cap=self._cap, budget=budget),
                key=_itself,
                body_turn=passage.body_turn,
            ),
            shared=shared,
            in_flight=passage.in_flight,
            endpoint=self._endpoint,
            fresh_within=self._fresh_within,
            budget=budget,
            events=self._events,
        )
        self._checks_opened.append((checks, passage))
        if ledger is self._ledger:
            self._checks = checks
        return checks

    async def _close(self) -> None:
        if self._openings:
            await asyncio.wait([*self._openings.values()])
        closing = RuntimeError("the client was closed")
        ending = [stream._close_soon(closing) for stream in tuple(self._streams)]
        async with AsyncExitStack() as stack:  # each step also follows one that failed
            stack.push_async_callback(self._sender.aclose)
            if self._own_gate is not None:
                stack.push_async_callback(self._own_gate.aclose)
            stack.callback(self._events.close)
            stack.callback(self._host.close)
            for _, passage in self._checks_opened:
                stack.push_async_callback(self._stores.leave, passage)
            if ending:
                stack.push_async_callback(asyncio.wait, ending)
            closed = await asyncio.gather(
                *(checks.aclose(_GRACE) for checks, _ in self._checks_opened), return_exceptions=True
            )
            for result in closed:
                if isinstance(result, BaseException):
                    raise result

    def _bind(self) -> asyncio.AbstractEventLoop:
        """Raise RuntimeError if the client is closed, or belongs to another event loop."""
        self._sender.bind()
        if self._closing is not None:
            raise RuntimeError("the client is closed: create a new one")
        if self._opened_at is None:
            self._opened_at = time.monotonic()
        return asyncio.get_running_loop()

    def _use_body(self, style: BodyStyle) -> None:
        for sender in self._senders:
            sender.body = style


def _itself(item: Any) -> Any:
    return item


def _index(outcome: Outcome[Any]) -> int:
    return outcome.index
