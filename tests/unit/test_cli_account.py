from __future__ import annotations

from pathlib import Path

import pytest

from accucheck import _errors
from accucheck.cli._account import find_secret


def nobody(prompt: str) -> str:
    raise AssertionError("nobody should be asked")


def test_a_secret_file_is_preferred_and_stripped(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    found = find_secret(
        file, environment={"ACCUCHECK_API_SECRET": "other"}, is_terminal=lambda: True, ask=nobody
    )
    assert found == "s3cret"


def test_the_environment_is_read_before_a_person_is_asked() -> None:
    found = find_secret(
        None, environment={"ACCUCHECK_API_SECRET": " s3cret "}, is_terminal=lambda: True, ask=nobody
    )
    assert found == "s3cret"


def test_a_person_at_a_terminal_is_asked() -> None:
    assert find_secret(None, environment={}, is_terminal=lambda: True, ask=lambda prompt: "typed ") == "typed"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_without_a_secret_the_error_says_where_to_put_it(is_terminal: bool) -> None:
    with pytest.raises(_errors.ConfigurationError, match=r"ACCUCHECK_API_SECRET.*--secret-file"):
        find_secret(None, environment={}, is_terminal=lambda: is_terminal, ask=lambda prompt: "")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe\x00"])
def test_a_secret_file_without_a_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    with pytest.raises(_errors.ConfigurationError, match="secret"):
        find_secret(file, environment={}, ask=nobody)


def test_a_missing_secret_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(_errors.ConfigurationError, match=r"absent: No such file"):
        find_secret(tmp_path / "absent", environment={}, ask=nobody)
