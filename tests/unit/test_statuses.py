"""The status table: from the vendor's bytes to the fate of the number, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accucheck import _errors, _statuses
from accucheck._decide import AttemptHistory, Decision, Done, Policy, Stop, Wait, decide
from accucheck._errors import CheckError, InvalidArgument, ProtocolError, RunEnded, Undetermined
from accucheck._models import Check
from accucheck._statuses import CHARGES, FATES, STATUSES, VALUES, Row, as_markdown, row_of_code, rows
from accucheck._wire import Answered, Broken, Reply, decode_reply

NUMBER = "987654321"
POLICY = Policy()
HISTORY = AttemptHistory(number="+51987654321", now=1_000.0, calls=1)


def said(status: str, **fields: Any) -> bytes:
    return json.dumps({"status": status, "request_id": "TID1"} | fields).encode()


def ok(**result: Any) -> bytes:
    return said("OK", result={"number": "+51987654321"} | result)


def received(http_status: int, body: bytes) -> Reply:
    return decode_reply(NUMBER, http_status, body)


def fate(reply: Reply, history: AttemptHistory = HISTORY, policy: Policy = POLICY) -> Decision:
    return decide(history, reply, policy, 0.5)


def error_of(decision: Decision) -> Any:
    match decision:
        case Done(CheckError() as error) | Stop(error):
            return error
    raise AssertionError(decision)


# Every row, by a reply that the vendor (or what stands before it) may send

REPLIES: list[tuple[str, int, bytes, str]] = [
    ("OK", 200, ok(whatsapp="yes"), "answer"),
    ("OK", 200, ok(whatsapp="no"), "answer"),
    ("PENDING", 400, said("PENDING"), "poll"),
    ("CHECKING", 200, ok(whatsapp="checking"), "poll"),
    ("UNAVAILABLE", 200, ok(whatsapp="unavailable"), "Undetermined"),
    ("INVALID_ARGUMENT", 400, said("INVALID_ARGUMENT"), "InvalidArgument"),
    ("UNAUTHORIZED", 401, said("UNAUTHORIZED"), "Unauthorized"),
    ("KEY_EXPIRED", 401, said("KEY_EXPIRED"), "KeyExpired"),
    ("NO_PERMISSION", 403, said("NO_PERMISSION"), "NoPermission"),
    ("OUT_OF_QUOTA", 403, said("OUT_OF_QUOTA"), "OutOfQuota"),
    ("RATE_LIMIT_EXCEEDED", 403, said("RATE_LIMIT_EXCEEDED"), "refused"),
    ("NOT_FOUND", 404, said("NOT_FOUND"), "NotFound"),
    ("INTERNAL_ERROR", 500, said("INTERNAL_ERROR"), "retry"),
    ("ABNORMAL_BEHAVIOURS_DETECTED", 400, said("ABNORMAL_BEHAVIOURS_DETECTED"), "long wait"),
    ("QUERY_FAILED", 400, said("QUERY_FAILED"), "retry"),
    ("NOT_HIT", 400, said("NOT_HIT"), "Undetermined"),
    ("UNKNOWN", 400, said("SHINY_NEW"), "long wait"),
    ("UNKNOWN", 200, ok(whatsapp="maybe"), "long wait"),
    ("BAD_RESULT", 200, said("OK", result=None), "ProtocolError"),
    ("BAD_RESULT", 200, said("OK"), "ProtocolError"),
    ("BAD_RESULT", 200, ok(whatsapp=True), "ProtocolError"),
    ("MALFORMED", 200, b"<html>hello</html>", "ProtocolError"),
    ("MALFORMED", 418, b"short and stout", "ProtocolError"),
    ("TOO_MANY_REQUESTS", 429, b"", "refused"),
    ("GATEWAY", 502, b"<html>Bad Gateway</html>", "retry"),
    ("GATEWAY", 504, b"", "retry"),
    ("SERVER_ERROR", 503, b"<html>Service Unavailable</html>", "retry"),
    ("REQUEST_TIMEOUT", 408, b"", "retry"),
    ("UNSUPPORTED_BODY", 415, b"<html>Unsupported Media Type</html>", "ProtocolError"),
    ("REDIRECT", 302, b"", "ProtocolError"),
    ("ANSWER_LOST", 200, b'{"status": "OK", "resu', "retry"),
]


@pytest.mark.parametrize(("name", "http_status", "body", "expected"), REPLIES)
def test_a_reply_has_its_row_and_its_number_that_rows_fate(
    name: str, http_status: int, body: bytes, expected: str
) -> None:
    reply = received(http_status, body)
    decision = fate(reply)
    assert reply.row.name == name
    match decision:
        case Done(Check()):
            assert expected == "answer"
        case Wait(60.0, "retry"):
            assert expected == "long wait"
        case Wait(_, then):
            assert expected == then
        case _:
            assert type(error_of(decision)).__name__ == expected


def test_every_row_has_such_a_reply() -> None:
    assert {name for name, *_ in REPLIES} | {"NOT_SENT"} == {row.name for row in rows()}
    assert Broken("connect", "refused", sent=False).row.name == "NOT_SENT"


# Bad input


@pytest.mark.parametrize(
    ("body", "row", "whatsapp"),
    [
        (said("ok", result={"number": "+51987654321", "whatsapp": "no"}), "OK", False),
        (said(" Ok\n", result={"number": "+51987654321", "whatsapp": "Yes"}), "OK", True),
        (ok(whatsapp="yes", number="0051987654321"), "OK", True),
        (ok(whatsapp="yes", more={"a": {"b": [1]}}, carrier="Claro"), "OK", True),
        (said("OK", result={"whatsapp": "yes"}, debug={"node": 7}, version=2), "OK", True),
        (ok(whatsapp="yes", signature="", status_update="", business_user="", avatar=""), "OK", True),
        (ok(whatsapp="no", status_update=None), "OK", False),
        (said("pending"), "PENDING", None),
        (said("Query_Failed"), "QUERY_FAILED", None),
        (ok(whatsapp="Checking"), "CHECKING", None),
        (said(""), "MALFORMED", None),
        (said(" "), "MALFORMED", None),
        (b'{"status": null}', "MALFORMED", None),
        (b'{"status": {"code": "OK"}}', "MALFORMED", None),
        (said("OK", result=None), "BAD_RESULT", None),
        (said("OK", result=""), "BAD_RESULT", None),
        (said("OK", result=[]), "BAD_RESULT", None),
        (ok(whatsapp=True), "BAD_RESULT", None),
        (ok(whatsapp=False), "BAD_RESULT", None),
        (ok(whatsapp=""), "BAD_RESULT", None),
        (ok(whatsapp=None), "BAD_RESULT", None),
        (ok(whatsapp={"value": "no"}), "BAD_RESULT", None),
        (ok(whatsapp="yes", number="+52987654321"), "BAD_RESULT", None),
        (ok(whatsapp="yes", number="+5275293XXXX"), "BAD_RESULT", None),
        (ok(whatsapp="yes", number="+51987654322"), "BAD_RESULT", None),
        (ok(whatsapp="n0"), "UNKNOWN", None),
        (said("NO"), "UNKNOWN", None),
        (said("\x1b]0;owned\x07<script>alert(1)</script>"), "UNKNOWN", None),
        (said("'; DROP TABLE answers; --"), "UNKNOWN", None),
        (said("{word} {0} {http.__class__} %s %(x)s"), "UNKNOWN", None),
        (said("S" * 100_000), "UNKNOWN", None),
    ],
)
@pytest.mark.parametrize("http_status", [200, 400])
def test_bad_input_has_its_row_and_is_never_taken_for_a_no(
    http_status: int, body: bytes, row: str, whatsapp: bool | None
) -> None:
    reply = received(http_status, body)
    assert reply.row.name == row
    if whatsapp is not None:
        assert isinstance(reply, Answered)
        assert reply.check.whatsapp is whatsapp
        return
    unclear = AttemptHistory(number="+51987654321", unclear=1, failures=9, pending_for=1e9)
    error = error_of(fate(reply, unclear))
    assert error.reason.isprintable()
    assert 10 < len(error.reason) < 300


def test_a_hostile_status_is_shown_as_it_came_and_safe() -> None:
    history = AttemptHistory(unclear=1)
    shown = error_of(fate(received(400, said("{http} %s \x1b[31mred")), history)).reason
    assert "{http} %s \N{REPLACEMENT CHARACTER}[31mred" in shown


# Undetermined


@pytest.mark.parametrize(
    "body", [said("ABNORMAL_BEHAVIOURS_DETECTED"), said("SHINY_NEW"), ok(whatsapp="maybe")]
)
def test_an_unclear_reply_is_retried_once_and_then_undetermined_with_the_vendors_word(body: bytes) -> None:
    reply = received(400, body)
    assert fate(reply) == Wait(60.0, "retry")
    assert fate(reply, policy=Policy(long_wait=3.0)) == Wait(3.0, "retry")
    error = error_of(fate(reply, AttemptHistory(unclear=1)))
    assert type(error) is Undetermined
    assert any(word in error.reason for word in ("ABNORMAL_BEHAVIOURS_DETECTED", "SHINY_NEW", "maybe"))


def test_a_retry_after_makes_the_long_wait_longer() -> None:
    assert fate(decode_reply(NUMBER, 400, said("SHINY_NEW"), "90")) == Wait(90.0, "retry")
    assert fate(decode_reply(NUMBER, 400, said("SHINY_NEW"), "9")) == Wait(60.0, "retry")


@pytest.mark.parametrize(
    ("http_status", "body", "word"),
    [(400, said("NOT_HIT", reason="no record"), "NOT_HIT"), (200, ok(whatsapp="unavailable"), "unavailable")],
)
def test_an_unavailable_answer_is_undetermined_at_once(http_status: int, body: bytes, word: str) -> None:
    error = error_of(fate(received(http_status, body)))
    assert type(error) is Undetermined
    assert word in error.reason
    assert ("no record" in error.reason) == (word == "NOT_HIT")
    assert (error.number, error.request_id, error.http_status, error.calls) == (
        "+51987654321",
        "TID1",
        http_status,
        1,
    )


def test_a_query_that_fails_at_every_try_is_undetermined() -> None:
    reply = received(400, said("QUERY_FAILED"))
    assert isinstance(fate(reply, AttemptHistory(failures=3)), Wait)
    assert type(error_of(fate(reply, AttemptHistory(failures=4)))) is Undetermined


def test_checking_is_polled_like_pending() -> None:
    reply = received(200, ok(whatsapp="checking"))
    assert fate(reply, AttemptHistory(learned_poll_wait=4.5)) == Wait(4.5, "poll")
    error = error_of(fate(reply, AttemptHistory(pending_for=600.0, polls=9)))
    assert error.status == "PENDING_TIMEOUT"
    assert error.reason == "still checking after 600 s and 10 calls: try again later"


# The table itself

DOWN = {"INTERNAL_ERROR", "MALFORMED", "GATEWAY", "SERVER_ERROR", "REQUEST_TIMEOUT", "REDIRECT"} | {
    "ANSWER_LOST",
    "NOT_SENT",
}


def test_a_reply_that_parses_and_is_not_a_failure_proves_that_the_vendor_is_up() -> None:
    assert {row.name for row in rows() if not row.vendor_up} == DOWN


def test_soft_answers_draw_nothing_from_the_retry_budget() -> None:
    assert {row.name for row in rows() if row.draws_retry_budget} == DOWN - {"MALFORMED", "REDIRECT"}


def test_no_name_occurs_twice() -> None:
    names = [row.name for row in rows()]
    assert len(names) == len(set(names))


def test_every_row_is_in_the_table() -> None:
    own = {value.name for value in vars(_statuses).values() if isinstance(value, Row)}
    assert own | {row.name for row in (*STATUSES.values(), *VALUES.values())} == {row.name for row in rows()}
    assert {row_of_code(code) for code in range(1_000)} - {None} <= set(rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_rows_error_fits_its_fate(row: Row) -> None:
    if row.fate == "answer":
        assert row.error is None
        return
    assert row.error is not None
    assert row.error.__name__ in _errors.__all__
    assert issubclass(row.error, RunEnded if row.fate == "end" else CheckError)
    assert row.message.format(word="WORD", http=400) is not None
    if row.error is Undetermined:
        assert "{word}" in row.message  # the vendor's word is kept
    if row.error in (InvalidArgument, ProtocolError, Undetermined):
        assert row.if_all.endswith(".")
    if row.error is not ProtocolError:
        assert row.message or row.fate == "poll" or row.name in DOWN


def test_every_status_on_the_vendors_page_is_in_the_table_with_its_code() -> None:
    page = {
        ("PENDING", "400"),
        ("INVALID_ARGUMENT", "400"),
        ("UNAUTHORIZED", "401"),
        ("KEY_EXPIRED", "401"),
        ("NO_PERMISSION", "403"),
        ("OUT_OF_QUOTA", "403"),
        ("RATE_LIMIT_EXCEEDED", "403"),
        ("NOT_FOUND", "404"),
        ("INTERNAL_ERROR", "500"),
    }
    assert {(row.name, row.http) for row in rows() if row.source == "page"} == page | {("OK", "200")}


def test_the_table_can_be_printed_for_the_documentation() -> None:
    head, rule, *lines = as_markdown().splitlines()
    assert len(lines) == len(rows())
    assert {line.count("|") for line in (head, rule, *lines)} == {8}
    for row, line in zip(rows(), lines, strict=True):
        assert f"`{row.name}`" in line
        assert FATES[row.fate] in line
        assert CHARGES[row.charge] in line
