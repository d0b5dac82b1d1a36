"""The sender with custom transports, and what it never shows."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import pickle
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trustme

from accucheck import FastTransport, Timeouts
from accucheck._errors import ConfigurationError
from accucheck._http import Sender
from accucheck._http._dial import tls_context
from accucheck._http._reply import TooManyOpenFiles
from accucheck._wire import Answered, Broken, Malformed, StatusReply, was_not_sent
from tests.virtual_time import VIRTUAL_TIME

HEADERS = {"X-DF-API-ID": "the-api-id", "X-DF-API-SECRET": "the-api-secret"}
URL = "https://vendor.test/check/whatsapp_advanced"


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    return context


def sender_over(handler: Any, **arguments: Any) -> Sender:
    return Sender(url=URL, headers=HEADERS, transport=httpx.MockTransport(handler), **arguments)


def good(request: httpx.Request) -> httpx.Response:
    result = {"number": "+51987654321", "whatsapp": "no"}
    return httpx.Response(200, json={"status": "OK", "result": result, "request_id": "T"})


async def test_a_mock_transport_gets_the_complete_request_once() -> None:
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
    ("error", "sent"), [(httpx.ConnectError("no route"), False), (httpx.ReadTimeout("slow"), True)]
)
async def test_a_transport_error_is_a_value(error: Exception, sent: bool) -> None:
    def failing(request: httpx.Request) -> httpx.Response:
        raise error

    outcome = await sender_over(failing)("987654321")
    assert isinstance(outcome, Broken)
    assert outcome.sent is sent


@pytest.mark.parametrize(
    "error", [AssertionError("number was 1"), KeyError("bug"), TimeoutError(), OSError(24, "x")]
)
@pytest.mark.parametrize("timeouts", [None, Timeouts()])
async def test_anything_else_that_a_transport_raises_propagates_as_it_is(
    error: Exception, timeouts: Timeouts | None
) -> None:
    def failing(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(type(error)) as caught:
        await sender_over(failing)("987654321", timeouts)
    assert caught.value is error


async def test_a_request_is_complete_and_its_own() -> None:
    """What respx, MockTransport and recording transports look at, and what they may change."""
    seen: list[httpx.Request] = []

    def recording(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        assert request.read() == request.content
        request.headers["traceparent"] = "1"
        request.extensions["trace"] = "1"
        return good(request)

    sender = sender_over(recording, body="json")
    await sender("987654321")
    await sender("987654321")
    first, second = seen
    assert first.content == b'{"number":"987654321"}'
    assert await first.aread() == first.content
    assert b"".join([part async for part in first.stream]) == first.content  # type: ignore[union-attr]
    assert first.headers["content-length"] == str(len(first.content))
    assert first.headers is not second.headers
    assert first.extensions is not second.extensions
    assert pickle.loads(pickle.dumps(first)).content == first.content


async def test_cancellation_is_not_a_value() -> None:
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


@pytest.mark.parametrize("waits_for", ["a slot", "a descriptor", "the reply"])
async def test_a_cancelled_call_says_whether_it_was_sent(waits_for: str) -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        if waits_for == "a descriptor":
            raise out_of_files()
        await asyncio.sleep(3600)
        return good(request)

    sender = sender_over(handler, connections=1)
    calls = [asyncio.create_task(sender("987654321")) for _ in range(2 if waits_for == "a slot" else 1)]
    for _ in range(5):
        await asyncio.sleep(0)
    calls[-1].cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await calls[-1]
    assert was_not_sent(raised.value) is (waits_for != "the reply")
    calls[0].cancel()
    await asyncio.wait(calls)


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
    """Not even if a server's error page or a transport's error repeats them."""

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


def test_arguments_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        sender_over(good, proxy="http://127.0.0.1:1")


async def test_no_more_calls_than_connections_are_in_flight() -> None:
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


def out_of_files() -> httpx.ConnectError:
    return TooManyOpenFiles("vendor.test:443: Too many open files (EMFILE)")


async def test_a_call_without_a_file_descriptor_waits_for_the_others_and_is_not_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    under_way = most = refused = 0

    async def few(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most, refused
        if under_way >= 3:
            refused += 1
            raise out_of_files()
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return good(request)

    sender = sender_over(few, connections=50)
    outcomes = await asyncio.gather(*(sender("987654321") for _ in range(200)))
    assert all(isinstance(outcome, Answered) for outcome in outcomes)
    assert most == 3
    assert 0 < refused < 60  # each waits for a slot; it does not try again and again
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "ulimit -n" in record.getMessage()


@pytest.mark.parametrize("anyio_backend", [VIRTUAL_TIME])
async def test_if_no_connection_can_be_opened_the_error_comes_after_the_connect_timeout() -> None:
    async def none(request: httpx.Request) -> httpx.Response:
        raise out_of_files()

    sender = sender_over(none, timeouts=Timeouts(connect=10))
    loop = asyncio.get_running_loop()
    began = loop.time()
    calls = [asyncio.create_task(sender("987654321")) for _ in range(5)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
    assert 10 <= loop.time() - began < 11
    for call in calls:
        with pytest.raises(ConfigurationError, match="no connection can be opened"):
            await call


@pytest.mark.parametrize("anyio_backend", [VIRTUAL_TIME])
async def test_a_shortage_that_ends_in_time_is_not_a_failure() -> None:
    async def soon(request: httpx.Request) -> httpx.Response:
        if asyncio.get_running_loop().time() - began < 8:
            raise out_of_files()
        return good(request)

    sender = sender_over(soon)
    for _ in range(2):
        began = asyncio.get_running_loop().time()
        assert isinstance(await sender("987654321"), Answered)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"proxy": "nonsense"}, "The proxy from proxy= cannot be used"),
        ({"proxy": 5}, "The proxy from proxy= cannot be used"),
        ({"proxy": "socks://127.0.0.1:1080"}, "The proxy from proxy= cannot be used"),
        ({"verify": False}, "verify=False is not supported"),
        ({"verify": None}, "verify must be True"),
        ({"verify": 5}, "verify must be True"),
        ({"verify": "/nowhere/ca.pem"}, "cannot be read: No such file"),
        ({"verify": __file__}, "is not a file of CA certificates"),
        ({"verify": pathlib.Path(__file__).parent}, "contains no certificates"),
        ({"verify": unverified()}, "does not verify"),
        (
            {"transport": httpx.HTTPTransport(verify=unverified())},
            "transport must be an httpx.AsyncBaseTransport",
        ),
        ({"transport": 5}, "transport must be an httpx.AsyncBaseTransport"),
    ],
)
@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:1/"])
def test_wrong_arguments_are_refused_at_once(url: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Sender(url=url, headers=HEADERS, **arguments)


def test_certificates_are_given_as_httpx_takes_them(tmp_path: pathlib.Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    for verify in (True, path, str(path), ssl.create_default_context()):
        Sender(url=URL, headers=HEADERS, verify=verify)
        FastTransport(verify=verify)
    context = tls_context(path)
    assert context is not None
    assert context.cert_store_stats()["x509_ca"] == 1
    assert context.check_hostname
    (tmp_path / "0a1b2c3d.0").write_bytes(path.read_bytes())
    assert tls_context(tmp_path) is not None


async def test_after_closing_nothing_is_sent() -> None:
    sender = sender_over(good)
    await sender.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await sender("987654321")
    with pytest.raises(RuntimeError, match="closed"):
        sender.bind()
    await sender.aclose()
