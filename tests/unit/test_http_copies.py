"""Requests and responses that are copies of httpx's own: nobody must be able to tell the difference."""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest

from accucheck._http._body import WholeBody
from accucheck._http._parsers import RawReply
from accucheck._http._request import RequestMaker
from accucheck._http._response import whole_response

URL = "http://127.0.0.1:9/check/whatsapp_advanced"
HEADERS = [(b"Content-Type", b"application/json"), (b"Retry-After", b"7"), (b"X-Two", b"1"), (b"x-two", b"2")]


def maker(*, shared: bool) -> RequestMaker:
    return RequestMaker(
        URL, {"X-DF-API-ID": "me"}, "form", shared=shared, extensions={"timeout": {"read": 1.0}}
    )


def attributes(thing: object) -> dict[str, Any]:
    return {
        name: dict(value) if isinstance(value, httpx.Headers) else value
        for name, value in vars(thing).items()
        if name != "stream"
    }


async def body_of(stream: Any) -> bytes:
    return b"".join([part async for part in stream])


@pytest.mark.parametrize("shared", [True, False])
async def test_a_request_is_what_httpx_would_have_built(shared: bool) -> None:
    made = maker(shared=shared).make(b"number=987654321")
    built = httpx.Request(
        "POST",
        URL,
        headers=dict(made.headers),
        stream=WholeBody(b"number=987654321"),
        extensions={"timeout": {"read": 1.0}},
    )
    assert type(made) is httpx.Request
    assert attributes(made) == attributes(built)
    assert await body_of(made.stream) == b"number=987654321"
    assert made.headers["content-length"] == "16"
    assert made.headers["host"] == "127.0.0.1:9"
    assert repr(made) == repr(built)


def test_a_request_for_a_transport_of_somebodys_own_can_be_changed_without_harm() -> None:
    requests = maker(shared=False)
    first = requests.make(b"number=987654321")
    first.headers["traceparent"] = "1"
    first.extensions["trace"] = "1"
    second = requests.make(b"number=987654322")
    assert "traceparent" not in second.headers
    assert "trace" not in second.extensions


async def test_a_response_is_what_httpx_would_have_built() -> None:
    made = whole_response(RawReply(503, list(HEADERS), b"{}", reusable=True))
    built = httpx.Response(503, headers=HEADERS, stream=WholeBody(b"{}"))
    assert made.headers.raw == built.headers.raw
    assert made.headers == built.headers
    assert made.headers.multi_items() == built.headers.multi_items()
    assert attributes(made) == attributes(built)
    assert await made.aread() == b"{}"
    assert made.text == "{}"
    assert repr(made) == repr(built)


def test_the_headers_of_a_response_can_be_changed_copied_and_compared() -> None:
    headers = whole_response(RawReply(200, list(HEADERS), b"", reusable=True)).headers
    assert copy.copy(headers) == httpx.Headers(HEADERS)
    headers["retry-after"] = "8"
    assert (b"retry-after", b"8") in headers.raw
    with pytest.raises(AttributeError):
        _ = headers.no_such_thing  # type: ignore[attr-defined]


def test_responses_share_nothing_that_can_be_changed() -> None:
    first, second = (whole_response(RawReply(200, [], b"", reusable=True)) for _ in range(2))
    first.extensions["a"] = 1
    first.history.append(second)
    assert second.extensions == {}
    assert second.history == []
