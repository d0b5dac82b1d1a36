"""accucheck serve: it keeps the vendor's contract towards callers, whatever happens behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any, Self

import httpx
import pytest

import accucheck
from accucheck._models import Stats
from accucheck.serve import make_app

KEY = {"X-DF-API-ID": "team", "X-DF-API-SECRET": "own secret"}
PATH = "/check/whatsapp_advanced"
WHEN = datetime(2026, 11, 26, tzinfo=UTC)


class Scripted:
    """A client whose answers are set by number; None waits until ``go`` is set."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.open = False

    async def __aenter__(self) -> Self:
        self.open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open = False

    async def check(self, number: str) -> accucheck.Check:
        self.asked.append(number)
        answer = self.answers.get(f"n{number}")
        if answer is None:
            await self.go.wait()
            answer = accucheck.Check(number="+51" + number, whatsapp=True, checked_at=WHEN)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    @property
    def stats(self) -> Stats:
        return Stats(calls=len(self.asked), rate=12.5)


@asynccontextmanager
async def serving(client: Scripted, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(lambda: client, key=("team", "own secret"), **options)
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://serve", headers=KEY) as caller,
    ):
        yield caller


async def test_an_answer_has_the_fields_of_the_vendor() -> None:
    check = accucheck.Check(
        number="+51987654321",
        whatsapp=True,
        status_update=date(2023, 12, 12),
        signature="Hello world",
        business_user=False,
        avatar=None,
        request_id="TID1",
        checked_at=WHEN,
        extra={"more": 1},
    )
    async with serving(Scripted(n987654321=check)) as caller:
        for request in (
            {"data": {"number": "987654321"}},
            {"json": {"number": "987654321"}},
            {"json": {"number": 987654321}},
        ):
            reply = await caller.post(PATH, **request)  # type: ignore[arg-type]
            assert reply.status_code == 200
            assert reply.json() == {
                "status": "OK",
                "request_id": "TID1",
                "result": {
                    "number": "+51987654321",
                    "whatsapp": "yes",
                    "status_update": "20231212",
                    "signature": "Hello world",
                    "business_user": "no",
                    "avatar": "",
                    "more": 1,
                },
            }


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (accucheck.InvalidNumber("too short", problem="too_short"), 400, "INVALID_ARGUMENT"),
        (accucheck.InvalidArgument("no"), 400, "INVALID_ARGUMENT"),
        (accucheck.PendingTimeout("still"), 400, "PENDING"),
        (accucheck.RateLimited("slow"), 429, "RATE_LIMIT_EXCEEDED"),
        (accucheck.OutOfQuota("empty"), 403, "OUT_OF_QUOTA"),
        (accucheck.BudgetExhausted("cap"), 403, "OUT_OF_QUOTA"),
        (accucheck.Unauthorized("the server's credentials"), 500, "INTERNAL_ERROR"),
        (accucheck.KeyExpired("the server's key"), 500, "INTERNAL_ERROR"),
        (accucheck.TransportError("down"), 500, "INTERNAL_ERROR"),
        (accucheck.VendorUnavailable("the circuit is open"), 503, "INTERNAL_ERROR"),
        (accucheck.LedgerError("disk full"), 500, "INTERNAL_ERROR"),
    ],
)
async def test_every_error_becomes_a_status_of_the_vendor(error: Exception, code: int, status: str) -> None:
    async with serving(Scripted(n987654321=error)) as caller:
        reply = await caller.post(PATH, data={"number": "987654321"})
        assert (reply.status_code, reply.json()["status"]) == (code, status)
        assert reply.json()["reason"]
        assert ("retry-after" in reply.headers) == (code in (429, 503))


@pytest.mark.parametrize(
    "request_",
    [
        {"data": {}},
        {"json": []},
        {"json": {"number": True}},
        {"json": {"number": ""}},
        {"content": b"\xff" * 99},
    ],
)
async def test_a_body_without_a_number_is_refused_in_the_vendors_words(request_: Any) -> None:
    client = Scripted()
    async with serving(client) as caller:
        reply = await caller.post(PATH, **request_)
        assert reply.status_code == 400
        assert reply.json()["reason"] == "argument 'number': not found"
    assert not client.asked


async def test_a_body_that_never_ends_is_refused() -> None:
    async with serving(Scripted()) as caller:
        reply = await caller.post(PATH, content=b"number=9" * 9999)
        assert reply.status_code == 400


@pytest.mark.parametrize("headers", [{"X-DF-API-SECRET": "wrong"}, {"X-DF-API-ID": "tëam".encode()}])
async def test_a_wrong_key_makes_no_call(headers: Any) -> None:
    client = Scripted()
    async with serving(client) as caller:
        reply = await caller.post(PATH, data={"number": "987654321"}, headers=headers)
        assert (reply.status_code, reply.json()["status"]) == (401, "UNAUTHORIZED")
    assert not client.asked


async def test_a_slow_answer_is_pending_and_collected_by_the_next_request() -> None:
    client = Scripted()
    async with serving(client, wait=0) as caller:
        reply = await caller.post(PATH, data={"number": "987654321"})
        assert (reply.status_code, reply.json()["status"]) == (400, "PENDING")
        reply = await caller.post(PATH, data={"number": "987654321"})
        assert reply.json()["status"] == "PENDING"
        assert client.asked == ["987654321"]
        client.go.set()
    assert client.asked == ["987654321"]


async def test_a_full_queue_says_when_to_come_back() -> None:
    client = Scripted()
    async with serving(client, wait=0, queue=2) as caller:
        codes = [(await caller.post(PATH, data={"number": f"98765432{n}"})).status_code for n in range(4)]
        assert codes == [400, 400, 429, 429]
        client.go.set()


async def test_a_caller_that_gives_up_does_not_cut_off_its_call() -> None:
    client = Scripted()
    async with serving(client) as caller:
        asking = asyncio.create_task(caller.post(PATH, data={"number": "987654321"}))
        while not client.asked:
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        client.go.set()
        reply = await caller.post(PATH, data={"number": "987654321"})
        assert reply.json()["status"] == "OK"
    assert client.asked == ["987654321"]


async def test_shutting_down_lets_checks_settle_before_the_client_closes() -> None:
    client = Scripted()
    app = make_app(lambda: client, key=("team", "own secret"), wait=0)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://serve", headers=KEY
    ) as caller:
        context = app.router.lifespan_context(app)
        await context.__aenter__()
        await caller.post(PATH, data={"number": "987654321"})
        leaving = asyncio.ensure_future(context.__aexit__(None, None, None))
        await asyncio.sleep(0)
        assert client.open
        refused = await caller.post(PATH, data={"number": "987654322"})
        assert refused.status_code == 503
        assert (await caller.get("/healthz")).status_code == 503
        client.go.set()
        await leaving
        assert not client.open


async def test_health_follows_the_account() -> None:
    client = Scripted(n987654321=accucheck.OutOfQuota("top it up"))
    client.go.set()
    async with serving(client) as caller:
        assert (await caller.get("/healthz")).text == "ok\n"
        await caller.post(PATH, data={"number": "987654321"})
        unhealthy = await caller.get("/healthz")
        assert (unhealthy.status_code, unhealthy.text) == (503, "OUT_OF_QUOTA: top it up\n")
        await caller.post(PATH, data={"number": "987654322"})
        assert (await caller.get("/healthz")).status_code == 200


async def test_large_counts_are_exact_in_metrics() -> None:
    class Busy(Scripted):
        @property
        def stats(self) -> Stats:
            return Stats(calls=123_456_789)

    async with serving(Busy()) as caller:
        assert "accucheck_calls_total 123456789" in (await caller.get("/metrics")).text.splitlines()


async def test_metrics_are_prometheus_text() -> None:
    client = Scripted()
    client.go.set()
    async with serving(client) as caller:
        await caller.post(PATH, data={"number": "987654321"})
        reply = await caller.get("/metrics")
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert 'accucheck_replies_total{status="OK"} 1' in reply.text.splitlines()
        assert "accucheck_calls_total 1" in reply.text.splitlines()
        assert "accucheck_rate 12.5" in reply.text.splitlines()
        assert "987654321" not in reply.text


async def test_the_description_names_the_endpoint_offered() -> None:
    async with serving(Scripted(), endpoint="basic") as caller:
        described = (await caller.get("/openapi.json")).json()
        assert list(described["paths"]) == ["/check/whatsapp_basic"]
        assert (await caller.post(PATH, data={"number": "987654321"})).json()["status"] == "NOT_FOUND"
        assert "/check/whatsapp_basic" in (await caller.get("/")).text


@pytest.mark.parametrize("options", [{"key": ("", "x")}, {"queue": 0}, {"wait": -1}, {"wait": float("inf")}])
def test_wrong_settings_are_refused(options: Any) -> None:
    with pytest.raises(accucheck.ConfigurationError):
        make_app(Scripted, **({"key": ("a", "b")} | options))


async def test_every_refusal_has_its_own_id() -> None:
    async with serving(Scripted()) as caller:
        ids = {(await caller.post(PATH)).json()["request_id"] for _ in range(5)}
        assert len(ids) == 5
        assert "" not in ids


@pytest.mark.parametrize("path", [PATH, "/check/whatsapp_other"])
async def test_unknown_paths_are_refused_in_the_vendors_format(path: str) -> None:
    async with serving(Scripted()) as caller:
        reply = await caller.get(path)
        assert (reply.status_code, reply.json()["status"]) == (404, "NOT_FOUND")


async def test_an_internal_error_is_a_reply_in_the_vendors_format(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(lambda: Scripted(n987654321=ZeroDivisionError("oops")), key=("team", "own secret"))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://serve", headers=KEY) as caller,
    ):
        reply = await caller.post(PATH, data={"number": "987654321"})
    assert (reply.status_code, reply.json()["status"]) == (500, "INTERNAL_ERROR")
    assert "oops" not in reply.text
    assert "please report it" in caplog.text


async def test_an_account_error_does_not_block_checks_forever() -> None:
    """While /healthz fails, a load balancer sends no requests, so no request could show that the problem is over."""
    seconds = 0.0
    async with serving(
        Scripted(n987654321=accucheck.OutOfQuota("top it up")), clock=lambda: seconds
    ) as caller:
        await caller.post(PATH, data={"number": "987654321"})
        assert (await caller.get("/healthz")).status_code == 503
        seconds = 61.0
        assert (await caller.get("/healthz")).status_code == 200


async def test_a_number_that_stays_pending_does_not_hold_the_server_back() -> None:
    client = Scripted()
    async with serving(client, wait=0, grace=0) as caller:
        reply = await caller.post(PATH, data={"number": "987654321"})
        assert reply.json()["status"] == "PENDING"
    assert not client.open


@pytest.mark.parametrize("endpoint", ["advanced", "basic"])
async def test_the_page_loads_nothing_from_elsewhere(endpoint: str) -> None:
    async with serving(Scripted(), endpoint=endpoint) as caller:
        page = (await caller.get("/")).text
        assert "<script" not in page
        assert "src=" not in page
        assert [part.partition('"')[0] for part in page.split('href="')[1:]] == [
            "openapi.json",
            "metrics",
            "healthz",
        ]
        assert ("signature" in page) == (endpoint == "advanced")
        described = (await caller.get("/openapi.json")).json()
        assert set(described["components"]["securitySchemes"]) == {"id", "secret"}
