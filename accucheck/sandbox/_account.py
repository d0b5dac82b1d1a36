"""The simulated account: one call in, one reply out. Knows the contract; no HTTP, no waiting, no chance.

The checks come in this order: path, credentials, expiry, permission, rate limit, body, quota, and
then the number's fate: its script, if a test wrote one, or what seed and settings give. Only "yes" and "no" are
charged and use quota.
"""

from __future__ import annotations

import itertools
import json
import math
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal
from urllib.parse import parse_qs

from accucheck.sandbox._counts import Counts, Invoice, InvoiceLine, Second, Tally
from accucheck.sandbox._limits import FixedWindow, Limiter, ScheduledLimit, SlidingWindow, TokenBucket
from accucheck.sandbox._settings import BodyType, Endpoint, Settings
from accucheck.sandbox._truth import (
    STATUSES,
    Fault,
    Scripted,
    Scripts,
    draws,
    is_national,
    pending_seconds,
    request_id,
    truth,
    written_out,
)

MAX_BODY = 65536
"""Bytes that a request body may have."""


class InvalidArgument(Exception):
    """The vendor would refuse this body; the message is its ``reason``."""


def number_in(body: bytes, content_type: str, understood: BodyType = "any") -> str:
    """Return the national number in a request body. Raises ``InvalidArgument``."""
    if understood != "any" and (understood == "json") != _is_json(content_type):
        raise InvalidArgument("argument 'number': not found")
    number = raw_number(body, content_type)
    if number is None:
        raise InvalidArgument("argument 'number': not found")
    if not isinstance(number, str) or not is_national(number):
        raise InvalidArgument("argument 'number': invalid")
    return number


def raw_number(body: bytes, content_type: str) -> object:
    """Return the content of the field ``number``, or None."""
    if len(body) > MAX_BODY:
        return None
    # Deep nesting makes the parser raise RecursionError; everything else that is wrong, ValueError.
    try:
        if _is_json(content_type):
            fields = json.loads(body)
            return fields.get("number") if isinstance(fields, dict) else None
        form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
    except (ValueError, RecursionError):
        return None
    return form.get("number", [None])[0]


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


_MADE_UP = (400, "unknown")

_JSON_TYPE = "application/json;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as the account sees it."""

    endpoint: Endpoint | None
    """None for a path that the vendor does not know."""
    api_id: str
    api_secret: str
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back, when, and with which fault."""

    status: str
    """As counted and logged: the body's, ``checking`` or ``unavailable`` for an OK that is not an answer,
    ``BAD_GATEWAY`` for a proxy's page, ``SCRIPTED`` for a body that a test wrote."""
    http_status: int
    body: bytes
    content_type: str = _JSON_TYPE
    delay: float = 0.0
    """Seconds until it is sent."""
    fault: Fault | None = None
    retry_after: int | None = None
    """Seconds, for the header."""
    nth: int = 0
    """The position of this call among those that reached the number at this endpoint, from 1; 0 if it did not."""


class Account:
    """One simulated account with its limits, quota, numbers and counters.

    Memory: about 150 bytes for each distinct number asked (how often it was asked, and charged),
    and as much for each number that is pending now; 600 seconds of history.
    """

    def __init__(self, settings: Settings, now: float, clock_to_wall: float = 0.0) -> None:
        """``clock_to_wall`` is what makes ``now`` seconds since 1970, for the days of the invoice."""
        self.settings = settings
        self.scripts = Scripts()
        self._clock_to_wall = clock_to_wall
        self._invoice = Invoice(settings.invoice_timezone)
        self._prices: Mapping[Endpoint, float] = {
            "advanced": settings.price_of("advanced"),
            "basic": settings.price_of("basic"),
        }
        self.tally = Tally(now)
        self._limit = _limit(settings, now)
        self._authorised = 0
        self._first_call: float | None = None
        # Numbers are kept as integers, those asked at the basic endpoint as negative ones: small and quick.
        self._asked: dict[int, int] = {}
        self._charged: dict[int, int] = {}
        self._charges = 0
        self._charged_twice = 0
        # When a pending number becomes ready, in order of first calls. One that was asked before and
        # is not here is ready: so what is past may be dropped at any time.
        self._ready_at: OrderedDict[int, float] = OrderedDict()
        self._queue_ends = -math.inf  # when the vendor's queue will be empty
        self._id_prefix = f"TID{secrets.token_hex(8)}"
        self._id_numbers = itertools.count(1)

    def answer(self, call: Call, now: float) -> Reply:
        """Return the reply to a call at ``now``."""
        refusal = self._refusal(call, now)
        reply = refusal or self._admitted(call, now)
        self.tally.count(now, reply.status, admitted=refusal is None)
        if reply.status == "BAD_GATEWAY":
            self.tally.faults["bad_gateway"] += 1
        elif reply.fault:
            self.tally.faults[reply.fault] += 1
            self.tally.charged_but_lost += reply.status == "OK"
        return reply

    def counts(self, now: float) -> Counts:
        """Return a snapshot of all counters."""
        if self._limit is not None:
            self._limit.keep_schedule(now)
        requests_per_second, admitted_per_second = self.tally.per_second(now)
        return Counts(
            uptime=now - self.tally.started,
            requests=self.tally.by_status.total(),
            admitted=self.tally.admitted,
            refused=self.tally.refused,
            pending=sum(ready_at > now for ready_at in self._ready_at.values()),
            numbers=len(self._asked),
            charged=self._charges,
            charged_twice=self._charged_twice,
            spent=float(self.spent),
            charged_but_lost=self.tally.charged_but_lost,
            by_status=dict(self.tally.by_status),
            faults=dict(self.tally.faults),
            requests_per_second=requests_per_second,
            admitted_per_second=admitted_per_second,
            rate=None if self._limit is None else self._limit.rate,
        )

    def history(self) -> list[Second]:
        """Return the calls per second; seconds without a call are left out."""
        return list(self.tally.history)

    def charges(self, endpoint: Endpoint = "advanced") -> dict[str, int]:
        """Return how often each national number was charged at an endpoint; others are absent."""
        sign = _sign(endpoint)
        return {str(key * sign): times for key, times in self._charged.items() if key * sign > 0}

    def invoice(self) -> list[InvoiceLine]:
        """Return what was charged, by day and endpoint."""
        return self._invoice.lines(self._prices)

    @property
    def spent(self) -> Decimal:
        """The invoice's total."""
        return self._invoice.total(self._prices)

    def set_rate(self, rate: float, now: float) -> None:
        """Allow ``rate`` calls per second from now on. Raises ``ValueError`` if the account has no limit."""
        if self._limit is None:
            raise ValueError("this sandbox has no rate limit to change: start it with --rate")
        self._limit.set_rate(rate, now)

    def _refusal(self, call: Call, now: float) -> Reply | None:
        """Return the reply to a call that does not get past the account's own checks."""
        settings = self.settings
        if call.endpoint is None:
            return self._failure("NOT_FOUND")
        if (call.api_id, call.api_secret) != (settings.api_id, settings.api_secret):
            return self._failure("UNAUTHORIZED")
        self._authorised += 1
        if self._first_call is None:
            self._first_call = now
        if settings.expire_after is not None and self._authorised > settings.expire_after:
            return self._failure("KEY_EXPIRED")
        if call.endpoint not in settings.endpoints:
            return self._failure("NO_PERMISSION")
        if self._limit is not None and not self._limit.admit(now):
            wait = self._limit.wait(now)
            tells = settings.retry_after and wait < math.inf
            return self._failure("RATE_LIMIT_EXCEEDED", retry_after=math.ceil(wait) if tells else None)
        return None

    def _admitted(self, call: Call, now: float) -> Reply:
        """Return the reply to a call that got past the account's own checks."""
        assert call.endpoint is not None
        try:
            national = number_in(call.body, call.content_type, self.settings.body)
        except InvalidArgument as error:
            return self._failure("INVALID_ARGUMENT", str(error))
        if self.settings.quota is not None and self._charges >= self.settings.quota:
            return self._failure("OUT_OF_QUOTA")
        return self._fate(call.endpoint, national, now)

    def _fate(self, endpoint: Endpoint, national: str, now: float) -> Reply:
        """Decide the fate of a valid number. Chance depends only on seed, number and n-th call."""
        settings = self.settings
        key = int(national) * _sign(endpoint)
        nth = self._asked.get(key, 0) + 1
        self._asked[key] = nth
        written = self.scripts.take(national)
        if written is not None:
            return self._write(written, endpoint, national, now, nth)
        if nth == 1 and settings.pending:
            self._start_pending(key, national, now)
        fault_draw, error_draw, latency_draw, *_ = draws("call", settings.seed, f"{national}:{nth}")
        delay = _latency(settings.latency / 1000, latency_draw)
        fault = self._fault(fault_draw)
        if fault == "bad_gateway":
            return self._write(written_out("bad_gateway"), endpoint, national, now, nth, delay=delay)
        if error_draw < settings.errors or self._is_out(now):
            return self._failure("INTERNAL_ERROR", delay=delay, fault=fault, nth=nth)
        if self._ready_at.get(key, now) > now:
            return self._failure("PENDING", delay=delay, fault=fault, nth=nth)
        self._ready_at.pop(key, None)
        soft = (
            settings.soft.at(draws("soft", settings.seed, national)[0], nth) if settings.soft.shares else None
        )
        written = Scripted(fault=fault) if soft is None else replace(written_out(soft), fault=fault)
        return self._write(written, endpoint, national, now, nth, delay=delay)

    def _write(
        self,
        written: Scripted,
        endpoint: Endpoint,
        national: str,
        now: float,
        nth: int,
        *,
        delay: float = 0.0,
    ) -> Reply:
        """Make the reply that is written out."""
        delay += written.delay
        if written.body is None and written.status != "OK":
            return self._failure(
                written.status,
                written.reason,
                http_status=written.http_status,
                delay=delay,
                fault=written.fault,
                retry_after=written.retry_after,
                nth=nth,
            )
        if written.body is not None:
            status, body = "BAD_GATEWAY" if written.http_status == 502 else "SCRIPTED", written.body
        else:
            status, body = self._answered(endpoint, national, written.result or {}, now)
        return Reply(
            status,
            written.http_status or 200,
            body,
            written.content_type,
            delay,
            written.fault,
            written.retry_after,
            nth,
        )

    def _answered(
        self, endpoint: Endpoint, national: str, written: Mapping[str, object], now: float
    ) -> tuple[str, bytes]:
        """Return the status and the body of an OK reply, and charge it if it holds a "yes" or a "no"."""
        result = self._result(endpoint, national, written)
        verdict = str(result["whatsapp"])
        if verdict not in ("yes", "no"):
            return verdict, _json({"status": "OK", "result": result, "request_id": self._new_id()})
        self._charge(int(national) * _sign(endpoint))
        self._invoice.charge(now + self._clock_to_wall, endpoint, yes=verdict == "yes")
        # Each endpoint's answer has its own id.
        identity = request_id(national, self.settings.seed + (endpoint == "basic"))
        return "OK", _json({"status": "OK", "result": result, "request_id": identity})

    def _start_pending(self, key: int, national: str, now: float) -> None:
        while self._ready_at and next(iter(self._ready_at.values())) <= now:
            self._ready_at.popitem(last=False)
        settings = self.settings
        if settings.queue_rate is not None:
            if pending_seconds(national, settings.seed, settings.pending, 1.0):
                self._queue_ends = max(self._queue_ends, now) + 1 / settings.queue_rate
                self._ready_at[key] = self._queue_ends
            return
        seconds = pending_seconds(national, settings.seed, settings.pending, settings.pending_for)
        if seconds:
            self._ready_at[key] = now + seconds

    def _charge(self, key: int) -> None:
        times = self._charged.get(key, 0) + 1
        self._charged[key] = times
        self._charges += 1
        self._charged_twice += times == 2

    def _fault(self, draw: float) -> Fault | Literal["bad_gateway"] | None:
        for kind in _FAULTS:
            share: float = getattr(self.settings.faults, kind)
            if draw < share:
                return kind
            draw -= share
        return None

    def _is_out(self, now: float) -> bool:
        if self.settings.outage is None or self._first_call is None:
            return False
        start, seconds = self.settings.outage
        return start <= now - self._first_call < start + seconds

    def _result(self, endpoint: Endpoint, national: str, written: Mapping[str, object]) -> dict[str, object]:
        result: dict[str, object] = {**truth(national, self.settings.seed)}
        if written.get("whatsapp", result["whatsapp"]) != result["whatsapp"]:
            result = {"number": result["number"]}  # the other fields would not fit another verdict
        if endpoint == "basic":
            result = {name: result[name] for name in ("number", "whatsapp") if name in result}
        return {**result, **written}

    def _failure(
        self,
        status: str,
        reason: str | None = None,
        *,
        http_status: int | None = None,
        delay: float = 0.0,
        fault: Fault | None = None,
        retry_after: int | None = None,
        nth: int = 0,
    ) -> Reply:
        code, usual = STATUSES.get(status, _MADE_UP)
        body = _json(
            {"status": status, "reason": usual if reason is None else reason, "request_id": self._new_id()}
        )
        return Reply(status, http_status or code, body, _JSON_TYPE, delay, fault, retry_after, nth)

    def _new_id(self) -> str:
        return f"{self._id_prefix}{next(self._id_numbers):016x}"


def _limit(settings: Settings, now: float) -> ScheduledLimit | None:
    rate = settings.rate
    if rate is None:
        return None
    window = settings.effective_window_seconds
    limiter: Limiter
    if settings.window == "token":
        limiter = TokenBucket(rate, settings.effective_burst, now)
    elif settings.window == "fixed":
        limiter = FixedWindow(rate, window, now)
    else:
        limiter = SlidingWindow(rate, window)
    return ScheduledLimit(limiter, rate, settings.rate_at)


def _latency(mean: float, draw: float) -> float:
    """Return 0.6 of the mean and an exponential tail: most are quick, a few take several times as long."""
    return mean * (0.6 - 0.4 * math.log(1 - draw)) if mean else 0.0


def _sign(endpoint: Endpoint) -> int:
    return 1 if endpoint == "advanced" else -1


_FAULTS: tuple[Fault | Literal["bad_gateway"], ...] = ("reset", "cut", "stall", "bad_gateway")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _json(value: Mapping[str, object]) -> bytes:
    return _encode(value).encode()
