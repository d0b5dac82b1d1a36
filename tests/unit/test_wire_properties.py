"""Decoding any bytes gives a value: never an exception, never a wrong answer."""

from __future__ import annotations

import json
import pickle
import string
from datetime import UTC, date, datetime
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from accucheck._models import Check
from accucheck._statuses import STATUSES, rows
from accucheck._wire import Answered, Broken, Malformed, Reply, StatusReply, decode_reply

NUMBER = "987654321"
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

http_codes = st.one_of(st.sampled_from([200, 301, 400, 401, 403, 404, 429, 500, 502]), st.integers(0, 999))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["yes", "no", "+51987654321"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
statuses = st.sampled_from([*STATUSES, "ok", "NEW", ""])
results = st.fixed_dictionaries(
    {},
    optional={
        name: json_values | st.sampled_from(["yes", "no", "20231212", "+51987654321", ""])
        for name in ("number", "whatsapp", "status_update", "signature", "business_user", "avatar", "new")
    },
)
envelopes = st.fixed_dictionaries(
    {},
    optional={
        "status": statuses | json_values,
        "result": results | json_values,
        "reason": json_values,
        "request_id": json_values,
        "new": json_values,
    },
)


def decode(http_status: int, body: bytes, retry_after: str | None = None) -> Reply:
    return decode_reply(NUMBER, http_status, body, retry_after, now=lambda: NOW)


def sound(reply: Reply) -> bool:
    """Whether a value is one that the rest of the program can handle, store and send to another process."""
    match reply:
        case Answered(check):
            assert check.number == "+51" + NUMBER
            assert isinstance(check.whatsapp, bool)
            msgspec.json.encode(check)
            assert pickle.loads(pickle.dumps(check)).number == check.number
        case StatusReply():
            assert reply.row.fate != "answer"
            for text in (reply.status, reply.reason):
                assert text.isprintable()
                assert len(text) <= 120
        case Malformed():
            assert reply.reason.isprintable()
            assert len(reply.reason) < 300
        case Broken():
            assert (reply.phase, reply.sent) in (("truncated", True), ("gateway", True))
    assert reply.row in rows()
    assert pickle.loads(pickle.dumps(reply)) == reply
    return True


@given(http_codes, st.binary(), st.none() | st.text())
def test_any_bytes_become_a_valid_value(http_status: int, body: bytes, retry_after: str | None) -> None:
    assert sound(decode(http_status, body, retry_after))


@given(http_codes, json_values | envelopes, st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_any_json_becomes_a_valid_value(
    http_status: int, document: Any, ascii_only: bool, mark: bytes
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    assert sound(decode(http_status, mark + text.encode("utf-8", "surrogatepass")))


@given(envelopes, st.data())
def test_json_with_any_bytes_changed_becomes_a_valid_value(document: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    assert sound(decode(200, bytes(body)))


@given(st.integers(1, 20_000), st.sampled_from([b"[", b'{"a":', b'[{"b":[', b'{"status":"OK","result":']))
@settings(max_examples=30)
def test_nesting_of_any_depth_becomes_a_valid_value(depth: int, opening: bytes) -> None:
    assert sound(decode(200, opening * depth))


yes_no = {True: "yes", False: "no", None: None}
checks = st.builds(
    Check,
    number=st.just("+51" + NUMBER),
    whatsapp=st.booleans(),
    status_update=st.none() | st.dates(min_value=date(1000, 1, 1)),
    signature=st.none() | st.text(),
    business_user=st.none() | st.booleans(),
    avatar=st.none() | st.booleans(),
    request_id=st.text(string.ascii_letters + string.digits),
    checked_at=st.just(NOW),
    extra=st.dictionaries(
        st.text().filter(lambda name: name not in Check.__struct_fields__),
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        max_size=3,
    ),
)


@given(checks, st.booleans(), st.booleans())
def test_an_answer_in_the_documented_format_is_read_back_completely(
    check: Check, mark: bool, leave_out: bool
) -> None:
    result: dict[str, Any] = {
        "number": check.number,
        "whatsapp": yes_no[check.whatsapp],
        "status_update": None if check.status_update is None else f"{check.status_update:%Y%m%d}",
        "signature": check.signature,
        "business_user": yes_no[check.business_user],
        "avatar": yes_no[check.avatar],
    }
    if leave_out:
        result = {name: value for name, value in result.items() if value is not None}
    document = {"status": "OK", "result": result | dict(check.extra), "request_id": check.request_id}
    body = (b"\xef\xbb\xbf" if mark else b"") + json.dumps(document, ensure_ascii=False).encode()
    assert decode(200, body) == Answered(check)


@given(checks, st.text(string.digits, min_size=1, max_size=14))
def test_the_result_of_another_number_is_never_an_answer(check: Check, other: str) -> None:
    if other in (NUMBER, "51" + NUMBER, "0051" + NUMBER):
        return
    body = json.dumps({"status": "OK", "result": {"number": other, "whatsapp": "yes"}}).encode()
    assert isinstance(decode(200, body), Malformed)


@given(json_values)
def test_only_the_word_no_is_ever_a_no(value: Any) -> None:
    body = json.dumps({"status": "OK", "result": {"number": "+51" + NUMBER, "whatsapp": value}}).encode()
    reply = decode(200, body)
    if isinstance(reply, Answered) and not reply.check.whatsapp:
        assert isinstance(value, str)
        assert value.strip().lower() == "no"
