"""The client against the sandbox, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tenacity

import accucheck
from accucheck import Checked, Client, Failed, Policy, Timeouts
from accucheck._shared_gate import SharedGate
from accucheck._store import SQLiteStore
from accucheck.sandbox import Faults, Sandbox, Settings, serve, truth

FIRST = 900_000_000


def numbers(count: int, start: int = 0) -> list[str]:
    return [str(FIRST + 7919 * n) for n in range(start, start + count)]


def client_for(sandbox: Sandbox, **options: Any) -> Client:
    return Client("sandbox", "sandbox", **{"base_url": sandbox.url, "rate": 5_000.0, **options})


def assert_true(outcome: Checked[str] | Failed[str], seed: int = 7) -> None:
    """Every answer is the sandbox's truth."""
    assert isinstance(outcome, Checked), outcome
    expected = truth(outcome.item, seed)
    check = outcome.check
    assert check.number == expected["number"]
    assert check.whatsapp == (expected["whatsapp"] == "yes")
    assert check.signature == expected.get("signature")
    assert (check.status_update is not None) == bool(expected.get("status_update"))
    for name in ("business_user", "avatar"):
        stated = expected.get(name)
        assert getattr(check, name) == (stated == "yes" if stated else None)


async def collect(client: Client, items: Any, **options: Any) -> list[Any]:
    async with client.stream(items, **options) as outcomes:
        return [outcome async for outcome in outcomes]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve(Settings()) as running:
        yield running


@pytest.mark.parametrize("body", ["form", "json"])
@pytest.mark.parametrize("endpoint", ["advanced", "basic"])
async def test_one_number_is_checked(sandbox: Sandbox, body: Any, endpoint: Any) -> None:
    async with client_for(sandbox, body=body, endpoint=endpoint) as client:
        check = await client.check("+51 987 654 321")
    expected = truth("987654321", 7)
    assert check.number == "+51987654321"
    assert check.whatsapp == (expected["whatsapp"] == "yes")
    if endpoint == "basic":
        assert (check.signature, check.avatar, check.business_user) == (None, None, None)


async def test_a_stream_of_a_thousand_is_all_correct(sandbox: Sandbox) -> None:
    async with client_for(sandbox) as client:
        outcomes = await collect(client, numbers(1_000), workers=50)
    assert len(outcomes) == 1_000
    for outcome in outcomes:
        assert_true(outcome)
    assert set(sandbox.charges().values()) == {1}


async def test_pendings_refusals_errors_and_faults_lose_no_answer() -> None:
    settings = Settings(
        rate=40,  # far below what even a busy machine can do, so that calls are certainly refused
        burst=10,
        pending=0.1,
        pending_for=0.3,
        errors=0.02,
        faults=Faults(reset=0.01, cut=0.01, bad_gateway=0.01),
    )
    async with serve(settings) as sandbox:
        policy = Policy(retry_wait=lambda _state: 0.2)  # type: ignore[arg-type]
        async with client_for(sandbox, rate=150.0, policy=policy) as client:
            async with client.stream(numbers(250), workers=50) as outcomes:
                seen = [outcome async for outcome in outcomes]
            stats = outcomes.stats
    assert sorted(outcome.item for outcome in seen) == sorted(numbers(250))
    for outcome in seen:
        assert_true(outcome)
    assert stats.pending > 0
    assert stats.retries > 0
    assert stats.refusals > 0
    assert stats.calls == sandbox.counts.requests
    # Only a number whose reply was lost may be bought twice.
    bought_twice = sum(times - 1 for times in sandbox.charges().values())
    assert bought_twice <= stats.possibly_double_charged


@pytest.mark.parametrize(
    ("settings", "credentials", "error"),
    [
        (Settings(api_secret="another"), ("sandbox", "sandbox"), accucheck.Unauthorized),
        (Settings(expire_after=20), ("sandbox", "sandbox"), accucheck.KeyExpired),
        (Settings(endpoints=("basic",)), ("sandbox", "sandbox"), accucheck.NoPermission),
        (Settings(quota=20), ("sandbox", "sandbox"), accucheck.OutOfQuota),
    ],
)
async def test_an_error_that_ends_the_run_is_raised_after_every_paid_outcome(
    settings: Settings, credentials: tuple[str, str], error: type[accucheck.RunEnded]
) -> None:
    async with serve(settings) as sandbox:
        seen: list[Any] = []
        async with Client(*credentials, base_url=sandbox.url, rate=2_000.0) as client:
            with pytest.raises(error) as caught:
                async with client.stream(numbers(500), workers=8) as outcomes:
                    async for outcome in outcomes:
                        seen.append(outcome)
            with pytest.raises(error):
                await client.check("987654321")
        assert len(seen) == sum(sandbox.charges().values()) == caught.value.done
        assert caught.value.not_done > 0


async def test_an_unknown_endpoint_ends_the_run(sandbox: Sandbox) -> None:
    async with Client("sandbox", "sandbox", base_url=sandbox.url + "/elsewhere", rate=100.0) as client:
        with pytest.raises(accucheck.NotFound):
            await client.check("987654321")


async def test_concurrent_checks_of_one_number_are_one_call() -> None:
    async with serve(Settings(latency=50)) as sandbox, client_for(sandbox) as client:
        checks = await asyncio.gather(*(client.check("987654321") for _ in range(20)))
        assert sandbox.counts.requests == 1
        assert len({check.request_id for check in checks}) == 1


async def test_cancelling_a_check_does_not_cancel_the_call_that_others_wait_for() -> None:
    async with serve(Settings(latency=100)) as sandbox, client_for(sandbox) as client:
        first = asyncio.create_task(client.check("987654321"))
        await asyncio.sleep(0.03)
        second = asyncio.create_task(client.check("+51 987 654 321"))
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await second).number == "+51987654321"
        with pytest.raises(asyncio.CancelledError):
            await first
        assert sandbox.counts.requests == 1


async def test_a_ledger_that_remembers_a_rate_does_not_double_the_clients(tmp_path: Path) -> None:
    async with serve(Settings()) as sandbox:
        store = SQLiteStore(tmp_path / "leads.db")
        await store.open()
        await store.remember(f"rate {sandbox.url.removeprefix('http://')}", "40.0")
        await store.aclose()
        async with client_for(sandbox, rate=20.0, burst=1) as client:
            began = asyncio.get_running_loop().time()
            without = asyncio.create_task(collect(client, numbers(30, start=1_000)))
            await asyncio.sleep(0.05)  # it has the client's gate by now
            await collect(client, numbers(30, start=2_000), ledger=tmp_path / "leads.db")
            await without
            # Sixty calls at 20 a second: the first at once.
            assert asyncio.get_running_loop().time() - began >= 59 / 20 - 0.1


def test_a_string_is_not_taken_for_a_list_of_numbers() -> None:
    client = Client("id", "secret", base_url="http://127.0.0.1:9")
    with pytest.raises(accucheck.ConfigurationError, match="check"):
        client.stream("987654321")


async def test_using_a_client_on_another_event_loop_raises_one_clear_error(sandbox: Sandbox) -> None:
    async with client_for(sandbox) as client:
        await client.check("987654321")

        def elsewhere() -> str:
            async def use() -> str:
                with pytest.raises(RuntimeError, match="another event loop") as told:
                    await client.check("987654322")
                with pytest.raises(RuntimeError, match="another event loop"):
                    await collect(client, numbers(3))
                return str(told.value)

            return asyncio.run(use())

        assert await asyncio.to_thread(elsewhere)


async def test_a_stalled_call_times_out_and_is_asked_again() -> None:
    async with serve(Settings(faults=Faults(stall=0.2))) as sandbox:
        timeouts = Timeouts(connect=1, read=0.3, attempt=1)
        policy = Policy(retry_wait=lambda _state: 0.05)  # type: ignore[arg-type]
        async with client_for(sandbox, timeouts=timeouts, policy=policy) as client:
            outcomes = await collect(client, numbers(60), workers=30)
    for outcome in outcomes:
        assert_true(outcome)
    assert sum(outcome.possibly_double_charged for outcome in outcomes) > 0


async def test_a_refused_connection_is_a_transport_error_and_never_charged() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    policy = Policy(retry_wait=lambda _state: 0.0)  # type: ignore[arg-type]
    async with Client("id", "secret", base_url=url, policy=policy, rate=1_000.0) as client:
        (outcome,) = await collect(client, ["987654321"])
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, accucheck.TransportError)
    assert outcome.possibly_double_charged == 0
    assert outcome.calls == 5


async def test_any_httpx_transport_can_be_given() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["X-DF-API-ID"] == "id"
        assert request.url == "https://cloudapi.peru.accuauth.com/check/whatsapp_advanced"
        assert request.content == b"number=987654321"
        return httpx.Response(200, json={"status": "OK", "result": {"number": "987654321", "whatsapp": "no"}})

    async with Client("id", "secret", transport=httpx.MockTransport(answer)) as client:
        assert (await client.check("987654321")).whatsapp is False


async def test_a_redirect_is_never_followed() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"location": "https://elsewhere.example/"})

    async with Client("id", "secret", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(accucheck.ProtocolError, match="redirect"):
            await client.check("987654321")
    assert len(asked) == 1


async def test_a_secret_echoed_by_the_server_is_not_shown() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(418, text=f"what is {request.headers['X-DF-API-SECRET']}?")

    async with Client("id", "a-long-secret", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(accucheck.ProtocolError) as caught:
            await client.check("987654321")
        assert "a-long-secret" not in repr(caught.value)
        assert "a-long-secret" not in repr(client) + repr(vars(client))


async def test_after_a_storm_of_cancellations_the_client_works_and_nothing_leaks() -> None:
    async with serve(Settings(latency=30)) as sandbox, client_for(sandbox) as client:
        before = len(asyncio.all_tasks())
        chance = random.Random(5)
        for wave in range(40):
            tasks = [asyncio.create_task(client.check(number)) for number in numbers(40, 40 * wave)]
            await asyncio.sleep(chance.random() * 0.02)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        answers = await asyncio.wait_for(asyncio.gather(*map(client.check, numbers(50, 5_000))), 20)
        assert [answer.number for answer in answers] == ["+51" + number for number in numbers(50, 5_000)]
        for answer in answers:
            assert answer.whatsapp == (truth(answer.number.removeprefix("+51"), 7)["whatsapp"] == "yes")
        # Apart from ours, only the server's task per connection may remain.
        assert len([task for task in asyncio.all_tasks() if "check" in repr(task.get_coro())]) == 0
        assert len(asyncio.all_tasks()) <= before + 200


async def test_leaving_a_stream_early_leaves_no_task_and_no_warning() -> None:
    async with serve(Settings(latency=20)) as sandbox, client_for(sandbox) as client:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with client.stream(numbers(5_000), workers=20) as outcomes:
                async for _ in outcomes:
                    break
            made = sandbox.counts.requests
            await asyncio.sleep(0.2)
            gc.collect()
        assert sandbox.counts.requests == made
        assert not [task for task in asyncio.all_tasks() if "accucheck" in task.get_name()]
        assert sandbox.counts.charged == outcomes.stats.yes + outcomes.stats.no


async def test_httpx_own_transport_carries_checks_and_streams(sandbox: Sandbox) -> None:
    """It connects in an anyio task group, whose end must not be mistaken for an outside cancellation."""
    transport = httpx.AsyncHTTPTransport(trust_env=False)
    async with asyncio.timeout(30), client_for(sandbox, transport=transport) as client:
        assert (await client.check(numbers(1)[0])).number == f"+51{numbers(1)[0]}"
        for outcome in await collect(client, numbers(20, start=1), workers=5):
            assert_true(outcome)


# The body's encoding


@pytest.mark.parametrize("arrangement", ["own transport", "httpx's transport"])
@pytest.mark.parametrize("wanted", ["form", "json"])
async def test_the_encoding_of_the_body_is_found_and_remembered(
    tmp_path: Path, wanted: Any, arrangement: str
) -> None:
    async with serve(Settings(body=wanted)) as sandbox:
        for extra in (wanted == "json", 0):
            before = sandbox.counts.requests
            options: dict[str, Any] = {}
            if arrangement != "own transport":
                options["transport"] = httpx.AsyncHTTPTransport()
            path = tmp_path / "answers.ledger"
            async with client_for(sandbox, ledger=path, **options) as client:
                start = 0 if before == 0 else 50
                outcomes = await collect(client, numbers(50, start), workers=20)
            for outcome in outcomes:
                assert_true(outcome)
            assert sandbox.counts.requests - before == 50 + extra


async def test_single_checks_find_the_encoding_too() -> None:
    async with serve(Settings(body="json")) as sandbox, client_for(sandbox) as client:
        checks = await asyncio.gather(*(client.check(number) for number in numbers(30)))
        assert len(checks) == 30
        assert sandbox.counts.requests == 31


async def test_a_wrong_encoding_costs_25_calls_and_no_list() -> None:
    async with serve(Settings(body="json")) as sandbox, client_for(sandbox, body="form") as client:
        with pytest.raises(accucheck.UniformRefusals, match='body="json"'):
            await collect(client, numbers(2_000), workers=100)
        assert sandbox.counts.requests <= 25


async def test_keep_going_asks_every_number() -> None:
    async with serve(Settings(body="json")) as sandbox, client_for(sandbox, body="form") as client:
        outcomes = await collect(client, numbers(100), keep_going=True)
        assert len(outcomes) == 100


# Answers that take long


async def test_numbers_still_pending_are_collected_by_the_next_run(tmp_path: Path) -> None:
    settings = Settings(pending=1.0, pending_for=0.5)
    path = tmp_path / "answers.ledger"
    policy = Policy(poll_stop=tenacity.stop_after_attempt(1))
    async with serve(settings) as sandbox:
        async with client_for(sandbox, ledger=path, policy=policy) as client:
            first = await collect(client, numbers(40), pending="later")
        assert {type(outcome.error) for outcome in first} == {accucheck.StillPending}
        await asyncio.sleep(0.6)
        async with client_for(sandbox, ledger=path) as client:
            async with client.stream(numbers(40), pending="later") as stream:
                outcomes = [outcome async for outcome in stream]
        for outcome in outcomes:
            assert_true(outcome)
        assert stream.stats.calls == 40
        assert sandbox.counts.requests == 80


# The gate


async def test_a_gate_in_use_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "answers.ledger"
    rest = asyncio.Event()

    async def slowly() -> AsyncIterator[str]:
        yield "987654321"
        await rest.wait()
        for number in numbers(4):
            yield number

    async with serve(Settings()) as sandbox:
        async with client_for(sandbox) as client:
            async with client.stream(slowly()) as without:
                own = without._attempt.gate
                async with client.stream(numbers(5), ledger=path) as with_ledger:
                    assert without._attempt.gate is own
                    assert with_ledger._attempt.gate is own
                    assert len([outcome async for outcome in with_ledger]) == 5
                rest.set()
                assert len([outcome async for outcome in without]) == 5
        async with client_for(sandbox) as client, client.stream(numbers(5), ledger=path) as with_ledger:
            shared = with_ledger._attempt.gate
            assert isinstance(shared, SharedGate)
            async with client.stream(numbers(5)) as without:
                assert without._attempt.gate is shared
                assert len([outcome async for outcome in without]) == 5


# Money


async def test_max_cost_holds_across_the_runs_of_a_job(tmp_path: Path) -> None:
    path = tmp_path / "answers.ledger"
    prices = accucheck.Prices("0.01")
    async with serve(Settings(pending=0.3, pending_for=0.05)) as sandbox:
        for most, charged in (("0.30", 30), ("0.30", 30), ("0.55", 55)):
            async with client_for(sandbox, ledger=path) as client:
                with pytest.raises(accucheck.BudgetExhausted, match="max_cost"):
                    await collect(client, numbers(100), job="list", max_cost=most, prices=prices)
            assert sum(sandbox.charges().values()) == charged


async def test_calls_before_the_first_max_cost_count_as_charged(tmp_path: Path) -> None:
    path = tmp_path / "answers.ledger"
    async with serve(Settings()) as sandbox:
        async with client_for(sandbox, ledger=path) as client:
            await collect(client, numbers(20), job="list")
        async with client_for(sandbox, ledger=path) as client:
            with pytest.raises(accucheck.BudgetExhausted):
                await collect(
                    client, numbers(100), job="list", max_cost=50, prices=accucheck.Prices(1), workers=5
                )
        assert sandbox.counts.requests == 50


@pytest.mark.parametrize(
    "options",
    [
        {"max_cost": 5},
        {"prices": 0.01},
        {"max_cost": -1, "prices": accucheck.Prices("0.01")},
        {"max_cost": 5, "prices": 0.01},
        {"pending": "never"},
        {"poll_floor": -1},
    ],
)
async def test_wrong_options_of_a_stream_are_refused_at_once(
    sandbox: Sandbox, options: dict[str, Any]
) -> None:
    async with client_for(sandbox) as client:
        with pytest.raises(accucheck.ConfigurationError):
            client.stream(numbers(1), **options)
