"""Bulk-check Peru phone numbers on WhatsApp through AccuAuth: no answer lost, none bought twice.

::

    async with accucheck.Client(ledger="answers.db") as client:  # ACCUCHECK_API_ID / ACCUCHECK_API_SECRET
        check = await client.check("987 654 321")

        async with client.stream(leads, number=lambda row: row["phone"]) as outcomes:
            async for outcome in outcomes:
                match outcome:
                    case accucheck.Checked(item=row, check=check): ...
                    case accucheck.Failed(item=row, error=error): ...

The names that most programs need:

    Client          check() for one number, stream() for any number of them, check_many() for a list
    SyncClient      the same for code without an event loop; check_sync() for a single number
    Check           an answer: whatsapp, business_user, avatar, and so on
    Checked, Failed  the outcomes of a stream
    AccucheckError  the base of all errors: CheckError concerns one number, RunEnded the whole run

Modules with an extra each (in a clone of the repository: pip install '.[frames]'):

    accucheck.frames   enrich() for Polars, pandas, PyArrow and DuckDB (frames)
    accucheck.ray      check() for Ray Data (ray)
    accucheck.otel     instrument(), for OpenTelemetry (otel)
    accucheck.testing  FakeVendor and SandboxThread; its pytest fixtures are in accucheck.pytest_plugin (testing)

A ledger in PostgreSQL needs the extra postgres.

Read on: help(accucheck.Client), help(accucheck.AccucheckError), and docs/index.md in the repository.
"""

import typing

from accucheck._arguments import FreshWithin, Timeouts
from accucheck._client import Client, ClientOptions, LedgerLike, Numeric, StreamOptions
from accucheck._costs import Money, Prices
from accucheck._decide import Policy
from accucheck._errors import (
    AccucheckError,
    BudgetExhausted,
    CheckError,
    ConfigurationError,
    InternalError,
    InvalidArgument,
    InvalidNumber,
    KeyExpired,
    LedgerError,
    NoPermission,
    NotFound,
    NumberProblem,
    Outage,
    OutOfQuota,
    PendingTimeout,
    ProtocolError,
    RateLimited,
    RefusedAlike,
    RunEnded,
    StillPending,
    TransportError,
    Unauthorized,
    Undetermined,
    UniformRefusals,
    VendorUnavailable,
)
from accucheck._events import (
    CallEnded,
    CallKind,
    CircuitChanged,
    Event,
    Key,
    OnEvent,
    RunFinished,
    RunStarted,
    Settled,
)
from accucheck._gate import AdaptiveGate, Gate, Rate, UnlimitedGate
from accucheck._models import Check, Checked, Failed, Outcome, Settlement, Stats
from accucheck._phone import normalize
from accucheck._store import (
    Claims,
    Endpoint,
    EndpointChoice,
    JobCalls,
    Ledger,
    LedgerInfo,
    MemoryStore,
    Query,
    Store,
)
from accucheck._stream import Stream
from accucheck._sync import SyncClient, SyncStream, check_sync
from accucheck._wire import BodyStyle

if typing.TYPE_CHECKING:
    from accucheck._http import FastTransport

__all__ = [
    "AccucheckError",
    "AdaptiveGate",
    "BodyStyle",
    "BudgetExhausted",
    "CallEnded",
    "CallKind",
    "Check",
    "CheckError",
    "Checked",
    "CircuitChanged",
    "Claims",
    "Client",
    "ClientOptions",
    "ConfigurationError",
    "Endpoint",
    "EndpointChoice",
    "Event",
    "Failed",
    "FastTransport",
    "FreshWithin",
    "Gate",
    "InternalError",
    "InvalidArgument",
    "InvalidNumber",
    "JobCalls",
    "Key",
    "KeyExpired",
    "Ledger",
    "LedgerError",
    "LedgerInfo",
    "LedgerLike",
    "MemoryStore",
    "Money",
    "NoPermission",
    "NotFound",
    "NumberProblem",
    "Numeric",
    "OnEvent",
    "OutOfQuota",
    "Outage",
    "Outcome",
    "PendingTimeout",
    "Policy",
    "Prices",
    "ProtocolError",
    "Query",
    "Rate",
    "RateLimited",
    "RefusedAlike",
    "RunEnded",
    "RunFinished",
    "RunStarted",
    "Settled",
    "Settlement",
    "Stats",
    "StillPending",
    "Store",
    "Stream",
    "StreamOptions",
    "SyncClient",
    "SyncStream",
    "Timeouts",
    "TransportError",
    "Unauthorized",
    "Undetermined",
    "UniformRefusals",
    "UnlimitedGate",
    "VendorUnavailable",
    "check_sync",
    "normalize",
]

__version__ = "0.1.0"


_ELSEWHERE = {
    **{name: f"Client().{name}" for name in ("check", "check_many", "stream")},
    **{name: f"frames.{name}" for name in ("enrich", "enrich_async")},
    **{name: f"otel.{name}" for name in ("instrument", "uninstrument")},
    **{name: f"testing.{name}" for name in ("FakeVendor", "SandboxThread", "Scripted", "Settings")},
}
"""Names that people look for here, and where they are."""


def __getattr__(name: str) -> typing.Any:
    if name in ("frames", "otel", "testing"):  # modules with an extra of theirs, imported on first use
        import importlib

        return importlib.import_module(f"accucheck.{name}")
    if name == "FastTransport":  # only then, because httpx would take a quarter of accucheck's import time
        from accucheck._http import FastTransport

        return FastTransport
    if name in _ELSEWHERE:
        raise AttributeError(f"accucheck has no {name!r}: use accucheck.{_ELSEWHERE[name]}")
    raise AttributeError(f"module 'accucheck' has no attribute {name!r}")
