"""How calls end when servers misbehave, the same for every way of sending."""

from __future__ import annotations

import asyncio
import os
import socket
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from accucheck import Timeouts
from accucheck._http import Sender
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply
from tests.integration import arrangements
from tests.integration.arrangements import ARRANGEMENTS, LOOPS, backend
from tests.integration.scripted_server import Peer, ScriptedServer, answer, answers_all, eventually, reply

MakeSender = Callable[..., Sender]


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


@pytest.fixture(params=ARRANGEMENTS)
def arrangement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_sender(arrangement: str) -> MakeSender:
    def make(server: ScriptedServer, **arguments: Any) -> Sender:
        return arrangements.make_sender(arrangement, server.url, **arguments)

    return make


@pytest.fixture
def ours_only(arrangement: str) -> None:
    if arrangement == "stock":
        pytest.skip("h11's leftovers are httpcore's own affair")


def is_answer(outcome: Reply, number: str) -> bool:
    return isinstance(outcome, Answered) and outcome.check.number == f"+51{number}"


def once(*pieces: bytes, then_close: bool = True) -> Callable[[Peer], Any]:
    """A server that answers its first connection with these bytes, and all others properly."""

    async def script(peer: Peer) -> None:
        if peer.index:
            await answers_all(peer)
            return
        await peer.asked()
        await peer.send(*pieces)
        if not then_close:
            await peer.until_gone()

    return script


async def test_calls_one_after_the_other_share_a_connection(make_sender: MakeSender) -> None:
    async with ScriptedServer(answers_all) as server, make_sender(server) as sender:
        for number in ("987654321", "987654322", "14567890"):
            assert is_answer(await sender(number), number)
        assert server.connections == 1
        line, headers, _ = server.requests[0]
        assert line == "POST /check HTTP/1.1"
        assert headers["host"] == f"127.0.0.1:{server.port}"
        assert headers["accept-encoding"] == "identity"
        assert headers["x-df-api-secret"] == "the-api-secret"
        assert headers["content-type"] == "application/x-www-form-urlencoded"


async def test_calls_at_once_have_a_connection_each_and_no_more_than_allowed(make_sender: MakeSender) -> None:
    async with ScriptedServer(answers_all) as server, make_sender(server, connections=5) as sender:
        numbers = [f"9876543{n:02}" for n in range(40)]
        outcomes = await asyncio.gather(*map(sender, numbers))
        assert all(map(is_answer, outcomes, numbers))
        assert server.connections <= 5


async def test_a_json_body_goes_out_as_json(make_sender: MakeSender) -> None:
    async with ScriptedServer(answers_all) as server, make_sender(server, body="json") as sender:
        assert is_answer(await sender("987654321"), "987654321")
        assert server.requests[0][1]["content-type"] == "application/json"


GOOD = answer("987654321")
WHOLE_REPLIES = {
    "length": [reply(GOOD)],
    "length, byte by byte": [bytes([byte]) for byte in reply(GOOD)],
    "chunked": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\n" + GOOD[:5] + b"\r\n",
        b"%x;extension=1\r\n" % (len(GOOD) - 5) + GOOD[5:] + b"\r\n",
        b"0\r\nTrailer: 1\r\n\r\n",
    ],
    "until the end": [b"HTTP/1.1 200 OK\r\n\r\n", GOOD],
    "connection: close": [reply(GOOD, "Connection: close")],
    "HTTP/1.0": [reply(GOOD, version="1.0")],
    "HTTP/1.0 until the end": [b"HTTP/1.0 200 OK\r\n\r\n" + GOOD],
    "after 100 and 103": [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + reply(GOOD),
    ],
}


@pytest.mark.parametrize("pieces", WHOLE_REPLIES.values(), ids=WHOLE_REPLIES)
async def test_every_way_to_frame_a_reply_is_read(make_sender: MakeSender, pieces: list[bytes]) -> None:
    async with ScriptedServer(once(*pieces)) as server, make_sender(server) as sender:
        assert is_answer(await sender("987654321"), "987654321")
        await eventually(lambda: server.open == 0)
        assert is_answer(await sender("987654322"), "987654322")
        assert server.connections == 2


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_a_reply_that_has_no_body_by_its_code_does_not_wait_for_one(
    make_sender: MakeSender, status: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.send(f"HTTP/1.1 {status}\r\n\r\n".encode())
        await answers_all(peer)

    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert isinstance(await sender("987654321"), Malformed)
        assert is_answer(await sender("987654322"), "987654322")
        assert server.connections == 1


CUT = {
    "short of its length": [reply(GOOD)[:-10]],
    "between chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
    "in a chunk": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"],
}


@pytest.mark.parametrize("pieces", CUT.values(), ids=CUT)
async def test_a_reply_cut_short_is_truncated_and_may_have_been_charged(
    make_sender: MakeSender, pieces: list[bytes]
) -> None:
    async with ScriptedServer(once(*pieces)) as server, make_sender(server) as sender:
        outcome = await sender("987654321")
        assert isinstance(outcome, Broken)
        assert (outcome.phase, outcome.sent) == ("truncated", True)
        assert is_answer(await sender("987654322"), "987654322")
        assert server.numbers == ["987654321", "987654322"]


async def test_a_head_cut_short_is_not_a_reply(make_sender: MakeSender) -> None:
    async with ScriptedServer(once(b"HTTP/1.1 200 OK\r\nConte")) as server, make_sender(server) as sender:
        outcome = await sender("987654321")
        assert isinstance(outcome, Broken)
        assert outcome.sent


NOT_HTTP = {
    "html": [b"<html>hello</html>\r\n\r\n"],
    "another protocol": [b"SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    "an upgrade nobody asked for": [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
    ],
    "two lengths": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi"],
    "a negative length": [b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nhi"],
    "a bad chunk size": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"],
    "a head without end": [b"HTTP/1.1 200 OK\r\n"] + [b"X-Filler: " + b"x" * 1000 + b"\r\n"] * 400,
}


@pytest.mark.parametrize("pieces", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_bytes_that_are_not_http_break_the_call_and_the_connection(
    make_sender: MakeSender, pieces: list[bytes]
) -> None:
    script = once(*pieces, then_close=False)
    async with ScriptedServer(script) as server, make_sender(server) as sender:
        outcome = await sender("987654321")
        assert isinstance(outcome, Broken)
        assert (outcome.phase, outcome.sent) == ("protocol", True)
        await eventually(lambda: server.open == 0)
        assert is_answer(await sender("987654322"), "987654322")


@pytest.mark.usefixtures("ours_only")
async def test_a_reply_framed_in_two_ways_at_once_is_refused(make_sender: MakeSender) -> None:
    smuggled = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    )
    async with ScriptedServer(once(smuggled, then_close=False)) as server, make_sender(server) as sender:
        outcome = await sender("987654321")
        assert isinstance(outcome, Broken)
        assert outcome.phase == "protocol"
        await eventually(lambda: server.open == 0)


@pytest.mark.usefixtures("ours_only")
@pytest.mark.parametrize("surplus", [b"junk", reply(answer("987654322"))], ids=["junk", "another reply"])
async def test_bytes_after_the_reply_are_never_another_numbers_answer(
    make_sender: MakeSender, surplus: bytes
) -> None:
    script = once(reply(GOOD) + surplus, then_close=False)
    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert is_answer(await sender("987654321"), "987654321")
        assert is_answer(await sender("987654322"), "987654322")
        assert server.connections == 2


async def test_bytes_on_an_idle_connection_close_it(make_sender: MakeSender) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(reply(answer(await peer.asked())))
        if peer.index == 0:
            await asyncio.sleep(0.02)
            await peer.send(reply(answer("987654322")))
        await answers_all(peer)

    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert is_answer(await sender("987654321"), "987654321")
        await asyncio.sleep(0.1)
        assert is_answer(await sender("987654323"), "987654323")
        assert server.connections == 2


async def test_a_connection_closed_while_idle_is_replaced_before_anything_is_sent(
    make_sender: MakeSender,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(reply(answer(await peer.asked())))

    async with ScriptedServer(script) as server, make_sender(server) as sender:
        for number in ("987654321", "987654322", "987654323"):
            assert is_answer(await sender(number), number)
            await eventually(lambda: server.open == 0)
            await asyncio.sleep(0.02)
        assert server.numbers == ["987654321", "987654322", "987654323"]


async def test_an_end_that_the_event_loop_has_not_reported_yet_is_seen_before_anything_is_sent(
    make_sender: MakeSender,
) -> None:
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        await answers_all(peer)

    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert is_answer(await sender("987654321"), "987654321")
        with socket.socket(fileno=os.dup(peers[0].writer.get_extra_info("socket").fileno())) as end:
            end.shutdown(socket.SHUT_WR)
        assert is_answer(await sender("987654322"), "987654322")
        assert server.connections == 2


@pytest.mark.parametrize("manner", ["close", "reset"])
async def test_a_call_whose_connection_dies_after_it_was_sent_is_not_sent_again(
    make_sender: MakeSender, manner: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(reply(answer(await peer.asked())))
        await peer.asked()  # on the connection kept alive: the server received it, and stays silent
        if manner == "reset":
            peer.reset()

    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert is_answer(await sender("987654321"), "987654321")
        outcome = await sender("987654322")
        assert isinstance(outcome, Broken)
        assert (outcome.phase, outcome.sent) == ("read", True)
        assert server.numbers == ["987654321", "987654322"]
        assert is_answer(await sender("987654323"), "987654323")


async def test_a_refused_connection_costs_nothing(make_sender: MakeSender) -> None:
    async with ScriptedServer(answers_all) as server:
        pass
    async with make_sender(server) as sender:
        outcome = await sender("987654321")
    assert isinstance(outcome, Broken)
    assert (outcome.phase, outcome.sent) == ("connect", False)


async def test_a_redirect_is_not_followed(make_sender: MakeSender) -> None:
    async with ScriptedServer(answers_all) as elsewhere:
        moved = reply(b"", f"Location: {elsewhere.url}", status="307 Temporary Redirect")
        async with ScriptedServer(once(moved)) as server, make_sender(server) as sender:
            assert isinstance(await sender("987654321"), Malformed)
        assert elsewhere.connections == 0


async def test_retry_after_reaches_the_decision(make_sender: MakeSender) -> None:
    refusal = reply(b'{"status":"RATE_LIMIT_EXCEEDED"}', "Retry-After: 7", status="403 Forbidden")
    async with ScriptedServer(once(refusal)) as server, make_sender(server) as sender:
        outcome = await sender("987654321")
        assert isinstance(outcome, StatusReply)
        assert (outcome.status, outcome.retry_after) == ("RATE_LIMIT_EXCEEDED", 7.0)


BIG = b" " * 300_000
OVER_THE_CAP = {
    "by its length": [reply(BIG)],
    "in chunks": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[b"4000\r\n" + b" " * 0x4000 + b"\r\n"] * 20,
    ],
    "until the end": [b"HTTP/1.1 200 OK\r\n\r\n", BIG],
    "a megabyte of gzip": [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000)
    ],
}


@pytest.mark.parametrize("pieces", OVER_THE_CAP.values(), ids=OVER_THE_CAP)
async def test_a_body_over_the_cap_is_malformed_and_its_connection_closed(
    make_sender: MakeSender, pieces: list[bytes]
) -> None:
    script = once(*pieces, then_close=False)
    async with ScriptedServer(script) as server, make_sender(server) as sender:
        outcome = await sender("987654321")
        assert isinstance(outcome, Malformed)
        assert outcome.http_status == 200
        await eventually(lambda: server.open == 0)
        assert is_answer(await sender("987654322"), "987654322")


def gzipped(body: bytes) -> bytes:
    compressor = zlib.compressobj(9, wbits=31)
    return compressor.compress(body) + compressor.flush()


async def test_a_bomb_within_the_cap_is_malformed(make_sender: MakeSender) -> None:
    bomb = gzipped(bytes(50_000_000))
    assert len(bomb) < 60_000
    script = once(reply(bomb, "Content-Encoding: gzip"))
    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert isinstance(await sender("987654321"), Malformed)


async def test_an_unrequested_compressed_answer_still_counts(make_sender: MakeSender) -> None:
    script = once(reply(gzipped(GOOD), "Content-Encoding: gzip"))
    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert is_answer(await sender("987654321"), "987654321")


async def test_silence_ends_at_the_read_timeout(make_sender: MakeSender) -> None:
    async with (
        ScriptedServer(once(b"HTTP/1.1 200 OK\r\n", then_close=False)) as server,
        make_sender(server, timeouts=Timeouts(read=0.1)) as sender,
    ):
        outcome = await sender("987654321")
        assert isinstance(outcome, Broken)
        assert (outcome.phase, outcome.sent) == ("read", True)
        await eventually(lambda: server.open == 0)
        assert is_answer(await sender("987654322"), "987654322")


async def test_a_reply_that_drips_forever_ends_at_the_attempt_timeout(make_sender: MakeSender) -> None:
    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        while True:
            await peer.send(b" ")
            await asyncio.sleep(0.01)

    timeouts = Timeouts(read=5, attempt=0.2)
    async with ScriptedServer(script) as server, make_sender(server, timeouts=timeouts) as sender:
        outcome = await sender("987654321")
        assert isinstance(outcome, Broken)
        assert (outcome.phase, outcome.sent) == ("timeout", True)
        await eventually(lambda: server.open == 0)


async def test_a_cancelled_exchange_closes_its_connection_and_no_other(make_sender: MakeSender) -> None:
    cancelled = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            number = await peer.asked()
            if number == "987654300":
                await cancelled.wait()
            await peer.send(reply(answer(number)))

    async with ScriptedServer(script) as server, make_sender(server) as sender:
        assert is_answer(await sender("987654321"), "987654321")
        slow = asyncio.create_task(sender("987654300"))
        await eventually(lambda: "987654300" in server.numbers)
        other = [f"9876544{n:02}" for n in range(4)]
        assert all(map(is_answer, await asyncio.gather(*map(sender, other)), other))
        before = server.open
        slow.cancel()
        cancelled.set()  # its answer still arrives
        with pytest.raises(asyncio.CancelledError):
            await slow
        await eventually(lambda: server.open == before - 1)
        numbers = [f"9876545{n:02}" for n in range(4)]
        assert all(map(is_answer, await asyncio.gather(*map(sender, numbers)), numbers))
        assert server.open == before - 1


async def test_closing_the_sender_ends_the_calls_in_flight(make_sender: MakeSender, arrangement: str) -> None:
    if arrangement == "stock":
        pytest.skip("httpx leaves them to their timeouts")
    async with ScriptedServer(once(then_close=False)) as server:
        sender = make_sender(server)
        call = asyncio.create_task(sender("987654321"))
        await eventually(lambda: server.numbers == ["987654321"])
        await sender.aclose()
        outcome = await call
        assert isinstance(outcome, Broken)
        assert outcome.sent
        await eventually(lambda: server.open == 0)
        with pytest.raises(RuntimeError, match="closed"):
            await sender("987654322")
        assert server.numbers == ["987654321"]


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_ipv6_addresses_work(make_sender: MakeSender) -> None:
    try:
        server = await ScriptedServer(answers_all, host="::1").__aenter__()
    except OSError:
        pytest.skip("no IPv6 loopback")
    try:
        async with make_sender(server) as sender:
            assert is_answer(await sender("987654321"), "987654321")
    finally:
        await server.__aexit__()
