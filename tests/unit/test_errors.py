"""The error tree is as drawn in the docstring, and errors keep their data across processes."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest

from accucheck import _errors
from accucheck._errors import (
    CHECK_ERRORS,
    AccucheckError,
    CheckError,
    ConfigurationError,
    InvalidNumber,
    LedgerError,
    Outage,
    OutOfQuota,
    RunEnded,
    StillPending,
    UniformRefusals,
)

ASKED_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)

KINDS: list[type[AccucheckError]] = [
    kind
    for _, kind in inspect.getmembers(_errors, inspect.isclass)
    if issubclass(kind, AccucheckError) and kind.__module__ == _errors.__name__
]
CHECK_KINDS = [kind for kind in KINDS if issubclass(kind, CheckError)]
RUN_KINDS = [kind for kind in KINDS if issubclass(kind, RunEnded)]


def drawn_tree() -> dict[str, str | None]:
    """Read the tree in the docstring: each name and its parent."""
    assert _errors.__doc__ is not None
    parents: dict[str, str | None] = {}
    branch: list[str] = []
    for line in _errors.__doc__.splitlines():
        if found := re.match(r"((?:[│ ]   )*(?:[├└]── )?)([A-Z]\w+)(?:  |$)", line):
            depth = len(found[1]) // 4
            branch[depth:] = [found[2]]
            parents[found[2]] = branch[depth - 1] if depth else None
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {kind.__name__: None if kind is AccucheckError else kind.__bases__[0].__name__ for kind in KINDS}
    assert drawn_tree() == real


def test_every_error_is_exported_and_nothing_else() -> None:
    assert sorted(_errors.__all__) == sorted(kind.__name__ for kind in KINDS)


def test_no_two_errors_share_a_status_word_and_each_is_in_the_vendors_style() -> None:
    words = [kind.status for kind in KINDS]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[A-Z]+(_[A-Z]+)*", word) for word in words)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("InvalidArgument", "INVALID_ARGUMENT"),
        ("Unauthorized", "UNAUTHORIZED"),
        ("KeyExpired", "KEY_EXPIRED"),
        ("NoPermission", "NO_PERMISSION"),
        ("OutOfQuota", "OUT_OF_QUOTA"),
        ("RateLimited", "RATE_LIMIT_EXCEEDED"),
        ("NotFound", "NOT_FOUND"),
        ("InternalError", "INTERNAL_ERROR"),
        ("InvalidNumber", "INVALID_NUMBER"),
        ("PendingTimeout", "PENDING_TIMEOUT"),
        ("ProtocolError", "PROTOCOL_ERROR"),
        ("TransportError", "TRANSPORT_ERROR"),
        ("Undetermined", "UNDETERMINED"),
        ("VendorUnavailable", "VENDOR_UNAVAILABLE"),
        ("UniformRefusals", "UNIFORM_REFUSALS"),
        ("Outage", "OUTAGE"),
        ("StillPending", "PENDING"),
        ("BudgetExhausted", "BUDGET_EXHAUSTED"),
        ("LedgerError", "LEDGER_ERROR"),
    ],
)
def test_the_status_is_the_vendors_own_word_or_one_that_outputs_promise(name: str, status: str) -> None:
    assert getattr(_errors, name).status == status


def test_the_errors_of_an_admitted_number_are_found_by_their_word() -> None:
    admitted = [kind for kind in CHECK_KINDS if kind not in (CheckError, InvalidNumber)]
    assert {kind.status: kind for kind in admitted} == CHECK_ERRORS


def test_a_configuration_error_is_a_value_error_too() -> None:
    assert issubclass(ConfigurationError, ValueError)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reason_is_the_message(kind: type[AccucheckError]) -> None:
    assert kind("too short").reason == str(kind("too short")) == "too short"
    assert kind().reason == ""


def filled(kind: type[AccucheckError]) -> AccucheckError:
    """An error in which every field differs from its default."""
    if issubclass(kind, InvalidNumber):
        return kind("the reason", problem="too_short")
    if issubclass(kind, CheckError):
        asked: dict[str, Any] = {"asked_at": ASKED_AT} if issubclass(kind, StillPending) else {}
        return kind(
            "the reason",
            **asked,
            number="+51987654321",
            request_id="TID1",
            http_status=500,
            calls=5,
            retry_after=2.5,
            possibly_double_charged=1,
        )
    if issubclass(kind, RunEnded):
        own: dict[str, Any] = {}
        if issubclass(kind, UniformRefusals):
            own = {"vendor_status": "INVALID_ARGUMENT", "vendor_reason": "why", "numbers": 20}
        elif issubclass(kind, Outage):
            own = {"host": "cloudapi.peru.accuauth.com", "cause": "connection refused"}
        error = kind("the reason", request_id="TID1", http_status=403, **own)
        error.done, error.not_done = 7, 5
        return error
    return kind("the reason")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling_with_its_data(kind: type[AccucheckError], protocol: int) -> None:
    error = filled(kind)
    for other in (
        pickle.loads(pickle.dumps(error, protocol)),
        copy.copy(error),
        copy.deepcopy(error),
    ):
        assert other is not error
        assert type(other) is kind
        assert (other.args, vars(other)) == (error.args, vars(error))


@pytest.mark.parametrize("kind", KINDS)
def test_errors_with_the_same_data_are_equal_and_one_in_a_set(kind: type[AccucheckError]) -> None:
    assert filled(kind) == filled(kind)
    assert len({filled(kind), filled(kind)}) == 1
    assert kind("one") != kind("other")
    assert filled(kind) != kind("the reason") or not vars(filled(kind))
    assert not any(kind("x") == other("x") for other in KINDS if other is not kind)


def test_adding_a_note_does_not_change_an_errors_equality() -> None:
    error = OutOfQuota("why")
    error.add_note("in the nightly job")
    assert error == OutOfQuota("why")
    assert "nightly" not in json.dumps(error.to_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_form_of_an_error_holds_all_of_it_and_is_ready_for_json(kind: type[AccucheckError]) -> None:
    error = filled(kind)
    plain = error.to_dict()
    fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
    if isinstance(error, StillPending):
        fields = fields | {"asked_at": "2026-11-23T12:00:00+00:00"}
    assert plain == {"status": kind.status, "reason": "the reason"} | fields
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize("kind", [kind for kind in CHECK_KINDS if kind is not InvalidNumber])
def test_an_errors_number_is_complete_as_a_field_and_masked_as_text(kind: type[CheckError]) -> None:
    error = kind("still checking", number="+51987654321")
    assert error.number == "+51987654321"
    assert error.reason == "still checking"
    assert str(error) == "9876•••21: still checking"
    for shown in (repr(error), repr([error]), f"{error}", "".join(traceback.format_exception(error))):
        assert "987654321" not in shown


@pytest.mark.parametrize("kind", CHECK_KINDS)
def test_an_error_without_a_number_shows_none(kind: type[CheckError]) -> None:
    error = kind()
    assert (error.number, error.request_id, error.http_status) == ("", "", None)
    assert (error.calls, error.retry_after, error.possibly_double_charged) == (0, None, 0)


@pytest.mark.parametrize("kind", RUN_KINDS)
def test_an_error_that_ends_a_run_has_its_stats(kind: type[RunEnded]) -> None:
    error = kind("why", request_id="TID1", http_status=403)
    assert (error.request_id, error.http_status, error.done, error.not_done) == ("TID1", 403, 0, 0)


def test_an_invalid_number_is_a_check_error() -> None:
    with pytest.raises(CheckError):
        raise InvalidNumber("7 digits", problem="too_short")


def test_an_invalid_number_has_a_problem_to_count_by() -> None:
    assert InvalidNumber("7 digits", problem="too_short").problem == "too_short"
    assert InvalidNumber().problem == "not_peruvian"


def test_run_errors_are_not_number_errors_and_vice_versa() -> None:
    assert not issubclass(OutOfQuota, CheckError)
    assert not issubclass(LedgerError, CheckError)
    assert not any(issubclass(kind, RunEnded) for kind in CHECK_KINDS)


def test_every_error_has_a_retry_after() -> None:
    assert AccucheckError("x").retry_after is None
    assert OutOfQuota("x").retry_after is None
    assert "retry_after" not in OutOfQuota("x").to_dict()
    assert _errors.VendorUnavailable("x", retry_after=2.5).retry_after == 2.5
