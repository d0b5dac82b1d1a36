"""Which servers a sender trusts, and that others receive nothing."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from typing import Any

import pytest
import trustme

from accucheck import Timeouts
from accucheck._wire import Answered, Broken, Malformed, was_not_sent
from tests.integration.arrangements import ARRANGEMENTS, LOOPS, backend, make_sender
from tests.integration.scripted_server import Peer, ScriptedServer, answers_all, eventually, reply

AUTHORITY = trustme.CA()
YESTERDAY = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)


@pytest.fixture(params=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


@pytest.fixture(params=ARRANGEMENTS)
def arrangement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def test_a_given_context_decides_whom_to_trust(arrangement: str) -> None:
    context = server_context(AUTHORITY.issue_cert("127.0.0.1"))
    async with (
        ScriptedServer(answers_all, context) as server,
        make_sender(arrangement, server.url, verify=trusting()) as sender,
    ):
        assert isinstance(await sender("987654321"), Answered)
        assert isinstance(await sender("987654322"), Answered)
        assert server.connections == 1


DISTRUSTED = {
    "another authority": trustme.CA().issue_cert("127.0.0.1"),
    "another host": AUTHORITY.issue_cert("cloudapi.peru.accuauth.com"),
    "expired": AUTHORITY.issue_cert("127.0.0.1", not_before=YESTERDAY, not_after=YESTERDAY),
}


@pytest.mark.parametrize("certificate", DISTRUSTED.values(), ids=DISTRUSTED)
async def test_an_invalid_certificate_is_refused_before_anything_is_sent(
    arrangement: str, certificate: trustme.LeafCert
) -> None:
    async with (
        ScriptedServer(answers_all, server_context(certificate)) as server,
        make_sender(arrangement, server.url, verify=trusting()) as sender,
    ):
        outcome = await sender("987654321")
        assert isinstance(outcome, Broken)
        assert (outcome.phase, outcome.sent) == ("connect", False)
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.message
        assert server.numbers == []


@pytest.mark.parametrize("arrangement", ["fast"], indirect=True)
async def test_the_systems_roots_are_trusted_when_nothing_is_given(
    arrangement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = server_context(AUTHORITY.issue_cert("127.0.0.1"))
    async with ScriptedServer(answers_all, context) as server:
        async with make_sender(arrangement, server.url) as stranger:
            outcome = await stranger("987654321")
            assert isinstance(outcome, Broken)
            assert not outcome.sent
        with AUTHORITY.cert_pem.tempfile() as roots:
            monkeypatch.setenv("SSL_CERT_FILE", roots)
            async with make_sender(arrangement, server.url) as sender:
                assert isinstance(await sender("987654321"), Answered)


async def test_a_server_that_never_shakes_hands_costs_nothing(arrangement: str) -> None:
    async def mute(peer: Peer) -> None:
        await peer.until_gone()

    async with ScriptedServer(mute) as server:
        timeouts = Timeouts(connect=0.1)
        url = server.url.replace("http:", "https:")
        async with make_sender(arrangement, url, verify=trusting(), timeouts=timeouts) as sender:
            outcome = await sender("987654321")
            assert isinstance(outcome, Broken)
            assert (outcome.phase, outcome.sent) == ("connect", False)
            await eventually(lambda: server.open == 0)


async def test_a_call_cancelled_while_it_shakes_hands_was_not_sent() -> None:
    async def silent(peer: Peer) -> None:
        await peer.until_gone()

    async with ScriptedServer(silent) as server:
        url = server.url.replace("http:", "https:")
        async with make_sender("fast", url, verify=trusting()) as sender:
            call = asyncio.create_task(sender("987654321"))
            await eventually(lambda: server.connections == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError) as raised:
                await call
            assert was_not_sent(raised.value)


async def test_plain_http_on_a_tls_port_costs_nothing(arrangement: str) -> None:
    async def plain(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.until_gone()

    async with ScriptedServer(plain) as server:
        url = server.url.replace("http:", "https:")
        async with make_sender(arrangement, url, verify=trusting()) as sender:
            outcome = await sender("987654321")
            assert isinstance(outcome, Broken)
            assert (outcome.phase, outcome.sent) == ("connect", False)


async def test_a_large_body_over_tls_is_capped_and_the_connection_closed(arrangement: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.asked()
        await peer.send(reply(b" " * 200_000))
        await peer.until_gone()

    context = server_context(AUTHORITY.issue_cert("127.0.0.1"))
    async with (
        ScriptedServer(script, context) as server,
        make_sender(arrangement, server.url, verify=trusting()) as sender,
    ):
        assert isinstance(await sender("987654321"), Malformed)
        await eventually(lambda: server.open == 0)
