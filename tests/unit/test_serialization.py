"""Outcomes and errors in pickle and in several JSON libraries, and ``help()``."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import pydoc
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import fastapi
import httpx
import kombu.utils.json
import msgspec
import pydantic
import pytest

import accucheck
import accucheck.testing
from accucheck import Check, Checked, Failed, Outcome, PendingTimeout

CHECK = Check(number="+51987654321", whatsapp=True, checked_at=datetime(2026, 11, 23, 9, 30, tzinfo=UTC))
ERROR = PendingTimeout(
    "still PENDING after 600 s",
    number="+51987654321",
    request_id="TID1",
    http_status=400,
    calls=9,
    retry_after=30.0,
    possibly_double_charged=1,
)
ROW = {"name": "Ana"}
OUTCOMES: list[Outcome[dict[str, str]]] = [
    Checked(item=ROW, check=CHECK, calls=2, index=3),
    Failed(item=ROW, error=ERROR, calls=9, possibly_double_charged=1, index=4),
]
VALUES: list[Any] = [
    *OUTCOMES,
    CHECK,
    ERROR,
    accucheck.OutOfQuota("all used up", request_id="TID2"),
    *(getattr(accucheck, name)("what happened") for name in accucheck._errors.__all__),
]
each = pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)


@each
def test_it_is_pickled_copied_and_compared(value: Any) -> None:
    for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert other == value
        assert other.to_dict() == value.to_dict()


@pytest.mark.parametrize(
    "value", [*VALUES[2:], Checked(item="x", check=CHECK), Failed(item="x", error=ERROR)]
)
def test_it_is_hashed_by_what_it_holds(value: Any) -> None:
    assert {value: 1}[pickle.loads(pickle.dumps(value))] == 1


@each
def test_its_plain_form_is_json(value: Any) -> None:
    assert json.loads(json.dumps(value.to_dict())) == value.to_dict()


@each
def test_msgspec_writes_it_with_a_hook_for_errors(value: Any) -> None:
    hook = accucheck.AccucheckError.to_dict
    written = msgspec.json.decode(msgspec.json.encode(value, enc_hook=hook))
    told = value.to_dict()
    assert all(written[name] == told[name] for name in written)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value, enc_hook=hook))


@each
def test_pydantic_has_it_in_models(value: Any) -> None:
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type(value))
    assert json.loads(adapter.dump_json(value)) == value.to_dict()
    assert adapter.validate_python(value) == value
    assert adapter.json_schema(mode="serialization")["type"] == "object"


@each
def test_celery_returns_it_as_json(value: Any) -> None:
    """Celery's default result serializer is kombu's."""
    written = kombu.utils.json.dumps({"result": [value]})  # type: ignore[no-untyped-call]
    assert json.loads(written) == {"result": [value.to_dict()]}


def test_celery_re_raises_a_tasks_error_by_its_class() -> None:
    """Its JSON backends keep the name and ``args`` of an exception, and call the class with them."""
    again = type(ERROR)(*ERROR.args)
    assert (type(again), again.reason) == (PendingTimeout, ERROR.reason)


async def test_fastapi_returns_outcomes_and_checks() -> None:
    app = fastapi.FastAPI()

    @app.get("/outcomes")
    async def outcomes() -> list[Checked[dict[str, str]] | Failed[dict[str, str]]]:
        return OUTCOMES

    @app.get("/check")
    async def check() -> Check:
        return CHECK

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        assert (await client.get("/outcomes")).json() == [outcome.to_dict() for outcome in OUTCOMES]
        assert (await client.get("/check")).json() == CHECK.to_dict()
        described = (await client.get("/openapi.json")).json()
    schemas = described["components"]["schemas"]
    assert schemas.keys() == {"Check", "Checked", "Failed"}
    assert schemas["Check"]["description"] == "The answer for one phone number."
    assert schemas["Check"]["properties"]["checked_at"] == {"type": "string", "format": "date-time"}
    answer = described["paths"]["/check"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer == {"schema": {"$ref": "#/components/schemas/Check"}}


def test_a_pydantic_model_may_have_several_fields_of_one_type() -> None:
    class Pair(pydantic.BaseModel):
        one: Check
        other: Check | None
        outcomes: list[Outcome[str]]

    outcome = Checked(item="x", check=CHECK)
    pair = Pair(one=CHECK, other=CHECK, outcomes=[outcome])
    assert json.loads(pair.model_dump_json()) == {
        "one": CHECK.to_dict(),
        "other": CHECK.to_dict(),
        "outcomes": [outcome.to_dict()],
    }
    assert pair.model_json_schema()["$defs"].keys() == {"Check", "Checked", "Failed"}


def test_the_outcomes_of_a_run_that_ended_travel_with_its_error() -> None:
    error = accucheck.OutOfQuota("all used up")
    error.outcomes = OUTCOMES
    assert pickle.loads(pickle.dumps(error)).outcomes == OUTCOMES
    assert copy.copy(error).outcomes == OUTCOMES
    assert "outcomes" not in error.to_dict()


# help()

DOCUMENTED = [
    kind
    for name in accucheck.__all__
    if inspect.isclass(kind := getattr(accucheck, name))
    and (issubclass(kind, accucheck.AccucheckError) or hasattr(kind, "__struct_fields__") or name == "Policy")
] + [accucheck.testing.Settings, accucheck.testing.Scripted]


@pytest.mark.parametrize("kind", DOCUMENTED)
def test_help_shows_what_each_field_means(kind: type) -> None:
    shown = pydoc.plain(pydoc.render_doc(kind))
    names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", None)
    if names is None:
        names = [name for name in vars(kind("x")) if not name.startswith("_")]
    shown_names = [name for name in names if f"    {name}: " in shown]
    assert shown_names == list(names)


def test_a_docstring_is_read_from_an_object_and_missing_where_python_drops_it() -> None:
    assert CHECK.__doc__ == Check.__doc__
    code = "import accucheck; print(accucheck.Check.__doc__, accucheck.CheckError.__doc__)"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "None None\n", done.stderr
