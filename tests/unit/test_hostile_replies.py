"""Undocumented replies, through the whole client: each has a fate, and its text is harmless everywhere."""

from __future__ import annotations

import json
import pickle
from typing import Any

import httpx
import pytest

from accucheck import Checked, Client, Failed, Policy
from accucheck._store import Query
from accucheck.cli._console import terminal_safe
from tests.unit.test_checks import Ledger
from tests.virtual_time import run

NUMBER = "987654321"
EVIL = "\\u001b]0;title\\u0007\\u001b[2J\\u202eexe.\\u009b31m"
"""As JSON has it: what a terminal or a reader of text might obey."""


def ok(*fields: str, whatsapp: str = '"yes"', number: str = '"987654321"') -> str:
    result = ", ".join([f'"number": {number}', f'"whatsapp": {whatsapp}', *fields])
    return f'{{"status": "OK", "request_id": "TID", "result": {{{result}}}}}'


ANSWERS = {
    "lower case": ('{"status": "ok", "result": {"number": "987654321", "whatsapp": "YES "}}', True),
    "a number with the country code": (ok(number='"+51 987-654-321"'), True),
    "a number as a number": (ok(number="51987654321"), True),
    "a number as a float": (ok(number="51987654321.0"), True),
    "a masked number": (ok(number='"+5198765XXXX"'), True),
    "no number": ('{"status": "OK", "result": {"whatsapp": "no"}}', False),
    "extra objects": (ok('"device": {"os": ["a", {"b": null}]}', '"": ""'), True),
    "an extra object beside the result": (ok()[:-1] + ', "more": {"a": 1}}', True),
    "a huge integer": (ok('"credits": 1' + "0" * 300), True),
    "a float beyond all": (ok('"credits": 1e999'), True),
    "no number at all": (ok('"credits": [NaN, -Infinity]'), True),
    "empty strings": (
        ok('"status_update": ""', '"signature": ""', '"business_user": ""', '"avatar": ""', whatsapp='"no"'),
        False,
    ),
    "strings as numbers": (ok('"status_update": 20231212', '"avatar": 1', '"business_user": true'), True),
    "a date that is none": (ok('"status_update": "20231399"'), True),
    "a hostile signature": (ok(f'"signature": "{EVIL}"'), True),
    "half a character": (ok('"signature": "a\\ud800b"', '"x": "\\udfff"'), True),
    "a key that comes twice: the last counts": (ok('"whatsapp": "no"'), False),
    "a result that comes twice: the last counts": (
        '{"status": "OK", "result": null, "result": {"number": "987654321", "whatsapp": "no"}}',
        False,
    ),
}
FAILURES = {
    "an unknown status with hostile text": (f'{{"status": "{EVIL}", "reason": "{EVIL}"}}', "UNDETERMINED", 2),
    "an unknown status without end": (f'{{"status": "{"A" * 9_000}"}}', "UNDETERMINED", 2),
    "an unknown value with hostile text": (ok(whatsapp=f'"{EVIL}"'), "UNDETERMINED", 2),
    "an invalid argument with a hostile reason": (
        f'{{"status": "invalid_argument", "reason": "{EVIL}"}}',
        "INVALID_ARGUMENT",
        1,
    ),
    "OK with null": ('{"status": "OK", "result": null}', "PROTOCOL_ERROR", 1),
    "OK with a list": ('{"status": "OK", "result": []}', "PROTOCOL_ERROR", 1),
    "OK with text": ('{"status": "OK", "result": "yes"}', "PROTOCOL_ERROR", 1),
    "a number of another country": (ok(number='"+52 987654321"'), "PROTOCOL_ERROR", 1),
    "a different number": (ok(number='"+51987654322"'), "PROTOCOL_ERROR", 1),
    "true instead of yes": (ok(whatsapp="true"), "PROTOCOL_ERROR", 1),
    "one instead of yes": (ok(whatsapp="1"), "PROTOCOL_ERROR", 1),
    "an empty answer": (ok(whatsapp='""'), "PROTOCOL_ERROR", 1),
    "no answer": (ok(whatsapp="null"), "PROTOCOL_ERROR", 1),
    "an empty status": ('{"status": ""}', "PROTOCOL_ERROR", 1),
    "a status that is a list": ('{"status": ["OK"]}', "PROTOCOL_ERROR", 1),
    "a status that is a number": ('{"status": 200}', "PROTOCOL_ERROR", 1),
    "a list": ('[{"status": "OK"}]', "PROTOCOL_ERROR", 1),
    "text": ('"OK"', "PROTOCOL_ERROR", 1),
    "null": ("null", "PROTOCOL_ERROR", 1),
    "an integer without end": (ok('"x": ' + "9" * 9_000), "PROTOCOL_ERROR", 1),
    "brackets without end": ("[" * 60_000, "PROTOCOL_ERROR", 1),
}


def outcome_of(body: str) -> tuple[Any, int, Any]:
    calls = 0

    def reply(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(200, content=body.encode())

    async def main() -> tuple[Any, int, Any]:
        ledger = Ledger()
        async with Client(
            "id",
            "secret",
            transport=httpx.MockTransport(reply),
            ledger=ledger,
            body="form",
            policy=Policy.fast(),
        ) as client:
            (outcome,) = await client.check_many([NUMBER], keep_going=True)
        kept = await ledger.find([int(NUMBER)], Query())
        return outcome, calls, kept[int(NUMBER)].result

    return run(main())


def leaves_safely(outcome: Any) -> None:
    """Everything a program does with an outcome works, and its text controls nothing."""
    json.dumps(outcome.to_dict(), allow_nan=False).encode()
    assert type(pickle.loads(pickle.dumps(outcome))) is type(outcome)
    assert "\x1b" not in repr(outcome)
    assert "\u202e" not in terminal_safe(repr(outcome), 10_000)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_oddly_formatted_answer_is_an_answer(name: str) -> None:
    body, whatsapp = ANSWERS[name]
    outcome, calls, kept = outcome_of(body)
    assert isinstance(outcome, Checked)
    assert (outcome.check.whatsapp, calls) == (whatsapp, 1)
    assert kept == outcome.check
    leaves_safely(outcome)


@pytest.mark.parametrize("name", FAILURES)
def test_anything_but_an_answer_is_never_a_no_and_never_loops(name: str) -> None:
    body, status, most_calls = FAILURES[name]
    outcome, calls, kept = outcome_of(body)
    assert isinstance(outcome, Failed)
    assert (outcome.error.status, calls) == (status, most_calls)
    assert outcome.error.reason.isprintable()
    assert len(outcome.error.reason) < 500
    assert kept.reason == outcome.error.reason
    leaves_safely(outcome)
