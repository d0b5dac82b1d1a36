"""The records: frozen, slotted, picklable, plain."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest

from accucheck._errors import InvalidNumber, PendingTimeout
from accucheck._events import CallEnded, CircuitChanged
from accucheck._events import Settled as SettledEvent
from accucheck._models import Check, Checked, Failed, Outcome, Settlement, Stats

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
def test_a_record_survives_pickling(record: Any, protocol: int) -> None:
    assert pickle.loads(pickle.dumps(record, protocol)) == record
    assert copy.copy(record) == record
    assert copy.deepcopy(record) == record


@pytest.mark.parametrize(
    "error",
    [PendingTimeout("still", request_id="TID1", http_status=400), InvalidNumber("x", problem="letters")],
)
def test_a_pickled_failure_keeps_its_row_and_its_errors_data(error: Any) -> None:
    failed = Failed(item=ROW, error=error, calls=9, possibly_double_charged=2, index=3)
    other = pickle.loads(pickle.dumps(failed))
    assert (other.item, other.calls, other.possibly_double_charged, other.index) == (ROW, 9, 2, 3)
    assert type(other.error) is type(error)
    assert (other.error.args, vars(other.error)) == (error.args, vars(error))


def test_a_row_that_is_passed_through_is_the_callers_own_object() -> None:
    assert Checked(item=ROW, check=CHECK).item is ROW
    assert Failed(item=ROW, error=InvalidNumber("x")).item is ROW


def test_equal_checks_have_the_same_hash_whatever_their_extra_fields() -> None:
    assert len({CHECK, copy.deepcopy(CHECK)}) == 1
    assert len({CHECK, msgspec.structs.replace(CHECK, whatsapp=False)}) == 2


def test_outcomes_of_a_hashable_item_can_be_kept_in_a_set() -> None:
    checked = Checked(item="987654321", check=CHECK)
    failed = Failed(item="987654321", error=PendingTimeout("still", number="+51987654321"))
    assert len({checked, copy.deepcopy(checked), failed, copy.deepcopy(failed)}) == 2


def test_failures_with_the_same_data_are_equal() -> None:
    one, other = (Failed(item=ROW, error=PendingTimeout("still", calls=3), calls=3) for _ in range(2))
    assert one == other
    assert one != Failed(item=ROW, error=PendingTimeout("still", calls=4), calls=3)


def test_the_plain_form_of_an_outcome_is_ready_for_json() -> None:
    checked = Checked(item=ROW, check=CHECK, calls=3, possibly_double_charged=1, index=41).to_dict()
    assert checked == {
        "item": ROW,
        "status": "OK",
        "check": CHECK.to_dict(),
        "calls": 3,
        "possibly_double_charged": 1,
        "index": 41,
    }
    error = PendingTimeout("still", number="+51987654321", request_id="TID1", http_status=400, calls=9)
    failed = Failed(item=ROW, error=error, calls=9, index=3).to_dict()
    assert failed == {
        "item": ROW,
        "status": "PENDING_TIMEOUT",
        "error": error.to_dict(),
        "calls": 9,
        "possibly_double_charged": 0,
        "index": 3,
    }
    for plain in (checked, failed):
        assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize(
    ("item", "plain"),
    [
        (date(2026, 11, 23), "2026-11-23"),
        (("987654321", 7), ["987654321", 7]),
        (Path("leads.csv"), "leads.csv"),
        ({"row": Path("leads.csv")}, {"row": "leads.csv"}),
        ({7: 1j}, {"7": "1j"}),
    ],
)
def test_an_item_that_json_has_no_form_for_is_written_as_its_text(item: Any, plain: Any) -> None:
    for outcome in (Checked(item=item, check=CHECK), Failed(item=item, error=InvalidNumber("x"))):
        assert json.loads(json.dumps(outcome.to_dict()))["item"] == plain


def test_outcomes_can_be_distinguished_by_pattern() -> None:
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


def test_a_check_takes_its_fields_by_name() -> None:
    with pytest.raises(TypeError):
        Check("+51987654321", True)  # type: ignore[call-arg]


def test_a_field_that_the_vendor_leaves_out_is_none_and_not_false() -> None:
    check = Check(number="+51987654321", whatsapp=True, checked_at=CHECK.checked_at)
    assert (check.status_update, check.signature, check.business_user, check.avatar) == (None,) * 4


def test_a_snapshot_of_nothing_is_all_zero_and_no_rate() -> None:
    stats = msgspec.structs.asdict(Stats())
    assert stats.pop("rate") is None
    assert stats.pop("replies") == stats.pop("basic_replies") == {}
    assert set(stats.values()) == {0}


# pydantic, and so FastAPI


FAILED: Failed[Any] = Failed(item=ROW, error=PendingTimeout("still", number="+51987654321"), calls=9)


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (Check, CHECK),
        (Checked, Checked(item=ROW, check=CHECK)),
        (Checked[dict[str, str]], Checked(item=ROW, check=CHECK)),
        (Failed, FAILED),
        (Failed[Any], FAILED),
        (Checked[Any] | Failed[Any], FAILED),
        (Outcome[Any], Checked(item=ROW, check=CHECK)),  # type: ignore[misc]  # an alias of a union
    ],
)
def test_a_record_is_a_field_and_a_return_type_of_pydantic(kind: Any, record: Any) -> None:
    adapter = pydantic.TypeAdapter(kind)
    assert adapter.validate_python(record) is record
    assert json.loads(adapter.dump_json(record)) == json.loads(json.dumps(record.to_dict()))
    with pytest.raises(pydantic.ValidationError):
        adapter.validate_python("987654321")


def test_a_check_is_read_back_by_pydantic_too() -> None:
    adapter = pydantic.TypeAdapter(list[Check])
    assert adapter.validate_json(adapter.dump_json([CHECK])) == [CHECK]


@pytest.mark.parametrize("kind", [Check, Checked, Failed, Outcome[Any]])  # type: ignore[misc]
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_a_records_fields_are_in_the_schema_that_fastapi_publishes(kind: Any, mode: Any) -> None:
    schema = json.dumps(pydantic.TypeAdapter(kind).json_schema(mode=mode))
    for name in ("calls", "status") if kind is not Check else Check.__struct_fields__:
        assert f'"{name}"' in schema
