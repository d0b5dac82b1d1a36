"""Bytes in, value out: the vendor's table, and every reply that its page does not mention."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from accucheck._models import Check
from accucheck._statuses import UNKNOWN, rows
from accucheck._wire import (
    CONTENT_TYPES,
    Answered,
    Broken,
    Malformed,
    Reply,
    StatusReply,
    decode_reply,
    encode_number,
    utc_now,
)

NUMBER = "987654321"
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
REQUEST_ID = "TID591cb9fb0e284cf296912a4d0ffea889"
RESULT = {
    "number": "+51987654321",
    "whatsapp": "yes",
    "status_update": "20231212",
    "signature": "Hello world",
    "business_user": "no",
    "avatar": "yes",
}
"""The sample of the vendor's page, with a number of Peru."""
CHECK = Check(
    number="+51987654321",
    whatsapp=True,
    status_update=date(2023, 12, 12),
    signature="Hello world",
    business_user=False,
    avatar=True,
    request_id=REQUEST_ID,
    checked_at=NOW,
)


def decode(
    body: bytes, http_status: int = 200, retry_after: str | None = None, number: str = NUMBER
) -> Reply:
    return decode_reply(number, http_status, body, retry_after, now=lambda: NOW)


def ok(**result: Any) -> bytes:
    """A good reply with some of its result's fields replaced; ``...`` leaves a field out."""
    fields = {name: value for name, value in (RESULT | result).items() if value is not ...}
    return json.dumps({"status": "OK", "result": fields, "request_id": REQUEST_ID}).encode()


def answered(body: bytes, http_status: int = 200, number: str = NUMBER) -> Check:
    reply = decode(body, http_status, number=number)
    assert isinstance(reply, Answered), reply
    return reply.check


# Requests


@pytest.mark.parametrize(
    ("style", "body"), [("form", b"number=987654321"), ("json", b'{"number":"987654321"}')]
)
def test_a_request_has_only_the_number_without_country_code(style: Any, body: bytes) -> None:
    assert encode_number(style, NUMBER) == body


def test_a_json_body_is_json_and_each_style_has_its_content_type() -> None:
    assert json.loads(encode_number("json", NUMBER)) == {"number": NUMBER}
    assert CONTENT_TYPES == {"form": "application/x-www-form-urlencoded", "json": "application/json"}


# The vendor's table, row by row


@pytest.mark.parametrize(
    ("http_status", "status"),
    [
        (400, "PENDING"),
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHORIZED"),
        (401, "KEY_EXPIRED"),
        (403, "NO_PERMISSION"),
        (403, "OUT_OF_QUOTA"),
        (403, "RATE_LIMIT_EXCEEDED"),
        (404, "NOT_FOUND"),
        (500, "INTERNAL_ERROR"),
        # The body decides, so a status means the same under any HTTP code.
        (200, "PENDING"),
        (500, "PENDING"),
        (429, "PENDING"),
        (200, "OUT_OF_QUOTA"),
        (503, "RATE_LIMIT_EXCEEDED"),
        (429, "OUT_OF_QUOTA"),
        (400, "INTERNAL_ERROR"),
        (502, "INVALID_ARGUMENT"),
    ],
)
def test_a_status_of_the_page_is_read_from_the_body_whatever_the_http_code(
    http_status: int, status: str
) -> None:
    body = json.dumps({"status": status, "reason": "because", "request_id": REQUEST_ID}).encode()
    assert decode(body, http_status) == StatusReply(status, http_status, "because", REQUEST_ID, None)


def test_the_pages_sample_answer_becomes_a_check() -> None:
    assert answered(ok()) == CHECK


def test_the_pages_sample_error_keeps_its_reason() -> None:
    body = b"""{
    "status": "INVALID_ARGUMENT",
    "reason": "argument 'number': not found",
    "request_id": "TID0bb59f6aa6454717b870b16202ccf36f"
}"""
    assert decode(body, 400) == StatusReply(
        "INVALID_ARGUMENT", 400, "argument 'number': not found", "TID0bb59f6aa6454717b870b16202ccf36f"
    )


@pytest.mark.parametrize("http_status", [200, 201, 400, 403, 429, 500, 503])
def test_an_answer_counts_under_any_http_code_because_it_was_paid_for(http_status: int) -> None:
    assert answered(ok(), http_status) == CHECK


def test_no_on_whatsapp_is_false() -> None:
    assert answered(ok(whatsapp="no")).whatsapp is False


@pytest.mark.parametrize("status", ["ok", " OK ", "Ok"])
def test_a_status_in_other_case_or_with_spaces_is_understood(status: str) -> None:
    body = json.dumps({"status": status, "result": RESULT, "request_id": REQUEST_ID}).encode()
    assert answered(body) == CHECK


# HTTP codes that decide where the body says nothing


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Bad Gateway</html>",
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"status": 5}',
        b'{"status": "MAINTENANCE"}',
        b'{"status": "INTERN',
        b"\xff\xfe\x00",
        b"[" * 5_000,
    ],
)
@pytest.mark.parametrize(
    ("http_status", "status"),
    [
        (408, "REQUEST_TIMEOUT"),
        (429, "TOO_MANY_REQUESTS"),
        (500, "SERVER_ERROR"),
        (503, "SERVER_ERROR"),
        (599, "SERVER_ERROR"),
    ],
)
def test_some_codes_decide_where_the_body_has_no_known_status(
    http_status: int, status: str, body: bytes
) -> None:
    reply = decode(body, http_status, "7")
    assert isinstance(reply, StatusReply)
    assert (reply.status, reply.row.name) == (status, status)
    assert (reply.http_status, reply.retry_after) == (http_status, 7.0)


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"{}", b'{"status": "MAINTENANCE"}'])
@pytest.mark.parametrize("http_status", [502, 504, 520, 524])
def test_a_gateway_that_got_no_answer_has_lost_one_that_may_be_charged(http_status: int, body: bytes) -> None:
    reply = decode(body, http_status, "7")
    assert isinstance(reply, Broken)
    assert (reply.phase, reply.sent, reply.retry_after) == ("gateway", True, 7.0)
    assert (reply.http_status, reply.row.name) == (http_status, "GATEWAY")
    assert str(http_status) in reply.message


@pytest.mark.parametrize("http_status", [502, 504])
def test_the_vendors_own_status_counts_under_a_gateways_code_too(http_status: int) -> None:
    reply = decode(b'{"status": "OUT_OF_QUOTA"}', http_status)
    assert isinstance(reply, StatusReply)
    assert reply.status == "OUT_OF_QUOTA"


@pytest.mark.parametrize("http_status", [300, 301, 302, 303, 307, 308, 399])
def test_a_redirect_is_malformed_whatever_its_body(http_status: int) -> None:
    reply = decode(ok(), http_status)
    assert isinstance(reply, Malformed)
    assert reply.http_status == http_status
    assert "redirect" in reply.reason


# Replies that break the contract


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (b"", "empty"),
        (b" \r\n ", "empty"),
        (b"<html>hello</html>", "not JSON"),
        (b"OK", "not JSON"),
        (b'{"status":"OK"}x', "not JSON"),
        (b'{"status":"OK",}}', "not JSON"),
        (b'["OK", ', "not JSON"),
        (b'{"request_id":' + b"1" * 5_000 + b"}", "not JSON"),
        ('{"status":"OK"}'.encode("utf-16"), "not JSON"),
        (b"[" * 5_000 + b"]" * 5_000, "nested too deeply"),
        (b'\xef\xbb\xbf{"status":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "nested too deeply"),
        (
            b'{"status":"OK","result":{"whatsapp":"yes","x":' + b"[" * 99 + b"]" * 99 + b"}}",
            "nested too deeply",
        ),
        (b"[]", "no status"),
        (b'"OK"', "no status"),
        (b"7", "no status"),
        (b"{}", "no status"),
        (b'{"status":null}', "no status"),
        (b'{"status":["OK"]}', "no status"),
        (b'{"status":""}', "no status"),
        (b'{"status":"  "}', "no status"),
        (b'{"status":"OK"}', "without a result"),
        (b'{"status":"OK","result":null}', "without a result"),
        (b'{"status":"OK","result":[]}', "without a result"),
        (b'{"status":"OK","result":{}}', "neither yes nor no: None"),
        (ok(whatsapp=...), "neither yes nor no: None"),
        (ok(whatsapp=""), "neither yes nor no: ''"),
        (ok(whatsapp="  "), "neither yes nor no: '  '"),
        (ok(whatsapp={"value": "yes"}), "neither yes nor no"),
        (ok(whatsapp=True), "neither yes nor no: True"),
        (ok(whatsapp=1), "neither yes nor no: 1"),
        (ok(whatsapp=["yes"]), "neither yes nor no: ['yes']"),
        (ok(number="+51987654322"), "a different number"),
        (ok(number="+5275293XXXX"), "a different number"),
        (ok(number="98765432"), "a different number"),
        (ok(number="+519876543210"), "a different number"),
        (ok(number="unknown"), "a different number"),
        (ok(number=True), "a different number"),
    ],
)
@pytest.mark.parametrize("http_status", [200, 400])
def test_a_complete_reply_that_breaks_the_contract_is_malformed_and_shows_what_was_received(
    http_status: int, body: bytes, seen: str
) -> None:
    reply = decode(body, http_status)
    assert isinstance(reply, Malformed), reply
    assert seen in reply.reason
    assert reply.http_status == http_status


def test_a_reply_without_an_answer_keeps_its_request_id_so_that_the_vendor_can_be_asked() -> None:
    for body in (
        ok(whatsapp=True),
        ok(whatsapp="maybe"),
        ok(number="+51911111111"),
        b'{"status":"NEW","request_id":"TID1"}',
    ):
        reply = decode(body)
        assert not isinstance(reply, Answered)
        assert reply.request_id in (REQUEST_ID, "TID1")


def test_received_text_is_shown_as_one_short_harmless_line() -> None:
    for body in (
        b"\x1b[31m" + b"a\n" * 5_000,
        json.dumps({"status": "\x1b]0;title\x07" + "b" * 5_000}).encode(),
        ok(whatsapp="\u202e" + "c" * 5_000),
        ok(whatsapp=["\u202e" + "c" * 5_000]),
    ):
        reply = decode(body)
        assert isinstance(reply, StatusReply | Malformed)
        for text in (reply.reason, reply.status if isinstance(reply, StatusReply) else ""):
            assert text.isprintable() or not text
            assert len(text) < 240


@pytest.mark.parametrize("word", ["SHINY_NEW", "shiny new", "Más tarde"])
def test_an_unknown_status_is_kept_verbatim(word: str) -> None:
    body = json.dumps({"status": word, "reason": "because", "request_id": REQUEST_ID}).encode()
    assert decode(body, 400, "7") == StatusReply(word, 400, "because", REQUEST_ID, 7.0, UNKNOWN)


@pytest.mark.parametrize("word", ["SHINY_NEW", "unknown", "yes and no", "OK", "PENDING", "true", "1"])
def test_an_unknown_value_is_kept_verbatim(word: str) -> None:
    assert decode(ok(whatsapp=word)) == StatusReply(word, 200, "", REQUEST_ID, None, UNKNOWN)


@pytest.mark.parametrize(("word", "row"), [("checking", "CHECKING"), ("unavailable", "UNAVAILABLE")])
@pytest.mark.parametrize("number", ["+51987654321", "", None])
def test_a_value_of_the_family_has_its_row(word: str, row: str, number: Any) -> None:
    for written in (word, word.upper(), f" {word} "):
        reply = decode(ok(whatsapp=written, number=number))
        assert isinstance(reply, StatusReply)
        assert (reply.status, reply.row.name) == (written.strip(), row)


@pytest.mark.parametrize("word", ["checking", "UNAVAILABLE", "CHECKING"])
def test_a_value_of_the_family_is_not_a_status(word: str) -> None:
    """{"status": "UNAVAILABLE"} is what other APIs send when they are down."""
    reply = decode(json.dumps({"status": word}).encode(), 400)
    assert isinstance(reply, StatusReply)
    assert reply.row is UNKNOWN
    down = decode(json.dumps({"status": word}).encode(), 503)
    assert down.row.name == "SERVER_ERROR"


@pytest.mark.parametrize("word", [row.name for row in rows() if row.source in ("HTTP", "accucheck")])
def test_the_vendor_cannot_say_one_of_our_own_words(word: str) -> None:
    reply = decode(json.dumps({"status": word}).encode(), 400)
    assert isinstance(reply, StatusReply)
    assert reply.row is UNKNOWN


def test_a_reason_is_shortened_and_stripped_of_control_characters() -> None:
    reply = decode(json.dumps({"status": "NO_PERMISSION", "reason": "\x1b[2J" + "a" * 999}).encode(), 403)
    assert isinstance(reply, StatusReply)
    assert reply.reason.isprintable()
    assert len(reply.reason) == 120
    assert reply.reason.endswith("…")


def test_a_reason_of_120_characters_is_not_shortened() -> None:
    reply = decode(json.dumps({"status": "NO_PERMISSION", "reason": "a" * 120}).encode(), 403)
    assert isinstance(reply, StatusReply)
    assert reply.reason == "a" * 120


# Truncated


def test_a_reply_cut_anywhere_is_a_lost_answer_and_not_a_malformed_one() -> None:
    text = r"""{"status": "OK", "result": {"number": "+51987654321", "whatsapp": "yes", "status_update": null,
        "signature": "h\u00f1 \"quoted\" \\ \ud83d\ude00", "score": -1.5e-7, "limit": 12E+3, "new": true,
        "old": [false, null], "nested": {"a": {"b": [1, 2]}}}, "request_id": "TID1"}"""
    whole = text.encode()
    assert isinstance(decode(whole), Answered)
    for end in range(1, len(whole)):
        reply = decode(whole[:end])
        assert isinstance(reply, Broken), whole[:end]
        assert (reply.phase, reply.sent) == ("truncated", True)
        assert str(end) in reply.message


def test_a_reply_cut_inside_a_character_is_truncated() -> None:
    assert isinstance(decode('{"status":"OK","result":{"signature":"ñ'.encode()[:-1]), Broken)


# Tolerance: the answer was paid for


@pytest.mark.parametrize(
    "number",
    [
        "+51987654321",
        "987654321",
        "51987654321",
        "0051987654321",
        "+51 987 654 321",
        "+5198765XXXX",
        "98765xxxx",
        "+51*******21",
        "+51•••••4321",
        "",
        None,
        987654321,
        51987654321,
    ],
)
def test_the_same_number_in_another_format_is_the_same_number(number: object) -> None:
    assert answered(ok(number=number)) == CHECK


def test_a_result_without_a_number_counts() -> None:
    assert answered(ok(number=...)) == CHECK


def test_a_fixed_line_is_compared_by_its_own_length() -> None:
    assert answered(ok(number="+5114567890"), number="14567890").number == "+5114567890"
    assert isinstance(decode(ok(number="+51914567890"), number="14567890"), Malformed)


def test_a_byte_order_mark_does_not_cost_the_answer() -> None:
    assert answered(b"\xef\xbb\xbf" + ok()) == CHECK


def test_bad_utf8_inside_a_field_is_replaced_there_alone() -> None:
    check = answered(ok(signature="Hello world").replace(b"Hello", b"Hell\xf3"))
    assert check.signature == "Hell\N{REPLACEMENT CHARACTER} world"
    assert check.number == CHECK.number
    assert check.status_update == CHECK.status_update
    assert check.request_id == REQUEST_ID


def test_half_a_surrogate_pair_is_replaced_since_no_file_could_store_it() -> None:
    body = (
        ok(signature="A", note="B").replace(b'"A"', rb'"a\ud800b \ud83d\ude00"').replace(b'"B"', rb'"\udc00"')
    )
    check = answered(body)
    assert check.signature == "a\N{REPLACEMENT CHARACTER}b \N{GRINNING FACE}"
    assert check.extra == {"note": "\N{REPLACEMENT CHARACTER}"}


def test_a_raw_line_break_in_a_signature_is_kept() -> None:
    assert answered(ok(signature="AB").replace(b"AB", b"A\n\tB")).signature == "A\n\tB"


@pytest.mark.parametrize("field", ["status_update", "signature", "business_user", "avatar"])
def test_a_field_that_is_missing_or_null_is_none(field: str) -> None:
    assert getattr(answered(ok(**{field: ...})), field) is None
    assert getattr(answered(ok(**{field: None})), field) is None


@pytest.mark.parametrize("field", ["status_update", "business_user", "avatar"])
def test_an_empty_field_is_none(field: str) -> None:
    check = answered(ok(**{field: ""}))
    assert getattr(check, field) is None
    assert check.extra == {}


def test_an_empty_signature_is_an_empty_signature() -> None:
    assert answered(ok(signature="")).signature == ""
    assert answered(ok(signature="", new=1)).signature == ""


def test_unknown_fields_of_the_result_are_kept_as_they_came() -> None:
    extra = {"carrier": "Claro", "score": 0.5, "tags": ["a", {"b": None}], "seen": True}
    check = answered(ok(**extra))
    assert check.extra == extra
    assert check == Check(
        **{field: getattr(CHECK, field) for field in CHECK.__struct_fields__} | {"extra": extra}
    )


def test_unknown_fields_may_be_nested_64_levels_deep_with_the_reply_around_them() -> None:
    def nested(levels: int) -> bytes:
        return ok(new=0).replace(b'"new": 0', b'"new": ' + b"[" * levels + b"]" * levels)

    assert "new" in answered(nested(62)).extra
    assert isinstance(decode(nested(63)), Malformed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status_update", "2023-12-12"),
        ("status_update", "20231301"),
        ("status_update", "2023121"),
        ("status_update", "٢٠٢٣١٢١٢"),
        ("status_update", 5),
        ("business_user", "maybe"),
        ("business_user", True),
        ("avatar", "https://example.com/a.jpg"),
        ("avatar", ["yes"]),
    ],
)
def test_a_known_field_that_cannot_be_read_is_kept_among_the_extra_ones(field: str, value: object) -> None:
    check = answered(ok(**{field: value}))
    assert getattr(check, field) is None
    assert check.extra == {field: value}
    assert check.whatsapp is True


def test_yes_and_no_in_other_case_or_with_spaces_are_understood() -> None:
    check = answered(ok(whatsapp="YES", business_user=" No", avatar="Yes "))
    assert (check.whatsapp, check.business_user, check.avatar) == (True, False, True)


def test_a_date_written_as_a_number_is_understood() -> None:
    assert answered(ok(status_update=20231212)).status_update == date(2023, 12, 12)


def test_the_basic_endpoints_result_is_an_answer_with_nothing_else() -> None:
    body = b'{"status":"OK","result":{"number":"+51987654321","whatsapp":"no"},"request_id":"TID1"}'
    assert answered(body) == Check(number="+51987654321", whatsapp=False, request_id="TID1", checked_at=NOW)


@pytest.mark.parametrize("request_id", [None, ...])
def test_an_answer_without_a_request_id_counts(request_id: object) -> None:
    document: dict[str, Any] = {"status": "OK", "result": RESULT}
    if request_id is None:
        document["request_id"] = None
    assert answered(json.dumps(document).encode()).request_id == ""


def test_a_signature_that_is_not_text_is_kept_as_text() -> None:
    assert answered(ok(signature=5)).signature == "5"


def test_the_clock_is_utc_by_default() -> None:
    before = datetime.now(UTC)
    reply = decode_reply(NUMBER, 200, ok())
    assert isinstance(reply, Answered)
    assert before <= reply.check.checked_at <= datetime.now(UTC)
    assert utc_now().tzinfo is UTC
