"""What the vendor's page does not cover: soft answers, unknown statuses, queues, the invoice, scripted replies."""

from __future__ import annotations

import json

import httpx
import pytest

from accucheck.sandbox import InvoiceLine, Scripted, Settings, Soft, truth
from tests.unit.test_sandbox_contract import ADVANCED, BASIC, NUMBER, Vendor, assert_is, many


def soft(text: str) -> Settings:
    return Settings(soft=Soft.parse(text), price=0.01)


async def test_checking_passes_after_the_first_call_and_is_free() -> None:
    vendor = Vendor(soft("checking=1"))
    reply = (await vendor.ask()).json()
    assert (reply["status"], reply["result"]) == ("OK", {"number": f"+51{NUMBER}", "whatsapp": "checking"})
    assert vendor.app.account.spent == 0
    assert (await vendor.ask()).json()["result"] == truth(NUMBER)
    assert vendor.app.account.charges() == {NUMBER: 1}


async def test_unavailable_stays_and_is_free() -> None:
    vendor = Vendor(soft("unavailable=1"))
    for _ in range(3):
        response = await vendor.ask()
        assert (response.status_code, response.json()["result"]["whatsapp"]) == (200, "unavailable")
    assert vendor.app.account.charges() == {}


@pytest.mark.parametrize("status", ["ABNORMAL_BEHAVIOURS_DETECTED", "QUERY_FAILED"])
async def test_statuses_of_the_vendors_other_pages_pass(status: str) -> None:
    vendor = Vendor(soft(f"{status}=1"))
    response = await vendor.ask()
    assert (response.status_code, response.json()["status"]) == (400, status)
    assert await vendor.statuses(NUMBER) == ["OK"]


@pytest.mark.parametrize("status", ["NOT_HIT", "MAINTENANCE"])
async def test_not_hit_and_unknown_statuses_stay(status: str) -> None:
    assert await Vendor(soft(f"{status}=1")).statuses(NUMBER, NUMBER) == [status, status]


async def test_soft_replies_are_given_to_their_shares_of_the_numbers_whatever_the_order() -> None:
    numbers = many(2000)
    one = await Vendor(soft("checking=0.1,unavailable=0.05")).statuses(*numbers)
    vendor = Vendor(soft("checking=0.1,unavailable=0.05"))
    other = await vendor.statuses(*reversed(numbers))
    assert one == other[::-1]
    seen = vendor.app.account.counts(vendor.now).by_status
    assert seen["checking"] == pytest.approx(200, rel=0.25)
    assert seen["unavailable"] == pytest.approx(100, rel=0.3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("maybe=0.1", "soft holds 'maybe': use checking, unavailable, or a status in capital letters"),
        ("checking", "soft needs a number, not ''"),
        ("checking=2", "soft.checking is 2.0"),
        ("checking=0.6,unavailable=0.6", "add up to more than 1"),
    ],
)
def test_wrong_soft_replies_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Soft.parse(text)


@pytest.mark.parametrize(
    ("understood", "request_body", "known"),
    [
        ("form", {"data": {"number": NUMBER}}, True),
        ("form", {"json": {"number": NUMBER}}, False),
        ("json", {"data": {"number": NUMBER}}, False),
        ("json", {"json": {"number": NUMBER}}, True),
    ],
)
async def test_a_body_in_the_wrong_encoding_holds_no_number(
    understood: str, request_body: dict[str, object], known: bool
) -> None:
    response = await Vendor(Settings(body=understood)).ask(**request_body)  # type: ignore[arg-type]
    if known:
        assert response.json()["status"] == "OK"
    else:
        assert_is(response, 400, "INVALID_ARGUMENT", "argument 'number': not found")


async def test_the_wait_grows_with_the_queue() -> None:
    vendor = Vendor(Settings(pending=1, queue_rate=10))
    numbers = many(100)
    assert set(await vendor.statuses(*numbers)) == {"PENDING"}
    vendor.now += 5.01  # half of the queue is worked off, in the order of the calls
    assert await vendor.statuses(*numbers) == ["OK"] * 50 + ["PENDING"] * 50
    late = "999999999"
    assert await vendor.statuses(late) == ["PENDING"]
    vendor.now += 5.0
    assert await vendor.statuses(late) == ["PENDING"]
    vendor.now += 0.1
    assert await vendor.statuses(late) == ["OK"]


def test_a_queue_without_pending_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="queue_rate has no effect without pending"):
        Settings(queue_rate=5)


async def test_the_invoice_holds_yes_and_no_by_day_and_endpoint_and_nothing_else() -> None:
    vendor = Vendor(Settings(price=0.01, price_basic=0.004, pending=0.3, errors=0.2, pending_for=1))
    numbers = many(60)
    for path in (ADVANCED, BASIC):
        for number in numbers:
            await vendor.ask(number, path)
    vendor.now += 86_400
    for number in numbers[:10]:
        await vendor.ask(number)
    invoice = vendor.app.account.invoice()
    assert [(line.day, line.endpoint) for line in invoice] == [
        ("2027-01-15", "advanced"),
        ("2027-01-15", "basic"),
        ("2027-01-16", "advanced"),
    ]
    charged = vendor.app.account.counts(vendor.now).by_status["OK"]
    assert sum(line.yes + line.no for line in invoice) == charged
    assert invoice[1].amount == f"{0.004 * (invoice[1].yes + invoice[1].no):.3f}"
    page = (await vendor.get("/invoice")).json()
    assert [InvoiceLine(**line) for line in page["lines"]] == invoice
    assert float(page["total"]) == pytest.approx(sum(float(line.amount) for line in invoice))
    assert invoice[0].day in (await vendor.get("/")).text


async def test_a_number_gets_the_reply_that_a_test_set() -> None:
    vendor = Vendor(Settings())
    vendor.app.account.scripts.answers(
        {NUMBER: "no", "+51987654322": {"whatsapp": "yes", "signature": "hola"}, 987654323: "NOT_HIT"}
    )
    assert (await vendor.ask()).json()["result"]["whatsapp"] == "no"
    own = truth("987654322")
    assert own["whatsapp"] == "yes"  # so the other fields stay
    expected = {**own, "signature": "hola"}
    assert (await vendor.ask("987654322")).json()["result"] == expected
    assert await vendor.statuses("987654323", "987654323") == ["NOT_HIT", "NOT_HIT"]
    assert (await vendor.ask("987654324")).json()["result"] == truth("987654324")


async def test_a_script_is_one_reply_a_call_and_then_the_numbers_own_answer() -> None:
    vendor = Vendor(Settings())
    scripts = vendor.app.account.scripts
    scripts.script(
        NUMBER,
        [
            "PENDING",
            "RATE_LIMIT_EXCEEDED",
            "bad_gateway",
            "checking",
            Scripted(body=b"{", delay=2.5),
            "reset",
        ],
    )
    seen = [await vendor.ask() for _ in range(5)]
    assert [reply.status_code for reply in seen] == [400, 403, 502, 200, 200]
    assert seen[4].content == b"{"
    assert vendor.slept == [2.5]
    assert list(scripts.left()) == [NUMBER]
    with pytest.raises(ConnectionResetError, match="on purpose"):
        await vendor.ask()
    assert scripts.left() == {}
    assert (await vendor.ask()).json()["result"] == truth(NUMBER)


async def test_every_part_of_a_reply_can_be_written() -> None:
    vendor = Vendor(Settings())
    vendor.app.account.scripts.script(
        NUMBER, [Scripted(status="TRY_LATER", reason="", http_status=429, retry_after=7)]
    )
    response = await vendor.ask()
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert (response.json()["status"], response.json()["reason"]) == ("TRY_LATER", "")


async def test_strict_refuses_and_remembers_numbers_without_a_reply() -> None:
    vendor = Vendor(Settings())
    scripts = vendor.app.account.scripts
    scripts.strict = True
    scripts.answers({NUMBER: "yes"})
    scripts.script("912345678", ["yes"])
    assert await vendor.statuses(NUMBER, "912345678", "912345678", "999999999") == [
        "OK",
        "OK",
        "OK",
        "INVALID_ARGUMENT",
    ]
    assert scripts.unexpected == ["999999999"]


@pytest.mark.parametrize("number", ["98765", "+1 202 555 0100", "abc"])
def test_replies_are_written_for_peruvian_numbers(number: str) -> None:
    with pytest.raises(ValueError, match="is not a Peruvian national number"):
        Vendor(Settings()).app.account.scripts.answers({number: "yes"})


def test_an_invalid_reply_is_refused() -> None:
    with pytest.raises(TypeError, match="True is not a reply"):
        Vendor(Settings()).app.account.scripts.answers({NUMBER: True})  # type: ignore[dict-item]


async def test_the_last_requests_are_kept() -> None:
    vendor = Vendor(Settings())
    await vendor.statuses(NUMBER, "12")
    assert [(line["number"], line["status"]) for line in vendor.app.requests] == [
        (NUMBER, "OK"),
        ("12", "INVALID_ARGUMENT"),
    ]
    assert json.dumps(vendor.app.requests[0])
    assert isinstance(await vendor.ask(), httpx.Response)
