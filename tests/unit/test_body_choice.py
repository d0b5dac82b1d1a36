"""body="auto": at most two extra calls per account, and none after the first success."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import accucheck
from accucheck._host import BodyChoice
from accucheck._models import Check
from accucheck._statuses import BAD_RESULT, UNSUPPORTED_BODY, VALUES
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply

ANSWER = Answered(Check(number="+51987654321", whatsapp=False, checked_at=datetime(2026, 11, 23, tzinfo=UTC)))
NOT_FOUND = StatusReply("INVALID_ARGUMENT", 400, "argument 'number': not found")
UNSUPPORTED = Malformed(415, "HTTP 415 (unsupported body)", row=UNSUPPORTED_BODY)
PENDING = StatusReply("PENDING", 400)
CHECKING = StatusReply("checking", 200, row=VALUES["checking"])
UNAVAILABLE = StatusReply("unavailable", 200, row=VALUES["unavailable"])
INVALID = StatusReply("INVALID_ARGUMENT", 400, "number is not valid")
RATE_LIMITED = StatusReply("RATE_LIMIT_EXCEEDED", 403)
UNAUTHORIZED = StatusReply("UNAUTHORIZED", 401)
DOWN = StatusReply("INTERNAL_ERROR", 500)
BROKEN = Broken("connect", "refused", sent=False)
STRANGE = Malformed(200, "OK without a result", row=BAD_RESULT)
REPLIES: list[Reply] = [
    *(ANSWER, NOT_FOUND, UNSUPPORTED, PENDING, CHECKING, UNAVAILABLE, INVALID),
    *(RATE_LIMITED, UNAUTHORIZED, DOWN, BROKEN, STRANGE),
]
REFUSALS = [NOT_FOUND, UNSUPPORTED]


def test_the_form_is_tried_first_and_alone() -> None:
    choice = BodyChoice()
    assert choice.style == "form"
    assert not choice.settled


@pytest.mark.parametrize("reply", [ANSWER, PENDING, CHECKING])
def test_a_form_that_works_is_remembered(reply: Reply) -> None:
    choice = BodyChoice()
    assert choice.heard(reply) is False
    assert (choice.style, choice.settled, choice.memory) == ("form", True, "form")


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("reply", [ANSWER, PENDING, CHECKING])
def test_a_refused_first_call_is_repeated_as_json_and_the_result_remembered(
    refusal: Reply, reply: Reply
) -> None:
    choice = BodyChoice()
    assert choice.heard(refusal) is True
    assert choice.style == "json"
    assert not choice.settled
    assert choice.heard(reply) is False
    assert (choice.style, choice.settled, choice.memory) == ("json", True, "json")


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("reply", [NOT_FOUND, UNSUPPORTED, INVALID, STRANGE])
def test_if_json_is_refused_too_the_form_stays_and_nothing_more_is_tried(
    refusal: Reply, reply: Reply
) -> None:
    choice = BodyChoice()
    choice.heard(refusal)
    assert choice.heard(reply) is False
    assert (choice.style, choice.settled, choice.memory) == ("form", True, "1")
    assert choice.heard(refusal) is False


def test_an_invalid_number_is_not_a_refusal_of_the_body() -> None:
    choice = BodyChoice()
    assert choice.heard(INVALID) is False
    assert (choice.style, choice.settled, choice.memory) == ("form", True, None)


@pytest.mark.parametrize("reply", [RATE_LIMITED, DOWN, BROKEN, UNAUTHORIZED])
def test_a_reply_that_says_nothing_about_the_body_leaves_the_question_open(reply: Reply) -> None:
    choice = BodyChoice()
    for _ in range(5):
        assert choice.heard(reply) is False
    assert (choice.style, choice.settled, choice.memory) == ("form", False, None)
    assert choice.heard(NOT_FOUND) is True
    for _ in range(5):
        assert choice.heard(reply) is False
    assert choice.style == "json"


@pytest.mark.parametrize("style", ["form", "json"])
def test_the_encoding_that_an_earlier_run_found_is_used_without_a_trial(style: str) -> None:
    choice = BodyChoice(style)
    assert (choice.style, choice.settled) == (style, True)
    assert choice.heard(NOT_FOUND) is False


@pytest.mark.parametrize("damaged", ["", "xml", "-1", "1.5", "²", "null"])
def test_an_invalid_remembered_encoding_is_ignored(damaged: str) -> None:
    choice = BodyChoice(damaged)
    assert (choice.style, choice.settled) == ("form", False)


scripts = st.lists(st.lists(st.sampled_from(REPLIES), max_size=8), max_size=6)


@given(scripts)
def test_an_account_pays_two_extra_calls_at_most_and_none_after_a_success(runs: list[list[Reply]]) -> None:
    memory: str | None = None
    extra = 0
    succeeded = False
    for replies in runs:
        choice = BodyChoice(memory)
        for reply in replies:
            again = choice.heard(reply)
            assert not (again and succeeded)
            extra += again
            succeeded = succeeded or reply in (ANSWER, PENDING, CHECKING)
        memory = choice.memory or memory
    assert extra <= 2


@pytest.mark.parametrize("wanted", ["form", "json"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_against_a_vendor_that_takes_one_encoding_only_no_answer_is_lost(wanted: str, refusal: Reply) -> None:
    choice = BodyChoice()
    calls = 0
    for _ in range(10):
        calls += 1
        while choice.heard(reply := ANSWER if choice.style == wanted else refusal):
            calls += 1
        assert reply is ANSWER
    assert calls == (10 if wanted == "form" else 11)


@pytest.mark.parametrize("clients", [1, 6])
async def test_clients_on_one_ledger_pay_for_one_trial_together(tmp_path: Path, clients: int) -> None:
    refused = 0

    async def reply(request: httpx.Request) -> httpx.Response:
        nonlocal refused
        body = await request.aread()
        await asyncio.sleep(0.02)
        if not body.startswith(b"{"):
            refused += 1
            return httpx.Response(
                400, json={"status": "INVALID_ARGUMENT", "reason": "argument 'number': not found"}
            )
        number = json.loads(body)["number"]
        return httpx.Response(200, json={"status": "OK", "result": {"number": number, "whatsapp": "no"}})

    async def one(first: int) -> None:
        leads = [str(first + n) for n in range(20)]
        async with accucheck.Client(
            "id", "secret", transport=httpx.MockTransport(reply), ledger=tmp_path / "leads.db"
        ) as client:
            checking = client.check(str(first + 100))
            outcomes, check = await asyncio.gather(client.check_many(leads), checking)
            assert all(isinstance(outcome, accucheck.Checked) for outcome in outcomes)
            assert not check.whatsapp

    await asyncio.gather(*(one(900_000_000 + 1_000 * n) for n in range(clients)))
    assert refused == 1
