"""The man page is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from accucheck.cli._app import COMMANDS
from accucheck.cli._exit import ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "man" / "accucheck.1"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_man_page(command: str) -> None:
    assert f"\n.B {command}\n" in PAGE.read_text("utf-8")


def test_every_exit_code_is_in_the_man_page() -> None:
    status = PAGE.read_text("utf-8").partition(".SH EXIT STATUS")[2]
    assert {int(code) for code in re.findall(r"\d+", status)} == {int(code) for code in ExitCode}
