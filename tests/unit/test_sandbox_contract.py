"""The vendor's page, row by row, called in-process on a clock that the test moves."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest

from accucheck.sandbox import Faults, Settings, request_id, truth
from accucheck.sandbox._app import SandboxApp, open_log

ADVANCED = "/check/whatsapp_advanced"
BASIC = "/check/whatsapp_basic"
CREDENTIALS = {"X-DF-API-ID": "sandbox", "X-DF-API-SECRET": "sandbox"}
NUMBER = "987654321"


class Vendor:
    """The sandbox without sockets: ``now`` is its clock, ``slept`` what it would have waited."""

    def __init__(self, settings: Settings, request_log: BinaryIO | None = None) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.app = SandboxApp(
            settings,
            request_log=request_log,
            clock=lambda: self.now,
            wall=lambda: 1_800_000_000.0,
            sleep=self._sleep,
        )
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://sandbox", headers=CREDENTIALS
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def ask(self, number: str = NUMBER, path: str = ADVANCED, **request: Any) -> httpx.Response:
        if not {"content", "data", "json"} & set(request):
            request["data"] = {"number": number}
        return await self._client.post(path, **request)

    async def statuses(self, *numbers: str) -> list[str]:
        return [(await self.ask(number)).json()["status"] for number in numbers]

    async def get(self, path: str) -> httpx.Response:
        return await self._client.get(path)


def many(count: int) -> list[str]:
    return [str(900_000_000 + 7919 * step) for step in range(count)]


def assert_is(response: httpx.Response, http_status: int, status: str, reason: str) -> None:
    assert (response.status_code, response.json()["status"]) == (http_status, status)
    assert response.json()["reason"] == reason
    assert set(response.json()) == {"status", "reason", "request_id"}
    assert re.fullmatch("TID[0-9a-f]{32}", response.json()["request_id"])


async def test_ok_is_the_truth_with_an_id_that_depends_on_the_number() -> None:
    response = await Vendor(Settings(seed=3)).ask()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json;charset=UTF-8"
    assert response.json() == {
        "status": "OK",
        "result": truth(NUMBER, 3),
        "request_id": request_id(NUMBER, 3),
    }


async def test_the_basic_endpoint_answers_two_fields_of_the_same_truth() -> None:
    response = await Vendor(Settings()).ask(path=BASIC)
    expected = truth(NUMBER)
    assert response.json()["result"] == {"number": expected["number"], "whatsapp": expected["whatsapp"]}


async def test_a_number_is_400_pending_until_it_is_ready() -> None:
    vendor = Vendor(Settings(pending=1, pending_for=5))
    assert_is(await vendor.ask(), 400, "PENDING", "operation in progress")
    vendor.now += 3.9
    assert await vendor.statuses(NUMBER) == ["PENDING"]
    vendor.now += 2.2
    assert (await vendor.ask()).json()["result"] == truth(NUMBER)
    assert await vendor.statuses(NUMBER) == ["OK"]


async def test_a_pending_number_that_was_forgotten_meanwhile_is_ready() -> None:
    vendor = Vendor(Settings(pending=1, pending_for=1))
    first, *others = many(50)
    assert await vendor.statuses(first) == ["PENDING"]
    vendor.now += 100
    await vendor.statuses(*others)
    assert await vendor.statuses(first) == ["OK"]
    assert vendor.app.account.counts(vendor.now).pending == 49


@pytest.mark.parametrize(
    "request_body",
    [
        {"data": {"nummer": NUMBER}},
        {"data": {}},
        {"json": {"phone": NUMBER}},
        {"json": [NUMBER]},
        {"content": b"", "headers": {"Content-Type": "application/json"}},
        {"content": b"[" * 60_000, "headers": {"Content-Type": "application/json"}},
        {"content": b'{"number": "\xff"}', "headers": {"Content-Type": "application/json"}},
        {"content": b"number=%ff\xff"},
        {"content": b"&".join(b"a=1" for _ in range(1000))},
        {"content": b"number=987654321&x=" + b"x" * 70_000},
    ],
    ids=str,
)
async def test_a_body_without_a_number_is_400_invalid_argument(request_body: dict[str, Any]) -> None:
    response = await Vendor(Settings()).ask(**request_body)
    assert_is(response, 400, "INVALID_ARGUMENT", "argument 'number': not found")


@pytest.mark.parametrize(
    "number", ["", "98765432", "+51987654321", "51987654321", "987 654 321", "abc", "٩٨٧٦٥٤٣٢١"]
)
async def test_anything_but_a_national_number_is_400_invalid_argument(number: str) -> None:
    vendor = Vendor(Settings())
    assert_is(await vendor.ask(number), 400, "INVALID_ARGUMENT", "argument 'number': invalid")
    assert_is(
        await vendor.ask(json={"number": number}), 400, "INVALID_ARGUMENT", "argument 'number': invalid"
    )


async def test_a_json_number_that_is_not_a_string_is_400_invalid_argument() -> None:
    response = await Vendor(Settings()).ask(json={"number": 987654321})
    assert_is(response, 400, "INVALID_ARGUMENT", "argument 'number': invalid")


@pytest.mark.parametrize(
    "request_body",
    [
        {"data": {"number": NUMBER}},
        {"json": {"number": NUMBER}},
        {"content": b"number=987654321"},
        {
            "content": b'{"number":"987654321"}',
            "headers": {"Content-Type": "Application/JSON; charset=utf-8"},
        },
    ],
    ids=str,
)
async def test_forms_and_json_are_understood(request_body: dict[str, Any]) -> None:
    assert (await Vendor(Settings()).ask(**request_body)).json()["result"] == truth(NUMBER)


@pytest.mark.parametrize(
    "headers", [{"X-DF-API-ID": "other"}, {"X-DF-API-SECRET": ""}, {"X-DF-API-SECRET": "señal"}]
)
async def test_wrong_credentials_are_401_unauthorized(headers: dict[str, str]) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    response = await Vendor(Settings()).ask(headers=encoded)
    assert_is(response, 401, "UNAUTHORIZED", "unauthorized or access is denied")


async def test_the_key_is_401_key_expired_after_a_number_of_calls() -> None:
    vendor = Vendor(Settings(expire_after=2))
    await vendor.ask(headers={"X-DF-API-ID": "other"})
    assert await vendor.statuses(NUMBER, "1") == ["OK", "INVALID_ARGUMENT"]
    assert_is(await vendor.ask(), 401, "KEY_EXPIRED", "API ID has expired")


async def test_an_endpoint_that_was_not_bought_is_403_no_permission() -> None:
    vendor = Vendor(Settings(endpoints=("basic",)))
    assert_is(await vendor.ask(), 403, "NO_PERMISSION", "not authorized to use this API")
    assert (await vendor.ask(path=BASIC)).status_code == 200


async def test_the_account_is_403_out_of_quota_after_a_number_of_answers() -> None:
    vendor = Vendor(Settings(quota=2, pending=0.5, pending_for=60))
    statuses = await vendor.statuses("1", *many(12))
    assert statuses[0] == "INVALID_ARGUMENT"
    assert "PENDING" in statuses
    assert statuses.count("OK") == 2
    assert statuses[-1] == "OUT_OF_QUOTA"
    assert_is(await vendor.ask(), 403, "OUT_OF_QUOTA", "API calls quota exceeded")


async def test_calls_above_the_rate_are_403_rate_limit_exceeded() -> None:
    vendor = Vendor(Settings(rate=10, burst=3))
    assert await vendor.statuses(*many(3)) == ["OK"] * 3
    refusal = await vendor.ask()
    assert_is(refusal, 403, "RATE_LIMIT_EXCEEDED", "API request frequency exceeds the limit")
    assert "retry-after" not in refusal.headers
    vendor.now += 0.1
    assert await vendor.statuses(NUMBER, NUMBER) == ["OK", "RATE_LIMIT_EXCEEDED"]


async def test_a_sliding_window_counts_over_the_time_just_past() -> None:
    vendor = Vendor(Settings(rate=2, window="sliding", window_seconds=2))
    vendor.now += 1.9
    assert await vendor.statuses(*many(5)) == ["OK"] * 4 + ["RATE_LIMIT_EXCEEDED"]
    vendor.now += 1.9
    assert await vendor.statuses(NUMBER) == ["RATE_LIMIT_EXCEEDED"]
    vendor.now += 0.2
    assert await vendor.statuses(NUMBER) == ["OK"]


async def test_a_refusal_has_retry_after_if_configured() -> None:
    vendor = Vendor(
        Settings(rate=10, window="fixed", window_seconds=60, retry_after=True, rate_at=((120, 0),))
    )
    vendor.now += 17.5
    await vendor.statuses(*many(600))
    assert (await vendor.ask()).headers["retry-after"] == "43"
    vendor.now += 43
    assert await vendor.statuses(NUMBER) == ["OK"]
    vendor.now += 120
    refusal = await vendor.ask()
    assert refusal.json()["status"] == "RATE_LIMIT_EXCEEDED"
    assert "retry-after" not in refusal.headers


async def test_an_unknown_path_or_method_is_404_not_found() -> None:
    vendor = Vendor(Settings())
    for response in (
        await vendor.ask(path="/check/other"),
        await vendor.ask(path="/"),
        await vendor.get(ADVANCED),
    ):
        assert_is(response, 404, "NOT_FOUND", "requested API cannot be found")


async def test_a_reproducible_share_of_calls_is_500_internal_error() -> None:
    first, second = Vendor(Settings(errors=0.2)), Vendor(Settings(errors=0.2))
    statuses = await first.statuses(*many(200), *many(200))
    assert statuses == await second.statuses(*many(200), *many(200))
    assert 50 < statuses.count("INTERNAL_ERROR") < 110
    assert statuses[:200] != statuses[200:]
    assert_is(await Vendor(Settings(errors=1)).ask(), 500, "INTERNAL_ERROR", "internal server error")


async def test_an_outage_fails_every_call_while_it_lasts() -> None:
    vendor = Vendor(Settings(outage=(10, 20)))
    seen = []
    for now in (5000, 5009.9, 5010, 5029.9, 5030):
        vendor.now = now
        seen += await vendor.statuses(NUMBER)
    assert seen == ["OK", "OK", "INTERNAL_ERROR", "INTERNAL_ERROR", "OK"]


@pytest.mark.parametrize(
    ("settings", "request_", "status"),
    [
        ({"expire_after": 0}, {"path": "/x", "headers": {"X-DF-API-ID": "other"}}, "NOT_FOUND"),
        ({"expire_after": 0}, {"headers": {"X-DF-API-ID": "other"}}, "UNAUTHORIZED"),
        ({"expire_after": 0, "endpoints": ()}, {}, "KEY_EXPIRED"),
        ({"rate": 1, "rate_at": ((0, 0),), "burst": 1, "endpoints": ()}, {}, "NO_PERMISSION"),
        ({"rate": 1, "burst": 1}, {"number": "1"}, "RATE_LIMIT_EXCEEDED"),
        ({"quota": 0}, {"number": "1"}, "INVALID_ARGUMENT"),
        ({"quota": 0, "errors": 1}, {}, "OUT_OF_QUOTA"),
        ({"errors": 1, "pending": 1}, {}, "INTERNAL_ERROR"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_checks_come_in_their_order(
    settings: dict[str, Any], request_: dict[str, Any], status: str
) -> None:
    vendor = Vendor(Settings(**settings))
    if status == "RATE_LIMIT_EXCEEDED":
        await vendor.ask()
    assert (await vendor.ask(**request_)).json()["status"] == status


async def test_other_ids_than_those_of_answers_are_never_given_twice() -> None:
    settings = Settings(errors=1)
    replies = [await vendor.ask() for vendor in (Vendor(settings), Vendor(settings)) for _ in range(20)]
    assert len({reply.json()["request_id"] for reply in replies}) == 40


async def test_latency_is_a_mean_with_a_floor_and_a_tail_and_repeats() -> None:
    vendor, again = Vendor(Settings(latency=80)), Vendor(Settings(latency=80))
    await vendor.statuses(*many(500))
    await again.statuses(*many(500))
    assert vendor.slept == again.slept
    assert min(vendor.slept) >= 0.048
    assert 0.07 < sum(vendor.slept) / 500 < 0.09
    assert max(vendor.slept) > 0.16


async def test_a_refusal_does_not_wait() -> None:
    vendor = Vendor(Settings(rate=1, burst=1, latency=80))
    await vendor.statuses(NUMBER, NUMBER, NUMBER)
    assert len(vendor.slept) == 1


async def test_a_502_is_an_html_page_and_charges_nothing() -> None:
    vendor = Vendor(Settings(faults=Faults(bad_gateway=1)))
    response = await vendor.ask()
    assert (response.status_code, response.headers["content-type"]) == (502, "text/html")
    assert "<h1>502 Bad Gateway</h1>" in response.text
    counts = vendor.app.account.counts(vendor.now)
    assert (counts.charged, counts.by_status, counts.faults) == (0, {"BAD_GATEWAY": 1}, {"bad_gateway": 1})


async def test_a_reply_lost_on_purpose_was_charged() -> None:
    vendor = Vendor(Settings(faults=Faults(reset=1)))
    with pytest.raises(ConnectionResetError, match="on purpose"):
        await vendor.ask()
    counts = vendor.app.account.counts(vendor.now)
    assert (counts.charged, counts.charged_but_lost, counts.faults) == (1, 1, {"reset": 1})


async def test_shares_of_faults_are_kept_apart() -> None:
    vendor = Vendor(Settings(faults=Faults(reset=0.1, cut=0.2, stall=0.3, bad_gateway=0.4)))
    for number in many(500):
        try:
            await vendor.ask(number)
        except ConnectionResetError:
            continue
    faults = vendor.app.account.counts(vendor.now).faults
    assert sum(faults.values()) == 500
    for kind, expected in (("reset", 50), ("cut", 100), ("stall", 150), ("bad_gateway", 200)):
        assert 0.6 * expected < faults[kind] < 1.4 * expected


async def test_everything_is_counted() -> None:
    vendor = Vendor(Settings(rate=100, burst=4))
    await vendor.statuses("1", NUMBER, NUMBER, "912345678", NUMBER)
    await vendor.ask(headers={"X-DF-API-ID": "other"})
    vendor.now += 10
    await vendor.ask(path=BASIC)
    await vendor.get("/stats")
    vendor.now += 1
    stats = (await vendor.get("/stats")).json()
    assert stats == {
        "uptime": 11.0,
        "requests": 7,
        "admitted": 5,
        "refused": 1,
        "pending": 0,
        "numbers": 3,
        "charged": 4,
        "charged_twice": 1,
        "charged_but_lost": 0,
        "spent": 0.0,
        "by_status": {"OK": 4, "INVALID_ARGUMENT": 1, "RATE_LIMIT_EXCEEDED": 1, "UNAUTHORIZED": 1},
        "faults": {},
        "requests_per_second": 0.2,
        "admitted_per_second": 0.2,
        "rate": 100.0,
    }
    assert (await vendor.get("/stats/history")).json() == [
        {"second": 0, "admitted": 4, "refused": 1, "other": 1},
        {"second": 10, "admitted": 1, "refused": 0, "other": 0},
    ]
    assert vendor.app.account.charges() == {NUMBER: 2, "912345678": 1}
    assert vendor.app.account.charges("basic") == {NUMBER: 1}


async def test_the_shown_rate_follows_the_schedule_without_a_call() -> None:
    vendor = Vendor(Settings(rate=100, rate_at=((30, 50),)))
    await vendor.ask()
    vendor.now += 30
    assert (await vendor.get("/stats")).json()["rate"] == 50


@contextmanager
def logged(settings: Settings, path: Path) -> Iterator[Vendor]:
    with open_log(path) as request_log:
        yield Vendor(settings, request_log)


async def test_the_request_log_has_every_call_before_its_reply(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with logged(Settings(pending=1, pending_for=1, faults=Faults(reset=1)), path) as vendor:
        for wait in (0, 2.5):
            vendor.now += wait
            with pytest.raises(ConnectionResetError):
                await vendor.ask()
    with logged(Settings(), path) as vendor:
        requests: tuple[dict[str, Any], ...] = (
            {},
            {"path": BASIC},
            {"number": "x" * 100},
            {"data": {}},
            {"path": "/x"},
        )
        for request_ in requests:
            await vendor.ask(**request_)
        lines = [json.loads(line) for line in path.read_text().splitlines()]  # the log is still open
    wall = 1_800_000_000.0
    assert lines == [
        {
            "t": wall,
            "number": NUMBER,
            "endpoint": "advanced",
            "status": "PENDING",
            "call": 1,
            "fault": "reset",
        },
        {
            "t": wall + 2.5,
            "number": NUMBER,
            "endpoint": "advanced",
            "status": "OK",
            "call": 2,
            "fault": "reset",
        },
        {"t": wall, "number": NUMBER, "endpoint": "advanced", "status": "OK", "call": 1},
        {"t": wall, "number": NUMBER, "endpoint": "basic", "status": "OK", "call": 1},
        {"t": wall, "number": "x" * 40, "endpoint": "advanced", "status": "INVALID_ARGUMENT", "call": 0},
        {"t": wall, "number": None, "endpoint": "advanced", "status": "INVALID_ARGUMENT", "call": 0},
        {"t": wall, "number": NUMBER, "endpoint": None, "status": "NOT_FOUND", "call": 0},
    ]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_page_shows_the_counts_and_loads_nothing() -> None:
    vendor = Vendor(Settings(rate=50, pending=0.25, rate_at=((30, 20), (60, 80)), api_secret="sandbox"))
    await vendor.statuses(*many(20))
    vendor.now += 5
    response = await vendor.get("/")
    (script,) = re.findall("<script>(.*?)</script>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert "refresh" not in response.text  # a page that reloads itself loses the reader's scroll position
    assert "<dt>admitted</dt><dd>10</dd>" in response.text
    assert "<dt>refused</dt><dd>10</dd>" in response.text
    assert '<th scope="row">RATE_LIMIT_EXCEEDED</th><td>10</td>' in response.text
    assert '<th scope="row">rate at</th><td>30:20, 60:80</td>' in response.text
    assert "Calls per second in the last minute, at most 20" in response.text
    assert response.text.count("<rect") == 2
    assert not re.search(r"https?://|src=", response.text)


async def test_the_page_never_shows_credentials_or_paths(tmp_path: Path) -> None:
    settings = Settings(api_id="my-id", api_secret="my-secret", request_log=tmp_path / "log", endpoints=())
    page = (await Vendor(settings).get("/")).text
    assert "my-id" not in page
    assert "my-secret" not in page
    assert str(tmp_path) not in page
