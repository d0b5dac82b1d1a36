"""The records: frozen, slotted, picklable, plain."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest

from accucheck._errors import InvalidNumber, PendingTimeout
from accucheck._events import CallEnded, CircuitChanged
from accucheck._events import Settled as SettledEvent
from accucheck._models import Check, Checked, Failed, Settlement, Stats

CHECK = Check(
    number="+51987654321",
    whatsapp=True,
    status_update=date(2023, 12, 12),
    signature="¡Hola! 🙂",
    business_user=False,
    avatar=None,
    request_id="TID1",
    checked_at=datetime(2026, 11, 23, 9, 30, tzinfo=UTC),
    extra={"carrier": "Claro", "tags": [1, None]},
)
ROW = {"name": "Ana", "phone": "987 654 321"}
RECORDS: list[Any] = [
    CHECK,
    Checked(item=ROW, check=CHECK, calls=3, possibly_double_charged=1, index=41),
    Settlement(987654321, CHECK, 3, 1),
    Stats(read=10, yes=4, rate=12.5, elapsed=1.5),
    CallEnded("OK", "first", 0.25),
    CircuitChanged(True),
    SettledEvent("OK", 3),
]
names = [type(record).__name__ for record in RECORDS]


@pytest.mark.parametrize("record", RECORDS, ids=names)
def test_a_record_cannot_be_changed(record: Any) -> None:
    field = record.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(record, field, None)
    with pytest.raises(AttributeError):
        record.not_a_field = 1


@pytest.mark.parametrize("record", RECORDS, ids=names)
def test_a_record_carries_no_dict(record: Any) -> None:
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("record", RECORDS, ids=names)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_record_travels_to_another_process_whole(record: Any, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(record, protocol)) == record
    assert copy.copy(record) == record
    assert copy.deepcopy(record) == record


@pytest.mark.parametrize(
    "error",
    [PendingTimeout("still", request_id="TID1", http_status=400), InvalidNumber("x", problem="letters")],
)
def test_a_failure_travels_with_its_row_and_its_errors_data(error: Any) -> None:
    failed = Failed(item=ROW, error=error, calls=9, possibly_double_charged=2, index=3)
    other = pickle.loads(pickle.dumps(failed))
    assert (other.item, other.calls, other.possibly_double_charged, other.index) == (ROW, 9, 2, 3)
    assert type(other.error) is type(error)
    assert (other.error.args, vars(other.error)) == (error.args, vars(error))


def test_a_row_that_is_passed_through_is_the_callers_own_object() -> None:
    assert Checked(item=ROW, check=CHECK).item is ROW
    assert Failed(item=ROW, error=InvalidNumber("x")).item is ROW


def test_outcomes_can_be_told_apart_by_pattern() -> None:
    outcome: Checked[dict[str, str]] | Failed[dict[str, str]] = Checked(item=ROW, check=CHECK)
    match outcome:
        case Checked(item=item, check=check):
            assert (item, check) == (ROW, CHECK)
        case Failed():
            raise AssertionError("matched as a failure")


def test_the_plain_form_of_a_check_is_ready_for_json() -> None:
    plain = CHECK.to_dict()
    assert plain == {
        "number": "+51987654321",
        "whatsapp": True,
        "status_update": "2023-12-12",
        "signature": "¡Hola! 🙂",
        "business_user": False,
        "avatar": None,
        "request_id": "TID1",
        "checked_at": "2026-11-23T09:30:00Z",
        "extra": {"carrier": "Claro", "tags": [1, None]},
    }
    assert json.loads(json.dumps(plain)) == plain
    assert list(plain) == list(Check.__struct_fields__)


def test_a_check_can_be_read_back_from_its_plain_form() -> None:
    assert msgspec.convert(CHECK.to_dict(), Check) == CHECK


def test_changing_the_plain_form_changes_no_check() -> None:
    plain = CHECK.to_dict()
    plain["extra"]["carrier"] = "other"
    assert CHECK.extra["carrier"] == "Claro"


def test_two_checks_share_no_extra_fields() -> None:
    one = Check(number="+51987654321", whatsapp=True, checked_at=CHECK.checked_at)
    two = Check(number="+51987654322", whatsapp=True, checked_at=CHECK.checked_at)
    assert one.extra == {}
    assert one.extra is not two.extra


def test_a_check_says_by_name_what_it_is_given() -> None:
    with pytest.raises(TypeError):
        Check("+51987654321", True)  # type: ignore[call-arg]


def test_what_the_vendor_does_not_say_is_none_and_not_no() -> None:
    check = Check(number="+51987654321", whatsapp=True, checked_at=CHECK.checked_at)
    assert (check.status_update, check.signature, check.business_user, check.avatar) == (None,) * 4


def test_a_snapshot_of_nothing_is_all_zero_and_no_rate() -> None:
    stats = msgspec.structs.asdict(Stats())
    assert stats.pop("rate") is None
    assert set(stats.values()) == {0}
