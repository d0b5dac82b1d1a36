"""The parser: however the bytes are split, the same replies, and only transport errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck._http._reply import ReplyParser

bodies = st.binary(max_size=200)


@st.composite
def replies(draw: st.DrawFn) -> tuple[bytes, int, bytes, bool]:
    """(bytes on the wire, status, body, whether the end of the connection ends it)."""
    status = draw(st.sampled_from([200, 400, 401, 403, 404, 429, 500, 502]))
    body = draw(bodies)
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    head = interim + b"HTTP/1.1 %d Whatever\r\nServer: x\r\n" % status
    match draw(st.sampled_from(["length", "chunked", "until the end"])):
        case "length":
            return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, status, body, False
        case "chunked":
            size = draw(st.integers(1, 50))
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            coded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
            return head + b"Transfer-Encoding: chunked\r\n\r\n" + coded, status, body, False
        case _:
            return head + b"\r\n" + body, status, body, True


def in_pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        if not data:
            break
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data] if data else pieces


def take(parser: ReplyParser, pieces: list[bytes], ends: bool) -> None:
    parser.begin()
    for piece in pieces[:-1]:
        assert not parser.feed(piece)
    assert parser.feed(pieces[-1]) is not ends
    if ends:
        parser.feed_eof()
    assert parser.is_complete


def feed_all(parser: ReplyParser, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        parser.feed(piece)


@given(sent=replies(), then=replies(), sizes=st.lists(st.integers(1, 60)))
@settings(deadline=None)
def test_a_reply_is_the_same_however_its_bytes_are_split(sent: Any, then: Any, sizes: list[int]) -> None:
    parser = ReplyParser()
    for wire, status, body, ends in (sent, then):
        take(parser, in_pieces(wire, sizes), ends)
        assert (parser.status, parser.take_body(), parser.is_reusable) == (status, body, not ends)
        assert (b"server", b"x") in [(name.lower(), value) for name, value in parser.headers]
        assert (parser.reason, parser.http_version) == (b"Whatever", "1.1")
        if ends:
            break


@given(sent=replies(), cut=st.integers(1, 300))
@settings(deadline=None)
def test_a_truncated_reply_is_never_taken_for_complete(sent: Any, cut: int) -> None:
    wire, _, _, ends = sent
    if ends:
        return
    parser = ReplyParser()
    parser.begin()
    part = wire[: max(0, len(wire) - cut)]
    if part:
        assert not parser.feed(part)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        parser.feed_eof()


@given(
    noise=st.lists(st.binary(min_size=1, max_size=100), min_size=1), wire=replies(), at=st.integers(0, 300)
)
@settings(deadline=None)
def test_noise_raises_nothing_but_a_transport_error(noise: list[bytes], wire: Any, at: int) -> None:
    parser = ReplyParser()
    parser.begin()
    try:
        for piece in [wire[0][:at], *noise, wire[0][at:]]:
            if piece and parser.feed(piece):
                return
        parser.feed_eof()
    except httpx.TransportError:
        pass


def test_an_end_before_the_first_byte_is_not_a_reply() -> None:
    parser = ReplyParser()
    parser.begin()
    with pytest.raises(httpx.ReadError):
        parser.feed_eof()


@pytest.mark.parametrize("size", [1000, 300_000])
def test_a_head_over_its_cap_is_refused_in_one_piece_or_many(size: int) -> None:
    filler = b"".join(b"X-%d: %s\r\n" % (n, b"x" * 100) for n in range(400))
    wire = b"HTTP/1.1 200 OK\r\n" + filler + b"Content-Length: 2\r\n\r\nhi"
    parser = ReplyParser()
    parser.begin()
    with pytest.raises(httpx.RemoteProtocolError):
        feed_all(parser, (wire[at : at + size] for at in range(0, len(wire), size)))


def test_trailers_without_end_are_refused() -> None:
    parser = ReplyParser()
    parser.begin()
    assert not parser.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n")
    with pytest.raises(httpx.RemoteProtocolError):
        feed_all(parser, (b"X-Trailer-%d: %s\r\n" % (n, b"x" * 100) for n in range(20_000)))


def test_the_headers_of_an_interim_reply_are_not_the_replys() -> None:
    parser = ReplyParser()
    parser.begin()
    assert parser.feed(
        b"HTTP/1.1 103 Early\r\nRetry-After: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    assert [name.lower() for name, _ in parser.headers] == [b"content-length"]
    assert parser.reason == b"OK"


HEAD_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


@given(sizes=st.lists(st.integers(1, 20)))
def test_a_reply_to_head_has_no_body_and_the_next_reply_has_its_own(sizes: list[int]) -> None:
    parser = ReplyParser()
    for _ in range(2):
        parser.begin(head_only=True)
        feed_all(parser, in_pieces(HEAD_REPLY, sizes))
        assert (parser.is_complete, parser.is_reusable, parser.take_body()) == (True, True, b"")
    parser.begin()
    feed_all(parser, in_pieces(HEAD_REPLY + b"hello", sizes))
    assert (parser.is_complete, parser.take_body()) == (True, b"hello")


@pytest.mark.parametrize("surplus", [b"hello", b"h", b"5\r\nhello\r\n0\r\n\r\n", HEAD_REPLY])
@pytest.mark.parametrize(
    "head", [HEAD_REPLY, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], ids=["length", "chunked"]
)
def test_a_body_in_reply_to_head_ends_the_connection(head: bytes, surplus: bytes) -> None:
    parser = ReplyParser()
    parser.begin(head_only=True)
    assert parser.feed(head + surplus)
    assert not parser.is_reusable


def test_a_body_without_cap_is_taken_in_parts() -> None:
    parser = ReplyParser()
    parser.begin(cap=None)
    assert not parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n")
    for _ in range(29):
        assert not parser.feed(bytes(100_000))
        assert (parser.body_size, len(parser.take_body())) == (100_000, 100_000)
    assert parser.feed(bytes(100_000))
    assert len(parser.take_body()) == 100_000
