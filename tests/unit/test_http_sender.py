"""The sender over transports that people bring, and what it never shows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from accucheck import Timeouts
from accucheck._errors import ConfigurationError
from accucheck._http import Sender
from accucheck._wire import Answered, Broken, Malformed, StatusReply

HEADERS = {"X-DF-API-ID": "the-api-id", "X-DF-API-SECRET": "the-api-secret"}
URL = "https://vendor.test/check/whatsapp_advanced"


def sender_over(handler: Any, **arguments: Any) -> Sender:
    return Sender(url=URL, headers=HEADERS, transport=httpx.MockTransport(handler), **arguments)


def good(request: httpx.Request) -> httpx.Response:
    result = {"number": "+51987654321", "whatsapp": "no"}
    return httpx.Response(200, json={"status": "OK", "result": result, "request_id": "T"})


async def test_a_mock_transport_is_asked_once_with_the_whole_request() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return good(request)

    outcome = await sender_over(handler)("987654321")
    assert isinstance(outcome, Answered)
    assert outcome.check.whatsapp is False
    [request] = seen
    assert (request.method, str(request.url), request.content) == ("POST", URL, b"number=987654321")
    assert request.headers["host"] == "vendor.test"
    assert request.headers["content-length"] == "16"
    assert request.headers["x-df-api-id"] == "the-api-id"
    assert request.extensions["timeout"]["read"] == 30.0


async def test_headers_that_a_transport_adds_stay_with_their_request() -> None:
    traces: list[list[str]] = []

    def tracing(request: httpx.Request) -> httpx.Response:
        request.headers["traceparent"] = str(len(traces))
        traces.append(request.headers.get_list("traceparent"))
        return good(request)

    sender = sender_over(tracing)
    await sender("987654321")
    await sender("987654321")
    assert traces == [["0"], ["1"]]


@pytest.mark.parametrize(
    ("error", "sent"),
    [(httpx.ConnectError("no route"), False), (httpx.ReadTimeout("slow"), True), (KeyError("bug"), True)],
)
async def test_whatever_a_transport_raises_is_a_value(error: Exception, sent: bool) -> None:
    def failing(request: httpx.Request) -> httpx.Response:
        raise error

    outcome = await sender_over(failing)("987654321")
    assert isinstance(outcome, Broken)
    assert outcome.sent is sent


async def test_cancellation_is_no_value() -> None:
    async def hanging(request: httpx.Request) -> httpx.Response:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    started = asyncio.Event()
    call = asyncio.create_task(sender_over(hanging)("987654321"))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_transport_that_hangs_is_ended_by_the_attempts_timeout() -> None:
    async def hanging(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    outcome = await sender_over(hanging, timeouts=Timeouts(attempt=0.01))("987654321")
    assert isinstance(outcome, Broken)
    assert (outcome.phase, outcome.sent) == ("timeout", True)


class Endless(httpx.AsyncByteStream):
    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1000

    async def aclose(self) -> None:
        self.closed = True


async def test_an_endless_body_is_given_up_and_closed() -> None:
    stream = Endless()
    outcome = await sender_over(lambda _: httpx.Response(200, stream=stream))("987654321")
    assert isinstance(outcome, Malformed)
    assert stream.closed


async def test_no_credential_is_in_a_repr_a_log_or_a_reply(caplog: pytest.LogCaptureFixture) -> None:
    """Not even where a server's error page or a transport's error repeats them."""

    def telling(request: httpx.Request) -> httpx.Response:
        shown.append(repr(request) + repr(request.headers) + str(request.headers))
        if len(shown) == 1:
            return httpx.Response(200, text=f"you sent {dict(request.headers)}")
        if len(shown) == 2:
            body = {"status": "INVALID_ARGUMENT", "reason": "bad id the-api-id / the-api-secret"}
            return httpx.Response(400, json=body)
        raise httpx.LocalProtocolError("illegal header value b'the-api-secret'")

    shown: list[str] = []
    caplog.set_level(logging.DEBUG)
    sender = sender_over(telling)
    outcomes = [await sender("987654321") for _ in range(3)]
    assert [type(outcome) for outcome in outcomes] == [Malformed, StatusReply, Broken]
    everything = repr(sender) + repr(outcomes) + "".join(shown) + caplog.text
    assert "the-api-secret" not in everything
    assert "the-api-id" not in everything


@pytest.mark.parametrize("value", ["", "two\r\nlines", "naïve", " padded", "tab\x00"])
def test_a_credential_that_cannot_be_a_header_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match="X-DF-API-SECRET") as caught:
        Sender(url=URL, headers={"X-DF-API-SECRET": value}, transport=httpx.MockTransport(good))
    assert not value or value not in str(caught.value)


@pytest.mark.parametrize("arguments", [{"proxy": "http://127.0.0.1:1"}, {"connections": 0}])
def test_arguments_that_contradict_each_other_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        sender_over(good, **arguments)


async def test_no_more_calls_than_connections_are_under_way() -> None:
    under_way = most = 0

    async def counting(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return good(request)

    sender = sender_over(counting, connections=3)
    await asyncio.gather(*(sender("987654321") for _ in range(20)))
    assert most == 3


def test_a_sender_works_on_one_event_loop_only() -> None:
    sender = sender_over(good)

    async def call() -> object:
        return await sender("987654321")

    assert isinstance(asyncio.run(call()), Answered)
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(call())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(sender.aclose())


async def test_a_given_transport_is_entered_and_closed_with_the_sender() -> None:
    class Recording(httpx.MockTransport):
        async def __aenter__(self) -> Any:
            events.append("entered")
            return self

        async def __aexit__(self, *_: object) -> None:
            events.append("left")

    events: list[str] = []
    async with Sender(url=URL, headers=HEADERS, transport=Recording(good)) as sender:
        await sender("987654321")
    assert events == ["entered", "left"]


async def test_our_own_transport_carries_our_own_requests_only() -> None:
    sender = Sender(url="http://127.0.0.1:1/", headers=HEADERS)
    with pytest.raises(httpx.UnsupportedProtocol):
        await sender._transport.handle_async_request(httpx.Request("GET", "http://127.0.0.1:1/"))


async def test_shared_headers_cannot_be_changed() -> None:
    sender = Sender(url="http://127.0.0.1:1/", headers=HEADERS)
    request = sender._requests.make(b"number=987654321")
    with pytest.raises(TypeError, match="shared"):
        request.headers["traceparent"] = "1"
    assert sender._requests.make(b"number=987654322").headers is request.headers
