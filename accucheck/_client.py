"""The client: credentials, ``check()`` and ``stream()``. The only place that wires the rooms together."""

from __future__ import annotations

import asyncio
import math
import os
import ssl
from collections.abc import AsyncIterable, Callable, Iterable
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from accucheck._admission import Limits
from accucheck._attempt import Attempt, Progress
from accucheck._circuit import Circuit, RetryBudget
from accucheck._credentials import Credentials, is_loopback
from accucheck._decide import Done, Policy, Stop, Wait
from accucheck._errors import CheckError, ConfigurationError
from accucheck._events import OnEvent, guarded
from accucheck._gate import AdaptiveGate, CallBudget, Rate, one_lease
from accucheck._models import Check
from accucheck._phone import normalize
from accucheck._polls import PollTimes
from accucheck._single_flight import SingleFlight
from accucheck._store import Ledger
from accucheck._store import OldMemoryStore as MemoryStore
from accucheck._stream import RunContext, Stream
from accucheck._timeouts import Timeouts
from accucheck._wire import BodyStyle

if TYPE_CHECKING:
    import httpx

Item = TypeVar("Item")

BASE_URL = "https://cloudapi.peru.accuauth.com"
"""The vendor's ("1. API Specification")."""
_PATHS = {"advanced": "/check/whatsapp_advanced", "basic": "/check/whatsapp_basic"}
_CONNECTIONS = 10_000
"""The most that one client opens; a run's workers are what bounds its calls under way."""
_FIRST_RETRIES = 100
"""Retries that a run may make before it has any answer, besides one per worker."""
_LEASE = 1_000
"""Calls wanted at once; the ledger grants as many as it can afford to have forgotten by a crash."""


class Client:
    """Checks Peru phone numbers on WhatsApp. One client for one event loop; use it as a context manager.

    Args:
        api_id: Credentials; by default ACCUCHECK_API_ID and ACCUCHECK_API_SECRET of the environment.
        api_secret: See ``api_id``.
        base_url: https, or http to loopback; no userinfo, query or fragment.
        endpoint: "advanced", or "basic": cheaper, its answers hold ``number`` and ``whatsapp`` only.
        body: How the number is posted, "form" or "json"; the vendor's page does not say which it wants.
        timeouts: Limits per phase of a call, in seconds; all finite.
        transport: Any ``httpx.AsyncBaseTransport``; closed with the client. None for ``FastTransport``.
        proxy: The URL of a proxy; by default what HTTPS_PROXY, ALL_PROXY and NO_PROXY say. A ``base_url`` on
            loopback is always reached directly.
        verify: Whom TLS trusts: True for the system's roots, an ``ssl.SSLContext``, or the path of a CA file or
            folder in PEM form. Certificates are always verified: False is refused.
        policy: When to ask again, and when to give up.
        rate: Calls per second: "auto" finds the account's limit, a number is a ceiling, ``(low, high)``
            bounds the search.
        burst: Calls that may go at once after a silence, 1 or more; by default one, and what falls due in 10 ms.
        mobile_only: Refuse fixed lines before they cost a call.

    Raises:
        ConfigurationError: An argument is wrong, or credentials are missing.
    """

    def __init__(
        self,
        api_id: str | None = None,
        api_secret: str | None = None,
        *,
        base_url: str = BASE_URL,
        endpoint: Literal["advanced", "basic"] = "advanced",
        body: BodyStyle = "form",
        timeouts: Timeouts | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        proxy: str | httpx.URL | httpx.Proxy | None = None,
        verify: ssl.SSLContext | str | os.PathLike[str] | bool = True,
        policy: Policy | None = None,
        rate: Rate = "auto",
        burst: int | None = None,
        mobile_only: bool = False,
    ) -> None:
        # Here, since httpx is a quarter of the time that importing accucheck would take.
        from accucheck._http import Sender

        if endpoint not in _PATHS:
            raise ConfigurationError(f"endpoint is 'advanced' or 'basic', not {endpoint!r}")
        if body not in ("form", "json"):
            raise ConfigurationError(f"body is 'form' or 'json', not {body!r}")
        credentials = Credentials.find(api_id, api_secret)
        self._base_url = _checked_url(base_url)
        self._endpoint = endpoint
        self._mobile_only = mobile_only
        self._policy = policy or Policy()
        self._gate = AdaptiveGate(rate, burst)
        self._polls = PollTimes()
        self._checking: SingleFlight[Check] = SingleFlight()
        self._sender = Sender(
            url=self._base_url + _PATHS[endpoint],
            headers=credentials.headers(),
            body=body,
            timeouts=timeouts or Timeouts(),
            transport=transport,
            proxy=proxy,
            verify=verify,
            connections=_CONNECTIONS,
        )
        self._turn = self._new_turn(self._gate, workers=1, on_event=None)

    def __repr__(self) -> str:
        return f"<accucheck.Client {self._base_url} {self._endpoint}>"

    async def __aenter__(self) -> Self:
        await self._sender.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._sender.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        """Close every connection. A client used as a context manager closes by itself."""
        await self._sender.aclose()

    async def check(self, number: str | int) -> Check:
        """Check one number: waits for its turn, polls while PENDING, asks again after failures.

        The same number asked by several tasks at once is asked once, and goes on until the last of them is
        cancelled. Raises InvalidNumber (no call was made), a CheckError for what is wrong with this number, or
        a RunEnded such as OutOfQuota.
        """
        national = normalize(number, mobile_only=self._mobile_only)
        self._sender.bind()
        return await self._checking.get(national, lambda: self._check(str(national)))

    async def _check(self, national: str) -> Check:
        progress = Progress(national)
        circuit = self._turn.circuit
        while True:
            now = self._gate.now()
            if circuit.opened and not circuit.admits(now):
                # Not at the gate: a permit that nobody may use would be one less for a stream.
                await asyncio.sleep(max(circuit.retry_at - now, 0.01))
                continue
            sent_at = await self._gate.acquire(urgent=True)
            if circuit.opened and not circuit.admits(sent_at):
                continue
            match await self._turn.take(progress, sent_at):
                case Done(result):
                    if isinstance(result, CheckError):
                        raise result
                    return result
                case Wait(seconds, then):
                    if then != "refused":  # a refusal holds the gate, which is where this call waits next
                        await asyncio.sleep(seconds)
                case Stop(error):
                    raise error

    def stream(
        self,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        number: Callable[[Item], str | int | float | None] | None = None,
        workers: int = 100,
        rate: Rate | None = None,
        burst: int | None = None,
        ordered: bool = False,
        max_calls: int | None = None,
        ledger: Ledger | str | os.PathLike[str] | None = None,
        fresh_within: timedelta | None = None,
        retry_failed: bool = False,
        job: str = "",
        max_parked: int = 10_000,
        buffer: int = 1_000,
        grace: float = 5.0,
        on_event: OnEvent | None = None,
    ) -> Stream[Item]:
        """Check many numbers: ``async with client.stream(rows) as outcomes: async for outcome in outcomes``.

        Memory does not grow with the input, and a slow reader slows the input. A number that comes twice is
        asked once. What is wrong with one number is a ``Failed`` outcome; what ends the run is raised from
        the iteration, after every outcome that was already paid for.

        Args:
            items: Any iterable or async iterable. A plain one is read on the event loop: make it an async
                one if it may block.
            number: Takes the phone number out of an item; by default the item is the number.
            workers: Calls under way at most, 1 or more; as many are used as the rate and the latency need.
            rate: For this stream alone; by default the client's, shared with its other calls.
            burst: Goes with ``rate``.
            ordered: Yield in the order of the input; an early row that is PENDING holds later ones back.
            max_calls: A hard cap on calls, polls and retries included; with a ledger, over the runs of a job.
            ledger: Where every answer is stored before it is yielded, so that it is never bought again: a
                path, or an open ``Ledger``. None keeps answers for this stream only.
            fresh_within: With a ledger: answers older than this are bought anew.
            retry_failed: With a ledger: numbers that failed in an earlier run are asked again.
            job: With a ledger that several lists share: whose calls ``max_calls`` caps.
            max_parked: Numbers waiting for a poll or a retry at most; they hold no worker.
            buffer: OutcomeQueue waiting for the reader at most.
            grace: Seconds that calls under way get to settle when the block is left early.
            on_event: Called with every ``Event``, for metrics; what it raises is logged and ignored.

        Raises:
            ConfigurationError: An argument is wrong.
            LedgerError: On entering, if the ledger cannot be opened or another run holds it.
        """
        if isinstance(items, str | bytes):
            raise ConfigurationError(
                "items are many numbers: a list of them, not one text; for one use check()"
            )
        if isinstance(workers, int) and workers > _CONNECTIONS:
            raise ConfigurationError(f"workers is at most {_CONNECTIONS}, not {workers}")
        for name, value in (("workers", workers), ("max_parked", max_parked), ("buffer", buffer)):
            _at_least_one(name, value)
        if max_calls is not None:
            _at_least_one("max_calls", max_calls)
        if not 0 <= grace < math.inf:
            raise ConfigurationError(f"grace is a finite number of seconds, 0 or more, not {grace!r}")
        if rate is None and burst is not None:
            raise ConfigurationError("burst goes with rate: give both, or give both to the client")
        if rate is not None:
            AdaptiveGate(rate, burst)  # a wrong rate is told here, not on entering
        if ledger is None and (fresh_within is not None or retry_failed or job):
            raise ConfigurationError("fresh_within, retry_failed and job need a ledger: give its path")
        hook = None if on_event is None else guarded(on_event)
        return Stream(
            items,
            number if number is not None else _itself,
            equip=partial(
                self._equip,
                rate=rate,
                burst=burst,
                workers=workers,
                max_calls=max_calls,
                ledger=ledger,
                fresh_within=fresh_within,
                retry_failed=retry_failed,
                job=job,
                on_event=hook,
            ),
            limits=Limits(workers=workers, parked=max_parked, buffered=buffer, grace=grace),
            ordered=ordered,
            mobile_only=self._mobile_only,
            on_event=hook,
        )

    def _equip(
        self,
        *,
        rate: Rate | None,
        burst: int | None,
        workers: int,
        max_calls: int | None,
        ledger: Ledger | str | os.PathLike[str] | None,
        fresh_within: timedelta | None,
        retry_failed: bool,
        job: str,
        on_event: OnEvent | None,
    ) -> RunContext:
        self._sender.bind()
        if ledger is None:
            gate = self._gate if rate is None else AdaptiveGate(rate, burst)
            budget = None if max_calls is None else CallBudget(one_lease(max_calls))
            store = MemoryStore()
            return RunContext(self._new_turn(gate, workers, on_event), store, budget, store.aclose)
        book = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        place = f"rate {urlsplit(self._base_url).netloc}"
        try:
            gate = self._gate_after(book.recall(place), rate, burst)
            session = book.session(
                endpoint=self._endpoint,
                fresh_within=None if fresh_within is None else fresh_within.total_seconds(),
                retry_failed=retry_failed,
                job=job,
            )
        except BaseException:
            if book is not ledger:
                book.close()
            raise
        budget = CallBudget(partial(session.lease_calls, _LEASE, max_calls))
        turn = self._new_turn(gate, workers, on_event)

        async def close() -> None:
            session.return_calls(budget.unused, lost=turn.counters.cut_off)
            try:
                await session.aclose()
                if gate.learned is not None:
                    book.remember(place, repr(gate.learned))
            finally:
                if book is not ledger:
                    book.close()

        return RunContext(turn, session, budget, close, durable=True)

    def _gate_after(self, remembered: str | None, rate: Rate | None, burst: int | None) -> AdaptiveGate:
        """Return the gate of a stream that knows where an earlier run found the limit."""
        if rate is not None:
            return AdaptiveGate(rate, burst, learned=None if remembered is None else float(remembered))
        if remembered is not None:
            self._gate.start_from(float(remembered))
        return self._gate

    def _new_turn(self, gate: AdaptiveGate, workers: int, on_event: OnEvent | None) -> Attempt:
        return Attempt(
            send=self._sender,
            gate=gate,
            policy=self._policy,
            polls=self._polls,
            circuit=Circuit(),
            retries=RetryBudget(allowance=_FIRST_RETRIES + workers, share=self._policy.retry_budget),
            on_event=on_event,
        )


def _itself(item: Any) -> Any:
    return item


def _at_least_one(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} is a whole number, 1 or more, not {value!r}")


def _checked_url(base_url: str) -> str:
    """Return the base URL without a trailing slash, if credentials may be sent there."""
    try:
        parts = urlsplit(base_url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"base_url is not a URL: {base_url!r}") from None
    if parts.username is not None or parts.password is not None:
        # The URL stays out of the message: it holds a password.
        raise ConfigurationError("base_url may not hold a user name or password: give api_id and api_secret")
    if parts.query or parts.fragment or "?" in base_url or "#" in base_url:
        raise ConfigurationError("base_url may not hold a query or a fragment: leave out what follows ? or #")
    if not host or parts.scheme not in ("https", "http"):
        raise ConfigurationError(f"base_url looks like {BASE_URL}, not {base_url!r}")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(
            "base_url must be https, since every call carries the credentials (http to loopback only),"
            f" not {base_url!r}"
        )
    return base_url.strip().rstrip("/")
