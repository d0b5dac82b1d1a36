"""A reply's body, never more than 64 KiB of it: not on the wire, and not after decompression.

A megabyte of gzip has made unbounded clients reach 4 GB. We ask for ``identity``; a server that compresses
all the same is read, with the same cap on what comes out.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable

import httpx

from accucheck._http._failures import BodyOverCap

__all__ = ["MAX_BODY", "UnreadableBody", "WholeBody", "decoded", "read_whole"]

MAX_BODY = 64 * 1024
"""Bytes of a reply's body, before and after decompression. A real one has about 300."""

_MOST_ENCODINGS = 2


class UnreadableBody(ValueError):
    """A whole body came, but not one that can be decoded; the message says why."""


class WholeBody(httpx.AsyncByteStream):
    """A body that is already in memory: read ``content``; the iterator is there for httpx's own readers."""

    __slots__ = ("content",)

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


async def read_whole(response: httpx.Response) -> bytes:
    """Return the body as it came over the wire, and give the connection back.

    Raises BodyOverCap as soon as it is larger than MAX_BODY, and what the transport raises.
    """
    stream = response.stream
    if type(stream) is WholeBody:  # nothing to wait for and nothing to close: 6 µs less than the iterator
        return stream.content
    if not isinstance(stream, httpx.AsyncByteStream):
        raise httpx.RemoteProtocolError(
            "the transport answered with a body that cannot be read in async code"
        )
    body = bytearray()
    try:
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_BODY:
                raise BodyOverCap("the body is larger than 64 KiB", http_status=response.status_code)
    finally:
        await stream.aclose()
    return bytes(body)


def decoded(body: bytes, encodings: str) -> bytes:
    """Undo the Content-Encoding ``encodings`` (RFC 9110, section 8.4), at most two of them.

    Raises UnreadableBody if one is unknown, if the data is bad or ends early, or if more than MAX_BODY
    bytes come out; no more than that is ever held.
    """
    names = [name for item in encodings.split(",") if (name := item.strip().lower()) not in ("", "identity")]
    if len(names) > _MOST_ENCODINGS:
        raise UnreadableBody("the body is compressed more than twice")
    for name in reversed(names):
        decoder = _DECODERS.get(name)
        if decoder is None:
            raise UnreadableBody("the body has a content encoding that was not asked for")
        try:
            body = decoder(body)
        except zlib.error as error:
            raise UnreadableBody(f"the body is not valid {name}") from error
    return body


def _inflate(body: bytes, window_bits: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    plain = inflater.decompress(body, MAX_BODY + 1)
    if len(plain) > MAX_BODY:
        raise UnreadableBody("the body is larger than 64 KiB once decompressed")
    if not inflater.eof:
        raise UnreadableBody("the compressed body ends early")
    return plain


def _gzip(body: bytes) -> bytes:
    return _inflate(body, 16 + zlib.MAX_WBITS)


def _deflate(body: bytes) -> bytes:
    try:
        return _inflate(body, zlib.MAX_WBITS)
    except zlib.error:  # many servers leave out the zlib frame that the standard asks for
        return _inflate(body, -zlib.MAX_WBITS)


_DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": _gzip, "x-gzip": _gzip, "deflate": _deflate}
