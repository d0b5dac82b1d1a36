from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime

import pytest
from rich.console import Console

from accucheck._errors import InvalidNumber, ProtocolError
from accucheck._models import Check, Checked, Failed
from accucheck.cli._check import _record, _table
from accucheck.cli._console import json_line

HOSTILE = "\x1b]0;título\x07\x1b[31mrojo\u202e[bold]x[/bold]"


def answer(signature: str | None) -> Checked[str]:
    check = Check(
        number="+51987654321",
        whatsapp=True,
        status_update=date(2023, 12, 12),
        signature=signature,
        business_user=False,
        avatar=None,
        request_id="TID1",
        checked_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    return Checked(item="987654321", check=check)


def shown(width: int, *outcomes: Checked[str] | Failed[str] | None) -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=width, highlight=False)
    console.print(_table(["987654321"] * len(outcomes), outcomes))
    return screen.getvalue()


def test_a_signature_cannot_drive_the_terminal_or_use_markup() -> None:
    text = shown(120, answer(HOSTILE))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "rojo[bold]x[/bold]" in text


@pytest.mark.parametrize("width", [80, 200])
def test_every_line_of_the_table_fits_the_terminal(width: int) -> None:
    failed: Failed[str] = Failed(
        item="1", error=InvalidNumber("“1” is too short: it has 1 of the 9 digits.", problem="too_short")
    )
    text = shown(width, answer("una firma bastante larga " * 8), failed, None)
    assert all(len(line) <= width for line in text.splitlines())
    assert "+51987654321" in text
    assert "INVALID_NUMBER" in text
    assert "UNCHECKED" in text


def test_an_answer_as_json_has_every_field_and_its_status() -> None:
    record = json.loads(json_line(_record("987 654 321", answer("Hola"))))
    assert record == {
        "input": "987 654 321",
        "status": "OK",
        "number": "+51987654321",
        "whatsapp": True,
        "status_update": "2023-12-12",
        "signature": "Hola",
        "business_user": False,
        "avatar": None,
        "request_id": "TID1",
        "checked_at": "2026-01-02T00:00:00Z",
        "extra": {},
    }


def test_a_failure_as_json_is_never_a_no() -> None:
    record = _record("987654321", Failed(item="987654321", error=ProtocolError("no result")))
    assert record == {"input": "987654321", "status": "PROTOCOL_ERROR", "reason": "no result"}
    assert _record("987654321", None) == {"input": "987654321", "status": "UNCHECKED"}
