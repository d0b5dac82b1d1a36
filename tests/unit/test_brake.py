"""The brake on uniform refusals: a wrong setting must not waste a list."""

from __future__ import annotations

import pytest

from accucheck._circuit import FIRST_ALIKE, LATER_ALIKE, UNPROVEN_IN_FLIGHT, Brake
from accucheck._errors import UniformRefusals
from accucheck._statuses import REDIRECT, UNSUPPORTED_BODY, VALUES
from accucheck._wire import Broken, Malformed, NoAnswer, StatusReply

NOT_FOUND = StatusReply("INVALID_ARGUMENT", 400, "argument 'number': not found", "TID1")
OTHER = StatusReply("INVALID_ARGUMENT", 400, "not a phone number")


def refuse(brake: Brake, reply: NoAnswer, count: int, *, start: int = 987_000_000) -> UniformRefusals | None:
    """Refuse ``count`` numbers; return the first error."""
    for number in range(start, start + count):
        error = brake.refused(str(number), reply)
        if error is not None:
            assert number == start + count - 1, "earlier than expected"
            return error
    return None


def test_twenty_identical_refusals_from_the_start_end_the_run() -> None:
    error = refuse(Brake(), NOT_FOUND, FIRST_ALIKE)
    assert error is not None
    assert (error.vendor_status, error.vendor_reason, error.numbers) == (
        "INVALID_ARGUMENT",
        "argument 'number': not found",
        20,
    )
    assert (error.request_id, error.http_status) == ("TID1", 400)
    for part in ("20 numbers", "argument 'number': not found", 'body="json"', "keep_going"):
        assert part in error.reason


def test_nineteen_identical_refusals_do_not_end_the_run() -> None:
    assert refuse(Brake(), NOT_FOUND, FIRST_ALIKE - 1) is None


def test_once_something_has_succeeded_it_takes_fifty_in_a_row() -> None:
    brake = Brake()
    refuse(brake, NOT_FOUND, FIRST_ALIKE - 1)
    brake.succeeded()
    assert refuse(brake, NOT_FOUND, LATER_ALIKE - 1) is None
    brake.succeeded()
    assert refuse(brake, NOT_FOUND, LATER_ALIKE) is not None


def test_a_different_reason_starts_the_count_again() -> None:
    brake = Brake()
    refuse(brake, NOT_FOUND, FIRST_ALIKE - 1)
    assert brake.refused("999999999", OTHER) is None
    assert refuse(brake, NOT_FOUND, FIRST_ALIKE) is not None


def test_a_number_counts_once_no_matter_how_often_it_is_refused() -> None:
    brake = Brake()
    assert not any(brake.refused("987654321", StatusReply("SHINY_NEW", 400)) for _ in range(100))


def test_reasons_that_differ_only_in_a_number_count_as_identical() -> None:
    brake = Brake()
    errors = [
        brake.refused(str(number), StatusReply("INVALID_ARGUMENT", 400, f"{number} is not valid"))
        for number in range(987_000_000, 987_000_000 + FIRST_ALIKE)
    ]
    assert [error is not None for error in errors] == [False] * (FIRST_ALIKE - 1) + [True]


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (OTHER, "check one number by hand"),
        (Malformed(415, "HTTP 415", row=UNSUPPORTED_BODY), 'body="json"'),
        (Malformed(302, "a redirect", row=REDIRECT), "base_url"),
        (Malformed(200, "HTTP 200 with a body that is not JSON"), "base_url"),
        (StatusReply("SHINY_NEW", 400), "what it means"),
        (StatusReply("unavailable", 200, row=VALUES["unavailable"]), "later"),
        (StatusReply("NOT_HIT", 400), "later"),
        (StatusReply("QUERY_FAILED", 400), "later"),
        (StatusReply("ABNORMAL_BEHAVIOURS_DETECTED", 400), "later"),
    ],
)
def test_the_error_says_what_to_try(reply: NoAnswer, advice: str) -> None:
    error = refuse(Brake(), reply, FIRST_ALIKE)
    assert error is not None
    assert advice in error.reason
    assert ": ." not in error.reason
    assert "()" not in error.reason


@pytest.mark.parametrize(
    "reply",
    [
        StatusReply("PENDING", 400),
        StatusReply("RATE_LIMIT_EXCEEDED", 403),
        StatusReply("INTERNAL_ERROR", 500),
        Broken("connect", "refused", sent=False),
        Broken("read", "timed out", sent=True),
    ],
)
def test_outages_rate_limits_and_pending_numbers_are_not_refusals(reply: NoAnswer) -> None:
    brake = Brake()
    refuse(brake, NOT_FOUND, FIRST_ALIKE - 1)
    assert refuse(brake, reply, 200, start=1) is None
    assert brake.refused("999999999", NOT_FOUND) is not None


def test_before_the_first_success_a_wrong_setting_costs_two_dozen_calls() -> None:
    brake = Brake()
    in_flight = sent = 0
    error = None
    while error is None:
        while brake.admits(in_flight):
            in_flight += 1
            sent += 1
        error = brake.refused(str(987_000_000 + sent - in_flight), NOT_FOUND)
        in_flight -= 1
    assert sent <= UNPROVEN_IN_FLIGHT


def test_once_something_has_succeeded_any_number_of_calls_may_be_in_flight() -> None:
    brake = Brake()
    assert not brake.admits(UNPROVEN_IN_FLIGHT)
    brake.succeeded()
    assert brake.admits(10_000)
    refuse(brake, NOT_FOUND, LATER_ALIKE - 1)
    assert brake.admits(10_000)


def test_a_run_that_is_not_ended_never_waits_for_itself() -> None:
    brake = Brake()
    refuse(brake, NOT_FOUND, FIRST_ALIKE - 1)
    assert brake.admits(0)


def test_the_command_line_says_what_happened_and_then_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    from accucheck.cli._summary import _say_refusals

    error = refuse(Brake(), NOT_FOUND, FIRST_ALIKE)
    assert error is not None
    _say_refusals(error)
    said, hint = capsys.readouterr().err.splitlines()
    assert said.startswith("accucheck: 20 numbers in a row")
    assert said.endswith("so the run stops before it makes more calls")
    assert "--body json" in hint
    assert "--keep-going" in hint
